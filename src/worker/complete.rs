//! Complete: makes notifications and campaigns final whose pages are all done, where whoever did the last one did not come
//! to it, and lanes what their notifications are. It never looks at a recipient.

use std::time::Duration;

use super::Turn;
use crate::domain::{Service, dispatch};
use crate::model::Timestamp;

/// Rest after a look that found nothing, or failed.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Completes a bounded number of notifications.
pub async fn turn(service: &Service, now: Timestamp) -> Turn {
    let more = match dispatch::mend_lanes(service, now).await {
        Ok(more) => more,
        Err(fault) => {
            tracing::warn!(cause = %fault, "lanes cannot be mended, trying again after the rest");
            return Turn::Failed;
        }
    };
    match dispatch::complete(service, None, now).await {
        // Lanes of what is over are in the way of every claim, so they do not pile up.
        Ok(0) if !more => Turn::Rest,
        Ok(_) => Turn::Again,
        Err(fault) => {
            tracing::warn!(cause = %fault, "notifications cannot be completed, trying again after the rest");
            Turn::Failed
        }
    }
}
