//! The bounds of `buf.validate` as keywords of JSON Schema. A rule that has no keyword here fails the build rather than
//! being left out.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value as ProtoValue};
use serde_json::{Map, Value, json};

use crate::contract::{Fallible, extension, flag, list};

type Schema = Map<String, Value>;

/// The rules of a field.
fn rules(field: &FieldDescriptor) -> Option<DynamicMessage> {
    extension(field.parent_pool(), field.options(), "buf.validate.field")
}

/// Whether a value has to be there: because a rule says so, or because the bounds refuse what absence reads as.
pub(crate) fn required(field: &FieldDescriptor) -> bool {
    let Some(rules) = rules(field) else {
        return false;
    };
    let mut bounds = Schema::new();
    let refused = !field.supports_presence() && keywords(&rules, &mut bounds).is_ok() && {
        let least = |name: &str| bounds.get(name).and_then(Value::as_f64);
        let lengths = ["minLength", "minItems", "minProperties", "minimum"];
        lengths.iter().filter_map(|name| least(name)).any(|least| least > 0.0)
    };
    flag(&rules, "required") || refused
}

/// The first example of a string field.
pub(crate) fn example(field: &FieldDescriptor) -> Option<String> {
    let rules = rules(field)?;
    let text = rules.get_field_by_name("string")?;
    let examples = list(text.as_message()?, "example");
    examples.first().and_then(|example| example.as_str().map(str::to_owned))
}

/// Adds the bounds of a field to its schema.
///
/// # Errors
/// When a rule has no keyword.
pub(crate) fn apply(field: &FieldDescriptor, schema: &mut Schema) -> Fallible<()> {
    let Some(rules) = rules(field) else {
        return Ok(());
    };
    keywords(&rules, schema).map_err(|problem| format!("{}: {problem}", field.full_name()))?;
    if !flag(&rules, "required") || field.supports_presence() {
        return Ok(());
    }
    // Without presence, required means not empty.
    let least = if field.is_map() {
        "minProperties"
    } else if field.is_list() {
        "minItems"
    } else if matches!(field.kind(), Kind::String | Kind::Bytes) && !schema.contains_key("pattern") {
        "minLength"
    } else {
        return Ok(());
    };
    schema.entry(least).or_insert_with(|| json!(1));
    Ok(())
}

fn keywords(rules: &DynamicMessage, schema: &mut Schema) -> Fallible<()> {
    for (field, value) in rules.fields() {
        let inner = match (field.name(), value) {
            ("required" | "ignore", _) => continue,
            (_, ProtoValue::Message(inner)) => inner,
            (other, _) => return Err(format!("rule {other} has no keyword in JSON Schema").into()),
        };
        for (rule, value) in inner.fields() {
            keyword(field.name(), rule.name(), value, schema)?;
        }
    }
    Ok(())
}

fn keyword(kind: &str, rule: &str, value: &ProtoValue, schema: &mut Schema) -> Fallible<()> {
    if let ProtoValue::Message(inner) = value {
        return nested(kind, rule, inner, schema);
    }
    let bound = plain(value)?;
    let name = match (kind, rule) {
        ("string", "min_len") => "minLength",
        ("string", "max_len") => "maxLength",
        ("string", "pattern") => "pattern",
        ("string", "len") => {
            schema.insert("minLength".to_owned(), bound.clone());
            "maxLength"
        }
        ("string", "email" | "hostname" | "ipv4" | "ipv6" | "uri" | "uuid") => {
            schema.insert("format".to_owned(), json!(rule));
            return Ok(());
        }
        ("bytes", "min_len" | "max_len") => {
            let bytes = bound.as_u64().unwrap_or_default();
            let name = if rule == "min_len" { "minLength" } else { "maxLength" };
            schema.insert(name.to_owned(), json!(bytes.div_ceil(3) * 4));
            return Ok(());
        }
        ("enum", "defined_only") | ("float" | "double", "finite") => return Ok(()),
        // The zero value of an enum is never among its words.
        ("enum", "not_in") if bound == json!([0]) => return Ok(()),
        ("repeated", "min_items") => "minItems",
        ("repeated", "max_items") => "maxItems",
        ("repeated", "unique") => "uniqueItems",
        ("map", "min_pairs") => "minProperties",
        ("map", "max_pairs") => "maxProperties",
        ("enum" | "repeated" | "map" | "timestamp" | "duration" | "any" | "bytes", other) => {
            return Err(format!("rule {kind}.{other} has no keyword in JSON Schema").into());
        }
        (_, "gte") => "minimum",
        (_, "gt") => {
            // The least number of an unsigned kind is no news beside it.
            schema.shift_remove("minimum");
            "exclusiveMinimum"
        }
        (_, "lte") => "maximum",
        (_, "lt") => "exclusiveMaximum",
        (_, "in") => "enum",
        (_, "const") => "const",
        (_, "example") => "examples",
        (_, "not_in") => {
            schema.insert("not".to_owned(), json!({ "enum": bound }));
            return Ok(());
        }
        (_, other) => return Err(format!("rule {kind}.{other} has no keyword in JSON Schema").into()),
    };
    schema.insert(name.to_owned(), bound);
    Ok(())
}

/// Rules of items, keys and values.
fn nested(kind: &str, rule: &str, rules: &DynamicMessage, schema: &mut Schema) -> Fallible<()> {
    let place = match (kind, rule) {
        ("repeated", "items") => "items",
        ("map", "keys") => "propertyNames",
        ("map", "values") => "additionalProperties",
        _ => return Err(format!("rule {kind}.{rule} has no keyword in JSON Schema").into()),
    };
    // Keys are strings in JSON, so only rules of text can be said about them.
    if place == "propertyNames" && !rules.has_field_by_name("string") {
        return Ok(());
    }
    let inner = schema.entry(place).or_insert_with(|| json!({}));
    match inner.as_object_mut() {
        Some(inner) => keywords(rules, inner),
        None => Err(format!("{place} is no schema").into()),
    }
}

fn plain(value: &ProtoValue) -> Fallible<Value> {
    Ok(match value {
        ProtoValue::Bool(value) => json!(value),
        ProtoValue::I32(value) | ProtoValue::EnumNumber(value) => json!(value),
        ProtoValue::I64(value) => json!(value),
        ProtoValue::U32(value) => json!(value),
        ProtoValue::U64(value) => json!(value),
        ProtoValue::F32(value) => json!(value),
        ProtoValue::F64(value) => json!(value),
        ProtoValue::String(value) => json!(value),
        ProtoValue::List(values) => Value::Array(values.iter().map(plain).collect::<Fallible<_>>()?),
        other => return Err(format!("{other:?} cannot be written as JSON").into()),
    })
}
