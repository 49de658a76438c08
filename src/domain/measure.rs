//! What the service counts of its own doing, and how an operator's look at it is answered. It never decides anything.

use std::sync::Mutex as Lock;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::Service;
use crate::model::delivery::Counts;
use crate::model::notification::SendMode;
use crate::model::{Result, Timestamp};
use crate::store::observe::{size_bytes, waiting_work};
use crate::telemetry::{Counter, Gauge, Histogram, Meter, Metric};

/// How long a look at the database may take. Whoever asks for metrics wants them also when the database is away.
const LOOK_TIME_MAX: Duration = Duration::from_secs(1);
/// How old the size of the database may be.
const SIZE_AGE_MAX: Duration = Duration::from_secs(60);

/// What became of a page in the hands of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageEvent {
    Done,
    Failed,
    Halved,
    GivenUp,
    GivenBack,
    Lost,
}

impl PageEvent {
    const ALL: [Self; 6] = [
        Self::Done,
        Self::Failed,
        Self::Halved,
        Self::GivenUp,
        Self::GivenBack,
        Self::Lost,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Halved => "halved",
            Self::GivenUp => "given_up",
            Self::GivenBack => "given_back",
            Self::Lost => "lost",
        }
    }
}

/// The service's own counters.
pub(super) struct Measures {
    meter: Meter,
    pub(super) replays: Counter,
    pub(super) completed: Counter,
    pub(super) unread_reads: Counter,
    pub(super) step: Histogram,
    taken_over: Counter,
    held: Gauge,
    preflights: Gauge,
    looking: Mutex<Looked>,
    size: Lock<Option<Instant>>,
}

/// Kept while somebody looks, so that looks never pile up.
struct Looked;

/// Something that this process has in hand; it counts as such until this is dropped.
#[derive(Debug)]
pub struct Held(Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl Measures {
    pub(super) fn new(meter: Meter) -> Self {
        let measures = Self {
            replays: meter.counter(Metric::IdempotentReplays, &[]),
            completed: meter.counter(Metric::NotificationsCompleted, &[]),
            unread_reads: meter.counter(Metric::UnreadReads, &[]),
            step: meter.histogram(Metric::StepDuration, &[]),
            taken_over: meter.counter(Metric::LeasesTakenOver, &[]),
            held: meter.gauge(Metric::LeasesHeld, &[]),
            preflights: meter.gauge(Metric::PreflightsRunning, &[]),
            looking: Mutex::new(Looked),
            size: Lock::default(),
            meter,
        };
        // What has not happened yet is told as zero, so that its first time is seen.
        measures.held.set(0.0);
        measures.preflights.set(0.0);
        measures.refusal().increment(0);
        for event in PageEvent::ALL {
            measures.page(event).increment(0);
        }
        measures.recipients(Counts::default());
        for mode in ["realtime", "batch", "campaign"] {
            measures.accepted(mode).increment(0);
        }
        measures
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    fn accepted(&self, mode: &'static str) -> Counter {
        self.meter.counter(Metric::NotificationsAccepted, &[("mode", mode)])
    }

    /// A send was committed.
    pub(super) fn sent(&self, mode: SendMode, over: bool, counts: Counts) {
        match mode {
            SendMode::Realtime => {
                self.accepted("realtime").increment(1);
                self.completed.increment(u64::from(over));
                self.recipients(counts);
            }
            SendMode::Batch => self.accepted("batch").increment(1),
            SendMode::Campaign => self.accepted("campaign").increment(1),
            // This build sends in no other mode.
            SendMode::Unknown(_) => {}
        }
    }

    /// Recipients were dealt with, and that was committed.
    pub(super) fn recipients(&self, counts: Counts) {
        for (outcome, count) in [
            ("sent", counts.sent),
            ("failed", counts.failed),
            ("skipped", counts.skipped),
        ] {
            let counter = self.meter.counter(Metric::Recipients, &[("outcome", outcome)]);
            counter.increment(u64::from(count));
        }
    }

    fn page(&self, event: PageEvent) -> Counter {
        self.meter.counter(Metric::PageEvents, &[("event", event.word())])
    }

    /// Something became of a page.
    pub(super) fn page_event(&self, event: PageEvent) {
        self.page(event).increment(1);
    }

    /// A page was leased.
    pub(super) fn hold(&self, taken_over: bool) -> Held {
        self.held.increment(1.0);
        if taken_over {
            self.taken_over.increment(1);
        }
        Held(self.held.clone())
    }

    /// An audience is gone through.
    pub(super) fn run_preflight(&self) -> Held {
        self.preflights.increment(1.0);
        Held(self.preflights.clone())
    }

    fn refusal(&self) -> Counter {
        self.meter.counter(Metric::OverloadRefusals, &[("limit", "preflights")])
    }

    /// A preflight found no room.
    pub(super) fn refused_preflight(&self) {
        self.refusal().increment(1);
    }
}

impl Service {
    /// Counts what this service does.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        self.measures.meter()
    }

    /// Counts what a sweep has swept.
    pub fn count_swept(&self, what: &'static str, rows: u64) {
        self.meter()
            .counter(Metric::SweptRows, &[("what", what)])
            .increment(rows);
    }
}

/// Looks at what is not counted along the way: connections, the work that waits, the size of the database. One look at a
/// time; who comes while somebody looks gets what is found then, or was found before.
pub async fn look(service: &Service, now: Timestamp) {
    let measures = &service.measures;
    let Ok(_looking) = measures.looking.try_lock() else {
        return;
    };
    service.store.observe_pools();
    let looked = tokio::time::timeout(LOOK_TIME_MAX, look_at_database(service, now)).await;
    let up = matches!(looked, Ok(Ok(())));
    match looked {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => {
            let source = std::error::Error::source(&fault);
            tracing::warn!(cause = %fault, source, "the work that waits cannot be looked at");
        }
        Err(_) => tracing::warn!("the database did not answer a look at the work that waits in time"),
    }
    let gauge = |metric| measures.meter.gauge(metric, &[]);
    gauge(Metric::StoreUp).set(f64::from(u8::from(up)));
    if !up {
        for metric in [Metric::PagesOpen, Metric::OldestPage, Metric::OldestNotification] {
            gauge(metric).set(f64::NAN);
        }
    }
}

async fn look_at_database(service: &Service, now: Timestamp) -> Result<()> {
    let measures = &service.measures;
    let gauge = |metric| measures.meter.gauge(metric, &[]);
    let work = waiting_work(service.store.read()).await?;
    gauge(Metric::PagesOpen).set(f64::from(work.open_pages));
    gauge(Metric::OldestPage).set(age(work.oldest_page, now));
    gauge(Metric::OldestNotification).set(age(work.oldest_notification, now));
    let is_old = |looked: &Option<Instant>| looked.is_none_or(|at| at.elapsed() >= SIZE_AGE_MAX);
    let due = measures.size.lock().is_ok_and(|looked| is_old(&looked));
    if due {
        let bytes = size_bytes(service.store.read()).await?;
        gauge(Metric::StoreSize).set(whole(bytes));
        if let Ok(mut looked) = measures.size.lock() {
            *looked = Some(Instant::now());
        }
    }
    Ok(())
}

/// How long ago something was made, in seconds.
fn age(made: Option<Timestamp>, now: Timestamp) -> f64 {
    let millis = made.map_or(0, |made| now.millis().saturating_sub(made.millis()).max(0));
    Duration::from_millis(millis.unsigned_abs()).as_secs_f64()
}

/// A number of bytes as Prometheus takes it: exact up to 2^53, which is eight petabytes.
#[expect(
    clippy::cast_precision_loss,
    reason = "beyond 2^53 bytes the size is told to the nearest few bytes"
)]
fn whole(bytes: i64) -> f64 {
    bytes as f64
}
