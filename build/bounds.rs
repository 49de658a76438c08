//! The bounds of `buf.validate` as data, for the checks and for the OpenAPI document. A rule that is not known here fails
//! the build, so that none is silently ignored.

use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage, Value};

use crate::contract::{Fallible, extension};

/// The bounds of one field.
#[derive(Clone, Default)]
pub(crate) struct Bounds {
    pub(crate) required: bool,
    /// No bounds while the value is the default.
    pub(crate) unless_zero: bool,
    pub(crate) values: Values,
}

#[derive(Clone, Default)]
pub(crate) enum Values {
    #[default]
    Any,
    Text(Text),
    Bytes {
        min: u64,
        max: Option<u64>,
    },
    /// Pairs of operator (`gte`, `gt`, `lte`, `lt`) and number, the only values, and values that are refused.
    Number {
        bounds: Vec<(String, String)>,
        only: Vec<String>,
        never: Vec<String>,
    },
    Enum {
        /// Whether not set is refused.
        set: bool,
    },
    List {
        min: u64,
        max: Option<u64>,
        unique: bool,
        items: Box<Bounds>,
    },
    Map {
        min: u64,
        max: Option<u64>,
        keys: Box<Bounds>,
        values: Box<Bounds>,
    },
}

#[derive(Clone, Default)]
pub(crate) struct Text {
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
    pub(crate) bytes_max: Option<u64>,
    pub(crate) pattern: Option<String>,
    pub(crate) prefix: String,
    pub(crate) suffix: String,
    pub(crate) contains: String,
    pub(crate) only: Vec<String>,
    pub(crate) never: Vec<String>,
    /// The variant of the runtime's `Format`.
    pub(crate) format: Option<&'static str>,
    pub(crate) example: Option<String>,
}

/// The bounds of a field.
pub(crate) fn of(field: &FieldDescriptor) -> Fallible<Bounds> {
    match extension(field.parent_pool(), field.options(), "buf.validate.field") {
        Some(rules) => rules_of(&rules).map_err(|problem| format!("{}: {problem}", field.full_name()).into()),
        None => Ok(Bounds::default()),
    }
}

fn rules_of(rules: &DynamicMessage) -> Fallible<Bounds> {
    let mut bounds = Bounds::default();
    for (rule, value) in rules.fields() {
        match rule.name() {
            "required" => bounds.required = value.as_bool().unwrap_or_default(),
            // IGNORE_IF_ZERO_VALUE; unset fields are never checked anyway.
            "ignore" if value.as_enum_number() == Some(1) => bounds.unless_zero = true,
            "bool" => refuse_all(value)?,
            "string" => bounds.values = text(inner(value)?)?,
            "bytes" => bounds.values = bytes(inner(value)?)?,
            "enum" => bounds.values = words(inner(value)?)?,
            "repeated" => bounds.values = list(inner(value)?)?,
            "map" => bounds.values = map(inner(value)?)?,
            "float" | "double" | "int32" | "int64" | "uint32" | "uint64" | "sint32" | "sint64" | "fixed32"
            | "fixed64" | "sfixed32" | "sfixed64" => bounds.values = number(inner(value)?)?,
            other => return Err(unknown(other)),
        }
    }
    Ok(bounds)
}

fn inner(value: &Value) -> Fallible<&DynamicMessage> {
    value
        .as_message()
        .ok_or_else(|| "a group of rules is no message".into())
}

fn unknown(rule: &str) -> Box<dyn std::error::Error> {
    format!("the rule {rule} of buf.validate is not known to build/bounds.rs").into()
}

fn refuse_all(value: &Value) -> Fallible<()> {
    match inner(value)?.fields().find(|(rule, _)| rule.name() != "example") {
        Some((rule, _)) => Err(unknown(&format!("bool.{}", rule.name()))),
        None => Ok(()),
    }
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::U64(number) => Some(*number),
        Value::I64(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn texts(value: &Value) -> Vec<String> {
    let values = value.as_list().unwrap_or_default();
    values
        .iter()
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect()
}

fn text(rules: &DynamicMessage) -> Fallible<Values> {
    let mut text = Text::default();
    for (rule, value) in rules.fields() {
        let string = || value.as_str().unwrap_or_default().to_owned();
        match rule.name() {
            "min_len" => text.min = whole(value).unwrap_or_default(),
            "max_len" => text.max = whole(value),
            "len" => {
                text.min = whole(value).unwrap_or_default();
                text.max = whole(value);
            }
            "max_bytes" => text.bytes_max = whole(value),
            "pattern" => text.pattern = Some(string()),
            "prefix" => text.prefix = string(),
            "suffix" => text.suffix = string(),
            "contains" => text.contains = string(),
            "const" => text.only = vec![string()],
            "in" => text.only = texts(value),
            "not_in" => text.never = texts(value),
            "email" => text.format = Some("Email"),
            "hostname" => text.format = Some("Hostname"),
            "uri" => text.format = Some("Uri"),
            "uuid" => text.format = Some("Uuid"),
            "ip" => text.format = Some("Ip"),
            "example" => text.example = texts(value).into_iter().next(),
            other => return Err(unknown(&format!("string.{other}"))),
        }
    }
    Ok(Values::Text(text))
}

fn bytes(rules: &DynamicMessage) -> Fallible<Values> {
    let (mut min, mut max) = (0, None);
    for (rule, value) in rules.fields() {
        match rule.name() {
            "min_len" => min = whole(value).unwrap_or_default(),
            "max_len" => max = whole(value),
            "len" => (min, max) = (whole(value).unwrap_or_default(), whole(value)),
            "example" => {}
            other => return Err(unknown(&format!("bytes.{other}"))),
        }
    }
    Ok(Values::Bytes { min, max })
}

/// A number as Rust writes it.
fn literal(value: &Value) -> Fallible<String> {
    Ok(match value {
        Value::I32(number) => number.to_string(),
        Value::I64(number) => number.to_string(),
        Value::U32(number) => number.to_string(),
        Value::U64(number) => number.to_string(),
        Value::F32(number) => format!("{number:?}"),
        Value::F64(number) => format!("{number:?}"),
        _ => return Err("a bound is no number".into()),
    })
}

fn number(rules: &DynamicMessage) -> Fallible<Values> {
    let (mut bounds, mut only, mut never) = (Vec::new(), Vec::new(), Vec::new());
    let all =
        |value: &Value| -> Fallible<Vec<String>> { value.as_list().unwrap_or_default().iter().map(literal).collect() };
    for (rule, value) in rules.fields() {
        match rule.name() {
            name @ ("gte" | "gt" | "lte" | "lt") => bounds.push((name.to_owned(), literal(value)?)),
            "const" => only = vec![literal(value)?],
            "in" => only = all(value)?,
            "not_in" => never = all(value)?,
            // Numbers with fractions are always finite here: JSON has no others.
            "finite" | "example" => {}
            other => return Err(unknown(&format!("{}.{other}", rules.descriptor().name()))),
        }
    }
    bounds.sort();
    Ok(Values::Number { bounds, only, never })
}

fn words(rules: &DynamicMessage) -> Fallible<Values> {
    let mut set = false;
    for (rule, value) in rules.fields() {
        match rule.name() {
            // Numbers that are no value are refused everywhere.
            "defined_only" | "example" => {}
            "not_in" if value.as_list() == Some(&[Value::I32(0)]) => set = true,
            other => return Err(unknown(&format!("enum.{other}, except not_in: [0]"))),
        }
    }
    Ok(Values::Enum { set })
}

fn list(rules: &DynamicMessage) -> Fallible<Values> {
    let (mut min, mut max, mut unique, mut items) = (0, None, false, Bounds::default());
    for (rule, value) in rules.fields() {
        match rule.name() {
            "min_items" => min = whole(value).unwrap_or_default(),
            "max_items" => max = whole(value),
            "unique" => unique = value.as_bool().unwrap_or_default(),
            "items" => items = rules_of(inner(value)?)?,
            other => return Err(unknown(&format!("repeated.{other}"))),
        }
    }
    Ok(Values::List {
        min,
        max,
        unique,
        items: Box::new(items),
    })
}

fn map(rules: &DynamicMessage) -> Fallible<Values> {
    let (mut min, mut max) = (0, None);
    let (mut keys, mut values) = (Bounds::default(), Bounds::default());
    for (rule, value) in rules.fields() {
        match rule.name() {
            "min_pairs" => min = whole(value).unwrap_or_default(),
            "max_pairs" => max = whole(value),
            "keys" => keys = rules_of(inner(value)?)?,
            "values" => values = rules_of(inner(value)?)?,
            other => return Err(unknown(&format!("map.{other}"))),
        }
    }
    Ok(Values::Map {
        min,
        max,
        keys: Box::new(keys),
        values: Box::new(values),
    })
}
