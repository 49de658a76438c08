//! Campaigns between protobuf and the domain. It decides nothing.

pub(super) mod import;
mod preflight;
mod progress;
mod recipient;
mod step;

use progress::OfCampaign;

use super::channel::type_number;
use super::doors::CampaignApi;
use super::doors::messages::Messages;
use super::doors::sse::Events;
use super::field::{Fields, in_resource, of_resource};
use super::page::{ListParameters, Totals, meta, pagination};
use super::variable::{values, values_of};
use super::{Api, Call, Reply, convert};
use crate::domain::{campaign, sequence};
use crate::list_parameters;
use crate::model::campaign::schedule::When;
use crate::model::campaign::{CampaignFilter, CampaignPatch, CampaignSort, CampaignStatus, CampaignView, NewCampaign};
use crate::model::id::CampaignId;
use crate::model::name::Name;
use crate::model::page::PageRequest;
use crate::model::user::Uid;
use crate::model::{Error, Reason, Result, Violation};
use crate::pb::v1;

/// The field that holds the resource in requests.
const NOUN: &str = "campaign";

impl CampaignApi for Api {
    async fn create_campaign(
        &self,
        call: Call,
        request: v1::CreateCampaignRequest,
    ) -> Result<Reply<v1::CreateCampaignResponse>> {
        let new = NewCampaign::try_from(request.campaign.unwrap_or_default()).map_err(in_resource(&call, NOUN))?;
        let written = campaign::create(&self.service, &call.acting()?, new).await;
        let written = written.map_err(of_resource(&call, NOUN))?;
        Ok(Reply::of(written, |view| v1::CreateCampaignResponse {
            campaign: Some(view.into()),
        }))
    }

    async fn list_campaigns(
        &self,
        call: Call,
        request: v1::ListCampaignsRequest,
    ) -> Result<Reply<v1::ListCampaignsResponse>> {
        let (filter, page) = (filter_of(&request), page_of(&request)?);
        let found = campaign::list(&self.service, &call.acting()?, &filter, &page).await?;
        Ok(Reply::new(v1::ListCampaignsResponse {
            meta: Some(meta(&page, &found, |view| view.campaign.id.to_string())),
            pagination: pagination(&page, &found),
            campaigns: found.rows.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_campaign(
        &self,
        call: Call,
        request: v1::GetCampaignRequest,
    ) -> Result<Reply<v1::GetCampaignResponse>> {
        let view = campaign::get(&self.service, &call.acting()?, id_of(&request.campaign_id)?).await?;
        Ok(Reply::new(v1::GetCampaignResponse {
            campaign: Some(view.into()),
        }))
    }

    async fn update_campaign(
        &self,
        call: Call,
        request: v1::UpdateCampaignRequest,
    ) -> Result<Reply<v1::UpdateCampaignResponse>> {
        let (id, etag) = (id_of(&request.campaign_id)?, request.etag.clone());
        let patch = CampaignPatch::try_from(request).map_err(in_resource(&call, NOUN))?;
        let written = campaign::update(&self.service, &call.acting()?, id, patch, etag).await;
        let written = written.map_err(of_resource(&call, NOUN))?;
        Ok(Reply::of(written, |view| v1::UpdateCampaignResponse {
            campaign: Some(view.into()),
        }))
    }

    async fn send_campaign(
        &self,
        call: Call,
        request: v1::SendCampaignRequest,
    ) -> Result<Reply<v1::SendCampaignResponse>> {
        let named = (id_of(&request.campaign_id)?, request.etag);
        let written = campaign::send(&self.service, &call.acting()?, named, request.plan_token).await?;
        Ok(Reply::of(written, |view| v1::SendCampaignResponse {
            campaign: Some(view.into()),
        }))
    }

    async fn schedule_campaign(
        &self,
        call: Call,
        request: v1::ScheduleCampaignRequest,
    ) -> Result<Reply<v1::ScheduleCampaignResponse>> {
        let (named, when) = ((id_of(&request.campaign_id)?, request.etag.clone()), when_of(request));
        let written = campaign::schedule(&self.service, &call.acting()?, named, &when).await?;
        Ok(Reply::of(written, |view| v1::ScheduleCampaignResponse {
            campaign: Some(view.into()),
        }))
    }

    async fn unschedule_campaign(
        &self,
        call: Call,
        request: v1::UnscheduleCampaignRequest,
    ) -> Result<Reply<v1::UnscheduleCampaignResponse>> {
        let id = id_of(&request.campaign_id)?;
        let written = campaign::unschedule(&self.service, &call.acting()?, id, request.etag).await?;
        Ok(Reply::of(written, |view| v1::UnscheduleCampaignResponse {
            campaign: Some(view.into()),
        }))
    }

    async fn pause_campaign(
        &self,
        call: Call,
        request: v1::PauseCampaignRequest,
    ) -> Result<Reply<v1::PauseCampaignResponse>> {
        let id = id_of(&request.campaign_id)?;
        let written = campaign::pause(&self.service, &call.acting()?, id, request.etag).await?;
        Ok(Reply::of(written, |view| v1::PauseCampaignResponse {
            campaign: Some(view.into()),
        }))
    }

    async fn resume_campaign(
        &self,
        call: Call,
        request: v1::ResumeCampaignRequest,
    ) -> Result<Reply<v1::ResumeCampaignResponse>> {
        let id = id_of(&request.campaign_id)?;
        let written = campaign::resume(&self.service, &call.acting()?, id, request.etag).await?;
        Ok(Reply::of(written, |view| v1::ResumeCampaignResponse {
            campaign: Some(view.into()),
        }))
    }

    async fn cancel_campaign(
        &self,
        call: Call,
        request: v1::CancelCampaignRequest,
    ) -> Result<Reply<v1::CancelCampaignResponse>> {
        let id = id_of(&request.campaign_id)?;
        let written = campaign::cancel(&self.service, &call.acting()?, id, request.etag).await?;
        Ok(Reply::of(written, |view| v1::CancelCampaignResponse {
            campaign: Some(view.into()),
        }))
    }

    async fn clone_campaign(
        &self,
        call: Call,
        request: v1::CloneCampaignRequest,
    ) -> Result<Reply<v1::CloneCampaignResponse>> {
        let id = id_of(&request.campaign_id)?;
        let name = request.name.as_deref().map(name_of).transpose()?;
        let written = campaign::clone(&self.service, &call.acting()?, id, name).await?;
        Ok(Reply::of(written, |view| v1::CloneCampaignResponse {
            campaign: Some(view.into()),
        }))
    }

    async fn delete_campaign(
        &self,
        call: Call,
        request: v1::DeleteCampaignRequest,
    ) -> Result<Reply<v1::DeleteCampaignResponse>> {
        let id = id_of(&request.campaign_id)?;
        let deleted = campaign::delete(&self.service, &call.acting()?, id, request.etag).await?;
        Ok(Reply::of(deleted, |deleted| v1::DeleteCampaignResponse {
            id: deleted.id.to_string(),
            deleted_at: Some(convert::timestamp(deleted.deleted_at)),
        }))
    }

    async fn preflight_campaign(
        &self,
        call: Call,
        request: v1::PreflightCampaignRequest,
    ) -> Result<Reply<v1::PreflightCampaignResponse>> {
        let id = id_of(&request.campaign_id)?;
        let found = campaign::preflight(&self.service, &call.acting()?, id).await?;
        Ok(Reply::of(found, Into::into))
    }

    async fn watch_campaign_preflight(
        &self,
        call: Call,
        request: v1::WatchCampaignPreflightRequest,
    ) -> Result<Events<v1::WatchCampaignPreflightResponse>> {
        preflight::watch(&self.service, &call.acting()?, id_of(&request.campaign_id)?).await
    }

    async fn watch_campaign(
        &self,
        call: Call,
        request: v1::WatchCampaignRequest,
    ) -> Result<Events<v1::WatchCampaignResponse>> {
        let watched = OfCampaign(id_of(&request.campaign_id)?);
        super::progress::watch(&self.service, call.acting()?, watched).await
    }

    async fn add_campaign_recipients(
        &self,
        call: Call,
        request: v1::AddCampaignRecipientsRequest,
    ) -> Result<Reply<v1::AddCampaignRecipientsResponse>> {
        let id = id_of(&request.campaign_id)?;
        let new = recipient::new_recipients(request)?;
        let added = campaign::add(&self.service, &call.acting()?, id, new).await?;
        Ok(Reply::of(added, Into::into))
    }

    async fn list_campaign_recipients(
        &self,
        call: Call,
        request: v1::ListCampaignRecipientsRequest,
    ) -> Result<Reply<v1::ListCampaignRecipientsResponse>> {
        let (id, page) = (id_of(&request.campaign_id)?, recipient::page_of(&request)?);
        let status = request.status.and_then(recipient::status_of);
        let found = campaign::list_recipients(&self.service, &call.acting()?, id, status, &page).await?;
        Ok(Reply::new(v1::ListCampaignRecipientsResponse {
            meta: Some(meta(&page, &found, |one| one.uid.to_string())),
            pagination: pagination(&page, &found),
            recipients: found.rows.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_campaign_recipient_summary(
        &self,
        call: Call,
        request: v1::GetCampaignRecipientSummaryRequest,
    ) -> Result<Reply<v1::GetCampaignRecipientSummaryResponse>> {
        let found = campaign::summary(&self.service, &call.acting()?, id_of(&request.campaign_id)?).await?;
        Ok(Reply::new(v1::GetCampaignRecipientSummaryResponse {
            summary: Some(recipient::summary(found)),
        }))
    }

    async fn get_campaign_sequence_metrics(
        &self,
        call: Call,
        request: v1::GetCampaignSequenceMetricsRequest,
    ) -> Result<Reply<v1::GetCampaignSequenceMetricsResponse>> {
        let steps = sequence::metrics(&self.service, &call.acting()?, id_of(&request.campaign_id)?).await?;
        Ok(Reply::new(v1::GetCampaignSequenceMetricsResponse {
            steps: steps.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_campaign_recipient(
        &self,
        call: Call,
        request: v1::GetCampaignRecipientRequest,
    ) -> Result<Reply<v1::GetCampaignRecipientResponse>> {
        let (id, uid) = (id_of(&request.campaign_id)?, uid_of(&request.uid)?);
        let (member, checks) = campaign::get_recipient(&self.service, &call.acting()?, id, &uid).await?;
        Ok(Reply::new(v1::GetCampaignRecipientResponse {
            recipient: Some(recipient::recipient(member, checks)),
        }))
    }

    async fn create_campaign_upload_url(
        &self,
        call: Call,
        request: v1::CreateCampaignUploadUrlRequest,
    ) -> Result<Reply<v1::CreateCampaignUploadUrlResponse>> {
        let base = import::base(&call, self.service.public_url());
        let id = id_of(&request.campaign_id)?;
        let found = campaign::import::upload_url(&self.service, &call.acting()?, id).await?;
        Ok(Reply::of(found, |found| import::upload_url(found, &base)))
    }

    async fn import_campaign_csv(
        &self,
        call: Call,
        request: v1::ImportCampaignCsvRequest,
    ) -> Result<Reply<v1::ImportCampaignCsvResponse>> {
        let (id, format) = (
            id_of(&request.campaign_id)?,
            import::format_of(request.delimiter, request.encoding),
        );
        let file = (request.s3_key, format);
        let started = campaign::import::start(&self.service, &call.acting()?, id, file).await?;
        Ok(Reply::of(started, |job| v1::ImportCampaignCsvResponse {
            job: Some(job.into()),
        }))
    }

    async fn import_recipients(
        &self,
        call: Call,
        requests: Messages<v1::ImportRecipientsRequest>,
    ) -> Result<Reply<v1::ImportRecipientsResponse>> {
        let job = import::receive(&self.service, &call.acting()?, requests).await?;
        Ok(Reply::new(v1::ImportRecipientsResponse { job: Some(job.into()) }))
    }

    async fn get_campaign_upload(
        &self,
        call: Call,
        request: v1::GetCampaignUploadRequest,
    ) -> Result<Reply<v1::GetCampaignUploadResponse>> {
        let (id, key) = (id_of(&request.campaign_id)?, request.s3_key);
        let found = campaign::import::received(&self.service, &call.acting()?, id, &key).await?;
        let upload = import::upload(key, found, self.service.upload_bytes_max());
        Ok(Reply::new(v1::GetCampaignUploadResponse { upload: Some(upload) }))
    }

    async fn get_campaign_import_status(
        &self,
        call: Call,
        request: v1::GetCampaignImportStatusRequest,
    ) -> Result<Reply<v1::GetCampaignImportStatusResponse>> {
        let job = campaign::import::status(&self.service, &call.acting()?, id_of(&request.campaign_id)?).await?;
        Ok(Reply::new(v1::GetCampaignImportStatusResponse {
            job: Some(job.into()),
        }))
    }

    async fn cancel_campaign_import(
        &self,
        call: Call,
        request: v1::CancelCampaignImportRequest,
    ) -> Result<Reply<v1::CancelCampaignImportResponse>> {
        let id = id_of(&request.campaign_id)?;
        let cancelled = campaign::import::cancel(&self.service, &call.acting()?, id).await?;
        Ok(Reply::of(cancelled, |job| v1::CancelCampaignImportResponse {
            job: Some(job.into()),
        }))
    }

    async fn list_campaign_import_errors(
        &self,
        call: Call,
        request: v1::ListCampaignImportErrorsRequest,
    ) -> Result<Reply<v1::ListCampaignImportErrorsResponse>> {
        let (id, page) = (id_of(&request.campaign_id)?, import::page_of(&request)?);
        let found = campaign::import::list_problems(&self.service, &call.acting()?, id, &page).await?;
        Ok(Reply::new(import::problems(&page, found)))
    }
}

impl From<CampaignView> for v1::Campaign {
    fn from(view: CampaignView) -> Self {
        let (campaign, summary) = (view.campaign, view.summary);
        Self {
            id: campaign.id.to_string(),
            name: campaign.name.to_string(),
            template_id: campaign.template_id.to_string(),
            template_version: Some(convert::count(campaign.template_version)),
            variables: Some(values(campaign.variables)),
            config: campaign.config.map(convert::structure),
            tag: campaign.tag,
            rate_per_second: campaign.rate_per_second.map(convert::count),
            status: campaign.status.number().into(),
            notification_id: campaign.notification_id.to_string(),
            template: Some(v1::CampaignTemplate {
                id: campaign.template_id.to_string(),
                name: view.template_name,
                template_id: view.template_slug,
                channel_types: campaign.channels.iter().copied().map(type_number).collect(),
            }),
            total_targets: convert::count(summary.total),
            sent_count: convert::count(summary.completed),
            failed_count: convert::count(summary.failed),
            recipient_summary: Some(recipient::summary(summary)),
            scheduled_at: campaign.scheduled_at.map(convert::timestamp),
            time_zone: campaign.time_zone,
            misfired_at: campaign.misfired_at.map(convert::timestamp),
            sent_at: campaign.sent_at.map(convert::timestamp),
            completed_at: campaign.completed_at.map(convert::timestamp),
            failure: campaign.failure,
            created_at: Some(convert::timestamp(campaign.created_at)),
            updated_at: Some(convert::timestamp(campaign.updated_at)),
            etag: campaign.version.to_string(),
        }
    }
}

impl TryFrom<v1::Campaign> for NewCampaign {
    type Error = Vec<Violation>;

    fn try_from(campaign: v1::Campaign) -> Result<Self, Self::Error> {
        let mut fields = Fields::new();
        let name = fields.read("name", &campaign.name, str::parse);
        fields.make(name.map(|name| Self {
            name,
            template: campaign.template_id,
            version: campaign.template_version.and_then(number),
            variables: campaign.variables.map(values_of),
            config: campaign.config.map(convert::object),
            tag: campaign.tag,
            rate_per_second: campaign.rate_per_second.and_then(number),
        }))
    }
}

impl TryFrom<v1::UpdateCampaignRequest> for CampaignPatch {
    type Error = Vec<Violation>;

    fn try_from(request: v1::UpdateCampaignRequest) -> Result<Self, Self::Error> {
        let mut campaign = request.campaign.unwrap_or_default();
        let mut fields = Fields::new();
        let mut patch = Self::default();
        for path in request.update_mask.iter().flat_map(|mask| &mask.paths) {
            match path.as_str() {
                "name" => patch.name = fields.read("name", &campaign.name, str::parse),
                "template_id" => patch.template = Some(std::mem::take(&mut campaign.template_id)),
                "template_version" => patch.template_version = Some(campaign.template_version.and_then(number)),
                "variables" => patch.variables = Some(campaign.variables.take().map(values_of)),
                "config" => patch.config = Some(campaign.config.take().map(convert::object)),
                "tag" => patch.tag = Some(campaign.tag.take()),
                "rate_per_second" => patch.rate_per_second = Some(campaign.rate_per_second.and_then(number)),
                // The doors have settled the mask: nothing else can stand in it.
                _ => {}
            }
        }
        fields.make(Some(patch))
    }
}

fn when_of(request: v1::ScheduleCampaignRequest) -> When {
    When {
        at: request.scheduled_at.as_ref().and_then(convert::instant),
        local: request.scheduled_local,
        time_zone: request.time_zone,
    }
}

fn name_of(text: &str) -> Result<Name> {
    super::field::parse("name", text)
}

fn number(number: i32) -> Option<u32> {
    u32::try_from(number).ok()
}

// What is no id of a campaign names none, so it is as unknown as an id that nobody has.
pub(super) fn id_of(text: &str) -> Result<CampaignId> {
    text.parse()
        .ok()
        .ok_or_else(|| Error::not_found(Reason::CampaignNotFound, "campaignId", text))
}

fn uid_of(text: &str) -> Result<Uid> {
    super::field::parse("uid", &text.to_lowercase())
}

fn filter_of(request: &v1::ListCampaignsRequest) -> CampaignFilter {
    CampaignFilter {
        search: request.search.clone(),
        status: request
            .status
            .and_then(|number| i16::try_from(number).ok())
            .map(CampaignStatus::of_number),
        tag: request.tag.clone(),
        template: request.template_id.clone(),
    }
}

fn page_of(request: &v1::ListCampaignsRequest) -> Result<PageRequest<CampaignSort>> {
    let parameters: ListParameters<CampaignSort> = list_parameters!(request, sort, {
        created_at => CampaignSort::CreatedAt,
        updated_at => CampaignSort::UpdatedAt,
        name => CampaignSort::Name,
    });
    parameters
        .request(CampaignSort::CreatedAt, Totals::Always, |id| {
            id.parse().ok().map(CampaignId::uuid)
        })
        .map_err(Error::invalid)
}

fn sort(number: i32) -> Option<CampaignSort> {
    use v1::list_campaigns_request::Sort;
    match Sort::try_from(number).ok()? {
        Sort::Unspecified => None,
        Sort::CreatedAt => Some(CampaignSort::CreatedAt),
        Sort::UpdatedAt => Some(CampaignSort::UpdatedAt),
        Sort::Name => Some(CampaignSort::Name),
    }
}
