//! Pace: when background work is done and when it rests. It decides nothing and knows no SQL: a duty's one step is
//! `turn(service, now) -> Turn` in a file of its own, and what happens in it is the domain's.

pub mod sweep;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::Service;

/// What a duty does after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There may be more to do at once.
    Again,
    /// There is nothing more to do now, or nothing that would succeed.
    Rest,
}

/// Starts every background duty. Each ends when `stop` is cancelled, also in the middle of a step: a step is one
/// transaction, which then did not happen.
pub fn start(service: &Service, tasks: &TaskTracker, stop: &CancellationToken) {
    let (service, stop) = (service.clone(), stop.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = sweep(&service) => {}
        }
    });
}

async fn sweep(service: &Service) {
    loop {
        match sweep::turn(service, service.clock().now()).await {
            Turn::Again => tokio::task::yield_now().await,
            Turn::Rest => tokio::time::sleep(sweep::INTERVAL).await,
        }
    }
}
