//! The JSON Schema (draft-07) of a document, made from its table. It says what the table says and nothing beside it; what
//! the language cannot say, that ids are unique and that variables fit their places, is left to the check.

use serde_json::{Map, Value, json};

use super::token::WHOLE;
use super::{Bounds, Family, ID, Kind, LINE, Member, Rule, Shape};

/// What editors say about texts.
const TEXT: &str = "Variables between double braces, such as {{name}}, may stand in it.";
const WHOLE_TEXT: &str = "One variable as a whole, such as {{key}}, of the type";

/// The schema of a document whose root follows `root`, with its families as definitions.
#[must_use]
pub fn of(title: &str, description: &str, root: &'static Shape, families: &[&'static Family]) -> Value {
    let mut definitions = Map::new();
    for family in families {
        for kind in family.kinds {
            definitions.insert(name(family, kind), of_kind(family, kind));
        }
        definitions.insert(family.noun.to_owned(), of_family(family));
    }
    let mut schema = of_shape(root);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        schema.insert("title".to_owned(), json!(title));
        schema.insert("description".to_owned(), json!(description));
        schema.insert("definitions".to_owned(), Value::Object(definitions));
    }
    schema
}

fn name(family: &Family, kind: &Kind) -> String {
    format!("{}.{}", family.noun, kind.word)
}

fn of_rule(rule: &'static Rule) -> Value {
    match rule {
        Rule::Text => json!({"type": "string", "description": TEXT}),
        Rule::Line(least, most) => json!({
            "type": "string", "minLength": least, "maxLength": most, "pattern": LINE.source, "description": TEXT,
        }),
        Rule::Filled => json!({"type": "string", "minLength": 1, "description": TEXT}),
        Rule::Short(most) => json!({"type": "string", "pattern": short(*most), "description": TEXT}),
        Rule::Url(target, typed) => {
            let mut schema = target.schema();
            let or = typed.map_or_else(String::new, |typed| format!(" or {}", typed.word()));
            schema["description"] = json!(format!(
                "A URL with its scheme in plain text, or {{{{key}}}} of type string{or}."
            ));
            schema
        }
        Rule::Id => json!({"type": "string", "pattern": ID.source, "description": "Unique in the document."}),
        Rule::Form(pattern) => json!({"type": "string", "pattern": pattern.source}),
        Rule::Word([only]) => json!({"const": only}),
        Rule::Word(words) => json!({"enum": words}),
        Rule::Switch => json!({"type": "boolean"}),
        Rule::Number(bounds) => of_bounds(bounds),
        Rule::Choice(numbers) => json!({"enum": numbers}),
        Rule::Object(shape) => of_shape(shape),
        Rule::List(least, of) => json!({"type": "array", "minItems": least, "items": of_rule(of)}),
        Rule::Map(keys, values) => json!({
            "type": "object", "propertyNames": {"pattern": keys.source}, "additionalProperties": of_rule(values),
        }),
        Rule::Either(first, other, _) => json!({"anyOf": [of_rule(first), of_rule(other)]}),
        Rule::Kind(family) => of_place(family),
        Rule::Free => json!({"type": "object", "description": TEXT}),
    }
}

/// So many characters, with any number of tokens around them.
fn short(most: usize) -> String {
    let token = WHOLE.source.trim_start_matches('^').trim_end_matches('$');
    format!("^(?:{token})*(?:[\\s\\S](?:{token})*){{0,{most}}}$")
}

fn of_bounds(bounds: &Bounds) -> Value {
    let mut schema = json!({"type": if bounds.whole { "integer" } else { "number" }, "minimum": bounds.least});
    if let Some(most) = bounds.most {
        schema["maximum"] = json!(most);
    }
    schema
}

/// Where a family stands: one of its kinds, or a variable.
fn of_place(family: &Family) -> Value {
    let reference = json!({"$ref": format!("#/definitions/{}", family.noun)});
    match family.typed {
        None => reference,
        Some(typed) => json!({"anyOf": [
            reference,
            {"type": "string", "pattern": WHOLE.source, "description": format!("{WHOLE_TEXT} {}.", typed.word())},
        ]}),
    }
}

/// One branch for each kind, chosen by the type before anything inside is looked at: alternatives that are all tried
/// would multiply with each level of nesting, and tell a reader of every kind why it is not meant.
fn of_family(family: &'static Family) -> Value {
    let words: Vec<_> = family.kinds.iter().map(|kind| kind.word).collect();
    let branch = |kind: &&Kind| {
        json!({
            "if": {"properties": {"type": {"const": kind.word}}, "required": ["type"]},
            "then": {"$ref": format!("#/definitions/{}", name(family, kind))},
        })
    };
    let branches: Vec<_> = family.kinds.iter().map(branch).collect();
    json!({
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": words}},
        "allOf": branches,
    })
}

fn of_kind(family: &'static Family, kind: &'static Kind) -> Value {
    let members = family.common.iter().chain(kind.members);
    let mut schema = of_members(members, kind.any_of);
    schema["description"] = json!(kind.about);
    schema["properties"]["type"] = json!({"const": kind.word});
    if let Some(required) = schema["required"].as_array_mut() {
        required.push(json!("type"));
    }
    schema
}

fn of_shape(shape: &'static Shape) -> Value {
    of_members(shape.members.iter(), shape.any_of)
}

fn of_members(members: impl Iterator<Item = &'static Member> + Clone, any_of: &'static [&'static str]) -> Value {
    let properties: Map<_, _> = members
        .clone()
        .map(|member| (member.name.to_owned(), described(member)))
        .collect();
    let required: Vec<_> = members
        .filter(|member| member.required)
        .map(|member| member.name)
        .collect();
    let mut schema = json!({
        "type": "object", "required": required, "properties": properties, "additionalProperties": false,
    });
    if !any_of.is_empty() {
        let one: Vec<_> = any_of.iter().map(|name| json!({"required": [name]})).collect();
        schema["anyOf"] = json!(one);
    }
    schema
}

/// Beside `$ref` other keywords are ignored in draft-07, so a description goes around it.
fn described(member: &'static Member) -> Value {
    let schema = of_rule(&member.rule);
    match (member.about, schema) {
        ("", schema) => schema,
        (about, Value::Object(mut schema)) if !schema.contains_key("$ref") => {
            let further = schema.get("description").and_then(Value::as_str);
            let about = further.map_or_else(|| about.to_owned(), |further| format!("{about} {further}"));
            schema.insert("description".to_owned(), json!(about));
            Value::Object(schema)
        }
        (about, schema) => json!({"description": about, "allOf": [schema]}),
    }
}
