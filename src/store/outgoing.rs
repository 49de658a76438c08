//! Deliveries that a driver takes: queued with their lines of the ledger, claimed before the driver is asked, recorded after
//! it has answered. Between the two there is no transaction, and an outcome that comes back under an older lease changes
//! nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryResult, QuerySelect, Statement,
    UpdateMany, Value,
};

use super::bulk;
use super::entity::outgoing::{Column, Entity, Model};
use super::entity::{delivery, notification_recipient as recipient};
use super::notification::large;
use super::page::{PageKey, clock};
use crate::model::delivery::{DeliveryStatus, Verdict};
use crate::model::id::{AppId, DeliveryId, NotificationId, UserId};
use crate::model::template::course::Marks;
use crate::model::{Result, Timestamp};

/// The numbers of what waits for a driver, is in the hands of one, and is over.
const QUEUED: i16 = 1;
const LEASED: i16 = 2;
const OVER: i16 = 3;

/// A delivery that is to be queued.
#[derive(Clone, Copy, Debug)]
pub struct Queued {
    /// The delivery.
    pub id: DeliveryId,
    /// The page whose counts have the recipient.
    pub page: PageKey,
    /// The recipient, by number and as a user.
    pub recipient: (i64, UserId),
}

/// Queues new deliveries.
///
/// # Errors
/// Those of the database.
pub async fn insert_outgoing(db: &impl ConnectionTrait, app: AppId, queued: &[Queued]) -> Result<()> {
    if queued.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = queued
        .iter()
        .map(|one| Model {
            app_id: app,
            delivery_id: one.id,
            notification_id: one.page.notification,
            page_number: one.page.number,
            seq: one.recipient.0,
            user_id: one.recipient.1,
            state: QUEUED,
            lease_until: None,
            fence: 0,
            attempts: 0,
            delivered_at: None,
            clicked_at: None,
        })
        .collect();
    bulk::insert_all::<Entity>(db, &rows).await
}

/// A delivery under a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The app.
    pub app: AppId,
    /// The delivery.
    pub id: DeliveryId,
    /// The page whose counts have the recipient.
    pub page: PageKey,
    /// The recipient, by number.
    pub seq: i64,
    /// The recipient as a user.
    pub user: UserId,
    /// What tells this lease from those before and after it.
    pub fence: i64,
    /// How often a driver was asked, this time included.
    pub attempts: u32,
}

/// What waits for a driver and is in nobody's hands.
fn free(clock: &str) -> String {
    format!("state <> {OVER} AND (lease_until IS NULL OR lease_until <= {clock})")
}

/// The first notification of an app behind `after` whose lane is open and that has something for a driver.
///
/// # Errors
/// Those of the database.
pub async fn find_ready(db: &impl ConnectionTrait, after: AppId) -> Result<Option<(AppId, NotificationId)>> {
    let backend = db.get_database_backend();
    let sql = format!(
        "SELECT l.app_id, l.notification_id FROM lanes l WHERE l.app_id > $1 AND l.state = 1 AND EXISTS \
         (SELECT 1 FROM outgoing o WHERE o.app_id = l.app_id AND o.notification_id = l.notification_id AND {}) \
         ORDER BY l.app_id, l.priority, l.notification_id LIMIT 1",
        free(clock(backend))
    );
    let row = db
        .query_one_raw(Statement::from_sql_and_values(backend, sql, [after.into()]))
        .await?;
    row.map(|row| Ok((row.try_get("", "app_id")?, row.try_get("", "notification_id")?)))
        .transpose()
}

/// Leases up to `limit` deliveries of a notification.
///
/// # Errors
/// Those of the database.
pub async fn claim_outgoing(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    lease: Duration,
    limit: u64,
) -> Result<Vec<Claimed>> {
    let backend = db.get_database_backend();
    let skip = match backend {
        DatabaseBackend::Postgres => "FOR UPDATE SKIP LOCKED",
        _ => "",
    };
    let (clock, millis) = (clock(backend), i64::try_from(lease.as_millis()).unwrap_or(i64::MAX / 2));
    let free = free(clock);
    let sql = format!(
        "UPDATE outgoing SET state = {LEASED}, lease_until = {clock} + $1, fence = fence + 1, attempts = attempts + 1 \
         WHERE app_id = $2 AND delivery_id IN (SELECT delivery_id FROM outgoing WHERE {free} AND app_id = $2 \
         AND notification_id = $3 ORDER BY delivery_id LIMIT {limit} {skip}) AND {free} \
         RETURNING app_id, delivery_id, notification_id, page_number, seq, user_id, fence, attempts"
    );
    let values: [Value; 3] = [millis.into(), app.into(), notification.into()];
    let rows = db
        .query_all_raw(Statement::from_sql_and_values(backend, sql, values))
        .await?;
    let mut claimed = rows.iter().map(claimed_of).collect::<Result<Vec<_>>>()?;
    // The order in which everybody takes them, so that nobody waits in a circle.
    claimed.sort_by_key(|one| one.id);
    Ok(claimed)
}

fn claimed_of(row: &QueryResult) -> Result<Claimed> {
    Ok(Claimed {
        app: row.try_get("", "app_id")?,
        id: row.try_get("", "delivery_id")?,
        page: PageKey {
            notification: row.try_get("", "notification_id")?,
            number: row.try_get("", "page_number")?,
        },
        seq: row.try_get("", "seq")?,
        user: row.try_get("", "user_id")?,
        fence: row.try_get("", "fence")?,
        attempts: large(row.try_get("", "attempts")?)?,
    })
}

/// Locks recipients, so that of two outcomes of one of them, or an outcome and a page, the second sees the first.
///
/// # Errors
/// Those of the database.
pub async fn lock_recipients(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    seqs: &[i64],
) -> Result<()> {
    use sea_orm::QueryOrder as _;
    let locked = recipient::Entity::find()
        .select_only()
        .column(recipient::Column::Seq)
        .filter(recipient::Column::AppId.eq(app))
        .filter(recipient::Column::NotificationId.eq(notification))
        .filter(recipient::Column::Seq.is_in(seqs.iter().copied()))
        .order_by_asc(recipient::Column::Seq)
        .lock_exclusive();
    locked.into_tuple::<i64>().all(db).await?;
    Ok(())
}

/// Writes down what became of a delivery for good, in the ledger too; tells whether the lease still held.
///
/// # Errors
/// Those of the database.
pub async fn record_outgoing(
    db: &impl ConnectionTrait,
    claimed: &Claimed,
    verdict: &Verdict,
    now: Timestamp,
) -> Result<bool> {
    let over = at(claimed)
        .col_expr(Column::State, Expr::value(OVER))
        .col_expr(Column::LeaseUntil, Expr::value(None::<i64>))
        .exec(db)
        .await?;
    if over.rows_affected == 0 {
        return Ok(false);
    }
    delivery::Entity::update_many()
        .col_expr(delivery::Column::Status, Expr::value(verdict.status.number()))
        .col_expr(
            delivery::Column::Reason,
            Expr::value(verdict.reason.as_ref().map(ToString::to_string)),
        )
        .col_expr(delivery::Column::UpdatedAt, Expr::value(now))
        .filter(delivery::Column::AppId.eq(claimed.app))
        .filter(delivery::Column::Id.eq(claimed.id))
        .filter(delivery::Column::Status.eq(DeliveryStatus::Queued.number()))
        .exec(db)
        .await?;
    Ok(true)
}

/// Puts a delivery back, for anybody to try again after `wait`.
///
/// # Errors
/// Those of the database.
pub async fn release_outgoing(db: &impl ConnectionTrait, claimed: &Claimed, wait: Duration) -> Result<()> {
    let free = format!("{} + {}", clock(db.get_database_backend()), wait.as_millis());
    at(claimed)
        .col_expr(Column::State, Expr::value(QUEUED))
        .col_expr(Column::LeaseUntil, Expr::cust(free))
        .exec(db)
        .await?;
    Ok(())
}

fn at(claimed: &Claimed) -> UpdateMany<Entity> {
    Entity::update_many()
        .filter(Column::AppId.eq(claimed.app))
        .filter(Column::DeliveryId.eq(claimed.id))
        .filter(Column::Fence.eq(claimed.fence))
        .filter(Column::State.eq(LEASED))
}

/// How often a driver was given deliveries, by delivery; nothing of those that are for none.
///
/// # Errors
/// Those of the database, and internal when a row holds a negative number.
pub async fn find_attempts(
    db: &impl ConnectionTrait,
    app: AppId,
    ids: &[DeliveryId],
) -> Result<BTreeMap<DeliveryId, u32>> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = Entity::find()
        .select_only()
        .columns([Column::DeliveryId, Column::Attempts])
        .filter(Column::AppId.eq(app))
        .filter(Column::DeliveryId.is_in(ids.iter().copied()));
    let rows: Vec<(DeliveryId, i32)> = rows.into_tuple().all(db).await?;
    rows.into_iter()
        .map(|(id, attempts)| Ok((id, large(attempts)?)))
        .collect()
}

/// What the receivers' side said of deliveries, by delivery.
///
/// # Errors
/// Those of the database.
pub async fn find_marks(
    db: &impl ConnectionTrait,
    app: AppId,
    ids: &[DeliveryId],
) -> Result<BTreeMap<DeliveryId, Marks>> {
    let rows = Entity::find()
        .filter(Column::AppId.eq(app))
        .filter(Column::DeliveryId.is_in(ids.iter().copied()))
        .all(db)
        .await?;
    let marks = rows.into_iter().map(|row| {
        let marks = Marks {
            delivered_at: row.delivered_at,
            clicked_at: row.clicked_at,
            ..Marks::default()
        };
        (row.delivery_id, marks)
    });
    Ok(marks.collect())
}
