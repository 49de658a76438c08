//! Rows as SQLite takes them: what is the same in all of them is bound once, ids and numbers are cut out of one value for
//! each column, and only what has no fixed length is JSON. It never decides which rows there are.
//!
//! JSON alone would be simpler, and costs four times as much: SQLite looks for every column in the text of every row.

use std::io::Write as _;

use data_encoding::HEXLOWER;
use sea_orm::Value;

use super::{Column, Kind, unsupported};
use crate::model::{Error, Result};

/// Bytes of an id.
const ID_BYTES: usize = 16;
/// Characters of the longest number, which is `i64::MIN`.
const NUMBER_CHARS: usize = 20;

/// How a column's values come to the database: SQLite knows all of these, PostgreSQL a value that all rows have, or else an
/// array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As one value, which all rows have.
    Same,
    /// As one value with those of all rows behind each other, each of the same length.
    Cut,
    /// In the document.
    Rich,
}

impl Form {
    pub(super) fn of(kind: Option<Kind>, values: &[Value]) -> Self {
        let same = values
            .split_first()
            .is_none_or(|(first, others)| others.iter().all(|other| other == first));
        match kind {
            _ if same => Self::Same,
            Some(Kind::Id | Kind::Short | Kind::Int | Kind::Long | Kind::Flag)
                if values.iter().all(|value| length(value).is_some()) =>
            {
                Self::Cut
            }
            _ => Self::Rich,
        }
    }
}

/// How long a value is among others of its column.
const fn length(value: &Value) -> Option<usize> {
    match value {
        Value::Uuid(Some(_)) => Some(ID_BYTES),
        Value::SmallInt(Some(_)) | Value::Int(Some(_)) | Value::BigInt(Some(_)) | Value::Bool(Some(_)) => {
            Some(NUMBER_CHARS)
        }
        _ => None,
    }
}

/// The placeholders that columns take in a statement.
pub(super) fn parameters(columns: &[Column], rows: usize) -> usize {
    let bound = columns.iter().filter(|column| column.form != Form::Rich).count();
    bound + usize::from(is_driven(rows))
}

/// Whether a document says how many rows there are. One row is just its values.
const fn is_driven(rows: usize) -> bool {
    rows != 1
}

fn is_rich(column: &&Column) -> bool {
    column.form == Form::Rich
}

/// The rows as an item of a FROM clause.
///
/// The document is read once and not again for each row that it is joined with.
pub(super) fn table(columns: &[Column], rows: usize, alias: &str) -> Result<String> {
    let driven = is_driven(rows);
    let rich = columns.iter().filter(is_rich).count();
    let (mut parameter, mut place) = (usize::from(driven), 0);
    let mut selected = Vec::new();
    for column in columns {
        let kind = column.kind.ok_or_else(unsupported)?;
        let value = match column.form {
            Form::Rich => {
                let value = match rich {
                    1 => "value".to_owned(),
                    _ => format!("value ->> {place}"),
                };
                place += 1;
                match kind {
                    // Bytes are hexadecimal in JSON.
                    Kind::Id | Kind::Bytes => format!("unhex({value})"),
                    Kind::Text | Kind::Short | Kind::Int | Kind::Long | Kind::Flag => value,
                }
            }
            Form::Same | Form::Cut => {
                parameter += 1;
                bound(column.form, kind, parameter)
            }
        };
        selected.push(format!("{value} AS \"{}\"", column.name));
    }
    let selected = selected.join(", ");
    Ok(if driven {
        format!(
            "(WITH given (place, value) AS MATERIALIZED (SELECT key, value FROM json_each($1)) \
             SELECT {selected} FROM given) AS {alias}"
        )
    } else {
        format!("(SELECT {selected}) AS {alias}")
    })
}

fn bound(form: Form, kind: Kind, parameter: usize) -> String {
    match (form, kind) {
        (Form::Same | Form::Rich, _) => format!("${parameter}"),
        (Form::Cut, Kind::Id | Kind::Text | Kind::Bytes) => {
            format!("substr(${parameter}, place * {ID_BYTES} + 1, {ID_BYTES})")
        }
        (Form::Cut, Kind::Short | Kind::Int | Kind::Long | Kind::Flag) => {
            format!("CAST(substr(${parameter}, place * {NUMBER_CHARS} + 1, {NUMBER_CHARS}) AS INTEGER)")
        }
    }
}

/// The values of the placeholders.
pub(super) fn values(columns: &[Column], rows: usize) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(parameters(columns, rows));
    if is_driven(rows) {
        values.push(document(columns, rows)?.into());
    }
    for column in columns {
        match column.form {
            Form::Same => values.push(column.values.first().cloned().unwrap_or(Value::Bool(None))),
            Form::Cut => values.push(cut(&column.values)?.into()),
            Form::Rich => {}
        }
    }
    Ok(values)
}

/// Values of a fixed length, behind each other. It is bytes, because SQLite finds a place in a text by counting.
fn cut(values: &[Value]) -> Result<Vec<u8>> {
    let each = values.first().and_then(length).unwrap_or_default();
    let mut bytes = Vec::with_capacity(values.len() * each);
    for value in values {
        match value {
            Value::Uuid(Some(id)) => bytes.extend_from_slice(id.as_bytes()),
            Value::SmallInt(Some(number)) => number_in(&mut bytes, i64::from(*number))?,
            Value::Int(Some(number)) => number_in(&mut bytes, i64::from(*number))?,
            Value::BigInt(Some(number)) => number_in(&mut bytes, *number)?,
            Value::Bool(Some(flag)) => number_in(&mut bytes, i64::from(*flag))?,
            _ => return Err(unsupported()),
        }
    }
    Ok(bytes)
}

fn number_in(bytes: &mut Vec<u8>, number: i64) -> Result<()> {
    write!(bytes, "{number:NUMBER_CHARS$}").map_err(Error::internal)
}

/// An array with one element for each row: its only value of no fixed length, or an array of them.
fn document(columns: &[Column], rows: usize) -> Result<String> {
    let rich: Vec<&Column> = columns.iter().filter(is_rich).collect();
    let mut json = vec![b'['];
    for row in 0..rows {
        if row > 0 {
            json.push(b',');
        }
        let mut values = rich.iter().filter_map(|column| column.values.get(row));
        match rich.len() {
            0 => json.push(b'0'),
            1 => values.try_for_each(|value| scalar(&mut json, value))?,
            _ => {
                for (index, value) in values.enumerate() {
                    json.push(if index == 0 { b'[' } else { b',' });
                    scalar(&mut json, value)?;
                }
                json.push(b']');
            }
        }
    }
    json.push(b']');
    String::from_utf8(json).map_err(Error::internal)
}

fn scalar(json: &mut Vec<u8>, value: &Value) -> Result<()> {
    let written = match value {
        Value::Uuid(id) => serde_json::to_writer(json, &id.map(uuid::Uuid::simple)),
        Value::String(text) => serde_json::to_writer(json, text),
        Value::SmallInt(number) => serde_json::to_writer(json, number),
        Value::Int(number) => serde_json::to_writer(json, number),
        Value::BigInt(number) => serde_json::to_writer(json, number),
        Value::Bool(flag) => serde_json::to_writer(json, flag),
        Value::Bytes(bytes) => serde_json::to_writer(json, &bytes.as_ref().map(|bytes| HEXLOWER.encode(bytes))),
        _ => return Err(unsupported()),
    };
    written.map_err(Error::internal)
}
