//! Per message how it is written, and per event of a stream what it is called.

use std::fmt::Write;

use prost_reflect::{FieldDescriptor, MessageDescriptor};

use crate::contract::{Fallible, Package, inline_map, inline_oneof, input_only, rust_type};
use crate::fields::{Shape, entry, in_order, kind, own_message, place, shape, variant};

/// Writes how a message is written.
pub(crate) fn generate(package: &Package, message: &MessageDescriptor, code: &mut String) -> Fallible<()> {
    let name = rust_type(message.full_name(), package.name);
    let fields = in_order(message);
    let body = if inline_map(message) {
        let field = fields.first().ok_or("an inline map without a field")?;
        value(package, field, &format!("&{}", place(field)))?
    } else if inline_oneof(message) {
        oneof(package, &fields)?
    } else {
        object(package, &fields)?
    };
    write!(
        code,
        "impl rt::Outgoing for pb::{name} {{\n    fn write(&self, to: &mut rt::Writer) {{ {body} }}\n"
    )?;
    let answered = package.rpcs().any(|(_, rpc)| {
        rpc.descriptor.output() == *message && rpc.bindings.iter().any(|binding| binding.response_body.is_some())
    });
    if answered {
        parts(package, &fields, code)?;
    }
    code.push_str("}\n");
    Ok(())
}

/// The statement that writes a value by reference.
fn value(package: &Package, field: &FieldDescriptor, value: &str) -> Fallible<String> {
    Ok(match shape(field) {
        Shape::List => format!("rt::write_list::<{}>({value}, to);", kind(field, package.name)?),
        Shape::Map => {
            let (key, of) = entry(field).ok_or("a map without entries")?;
            format!(
                "rt::write_map::<{}, {}>({value}, to);",
                kind(&key, package.name)?,
                kind(&of, package.name)?
            )
        }
        Shape::One | Shape::Optional | Shape::Member => {
            format!("<{} as rt::WriteKind>::write({value}, to);", kind(field, package.name)?)
        }
    })
}

fn oneof(package: &Package, fields: &[FieldDescriptor]) -> Fallible<String> {
    let mut arms = String::new();
    for field in fields {
        let variant = variant(field, package.name);
        write!(
            arms,
            "Some({variant}(value)) => {{ {} }}",
            value(package, field, "value")?
        )?;
    }
    let place = fields.first().map(place).ok_or("an inline oneof without members")?;
    Ok(format!("match &{place} {{ {arms} None => to.raw(\"null\"), }}"))
}

fn object(package: &Package, fields: &[FieldDescriptor]) -> Fallible<String> {
    let mut body = String::from("to.open('{');");
    for field in fields.iter().filter(|field| !input_only(field)) {
        let (place, json) = (place(field), field.json_name());
        let present = match shape(field) {
            Shape::Optional => format!("if let Some(value) = &{place}"),
            Shape::Member => format!("if let Some({}(value)) = &{place}", variant(field, package.name)),
            // An enum that is not set has no word.
            Shape::One if field.kind().as_enum().is_some() => format!("if {place} != 0"),
            Shape::One | Shape::List | Shape::Map => String::new(),
        };
        let held = match shape(field) {
            Shape::Optional | Shape::Member => "value".to_owned(),
            Shape::One | Shape::List | Shape::Map => format!("&{place}"),
        };
        let statements = format!("to.key({json:?}); {}", value(package, field, &held)?);
        if present.is_empty() {
            body.push_str(&statements);
        } else {
            write!(body, "{present} {{ {statements} }}")?;
        }
    }
    body.push_str("to.raw(\"}\");");
    Ok(body)
}

fn parts(package: &Package, fields: &[FieldDescriptor], code: &mut String) -> Fallible<()> {
    let (mut writes, mut presents) = (String::new(), String::new());
    for (at, field) in fields.iter().enumerate() {
        let place = place(field);
        match shape(field) {
            Shape::Optional => {
                write!(
                    writes,
                    "{at} => match &{place} {{ Some(value) => {{ {} }} None => to.raw(\"null\"), }},",
                    value(package, field, "value")?
                )?;
                write!(presents, "{at} => {place}.is_some(),")?;
            }
            Shape::Member => {}
            _ => write!(writes, "{at} => {{ {} }}", value(package, field, &format!("&{place}"))?)?,
        }
    }
    write!(
        code,
        "fn write_field(&self, field: usize, to: &mut rt::Writer) {{ match field {{ {writes} _ => to.raw(\"null\"), }} }}"
    )?;
    if !presents.is_empty() {
        write!(
            code,
            "fn is_present(&self, field: usize) -> bool {{ match field {{ {presents} _ => false, }} }}"
        )?;
    }
    Ok(())
}

/// Writes what an event of a stream is called and holds.
pub(crate) fn event(package: &Package, message: &MessageDescriptor, code: &mut String) -> Fallible<()> {
    let name = rust_type(message.full_name(), package.name);
    let fault = || {
        format!(
            "{}: an event has a oneof `event` of messages and a string `cursor`",
            message.full_name()
        )
    };
    let oneof = message
        .oneofs()
        .find(|oneof| oneof.name() == "event")
        .ok_or_else(fault)?;
    message.get_field_by_name("cursor").ok_or_else(fault)?;
    let (mut names, mut writes) = (String::new(), String::new());
    for field in oneof.fields() {
        own_message(&field).ok_or_else(fault)?;
        let variant = variant(&field, package.name);
        write!(names, "Some({variant}(_)) => Some({:?}),", field.json_name())?;
        write!(writes, "Some({variant}(value)) => rt::Outgoing::write(value, to),")?;
    }
    write!(
        code,
        "impl rt::Event for pb::{name} {{\n    fn name(&self) -> Option<&'static str> {{ match &self.event {{ {names} None => None }} }}\n\n    \
         fn cursor(&self) -> &str {{ &self.cursor }}\n\n    \
         fn write_event(&self, to: &mut rt::Writer) {{ match &self.event {{ {writes} None => to.raw(\"{{}}\"), }} }}\n}}\n"
    )?;
    Ok(())
}
