//! What sets a campaign going, holds it and ends it. It never looks at a recipient: that is the page's.
//!
//! Whoever holds or cancels a campaign says so on its lane first, in a transaction of its own, so that no new page begins;
//! then it changes the notification, for which it waits until the pages that have begun are over. Behind its answer nothing
//! new appears.

use std::sync::Arc;

use super::{CampaignLimits, change, record};
use crate::domain::card::Cards;
use crate::domain::dispatch::rows_at;
use crate::domain::{Acting, Service, Written, template};
use crate::failpoint::{Point, hit};
use crate::model::campaign::{Campaign, CampaignStatus, CampaignView};
use crate::model::delivery::Counts;
use crate::model::id::{AppId, CampaignId, NotificationId};
use crate::model::import::ImportJob;
use crate::model::notification::{Copied, Notification, NotificationStatus, SendMode, check_ways, data_type};
use crate::model::slug::Reference;
use crate::model::template::course::FIRST_STEP;
use crate::model::{Error, Origin, Reason, Result, Timestamp};
use crate::store::lane::{self as lanes, Priority};
use crate::store::page::Rest;
use crate::store::{
    Tx, campaign as store, import as imports, notification as notifications, page as pages, wait as waits,
};

/// Campaigns that are looked at in one step of a duty.
const STEP_MAX: u64 = 20;

/// Starts a campaign now.
///
/// # Errors
/// Campaign not found; invalid state; precondition failed; template not approved.
pub async fn send(
    service: &Service,
    acting: &Acting,
    (id, etag): (CampaignId, Option<String>),
    plan_token: Option<String>,
) -> Result<Written<CampaignView>> {
    let (now, page_rows, origin) = (acting.now, service.page_rows(), acting.origin.clone());
    let cards = service.cards.clone();
    let sent = change(service, acting, (id, etag), move |tx, app, campaign| {
        let (plan_token, origin, cards) = (plan_token.clone(), origin.clone(), cards.clone());
        Box::pin(async move {
            check_startable(&campaign, "sent")?;
            check_imported(tx, app, &campaign, "sent").await?;
            campaign.check_plan(plan_token.as_deref())?;
            let started = start(tx, (app, &cards), (campaign, &origin), (page_rows, now)).await?;
            hit(Point::StartBeforeCommit);
            Ok(started)
        })
    })
    .await?;
    if !sent.replayed {
        hit(Point::StartAfterCommit);
        service.measures.sent(SendMode::Campaign, false, Counts::default());
    }
    service.wake.pages();
    Ok(sent)
}

/// Lets a campaign pass that can be started: now or later.
pub(super) fn check_startable(campaign: &Campaign, what: &str) -> Result<()> {
    let startable = [CampaignStatus::Draft, CampaignStatus::Scheduled];
    campaign.status.check(what, &startable)?;
    if campaign.recipient_count == 0 {
        let message = format!("a campaign without recipients cannot be {what}: add some first");
        return Err(Error::new(Reason::InvalidState, message)
            .with("state", format!("{} without recipients", campaign.status))
            .with("allowed", "a campaign with recipients"));
    }
    Ok(())
}

/// Lets a campaign pass into which nothing is being imported any more. The caller holds its row, behind which imports begin.
pub(super) async fn check_imported(tx: &Tx, app: AppId, campaign: &Campaign, what: &str) -> Result<()> {
    let is_open = imports::has_open(tx, app, campaign.id).await?;
    ImportJob::check_over(is_open, what)
}

/// Makes the notification of a campaign and cuts its audience into pages. Whatever is refused is refused before anything is
/// written.
async fn start(
    tx: &Tx,
    (app, cards): (AppId, &Cards),
    (campaign, origin): (Campaign, &Origin),
    (page_rows, now): (u32, Timestamp),
) -> Result<Campaign> {
    let named = (Reference::Id(campaign.template_id), Some(campaign.template_version));
    let ready = template::load_approved(tx, app, cards, named).await?;
    let template = Arc::clone(&ready.template);
    check_ways(&template.channels)?;
    template::record_uses(tx, app, [&ready].into_iter(), now).await?;
    let notification = Notification {
        id: campaign.notification_id,
        copied: Copied::from(&*template),
        tag: campaign.tag.clone(),
        mode: SendMode::Campaign,
        status: NotificationStatus::Dispatching,
        channels: campaign.channels.clone(),
        sequence: template.sequence.clone(),
        data_type: data_type(&template.channels),
        total: campaign.recipient_count,
        counts: Counts::default(),
        duplicate_count: campaign.duplicate_count,
        receivers: Vec::new(),
        completed_at: None,
        created_at: now,
        campaign_id: Some(campaign.id),
    };
    notifications::insert_notifications(tx, app, [(&notification, &campaign.variables, origin)]).await?;
    let all = Rest {
        from: 1,
        to: i64::from(campaign.recipient_count),
    };
    let rows = rows_at(page_rows, campaign.rate_per_second);
    let place = (app, notification.id);
    pages::insert_open(tx, place, FIRST_STEP, all, rows).await?;
    lanes::insert_lane(tx, place, Priority::Campaign, campaign.rate_per_second, now).await?;
    Ok(Campaign {
        status: CampaignStatus::Sending,
        sent_at: Some(now),
        misfired_at: None,
        ..campaign
    })
}

/// Starts the campaigns whose time has come, a bounded number of them, and says how many it dealt with. One that cannot be
/// sent ends there; one that is too late waits.
///
/// # Errors
/// Those of the database.
pub async fn fire_due(service: &Service, now: Timestamp) -> Result<u64> {
    let due = store::list_due(service.store.read(), now, STEP_MAX).await?;
    if !due.is_empty() {
        hit(Point::DueFound);
    }
    let (limits, page_rows) = (service.settings.campaigns, service.page_rows());
    let mut fired = Done::default();
    for (app, id) in due {
        let cards = service.cards.clone();
        let one = service
            .store
            .write_background(move |tx| {
                let cards = cards.clone();
                Box::pin(async move { fire(tx, (app, id, &cards), (limits, page_rows), now).await })
            })
            .await;
        if fired.take(id, one) {
            hit(Point::FireAfterCommit);
        }
        service.wake.pages();
    }
    fired.count()
}

/// How many of several campaigns something was done about. One that something is wrong with keeps nobody else waiting.
#[derive(Default)]
struct Done {
    count: u64,
    failed: Option<Error>,
}

impl Done {
    /// Takes what became of one, and says whether anything was done.
    fn take(&mut self, id: CampaignId, one: Result<bool>) -> bool {
        match one {
            Ok(done) => {
                self.count = self.count.saturating_add(u64::from(done));
                done
            }
            Err(fault) => {
                tracing::warn!(campaign.id = %id, cause = %fault, "a campaign can be neither started nor ended");
                self.failed = Some(fault);
                false
            }
        }
    }

    /// An error where there was nothing else.
    fn count(self) -> Result<u64> {
        match self.failed {
            Some(fault) if self.count == 0 => Err(fault),
            Some(_) | None => Ok(self.count),
        }
    }
}

/// Decides about one campaign whose time has come; tells whether there was anything to decide. It looks again behind the
/// lock, because another process may have come first.
async fn fire(
    tx: &Tx,
    (app, id, cards): (AppId, CampaignId, &Cards),
    (limits, page_rows): (CampaignLimits, u32),
    now: Timestamp,
) -> Result<bool> {
    let campaign = match store::get_campaign_locked(tx, app, id).await {
        Err(gone) if gone.reason() == Reason::CampaignNotFound => return Ok(false),
        found => found?,
    };
    let due = campaign.status == CampaignStatus::Scheduled && campaign.misfired_at.is_none();
    let Some(at) = campaign.scheduled_at.filter(|at| due && *at <= now) else {
        return Ok(false);
    };
    let read = campaign.version;
    let changed = if at.plus(limits.misfire_grace) < now {
        tracing::warn!(campaign.id = %id, scheduled_at = %at, "a campaign was found too late and waits");
        Campaign {
            misfired_at: Some(now),
            ..campaign
        }
    } else {
        match start(
            tx,
            (app, cards),
            (campaign.clone(), &Origin::default()),
            (page_rows, now),
        )
        .await
        {
            Ok(started) => started,
            Err(refusal) if is_refusal(&refusal) => failed(campaign, &refusal, now),
            Err(fault) => return Err(fault),
        }
    };
    record(tx, app, (read, changed), now).await?;
    hit(Point::FireBeforeCommit);
    Ok(true)
}

/// Whether a campaign can be told that it cannot be sent; anything else passes by itself or is a fault of the program.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.reason(),
        Reason::TemplateNotApproved | Reason::TemplateNotFound | Reason::InvalidState | Reason::BadRequest
    )
}

fn failed(campaign: Campaign, refusal: &Error, now: Timestamp) -> Campaign {
    tracing::warn!(campaign.id = %campaign.id, cause = %refusal, "a campaign could not be sent at its time");
    Campaign {
        status: CampaignStatus::Failed,
        failure: Some(refusal.reason().word().to_owned()),
        completed_at: Some(now),
        result: Some((0, 0)),
        ..campaign
    }
}

/// Makes campaigns final whose notifications are, a bounded number of them or that of the one that is named, and says how
/// many.
///
/// # Errors
/// Those of the database.
pub async fn finish(service: &Service, only: Option<(AppId, NotificationId)>, now: Timestamp) -> Result<u64> {
    let db = service.store.read();
    let done = match only {
        Some((app, id)) => {
            let of = store::find_done(db, app, id).await?;
            of.map(|id| (app, id)).into_iter().collect()
        }
        None => store::list_done(db, STEP_MAX).await?,
    };
    let mut finished = Done::default();
    for (app, id) in done {
        let one = service
            .store
            .write_background(move |tx| Box::pin(async move { finish_one(tx, app, id, now).await }))
            .await;
        finished.take(id, one);
    }
    finished.count()
}

async fn finish_one(tx: &Tx, app: AppId, id: CampaignId, now: Timestamp) -> Result<bool> {
    let campaign = match store::get_campaign_locked(tx, app, id).await {
        Err(gone) if gone.reason() == Reason::CampaignNotFound => return Ok(false),
        found => found?,
    };
    let progress = notifications::get_progress(tx, app, campaign.notification_id).await?;
    if campaign.status != CampaignStatus::Sending || !progress.status.is_final() {
        return Ok(false);
    }
    let counts = progress.counts;
    let ended = Campaign {
        status: CampaignStatus::of(counts),
        completed_at: progress.completed_at.or(Some(now)),
        result: Some((counts.sent, counts.failed.saturating_add(counts.skipped))),
        ..campaign
    };
    lanes::delete_lane(tx, app, ended.notification_id).await?;
    record(tx, app, (ended.version, ended), now).await?;
    hit(Point::CampaignBeforeCommit);
    Ok(true)
}

/// Holds a campaign that is being sent.
///
/// # Errors
/// Campaign not found; invalid state; precondition failed.
pub async fn pause(
    service: &Service,
    acting: &Acting,
    id: CampaignId,
    etag: Option<String>,
) -> Result<Written<CampaignView>> {
    // A repeat is answered as the first time, whatever the campaign is by now, and holds nothing.
    if let Some(value) = service.answered(acting).await? {
        return Ok(Written { value, replayed: true });
    }
    let now = acting.now;
    let pausable = [CampaignStatus::Sending, CampaignStatus::Paused];
    intend_to_hold(service, acting, (id, etag.as_deref()), ("paused", &pausable)).await?;
    change(service, acting, (id, etag), move |tx, app, campaign| {
        Box::pin(async move {
            campaign.status.check("paused", &pausable)?;
            let (from, to) = ([NotificationStatus::Dispatching], NotificationStatus::Paused);
            let place = (app, campaign.notification_id);
            if campaign.status == CampaignStatus::Paused {
                return Ok(campaign);
            }
            if !notifications::move_notification(tx, place, &from, to, None).await? {
                return Err(is_done("paused"));
            }
            // Somebody may have gone on meanwhile, or the intent was given up: workers would find a lane with nothing to do.
            lanes::hold_lane(tx, place, true, now).await?;
            hit(Point::PauseBeforeCommit);
            Ok(Campaign {
                status: CampaignStatus::Paused,
                ..campaign
            })
        })
    })
    .await
}

/// Goes on with a paused campaign.
///
/// # Errors
/// Campaign not found; invalid state; precondition failed.
pub async fn resume(
    service: &Service,
    acting: &Acting,
    id: CampaignId,
    etag: Option<String>,
) -> Result<Written<CampaignView>> {
    let now = acting.now;
    let resumed = change(service, acting, (id, etag), move |tx, app, campaign| {
        Box::pin(async move {
            let resumable = [CampaignStatus::Paused, CampaignStatus::Sending];
            campaign.status.check("resumed", &resumable)?;
            if campaign.status == CampaignStatus::Sending {
                return Ok(campaign);
            }
            let (from, to) = ([NotificationStatus::Paused], NotificationStatus::Dispatching);
            let place = (app, campaign.notification_id);
            notifications::move_notification(tx, place, &from, to, None).await?;
            lanes::hold_lane(tx, place, false, now).await?;
            hit(Point::ResumeBeforeCommit);
            Ok(Campaign {
                status: CampaignStatus::Sending,
                ..campaign
            })
        })
    })
    .await?;
    service.wake.pages();
    Ok(resumed)
}

/// Ends a campaign for good.
///
/// # Errors
/// Campaign not found; invalid state; precondition failed.
pub async fn cancel(
    service: &Service,
    acting: &Acting,
    id: CampaignId,
    etag: Option<String>,
) -> Result<Written<CampaignView>> {
    // A repeat is answered as the first time, whatever the campaign is by now, and holds nothing.
    if let Some(value) = service.answered(acting).await? {
        return Ok(Written { value, replayed: true });
    }
    let cancellable = [
        CampaignStatus::Draft,
        CampaignStatus::Scheduled,
        CampaignStatus::Sending,
        CampaignStatus::Paused,
        CampaignStatus::Cancelled,
    ];
    let now = acting.now;
    intend_to_hold(service, acting, (id, etag.as_deref()), ("cancelled", &cancellable)).await?;
    let cancelled = change(service, acting, (id, etag), move |tx, app, campaign| {
        Box::pin(async move {
            campaign.status.check("cancelled", &cancellable)?;
            if campaign.status == CampaignStatus::Cancelled {
                return Ok(campaign);
            }
            let result = if campaign.sent_at.is_some() {
                end_notification(tx, (app, campaign.notification_id), now).await?;
                let counts = store::get_result(tx, app, &campaign).await?;
                hit(Point::CancelBeforeCommit);
                (counts.sent, counts.failed.saturating_add(counts.skipped))
            } else {
                (0, 0)
            };
            Ok(Campaign {
                status: CampaignStatus::Cancelled,
                completed_at: Some(now),
                result: Some(result),
                ..campaign
            })
        })
    })
    .await?;
    service.wake.progress();
    Ok(cancelled)
}

async fn end_notification(tx: &Tx, place: (AppId, NotificationId), now: Timestamp) -> Result<()> {
    let (from, to) = (
        [NotificationStatus::Dispatching, NotificationStatus::Paused],
        NotificationStatus::Cancelled,
    );
    if !notifications::move_notification(tx, place, &from, to, Some(now)).await? {
        return Err(is_done("cancelled"));
    }
    // Nobody waits for a further step any more; behind the lock of the notification none is cut meanwhile.
    waits::delete_waits(tx, place.0, place.1).await?;
    lanes::delete_lane(tx, place.0, place.1).await
}

/// Lets no new page of a campaign begin, in a transaction of its own. If the call that wants it goes no further, the lane is
/// opened again after a while.
async fn intend_to_hold(
    service: &Service,
    acting: &Acting,
    (id, etag): (CampaignId, Option<&str>),
    (what, allowed): (&str, &[CampaignStatus]),
) -> Result<()> {
    let (app, now) = (acting.app()?, acting.now);
    let campaign = store::get_campaign(service.store.read(), app, id).await?;
    campaign.version.check(etag)?;
    campaign.status.check(what, allowed)?;
    if campaign.status != CampaignStatus::Sending {
        return Ok(());
    }
    let place = (app, campaign.notification_id);
    service
        .store
        .write(move |tx| Box::pin(async move { lanes::hold_lane(tx, place, true, now).await }))
        .await?;
    hit(Point::HoldIntended);
    Ok(())
}

/// That the last recipient was dealt with before a campaign could be held.
fn is_done(what: &str) -> Error {
    let message = format!("the last recipient was dealt with before the campaign could be {what}");
    Error::new(Reason::InvalidState, message)
        .with("state", "sending, with no recipient left")
        .with("allowed", "a campaign that has recipients left")
}
