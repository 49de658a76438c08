//! Many new rows of one table in the way that costs least: COPY on PostgreSQL, bound values on SQLite. It never looks
//! whether a row is there already: that is for whoever loads, and a key that is taken is a fault, or an answer.
//!
//! What [`super::bulk`] does by one statement for any number of rows costs a few microseconds a row: arrays or a document
//! that the database takes apart again. Here the rows go as the databases keep them, in pieces, and are never in memory
//! as a whole a second time.

use sea_orm::{ConnectionTrait as _, DatabaseBackend, Statement, Value};
use uuid::Uuid;

use super::tx::Tx;
use crate::model::{Error, Result};

/// Bytes of a piece of a COPY, which is what of it is in memory.
const PIECE_BYTES: usize = 64 * 1024;
/// Rows of the statements that SQLite is given. Each is prepared once for a connection; what is left over takes the
/// smallest that it fits into.
const STATEMENT_ROWS: [usize; 3] = [16, 64, 256];
/// What begins a binary COPY: its mark, no flags, no further head (PostgreSQL's documentation of COPY, "Binary Format").
const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What ends it.
const COPY_END: [u8; 2] = (-1_i16).to_be_bytes();
/// The length of a null.
const COPY_NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// The value of a column. On PostgreSQL it has to be of exactly the column's type.
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
            DatabaseBackend::Postgres => {
                tx.copy_in(&self.copy(), &mut self.pieces(&row)).await?;
            }
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
            DatabaseBackend::Postgres => Ok(tx.copy_in_unless_taken(&self.copy(), &mut self.pieces(&row)).await?),
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

    fn copy(&self) -> String {
        format!("COPY {} ({}) FROM STDIN (FORMAT binary)", self.table, self.names())
    }

    /// Writes one piece after the other, and says whether there are more.
    fn pieces<'c, const CELLS: usize>(
        &self,
        row: impl Fn(usize) -> [Cell<'c>; CELLS] + Send + Sync,
    ) -> impl FnMut(&mut Vec<u8>) -> bool + Send {
        let mut next = 0;
        move |piece| {
            if next == 0 {
                piece.extend_from_slice(COPY_HEAD);
            }
            while next < self.rows && piece.len() < PIECE_BYTES {
                self.tuple(&row(next), piece);
                next += 1;
            }
            let is_over = next == self.rows;
            if is_over {
                piece.extend_from_slice(&COPY_END);
            }
            !is_over
        }
    }

    fn tuple(&self, cells: &[Cell<'_>], piece: &mut Vec<u8>) {
        let columns = i16::try_from(COLUMNS).unwrap_or(i16::MAX);
        piece.extend_from_slice(&columns.to_be_bytes());
        for (_, from) in &self.columns {
            match from {
                Source::Same(cell) => field(*cell, piece),
                Source::Each(index) => field(cells.get(*index).copied().unwrap_or(Cell::Null), piece),
            }
        }
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

fn field(cell: Cell<'_>, piece: &mut Vec<u8>) {
    match cell {
        Cell::Null => piece.extend_from_slice(&COPY_NULL),
        Cell::Id(id) => of_bytes(id.as_bytes(), piece),
        Cell::Text(text) => of_bytes(text.as_bytes(), piece),
        Cell::Short(number) => of_bytes(&number.to_be_bytes(), piece),
        Cell::Long(number) => of_bytes(&number.to_be_bytes(), piece),
    }
}

fn of_bytes(bytes: &[u8], piece: &mut Vec<u8>) {
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    piece.extend_from_slice(&length.to_be_bytes());
    piece.extend_from_slice(bytes);
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
