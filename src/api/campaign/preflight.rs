//! Preflights between protobuf and the domain, and how one is watched: it is made while somebody takes what it tells, and
//! ends with the stream. It decides nothing.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{once, unfold};
use tokio::time::Instant;

use crate::api::channel::type_number;
use crate::api::convert;
use crate::api::doors::sse::Events;
use crate::domain::campaign::Survey;
use crate::domain::{Acting, Service};
use crate::model::Result;
use crate::model::campaign::preflight::Preflight;
use crate::model::id::CampaignId;
use crate::pb::v1;
use v1::watch_campaign_preflight_response::Event;

/// The shortest time between two events that tell how far it has come.
const EVENT_INTERVAL: Duration = Duration::from_millis(250);

type Told = v1::WatchCampaignPreflightResponse;

/// Makes a preflight and tells how far it comes.
///
/// # Errors
/// Those of its beginning.
pub(super) async fn watch(service: &Service, acting: &Acting, id: CampaignId) -> Result<Events<Told>> {
    let survey = Survey::begin(service, acting, id).await?;
    let begun = progress(&survey);
    let rest = unfold(Some(survey), |survey| async move {
        match go_on(survey?).await {
            Ok((event, survey)) => Some((Ok(event), survey)),
            Err(fault) => Some((Err(fault), None)),
        }
    });
    Ok(once(async move { Ok(begun) }).chain(rest).boxed())
}

async fn go_on(mut survey: Survey) -> Result<(Told, Option<Survey>)> {
    let began = Instant::now();
    while survey.go_on().await? {
        if began.elapsed() >= EVENT_INTERVAL {
            return Ok((progress(&survey), Some(survey)));
        }
    }
    let checked = survey.checked();
    Ok((told(Event::Report(survey.end().into()), checked), None))
}

fn progress(survey: &Survey) -> Told {
    let progress = v1::PreflightProgress {
        checked_count: convert::count(survey.checked()),
        total: convert::count(survey.total()),
    };
    told(Event::Progress(progress), survey.checked())
}

fn told(event: Event, checked: u32) -> Told {
    Told {
        event: Some(event),
        cursor: checked.to_string(),
    }
}

impl From<Preflight> for v1::PreflightCampaignResponse {
    fn from(found: Preflight) -> Self {
        let mut exclusions: Vec<_> = found.exclusions.into_iter().collect();
        exclusions.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let exclusions = exclusions.into_iter().map(|(reason, count)| v1::PreflightExclusion {
            reason,
            count: convert::count(count),
        });
        let channels = found.channels.into_iter().map(|channel| v1::PreflightChannel {
            channel_type: type_number(channel.channel_type),
            deliveries: convert::count(channel.deliveries),
            step: channel.step,
            reason: channel.reason,
        });
        let problems = found.problems.into_iter().map(|one| v1::PreflightProblem {
            uid: one.uid.to_string(),
            position: convert::count(one.position),
            problems: one.problems,
        });
        let samples = found.samples.into_iter().map(|sample| v1::PreflightSample {
            uid: sample.uid.to_string(),
            content: sample.content.map(convert::structure),
        });
        Self {
            plan_token: found.plan_token,
            total: convert::count(found.total),
            reachable: convert::count(found.reachable),
            channels: channels.collect(),
            exclusions: exclusions.collect(),
            problems: problems.collect(),
            samples: samples.collect(),
            estimated_seconds: found.estimated_seconds.map(convert::count),
            checked_at: Some(convert::timestamp(found.checked_at)),
        }
    }
}
