//! Pages: a range of a notification's recipients, done in one transaction. It never decides who runs a page: a realtime
//! send runs its only one, and whoever claims one under a lease runs that.

use std::collections::{BTreeMap, BTreeSet};

use crate::failpoint::{Point, hit};
use crate::model::delivery::{Counts, Verdict};
use crate::model::feed::{ItemState, StoredItem, expires_at};
use crate::model::id::{AppId, DeliveryId, NotificationId, UserId};
use crate::model::notification::{Copied, PlannedRecipient};
use crate::model::template::TemplateChannel;
use crate::model::user::Resolved;
use crate::model::{Error, Result, Timestamp};
use crate::store::outgoing::{self, Queued};
use crate::store::page::PageKey;
use crate::store::{Tx, delivery, feed};

/// What a page is to do.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    /// The notification.
    pub(crate) notification: NotificationId,
    /// The number of the page.
    pub(crate) number: i32,
    /// What the notification says about its template.
    pub(crate) copied: &'a Copied,
    /// The in-app content, where the template has any.
    pub(crate) in_app: Option<&'a TemplateChannel>,
    /// The recipients, in order, with what is planned for each.
    pub(crate) recipients: &'a [PlannedRecipient],
    /// When.
    pub(crate) now: Timestamp,
}

/// Does pages of an app: lines of the ledger, then the heads of exactly the feeds that got a new line, then the items with
/// the numbers that their heads gave.
///
/// The caller owns the pages' rows in this transaction: it has inserted them, or has moved their fences; and it writes down
/// there what they come to. Whatever was done for a recipient before is found in the ledger and not done again. Heads are
/// locked in the order of their users over all of the pages, so two transactions that share users wait for each other in
/// one direction.
///
/// # Errors
/// Those of the database.
pub(crate) async fn run(tx: &Tx, app: AppId, pages: &[Work<'_>]) -> Result<()> {
    let lines = pages.iter().map(|page| (page.notification, page.recipients, page.now));
    let new = delivery::insert_deliveries(tx, app, lines).await?;
    let queued: Vec<Queued> = pages.iter().flat_map(|page| queued(page, &new)).collect();
    outgoing::insert_outgoing(tx, app, &queued).await?;
    hit(Point::BetweenLedgerAndHeads);
    let items: Vec<StoredItem> = pages.iter().flat_map(|page| items(page, &new)).collect();
    if items.is_empty() {
        return Ok(());
    }
    let (mut users, mut categories) = (BTreeMap::new(), BTreeMap::new());
    for item in &items {
        *users.entry(item.user).or_default() += 1;
        if let Some(category) = item.category_id.filter(|_| item.filterable) {
            *categories.entry((item.user, category)).or_default() += 1;
        }
    }
    let last = feed::advance_heads(tx, app, &users).await?;
    feed::advance_categories(tx, app, &categories).await?;
    hit(Point::BetweenHeadsAndItems);
    feed::insert_items(tx, app, &numbered(items, &users, last)?).await?;
    hit(Point::AfterItems);
    Ok(())
}

/// Items with their numbers: each feed's have come last, in their order.
fn numbered(
    items: Vec<StoredItem>,
    users: &BTreeMap<UserId, i32>,
    mut last: BTreeMap<UserId, i64>,
) -> Result<Vec<(StoredItem, i64)>> {
    for (user, items) in users {
        if let Some(last) = last.get_mut(user) {
            *last -= i64::from(*items);
        }
    }
    let numbered = items.into_iter().map(|item| {
        let last = last.get_mut(&item.user);
        let last = last.ok_or_else(|| Error::internal("a feed head gave no number"))?;
        *last += 1;
        Ok((item, *last))
    });
    numbered.collect()
}

/// The new lines of the ledger that drivers are to take.
fn queued(work: &Work<'_>, new: &BTreeSet<DeliveryId>) -> Vec<Queued> {
    let page = PageKey {
        notification: work.notification,
        number: work.number,
    };
    let mut found = Vec::new();
    for recipient in work.recipients {
        let Some(user) = recipient.served() else { continue };
        let lines = recipient.lines.iter();
        let queued = lines.filter(|line| line.delivery.verdict == Verdict::QUEUED && new.contains(&line.id));
        found.extend(queued.map(|line| Queued {
            id: line.id,
            page,
            recipient: (recipient.seq, user),
        }));
    }
    found
}

/// The items that the new lines of the ledger put into feeds, in the order of the recipients.
fn items(work: &Work<'_>, new: &BTreeSet<DeliveryId>) -> Vec<StoredItem> {
    let mut items = Vec::new();
    let Some(in_app) = work.in_app else { return items };
    for recipient in work.recipients {
        let Resolved::Active(user) = recipient.user else {
            continue;
        };
        for line in recipient.lines.iter().filter(|line| new.contains(&line.id)) {
            if let (Some(id), Some(channel_id)) = (line.delivery.feed_item_id, line.delivery.channel_id) {
                items.push(StoredItem {
                    id,
                    user,
                    notification_id: work.notification,
                    version_id: work.copied.version_id,
                    channel_id,
                    category_id: work.copied.category_id,
                    category_name: work.copied.category_name.clone(),
                    filterable: in_app.category_filter_enabled,
                    label: work.copied.label.clone().filter(|_| in_app.template_label_enabled),
                    alternative_text: work.copied.alternative_text.clone(),
                    tags: work.copied.tags.clone(),
                    data_type: in_app.data_type,
                    variables: recipient.values.clone(),
                    sent_at: work.now,
                    expires_at: expires_at(work.now, in_app.message_retention_hours),
                    state: ItemState::SENT,
                    engagements: Vec::new(),
                });
            }
        }
    }
    items
}

/// What those of a page's recipients come to that are dealt with now, when `last` is the last step of the send.
#[must_use]
pub(crate) fn count(recipients: &[PlannedRecipient], last: i32) -> Counts {
    let mut counts = Counts::default();
    for reached in recipients.iter().filter_map(|recipient| recipient.settled(last)) {
        counts.add(reached);
    }
    counts
}
