//! The one error of the service, and its catalogue of reasons. It never knows a `Status` or an HTTP response: `api` turns
//! it into either by the same table.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

include!(concat!(env!("OUT_DIR"), "/reason.rs"));

/// What every fallible function of the service returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

struct Facts {
    word: &'static str,
    grpc_code: i32,
    http_status: u16,
    message: &'static str,
}

impl Reason {
    /// The public word, such as `ERR_BAD_REQUEST`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        self.facts().word
    }

    /// The number of the gRPC status code, as google.rpc.Code numbers them.
    #[must_use]
    pub const fn grpc_code(self) -> i32 {
        self.facts().grpc_code
    }

    /// The HTTP status.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        self.facts().http_status
    }

    /// The sentence that may be shown to an end user.
    #[must_use]
    pub const fn message(self) -> &'static str {
        self.facts().message
    }
}

/// One field that breaks one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path from the request's root in lowerCamelCase, such as `channels[0].content` or `variables.ada.code`.
    pub field: String,
    /// The rule, as a predicate in lower case: `must not be longer than 100 characters`.
    pub rule: String,
    /// The value that was received, shortened to 100 characters; absent when there was none or it is secret.
    pub received: Option<String>,
}

impl Violation {
    /// The field of the one that counts those that are not named.
    pub const UNNAMED: &str = "…";

    /// The largest part of a received value that is repeated, in characters.
    pub const RECEIVED_MAX: usize = 100;

    /// A violation without a received value.
    #[must_use]
    pub fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            rule: rule.into(),
            received: None,
        }
    }

    /// The same with the value that was received.
    #[must_use]
    pub fn received(mut self, value: impl fmt::Display) -> Self {
        let mut short = Short::default();
        // It stops writing where it is long enough, so that a value of megabytes is not copied.
        if fmt::write(&mut short, format_args!("{value}")).is_err() {
            short.text.push('…');
        }
        self.received = Some(short.text);
        self
    }

    /// Rule and received value in one sentence, as the error's details state them.
    #[must_use]
    pub fn problem(&self) -> String {
        match &self.received {
            Some(received) => format!("{}, received {received:?}", self.rule),
            None => self.rule.clone(),
        }
    }
}

/// Violations as they are found. A request of thousands of parts may break thousands of rules, so only the first
/// [`Violations::NAMED_MAX`] are kept by name, and the rest is counted.
#[derive(Debug, Default)]
pub struct Violations {
    named: Vec<Violation>,
    more: usize,
}

impl Violations {
    /// Violations that are named at most.
    pub const NAMED_MAX: usize = 100;

    /// Adds one.
    pub fn push(&mut self, violation: Violation) {
        if self.named.len() < Self::NAMED_MAX {
            self.named.push(violation);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Nothing, if nothing was found.
    ///
    /// # Errors
    /// With this reason, all that was found.
    pub fn into_result(mut self, reason: Reason) -> Result<()> {
        if self.named.is_empty() {
            return Ok(());
        }
        if self.more > 0 {
            let rule = format!("and {} more problems were found", self.more);
            self.named.push(Violation::new(Violation::UNNAMED, rule));
        }
        Err(Error::violated(reason, self.named))
    }
}

/// A text that takes no more than the largest part of a received value.
#[derive(Default)]
struct Short {
    text: String,
    count: usize,
}

impl fmt::Write for Short {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for letter in more.chars() {
            if self.count == Violation::RECEIVED_MAX {
                return Err(fmt::Error);
            }
            self.count += 1;
            self.text.push(letter);
        }
        Ok(())
    }
}

/// Why something was refused or failed.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    reason: Reason,
    message: Option<Cow<'static, str>>,
    dev_message: String,
    violations: Vec<Violation>,
    metadata: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with a message for developers: lower case, no full stop, no secret.
    #[must_use]
    pub fn new(reason: Reason, dev_message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            reason,
            message: None,
            dev_message: dev_message.into(),
            violations: Vec::new(),
            metadata: Vec::new(),
            retry_after: None,
            source: None,
        }))
    }

    /// The request breaks rules of the contract; all of them are named.
    #[must_use]
    pub fn invalid(violations: Vec<Violation>) -> Self {
        Self::violated(Reason::BadRequest, violations)
    }

    /// Like [`Error::invalid`], with another reason such as [`Reason::InvalidVariables`].
    #[must_use]
    pub fn violated(reason: Reason, violations: Vec<Violation>) -> Self {
        let mut error = Self::new(reason, sentence(&violations));
        error.0.violations = violations;
        error
    }

    /// The same with every violation in a part of the request, which the paths do not name yet.
    #[must_use]
    pub fn within(mut self, part: &str) -> Self {
        if !self.0.violations.is_empty() {
            for violation in &mut self.0.violations {
                violation.field = format!("{part}.{}", violation.field);
            }
            self.0.dev_message = sentence(&self.0.violations);
        }
        self
    }

    /// The same with every violation at `from`, or within it, moved to `to`; to the root when that is empty.
    #[must_use]
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        for violation in &mut self.0.violations {
            let Some(rest) = violation.field.strip_prefix(from) else {
                continue;
            };
            let moved = match (rest.strip_prefix('.'), to) {
                (Some(rest), "") => rest.to_owned(),
                (Some(_), to) => format!("{to}{rest}"),
                (None, to) if rest.is_empty() && !to.is_empty() => to.to_owned(),
                (None, _) => continue,
            };
            violation.field = moved;
        }
        if !self.0.violations.is_empty() {
            self.0.dev_message = sentence(&self.0.violations);
        }
        self
    }

    /// An entity of the app does not exist: `key` is the metadata key (`templateId`), `id` what was asked for.
    #[must_use]
    pub fn not_found(reason: Reason, key: &'static str, id: impl fmt::Display) -> Self {
        Self::new(reason, format!("{key} {id} does not exist")).with(key, id)
    }

    /// An unexpected fault. What caused it is kept for the log and never shown.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(Reason::Internal, "internal error").because(source)
    }

    /// The same with one more fact for the caller.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.metadata.push((key, value.to_string()));
        self
    }

    /// The same with another sentence for end users than the reason's own.
    #[must_use]
    pub fn saying(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// The same with a hint when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// The same with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The sentence that may be shown to an end user.
    #[must_use]
    pub fn message(&self) -> &str {
        self.0.message.as_deref().unwrap_or(self.0.reason.message())
    }

    /// The message for developers; empty when there is no more to say than [`Error::message`] does.
    #[must_use]
    pub fn dev_message(&self) -> &str {
        &self.0.dev_message
    }

    /// The fields that break rules.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// Facts beside the violations, in the order they were added.
    #[must_use]
    pub fn metadata(&self) -> &[(&'static str, String)] {
        &self.0.metadata
    }

    /// When to try again, if that makes sense.
    #[must_use]
    pub fn retry_hint(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

fn sentence(violations: &[Violation]) -> String {
    let problems: Vec<_> = violations
        .iter()
        .map(|v| format!("{} {}", v.field, v.problem()))
        .collect();
    problems.join("; ")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason.word(), self.0.dev_message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
