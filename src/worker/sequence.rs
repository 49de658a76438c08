//! Sequence: cuts the pages of the steps whose time has come. Who gets a step is the domain's decision.

use std::time::Duration;

use super::Turn;
use crate::domain::{Service, sequence};
use crate::model::Timestamp;

/// Rest after a look that found nothing, or failed: how late a step begins at most while the service runs.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Cuts the pages of a bounded number of notifications.
pub async fn turn(service: &Service, now: Timestamp) -> Turn {
    match sequence::cut_due(service, now).await {
        Ok(0) => Turn::Rest,
        Ok(_) => Turn::Again,
        Err(fault) => {
            tracing::warn!(cause = %fault, "steps of sequences cannot be begun, trying again after the rest");
            Turn::Failed
        }
    }
}
