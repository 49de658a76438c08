//! Marks: what a user, or the app for them, does with feed items. Every mark is idempotent, and the first time counts. All
//! of them lock the head of the feed before they look at an item; what is read behind it stays true.
//!
//! Marks of single items that come at the same time share a transaction and its statements, as sends do: after a campaign
//! many users open it at once. So do calls that tell of whole pages. Their locks are those of the heads, in the order of the
//! users.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Whose, find_category, no_such_item, one, whose};
use crate::domain::{Acting, Service, Written};
use crate::failpoint::{Point, hit};
use crate::model::feed::{Engagement, FeedItem, ItemState, Shown, StoredItem, TOPICS_MAX, Topic};
use crate::model::id::{AppId, FeedItemId, UserId};
use crate::model::{Error, Reason, Result, Timestamp};
use crate::store::feed::{self as store, ItemLine, UnreadWalk};
use crate::store::{Group, Store, Tx};

/// How many items are marked in one transaction: few enough that nobody who waits for the writer notices.
const BATCH_MAX: u64 = 250;
/// Calls that tell of many items each, at most a hundred, and share a transaction.
const PAGES_MAX: usize = 8;

/// An item that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Its id.
    pub id: FeedItemId,
    /// When, first.
    pub deleted_at: Timestamp,
}

/// What became of items that were marked as delivered together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// How many were marked now.
    pub count: u32,
    /// All that were found, with the instant of their delivery.
    pub items: BTreeMap<FeedItemId, Timestamp>,
}

/// What a mark makes of an item.
type Mark = fn(ItemState, Timestamp) -> ItemState;

/// What is done with one item.
#[derive(Debug)]
enum What {
    Mark(Mark),
    Engage(Topic),
}

/// A mark of one item as it waits to be made.
#[derive(Debug)]
pub(in crate::domain) struct Asked {
    user: UserId,
    item: FeedItemId,
    what: What,
    now: Timestamp,
}

/// Items that a user was shown, as they wait to be marked.
#[derive(Debug)]
pub(in crate::domain) struct Told {
    user: UserId,
    items: BTreeSet<FeedItemId>,
    now: Timestamp,
}

/// What a mark has changed.
struct Changes {
    state: bool,
    engaged: Option<Engagement>,
}

/// Marks that share transactions.
pub(in crate::domain) type Marks = Group<Asked, StoredItem>;

/// The marks of a service.
pub(in crate::domain) fn marks(store: &Store) -> Marks {
    store.group(|tx, app, asked| Box::pin(async move { mark_together(tx, app, &asked).await }))
}

/// Pages of items that share transactions.
pub(in crate::domain) type Deliveries = Group<Told, Delivered>;

/// The pages of a service that are told of.
pub(in crate::domain) fn deliveries(store: &Store) -> Deliveries {
    store.group_of(PAGES_MAX, |tx, app, told| {
        Box::pin(async move { deliver_together(tx, app, &told).await })
    })
}

/// Marks an item of the user acted for as read, and so as delivered. Doing it again changes nothing and tells when it was
/// first read.
///
/// # Errors
/// Feed item not found; user not found.
pub async fn mark_read(service: &Service, acting: &Acting, id: FeedItemId) -> Result<Written<FeedItem>> {
    ask(service, acting, id, What::Mark(ItemState::read)).await
}

/// Marks an item of the user acted for as delivered. Doing it again changes nothing.
///
/// # Errors
/// Feed item not found; user not found.
pub async fn mark_delivered(service: &Service, acting: &Acting, id: FeedItemId) -> Result<Written<FeedItem>> {
    ask(service, acting, id, What::Mark(ItemState::delivered)).await
}

/// Keeps what the user acted for did with an item, the first time of each topic.
///
/// # Errors
/// Conflict, when the item has as many topics as it takes; feed item not found; user not found.
pub async fn engage(service: &Service, acting: &Acting, id: FeedItemId, topic: Topic) -> Result<Written<FeedItem>> {
    ask(service, acting, id, What::Engage(topic)).await
}

/// Takes an item out of its feed: that of the user acted for, else any. Doing it again changes nothing.
///
/// # Errors
/// Feed item not found; user not found, when the user acted for is missing.
pub async fn delete(service: &Service, acting: &Acting, id: FeedItemId) -> Result<Written<Deleted>> {
    let (app, now) = (acting.app()?, acting.now);
    let of = whose(service, acting, None).await?.user();
    service
        .write(acting, move |tx| {
            Box::pin(async move {
                // Whose it is never changes, so it may be read before the head is locked.
                let found = store::find_line(tx, app, of, id)
                    .await?
                    .ok_or_else(|| no_such_item(id))?;
                let user = found.user;
                let head = store::lock_head(tx, app, user).await?.ok_or_else(|| no_such_item(id))?;
                let line = store::find_line(tx, app, Some(user), id).await?;
                let line = line.ok_or_else(|| no_such_item(id))?;
                let after = line.state.deleted(now);
                if after != line.state {
                    store::record_changes(tx, app, &mut BTreeMap::from([(user, head)]), &[(line, after)], &[]).await?;
                }
                let deleted_at = after.deleted_at.unwrap_or(now);
                Ok(Deleted { id, deleted_at })
            })
        })
        .await
}

/// Marks those of some items that are in the feed of the user acted for as delivered, in one step.
///
/// # Errors
/// User not found.
pub async fn deliver_many(service: &Service, acting: &Acting, ids: BTreeSet<FeedItemId>) -> Result<Written<Delivered>> {
    let app = acting.app()?;
    let (_, user) = own(service, acting).await?;
    let told = Told {
        user,
        items: ids,
        now: acting.now,
    };
    let written = service.deliveries.write(app, acting.once.clone(), Arc::new(told));
    let written = service.noted(written.await?);
    hit(Point::MarkAfterCommit);
    Ok(written)
}

/// Marks the unread items of the user acted for as read, all or those of a category that is named by its name or id, and
/// says how many.
///
/// It takes as many transactions as it needs: each holds the head of the feed for a few items only, so whoever sends to
/// the user meanwhile waits no longer than for one. What arrives meanwhile is not marked. With an idempotency key the last
/// of them holds the answer; a call that was cut off before is made again, and tells what was left.
///
/// # Errors
/// User not found.
pub async fn mark_all_read(service: &Service, acting: &Acting, category: Option<&str>) -> Result<Written<u32>> {
    let (app, now) = (acting.app()?, acting.now);
    let (_, user) = own(service, acting).await?;
    if let Some(value) = service.answered(acting).await? {
        return Ok(Written { value, replayed: true });
    }
    let mut walk = start(service, (app, user), category, now).await?;
    let mut read: u32 = 0;
    // It ends, because each round passes a full batch of the items that were there when it began.
    loop {
        let batch = match &walk {
            Some(walk) => store::find_unread(service.store.read(), (app, user), walk, BATCH_MAX).await?,
            None => Vec::new(),
        };
        let ids: Arc<Vec<_>> = Arc::new(batch.iter().map(|(_, id)| *id).collect());
        if u64::try_from(ids.len()).is_ok_and(|full| full < BATCH_MAX) {
            let before = read;
            return service
                .write(acting, move |tx| {
                    let ids = Arc::clone(&ids);
                    Box::pin(async move { Ok(before.saturating_add(read_many(tx, (app, user), &ids, now).await?)) })
                })
                .await;
        }
        let more = service.store.write(move |tx| {
            let ids = Arc::clone(&ids);
            Box::pin(async move { read_many(tx, (app, user), &ids, now).await })
        });
        read = read.saturating_add(more.await?);
        walk = walk.map(|walk| UnreadWalk {
            after: batch.last().copied(),
            ..walk
        });
    }
}

/// Where marking all begins; `None` when the category does not exist.
async fn start(
    service: &Service,
    (app, user): (AppId, UserId),
    category: Option<&str>,
    now: Timestamp,
) -> Result<Option<UnreadWalk>> {
    let category = match category {
        Some(named) => match find_category(service, app, named).await? {
            Some(category) => Some(category),
            None => return Ok(None),
        },
        None => None,
    };
    Ok(Some(UnreadWalk {
        category,
        last_seq: store::find_last_seq(service.store.read(), app, user).await?,
        after: None,
        now,
    }))
}

/// Reads those of some items that are in a user's feed and still count, and says how many.
async fn read_many(tx: &Tx, (app, user): (AppId, UserId), ids: &[FeedItemId], now: Timestamp) -> Result<u32> {
    let Some(head) = store::lock_head(tx, app, user).await? else {
        return Ok(0);
    };
    let lines = store::find_lines(tx, app, ids).await?;
    let unread = lines.into_iter().filter(|line| line.user == user && line.state.counted);
    let changes: Vec<_> = unread.map(|line| (line, line.state.read(now))).collect();
    store::record_changes(tx, app, &mut BTreeMap::from([(user, head)]), &changes, &[]).await?;
    hit(Point::MarkBeforeCommit);
    u32::try_from(changes.len()).map_err(Error::internal)
}

async fn ask(service: &Service, acting: &Acting, id: FeedItemId, what: What) -> Result<Written<FeedItem>> {
    let app = acting.app()?;
    let (whose, user) = own(service, acting).await?;
    let asked = Asked {
        user,
        item: id,
        what,
        now: acting.now,
    };
    let written = service.marks.write(app, acting.once.clone(), Arc::new(asked));
    let written = service.noted(written.await?);
    hit(Point::MarkAfterCommit);
    Ok(Written {
        value: one(service, app, written.value, &whose, Shown::Content).await?,
        replayed: written.replayed,
    })
}

async fn mark_together(tx: &Tx, app: AppId, asked: &[Arc<Asked>]) -> Result<Vec<Result<StoredItem>>> {
    let mut heads = store::lock_heads(tx, app, &asked.iter().map(|one| one.user).collect()).await?;
    let ids: BTreeSet<_> = asked.iter().map(|one| one.item).collect();
    let mut items = store::find_items(tx, app, &ids).await?;
    let before: BTreeMap<_, _> = items.iter().map(|(id, item)| (*id, line_of(item))).collect();
    let (mut answers, mut changed, mut engagements) = (Vec::new(), Vec::new(), Vec::new());
    for one in asked {
        let own = items.get_mut(&one.item).filter(|item| item.user == one.user);
        let answer = own.ok_or_else(|| no_such_item(one.item)).and_then(|item| {
            let changes = one.change(item)?;
            if changes.is_any() && !changed.contains(&item.id) {
                changed.push(item.id);
            }
            engagements.extend(changes.engaged.map(|engaged| (item.id, engaged)));
            Ok(item.clone())
        });
        answers.push(answer);
    }
    let changes = changed
        .iter()
        .filter_map(|id| Some((*before.get(id)?, items.get(id)?.state)));
    let changes: Vec<_> = changes.collect();
    store::record_changes(tx, app, &mut heads, &changes, &engagements).await?;
    hit(Point::MarkBeforeCommit);
    Ok(answers)
}

async fn deliver_together(tx: &Tx, app: AppId, told: &[Arc<Told>]) -> Result<Vec<Result<Delivered>>> {
    let mut heads = store::lock_heads(tx, app, &told.iter().map(|one| one.user).collect()).await?;
    let ids: BTreeSet<_> = told.iter().flat_map(|one| &one.items).copied().collect();
    let lines = store::find_lines(tx, app, &ids.into_iter().collect::<Vec<_>>()).await?;
    let mut lines: BTreeMap<_, _> = lines.into_iter().map(|line| (line.id, line)).collect();
    let (mut answers, mut changes) = (Vec::new(), Vec::new());
    for one in told {
        let before = changes.len();
        let mut items = BTreeMap::new();
        for id in &one.items {
            let Some(line) = lines.get_mut(id).filter(|line| line.user == one.user) else {
                continue;
            };
            let after = line.state.delivered(one.now);
            if after != line.state {
                changes.push((*line, after));
                line.state = after;
            }
            items.insert(*id, after.delivered_at.unwrap_or(one.now));
        }
        let count = u32::try_from(changes.len() - before).map_err(Error::internal)?;
        answers.push(Ok(Delivered { count, items }));
    }
    store::record_changes(tx, app, &mut heads, &changes, &[]).await?;
    hit(Point::MarkBeforeCommit);
    Ok(answers)
}

impl Asked {
    /// Does with an item what is asked for.
    fn change(&self, item: &mut StoredItem) -> Result<Changes> {
        let before = item.state;
        let engaged = match &self.what {
            What::Mark(mark) => {
                item.state = mark(item.state, self.now);
                None
            }
            What::Engage(topic) => engage_once(item, topic, self.now)?,
        };
        Ok(Changes {
            state: item.state != before,
            engaged,
        })
    }
}

/// Adds a topic to an item, unless it is there.
fn engage_once(item: &mut StoredItem, topic: &Topic, now: Timestamp) -> Result<Option<Engagement>> {
    if item.engagements.iter().any(|engaged| engaged.topic == *topic) {
        return Ok(None);
    }
    if item.engagements.len() >= TOPICS_MAX {
        let rule = format!(
            "a feed item takes {TOPICS_MAX} topics, and feed item {} has as many",
            item.id
        );
        return Err(Error::new(Reason::Conflict, rule).with("feedItemId", item.id));
    }
    let engaged = Engagement {
        topic: topic.clone(),
        engaged_at: now,
    };
    item.state = item.state.interacted(now);
    item.engagements.push(engaged.clone());
    item.engagements.sort_by(|one, other| one.topic.cmp(&other.topic));
    Ok(Some(engaged))
}

impl Changes {
    const fn is_any(&self) -> bool {
        self.state || self.engaged.is_some()
    }
}

/// The user acted for. The layers in front have refused a call without one already; this is the second lock on the same
/// door.
async fn own(service: &Service, acting: &Acting) -> Result<(Whose, UserId)> {
    let whose = whose(service, acting, None).await?;
    match whose.user() {
        Some(user) => Ok((whose, user)),
        None => Err(Error::new(Reason::BadRequest, "this is for a user who is acted for")),
    }
}

fn line_of(item: &StoredItem) -> ItemLine {
    ItemLine {
        id: item.id,
        user: item.user,
        notification: item.notification_id,
        category: item.category_id.filter(|_| item.filterable),
        expires_at: item.expires_at,
        state: item.state,
    }
}
