//! Outgoing: takes deliveries to the drivers of their channel types, where this process has any. What an outcome means is the
//! domain's decision.

use std::time::Duration;

use super::Turn;
use crate::domain::{Service, outgoing};
use crate::model::Timestamp;

/// Rest after a look that found nothing, or failed: how long a delivery waits for its driver at most.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// Takes a bounded number of deliveries to their drivers.
pub async fn turn(service: &Service, now: Timestamp) -> Turn {
    match outgoing::deliver(service, now).await {
        Ok(0) => Turn::Rest,
        Ok(_) => Turn::Again,
        Err(fault) => {
            tracing::warn!(cause = %fault, "deliveries cannot be taken to their driver, trying again after the rest");
            Turn::Failed
        }
    }
}
