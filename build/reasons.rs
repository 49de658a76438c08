//! The enum of error reasons, with its mapping to gRPC codes and HTTP statuses, from the catalogue in the contract.

use std::error::Error;
use std::fmt::Write;

use prost_reflect::{DescriptorPool, DynamicMessage, Value};

/// Writes `enum Reason` and its table.
///
/// # Errors
/// When the catalogue is missing or a value has no rule.
pub(crate) fn generate(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let reasons = pool
        .get_enum_by_name("campanile.options.v1.ErrorReason")
        .ok_or("no ErrorReason in the contract")?;
    let rule = pool
        .get_extension_by_name("campanile.options.v1.value")
        .ok_or("no enum value rule")?;
    let mut variants = String::new();
    let mut facts = String::new();
    let mut all = String::new();
    for value in reasons.values().filter(|value| value.number() != 0) {
        let options = value.options();
        let table = options.get_extension(&rule);
        let table = table.as_message().ok_or("an error reason has no rule")?;
        let name = camel(value.name().trim_start_matches("ERROR_REASON_"));
        let (word, message) = (text(table, "word"), text(table, "message"));
        let (grpc, http) = (number(table, "grpc_code"), number(table, "http_status"));
        writeln!(
            variants,
            "    /// `{word}`: gRPC code {grpc}, HTTP status {http}.\n    {name},"
        )?;
        writeln!(
            facts,
            "            Self::{name} => Facts {{ word: {word:?}, grpc_code: {grpc}, http_status: {http}, message: {message:?} }},"
        )?;
        write!(all, "Self::{name}, ")?;
    }
    Ok(format!(
        "/// Why a call was refused or failed; the catalogue of the contract.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]\npub enum Reason {{\n{variants}}}\n\n\
         impl Reason {{\n    /// Every reason, in the order of the catalogue.\n    pub const ALL: &'static [Self] = &[{all}];\n\n\
         \x20   const fn facts(self) -> Facts {{\n        match self {{\n{facts}        }}\n    }}\n}}\n"
    ))
}

fn camel(name: &str) -> String {
    let word = |word: &str| {
        word.chars()
            .take(1)
            .chain(word.to_lowercase().chars().skip(1))
            .collect::<String>()
    };
    name.split('_').map(word).collect()
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message
        .get_field_by_name(field)
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn number(message: &DynamicMessage, field: &str) -> i32 {
    message
        .get_field_by_name(field)
        .as_deref()
        .and_then(Value::as_i32)
        .unwrap_or_default()
}
