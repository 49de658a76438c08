//! What template versions hold, between protobuf and the model. It checks only what the model's types cannot carry.

use crate::api::channel::{type_in, type_number};
use crate::api::convert;
use crate::api::field::Fields;
use crate::api::variable::type_of;
use crate::model::Violation;
use crate::model::channel::ChannelType;
use crate::model::document::check::Findings;
use crate::model::slug::Reference;
use crate::model::template::sequence::{Step, StopCondition};
use crate::model::template::{ChannelPatch, DataType, RequestedChannel, TemplateChannel, TemplateVersion, content};
use crate::model::variable::{self, VariableDefinition, VariableType, VariableValue};
use crate::pb::v1;

fn condition_of(number: Option<i32>) -> Option<StopCondition> {
    let number = number.filter(|number| *number != 0)?;
    i16::try_from(number).ok().map(StopCondition::of_number)
}

impl From<TemplateVersion> for v1::TemplateVersion {
    fn from(version: TemplateVersion) -> Self {
        let held = version.content;
        Self {
            version: convert::count(version.number),
            channels: held.channels.into_iter().map(Into::into).collect(),
            variable_schema: held.variable_schema.into_iter().map(Into::into).collect(),
            approved_at: version.approved_at.map(convert::timestamp),
            created_at: Some(convert::timestamp(version.created_at)),
        }
    }
}

impl From<TemplateChannel> for v1::TemplateChannel {
    fn from(channel: TemplateChannel) -> Self {
        let in_app = channel.channel_type == ChannelType::InApp;
        Self {
            channel_type: type_number(channel.channel_type),
            channel_id: channel.channel_id.map(|id| id.to_string()),
            content: channel.content.map(convert::structure),
            data_type: Some(channel.data_type.number().into()),
            category_filter_enabled: in_app.then_some(channel.category_filter_enabled),
            template_label_enabled: in_app.then_some(channel.template_label_enabled),
            message_retention_hours: in_app.then_some(convert::count(channel.message_retention_hours)),
            sequence_order: channel.step.sequence_order.map(convert::count),
            stop_condition: channel.step.stop_condition.map(|condition| condition.number().into()),
            wait_minutes: channel.step.wait_minutes.map(convert::count),
        }
    }
}

impl From<VariableDefinition> for v1::VariableDefinition {
    fn from(definition: VariableDefinition) -> Self {
        Self {
            key: definition.key,
            r#type: Some(v1::VariableType::from(definition.variable_type).into()),
            name: definition.name,
            required: Some(definition.required),
            default_value: definition
                .default_value
                .and_then(|value| value.as_text().map(str::to_owned)),
            default: None,
        }
    }
}

/// The content that a request gives for each channel type.
pub fn channels(fields: &mut Fields, channels: Vec<v1::TemplateChannel>) -> Vec<RequestedChannel> {
    let channels = channels.into_iter().enumerate();
    channels
        .filter_map(|(index, channel)| requested(fields, &format!("channels[{index}]"), channel))
        .collect()
}

/// Names what is wrong with the documents of channels, beside everything else. Variables that do not fit their places are
/// left to the domain while nothing else is wrong, because they have a reason of their own.
pub fn check(fields: &mut Fields, channels: &[RequestedChannel], schema: Option<&[VariableDefinition]>) {
    let mut findings = Findings::default();
    content::check_channels(channels, schema, &mut findings);
    if findings.has_faults() || !fields.is_empty() {
        for violation in findings.into_violations() {
            fields.refuse(violation);
        }
    }
}

/// The variables that a request declares.
pub fn variable_schema(fields: &mut Fields, schema: Vec<v1::VariableDefinition>) -> Vec<VariableDefinition> {
    let mut definitions = Vec::new();
    for (index, definition) in schema.into_iter().enumerate() {
        let variable_type = definition.r#type.map(type_of).unwrap_or_default();
        let default_value = match (definition.default_value, definition.default) {
            (None, Some(alias)) if variable_type != VariableType::String => {
                fields.refuse(variable::without_default(
                    variable_type,
                    format!("variableSchema[{index}].default"),
                    &alias,
                ));
                None
            }
            (Some(value), Some(alias)) if value != alias => {
                let rule = "must equal defaultValue, whose other name it is; send one of them";
                fields.refuse(Violation::new(format!("variableSchema[{index}].default"), rule).received(alias));
                None
            }
            (value, alias) => value.or(alias),
        };
        definitions.push(VariableDefinition {
            key: definition.key,
            variable_type,
            name: definition.name,
            required: definition.required.unwrap_or_default(),
            default_value: default_value.map(VariableValue::Text),
        });
    }
    for violation in variable::check_schema(&definitions, "variableSchema") {
        fields.refuse(violation);
    }
    definitions
}

/// The change that a request makes to one channel type.
///
/// # Errors
/// What is wrong with it, by the names of its fields.
pub fn channel_patch(
    request: v1::SetTemplateChannelRequest,
    channel_type: ChannelType,
) -> Result<ChannelPatch, Vec<Violation>> {
    let mut channel = request.channel.unwrap_or_default();
    let mut fields = Fields::new();
    refuse_foreign(&mut fields, "", channel_type, &channel);
    let mut patch = ChannelPatch::default();
    for path in request.update_mask.iter().flat_map(|mask| &mask.paths) {
        match path.as_str() {
            "channel_type" if type_number(channel_type) != channel.channel_type => {
                let rule = format!("must be that of the path, {channel_type}, or left out");
                fields.refuse(Violation::new("channelType", rule));
            }
            "channel_id" => patch.channel_id = Some(channel.channel_id.as_deref().map(Reference::from)),
            "content" => patch.content = Some(channel.content.take().map(convert::object)),
            "data_type" => patch.data_type = Some(data_type_of(channel.data_type)),
            "category_filter_enabled" => {
                patch.category_filter_enabled = Some(channel.category_filter_enabled.unwrap_or(true));
            }
            "template_label_enabled" => {
                patch.template_label_enabled = Some(channel.template_label_enabled.unwrap_or(true));
            }
            "message_retention_hours" => {
                let hours = channel.message_retention_hours.unwrap_or_default();
                patch.message_retention_hours = Some(u32::try_from(hours).unwrap_or_default());
            }
            "sequence_order" => patch.sequence_order = Some(channel.sequence_order.and_then(whole)),
            "stop_condition" => patch.stop_condition = Some(condition_of(channel.stop_condition)),
            "wait_minutes" => patch.wait_minutes = Some(channel.wait_minutes.and_then(whole)),
            // The doors have settled the mask: nothing else can stand in it.
            _ => {}
        }
    }
    if channel_type != ChannelType::InApp {
        // Clearing what a type does not have changes nothing.
        patch.category_filter_enabled = None;
        patch.template_label_enabled = None;
        patch.message_retention_hours = None;
    }
    fields.make(Some(patch))
}

fn whole(number: i32) -> Option<u32> {
    u32::try_from(number).ok()
}

fn data_type_of(number: Option<i32>) -> DataType {
    match number.map(v1::DataType::try_from) {
        Some(Ok(v1::DataType::DataTemplate)) => DataType::DataTemplate,
        _ => DataType::UiTemplate,
    }
}

/// Refuses settings that a channel type does not have.
fn refuse_foreign(fields: &mut Fields, path: &str, channel_type: ChannelType, channel: &v1::TemplateChannel) {
    if channel_type == ChannelType::InApp {
        return;
    }
    for (field, given) in [
        ("categoryFilterEnabled", channel.category_filter_enabled.is_some()),
        ("templateLabelEnabled", channel.template_label_enabled.is_some()),
        ("messageRetentionHours", channel.message_retention_hours.is_some()),
    ] {
        if given {
            let rule = "is for channels of type in_app only";
            fields.refuse(Violation::new(format!("{path}{field}"), rule));
        }
    }
}

fn requested(fields: &mut Fields, path: &str, channel: v1::TemplateChannel) -> Option<RequestedChannel> {
    let channel_type = type_in(fields, &format!("{path}.channelType"), channel.channel_type)?;
    let in_app = channel_type == ChannelType::InApp;
    refuse_foreign(fields, &format!("{path}."), channel_type, &channel);
    let data_type = data_type_of(channel.data_type);
    let hours = channel.message_retention_hours.unwrap_or_default();
    Some(TemplateChannel {
        channel_type,
        channel_id: channel.channel_id.as_deref().map(Reference::from),
        content: channel.content.map(convert::object),
        data_type,
        category_filter_enabled: in_app && channel.category_filter_enabled.unwrap_or(true),
        template_label_enabled: in_app && channel.template_label_enabled.unwrap_or(true),
        message_retention_hours: u32::try_from(hours).unwrap_or_default(),
        step: Step {
            sequence_order: channel.sequence_order.and_then(whole),
            stop_condition: condition_of(channel.stop_condition),
            wait_minutes: channel.wait_minutes.and_then(whole),
        },
    })
}
