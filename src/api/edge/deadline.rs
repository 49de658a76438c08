//! When a caller stops waiting: the header `grpc-timeout`, on both doors. It never extends the server's own maximum.

use std::time::Duration;

use http::HeaderMap;

use crate::model::{Error, Result, Violation};

/// The header of both doors.
pub(crate) const HEADER: &str = "grpc-timeout";

/// Digits of the header's number, as gRPC over HTTP/2 bounds them.
const DIGITS_MAX: usize = 8;

/// How long the caller waits, if it says so.
///
/// # Errors
/// Bad request, when the header is malformed.
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    parse(text).map(Some).ok_or_else(|| {
        let rule = "must be 1 to 8 digits and one of the units H, M, S, m, u, n";
        Error::invalid(vec![Violation::new(HEADER, rule).received(text)])
    })
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_nothing_else() {
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parse("0n"), Some(Duration::ZERO));
        for bad in ["", "S", "10", "123456789S", "-1S", "+1S", "1.5S", "1s", "1 S", "1µ"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
