//! Refusals and failures over REST: status, headers and body, in the words of a dialect. Nothing is decided here, and
//! what caused an error is never shown.

use std::sync::Arc;

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use super::dialect::CAMPAIGNS;
use super::writer::Writer;
use super::{Body, Dialect, Response};
use crate::api::status::SOURCE;
use crate::model::{Error, Reason};

/// The error behind a response, in its extensions, for whoever counts and logs answers.
#[derive(Clone, Debug)]
pub struct Failure(pub Arc<Error>);

/// The response of an error.
#[must_use]
pub fn response(dialect: &Dialect, error: Error) -> Response {
    let mut body = Vec::with_capacity(256);
    (dialect.error_body)(&error, &mut body);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16((dialect.error_status)(error.reason())).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait) = error.retry_hint() {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response.extensions_mut().insert(Failure(Arc::new(error)));
    response
}

/// The response to a path that is not served.
#[must_use]
pub fn not_found(dialect: &Dialect, path: &str) -> Response {
    let path: String = path.chars().take(200).collect();
    let error = Error::new(Reason::NotFound, format!("path {path} is not served")).with("path", path);
    response(dialect, error)
}

/// The response to a path that is served with other methods.
#[must_use]
pub fn method_not_allowed(dialect: &Dialect, method: &http::Method, allow: &str) -> Response {
    let sentence = format!("method {method} is not allowed here, use one of {allow}");
    let error = Error::new(Reason::MethodNotAllowed, sentence)
        .with("method", method)
        .with("allowed", allow);
    let mut response = response(dialect, error);
    if let Ok(value) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

/// Field path to problem, then the error's own facts: what REST calls details and gRPC metadata.
#[must_use]
pub fn details(error: &Error) -> Vec<(String, String)> {
    let violations = error.violations().iter().map(|v| (v.field.clone(), v.problem()));
    let facts = error
        .metadata()
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()));
    let mut details: Vec<(String, String)> = Vec::new();
    for (key, text) in violations.chain(facts) {
        match details.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => {
                known.push_str("; ");
                known.push_str(&text);
            }
            None => details.push((key, text)),
        }
    }
    details
}

/// Appends `{"error": {"code", "message", "devMessage", "details", "source"}}`.
pub fn write_envelope(error: &Error, out: &mut Vec<u8>) {
    let mut writer = Writer::new(&CAMPAIGNS);
    let reason = error.reason();
    writer.raw("{\"error\":{");
    for (key, text) in [
        ("code", reason.word()),
        ("message", error.message()),
        ("devMessage", error.dev_message()),
    ] {
        if !text.is_empty() {
            writer.key(key);
            writer.text(text);
        }
    }
    let details = details(error);
    if !details.is_empty() {
        writer.key("details");
        writer.open('{');
        for (key, text) in &details {
            writer.comma();
            writer.text(key);
            writer.raw(":");
            writer.text(text);
        }
        writer.raw("}");
    }
    writer.key("source");
    writer.text(SOURCE);
    writer.raw("}}");
    out.extend_from_slice(&writer.into_bytes());
}

#[cfg(test)]
mod tests {
    use crate::model::Violation;

    use super::*;

    #[test]
    fn the_envelope_has_its_parts_in_order_and_leaves_out_what_is_empty() {
        let mut out = Vec::new();
        let violations = vec![Violation::new("a\"b", "is required")];
        write_envelope(&Error::invalid(violations).with("limit", 3), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"error\":{\"code\":\"ERR_BAD_REQUEST\",\"message\":\"The request is not valid.\",\
             \"devMessage\":\"a\\\"b is required\",\"details\":{\"a\\\"b\":\"is required\",\"limit\":\"3\"},\
             \"source\":\"campaigns-service\"}}"
        );
        let mut out = Vec::new();
        write_envelope(&Error::new(Reason::Internal, ""), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"error\":{\"code\":\"ERR_INTERNAL\",\"message\":\"Something went wrong on our side.\",\
             \"source\":\"campaigns-service\"}}"
        );
    }

    #[test]
    fn a_wait_is_rounded_up_to_seconds() {
        let error =
            Error::new(Reason::TooManyRequests, "slow down").retry_after(std::time::Duration::from_millis(1_001));
        let response = response(&CAMPAIGNS, error);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    }
}
