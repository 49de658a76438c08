//! Channels: the configured ways out of an app, their types, and how many of each an app may have. Nothing here sends.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::id::ChannelId;
use super::name::Name;
use super::page::{SortField, Sortable};
use super::slug::Slug;
use super::version::Version;
use super::word::words;
use super::{Error, Reason, Result, Timestamp};

/// Free JSON of an app's own.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;

/// What stands before the name in a slug that the service makes.
pub const SLUG_PREFIX: &str = "cc-notification-channel";

/// The kind of a way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelType {
    /// The feed inside the app.
    InApp,
    /// Push notifications to devices.
    Push,
    /// Text messages to telephones.
    Sms,
    /// Electronic mail.
    Email,
    /// Messages through `WhatsApp`.
    Whatsapp,
    /// A way of the app's own.
    Custom,
    /// One that a later build knows.
    Unknown(i16),
}

impl ChannelType {
    /// Every type that this build knows, in the order of the contract.
    pub const ALL: [Self; 6] = [
        Self::InApp,
        Self::Push,
        Self::Sms,
        Self::Email,
        Self::Whatsapp,
        Self::Custom,
    ];
}

words!(ChannelType {
    InApp = 1 "in_app",
    Push = 2 "push",
    Sms = 3 "sms",
    Email = 4 "email",
    Whatsapp = 5 "whatsapp",
    Custom = 6 "custom",
});

impl FromStr for ChannelType {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL
            .into_iter()
            .find(|channel_type| channel_type.word() == Some(word));
        known.ok_or("must be one of in_app, push, sms, email, whatsapp, custom")
    }
}

/// How many channels of one type an app may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelLimit {
    /// As many as it likes.
    Unlimited,
    /// So many at most; none when the type is not provisioned.
    AtMost(u32),
}

impl ChannelLimit {
    /// The limit for a type unless the installation provisions more: the feed is free, push is one to an app because its
    /// devices register with one project, and everything else needs a provider first.
    #[must_use]
    pub const fn standard(channel_type: ChannelType) -> Self {
        match channel_type {
            ChannelType::InApp => Self::Unlimited,
            ChannelType::Push => Self::AtMost(1),
            ChannelType::Sms
            | ChannelType::Email
            | ChannelType::Whatsapp
            | ChannelType::Custom
            | ChannelType::Unknown(_) => Self::AtMost(0),
        }
    }

    /// Whether one more fits beside the `used` ones.
    ///
    /// # Errors
    /// Forbidden when the type is not provisioned at all, a conflict when all of it is used up.
    pub fn admit(self, channel_type: ChannelType, used: u64) -> Result<()> {
        match self {
            Self::AtMost(0) => {
                let message = format!("channel type {channel_type} is not provisioned for this app");
                Err(Error::new(Reason::Forbidden, message).with("rule", format!("channelType {channel_type}")))
            }
            Self::AtMost(limit) if used >= u64::from(limit) => {
                let message = format!("the app may have {limit} of channel type {channel_type} and has {used}");
                Err(Error::new(Reason::Conflict, message).with("limit", limit))
            }
            Self::AtMost(_) | Self::Unlimited => Ok(()),
        }
    }
}

/// How many channels of each type an app may have: the standard, with what the operator of the installation provisioned.
///
/// As a text it is a list of types, such as `email,sms=2`: a type alone has no limit, one with a number has that limit, and
/// 0 takes it away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelLimits(BTreeMap<ChannelType, ChannelLimit>);

impl ChannelLimits {
    /// The largest limit that can be given; beyond it a type is as good as unlimited.
    pub const LIMIT_MAX: u32 = 1_000_000;

    /// The limit of a type.
    #[must_use]
    pub fn of(&self, channel_type: ChannelType) -> ChannelLimit {
        let provisioned = self.0.get(&channel_type).copied();
        provisioned.unwrap_or_else(|| ChannelLimit::standard(channel_type))
    }
}

impl FromStr for ChannelLimits {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut limits = BTreeMap::new();
        for member in text.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            let (word, limit) = match member.split_once('=') {
                None => (member, ChannelLimit::Unlimited),
                Some((word, number)) => {
                    let number = number.trim().parse().ok().filter(|number| *number <= Self::LIMIT_MAX);
                    let number = number.ok_or("must have whole numbers from 0 to 1000000 as limits")?;
                    (word.trim_end(), ChannelLimit::AtMost(number))
                }
            };
            if limits.insert(word.parse()?, limit).is_some() {
                return Err("must name each type once");
            }
        }
        Ok(Self(limits))
    }
}

/// How much of a type's limit an app has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Availability {
    /// The type.
    pub channel_type: ChannelType,
    /// How many there may be.
    pub limit: ChannelLimit,
    /// How many there are, on or off.
    pub used: u64,
}

/// One configured way out of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// Its slug, unique in the app; never changes.
    pub slug: Slug,
    /// Its kind; never changes.
    pub channel_type: ChannelType,
    /// What people call it.
    pub name: Name,
    /// Whether anything is sent through it.
    pub enabled: bool,
    /// Free JSON of the app's own, up to 5 KiB.
    pub metadata: Option<JsonObject>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The counter behind its etag.
    pub version: Version,
}

/// A channel to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NewChannel {
    /// The slug that the app chose; otherwise one is made of the name.
    pub slug: Option<Slug>,
    /// Its kind.
    pub channel_type: ChannelType,
    /// What people call it.
    pub name: Name,
    /// Whether it starts switched on.
    pub enabled: bool,
    /// Free JSON of the app's own.
    pub metadata: Option<JsonObject>,
}

/// What to change about a channel: what is absent stays, an inner `None` clears.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelPatch {
    /// The slug as the caller has it, which has to be the channel's.
    pub slug: Option<String>,
    /// The kind as the caller has it, which has to be the channel's.
    pub channel_type: Option<ChannelType>,
    /// A new name.
    pub name: Option<Name>,
    /// Switches it on or off.
    pub enabled: Option<bool>,
    /// New free JSON, or none.
    pub metadata: Option<Option<JsonObject>>,
}

/// What channels are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelSort {
    /// Time of creation.
    CreatedAt,
    /// Time of the last change.
    UpdatedAt,
    /// The word of the type.
    ChannelType,
}

impl Sortable for ChannelSort {
    fn field(self) -> SortField {
        match self {
            Self::CreatedAt => SortField::CreatedAt,
            Self::UpdatedAt => SortField::UpdatedAt,
            Self::ChannelType => SortField::ChannelType,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_types_are_one_to_one() {
        for channel_type in ChannelType::ALL {
            assert_eq!(channel_type.to_string().parse(), Ok(channel_type));
        }
        assert!("fax".parse::<ChannelType>().is_err());
        assert!("IN_APP".parse::<ChannelType>().is_err());
    }

    #[test]
    fn limits_refuse_with_the_reason_that_fits() {
        let admit = |channel_type, used| ChannelLimit::standard(channel_type).admit(channel_type, used);
        assert!(admit(ChannelType::InApp, 1_000_000).is_ok());
        assert!(admit(ChannelType::Push, 0).is_ok());
        assert_eq!(admit(ChannelType::Push, 1).unwrap_err().reason(), Reason::Conflict);
        assert_eq!(admit(ChannelType::Sms, 0).unwrap_err().reason(), Reason::Forbidden);
        assert_eq!(admit(ChannelType::Custom, 5).unwrap_err().reason(), Reason::Forbidden);
    }

    #[test]
    fn what_is_provisioned_wins_over_the_standard_and_the_rest_stays() {
        let limits: ChannelLimits = " email, sms = 2 ,push=0".parse().unwrap();
        assert_eq!(limits.of(ChannelType::Email), ChannelLimit::Unlimited);
        assert_eq!(limits.of(ChannelType::Sms), ChannelLimit::AtMost(2));
        assert_eq!(limits.of(ChannelType::Push), ChannelLimit::AtMost(0));
        assert_eq!(limits.of(ChannelType::InApp), ChannelLimit::Unlimited);
        assert_eq!(limits.of(ChannelType::Custom), ChannelLimit::AtMost(0));
        assert_eq!("".parse(), Ok(ChannelLimits::default()));
        for bad in [
            "fax",
            "sms=",
            "sms=-1",
            "sms=1.5",
            "sms=1000001",
            "sms,sms=2",
            "sms=2=3",
            "sms 2",
            "=2",
        ] {
            assert!(bad.parse::<ChannelLimits>().is_err(), "{bad}");
        }
    }
}
