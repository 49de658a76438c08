//! Deliveries that a driver takes: claimed in one transaction, given to the driver outside of any, recorded in another. What
//! stops between the two is tried again when the lease is over, under the same delivery and with the attempt counted; so a
//! message is doubled only where nobody knows what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::card::{Cards, VersionContent};
use super::{Service, dispatch, template};
use crate::channel::{DELIVERY_TIME_MAX, Driver, Envelope, Outcome};
use crate::failpoint::{Point, hit};
use crate::model::channel::{ChannelType, JsonObject};
use crate::model::delivery::{Counts, DeliveryReason, Reached, Verdict};
use crate::model::id::{AppId, DeliveryId, NotificationId};
use crate::model::notification::NotificationStatus;
use crate::model::notification::step::{PastLine, settle};
use crate::model::retry::backoff;
use crate::model::template::content::compile;
use crate::model::template::course::last_step;
use crate::model::variable::{self, VariableValues};
use crate::model::{Error, Result, Timestamp};
use crate::store::notification::Sending;
use crate::store::outgoing::{self as store, Claimed};
use crate::store::page::PageKey;
use crate::store::{Tx, delivery, notification, page as pages, receiver};

/// Deliveries that are claimed at once.
const BATCH_MAX: u64 = 50;
/// The shortest lease: longer than a driver may take.
const LEASE_MIN: Duration = Duration::from_secs(30);
/// How often a driver is asked for a delivery before it is given up.
const ATTEMPTS_MAX: u32 = 8;
/// What a delivery waits that its driver could not take; after each further time twice as long, up to the most.
const WAIT: Duration = Duration::from_secs(5);
const WAIT_MAX: Duration = Duration::from_secs(10 * 60);

/// One delivery with what its driver is to be given; nothing when there is nothing to give any more.
type Prepared = (Claimed, Option<(ChannelType, Envelope)>);

/// Whether anything here can take deliveries.
#[must_use]
pub fn has_drivers(service: &Service) -> bool {
    !service.settings.drivers.is_empty()
}

/// Takes what waits for drivers to them, of one notification of the app whose turn it is, and says how many deliveries that
/// was.
///
/// # Errors
/// Those of the database. What a driver has taken and could not be recorded is tried again.
pub async fn deliver(service: &Service, now: Timestamp) -> Result<usize> {
    let after = service.pace.last_outgoing();
    let nil: AppId = Uuid::nil().into();
    let claimed = match claim(service, after).await? {
        found if found.is_empty() && after != nil => claim(service, nil).await?,
        found => found,
    };
    let app = claimed.first().map(|(one, _)| one.app);
    service.pace.note_outgoing(app);
    let (Some(app), Some(id)) = (app, claimed.first().map(|(one, _)| one.page.notification)) else {
        return Ok(0);
    };
    hit(Point::BeforeDelivery);
    let outcomes = ask(service, &claimed).await;
    hit(Point::AfterDelivery);
    let (count, settled) = (claimed.len(), record(service, (app, id), outcomes, now).await?);
    hit(Point::OutcomeAfterCommit);
    service.measures.recipients(settled);
    dispatch::complete(service, Some((app, id)), now).await?;
    service.wake.progress();
    Ok(count)
}

async fn claim(service: &Service, after: AppId) -> Result<Vec<Prepared>> {
    let (cards, lease) = (service.cards.clone(), service.settings.dispatching.lease.max(LEASE_MIN));
    let claim = service.store.write_background(move |tx| {
        let cards = cards.clone();
        Box::pin(async move {
            let Some(place) = store::find_ready(tx, after).await? else {
                return Ok(Vec::new());
            };
            // Whoever pauses or cancels the notification waits for this, or this finds that they did.
            let sending = notification::get_sending_shared(tx, place.0, place.1).await?;
            if sending.status != NotificationStatus::Dispatching {
                return Ok(Vec::new());
            }
            let claimed = store::claim_outgoing(tx, place, lease, BATCH_MAX).await?;
            let prepared = prepare(tx, &cards, (place, &sending), claimed).await?;
            hit(Point::ClaimBeforeCommit);
            Ok(prepared)
        })
    });
    claim.await
}

async fn prepare(
    tx: &Tx,
    cards: &Cards,
    (place, sending): ((AppId, NotificationId), &Sending),
    claimed: Vec<Claimed>,
) -> Result<Vec<Prepared>> {
    let (version, _) = template::load_for_page(tx, place.0, cards, sending.copied.version_ref()).await?;
    let mut prepared = Vec::new();
    for one in claimed {
        let line = delivery::find_line(tx, place.0, one.id).await?;
        let recipient = receiver::list_recipients(tx, place, one.seq, one.seq).await?;
        let own = recipient.into_iter().next().map(|recipient| recipient.own);
        let envelope = line.zip(own).map(|((channel_type, address), own)| {
            let envelope = Envelope {
                delivery: one.id,
                attempt: one.attempts,
                address,
                content: content(&version, channel_type, &[&own, &sending.defaults])?,
            };
            Ok::<_, Error>((channel_type, envelope))
        });
        prepared.push((one, envelope.transpose()?));
    }
    Ok(prepared)
}

/// The content for a channel type with values in it.
fn content(version: &VersionContent, channel_type: ChannelType, layers: &[&VariableValues]) -> Result<JsonObject> {
    let mut channels = version.source.channels.iter();
    let channel = channels.find(|channel| channel.channel_type == channel_type);
    let channel = channel.ok_or_else(|| Error::internal(format!("a version has no content for {channel_type}")))?;
    let values = variable::resolve(&version.source.variable_schema, layers).to_values();
    let rendered = compile(channel).and_then(|compiled| compiled.render(&values));
    match rendered.map_err(Error::internal)? {
        Value::Object(content) => Ok(content),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Error::internal("content is not an object"))
        }
    }
}

/// Asks the drivers, all at once: the lease is for as long as one may take, and a slow one holds up no other channel.
async fn ask(service: &Service, claimed: &[Prepared]) -> Vec<(Claimed, Outcome)> {
    let mut by_type: BTreeMap<i16, Vec<(Claimed, Envelope)>> = BTreeMap::new();
    let mut outcomes = Vec::new();
    for (one, envelope) in claimed {
        match envelope {
            Some((channel_type, envelope)) => {
                let of_type = by_type.entry(channel_type.number()).or_default();
                of_type.push((*one, envelope.clone()));
            }
            None => outcomes.push((*one, Outcome::Refused)),
        }
    }
    let asked = by_type.into_iter().map(async |(number, group)| {
        let (claimed, envelopes): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let answers = match service.settings.drivers.get(ChannelType::of_number(number)) {
            Some(driver) => take(driver.as_ref(), &envelopes).await,
            // A node that has it will come by.
            None => Vec::new(),
        };
        let answers = answers.into_iter().chain(std::iter::repeat(Outcome::Retry));
        claimed.into_iter().zip(answers).collect::<Vec<_>>()
    });
    let answered = futures::future::join_all(asked).await;
    outcomes.extend(answered.into_iter().flatten());
    outcomes.sort_by_key(|(one, _)| one.id);
    outcomes
}

async fn take(driver: &dyn Driver, envelopes: &[Envelope]) -> Vec<Outcome> {
    match tokio::time::timeout(DELIVERY_TIME_MAX, driver.deliver(envelopes)).await {
        Ok(outcomes) => outcomes,
        Err(_) => {
            tracing::warn!(?driver, "a driver did not answer in time, and will be asked again");
            Vec::new()
        }
    }
}

async fn record(
    service: &Service,
    place: (AppId, NotificationId),
    outcomes: Vec<(Claimed, Outcome)>,
    now: Timestamp,
) -> Result<Counts> {
    let outcomes = Arc::new(outcomes);
    let record = service.store.write_background(move |tx| {
        let outcomes = Arc::clone(&outcomes);
        Box::pin(async move {
            let seqs: Vec<i64> = outcomes.iter().map(|(one, _)| one.seq).collect();
            store::lock_recipients(tx, place, &seqs).await?;
            let sending = notification::get_sending_shared(tx, place.0, place.1).await?;
            let last = last_step(sending.sequence.as_ref());
            let mut counts: BTreeMap<PageKey, Counts> = BTreeMap::new();
            for (one, outcome) in outcomes.iter() {
                let Some(verdict) = verdict(*outcome, one.attempts) else {
                    let wait = backoff(WAIT, one.attempts, WAIT_MAX);
                    store::release_outgoing(tx, one, wait).await?;
                    continue;
                };
                if !store::record_outgoing(tx, one, &verdict, now).await? {
                    continue;
                }
                let lines = delivery::list_lines(tx, place, last, [one.user]).await?;
                let lines = lines.get(&one.user).map(Vec::as_slice).unwrap_or_default();
                if let Some(reached) = settled(lines, one.id, last) {
                    counts.entry(one.page).or_default().add(reached);
                }
            }
            let mut all = Counts::default();
            for (page, counts) in counts {
                pages::add_counts(tx, place.0, page, counts).await?;
                all = all.plus(counts);
            }
            hit(Point::OutcomeBeforeCommit);
            Ok(all)
        })
    });
    record.await
}

/// What an outcome makes of a delivery; nothing while it is to be tried again.
fn verdict(outcome: Outcome, attempts: u32) -> Option<Verdict> {
    match outcome {
        Outcome::Accepted => Some(Verdict::ACCEPTED),
        Outcome::Refused => Some(Verdict::failed(DeliveryReason::PROVIDER_REFUSED)),
        Outcome::Retry if attempts >= ATTEMPTS_MAX => Some(Verdict::failed(DeliveryReason::PROVIDER_UNAVAILABLE)),
        Outcome::Retry => None,
    }
}

/// What a recipient comes to with a line whose outcome was just recorded.
fn settled(lines: &[PastLine], id: DeliveryId, last: i32) -> Option<Reached> {
    let (new, before): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.id == id);
    let over = lines.iter().any(|line| line.step == last);
    let verdicts = |lines: Vec<&PastLine>| lines.into_iter().map(|line| line.verdict.clone()).collect::<Vec<_>>();
    let (before, new) = (verdicts(before), verdicts(new));
    settle(&before, &new, over)
}
