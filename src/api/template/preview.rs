//! Previews of templates between protobuf and the domain. It decides nothing.

use crate::api::convert;
use crate::api::variable::values_of;
use crate::model::channel::ChannelType;
use crate::model::template::preview::{Preview, PreviewRequest, PreviewedChannel, Problem, ProblemKind};
use crate::pb::v1;

/// The channel type with this number, which the doors have checked.
fn type_of(number: i32) -> Option<ChannelType> {
    i16::try_from(number).ok().map(ChannelType::of_number)
}

impl From<v1::PreviewTemplateRequest> for PreviewRequest {
    fn from(request: v1::PreviewTemplateRequest) -> Self {
        Self {
            version: request.template_version.and_then(|number| u32::try_from(number).ok()),
            channel_types: request.channel_types.into_iter().filter_map(type_of).collect(),
            values: request.variables.map(values_of).unwrap_or_default(),
        }
    }
}

impl From<Preview> for v1::PreviewTemplateResponse {
    fn from(preview: Preview) -> Self {
        Self {
            template_id: preview.template_id.to_string(),
            template_version: convert::count(preview.version),
            sendable: !preview.problems.iter().any(|problem| problem.blocking),
            channels: preview.channels.into_iter().map(Into::into).collect(),
            problems: preview.problems.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<PreviewedChannel> for v1::PreviewedChannel {
    fn from(channel: PreviewedChannel) -> Self {
        Self {
            channel_type: channel.channel_type.number().into(),
            data_type: channel.data_type.number().into(),
            content: channel.content.map(convert::structure),
        }
    }
}

impl From<Problem> for v1::VariableProblem {
    fn from(problem: Problem) -> Self {
        let kind = match problem.kind {
            ProblemKind::Missing => v1::VariableProblemKind::Missing,
            ProblemKind::Mistyped => v1::VariableProblemKind::Mistyped,
            ProblemKind::Undeclared => v1::VariableProblemKind::Undeclared,
            ProblemKind::TooLarge => v1::VariableProblemKind::TooLarge,
            ProblemKind::Unfit => v1::VariableProblemKind::Unfit,
        };
        Self {
            key: problem.key,
            kind: kind.into(),
            blocking: problem.blocking,
            rule: problem.rule,
            received: problem.received,
        }
    }
}
