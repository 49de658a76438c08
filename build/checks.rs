//! Bounds as code: for each field the statements that check its value.

use std::fmt::Write;

use prost_reflect::{FieldDescriptor, Kind};

use crate::bounds::{Bounds, Text, Values};
use crate::contract::{Fallible, field_rule, number, rust_type};
use crate::fields::{Shape, entry, own_message, place, shape, variant};

/// The regular expressions in use, by number.
#[derive(Default)]
pub(crate) struct Patterns(Vec<String>);

impl Patterns {
    fn number(&mut self, pattern: &str) -> usize {
        if let Some(at) = self.0.iter().position(|known| known == pattern) {
            return at;
        }
        self.0.push(pattern.to_owned());
        self.0.len() - 1
    }

    /// The statics.
    pub(crate) fn code(&self) -> Fallible<String> {
        let mut code =
            String::from("/// The regular expressions of the contract.\npub mod patterns {\n    use super::rt;\n");
        let mut all = String::new();
        for (at, pattern) in self.0.iter().enumerate() {
            write!(
                code,
                "/// `{doc}`\npub static P{at}: rt::Pattern = rt::Pattern::new({pattern:?}, || rt::compile({pattern:?}));\n",
                doc = pattern.replace('`', "'")
            )?;
            write!(all, "&P{at}, ")?;
        }
        write!(
            code,
            "/// All of them.\npub static ALL: &[&rt::Pattern] = &[{all}];\n}}\n"
        )?;
        Ok(code)
    }
}

/// Writes checks for one package.
pub(crate) struct Checks<'a> {
    pub(crate) package: &'a str,
    pub(crate) patterns: &'a mut Patterns,
}

const REQUIRED: &str = "c.require()";

impl Checks<'_> {
    /// The statements that check a field's value.
    pub(crate) fn field(&mut self, field: &FieldDescriptor, bounds: &Bounds) -> Fallible<String> {
        let place = place(field);
        match shape(field) {
            Shape::One => {
                let checks = self.value(field, bounds, &format!("&{place}"), true)?;
                let zero = zero(field, &place);
                Ok(if bounds.required {
                    format!("if {zero} {{ {REQUIRED} }} else {{ {checks} }}")
                } else if bounds.unless_zero && !checks.is_empty() {
                    format!("if !({zero}) {{ {checks} }}")
                } else {
                    checks
                })
            }
            Shape::Optional => {
                let checks = self.value(field, bounds, "value", false)?;
                Ok(match (bounds.required, checks.is_empty()) {
                    (true, _) => format!("match &{place} {{ Some(value) => {{ {checks} }} None => {REQUIRED}, }}"),
                    (false, false) => format!("if let Some(value) = &{place} {{ {checks} }}"),
                    (false, true) => String::new(),
                })
            }
            Shape::Member => {
                let checks = self.value(field, bounds, "value", false)?;
                let variant = variant(field, self.package);
                Ok(if checks.is_empty() {
                    String::new()
                } else {
                    format!("if let Some({variant}(value)) = &{place} {{ {checks} }}")
                })
            }
            Shape::List => self.list(field, bounds, &place),
            Shape::Map => self.map(field, bounds, &place),
        }
    }

    fn list(&mut self, field: &FieldDescriptor, bounds: &Bounds, place: &str) -> Fallible<String> {
        let Values::List {
            min,
            max,
            unique,
            items,
        } = &bounds.values
        else {
            return Ok(String::new());
        };
        let min = (*min).max(u64::from(bounds.required));
        let max = max.map_or("usize::MAX".to_owned(), |max| max.to_string());
        let mut code = format!("rt::rules::count({place}.len(), {min}, {max}, c);");
        let checks = self.value(field, items, "value", false)?;
        if *unique {
            let float = matches!(field.kind(), Kind::Double | Kind::Float);
            let keys = if float {
                format!("{place}.iter().map(|value| rt::float_key(f64::from(*value)))")
            } else {
                format!("&{place}")
            };
            write!(code, "rt::rules::unique({keys}, c);")?;
        }
        if !checks.is_empty() {
            write!(
                code,
                "for (at, value) in {place}.iter().enumerate() {{ c.index(at, |c| {{ {checks} }}); }}"
            )?;
        }
        Ok(code)
    }

    fn map(&mut self, field: &FieldDescriptor, bounds: &Bounds, place: &str) -> Fallible<String> {
        let Values::Map { min, max, keys, values } = &bounds.values else {
            return Ok(String::new());
        };
        let (key, value) = entry(field).ok_or("a map without entries")?;
        let min = (*min).max(u64::from(bounds.required));
        let max = max.map_or("usize::MAX".to_owned(), |max| max.to_string());
        let count = format!("rt::rules::count({place}.len(), {min}, {max}, c);");
        let key_checks = self.value(&key, keys, "key", false)?;
        let checks = self.value(&value, values, "value", false)?;
        Ok(match (key_checks.is_empty(), checks.is_empty()) {
            (true, true) => count,
            (false, true) => format!("{count} for key in {place}.keys() {{ c.key(key, |c| {{ {key_checks} }}); }}"),
            (_, false) => {
                format!("{count} for (key, value) in &{place} {{ c.key(key, |c| {{ {key_checks} {checks} }}); }}")
            }
        })
    }

    /// The statements that check a value by reference; `implicit` when its default means not set.
    fn value(&mut self, field: &FieldDescriptor, bounds: &Bounds, value: &str, implicit: bool) -> Fallible<String> {
        let plain = value
            .strip_prefix('&')
            .map_or_else(|| format!("*{value}"), str::to_owned);
        Ok(match field.kind() {
            Kind::String => {
                let rule = match &bounds.values {
                    Values::Text(text) => text_rule(text, self.patterns)?,
                    _ => "&rt::TextRule::ANY".to_owned(),
                };
                format!("rt::rules::text({value}, {rule}, c);")
            }
            Kind::Bytes => match &bounds.values {
                Values::Bytes { min, max } => {
                    let max = max.map_or("usize::MAX".to_owned(), |max| max.to_string());
                    format!("rt::rules::bytes({value}, &rt::BytesRule {{ min: {min}, max: {max} }}, c);")
                }
                _ => String::new(),
            },
            Kind::Bool => String::new(),
            Kind::Enum(words) => {
                let words = rust_type(words.full_name(), self.package);
                let zero = implicit && !matches!(bounds.values, Values::Enum { set: true });
                format!("rt::rules::word({plain}, <pb::{words} as rt::Worded>::WORDS, {zero}, c);")
            }
            Kind::Double | Kind::Float => {
                let checks = number_checks(&plain, &bounds.values)?;
                let wide = if field.kind() == Kind::Float {
                    format!("f64::from({plain})")
                } else {
                    plain
                };
                format!("rt::rules::finite({wide}, c); {checks}")
            }
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => format!("rt::rules::timestamp({value}, c);"),
                "google.protobuf.Duration" => format!("rt::rules::duration({value}, c);"),
                "google.protobuf.Struct" => format!("rt::rules::object({value}, {}, c);", json_bytes_max(field)?),
                "google.protobuf.ListValue" => format!("rt::rules::json_list({value}, {}, c);", json_bytes_max(field)?),
                "google.protobuf.Value" => format!("rt::rules::json({value}, {}, c);", json_bytes_max(field)?),
                _ if own_message(field).is_some() => format!("rt::Checked::check({value}, c);"),
                _ => String::new(),
            },
            _ => number_checks(&plain, &bounds.values)?,
        })
    }
}

/// The test whether a value is the default of its type.
pub(crate) fn zero(field: &FieldDescriptor, place: &str) -> String {
    match field.kind() {
        Kind::String | Kind::Bytes => format!("{place}.is_empty()"),
        Kind::Bool => format!("!{place}"),
        Kind::Double | Kind::Float => format!("{place} == 0.0"),
        _ => format!("{place} == 0"),
    }
}

fn json_bytes_max(field: &FieldDescriptor) -> Fallible<i64> {
    let bytes = field_rule(field)
        .map(|rule| number(&rule, "json_bytes_max"))
        .unwrap_or_default();
    if bytes <= 0 {
        return Err(format!(
            "{}: free JSON has no (campanile.options.v1.field).json_bytes_max",
            field.full_name()
        )
        .into());
    }
    Ok(bytes)
}

fn number_checks(value: &str, values: &Values) -> Fallible<String> {
    let Values::Number { bounds, only, never } = values else {
        return Ok(String::new());
    };
    let mut rule = String::new();
    for (operator, bound) in bounds {
        write!(rule, "{operator}: Some({bound}), ")?;
    }
    for (name, values) in [("only", only), ("never", never)] {
        if !values.is_empty() {
            write!(rule, "{name}: &[{}], ", values.join(", "))?;
        }
    }
    if rule.is_empty() {
        return Ok(String::new());
    }
    Ok(format!(
        "rt::rules::number({value}, &rt::NumberRule {{ {rule} ..rt::NumberRule::ANY }}, c);"
    ))
}

fn text_rule(text: &Text, patterns: &mut Patterns) -> Fallible<String> {
    let mut rule = String::new();
    if text.min > 0 {
        write!(rule, "min: {}, ", text.min)?;
    }
    for (name, bound) in [("max", text.max), ("bytes_max", text.bytes_max)] {
        if let Some(bound) = bound {
            write!(rule, "{name}: {bound}, ")?;
        }
    }
    if let Some(pattern) = &text.pattern {
        write!(rule, "pattern: Some(&patterns::P{}), ", patterns.number(pattern))?;
    }
    for (name, part) in [
        ("prefix", &text.prefix),
        ("suffix", &text.suffix),
        ("contains", &text.contains),
    ] {
        if !part.is_empty() {
            write!(rule, "{name}: {part:?}, ")?;
        }
    }
    for (name, values) in [("only", &text.only), ("never", &text.never)] {
        if !values.is_empty() {
            write!(rule, "{name}: &{values:?}, ")?;
        }
    }
    if let Some(format) = text.format {
        write!(rule, "format: Some(rt::Format::{format}), ")?;
    }
    Ok(match rule.as_str() {
        "" => "&rt::TextRule::ANY".to_owned(),
        rule => format!("&rt::TextRule {{ {rule} ..rt::TextRule::ANY }}"),
    })
}
