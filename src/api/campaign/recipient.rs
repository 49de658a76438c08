//! Audiences between protobuf and the domain. It decides nothing.

use crate::api::channel::type_number;
use crate::api::convert;
use crate::api::page::{ListParameters, Totals};
use crate::api::variable::{values, values_of};
use crate::list_parameters;
use crate::model::campaign::recipient::{
    Added, AudienceMember, Check, CheckResult, NewRecipients, RecipientStatus, Summary,
};
use crate::model::notification::ReceiverSort;
use crate::model::page::PageRequest;
use crate::model::{Error, Result};
use crate::pb::v1;

/// The users that a request adds.
///
/// # Errors
/// Invalid, with every violation.
pub(super) fn new_recipients(request: v1::AddCampaignRecipientsRequest) -> Result<NewRecipients> {
    let own = request.user_variables.into_iter();
    NewRecipients::check(&request.user_ids, own.map(|(uid, own)| (uid, values_of(own))).collect())
}

/// Asked for in the order in which they were added, unless the request says otherwise.
pub(super) fn page_of(request: &v1::ListCampaignRecipientsRequest) -> Result<PageRequest<ReceiverSort>> {
    let sort = |_: i32| Some(ReceiverSort::Position);
    let mut parameters: ListParameters<ReceiverSort> =
        list_parameters!(request, sort, { position => ReceiverSort::Position });
    parameters.order = parameters.order.or(Some(v1::SortOrder::Asc.into()));
    // A position is unique by itself; the domain knows what the rows of this list have beside it.
    parameters
        .request(ReceiverSort::Position, Totals::ByPage, |_| Some(uuid::Uuid::nil()))
        .map_err(Error::invalid)
}

/// The status with this number.
pub(super) fn status_of(number: i32) -> Option<RecipientStatus> {
    match v1::RecipientStatus::try_from(number).ok()? {
        v1::RecipientStatus::Unspecified => None,
        v1::RecipientStatus::Pending => Some(RecipientStatus::Pending),
        v1::RecipientStatus::Processing => Some(RecipientStatus::Processing),
        v1::RecipientStatus::Completed => Some(RecipientStatus::Completed),
        v1::RecipientStatus::Failed => Some(RecipientStatus::Failed),
        v1::RecipientStatus::Cancelled => Some(RecipientStatus::Cancelled),
    }
}

impl From<RecipientStatus> for v1::RecipientStatus {
    fn from(status: RecipientStatus) -> Self {
        match status {
            RecipientStatus::Pending => Self::Pending,
            RecipientStatus::Processing => Self::Processing,
            RecipientStatus::Completed => Self::Completed,
            RecipientStatus::Failed => Self::Failed,
            RecipientStatus::Cancelled => Self::Cancelled,
        }
    }
}

/// An audience by what became of it.
pub(super) fn summary(summary: Summary) -> v1::RecipientSummary {
    v1::RecipientSummary {
        total: convert::count(summary.total),
        pending: convert::count(summary.pending),
        processing: convert::count(summary.processing),
        completed: convert::count(summary.completed),
        failed: convert::count(summary.failed),
        cancelled: convert::count(summary.cancelled),
    }
}

/// A recipient with the checks that were asked for.
pub(super) fn recipient(member: AudienceMember, checks: Vec<Check>) -> v1::CampaignRecipient {
    v1::CampaignRecipient {
        uid: member.uid.to_string(),
        position: convert::count(member.position),
        status: v1::RecipientStatus::from(member.status).into(),
        variables: Some(values(member.variables)),
        deliveries: member.deliveries.into_iter().map(Into::into).collect(),
        checks: checks.into_iter().map(Into::into).collect(),
    }
}

impl From<AudienceMember> for v1::CampaignRecipient {
    fn from(member: AudienceMember) -> Self {
        recipient(member, Vec::new())
    }
}

impl From<Check> for v1::RecipientCheck {
    fn from(check: Check) -> Self {
        let result = match check.result {
            CheckResult::Passed => v1::CheckResult::Passed,
            CheckResult::Failed => v1::CheckResult::Failed,
            CheckResult::Pending => v1::CheckResult::Pending,
        };
        Self {
            name: check.name.to_owned(),
            channel_type: check.channel_type.map(type_number),
            result: result.into(),
            reason: check.reason,
            problems: check.problems,
            found_at: check.found_at.map(convert::timestamp),
        }
    }
}

impl From<Added> for v1::AddCampaignRecipientsResponse {
    fn from(added: Added) -> Self {
        Self {
            added: convert::count(added.added),
            duplicate_count: convert::count(added.duplicate_count),
            unknown_count: convert::count(added.unknown_count),
            total: convert::count(added.total),
        }
    }
}
