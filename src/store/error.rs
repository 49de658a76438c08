//! What a fault of the database means to the service: the one place that reads codes of SQLite and PostgreSQL. It never
//! decides what happens next: the writers do, by [`Fault`].

use std::io;
use std::time::Duration;

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use crate::model::{Error, Reason};

/// When a caller should try again after the database refused for a reason that passes by itself.
const RETRY_SOON: Duration = Duration::from_secs(1);
/// The same after a reason that somebody has to mend, such as a full disk.
const RETRY_LATER: Duration = Duration::from_secs(30);

/// What a failed statement means for the transaction around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Two transactions stood in each other's way: nothing happened, and running it again may succeed.
    Conflict,
    /// The connection is gone. Before COMMIT nothing happened; after it the outcome must be looked up.
    Lost,
    /// The database was away already, and did not come back while it was waited for, so nothing was even tried.
    Away,
    /// Another process holds SQLite's file, and did not let go of it while it was waited for, so nothing was even tried.
    Held,
    /// The pool had no connection in time, so nothing was even tried.
    Busy,
    /// The database failed to write, and SQLite has ended the whole transaction by itself; a further statement would commit
    /// alone.
    Dead,
    /// The disk is full, which SQLite answers by ending the whole transaction as well. Even COMMIT says so only before what
    /// makes it valid is written, so nothing has happened.
    Full,
    /// A key that is taken.
    Taken,
    /// A row that others still refer to, or that refers to none.
    Referred,
    /// The statement took too long and was stopped.
    Slow,
    /// The database is there and does not let us in, or its file cannot be opened or written.
    Denied,
    /// The statement is at fault.
    Statement,
}

impl Fault {
    /// The word in metrics.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Lost => "lost",
            Self::Away => "away",
            Self::Held => "held",
            Self::Busy => "busy",
            Self::Dead => "dead",
            Self::Full => "full",
            Self::Taken => "taken",
            Self::Referred => "referred",
            Self::Slow => "slow",
            Self::Denied => "denied",
            Self::Statement => "statement",
        }
    }

    pub(super) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(error) if error.kind() == io::ErrorKind::NotConnected => Self::Away,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::PoolClosed => Self::Lost,
            sqlx::Error::PoolTimedOut => Self::Busy,
            sqlx::Error::Database(error) => Self::of_database(error.as_ref()),
            _ => Self::Statement,
        }
    }

    fn of_database(error: &(dyn DatabaseError + 'static)) -> Self {
        let code = error.code().unwrap_or_default();
        if error.try_downcast_ref::<PgDatabaseError>().is_some() {
            Self::of_sqlstate(&code)
        } else if error.try_downcast_ref::<SqliteError>().is_some() {
            Self::of_sqlite(code.parse().unwrap_or_default())
        } else {
            Self::Statement
        }
    }

    /// Appendix A of the PostgreSQL manual.
    fn of_sqlstate(code: &str) -> Self {
        match code {
            // serialization_failure, deadlock_detected
            "40001" | "40P01" => Self::Conflict,
            // unique_violation
            "23505" => Self::Taken,
            // restrict_violation, foreign_key_violation
            "23001" | "23503" => Self::Referred,
            // query_canceled (statement_timeout), lock_not_available
            "57014" | "55P03" => Self::Slow,
            // invalid_authorization_specification, invalid_password, invalid_catalog_name, insufficient_privilege
            "28000" | "28P01" | "3D000" | "42501" => Self::Denied,
            // too_many_connections
            "53300" => Self::Busy,
            // disk_full
            "53100" => Self::Full,
            // insufficient_resources, out_of_memory, configuration_limit_exceeded
            "53000" | "53200" | "53400" => Self::Dead,
            // connection exceptions, idle_in_transaction_session_timeout, shutdowns, read_only_sql_transaction (a node
            // that was demoted while we were connected)
            "08000" | "08001" | "08003" | "08004" | "08006" | "08007" | "08P01" | "25P03" | "57P01" | "57P02"
            | "57P03" | "57P05" | "25006" => Self::Lost,
            _ => Self::Statement,
        }
    }

    /// <https://www.sqlite.org/rescode.html>: extended codes carry the primary code in their lowest byte.
    fn of_sqlite(code: i32) -> Self {
        match code {
            // SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE
            1555 | 2067 => return Self::Taken,
            // SQLITE_CONSTRAINT_FOREIGNKEY, SQLITE_CONSTRAINT_TRIGGER (which is how ON DELETE RESTRICT answers)
            787 | 1811 => return Self::Referred,
            _ => {}
        }
        match code & 0xff {
            // SQLITE_BUSY, SQLITE_LOCKED
            5 | 6 => Self::Conflict,
            // SQLITE_NOMEM, SQLITE_INTERRUPT, SQLITE_IOERR
            7 | 9 | 10 => Self::Dead,
            // SQLITE_FULL
            13 => Self::Full,
            // SQLITE_PERM, SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_NOTADB
            3 | 8 | 14 | 26 => Self::Denied,
            _ => Self::Statement,
        }
    }

    /// What the caller is told when nothing else can be done about it.
    pub(super) fn error(self) -> Error {
        match self {
            Self::Conflict => unavailable(
                "the database is busy with conflicting work, nothing was changed",
                RETRY_SOON,
            ),
            Self::Lost | Self::Away => unavailable("the database is not reachable, nothing was changed", RETRY_SOON),
            Self::Held => unavailable(
                "another process holds the file of the database, nothing was changed",
                RETRY_SOON,
            ),
            Self::Busy => unavailable(
                "no database connection became free in time, nothing was changed",
                RETRY_SOON,
            ),
            Self::Dead => unavailable("the database cannot write, nothing was changed", RETRY_LATER),
            Self::Full => unavailable("the disk of the database is full, nothing was changed", RETRY_LATER),
            Self::Slow => unavailable("the database took too long, nothing was changed", RETRY_SOON),
            Self::Denied => unavailable(
                "the database refuses access, nothing was changed; check its URL and the rights that this gives",
                RETRY_LATER,
            ),
            Self::Taken => Error::new(Reason::Conflict, "an entity with the same key exists"),
            Self::Referred => Error::new(
                Reason::Conflict,
                "another entity still refers to this one, or this one to none",
            ),
            Self::Statement => Error::internal("a statement failed"),
        }
    }
}

/// Why a write was not done, or may have been.
#[derive(Debug)]
pub(super) enum Failure {
    /// Its closure refused, and nothing of it is left.
    Refused(Error),
    /// The database did not do it, and nothing of it is left.
    Fault(Fault),
    /// Too many others wait; it was not tried.
    Full,
    /// The store is closing; it was not tried.
    Closed,
    /// COMMIT was sent, and nobody can say what became of it.
    Unknown,
}

impl Failure {
    /// What each of several callers is told whose work was done together; `None` if each has to be tried alone, because
    /// one of them may be at fault.
    pub(super) fn of_all(&self) -> Option<Error> {
        let same = match self {
            Self::Refused(_)
            | Self::Fault(
                Fault::Conflict
                | Fault::Dead
                | Fault::Full
                | Fault::Taken
                | Fault::Referred
                | Fault::Slow
                | Fault::Statement,
            ) => return None,
            Self::Fault(fault @ (Fault::Lost | Fault::Away | Fault::Held | Fault::Busy | Fault::Denied)) => {
                Self::Fault(*fault)
            }
            Self::Full => Self::Full,
            Self::Closed => Self::Closed,
            Self::Unknown => Self::Unknown,
        };
        Some(same.into())
    }

    /// The fault that keeps everybody from the database who waits for it, each of whom would take as long to find out.
    pub(super) const fn of_everybody(&self) -> Option<Fault> {
        match self {
            Self::Fault(fault @ (Fault::Away | Fault::Held)) => Some(*fault),
            Self::Refused(_) | Self::Fault(_) | Self::Full | Self::Closed | Self::Unknown => None,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Fault(fault) => fault.error(),
            Failure::Full => unavailable("too many writes wait for the database, nothing was changed", RETRY_SOON),
            Failure::Closed => unavailable("the service is shutting down, nothing was changed", RETRY_SOON),
            Failure::Unknown => outcome_unknown(),
        }
    }
}

/// The service's own refusal to wait any longer.
fn unavailable(message: &str, retry: Duration) -> Error {
    Error::new(Reason::Unavailable, message).retry_after(retry)
}

/// The one case in which the caller must find out by itself, best by repeating the call with its idempotency key.
fn outcome_unknown() -> Error {
    unavailable(
        "outcome unknown: the connection broke during the commit and the database cannot say whether it happened; \
         repeat the call with the same idempotency key",
        RETRY_SOON,
    )
}

/// The error of what is not even tried because the database is known to be away.
pub(super) fn away() -> sqlx::Error {
    sqlx::Error::Io(io::ErrorKind::NotConnected.into())
}

/// The error of what was under way when the database was found to be away.
pub(super) fn lost() -> sqlx::Error {
    sqlx::Error::Io(io::ErrorKind::ConnectionAborted.into())
}

/// sqlx's error as sea-orm carries it.
pub(super) fn carried(error: sqlx::Error) -> DbErr {
    match error {
        sqlx::Error::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        sqlx::Error::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        error => DbErr::Query(RuntimeErr::SqlxError(error.into())),
    }
}

fn fault(error: &DbErr) -> Fault {
    match error {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Fault::Busy,
        DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => Fault::Lost,
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Fault::of(error),
        _ => Fault::Statement,
    }
}

/// Whether another transaction or process stood in the way.
pub(super) fn is_busy(error: &DbErr) -> bool {
    fault(error) == Fault::Conflict
}

/// Lets store functions use `?`. A taken key becomes a plain conflict; where the contract has a better word, use
/// [`taken`].
impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        fault(&error).error().because(error)
    }
}

/// The error of an insert: `exists()` if it failed because the row's key is taken, else what the fault means.
///
/// A failed statement spoils its transaction on both databases, so the closure has to end with this error. Where it wants
/// to go on, let the insert say `ON CONFLICT DO NOTHING` and look at the number of rows.
pub fn taken(error: DbErr, exists: impl FnOnce() -> Error) -> Error {
    if fault(&error) == Fault::Taken {
        exists().because(error)
    } else {
        error.into()
    }
}
