//! How background work shares PostgreSQL with calls: the one place that says how much of it goes on at once and for how
//! long. It never orders calls among each other.
//!
//! Each transaction at work is a process of the server that takes a core while its statements run, and those of a page run
//! for tens of milliseconds. The statements of a call take a fraction of one, but there are several, one after the other,
//! and where pages have all cores each of them waits for one; a call's COMMIT waits for theirs to reach the disk as well.
//! So there are two ways of going about it:
//! - **While calls are answered**, and for [`LINGER`] behind the last, background transactions take turns, so few at a time
//!   that half of the cores are free of them, and each is asked to end within [`BRIEF`].
//! - **While nobody calls**, as many go on at once as half of the connections carry, for up to [`LONG`] each.
//!
//! Turns go to whoever came first, whatever kind of work it is, and no call takes one away: calls that never end make
//! background work slower, but do not stop it. Calls are those of this process, and its cores are taken for the server's;
//! what other processes do against the same server is theirs to bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

/// How long after a call another one is expected, so that work which begins between two of them keeps out of the way as well.
const LINGER: Duration = Duration::from_millis(250);
/// How long a background closure works before it is asked to finish, while calls are answered: about what a page of a thousand
/// recipients takes on a core that is free. Calls go on beside it, so less would not help them much, and what each transaction
/// costs whatever it does would come more often: with a third of it campaigns came on by a quarter slower.
const BRIEF: Duration = Duration::from_millis(75);
/// The same while no calls are answered.
const LONG: Duration = Duration::from_secs(1);

/// The calls that are being answered. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Calls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    at_work: AtomicUsize,
    /// When the last one ended, in milliseconds after `origin`; 0 before any.
    ended_ms: AtomicU64,
    origin: Instant,
}

/// A call that is being answered, until this is dropped.
#[derive(Debug)]
pub struct Answering(Calls);

impl Default for Calls {
    fn default() -> Self {
        Self(Arc::new(Inner {
            at_work: AtomicUsize::new(0),
            ended_ms: AtomicU64::new(0),
            origin: Instant::now(),
        }))
    }
}

impl Calls {
    /// A call goes to work.
    #[must_use]
    pub fn begin(&self) -> Answering {
        self.0.at_work.fetch_add(1, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// Whether a call is at work, or was a moment before.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.is_busy_at(self.now_ms())
    }

    fn is_busy_at(&self, now_ms: u64) -> bool {
        let ended = self.0.ended_ms.load(Ordering::Relaxed);
        self.0.at_work.load(Ordering::Relaxed) > 0 || (ended > 0 && now_ms < ended.saturating_add(millis(LINGER)))
    }

    /// How long a background closure that works now may do so.
    pub(super) fn time_max(&self) -> Duration {
        if self.is_busy() { BRIEF } else { LONG }
    }

    fn now_ms(&self) -> u64 {
        millis(self.0.origin.elapsed())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let inner = &self.0.0;
        inner.ended_ms.fetch_max(self.0.now_ms().max(1), Ordering::Relaxed);
        inner.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The turns of background transactions.
pub(super) struct Turns {
    calls: Calls,
    /// Taken beside one of `all` while calls are answered.
    few: Semaphore,
    all: Semaphore,
}

/// A turn, until it is dropped.
pub(super) struct Turn<'t> {
    _few: Option<SemaphorePermit<'t>>,
    _all: SemaphorePermit<'t>,
}

impl Turns {
    /// Turns of those who write over so many connections.
    pub(super) fn new(calls: Calls, connections: usize) -> Self {
        let (few, all) = at_once(connections, available_parallelism().map_or(1, usize::from));
        Self {
            calls,
            few: Semaphore::new(few),
            all: Semaphore::new(all),
        }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// None: nobody closes the semaphores.
    pub(super) async fn take(&self) -> Result<Turn<'_>, AcquireError> {
        let few = match self.calls.is_busy() {
            true => Some(self.few.acquire().await?),
            false => None,
        };
        Ok(Turn {
            _few: few,
            _all: self.all.acquire().await?,
        })
    }

    pub(super) fn calls(&self) -> &Calls {
        &self.calls
    }
}

/// How many transactions go on at once while calls are answered, and while none are.
fn at_once(connections: usize, cores: usize) -> (usize, usize) {
    let all = (connections / 2).max(1);
    ((cores / 2).clamp(1, all), all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy_and_quiet(turns: &Turns) -> (usize, usize) {
        (turns.few.available_permits(), turns.all.available_permits())
    }

    #[test]
    fn half_of_the_cores_and_half_of_the_connections_are_left_to_calls() {
        for (connections, cores, expected) in [
            (2, 1, (1, 1)),
            (16, 1, (1, 8)),
            (16, 2, (1, 8)),
            (16, 8, (4, 8)),
            (16, 64, (8, 8)),
            (1, 64, (1, 1)),
        ] {
            assert_eq!(
                at_once(connections, cores),
                expected,
                "{connections} connections, {cores} cores"
            );
        }
    }

    #[test]
    fn a_call_shortens_the_time_of_what_goes_on_and_lingers() {
        let calls = Calls::default();
        assert_eq!(calls.time_max(), LONG, "nobody has called");
        let call = calls.begin();
        let another = calls.begin();
        assert_eq!(calls.time_max(), BRIEF);
        drop(call);
        assert_eq!(calls.time_max(), BRIEF, "another one is at work");
        drop(another);
        let ended = calls.0.ended_ms.load(Ordering::Relaxed);
        assert!(calls.is_busy_at(ended + millis(LINGER) - 1), "it has just ended");
        assert!(!calls.is_busy_at(ended + millis(LINGER)));
    }

    #[tokio::test]
    async fn a_turn_takes_one_of_the_few_while_calls_are_answered_alone() {
        let calls = Calls::default();
        let turns = Turns::new(calls.clone(), 16);
        let (few, all) = busy_and_quiet(&turns);
        let quiet = turns.take().await.unwrap();
        assert_eq!(busy_and_quiet(&turns), (few, all - 1));
        let call = calls.begin();
        let busy = turns.take().await.unwrap();
        assert_eq!(busy_and_quiet(&turns), (few - 1, all - 2));
        drop((quiet, busy, call));
        assert_eq!(busy_and_quiet(&turns), (few, all));
    }
}
