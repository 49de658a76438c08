//! Per enum its words; per message how it is checked, read and written.

use std::fmt::Write;

use prost_reflect::{EnumDescriptor, FieldDescriptor, MessageDescriptor};

use crate::bounds::{self, Values};
use crate::checks::{self, Checks, Patterns};
use crate::contract::{
    Fallible, Package, extension, flag, inline_map, inline_oneof, output_only, rust_type, secret, suffix, word,
};
use crate::fields::{Shape, entry, inline, kind, own_message, place, shape, variant};
use crate::{reach, writes};

pub(crate) use crate::fields::in_order;

/// Writes everything about enums and messages.
pub(crate) fn generate(package: &Package) -> Fallible<String> {
    let mut code = String::new();
    for words in package.enums() {
        code.push_str(&enum_words(package, &words)?);
    }
    let incoming = reach::all(package.rpcs().map(|(_, rpc)| rpc.descriptor.input()));
    let outgoing = reach::all(package.rpcs().map(|(_, rpc)| rpc.descriptor.output()));
    let mut patterns = Patterns::default();
    for message in package.messages() {
        let mut parts = Vec::new();
        if incoming.contains(&message) {
            let mut part = String::new();
            checked(package, &message, &mut patterns, &mut part)?;
            parts.push(std::mem::take(&mut part));
            read(package, &message, &mut part)?;
            parts.push(part);
        }
        if outgoing.contains(&message) {
            let mut part = String::new();
            writes::generate(package, &message, &mut part)?;
            parts.push(part);
        }
        for part in parts {
            if names_deprecated(&message, package, &part) {
                code.push_str("#[expect(deprecated, reason = \"the contract still carries the field\")]\n");
            }
            code.push_str(&part);
        }
    }
    let mut events: Vec<MessageDescriptor> = Vec::new();
    for (_, rpc) in package.rpcs().filter(|(_, rpc)| rpc.descriptor.is_server_streaming()) {
        let message = rpc.descriptor.output();
        if !events.contains(&message) {
            writes::event(package, &message, &mut code)?;
            events.push(message);
        }
    }
    code.push_str(&patterns.code()?);
    Ok(code)
}

/// Whether code about a message names one of its deprecated fields, which the compiler warns of.
fn names_deprecated(message: &MessageDescriptor, package: &Package, code: &str) -> bool {
    let deprecated = |field: &FieldDescriptor| {
        let options = field.field_descriptor_proto().options.as_ref();
        options.is_some_and(prost_types::FieldOptions::deprecated)
    };
    message.fields().filter(deprecated).any(|field| {
        let name = match shape(&field) {
            Shape::Member => variant(&field, package.name),
            Shape::One | Shape::Optional | Shape::List | Shape::Map => place(&field),
        };
        code.match_indices(&name).any(|(at, name)| {
            let next = code.get(at + name.len()..).and_then(|rest| rest.chars().next());
            next.is_none_or(|next| !next.is_alphanumeric() && next != '_')
        })
    })
}

fn enum_words(package: &Package, words: &EnumDescriptor) -> Fallible<String> {
    let mut values = String::new();
    for value in words.values().filter(|value| value.number() != 0) {
        write!(
            values,
            "rt::Word {{ number: {}, word: {:?}, suffix: {:?}, proto: {:?} }},",
            value.number(),
            word(&value),
            suffix(&value),
            value.name()
        )?;
    }
    Ok(format!(
        "impl rt::Worded for pb::{} {{ const WORDS: &'static rt::Words = &rt::Words {{ values: &[{values}] }}; }}\n",
        rust_type(words.full_name(), package.name)
    ))
}

/// The largest number of elements that the contract lets a list or map have.
fn count_max(field: &FieldDescriptor) -> Fallible<u64> {
    match bounds::of(field)?.values {
        Values::List { max: Some(max), .. } | Values::Map { max: Some(max), .. } => Ok(max),
        _ => Err(format!("{}: a list has max_items and a map has max_pairs", field.full_name()).into()),
    }
}

fn checked(package: &Package, message: &MessageDescriptor, patterns: &mut Patterns, code: &mut String) -> Fallible<()> {
    let name = rust_type(message.full_name(), package.name);
    let fields = in_order(message);
    let (mut table, mut arms) = (String::new(), String::new());
    for (at, field) in fields.iter().enumerate() {
        let (json, proto) = (field.json_name(), field.name());
        let (output, secret) = (output_only(field), secret(field));
        write!(table, "rt::Field::new({json:?}, {proto:?})")?;
        for (marked, mark) in [(output, ".output_only()"), (secret, ".secret()")] {
            if marked {
                table.push_str(mark);
            }
        }
        table.push(',');
        if output {
            continue;
        }
        if matches!(shape(field), Shape::List | Shape::Map) {
            count_max(field)?;
        }
        let checks = if updated_noun(package, message).as_ref() == Some(field) {
            let place = place(field);
            format!(
                "match &{place} {{ Some(value) => rt::update::check(value, self.update_mask.as_ref(), c), None => c.violate(\"is required\"), }}"
            )
        } else {
            Checks {
                package: package.name,
                patterns: &mut *patterns,
            }
            .field(field, &bounds::of(field)?)?
        };
        if checks.is_empty() {
            continue;
        }
        if inline(message) {
            write!(arms, "{at} => {{ {checks} }}")?;
        } else {
            let step = if secret { "secret" } else { "field" };
            write!(arms, "{at} => c.{step}({json:?}, |c| {{ {checks} }}),")?;
        }
    }
    let problems = if arms.is_empty() { "_" } else { "c" };
    let body = if arms.is_empty() {
        "let _ = field;".to_owned()
    } else {
        format!("match field {{ {arms} _ => {{}} }}")
    };
    write!(
        code,
        "impl rt::Checked for pb::{name} {{\n    const FIELDS: &'static [rt::Field] = &[{table}];\n\n    \
         fn check_field(&self, field: usize, {problems}: &mut rt::Problems) {{ {body} }}\n"
    )?;
    groups(message, code)?;
    forget_output(message, package, code)?;
    if package.rpcs().any(|(_, rpc)| {
        rpc.updates()
            .is_some_and(|field| own_message(&field).as_ref() == Some(message))
    }) {
        holds(&fields, package, code)?;
    }
    if let Some(noun) = updated_noun(package, message) {
        write!(
            code,
            "fn prepare(&mut self, c: &mut rt::Problems) {{ rt::Checked::forget_output(self); \
             rt::update::settle({}.as_ref(), &mut self.update_mask, c); rt::Checked::check(self, c); }}",
            place(&noun)
        )?;
    }
    code.push_str("}\n");
    Ok(())
}

/// The field of an update request that holds what is changed.
fn updated_noun(package: &Package, message: &MessageDescriptor) -> Option<FieldDescriptor> {
    let mut rpcs = package.rpcs().filter(|(_, rpc)| rpc.descriptor.input() == *message);
    rpcs.find_map(|(_, rpc)| rpc.updates())
}

fn groups(message: &MessageDescriptor, code: &mut String) -> Fallible<()> {
    let mut checks = String::new();
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let rule = extension(message.parent_pool(), oneof.options(), "buf.validate.oneof");
        let required = rule.is_some_and(|rule| flag(&rule, "required")) || inline_oneof(message);
        if !required {
            continue;
        }
        let names: Vec<String> = oneof.fields().map(|field| field.json_name().to_owned()).collect();
        let rule = if inline_oneof(message) {
            "is required".to_owned()
        } else {
            format!("must have one of {}", names.join(", "))
        };
        write!(
            checks,
            "if self.{}.is_none() {{ c.violate({rule:?}); }}",
            crate::contract::ident(oneof.name())
        )?;
    }
    if !checks.is_empty() {
        write!(code, "fn check_groups(&self, c: &mut rt::Problems) {{ {checks} }}")?;
    }
    Ok(())
}

fn has_output(message: &MessageDescriptor) -> bool {
    reach::from(message)
        .iter()
        .any(|message| message.fields().any(|field| output_only(&field)))
}

fn forget_output(message: &MessageDescriptor, package: &Package, code: &mut String) -> Fallible<()> {
    if !has_output(message) {
        return Ok(());
    }
    let mut statements = String::new();
    for field in in_order(message) {
        let (place, shape) = (place(&field), shape(&field));
        if output_only(&field) {
            match shape {
                Shape::Member => {
                    return Err(format!("{}: a member of a oneof cannot be output-only", field.full_name()).into());
                }
                _ => write!(statements, "{place} = Default::default();")?,
            }
            continue;
        }
        let value = entry(&field).map(|(_, value)| value);
        let inner = own_message(value.as_ref().unwrap_or(&field));
        if !inner.is_some_and(|inner| has_output(&inner)) {
            continue;
        }
        let forget = "rt::Checked::forget_output(value)";
        match shape {
            Shape::Member => {
                let variant = variant(&field, package.name);
                write!(
                    statements,
                    "if let Some({variant}(value)) = &mut {place} {{ {forget}; }}"
                )?;
            }
            Shape::List => write!(statements, "for value in &mut {place} {{ {forget}; }}")?,
            Shape::Map => write!(statements, "for value in {place}.values_mut() {{ {forget}; }}")?,
            Shape::One | Shape::Optional => write!(statements, "if let Some(value) = &mut {place} {{ {forget}; }}")?,
        }
    }
    write!(code, "fn forget_output(&mut self) {{ {statements} }}")?;
    Ok(())
}

fn holds(fields: &[FieldDescriptor], package: &Package, code: &mut String) -> Fallible<()> {
    let mut arms = String::new();
    for (at, field) in fields.iter().enumerate().filter(|(_, field)| !output_only(field)) {
        let place = place(field);
        let test = match shape(field) {
            Shape::Optional => format!("{place}.is_some()"),
            Shape::List | Shape::Map => format!("!{place}.is_empty()"),
            Shape::Member => format!("matches!({place}, Some({}(_)))", variant(field, package.name)),
            Shape::One => format!("!({})", checks::zero(field, &place)),
        };
        write!(arms, "{at} => {test},")?;
    }
    write!(
        code,
        "fn holds(&self, field: usize) -> bool {{ match field {{ {arms} _ => false }} }}"
    )?;
    Ok(())
}

fn read(package: &Package, message: &MessageDescriptor, code: &mut String) -> Fallible<()> {
    let name = rust_type(message.full_name(), package.name);
    let fields = in_order(message);
    if fields.len() > 128 {
        return Err(format!("{}: more than 128 fields", message.full_name()).into());
    }
    let (mut finds, mut reads, mut parses) = (String::new(), String::new(), String::new());
    for (at, field) in fields.iter().enumerate() {
        let names = if field.json_name() == field.name() {
            format!("{:?}", field.name())
        } else {
            format!("{:?} | {:?}", field.json_name(), field.name())
        };
        write!(finds, "{names} => Some({at}),")?;
        if output_only(field) {
            continue;
        }
        write!(reads, "{at} => {},", read_arm(field, package)?)?;
        if let Some(parse) = parse_arm(field, package)? {
            write!(parses, "{at} => {parse},")?;
        }
    }
    let named = |used: bool, name: &'static str| if used { name.to_owned() } else { format!("_{name}") };
    let reading = !reads.is_empty();
    let parsing = !parses.is_empty();
    let rest = parses.contains("rest");
    write!(
        code,
        "impl rt::Incoming for pb::{name} {{\n    fn find(name: &str) -> Option<usize> {{ match name {{ {finds} _ => None }} }}\n\n    \
         fn read_field<'de, D: rt::Deserializer<'de>>(&mut self, {field}: usize, from: D, {c}: &mut rt::Problems) -> Result<(), D::Error> {{ {read} }}\n\n    \
         fn parse_field(&mut self, {pfield}: usize, {rest}: &str, {text}: &str, c: &mut rt::Problems) {{ {parse} }}\n",
        field = named(reading, "field"),
        c = named(reading, "c"),
        read = if reading {
            format!("match field {{ {reads} _ => rt::read::skip(from) }}")
        } else {
            "rt::read::skip(from)".to_owned()
        },
        pfield = named(parsing, "field"),
        rest = named(rest, "rest"),
        text = named(parsing, "text"),
        parse = if parsing {
            format!("match field {{ {parses} _ => rt::query::never(c) }}")
        } else {
            "rt::query::never(c);".to_owned()
        },
    )?;
    if inline_map(message) {
        let field = fields.first().ok_or("an inline map without a field")?;
        let (key, value) = entry(field).ok_or("an inline map without a map")?;
        write!(
            code,
            "fn read<'de, D: rt::Deserializer<'de>>(&mut self, from: D, c: &mut rt::Problems) -> Result<rt::Outcome, D::Error> {{ \
             rt::read::map::<{}, {}, D>(&mut {}, {}, from, c) }}",
            kind(&key, package.name)?,
            kind(&value, package.name)?,
            place(field),
            count_max(field)?
        )?;
    }
    if inline_oneof(message) {
        code.push_str(
            "fn read<'de, D: rt::Deserializer<'de>>(&mut self, from: D, c: &mut rt::Problems) -> Result<rt::Outcome, D::Error> { \
             rt::read::inline_oneof(self, from, c) }",
        );
    }
    code.push_str("}\n");
    if inline_oneof(message) {
        told_apart(package, message, &fields, code)?;
    }
    Ok(())
}

fn read_arm(field: &FieldDescriptor, package: &Package) -> Fallible<String> {
    let (place, kind_) = (place(field), |field: &FieldDescriptor| kind(field, package.name));
    Ok(match shape(field) {
        Shape::One => format!("rt::read::one::<{}, D>(&mut {place}, from, c)", kind_(field)?),
        Shape::Optional => format!("rt::read::optional::<{}, D>(&mut {place}, from, c)", kind_(field)?),
        Shape::List => format!(
            "rt::read::list::<{}, D>(&mut {place}, {}, from, c)",
            kind_(field)?,
            count_max(field)?
        ),
        Shape::Map => {
            let (key, value) = entry(field).ok_or("a map without entries")?;
            format!(
                "rt::read::map::<{}, {}, D>(&mut {place}, {}, from, c).map(|_| ())",
                kind_(&key)?,
                kind_(&value)?,
                count_max(field)?
            )
        }
        Shape::Member => format!(
            "rt::read::member::<{}, _, D>(&mut {place}, {}, from, c)",
            kind_(field)?,
            variant(field, package.name)
        ),
    })
}

fn parse_arm(field: &FieldDescriptor, package: &Package) -> Fallible<Option<String>> {
    let (place, kind) = (place(field), kind(field, package.name));
    let nested = own_message(field);
    if nested.as_ref().is_some_and(inline) || field.is_map() {
        return Ok(None);
    }
    let kind = kind?;
    Ok(match shape(field) {
        Shape::One => Some(format!("rt::query::one::<{kind}>(&mut {place}, rest, text, c)")),
        Shape::Optional => Some(format!("rt::query::optional::<{kind}>(&mut {place}, rest, text, c)")),
        Shape::List if nested.is_none() => Some(format!(
            "rt::query::list::<{kind}>(&mut {place}, {}, (rest, text), c)",
            count_max(field)?
        )),
        Shape::Member if nested.is_none() => Some(format!(
            "rt::query::member::<{kind}, _>(&mut {place}, {}, (rest, text), c)",
            variant(field, package.name)
        )),
        Shape::List | Shape::Member | Shape::Map => None,
    })
}

/// How the value that stands for a oneof is told apart.
fn told_apart(
    package: &Package,
    message: &MessageDescriptor,
    fields: &[FieldDescriptor],
    code: &mut String,
) -> Fallible<()> {
    let (mut scalars, mut members, mut reads, mut expected) = (String::new(), String::new(), String::new(), Vec::new());
    for (at, field) in fields.iter().enumerate() {
        let (kind, variant, place) = (kind(field, package.name)?, variant(field, package.name), place(field));
        if let Some(inner) = own_message(field) {
            let names: Vec<String> = in_order(&inner)
                .iter()
                .flat_map(|field| [field.json_name().to_owned(), field.name().to_owned()])
                .collect();
            let mut names: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
            names.dedup();
            write!(members, "{} => Some({at}),", names.join(" | "))?;
            write!(
                reads,
                "{at} => {{ let mut value = pb::{}::default(); rt::read::members(&mut value, Some(first), object, c)?; {place} = Some({variant}(value)); Ok(()) }}",
                rust_type(inner.full_name(), package.name)
            )?;
            let first = in_order(&inner)
                .first()
                .map(|field| field.json_name().to_owned())
                .unwrap_or_default();
            expected.push(format!("an object with {first}"));
            continue;
        }
        let (pattern, what) = match kind.as_str() {
            "rt::Text" => ("rt::Json::Text(_)", "a string"),
            "rt::Bool" => ("rt::Json::Bool(_)", "a boolean"),
            _ => (
                "rt::Json::Signed(_) | rt::Json::Unsigned(_) | rt::Json::Float(_)",
                "a number",
            ),
        };
        write!(
            scalars,
            "{pattern} => rt::take_inline::<{kind}, _>(&mut {place}, {variant}, json, c),"
        )?;
        expected.push(what.to_owned());
    }
    let expected = match expected.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    };
    let (first, object, c, member) = if reads.is_empty() {
        ("_", "object", "_", "_")
    } else {
        ("first", "object", "c", "member")
    };
    write!(
        code,
        "impl rt::InlineOneof for pb::{name} {{\n    const EXPECTED: &'static str = {expected:?};\n\n    \
         fn member(name: &str) -> Option<usize> {{ match name {{ {members} _ => None }} }}\n\n    \
         fn take(&mut self, json: &rt::Json<'_>, c: &mut rt::Problems) -> rt::Outcome {{ match json {{ {scalars} _ => rt::read::refuse_inline::<Self>(json, c) }} }}\n\n    \
         fn read_member<'de, A: rt::MapAccess<'de>>(&mut self, {member}: usize, {first}: std::borrow::Cow<'de, str>, {object}: A, {c}: &mut rt::Problems) -> Result<(), A::Error> {{ {read} }}\n}}\n",
        name = rust_type(message.full_name(), package.name),
        read = if reads.is_empty() {
            "rt::read::skip_members(object)".to_owned()
        } else {
            format!("match member {{ {reads} _ => rt::read::skip_members(object) }}")
        },
    )?;
    Ok(())
}
