//! How a notification is watched.

use crate::api::convert;
use crate::api::progress::Watched;
use crate::domain::{Acting, Service, notification};
use crate::model::Result;
use crate::model::id::NotificationId;
use crate::model::notification::Progress;
use crate::pb::v1;
use v1::watch_notification_response::Event;

/// A notification by its id.
pub(super) struct OfNotification(pub(super) NotificationId);

impl Watched for OfNotification {
    type Progress = Progress;
    type Event = v1::WatchNotificationResponse;

    async fn look(&self, service: &Service, acting: &Acting) -> Result<Progress> {
        notification::progress(service, acting, self.0).await
    }

    fn is_final(progress: Progress) -> bool {
        progress.status.is_final()
    }

    fn counts(progress: Progress) -> (u32, u32) {
        let settled = progress.counts.settled();
        (settled, progress.total.saturating_sub(settled))
    }

    fn event(progress: Progress, per_second: Option<u32>, remaining: Option<u32>) -> Self::Event {
        let (counts, (_, pending)) = (progress.counts, Self::counts(progress));
        let told = v1::NotificationProgress {
            status: progress.status.number().into(),
            total_targets: convert::count(progress.total),
            sent_count: convert::count(counts.sent),
            failed_count: convert::count(counts.failed),
            skipped_count: convert::count(counts.skipped),
            pending_count: convert::count(pending),
            per_second: per_second.map(convert::count),
            remaining_seconds: remaining.map(convert::count),
            completed_at: progress.completed_at.map(convert::timestamp),
        };
        response(Event::Progress(told), progress)
    }

    fn heartbeat(progress: Progress) -> Self::Event {
        response(Event::Heartbeat(v1::Heartbeat {}), progress)
    }
}

fn response(event: Event, progress: Progress) -> v1::WatchNotificationResponse {
    v1::WatchNotificationResponse {
        event: Some(event),
        cursor: progress.counts.settled().to_string(),
    }
}
