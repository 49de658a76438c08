//! Messages and enums as schemas, as REST writes and reads them. What a message means in an operation is not decided
//! here.
//!
//! A message that is both answered and sent has two schemas, `X` and `XInput`, and a third, `XUpdate`, where it is changed
//! by the keys present. One schema with `readOnly` could not say it: an answer always holds what a request may leave out,
//! and only an update takes null.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::bounds;
use super::prose::{Prose, join};
use crate::contract::{
    BodyRule, Fallible, Package, behaves, field_rule, inline_map, inline_oneof, input_only, number, output_only,
    secret, word,
};

/// What a message is written for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// An answer.
    Answer,
    /// A new thing, or a part of a request.
    Input,
    /// The change of a thing, by the keys present.
    Update,
}

/// The schemas of the document.
pub(crate) struct Schemas<'p> {
    pub(crate) prose: &'p Prose,
    package: &'static str,
    /// Messages that are parts of answers, by full name.
    answered: Vec<MessageDescriptor>,
    components: BTreeMap<String, Value>,
}

impl<'p> Schemas<'p> {
    /// No schema yet.
    pub(crate) fn new(package: &Package, prose: &'p Prose) -> Self {
        let mut answered = Vec::new();
        for (_, rpc) in package.rpcs() {
            collect(&rpc.descriptor.output(), &mut answered);
        }
        Self {
            prose,
            package: package.name,
            answered,
            components: BTreeMap::new(),
        }
    }

    /// The schemas that were referred to, by name.
    pub(crate) fn into_components(self) -> BTreeMap<String, Value> {
        self.components
    }

    /// Adds a schema that no message stands for.
    pub(crate) fn add(&mut self, name: &str, schema: Value) -> Value {
        self.components.insert(name.to_owned(), schema);
        reference(name)
    }

    /// A message, as a reference where it has a name over REST.
    pub(crate) fn message(&mut self, message: &MessageDescriptor, role: Role) -> Fallible<Value> {
        let name = match role {
            Role::Answer => plain_name(message.full_name(), self.package),
            Role::Update => format!("{}Update", plain_name(message.full_name(), self.package)),
            Role::Input => {
                let two = self.answered.contains(message) && differs(message, &mut Vec::new());
                format!(
                    "{}{}",
                    plain_name(message.full_name(), self.package),
                    if two { "Input" } else { "" }
                )
            }
        };
        if !self.components.contains_key(&name) {
            // Holds the place, so that a message may be part of itself.
            self.components.insert(name.clone(), Value::Null);
            let schema = self.whole(message, role, &[])?;
            self.components.insert(name.clone(), schema);
        }
        Ok(reference(&name))
    }

    /// The schema of a message itself, without some of its fields.
    pub(crate) fn whole(&mut self, message: &MessageDescriptor, role: Role, without: &[&str]) -> Fallible<Value> {
        let mut text = self.prose.at(&message.parent_file(), message.path());
        let fields: Vec<_> = message
            .fields()
            .filter(|f| visible(f, role) && !without.contains(&f.name()))
            .collect();
        if inline_oneof(message) {
            let mut members = fields
                .iter()
                .map(|field| self.field(field, role))
                .collect::<Fallible<Vec<_>>>()?;
            if let [only] = members.as_mut_slice() {
                only["description"] = json!(text);
                return Ok(only.take());
            }
            return Ok(json!({ "description": text, "oneOf": members }));
        }
        if let (true, Some(field)) = (inline_map(message), fields.first()) {
            let mut schema = self.field(field, role)?;
            schema["description"] = json!(text);
            return Ok(schema);
        }
        if role == Role::Update {
            let about = "Keys that are absent stay as they are, null clears, and lists, maps and free JSON are replaced \
                         as a whole. Keys that are only answered are ignored.";
            text = format!("A change of {}. {about}", message.name());
        }
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let members: Vec<_> = oneof.fields().map(|field| format!("`{}`", field.json_name())).collect();
            text = join(
                &text,
                &format!("At most one of {} is present.", members.join(", ")),
                "\n\n",
            );
        }
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in &fields {
            properties.insert(field.json_name().to_owned(), self.field(field, role)?);
            if always(field, role) {
                required.push(field.json_name().to_owned());
            }
        }
        let mut schema = Map::new();
        schema.insert("description".to_owned(), json!(text));
        schema.insert("type".to_owned(), json!("object"));
        if !required.is_empty() {
            schema.insert("required".to_owned(), json!(required));
        }
        schema.insert("properties".to_owned(), Value::Object(properties));
        Ok(Value::Object(schema))
    }

    /// A field with its bounds and its comment.
    pub(crate) fn field(&mut self, field: &FieldDescriptor, role: Role) -> Fallible<Value> {
        let inner = if role == Role::Update { Role::Input } else { role };
        let value = if field.is_map() {
            let kind = field.kind();
            let entry = kind.as_message().ok_or("a map has entries")?;
            let value = self.value(&entry.map_entry_value_field().kind(), inner)?;
            json!({ "type": "object", "additionalProperties": value })
        } else if field.is_list() {
            json!({ "type": "array", "items": self.value(&field.kind(), inner)? })
        } else {
            self.value(&field.kind(), inner)?
        };
        let Value::Object(mut schema) = value else {
            return Err(format!("{} has no schema", field.full_name()).into());
        };
        bounds::apply(field, &mut schema)?;
        if role == Role::Update && !bounds::required(field) && !immutable(field) {
            schema = nullable(schema);
        }
        let text = self.describe(field, role);
        schema.insert("description".to_owned(), json!(text));
        let mut mark = |name: &str, set: bool| {
            if set {
                schema.insert(name.to_owned(), json!(true));
            }
        };
        mark("deprecated", deprecated(field));
        mark("readOnly", output_only(field));
        mark(
            "writeOnly",
            input_only(field) || (secret(field) && role != Role::Answer),
        );
        if secret(field) {
            schema.insert("format".to_owned(), json!("password"));
        }
        Ok(Value::Object(schema))
    }

    fn describe(&self, field: &FieldDescriptor, role: Role) -> String {
        let mut text = self.prose.at(&field.parent_file(), field.path());
        let bytes = field_rule(field).map_or(0, |rule| number(&rule, "json_bytes_max"));
        if bytes > 0 && !text.contains("compact JSON") {
            text = join(&text, &format!("At most {} of compact JSON.", size(bytes)), " ");
        }
        if secret(field) {
            text = join(
                &text,
                "It is a credential: keep it out of logs and away from end users.",
                " ",
            );
        }
        if role == Role::Update && immutable(field) {
            text = join(
                &text,
                "It never changes: sent with an update, it has to be what it is.",
                " ",
            );
        }
        if role == Role::Answer && field.name() == "etag" && output_only(field) {
            text = join(
                &text,
                "It is sent back in the header `If-Match`, in double quotes.",
                " ",
            );
        }
        text
    }

    fn value(&mut self, kind: &Kind, role: Role) -> Fallible<Value> {
        Ok(match kind {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer", "format": "int32" }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({ "type": "integer", "format": "int64" }),
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "format": "uint32", "minimum": 0 }),
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "integer", "format": "uint64", "minimum": 0 }),
            Kind::Float => json!({ "type": "number", "format": "float" }),
            Kind::Double => json!({ "type": "number", "format": "double" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Enum(kind) => self.words(kind)?,
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => self.add("Timestamp", timestamp()),
                "google.protobuf.Duration" => json!({ "type": "string", "pattern": r"^-?\d+(\.\d{1,9})?s$" }),
                "google.protobuf.FieldMask" => json!({ "type": "string" }),
                "google.protobuf.Struct" => json!({ "type": "object", "additionalProperties": true }),
                "google.protobuf.ListValue" => json!({ "type": "array", "items": {} }),
                "google.protobuf.Value" => json!({}),
                name if name.starts_with("google.") => return Err(format!("{name} has no form in JSON").into()),
                _ => self.message(message, role)?,
            },
        })
    }

    fn words(&mut self, kind: &EnumDescriptor) -> Fallible<Value> {
        let name = plain_name(kind.full_name(), self.package).replace("Request", "");
        if !self.components.contains_key(&name) {
            let values: Vec<_> = kind.values().filter(|value| value.number() != 0).collect();
            let lines = values.iter().map(|value| {
                let text = self.prose.at(&kind.parent_file(), value.path());
                format!("- `{}`: {text}", word(value))
            });
            let about = self.prose.at(&kind.parent_file(), kind.path());
            let text = format!("{about}\n\n{}", lines.collect::<Vec<_>>().join("\n"));
            let words: Vec<_> = values.iter().map(word).collect();
            self.add(&name, json!({ "description": text, "type": "string", "enum": words }));
        }
        Ok(reference(&name))
    }
}

/// The role of a binding's body.
pub(crate) fn body_role(body: &BodyRule, changes: bool) -> Role {
    match body {
        BodyRule::Field(_) if changes => Role::Update,
        BodyRule::Field(_) | BodyRule::Whole | BodyRule::None => Role::Input,
    }
}

/// A reference to a schema.
pub(crate) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// A number of bytes, for people.
pub(crate) fn size(bytes: i64) -> String {
    const KIB: i64 = 1 << 10;
    const MIB: i64 = 1 << 20;
    if bytes % MIB == 0 {
        format!("{} MiB", bytes / MIB)
    } else if bytes % KIB == 0 {
        format!("{} KiB", bytes / KIB)
    } else {
        format!("{bytes} bytes")
    }
}

fn timestamp() -> Value {
    json!({
        "description": "An instant. It is always answered in UTC with three decimals; a request may use any offset, or whole \
                        unix seconds as a number instead.",
        "type": "string",
        "format": "date-time",
        "examples": ["2024-01-15T09:30:00.000Z"]
    })
}

/// Full names without package and dots, so that names nested in messages stay apart.
fn plain_name(full_name: &str, package: &str) -> String {
    full_name.trim_start_matches(package).replace('.', "")
}

fn visible(field: &FieldDescriptor, role: Role) -> bool {
    match role {
        Role::Answer => !input_only(field),
        Role::Input | Role::Update => !output_only(field),
    }
}

/// Whether the key is always there: in answers what has no presence, in requests what is required.
fn always(field: &FieldDescriptor, role: Role) -> bool {
    match role {
        Role::Answer => !field.supports_presence() || bounds::required(field),
        Role::Input => bounds::required(field),
        Role::Update => false,
    }
}

fn immutable(field: &FieldDescriptor) -> bool {
    behaves(field, 5)
}

fn deprecated(field: &FieldDescriptor) -> bool {
    let options = field.field_descriptor_proto().options.as_ref();
    options.is_some_and(prost_types::FieldOptions::deprecated)
}

fn own(message: &MessageDescriptor) -> bool {
    !message.package_name().starts_with("google.")
}

fn collect(message: &MessageDescriptor, known: &mut Vec<MessageDescriptor>) {
    if known.contains(message) || !own(message) {
        return;
    }
    known.push(message.clone());
    for field in message.fields() {
        if let Kind::Message(inner) = field.kind() {
            collect(&inner, known);
        }
    }
}

/// Whether a message is read otherwise than it is written.
fn differs(message: &MessageDescriptor, known: &mut Vec<MessageDescriptor>) -> bool {
    if known.contains(message) || !own(message) {
        return false;
    }
    known.push(message.clone());
    let bare = message.is_map_entry() || inline_map(message) || inline_oneof(message);
    message.fields().any(|field| {
        let marked = output_only(&field) || input_only(&field) || secret(&field);
        let keys = !bare && always(&field, Role::Answer) != always(&field, Role::Input);
        let inside = matches!(field.kind(), Kind::Message(inner) if differs(&inner, known));
        marked || keys || inside
    })
}

/// The same, or null.
fn nullable(mut schema: Map<String, Value>) -> Map<String, Value> {
    if let Some(target) = schema.remove("$ref") {
        schema.insert("oneOf".to_owned(), json!([{ "$ref": target }, { "type": "null" }]));
    } else if let Some(kind) = schema.get("type").cloned() {
        schema.insert("type".to_owned(), json!([kind, "null"]));
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.push(Value::Null);
        }
    }
    schema
}
