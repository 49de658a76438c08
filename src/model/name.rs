//! What something is called, for people. It is not an identifier: two things may share a name unless their noun says
//! otherwise.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name: 1 to 100 characters, none of them U+0000 and at least one of them visible. It is kept as it was given, spaces at
/// its ends included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// The most characters it may have.
    pub const CHARS_MAX: usize = 100;

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as search compares it, without regard to case.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }

    /// A name that was checked before it was stored.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err("is required");
        }
        if text.chars().count() > Self::CHARS_MAX {
            return Err("must not be longer than 100 characters");
        }
        if text.contains('\0') {
            return Err("must not contain U+0000");
        }
        // Refused and not trimmed to nothing: whoever sent it meant something else.
        if text.chars().all(char::is_whitespace) {
            return Err("must not be made of spaces alone");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_counts_characters_and_not_bytes() {
        assert_eq!("é".repeat(100).parse::<Name>().unwrap().as_str().chars().count(), 100);
        assert_eq!(
            "é".repeat(101).parse::<Name>(),
            Err("must not be longer than 100 characters")
        );
        assert_eq!("".parse::<Name>(), Err("is required"));
        assert_eq!("a\0b".parse::<Name>(), Err("must not contain U+0000"));
    }

    #[test]
    fn spaces_of_any_kind_are_no_name_but_may_stand_in_one() {
        for blank in [" ", "   ", "\t\n", "\u{a0}", "\u{2003} \u{3000}"] {
            assert_eq!(
                blank.parse::<Name>(),
                Err("must not be made of spaces alone"),
                "{blank:?}"
            );
        }
        assert_eq!(" a b ".parse::<Name>().unwrap().as_str(), " a b ");
    }
}
