//! The audience of a campaign: who is in it, who may be added, and what stopped whom. What becomes of a recipient is the
//! page's decision; here it is only told.

use std::sync::Arc;

use super::store;
use crate::domain::{Acting, Service, Written, template, user};
use crate::model::campaign::recipient::{
    Added, AudienceMember, Check, CheckResult, NewRecipients, RecipientStatus, Summary,
};
use crate::model::campaign::{Campaign, CampaignStatus};
use crate::model::channel::ChannelType;
use crate::model::delivery::{Delivery, DeliveryReason, DeliveryStatus, Verdict};
use crate::model::id::{AppId, CampaignId};
use crate::model::notification::{ReceiverSort, RecipientOutcome, faults_of, verdict};
use crate::model::page::{Page, PageRequest};
use crate::model::template::SendableChannel;
use crate::model::template::course::{FIRST_STEP, Sequence};
use crate::model::user::{Resolved, Uid};
use crate::model::{Error, Reason, Result, Timestamp};
use crate::store::audience::Joining;
use crate::store::{Connection, Tx, audience, notification, wait};

/// Adds users to the audience of a draft: all of them or none.
///
/// # Errors
/// Campaign not found; invalid state; target limit exceeded.
pub async fn add(service: &Service, acting: &Acting, id: CampaignId, new: NewRecipients) -> Result<Written<Added>> {
    let (app, now) = (acting.app()?, acting.now);
    let (create, most) = (
        service.settings.auto_create_users,
        service.settings.campaigns.recipients_max,
    );
    let again = new.duplicate_count;
    let joining = Arc::new(joining(new)?);
    service
        .write(acting, move |tx| {
            let joining = Arc::clone(&joining);
            Box::pin(async move { add_locked(tx, (app, id), (&joining, again), (create, most), now).await })
        })
        .await
}

fn joining(new: NewRecipients) -> Result<Vec<Joining>> {
    let NewRecipients { uids, mut own, .. } = new;
    let joining = uids.into_iter().map(|uid| {
        let own = own.remove(&uid).unwrap_or_default();
        Joining::new(uid, &own)
    });
    joining.collect()
}

/// Adds users, each of whom is given once, behind the lock of their campaign, numbered on from the last one; and counts how
/// often some of them were named again.
pub(crate) async fn add_locked(
    tx: &Tx,
    (app, id): (AppId, CampaignId),
    (joining, again): (&[Joining], u32),
    (create, most): (bool, u32),
    now: Timestamp,
) -> Result<Added> {
    let campaign = store::get_campaign_locked(tx, app, id).await?;
    campaign.status.check("given recipients", &[CampaignStatus::Draft])?;
    let place = (app, campaign.notification_id);
    let known = audience::look_up(tx, place, joining).await?;
    let fresh = || joining.iter().zip(&known).filter(|(_, known)| !known.is_present);
    let added = u32::try_from(fresh().count()).map_err(Error::internal)?;
    let total = campaign.recipient_count.saturating_add(added);
    if total > most {
        let message = format!("a campaign takes at most {most} recipients, and would have {total}");
        return Err(Error::new(Reason::TargetLimitExceeded, message)
            .with("limit", most)
            .with("received", total));
    }
    let created = match create {
        true => {
            let nobody = fresh().filter(|(_, known)| !known.is_taken).map(|(one, _)| &one.uid);
            user::create_many(tx, app, &nobody.collect::<Vec<_>>(), now).await?
        }
        false => Vec::new(),
    };
    let mut created = created.into_iter();
    let members = fresh().map(|(one, known)| match known.is_taken {
        true => (one, known.user),
        false => (one, created.next().flatten()),
    });
    let members: Vec<_> = members.collect();
    audience::insert_members(tx, place, campaign.recipient_count, &members).await?;
    let present = u32::try_from(joining.len() - members.len()).map_err(Error::internal)?;
    let duplicates = again.saturating_add(present);
    let unknown = members.iter().filter(|(_, user)| user.is_none()).count();
    let counts = (total, campaign.duplicate_count.saturating_add(duplicates));
    store::record_growth(tx, app, id, counts, now).await?;
    Ok(Added {
        added,
        duplicate_count: duplicates,
        unknown_count: u32::try_from(unknown).map_err(Error::internal)?,
        total,
    })
}

/// One page of an audience, perhaps only of those with a status.
///
/// # Errors
/// Campaign not found.
pub async fn list_recipients(
    service: &Service,
    acting: &Acting,
    id: CampaignId,
    status: Option<RecipientStatus>,
    page: &PageRequest<ReceiverSort>,
) -> Result<Page<AudienceMember>> {
    let (app, db) = (acting.app()?, service.store.read());
    let campaign = store::get_campaign(db, app, id).await?;
    let page = page.clone().beside(campaign.notification_id.uuid());
    audience::list_members(db, app, &campaign, status, &page).await
}

/// An audience by what became of it.
///
/// # Errors
/// Campaign not found.
pub async fn summary(service: &Service, acting: &Acting, id: CampaignId) -> Result<Summary> {
    let (app, db) = (acting.app()?, service.store.read());
    let campaign = store::get_campaign(db, app, id).await?;
    store::get_summary(db, app, &campaign).await
}

/// One recipient with every check in the order in which it is made, up to the one that stopped them.
///
/// # Errors
/// Campaign not found; recipient not found.
pub async fn get_recipient(
    service: &Service,
    acting: &Acting,
    id: CampaignId,
    uid: &Uid,
) -> Result<(AudienceMember, Vec<Check>)> {
    let (app, db) = (acting.app()?, service.store.read());
    // The campaign first: what happens to it between two looks is told as if it had not happened yet.
    let campaign = store::get_campaign(db, app, id).await?;
    let found = audience::find_member(db, app, &campaign, uid).await?;
    let Some((member, outcome)) = found else {
        return Err(Error::not_found(Reason::RecipientNotFound, "uid", uid));
    };
    let checks = explain(service, (app, &campaign), (&member, outcome)).await?;
    Ok((member, checks))
}

async fn explain(
    service: &Service,
    (app, campaign): (AppId, &Campaign),
    (member, outcome): (&AudienceMember, RecipientOutcome),
) -> Result<Vec<Check>> {
    use RecipientStatus as Status;
    let served = matches!(member.status, Status::Completed | Status::Failed);
    let uids = [member.uid.clone()].into_iter().collect();
    let now = user::look_up(service, app, uids).await?.remove(&member.uid);
    let known = match outcome {
        RecipientOutcome::Planned if !served => RecipientOutcome::of(now.unwrap_or(Resolved::Unknown)),
        stored => stored,
    };
    let mut checks = Vec::new();
    for (name, stopped_by) in [
        ("user_known", RecipientOutcome::UnknownUser),
        ("user_active", RecipientOutcome::UserDeactivated),
    ] {
        if known == stopped_by {
            checks.push(Check::new(name, CheckResult::Failed).because(&known));
            return Ok(checks);
        }
        checks.push(Check::new(name, CheckResult::Passed));
    }
    let (content, ways) = template::load_now(service, app, campaign.version_ref()).await?;
    let schema = &content.source.variable_schema;
    let faults = faults_of(&member.variables, &campaign.variables, schema, &content.compiled);
    if !faults.is_empty() {
        let problems = faults.iter().map(|fault| (fault.field.clone(), fault.problem()));
        let failed = Check::new("variables_valid", CheckResult::Failed).because(&DeliveryReason::INVALID_VARIABLES);
        checks.push(Check {
            problems: problems.collect(),
            ..failed
        });
        return Ok(checks);
    }
    checks.push(Check::new("variables_valid", CheckResult::Passed));
    let started = of_start(campaign);
    let stopped = started.result == CheckResult::Failed;
    checks.push(started);
    if stopped {
        return Ok(checks);
    }
    checks.push(of_turn(campaign, member));
    if member.status == Status::Cancelled {
        return Ok(checks);
    }
    checks.extend(
        match look_at_sequence(service.store.read(), (app, campaign), member).await? {
            Some((sequence, due_at)) => of_steps(&sequence, (campaign, &ways), member, due_at),
            None => of_ways(&ways, member, served),
        },
    );
    Ok(checks)
}

/// Whether the campaign was started, or came to its end before it could be.
fn of_start(campaign: &Campaign) -> Check {
    let check = |result| Check::new("campaign_started", result);
    match (campaign.sent_at, campaign.status.is_final()) {
        (Some(at), _) => check(CheckResult::Passed).at(Some(at)),
        (None, true) => check(CheckResult::Failed)
            .because(&campaign.status)
            .at(campaign.completed_at),
        (None, false) => check(CheckResult::Pending).because(&campaign.status),
    }
}

/// Whether it has come to the recipient, which it had when the first line was written for them.
fn of_turn(campaign: &Campaign, member: &AudienceMember) -> Check {
    let written = member.deliveries.iter().filter_map(|line| line.created_at);
    let check = |result| Check::new("reached", result);
    match member.status {
        RecipientStatus::Completed | RecipientStatus::Failed => check(CheckResult::Passed).at(written.min()),
        RecipientStatus::Cancelled => check(CheckResult::Failed)
            .because(&"campaign_cancelled")
            .at(campaign.completed_at),
        RecipientStatus::Pending | RecipientStatus::Processing => check(CheckResult::Pending),
    }
}

/// What was looked at for each way out, all of which are served at once.
fn of_ways(ways: &[SendableChannel], member: &AudienceMember, served: bool) -> Vec<Check> {
    let mut checks = Vec::new();
    for way in ways {
        let channel_type = way.content.channel_type;
        let told = member.deliveries.iter().find(|one| one.channel_type == channel_type);
        let verdict = told.map_or_else(|| verdict(way), |delivery| delivery.verdict.clone());
        let known = served || verdict != Verdict::ACCEPTED;
        checks.push(of_channel("channel_open", (channel_type, told), &verdict, known));
        if matches!(verdict.status, DeliveryStatus::Accepted | DeliveryStatus::Queued) {
            checks.push(of_channel("delivered", (channel_type, told), &verdict, served));
        }
    }
    checks
}

/// The sequence of a campaign, and when the next step may come to a recipient who waits for it.
async fn look_at_sequence(
    db: &impl Connection,
    (app, campaign): (AppId, &Campaign),
    member: &AudienceMember,
) -> Result<Option<(Sequence, Option<Timestamp>)>> {
    if campaign.sent_at.is_none() {
        return Ok(None);
    }
    let place = (app, campaign.notification_id);
    let shape = match notification::get_shape(db, place.0, place.1).await {
        Err(gone) if gone.reason() == Reason::NotificationNotFound => return Ok(None),
        found => found?,
    };
    let Some(sequence) = shape.sequence else {
        return Ok(None);
    };
    let due_at = wait::find_wait(db, place, i64::from(member.position)).await?;
    Ok(Some((sequence, due_at)))
}

/// What was looked at for each step of a sequence, up to the one that the recipient waits for.
fn of_steps(
    sequence: &Sequence,
    (campaign, ways): (&Campaign, &[SendableChannel]),
    member: &AudienceMember,
    due_at: Option<Timestamp>,
) -> Vec<Check> {
    let mut checks = Vec::new();
    for (number, step) in (FIRST_STEP..).zip(sequence.steps()) {
        let channel_type = step.channel_type;
        let told = member.deliveries.iter().find(|one| one.channel_type == channel_type);
        let reason = told.and_then(|delivery| delivery.verdict.reason.as_ref());
        let stopped = reason.filter(|reason| **reason == DeliveryReason::SEQUENCE_STOPPED);
        if number > FIRST_STEP {
            let due = match (told, stopped) {
                (None, _) if campaign.status == CampaignStatus::Cancelled => {
                    Check::new("step_due", CheckResult::Failed)
                        .because(&"campaign_cancelled")
                        .at(campaign.completed_at)
                }
                (None, _) => Check::new("step_due", CheckResult::Pending).at(due_at),
                (Some(line), Some(reason)) => Check::new("step_due", CheckResult::Failed)
                    .because(reason)
                    .at(line.created_at),
                (Some(line), None) => Check::new("step_due", CheckResult::Passed).at(line.created_at),
            };
            checks.push(Check {
                channel_type: Some(channel_type),
                ..due
            });
        }
        let verdict = match told {
            Some(delivery) if stopped.is_none() => delivery.verdict.clone(),
            Some(_) => break,
            // Only of the first step it is known that it will come.
            None if number > FIRST_STEP => break,
            None => match ways.iter().find(|way| way.content.channel_type == channel_type) {
                Some(way) => verdict(way),
                None => break,
            },
        };
        checks.push(of_channel("channel_open", (channel_type, told), &verdict, true));
        if verdict.status != DeliveryStatus::Suppressed {
            checks.push(of_channel("delivered", (channel_type, told), &verdict, told.is_some()));
        }
    }
    checks
}

fn of_channel(
    name: &'static str,
    (channel_type, told): (ChannelType, Option<&Delivery>),
    verdict: &Verdict,
    known: bool,
) -> Check {
    let result = match verdict.status {
        DeliveryStatus::Accepted if known || name == "channel_open" => CheckResult::Passed,
        DeliveryStatus::Queued if name == "channel_open" => CheckResult::Passed,
        DeliveryStatus::Accepted | DeliveryStatus::Queued => CheckResult::Pending,
        DeliveryStatus::Failed | DeliveryStatus::Suppressed | DeliveryStatus::Unknown(_) => CheckResult::Failed,
    };
    let found_at = told.and_then(|line| match (name, result) {
        (_, CheckResult::Pending) => None,
        ("channel_open", CheckResult::Passed) => line.created_at,
        _ => line.updated_at,
    });
    Check {
        channel_type: Some(channel_type),
        reason: verdict.reason.as_ref().map(ToString::to_string),
        ..Check::new(name, result).at(found_at)
    }
}
