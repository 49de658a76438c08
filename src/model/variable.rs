//! Variables of templates: what a template declares, what a send gives, and which value wins. Nothing here puts a value
//! into a text.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::Violation;

/// What kind of value a variable takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariableType {
    /// A text.
    #[default]
    String,
}

/// What a template says about one of its variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariableDefinition {
    /// The name between the braces: `^[a-zA-Z_][a-zA-Z0-9_]{0,99}$`, once in a template.
    pub key: String,
    /// The kind of value.
    #[serde(rename = "type")]
    pub variable_type: VariableType,
    /// What people call it, up to 100 characters.
    pub name: Option<String>,
    /// Whether a send is refused when no layer has a value.
    pub required: bool,
    /// The value when neither the receiver nor the send has one.
    pub default_value: Option<VariableValue>,
}

/// The value of one variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VariableValue {
    /// A text of up to 4 KiB.
    Text(String),
}

impl VariableValue {
    /// The value as it stands in a text.
    #[must_use]
    pub fn as_text(&self) -> &str {
        match self {
            Self::Text(text) => text,
        }
    }
}

/// Values by key. Ordered, because equal values have to be stored and hashed equally.
pub type VariableValues = BTreeMap<String, VariableValue>;

/// What one receiver's variables come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// The value that won, for each key that has one; keys that the template does not declare included.
    pub values: BTreeMap<&'a str, &'a VariableValue>,
    /// Keys that are required and have no value, in the order of the template.
    pub missing: Vec<&'a str>,
}

/// Settles which value each variable has. `layers` come strongest first: the receiver's own, then the send's or the
/// campaign's; the template's defaults are weakest and come from `schema`. An empty text is a value.
#[must_use]
pub fn resolve<'a>(schema: &'a [VariableDefinition], layers: &[&'a VariableValues]) -> Resolved<'a> {
    let defaults = schema
        .iter()
        .filter_map(|definition| Some((definition.key.as_str(), definition.default_value.as_ref()?)));
    let mut values: BTreeMap<&str, &VariableValue> = defaults.collect();
    for layer in layers.iter().rev() {
        values.extend(layer.iter().map(|(key, value)| (key.as_str(), value)));
    }
    let missing = schema
        .iter()
        .filter(|definition| definition.required && !values.contains_key(definition.key.as_str()))
        .map(|definition| definition.key.as_str())
        .collect();
    Resolved { values, missing }
}

/// What is wrong with a schema as a whole: keys that stand in it twice. `path` is the schema's own.
#[must_use]
pub fn check_schema(schema: &[VariableDefinition], path: &str) -> Vec<Violation> {
    let mut first = HashMap::new();
    let mut violations = Vec::new();
    for (index, definition) in schema.iter().enumerate() {
        let earlier = *first.entry(definition.key.as_str()).or_insert(index);
        if earlier != index {
            let rule = format!("must be unique, but is the key of {path}[{earlier}] as well");
            violations.push(Violation::new(format!("{path}[{index}].key"), rule).received(&definition.key));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(key: &str, required: bool, default: Option<&str>) -> VariableDefinition {
        VariableDefinition {
            key: key.to_owned(),
            variable_type: VariableType::String,
            name: None,
            required,
            default_value: default.map(text),
        }
    }

    fn text(value: &str) -> VariableValue {
        VariableValue::Text(value.to_owned())
    }

    fn values(pairs: &[(&str, &str)]) -> VariableValues {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), text(value)))
            .collect()
    }

    #[test]
    fn the_receivers_own_value_wins_over_the_sends_and_that_over_the_templates() {
        let schema = [
            definition("a", true, Some("template")),
            definition("b", true, Some("template")),
            definition("c", true, Some("template")),
        ];
        let own = values(&[("a", "receiver")]);
        let send = values(&[("a", "send"), ("b", "send")]);
        let resolved = resolve(&schema, &[&own, &send]);
        let texts: Vec<_> = resolved.values.values().map(|value| value.as_text()).collect();
        assert_eq!(texts, ["receiver", "send", "template"]);
        assert!(resolved.missing.is_empty());
    }

    #[test]
    fn a_required_variable_without_any_value_is_missing_and_an_optional_one_is_not() {
        let schema = [
            definition("z", true, None),
            definition("y", false, None),
            definition("x", true, None),
            definition("w", true, None),
        ];
        let own = VariableValues::new();
        let send = values(&[("x", "")]);
        let resolved = resolve(&schema, &[&own, &send]);
        assert_eq!(resolved.missing, ["z", "w"]);
        assert_eq!(resolved.values.keys().copied().collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn keys_that_the_template_does_not_declare_are_usable() {
        let own = values(&[("extra", "1")]);
        let resolved = resolve(&[], &[&own]);
        assert_eq!(resolved.values.get("extra").map(|value| value.as_text()), Some("1"));
        assert!(resolved.missing.is_empty());
    }

    #[test]
    fn every_repeated_key_is_named_with_its_path() {
        let schema = ["a", "b", "a", "b", "a"].map(|key| definition(key, false, None));
        let fields: Vec<_> = check_schema(&schema, "variableSchema")
            .into_iter()
            .map(|violation| violation.field)
            .collect();
        assert_eq!(
            fields,
            [
                "variableSchema[2].key",
                "variableSchema[3].key",
                "variableSchema[4].key"
            ]
        );
    }

    #[test]
    fn a_value_is_stored_as_plain_json() {
        let stored = serde_json::to_string(&values(&[("code", "1234")])).unwrap();
        assert_eq!(stored, r#"{"code":"1234"}"#);
    }
}
