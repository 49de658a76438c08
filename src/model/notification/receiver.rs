//! Receivers of a notification as callers see them. What is written down for them is not known here.

use serde::{Deserialize, Serialize};

use super::Reached;
use crate::model::delivery::Delivery;
use crate::model::page::{SortField, Sortable};
use crate::model::user::Uid;

/// One receiver and what became of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// Their uid.
    pub uid: Uid,
    /// Their number within the notification, from 1.
    pub position: u32,
    /// Whether the notification ended before it came to them.
    #[serde(default)]
    pub cancelled: bool,
    /// Whether something is still to come to them: a step of a sequence, or what a driver has not taken.
    #[serde(default)]
    pub waiting: bool,
    /// One delivery for each channel type that it has come to; none while they wait.
    pub deliveries: Vec<Delivery>,
}

impl Receiver {
    /// What became of them as a whole.
    #[must_use]
    pub fn status(&self) -> ReceiverStatus {
        let is_open = self.waiting || self.deliveries.is_empty();
        let reached = Reached::of(self.deliveries.iter().map(|delivery| &delivery.verdict));
        match (reached, self.cancelled, is_open) {
            (Reached::Sent, ..) => ReceiverStatus::Sent,
            (_, true, _) => ReceiverStatus::Cancelled,
            (_, false, true) => ReceiverStatus::Pending,
            (Reached::Failed, false, false) => ReceiverStatus::Failed,
            (Reached::Skipped, false, false) => ReceiverStatus::Skipped,
        }
    }
}

/// What became of a receiver as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverStatus {
    /// They wait.
    Pending,
    /// At least one delivery was accepted.
    Sent,
    /// None was accepted and at least one failed.
    Failed,
    /// Every one was suppressed.
    Skipped,
    /// The notification ended before it came to them.
    Cancelled,
}

/// The field that receivers are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverSort {
    /// The order in which they were first named.
    Position,
}

impl Sortable for ReceiverSort {
    fn field(self) -> SortField {
        match self {
            Self::Position => SortField::Position,
        }
    }
}
