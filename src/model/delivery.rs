//! Deliveries: one receiver's part of a notification on one channel, and how far it has come. Nothing here knows a
//! provider or how a line of the ledger is written.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::channel::ChannelType;
use super::id::{ChannelId, FeedItemId};
use super::word::words;

/// Why a delivery failed or was suppressed: a word of an open vocabulary, because later builds know more of them than the
/// one that reads a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryReason(Cow<'static, str>);

impl DeliveryReason {
    /// No such user exists, and none may be created.
    pub const UNKNOWN_USER: Self = Self(Cow::Borrowed("unknown_user"));
    /// The user is deactivated.
    pub const USER_DEACTIVATED: Self = Self(Cow::Borrowed("user_deactivated"));
    /// The channel is switched off.
    pub const CHANNEL_DISABLED: Self = Self(Cow::Borrowed("channel_disabled"));
    /// The app has no channel of the type.
    pub const CHANNEL_MISSING: Self = Self(Cow::Borrowed("channel_missing"));
    /// Nothing in this installation can send on the type.
    pub const PROVIDER_NOT_CONFIGURED: Self = Self(Cow::Borrowed("provider_not_configured"));
    /// The variables are missing, of the wrong type, or break the content.
    pub const INVALID_VARIABLES: Self = Self(Cow::Borrowed("invalid_variables"));
    /// An earlier step of the sequence had met its condition in time.
    pub const SEQUENCE_STOPPED: Self = Self(Cow::Borrowed("sequence_stopped"));
    /// The provider refused it for good.
    pub const PROVIDER_REFUSED: Self = Self(Cow::Borrowed("provider_refused"));
    /// The provider did not take it, however often it was asked.
    pub const PROVIDER_UNAVAILABLE: Self = Self(Cow::Borrowed("provider_unavailable"));
    /// The notification was ended before it could leave.
    pub const CANCELLED: Self = Self(Cow::Borrowed("cancelled"));
    /// It could not be written down, however often it was tried.
    pub const INTERNAL_ERROR: Self = Self(Cow::Borrowed("internal_error"));

    /// A reason as a row holds it.
    #[must_use]
    pub fn stored(word: String) -> Self {
        Self(Cow::Owned(word))
    }

    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeliveryReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryStatus {
    /// It has reached its channel: in-app, the item is in the feed.
    Accepted,
    /// It could not be delivered. Final.
    Failed,
    /// It was not attempted. Final.
    Suppressed,
    /// It waits for its channel's driver to take it.
    Queued,
    /// One that a later build knows.
    Unknown(i16),
}

words!(DeliveryStatus {
    Accepted = 1 "accepted",
    Failed = 2 "failed",
    Suppressed = 3 "suppressed",
    Queued = 4 "queued",
});

/// What became of a delivery, or what is to become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The status.
    pub status: DeliveryStatus,
    /// Why, unless it was accepted.
    pub reason: Option<DeliveryReason>,
}

impl Verdict {
    /// It reaches its channel.
    pub const ACCEPTED: Self = Self {
        status: DeliveryStatus::Accepted,
        reason: None,
    };

    /// A driver is to take it.
    pub const QUEUED: Self = Self {
        status: DeliveryStatus::Queued,
        reason: None,
    };

    /// It cannot be delivered.
    #[must_use]
    pub const fn failed(reason: DeliveryReason) -> Self {
        Self {
            status: DeliveryStatus::Failed,
            reason: Some(reason),
        }
    }

    /// It is not attempted.
    #[must_use]
    pub const fn suppressed(reason: DeliveryReason) -> Self {
        Self {
            status: DeliveryStatus::Suppressed,
            reason: Some(reason),
        }
    }
}

/// One receiver's part of a notification on one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The channel type.
    pub channel_type: ChannelType,
    /// The channel that it went through; absent when there was none.
    pub channel_id: Option<ChannelId>,
    /// What became of it.
    pub verdict: Verdict,
    /// The feed item that it put into the receiver's feed.
    pub feed_item_id: Option<FeedItemId>,
    /// How often it was handed to a driver; absent when it never was for one.
    #[serde(default)]
    pub attempts: Option<u32>,
    /// When its line of the ledger was written; absent when there is none, and in answers that an earlier build has kept.
    #[serde(default)]
    pub created_at: Option<Timestamp>,
    /// When its status last changed; absent as `created_at` is.
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
}

/// What became of a receiver as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// At least one delivery was accepted.
    Sent,
    /// None was accepted and at least one failed.
    Failed,
    /// Every one was suppressed.
    Skipped,
}

impl Reached {
    /// What a receiver's deliveries come to.
    pub fn of<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Self {
        verdicts
            .into_iter()
            .fold(Self::Skipped, |so_far, verdict| match (so_far, verdict.status) {
                (Self::Sent, _) | (_, DeliveryStatus::Accepted) => Self::Sent,
                (Self::Failed, _) | (_, DeliveryStatus::Failed) => Self::Failed,
                (Self::Skipped, DeliveryStatus::Suppressed | DeliveryStatus::Queued | DeliveryStatus::Unknown(_)) => {
                    Self::Skipped
                }
            })
    }
}

/// Receivers by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Those with an accepted delivery.
    pub sent: u32,
    /// Those with none accepted and at least one failed.
    pub failed: u32,
    /// Those whose every delivery was suppressed.
    pub skipped: u32,
}

impl Counts {
    /// All receivers that were dealt with.
    #[must_use]
    pub const fn settled(&self) -> u32 {
        self.sent.saturating_add(self.failed).saturating_add(self.skipped)
    }

    /// These and others together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent.saturating_add(other.sent),
            failed: self.failed.saturating_add(other.failed),
            skipped: self.skipped.saturating_add(other.skipped),
        }
    }

    /// Counts one more receiver.
    pub fn add(&mut self, reached: Reached) {
        let count = match reached {
            Reached::Sent => &mut self.sent,
            Reached::Failed => &mut self.failed,
            Reached::Skipped => &mut self.skipped,
        };
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_accepted_delivery_makes_a_receiver_sent_and_one_failed_makes_the_rest_failed() {
        let failed = Verdict::failed(DeliveryReason::PROVIDER_NOT_CONFIGURED);
        let skipped = Verdict::suppressed(DeliveryReason::CHANNEL_DISABLED);
        let of = |verdicts: &[&Verdict]| Reached::of(verdicts.iter().copied());
        assert_eq!(of(&[&failed, &Verdict::ACCEPTED, &skipped]), Reached::Sent);
        assert_eq!(of(&[&Verdict::ACCEPTED, &failed]), Reached::Sent);
        assert_eq!(of(&[&skipped, &failed, &skipped]), Reached::Failed);
        assert_eq!(of(&[&skipped, &skipped]), Reached::Skipped);
    }

    #[test]
    fn a_delivery_that_an_earlier_build_has_kept_is_read() {
        let delivery = Delivery {
            channel_type: ChannelType::InApp,
            channel_id: None,
            verdict: Verdict::ACCEPTED,
            feed_item_id: None,
            attempts: None,
            created_at: None,
            updated_at: None,
        };
        let mut kept = serde_json::to_value(&delivery).unwrap();
        for field in ["attempts", "created_at", "updated_at"] {
            assert!(kept.as_object_mut().unwrap().remove(field).is_some());
        }
        assert_eq!(serde_json::from_value::<Delivery>(kept).unwrap(), delivery);
    }

    #[test]
    fn a_reason_that_this_build_does_not_know_survives() {
        let stored = DeliveryReason::stored("quota_used_up".to_owned());
        let json = serde_json::to_string(&stored).unwrap();
        assert_eq!(json, r#""quota_used_up""#);
        assert_eq!(serde_json::from_str::<DeliveryReason>(&json).unwrap(), stored);
    }
}
