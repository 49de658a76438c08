//! What would become of an audience if its campaign were sent now: the same looks that a page takes, without writing, and
//! without the writer. The audience is read in parts, so memory does not grow with it, and it ends between two of them when
//! whoever asked has gone away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{Campaign, CampaignStatus, store};
use crate::domain::card::{VersionContent, shown};
use crate::domain::measure::Held;
use crate::domain::{Acting, Service, Written, sequence, template, user};
use crate::model::campaign::preflight::{
    ChannelForecast, PROBLEMS_MAX, PROBLEMS_OF_ONE_MAX, Preflight, RecipientProblems, SAMPLES_MAX, Sample,
};
use crate::model::channel::ChannelType;
use crate::model::delivery::DeliveryReason;
use crate::model::delivery::{DeliveryStatus, Verdict};
use crate::model::id::{AppId, CampaignId};
use crate::model::notification::{RecipientOutcome, faults_of, values_of, verdict};
use crate::model::template::SendableChannel;
use crate::model::template::course::Sequence;
use crate::model::user::Resolved;
use crate::model::variable::VariableValues;
use crate::model::{Error, Reason, Result, Timestamp};
use crate::store::receiver::{self, Recipient};

/// Recipients that are read at once.
const PART: i64 = 1_000;
/// Audiences of one app that this process goes through at once: each keeps a processor busy.
pub const AT_ONCE_MAX: usize = 4;
/// How long one more waits for its turn. Those of small audiences are over by then.
const TURN_WAIT_MAX: Duration = Duration::from_secs(1);
/// When to come back: an audience of a million takes longer than this, and most are smaller.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Goes through the audience of a draft or a scheduled campaign.
///
/// # Errors
/// Those of [`Survey::begin`] and [`Survey::go_on`].
pub async fn preflight(service: &Service, acting: &Acting, id: CampaignId) -> Result<Written<Preflight>> {
    if let Some(value) = service.answered(acting).await? {
        return Ok(Written { value, replayed: true });
    }
    let mut survey = Survey::begin(service, acting, id).await?;
    while survey.go_on().await? {}
    let found = survey.end();
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

/// Whose turn it is to go through an audience, of each app.
#[derive(Debug, Default)]
pub(in crate::domain) struct Turns(Mutex<BTreeMap<AppId, Arc<Semaphore>>>);

impl Turns {
    async fn take(&self, app: AppId) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // An app that nobody works or waits for is forgotten, so that there are never more than calls.
            all.retain(|_, turns| Arc::strong_count(turns) > 1);
            let turns = all.entry(app).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE_MAX)));
            Arc::clone(turns)
        };
        timeout(TURN_WAIT_MAX, turns.acquire_owned()).await.ok()?.ok()
    }
}

fn too_many() -> Error {
    let seconds = RETRY_AFTER.as_secs();
    let problem =
        format!("the app goes through {AT_ONCE_MAX} audiences already, which is all at once, retry after {seconds} s");
    Error::new(Reason::TooManyRequests, problem)
        .with("limit", AT_ONCE_MAX)
        .with("retryAfterSeconds", seconds)
        .retry_after(RETRY_AFTER)
}

/// A look through an audience, a part at a time. It holds nothing but its turn, so dropping it ends it.
pub struct Survey {
    service: Service,
    app: AppId,
    /// The number of the first recipient that was not looked at.
    next: i64,
    look: Look,
    now: Timestamp,
    _running: (OwnedSemaphorePermit, Held),
}

impl Survey {
    /// Begins with the audience of a draft or a scheduled campaign.
    ///
    /// # Errors
    /// Campaign not found; invalid state; too many requests.
    pub async fn begin(service: &Service, acting: &Acting, id: CampaignId) -> Result<Self> {
        let (app, now) = (acting.app()?, acting.now);
        let campaign = store::get_campaign(service.store.read(), app, id).await?;
        let allowed = [CampaignStatus::Draft, CampaignStatus::Scheduled];
        campaign.status.check("checked", &allowed)?;
        let Some(turn) = service.preflights.take(app).await else {
            service.measures.refused_preflight();
            return Err(too_many());
        };
        let (content, ways) = template::load_now(service, app, campaign.version_ref()).await?;
        let sequence = sequence::planned(service, app, &campaign, &content).await?;
        Ok(Self {
            service: service.clone(),
            app,
            next: 1,
            look: Look::new(campaign, sequence.as_ref(), ways, content),
            now,
            _running: (turn, service.measures.run_preflight()),
        })
    }

    /// Recipients that were looked at.
    #[must_use]
    pub fn checked(&self) -> u32 {
        u32::try_from(self.next.saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// The recipients.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.look.campaign.recipient_count
    }

    /// Looks at the next part, and says whether there are more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn go_on(&mut self) -> Result<bool> {
        let last = i64::from(self.total());
        if self.next > last {
            return Ok(false);
        }
        let to = self.next.saturating_add(PART).saturating_sub(1).min(last);
        let (app, db) = (self.app, self.service.store.read());
        let place = (app, self.look.campaign.notification_id);
        let part = receiver::list_recipients(db, place, self.next, to).await?;
        let uids = part.iter().map(|one| one.uid.clone()).collect();
        let users = user::look_up(&self.service, app, uids).await?;
        for recipient in &part {
            // Who was nobody when they were added stays so.
            let now = users
                .get(&recipient.uid)
                .copied()
                .filter(|_| recipient.user != Resolved::Unknown);
            self.look.take(recipient, now.unwrap_or(Resolved::Unknown))?;
        }
        self.next = to.saturating_add(1);
        Ok(to < last)
    }

    /// What was found.
    #[must_use]
    pub fn end(self) -> Preflight {
        self.look.end(self.now)
    }
}

/// A channel type that is to be served.
struct Way {
    channel: SendableChannel,
    /// The number of the step that goes through it, in a sequence.
    step: Option<i32>,
    /// What becomes of deliveries there.
    verdict: Verdict,
}

impl Way {
    /// Whether it takes what is sent.
    const fn is_open(&self) -> bool {
        matches!(self.verdict.status, DeliveryStatus::Accepted | DeliveryStatus::Queued)
    }

    const fn is_in_app(&self) -> bool {
        matches!(self.channel.content.channel_type, ChannelType::InApp)
    }
}

/// What was found so far.
struct Look {
    campaign: Campaign,
    ways: Vec<Way>,
    content: Arc<VersionContent>,
    /// Whether those without values of their own are at fault, which is the same for all of them.
    common: Option<bool>,
    served: u32,
    exclusions: BTreeMap<String, u32>,
    problems: Vec<RecipientProblems>,
    samples: Vec<Sample>,
}

impl Look {
    fn new(
        campaign: Campaign,
        sequence: Option<&Sequence>,
        ways: Vec<SendableChannel>,
        content: Arc<VersionContent>,
    ) -> Self {
        let ways = ways.into_iter().map(|channel| Way {
            step: sequence.and_then(|sequence| sequence.number(channel.content.channel_type)),
            verdict: verdict(&channel),
            channel,
        });
        let mut ways: Vec<_> = ways.collect();
        ways.sort_by_key(|way| way.step);
        Self {
            campaign,
            ways,
            content,
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
            let in_app = self.ways.iter().any(Way::is_in_app);
            self.samples.push(Sample {
                uid: recipient.uid.clone(),
                content: in_app.then(|| shown(&self.content.compiled, &values)).transpose()?,
            });
        }
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.ways.iter().any(Way::is_open)
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
                position: u32::try_from(recipient.seq).map_err(Error::internal)?,
                problems: named.map(|fault| (fault.field.clone(), fault.problem())).collect(),
            });
        }
        Ok(!faults.is_empty())
    }

    fn end(self, now: Timestamp) -> Preflight {
        let forecast = |way: &Way| ChannelForecast {
            channel_type: way.channel.content.channel_type,
            step: way.step,
            deliveries: if way.is_open() { self.served } else { 0 },
            reason: way.verdict.reason.as_ref().map(ToString::to_string),
        };
        let total = self.campaign.recipient_count;
        Preflight {
            plan_token: self.campaign.plan_token(),
            total,
            reachable: if self.is_open() { self.served } else { 0 },
            channels: self.ways.iter().map(forecast).collect(),
            estimated_seconds: self.campaign.rate_per_second.map(|rate| total.div_ceil(rate.max(1))),
            exclusions: self.exclusions,
            problems: self.problems,
            samples: self.samples,
            checked_at: now,
        }
    }
}
