//! What retention removes beside feed items: notifications with their recipients, pages and deliveries, and recipients whose
//! campaign never sent one. It decides nothing; whether something is old enough to go is said by the caller.

use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryOrder, QueryResult,
    QuerySelect, QueryTrait as _, Statement,
};

use super::bulk::Rows;
use super::entity::{app, campaign, delivery, notification, notification_recipient as recipient, page};
use super::feed::delete_tally;
use super::tx::Tx;
use crate::model::id::{AppId, DeliveryId, NotificationId};
use crate::model::{Result, Timestamp};

/// How many times as many deliveries are looked at as are to be found.
const LOOKED_AT: u64 = 10;

/// Apps with notifications that were made and ended before an instant.
///
/// # Errors
/// Those of the database.
pub async fn list_apps_with_old(db: &impl ConnectionTrait, before: Timestamp, limit: u64) -> Result<Vec<AppId>> {
    use notification::{Column, Entity};
    let old = Query::select()
        .expr(Expr::value(1))
        .from(Entity)
        .and_where(Expr::col((Entity, Column::AppId)).equals((app::Entity, app::Column::Id)))
        .and_where(Expr::col((Entity, Column::CreatedAt)).lt(before))
        .and_where(Expr::col((Entity, Column::CompletedAt)).lt(before))
        .to_owned();
    let apps = app::Entity::find()
        .select_only()
        .column(app::Column::Id)
        .filter(Expr::exists(old));
    Ok(apps.limit(limit).into_tuple().all(db).await?)
}

/// The oldest notifications of an app that were made and ended before an instant. All items of these were sent before it,
/// so none stays here for long and stands before others: one that was made long before it was sent would.
///
/// # Errors
/// Those of the database.
pub async fn list_old_notifications(
    db: &impl ConnectionTrait,
    app: AppId,
    before: Timestamp,
    limit: u64,
) -> Result<Vec<NotificationId>> {
    use notification::{Column, Entity};
    let old = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::AppId.eq(app))
        .filter(Column::CreatedAt.lt(before))
        .filter(Column::CompletedAt.lt(before))
        .order_by_asc(Column::CreatedAt)
        .order_by_asc(Column::Id);
    Ok(old.limit(limit).into_tuple().all(db).await?)
}

/// Deliveries of a notification that no feed item came of, or whose feed item is gone. It looks at so many only: where the
/// first ones still have their items these go soon, and the whole of a large campaign is never looked through for a few.
///
/// # Errors
/// Those of the database.
pub async fn list_free_deliveries(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    limit: u64,
) -> Result<Vec<DeliveryId>> {
    // An item has the id of its delivery.
    let sql = format!(
        "SELECT d.id AS id FROM (SELECT id FROM deliveries WHERE app_id = $1 AND notification_id = $2 LIMIT {looked_at}) d \
         WHERE NOT EXISTS (SELECT 1 FROM feed_items i WHERE i.id = d.id) LIMIT {limit}",
        looked_at = limit.saturating_mul(LOOKED_AT),
    );
    let values = [app.into(), notification.into()];
    let rows = db.query_all_raw(Statement::from_sql_and_values(db.get_database_backend(), sql, values));
    let free = rows.await?;
    free.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// Removes deliveries that are free, and what else a notification consists of once it has none left: up to `limit` rows
/// of each kind, in the end the notification itself. Says how many rows.
///
/// # Errors
/// Those of the database.
pub async fn delete_notification(
    tx: &Tx,
    (app, notification): (AppId, NotificationId),
    free: &[DeliveryId],
    limit: u64,
) -> Result<u64> {
    // Never before anything was done: on a slow machine nothing ever would be.
    let out_of_time = |removed: u64| removed > 0 && tx.is_out_of_time();
    let mut removed: u64 = 0;
    if !free.is_empty() {
        for (table, id) in [("outgoing", "delivery_id"), ("deliveries", "id")] {
            let rows = Rows::new(tx).column("id", free.iter().copied());
            let sql = format!(
                "DELETE FROM {table} WHERE app_id = {} AND {id} IN (SELECT r.id FROM {})",
                rows.parameter(0),
                rows.table("r")?
            );
            let gone = tx.execute_raw(rows.statement(sql, [app.into()])?).await?;
            removed = removed.saturating_add(gone.rows_affected());
        }
    }
    let left = delivery::Entity::find()
        .select_only()
        .column(delivery::Column::Id)
        .filter(delivery::Column::AppId.eq(app))
        .filter(delivery::Column::NotificationId.eq(notification));
    if out_of_time(removed) || left.into_tuple::<DeliveryId>().one(tx).await?.is_some() {
        return Ok(removed);
    }
    for part in [recipients(app, notification, limit), pages(app, notification, limit)] {
        let gone = tx.execute(&part).await?.rows_affected();
        removed = removed.saturating_add(gone);
        if gone >= limit || out_of_time(removed) {
            return Ok(removed);
        }
    }
    delete_tally(tx, app, notification).await?;
    let gone = notification::Entity::delete_many()
        .filter(notification::Column::AppId.eq(app))
        .filter(notification::Column::Id.eq(notification))
        .exec(tx)
        .await?;
    Ok(removed.saturating_add(gone.rows_affected))
}

/// Audiences of campaigns that ended before an instant without having been sent.
///
/// # Errors
/// Those of the database.
pub async fn list_unsent_audiences(
    db: &impl ConnectionTrait,
    before: Timestamp,
    limit: u64,
) -> Result<Vec<(AppId, NotificationId)>> {
    let rows = db
        .query_all_raw(unsent_statement(db.get_database_backend(), before, limit))
        .await?;
    let audience = |row: &QueryResult| Ok((row.try_get("", "app_id")?, row.try_get("", "notification_id")?));
    rows.iter().map(audience).collect()
}

/// How they are found. It crosses apps.
#[must_use]
pub fn unsent_statement(backend: DatabaseBackend, before: Timestamp, limit: u64) -> Statement {
    use campaign::{Column, Entity};
    let some = Query::select()
        .expr(Expr::value(1))
        .from(recipient::Entity)
        .and_where(Expr::col((recipient::Entity, recipient::Column::AppId)).equals((Entity, Column::AppId)))
        .and_where(
            Expr::col((recipient::Entity, recipient::Column::NotificationId)).equals((Entity, Column::NotificationId)),
        )
        .to_owned();
    let unsent = Entity::find()
        .select_only()
        .columns([Column::AppId, Column::NotificationId])
        .filter(Column::SentAt.is_null())
        .filter(Column::CompletedAt.lt(before))
        .filter(Expr::exists(some));
    unsent.limit(limit).build(backend)
}

/// Removes up to `limit` recipients of an audience, and says how many.
///
/// # Errors
/// Those of the database.
pub async fn delete_recipients(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    limit: u64,
) -> Result<u64> {
    Ok(db.execute(&recipients(app, notification, limit)).await?.rows_affected())
}

fn recipients(app: AppId, of: NotificationId, limit: u64) -> sea_orm::sea_query::DeleteStatement {
    use recipient::{Column, Entity};
    let all = Condition::all()
        .add(Column::AppId.eq(app))
        .add(Column::NotificationId.eq(of));
    let some = Query::select()
        .column(Column::Seq)
        .from(Entity)
        .cond_where(all.clone())
        .limit(limit)
        .take();
    let some = Expr::col((Entity, Column::Seq)).in_subquery(some);
    Query::delete().from_table(Entity).cond_where(all.add(some)).take()
}

fn pages(app: AppId, of: NotificationId, limit: u64) -> sea_orm::sea_query::DeleteStatement {
    use page::{Column, Entity};
    let all = Condition::all()
        .add(Column::AppId.eq(app))
        .add(Column::NotificationId.eq(of));
    let some = Query::select()
        .column(Column::Number)
        .from(Entity)
        .cond_where(all.clone())
        .limit(limit)
        .take();
    let some = Expr::col((Entity, Column::Number)).in_subquery(some);
    Query::delete().from_table(Entity).cond_where(all.add(some)).take()
}
