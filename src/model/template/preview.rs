//! How a version looks with some values, whatever is wrong with them: what would refuse a send is listed here instead. It
//! sends nothing and never changes a template.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::content::{PUSH_BYTES_MAX, compile};
use super::{Content, DataType, TemplateChannel};
use crate::model::channel::{ChannelType, JsonObject};
use crate::model::id::TemplateId;
use crate::model::render::{Card, Exceeded};
use crate::model::variable::{self, VALUE_BYTES_MAX, VariableValues};
use crate::model::{Error, Result, Violation};

/// What to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreviewRequest {
    /// The version, instead of the current one.
    pub version: Option<u32>,
    /// The channel types; all that the version has content for when there is none.
    pub channel_types: Vec<ChannelType>,
    /// The values.
    pub values: VariableValues,
}

/// How a version looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// The template.
    pub template_id: TemplateId,
    /// The number of the version.
    pub version: u32,
    /// Its channels, in the order of the template.
    pub channels: Vec<PreviewedChannel>,
    /// What is wrong with the values.
    pub problems: Vec<Problem>,
}

/// How the content for one channel type looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreviewedChannel {
    /// The channel type.
    pub channel_type: ChannelType,
    /// What the content is.
    pub data_type: DataType,
    /// The content with the values in it; none when it is too large.
    pub content: Option<JsonObject>,
}

/// Something about the values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The variable; none when it is all of them together.
    pub key: Option<String>,
    /// What it is about.
    pub kind: ProblemKind,
    /// Whether a send with these values would be refused.
    pub blocking: bool,
    /// The rule, as a predicate.
    pub rule: String,
    /// What was received.
    pub received: Option<String>,
}

/// What a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The variable has no value.
    Missing,
    /// The value is of another type than the variable.
    Mistyped,
    /// The template does not declare the variable.
    Undeclared,
    /// The value, or what it makes of the content, is too large.
    TooLarge,
    /// The value breaks a rule of the place where it stands.
    Unfit,
}

/// Renders content with values and lists what is wrong with them.
///
/// # Errors
/// Invalid, for channel types that there is no content for.
pub fn render(content: &Content, request: &PreviewRequest) -> Result<(Vec<PreviewedChannel>, Vec<Problem>)> {
    let channels = chosen(content, &request.channel_types)?;
    let compiled: Result<Vec<_>> = channels
        .into_iter()
        .map(|channel| Ok((channel, compile(channel).map_err(Error::internal)?)))
        .collect();
    let compiled = compiled?;
    let used: BTreeSet<&str> = compiled.iter().flat_map(|(_, card)| card.keys()).collect();
    let (usable, mut problems) = usable(content, &request.values, &used);
    let resolved = variable::resolve(&content.variable_schema, &[&usable]);
    let given = |key: &str| request.values.contains_key(key);
    for key in resolved.missing.iter().filter(|key| !given(key)) {
        problems.push(Problem::of(ProblemKind::Missing, key, "is required by the template").blocking());
    }
    let optional = used
        .iter()
        .filter(|key| !resolved.values.contains_key(*key) && !resolved.missing.contains(key));
    for key in optional.filter(|key| !given(key)) {
        problems.push(Problem::of(
            ProblemKind::Missing,
            key,
            "has no value and stays as it is written",
        ));
    }
    let values = resolved.to_values();
    let shown = compiled.iter().map(|(channel, card)| {
        note_faults(card, &values, &mut problems);
        PreviewedChannel {
            channel_type: channel.channel_type,
            data_type: channel.data_type,
            content: card.render(&values).ok().and_then(object),
        }
    });
    let shown = shown.collect();
    Ok((shown, problems))
}

fn chosen<'c>(content: &'c Content, types: &[ChannelType]) -> Result<Vec<&'c TemplateChannel>> {
    let has = |wanted: &ChannelType| content.channels.iter().any(|channel| channel.channel_type == *wanted);
    let missing = types.iter().enumerate().filter(|(_, wanted)| !has(wanted));
    let violations: Vec<_> = missing
        .map(|(index, wanted)| {
            let rule = "must be a channel type that the version has content for";
            Violation::new(format!("channelTypes[{index}]"), rule).received(wanted)
        })
        .collect();
    if !violations.is_empty() {
        return Err(Error::invalid(violations));
    }
    let channels = content.channels.iter();
    let wanted = |channel: &&TemplateChannel| types.is_empty() || types.contains(&channel.channel_type);
    Ok(channels.filter(wanted).collect())
}

/// The values that can be used at all, and what is wrong with the others.
fn usable(content: &Content, given: &VariableValues, used: &BTreeSet<&str>) -> (VariableValues, Vec<Problem>) {
    let (mut usable, mut problems) = (given.clone(), Vec::new());
    for (key, value) in given {
        let Some(violation) = value.check(key) else { continue };
        let kind = match value.content().len() > VALUE_BYTES_MAX {
            true => ProblemKind::TooLarge,
            false => ProblemKind::Unfit,
        };
        problems.push(
            Problem::of(kind, key, violation.rule)
                .received(violation.received)
                .blocking(),
        );
        usable.remove(key);
    }
    for wrong in variable::mistyped(&content.variable_schema, given) {
        let received = Some(wrong.received.to_string());
        problems.push(
            Problem::of(ProblemKind::Mistyped, wrong.key, wrong.rule())
                .received(received)
                .blocking(),
        );
        usable.remove(wrong.key);
    }
    let declares = |key: &str| content.variable_schema.iter().any(|definition| definition.key == key);
    for key in given.keys().filter(|key| !declares(key)) {
        let rule = match used.contains(key.as_str()) {
            true => "is not declared by the template, and is taken as an optional text",
            false => "is neither declared by the template nor used by the content",
        };
        problems.push(Problem::of(ProblemKind::Undeclared, key, rule));
    }
    (usable, problems)
}

fn note_faults(card: &Card, values: &VariableValues, problems: &mut Vec<Problem>) {
    let caps = [Exceeded::Context, Exceeded::Output, Exceeded::Push(PUSH_BYTES_MAX)];
    let too_large = caps.map(|exceeded| exceeded.to_string());
    for fault in card.faults(values) {
        let kind = match too_large.contains(&fault.rule) {
            true => ProblemKind::TooLarge,
            false => ProblemKind::Unfit,
        };
        let keys: Vec<_> = match fault.keys.is_empty() {
            true => vec![None],
            false => fault.keys.into_iter().map(Some).collect(),
        };
        for key in keys {
            let problem = Problem {
                key,
                kind,
                blocking: true,
                rule: fault.rule.clone(),
                received: fault.received.clone(),
            };
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
}

fn object(document: Value) -> Option<JsonObject> {
    match document {
        Value::Object(object) => Some(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
    }
}

impl Problem {
    fn of(kind: ProblemKind, key: &str, rule: impl Into<String>) -> Self {
        Self {
            key: Some(key.to_owned()),
            kind,
            blocking: false,
            rule: rule.into(),
            received: None,
        }
    }

    fn blocking(self) -> Self {
        Self { blocking: true, ..self }
    }

    fn received(self, received: Option<String>) -> Self {
        Self { received, ..self }
    }
}
