//! One connection of either database, and how a statement runs on it. It knows nothing of transactions.

use sea_orm::{DatabaseBackend, ExecResult, QueryResult, Statement};
use sea_query_sqlx::SqlxValues;
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Database, Executor, IntoArguments, PgPool, Postgres, Sqlite};

use super::pulse::Pulse;

/// A connection to run statements on.
pub(super) enum Link {
    Sqlite(Box<SqliteConnection>),
    Postgres(PgLink),
    SqlitePool(PoolConnection<Sqlite>),
}

/// A connection out of PostgreSQL's pool, which goes back only when it is known to be at rest. Dropped in the middle of
/// anything (a caller that went away, a server that no longer answers) it is closed: the server rolls back, and the pool
/// does not wait for a connection that may never answer again.
pub(super) struct PgLink {
    conn: PoolConnection<Postgres>,
    pulse: Pulse,
    pub(super) at_rest: bool,
}

impl PgLink {
    /// Takes a connection out of a pool.
    ///
    /// # Errors
    /// As [`Pulse::acquire`].
    pub(super) async fn acquire(pool: &PgPool, pulse: &Pulse) -> sqlx::Result<Self> {
        Ok(Self {
            conn: pulse.acquire(pool).await?,
            pulse: pulse.clone(),
            at_rest: false,
        })
    }
}

impl Drop for PgLink {
    fn drop(&mut self) {
        if self.at_rest {
            // The pool asks once more whether the connection lives before it takes it back, and would wait for the answer of a
            // server that has fallen silent without end, and never give that place to another.
            self.pulse.in_time(self.conn.return_to_pool());
        } else {
            self.conn.close_on_drop();
        }
    }
}

impl Link {
    pub(super) fn backend(&self) -> DatabaseBackend {
        match self {
            Self::Sqlite(_) | Self::SqlitePool(_) => DatabaseBackend::Sqlite,
            Self::Postgres(_) => DatabaseBackend::Postgres,
        }
    }

    pub(super) async fn execute(&mut self, statement: Statement) -> sqlx::Result<ExecResult> {
        Ok(match self {
            Self::Sqlite(conn) => bound(statement).execute(&mut **conn).await?.into(),
            Self::SqlitePool(conn) => bound(statement).execute(&mut **conn).await?.into(),
            Self::Postgres(link) => {
                let work = bound(statement).execute(&mut *link.conn);
                link.pulse.during(work).await?.into()
            }
        })
    }

    pub(super) async fn execute_unprepared(&mut self, sql: &str) -> sqlx::Result<ExecResult> {
        let sql = AssertSqlSafe(sql.to_owned());
        Ok(match self {
            Self::Sqlite(conn) => conn.execute(sql).await?.into(),
            Self::SqlitePool(conn) => conn.execute(sql).await?.into(),
            Self::Postgres(link) => link.pulse.during(link.conn.execute(sql)).await?.into(),
        })
    }

    pub(super) async fn query_one(&mut self, statement: Statement) -> sqlx::Result<Option<QueryResult>> {
        Ok(match self {
            Self::Sqlite(conn) => bound(statement).fetch_optional(&mut **conn).await?.map(Into::into),
            Self::SqlitePool(conn) => bound(statement).fetch_optional(&mut **conn).await?.map(Into::into),
            Self::Postgres(link) => {
                let work = bound(statement).fetch_optional(&mut *link.conn);
                link.pulse.during(work).await?.map(Into::into)
            }
        })
    }

    pub(super) async fn query_all(&mut self, statement: Statement) -> sqlx::Result<Vec<QueryResult>> {
        Ok(match self {
            Self::Sqlite(conn) => rows(bound(statement).fetch_all(&mut **conn).await?),
            Self::SqlitePool(conn) => rows(bound(statement).fetch_all(&mut **conn).await?),
            Self::Postgres(link) => {
                let work = bound(statement).fetch_all(&mut *link.conn);
                rows(link.pulse.during(work).await?)
            }
        })
    }
}

fn rows<R: Into<QueryResult>>(rows: Vec<R>) -> Vec<QueryResult> {
    rows.into_iter().map(Into::into).collect()
}

fn bound<'q, DB: Database>(statement: Statement) -> Query<'q, DB, SqlxValues>
where
    SqlxValues: IntoArguments<DB>,
{
    let values = statement.values.unwrap_or_else(|| sea_orm::Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}
