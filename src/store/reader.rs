//! Reading outside a transaction. It never writes: its connections refuse to.

use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement};
use sqlx::{PgPool, SqlitePool};

use super::error::{Fault, carried};
use super::link::{Link, PgLink};
use super::pulse::Pulse;

/// How long one read may take. Older reads would keep SQLite's log and PostgreSQL's dead rows from being cleared.
const READ_MAX: Duration = Duration::from_secs(10);

/// Runs store functions that only read, each statement on whichever connection is free.
#[derive(Clone)]
pub struct Reader(pub(super) Pool);

#[derive(Clone)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool, Pulse),
}

impl Reader {
    /// A connection that was lost is replaced once: it may have broken while nobody used it.
    async fn run<T>(
        &self,
        statement: &Statement,
        read: impl for<'l> Fn(&'l mut Link, &'l Statement) -> BoxFuture<'l, sqlx::Result<T>> + Send + Sync,
    ) -> Result<T, DbErr> {
        let work = async {
            let mut result = self.run_once(statement, &read).await;
            if result.as_ref().is_err_and(|error| Fault::of(error) == Fault::Lost) {
                result = self.run_once(statement, &read).await;
            }
            result
        };
        match tokio::time::timeout(READ_MAX, work).await {
            Ok(result) => result.map_err(carried),
            Err(_) => Err(DbErr::Query(RuntimeErr::SqlxError(
                sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into(),
            ))),
        }
    }

    async fn run_once<T>(
        &self,
        statement: &Statement,
        read: &(impl for<'l> Fn(&'l mut Link, &'l Statement) -> BoxFuture<'l, sqlx::Result<T>> + Send + Sync),
    ) -> sqlx::Result<T> {
        let mut link = match &self.0 {
            Pool::Sqlite(pool) => Link::SqlitePool(pool.acquire().await?),
            Pool::Postgres(pool, pulse) => Link::Postgres(PgLink::acquire(pool, pulse).await?),
        };
        let result = read(&mut link, statement).await;
        if let Link::Postgres(link) = &mut link {
            // A refused statement leaves the connection as good as before; a broken connection does not.
            link.at_rest = matches!(result, Ok(_) | Err(sqlx::Error::Database(_)));
        }
        result
    }
}

#[async_trait]
impl ConnectionTrait for Reader {
    fn get_database_backend(&self) -> DatabaseBackend {
        match &self.0 {
            Pool::Sqlite(_) => DatabaseBackend::Sqlite,
            Pool::Postgres(..) => DatabaseBackend::Postgres,
        }
    }

    async fn execute_raw(&self, _: Statement) -> Result<ExecResult, DbErr> {
        Err(DbErr::Custom("a reader does not write".to_owned()))
    }

    async fn execute_unprepared(&self, _: &str) -> Result<ExecResult, DbErr> {
        Err(DbErr::Custom("a reader does not write".to_owned()))
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.run(&statement, |link, statement| {
            Box::pin(link.query_one(statement.clone()))
        })
        .await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.run(&statement, |link, statement| {
            Box::pin(link.query_all(statement.clone()))
        })
        .await
    }
}
