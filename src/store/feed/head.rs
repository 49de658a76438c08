//! The heads of feeds: the last number given, and the unread counts, of all and by category. Whoever moves one holds its
//! lock; why it moves is not decided here.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::model::Result;
use crate::model::id::{AppId, CategoryId, UserId};
use crate::store::bulk::Rows;
use crate::store::entity::{feed_head, feed_head_category as head_category};

/// The last number of a user's feed, whose row stays locked until the transaction ends. There is none before the first
/// item.
///
/// # Errors
/// Those of the database.
pub async fn find_head_locked(db: &impl ConnectionTrait, app: AppId, user: UserId) -> Result<Option<i64>> {
    let seq = feed_head::Entity::find()
        .select_only()
        .column(feed_head::Column::Seq)
        .filter(feed_head::Column::AppId.eq(app))
        .filter(feed_head::Column::UserId.eq(user))
        .lock_exclusive()
        .into_tuple()
        .one(db)
        .await?;
    Ok(seq)
}

/// Moves the heads of some users' feeds on by one unread item each, in the order of the users, and gives the number that
/// each item gets. A feed begins with its first item.
///
/// # Errors
/// Those of the database.
pub async fn advance_heads(
    db: &impl ConnectionTrait,
    app: AppId,
    users: &BTreeSet<UserId>,
) -> Result<BTreeMap<UserId, i64>> {
    let rows = Rows::new(db).column("user_id", users.iter().copied());
    let (source, app_id) = (rows.table("new_items")?, rows.parameter(0));
    let sql = format!(
        "INSERT INTO feed_heads (app_id, user_id, seq, unread, purged_seq) \
         SELECT {app_id}, user_id, 1, 1, 0 FROM {source} WHERE TRUE ORDER BY user_id \
         ON CONFLICT (app_id, user_id) DO UPDATE SET seq = feed_heads.seq + 1, unread = feed_heads.unread + 1 \
         RETURNING user_id, seq"
    );
    let heads = db.query_all_raw(rows.statement(sql, [app.into()])?).await?;
    let seqs = heads
        .iter()
        .map(|head| Ok((head.try_get("", "user_id")?, head.try_get("", "seq")?)));
    seqs.collect()
}

/// Moves the unread counts of a category on by one for each of some users, whose heads are locked.
///
/// # Errors
/// Those of the database.
pub async fn advance_categories(
    db: &impl ConnectionTrait,
    app: AppId,
    category: CategoryId,
    users: &BTreeSet<UserId>,
) -> Result<()> {
    let rows = Rows::new(db).column("user_id", users.iter().copied());
    let (source, app_id, category_id) = (rows.table("new_items")?, rows.parameter(0), rows.parameter(1));
    let sql = format!(
        "INSERT INTO feed_head_categories (app_id, user_id, category_id, unread) \
         SELECT {app_id}, user_id, {category_id}, 1 FROM {source} WHERE TRUE ORDER BY user_id \
         ON CONFLICT (app_id, user_id, category_id) DO UPDATE SET unread = feed_head_categories.unread + 1"
    );
    db.execute_raw(rows.statement(sql, [app.into(), category.into()])?)
        .await?;
    Ok(())
}

pub(super) async fn move_head(db: &impl ConnectionTrait, app: AppId, user: UserId, seq: i64, gone: i32) -> Result<()> {
    feed_head::Entity::update_many()
        .col_expr(feed_head::Column::Seq, Expr::value(seq))
        .col_expr(
            feed_head::Column::Unread,
            Expr::col(feed_head::Column::Unread).sub(gone),
        )
        .filter(feed_head::Column::AppId.eq(app))
        .filter(feed_head::Column::UserId.eq(user))
        .exec(db)
        .await?;
    Ok(())
}

pub(super) async fn move_category(
    db: &impl ConnectionTrait,
    app: AppId,
    user: UserId,
    category: CategoryId,
    gone: i32,
) -> Result<()> {
    head_category::Entity::update_many()
        .col_expr(
            head_category::Column::Unread,
            Expr::col(head_category::Column::Unread).sub(gone),
        )
        .filter(head_category::Column::AppId.eq(app))
        .filter(head_category::Column::UserId.eq(user))
        .filter(head_category::Column::CategoryId.eq(category))
        .exec(db)
        .await?;
    Ok(())
}
