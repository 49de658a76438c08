//! A file becoming recipients, by whoever holds the job under a lease, a step at a time.
//!
//! First the whole file is looked through: what no row can be blamed for is found before anything is added, and the checksum
//! is kept, so that whoever goes on later knows that it is the same file. Then rows are taken in batches. A batch is one
//! transaction: it takes hold of the job, adds the users behind the lock of their campaign and moves the job's offset on,
//! so whatever stops in between, each row is taken exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Buf, Bytes, BytesMut};

use super::super::{audience, store};
use crate::domain::Service;
use crate::failpoint::{Point, hit};
use crate::files::Reading;
use crate::model::campaign::CampaignStatus;
use crate::model::campaign::recipient::{Added, NewRecipients};
use crate::model::import::csv::{HEAD_BYTES, Place, Rows, Step as Read, delimiter_of, look_at, not_encoded, refused};
use crate::model::import::row::Columns;
use crate::model::import::{Failure, FileKey, Format, ImportCounts, ImportState, PROBLEMS_MAX, Problem};
use crate::model::retry::backoff;
use crate::model::variable::VariableDefinition;
use crate::model::{Error, Reason, Result, Timestamp};
use crate::store::import::{self as imports, Leased, Settled};
use crate::store::template as templates;

/// Rows of a batch, where no setting says otherwise: as many as PostgreSQL does well in one transaction.
const BATCH_ROWS: u32 = 2_000;
/// The same on SQLite, whose one writer has to be free again soon.
const BATCH_ROWS_SQLITE: u32 = 250;
/// Bytes of the file that a batch takes, after which it is done with fewer rows.
const BATCH_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes that are looked through before the lease begins anew.
const LOOKED_BYTES: u64 = 32 * 1024 * 1024;
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
    /// Rows of the next batch: fewer than usual near the most recipients that the campaign may have.
    rows: u32,
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
        rows: batch_rows(service),
    }))
}

/// Rows of a batch that meets no limit.
fn batch_rows(service: &Service) -> u32 {
    let suits = if service.store.is_sqlite() {
        BATCH_ROWS_SQLITE
    } else {
        BATCH_ROWS
    };
    service.settings.campaigns.import_rows.unwrap_or(suits)
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
            | Reason::TargetLimitExceeded
            | Reason::UploadNotFound
    )
}

async fn step(service: &Service, work: &mut Importing, now: Timestamp) -> Result<Step> {
    match &mut work.stage {
        Stage::Claimed => {
            work.stage = match &work.job.checksum {
                None => Stage::Looking(Source::open(service, &work.job).await?),
                Some(_) => Stage::Comparing(Hashing::open(service, &work.job).await?),
            };
            Ok(Step::More)
        }
        Stage::Looking(source) => match source.look_through().await? {
            None => hold(service, work).await,
            Some(found) => {
                keep(service, work, found).await?;
                hit(Point::ImportLookedThrough);
                take_from(service, work).await
            }
        },
        Stage::Comparing(hashing) => match hashing.go_on().await? {
            None => hold(service, work).await,
            Some(checksum) if work.job.checksum.as_ref() == Some(&checksum) => take_from(service, work).await,
            Some(_) => Err(refused("was changed after its import had begun: import it anew")),
        },
        Stage::Taking(_) => take(service, work, now).await,
    }
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
    let source = Source::open(service, &work.job).await?;
    let source = source.behind(service, &work.job).await?;
    work.stage = Stage::Taking(source);
    hold(service, work).await
}

/// Lets the lease begin anew.
async fn hold(service: &Service, work: &Importing) -> Result<Step> {
    let (lease, time) = (work.job.lease, service.settings.dispatching.lease);
    let held = service
        .store
        .write_background(move |tx| Box::pin(async move { imports::hold_import(tx, lease, time).await }));
    Ok(if held.await? { Step::More } else { Step::Stale })
}

/// Takes the next rows, or ends the import where there are none. Rows that are more than the campaign may have recipients
/// are taken again in halves, until the first one that does not fit is alone and ends the import: those before it stay.
async fn take(service: &Service, work: &mut Importing, now: Timestamp) -> Result<Step> {
    let Stage::Taking(source) = &mut work.stage else {
        return Ok(Step::Stale);
    };
    let Some(batch) = source.batch(work.rows, &work.job).await? else {
        hit(Point::ImportBeforeEnd);
        return end(service, work, (ImportState::Completed, None), now).await;
    };
    let rows = batch.settled.counts.rows;
    let settled = match settle(service, &work.job, batch, now).await {
        Err(full) if full.reason() == Reason::TargetLimitExceeded && rows > 1 => {
            work.rows = rows / 2;
            return take_from(service, work).await;
        }
        settled => settled?,
    };
    let Some(settled) = settled else {
        return Ok(Step::Stale);
    };
    hit(Point::BetweenBatches);
    work.rows = work.rows.saturating_mul(2).min(batch_rows(service));
    work.job.next = settled.next;
    work.job.counts = work.job.counts.and(settled.counts);
    let kept = u32::try_from(settled.problems.len()).map_err(Error::internal)?;
    work.job.problem_count = work.job.problem_count.saturating_add(kept);
    service.wake.progress();
    Ok(Step::More)
}

/// Rows that were read.
#[derive(Debug)]
struct Batch {
    new: NewRecipients,
    settled: Settled,
}

/// Writes a batch, unless the lease is over.
async fn settle(service: &Service, job: &Leased, batch: Batch, now: Timestamp) -> Result<Option<Settled>> {
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
                let added = match batch.new.uids.is_empty() {
                    true => Added::default(),
                    false => audience::add_locked(tx, (lease.app, campaign), &batch.new, rules, now).await?,
                };
                let mut settled = batch.settled.clone();
                settled.counts.added = added.added;
                settled.counts.duplicate = added.duplicate_count;
                settled.counts.unknown = added.unknown_count;
                imports::record_settled(tx, lease, &settled).await?;
                hit(Point::BatchBeforeCommit);
                Ok(Some(settled))
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
    if fault.reason() != Reason::Unavailable && attempts >= ATTEMPTS_MAX {
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

fn gone(job: &Leased) -> Error {
    FileKey::not_found(&job.key)
}

/// A file from its beginning, for its checksum alone.
#[derive(Debug)]
struct Hashing {
    reading: Reading,
    digest: Digest,
}

impl Hashing {
    async fn open(service: &Service, job: &Leased) -> Result<Box<Self>> {
        let reading = service.files.read(&job.key, 0).await?.ok_or_else(|| gone(job))?;
        let digest = Digest::default();
        Ok(Box::new(Self { reading, digest }))
    }

    /// Goes on for a while; gives the checksum at the end.
    async fn go_on(&mut self) -> Result<Option<String>> {
        let until = self.digest.bytes.saturating_add(LOOKED_BYTES);
        while self.digest.bytes < until {
            match self.reading.next().await? {
                Some(piece) => self.digest.add(&piece),
                None => return Ok(Some(self.digest.text())),
            }
        }
        Ok(None)
    }
}

/// SHA-256 of what was read.
struct Digest {
    context: Context,
    bytes: u64,
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digest")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self {
            context: Context::new(&SHA256),
            bytes: 0,
        }
    }
}

impl Digest {
    fn add(&mut self, piece: &[u8]) {
        self.context.update(piece);
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
    }

    fn text(&self) -> String {
        let digest = self.context.clone().finish();
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A file whose rows are read one by one.
#[derive(Debug)]
struct Source {
    reading: Reading,
    digest: Digest,
    buffer: Bytes,
    is_over: bool,
    rows: Rows,
    format: Format,
    columns: Columns,
    /// Where the rows behind the first one begin.
    first: Place,
}

impl Source {
    /// Opens a file and reads its first row.
    async fn open(service: &Service, job: &Leased) -> Result<Box<Self>> {
        let schema = schema_of(service, job).await?;
        let mut reading = service.files.read(&job.key, 0).await?.ok_or_else(|| gone(job))?;
        let mut digest = Digest::default();
        let mut head = BytesMut::new();
        let mut is_over = false;
        while head.len() < HEAD_BYTES && !is_over {
            match reading.next().await? {
                Some(piece) => {
                    digest.add(&piece);
                    head.extend_from_slice(&piece);
                }
                None => is_over = true,
            }
        }
        let mut buffer = head.freeze();
        let start = look_at(buffer.get(..HEAD_BYTES).unwrap_or(&buffer))?;
        buffer.advance(start);
        let delimiter = job.format.delimiter.unwrap_or_else(|| delimiter_of(&buffer));
        let first = Place::start(u64::try_from(start).unwrap_or_default());
        let mut source = Box::new(Self {
            reading,
            digest,
            buffer,
            is_over,
            rows: Rows::new(delimiter, first, false),
            format: Format {
                delimiter: Some(delimiter),
                ..job.format
            },
            columns: Columns::default(),
            first,
        });
        if !source.next_row().await? {
            return Err(refused("holds nothing but line ends: its first row names the columns"));
        }
        source.columns = Columns::of(source.rows.cells(job.format.encoding), &schema)?;
        source.first = source.rows.next();
        Ok(source)
    }

    /// The same file from where the import stands.
    async fn behind(self: Box<Self>, service: &Service, job: &Leased) -> Result<Box<Self>> {
        if self.rows.next().offset == job.next.offset {
            return Ok(self);
        }
        // One byte earlier, which tells whether a line end was cut in two.
        let from = job.next.offset.saturating_sub(1);
        let mut reading = service.files.read(&job.key, from).await?.ok_or_else(|| gone(job))?;
        let mut buffer = reading.next().await?.unwrap_or_default();
        let before = buffer.first().copied();
        buffer.advance(1.min(buffer.len()));
        let delimiter = self.format.delimiter.unwrap_or(crate::model::import::Delimiter::Comma);
        Ok(Box::new(Self {
            reading,
            buffer,
            is_over: false,
            rows: Rows::new(delimiter, job.next, before == Some(b'\r')),
            ..*self
        }))
    }

    /// Reads the next row, if there is one.
    async fn next_row(&mut self) -> Result<bool> {
        loop {
            if self.buffer.is_empty() && !self.is_over {
                match self.reading.next().await? {
                    Some(piece) => {
                        self.digest.add(&piece);
                        self.buffer = piece;
                    }
                    None => self.is_over = true,
                }
            }
            let mut input: &[u8] = &self.buffer;
            let step = self.rows.read(&mut input)?;
            let read = self.buffer.len().saturating_sub(input.len());
            self.buffer.advance(read);
            match step {
                Read::Row => return Ok(true),
                Read::End => return Ok(false),
                Read::More if self.is_over && self.buffer.is_empty() && read == 0 => return Ok(false),
                Read::More => {}
            }
        }
    }

    /// Looks through the file for a while; says at its end what it is and where the rows behind the first one begin.
    async fn look_through(&mut self) -> Result<Option<(String, u64, Place)>> {
        let until = self.digest.bytes.saturating_add(LOOKED_BYTES);
        while self.digest.bytes < until {
            if !self.next_row().await? {
                return Ok(Some((self.digest.text(), self.digest.bytes, self.first)));
            }
            if !self.rows.cells(self.format.encoding).are_texts() {
                return Err(not_encoded(self.rows.row().line));
            }
        }
        Ok(None)
    }

    /// Reads so many rows; none are left when there is no batch.
    async fn batch(&mut self, rows: u32, job: &Leased) -> Result<Option<Batch>> {
        let mut own = BTreeMap::new();
        let (mut uids, mut seen) = (Vec::new(), BTreeSet::new());
        let mut counts = ImportCounts::default();
        let mut problems = Vec::new();
        let mut duplicates: u32 = 0;
        let until = job.next.offset.saturating_add(BATCH_BYTES_MAX);
        let mut position = job.problem_count;
        while counts.rows < rows && self.rows.next().offset < until && self.next_row().await? {
            counts.rows = counts.rows.saturating_add(1);
            match self.columns.read(self.rows.cells(self.format.encoding)) {
                Ok((uid, values)) if seen.insert(uid.clone()) => {
                    if !values.is_empty() {
                        own.insert(uid.clone(), values);
                    }
                    uids.push(uid);
                }
                Ok(_) => duplicates = duplicates.saturating_add(1),
                Err(wrong) => {
                    counts.failed = counts.failed.saturating_add(1);
                    let line = self.rows.row().line;
                    for violation in wrong {
                        if position < PROBLEMS_MAX {
                            position += 1;
                            problems.push(Problem::new(position, line, violation));
                        }
                    }
                }
            }
        }
        if counts.rows == 0 {
            return Ok(None);
        }
        Ok(Some(Batch {
            new: NewRecipients {
                uids,
                own,
                duplicate_count: duplicates,
            },
            settled: Settled {
                next: self.rows.next(),
                counts,
                problems,
            },
        }))
    }
}

/// What the campaign's template declares; also that there still is a draft to import into.
async fn schema_of(service: &Service, job: &Leased) -> Result<Vec<VariableDefinition>> {
    let (app, db) = (job.lease.app, service.store.read());
    let campaign = store::get_campaign(db, app, job.campaign).await?;
    campaign
        .status
        .check(super::GIVEN_RECIPIENTS, &[CampaignStatus::Draft])?;
    let mut found = templates::find_contents(db, app, [campaign.version_id]).await?;
    let content = found.remove(&campaign.version_id);
    let content = content.ok_or_else(|| Error::internal("the template version of a campaign is gone"))?;
    Ok(content.variable_schema)
}
