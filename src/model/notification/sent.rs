//! What a send came to: the answer to it, the notification and how far it has come. Nothing here plans or decides.

use serde::{Deserialize, Serialize};

use super::{Copied, Receiver, SendMode};
use crate::model::Timestamp;
use crate::model::channel::ChannelType;
use crate::model::delivery::Counts;
use crate::model::id::{CampaignId, NotificationId};
use crate::model::template::DataType;
use crate::model::template::course::Sequence;
use crate::model::word::words;

/// What a send answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The notification.
    pub notification_id: NotificationId,
    /// The channel types of the template.
    pub channels: Vec<ChannelType>,
    /// How it was sent.
    pub mode: SendMode,
    /// The distinct receivers.
    pub total: u32,
    /// How often a receiver was named again.
    pub duplicate_count: u32,
    /// What became of each receiver, in the order in which they were first named; none of a batch, which is done after
    /// the answer.
    pub receivers: Vec<Receiver>,
}

/// How far a notification has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationStatus {
    /// Receivers are still being dealt with.
    Dispatching,
    /// Every receiver was served or skipped.
    Completed,
    /// No receiver was served, and at least one failed.
    Failed,
    /// Some receivers were served, and some failed.
    PartiallyFailed,
    /// It is held.
    Paused,
    /// It was ended before every receiver was dealt with.
    Cancelled,
    /// One that a later build knows.
    Unknown(i16),
}

words!(NotificationStatus {
    Dispatching = 1 "dispatching",
    Completed = 2 "completed",
    Failed = 3 "failed",
    PartiallyFailed = 4 "partially_failed",
    Paused = 5 "paused",
    Cancelled = 6 "cancelled",
});

/// How far a notification has come, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The status.
    pub status: NotificationStatus,
    /// The distinct receivers.
    pub total: u32,
    /// Those that were dealt with, by what became of them.
    pub counts: Counts,
    /// When the last one was dealt with.
    pub completed_at: Option<Timestamp>,
}

impl NotificationStatus {
    /// Whether nothing changes any more, as far as this build can tell.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Dispatching | Self::Paused | Self::Unknown(_) => false,
            Self::Completed | Self::Failed | Self::PartiallyFailed | Self::Cancelled => true,
        }
    }

    /// The status once every receiver was dealt with.
    #[must_use]
    pub const fn of(counts: Counts) -> Self {
        match (counts.sent, counts.failed) {
            (_, 0) => Self::Completed,
            (0, _) => Self::Failed,
            (_, _) => Self::PartiallyFailed,
        }
    }
}

/// One send of one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Its id.
    pub id: NotificationId,
    /// What it says about its template.
    pub copied: Copied,
    /// The sender's own mark.
    pub tag: Option<String>,
    /// How it was sent.
    pub mode: SendMode,
    /// How far it has come.
    pub status: NotificationStatus,
    /// The channel types of the template.
    pub channels: Vec<ChannelType>,
    /// How they follow each other, unless all are served at once.
    pub sequence: Option<Sequence>,
    /// What the content is.
    pub data_type: DataType,
    /// The distinct receivers.
    pub total: u32,
    /// The receivers by what became of them.
    pub counts: Counts,
    /// How often a receiver was named again.
    pub duplicate_count: u32,
    /// What became of each receiver, in order; none when there are more than [`RECEIVERS_SHOWN_MAX`](super::RECEIVERS_SHOWN_MAX).
    pub receivers: Vec<Receiver>,
    /// When the last receiver was dealt with.
    pub completed_at: Option<Timestamp>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// The campaign that sent it.
    pub campaign_id: Option<CampaignId>,
}
