//! Changes of items: each gets the next number of its feed, and the head moves with it. The caller holds the head's lock.

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, Set, Statement};

use super::head::{move_category, move_head};
use crate::model::feed::{EXPIRED_MAX, StoredItem};
use crate::model::id::{AppId, CategoryId, UserId};
use crate::model::{Error, Result, Timestamp};
use crate::store::entity::feed_item;

/// Writes down that an unread item was read. The head is locked by the caller and stands at `head`; `before` was read
/// since.
///
/// # Errors
/// Those of the database.
pub async fn record_read(
    db: &impl ConnectionTrait,
    app: AppId,
    before: &StoredItem,
    read: &StoredItem,
    head: i64,
) -> Result<()> {
    let seq = head.saturating_add(1);
    let change = feed_item::ActiveModel {
        read_at: Set(read.read_at),
        delivered_at: Set(read.delivered_at),
        counted: Set(read.counted),
        change_seq: Set(seq),
        ..Default::default()
    };
    feed_item::Entity::update_many()
        .set(change)
        .filter(feed_item::Column::AppId.eq(app))
        .filter(feed_item::Column::Id.eq(read.id))
        .exec(db)
        .await?;
    let gone = i32::from(before.counted && !read.counted);
    move_head(db, app, read.user, seq, gone).await?;
    match read.category_id.filter(|_| read.filterable) {
        Some(category) => move_category(db, app, read.user, category, gone).await,
        None => Ok(()),
    }
}

/// Takes up to [`EXPIRED_MAX`] expired items of a user out of the count, and gives each the next number of the feed. The
/// head is locked by the caller and stands at `head`.
///
/// # Errors
/// Those of the database.
pub async fn sweep_expired(
    db: &impl ConnectionTrait,
    app: AppId,
    user: UserId,
    head: i64,
    now: Timestamp,
) -> Result<()> {
    #[derive(FromQueryResult)]
    struct Swept {
        category_id: Option<CategoryId>,
        filterable: bool,
    }
    let sql = format!(
        "WITH gone AS (SELECT id, ROW_NUMBER() OVER (ORDER BY expires_at, id) AS place FROM feed_items \
         WHERE app_id = $1 AND user_id = $2 AND counted AND expires_at IS NOT NULL AND expires_at <= $3 \
         ORDER BY expires_at, id LIMIT {EXPIRED_MAX}) \
         UPDATE feed_items SET counted = FALSE, change_seq = $4 + gone.place FROM gone WHERE feed_items.id = gone.id \
         RETURNING category_id, filterable"
    );
    let values: [sea_orm::Value; 4] = [app.into(), user.into(), now.into(), head.into()];
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let swept = Swept::find_by_statement(statement).all(db).await?;
    let gone = i32::try_from(swept.len()).map_err(Error::internal)?;
    move_head(db, app, user, head.saturating_add(gone.into()), gone).await?;
    let mut categories: BTreeMap<CategoryId, i32> = BTreeMap::new();
    for category in swept
        .iter()
        .filter(|item| item.filterable)
        .filter_map(|item| item.category_id)
    {
        let gone = categories.entry(category).or_default();
        *gone = gone.saturating_add(1);
    }
    for (category, gone) in categories {
        move_category(db, app, user, category, gone).await?;
    }
    Ok(())
}
