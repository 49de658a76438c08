//! Many new rows of one table in the way that costs least: one statement of arrays on PostgreSQL, bound values on SQLite. It
//! never looks whether a row is there already: that is for whoever loads, and a key that is taken is a fault, or an answer.
//!
//! On SQLite [`super::bulk`] passes rows as a document that the statement takes apart again, a few microseconds for each row.
//!
//! COPY would spare PostgreSQL about a tenth of the work. But the driver sends the end of a COPY by itself behind its data,
//! and its sockets wait for PostgreSQL to say that the data has come before they let that small piece go, which takes 40 ms
//! (sqlx 0.9.0, issue 4335; the next release no longer waits). Batches that have to be over in 75 ms cannot have that.

use std::array;

use sea_orm::{ConnectionTrait as _, DatabaseBackend, Statement, Value};
use uuid::Uuid;

use super::bulk::Rows;
use super::tx::Tx;
use crate::model::{Error, Result};

/// Rows of the statements that SQLite is given. Each is prepared once for a connection; what is left over takes the
/// smallest that it fits into.
const STATEMENT_ROWS: [usize; 3] = [16, 64, 256];

/// The value of a column, of the column's type.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'r> {
    /// None.
    Null,
    /// An id.
    Id(Uuid),
    /// A text, which holds no NUL.
    Text(&'r str),
    /// A word of the contract.
    Short(i16),
    /// A number, or an instant.
    Long(i64),
}

/// Where the value of a column comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'r> {
    /// It is the same in all rows.
    Same(Cell<'r>),
    /// It is this one (from 0) of the cells of a row.
    Each(usize),
}

/// What is loaded: a table, its columns, and how many rows.
#[derive(Debug)]
pub struct Load<'r, const COLUMNS: usize> {
    /// The table.
    pub table: &'static str,
    /// Its columns; those that are left out get their defaults.
    pub columns: [(&'static str, Source<'r>); COLUMNS],
    /// Rows.
    pub rows: usize,
}

impl<const COLUMNS: usize> Load<'_, COLUMNS> {
    /// Loads the rows, whose cells `row` gives by their number (from 0), and fails when a key is taken.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn all<'c, const CELLS: usize>(
        &self,
        tx: &Tx,
        row: impl Fn(usize) -> [Cell<'c>; CELLS] + Send + Sync,
    ) -> Result<()> {
        match tx.get_database_backend() {
            DatabaseBackend::Postgres if self.rows > 0 => {
                tx.execute_raw(self.unnest(tx, &row)?).await?;
            }
            DatabaseBackend::Postgres => {}
            _ => self.bind(tx, &row).await?,
        }
        Ok(())
    }

    /// The same, but where a key is taken it says so, nothing is loaded, and the transaction goes on. On SQLite, where
    /// nobody else writes meanwhile, that is a fault.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn unless_taken<'c, const CELLS: usize>(
        &self,
        tx: &Tx,
        row: impl Fn(usize) -> [Cell<'c>; CELLS] + Send + Sync,
    ) -> Result<bool> {
        match tx.get_database_backend() {
            DatabaseBackend::Postgres if self.rows > 0 => Ok(tx.unless_taken(self.unnest(tx, &row)?).await?),
            DatabaseBackend::Postgres => Ok(true),
            _ => {
                self.bind(tx, &row).await?;
                Ok(true)
            }
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }

    fn unnest<'c, const CELLS: usize>(
        &self,
        tx: &Tx,
        row: &(impl Fn(usize) -> [Cell<'c>; CELLS] + Send + Sync),
    ) -> Result<Statement> {
        let mut cells: [Vec<Value>; CELLS] = array::from_fn(|_| Vec::with_capacity(self.rows));
        for index in 0..self.rows {
            for (column, cell) in cells.iter_mut().zip(row(index)) {
                column.push(value(cell));
            }
        }
        // What differs comes first, because it says how many rows there are. A cell may be that of several columns.
        let (mut rows, mut found) = (Rows::new(tx), Vec::new());
        for (index, column) in cells.into_iter().enumerate() {
            let name = format!("c{index}");
            let is_held = column.iter().any(Value::is_some);
            if is_held {
                rows = rows.values(&name, column);
            }
            found.push(if is_held { name } else { "NULL".to_owned() });
        }
        let mut columns = Vec::new();
        for (name, from) in &self.columns {
            columns.push(match from {
                Source::Each(index) => found.get(*index).map_or("NULL", String::as_str),
                Source::Same(Cell::Null) => "NULL",
                Source::Same(cell) => {
                    rows = rows.same_value(name, value(*cell));
                    name
                }
            });
        }
        let (names, columns, source) = (self.names(), columns.join(", "), rows.table("r")?);
        rows.statement(
            format!("INSERT INTO {} ({names}) SELECT {columns} FROM {source}", self.table),
            [],
        )
    }

    /// Some hundred rows at a time, each cell bound as it is.
    async fn bind<'c, const CELLS: usize>(
        &self,
        tx: &Tx,
        row: &(impl Fn(usize) -> [Cell<'c>; CELLS] + Send + Sync),
    ) -> Result<()> {
        let [.., most] = STATEMENT_ROWS;
        let mut from = 0;
        while from < self.rows {
            let rows = self.rows.saturating_sub(from).min(most);
            let room = STATEMENT_ROWS.into_iter().find(|room| rows <= *room).unwrap_or(most);
            let mut values = Vec::with_capacity(room * CELLS + COLUMNS + 1);
            for index in from..from + rows {
                values.extend(row(index).map(value));
            }
            // Rows that are only there for the statement to be the same one; the limit is in front of them.
            values.resize(room * CELLS, Value::String(None));
            let sql = self.insert(room, CELLS);
            for (_, from) in &self.columns {
                if let Source::Same(cell) = from {
                    values.push(value(*cell));
                }
            }
            values.push(i64::try_from(rows).map_err(Error::internal)?.into());
            let statement = Statement::from_sql_and_values(DatabaseBackend::Sqlite, sql, values);
            tx.execute_raw(statement).await?;
            from += rows;
        }
        Ok(())
    }

    /// The cells of the rows come first, then what is the same in all of them, then how many there are.
    fn insert(&self, room: usize, cells: usize) -> String {
        let row = format!("({})", vec!["?"; cells].join(","));
        let mut same = room * cells;
        let columns = self.columns.iter().map(|(_, from)| match from {
            Source::Same(_) => {
                same += 1;
                format!("${same}")
            }
            Source::Each(index) => format!("column{}", index + 1),
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        format!(
            "INSERT INTO {} ({}) SELECT {columns} FROM (VALUES {}) LIMIT ${}",
            self.table,
            self.names(),
            vec![row.as_str(); room].join(","),
            same + 1
        )
    }
}

fn value(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::String(None),
        Cell::Id(id) => id.into(),
        Cell::Text(text) => text.into(),
        Cell::Short(number) => number.into(),
        Cell::Long(number) => number.into(),
    }
}
