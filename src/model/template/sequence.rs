//! Steps of a template: the order of its channel types, and what ends the sequence after each. It never waits or fires one.

use serde::{Deserialize, Serialize};

use super::TemplateChannel;
use crate::model::Violation;
use crate::model::channel::{ChannelType, JsonObject};
use crate::model::word::words;

/// The member of a template's `config` that switches the sequence on.
const SWITCH: &str = "sequenceEnabled";

/// Fewer channel types make no sequence.
const STEPS_MIN: usize = 2;

/// What a sequence waits for after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCondition {
    /// The user's device has it.
    Delivered,
    /// The user has read it.
    Read,
    /// The user has done something with it.
    Engaged,
    /// The user has opened it.
    Clicked,
    /// One that a later build knows.
    Unknown(i16),
}

words!(StopCondition {
    Delivered = 1 "delivered",
    Read = 2 "read",
    Engaged = 3 "engaged",
    Clicked = 4 "clicked",
});

impl StopCondition {
    /// Those that can be observed on a channel type.
    #[must_use]
    pub const fn of(channel_type: ChannelType) -> &'static [Self] {
        match channel_type {
            ChannelType::InApp => &[Self::Delivered, Self::Read, Self::Engaged],
            ChannelType::Push => &[Self::Delivered, Self::Clicked],
            ChannelType::Sms
            | ChannelType::Email
            | ChannelType::Whatsapp
            | ChannelType::Custom
            | ChannelType::Unknown(_) => &[Self::Delivered],
        }
    }
}

/// A channel type's part in the sequence of its template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its place, from 1.
    pub sequence_order: Option<u32>,
    /// What ends the sequence when it happens in time.
    pub stop_condition: Option<StopCondition>,
    /// The time for that, in minutes, before the next step.
    pub wait_minutes: Option<u32>,
}

/// Whether a template's channel types follow each other.
#[must_use]
pub fn is_enabled(config: Option<&JsonObject>) -> bool {
    config.and_then(|config| config.get(SWITCH)?.as_bool()) == Some(true)
}

/// The `config` for these channel types: without the switch where they would be no sequence.
#[must_use]
pub fn kept<C>(mut config: JsonObject, channels: &[TemplateChannel<C>]) -> JsonObject {
    if !check(is_enabled(Some(&config)), channels).is_empty() {
        config.remove(SWITCH);
    }
    config
}

/// What is wrong with the switch in a template's `config`.
#[must_use]
pub fn check_switch(config: Option<&JsonObject>) -> Option<Violation> {
    let value = config?.get(SWITCH).filter(|value| !value.is_boolean())?;
    let violation = Violation::new(format!("config.{SWITCH}"), "must be true or false");
    Some(violation.received(value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
}

/// What is wrong with the steps of a template as a whole. They are checked as far as they are there; a sequence that is
/// switched on also has to be complete.
#[must_use]
pub fn check<C>(enabled: bool, channels: &[TemplateChannel<C>]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, channel) in channels.iter().enumerate() {
        check_step(channel, &format!("channels[{index}]"), &mut violations);
        check_place(index, channels, &mut violations);
    }
    if enabled && violations.is_empty() {
        check_complete(channels, &mut violations);
    }
    violations
}

fn check_step<C>(channel: &TemplateChannel<C>, path: &str, violations: &mut Vec<Violation>) {
    let Step {
        stop_condition,
        wait_minutes,
        ..
    } = channel.step;
    if let Some(condition) = stop_condition {
        let allowed = StopCondition::of(channel.channel_type);
        if !allowed.contains(&condition) {
            let words: Vec<_> = allowed.iter().map(ToString::to_string).collect();
            let rule = format!(
                "must be {} for channels of type {}",
                words.join(" or "),
                channel.channel_type
            );
            violations.push(Violation::new(format!("{path}.stopCondition"), rule).received(condition));
        }
    }
    match (stop_condition, wait_minutes) {
        (Some(_), None) => {
            let rule = "is required together with stopCondition";
            violations.push(Violation::new(format!("{path}.waitMinutes"), rule));
        }
        (None, Some(_)) => {
            let rule = "is required together with waitMinutes";
            violations.push(Violation::new(format!("{path}.stopCondition"), rule));
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
}

fn check_place<C>(index: usize, channels: &[TemplateChannel<C>], violations: &mut Vec<Violation>) {
    let place = |channel: &TemplateChannel<C>| channel.step.sequence_order;
    let Some(order) = channels.get(index).and_then(place) else {
        return;
    };
    let first = channels.iter().position(|channel| place(channel) == Some(order));
    if let Some(first) = first.filter(|first| *first != index) {
        let rule = format!("must be unique, but is the place of channels[{first}] as well");
        violations.push(Violation::new(format!("channels[{index}].sequenceOrder"), rule).received(order));
    }
}

fn check_complete<C>(channels: &[TemplateChannel<C>], violations: &mut Vec<Violation>) {
    if channels.len() < STEPS_MIN {
        let rule = format!("must hold at least {STEPS_MIN} channel types while config.{SWITCH} is true");
        violations.push(Violation::new("channels", rule).received(channels.len()));
    }
    for (index, channel) in channels.iter().enumerate() {
        let Step {
            sequence_order,
            stop_condition,
            ..
        } = channel.step;
        let path = |field: &str| format!("channels[{index}].{field}");
        let last = usize::try_from(sequence_order.unwrap_or_default()).is_ok_and(|order| order == channels.len());
        match sequence_order {
            None => {
                let rule = format!("is required while config.{SWITCH} is true");
                violations.push(Violation::new(path("sequenceOrder"), rule));
            }
            Some(order) if usize::try_from(order).is_ok_and(|order| order > channels.len()) => {
                let rule = format!("must be 1 to {}, the places without a gap", channels.len());
                violations.push(Violation::new(path("sequenceOrder"), rule).received(order));
            }
            Some(_) if last && stop_condition.is_some() => {
                let rule = "must not be set for the last step, after which nothing follows";
                let received = stop_condition
                    .map(|condition| condition.to_string())
                    .unwrap_or_default();
                violations.push(Violation::new(path("stopCondition"), rule).received(received));
            }
            Some(_) if !last && stop_condition.is_none() => {
                let rule = format!("is required for every step but the last while config.{SWITCH} is true");
                violations.push(Violation::new(path("stopCondition"), rule));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::template::DataType;
    use StopCondition::{Clicked, Delivered, Engaged, Read};

    /// A channel with nothing but its place in a sequence.
    pub(in crate::model::template) fn channel(channel_type: ChannelType, step: Step) -> TemplateChannel {
        TemplateChannel {
            channel_type,
            channel_id: None,
            content: None,
            data_type: DataType::UiTemplate,
            category_filter_enabled: false,
            template_label_enabled: false,
            message_retention_hours: 0,
            step,
        }
    }

    pub(in crate::model::template) fn step(order: u32, stop: Option<(StopCondition, u32)>) -> Step {
        Step {
            sequence_order: Some(order),
            stop_condition: stop.map(|(condition, _)| condition),
            wait_minutes: stop.map(|(_, minutes)| minutes),
        }
    }

    fn found(enabled: bool, channels: &[TemplateChannel]) -> Vec<String> {
        let violations = check(enabled, channels);
        violations
            .iter()
            .map(|violation| format!("{} {}", violation.field, violation.problem()))
            .collect()
    }

    #[test]
    fn a_whole_sequence_passes_in_any_order_of_its_channels() {
        let push = channel(ChannelType::Push, step(1, Some((Clicked, 5))));
        let in_app = channel(ChannelType::InApp, step(2, Some((Read, 1_440))));
        let email = channel(ChannelType::Email, step(3, None));
        assert_eq!(found(true, &[email, push, in_app]), [""; 0]);
    }

    #[test]
    fn each_type_has_its_own_conditions() {
        for (channel_type, allowed) in [
            (ChannelType::InApp, vec![Delivered, Read, Engaged]),
            (ChannelType::Push, vec![Delivered, Clicked]),
            (ChannelType::Email, vec![Delivered]),
            (ChannelType::Sms, vec![Delivered]),
            (ChannelType::Whatsapp, vec![Delivered]),
            (ChannelType::Custom, vec![Delivered]),
        ] {
            for condition in [Delivered, Read, Engaged, Clicked] {
                let faults = found(false, &[channel(channel_type, step(1, Some((condition, 5))))]);
                assert_eq!(
                    faults.is_empty(),
                    allowed.contains(&condition),
                    "{channel_type} {condition:?}"
                );
            }
        }
        let read = channel(ChannelType::Push, step(1, Some((Read, 5))));
        assert_eq!(
            found(false, &[read]),
            ["channels[0].stopCondition must be delivered or clicked for channels of type push, received \"read\""]
        );
    }

    #[test]
    fn half_a_condition_and_a_place_taken_twice_are_named_also_while_the_sequence_is_off() {
        let mut waiting = channel(ChannelType::InApp, step(1, None));
        waiting.step.wait_minutes = Some(5);
        let mut endless = channel(ChannelType::Push, step(1, None));
        endless.step.stop_condition = Some(Clicked);
        assert_eq!(
            found(false, &[waiting, endless]),
            [
                "channels[0].stopCondition is required together with waitMinutes",
                "channels[1].waitMinutes is required together with stopCondition",
                "channels[1].sequenceOrder must be unique, but is the place of channels[0] as well, received \"1\"",
            ]
        );
    }

    #[test]
    fn a_sequence_that_is_on_is_complete() {
        let alone = channel(ChannelType::InApp, step(1, None));
        assert_eq!(
            found(true, &[alone]),
            ["channels must hold at least 2 channel types while config.sequenceEnabled is true, received \"1\""]
        );
        let unplaced = channel(ChannelType::InApp, Step::default());
        let gap = channel(ChannelType::Push, step(4, Some((Clicked, 5))));
        let last = channel(ChannelType::Email, step(3, Some((Delivered, 5))));
        assert_eq!(
            found(true, &[unplaced, gap, last]),
            [
                "channels[0].sequenceOrder is required while config.sequenceEnabled is true",
                "channels[1].sequenceOrder must be 1 to 3, the places without a gap, received \"4\"",
                "channels[2].stopCondition must not be set for the last step, after which nothing follows, received \
                 \"delivered\"",
            ]
        );
        let first = channel(ChannelType::Push, step(1, None));
        let second = channel(ChannelType::InApp, step(2, None));
        assert_eq!(
            found(true, &[first, second]),
            ["channels[0].stopCondition is required for every step but the last while config.sequenceEnabled is true"]
        );
    }

    #[test]
    fn the_switch_is_true_or_false() {
        let config = |value: serde_json::Value| serde_json::json!({ "sequenceEnabled": value }).as_object().cloned();
        for (value, on, fine) in [
            (serde_json::json!(true), true, true),
            (serde_json::json!(false), false, true),
            (serde_json::json!("true"), false, false),
            (serde_json::json!(1), false, false),
            (serde_json::Value::Null, false, false),
        ] {
            let config = config(value);
            assert_eq!(is_enabled(config.as_ref()), on);
            assert_eq!(check_switch(config.as_ref()).is_none(), fine);
        }
        assert!(!is_enabled(None) && check_switch(None).is_none());
    }
}
