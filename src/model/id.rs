//! Identifiers: UUIDv7 inside, `<kind>-<26 lower-case Crockford base32 digits>` outside. An id names its kind, and ids of
//! one kind sort by the time they were made.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Timestamp;

static CROCKFORD: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    specification.encoding().unwrap_or(data_encoding::BASE32HEX_NOPAD)
});

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// What stands before the dash.
            pub const KIND: &'static str = $kind;

            /// A new id, made at `now`.
            #[must_use]
            pub fn new(now: Timestamp) -> Self {
                Self(uuid_at(now))
            }

            /// When it was made; `None` for an id of another kind of UUID.
            #[must_use]
            pub fn made_at(self) -> Option<Timestamp> {
                made_at(self.0)
            }

            /// The sixteen bytes as they are stored.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}-{}", $kind, CROCKFORD.encode(self.0.as_bytes()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse($kind, text)
                    .map(Self)
                    .ok_or(concat!("must be an id of the form ", $kind, "-<26 lower-case base32 digits>"))
            }
        }
    )+};
}

ids! {
    /// An app, the tenant.
    AppId = "app",
    /// An API key.
    ApiKeyId = "key",
    /// A user as rows refer to it; outside a user is known by its uid.
    UserId = "user",
    /// A channel of an app.
    ChannelId = "chan",
    /// A template category.
    CategoryId = "cat",
    /// A template.
    TemplateId = "tmpl",
    /// One immutable version of a template.
    TemplateVersionId = "tver",
    /// One send, from the API or from a campaign.
    NotificationId = "ntf",
    /// One template sent to one audience.
    CampaignId = "camp",
    /// The import of one file into the audience of a campaign.
    ImportId = "imp",
    /// One file that was uploaded, or is to be.
    UploadId = "file",
    /// One line of the ledger: notification, step, user, channel and address.
    DeliveryId = "dlv",
    /// An in-app delivery as its user sees it.
    FeedItemId = "feed",
}

fn uuid_at(now: Timestamp) -> Uuid {
    let millis = u64::try_from(now.millis()).unwrap_or_default();
    let nanos = u32::try_from(millis % 1_000).unwrap_or_default() * 1_000_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, millis / 1_000, nanos))
}

fn made_at(uuid: Uuid) -> Option<Timestamp> {
    let (seconds, nanos) = uuid.get_timestamp()?.to_unix();
    let seconds = i64::try_from(seconds).ok()?;
    Timestamp::from_millis(seconds.checked_mul(1_000)? + i64::from(nanos / 1_000_000))
}

fn parse(kind: &str, text: &str) -> Option<Uuid> {
    let digits = text.strip_prefix(kind)?.strip_prefix('-')?;
    let bytes: [u8; 16] = CROCKFORD.decode(digits.as_bytes()).ok()?.try_into().ok()?;
    Some(Uuid::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_the_round_trip_and_names_its_kind() {
        let id = FeedItemId::new(Timestamp::from_millis(1_705_311_000_123).unwrap());
        let text = id.to_string();
        assert_eq!(text.len(), "feed-".len() + 26);
        assert_eq!(text.parse(), Ok(id));
        assert!(text.parse::<TemplateId>().is_err());
        assert!(text.to_uppercase().parse::<FeedItemId>().is_err());
    }

    #[test]
    fn an_id_tells_when_it_was_made() {
        let now = Timestamp::from_millis(1_705_311_000_123).unwrap();
        assert_eq!(FeedItemId::new(now).made_at(), Some(now));
        assert_eq!(FeedItemId::from(Uuid::nil()).made_at(), None);
    }

    #[test]
    fn later_ids_sort_after_earlier_ones() {
        let early = UserId::new(Timestamp::from_millis(1_000).unwrap());
        let late = UserId::new(Timestamp::from_millis(2_000).unwrap());
        assert!(early < late && early.to_string() < late.to_string());
    }
}
