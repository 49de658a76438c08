//! The counter behind every etag: it goes up by one with each change of its row, and a change that names another etag
//! than the current one is refused. It is not a template's version, which people see.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Error, Reason, Result};

/// How often a row was written: 1 when it is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(i64);

impl Version {
    /// The version of a new row.
    pub const FIRST: Self = Self(1);

    /// The version with this number, as it was stored.
    #[must_use]
    pub const fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// The number, as it is stored.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }

    /// The version after the next change.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Lets a change pass that expects this version, or none in particular.
    ///
    /// # Errors
    /// [`Reason::PreconditionFailed`] with both etags when another one is expected. An etag that was never given out is
    /// no different from a stale one, so it is not looked into.
    pub fn check(self, expected: Option<&str>) -> Result<()> {
        let current = self.to_string();
        match expected {
            Some(received) if received != current => Err(Error::new(
                Reason::PreconditionFailed,
                format!("etag {received:?} is not the current one, {current:?}: read again, then repeat the change"),
            )
            .with("etag", current)
            .with("received", received)),
            Some(_) | None => Ok(()),
        }
    }
}

/// The etag, without the quotes that HTTP puts around it.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_current_etag_or_none_passes() {
        let version = Version::FIRST.next();
        assert!(version.check(None).is_ok());
        assert!(version.check(Some("v2")).is_ok());
        for stale in ["v1", "2", "", "V2", "v02"] {
            let error = version.check(Some(stale)).unwrap_err();
            assert_eq!(error.reason(), Reason::PreconditionFailed);
            let metadata: Vec<_> = error
                .metadata()
                .iter()
                .map(|(key, value)| (*key, value.as_str()))
                .collect();
            assert_eq!(metadata, [("etag", "v2"), ("received", stale)]);
        }
    }
}
