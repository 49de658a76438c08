//! Pages of a sequence's later steps: who gets the step, and for whom the sequence ends. Everything that decides it is in the
//! ledger and the feeds by the time a page is cut, so it does not matter when and by whom the page is done. Only a mark that was
//! made in the last moment and still waits to be written then comes too late, and its step is sent.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::user;
use crate::model::channel::ChannelType;
use crate::model::delivery::DeliveryStatus;
use crate::model::id::{AppId, DeliveryId, FeedItemId, NotificationId, UserId};
use crate::model::notification::step::{Fate, PastLine, fate, lines_of};
use crate::model::notification::{PlannedRecipient, RecipientOutcome};
use crate::model::template::SendableChannel;
use crate::model::template::course::{Marks, Sequence};
use crate::model::user::Resolved;
use crate::model::variable::VariableValues;
use crate::model::{Error, Result, Timestamp};
use crate::store::page::{Leased, Rest};
use crate::store::receiver::{self, Recipient};
use crate::store::{Tx, delivery, feed, outgoing};

/// Plans a part of a page for those to whom something happens. `values` gives what content is rendered with.
///
/// # Errors
/// Those of the database; internal, when the notification has no such step.
pub(super) async fn plan(
    tx: &Tx,
    (page, rest): (&Leased, Rest),
    (sequence, ways): (&Sequence, &[SendableChannel]),
    values: impl Fn(&Recipient) -> VariableValues + Send,
    now: Timestamp,
) -> Result<Vec<PlannedRecipient>> {
    let (place, step) = ((page.app, page.key.notification), page.key.step());
    let recipients = receiver::list_recipients(tx, place, rest.from, rest.to).await?;
    let served: Vec<_> = recipients.into_iter().filter_map(served).collect();
    let lines = lines(tx, place, sequence.last(), &served).await?;
    let marks = marks(tx, place.0, (sequence, step), &lines).await?;
    let present = user::look_up_shared(tx, place.0, served.iter().map(|(one, _)| one.uid.clone()).collect()).await?;
    let mut planned = Vec::new();
    for (recipient, user) in served {
        let past = lines.get(&user).map(Vec::as_slice).unwrap_or_default();
        let before = past.iter().find(|line| line.step == step.saturating_sub(1));
        let marks = before.and_then(|line| marks.get(&line.id));
        let now_is = present.get(&recipient.uid).copied().unwrap_or(Resolved::Unknown);
        let fate = fate(past, (sequence, step), marks, now_is);
        if fate == Fate::Idle {
            continue;
        }
        planned.push(PlannedRecipient {
            seq: recipient.seq,
            user: Resolved::Active(user),
            outcome: RecipientOutcome::Planned,
            values: values(&recipient),
            before: past.iter().map(|line| line.verdict.clone()).collect(),
            lines: lines_of(&fate, (sequence, step), ways, now),
            uid: recipient.uid,
        });
    }
    Ok(planned)
}

/// A recipient that the first step has come to, as the user that they were then.
fn served(recipient: Recipient) -> Option<(Recipient, UserId)> {
    match recipient.user {
        Resolved::Active(user) => Some((recipient, user)),
        Resolved::Deactivated(_) | Resolved::Unknown => None,
    }
}

/// What the ledger says of recipients. Of those for whom a driver still has something, nobody can record an outcome until
/// this page is over, or both would count them.
async fn lines(
    tx: &Tx,
    place: (AppId, NotificationId),
    last: i32,
    served: &[(Recipient, UserId)],
) -> Result<BTreeMap<UserId, Vec<PastLine>>> {
    let users = || served.iter().map(|(_, user)| *user);
    let lines = delivery::list_lines(tx, place, last, users()).await?;
    let is_open = |line: &PastLine| line.verdict.status == DeliveryStatus::Queued;
    let open = |user: &UserId| lines.get(user).is_some_and(|lines| lines.iter().any(is_open));
    let seqs: Vec<i64> = served
        .iter()
        .filter(|(_, user)| open(user))
        .map(|(one, _)| one.seq)
        .collect();
    if seqs.is_empty() {
        return Ok(lines);
    }
    outgoing::lock_recipients(tx, place, &seqs).await?;
    delivery::list_lines(tx, place, last, users()).await
}

/// What happened to the lines of the step before.
async fn marks(
    tx: &Tx,
    app: AppId,
    (sequence, step): (&Sequence, i32),
    lines: &BTreeMap<UserId, Vec<PastLine>>,
) -> Result<BTreeMap<DeliveryId, Marks>> {
    let before = step.saturating_sub(1);
    let of = sequence.step(before).filter(|_| sequence.step(step).is_some());
    let of = of.ok_or_else(|| Error::internal(format!("a sequence has no step {step}")))?;
    let sent = |line: &&PastLine| line.step == before && line.verdict.status != DeliveryStatus::Suppressed;
    let ids: BTreeSet<DeliveryId> = lines.values().flatten().filter(sent).map(|line| line.id).collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    if of.channel_type != ChannelType::InApp {
        return outgoing::find_marks(tx, app, &ids.into_iter().collect::<Vec<_>>()).await;
    }
    // An item has the id of its delivery.
    let items: Vec<FeedItemId> = ids.into_iter().map(|id| FeedItemId::from(id.uuid())).collect();
    feed::find_marks(tx, app, &items).await
}

/// Whether a recipient whom no further step can be written down for was reached by none before.
///
/// # Errors
/// Those of the database.
pub(super) async fn is_unreached(tx: &Tx, page: &Leased, seq: i64) -> Result<bool> {
    let place = (page.app, page.key.notification);
    let found = receiver::list_recipients(tx, place, seq, seq).await?;
    let Some((_, user)) = found.into_iter().find_map(served) else {
        return Ok(false);
    };
    let lines = delivery::list_lines(tx, place, page.key.step(), [user]).await?;
    let reached = |line: &PastLine| line.verdict.status == DeliveryStatus::Accepted;
    Ok(!lines.values().flatten().any(reached))
}
