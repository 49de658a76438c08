//! Writes of one kind that are done together: whoever comes while others are at work waits, and whoever finishes takes all
//! that wait. So a flood of small writes costs a COMMIT and a set of statements for each group, and not for each write. It
//! never waits for more to come: a write that comes alone is done at once, alone.
//!
//! What a group promises to each of its members is what [`Store::write_once`] promises to one:
//! - **A refusal is its own.** The work says of every member whether it refuses it before it writes anything for it, so
//!   there is nothing to undo and no savepoint to go back to; the others are done.
//! - **So is a failure.** Where the work fails as a whole, nothing of it is left, and each member is tried alone: after
//!   the second conflict with another transaction, after a statement that some member's values break, after a panic, and
//!   when the whole took too long. A few are tried at once, so that one that waits for a lock does not hold up the rest.
//!   Nobody is tried alone where that could not help, because the database is away; then those that wait are not tried
//!   either.
//! - **A lost COMMIT is settled once.** It is the same transaction for all of them, and so is its outcome; if nobody can
//!   find it out, all of them are told so, and none is tried again.
//! - **Who goes away is left out**, if its group has not begun; what has begun is done.
//!
//! Transactions of several members meet more locks than those of one, and so they have to take them in one order: first
//! the keys, in their order, and then what the work says, class by class and sorted over all of its members. A group
//! has members of one app only. Rows of two apps are therefore never locked in one transaction, nobody waits for a row
//! of somebody else's app, and an app with many writes takes its turn like one with few.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::error::Failure;
use super::idempotency::{Decided, Member};
use super::work::Effort;
use super::{Once, Store, Tx, Writer, Written, write_span};
use crate::model::Result;
use crate::model::id::AppId;

/// Members of a group. PostgreSQL holds all their locks until COMMIT; SQLite has none but its one writer.
const MEMBERS_MAX: usize = 32;
const MEMBERS_MAX_SQLITE: usize = 128;
/// Groups of one app at once: while one waits for the disk, the other works. On SQLite they would only wait for the one
/// writer, and each with fewer members.
const OF_APP_MAX: usize = 2;
const OF_APP_MAX_SQLITE: usize = 1;
/// Groups at once on SQLite, where one that waits takes no connection.
const AT_ONCE_MAX_SQLITE: usize = 64;
/// Writes of a kind that may wait, of one app and of all; more are refused at once, so a slow disk cannot fill the memory.
const OF_APP_WAITING_MAX: usize = 1_024;
const WAITING_MAX: usize = 4_096;
/// Members that are tried alone at once.
const ALONE_MAX: usize = 4;

type Work<I, T> =
    Box<dyn for<'t> Fn(&'t Tx, AppId, Vec<Arc<I>>) -> BoxFuture<'t, Result<Vec<Result<T>>>> + Send + Sync>;

/// Writes of one kind, which share transactions. Cheap to clone.
pub struct Group<I, T>(Arc<Shared<I, T>>);

struct Shared<I, T> {
    store: Store,
    work: Work<I, T>,
    limits: Limits,
    state: Mutex<State<I, T>>,
}

#[derive(Clone, Copy)]
struct Limits {
    members: usize,
    of_app: usize,
    at_once: usize,
}

struct Waiting<I, T> {
    member: Arc<Member<I>>,
    reply: oneshot::Sender<Result<Written<T>>>,
}

/// Who waits, and how many groups are at work.
struct State<I, T> {
    apps: BTreeMap<AppId, OfApp<I, T>>,
    /// The apps that have somebody waiting, in the order of their turns.
    turns: VecDeque<AppId>,
    waiting: usize,
    at_work: usize,
}

struct OfApp<I, T> {
    waiting: VecDeque<Waiting<I, T>>,
    at_work: usize,
}

impl Store {
    /// Writes that `work` does together. It is given the app and what each member asks for, and answers each in their
    /// order. A member that it refuses it has written nothing for, and it locks rows in one order over all members. Like
    /// every closure of a write it may run more than once.
    #[must_use]
    pub fn group<I, T, F>(&self, work: F) -> Group<I, T>
    where
        F: for<'t> Fn(&'t Tx, AppId, Vec<Arc<I>>) -> BoxFuture<'t, Result<Vec<Result<T>>>> + Send + Sync + 'static,
    {
        self.group_of(usize::MAX, work)
    }

    /// The same with at most so many members together, where each of them may write much.
    #[must_use]
    pub fn group_of<I, T, F>(&self, members_max: usize, work: F) -> Group<I, T>
    where
        F: for<'t> Fn(&'t Tx, AppId, Vec<Arc<I>>) -> BoxFuture<'t, Result<Vec<Result<T>>>> + Send + Sync + 'static,
    {
        let limits = match &self.0.writer {
            Writer::Sqlite(_) => Limits {
                members: MEMBERS_MAX_SQLITE.min(members_max),
                of_app: OF_APP_MAX_SQLITE,
                at_once: AT_ONCE_MAX_SQLITE,
            },
            Writer::Postgres(writer) => Limits {
                members: MEMBERS_MAX.min(members_max),
                of_app: OF_APP_MAX,
                at_once: (writer.connections() / 2).max(1),
            },
        };
        Group(Arc::new(Shared {
            store: self.clone(),
            work: Box::new(work),
            limits,
            state: Mutex::new(State {
                apps: BTreeMap::new(),
                turns: VecDeque::new(),
                waiting: 0,
                at_work: 0,
            }),
        }))
    }
}

impl<I, T> Group<I, T>
where
    I: Send + Sync + 'static,
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Has this done with what else waits, once per idempotency key if there is one, and answers when it is durable.
    ///
    /// # Errors
    /// As [`Store::write_once`].
    pub async fn write(&self, app: AppId, once: Option<Once>, item: Arc<I>) -> Result<Written<T>> {
        let (reply, answer) = oneshot::channel();
        let member = Arc::new(Member { once, item });
        self.0.enter(app, Waiting { member, reply })?;
        // Every member is answered, unless the process is being torn down around it.
        let _in_progress = self.0.store.0.measures.begin(false);
        let answer = answer.instrument(write_span(false)).await;
        answer.unwrap_or_else(|_| Err(Failure::Unknown.into()))
    }
}

impl<I, T> Shared<I, T>
where
    I: Send + Sync + 'static,
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn enter(self: &Arc<Self>, app: AppId, new: Waiting<I, T>) -> Result<(), Failure> {
        if self.store.is_closing() {
            return Err(Failure::Closed);
        }
        let mut state = self.state();
        state.enter(app, new)?;
        self.start(&mut state);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State<I, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one more group work, if somebody can have a turn and not too many work already.
    fn start(self: &Arc<Self>, state: &mut State<I, T>) {
        if state.at_work < self.limits.at_once && state.turn(self.limits).is_some() {
            state.at_work += 1;
            self.store.0.groups.spawn(Arc::clone(self).serve());
        }
    }

    async fn serve(self: Arc<Self>) {
        while let Some((app, group)) = self.next() {
            let undecided = self.settle(app, group).await;
            self.state().leave(app, undecided);
        }
    }

    /// The next group to do, or the end of this one's work.
    fn next(self: &Arc<Self>) -> Option<(AppId, Vec<Waiting<I, T>>)> {
        let mut state = self.state();
        let next = state.next(self.limits);
        match next {
            Some(_) => self.start(&mut state),
            None => state.at_work -= 1,
        }
        next
    }

    /// Does what a group asks for, and gives back who is still undecided.
    async fn settle(self: &Arc<Self>, app: AppId, mut group: Vec<Waiting<I, T>>) -> Vec<Waiting<I, T>> {
        let mut alone = Vec::new();
        if group.len() > 1 {
            match self.decide(app, &group, Effort::Group(group.len())).await {
                Ok(decided) => return answer(group, decided),
                Err(failure) => {
                    self.refuse_waiting(&failure);
                    for one in group.drain(..) {
                        match failure.of_all() {
                            Some(error) => one.answer(Err(error)),
                            None => alone.push(one),
                        }
                    }
                }
            }
        }
        alone.append(&mut group);
        let tried = stream::iter(alone).map(|one| self.settle_alone(app, one));
        let tried: Vec<_> = tried.buffer_unordered(ALONE_MAX).collect().await;
        tried.into_iter().flatten().collect()
    }

    async fn settle_alone(self: &Arc<Self>, app: AppId, one: Waiting<I, T>) -> Vec<Waiting<I, T>> {
        let group = vec![one];
        match self.decide(app, &group, Effort::Request).await {
            Ok(decided) => answer(group, decided),
            Err(failure) => {
                self.refuse_waiting(&failure);
                let mut error = Some(failure.into());
                for one in group {
                    one.answer(Err(error.take().unwrap_or_else(|| Failure::Unknown.into())));
                }
                Vec::new()
            }
        }
    }

    /// What keeps everybody from the database is told to all that wait as well: in groups, one after the other, they would
    /// find it out after their deadlines.
    fn refuse_waiting(&self, failure: &Failure) {
        let Some(fault) = failure.of_everybody() else { return };
        let waiting = self.state().take_waiting();
        for one in waiting {
            one.answer(Err(fault.error()));
        }
    }

    /// One transaction.
    async fn decide(
        self: &Arc<Self>,
        app: AppId,
        group: &[Waiting<I, T>],
        effort: Effort,
    ) -> Result<Vec<Decided<T>>, Failure> {
        let _turn = match &self.store.0.group_turns {
            Some(turns) => turns.acquire().await.ok(),
            None => None,
        };
        let members: Arc<[_]> = group.iter().map(|one| Arc::clone(&one.member)).collect();
        let shared = Arc::clone(self);
        self.store
            .write_with(effort, move |tx| {
                let (shared, members) = (Arc::clone(&shared), Arc::clone(&members));
                Box::pin(async move {
                    let work = |items| (shared.work)(tx, app, items);
                    shared.store.each_at_most_once(tx, &members, work).await
                })
            })
            .await
    }
}

/// Answers those that are decided, and gives the others back.
fn answer<I, T>(group: Vec<Waiting<I, T>>, decided: Vec<Decided<T>>) -> Vec<Waiting<I, T>> {
    let mut undecided = Vec::new();
    for (one, decided) in group.into_iter().zip(decided) {
        match decided {
            Decided::Now(result) => one.answer(result),
            Decided::NotYet => undecided.push(one),
        }
    }
    undecided
}

impl<I, T> Waiting<I, T> {
    fn answer(self, result: Result<Written<T>>) {
        // The caller may have gone away meanwhile; what it asked for is done all the same.
        drop(self.reply.send(result));
    }
}

impl<I, T> State<I, T> {
    fn enter(&mut self, app: AppId, new: Waiting<I, T>) -> Result<(), Failure> {
        let of_app = self.apps.get(&app).map_or(0, |of_app| of_app.waiting.len());
        if self.waiting >= WAITING_MAX || of_app >= OF_APP_WAITING_MAX {
            return Err(Failure::Full);
        }
        if of_app == 0 {
            self.turns.push_back(app);
        }
        self.apps.entry(app).or_default().waiting.push_back(new);
        self.waiting += 1;
        Ok(())
    }

    /// Everybody who waits.
    fn take_waiting(&mut self) -> Vec<Waiting<I, T>> {
        let mut taken = Vec::new();
        for of_app in self.apps.values_mut() {
            taken.extend(of_app.waiting.drain(..));
        }
        self.apps.retain(|_, of_app| of_app.at_work > 0);
        self.turns.clear();
        self.waiting = 0;
        taken
    }

    /// Whose turn it is, as a place among the turns.
    fn turn(&self, limits: Limits) -> Option<usize> {
        self.turns.iter().position(|app| {
            let of_app = self.apps.get(app);
            of_app.is_some_and(|of_app| of_app.at_work < limits.of_app)
        })
    }

    fn next(&mut self, limits: Limits) -> Option<(AppId, Vec<Waiting<I, T>>)> {
        loop {
            let at = self.turn(limits)?;
            let app = self.turns.remove(at)?;
            let of_app = self.apps.get_mut(&app)?;
            let mut group = Vec::new();
            while group.len() < limits.members
                && let Some(one) = of_app.waiting.pop_front()
            {
                self.waiting -= 1;
                if !one.reply.is_closed() {
                    group.push(one);
                }
            }
            if !of_app.waiting.is_empty() {
                self.turns.push_back(app);
            }
            of_app.at_work += 1;
            if !group.is_empty() {
                return Some((app, group));
            }
            self.leave(app, Vec::new());
        }
    }

    /// Ends the work of a group; who is undecided is the first to go on.
    fn leave(&mut self, app: AppId, undecided: Vec<Waiting<I, T>>) {
        let Some(of_app) = self.apps.get_mut(&app) else { return };
        of_app.at_work -= 1;
        if of_app.waiting.is_empty() {
            if !undecided.is_empty() {
                self.turns.push_back(app);
            } else if of_app.at_work == 0 {
                self.apps.remove(&app);
                return;
            }
        }
        self.waiting += undecided.len();
        for one in undecided.into_iter().rev() {
            of_app.waiting.push_front(one);
        }
    }
}

impl<I, T> Default for OfApp<I, T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            at_work: 0,
        }
    }
}

impl<I, T> Clone for Group<I, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I, T> fmt::Debug for Group<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").finish_non_exhaustive()
    }
}
