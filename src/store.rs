//! SQL: one schema and one set of queries for SQLite and PostgreSQL, a file per noun. It never decides what may happen;
//! that is the domain, which gives [`Store::write`] the closures that do.
//!
//! - Every write is a closure of [`Store::write`], [`Store::write_once`] or [`Store::write_background`]. A closure may run
//!   more than once, so it awaits nothing but store functions and changes nothing outside its transaction.
//! - Store functions take `&impl ConnectionTrait` (both [`Tx`] and [`Reader`] are one) and then the app.
//! - A failed statement ends its closure; see [`Tx`]. To go on after a conflict, `ON CONFLICT DO NOTHING` and count rows.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sea_orm::{ConnectionTrait, Statement};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span, trace_span};

use crate::model::Result;

pub mod app;
pub mod audience;
pub mod bulk;
pub mod campaign;
pub mod category;
pub mod channel;
pub mod delivery;
pub mod entity;
mod error;
pub mod feed;
mod gather;
mod group;
pub mod idempotency;
pub mod import;
pub mod lane;
mod link;
pub mod list;
pub mod load;
mod measure;
pub mod notification;
pub mod observe;
mod open;
pub mod outgoing;
pub mod page;
mod postgres;
mod pulse;
mod reader;
pub mod receiver;
pub mod retention;
pub mod secret;
pub mod sequence;
mod share;
mod sqlite;
mod tag;
pub mod template;
mod tx;
pub mod user;
pub mod value;
pub mod wait;
mod work;

/// What store functions run on: a [`Tx`] or the [`Reader`].
pub use sea_orm::ConnectionTrait as Connection;

pub use error::taken;
pub use group::Group;
pub use idempotency::{Once, Written};
pub use open::StoreSettings;
pub use reader::Reader;
pub use secret::SecretKey;
pub use share::{Answering, Calls};
pub use tx::Tx;

use error::{Failure, Fault};
use measure::Measures;
use postgres::PostgresWriter;
use reader::Pool;
use secret::Cipher;
use sqlite::SqliteWriter;
use work::Effort;

/// How long a check may take: less than those who ask whether a service is ready usually wait.
const CHECK_TIME_MAX: Duration = Duration::from_secs(2);

/// How long saying goodbye to the database may take, once every write has ended.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(3);

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    reader: Reader,
    writer: Writer,
    cipher: Cipher,
    measures: Measures,
    calls: Calls,
    /// Groups at work; closed first, so that what waits in them is still done.
    groups: TaskTracker,
    /// Which of them may take a connection of PostgreSQL: half of these are for all else that is written.
    group_turns: Option<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Ends the tasks of a store that nobody closed.
    _stopped_with_it: DropGuard,
}

enum Writer {
    Sqlite(SqliteWriter),
    Postgres(Box<PostgresWriter>),
}

/// A write as a part of the call that it is done for.
fn write_span(background: bool) -> Span {
    trace_span!("store write", background)
}

impl Store {
    /// Runs a closure in a transaction and answers once its effect is durable. An `Err` of the closure undoes all it did.
    ///
    /// # Errors
    /// What the closure refuses; [`Reason::Unavailable`](crate::model::Reason::Unavailable) with a hint when to try again
    /// if the database is away or too busy, in which case nothing was changed unless the message says that the outcome is
    /// unknown.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
        T: Send + 'static,
    {
        let _in_progress = self.0.measures.begin(false);
        let written = self.write_with(Effort::Request, work);
        Ok(written.instrument(write_span(false)).await?)
    }

    /// The same for work that nobody waits for: requests go first, and the closure should end when
    /// [`Tx::is_out_of_time`], keeping what it has done.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_background<T, F>(&self, work: F) -> Result<T>
    where
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
        T: Send + 'static,
    {
        let _in_progress = self.0.measures.begin(true);
        let written = self.write_with(Effort::Background, work);
        Ok(written.instrument(write_span(true)).await?)
    }

    async fn write_with<T, F>(&self, effort: Effort, work: F) -> Result<T, Failure>
    where
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
        T: Send + 'static,
    {
        match &self.0.writer {
            Writer::Sqlite(writer) => writer.write(effort, work).await,
            // Boxed, as it is large and every write would carry it, on SQLite too.
            Writer::Postgres(writer) => Box::pin(writer.write(effort, work)).await,
        }
    }

    /// What read-only store functions run on. Each statement sees what was committed before it.
    #[must_use]
    pub fn read(&self) -> &Reader {
        &self.0.reader
    }

    /// Whether the database answers, with a row of a table that is always there: SQLite answers a statement without one
    /// whatever has become of its file.
    ///
    /// # Errors
    /// Unavailable, when it does not.
    pub async fn check(&self) -> Result<()> {
        if let Writer::Postgres(writer) = &self.0.writer
            && !writer.pulse.is_found()
        {
            return Err(Fault::Away.error());
        }
        let reader = self.read();
        let statement = Statement::from_string(reader.get_database_backend(), "SELECT id FROM apps LIMIT 1");
        match tokio::time::timeout(CHECK_TIME_MAX, reader.query_one_raw(statement)).await {
            Ok(answered) => answered.map(|_| ()).map_err(Into::into),
            Err(_) => Err(Fault::Slow.error()),
        }
    }

    /// Waits while the database is known to be away.
    pub async fn reachable(&self) {
        if let Writer::Postgres(writer) = &self.0.writer {
            writer.pulse.found().await;
        }
    }

    /// Finishes the writes that wait, refuses new ones and lets go of the database.
    pub async fn close(&self) {
        self.0.groups.close();
        self.0.groups.wait().await;
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        let pools = async {
            if let Writer::Postgres(writer) = &self.0.writer {
                writer.pool.close().await;
            }
            match &self.0.reader.0 {
                Pool::Sqlite(pool) => pool.close().await,
                Pool::Postgres(pool, _) => pool.close().await,
            }
        };
        // A server that is silent does not even take a farewell; it notices by itself.
        drop(tokio::time::timeout(CLOSE_TIME_MAX, pools).await);
    }

    /// Whether the database is SQLite, whose one writer everybody shares.
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        matches!(self.0.writer, Writer::Sqlite(_))
    }

    /// The calls that are being answered, which background work on PostgreSQL keeps out of the way of.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.0.calls
    }

    fn is_closing(&self) -> bool {
        self.0.groups.is_closed()
    }

    fn cipher(&self) -> &Cipher {
        &self.0.cipher
    }
}
