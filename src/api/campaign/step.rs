//! The steps of a campaign's sequence between the domain and protobuf. It decides nothing.

use crate::api::channel::type_number;
use crate::api::convert;
use crate::model::campaign::sequence::StepMetrics;
use crate::pb::v1;

impl From<StepMetrics> for v1::SequenceStepMetrics {
    fn from(step: StepMetrics) -> Self {
        let counts = step.counts;
        Self {
            step: step.step,
            channel_type: type_number(step.channel_type),
            stop_condition: step.stop_condition.map(|condition| condition.number().into()),
            wait_minutes: step.wait_minutes.map(convert::count),
            requested: convert::count(counts.requested),
            accepted: convert::count(counts.accepted),
            failed: convert::count(counts.failed),
            delivered: convert::count(counts.delivered),
            viewed: convert::count(counts.viewed),
            engaged: convert::count(counts.engaged),
            clicked: convert::count(counts.clicked),
            stopped: convert::count(counts.stopped),
            skipped: convert::count(counts.skipped),
            waiting: convert::count(counts.waiting),
        }
    }
}
