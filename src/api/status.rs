//! The service's error as a gRPC status with google.rpc details, and back. It never decides what is an error.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::rest::error::details;
use crate::model::{Error, Reason, Violation};

/// Who says so: the domain of every gRPC error and the source of every REST error.
pub const SOURCE: &str = "campaigns-service";

/// Languages of the messages for end users.
const LOCALE: &str = "en-US";

/// Bytes of violations that a status holds. It travels in headers and says each violation four times, three of them in
/// base64; together that stays below 8 KiB, which is what some clients take of headers: beyond that they see a protocol
/// error and no status at all.
const VIOLATION_BYTES_MAX: usize = 1_400;
/// The longest status message, in bytes as its header has them.
const MESSAGE_MAX: usize = 2_000;

/// The status of an error. What caused it stays behind.
#[must_use]
pub fn to_status(error: &Error) -> Status {
    let fitting = fitting(error);
    let error = fitting.as_ref().unwrap_or(error);
    let reason = error.reason();
    let metadata: HashMap<String, String> = details(error).into_iter().collect();
    let mut rich = ErrorDetails::with_error_info(reason.word(), SOURCE, metadata);
    rich.set_localized_message(LOCALE, error.message());
    if !error.violations().is_empty() {
        let violations = error.violations().iter();
        rich.set_bad_request(
            violations
                .map(|v| FieldViolation::new(v.field.clone(), v.problem()))
                .collect::<Vec<_>>(),
        );
    }
    if error.retry_hint().is_some() {
        rich.set_retry_info(error.retry_hint());
    }
    let message = match error.dev_message() {
        "" => error.message(),
        message => message,
    };
    Status::with_error_details(Code::from_i32(reason.grpc_code()), shortened(message), rich)
}

/// The text as far as its header may be long: what is not visible ASCII is written as three characters for each byte.
fn shortened(text: &str) -> String {
    let mut left = MESSAGE_MAX;
    let fits = |letter: &char| {
        let plain = matches!(letter, ' '..='~') && *letter != '%';
        let size = if plain { 1 } else { 3 * letter.len_utf8() };
        let rest = left.checked_sub(size);
        left = rest.unwrap_or_default();
        rest.is_some()
    };
    let mut short: String = text.chars().take_while(fits).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The same error with fewer violations, where not all of them fit into a status. One that counts what is not named stays.
fn fitting(error: &Error) -> Option<Error> {
    // Each has a frame of its own around its texts.
    let bytes = |violation: &Violation| violation.field.len() + violation.problem().len() + 6;
    let mut left = VIOLATION_BYTES_MAX;
    let fits = |violation: &&Violation| match left.checked_sub(bytes(violation)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    let all = error.violations();
    let mut named: Vec<Violation> = all.iter().take_while(fits).cloned().collect();
    let omitted = all.get(named.len()..).filter(|omitted| !omitted.is_empty())?;
    let count = omitted.iter().filter(|violation| violation.field != Violation::UNNAMED);
    let rule = format!("and {} more problems do not fit into a gRPC status", count.count());
    named.push(Violation::new(Violation::UNNAMED, rule));
    named.extend(
        omitted
            .iter()
            .filter(|violation| violation.field == Violation::UNNAMED)
            .cloned(),
    );
    let fewer = Error::violated(error.reason(), named).saying(error.message().to_owned());
    let fewer = error
        .metadata()
        .iter()
        .fold(fewer, |fewer, (key, value)| fewer.with(key, value));
    Some(match error.retry_hint() {
        Some(wait) => fewer.retry_after(wait),
        None => fewer,
    })
}

/// The error of a status: by its reason when it is one of ours, else by its code, as for what tonic itself refuses.
#[must_use]
pub fn from_status(status: &Status) -> Error {
    let rich = status.get_error_details();
    let own = rich.error_info().filter(|info| info.domain == SOURCE);
    let reason = own.and_then(|info| Reason::ALL.iter().copied().find(|reason| reason.word() == info.reason));
    let reason = reason.unwrap_or_else(|| by_code(status.code()));
    let violations = rich.bad_request().map(|bad| {
        let fields = bad.field_violations.iter();
        fields
            .map(|v| Violation::new(v.field.clone(), v.description.clone()))
            .collect::<Vec<_>>()
    });
    let error = match violations {
        Some(violations) if !violations.is_empty() => Error::violated(reason, violations),
        _ => Error::new(reason, status.message()),
    };
    let own_words = rich.localized_message().map(|localized| localized.message.clone());
    let error = match own_words.filter(|words| own.is_some() && words != reason.message()) {
        Some(words) => error.saying(words),
        None => error,
    };
    match rich.retry_info().and_then(|info| info.retry_delay) {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}

/// The same status if it is one of ours; otherwise, for what tonic itself refuses, the status of its error.
#[must_use]
pub fn complete(status: Status) -> Status {
    let own = status
        .get_error_details()
        .error_info()
        .is_some_and(|info| info.domain == SOURCE);
    if own { status } else { to_status(&from_status(&status)) }
}

fn by_code(code: Code) -> Reason {
    match code {
        Code::Cancelled => Reason::Cancelled,
        Code::InvalidArgument => Reason::BadRequest,
        Code::DeadlineExceeded => Reason::DeadlineExceeded,
        Code::NotFound => Reason::NotFound,
        Code::AlreadyExists | Code::Aborted => Reason::Conflict,
        Code::PermissionDenied => Reason::Forbidden,
        // tonic answers OutOfRange, and ResourceExhausted while decompressing, to a message above its limit.
        Code::OutOfRange => Reason::PayloadTooLarge,
        Code::ResourceExhausted => Reason::PayloadTooLarge,
        Code::FailedPrecondition => Reason::InvalidState,
        Code::Unimplemented => Reason::Unimplemented,
        Code::Unavailable => Reason::Unavailable,
        Code::Unauthenticated => Reason::Unauthorized,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Reason::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_status_fits_into_headers_however_much_is_wrong() {
        let many = |field: &str, rule: &str| {
            let violations = (0..100).map(|at| Violation::new(format!("{field}[{at}]"), rule));
            Error::invalid(violations.collect())
        };
        for error in [
            many("tags", "must not be empty"),
            many("t", "x"),
            many(&"level.".repeat(1_000), "must not be empty"),
            many("tags", &"€".repeat(500)),
            Error::new(Reason::BadRequest, "\u{1f514}".repeat(5_000)),
        ] {
            let mut headers = http::HeaderMap::new();
            to_status(&error).add_header(&mut headers).unwrap();
            let size: usize = headers
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len() + 32)
                .sum();
            assert!(size < 8 * 1_024, "{size} bytes");
        }
    }

    #[test]
    fn a_status_carries_everything_back() {
        let error = Error::invalid(vec![Violation::new("name", "is required")]).retry_after(Duration::from_secs(2));
        let status = to_status(&error);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "name is required");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("ERR_BAD_REQUEST", SOURCE)
        );
        assert_eq!(info.metadata["name"], "is required");
        assert_eq!(
            details.localized_message().unwrap().message,
            Reason::BadRequest.message()
        );
        let back = from_status(&status);
        assert_eq!(back.reason(), Reason::BadRequest);
        assert_eq!(back.violations(), error.violations());
        assert_eq!(back.retry_hint(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_status_carries_the_words_of_its_own_back() {
        let error = Error::new(Reason::Unauthorized, "").saying("apikey header is required");
        assert_eq!(from_status(&to_status(&error)).message(), "apikey header is required");
    }

    #[test]
    fn a_foreign_status_gets_its_details_by_code() {
        let status = complete(Status::out_of_range("too large"));
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "ERR_PAYLOAD_TOO_LARGE");
    }
}
