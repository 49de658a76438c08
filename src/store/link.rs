//! One connection of either database, and how a statement runs on it. It knows nothing of transactions.

use sea_orm::{DatabaseBackend, ExecResult, QueryResult, Statement};
use sea_query_sqlx::SqlxValues;
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Database, Executor, IntoArguments, Postgres, Sqlite};

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
    pub(super) at_rest: bool,
}

impl PgLink {
    pub(super) fn new(conn: PoolConnection<Postgres>) -> Self {
        Self { conn, at_rest: false }
    }
}

impl Drop for PgLink {
    fn drop(&mut self) {
        if !self.at_rest {
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

    pub(super) async fn execute(&mut self, statement: &Statement) -> sqlx::Result<ExecResult> {
        Ok(match self {
            Self::Sqlite(conn) => bound(statement).execute(&mut **conn).await?.into(),
            Self::SqlitePool(conn) => bound(statement).execute(&mut **conn).await?.into(),
            Self::Postgres(link) => bound(statement).execute(&mut *link.conn).await?.into(),
        })
    }

    pub(super) async fn execute_unprepared(&mut self, sql: &str) -> sqlx::Result<ExecResult> {
        let sql = AssertSqlSafe(sql.to_owned());
        Ok(match self {
            Self::Sqlite(conn) => conn.execute(sql).await?.into(),
            Self::SqlitePool(conn) => conn.execute(sql).await?.into(),
            Self::Postgres(link) => link.conn.execute(sql).await?.into(),
        })
    }

    pub(super) async fn query_one(&mut self, statement: &Statement) -> sqlx::Result<Option<QueryResult>> {
        Ok(match self {
            Self::Sqlite(conn) => bound(statement).fetch_optional(&mut **conn).await?.map(Into::into),
            Self::SqlitePool(conn) => bound(statement).fetch_optional(&mut **conn).await?.map(Into::into),
            Self::Postgres(link) => bound(statement).fetch_optional(&mut *link.conn).await?.map(Into::into),
        })
    }

    pub(super) async fn query_all(&mut self, statement: &Statement) -> sqlx::Result<Vec<QueryResult>> {
        Ok(match self {
            Self::Sqlite(conn) => rows(bound(statement).fetch_all(&mut **conn).await?),
            Self::SqlitePool(conn) => rows(bound(statement).fetch_all(&mut **conn).await?),
            Self::Postgres(link) => rows(bound(statement).fetch_all(&mut *link.conn).await?),
        })
    }
}

fn rows<R: Into<QueryResult>>(rows: Vec<R>) -> Vec<QueryResult> {
    rows.into_iter().map(Into::into).collect()
}

fn bound<DB: Database>(statement: &Statement) -> Query<'_, DB, SqlxValues>
where
    SqlxValues: IntoArguments<DB>,
{
    let values = statement.values.clone().unwrap_or_else(|| sea_orm::Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(values))
}
