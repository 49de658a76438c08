//! Sweep: notices what has expired and removes what is old, a bounded batch of each kind at a time. It never touches what
//! somebody may still ask for.

use std::time::Duration;

use super::Turn;
use crate::domain::{Service, campaign, feed, idempotency, retention};
use crate::model::{Result, Timestamp};

/// Rows that one step changes or removes: few enough that it is over in about the five milliseconds that SQLite's one
/// writer grants background work.
pub const BATCH_MAX: u64 = 200;
/// Rest after a step that found no full batch of anything, or that failed.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Does one batch of each duty. A duty that fails leaves the others to be done, and is tried again after the rest.
pub async fn turn(service: &Service, now: Timestamp) -> Turn {
    let keys = idempotency::sweep(service, now, BATCH_MAX).await;
    let expired = feed::sweep_expired(service, now, BATCH_MAX).await;
    let items = retention::purge_feed_items(service, now, BATCH_MAX).await;
    let users = retention::purge_deleted_users(service, now, BATCH_MAX).await;
    let notifications = retention::purge_notifications(service, now, BATCH_MAX).await;
    let unsent = retention::purge_unsent(service, now, BATCH_MAX).await;
    let campaigns = campaign::purge(service, BATCH_MAX).await;
    let files = campaign::import::sweep_files(service, now).await;
    noted(service, "old uploads", &files);
    let again = [
        noted(service, "expired idempotency keys", &keys).is_some_and(|swept| swept >= BATCH_MAX),
        noted(service, "expired feed items", &expired).is_some(),
        // A step takes those of one app or one user, so a small one does not mean that it was the last.
        noted(service, "old feed items", &items).is_some(),
        noted(service, "feeds of deleted users", &users).is_some(),
        noted(service, "old notifications", &notifications).is_some(),
        noted(service, "recipients of campaigns that were never sent", &unsent).is_some(),
        noted(service, "deleted campaigns", &campaigns).is_some(),
    ];
    if again.contains(&true) { Turn::Again } else { Turn::Rest }
}

/// How many rows a duty has swept, if any.
fn noted(service: &Service, what: &'static str, swept: &Result<u64>) -> Option<u64> {
    match swept {
        Ok(0) => None,
        Ok(swept) => {
            tracing::debug!(what, swept, "swept");
            service.count_swept(what, *swept);
            Some(*swept)
        }
        Err(fault) => {
            tracing::warn!(
                what,
                cause = %fault,
                source = std::error::Error::source(fault),
                "cannot be swept, trying again after the rest"
            );
            None
        }
    }
}
