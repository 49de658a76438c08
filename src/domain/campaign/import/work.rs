//! A file becoming recipients, by whoever holds the job under a lease, a step at a time.
//!
//! First the whole file is looked through: what no row can be blamed for is found before anything is added, and the checksum
//! is kept, so that whoever goes on later knows that it is the same file. Then rows are taken in batches. A batch is one
//! transaction: it takes hold of the job, adds the users behind the lock of their campaign and moves the job's offset on,
//! so whatever stops in between, each row is taken exactly once. While the database writes a batch the next one is read,
//! and nothing comes of that unless the one before is committed.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};

use super::super::audience;
use super::source::{Batch, Hashing, Source};
use crate::domain::Service;
use crate::failpoint::{Point, hit};
use crate::files::{self, Version};
use crate::model::campaign::recipient::Added;
use crate::model::import::csv::{Place, refused};
use crate::model::import::{Failure, ImportState};
use crate::model::retry::backoff;
use crate::model::{Error, Reason, Result, Timestamp};
use crate::store::import::{self as imports, Lease, Leased, Settled};

/// Rows of the largest batch, where no setting says otherwise. How many of them one takes follows from how long the last
/// ones took.
const BATCH_ROWS_MAX: u32 = 10_000;
/// The same on SQLite, whose one writer has to be free again soon.
const BATCH_ROWS_MAX_SQLITE: u32 = 1_000;
/// The first batch is one of so many parts of the largest.
const FIRST_PART: u32 = 5;
/// Rows of the smallest batch that the time asks for.
const BATCH_ROWS_MIN: u32 = 50;
/// How long a file that is slow to come is waited for until the lease is looked to.
const LOOKED_UP: Duration = Duration::from_secs(2);
/// How often an import is begun again that fails for no fault of the file, before it is given up.
const ATTEMPTS_MAX: u32 = 20;
/// What it waits after its first failure; after each further one twice as long, up to the most.
const WAIT: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do, and the import is still held.
    More,
    /// The import is over.
    Done,
    /// Somebody else holds it, or it was cancelled. Nothing was changed.
    Stale,
}

/// An import that this process works on.
#[derive(Debug)]
pub struct Importing {
    job: Leased,
    stage: Stage,
    /// Which of the files that stood under its name is read: from the first look at it, as long as this process holds it.
    version: Version,
    pace: Pace,
    /// What comes next, if it was read while the batch before was being written.
    ahead: Option<Result<Option<Batch>>>,
}

/// How many rows a batch takes.
#[derive(Clone, Copy, Debug)]
struct Pace {
    rows: u32,
    most: u32,
    /// Whether a batch has met a bound: rows are doubled before, and grow by little after.
    is_bounded: bool,
}

impl Pace {
    fn of(service: &Service) -> Self {
        let suits = match service.store.is_sqlite() {
            true => BATCH_ROWS_MAX_SQLITE,
            false => BATCH_ROWS_MAX,
        };
        let set = service.settings.campaigns.import_rows;
        Self {
            rows: set.unwrap_or(suits / FIRST_PART),
            most: set.unwrap_or(suits),
            is_bounded: false,
        }
    }

    /// A batch that was over in time lets the next one be larger, another halves it.
    fn learn(&mut self, in_time: bool) {
        self.is_bounded |= !in_time;
        let next = match (in_time, self.is_bounded) {
            (true, false) => self.rows.saturating_mul(2),
            (true, true) => self.rows + self.rows / 8 + 1,
            (false, _) => (self.rows / 2).max(BATCH_ROWS_MIN),
        };
        self.rows = next.min(self.most);
    }

    /// A batch was more than the campaign may still have, so its first half comes alone.
    fn halve(&mut self, rows: u32) {
        self.is_bounded = true;
        self.rows = (rows / 2).max(1);
    }
}

impl Importing {
    /// What the log calls it.
    #[must_use]
    pub fn id(&self) -> impl std::fmt::Display + use<> {
        self.job.lease.id
    }

    /// Leases since it last came on.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.job.attempts
    }
}

#[derive(Debug)]
enum Stage {
    /// Nothing was read.
    Claimed,
    /// It is being looked through.
    Looking(Box<Source>),
    /// It was looked through before, and is being compared.
    Comparing(Box<Hashing>),
    /// Rows are being taken.
    Taking(Box<Source>),
}

/// Leases the import that has waited longest.
///
/// # Errors
/// Those of the database.
pub async fn claim(service: &Service, now: Timestamp) -> Result<Option<Importing>> {
    let lease = service.settings.dispatching.lease;
    let claimed = service
        .store
        .write_background(move |tx| Box::pin(async move { imports::claim_import(tx, lease, now).await }))
        .await?;
    if claimed.is_some() {
        hit(Point::ImportLeased);
        // There may be another one for whoever waits.
        service.wake.imports();
    }
    Ok(claimed.map(|job| Importing {
        job,
        stage: Stage::Claimed,
        version: Version::default(),
        pace: Pace::of(service),
        ahead: None,
    }))
}

/// Does the next step of an import that the caller has leased. What the file or its campaign is at fault for ends it.
///
/// # Errors
/// Whatever else the step met; nothing of it was done then.
pub async fn advance(service: &Service, work: &mut Importing, now: Timestamp) -> Result<Step> {
    match step(service, work, now).await {
        Err(refusal) if is_refusal(&refusal) => {
            let failure = Failure::of(&refusal).after(work.job.counts, work.job.next.line);
            let (state, failure) = match refusal.reason() {
                Reason::CampaignNotFound => (ImportState::Cancelled, None),
                _ => (ImportState::Failed, Some(failure)),
            };
            end(service, work, (state, failure), now).await
        }
        other => other,
    }
}

/// Whether it is the file or the campaign that cannot be helped.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.reason(),
        Reason::BadRequest
            | Reason::CampaignNotFound
            | Reason::InvalidState
            | Reason::PayloadTooLarge
            | Reason::TargetLimitExceeded
            | Reason::UploadNotFound
    )
}

async fn step(service: &Service, work: &mut Importing, now: Timestamp) -> Result<Step> {
    match &mut work.stage {
        Stage::Claimed => {
            let begun = begin(service, &work.job);
            let Some((stage, version)) = held(service, work.job.lease, begun).await? else {
                return Ok(given_up(service));
            };
            (work.stage, work.version) = (stage, version);
            Ok(Step::More)
        }
        Stage::Looking(source) => match held(service, work.job.lease, source.look_through()).await? {
            None => Ok(given_up(service)),
            Some(None) => hold(service, work).await,
            Some(Some(found)) => {
                keep(service, work, found).await?;
                hit(Point::ImportLookedThrough);
                take_from(service, work).await
            }
        },
        Stage::Comparing(hashing) => match held(service, work.job.lease, hashing.go_on()).await? {
            None => Ok(given_up(service)),
            Some(None) => hold(service, work).await,
            Some(Some(checksum)) if work.job.checksum.as_ref() == Some(&checksum) => take_from(service, work).await,
            Some(Some(_)) => Err(refused("was changed after its import had begun: import it anew")),
        },
        Stage::Taking(_) => take(service, work, now).await,
    }
}

/// Opens a file for what has to be known of it first.
async fn begin(service: &Service, job: &Leased) -> Result<(Stage, Version)> {
    let any = Version::default();
    Ok(match &job.checksum {
        None => {
            let source = Source::open(service, job, &any).await?;
            let version = source.version().clone();
            (Stage::Looking(source), version)
        }
        Some(_) => {
            let hashing = Hashing::open(service, job).await?;
            let version = hashing.version().clone();
            (Stage::Comparing(hashing), version)
        }
    })
}

/// Reads, however long the store of the file takes: the lease begins anew meanwhile, or else nobody would ever come to the
/// end of a file in a slow one. Nothing, when the lease is over or the service is to stop. That no store takes for ever is
/// seen to where files are.
async fn held<T>(service: &Service, lease: Lease, reading: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    let mut reading = pin!(reading);
    let time = LOOKED_UP.min(service.settings.dispatching.lease / 3);
    loop {
        match tokio::time::timeout(time, &mut reading).await {
            Ok(read) => return read.map(Some),
            Err(_) if !service.is_retired() && is_held(service, lease).await? => {}
            Err(_) => return Ok(None),
        }
    }
}

/// What a step comes to whose reading was given up. A worker that is to stop gives the import back by itself.
fn given_up(service: &Service) -> Step {
    if service.is_retired() { Step::More } else { Step::Stale }
}

/// Keeps what a file is that was looked through.
async fn keep(service: &Service, work: &mut Importing, (checksum, bytes, first): (String, u64, Place)) -> Result<()> {
    let lease = work.job.lease;
    work.job.checksum = Some(checksum.clone());
    work.job.next = first;
    service
        .store
        .write_background(move |tx| {
            let checksum = checksum.clone();
            Box::pin(async move { imports::record_file(tx, lease, (&checksum, bytes), first).await })
        })
        .await
}

async fn take_from(service: &Service, work: &mut Importing) -> Result<Step> {
    let (job, version) = (&work.job, &work.version);
    let opened = async {
        let source = Source::open(service, job, version).await?;
        source.behind(service, job, version).await
    };
    let Some(source) = held(service, job.lease, opened).await? else {
        return Ok(given_up(service));
    };
    work.ahead = None;
    work.stage = Stage::Taking(source);
    hold(service, work).await
}

/// Lets the lease begin anew.
async fn hold(service: &Service, work: &Importing) -> Result<Step> {
    let is_held = is_held(service, work.job.lease).await?;
    Ok(if is_held { Step::More } else { Step::Stale })
}

async fn is_held(service: &Service, lease: Lease) -> Result<bool> {
    let time = service.settings.dispatching.lease;
    service
        .store
        .write_background(move |tx| Box::pin(async move { imports::hold_import(tx, lease, time).await }))
        .await
}

/// Takes the next rows, or ends the import where there are none. Rows that are more than the campaign may have recipients
/// are taken again in halves, until the first one that does not fit is alone and ends the import: those before it stay.
async fn take(service: &Service, work: &mut Importing, now: Timestamp) -> Result<Step> {
    let Stage::Taking(source) = &mut work.stage else {
        return Ok(Step::Stale);
    };
    let batch = match work.ahead.take() {
        Some(read) => read?,
        None => {
            let reading = source.batch(work.pace.rows, work.job.problem_count);
            match held(service, work.job.lease, reading).await? {
                Some(read) => read,
                None => return Ok(given_up(service)),
            }
        }
    };
    let Some(batch) = batch else {
        hit(Point::ImportBeforeEnd);
        return end(service, work, (ImportState::Completed, None), now).await;
    };
    let (rows, kept) = (batch.settled.counts.rows, batch.settled.problems.len());
    let kept = u32::try_from(kept).map_err(Error::internal)?;
    let problem_count = work.job.problem_count.saturating_add(kept);
    let next = source.batch(work.pace.rows, problem_count);
    let settling = settle(service, &work.job, batch, now);
    let (settled, ahead) = with_next(service, work.job.lease, settling, next).await;
    let settled = match settled {
        Err(full) if full.reason() == Reason::TargetLimitExceeded && rows > 1 => {
            work.pace.halve(rows);
            return take_from(service, work).await;
        }
        settled => settled?,
    };
    let Some((settled, in_time)) = settled else {
        return Ok(Step::Stale);
    };
    hit(Point::BetweenBatches);
    work.pace.learn(in_time);
    work.job.next = settled.next;
    work.job.counts = work.job.counts.and(settled.counts);
    // It came on, and so it says in its row.
    work.job.attempts = 0;
    work.job.problem_count = problem_count;
    service.wake.progress();
    if ahead.is_none() {
        return Ok(given_up(service));
    }
    work.ahead = ahead;
    Ok(Step::More)
}

/// Waits for a batch that is being written and for the next one, which is read meanwhile. Writing renews the lease by itself;
/// a file that is slower than that is waited for as any other reading is. Nothing was read when that was given up, or when
/// the batch was not written.
async fn with_next<W, R>(
    service: &Service,
    lease: Lease,
    writing: impl Future<Output = Result<Option<W>>>,
    reading: impl Future<Output = Result<R>>,
) -> (Result<Option<W>>, Option<Result<R>>) {
    let reading = pin!(reading);
    match select(pin!(writing), reading).await {
        Either::Left((Ok(Some(written)), reading)) => {
            let read = held(service, lease, reading).await.transpose();
            (Ok(Some(written)), read)
        }
        Either::Left((other, _)) => (other, None),
        Either::Right((read, writing)) => (writing.await, Some(read)),
    }
}

/// Writes a batch, unless the lease is over; tells also whether that was done in time.
async fn settle(service: &Service, job: &Leased, batch: Batch, now: Timestamp) -> Result<Option<(Settled, bool)>> {
    let (lease, campaign) = (job.lease, job.campaign);
    let time = service.settings.dispatching.lease;
    let rules = (
        service.settings.auto_create_users,
        service.settings.campaigns.recipients_max,
    );
    let batch = Arc::new(batch);
    service
        .store
        .write_background(move |tx| {
            let batch = Arc::clone(&batch);
            Box::pin(async move {
                if !imports::hold_import(tx, lease, time).await? {
                    return Ok(None);
                }
                let new = (batch.joining.as_slice(), batch.again);
                let added = match batch.joining.is_empty() {
                    true => Added::default(),
                    false => audience::add_locked(tx, (lease.app, campaign), new, rules, now).await?,
                };
                let mut settled = batch.settled.clone();
                settled.counts.added = added.added;
                settled.counts.duplicate = added.duplicate_count;
                settled.counts.unknown = added.unknown_count;
                imports::record_settled(tx, lease, &settled).await?;
                hit(Point::BatchBeforeCommit);
                Ok(Some((settled, !tx.is_out_of_time())))
            })
        })
        .await
}

async fn end(
    service: &Service,
    work: &Importing,
    (state, failure): (ImportState, Option<Failure>),
    now: Timestamp,
) -> Result<Step> {
    let lease = work.job.lease;
    let ended = service.store.write_background(move |tx| {
        let failure = failure.clone();
        Box::pin(async move {
            let ended = imports::end_import(tx, lease, (state, failure.as_ref()), now).await?;
            hit(Point::ImportEndBeforeCommit);
            Ok(ended)
        })
    });
    let ended = ended.await?;
    service.wake.progress();
    Ok(if ended { Step::Done } else { Step::Stale })
}

/// Gives an import back, for anybody to go on with at once.
///
/// # Errors
/// Those of the database.
pub async fn give_back(service: &Service, work: &Importing) -> Result<()> {
    release(service, work, Duration::ZERO).await
}

/// Decides what becomes of an import whose step failed for no fault of the file: it is tried again after a while, and given
/// up when that never helps.
///
/// # Errors
/// Those of the database; the lease ends by itself then.
pub async fn fail(service: &Service, work: &Importing, fault: &Error, now: Timestamp) -> Result<()> {
    let attempts = work.job.attempts;
    // A database that is away is waited for, as nothing can be said without it. A store that is away can be told.
    let is_waited_for = fault.reason() == Reason::Unavailable && !files::is_of_store(fault);
    if !is_waited_for && attempts >= ATTEMPTS_MAX {
        let failure = Failure::of(fault).after(work.job.counts, work.job.next.line);
        end(service, work, (ImportState::Failed, Some(failure)), now).await?;
        return Ok(());
    }
    release(service, work, backoff(WAIT, attempts, WAIT_MAX)).await
}

async fn release(service: &Service, work: &Importing, wait: Duration) -> Result<()> {
    let lease = work.job.lease;
    service
        .store
        .write_background(move |tx| Box::pin(async move { imports::release_import(tx, lease, wait).await }))
        .await
}
