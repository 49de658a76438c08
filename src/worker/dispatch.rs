//! Dispatch: does the pages of batches, one at a time, from wherever it was left. What a page's recipients get is the
//! domain's decision.

use std::time::Duration;

use tracing::Instrument as _;

use super::Turn;
use crate::domain::Service;
use crate::domain::dispatch::{self, LeasedPage, Step};
use crate::model::Timestamp;
use crate::telemetry::trace;

/// Rest after a look that found nothing, or failed, unless a hint comes sooner: how long a page of another process waits
/// for a worker of this one at most.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// Does one page that waits.
pub async fn turn(service: &Service, now: Timestamp) -> Turn {
    match dispatch::claim(service).await {
        Ok(Some(page)) => work(service, page, now).await,
        Ok(None) => Turn::Rest,
        Err(fault) => {
            tracing::warn!(cause = %fault, "no page can be claimed, trying again after the rest");
            Turn::Failed
        }
    }
}

/// Does a page step by step, each of which brings it nearer to its end. A worker that is told to stop gives it back.
async fn work(service: &Service, page: LeasedPage, now: Timestamp) -> Turn {
    let _held = dispatch::hold(service, &page);
    let origin = dispatch::origin(service, &page).await;
    // A trace of its own, linked to the call: a batch may be done long after it was answered, and by many workers.
    let span = tracing::info_span!(
        parent: None,
        "page",
        request.id = origin.request_id.as_deref(),
        notification.id = %page.key.notification,
        page.number = page.key.number,
        attempts = page.attempts,
    );
    if let Some(call) = &origin.trace_parent {
        trace::link(&span, call);
    }
    steps(service, page, now).instrument(span).await
}

async fn steps(service: &Service, page: LeasedPage, now: Timestamp) -> Turn {
    loop {
        match dispatch::advance(service, page, now).await {
            Ok(Step::More) if service.is_retired() => {
                if let Err(fault) = dispatch::give_back(service, page).await {
                    tracing::warn!(cause = %fault, "a page cannot be given back, its lease will end");
                }
                return Turn::Rest;
            }
            Ok(Step::More) => {}
            Ok(Step::Done | Step::Held) => return Turn::Again,
            Ok(Step::Stale) => {
                tracing::info!("a page was taken over by another worker");
                return Turn::Again;
            }
            Err(fault) => {
                tracing::warn!(
                    cause = %fault,
                    source = std::error::Error::source(&fault),
                    "a page failed and will be tried again"
                );
                if let Err(fault) = dispatch::fail(service, page, &fault, now).await {
                    tracing::warn!(cause = %fault, "a page cannot be put back, its lease will end");
                }
                return Turn::Again;
            }
        }
    }
}
