//! A walk over the unread items of one feed, for those who mark them all. It only reads.

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::model::id::{AppId, CategoryId, FeedItemId, UserId};
use crate::model::{Result, Timestamp};
use crate::store::entity::feed_head;
use crate::store::entity::feed_item::{Column, Entity};

/// What a walk passes, and how far it has come.
#[derive(Clone, Debug)]
pub struct UnreadWalk {
    /// The category, where filters by category find the item.
    pub category: Option<CategoryId>,
    /// The last item of the walk by its number in the feed: what comes later is not part of it.
    pub last_seq: i64,
    /// The item before, by the order of the walk.
    pub after: Option<(Timestamp, FeedItemId)>,
    /// By what has expired.
    pub now: Timestamp,
}

/// The number of the last item or change of a feed; 0 before the first.
///
/// # Errors
/// Those of the database.
pub async fn find_last_seq(db: &impl ConnectionTrait, app: AppId, user: UserId) -> Result<i64> {
    let head = feed_head::Entity::find_by_id((app, user)).one(db).await?;
    Ok(head.map_or(0, |head| head.seq))
}

/// The next unread items of a walk, oldest first, with their places in it.
///
/// # Errors
/// Those of the database.
pub async fn find_unread(
    db: &impl ConnectionTrait,
    (app, user): (AppId, UserId),
    walk: &UnreadWalk,
    limit: u64,
) -> Result<Vec<(Timestamp, FeedItemId)>> {
    let mut items = Entity::find()
        .select_only()
        .columns([Column::SentAt, Column::Id])
        .filter(Column::AppId.eq(app))
        .filter(Column::UserId.eq(user))
        .filter(Expr::col((Entity, Column::Counted)))
        .filter(Column::Seq.lte(walk.last_seq))
        .filter(Column::ExpiresAt.is_null().or(Column::ExpiresAt.gt(walk.now)));
    if let Some(category) = walk.category {
        items = items
            .filter(Expr::col((Entity, Column::Filterable)))
            .filter(Column::CategoryId.eq(category));
    }
    if let Some((sent_at, id)) = walk.after {
        let place = Expr::tuple([Expr::col((Entity, Column::SentAt)), Expr::col((Entity, Column::Id))]);
        items = items.filter(place.gt(Expr::tuple([Expr::val(sent_at), Expr::val(id)])));
    }
    let items = items.order_by_asc(Column::SentAt).order_by_asc(Column::Id).limit(limit);
    Ok(items.into_tuple().all(db).await?)
}
