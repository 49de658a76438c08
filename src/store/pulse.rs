//! Whether PostgreSQL answers at all: over a connection of its own it asks, again and again. It never touches data.
//!
//! A server whose machine stands still, or whose network drops packets, closes no connection. Whoever waits for an answer
//! would wait for as long as a statement may take, and hold its place in the pool long after the server is back. So when the
//! pulse is lost, all that wait are told at once, nobody asks until it is found, and no connection from before is used again.

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::{PoolConnection, PoolConnectionMetadata};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor, PgPool, Postgres};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::{self, Fault};
use super::open::ACQUIRE_TIME_MAX;

/// How often it asks.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same after an answer that did not come.
const INTERVAL_MISSED: Duration = Duration::from_millis(250);
/// How long an answer may take, connecting included.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// Answers that have to be missing one after the other: a single one may be late on a machine that is busy.
const MISSED_MAX: u32 = 2;

/// The pulse of a server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pulse(Arc<Inner>);

struct Inner {
    state: watch::Sender<State>,
    tasks: TaskTracker,
}

#[derive(Clone)]
enum State {
    /// It answers; connections from before this moment are not trusted. The token is cancelled when the pulse is lost.
    Found { at: Instant, lost: CancellationToken },
    /// It has not answered since.
    Lost { at: Instant },
}

impl State {
    fn found() -> Self {
        let (at, lost) = (Instant::now(), CancellationToken::new());
        Self::Found { at, lost }
    }
}

impl Pulse {
    /// Takes the pulse until `stop` is cancelled.
    pub(super) fn start(options: PgConnectOptions, tracker: &TaskTracker, stop: CancellationToken) -> Self {
        let (state, tasks) = (watch::Sender::new(State::found()), tracker.clone());
        let pulse = Self(Arc::new(Inner { state, tasks }));
        let own = pulse.clone();
        tracker.spawn(async move {
            tokio::select! {
                () = own.take(&options) => {}
                () = stop.cancelled() => {}
            }
        });
        pulse
    }

    async fn take(&self, options: &PgConnectOptions) {
        let (mut conn, mut missed) = (None, 0);
        loop {
            match timeout(ANSWER_TIME_MAX, ask(&mut conn, options)).await {
                Ok(Ok(())) => {
                    missed = 0;
                    self.note_answer();
                }
                Ok(Err(_)) | Err(_) => {
                    (conn, missed) = (None, MISSED_MAX.min(missed + 1));
                    if missed == MISSED_MAX {
                        self.note_loss();
                    }
                }
            }
            sleep(if missed == 0 { INTERVAL } else { INTERVAL_MISSED }).await;
        }
    }

    fn note_answer(&self) {
        let State::Lost { at } = *self.0.state.borrow() else {
            return;
        };
        tracing::info!(
            away.ms = at.elapsed().as_secs_f64() * 1_000.0,
            "the database answers again"
        );
        self.0.state.send_replace(State::found());
    }

    fn note_loss(&self) {
        let State::Found { lost, .. } = self.0.state.borrow().clone() else {
            return;
        };
        tracing::error!("the database does not answer; calls are refused and background work rests until it does");
        self.0.state.send_replace(State::Lost { at: Instant::now() });
        lost.cancel();
    }

    /// Whether the server answered when it was last asked.
    pub(super) fn is_found(&self) -> bool {
        matches!(*self.0.state.borrow(), State::Found { .. })
    }

    /// Waits until the server answers.
    pub(super) async fn found(&self) {
        // Its sender lives as long as this value.
        drop(
            self.0
                .state
                .subscribe()
                .wait_for(|state| matches!(state, State::Found { .. }))
                .await,
        );
    }

    /// Does what needs an answer and nobody waits for; it is given up when there is none in time.
    pub(super) fn in_time(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(async move {
            drop(timeout(ANSWER_TIME_MAX, work).await);
        });
    }

    /// Whether a pooled connection is from before a loss.
    pub(super) fn is_too_old(&self, conn: &PoolConnectionMetadata) -> bool {
        match *self.0.state.borrow() {
            State::Found { at, .. } => conn.age > at.elapsed(),
            State::Lost { .. } => true,
        }
    }

    /// Waits for the server, unless the pulse is lost meanwhile.
    ///
    /// # Errors
    /// Those of the work; a broken connection when the pulse is lost.
    pub(super) async fn during<T>(&self, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
        let State::Found { lost, .. } = self.0.state.borrow().clone() else {
            return Err(error::away());
        };
        tokio::select! {
            biased;
            done = work => done,
            () = lost.cancelled() => Err(error::lost()),
        }
    }

    /// A connection of a pool. While the server is away it is waited for, so that a short absence is not noticed.
    ///
    /// # Errors
    /// Those of the pool; a broken connection when the server is still away after [`ACQUIRE_TIME_MAX`].
    pub(super) async fn acquire(&self, pool: &PgPool) -> sqlx::Result<PoolConnection<Postgres>> {
        let acquired = async {
            if !self.is_found() {
                self.found().await;
            }
            self.during(pool.acquire()).await
        };
        match timeout(ACQUIRE_TIME_MAX, acquired).await {
            Ok(acquired) => acquired,
            Err(_) if self.is_found() => Err(sqlx::Error::PoolTimedOut),
            Err(_) => Err(error::away()),
        }
    }
}

/// Asks once. A server that answers with a refusal is there.
async fn ask(conn: &mut Option<PgConnection>, options: &PgConnectOptions) -> sqlx::Result<()> {
    let asked = async {
        let conn = match conn {
            Some(conn) => conn,
            None => conn.insert(options.connect().await?),
        };
        conn.execute("SELECT 1").await.map(|_| ())
    };
    match asked.await {
        Err(error) if Fault::of(&error) == Fault::Lost => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
