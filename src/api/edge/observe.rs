//! What is told about a call: its id, its span, one line when it is answered, and the counts. No personal data, no body
//! and no credential ever stand in any of them.

use std::any::Any;
use std::error::Error as StdError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Span;

use crate::api::Door;
use crate::api::rest::Response;
use crate::api::rest::error::Failure;
use crate::model::id::AppId;
use crate::model::{Error, Reason, Timestamp};
use crate::telemetry::{Gauge, Meter, Metric, trace};

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
            let mut text = uuid::Uuid::encode_buffer();
            let id: &str = unique(now).hyphenated().encode_lower(&mut text);
            id.into()
        }
    }
}

/// A UUID of version 7 that no other call has. It is unique without being secret: the randomness is drawn once for the
/// process and then counted on, because the system's generator costs more than all else that is done for an id.
fn unique(now: Timestamp) -> uuid::Uuid {
    static START: LazyLock<(u64, u64)> = LazyLock::new(|| uuid::Uuid::new_v4().as_u64_pair());
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (high, low) = *START;
    let counted = low.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
    let mut random = [0; 10];
    let (before, after) = random.split_at_mut(2);
    before.copy_from_slice(high.to_be_bytes().split_at(2).0);
    after.copy_from_slice(&counted.to_be_bytes());
    let millis = u64::try_from(now.millis()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// A call whose answer has not begun; it counts as such until this is dropped.
pub(crate) struct InFlight<'g>(&'g Gauge);

impl<'g> InFlight<'g> {
    pub(crate) fn begin(gauge: &'g Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The span of a call. What stands in it stands in every log line of the call; the empty fields are filled only where
/// spans are exported.
pub(crate) fn span(id: &str, rpc: &'static str, door: Door) -> Span {
    use tracing::field::Empty;
    let door = door.as_str();
    tracing::info_span!("call", request.id = id, rpc, door, otel.name = Empty, otel.kind = Empty)
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
        let reason = failure.map(Error::reason);
        let fault = matches!(reason, Some(Reason::Internal | Reason::Unavailable));
        trace::end(span, response.status().as_u16(), reason.map(Reason::word), fault);
        tracing::info!(
            app.id = self.app.map(tracing::field::display),
            http.status = response.status().as_u16(),
            reason = reason.map(Reason::word),
            duration.ms = elapsed.as_secs_f64() * 1_000.0,
            "call answered"
        );
    }
}

/// Whether an answer is a refusal whose request may not have been read. A caller that waited too long waits no longer.
pub(crate) fn is_refusal(response: &Response) -> bool {
    let failure = response.extensions().get::<Failure>();
    failure.is_some_and(|failure| failure.0.reason() != Reason::DeadlineExceeded)
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
    if let Ok(mut value) = HeaderValue::from_str(id) {
        // It never comes again, so HTTP/2 is told not to keep it in the table of known headers (RFC 7541 section 7.1.3).
        value.set_sensitive(true);
        response.headers_mut().insert(REQUEST_ID, value);
    }
}

/// The error of a handler that panicked. What it said goes to the log only.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    Error::internal(format!("panic: {}", text.unwrap_or("without a message")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_call_has_an_id_of_its_own() {
        let now = Timestamp::from_millis(1_705_311_000_123).unwrap();
        let ids: BTreeSet<_> = (0..1_000).map(|_| request_id(&HeaderMap::new(), now)).collect();
        assert_eq!(ids.len(), 1_000);
        for id in ids {
            let id: uuid::Uuid = id.parse().unwrap();
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
            assert_eq!(id.get_timestamp().unwrap().to_unix(), (1_705_311_000, 123_000_000));
        }
    }
}
