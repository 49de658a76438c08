//! What an rpc, a message and an enum of the contract must be, so that the generated code can be right. Every breach is
//! a build error that names the place.

use std::collections::BTreeMap;
use std::error::Error;

use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use crate::contract::{
    Binding, BodyRule, Fallible, Package, Rpc, extension, fault, flag, inline_map, inline_oneof, list, number, suffix,
    word,
};
use crate::fields::{entry, inline, own_message};
use crate::reach;
use crate::template::{Segment, Template};

/// Checks a package.
///
/// # Errors
/// All breaches, one on each line.
pub(crate) fn check(package: &Package) -> Fallible<()> {
    let mut faults: Vec<Box<dyn Error>> = Vec::new();
    let mut note = |result: Fallible<()>| faults.extend(result.err());
    for (_, rpc) in package.rpcs() {
        note(rule(rpc));
        note(streaming(rpc));
        note(idempotency(rpc));
        note(update(rpc));
        for binding in &rpc.bindings {
            note(verb(rpc, binding));
            note(variables(rpc, binding));
        }
    }
    note(routes(package));
    for words in package.enums() {
        note(enum_words(&words));
    }
    let own = reach::all(
        package
            .rpcs()
            .flat_map(|(_, rpc)| [rpc.descriptor.input(), rpc.descriptor.output()]),
    );
    for message in package.messages() {
        note(inline_rules(&message));
        note(message_rules(&message));
        note(recursion(&message));
        if !own.contains(&message) {
            note(Err(format!("{}: no rpc uses this message", message.full_name()).into()));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Err(format!("the contract breaks its laws:\n{}", lines.join("\n")).into())
}

fn refuse(rpc: &Rpc, breach: bool, problem: &str) -> Fallible<()> {
    if breach {
        Err(fault(&rpc.descriptor, problem))
    } else {
        Ok(())
    }
}

fn rule(rpc: &Rpc) -> Fallible<()> {
    let auth = rpc
        .rule
        .get_field_by_name("auth")
        .and_then(|auth| auth.as_message().cloned());
    let Some(auth) = auth else {
        return Err(fault(&rpc.descriptor, "has no auth rule"));
    };
    let callers = list(&auth, "callers");
    let unset = callers.iter().any(|caller| caller.as_enum_number() == Some(0));
    refuse(rpc, callers.is_empty() || unset, "lets in no kind of caller")?;
    refuse(
        rpc,
        number(&auth, "on_behalf_of") == 0,
        "does not say what on_behalf_of does",
    )?;
    refuse(rpc, number(&rpc.rule, "rate_class") == 0, "has no rate class")?;
    let status = rpc.success_status();
    refuse(
        rpc,
        !(200..300).contains(&status),
        "has a success status that is no success",
    )
}

fn streaming(rpc: &Rpc) -> Fallible<()> {
    if !rpc.descriptor.is_client_streaming() {
        return Ok(());
    }
    refuse(
        rpc,
        !rpc.bindings.is_empty(),
        "streams requests, which HTTP with JSON cannot: it has no (google.api.http)",
    )?;
    refuse(
        rpc,
        rpc.descriptor.is_server_streaming(),
        "streams both ways, which no door serves",
    )?;
    refuse(
        rpc,
        rpc.descriptor.input().get_field_by_name("update_mask").is_some(),
        "streams requests, so it cannot change by mask",
    )
}

fn verb(rpc: &Rpc, binding: &Binding) -> Fallible<()> {
    let get = binding.verb == "GET";
    refuse(
        rpc,
        get == rpc.side_effects(),
        "must be NO_SIDE_EFFECTS exactly when it is bound to GET",
    )?;
    let body = !matches!(binding.body, BodyRule::None);
    let bodiless = get || binding.verb == "DELETE";
    refuse(rpc, bodiless && body, "has a body on GET or DELETE")?;
    refuse(
        rpc,
        rpc.descriptor.is_server_streaming() && !get,
        "streams its answer, which only GET can do",
    )
}

fn idempotency(rpc: &Rpc) -> Fallible<()> {
    let post = rpc.bindings.iter().any(|binding| binding.verb == "POST");
    let due = post && rpc.side_effects() && !rpc.descriptor.is_server_streaming();
    let takes = flag(&rpc.rule, "idempotency_key");
    refuse(
        rpc,
        due != takes,
        "must take an idempotency key exactly when it is a unary POST with side effects",
    )
}

fn update(rpc: &Rpc) -> Fallible<()> {
    let input = rpc.descriptor.input();
    let Some(mask) = input.get_field_by_name("update_mask") else {
        return Ok(());
    };
    let is_mask = matches!(mask.kind(), Kind::Message(kind) if kind.full_name() == "google.protobuf.FieldMask");
    refuse(rpc, !is_mask, "has an update_mask that is no FieldMask")?;
    let bodies = rpc.bindings.iter().all(|binding| match &binding.body {
        BodyRule::Field(field) => own_message(field).is_some() && field.cardinality() != Cardinality::Repeated,
        BodyRule::None | BodyRule::Whole => false,
    });
    refuse(
        rpc,
        !bodies,
        "has an update_mask, so its body must be the field of the resource",
    )
}

fn variables(rpc: &Rpc, binding: &Binding) -> Fallible<()> {
    for variable in &binding.template.variables {
        let mut message = rpc.descriptor.input();
        let mut found: Option<FieldDescriptor> = None;
        for name in variable.field.split('.') {
            let field = message.get_field_by_name(name);
            let field =
                field.ok_or_else(|| fault(&rpc.descriptor, &format!("binds {}, which is no field", variable.field)))?;
            if let Some(inner) = own_message(&field) {
                message = inner;
            }
            found = Some(field);
        }
        let scalar = found.is_some_and(|field| {
            let kind = matches!(
                field.kind(),
                Kind::String | Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Enum(_)
            );
            kind && field.cardinality() != Cardinality::Repeated
        });
        refuse(
            rpc,
            !scalar,
            &format!("binds {}, which is no text or whole number", variable.field),
        )?;
    }
    Ok(())
}

fn routes(package: &Package) -> Fallible<()> {
    let mut known: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for (_, rpc) in package.rpcs() {
        for binding in &rpc.bindings {
            let full = rpc.descriptor.full_name();
            let shape = shape(&binding.template);
            if let Some(other) = known.insert((shape.clone(), binding.verb.clone()), full.to_owned()) {
                let problem = format!("is bound to {} {shape}, as {other} is", binding.verb);
                return Err(fault(&rpc.descriptor, &problem));
            }
            if let Some(other) = names.insert(binding.name.clone(), full.to_owned()) {
                return Err(fault(
                    &rpc.descriptor,
                    &format!("has an operation {}, as {other} has", binding.name),
                ));
            }
        }
    }
    Ok(())
}

/// What decides which requests match: a template without the names of its variables.
fn shape(template: &Template) -> String {
    let segments = template.segments.iter().map(|segment| match segment {
        Segment::Literal(text) => format!("/{text}"),
        Segment::One => "/*".to_owned(),
        Segment::Rest => "/**".to_owned(),
    });
    let verb = template.verb.as_ref().map(|verb| format!(":{verb}"));
    segments.chain(verb).collect()
}

fn enum_words(words: &EnumDescriptor) -> Fallible<()> {
    let full = words.full_name();
    let zero = words.get_value(0).map(|value| suffix(&value));
    if zero.as_deref() != Some("UNSPECIFIED") {
        return Err(format!("{full}: the value 0 must end in _UNSPECIFIED").into());
    }
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for value in words.values().filter(|value| value.number() != 0) {
        if let Some(other) = known.insert(word(&value), value.name().to_owned()) {
            return Err(format!("{full}: {} and {other} have the same word", value.name()).into());
        }
    }
    Ok(())
}

fn inline_rules(message: &MessageDescriptor) -> Fallible<()> {
    let full = message.full_name();
    let fields: Vec<FieldDescriptor> = message.fields().collect();
    if inline_map(message) && !(fields.len() == 1 && fields.iter().all(FieldDescriptor::is_map)) {
        return Err(format!("{full}: an inline_map has exactly one map and nothing else").into());
    }
    if !inline_oneof(message) {
        return Ok(());
    }
    let oneofs = message.oneofs().filter(|oneof| !oneof.is_synthetic()).count();
    if oneofs != 1
        || fields
            .iter()
            .any(|field| field.containing_oneof().is_none_or(|oneof| oneof.is_synthetic()))
    {
        return Err(format!("{full}: an inline_oneof has exactly one oneof and nothing else").into());
    }
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for field in &fields {
        let marks: Vec<String> = match (field.kind(), own_message(field)) {
            (_, Some(inner)) if inline(&inner) => {
                return Err(format!(
                    "{}: a member of an inline_oneof cannot be inline itself",
                    field.full_name()
                )
                .into());
            }
            (_, Some(inner)) => inner
                .fields()
                .map(|field| format!("field {}", field.json_name()))
                .collect(),
            (Kind::String, _) => vec!["string".to_owned()],
            (Kind::Bool, _) => vec!["boolean".to_owned()],
            (Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Double, _) => vec!["number".to_owned()],
            _ => return Err(format!("{}: cannot be told apart in JSON", field.full_name()).into()),
        };
        if marks.is_empty() {
            return Err(format!("{}: has no fields to be told apart by", field.full_name()).into());
        }
        for mark in marks {
            if let Some(other) = known.insert(mark.clone(), field.name().to_owned()) {
                return Err(format!("{full}: {} and {other} share the {mark}", field.name()).into());
            }
        }
    }
    Ok(())
}

/// Rules about several fields at once are written as code, not as annotations.
fn message_rules(message: &MessageDescriptor) -> Fallible<()> {
    match extension(message.parent_pool(), message.options(), "buf.validate.message") {
        Some(_) => Err(format!(
            "{}: (buf.validate.message) is not known to the build",
            message.full_name()
        )
        .into()),
        None => Ok(()),
    }
}

/// A message may hold itself in a list or a map only: prost would box it otherwise.
fn recursion(message: &MessageDescriptor) -> Fallible<()> {
    let mut open = vec![message.clone()];
    let mut known: Vec<MessageDescriptor> = Vec::new();
    while let Some(next) = open.pop() {
        for field in next.fields().filter(|field| !field.is_list() && entry(field).is_none()) {
            let Some(inner) = own_message(&field) else { continue };
            if inner == *message {
                return Err(format!(
                    "{}: holds {} in itself other than in a list",
                    field.full_name(),
                    message.name()
                )
                .into());
            }
            if !known.contains(&inner) {
                known.push(inner.clone());
                open.push(inner);
            }
        }
    }
    Ok(())
}
