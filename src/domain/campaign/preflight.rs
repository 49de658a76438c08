//! What would become of an audience if its campaign were sent now: the same looks that a page takes, without writing, and
//! without the writer. The audience is read in parts, so memory does not grow with it, and it ends between two of them when
//! whoever asked has gone away.

use std::collections::BTreeMap;

use super::{Campaign, CampaignStatus, store};
use crate::domain::card::{VersionContent, shown};
use crate::domain::{Acting, Service, Written, template, user};
use crate::model::campaign::preflight::{
    ChannelForecast, PROBLEMS_MAX, PROBLEMS_OF_ONE_MAX, Preflight, RecipientProblems, SAMPLES_MAX, Sample,
};
use crate::model::channel::ChannelType;
use crate::model::delivery::DeliveryReason;
use crate::model::delivery::{DeliveryStatus, Verdict};
use crate::model::id::{AppId, CampaignId};
use crate::model::notification::{RecipientOutcome, faults_of, values_of, verdict};
use crate::model::template::SendableChannel;
use crate::model::user::Resolved;
use crate::model::variable::VariableValues;
use crate::model::{Result, Timestamp};
use crate::store::receiver::{self, Recipient};

/// Recipients that are read at once.
const PART: i64 = 1_000;

/// Goes through the audience of a draft or a scheduled campaign.
///
/// # Errors
/// Campaign not found; invalid state.
pub async fn preflight(service: &Service, acting: &Acting, id: CampaignId) -> Result<Written<Preflight>> {
    if let Some(value) = service.answered(acting).await? {
        return Ok(Written { value, replayed: true });
    }
    let (app, now) = (acting.app()?, acting.now);
    let found = look(service, app, id, now).await?;
    if acting.once.is_none() {
        let (value, replayed) = (found, false);
        return Ok(Written { value, replayed });
    }
    service
        .write(acting, move |_| {
            let found = found.clone();
            Box::pin(async move { Ok(found) })
        })
        .await
}

async fn look(service: &Service, app: AppId, id: CampaignId, now: Timestamp) -> Result<Preflight> {
    let campaign = store::get_campaign(service.store.read(), app, id).await?;
    let allowed = [CampaignStatus::Draft, CampaignStatus::Scheduled];
    campaign.status.check("checked", &allowed)?;
    let (content, ways) = template::load_now(service, app, campaign.version_ref()).await?;
    let mut look = Look::new(&campaign, &ways, &content);
    let mut from: i64 = 1;
    while from <= i64::from(campaign.recipient_count) {
        let to = from
            .saturating_add(PART)
            .saturating_sub(1)
            .min(i64::from(campaign.recipient_count));
        let place = (app, campaign.notification_id);
        let part = receiver::list_recipients(service.store.read(), place, from, to).await?;
        let uids = part.iter().map(|one| one.uid.clone()).collect();
        let users = user::look_up(service, app, uids).await?;
        for recipient in &part {
            // Who was nobody when they were added stays so.
            let now = users
                .get(&recipient.uid)
                .copied()
                .filter(|_| recipient.user != Resolved::Unknown);
            look.take(recipient, now.unwrap_or(Resolved::Unknown))?;
        }
        from = to.saturating_add(1);
    }
    Ok(look.end(now))
}

/// Whether a way out takes what is sent.
fn is_open(verdict: &Verdict) -> bool {
    matches!(verdict.status, DeliveryStatus::Accepted | DeliveryStatus::Queued)
}

/// What was found so far.
struct Look<'a> {
    campaign: &'a Campaign,
    ways: &'a [SendableChannel],
    content: &'a VersionContent,
    verdicts: Vec<Verdict>,
    /// Whether those without values of their own are at fault, which is the same for all of them.
    common: Option<bool>,
    served: u32,
    exclusions: BTreeMap<String, u32>,
    problems: Vec<RecipientProblems>,
    samples: Vec<Sample>,
}

impl<'a> Look<'a> {
    fn new(campaign: &'a Campaign, ways: &'a [SendableChannel], content: &'a VersionContent) -> Self {
        Self {
            campaign,
            ways,
            content,
            verdicts: ways.iter().map(verdict).collect(),
            common: None,
            served: 0,
            exclusions: BTreeMap::new(),
            problems: Vec::new(),
            samples: Vec::new(),
        }
    }

    fn take(&mut self, recipient: &Recipient, user: Resolved) -> Result<()> {
        let outcome = RecipientOutcome::of(user);
        if outcome != RecipientOutcome::Planned {
            self.leave_out(&outcome.to_string());
            return Ok(());
        }
        if self.is_faulty(recipient)? {
            self.leave_out(DeliveryReason::INVALID_VARIABLES.as_str());
            return Ok(());
        }
        self.served = self.served.saturating_add(1);
        if !self.is_open() {
            self.leave_out("no_channel");
        } else if self.samples.len() < SAMPLES_MAX {
            let values = values_of(
                &recipient.own,
                &self.campaign.variables,
                &self.content.source.variable_schema,
                &self.content.compiled,
            );
            let in_app = self
                .ways
                .iter()
                .any(|way| way.content.channel_type == ChannelType::InApp);
            self.samples.push(Sample {
                uid: recipient.uid.clone(),
                content: in_app.then(|| shown(&self.content.compiled, &values)).transpose()?,
            });
        }
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.verdicts.iter().any(is_open)
    }

    fn leave_out(&mut self, reason: &str) {
        let count = self.exclusions.entry(reason.to_owned()).or_default();
        *count = count.saturating_add(1);
    }

    /// Whether the variables of a recipient are at fault. While there is room, what is wrong is kept.
    fn is_faulty(&mut self, recipient: &Recipient) -> Result<bool> {
        let (none, common) = (VariableValues::new(), self.common);
        if let (true, Some(faulty)) = (recipient.own.is_empty(), common)
            && (!faulty || self.problems.len() >= PROBLEMS_MAX)
        {
            return Ok(faulty);
        }
        let own = if recipient.own.is_empty() {
            &none
        } else {
            &recipient.own
        };
        let faults = faults_of(
            own,
            &self.campaign.variables,
            &self.content.source.variable_schema,
            &self.content.compiled,
        );
        if recipient.own.is_empty() {
            self.common = Some(!faults.is_empty());
        }
        if !faults.is_empty() && self.problems.len() < PROBLEMS_MAX {
            let named = faults.iter().take(PROBLEMS_OF_ONE_MAX);
            self.problems.push(RecipientProblems {
                uid: recipient.uid.clone(),
                position: u32::try_from(recipient.seq).map_err(crate::model::Error::internal)?,
                problems: named.map(|fault| (fault.field.clone(), fault.problem())).collect(),
            });
        }
        Ok(!faults.is_empty())
    }

    fn end(self, now: Timestamp) -> Preflight {
        let forecast = |(way, verdict): (&SendableChannel, &Verdict)| ChannelForecast {
            channel_type: way.content.channel_type,
            deliveries: if is_open(verdict) { self.served } else { 0 },
            reason: verdict.reason.as_ref().map(ToString::to_string),
        };
        let total = self.campaign.recipient_count;
        Preflight {
            plan_token: self.campaign.plan_token(),
            total,
            reachable: if self.is_open() { self.served } else { 0 },
            channels: self.ways.iter().zip(&self.verdicts).map(forecast).collect(),
            estimated_seconds: self.campaign.rate_per_second.map(|rate| total.div_ceil(rate.max(1))),
            exclusions: self.exclusions,
            problems: self.problems,
            samples: self.samples,
            checked_at: now,
        }
    }
}
