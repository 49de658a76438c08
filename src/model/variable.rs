//! Variables of templates: what a template declares, what a send gives, and which value wins. Nothing here puts a value
//! into a text.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Violation;
use super::document::token;
use super::document::url::Target;

/// The largest text of a value, in bytes: a text, the URL of an image, the data of an action.
pub const VALUE_BYTES_MAX: usize = 4_096;

/// What kind of value a variable takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariableType {
    /// A text.
    #[default]
    String,
    /// A picture with its size.
    Image,
    /// What a press does.
    Action,
}

impl VariableType {
    /// The word that stands for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Image => "image",
            Self::Action => "action",
        }
    }
}

impl fmt::Display for VariableType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
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
    /// The value when neither the receiver nor the send has one; a text, and only for texts.
    pub default_value: Option<VariableValue>,
}

/// The value of one variable. Stored, it is a plain JSON text or an object whose members tell its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VariableValue {
    /// A text of up to 4 KiB.
    Text(String),
    /// A picture.
    Image(ImageValue),
    /// What a press does.
    Action(ActionValue),
}

/// A picture with its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageValue {
    /// Where it is loaded from: http or https.
    pub url: String,
    /// Its width in pixels, from 1 to 100,000.
    pub width: u32,
    /// Its height in pixels, from 1 to 100,000.
    pub height: u32,
}

/// What a press does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionValue {
    /// Who acts on it.
    #[serde(rename = "type")]
    pub action_type: ActionType,
    /// The URL to open, or a text of the app's own; up to 4 KiB.
    pub data: String,
}

/// Who acts on a press.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionType {
    /// The device: it opens a URL.
    Web,
    /// The app: it is handed a text of its own.
    Custom,
}

impl ActionValue {
    /// The action of a card that it becomes.
    #[must_use]
    pub fn to_card(&self) -> Value {
        match self.action_type {
            ActionType::Web => json!({ "type": "openUrl", "url": self.data }),
            ActionType::Custom => json!({ "type": "customCallback", "callbackId": self.data }),
        }
    }
}

impl VariableValue {
    /// The text, of one that is a text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Image(_) | Self::Action(_) => None,
        }
    }

    /// Its type.
    #[must_use]
    pub const fn variable_type(&self) -> VariableType {
        match self {
            Self::Text(_) => VariableType::String,
            Self::Image(_) => VariableType::Image,
            Self::Action(_) => VariableType::Action,
        }
    }

    /// The text in it that takes the room: itself, the URL of an image, the data of an action.
    #[must_use]
    pub fn content(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Image(image) => &image.url,
            Self::Action(action) => &action.data,
        }
    }

    /// The bytes that it takes among the values that one rendering may draw on.
    #[must_use]
    pub fn weight(&self) -> usize {
        let beside = match self {
            Self::Text(_) => 0,
            // Two numbers, or a word: no text, but no less work.
            Self::Image(_) | Self::Action(_) => 16,
        };
        self.content().len().saturating_add(beside)
    }

    /// What is wrong with it wherever it is put, under the path of the value.
    #[must_use]
    pub fn check(&self, path: &str) -> Option<Violation> {
        let content = self.content();
        let (path, target) = match self {
            Self::Text(_) => (path.to_owned(), None),
            Self::Image(_) => (format!("{path}.url"), Some(Target::Web)),
            Self::Action(action) => {
                let target = matches!(action.action_type, ActionType::Web).then_some(Target::Link);
                (format!("{path}.data"), target)
            }
        };
        let bytes = content.len();
        if bytes > VALUE_BYTES_MAX {
            let rule = format!("must not be longer than {VALUE_BYTES_MAX} bytes, but has {bytes}");
            return Some(Violation::new(path, rule).received(content));
        }
        let target = target?;
        let checked = match token::keys(content).is_empty() {
            true => target.check_filled(content),
            // Nothing is ever put into a value, so that braces in a URL are somebody's mistake.
            false => Err("must not hold variables, because values are taken as they are".to_owned()),
        };
        let rule = checked.err()?;
        Some(Violation::new(path, rule).received(content))
    }
}

/// Values by key. Ordered, because equal values have to be stored and hashed equally.
pub type VariableValues = BTreeMap<String, VariableValue>;

/// A value that is not of the type of its variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistyped<'a> {
    /// The variable.
    pub key: &'a str,
    /// The type that it has.
    pub expected: VariableType,
    /// The type of the value.
    pub received: VariableType,
    /// Whether the template declares the variable.
    pub declared: bool,
}

impl Mistyped<'_> {
    /// The rule that the value breaks.
    #[must_use]
    pub fn rule(&self) -> String {
        let why = match self.declared {
            true => "as the template declares it",
            false => "because the template does not declare it",
        };
        format!("must be of type {}, {why}", self.expected)
    }
}

/// The values that are not of the type of their variables, by key. What the template does not declare is a text.
#[must_use]
pub fn mistyped<'a>(schema: &[VariableDefinition], values: &'a VariableValues) -> Vec<Mistyped<'a>> {
    let declared: HashMap<_, _> = schema
        .iter()
        .map(|definition| (definition.key.as_str(), definition.variable_type))
        .collect();
    let wrong = values.iter().filter_map(|(key, value)| {
        let known = declared.get(key.as_str()).copied();
        let (expected, received) = (known.unwrap_or_default(), value.variable_type());
        (expected != received).then_some(Mistyped {
            key,
            expected,
            received,
            declared: known.is_some(),
        })
    });
    wrong.collect()
}

/// What one receiver's variables come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// The value that won, for each key that has one; keys that the template does not declare included.
    pub values: BTreeMap<&'a str, &'a VariableValue>,
    /// Keys that are required and have no value, in the order of the template.
    pub missing: Vec<&'a str>,
}

impl Resolved<'_> {
    /// The values, to keep.
    #[must_use]
    pub fn to_values(&self) -> VariableValues {
        let values = self.values.iter();
        values
            .map(|(key, value)| ((*key).to_owned(), (*value).clone()))
            .collect()
    }
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

/// The refusal of a default of a variable that cannot have one.
#[must_use]
pub fn without_default(variable_type: VariableType, path: String, received: &str) -> Violation {
    let rule = format!("must be absent, because a variable of type {variable_type} has no default");
    Violation::new(path, rule).received(received)
}

/// What is wrong with a schema as a whole: keys that stand in it twice, and defaults of what has none. `path` is the
/// schema's own.
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
        if let Some(default) = &definition.default_value
            && definition.variable_type != VariableType::String
        {
            let path = format!("{path}[{index}].defaultValue");
            violations.push(without_default(definition.variable_type, path, default.content()));
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
        let texts: Vec<_> = resolved.values.values().map(|value| value.content()).collect();
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
        assert_eq!(resolved.values.get("extra").map(|value| value.content()), Some("1"));
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
