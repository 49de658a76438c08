//! Per message what its parts cost in memory, for the gRPC door's look at undecoded bytes.

use std::fmt::Write;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::contract::{Fallible, Package, rust_type};
use crate::fields::{Shape, entry, kind, shape};

/// Writes the weights of every message.
pub(crate) fn generate(package: &Package) -> Fallible<String> {
    let (mut statics, mut impls) = (String::new(), String::new());
    for message in package.messages() {
        let (name, place) = (
            rust_type(message.full_name(), package.name),
            constant(&message, package),
        );
        let mut parts = String::new();
        for field in message.fields() {
            parts.push_str(&part(&field, package)?);
        }
        writeln!(
            statics,
            "pub(super) static {place}: rt::Weight = rt::Weight {{ parts: &[{parts}] }};"
        )?;
        let request = package.rpcs().find(|(_, rpc)| rpc.descriptor.input() == message);
        let max = request.map_or("None".to_owned(), |(_, rpc)| format!("Some({})", rpc.body_bytes_max()));
        write!(
            impls,
            "impl rt::Weighed for pb::{name} {{\n    const BYTES_MAX: Option<usize> = {max};\n\n    \
             fn weight() -> &'static rt::Weight {{ &weights::{place} }}\n}}\n"
        )?;
    }
    Ok(format!(
        "/// What the parts of each message cost once they are decoded.\nmod weights {{ use super::{{pb, rt}};\n{statics} }}\n{impls}"
    ))
}

/// The name of a message's static.
fn constant(message: &MessageDescriptor, package: &Package) -> String {
    let inside = message.full_name().trim_start_matches(package.name);
    inside.trim_start_matches('.').replace('.', "_").to_uppercase()
}

fn part(field: &FieldDescriptor, package: &Package) -> Fallible<String> {
    let number = field.number();
    Ok(match shape(field) {
        Shape::Map => {
            let (key, value) = entry(field).ok_or("a map without entries")?;
            let types = format!("({}, {})", element(&key, package)?, element(&value, package)?);
            let inner = format!("{}{}", one(&key, package), one(&value, package));
            format!("rt::weight::list::<{types}>({number}, rt::Inner::Message(&rt::Weight {{ parts: &[{inner}] }})),")
        }
        Shape::List => format!(
            "rt::weight::list::<{}>({number}, {}),",
            element(field, package)?,
            inner(field, package)
        ),
        Shape::One | Shape::Optional | Shape::Member => one(field, package),
    })
}

fn one(field: &FieldDescriptor, package: &Package) -> String {
    match field.kind() {
        Kind::String | Kind::Bytes | Kind::Message(_) => {
            format!("rt::weight::one({}, {}),", field.number(), inner(field, package))
        }
        _ => String::new(),
    }
}

/// The type of an element in Rust.
fn element(field: &FieldDescriptor, package: &Package) -> Fallible<String> {
    Ok(match field.kind() {
        Kind::Message(message) if !message.package_name().starts_with("google.") => {
            format!("pb::{}", rust_type(message.full_name(), package.name))
        }
        _ => format!("<{} as rt::Kind>::Value", kind(field, package.name)?),
    })
}

fn inner(field: &FieldDescriptor, package: &Package) -> String {
    match field.kind() {
        Kind::String | Kind::Bytes => "rt::Inner::Text".to_owned(),
        Kind::Fixed32 | Kind::Sfixed32 | Kind::Float => "rt::Inner::Fixed(4)".to_owned(),
        Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => "rt::Inner::Fixed(8)".to_owned(),
        Kind::Message(message) => {
            let place = match message.full_name() {
                "google.protobuf.Struct" => "rt::weight::OBJECT".to_owned(),
                "google.protobuf.ListValue" => "rt::weight::LIST".to_owned(),
                "google.protobuf.Value" => "rt::weight::ANY_JSON".to_owned(),
                "google.protobuf.FieldMask" => "rt::weight::MASK".to_owned(),
                name if name.starts_with("google.") => "rt::weight::PLAIN".to_owned(),
                _ => constant(&message, package),
            };
            format!("rt::Inner::Message(&{place})")
        }
        _ => "rt::Inner::Varint".to_owned(),
    }
}
