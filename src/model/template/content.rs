//! What template content must look like before it is saved, for each channel type: a card in-app, title and body of a push
//! notification, subject and bodies of a mail, the body of everything else. Cards have their tables in `model::card`; here
//! no value is filled in.

use std::collections::BTreeSet;

use crate::model::card;
use crate::model::channel::{ChannelType, JsonObject};
use crate::model::document::check::{Findings, Look, Path};
use crate::model::document::recheck::Rechecks;
use crate::model::document::token::{Declared, Typed};
use crate::model::document::url::Target;
use crate::model::document::{Pattern, Rule, Shape, may, must, pattern};
use crate::model::render::{Card, Exceeded, Fault, json_bytes};
use crate::model::variable::{self, VariableDefinition, VariableValues};
use crate::model::{Error, Reason, Result, Violation};

use super::{Content, DataType, TemplateChannel};
use serde_json::Value;

/// The largest content of a push notification, in bytes of compact JSON. Both Firebase Cloud Messaging ("About FCM
/// messages": 4096 bytes for all parts) and the Apple Push Notification service ("Generating a remote notification": 4 KB
/// for regular notifications) take no more, whatever is added to it on the way. It holds for the content as it is written
/// and for the content with values in it.
pub(super) const PUSH_BYTES_MAX: usize = 4_096;

/// The longest subject, in characters: a line of a mail has at most 998 (RFC 5322, section 2.1.1).
const SUBJECT_MAX: usize = 998;

/// The longest title, in characters; no device shows more than a line or two of one.
const TITLE_MAX: usize = 255;

static PUSH: Rule = Rule::Object(&Shape {
    noun: "the content of a push notification",
    members: &[
        must("title", Rule::Line(1, TITLE_MAX)),
        must("body", Rule::Filled),
        may("imageUrl", Rule::Url(Target::Web, Some(Typed::Image)), ""),
        may("deepLink", Rule::Url(Target::Link, Some(Typed::Action)), ""),
        may("data", Rule::Map(&DATA_KEY, &Rule::Text), ""),
    ],
    any_of: &[],
});

static DATA_KEY: Pattern = pattern!(
    "^[A-Za-z0-9_.-]{1,100}$",
    "must be 1 to 100 letters, digits, underscores, dots or dashes"
);

static EMAIL: Rule = Rule::Object(&Shape {
    noun: "the content of a mail",
    members: &[
        must("subject", Rule::Line(1, SUBJECT_MAX)),
        may("html", Rule::Filled, ""),
        may("text", Rule::Filled, ""),
        may("mjml", Rule::Filled, ""),
    ],
    any_of: &["html", "text", "mjml"],
});

static MESSAGE: Rule = Rule::Object(&Shape {
    noun: "the content of a message",
    members: &[must("body", Rule::Filled)],
    any_of: &[],
});

/// Checks everything about a template's content that can be known without looking anything up. Without a schema, it is not
/// known which variables are declared, and those of any type fit everywhere.
///
/// # Errors
/// Invalid, with every violation; [`Reason::InvalidVariables`] when only variables do not fit their places; a conflict
/// when a channel type stands in `channels` twice.
pub fn check<C>(channels: Option<&[TemplateChannel<C>]>, schema: Option<&[VariableDefinition]>) -> Result<()> {
    let mut findings = Findings::default();
    check_channels(channels.unwrap_or_default(), schema, &mut findings);
    for violation in variable::check_schema(schema.unwrap_or_default(), "variableSchema") {
        findings.fault(|| violation);
    }
    if channels.is_some_and(<[_]>::is_empty) {
        findings.fault(|| Violation::new("channels", "must hold at least one element"));
    }
    findings.into_result()?;
    check_types(channels.unwrap_or_default())
}

/// Checks variables against the schema that is stored with them: they fit their places also when only one of content and
/// schema was sent, or when the content is made from the template's name. The form is not looked at again, because what
/// was not sent may come from a later build that knows more.
///
/// # Errors
/// [`Reason::InvalidVariables`].
pub fn check_fit(content: &Content) -> Result<()> {
    let mut findings = Findings::of_variables();
    check_channels(&content.channels, Some(&content.variable_schema), &mut findings);
    findings.into_result()
}

/// The content of one version, ready to be rendered for each of its channel types.
#[derive(Clone, Debug, Default)]
pub struct Compiled(Vec<(ChannelType, Card)>);

impl Compiled {
    /// Compiles all content.
    ///
    /// # Errors
    /// A cap that some of it passes.
    pub fn of<'c>(channels: impl IntoIterator<Item = &'c TemplateChannel>) -> std::result::Result<Self, Exceeded> {
        let compiled = channels
            .into_iter()
            .map(|channel| Ok((channel.channel_type, compile(channel)?)));
        compiled.collect::<std::result::Result<_, _>>().map(Self)
    }

    /// The content for a channel type.
    #[must_use]
    pub fn get(&self, channel_type: ChannelType) -> Option<&Card> {
        let found = self.0.iter().find(|(other, _)| *other == channel_type);
        found.map(|(_, card)| card)
    }

    /// The content of the feed.
    #[must_use]
    pub fn in_app(&self) -> Option<&Card> {
        self.get(ChannelType::InApp)
    }

    /// The keys of all tokens, each once.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<&str> {
        self.0.iter().flat_map(|(_, card)| card.keys()).collect()
    }

    /// Everything that values break, each thing once.
    #[must_use]
    pub fn faults(&self, values: &VariableValues) -> Vec<Fault> {
        let mut faults = Vec::new();
        for fault in self.0.iter().flat_map(|(_, card)| card.faults(values)) {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        faults
    }

    /// An estimate of the memory that it takes, in bytes, for caches.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.0
            .iter()
            .fold(0, |sum, (_, card)| sum.saturating_add(card.weight()))
    }
}

/// Compiles the content of a channel, with what its table knows about its places.
///
/// # Errors
/// A cap that the content passes.
pub fn compile<C>(channel: &TemplateChannel<C>) -> std::result::Result<Card, Exceeded> {
    let document = Value::Object(channel.content.clone().unwrap_or_default());
    match (channel.data_type, channel.channel_type) {
        (DataType::DataTemplate | DataType::Unknown(_), _) | (_, ChannelType::Unknown(_)) => Card::compile(&document),
        (DataType::UiTemplate, ChannelType::InApp) => Card::compile_checked(&document, card::rechecks, &[]),
        (DataType::UiTemplate, ChannelType::Push) => {
            compile_message(ChannelType::Push, &document).map(|card| card.pushed(PUSH_BYTES_MAX))
        }
        (DataType::UiTemplate, other) => compile_message(other, &document),
    }
}

fn compile_message(channel_type: ChannelType, document: &Value) -> std::result::Result<Card, Exceeded> {
    let rechecks = |document: &Value| Rechecks::of(table(channel_type), document);
    Card::compile_checked(document, rechecks, &["html", "mjml"])
}

/// Names everything that is wrong with the documents of channels. What has the data type `data_template` is the app's own, and
/// what is of a type that a later build knows is that build's.
pub fn check_channels<C>(
    channels: &[TemplateChannel<C>],
    schema: Option<&[VariableDefinition]>,
    findings: &mut Findings,
) {
    let declared = schema.map(Declared::of);
    for (index, channel) in channels.iter().enumerate() {
        if channel.data_type != DataType::UiTemplate {
            continue;
        }
        let path = format!("channels[{index}].content");
        match (channel.channel_type, &channel.content) {
            // It gets the card that shows the template's name.
            (ChannelType::InApp, None) | (ChannelType::Unknown(_), _) => {}
            (ChannelType::InApp, Some(content)) => card::check(content, declared.as_ref(), &path, findings),
            (channel_type, None) => findings.fault(|| {
                let rule = format!("is required for channels of type {channel_type}");
                Violation::new(path, rule)
            }),
            (channel_type, Some(content)) => {
                check_message(channel_type, content, &path, declared.as_ref(), findings);
            }
        }
    }
}

fn check_types<C>(channels: &[TemplateChannel<C>]) -> Result<()> {
    for (index, channel) in channels.iter().enumerate() {
        let earlier = channels.iter().take(index);
        if let Some(first) = earlier
            .enumerate()
            .find(|(_, other)| other.channel_type == channel.channel_type)
        {
            let (first, twice) = (first.0, channel.channel_type);
            let message = format!(
                "channels[{index}].channelType {twice} is that of channels[{first}] as well, and a template holds each \
                 channel type at most once"
            );
            return Err(Error::new(Reason::Conflict, message).with("channelType", twice));
        }
    }
    Ok(())
}

fn check_message(
    channel_type: ChannelType,
    content: &JsonObject,
    path: &str,
    declared: Option<&Declared<'_>>,
    findings: &mut Findings,
) {
    let document = Value::Object(content.clone());
    Look::at_source(declared, findings).check(table(channel_type), &document, &Path::root(path));
    match channel_type {
        ChannelType::Push => check_push(content, &document, path, findings),
        ChannelType::Email if content.contains_key("html") && content.contains_key("mjml") => {
            let rule = "must not stand beside html, which it is turned into";
            findings.fault(|| Violation::new(format!("{path}.mjml"), rule));
        }
        ChannelType::InApp
        | ChannelType::Email
        | ChannelType::Sms
        | ChannelType::Whatsapp
        | ChannelType::Custom
        | ChannelType::Unknown(_) => {}
    }
}

fn table(channel_type: ChannelType) -> &'static Rule {
    match channel_type {
        ChannelType::Push => &PUSH,
        ChannelType::Email => &EMAIL,
        ChannelType::InApp
        | ChannelType::Sms
        | ChannelType::Whatsapp
        | ChannelType::Custom
        | ChannelType::Unknown(_) => &MESSAGE,
    }
}

/// What the services behind devices refuse.
fn check_push(content: &JsonObject, document: &Value, path: &str, findings: &mut Findings) {
    let bytes = json_bytes(document);
    if bytes > PUSH_BYTES_MAX {
        let rule = format!("must not be larger than {PUSH_BYTES_MAX} bytes as compact JSON");
        findings.fault(|| Violation::new(path, rule).received(bytes));
    }
    let data = content.get("data").and_then(Value::as_object);
    for key in data
        .into_iter()
        .flat_map(JsonObject::keys)
        .filter(|key| is_reserved(key))
    {
        let rule = "has a key that is reserved: aps, from, message_type, or anything that begins with google or gcm";
        findings.fault(|| Violation::new(format!("{path}.data.{key}"), rule));
    }
}

/// Whether a key of `data` belongs to the services: `aps` is Apple's dictionary in the payload, the others are refused by
/// Firebase ("REST Resource: projects.messages", field `data`).
fn is_reserved(key: &str) -> bool {
    ["aps", "from", "message_type"].contains(&key) || ["google", "gcm"].iter().any(|start| key.starts_with(start))
}

#[cfg(test)]
#[path = "content/tests.rs"]
mod tests;
