//! Sequences on their way: who waits for which step, and the pages of a step once its time has come. A wait is written with
//! the step before it and goes with the pages that it becomes, each in one transaction, so no step is lost and none is fired
//! twice. Who gets a step is decided by its pages.

use super::card::VersionContent;
use super::dispatch::rows_at;
use super::{Acting, Service, template};
use crate::failpoint::{Point, hit};
use crate::model::campaign::Campaign;
use crate::model::campaign::sequence::StepMetrics;
use crate::model::id::{AppId, CampaignId, NotificationId};
use crate::model::notification::{NotificationStatus, PlannedRecipient};
use crate::model::slug::Reference;
use crate::model::template::course::Sequence;
use crate::model::{Result, Timestamp};
use crate::store::page::Rest;
use crate::store::{
    Tx, campaign as campaigns, notification, page as pages, sequence as store, template as templates, wait as waits,
};

/// Notifications that are looked at in one step of the duty.
const NOTIFICATIONS_MAX: u64 = 20;
/// Waiting ranges of one notification that become pages in one transaction.
const WAITS_MAX: u64 = 200;

/// Lets those wait for the next step to whom it may come.
pub(super) async fn wait_for_next(
    tx: &Tx,
    place: (AppId, NotificationId),
    (sequence, step): (Option<&Sequence>, i32),
    recipients: &[PlannedRecipient],
    now: Timestamp,
) -> Result<()> {
    let Some(sequence) = sequence else { return Ok(()) };
    let Some(done) = sequence.step(step).filter(|_| step < sequence.last()) else {
        return Ok(());
    };
    let going_on = recipients.iter().filter(|one| one.goes_on(sequence.last()));
    let (mut from, mut to) = (None, None);
    for recipient in going_on {
        from = from.or(Some(recipient.seq));
        to = Some(recipient.seq);
    }
    let (Some(from), Some(to)) = (from, to) else {
        return Ok(());
    };
    let due_at = now.plus(done.window());
    waits::insert_wait(tx, place, step.saturating_add(1), Rest { from, to }, due_at).await
}

/// Cuts the pages of steps whose time has come, of a bounded number of notifications, and says of how many.
///
/// # Errors
/// Those of the database.
pub async fn cut_due(service: &Service, now: Timestamp) -> Result<u64> {
    let page_rows = service.page_rows();
    let (mut cut, mut failed): (u64, _) = (0, None);
    for (app, id, rate) in waits::list_due(service.store.read(), now, NOTIFICATIONS_MAX).await? {
        let rows = rows_at(page_rows, rate);
        let done = service
            .store
            .write_background(move |tx| Box::pin(async move { cut_one(tx, (app, id), rows, now).await }))
            .await;
        match done {
            Ok(true) => {
                hit(Point::CutAfterCommit);
                cut = cut.saturating_add(1);
                service.wake.pages();
            }
            Ok(false) => {}
            // Nobody else waits for it.
            Err(fault) => {
                tracing::warn!(notification.id = %id, cause = %fault, "a step of a sequence cannot be begun");
                failed = Some(fault);
            }
        }
    }
    match failed {
        Some(fault) if cut == 0 => Err(fault),
        Some(_) | None => Ok(cut),
    }
}

/// Whoever pauses or cancels a notification waits for this, or this finds that they did.
async fn cut_one(tx: &Tx, place: (AppId, NotificationId), page_rows: u32, now: Timestamp) -> Result<bool> {
    let sending = notification::get_sending_shared(tx, place.0, place.1).await?;
    if sending.status != NotificationStatus::Dispatching {
        return Ok(false);
    }
    let Some((step, taken)) = waits::take_due(tx, place, now, WAITS_MAX).await? else {
        return Ok(false);
    };
    for recipients in joined(taken) {
        pages::insert_open(tx, place, step, recipients, page_rows).await?;
    }
    hit(Point::CutBeforeCommit);
    Ok(true)
}

/// Ranges in their order, with those that follow each other made into one.
fn joined(ranges: Vec<Rest>) -> Vec<Rest> {
    let mut joined: Vec<Rest> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.to.saturating_add(1) == range.from => last.to = range.to,
            _ => joined.push(range),
        }
    }
    joined
}

/// What each step of a campaign's sequence has come to. A campaign that was not started has the steps that its template
/// has now, and one without a sequence has none.
///
/// # Errors
/// Campaign not found.
pub async fn metrics(service: &Service, acting: &Acting, id: CampaignId) -> Result<Vec<StepMetrics>> {
    let (app, db) = (acting.app()?, service.store.read());
    let campaign = campaigns::get_campaign(db, app, id).await?;
    if campaign.sent_at.is_none() {
        let (content, _) = template::load_now(service, app, campaign.version_ref()).await?;
        let sequence = planned(service, app, &campaign, &content).await?;
        let steps = sequence.iter().flat_map(|sequence| sequence.steps());
        return Ok((1..)
            .zip(steps)
            .map(|(number, step)| StepMetrics::new(number, step))
            .collect());
    }
    store::list_metrics(db, app, campaign.notification_id).await
}

/// The sequence that a campaign with this content would be sent with now.
pub(super) async fn planned(
    service: &Service,
    app: AppId,
    campaign: &Campaign,
    content: &VersionContent,
) -> Result<Option<Sequence>> {
    let reference = Reference::Id(campaign.template_id);
    let template = templates::get_template(service.store.read(), app, &reference).await?;
    Ok(Sequence::of(template.config.as_ref(), &content.source.channels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_follow_each_other_become_one() {
        let range = |from, to| Rest { from, to };
        let ranges = vec![range(1, 4), range(5, 8), range(10, 12), range(13, 13)];
        assert_eq!(joined(ranges), [range(1, 8), range(10, 13)]);
        assert_eq!(joined(Vec::new()), []);
    }
}
