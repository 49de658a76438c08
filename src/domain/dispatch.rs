//! Batches: pages that wait for a worker, each done under a lease, a step at a time. A step is one transaction: it takes
//! hold of its page, looks at every recipient once more, writes what becomes of them and moves the page on. So whatever
//! stops in between, each recipient is dealt with exactly once. Who works and when is not decided here.

#[cfg(debug_assertions)]
mod broken;
mod first;
mod later;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Instrument as _, trace_span};
use uuid::Uuid;

use super::card::Cards;
use super::measure::PageEvent;
use super::page::{self, Work};
use super::{Service, campaign, sequence, template};
use crate::failpoint::{Point, hit};
use crate::model::delivery::Counts;
use crate::model::id::{AppId, NotificationId};
use crate::model::notification::{NotificationStatus, RecipientOutcome, in_app, values_of};
use crate::model::retry::backoff;
use crate::model::template::course::{FIRST_STEP, last_step};
use crate::model::{Error, Origin, Reason, Result, Timestamp};
use crate::store::notification::Sending;
use crate::store::page::{self as pages, Leased, Rest};
use crate::store::receiver::{self, Recipient};
use crate::store::{Tx, lane as lanes, notification};

use first::{Ahead, Basis};

pub use super::measure::Held;
pub use crate::store::page::Leased as LeasedPage;

/// Recipients of a page, where no setting says otherwise: as many as PostgreSQL does well in one transaction.
const PAGE_ROWS: u32 = 1_000;
/// The same on SQLite, whose one writer has to be free again soon.
const PAGE_ROWS_SQLITE: u32 = 200;
/// Recipients of a page of a notification that is limited, at least: the limit holds over so many.
const PACED_ROWS_MIN: u32 = 10;
/// Recipients of the smallest step.
const STEP_MIN: u32 = 8;
/// The same on PostgreSQL, as a part of a page: what a step costs whatever its size would otherwise be all there is to it on
/// a server that is busy, and nobody waits for one of its transactions as all wait for SQLite's writer.
const STEP_PART_MIN: u32 = 8;
/// Failures after which a page of several recipients is halved.
const HALVED_AFTER: u32 = 2;
/// Failures after which a recipient whose page holds nobody else is given up: about six seconds, so that a fault that
/// passes by itself fails nobody.
const GIVEN_UP_AFTER: u32 = 6;
/// What a page waits after its first failure; after each further one twice as long, up to the most.
const WAIT: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How batches are done.
#[derive(Clone, Copy, Debug)]
pub struct Dispatching {
    /// Recipients of a page; `None`: as many as suit the database.
    pub page_rows: Option<u32>,
    /// How long a worker may hold a page without a sign of life before another one takes it. Longer than a step takes.
    pub lease: Duration,
}

impl Default for Dispatching {
    fn default() -> Self {
        Self {
            page_rows: None,
            lease: Duration::from_secs(30),
        }
    }
}

/// How many recipients a step of this process takes, which follows from how long the last ones took; and whose page came
/// last, so that the apps take turns.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// 0 before the first step.
    rows: AtomicU32,
    last: Mutex<Option<AppId>>,
    last_outgoing: Mutex<Option<AppId>>,
}

impl Pace {
    fn rows(&self, page_rows: u32) -> u32 {
        match self.rows.load(Ordering::Relaxed) {
            0 => (page_rows / 4).max(STEP_MIN),
            rows => rows,
        }
    }

    /// A step that was over in time lets the next one be a little larger, another halves it.
    fn learn(&self, rows: u32, in_time: bool, (least, most): (u32, u32)) {
        let next = if in_time { rows + rows / 8 + 1 } else { rows / 2 };
        self.rows.store(next.clamp(least, most), Ordering::Relaxed);
    }

    fn last(&self) -> AppId {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.unwrap_or_else(|| Uuid::nil().into())
    }

    /// The app for which a driver was asked last, and whose turn comes behind it.
    pub(super) fn last_outgoing(&self) -> AppId {
        let last = self.last_outgoing.lock().unwrap_or_else(PoisonError::into_inner);
        last.unwrap_or_else(|| Uuid::nil().into())
    }

    pub(super) fn note_outgoing(&self, app: Option<AppId>) {
        *self.last_outgoing.lock().unwrap_or_else(PoisonError::into_inner) = app;
    }

    fn note(&self, app: Option<AppId>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = app;
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The page has more to do, and is still held.
    More,
    /// The page is done.
    Done,
    /// The notification is held or was cancelled. The page was given back as it is.
    Held,
    /// Somebody else holds the page, or has done it. Nothing was changed.
    Stale,
}

impl Service {
    /// Recipients of a page.
    pub(super) fn page_rows(&self) -> u32 {
        let suits = if self.store.is_sqlite() {
            PAGE_ROWS_SQLITE
        } else {
            PAGE_ROWS
        };
        self.settings.dispatching.page_rows.unwrap_or(suits)
    }

    /// Recipients of a step, at least and at most.
    fn step_rows(&self) -> (u32, u32) {
        let most = self.page_rows().max(STEP_MIN);
        if self.store.is_sqlite() {
            return (STEP_MIN, most);
        }
        ((most / STEP_PART_MIN).max(STEP_MIN), most)
    }
}

/// Leases a page that waits, of the app whose turn it is.
///
/// # Errors
/// Those of the database.
pub async fn claim(service: &Service) -> Result<Option<Leased>> {
    let (lease, page_rows) = (service.settings.dispatching.lease, service.page_rows());
    let after = service.pace.last();
    let claim = |after: AppId| {
        service.store.write_background(move |tx| {
            Box::pin(async move {
                let found = claim_next(tx, after, lease, page_rows).await?;
                if found.is_some() {
                    hit(Point::LeaseBeforeCommit);
                }
                Ok(found)
            })
        })
    };
    let nil: AppId = Uuid::nil().into();
    let found = match claim(after).await? {
        None if after != nil => claim(nil).await?,
        found => found,
    };
    service.pace.note(found.map(|page| page.app));
    if found.is_some() {
        hit(Point::AfterLease);
        service.wake.pages();
    }
    Ok(found)
}

/// The call that a page follows from, for log lines and spans; nothing when it cannot be found, because no page waits for
/// that.
pub async fn origin(service: &Service, page: &Leased) -> Origin {
    let found = notification::get_origin(service.store.read(), page.app, page.key.notification).await;
    found.unwrap_or_default()
}

/// Counts a page that was leased as held until the answer is dropped.
#[must_use]
pub fn hold(service: &Service, page: &Leased) -> Held {
    service.measures.hold(page.taken_over)
}

async fn claim_next(tx: &Tx, after: AppId, lease: Duration, page_rows: u32) -> Result<Option<Leased>> {
    let Some(lane) = lanes::find_ready(tx, after).await? else {
        return Ok(None);
    };
    let place = (lane.app, lane.notification);
    if let Some(rate) = lane.rate_per_second {
        let recipients = i64::from(rows_at(page_rows, Some(rate)));
        if !lanes::take_turn(tx, place, recipients, rate).await? {
            return Ok(None);
        }
    }
    pages::claim_page(tx, place, lease).await
}

/// Recipients of a page of a notification that is limited: what a second allows, but not so few that pages are all there
/// is to do.
#[must_use]
pub(super) fn rows_at(page_rows: u32, rate_per_second: Option<u32>) -> u32 {
    rate_per_second.map_or(page_rows, |rate| page_rows.min(rate.max(PACED_ROWS_MIN)))
}

/// Returns when there may be pages to do.
pub async fn wait(service: &Service, at_most: Duration) {
    service.wake.for_pages(at_most).await;
}

/// Does the next step of a page that the caller has leased.
///
/// # Errors
/// Whatever the step met; nothing of it was done then.
pub async fn advance(service: &Service, page: Leased, now: Timestamp) -> Result<Step> {
    #[cfg(debug_assertions)]
    if let Some(way) = crate::failpoint::broken() {
        return broken::advance(service, page, now, way).await;
    }
    step(service, page, now).instrument(trace_span!("step")).await
}

async fn step(service: &Service, page: Leased, now: Timestamp) -> Result<Step> {
    let (lease, page_rows) = (service.settings.dispatching.lease, service.page_rows());
    let (rows, began) = (service.pace.rows(page_rows), Instant::now());
    let ahead = first::look_ahead(service, &page, rows, now).await.map(Arc::new);
    let cards = service.cards.clone();
    let stepped = service
        .store
        .write_background(move |tx| {
            let (cards, ahead) = (cards.clone(), ahead.clone());
            Box::pin(async move {
                let Some(rest) = pages::hold_page(tx, &page, lease).await? else {
                    return Ok((Step::Stale, true, Counts::default()));
                };
                let part = rest.part(rows);
                let Some(counts) = run(tx, &cards, (&page, part), ahead.as_deref(), now).await? else {
                    pages::release_page(tx, &page, Duration::ZERO).await?;
                    return Ok((Step::Held, true, Counts::default()));
                };
                let step = if part == rest { Step::Done } else { Step::More };
                hit(Point::StepBeforeCommit);
                Ok((step, !tx.is_out_of_time(), counts))
            })
        })
        .await;
    let in_time = stepped.as_ref().map_or(true, |(_, in_time, _)| *in_time);
    service.pace.learn(rows, in_time, service.step_rows());
    service.measures.step.record(began.elapsed().as_secs_f64());
    let (step, _, counts) = stepped?;
    service.measures.recipients(counts);
    match step {
        Step::Held => service.measures.page_event(PageEvent::GivenBack),
        Step::More => hit(Point::BetweenSteps),
        Step::Done => {
            service.measures.page_event(PageEvent::Done);
            hit(Point::BeforeCompletion);
            complete(service, Some((page.app, page.key.notification)), now).await?;
        }
        Step::Stale => service.measures.page_event(PageEvent::Lost),
    }
    service.wake.progress();
    Ok(step)
}

/// Makes notifications final whose pages are all done, a bounded number of them or the one that is named, and says how
/// many.
///
/// # Errors
/// Those of the database.
pub async fn complete(service: &Service, only: Option<(AppId, NotificationId)>, now: Timestamp) -> Result<u64> {
    complete_now(service, only, now)
        .instrument(trace_span!("complete"))
        .await
}

async fn complete_now(service: &Service, only: Option<(AppId, NotificationId)>, now: Timestamp) -> Result<u64> {
    let complete = service.store.write_background(move |tx| {
        Box::pin(async move {
            let completed = notification::complete_notifications(tx, only, now).await?;
            if completed > 0 {
                hit(Point::CompletionBeforeCommit);
            }
            Ok(completed)
        })
    });
    let completed = complete.await?;
    service.measures.completed.increment(completed);
    if completed > 0 {
        hit(Point::CampaignUnfinished);
    }
    let completed = completed.saturating_add(campaign::finish(service, only, now).await?);
    if completed > 0 {
        hit(Point::CompletionAfterCommit);
        let named = only.map(|(_, id)| tracing::field::display(id));
        tracing::info!(notification.id = named, completed, "notifications became final");
        service.wake.progress();
    }
    Ok(completed)
}

/// Makes some lanes what their notifications are, where whoever changed those did not come to it, and says whether there
/// may be more of them.
///
/// # Errors
/// Those of the database.
pub async fn mend_lanes(service: &Service, now: Timestamp) -> Result<bool> {
    let mended = service
        .store
        .write_background(move |tx| Box::pin(async move { lanes::mend_lanes(tx, now).await }))
        .await?;
    if mended > 0 {
        service.wake.pages();
    }
    Ok(mended >= lanes::MENDED_MAX)
}

/// Gives a page back, for anybody to go on with at once.
///
/// # Errors
/// Those of the database.
pub async fn give_back(service: &Service, page: Leased) -> Result<()> {
    release(service, page, Duration::ZERO, Point::GivenBackBeforeCommit).await?;
    hit(Point::GivenBackAfterCommit);
    service.measures.page_event(PageEvent::GivenBack);
    service.wake.pages();
    Ok(())
}

/// Decides what becomes of a page whose step failed. A fault of the database passes, so the page waits a little. Of any
/// other the recipients may be the cause: after a second failure the page is halved, and so on, until the one that is at
/// fault is alone, tried a few times more, and recorded as failed. Nobody else waits for them.
///
/// # Errors
/// Those of the database; the lease ends by itself then.
pub async fn fail(service: &Service, page: Leased, fault: &Error, now: Timestamp) -> Result<()> {
    service.measures.page_event(PageEvent::Failed);
    if fault.reason() == Reason::Unavailable {
        let wait = backoff(WAIT, 1, WAIT_MAX);
        return release(service, page, wait, Point::PutBackBeforeCommit).await;
    }
    let lease = service.settings.dispatching.lease;
    let decided = service.store.write_background(move |tx| {
        Box::pin(async move {
            let Some(rest) = pages::hold_page(tx, &page, lease).await? else {
                return Ok(None);
            };
            Ok(match (rest.len(), page.attempts) {
                (2.., HALVED_AFTER..) => {
                    pages::halve_page(tx, &page, rest).await?;
                    hit(Point::HalvedBeforeCommit);
                    Some((PageEvent::Halved, Counts::default()))
                }
                (..=1, GIVEN_UP_AFTER..) => {
                    let counts = give_up(tx, &page, rest.from).await?;
                    hit(Point::GivenUpBeforeCommit);
                    Some((PageEvent::GivenUp, counts))
                }
                (_, attempts) => {
                    pages::release_page(tx, &page, backoff(WAIT, attempts, WAIT_MAX)).await?;
                    hit(Point::PutBackBeforeCommit);
                    None
                }
            })
        })
    });
    if let Some((event, counts)) = decided.await? {
        service.measures.page_event(event);
        service.measures.recipients(counts);
        if event == PageEvent::GivenUp {
            hit(Point::GivenUpAfterCommit);
            complete(service, Some((page.app, page.key.notification)), now).await?;
        } else {
            hit(Point::HalvedAfterCommit);
        }
    }
    service.wake.pages();
    Ok(())
}

async fn release(service: &Service, page: Leased, wait: Duration, written: Point) -> Result<()> {
    let release = service.store.write_background(move |tx| {
        Box::pin(async move {
            pages::release_page(tx, &page, wait).await?;
            hit(written);
            Ok(())
        })
    });
    release.await
}

/// Gives up the only recipient of a page, and gives what they came to.
async fn give_up(tx: &Tx, page: &Leased, seq: i64) -> Result<Counts> {
    let place = (page.app, page.key.notification);
    // Whoever a step before has reached stays so, and gets nothing more.
    let unreached = page.key.step() == FIRST_STEP || later::is_unreached(tx, page, seq).await?;
    let mut counts = Counts::default();
    if unreached {
        receiver::record_outcome(tx, place, &[seq], RecipientOutcome::Failed).await?;
        counts.failed = 1;
    }
    pages::record_progress(tx, page.app, page.key, seq.saturating_add(1), counts).await?;
    Ok(counts)
}

/// Deals with some recipients of a page that the caller holds, unless nothing of its notification is to be done now; gives
/// what they came to.
async fn run(
    tx: &Tx,
    cards: &Cards,
    (page, rest): (&Leased, Rest),
    ahead: Option<&Ahead>,
    now: Timestamp,
) -> Result<Option<Counts>> {
    let place = (page.app, page.key.notification);
    let sending = notification::get_sending_shared(tx, place.0, place.1).await?;
    if sending.status != NotificationStatus::Dispatching {
        return Ok(None);
    }
    serve(tx, cards, (page, rest), (&sending, ahead), now).await.map(Some)
}

/// Deals with some recipients of a page, whose notification is to be done now.
async fn serve(
    tx: &Tx,
    cards: &Cards,
    (page, rest): (&Leased, Rest),
    (sending, ahead): (&Sending, Option<&Ahead>),
    now: Timestamp,
) -> Result<Counts> {
    let place = (page.app, page.key.notification);
    let (version, ways) = template::load_for_page(tx, page.app, cards, sending.copied.version_ref()).await?;
    let (step, sequence) = (page.key.step(), sending.sequence.as_ref());
    let recipients = match sequence {
        Some(sequence) if step > FIRST_STEP => {
            let schema = &version.source.variable_schema;
            let values = |one: &Recipient| values_of(&one.own, &sending.defaults, schema, &version.compiled);
            later::plan(tx, (page, rest), (sequence, &ways), values, now)
                .await?
                .into()
        }
        _ => {
            let basis = Basis {
                sending,
                version: &version,
                ways: &ways,
                now,
            };
            first::plan(tx, (page, rest), &basis, ahead).await?
        }
    };
    hit(Point::StepPlanned);
    let work = Work {
        notification: page.key.notification,
        number: page.key.number,
        copied: &sending.copied,
        in_app: in_app(&ways),
        recipients: &recipients,
        now,
    };
    page::run(tx, page.app, &[work]).await?;
    let counts = page::count(&recipients, last_step(sequence));
    pages::record_progress(tx, page.app, page.key, rest.to.saturating_add(1), counts).await?;
    sequence::wait_for_next(tx, place, (sequence, step), &recipients, now).await?;
    Ok(counts)
}
