//! Fields of a request into values of the model. All fields are read before anything is refused, so that a caller learns
//! of all problems at once; bounds that the contract states were checked before.

use std::str::FromStr;

use super::{Call, Door};
use crate::model::{Error, Result, Violation};

/// Reads the fields of one message and remembers which were wrong.
#[derive(Debug, Default)]
pub struct Fields {
    violations: Vec<Violation>,
}

impl Fields {
    /// None read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value that a field's text stands for; `None` when it breaks the value's rule.
    pub fn read<T>(
        &mut self,
        field: &str,
        text: &str,
        read: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        read(text)
            .map_err(|rule| self.violations.push(Violation::new(field, rule).received(text)))
            .ok()
    }

    /// Notes when a field that never changes is sent with another value than it has. It may be cleared by no means either,
    /// but it may be left out of a resource that is sent back.
    pub fn immutable(&mut self, field: &str, sent: Option<&str>, current: &str) {
        if sent.is_none_or(|sent| sent != current) {
            let violation = Violation::new(field, format!("cannot be changed: must be {current:?} or left out"));
            self.violations.push(violation.received(sent.unwrap_or_default()));
        }
    }

    /// Whether nothing was wrong so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.violations.is_empty()
    }

    /// Notes that a field breaks a rule.
    pub fn refuse(&mut self, violation: Violation) {
        self.violations.push(violation);
    }

    /// What the fields make together.
    ///
    /// # Errors
    /// The violations, if there are any.
    pub fn make<T>(self, value: Option<T>) -> Result<T, Vec<Violation>> {
        match value {
            Some(value) if self.violations.is_empty() => Ok(value),
            Some(_) | None => Err(self.violations),
        }
    }
}

/// The value of one field of the request itself, such as an id in the path.
///
/// # Errors
/// The violation of the value's rule.
pub fn parse<T: FromStr<Err = &'static str>>(field: &str, text: &str) -> Result<T> {
    text.parse()
        .map_err(|rule: &str| Error::invalid(vec![Violation::new(field, rule).received(text)]))
}

/// Makes an error of what is wrong with a resource in a request. Over REST the resource is the body and its fields stand
/// at the root; over gRPC they stand under the request's field.
pub fn in_resource(call: &Call, resource: &'static str) -> impl FnOnce(Vec<Violation>) -> Error {
    let place = of_resource(call, resource);
    move |violations| place(Error::invalid(violations))
}

/// Puts what the domain found wrong with a resource, which it names `resource.…`, where this door has it. Other paths are
/// those of something else and stay.
pub fn at_resource(call: &Call, resource: &'static str) -> impl FnOnce(Error) -> Error {
    let door = call.door;
    move |error| match door {
        Door::Grpc => error,
        Door::Rest => error.renamed(resource, ""),
    }
}

/// The same for what the domain found wrong with it.
pub fn of_resource(call: &Call, resource: &'static str) -> impl FnOnce(Error) -> Error {
    let door = call.door;
    move |error| match door {
        Door::Grpc => error.within(resource),
        Door::Rest => error,
    }
}
