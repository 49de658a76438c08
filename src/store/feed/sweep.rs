//! What the sweep finds in feeds, and how items go for good. Finding only reads and may cross apps; what is found says its
//! app, and is looked at again behind the locks of the heads.

use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect, Select, Set,
};

use super::change::{ItemLine, slim};
use super::head::{Moves, move_heads};
use super::item::of_whole_app;
use crate::model::id::{AppId, CategoryId, FeedItemId, UserId};
use crate::model::{Result, Timestamp};
use crate::store::bulk::Rows;
use crate::store::entity::feed_item::{Column, Entity};
use crate::store::entity::{app, feed_head, feed_head_category, lane, user};

/// An item that the sweep has to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Candidate {
    /// Its app.
    pub app_id: AppId,
    /// Whose feed it is in.
    pub user_id: UserId,
    /// Its id.
    pub id: FeedItemId,
}

/// Items that have expired and still count, those that expired first, of all apps.
///
/// # Errors
/// Those of the database.
pub async fn find_expired(db: &impl ConnectionTrait, now: Timestamp, limit: u64) -> Result<Vec<Candidate>> {
    candidates(expired_items(now).limit(limit))
        .all(db)
        .await
        .map_err(Into::into)
}

/// The same of one user, ready to be changed.
///
/// # Errors
/// Those of the database.
pub async fn find_expired_of(
    db: &impl ConnectionTrait,
    (app, user): (AppId, UserId),
    now: Timestamp,
    limit: u64,
) -> Result<Vec<ItemLine>> {
    let items = expired_items(now)
        .filter(Column::AppId.eq(app))
        .filter(Column::UserId.eq(user));
    slim(items.limit(limit)).all(db).await
}

/// Items that have expired and still count, those that expired first, in the words of the index on those of everybody.
#[must_use]
pub fn expired_items(now: Timestamp) -> Select<Entity> {
    expired(Expr::cust("\"feed_items\".\"expires_at\" > 0"), now)
}

fn expired(expires: Expr, now: Timestamp) -> Select<Entity> {
    Entity::find()
        .filter(Expr::col((Entity, Column::Counted)))
        .filter(expires)
        .filter(Column::ExpiresAt.lte(now))
        .order_by_asc(Column::ExpiresAt)
        .order_by_asc(Column::Id)
}

/// The oldest items of an app that has any that were sent before an instant.
///
/// # Errors
/// Those of the database.
pub async fn find_sent_before(db: &impl ConnectionTrait, before: Timestamp, limit: u64) -> Result<Vec<Candidate>> {
    let old = Query::select()
        .expr(Expr::value(1))
        .from(Entity)
        .and_where(Expr::col((Entity, Column::AppId)).equals((app::Entity, app::Column::Id)))
        .and_where(of_whole_app())
        .and_where(Expr::col((Entity, Column::SentAt)).lt(before))
        .and_where(is_asked_for().not())
        .to_owned();
    let with_old = app::Entity::find()
        .select_only()
        .column(app::Column::Id)
        .filter(Expr::exists(old));
    let Some(app) = with_old.into_tuple::<AppId>().one(db).await? else {
        return Ok(Vec::new());
    };
    let items = items_sent_before(app, before).filter(is_asked_for().not());
    candidates(items.limit(limit)).all(db).await.map_err(Into::into)
}

/// That the notification of an item is under way: a later step of its sequence may have to know whether the item was read.
fn is_asked_for() -> Expr {
    let of = |column: lane::Column| Expr::col((lane::Entity, column));
    let lanes = Query::select()
        .expr(Expr::value(1))
        .from(lane::Entity)
        .and_where(of(lane::Column::AppId).equals((Entity, Column::AppId)))
        .and_where(of(lane::Column::NotificationId).equals((Entity, Column::NotificationId)))
        .to_owned();
    Expr::exists(lanes)
}

/// Items of an app that were sent before an instant, the oldest first.
#[must_use]
pub fn items_sent_before(app: AppId, before: Timestamp) -> Select<Entity> {
    Entity::find()
        .filter(Column::AppId.eq(app))
        .filter(of_whole_app())
        .filter(Column::SentAt.lt(before))
        .order_by_asc(Column::SentAt)
        .order_by_asc(Column::Id)
}

/// A deleted user who has left something in feeds, or may have.
///
/// # Errors
/// Those of the database.
pub async fn find_unpurged_user(db: &impl ConnectionTrait) -> Result<Option<(AppId, UserId)>> {
    let users = user::Entity::find()
        .select_only()
        .columns([user::Column::AppId, user::Column::Id])
        .filter(user::Column::DeletedAt.is_not_null())
        .filter(user::Column::PurgedAt.is_null());
    Ok(users.into_tuple().one(db).await?)
}

/// Items of a user's feed, in no order.
///
/// # Errors
/// Those of the database.
pub async fn find_items_of(db: &impl ConnectionTrait, app: AppId, user: UserId, limit: u64) -> Result<Vec<Candidate>> {
    let items = Entity::find()
        .filter(Column::AppId.eq(app))
        .filter(Column::UserId.eq(user));
    candidates(items.limit(limit)).all(db).await.map_err(Into::into)
}

fn candidates(items: Select<Entity>) -> sea_orm::Selector<sea_orm::SelectModel<Candidate>> {
    items
        .select_only()
        .columns([Column::AppId, Column::UserId, Column::Id])
        .into_model::<Candidate>()
}

#[derive(FromQueryResult)]
struct Gone {
    user_id: UserId,
    category_id: Option<CategoryId>,
    filterable: bool,
    counted: bool,
    change_seq: i64,
}

/// Removes items with what their users did with them, and says how many were there. They leave the counts; a stream that
/// has not seen their last change can no longer be told, which their heads note. The caller has locked the heads.
///
/// # Errors
/// Those of the database.
pub async fn delete_items(db: &impl ConnectionTrait, app: AppId, ids: &[FeedItemId]) -> Result<u64> {
    let rows = || Rows::new(db).column("id", ids.iter().copied());
    let items = rows();
    let sql = format!(
        "DELETE FROM feed_items WHERE app_id = {} AND id IN (SELECT r.id FROM {}) \
         RETURNING user_id, category_id, filterable, counted, change_seq",
        items.parameter(0),
        items.table("r")?,
    );
    let gone = Gone::find_by_statement(items.statement(sql, [app.into()])?)
        .all(db)
        .await?;
    let engagements = rows();
    let sql = format!(
        "DELETE FROM feed_item_engagements WHERE app_id = {} AND feed_item_id IN (SELECT r.id FROM {})",
        engagements.parameter(0),
        engagements.table("r")?,
    );
    db.execute_raw(engagements.statement(sql, [app.into()])?).await?;
    let mut moves = Moves::default();
    for item in &gone {
        moves.purge(item.user_id, item.change_seq);
        if item.counted {
            moves.uncount(item.user_id, item.category_id.filter(|_| item.filterable));
        }
    }
    move_heads(db, app, &moves).await?;
    u64::try_from(gone.len()).map_err(crate::model::Error::internal)
}

/// Closes the feed of a deleted user once it is empty: its numbers go, and the user is done with. Says whether it was.
///
/// # Errors
/// Those of the database.
pub async fn close_feed(db: &impl ConnectionTrait, app: AppId, user: UserId, now: Timestamp) -> Result<bool> {
    if !find_items_of(db, app, user, 1).await?.is_empty() {
        return Ok(false);
    }
    feed_head_category::Entity::delete_many()
        .filter(feed_head_category::Column::AppId.eq(app))
        .filter(feed_head_category::Column::UserId.eq(user))
        .exec(db)
        .await?;
    feed_head::Entity::delete_many()
        .filter(feed_head::Column::AppId.eq(app))
        .filter(feed_head::Column::UserId.eq(user))
        .exec(db)
        .await?;
    let change = user::ActiveModel {
        purged_at: Set(Some(now)),
        ..Default::default()
    };
    let purged = user::Entity::update_many()
        .set(change)
        .filter(user::Column::AppId.eq(app))
        .filter(user::Column::Id.eq(user))
        .filter(user::Column::PurgedAt.is_null())
        .exec(db)
        .await?;
    Ok(purged.rows_affected > 0)
}
