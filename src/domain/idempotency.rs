//! What becomes of idempotency keys after their time. Taking them is part of each write, not of this.

use super::Service;
use crate::model::{Result, Timestamp};

/// Removes at most `limit` keys that have expired at `now`, of all apps, and says how many.
///
/// # Errors
/// Those of the database.
pub async fn sweep(service: &Service, now: Timestamp, limit: u64) -> Result<u64> {
    service.store.sweep_idempotency_keys(now, limit).await
}
