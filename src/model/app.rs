//! Apps and the API keys of their back ends. A key's secret is known here only as a value that does not print itself, and
//! what is kept of it is a digest.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::id::{ApiKeyId, AppId};
use super::name::Name;
use super::page::{SortField, Sortable};
use super::version::Version;
use super::{Scope, Timestamp};

/// The id of an app as everyone but the store knows it. It can be a label of a host name, hence its form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AppSlug(String);

impl AppSlug {
    /// The most characters it may have: those of a label in a host name (RFC 1035 section 2.3.4).
    pub const CHARS_MAX: usize = 63;

    /// The slug of an app whose maker chose none.
    #[must_use]
    pub fn generated(id: AppId) -> Self {
        Self(id.to_string())
    }

    /// A slug that was checked before it was stored.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// A slug for a new app. It may not look like a generated one, because then it could be taken by the time another
    /// app is generated.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn chosen(text: &str) -> Result<Self, &'static str> {
        if text.parse::<AppId>().is_ok() {
            return Err("must not look like a generated id, which is app- and 26 characters");
        }
        text.parse()
    }

    /// The slug as a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppSlug {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = (1..=Self::CHARS_MAX).contains(&text.len())
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|byte| plain(byte) || byte == b'-');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be 1 to 63 lower-case letters, digits and hyphens, the first not a hyphen")
        }
    }
}

impl fmt::Display for AppSlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One tenant of the installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// What its rows refer to.
    pub id: AppId,
    /// What everyone else knows it by; it never changes.
    pub slug: AppSlug,
    /// What it is called.
    pub name: Name,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The counter behind its etag.
    pub version: Version,
}

/// An app to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApp {
    /// The slug its maker chose; none to have one generated.
    pub slug: Option<AppSlug>,
    /// What it is to be called.
    pub name: Name,
}

/// What to change of an app; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppPatch {
    /// The new name.
    pub name: Option<Name>,
}

/// What apps are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppSort {
    /// Time of creation.
    CreatedAt,
    /// Time of the last change.
    UpdatedAt,
    /// Name.
    Name,
}

impl Sortable for AppSort {
    fn field(self) -> SortField {
        match self {
            Self::CreatedAt => SortField::CreatedAt,
            Self::UpdatedAt => SortField::UpdatedAt,
            Self::Name => SortField::Name,
        }
    }
}

/// The keys that an app may hold at a time (public API: 25 per app).
pub const API_KEYS_MAX: u32 = 25;

/// An API key in clear: 32 to 128 visible ASCII characters. It never prints itself, and it is stored nowhere but in the
/// encrypted answer that is kept for a repeat of the call that created it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeySecret(String);

impl KeySecret {
    /// The key that these random bits spell: 64 hexadecimal digits.
    #[must_use]
    pub fn from_random(bits: [u8; 32]) -> Self {
        Self(data_encoding::HEXLOWER.encode(&bits))
    }

    /// The key as its holder presents it. The name is long because the answer that creates a key is the only place to
    /// use it.
    #[must_use]
    pub fn reveal_once(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(&self.0)
    }

    /// The last four characters.
    #[must_use]
    pub fn hint(&self) -> String {
        self.0.chars().skip(self.0.chars().count().saturating_sub(4)).collect()
    }
}

impl FromStr for KeySecret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if (32..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be 32 to 128 visible ASCII characters")
        }
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret(…)")
    }
}

/// SHA-256 of an API key. The key itself has 256 random bits, so neither salt nor a slow hash adds anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of a key as a caller presents it, whatever its form.
    #[must_use]
    pub fn of(key: &str) -> Self {
        let mut bytes = [0; 32];
        for (to, from) in bytes
            .iter_mut()
            .zip(digest::digest(&digest::SHA256, key.as_bytes()).as_ref())
        {
            *to = *from;
        }
        Self(bytes)
    }

    /// The 32 bytes as they are stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

/// A credential of an app's back ends, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id, which is not secret.
    pub id: ApiKeyId,
    /// What it is called.
    pub name: Name,
    /// How far it reaches.
    pub scope: Scope,
    /// The last four characters of the secret, to tell keys apart.
    pub hint: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The counter behind its etag.
    pub version: Version,
}

/// An API key to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApiKey {
    /// What it is to be called.
    pub name: Name,
    /// How far it is to reach.
    pub scope: Scope,
}

/// What to change of an API key; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiKeyPatch {
    /// The new name.
    pub name: Option<Name>,
    /// The new scope.
    pub scope: Option<Scope>,
}

/// What API keys are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKeySort {
    /// Time of creation.
    CreatedAt,
    /// Time of the last change.
    UpdatedAt,
    /// Name.
    Name,
}

impl Sortable for ApiKeySort {
    fn field(self) -> SortField {
        match self {
            Self::CreatedAt => SortField::CreatedAt,
            Self::UpdatedAt => SortField::UpdatedAt,
            Self::Name => SortField::Name,
        }
    }
}

/// What authentication knows of the key that a caller presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// The app that the key belongs to.
    pub app: AppId,
    /// The app's public id, against which headers and host names are checked.
    pub slug: AppSlug,
    /// The key.
    pub key: ApiKeyId,
    /// How far it reaches.
    pub scope: Scope,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_a_label_and_a_chosen_one_never_looks_generated() {
        for good in ["a", "0", "shop", "shop-2", "a-", &"a".repeat(63)] {
            assert!(AppSlug::chosen(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "Shop", "a_b", "a.b", "é", "a b", &"a".repeat(64)] {
            assert!(AppSlug::chosen(bad).is_err(), "{bad}");
        }
        let generated = AppSlug::generated(AppId::new(Timestamp::from_millis(0).unwrap()));
        assert!(AppSlug::chosen(generated.as_str()).is_err());
        assert_eq!(generated.as_str().parse(), Ok(generated));
    }

    #[test]
    fn a_key_shows_its_hint_and_never_itself() {
        let key = KeySecret::from_random([0xab; 32]);
        assert_eq!(key.reveal_once().len(), 64);
        assert_eq!(key.hint(), "abab");
        assert_eq!(format!("{key:?} {:?}", key.digest()), "KeySecret(…) KeyDigest(…)");
    }

    #[test]
    fn digest_is_sha_256() {
        // FIPS 180-2 appendix B.1.
        assert_eq!(
            data_encoding::HEXLOWER.encode(KeyDigest::of("abc").as_bytes()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_key_from_outside_is_visible_ascii_of_32_to_128_characters() {
        assert!("k".repeat(32).parse::<KeySecret>().is_ok());
        assert!("k".repeat(128).parse::<KeySecret>().is_ok());
        for bad in ["k".repeat(31), "k".repeat(129), " ".repeat(40), "é".repeat(40)] {
            assert!(bad.parse::<KeySecret>().is_err(), "{bad}");
        }
    }
}
