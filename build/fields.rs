//! What a field is in Rust: its kind for the runtime, its place in the message, and how it may be absent.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::contract::{Fallible, camel, ident, inline_map, inline_oneof, rust_type, snake};

/// How a field may be absent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Never: it has a default.
    One,
    /// It is an `Option`.
    Optional,
    List,
    Map,
    /// It is a variant of a oneof.
    Member,
}

pub(crate) fn shape(field: &FieldDescriptor) -> Shape {
    let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
    if field.is_map() {
        Shape::Map
    } else if field.is_list() {
        Shape::List
    } else if oneof.is_some() {
        Shape::Member
    } else if field.supports_presence() {
        Shape::Optional
    } else {
        Shape::One
    }
}

/// A message's fields as the contract orders them.
pub(crate) fn in_order(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(|field| field.path().last().copied());
    fields
}

/// The field's expression: the field itself, or the oneof that it is a member of.
pub(crate) fn place(field: &FieldDescriptor) -> String {
    match (shape(field), field.containing_oneof()) {
        (Shape::Member, Some(oneof)) => format!("self.{}", ident(oneof.name())),
        _ => format!("self.{}", ident(field.name())),
    }
}

/// The variant of a oneof's member.
pub(crate) fn variant(field: &FieldDescriptor, package: &str) -> String {
    let Some(oneof) = field.containing_oneof() else {
        return String::new();
    };
    let message = rust_type(field.parent_message().full_name(), package);
    let (modules, name) = message
        .rsplit_once("::")
        .map_or((String::new(), message.as_str()), |(modules, name)| {
            (format!("{modules}::"), name)
        });
    format!(
        "pb::{modules}{}::{}::{}",
        snake(name),
        camel(oneof.name()),
        camel(field.name())
    )
}

/// Whether it is a message of ours.
pub(crate) fn own_message(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) if !message.package_name().starts_with("google.") && !message.is_map_entry() => {
            Some(message)
        }
        _ => None,
    }
}

/// Whether a message stands in JSON as what it holds.
pub(crate) fn inline(message: &MessageDescriptor) -> bool {
    inline_oneof(message) || inline_map(message)
}

/// The runtime's kind of a field's value, or of its elements.
pub(crate) fn kind(field: &FieldDescriptor, package: &str) -> Fallible<String> {
    Ok(match field.kind() {
        Kind::Double => "rt::F64".to_owned(),
        Kind::Float => "rt::F32".to_owned(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "rt::I32".to_owned(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "rt::I64".to_owned(),
        Kind::Uint32 | Kind::Fixed32 => "rt::U32".to_owned(),
        Kind::Uint64 | Kind::Fixed64 => "rt::U64".to_owned(),
        Kind::Bool => "rt::Bool".to_owned(),
        Kind::String => "rt::Text".to_owned(),
        Kind::Bytes => "rt::Bytes".to_owned(),
        Kind::Enum(words) => format!("rt::Enum<pb::{}>", rust_type(words.full_name(), package)),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => "rt::Instant".to_owned(),
            "google.protobuf.Duration" => "rt::Span".to_owned(),
            "google.protobuf.FieldMask" => "rt::Mask".to_owned(),
            "google.protobuf.Struct" => "rt::Object".to_owned(),
            "google.protobuf.Value" => "rt::AnyJson".to_owned(),
            "google.protobuf.ListValue" => "rt::List".to_owned(),
            other if other.starts_with("google.") => {
                return Err(format!("{}: type {other} is not known to build/fields.rs", field.full_name()).into());
            }
            other => format!("rt::Msg<pb::{}>", rust_type(other, package)),
        },
    })
}

/// Key and value of a map.
pub(crate) fn entry(field: &FieldDescriptor) -> Option<(FieldDescriptor, FieldDescriptor)> {
    match field.kind() {
        Kind::Message(entry) if entry.is_map_entry() => {
            Some((entry.map_entry_key_field(), entry.map_entry_value_field()))
        }
        _ => None,
    }
}
