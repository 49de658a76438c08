//! Many rows of an answer. SQLite's come as one document, because each row of its own would have to pass by itself from the
//! thread of the connection to whoever asked. It never decides what is asked.

use sea_orm::{ConnectionTrait, DatabaseBackend, FromQueryResult, Statement};
use serde::de::DeserializeOwned;

use crate::model::{Error, Result, Timestamp};

/// A column of an answer: its name, which is that of the field that takes it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    /// An id, or none.
    Id(&'static str),
    /// A text, a number, or none.
    Plain(&'static str),
    /// A flag.
    Flag(&'static str),
}

/// What rows are read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// The table that has the columns, as the rest of the query names it.
    pub(super) table: &'a str,
    /// The query behind its FROM.
    pub(super) rest: &'a str,
    /// What PostgreSQL is told besides: an order, a lock. SQLite needs neither.
    pub(super) postgres: &'a str,
}

/// The statement that [`rows`] takes: the columns in the order of the fields of the type that takes them.
pub(super) fn select(backend: DatabaseBackend, fields: &[Field], from: &Source<'_>) -> String {
    let Source { table, rest, postgres } = from;
    let columns = fields.iter().map(|field| match (backend, field) {
        (DatabaseBackend::Postgres, Field::Id(name) | Field::Plain(name) | Field::Flag(name)) => {
            format!("{table}.{name} AS {name}")
        }
        (_, Field::Plain(name)) => format!("{table}.{name}"),
        // SQLite knows no flags.
        (_, Field::Flag(name)) => format!("json(iif({table}.{name}, 'true', 'false'))"),
        // JSON knows no bytes. What has none is empty in hexadecimal.
        (_, Field::Id(name)) => format!("nullif(hex({table}.{name}), '')"),
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    match backend {
        DatabaseBackend::Postgres => format!("SELECT {columns} FROM {rest} {postgres}"),
        _ => format!("SELECT json_group_array(json_array({columns})) AS document FROM {rest}"),
    }
}

/// The rows that a statement of [`select`] answers, on SQLite in no order that anybody promises.
///
/// # Errors
/// Those of the database, and internal when a row holds what this build does not know.
pub(super) async fn rows<T>(db: &impl ConnectionTrait, statement: Statement) -> Result<Vec<T>>
where
    T: FromQueryResult + DeserializeOwned,
{
    if statement.db_backend == DatabaseBackend::Postgres {
        let rows = db.query_all_raw(statement).await?;
        return Ok(rows
            .iter()
            .map(|row| T::from_query_result(row, ""))
            .collect::<Result<_, _>>()?);
    }
    let row = db.query_one_raw(statement).await?;
    let document: Option<String> = row.map(|row| row.try_get("", "document")).transpose()?;
    let document = document.ok_or_else(|| Error::internal("an answer of one row has none"))?;
    serde_json::from_str(&document).map_err(Error::internal)
}

/// An instant as rows are read that came as a document.
///
/// # Errors
/// Internal, when it is none.
pub(super) fn time(millis: Option<i64>) -> Result<Option<Timestamp>> {
    let time = millis.map(|millis| Timestamp::from_millis(millis).ok_or("not an instant"));
    time.transpose().map_err(Error::internal)
}
