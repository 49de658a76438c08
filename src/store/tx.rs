//! The transaction as its closure sees it. It never begins, commits or rolls back: only the writers do.

use std::sync::{Mutex as Flag, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::Mutex;

use super::error::{Fault, carried};
use super::link::Link;
use super::share::Calls;

/// A transaction that store functions write in.
///
/// After a failed statement it takes no further one, on either database. PostgreSQL insists on that; on SQLite it is what
/// keeps a statement from running after SQLite has ended the transaction by itself, where it would commit alone.
pub struct Tx {
    link: Mutex<Link>,
    backend: DatabaseBackend,
    state: Flag<State>,
}

#[derive(Default)]
struct State {
    fault: Option<Fault>,
    /// PostgreSQL's number of the transaction, by which a lost COMMIT is looked up.
    xid: Option<String>,
    /// Since when a background closure works, and what bounds it.
    began: Option<(Instant, TimeMax)>,
}

/// How long a background closure may work before it is asked to finish.
#[derive(Clone)]
pub(super) enum TimeMax {
    Fixed(Duration),
    /// It depends on the calls that are being answered, at the moment when the closure asks.
    Sharing(Calls),
}

impl TimeMax {
    fn now(&self) -> Duration {
        match self {
            Self::Fixed(time) => *time,
            Self::Sharing(calls) => calls.time_max(),
        }
    }
}

impl Tx {
    pub(super) fn new(link: Link) -> Self {
        Self {
            backend: link.backend(),
            link: Mutex::new(link),
            state: Flag::default(),
        }
    }

    /// Whether a background closure has used up its time and should finish with what it has done so far. A request's
    /// closure is never told to.
    #[must_use]
    pub fn is_out_of_time(&self) -> bool {
        let began = &self.state().began;
        began
            .as_ref()
            .is_some_and(|(began, most)| began.elapsed() >= most.now())
    }

    pub(super) fn start(&self, most: Option<TimeMax>) {
        *self.state() = State {
            began: most.map(|most| (Instant::now(), most)),
            ..State::default()
        };
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.state().fault
    }

    pub(super) fn xid(&self) -> Option<String> {
        self.state().xid.clone()
    }

    pub(super) fn note_xid(&self, xid: String) {
        self.state().xid = Some(xid);
    }

    pub(super) fn link(&mut self) -> &mut Link {
        self.link.get_mut()
    }

    pub(super) fn into_link(self) -> Link {
        self.link.into_inner()
    }

    pub(super) fn replace(&mut self, link: Link) {
        *self.link.get_mut() = link;
    }

    /// Runs a statement on PostgreSQL. Where it meets a key that is taken it says so, nothing of it is done, and the
    /// transaction goes on.
    pub(super) async fn unless_taken(&self, statement: Statement) -> Result<bool, DbErr> {
        let mut link = self.link.lock().await;
        self.check()?;
        self.noted(link.execute_unprepared("SAVEPOINT tried").await)?;
        let is_taken = match link.execute(statement).await {
            Err(error) if Fault::of(&error) == Fault::Taken => true,
            done => {
                self.noted(done)?;
                false
            }
        };
        let end = match is_taken {
            true => "ROLLBACK TO SAVEPOINT tried; RELEASE SAVEPOINT tried",
            false => "RELEASE SAVEPOINT tried",
        };
        self.noted(link.execute_unprepared(end).await)?;
        Ok(!is_taken)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), DbErr> {
        match self.fault() {
            None => Ok(()),
            Some(_) => Err(DbErr::Custom(
                "an earlier statement of this transaction failed".to_owned(),
            )),
        }
    }

    fn noted<T>(&self, result: sqlx::Result<T>) -> Result<T, DbErr> {
        result.map_err(|error| {
            self.state().fault.get_or_insert(Fault::of(&error));
            carried(error)
        })
    }
}

#[async_trait]
impl ConnectionTrait for Tx {
    fn get_database_backend(&self) -> DatabaseBackend {
        self.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let mut link = self.link.lock().await;
        self.check()?;
        self.noted(link.execute(statement).await)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let mut link = self.link.lock().await;
        self.check()?;
        self.noted(link.execute_unprepared(sql).await)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let mut link = self.link.lock().await;
        self.check()?;
        self.noted(link.query_one(statement).await)
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut link = self.link.lock().await;
        self.check()?;
        self.noted(link.query_all(statement).await)
    }
}
