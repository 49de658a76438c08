//! Schedule: starts the campaigns whose time has come. Whether one may be sent is the domain's decision.

use std::time::Duration;

use super::Turn;
use crate::domain::{Service, campaign};
use crate::model::Timestamp;

/// Rest after a look that found nothing, or failed: how late a campaign starts at most while the service runs.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Starts a bounded number of campaigns.
pub async fn turn(service: &Service, now: Timestamp) -> Turn {
    match campaign::fire_due(service, now).await {
        Ok(0) => Turn::Rest,
        Ok(_) => Turn::Again,
        Err(fault) => {
            tracing::warn!(cause = %fault, "scheduled campaigns cannot be started, trying again after the rest");
            Turn::Failed
        }
    }
}
