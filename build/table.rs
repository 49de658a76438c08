//! One line for each rpc, enum and bounded field, to compare releases by: what a line says is a promise.

use std::fmt::Write;

use prost_reflect::FieldDescriptor;

use crate::bounds::{self, Values};
use crate::contract::{Fallible, Package, Rpc, field_rule, flag, list, number, output_only, secret, variant, word};
use crate::fields::in_order;

/// Writes the table.
pub(crate) fn generate(package: &Package) -> Fallible<String> {
    let mut table = String::from("# rpc · HTTP · status · callers · on behalf of · key · bytes · rate · reasons\n");
    for (service, rpc) in package.rpcs() {
        let bindings: Vec<String> = rpc
            .bindings
            .iter()
            .map(|binding| format!("{} {}", binding.verb, binding.path))
            .collect();
        writeln!(
            table,
            "{}.{} · {} · {}",
            service.descriptor.name(),
            rpc.descriptor.name(),
            if bindings.is_empty() {
                "gRPC alone".to_owned()
            } else {
                bindings.join(", ")
            },
            rule(package, rpc)
        )?;
    }
    table.push_str("\n# enum: words\n");
    for words in package.enums() {
        let values = words.values().filter(|value| value.number() != 0);
        let words_of: Vec<String> = values
            .map(|value| format!("{}={}", value.number(), word(&value)))
            .collect();
        writeln!(table, "{}: {}", words.full_name(), words_of.join(" "))?;
    }
    table.push_str("\n# field: bounds\n");
    for message in package.messages() {
        for field in in_order(&message) {
            let bounds = bounds_of(&field)?;
            if !bounds.is_empty() {
                writeln!(table, "{}: {bounds}", field.full_name())?;
            }
        }
    }
    Ok(table)
}

fn rule(package: &Package, rpc: &Rpc) -> String {
    let of = |name: &str, prefix: &str, number: i64| {
        variant(&package.pool, &format!("campanile.options.v1.{name}"), prefix, number).unwrap_or_default()
    };
    let auth = rpc
        .rule
        .get_field_by_name("auth")
        .and_then(|auth| auth.as_message().cloned());
    let numbers = |values: Vec<prost_reflect::Value>| {
        values
            .into_iter()
            .filter_map(|value| value.as_enum_number())
            .map(i64::from)
            .collect::<Vec<_>>()
    };
    let callers = auth
        .as_ref()
        .map(|auth| numbers(list(auth, "callers")))
        .unwrap_or_default();
    let callers: Vec<String> = callers
        .into_iter()
        .map(|number| of("CallerKind", "CALLER_KIND_", number))
        .collect();
    let behalf = auth
        .as_ref()
        .map(|auth| number(auth, "on_behalf_of"))
        .unwrap_or_default();
    let reasons: Vec<String> = numbers(list(&rpc.rule, "reasons"))
        .into_iter()
        .map(|number| of("ErrorReason", "ERROR_REASON_", number))
        .collect();
    format!(
        "{} · {} · {} · {} · {} · {} · {}",
        rpc.success_status(),
        callers.join("+"),
        of("OnBehalfOf", "ON_BEHALF_OF_", behalf),
        if flag(&rpc.rule, "idempotency_key") {
            "key"
        } else {
            "no key"
        },
        rpc.body_bytes_max(),
        of("RateClass", "RATE_CLASS_", number(&rpc.rule, "rate_class")),
        reasons.join("+")
    )
}

fn bounds_of(field: &FieldDescriptor) -> Fallible<String> {
    let mut words = Vec::new();
    let bounds = bounds::of(field)?;
    if bounds.required {
        words.push("required".to_owned());
    }
    if output_only(field) {
        words.push("output-only".to_owned());
    }
    if secret(field) {
        words.push("secret".to_owned());
    }
    if let Some(rule) = field_rule(field).filter(|rule| number(rule, "json_bytes_max") > 0) {
        words.push(format!("json≤{}", number(&rule, "json_bytes_max")));
    }
    words.extend(values(&bounds.values));
    Ok(words.join(" "))
}

fn values(values_: &Values) -> Vec<String> {
    let mut words = Vec::new();
    match values_ {
        Values::Any => {}
        Values::Text(text) => {
            if text.min > 0 {
                words.push(format!("chars≥{}", text.min));
            }
            words.extend(text.max.map(|max| format!("chars≤{max}")));
            words.extend(text.bytes_max.map(|max| format!("bytes≤{max}")));
            words.extend(text.pattern.as_ref().map(|pattern| format!("/{pattern}/")));
            words.extend(text.format.map(str::to_lowercase));
            for (name, part) in [
                ("prefix", &text.prefix),
                ("suffix", &text.suffix),
                ("contains", &text.contains),
            ] {
                if !part.is_empty() {
                    words.push(format!("{name}={part}"));
                }
            }
            if !text.only.is_empty() {
                words.push(format!("in={}", text.only.join("|")));
            }
            if !text.never.is_empty() {
                words.push(format!("not_in={}", text.never.join("|")));
            }
        }
        Values::Bytes { min, max } => words.push(format!(
            "bytes {min}..{}",
            max.map_or(String::new(), |max| max.to_string())
        )),
        Values::Number { bounds, only, never } => {
            words.extend(bounds.iter().map(|(operator, bound)| format!("{operator}={bound}")));
            if !only.is_empty() {
                words.push(format!("in={}", only.join("|")));
            }
            if !never.is_empty() {
                words.push(format!("not_in={}", never.join("|")));
            }
        }
        Values::Enum { set } => words.extend(set.then(|| "set".to_owned())),
        Values::List {
            min,
            max,
            unique,
            items,
        } => {
            words.push(format!(
                "items {min}..{}",
                max.map_or(String::new(), |max| max.to_string())
            ));
            words.extend(unique.then(|| "unique".to_owned()));
            words.extend(values(&items.values));
        }
        Values::Map {
            min,
            max,
            keys,
            values: inner,
        } => {
            words.push(format!(
                "pairs {min}..{}",
                max.map_or(String::new(), |max| max.to_string())
            ));
            words.extend(values(&keys.values).into_iter().map(|word| format!("key {word}")));
            words.extend(values(&inner.values));
        }
    }
    words
}
