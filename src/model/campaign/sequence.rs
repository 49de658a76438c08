//! What the steps of a campaign's sequence have come to. Nothing here counts.

use crate::model::channel::ChannelType;
use crate::model::template::course::SequenceStep;
use crate::model::template::sequence::StopCondition;

/// What one step has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepMetrics {
    /// The number of the step, from 1.
    pub step: i32,
    /// The channel type that it goes through.
    pub channel_type: ChannelType,
    /// What ends the sequence when it happens in time.
    pub stop_condition: Option<StopCondition>,
    /// The time for that, in minutes.
    pub wait_minutes: Option<u32>,
    /// The recipients by what happened to them there.
    pub counts: StepCounts,
}

/// The recipients of a step by what happened to them there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepCounts {
    /// Those whom the step was to be sent to.
    pub requested: u32,
    /// Those of them whose channel has taken it.
    pub accepted: u32,
    /// Those of them that it has failed for.
    pub failed: u32,
    /// Those whose device has it.
    pub delivered: u32,
    /// Those who have read it.
    pub viewed: u32,
    /// Those who have done anything with it.
    pub engaged: u32,
    /// Those who have opened it.
    pub clicked: u32,
    /// Those for whom the sequence had ended with a condition that was met.
    pub stopped: u32,
    /// Those whom it was not sent to for another reason.
    pub skipped: u32,
    /// Those to whom it may still come, at most.
    pub waiting: u32,
}

impl StepMetrics {
    /// A step that has not begun.
    #[must_use]
    pub fn new(number: i32, step: &SequenceStep) -> Self {
        Self {
            step: number,
            channel_type: step.channel_type,
            stop_condition: step.stop_condition,
            wait_minutes: step.wait_minutes,
            counts: StepCounts::default(),
        }
    }
}
