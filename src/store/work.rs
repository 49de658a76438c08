//! How a write closure is run: a panic inside it is one refused write, not the end of the writer. It never touches the
//! transaction's own bounds.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::error::{Failure, Fault};
use super::tx::Tx;
use crate::model::{Error, Result};

/// For whom a closure works, which decides how long and how often it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// A request, which waits for it.
    Request,
    /// So many requests at once, each of which can be tried alone when this fails.
    Group(usize),
    /// Nobody who waits.
    Background,
}

impl Effort {
    /// How many writes it is that are done together.
    pub(super) const fn writes(self) -> usize {
        match self {
            Self::Request | Self::Background => 1,
            Self::Group(writes) => writes,
        }
    }
}

/// Runs the closure once. A closure that swallowed the error of a statement is refused as well: its transaction is spoiled.
pub(super) async fn run<T, F>(work: &F, tx: &Tx) -> Result<T>
where
    F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T>> + Send + Sync,
{
    let outcome = AssertUnwindSafe(async { work(tx).await }).catch_unwind().await;
    let result = outcome.unwrap_or_else(|_| Err(Error::internal("a write closure panicked")));
    match (result, tx.fault()) {
        (Ok(_), Some(fault)) => Err(fault.error()),
        (result, _) => result,
    }
}

/// A write that waits in a queue, whatever it answers with.
pub(super) trait Job: Send {
    /// Runs the closure and keeps its answer; says whether its effect is to be kept.
    fn run<'a>(&'a mut self, tx: &'a Tx) -> BoxFuture<'a, bool>;
    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
    /// How many writes it is that are done together.
    fn writes(&self) -> usize;
    /// Hands over the kept answer, once what it says is durable.
    fn answer(self: Box<Self>);
    /// Hands over a refusal instead.
    fn refuse(self: Box<Self>, failure: Failure);
}

/// The one kind of job.
pub(super) struct Waiting<T, F> {
    work: F,
    writes: usize,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl<T, F> Waiting<T, F> {
    pub(super) fn new(effort: Effort, work: F) -> (Self, oneshot::Receiver<Result<T, Failure>>) {
        let (reply, answer) = oneshot::channel();
        let new = Self {
            work,
            writes: effort.writes(),
            result: None,
            reply,
        };
        (new, answer)
    }
}

impl<T, F> Job for Waiting<T, F>
where
    F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T>> + Send + Sync,
    T: Send,
{
    fn run<'a>(&'a mut self, tx: &'a Tx) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let result = run(&self.work, tx).await;
            let keep = result.is_ok();
            self.result = Some(result);
            keep
        })
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn writes(&self) -> usize {
        self.writes
    }

    fn answer(self: Box<Self>) {
        let result = self.result.map(|result| result.map_err(Failure::Refused));
        // The caller may have gone away meanwhile; what it asked for is done all the same.
        drop(self.reply.send(result.unwrap_or(Err(Failure::Fault(Fault::Lost)))));
    }

    fn refuse(self: Box<Self>, failure: Failure) {
        drop(self.reply.send(Err(failure)));
    }
}
