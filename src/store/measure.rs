//! What the store counts: how long writes wait and take, how many share a COMMIT, what was run again. It never changes what
//! is counted.

use std::time::{Duration, Instant};

use crate::telemetry::{Counter, Gauge, Histogram, Meter, Metric};

use super::error::Fault;
use super::reader::Pool;

/// The word of a queue in metrics.
const fn word(background: bool) -> &'static str {
    if background { "background" } else { "api" }
}

/// One queue of writes.
#[derive(Clone)]
struct Queue {
    in_progress: Gauge,
    duration: Histogram,
}

impl Queue {
    fn new(meter: &Meter, background: bool) -> Self {
        let labels = [("queue", word(background))];
        let in_progress = meter.gauge(Metric::WritesInProgress, &labels);
        in_progress.set(0.0);
        Self {
            in_progress,
            duration: meter.histogram(Metric::WriteDuration, &labels),
        }
    }
}

/// The store's own counters. Cheap to clone.
#[derive(Clone)]
pub(super) struct Measures {
    meter: Meter,
    api: Queue,
    background: Queue,
    turn: Histogram,
    commit: Histogram,
    group: Histogram,
}

/// A write that waits or is at work; it counts as such until this is dropped.
pub(super) struct InProgress<'m> {
    queue: &'m Queue,
    began: Instant,
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.queue.in_progress.decrement(1.0);
        self.queue.duration.record(self.began.elapsed().as_secs_f64());
    }
}

impl Measures {
    pub(super) fn new(meter: Meter) -> Self {
        Self {
            api: Queue::new(&meter, false),
            background: Queue::new(&meter, true),
            turn: meter.histogram(Metric::TurnWait, &[]),
            commit: meter.histogram(Metric::CommitDuration, &[]),
            group: meter.histogram(Metric::CommitGroup, &[]),
            meter,
        }
    }

    /// A write begins to wait.
    pub(super) fn begin(&self, background: bool) -> InProgress<'_> {
        let queue = if background { &self.background } else { &self.api };
        queue.in_progress.increment(1.0);
        InProgress {
            queue,
            began: Instant::now(),
        }
    }

    /// Background work got its turn after so long.
    pub(super) fn turned(&self, waited: Duration) {
        self.turn.record(waited.as_secs_f64());
    }

    /// So many writes were committed together, which took so long.
    pub(super) fn committed(&self, took: Duration, writes: usize) {
        self.commit.record(took.as_secs_f64());
        self.group.record(f64::from(u32::try_from(writes).unwrap_or(u32::MAX)));
    }

    /// So many writes are run again.
    pub(super) fn rerun(&self, cause: Fault, writes: usize) {
        let reruns: Counter = self.meter.counter(Metric::Reruns, &[("cause", cause.word())]);
        reruns.increment(u64::try_from(writes).unwrap_or(u64::MAX));
    }

    /// Notes how many connections a pool has.
    pub(super) fn pool(&self, name: &'static str, pool: &Pool) {
        let (size, idle) = match pool {
            Pool::Sqlite(pool) => (pool.size(), pool.num_idle()),
            Pool::Postgres(pool, _) => (pool.size(), pool.num_idle()),
        };
        let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(size);
        for (state, count) in [("in_use", size - idle), ("idle", idle)] {
            let labels = [("pool", name), ("state", state)];
            self.meter
                .gauge(Metric::StoreConnections, &labels)
                .set(f64::from(count));
        }
    }
}
