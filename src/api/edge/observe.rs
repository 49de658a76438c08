//! What is told about a call: its id, its span, one line when it is answered, and the counts. No personal data, no body
//! and no credential ever stand in any of them.

use std::any::Any;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Span;

use crate::api::Door;
use crate::api::rest::Response;
use crate::api::rest::error::Failure;
use crate::model::id::AppId;
use crate::model::{Error, Reason, Timestamp};
use crate::telemetry::{Meter, Metric};

/// The header that a call's id comes in and goes out by.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of a caller's own id that are repeated in logs and answers.
const REQUEST_ID_MAX: usize = 128;

/// The caller's id of a request when it is sane, else one of our own.
pub(crate) fn request_id(headers: &HeaderMap, now: Timestamp) -> Arc<str> {
    let sane = |text: &&str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
        (1..=REQUEST_ID_MAX).contains(&text.len()) && text.bytes().all(allowed)
    };
    match headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(sane)
    {
        Some(text) => text.into(),
        None => {
            let seconds = u64::try_from(now.millis() / 1_000).unwrap_or_default();
            let nanos = u32::try_from(now.millis().rem_euclid(1_000)).unwrap_or_default() * 1_000_000;
            let instant = uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos);
            uuid::Uuid::new_v7(instant).to_string().into()
        }
    }
}

/// What a call was, as its line and its counts name it.
pub(crate) struct Observation<'a> {
    /// Counts it.
    pub(crate) meter: &'a Meter,
    /// The rpc or page.
    pub(crate) rpc: &'static str,
    /// The door.
    pub(crate) door: Door,
    /// The app of its caller, once that is known.
    pub(crate) app: Option<AppId>,
    /// When it began.
    pub(crate) started: Instant,
}

impl Observation<'_> {
    /// Counts an answer and writes its line.
    pub(crate) fn record(&self, response: &Response, span: &Span) {
        let _entered = span.enter();
        let elapsed = self.started.elapsed();
        let door = self.door.as_str();
        let counts = self.meter.call(self.rpc, door);
        counts.requests.increment(1);
        counts.duration.record(elapsed.as_secs_f64());
        let failure = response.extensions().get::<Failure>().map(|failure| failure.0.as_ref());
        if let Some(error) = failure {
            let labels = [("rpc", self.rpc), ("door", door), ("reason", error.reason().word())];
            self.meter.counter(Metric::Errors, &labels).increment(1);
        }
        tracing::info!(
            app.id = self.app.map(tracing::field::display),
            http.status = response.status().as_u16(),
            reason = failure.map(|error| error.reason().word()),
            duration.ms = elapsed.as_secs_f64() * 1_000.0,
            "call answered"
        );
    }
}

/// Logs a fault that a layer met, with everything that caused it; the doors log those of the handlers, and a refusal is
/// not a fault.
pub(crate) fn log_fault(error: &Error) {
    let chain = || {
        let mut causes = Vec::new();
        let mut cause = StdError::source(error);
        while let Some(source) = cause {
            causes.push(source.to_string());
            cause = source.source();
        }
        causes.join(": ")
    };
    match error.reason() {
        Reason::Internal => tracing::error!(cause = chain(), "call failed"),
        Reason::Unavailable => tracing::warn!(cause = chain(), "call could not be served: {}", error.dev_message()),
        _ => {}
    }
}

/// Writes a call's id onto its answer.
pub(crate) fn write_request_id(response: &mut Response, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
}

/// The error of a handler that panicked. What it said goes to the log only.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    Error::internal(format!("panic: {}", text.unwrap_or("without a message")))
}
