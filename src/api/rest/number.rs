//! Numbers, instants and lengths of time out of JSON and text, without a loss that nobody is told of. No bounds but
//! those of the types are known here.

use prost_types::Duration;

use super::json::Json;

/// Below this, every whole number is exact in 64 bits of floating point: 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A whole number: a number without a fraction, or a string of digits as JavaScript sends large ones.
pub(super) fn whole(json: &Json<'_>) -> Option<i128> {
    match json {
        Json::Signed(value) => Some(i128::from(*value)),
        Json::Unsigned(value) => Some(i128::from(*value)),
        Json::Float(value) => float_whole(*value),
        Json::Text(text) => digits(text).and_then(|digits| digits.parse().ok()),
        Json::Null | Json::Bool(_) | Json::List | Json::Object => None,
    }
}

fn float_whole(value: f64) -> Option<i128> {
    // Without a cast: a float that is whole prints as its digits.
    let exact = value.fract() == 0.0 && value.abs() < 1e30;
    exact.then(|| format!("{value:.0}").parse().ok()).flatten()
}

/// The text, if it is an optional minus and digits; `parse` alone would let a plus pass.
fn digits(text: &str) -> Option<&str> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let plain = !unsigned.is_empty() && unsigned.len() <= 20 && unsigned.bytes().all(|byte| byte.is_ascii_digit());
    plain.then_some(text)
}

/// A number with a fraction.
pub(super) fn float(json: &Json<'_>) -> Option<f64> {
    match json {
        Json::Signed(value) => value.to_string().parse().ok(),
        Json::Unsigned(value) => value.to_string().parse().ok(),
        Json::Float(value) => Some(*value),
        Json::Null | Json::Bool(_) | Json::Text(_) | Json::List | Json::Object => None,
    }
}

/// A number with a fraction in a query string; `parse` alone would let `inf` and `nan` pass.
pub(super) fn float_text(text: &str) -> Option<f64> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse().ok().filter(|value: &f64| plain && value.is_finite())
}

/// The nearest number of 32 bits, unless it is out of range.
pub(super) fn narrow(value: f64) -> Option<f32> {
    value.to_string().parse().ok().filter(|value: &f32| value.is_finite())
}

/// A plain decimal number in a text.
pub(super) fn text(text: &str) -> Option<Json<'static>> {
    if let Some(digits) = digits(text) {
        let signed = digits.parse().ok().map(Json::Signed);
        return signed.or_else(|| digits.parse().ok().map(Json::Float));
    }
    let (seconds, fraction) = text.split_once('.')?;
    digits(seconds)?;
    digits(fraction).filter(|fraction| !fraction.starts_with('-'))?;
    text.parse().ok().map(Json::Float)
}

/// The milliseconds of unix seconds, cut where there are more than three decimals.
pub(super) fn unix_millis(json: &Json<'_>) -> Option<i64> {
    match json {
        Json::Signed(seconds) => seconds.checked_mul(1_000),
        Json::Unsigned(seconds) => i64::try_from(*seconds).ok()?.checked_mul(1_000),
        Json::Float(seconds) => {
            let millis = (seconds * 1_000.0).round();
            let whole = (millis.abs() < EXACT_MAX).then(|| float_whole(millis)).flatten();
            whole.and_then(|millis| i64::try_from(millis).ok())
        }
        Json::Null | Json::Bool(_) | Json::Text(_) | Json::List | Json::Object => None,
    }
}

/// Reads `-1.5s`: seconds with up to nine decimals.
pub(super) fn span(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let (seconds, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(seconds) || !plain(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    let sign = if negative { -1 } else { 1 };
    Some(Duration {
        seconds: i64::from(sign) * seconds,
        nanos: sign * nanos,
    })
}

/// Writes `-1.5s`, without zeros at the end.
pub(super) fn span_text(span: &Duration) -> String {
    let sign = if span.seconds < 0 || span.nanos < 0 { "-" } else { "" };
    let (seconds, nanos) = (span.seconds.unsigned_abs(), span.nanos.unsigned_abs());
    let fraction = format!(".{nanos:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{sign}{seconds}{fraction}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_may_have_a_zero_fraction_or_be_strings() {
        assert_eq!(whole(&Json::Float(1.0)), Some(1));
        assert_eq!(whole(&Json::Float(1.5)), None);
        assert_eq!(whole(&Json::Float(1e300)), None);
        assert_eq!(whole(&Json::Text("-12".into())), Some(-12));
        assert_eq!(whole(&Json::Text("+12".into())), None);
        assert_eq!(whole(&Json::Text("".into())), None);
    }

    #[test]
    fn unix_seconds_have_milliseconds() {
        assert_eq!(unix_millis(&Json::Float(1_705_311_000.123)), Some(1_705_311_000_123));
        assert_eq!(unix_millis(&Json::Signed(-1)), Some(-1_000));
        assert_eq!(unix_millis(&Json::Signed(i64::MAX)), None);
        assert_eq!(unix_millis(&Json::Float(1e300)), None);
        assert_eq!(text("1705311000.5"), Some(Json::Float(1_705_311_000.5)));
        assert_eq!(text("1705311000.-5"), None);
        assert_eq!(text("2024-01-15T09:30:00Z"), None);
    }

    #[test]
    fn lengths_of_time_survive_the_round_trip() {
        for text in ["0s", "1s", "1.5s", "-1.5s", "-0.000000001s", "315576000000s"] {
            assert_eq!(span_text(&span(text).unwrap()), text);
        }
        for text in [
            "",
            "s",
            "1",
            "1.s",
            ".5s",
            "1.0000000001s",
            "+1s",
            "1e3s",
            "99999999999999999999s",
        ] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn infinities_are_no_numbers() {
        assert_eq!(float_text("inf"), None);
        assert_eq!(float_text("1e999"), None);
        assert_eq!(float_text("-1.5e3"), Some(-1500.0));
        assert_eq!(narrow(1e39), None);
    }
}
