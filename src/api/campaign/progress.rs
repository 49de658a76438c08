//! How a campaign is watched.

use super::recipient::summary;
use crate::api::convert;
use crate::api::progress::Watched;
use crate::domain::{Acting, Service, campaign};
use crate::model::Result;
use crate::model::campaign::CampaignProgress;
use crate::model::id::CampaignId;
use crate::pb::v1;
use v1::watch_campaign_response::Event;

/// A campaign by its id.
pub(super) struct OfCampaign(pub(super) CampaignId);

impl Watched for OfCampaign {
    type Progress = CampaignProgress;
    type Event = v1::WatchCampaignResponse;

    async fn look(&self, service: &Service, acting: &Acting) -> Result<CampaignProgress> {
        campaign::progress(service, acting, self.0).await
    }

    fn is_final(progress: CampaignProgress) -> bool {
        progress.status.is_final()
    }

    fn counts(progress: CampaignProgress) -> (u32, u32) {
        let (settled, total) = (progress.summary.settled(), progress.summary.total);
        (settled, total.saturating_sub(settled))
    }

    fn event(progress: CampaignProgress, per_second: Option<u32>, remaining: Option<u32>) -> Self::Event {
        let told = v1::CampaignProgress {
            status: progress.status.number().into(),
            recipients: Some(summary(progress.summary)),
            per_second: per_second.map(convert::count),
            remaining_seconds: remaining.map(convert::count),
            completed_at: progress.completed_at.map(convert::timestamp),
        };
        response(Event::Progress(told), progress)
    }

    fn heartbeat(progress: CampaignProgress) -> Self::Event {
        response(Event::Heartbeat(v1::Heartbeat {}), progress)
    }
}

fn response(event: Event, progress: CampaignProgress) -> v1::WatchCampaignResponse {
    v1::WatchCampaignResponse {
        event: Some(event),
        cursor: progress.summary.settled().to_string(),
    }
}
