//! A sequence as a send takes it along: its steps in their order, and when the condition of one was met. What a recipient
//! gets of a step is planned elsewhere.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::TemplateChannel;
use super::sequence::{StopCondition, check, is_enabled};
use crate::model::Timestamp;
use crate::model::channel::{ChannelType, JsonObject};

/// The number of the first step, and of the only one of a send that is no sequence.
pub const FIRST_STEP: i32 = 1;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SequenceStep {
    /// The channel type that it goes through.
    pub channel_type: ChannelType,
    /// What ends the sequence when it happens in time; the last step has none.
    pub stop_condition: Option<StopCondition>,
    /// The time for that, in minutes.
    pub wait_minutes: Option<u32>,
}

impl SequenceStep {
    /// How long the step after this one waits.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_secs(u64::from(self.wait_minutes.unwrap_or_default()).saturating_mul(60))
    }

    /// Whether its condition was met in time by a delivery that was written down at an instant. The last moment of the
    /// window is in time.
    #[must_use]
    pub fn is_met(&self, written_at: Timestamp, marks: &Marks) -> bool {
        let happened = self.stop_condition.and_then(|condition| marks.at(condition));
        happened.is_some_and(|at| at <= written_at.plus(self.window()))
    }
}

/// When something first happened to a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The user's device has it.
    pub delivered_at: Option<Timestamp>,
    /// The user has read it.
    pub read_at: Option<Timestamp>,
    /// The user has done something with it.
    pub engaged_at: Option<Timestamp>,
    /// The user has opened it.
    pub clicked_at: Option<Timestamp>,
}

impl Marks {
    const fn at(&self, condition: StopCondition) -> Option<Timestamp> {
        match condition {
            StopCondition::Delivered => self.delivered_at,
            StopCondition::Read => self.read_at,
            StopCondition::Engaged => self.engaged_at,
            StopCondition::Clicked => self.clicked_at,
            // Nobody here can tell, so the next step goes out: a message too many rather than one too few.
            StopCondition::Unknown(_) => None,
        }
    }
}

/// The steps of a sequence, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(Vec<SequenceStep>);

impl Sequence {
    /// The sequence of a version, if its template has one switched on. An earlier version whose channel types are none is
    /// sent to all of them at once.
    #[must_use]
    pub fn of<C>(config: Option<&JsonObject>, channels: &[TemplateChannel<C>]) -> Option<Self> {
        if !is_enabled(config) || !check(true, channels).is_empty() {
            return None;
        }
        let mut ordered: Vec<_> = channels.iter().collect();
        ordered.sort_by_key(|channel| channel.step.sequence_order);
        let steps = ordered.into_iter().map(|channel| SequenceStep {
            channel_type: channel.channel_type,
            stop_condition: channel.step.stop_condition,
            wait_minutes: channel.step.wait_minutes,
        });
        Some(Self(steps.collect()))
    }

    /// The steps.
    #[must_use]
    pub fn steps(&self) -> &[SequenceStep] {
        &self.0
    }

    /// The step with this number, from 1.
    #[must_use]
    pub fn step(&self, number: i32) -> Option<&SequenceStep> {
        let index = usize::try_from(number.saturating_sub(FIRST_STEP)).ok()?;
        self.0.get(index)
    }

    /// The number of the step that goes through a channel type.
    #[must_use]
    pub fn number(&self, channel_type: ChannelType) -> Option<i32> {
        let found = (FIRST_STEP..)
            .zip(&self.0)
            .find(|(_, step)| step.channel_type == channel_type);
        found.map(|(number, _)| number)
    }

    /// The number of the last step.
    #[must_use]
    pub fn last(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }
}

/// The number of the last step of a send.
#[must_use]
pub fn last_step(sequence: Option<&Sequence>) -> i32 {
    sequence.map_or(FIRST_STEP, Sequence::last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::template::sequence::tests::{channel, step};

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    #[test]
    fn the_last_millisecond_of_a_window_is_in_time_and_the_next_one_is_not() {
        let step = SequenceStep {
            channel_type: ChannelType::InApp,
            stop_condition: Some(StopCondition::Read),
            wait_minutes: Some(5),
        };
        let read = |at| Marks {
            read_at: Some(at),
            delivered_at: Some(Timestamp::MIN),
            ..Marks::default()
        };
        assert!(step.is_met(at(1_000), &read(at(301_000))));
        assert!(!step.is_met(at(1_000), &read(at(301_001))));
        assert!(!step.is_met(at(1_000), &Marks::default()));
    }

    #[test]
    fn steps_are_taken_in_their_order_and_only_from_a_whole_sequence() {
        let config = |on: bool| serde_json::json!({ "sequenceEnabled": on }).as_object().cloned();
        let channels = [
            channel(ChannelType::Push, step(2, None)),
            channel(ChannelType::InApp, step(1, Some((StopCondition::Read, 30)))),
        ];
        let sequence = Sequence::of(config(true).as_ref(), &channels).unwrap();
        let types: Vec<_> = sequence.steps().iter().map(|step| step.channel_type).collect();
        assert_eq!(types, [ChannelType::InApp, ChannelType::Push]);
        assert_eq!(
            (sequence.last(), last_step(Some(&sequence)), last_step(None)),
            (2, 2, 1)
        );
        assert_eq!(sequence.step(2).map(SequenceStep::window), Some(Duration::ZERO));
        assert_eq!((sequence.step(0), sequence.step(3)), (None, None));
        let number = |channel_type| sequence.number(channel_type);
        assert_eq!((number(ChannelType::Push), number(ChannelType::Email)), (Some(2), None));
        assert_eq!(Sequence::of(config(false).as_ref(), &channels), None);
        assert_eq!(Sequence::of(config(true).as_ref(), &channels[..1]), None);
    }
}
