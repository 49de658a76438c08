//! Pace: when background work is done and when it rests. It decides nothing and knows no SQL: a duty's one step is
//! `turn(service, now) -> Turn` in a file of its own, and what happens in it is the domain's.

pub mod complete;
pub mod dispatch;
pub mod import;
pub mod outgoing;
pub mod schedule;
pub mod sequence;
pub mod sweep;

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::{self, Service, campaign};
use crate::model::retry::backoff;

/// Rest after the first failure of a worker: all workers of a process meet the same fault, and each tells of it.
const FAILED_REST: Duration = Duration::from_secs(2);
/// The longest rest of a worker whose steps fail one after the other.
const FAILED_REST_MAX: Duration = Duration::from_secs(8);

/// What a duty does after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There may be more to do at once.
    Again,
    /// There is nothing more to do now.
    Rest,
    /// It could not find out whether there is something to do.
    Failed,
}

/// Starts every background duty, and so many workers that do pages. Each ends when `stop` is cancelled: a worker, and
/// an import, after the step that it is in, the others in the middle of a step, which is one transaction and then did not
/// happen.
pub fn start(service: &Service, workers: usize, tasks: &TaskTracker, stop: &CancellationToken) {
    for _ in 0..workers {
        tasks.spawn(work(service.clone(), stop.clone()));
    }
    for _ in 0..import::AT_ONCE {
        tasks.spawn(import(service.clone(), stop.clone()));
    }
    if domain::outgoing::has_drivers(service) {
        tasks.spawn(deliver(service.clone(), stop.clone()));
    }
    let (service, stop) = (service.clone(), stop.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = sweep(&service) => {}
            () = complete(&service) => {}
            () = schedule(&service) => {}
            () = sequence(&service) => {}
        }
        service.retire();
    });
}

async fn work(service: Service, stop: CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let turn = dispatch::turn(&service, service.clock().now()).await;
        failures = if turn == Turn::Failed { failures + 1 } else { 0 };
        let rest = async {
            match turn {
                Turn::Again => tokio::task::yield_now().await,
                Turn::Rest => domain::dispatch::wait(&service, dispatch::INTERVAL).await,
                Turn::Failed => tokio::time::sleep(backoff(FAILED_REST, failures, FAILED_REST_MAX)).await,
            }
            // A database that is known to be away is waited for, instead of asking it again and again.
            service.reachable().await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = rest => {}
        }
    }
}

async fn import(service: Service, stop: CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let turn = import::turn(&service, service.clock().now()).await;
        failures = if turn == Turn::Failed { failures + 1 } else { 0 };
        let rest = async {
            match turn {
                Turn::Again => tokio::task::yield_now().await,
                Turn::Rest => campaign::import::wait(&service, import::INTERVAL).await,
                Turn::Failed => tokio::time::sleep(backoff(import::INTERVAL, failures, FAILED_REST_MAX)).await,
            }
            service.reachable().await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = rest => {}
        }
    }
}

async fn sweep(service: &Service) {
    loop {
        rest(
            service,
            sweep::turn(service, service.clock().now()).await,
            sweep::INTERVAL,
        )
        .await;
    }
}

async fn complete(service: &Service) {
    loop {
        rest(
            service,
            complete::turn(service, service.clock().now()).await,
            complete::INTERVAL,
        )
        .await;
    }
}

async fn schedule(service: &Service) {
    loop {
        rest(
            service,
            schedule::turn(service, service.clock().now()).await,
            schedule::INTERVAL,
        )
        .await;
    }
}

async fn sequence(service: &Service) {
    loop {
        rest(
            service,
            sequence::turn(service, service.clock().now()).await,
            sequence::INTERVAL,
        )
        .await;
    }
}

/// Never stops between a driver's answer and its record, or the message would leave once more.
async fn deliver(service: Service, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let turn = outgoing::turn(&service, service.clock().now()).await;
        tokio::select! {
            () = stop.cancelled() => {}
            () = rest(&service, turn, outgoing::INTERVAL) => {}
        }
    }
}

async fn rest(service: &Service, turn: Turn, interval: Duration) {
    match turn {
        Turn::Again => tokio::task::yield_now().await,
        Turn::Rest | Turn::Failed => tokio::time::sleep(interval).await,
    }
    service.reachable().await;
}
