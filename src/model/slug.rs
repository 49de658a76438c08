//! Slugs: the names that an app gives its channels and templates and that stand in paths in place of ids. It never looks
//! anything up; whether a slug is taken is the store's knowledge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Words that stand where a slug could, in the paths of the API, and would hide whatever bore them.
const RESERVED: [&str; 2] = ["availability", "categories"];

/// Digits behind the dash of an id.
const ID_DIGITS: usize = 26;

const PATTERN: &str = "must match ^[a-z0-9][a-z0-9_-]{0,99}$";
const LIKE_AN_ID: &str = "must not look like an id, which is letters, a dash and 26 letters and digits";
const IS_RESERVED: &str = "must not be one of the reserved words availability and categories";

/// A name of 1 to 100 characters `a-z`, `0-9`, `_` and `-`, which starts with a letter or digit, is not taken for an id,
/// and is no word that the API's own paths use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slug(String);

impl Slug {
    /// The longest slug, in characters, which are bytes.
    pub const LENGTH_MAX: usize = 100;

    /// Rounds of candidates after which an app has to choose a slug by itself.
    pub const ROUNDS_MAX: u32 = 100;

    const CANDIDATES: u32 = 100;

    /// The slug made of an entity's name: `prefix`, a dash, and the name in lower case with a dash for whatever a slug
    /// cannot hold. A name without any letter or digit of ASCII leaves the prefix alone.
    #[must_use]
    pub fn from_name(prefix: &str, name: &str) -> Self {
        let words = name
            .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
            .filter(|word| !word.is_empty());
        let mut text = prefix.to_owned();
        for word in words {
            text.push('-');
            text.push_str(&word.to_ascii_lowercase());
        }
        Self(shortened(&text, Self::LENGTH_MAX))
    }

    /// The slugs to try when one is to be made that nobody has: the first hundred are this one and the same with the
    /// numbers from 2, and each later `round` has the next hundred.
    #[must_use]
    pub fn candidates(&self, round: u32) -> Vec<Self> {
        let first = round.saturating_mul(Self::CANDIDATES).saturating_add(1);
        let numbers = first..first.saturating_add(Self::CANDIDATES);
        let slug = |number| match number {
            1 => self.clone(),
            number => self.numbered(number),
        };
        numbers.map(slug).collect()
    }

    /// The same with a number behind it, and shorter if it has to be.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Self {
        let suffix = format!("-{number}");
        let text = shortened(&self.0, Self::LENGTH_MAX.saturating_sub(suffix.len()));
        Self(text + &suffix)
    }

    /// A slug that was checked before it was stored.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Slug {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = text.bytes().next().is_some_and(is_letter_or_digit);
        let rest = text
            .bytes()
            .all(|byte| is_letter_or_digit(byte) || byte == b'_' || byte == b'-');
        if !first || !rest || text.len() > Self::LENGTH_MAX {
            Err(PATTERN)
        } else if looks_like_id(text) {
            Err(LIKE_AN_ID)
        } else if RESERVED.contains(&text) {
            Err(IS_RESERVED)
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a caller names an entity by: its id, or else what may be its slug. A slug never looks like an id, so one text
/// never means two entities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference<I> {
    /// The id.
    Id(I),
    /// Anything else, well formed or not; what is not a slug matches nothing.
    Slug(String),
}

impl<I: FromStr> From<&str> for Reference<I> {
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Slug(text.to_owned()), Self::Id)
    }
}

impl<I: fmt::Display> fmt::Display for Reference<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Slug(text) => f.write_str(text),
        }
    }
}

fn is_letter_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

// Any kind counts, not only those that exist: kinds that come later must not find their ids taken.
fn looks_like_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(kind, digits)| {
        kind.bytes().all(|byte| byte.is_ascii_lowercase())
            && digits.len() == ID_DIGITS
            && digits.bytes().all(is_letter_or_digit)
    })
}

// Slugs are ASCII, so characters are bytes; no dash is left at the end, where it would double with a number's.
fn shortened(text: &str, length: usize) -> String {
    let short: String = text.chars().take(length).collect();
    short.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::model::id::{ChannelId, TemplateId};

    #[test]
    fn a_slug_of_the_apps_own_is_taken_as_it_is() {
        for text in ["a", "0", "shop-bell", "order_shipped-2", &"x".repeat(100)] {
            assert_eq!(text.parse::<Slug>().map(String::from), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_paths_cannot_hold_is_refused() {
        for text in ["", "-a", "_a", "Shop", "a b", "a/b", "ä", &"x".repeat(101)] {
            assert_eq!(text.parse::<Slug>(), Err(PATTERN), "{text}");
        }
    }

    #[test]
    fn what_looks_like_an_id_of_any_kind_is_refused() {
        let id = ChannelId::new(Timestamp::from_millis(1_705_311_000_123).unwrap()).to_string();
        assert_eq!(id.parse::<Slug>(), Err(LIKE_AN_ID));
        assert_eq!("later-01hf7yat00000000000000000a".parse::<Slug>(), Err(LIKE_AN_ID));
        assert!("chan-01hf7yat0000000000000000".parse::<Slug>().is_ok());
    }

    #[test]
    fn words_of_the_apis_own_paths_are_refused() {
        for text in RESERVED {
            assert_eq!(text.parse::<Slug>(), Err(IS_RESERVED));
            assert!(IS_RESERVED.contains(text));
        }
    }

    #[test]
    fn a_generated_slug_follows_the_name_and_is_a_slug() {
        let slug = |name: &str| Slug::from_name("cc-template", name).to_string();
        assert_eq!(slug("Order Shipped!"), "cc-template-order-shipped");
        assert_eq!(slug("  Größe_XL  "), "cc-template-gr-e_xl");
        assert_eq!(slug("鐘"), "cc-template");
        for name in [
            &"x".repeat(200),
            "a - b",
            "鐘",
            "0123456789abcdefghjkmnpqrs",
            "-",
            "categories",
        ] {
            let slug = Slug::from_name("cc-template", name);
            assert_eq!(slug.as_str().parse(), Ok(slug.clone()), "{name}");
            assert_eq!(slug.numbered(12).as_str().parse(), Ok(slug.numbered(12)), "{name}");
            assert_ne!(slug, slug.numbered(12));
        }
    }

    #[test]
    fn candidates_of_all_rounds_are_different() {
        let slug = Slug::from_name("cc-template", "Welcome");
        let candidates: Vec<_> = (0..3).flat_map(|round| slug.candidates(round)).collect();
        let first: Vec<_> = candidates.iter().take(3).map(Slug::as_str).collect();
        assert_eq!(
            first,
            ["cc-template-welcome", "cc-template-welcome-2", "cc-template-welcome-3"]
        );
        let distinct: std::collections::BTreeSet<_> = candidates.iter().collect();
        assert_eq!((candidates.len(), distinct.len()), (300, 300));
    }

    #[test]
    fn a_reference_is_an_id_only_of_its_own_kind() {
        let id = TemplateId::new(Timestamp::from_millis(1).unwrap());
        assert_eq!(Reference::from(id.to_string().as_str()), Reference::Id(id));
        assert!(matches!(
            Reference::<ChannelId>::from(id.to_string().as_str()),
            Reference::Slug(_)
        ));
        assert_eq!(Reference::<TemplateId>::from("welcome").to_string(), "welcome");
    }
}
