//! Import: reads uploaded files into audiences, one at a time, from wherever it was left. What a row comes to is the
//! domain's decision.

use std::time::Duration;

use super::Turn;
use crate::domain::Service;
use crate::domain::campaign::import::{self, Importing, Step};
use crate::model::Timestamp;

/// Files that one process reads at once, so that a large one does not keep all others waiting.
pub const AT_ONCE: usize = 2;
/// Rest after a look that found nothing, or failed, unless a hint comes sooner: how long a file waits at most for another
/// process than the one that was asked.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Reads one file that waits.
pub async fn turn(service: &Service, now: Timestamp) -> Turn {
    match import::claim(service, now).await {
        Ok(Some(job)) => work(service, job).await,
        Ok(None) => Turn::Rest,
        Err(fault) => {
            tracing::warn!(cause = %fault, "no import can be claimed, trying again after the rest");
            Turn::Failed
        }
    }
}

/// Reads a file step by step, each of which brings it nearer to its end. A worker that is told to stop gives it back.
async fn work(service: &Service, mut job: Importing) -> Turn {
    loop {
        match import::advance(service, &mut job, service.clock().now()).await {
            Ok(Step::More) if service.is_retired() => {
                if let Err(fault) = import::give_back(service, &job).await {
                    tracing::warn!(cause = %fault, "an import cannot be given back, its lease will end");
                }
                return Turn::Rest;
            }
            Ok(Step::More) => {}
            Ok(Step::Done) => return Turn::Again,
            Ok(Step::Stale) => {
                tracing::info!(import.id = %job.id(), "an import was cancelled, or taken over by another worker");
                return Turn::Again;
            }
            Err(fault) => {
                tracing::warn!(
                    import.id = %job.id(),
                    attempts = job.attempts(),
                    cause = %fault,
                    source = std::error::Error::source(&fault),
                    "an import failed and will be tried again"
                );
                if let Err(fault) = import::fail(service, &job, &fault, service.clock().now()).await {
                    tracing::warn!(cause = %fault, "an import cannot be put back, its lease will end");
                }
                return Turn::Again;
            }
        }
    }
}
