//! How much the service takes on at once: calls at work, calls that wait for their turn, watchers, and the memory of what
//! is being read. What goes beyond is refused at once and told when to come back, so that nothing grows with the crowd in
//! front of the door. It never looks at what a call asks for.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::domain::{Answering, Calls};
use crate::model::id::AppId;
use crate::model::{Caller, Error, Reason, Result};
use crate::telemetry::{Gauge, Meter, Metric};

/// When whoever is refused should come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a refusal is kept back, so that callers who come again at once, whatever they are told, come a few times a second
/// and not as fast as they can be refused: that alone would take the processor from everybody else.
const PAUSE: Duration = Duration::from_millis(500);
/// Refusals that are kept back at once; what is beyond is refused without delay, so that they cannot fill the memory.
const PAUSED_MAX: usize = 2_048;
/// What a request may take up once it is read, in bytes for each byte of its body: ten thousand short uids are held as
/// texts, as a set and as rows to be.
const GROWTH: usize = 8;

/// The limits.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Unary calls that are at work at once. An app gets three quarters of them, so that there is always room for another.
    pub calls_max: usize,
    /// Calls that wait for their turn, apps one after the other. An app gets half of them.
    pub waiting_max: usize,
    /// Streams that are open at once.
    pub watchers_max: usize,
    /// Memory of all requests that are being read or served, estimated by their bodies, in bytes. One request is counted
    /// with half of it at most, so that the largest still fits.
    pub memory_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            calls_max: 128,
            waiting_max: 1_024,
            watchers_max: 1_000,
            memory_max: 64 << 20,
        }
    }
}

/// Who takes turns with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Line {
    App(AppId),
    Operator,
    Public,
}

impl From<Caller> for Line {
    fn from(caller: Caller) -> Self {
        match caller {
            Caller::App { app, .. } => Self::App(app),
            Caller::Operator => Self::Operator,
            Caller::Public => Self::Public,
        }
    }
}

#[derive(Default)]
struct State {
    running: usize,
    waiting: usize,
    lines: HashMap<Line, Queue>,
    /// The lines in which somebody waits, the next one first.
    turns: VecDeque<Line>,
}

#[derive(Default)]
struct Queue {
    running: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
}

/// The one place where all calls of a server ask whether there is room. Cheap to clone.
#[derive(Clone)]
pub struct Admission(Arc<Inner>);

struct Inner {
    options: Options,
    state: Mutex<State>,
    paused: Semaphore,
    watchers: AtomicUsize,
    memory: AtomicUsize,
    meter: Meter,
    calls: Calls,
    waiting: Gauge,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}

/// A place among the calls at work; free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    admission: Option<Admission>,
    line: Line,
    _answering: Answering,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            admission.leave(self.line);
        }
    }
}

/// A place among the watchers; free again when this is dropped.
#[derive(Debug)]
pub struct Watching(Admission);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.0.watchers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What one request has taken of the memory; given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    admission: Admission,
    taken: AtomicUsize,
}

impl Share {
    /// Takes memory for so many more bytes of a body. If others have taken it, it says no; what was taken before stays
    /// taken.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        let inner = &self.admission.0;
        let most = inner.options.memory_max / 2;
        let before = self.taken.load(Ordering::Relaxed);
        let more = bytes.saturating_mul(GROWTH).min(most.saturating_sub(before));
        let all = inner.memory.fetch_add(more, Ordering::AcqRel).saturating_add(more);
        if all > inner.options.memory_max {
            inner.memory.fetch_sub(more, Ordering::AcqRel);
            inner.count("memory");
            return false;
        }
        self.taken.fetch_add(more, Ordering::Relaxed);
        true
    }

    /// What a caller is told whose request found no memory.
    #[must_use]
    pub fn refusal(&self) -> Error {
        error(self.admission.0.options.memory_max, "bytes of requests at once")
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let taken = self.taken.load(Ordering::Relaxed);
        self.admission.0.memory.fetch_sub(taken, Ordering::AcqRel);
    }
}

impl Inner {
    fn count(&self, limit: &'static str) {
        let counter = self.meter.counter(Metric::OverloadRefusals, &[("limit", limit)]);
        counter.increment(1);
    }

    fn refusal(&self, limit: &'static str, most: usize, what: &str) -> Error {
        self.count(limit);
        error(most, what)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running_share(&self) -> usize {
        (self.options.calls_max - self.options.calls_max / 4).max(1)
    }

    fn waiting_share(&self) -> usize {
        self.options.waiting_max.div_ceil(2)
    }
}

fn error(most: usize, what: &str) -> Error {
    let seconds = RETRY_AFTER.as_secs();
    let problem = format!("the service takes on {most} {what}, retry after {seconds} s");
    Error::new(Reason::TooManyRequests, problem)
        .with("limit", most)
        .with("retryAfterSeconds", seconds)
        .retry_after(RETRY_AFTER)
}

impl Admission {
    /// An empty house.
    #[must_use]
    pub fn new(options: Options, (meter, calls): (&Meter, &Calls)) -> Self {
        let waiting = meter.gauge(Metric::CallsWaiting, &[]);
        waiting.set(0.0);
        for limit in ["waiting", "watchers", "memory"] {
            meter
                .counter(Metric::OverloadRefusals, &[("limit", limit)])
                .increment(0);
        }
        Self(Arc::new(Inner {
            options,
            state: Mutex::default(),
            paused: Semaphore::new(PAUSED_MAX),
            watchers: AtomicUsize::new(0),
            memory: AtomicUsize::new(0),
            meter: meter.clone(),
            calls: calls.clone(),
            waiting,
        }))
    }

    /// Refuses a caller that would find no room in its line, before anything of its request is read; not at once, unless
    /// the server is `stopping`.
    ///
    /// # Errors
    /// Too many requests.
    pub async fn look(&self, caller: Caller, stopping: &CancellationToken) -> Result<()> {
        let looked = self.may_wait(&self.0.state(), caller.into());
        if looked.is_err()
            && let Ok(_paused) = self.0.paused.try_acquire()
        {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        looked
    }

    fn may_wait(&self, state: &State, line: Line) -> Result<()> {
        let (inner, own) = (&self.0, state.lines.get(&line));
        let own = own.map_or(0, |queue| queue.waiting.len());
        if state.waiting >= inner.options.waiting_max {
            Err(inner.refusal("waiting", inner.options.waiting_max, "waiting calls"))
        } else if own >= inner.waiting_share() {
            Err(inner.refusal("waiting", inner.waiting_share(), "waiting calls of an app"))
        } else {
            Ok(())
        }
    }

    /// Takes a place among the calls at work, after a while if need be.
    ///
    /// # Errors
    /// Too many requests, when too many wait already.
    pub async fn enter(&self, caller: Caller) -> Result<Place> {
        let line = Line::from(caller);
        let turn = {
            let mut state = self.0.state();
            if state.may_run(&self.0, line) {
                state.run(line);
                return Ok(self.place(line));
            }
            self.may_wait(&state, line)?;
            let (sender, turn) = oneshot::channel();
            state.wait(line, sender);
            turn
        };
        self.0.waiting.increment(1.0);
        let _waits = Waits(&self.0.waiting);
        // The sender goes only with the whole house.
        turn.await.map_err(Error::internal)
    }

    fn place(&self, line: Line) -> Place {
        Place {
            admission: Some(self.clone()),
            line,
            _answering: self.0.calls.begin(),
        }
    }

    fn leave(&self, line: Line) {
        let mut leaves = line;
        loop {
            let mut state = self.0.state();
            state.leave(leaves);
            let Some((next, sender)) = state.next(&self.0) else {
                return;
            };
            state.run(next);
            drop(state);
            match sender.send(self.place(next)) {
                Ok(()) => return,
                // It waits no longer: its place is the next one's. Not by its own drop, which would come back here.
                Err(mut place) => place.admission = None,
            }
            leaves = next;
        }
    }

    /// Takes a place among the watchers.
    ///
    /// # Errors
    /// Too many requests, when all are taken.
    pub fn watch(&self) -> Result<Watching> {
        let (inner, watching) = (&self.0, Watching(self.clone()));
        let before = inner.watchers.fetch_add(1, Ordering::AcqRel);
        if before >= inner.options.watchers_max {
            return Err(inner.refusal("watchers", inner.options.watchers_max, "streams at once"));
        }
        Ok(watching)
    }

    /// The memory of one request, of which nothing is taken yet.
    #[must_use]
    pub fn share(&self) -> Share {
        Share {
            admission: self.clone(),
            taken: AtomicUsize::new(0),
        }
    }
}

/// Counts one that waits, however the waiting ends.
struct Waits<'g>(&'g Gauge);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl State {
    /// Whether a call may go to work at once: there is room, and in front of it nobody waits who could.
    fn may_run(&self, inner: &Inner, line: Line) -> bool {
        let own = self.lines.get(&line);
        let own_room = own.is_none_or(|queue| queue.running < inner.running_share() && queue.waiting.is_empty());
        self.running < inner.options.calls_max && own_room
    }

    fn run(&mut self, line: Line) {
        self.running = self.running.saturating_add(1);
        let queue = self.lines.entry(line).or_default();
        queue.running = queue.running.saturating_add(1);
    }

    fn wait(&mut self, line: Line, sender: oneshot::Sender<Place>) {
        self.waiting = self.waiting.saturating_add(1);
        let queue = self.lines.entry(line).or_default();
        if queue.waiting.is_empty() {
            self.turns.push_back(line);
        }
        queue.waiting.push_back(sender);
    }

    fn leave(&mut self, line: Line) {
        self.running = self.running.saturating_sub(1);
        if let Some(queue) = self.lines.get_mut(&line) {
            queue.running = queue.running.saturating_sub(1);
            if queue.running == 0 && queue.waiting.is_empty() {
                self.lines.remove(&line);
            }
        }
    }

    /// Whose turn it is: the lines one after the other, without those that have their share of places.
    fn next(&mut self, inner: &Inner) -> Option<(Line, oneshot::Sender<Place>)> {
        for _ in 0..self.turns.len() {
            let line = self.turns.pop_front()?;
            let Some(queue) = self.lines.get_mut(&line) else {
                continue;
            };
            if queue.running >= inner.running_share() {
                self.turns.push_back(line);
                continue;
            }
            let sender = queue.waiting.pop_front();
            if !queue.waiting.is_empty() {
                self.turns.push_back(line);
            }
            if let Some(sender) = sender {
                self.waiting = self.waiting.saturating_sub(1);
                return Some((line, sender));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::model::Timestamp;

    fn admission(calls_max: usize, waiting_max: usize) -> Admission {
        let options = Options {
            calls_max,
            waiting_max,
            watchers_max: 2,
            memory_max: 100 * GROWTH,
        };
        Admission::new(options, (&Meter::new(), &Calls::default()))
    }

    fn app(number: u128) -> Caller {
        Caller::App {
            app: AppId::from(uuid::Uuid::from_u128(number)),
            key: crate::model::id::ApiKeyId::new(Timestamp::MIN),
            scope: crate::model::Scope::FullAccess,
        }
    }

    /// What a future comes to if it is ready.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn an_app_leaves_room_for_another_and_apps_take_turns() {
        let house = admission(4, 8);
        let (one, two) = (app(1), app(2));
        let mut places: Vec<_> = (0..3).map(|_| now(house.enter(one)).unwrap().unwrap()).collect();
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(house.enter(one))).collect();
        for wait in &mut waiting {
            assert!(now(wait.as_mut()).is_none(), "three quarters are taken");
        }
        let of_two = now(house.enter(two)).unwrap().unwrap();
        let mut also_two = Box::pin(house.enter(two));
        assert!(now(also_two.as_mut()).is_none(), "the house is full");
        places.pop();
        places.push(now(waiting[0].as_mut()).unwrap().unwrap());
        assert!(now(waiting[1].as_mut()).is_none());
        places.pop();
        let late = now(also_two.as_mut()).unwrap().unwrap();
        assert!(now(waiting[1].as_mut()).is_none(), "it was the turn of the other app");
        drop(of_two);
        assert!(now(waiting[1].as_mut()).unwrap().is_ok());
        drop((late, places, waiting));
        assert!(house.0.state().lines.is_empty() && house.0.state().running == 0);
    }

    #[test]
    fn calls_at_work_are_known_and_calls_that_wait_are_not() {
        let calls = Calls::default();
        let options = Options {
            calls_max: 1,
            ..Options::default()
        };
        let house = Admission::new(options, (&Meter::new(), &calls));
        assert!(!calls.is_busy());
        let place = now(house.enter(app(1))).unwrap().unwrap();
        assert!(calls.is_busy());
        let mut waits = Box::pin(house.enter(app(1)));
        assert!(now(waits.as_mut()).is_none());
        drop(waits);
        drop(place);
        std::thread::sleep(Duration::from_millis(300));
        assert!(!calls.is_busy(), "a call is forgotten some time after it has ended");
    }

    #[test]
    fn who_waits_no_longer_is_passed_over() {
        let house = admission(1, 8);
        let place = now(house.enter(app(1))).unwrap().unwrap();
        let mut gone = Box::pin(house.enter(app(1)));
        let mut stays = Box::pin(house.enter(app(1)));
        assert!(now(gone.as_mut()).is_none() && now(stays.as_mut()).is_none());
        drop(gone);
        drop(place);
        assert!(now(stays.as_mut()).unwrap().is_ok());
        // A place that was handed over and never fetched is free again.
        let place = now(house.enter(app(1))).unwrap().unwrap();
        let mut handed = Box::pin(house.enter(app(1)));
        assert!(now(handed.as_mut()).is_none());
        drop(place);
        drop(handed);
        assert_eq!(house.0.state().running, 0);
    }

    #[test]
    fn beyond_what_may_wait_it_is_refused_with_a_hint() {
        let house = admission(1, 4);
        let _place = now(house.enter(app(1))).unwrap().unwrap();
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(house.enter(app(1)))).collect();
        assert!(waiting.iter_mut().all(|wait| now(wait.as_mut()).is_none()));
        let refused = now(house.enter(app(1))).unwrap().unwrap_err();
        assert_eq!(refused.reason(), Reason::TooManyRequests);
        assert_eq!(refused.retry_hint(), Some(RETRY_AFTER));
        let room = |number| house.may_wait(&house.0.state(), app(number).into());
        assert!(room(1).is_err());
        assert!(room(2).is_ok(), "an app gets half of the waiting places");
        let mut others: Vec<_> = (0..2).map(|_| Box::pin(house.enter(app(2)))).collect();
        assert!(others.iter_mut().all(|wait| now(wait.as_mut()).is_none()));
        assert!(room(3).is_err(), "all of them wait");
        let text = house.0.meter.render();
        assert!(text.contains("campanile_calls_waiting 4"), "{text}");
        drop((waiting, others));
        assert!(house.0.meter.render().contains("campanile_calls_waiting 0"));
    }

    #[tokio::test]
    async fn a_refusal_is_kept_back_for_a_while_and_not_when_the_server_stops() {
        let (house, stopping) = (admission(1, 2), CancellationToken::new());
        let _place = house.enter(app(1)).await.unwrap();
        let mut waits = Box::pin(house.enter(app(1)));
        assert!(now(waits.as_mut()).is_none());
        let began = std::time::Instant::now();
        assert!(house.look(app(2), &stopping).await.is_ok());
        assert!(began.elapsed() < PAUSE);
        assert!(house.look(app(1), &stopping).await.is_err());
        assert!(began.elapsed() >= PAUSE);
        stopping.cancel();
        let began = std::time::Instant::now();
        assert!(house.look(app(1), &stopping).await.is_err());
        assert!(began.elapsed() < PAUSE);
    }

    #[test]
    fn watchers_and_memory_are_bounded_and_given_back() {
        let house = admission(1, 4);
        let watchers = (house.watch().unwrap(), house.watch().unwrap());
        assert!(house.watch().is_err());
        drop(watchers);
        assert!(house.watch().is_ok());
        let (large, small) = (house.share(), house.share());
        assert!(large.take(1_000));
        assert!(small.take(50));
        assert!(
            !house.share().take(1),
            "the large one counts as half, and the other half is taken"
        );
        assert!(small.take(1), "it counts as half as well by now");
        drop(large);
        assert!(house.share().take(50));
        drop(small);
        assert_eq!(house.0.memory.load(Ordering::Relaxed), 0);
    }
}
