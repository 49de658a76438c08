//! What template content must look like before it is saved: its channels as a whole, and the root of in-app cards. It
//! never looks into a card's elements.

use serde_json::{Value, json};

use super::{DataType, RequestedChannel};
use crate::model::channel::{ChannelType, JsonObject};
use crate::model::variable::{self, VariableDefinition};
use crate::model::{Error, Reason, Result, Violation};

/// The version of card documents.
const CARD_VERSION: &str = "1.0";

/// Checks everything about a template's content that can be known without looking anything up.
///
/// # Errors
/// Invalid, with every violation; a conflict when a channel type stands in `channels` twice.
pub fn check(channels: Option<&[RequestedChannel]>, schema: Option<&[VariableDefinition]>) -> Result<()> {
    let mut violations = check_cards(channels.unwrap_or_default());
    violations.extend(variable::check_schema(schema.unwrap_or_default(), "variableSchema"));
    if channels.is_some_and(<[_]>::is_empty) {
        violations.push(Violation::new("channels", "must hold at least one element"));
    }
    if !violations.is_empty() {
        return Err(Error::invalid(violations));
    }
    check_types(channels.unwrap_or_default())
}

/// What is wrong with the documents of in-app channels.
#[must_use]
pub fn check_cards(channels: &[RequestedChannel]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, channel) in channels.iter().enumerate() {
        if let (ChannelType::InApp, DataType::UiTemplate, Some(content)) =
            (channel.channel_type, channel.data_type, &channel.content)
        {
            check_card(content, &format!("channels[{index}].content"), &mut violations);
        }
    }
    violations
}

/// The card of an in-app channel that came without content: it shows the name of the template.
#[must_use]
pub fn default_card(name: &str) -> JsonObject {
    let card = json!({
        "version": CARD_VERSION,
        "body": [{ "id": "title", "type": "text", "content": name, "variant": "heading3" }],
        "style": { "background": { "light": "#FFFFFF", "dark": "#1A1A1A" } },
        "fallbackText": name,
    });
    match card {
        Value::Object(card) => card,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => JsonObject::new(),
    }
}

fn check_types(channels: &[RequestedChannel]) -> Result<()> {
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

fn check_card(card: &JsonObject, path: &str, violations: &mut Vec<Violation>) {
    let mut root = |member: &str, rule: &str, holds: fn(&Value) -> bool| {
        let field = format!("{path}.{member}");
        match card.get(member) {
            None => violations.push(Violation::new(field, format!("is required and {rule}"))),
            Some(value) if !holds(value) => {
                // A text stands as it is: the quotes of its JSON would be quoted once more.
                let received = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                violations.push(Violation::new(field, rule).received(received));
            }
            Some(_) => {}
        }
    };
    root("version", "must be the text 1.0", |value| value == CARD_VERSION);
    root("body", "must be a list of at least one element", |value| {
        value.as_array().is_some_and(|elements| !elements.is_empty())
    });
    root("style", "must be an object", Value::is_object);
    root("fallbackText", "must be a string", Value::is_string);
    for member in card.keys() {
        if !["version", "body", "style", "fallbackText"].contains(&member.as_str()) {
            let rule = "is not known here; a card holds version, body, style and fallbackText";
            violations.push(Violation::new(format!("{path}.{member}"), rule));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::template::TemplateChannel;

    fn channel(channel_type: ChannelType, data_type: DataType, content: &Value) -> RequestedChannel {
        TemplateChannel {
            channel_type,
            channel_id: None,
            content: content.as_object().cloned(),
            data_type,
            category_filter_enabled: false,
            template_label_enabled: false,
            message_retention_hours: 0,
        }
    }

    fn card(content: &Value) -> Vec<String> {
        let channels = [channel(ChannelType::InApp, DataType::UiTemplate, content)];
        let violations = check(Some(&channels), None).err();
        let violations = violations.iter().flat_map(|error| error.violations());
        violations
            .map(|violation| format!("{} {}", violation.field, violation.problem()))
            .collect()
    }

    #[test]
    fn the_default_card_passes_its_own_check() {
        assert_eq!(
            card(&Value::Object(default_card("Order \"shipped\""))),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_fault_of_a_cards_root_is_named_at_once() {
        let faults = card(&json!({ "version": 1.0, "body": [], "fallbackText": null, "title": "x" }));
        assert_eq!(
            faults,
            [
                "channels[0].content.version must be the text 1.0, received \"1.0\"",
                "channels[0].content.body must be a list of at least one element, received \"[]\"",
                "channels[0].content.style is required and must be an object",
                "channels[0].content.fallbackText must be a string, received \"null\"",
                "channels[0].content.title is not known here; a card holds version, body, style and fallbackText",
            ]
        );
    }

    #[test]
    fn only_cards_are_checked_as_cards() {
        let anything = json!({ "anything": [1, true] });
        let channels = [
            channel(ChannelType::InApp, DataType::DataTemplate, &anything),
            channel(ChannelType::Email, DataType::UiTemplate, &anything),
        ];
        assert!(check(Some(&channels), None).is_ok());
    }

    #[test]
    fn a_channel_type_stands_in_a_template_once() {
        let card = Value::Object(default_card("x"));
        let in_app = channel(ChannelType::InApp, DataType::UiTemplate, &card);
        let push = channel(ChannelType::Push, DataType::UiTemplate, &json!({}));
        let refused = check(Some(&[in_app.clone(), push, in_app]), None).unwrap_err();
        assert_eq!(refused.reason(), Reason::Conflict);
        assert_eq!(refused.metadata(), [("channelType", "in_app".to_owned())]);
    }
}
