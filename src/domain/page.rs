//! Pages: a range of a notification's recipients, done in one transaction. It never decides who runs a page: a realtime
//! send runs its only one, and whoever claims one under a lease runs that.

use std::collections::BTreeSet;

use crate::model::delivery::{Counts, Reached};
use crate::model::feed::{ItemState, StoredItem, expires_at};
use crate::model::id::{AppId, DeliveryId, UserId};
use crate::model::notification::{Copied, PlannedRecipient};
use crate::model::template::TemplateChannel;
use crate::model::user::Resolved;
use crate::model::{Result, Timestamp};
use crate::store::page::PageKey;
use crate::store::{Tx, delivery, feed, page};

/// What a page is to do.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    /// The app.
    pub(crate) app: AppId,
    /// The notification, and the page's number within it.
    pub(crate) key: PageKey,
    /// What the notification says about its template.
    pub(crate) copied: &'a Copied,
    /// The in-app content, where the template has any.
    pub(crate) in_app: Option<&'a TemplateChannel>,
    /// The recipients, in order, with what is planned for each.
    pub(crate) recipients: &'a [PlannedRecipient],
    /// When.
    pub(crate) now: Timestamp,
}

/// Does a page: lines of the ledger, then the heads of exactly the feeds that got a new line, then the items with the
/// numbers that their heads gave, then the counts.
///
/// The caller owns the page's row in this transaction: it has inserted it, or has moved its fence. Whatever was done for a
/// recipient before is found in the ledger and not done again. Heads are locked in the order of their users, so two pages
/// that share users wait for each other in one direction.
///
/// # Errors
/// Those of the database.
pub(crate) async fn run(tx: &Tx, work: &Work<'_>) -> Result<Counts> {
    let new = delivery::insert_deliveries(tx, work.app, work.key.notification, work.recipients, work.now).await?;
    let items = work.in_app.map_or_else(Vec::new, |in_app| items(work, in_app, &new));
    if !items.is_empty() {
        let users: BTreeSet<UserId> = items.iter().map(|item| item.user).collect();
        let seqs = feed::advance_heads(tx, work.app, &users).await?;
        if let Some(category) = items
            .first()
            .filter(|item| item.filterable)
            .and_then(|item| item.category_id)
        {
            feed::advance_categories(tx, work.app, category, &users).await?;
        }
        feed::insert_items(tx, work.app, &items, &seqs).await?;
    }
    let counts = count(work.recipients);
    if let Some(last) = work.recipients.last() {
        page::record_progress(tx, work.app, work.key, last.seq.saturating_add(1), counts).await?;
    }
    Ok(counts)
}

/// The items that the new lines of the ledger put into feeds, in the order of the recipients.
fn items(work: &Work<'_>, in_app: &TemplateChannel, new: &BTreeSet<DeliveryId>) -> Vec<StoredItem> {
    let mut items = Vec::new();
    for recipient in work.recipients {
        let Resolved::Active(user) = recipient.user else {
            continue;
        };
        for line in recipient.lines.iter().filter(|line| new.contains(&line.id)) {
            if let (Some(id), Some(channel_id)) = (line.delivery.feed_item_id, line.delivery.channel_id) {
                items.push(StoredItem {
                    id,
                    user,
                    notification_id: work.key.notification,
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

/// What a page's recipients come to.
#[must_use]
pub(crate) fn count(recipients: &[PlannedRecipient]) -> Counts {
    let mut counts = Counts::default();
    for recipient in recipients {
        counts.add(Reached::of(recipient.lines.iter().map(|line| &line.delivery.verdict)));
    }
    counts
}
