//! Retention: what is removed for good once it is old enough, or its user is gone. Every step is a bounded batch, looks
//! again behind its locks, and may be taken by several processes at once. It never removes what somebody may still ask for.

use std::sync::Arc;

use super::Service;
use super::feed::sweep::{CHUNK, by_app, users};
use crate::failpoint::{Point, hit};
use crate::model::id::{AppId, FeedItemId, NotificationId};
use crate::model::{Result, Timestamp};
use crate::store::feed::{self, Candidate};
use crate::store::{Tx, retention as store};

/// How many of an app's oldest notifications are looked at for one that nothing holds any more.
const NOTIFICATIONS_MAX: u64 = 50;
/// How many apps are.
const APPS_MAX: u64 = 100;

/// Removes up to `limit` feed items that were sent longer ago than they are kept, and says how many.
///
/// # Errors
/// Those of the database.
pub async fn purge_feed_items(service: &Service, now: Timestamp, limit: u64) -> Result<u64> {
    let before = kept_from(service, now);
    let found = feed::find_sent_before(service.store.read(), before, limit).await?;
    remove_items(service, found).await
}

/// Removes up to `limit` feed items of a deleted user, and in the end the numbers of their feed. Says how many items, and
/// how many users it is done with.
///
/// # Errors
/// Those of the database.
pub async fn purge_deleted_users(service: &Service, now: Timestamp, limit: u64) -> Result<u64> {
    let Some((app, user)) = feed::find_unpurged_user(service.store.read()).await? else {
        return Ok(0);
    };
    let found = feed::find_items_of(service.store.read(), app, user, limit).await?;
    if !found.is_empty() {
        return remove_items(service, found).await;
    }
    service
        .store
        .write_background(move |tx| {
            Box::pin(async move {
                feed::lock_head(tx, app, user).await?;
                Ok(u64::from(feed::close_feed(tx, app, user, now).await?))
            })
        })
        .await
}

/// Removes up to `limit` rows of notifications that are older than things are kept and that no feed item came with, and
/// says how many. A notification goes last of its own rows, so what is left of it is found again.
///
/// # Errors
/// Those of the database.
pub async fn purge_notifications(service: &Service, now: Timestamp, limit: u64) -> Result<u64> {
    let before = kept_from(service, now);
    let mut removed: u64 = 0;
    for app in store::list_apps_with_old(service.store.read(), before, APPS_MAX).await? {
        for id in store::list_old_notifications(service.store.read(), app, before, NOTIFICATIONS_MAX).await? {
            removed = removed.saturating_add(purge_notification(service, (app, id), limit).await?);
            if removed >= limit {
                return Ok(removed);
            }
        }
    }
    Ok(removed)
}

async fn purge_notification(service: &Service, of: (AppId, NotificationId), limit: u64) -> Result<u64> {
    // Looked for outside the writer: where all deliveries still have their items, this looks at every one of them.
    let free = Arc::new(store::list_free_deliveries(service.store.read(), of, limit).await?);
    service
        .store
        .write_background(move |tx| {
            let free = Arc::clone(&free);
            Box::pin(async move {
                let removed = store::delete_notification(tx, of, &free, limit).await?;
                if removed > 0 {
                    hit(Point::ForgottenBeforeCommit);
                }
                Ok(removed)
            })
        })
        .await
}

/// Removes up to `limit` recipients of campaigns that were cancelled, or could not be sent at their time, longer ago than
/// things are kept, and says how many. The campaigns stay with what was counted of them.
///
/// # Errors
/// Those of the database.
pub async fn purge_unsent(service: &Service, now: Timestamp, limit: u64) -> Result<u64> {
    let before = kept_from(service, now);
    let mut removed: u64 = 0;
    for audience in store::list_unsent_audiences(service.store.read(), before, NOTIFICATIONS_MAX).await? {
        let rest = limit.saturating_sub(removed);
        let work = service
            .store
            .write_background(move |tx| Box::pin(async move { store::delete_recipients(tx, audience, rest).await }));
        removed = removed.saturating_add(work.await?);
        if removed >= limit {
            break;
        }
    }
    Ok(removed)
}

async fn remove_items(service: &Service, found: Vec<Candidate>) -> Result<u64> {
    let mut removed: u64 = 0;
    for (app, items) in by_app(found) {
        let items = Arc::new(items);
        let work = service.store.write_background(move |tx| {
            let items = Arc::clone(&items);
            Box::pin(async move { remove(tx, app, &items).await })
        });
        removed = removed.saturating_add(work.await?);
    }
    Ok(removed)
}

async fn remove(tx: &Tx, app: AppId, items: &[Candidate]) -> Result<u64> {
    feed::lock_heads(tx, app, &users(items)).await?;
    let mut removed: u64 = 0;
    for chunk in items.chunks(CHUNK) {
        let ids: Vec<FeedItemId> = chunk.iter().map(|item| item.id).collect();
        removed = removed.saturating_add(feed::delete_items(tx, app, &ids).await?);
        if tx.is_out_of_time() {
            break;
        }
    }
    if removed > 0 {
        hit(Point::RemovedBeforeCommit);
    }
    Ok(removed)
}

/// What was sent before this instant is old enough to go.
fn kept_from(service: &Service, now: Timestamp) -> Timestamp {
    now.minus(service.settings.retention)
}
