//! What happens to items without anybody asking: they expire. It never removes one; retention does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::Service;
use crate::failpoint::{Point, hit};
use crate::model::feed::EXPIRED_MAX;
use crate::model::id::{AppId, FeedItemId, UserId};
use crate::model::{Error, Result, Timestamp};
use crate::store::Tx;
use crate::store::feed::{self as store, Candidate, ItemLine};

/// How many items are changed before a background unit looks at its time.
pub(in crate::domain) const CHUNK: usize = 50;

/// Takes up to `limit` items that have expired at `now` out of the counts of their feeds, of all apps, and says how many.
///
/// # Errors
/// Those of the database.
pub async fn sweep_expired(service: &Service, now: Timestamp, limit: u64) -> Result<u64> {
    let found = store::find_expired(service.store.read(), now, limit).await?;
    let mut swept: u64 = 0;
    for (app, items) in by_app(found) {
        let items = Arc::new(items);
        let work = service.store.write_background(move |tx| {
            let items = Arc::clone(&items);
            Box::pin(async move { sweep_items(tx, app, &items, now).await })
        });
        swept = swept.saturating_add(work.await?);
    }
    Ok(swept)
}

/// Takes up to [`EXPIRED_MAX`] expired items of one user out of the count.
pub(super) async fn sweep_expired_of(service: &Service, app: AppId, user: UserId, now: Timestamp) -> Result<()> {
    service
        .store
        .write(move |tx| {
            Box::pin(async move {
                let Some(head) = store::lock_head(tx, app, user).await? else {
                    return Ok(());
                };
                let lines = store::find_expired_of(tx, (app, user), now, EXPIRED_MAX).await?;
                expire(tx, app, &mut BTreeMap::from([(user, head)]), &lines, now).await?;
                Ok(())
            })
        })
        .await
}

async fn sweep_items(tx: &Tx, app: AppId, items: &[Candidate], now: Timestamp) -> Result<u64> {
    // All heads at once and in order: locked chunk by chunk they could wait for a send in a circle.
    let mut heads = store::lock_heads(tx, app, &users(items)).await?;
    let mut swept: u64 = 0;
    for chunk in items.chunks(CHUNK) {
        let ids: Vec<FeedItemId> = chunk.iter().map(|item| item.id).collect();
        let lines = store::find_lines(tx, app, &ids).await?;
        swept = swept.saturating_add(expire(tx, app, &mut heads, &lines, now).await?);
        // Asked after a chunk and never before the first: on a slow machine the locks alone may take all the time.
        if tx.is_out_of_time() {
            break;
        }
    }
    if swept > 0 {
        hit(Point::ExpiredBeforeCommit);
    }
    Ok(swept)
}

async fn expire(
    tx: &Tx,
    app: AppId,
    heads: &mut BTreeMap<UserId, i64>,
    lines: &[ItemLine],
    now: Timestamp,
) -> Result<u64> {
    let due = |line: &&ItemLine| line.state.counted && line.expires_at.is_some_and(|at| at <= now);
    let changes: Vec<_> = lines
        .iter()
        .filter(due)
        .map(|line| (*line, line.state.expired()))
        .collect();
    store::record_changes(tx, app, heads, &changes, &[]).await?;
    u64::try_from(changes.len()).map_err(Error::internal)
}

/// What was found, app by app: a transaction writes in one.
pub(in crate::domain) fn by_app(found: Vec<Candidate>) -> BTreeMap<AppId, Vec<Candidate>> {
    let mut apps: BTreeMap<AppId, Vec<Candidate>> = BTreeMap::new();
    for item in found {
        apps.entry(item.app_id).or_default().push(item);
    }
    apps
}

/// Whose heads a change of these items moves.
pub(in crate::domain) fn users(items: &[Candidate]) -> BTreeSet<UserId> {
    items.iter().map(|item| item.user_id).collect()
}
