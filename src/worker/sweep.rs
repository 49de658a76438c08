//! Sweep: removes what has expired, a bounded batch at a time. It never touches what somebody may still ask for.

use std::time::Duration;

use super::Turn;
use crate::domain::{Service, idempotency};
use crate::model::Timestamp;

/// Rows that one step removes: few enough that it is over in about the five milliseconds that SQLite's one writer
/// grants background work.
pub const BATCH_MAX: u64 = 200;
/// Rest after a batch that was not full, or that failed.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Removes one batch of idempotency keys that have expired.
pub async fn turn(service: &Service, now: Timestamp) -> Turn {
    match idempotency::sweep(service, now, BATCH_MAX).await {
        Ok(removed) if removed >= BATCH_MAX => Turn::Again,
        Ok(removed) => {
            tracing::debug!(removed, "expired idempotency keys are swept");
            Turn::Rest
        }
        Err(fault) => {
            tracing::warn!(cause = %fault, "expired idempotency keys cannot be swept, trying again after the rest");
            Turn::Rest
        }
    }
}
