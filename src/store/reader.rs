//! Reading outside a transaction. It never writes: its connections refuse to.

use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement};
use sqlx::{PgPool, SqlitePool};

use super::error::carried;
use super::link::{Link, PgLink};

/// How long one read may take. Older reads would keep SQLite's log and PostgreSQL's dead rows from being cleared.
const READ_MAX: Duration = Duration::from_secs(10);

/// Runs store functions that only read, each statement on whichever connection is free.
#[derive(Clone)]
pub struct Reader(pub(super) Pool);

#[derive(Clone)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Reader {
    async fn run<T>(
        &self,
        statement: impl for<'l> FnOnce(&'l mut Link) -> BoxFuture<'l, sqlx::Result<T>> + Send,
    ) -> Result<T, DbErr> {
        let work = async {
            let mut link = match &self.0 {
                Pool::Sqlite(pool) => Link::SqlitePool(pool.acquire().await?),
                Pool::Postgres(pool) => Link::Postgres(PgLink::new(pool.acquire().await?)),
            };
            let result = statement(&mut link).await;
            if let Link::Postgres(link) = &mut link {
                // A refused statement leaves the connection as good as before; a broken connection does not.
                link.at_rest = matches!(result, Ok(_) | Err(sqlx::Error::Database(_)));
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
}

#[async_trait]
impl ConnectionTrait for Reader {
    fn get_database_backend(&self) -> DatabaseBackend {
        match &self.0 {
            Pool::Sqlite(_) => DatabaseBackend::Sqlite,
            Pool::Postgres(_) => DatabaseBackend::Postgres,
        }
    }

    async fn execute_raw(&self, _: Statement) -> Result<ExecResult, DbErr> {
        Err(DbErr::Custom("a reader does not write".to_owned()))
    }

    async fn execute_unprepared(&self, _: &str) -> Result<ExecResult, DbErr> {
        Err(DbErr::Custom("a reader does not write".to_owned()))
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.run(move |link| Box::pin(async move { link.query_one(&statement).await }))
            .await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.run(move |link| Box::pin(async move { link.query_all(&statement).await }))
            .await
    }
}
