//! Writing to PostgreSQL: a transaction per closure, run again when transactions stand in each other's way. It never
//! guesses what became of a COMMIT whose answer was lost: it asks the server.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use futures::future::BoxFuture;
use sea_orm::{ConnectionTrait, DatabaseBackend, Statement};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, PgPool};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::{Failure, Fault};
use super::link::{Link, PgLink};
use super::measure::Measures;
use super::pulse::Pulse;
use super::share::{Calls, Turn, Turns};
use super::tx::{TimeMax, Tx};
use super::work::{self, Effort};
use crate::model::{Error, Result};

/// Times that a closure is run before its caller is told to come back.
const ATTEMPTS_MAX: u32 = 5;
/// What the first repetition waits; each further one twice as long, each at random between half and all of it.
const BACKOFF: Duration = Duration::from_millis(10);
/// All attempts together, COMMIT excluded.
const WORK_TIME_MAX: Duration = Duration::from_secs(15);
/// The same for a closure that does the work of several callers: less, because each of them is tried alone afterwards.
const GROUP_ATTEMPTS_MAX: u32 = 2;
const GROUP_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a COMMIT may take before its connection counts as lost.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a lost COMMIT is looked for, and how often.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(8);
const SETTLE_INTERVAL: Duration = Duration::from_millis(100);
/// How long one answer to that may take, connecting included, so that a server which is back is not missed.
const SETTLE_ANSWER_MAX: Duration = Duration::from_secs(1);
/// How long background work waits for its turn.
const TURN_TIME_MAX: Duration = Duration::from_secs(15);

/// The pool to write through, and how to connect beside it.
pub(super) struct PostgresWriter {
    pub(super) pool: PgPool,
    pub(super) pulse: Pulse,
    options: PgConnectOptions,
    measures: Measures,
    background: Turns,
}

impl Effort {
    /// The number of attempts, and the time of all of them together.
    const fn bounds(self) -> (u32, Duration) {
        match self {
            Self::Request | Self::Background => (ATTEMPTS_MAX, WORK_TIME_MAX),
            Self::Group(_) => (GROUP_ATTEMPTS_MAX, GROUP_TIME_MAX),
        }
    }
}

enum Attempt<T> {
    Committed(T),
    Refused(Error),
    Again(Fault),
    /// COMMIT was sent and its answer never came.
    Lost(T, String),
}

enum Outcome {
    Committed,
    Aborted,
    Unknown,
}

impl PostgresWriter {
    pub(super) fn new(
        (pool, options): (PgPool, PgConnectOptions),
        pulse: Pulse,
        (measures, calls): (Measures, Calls),
    ) -> Self {
        Self {
            background: Turns::new(calls, connections(&pool)),
            pool,
            pulse,
            options,
            measures,
        }
    }

    /// Connections at most.
    pub(super) fn connections(&self) -> usize {
        connections(&self.pool)
    }

    pub(super) async fn write<T, F>(&self, effort: Effort, work: F) -> Result<T, Failure>
    where
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
        T: Send + 'static,
    {
        let (attempts_max, time_max) = effort.bounds();
        let _turn = match effort {
            Effort::Background => Some(self.background_turn().await?),
            Effort::Request | Effort::Group(_) => None,
        };
        let deadline = Instant::now() + time_max;
        let mut fault = Fault::Lost;
        for attempt in 0..attempts_max {
            if attempt > 0 {
                self.measures.rerun(fault, effort.writes());
                sleep(backoff(attempt)).await;
            }
            fault = match self.attempt(&work, effort, deadline).await {
                Attempt::Committed(value) => return Ok(value),
                Attempt::Refused(error) => return Err(Failure::Refused(error)),
                Attempt::Again(fault @ (Fault::Away | Fault::Busy | Fault::Slow | Fault::Denied)) => {
                    return Err(Failure::Fault(fault));
                }
                Attempt::Again(fault) => fault,
                Attempt::Lost(value, xid) => match self.settle(&xid).await {
                    Outcome::Committed => return Ok(value),
                    Outcome::Aborted => Fault::Lost,
                    Outcome::Unknown => return Err(Failure::Unknown),
                },
            };
        }
        Err(Failure::Fault(fault))
    }

    async fn background_turn(&self) -> Result<Turn<'_>, Failure> {
        let began = Instant::now();
        let turn = timeout(TURN_TIME_MAX, self.background.take()).await;
        self.measures.turned(began.elapsed());
        match turn {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) => Err(Failure::Closed),
            Err(_) => Err(Failure::Fault(Fault::Busy)),
        }
    }

    /// What bounds the time of a closure.
    fn time_max(&self, effort: Effort) -> Option<TimeMax> {
        match effort {
            Effort::Background => Some(TimeMax::Sharing(self.background.calls().clone())),
            Effort::Request | Effort::Group(_) => None,
        }
    }

    async fn attempt<T, F>(&self, work: &F, effort: Effort, deadline: Instant) -> Attempt<T>
    where
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
    {
        let worked = async {
            let mut tx = self.begin().await?;
            tx.start(self.time_max(effort));
            let result = work::run(work, &tx).await;
            if let Some(fault @ (Fault::Conflict | Fault::Lost | Fault::Away)) = tx.fault() {
                rollback(&mut tx).await;
                return Err(fault);
            }
            if result.is_ok() {
                note_xid(&tx).await?;
            }
            Ok((tx, result))
        };
        let (mut tx, value) = match timeout_at(deadline, worked).await {
            Ok(Ok((tx, Ok(value)))) => (tx, value),
            Ok(Ok((mut tx, Err(error)))) => {
                rollback(&mut tx).await;
                return Attempt::Refused(error);
            }
            Ok(Err(fault)) => return Attempt::Again(fault),
            Err(_) if self.pulse.is_found() => return Attempt::Again(Fault::Slow),
            Err(_) => return Attempt::Again(Fault::Away),
        };
        let began = Instant::now();
        let committed = timeout(COMMIT_TIME_MAX, tx.link().execute_unprepared("COMMIT")).await;
        self.measures.committed(began.elapsed(), effort.writes());
        let fault = match committed {
            Ok(Ok(_)) => {
                rest(&mut tx);
                return Attempt::Committed(value);
            }
            Ok(Err(error)) => Fault::of(&error),
            Err(_) => Fault::Lost,
        };
        match (fault, tx.xid()) {
            (Fault::Lost | Fault::Slow, Some(xid)) => Attempt::Lost(value, xid),
            // A transaction without a number has written nothing, so whether it committed makes no difference.
            (Fault::Lost | Fault::Slow, None) => Attempt::Committed(value),
            (Fault::Conflict, _) => Attempt::Again(fault),
            (fault, _) => Attempt::Refused(fault.error()),
        }
    }

    async fn begin(&self) -> Result<Tx, Fault> {
        let fault = |error: sqlx::Error| Fault::of(&error);
        let mut link = Link::Postgres(PgLink::acquire(&self.pool, &self.pulse).await.map_err(fault)?);
        link.execute_unprepared("BEGIN").await.map_err(fault)?;
        Ok(Tx::new(link))
    }

    /// Asks on a new connection what became of a transaction, until the server knows.
    async fn settle(&self, xid: &str) -> Outcome {
        let asked = async {
            loop {
                let status = timeout(SETTLE_ANSWER_MAX, self.status(xid)).await;
                match status.as_ref().map(|status| status.as_deref()) {
                    Ok(Ok("committed")) => return Outcome::Committed,
                    Ok(Ok("aborted")) => return Outcome::Aborted,
                    // "in progress": the server has not noticed yet that its client is gone. An error: it is not back.
                    Ok(Ok("in progress") | Err(_)) | Err(_) => sleep(SETTLE_INTERVAL).await,
                    Ok(Ok(_)) => return Outcome::Unknown,
                }
            }
        };
        timeout(SETTLE_TIME_MAX, asked).await.unwrap_or(Outcome::Unknown)
    }

    async fn status(&self, xid: &str) -> sqlx::Result<String> {
        let mut conn: PgConnection = self.options.connect().await?;
        let status: Option<String> = sqlx::query_scalar("SELECT pg_xact_status($1::xid8)")
            .bind(xid)
            .fetch_one(&mut conn)
            .await?;
        Ok(status.unwrap_or_default())
    }
}

fn connections(pool: &PgPool) -> usize {
    usize::try_from(pool.options().get_max_connections()).unwrap_or(1)
}

async fn note_xid(tx: &Tx) -> Result<(), Fault> {
    if tx.xid().is_some() {
        return Ok(());
    }
    let statement = Statement::from_string(
        DatabaseBackend::Postgres,
        "SELECT pg_current_xact_id_if_assigned()::text AS xid",
    );
    let row = tx.query_one_raw(statement).await;
    let row = row.map_err(|_noted_by_tx| tx.fault().unwrap_or(Fault::Lost))?;
    if let Some(xid) = row.and_then(|row| row.try_get::<Option<String>>("", "xid").ok().flatten()) {
        tx.note_xid(xid);
    }
    Ok(())
}

/// Ends the transaction; a connection that cannot even do that is closed when it is dropped.
async fn rollback(tx: &mut Tx) {
    if timeout(COMMIT_TIME_MAX, tx.link().execute_unprepared("ROLLBACK"))
        .await
        .is_ok_and(|done| done.is_ok())
    {
        rest(tx);
    }
}

fn rest(tx: &mut Tx) {
    if let Link::Postgres(link) = tx.link() {
        link.at_rest = true;
    }
}

/// Grows by twos and spreads by chance, so that two that met do not meet again.
fn backoff(attempt: u32) -> Duration {
    let whole = BACKOFF * 2_u32.pow(attempt.saturating_sub(1));
    let chance = RandomState::new().build_hasher().finish() % 512;
    whole / 2 + whole * u32::try_from(chance).unwrap_or_default() / 1_024
}
