//! The time at which a campaign is sent: an instant, or a local time in a time zone. Nothing here waits.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::model::{Error, Result, Timestamp, Violation};

/// How far away it may be.
pub const AHEAD_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A time as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// An instant.
    pub at: Option<Timestamp>,
    /// A local time.
    pub local: Option<String>,
    /// The time zone of that.
    pub time_zone: Option<String>,
}

/// A time that is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The instant.
    pub at: Timestamp,
    /// The time zone that it was said in.
    pub time_zone: Option<String>,
}

impl When {
    /// The instant that is meant. Where clocks jump forward over a local time, it is as much later; where it comes twice, it
    /// is the first.
    ///
    /// # Errors
    /// Invalid, when it is not said in one of the two ways, names no time zone or time, or is past or too far away.
    pub fn settle(&self, now: Timestamp) -> Result<Schedule> {
        let (field, at) = self.instant()?;
        if at <= now || at > now.plus(AHEAD_MAX) {
            let rule = format!("must be later than now, {now}, and at most 365 days away");
            return Err(invalid(field, &rule, &at.to_string()));
        }
        Ok(Schedule {
            at,
            time_zone: self.time_zone.clone(),
        })
    }

    /// The same whenever that is, behind the field that says it.
    ///
    /// # Errors
    /// Invalid, when it is not said in one of the two ways, or names no time zone or time.
    pub fn instant(&self) -> Result<(&'static str, Timestamp)> {
        match (self.at, &self.local, &self.time_zone) {
            (Some(at), None, None) => Ok(("scheduledAt", at)),
            (None, Some(local), Some(zone)) => {
                let known = TimeZone::get(zone);
                let known = known.map_err(|_fault| {
                    invalid("timeZone", "must be the name of a time zone, such as Europe/Rome", zone)
                })?;
                let no_time = || invalid("scheduledLocal", "must be a date and a time of day", local);
                let civil: DateTime = local.parse().map_err(|_fault| no_time())?;
                let zoned = known
                    .to_ambiguous_zoned(civil)
                    .compatible()
                    .map_err(|_fault| no_time())?;
                let at = Timestamp::from_millis(zoned.timestamp().as_millisecond()).ok_or_else(no_time)?;
                Ok(("scheduledLocal", at))
            }
            (None, None, None) => {
                let rule = "is required, unless scheduledLocal and timeZone are there";
                Err(Error::invalid(vec![Violation::new("scheduledAt", rule)]))
            }
            (None, None, Some(zone)) => Err(invalid("timeZone", "goes together with scheduledLocal", zone)),
            (None, Some(local), None) => Err(invalid("scheduledLocal", "goes together with timeZone", local)),
            (Some(at), _, _) => {
                let rule = "cannot stand beside scheduledLocal or timeZone";
                Err(invalid("scheduledAt", rule, &at.to_string()))
            }
        }
    }
}

fn invalid(field: &str, rule: &str, received: &str) -> Error {
    Error::invalid(vec![Violation::new(field, rule).received(received)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(local: &str, zone: &str, now: &str) -> Result<String, String> {
        let when = When {
            local: Some(local.to_owned()),
            time_zone: Some(zone.to_owned()),
            ..When::default()
        };
        let settled = when.settle(now.parse().unwrap());
        settled
            .map(|schedule| schedule.at.to_string())
            .map_err(|error| format!("{} {}", error.violations()[0].field, error.violations()[0].rule))
    }

    #[test]
    fn a_local_time_that_does_not_exist_is_later_and_one_that_comes_twice_is_the_first() {
        let now = "2024-01-01T00:00:00.000Z";
        // On 31 March 2024 clocks in Rome went from 2:00 to 3:00; on 27 October from 3:00 back to 2:00.
        assert_eq!(
            local("2024-03-31T02:30", "Europe/Rome", now).unwrap(),
            "2024-03-31T01:30:00.000Z"
        );
        assert_eq!(
            local("2024-03-31T03:30", "Europe/Rome", now).unwrap(),
            "2024-03-31T01:30:00.000Z"
        );
        assert_eq!(
            local("2024-10-27T02:30", "Europe/Rome", now).unwrap(),
            "2024-10-27T00:30:00.000Z"
        );
        assert_eq!(
            local("2024-07-01T09:00:30", "America/New_York", now).unwrap(),
            "2024-07-01T13:00:30.000Z"
        );
    }

    #[test]
    fn a_time_that_is_past_or_too_far_away_or_none_is_refused_with_its_field() {
        let now = "2024-01-01T00:00:00.000Z";
        assert!(
            local("2023-12-31T09:00", "UTC", now)
                .unwrap_err()
                .starts_with("scheduledLocal must be later")
        );
        assert!(
            local("2025-02-01T09:00", "UTC", now)
                .unwrap_err()
                .starts_with("scheduledLocal must be later")
        );
        assert!(
            local("2024-02-30T09:00", "UTC", now)
                .unwrap_err()
                .starts_with("scheduledLocal must be a date")
        );
        assert!(
            local("2024-02-01T09:00", "Europe/Atlantis", now)
                .unwrap_err()
                .starts_with("timeZone must be")
        );
        let at = |at: &str| When {
            at: Some(at.parse().unwrap()),
            ..When::default()
        };
        let now: Timestamp = now.parse().unwrap();
        assert!(at("2024-01-01T00:00:00.000Z").settle(now).is_err());
        assert!(at("2024-01-01T00:00:00.001Z").settle(now).is_ok());
        let both = When {
            local: Some("2024-02-01T09:00".to_owned()),
            ..at("2024-02-01T00:00:00Z")
        };
        assert!(both.settle(now).is_err());
        assert!(When::default().settle(now).is_err());
    }
}
