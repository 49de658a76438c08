//! Instants in UTC with millisecond precision, and the clock that gives them. Nothing else reads the system's time.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

const EPOCH: jiff::civil::DateTime = jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// An instant: milliseconds since 1970-01-01T00:00:00Z, in the years 1 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0001-01-01T00:00:00.000Z.
    pub const MIN: Self = Self(-62_135_596_800_000);
    /// 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// The instant so many milliseconds after the epoch; `None` outside the years 1 to 9999.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Option<Self> {
        if millis < Self::MIN.0 || millis > Self::MAX.0 {
            None
        } else {
            Some(Self(millis))
        }
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// This much later, never beyond the year 9999.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis).min(Self::MAX.0))
    }

    /// This much earlier, never before the year 1.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis).max(Self::MIN.0))
    }
}

/// RFC 3339 in UTC with exactly three decimals: `2024-01-15T09:30:00.000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Civil time, because the library's instants end a day before the year 9999 does.
        let since = jiff::SignedDuration::from_millis(self.0);
        let civil = EPOCH.checked_add(since).unwrap_or(EPOCH);
        write!(f, "{civil:.3}Z")
    }
}

impl FromStr for Timestamp {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "must be an RFC 3339 timestamp such as 2024-01-15T09:30:00.000Z, or unix seconds";
        if !is_rfc3339(text) {
            return Err(RULE);
        }
        let millis = match text.strip_suffix(['Z', 'z']) {
            // Civil time, because the library's instants end a day before the year 9999 does.
            Some(utc) => {
                let civil: jiff::civil::DateTime = utc.parse().ok().ok_or(RULE)?;
                i64::try_from(civil.duration_since(EPOCH).as_millis())
                    .ok()
                    .ok_or(RULE)?
            }
            None => text.parse::<jiff::Timestamp>().ok().ok_or(RULE)?.as_millisecond(),
        };
        Self::from_millis(millis).ok_or(RULE)
    }
}

/// Whether a text has the form of RFC 3339; the library takes more, such as a date without hyphens or a zone's name.
fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    let at = |place: usize, marks: &[u8]| bytes.get(place).is_some_and(|byte| marks.contains(byte));
    let zone = text.ends_with(['Z', 'z']) || {
        let from = bytes.len().saturating_sub(6);
        at(from, b"+-") && at(from + 3, b":")
    };
    at(4, b"-") && at(7, b"-") && at(10, b"Tt") && at(13, b":") && at(16, b":") && zone
}

/// Where the time comes from: the system, or in tests a hand that sets it.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// A clock that stands at `now` until it is set.
    #[must_use]
    pub fn fixed(now: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(now.0))))
    }

    /// Sets a fixed clock; the system's clock is not touched.
    pub fn set(&self, now: Timestamp) {
        if let Some(fixed) = &self.0 {
            fixed.store(now.0, Ordering::SeqCst);
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Some(fixed) => Timestamp(fixed.load(Ordering::SeqCst)),
            None => Self::system(),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the system's time"
    )]
    fn system() -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_three_decimals_and_reads_them_back() {
        let instant = Timestamp::from_millis(1_705_311_000_000).unwrap();
        assert_eq!(instant.to_string(), "2024-01-15T09:30:00.000Z");
        assert_eq!(instant.to_string().parse(), Ok(instant));
        assert_eq!(Timestamp::MIN.to_string(), "0001-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn reads_rfc3339_to_the_last_instant_and_nothing_laxer() {
        assert_eq!("9999-12-31T23:59:59.999Z".parse(), Ok(Timestamp::MAX));
        assert_eq!("0001-01-01T00:00:00Z".parse(), Ok(Timestamp::MIN));
        let noon = Timestamp::from_millis(1_705_320_000_000);
        assert_eq!("2024-01-15T13:00:00.0009+01:00".parse().ok(), noon);
        for lax in [
            "2024-01-15",
            "20240115T120000Z",
            "2024-01-15T12Z",
            "2024-01-15T12:00Z",
            "2024-01-15T12:00:00",
            "2024-01-15T12:00:00+0100",
            "2024-01-15T12:00:00+01:00[Europe/Berlin]",
            "2024-02-30T12:00:00Z",
            "2024-01-15T25:00:00Z",
            "-000001-01-01T00:00:00Z",
            "",
        ] {
            assert!(lax.parse::<Timestamp>().is_err(), "{lax}");
        }
    }

    #[test]
    fn years_beyond_four_digits_are_refused() {
        assert_eq!(Timestamp::from_millis(Timestamp::MAX.0 + 1), None);
        assert!("+010000-01-01T00:00:00Z".parse::<Timestamp>().is_err());
    }
}
