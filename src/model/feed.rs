//! The feed inside an app: its items as their user sees them, and the rules of reading and expiry. Nothing here counts;
//! the unread count belongs to the head of a feed, which the store moves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::channel::JsonObject;
use super::id::{CategoryId, ChannelId, FeedItemId, NotificationId, TemplateId, TemplateVersionId, UserId};
use super::name::Name;
use super::page::{SortField, Sortable};
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
    /// Whether its feed's head counts it as unread.
    pub counted: bool,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// When it first proved to have reached the user.
    pub delivered_at: Option<Timestamp>,
    /// When it was first read.
    pub read_at: Option<Timestamp>,
    /// When it leaves the feed.
    pub expires_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl StoredItem {
    /// How far the user has come with it.
    #[must_use]
    pub const fn status(&self) -> FeedItemStatus {
        FeedItemStatus::of(self.delivered_at, self.read_at)
    }

    /// The same after it was read at `now`: the first instants stay, and what was read was delivered. `None` when it was
    /// read before.
    #[must_use]
    pub fn read(&self, now: Timestamp) -> Option<Self> {
        self.read_at.is_none().then(|| Self {
            read_at: Some(now),
            delivered_at: self.delivered_at.or(Some(now)),
            counted: false,
            ..self.clone()
        })
    }
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
    /// The rendered content, an object.
    pub content: JsonObject,
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
    fn an_item_is_kept_for_its_hours_and_for_good_at_zero() {
        assert_eq!(expires_at(at(5), 0), None);
        assert_eq!(expires_at(at(5), 2), Some(at(7_200_005)));
        assert_eq!(expires_at(Timestamp::MAX, 87_600), Some(Timestamp::MAX));
    }
}
