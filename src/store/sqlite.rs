//! Writing to SQLite: one task, one connection, many closures per COMMIT. It never answers a closure before the COMMIT that
//! makes its effect durable.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::{Failure, Fault};
use super::link::Link;
use super::measure::Measures;
use super::tx::{TimeMax, Tx};
use super::work::{Effort, Job, Waiting};
use crate::model::Result;

/// Requests' writes that may wait; more are refused at once, so a slow disk cannot fill the memory.
const API_QUEUE_MAX: usize = 1_024;
/// Background writes that may wait: as many as the most workers, imports and duties have at once. They keep the rest in the
/// database.
const BACKGROUND_QUEUE_MAX: usize = 32;
/// Closures that share one COMMIT, and the time after which no further one of a request joins.
const GROUP_MAX: usize = 128;
const GROUP_TIME_MAX: Duration = Duration::from_millis(10);
/// How long a background closure may hold up the requests behind it, and the time after which no further one joins those
/// that share a COMMIT. One that a request waits for is the last.
const BACKGROUND_TIME_MAX: Duration = Duration::from_millis(8);
const BACKGROUND_GROUP_TIME_MAX: Duration = Duration::from_millis(4);
/// Groups of requests after which one background closure goes first, so that a flood of requests cannot stop the workers.
const API_GROUPS_IN_A_ROW_MAX: u32 = 8;
/// How long a write waits for another process that writes to the same file.
const BUSY_TIME_MAX: Duration = Duration::from_secs(5);
/// The time between two looks whether the file is free: this and up to four times as much more, by chance. SQLite itself
/// would look every tenth of a second in the end, and a process that writes all the time leaves gaps so short that it
/// would never find one.
const BUSY_INTERVAL: Duration = Duration::from_micros(500);

type Queue = mpsc::Sender<Box<dyn Job>>;

/// The way to the writer task.
pub(super) struct SqliteWriter {
    api: Queue,
    background: Queue,
}

impl SqliteWriter {
    pub(super) async fn start(
        options: SqliteConnectOptions,
        (tracker, measures): (&TaskTracker, Measures),
        stop: CancellationToken,
    ) -> sqlx::Result<Self> {
        // The writer waits by itself: see `patiently`.
        let options = options.busy_timeout(Duration::ZERO);
        let is_busy = |error: &sqlx::Error| Fault::of(error) == Fault::Conflict;
        let link = patiently(BUSY_TIME_MAX, is_busy, || open(&options)).await?;
        let (api, api_jobs) = mpsc::channel(API_QUEUE_MAX);
        let (background, background_jobs) = mpsc::channel(BACKGROUND_QUEUE_MAX);
        let task = Task {
            options,
            tx: Tx::new(link),
            broken: false,
            measures,
            api: api_jobs,
            background: background_jobs,
            in_a_row: 0,
        };
        tracker.spawn(task.serve(stop));
        Ok(Self { api, background })
    }

    pub(super) async fn write<T, F>(&self, effort: Effort, work: F) -> Result<T, Failure>
    where
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
        T: Send + 'static,
    {
        let (job, answer) = Waiting::new(effort, work);
        let queue = match effort {
            Effort::Background => &self.background,
            Effort::Request | Effort::Group(_) => &self.api,
        };
        queue.try_send(Box::new(job)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::Full,
            mpsc::error::TrySendError::Closed(_) => Failure::Closed,
        })?;
        // The writer task answers every job that it takes, so a closed channel means that it ended before it took this one.
        answer.await.unwrap_or(Err(Failure::Closed))
    }
}

fn writes(group: &[Box<dyn Job>]) -> usize {
    group.iter().map(|job| job.writes()).sum()
}

/// Tries something again and again while another process has the file, for at most so long.
pub(super) async fn patiently<T, E, F>(
    at_most: Duration,
    is_busy: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let until = Instant::now() + at_most;
    loop {
        match attempt().await {
            Err(error) if is_busy(&error) && Instant::now() < until => tokio::time::sleep(busy_pause()).await,
            outcome => return outcome,
        }
    }
}

fn busy_pause() -> Duration {
    let chance = RandomState::new().build_hasher().finish() % 4_096;
    BUSY_INTERVAL + BUSY_INTERVAL * u32::try_from(chance).unwrap_or_default() / 1_024
}

async fn open(options: &SqliteConnectOptions) -> sqlx::Result<Link> {
    let conn: SqliteConnection = options.connect().await?;
    Ok(Link::Sqlite(Box::new(conn)))
}

/// Whether a COMMIT that failed so may have reached the log all the same, and come to life when the file is next opened.
fn in_doubt(fault: Fault) -> bool {
    fault != Fault::Full
}

fn refusal(fault: Fault, in_doubt: bool) -> Failure {
    if in_doubt {
        Failure::Unknown
    } else {
        Failure::Fault(fault)
    }
}

/// For whom the closures of one COMMIT work.
#[derive(Clone, Copy)]
enum Kind {
    Api,
    Background,
}

impl Kind {
    /// The time after which a closure should finish with what it has done.
    const fn budget(self) -> Option<Duration> {
        match self {
            Self::Api => None,
            Self::Background => Some(BACKGROUND_TIME_MAX),
        }
    }

    const fn group_time_max(self) -> Duration {
        match self {
            Self::Api => GROUP_TIME_MAX,
            Self::Background => BACKGROUND_GROUP_TIME_MAX,
        }
    }
}

struct Task {
    options: SqliteConnectOptions,
    tx: Tx,
    /// Whether the connection must be replaced before it is used again.
    broken: bool,
    measures: Measures,
    api: mpsc::Receiver<Box<dyn Job>>,
    background: mpsc::Receiver<Box<dyn Job>>,
    in_a_row: u32,
}

impl Task {
    async fn serve(mut self, stop: CancellationToken) {
        let mut stopping = false;
        loop {
            if self.in_a_row >= API_GROUPS_IN_A_ROW_MAX {
                self.in_a_row = 0;
                if let Ok(job) = self.background.try_recv() {
                    self.background_group(job).await;
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {
                    // What waits is still done; nothing new is let in.
                    stopping = true;
                    self.api.close();
                    self.background.close();
                }
                Some(job) = self.api.recv() => self.api_group(job).await,
                Some(job) = self.background.recv() => self.background_group(job).await,
                else => break,
            }
        }
        if let Link::Sqlite(conn) = self.tx.into_link() {
            // Closing writes the log back into the file; a failure leaves it to the next start.
            drop(conn.close().await);
        }
    }

    async fn background_group(&mut self, first: Box<dyn Job>) {
        self.in_a_row = 0;
        self.group(first, Kind::Background).await;
    }

    async fn api_group(&mut self, first: Box<dyn Job>) {
        self.in_a_row += 1;
        self.group(first, Kind::Api).await;
    }

    async fn group(&mut self, first: Box<dyn Job>, kind: Kind) {
        if let Err(fault) = self.begin().await {
            first.refuse(Failure::Fault(fault));
            return self.refuse_waiting(fault);
        }
        let started = Instant::now();
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(mut job) = next.take() {
            if !job.is_abandoned() {
                let alive = self.run(job.as_mut(), kind.budget()).await;
                group.push(job);
                if !alive {
                    return self.run_again(group, kind, None).await;
                }
            }
            if group.len() < GROUP_MAX && started.elapsed() < kind.group_time_max() {
                next = self.next(kind);
            }
        }
        match self.commit(writes(&group)).await {
            Ok(()) => group.into_iter().for_each(Job::answer),
            Err(fault) => self.run_again(group, kind, Some(fault)).await,
        }
    }

    /// The next closure that may share a COMMIT with such ones.
    fn next(&mut self, kind: Kind) -> Option<Box<dyn Job>> {
        match kind {
            Kind::Api => self.api.try_recv().ok(),
            Kind::Background if self.api.is_empty() => self.background.try_recv().ok(),
            Kind::Background => None,
        }
    }

    /// What keeps one from beginning, such as another process that holds the file, keeps all that wait: each would take as
    /// long to find out, one after the other.
    fn refuse_waiting(&mut self, fault: Fault) {
        for queue in [&mut self.api, &mut self.background] {
            for _ in 0..queue.len() {
                if let Ok(job) = queue.try_recv() {
                    job.refuse(Failure::Fault(fault));
                }
            }
        }
    }

    /// The transaction that these shared is gone, so none of them has happened. Each gets one of its own: whichever ended
    /// the first fails alone. After a COMMIT that failed so, none of those that cannot be run again is told that nothing
    /// was changed: see [`in_doubt`].
    async fn run_again(&mut self, group: Vec<Box<dyn Job>>, kind: Kind, committed: Option<Fault>) {
        self.broken = true;
        self.measures.rerun(committed.unwrap_or(Fault::Dead), writes(&group));
        let (in_doubt, mut stuck) = (committed.is_some_and(in_doubt), None);
        for job in group {
            match stuck {
                None => stuck = self.alone(job, kind.budget(), in_doubt).await.err(),
                Some(fault) => job.refuse(refusal(fault, in_doubt)),
            }
        }
        if let Some(fault) = stuck {
            self.refuse_waiting(fault);
        }
    }

    /// Runs one closure in a transaction of its own; `doubted` if nobody knows what became of an earlier COMMIT of it.
    ///
    /// # Errors
    /// When not even a transaction can be begun; the job is refused then.
    async fn alone(&mut self, mut job: Box<dyn Job>, budget: Option<Duration>, doubted: bool) -> Result<(), Fault> {
        if let Err(fault) = self.begin().await {
            job.refuse(refusal(fault, doubted));
            return Err(fault);
        }
        if !self.run(job.as_mut(), budget).await {
            self.broken = true;
            let fault = self.tx.fault().filter(|fault| *fault == Fault::Full);
            let fault = fault.unwrap_or(Fault::Dead);
            job.refuse(refusal(fault, doubted));
            return Ok(());
        }
        match self.commit(job.writes()).await {
            Ok(()) => job.answer(),
            Err(fault) => {
                self.broken = true;
                job.refuse(refusal(fault, doubted || in_doubt(fault)));
            }
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), Fault> {
        let until = Instant::now() + BUSY_TIME_MAX;
        loop {
            let fault = match self.try_to_begin().await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            if fault != Fault::Conflict || Instant::now() >= until {
                self.broken = true;
                return Err(match fault {
                    Fault::Conflict => Fault::Held,
                    fault => fault,
                });
            }
            tokio::time::sleep(busy_pause()).await;
        }
    }

    async fn try_to_begin(&mut self) -> Result<(), Fault> {
        if self.broken {
            // A transaction that still lives would keep its lock until the old connection's thread has ended.
            self.execute("ROLLBACK").await;
            let link = open(&self.options).await.map_err(|error| Fault::of(&error))?;
            self.tx.replace(link);
            self.broken = false;
        }
        let begun = self.tx.link().execute_unprepared("BEGIN IMMEDIATE").await;
        begun.map(drop).map_err(|error| Fault::of(&error))
    }

    /// Runs one closure inside the open transaction, and says whether that transaction is still there: SQLite ends it by
    /// itself when it is full, out of memory, interrupted or cannot write, and then knows our savepoint no more.
    async fn run(&mut self, job: &mut dyn Job, budget: Option<Duration>) -> bool {
        self.tx.start(budget.map(TimeMax::Fixed));
        if !self.execute("SAVEPOINT closure").await {
            return false;
        }
        let keep = job.run(&self.tx).await;
        if matches!(self.tx.fault(), Some(Fault::Dead | Fault::Full)) {
            return false;
        }
        self.execute(if keep {
            "RELEASE closure"
        } else {
            "ROLLBACK TO closure; RELEASE closure"
        })
        .await
    }

    async fn commit(&mut self, writes: usize) -> Result<(), Fault> {
        let began = Instant::now();
        let committed = self.tx.link().execute_unprepared("COMMIT").await;
        self.measures.committed(began.elapsed(), writes);
        committed.map(|_| ()).map_err(|error| Fault::of(&error))
    }

    async fn execute(&mut self, sql: &str) -> bool {
        self.tx.link().execute_unprepared(sql).await.is_ok()
    }
}
