//! Many rows in one statement: UNNEST on PostgreSQL, or plain parameters for a single row; packed values on SQLite. What is
//! the same in all rows is one value. It never splits a batch, because its statement is one fact of its transaction; who has
//! more rows than fit makes pages of them.
//!
//! The text of a statement depends on the number of rows only as far as one row differs from many, and on which columns say
//! the same in all of them, so it is prepared seldom.

mod packed;

use sea_orm::sea_query::{ArrayType, ValueType};
use sea_orm::{
    ColumnTrait, ColumnType, ConnectionTrait, DatabaseBackend, EntityTrait, IdenStatic, Iterable, ModelTrait,
    Statement, Value,
};
use uuid::Uuid;

use crate::model::{Error, Result};

use packed::Form;

/// Rows as a table that a statement can select from or join, built column by column.
///
/// ```text
/// let rows = Rows::new(db).column("user_id", users).column("seq", numbers);
/// let sql = format!(
///     "UPDATE t SET seq = r.seq FROM {} WHERE t.app_id = {} AND t.user_id = r.user_id",
///     rows.table("r")?,
///     rows.parameter(0),
/// );
/// db.execute_raw(rows.statement(sql, [app.into()])?).await?;
/// ```
pub struct Rows {
    backend: DatabaseBackend,
    /// How many there are; unknown before the first column.
    count: Option<usize>,
    /// Whether a column has more or fewer values than the first one.
    uneven: bool,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    kind: Option<Kind>,
    nullable: bool,
    /// How the values come to the database. PostgreSQL takes a value that all rows have, or an array.
    form: Form,
    /// Of every row, or a single one that all rows have.
    values: Vec<Value>,
}

impl Column {
    fn new(backend: DatabaseBackend, name: &str, (kind, nullable): (Option<Kind>, bool), values: Vec<Value>) -> Self {
        let form = match backend {
            DatabaseBackend::Postgres => Form::Rich,
            _ => Form::of(kind, &values),
        };
        Self {
            name: name.to_owned(),
            kind,
            nullable,
            form,
            values,
        }
    }

    /// Whether PostgreSQL takes it as two arrays.
    fn is_masked(&self) -> bool {
        self.nullable && self.form != Form::Same
    }

    /// One whose single value stands for all rows.
    fn same(name: &str, (kind, nullable): (Option<Kind>, bool), value: Value) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            nullable,
            form: Form::Same,
            values: vec![value],
        }
    }
}

/// The column types of the schema that are written in bulk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Id,
    Text,
    Short,
    Int,
    Long,
    Flag,
    Bytes,
}

impl Kind {
    fn of_value(kind: &ArrayType) -> Option<Self> {
        match kind {
            ArrayType::Uuid => Some(Self::Id),
            ArrayType::String => Some(Self::Text),
            ArrayType::SmallInt => Some(Self::Short),
            ArrayType::Int => Some(Self::Int),
            ArrayType::BigInt => Some(Self::Long),
            ArrayType::Bool => Some(Self::Flag),
            ArrayType::Bytes => Some(Self::Bytes),
            _ => None,
        }
    }

    fn of_column(kind: &ColumnType) -> Option<Self> {
        match kind {
            ColumnType::Uuid => Some(Self::Id),
            ColumnType::Text | ColumnType::String(_) => Some(Self::Text),
            ColumnType::SmallInteger => Some(Self::Short),
            ColumnType::Integer => Some(Self::Int),
            ColumnType::BigInteger => Some(Self::Long),
            ColumnType::Boolean => Some(Self::Flag),
            ColumnType::Blob | ColumnType::VarBinary(_) => Some(Self::Bytes),
            _ => None,
        }
    }

    const fn postgres(self) -> &'static str {
        match self {
            Self::Id => "uuid",
            Self::Text => "text",
            Self::Short => "int2",
            Self::Int => "int4",
            Self::Long => "int8",
            Self::Flag => "bool",
            Self::Bytes => "bytea",
        }
    }

    fn array_type(self) -> ArrayType {
        match self {
            Self::Id => ArrayType::Uuid,
            Self::Text => ArrayType::String,
            Self::Short => ArrayType::SmallInt,
            Self::Int => ArrayType::Int,
            Self::Long => ArrayType::BigInt,
            Self::Flag => ArrayType::Bool,
            Self::Bytes => ArrayType::Bytes,
        }
    }
}

impl Rows {
    /// No rows yet, for the database of `db`.
    #[must_use]
    pub fn new(db: &impl ConnectionTrait) -> Self {
        Self {
            backend: db.get_database_backend(),
            count: None,
            uneven: false,
            columns: Vec::new(),
        }
    }

    /// The same with one more column. All columns must have equally many values.
    #[must_use]
    pub fn column<V: ValueType + Into<Value>>(mut self, name: &str, values: impl IntoIterator<Item = V>) -> Self {
        let shape = (Kind::of_value(&V::array_type()), V::is_option());
        let values: Vec<Value> = values.into_iter().map(Into::into).collect();
        let rows = values.len();
        self.push(Column::new(self.backend, name, shape, values), rows);
        self
    }

    /// The same with one more column, whose values follow from a part of each thing. Where all have the same part, as
    /// nearly everything that is sent to many has, it is made into a value only once.
    ///
    /// # Errors
    /// Those of `value`.
    pub fn of_each<T, K, V>(
        mut self,
        name: &str,
        things: &[T],
        part: impl Fn(&T) -> &K,
        value: impl Fn(&K) -> Result<V>,
    ) -> Result<Self>
    where
        K: PartialEq + ?Sized,
        V: ValueType + Into<Value>,
    {
        let made = |thing: &T| Ok::<Value, Error>(value(part(thing))?.into());
        let shape = (Kind::of_value(&V::array_type()), V::is_option());
        let same = things
            .split_first()
            .filter(|(first, others)| others.iter().all(|other| part(other) == part(first)));
        // The first column is what says how many rows there are.
        let column = match same.filter(|_| !self.columns.is_empty()) {
            Some((first, _)) => Column::same(name, shape, made(first)?),
            None => Column::new(
                self.backend,
                name,
                shape,
                things.iter().map(made).collect::<Result<_>>()?,
            ),
        };
        self.push(column, things.len());
        Ok(self)
    }

    /// The same with one more column, which says the same of all rows. It is not the first one.
    #[must_use]
    pub fn same<V: ValueType + Into<Value>>(mut self, name: &str, value: V) -> Self {
        let shape = (Kind::of_value(&V::array_type()), V::is_option());
        self.push(Column::same(name, shape, value.into()), self.count());
        self
    }

    /// The same with one more column, of values whose type only they know, so that some must not be null.
    #[must_use]
    pub(super) fn values(mut self, name: &str, values: Vec<Value>) -> Self {
        let null = values.iter().find(|value| value.is_some()).map(Value::as_null);
        let kind = null.as_ref().map(Value::array_type);
        let nullable = values.iter().any(|value| !value.is_some());
        let shape = (kind.as_ref().and_then(Kind::of_value), nullable);
        let rows = values.len();
        let of_type = |value: Value| match &null {
            Some(null) if !value.is_some() => null.clone(),
            _ => value,
        };
        let values = values.into_iter().map(of_type).collect();
        self.push(Column::new(self.backend, name, shape, values), rows);
        self
    }

    /// The same with one more column, of a value whose type only it knows and that all rows have.
    #[must_use]
    pub(super) fn same_value(mut self, name: &str, value: Value) -> Self {
        let shape = (Kind::of_value(&value.array_type()), !value.is_some());
        self.push(Column::same(name, shape, value), self.count());
        self
    }

    fn push(&mut self, column: Column, rows: usize) {
        self.uneven |= *self.count.get_or_insert(rows) != rows;
        self.columns.push(column);
    }

    fn count(&self) -> usize {
        self.count.unwrap_or_default()
    }

    /// The rows as an item of a FROM clause, in the order in which they were given.
    ///
    /// # Errors
    /// Internal, for a column of a type that is not written in bulk, or of another length than the others.
    pub fn table(&self, alias: &str) -> Result<String> {
        if self.uneven {
            return Err(Error::internal("the columns of a bulk statement differ in length"));
        }
        match self.backend {
            DatabaseBackend::Postgres if self.is_single() => self.single(alias),
            DatabaseBackend::Postgres => self.unnest(alias),
            _ => packed::table(&self.columns, self.count(), alias),
        }
    }

    /// What joins the rows with a table that has an index for it.
    ///
    /// SQLite takes a CROSS JOIN in the order in which it is written. Left to itself it looks through all of the rows once
    /// for each row of the table.
    #[must_use]
    pub const fn join(&self) -> &'static str {
        match self.backend {
            DatabaseBackend::Postgres => "JOIN",
            _ => "CROSS JOIN",
        }
    }

    /// The placeholder of the `index`th (from 0) of the further values that [`Rows::statement`] is given.
    #[must_use]
    pub fn parameter(&self, index: usize) -> String {
        format!("${}", self.own_parameters() + index + 1)
    }

    /// The statement, with further values of its own.
    ///
    /// # Errors
    /// As [`Rows::table`].
    pub fn statement(self, sql: String, further: impl IntoIterator<Item = Value>) -> Result<Statement> {
        let mut values = match self.backend {
            DatabaseBackend::Postgres if self.is_single() => {
                let values = self.columns.into_iter().flat_map(|column| column.values);
                values.collect()
            }
            DatabaseBackend::Postgres => arrays(&self.columns)?,
            _ => packed::values(&self.columns, self.count())?,
        };
        values.extend(further);
        Ok(Statement::from_sql_and_values(self.backend, sql, values))
    }

    fn own_parameters(&self) -> usize {
        match self.backend {
            DatabaseBackend::Postgres if self.is_single() => self.columns.len(),
            DatabaseBackend::Postgres => self
                .columns
                .iter()
                .map(|column| 1 + usize::from(column.is_masked()))
                .sum(),
            _ => packed::parameters(&self.columns, self.count()),
        }
    }

    /// Whether there is one row. For arrays of one PostgreSQL would plan the statement anew each time, because it takes
    /// arrays that it does not know for longer ones; that costs more than the statement.
    const fn is_single(&self) -> bool {
        matches!(self.count, Some(1))
    }

    fn single(&self, alias: &str) -> Result<String> {
        let column = |(index, column): (usize, &Column)| {
            let kind = column.kind.ok_or_else(unsupported)?.postgres();
            Ok(format!("${}::{kind} AS \"{}\"", index + 1, column.name))
        };
        let columns = self
            .columns
            .iter()
            .enumerate()
            .map(column)
            .collect::<Result<Vec<_>>>()?;
        Ok(format!("(SELECT {}) AS {alias}", columns.join(", ")))
    }

    /// A nullable column takes two arrays, because the driver's arrays have no nulls: what it holds and whether it does.
    fn unnest(&self, alias: &str) -> Result<String> {
        let (mut columns, mut arrays, mut names, mut parameter) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut next = || {
            parameter += 1;
            parameter
        };
        for (index, column) in self.columns.iter().enumerate() {
            let (name, kind) = (&column.name, column.kind.ok_or_else(unsupported)?.postgres());
            if column.form == Form::Same {
                columns.push(format!("${}::{kind} AS \"{name}\"", next()));
                continue;
            }
            arrays.push(format!("${}::{kind}[]", next()));
            names.push(format!("v{index}"));
            if column.is_masked() {
                arrays.push(format!("${}::bool[]", next()));
                names.push(format!("h{index}"));
                columns.push(format!("CASE WHEN h{index} THEN v{index} END AS \"{name}\""));
            } else {
                columns.push(format!("v{index} AS \"{name}\""));
            }
        }
        let (columns, arrays, names) = (columns.join(", "), arrays.join(", "), names.join(", "));
        Ok(format!(
            "(SELECT {columns} FROM UNNEST({arrays}) AS u ({names})) AS {alias}"
        ))
    }
}

fn unsupported() -> Error {
    Error::internal("a column of this type is not written in bulk")
}

fn arrays(columns: &[Column]) -> Result<Vec<Value>> {
    let mut arrays = Vec::new();
    for column in columns {
        if column.form == Form::Same {
            arrays.extend(column.values.iter().cloned());
            continue;
        }
        let kind = column.kind.ok_or_else(unsupported)?;
        let held = column.values.iter().map(Value::is_some);
        let mask = column.is_masked().then(|| held.map(Value::from).collect::<Vec<_>>());
        // A null's place is filled with its type's zero, which the mask hides.
        let values = column.values.iter().map(|value| {
            if value.is_some() {
                value.clone()
            } else {
                value.dummy_value()
            }
        });
        arrays.push(Value::Array(kind.array_type(), Some(Box::new(values.collect()))));
        arrays.extend(mask.map(|mask| Value::Array(ArrayType::Bool, Some(Box::new(mask)))));
    }
    Ok(arrays)
}

/// Inserts rows, except those whose keys are taken, and gives the ids of the rows that are new.
///
/// # Errors
/// Those of the database.
pub async fn insert_new<E>(db: &impl ConnectionTrait, rows: &[E::Model], id: E::Column) -> Result<Vec<Uuid>>
where
    E: EntityTrait,
{
    let source = source::<E>(db, rows);
    let sql = format!("{} ON CONFLICT DO NOTHING", insert::<E>(&source)?);
    let ids = rows.iter().filter_map(|row| match row.get(id) {
        Value::Uuid(id) => id,
        _ => None,
    });
    let ids: Vec<Uuid> = ids.collect();
    let done = db.execute_raw(source.statement(sql, [])?).await?;
    // Nearly always all are new, and a row that is answered costs more than one that is only written.
    if usize::try_from(done.rows_affected()) == Ok(rows.len()) {
        return Ok(ids);
    }
    let given = Rows::new(db).column("id", ids);
    let sql = format!(
        "SELECT t.\"{0}\" AS id FROM {1} {2} \"{3}\" t ON t.\"{0}\" = r.id",
        id.as_str(),
        given.table("r")?,
        given.join(),
        E::default().table_name()
    );
    let new = db.query_all_raw(given.statement(sql, [])?).await?;
    new.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// Inserts rows, and fails when a key is taken.
///
/// # Errors
/// Those of the database.
pub async fn insert_all<E>(db: &impl ConnectionTrait, rows: &[E::Model]) -> Result<()>
where
    E: EntityTrait,
{
    insert_rows::<E>(db, source::<E>(db, rows)).await
}

/// The same with rows that were built column by column, of which none may be missing.
///
/// # Errors
/// Those of the database.
pub async fn insert_rows<E>(db: &impl ConnectionTrait, rows: Rows) -> Result<()>
where
    E: EntityTrait,
{
    let sql = insert::<E>(&rows)?;
    db.execute_raw(rows.statement(sql, [])?).await?;
    Ok(())
}

fn source<E: EntityTrait>(db: &impl ConnectionTrait, rows: &[E::Model]) -> Rows {
    let backend = db.get_database_backend();
    let columns = E::Column::iter().map(|column| {
        let definition = column.def();
        let shape = (Kind::of_column(definition.get_column_type()), definition.is_null());
        let values = rows.iter().map(|row| row.get(column)).collect();
        Column::new(backend, column.as_str(), shape, values)
    });
    Rows {
        backend,
        count: Some(rows.len()),
        uneven: false,
        columns: columns.collect(),
    }
}

/// `WHERE true` keeps SQLite from reading a following ON as the start of a join condition.
fn insert<E: EntityTrait>(rows: &Rows) -> Result<String> {
    let names: Vec<String> = rows
        .columns
        .iter()
        .map(|column| format!("\"{}\"", column.name))
        .collect();
    let names = names.join(", ");
    Ok(format!(
        "INSERT INTO \"{}\" ({names}) SELECT {names} FROM {} WHERE true",
        E::default().table_name(),
        rows.table("r")?
    ))
}
