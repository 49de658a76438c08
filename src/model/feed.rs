//! The feed inside an app: its items as their user sees them, and the rules of marking and expiry. Nothing here counts;
//! the unread count belongs to the head of a feed, which the store moves.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::channel::JsonObject;
use super::id::{CategoryId, ChannelId, FeedItemId, NotificationId, TemplateId, TemplateVersionId, UserId};
use super::name::Name;
use super::page::{SortField, Sortable};
use super::slug::Reference;
use super::tag::TagMatch;
use super::template::DataType;
use super::user::Uid;
use super::variable::VariableValues;

/// What a feed item's receiver is.
pub const RECEIVER_TYPE: &str = "user";

/// Who sent a feed item: the app itself.
pub const SENDER: &str = "app_system";

/// How many of a user's items may have expired before a count sweeps them instead of subtracting them, so that counting
/// stays cheap whoever comes late.
pub const EXPIRED_MAX: u64 = 1_000;

/// How many topics one item takes.
pub const TOPICS_MAX: usize = 100;

/// How far a user has come with a feed item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedItemStatus {
    /// Nothing has proved that it reached the user.
    Sent,
    /// It has reached the user.
    Delivered,
    /// The user has read it.
    Read,
}

impl FeedItemStatus {
    /// What its instants say: the furthest step that has one.
    #[must_use]
    pub const fn of(delivered_at: Option<Timestamp>, read_at: Option<Timestamp>) -> Self {
        match (delivered_at, read_at) {
            (_, Some(_)) => Self::Read,
            (Some(_), None) => Self::Delivered,
            (None, None) => Self::Sent,
        }
    }
}

/// One in-app delivery as the database keeps it: with the values and the version that it is rendered with, whenever it is
/// read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredItem {
    /// Its id.
    pub id: FeedItemId,
    /// Whose feed it is in.
    pub user: UserId,
    /// The notification that it came with.
    pub notification_id: NotificationId,
    /// The version of the template.
    pub version_id: TemplateVersionId,
    /// The channel that it came through.
    pub channel_id: ChannelId,
    /// The category's id at the time of the send.
    pub category_id: Option<CategoryId>,
    /// The category's name at the time of the send.
    pub category_name: Option<Name>,
    /// Whether filters by category find it.
    pub filterable: bool,
    /// The label at the time of the send, where the template shows it.
    pub label: Option<String>,
    /// The alternative text at the time of the send.
    pub alternative_text: Option<String>,
    /// The tags at the time of the send.
    pub tags: Vec<String>,
    /// What the content is.
    pub data_type: DataType,
    /// What the content is rendered with.
    pub variables: VariableValues,
    /// When it was sent, which is when it was created: it begins by being put into the feed.
    pub sent_at: Timestamp,
    /// When it leaves the feed.
    pub expires_at: Option<Timestamp>,
    /// What became of it since.
    #[serde(flatten)]
    pub state: ItemState,
    /// What its user did with it, in the order of the topics.
    #[serde(default)]
    pub engagements: Vec<Engagement>,
}

/// What became of a feed item since it was sent. Of everything that can happen the first time is kept, so whatever is
/// done again leaves it as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemState {
    /// Whether its feed's head counts it as unread.
    pub counted: bool,
    /// When it first proved to have reached the user.
    pub delivered_at: Option<Timestamp>,
    /// When it was first read.
    pub read_at: Option<Timestamp>,
    /// When its user first did something with it.
    pub interacted_at: Option<Timestamp>,
    /// When it was taken out of the feed.
    pub deleted_at: Option<Timestamp>,
}

impl ItemState {
    /// Just sent.
    pub const SENT: Self = Self {
        counted: true,
        delivered_at: None,
        read_at: None,
        interacted_at: None,
        deleted_at: None,
    };

    /// How far the user has come.
    #[must_use]
    pub const fn status(self) -> FeedItemStatus {
        FeedItemStatus::of(self.delivered_at, self.read_at)
    }

    /// After it reached the user.
    #[must_use]
    pub fn delivered(self, now: Timestamp) -> Self {
        Self {
            delivered_at: self.delivered_at.or(Some(now)),
            ..self
        }
    }

    /// After it was read: what was read was delivered.
    #[must_use]
    pub fn read(self, now: Timestamp) -> Self {
        if self.read_at.is_some() {
            return self;
        }
        Self {
            read_at: Some(now),
            counted: false,
            ..self.delivered(now)
        }
    }

    /// After its user did something with it. That proves nothing else.
    #[must_use]
    pub fn interacted(self, now: Timestamp) -> Self {
        Self {
            interacted_at: self.interacted_at.or(Some(now)),
            ..self
        }
    }

    /// After it was taken out of the feed.
    #[must_use]
    pub fn deleted(self, now: Timestamp) -> Self {
        Self {
            deleted_at: self.deleted_at.or(Some(now)),
            counted: false,
            ..self
        }
    }

    /// After its expiry was noticed.
    #[must_use]
    pub const fn expired(self) -> Self {
        Self { counted: false, ..self }
    }
}

/// What an engagement was about: up to 64 letters, digits, `_` and `-`, or nothing in particular.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Topic(String);

impl Topic {
    const CHARS_MAX: usize = 64;
    /// The topic of a click, which the metrics of sequences count.
    pub const CLICKED: &'static str = "clicked";

    /// The topic as it was given; empty when none was.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A topic that was checked before it was stored.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for Topic {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if (1..=Self::CHARS_MAX).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be 1 to 64 letters, digits, _ or -")
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a user did with a feed item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engagement {
    /// What it was about.
    pub topic: Topic,
    /// When it was first reported.
    pub engaged_at: Timestamp,
}

/// One in-app delivery as its user sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedItem {
    /// What the database keeps.
    pub stored: StoredItem,
    /// Whose feed it is in.
    pub receiver: Uid,
    /// The template.
    pub template_id: TemplateId,
    /// The number of the template's version.
    pub template_version: u32,
    /// The rendered content, an object; `None` when the template was asked for alone.
    pub content: Option<JsonObject>,
}

/// When an item that is sent at `now` leaves the feed, if it is kept for so many hours; 0 is for good.
#[must_use]
pub fn expires_at(now: Timestamp, retention_hours: u32) -> Option<Timestamp> {
    const HOUR_SECONDS: u64 = 3_600;
    (retention_hours > 0).then(|| {
        now.plus(Duration::from_secs(
            u64::from(retention_hours).saturating_mul(HOUR_SECONDS),
        ))
    })
}

/// Which items a list holds by whether they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadState {
    /// Those that were.
    Read,
    /// Those that were not.
    Unread,
    /// Both.
    #[default]
    All,
}

/// Which items a list holds. Each part that says something has to be passed.
#[derive(Clone, Debug, Default)]
pub struct FeedFilter {
    /// Whose, when the call acts for no user.
    pub receiver: Option<Uid>,
    /// By whether they were read.
    pub read_state: ReadState,
    /// Sent then or later.
    pub sent_from: Option<Timestamp>,
    /// Sent then or earlier.
    pub sent_to: Option<Timestamp>,
    /// With these tags; empty: whatever the tags.
    pub tags: Vec<String>,
    /// How several tags match.
    pub tag_match: TagMatch,
    /// Of the category with this name or id, where filters by category find the item.
    pub category: Option<String>,
    /// Through this channel.
    pub channel: Option<Reference<ChannelId>>,
    /// Also those that were deleted.
    pub with_deleted: bool,
    /// Also those that have expired.
    pub with_expired: bool,
}

/// How much of an item is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// With its rendered content.
    #[default]
    Content,
    /// With what rendering needs, and no content.
    Template,
}

/// What feed items are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedSort {
    /// Time of sending.
    SentAt,
    /// Time of creation.
    CreatedAt,
}

impl Sortable for FeedSort {
    fn field(self) -> SortField {
        match self {
            Self::SentAt => SortField::SentAt,
            Self::CreatedAt => SortField::CreatedAt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    #[test]
    fn an_item_is_as_far_as_its_last_step() {
        assert_eq!(FeedItemStatus::of(None, None), FeedItemStatus::Sent);
        assert_eq!(FeedItemStatus::of(Some(at(1)), None), FeedItemStatus::Delivered);
        assert_eq!(FeedItemStatus::of(Some(at(1)), Some(at(2))), FeedItemStatus::Read);
        assert_eq!(FeedItemStatus::of(None, Some(at(2))), FeedItemStatus::Read);
    }

    #[test]
    fn the_first_time_of_everything_is_kept() {
        let read = ItemState::SENT.delivered(at(1)).read(at(2));
        assert_eq!(
            (read.delivered_at, read.read_at, read.counted),
            (Some(at(1)), Some(at(2)), false)
        );
        assert_eq!(read.delivered(at(3)).read(at(3)), read);
        assert_eq!(ItemState::SENT.read(at(2)).delivered_at, Some(at(2)));
        let gone = read.interacted(at(4)).deleted(at(5));
        assert_eq!(gone.interacted(at(6)).deleted(at(6)), gone);
        assert_eq!(gone.status(), FeedItemStatus::Read);
        // What was swept unread is read later without being counted again.
        let swept = ItemState::SENT.expired();
        assert!(!swept.counted && swept.read_at.is_none() && !swept.read(at(7)).counted);
        assert_eq!(ItemState::SENT.interacted(at(1)).status(), FeedItemStatus::Sent);
    }

    #[test]
    fn a_topic_is_a_short_word() {
        for good in ["clicked", "a", "A_b-9", &"x".repeat(64)] {
            assert_eq!(good.parse::<Topic>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "é", "a.b", &"x".repeat(65)] {
            assert!(bad.parse::<Topic>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_item_is_kept_for_its_hours_and_for_good_at_zero() {
        assert_eq!(expires_at(at(5), 0), None);
        assert_eq!(expires_at(at(5), 2), Some(at(7_200_005)));
        assert_eq!(expires_at(Timestamp::MAX, 87_600), Some(Timestamp::MAX));
    }
}
