//! Lanes in the database: what stands before the open pages of one notification and says whether, in which order and how
//! fast they are claimed. A lane is there while its notification is dispatched or held. It never touches a page.
//!
//! Its times go by the clock of the database, as those of leases do.

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, IntoActiveModel, QueryFilter, Statement};

use super::entity::lane::{Column, Entity, Model};
use super::notification::small;
use super::page::{clock, open_pages};
use crate::model::id::{AppId, NotificationId};
use crate::model::{Error, Result, Timestamp};

/// The number of a lane whose pages may be claimed.
const OPEN: i16 = 1;
/// The number of one whose pages may not.
const HELD: i16 = 2;

/// Lanes that are mended in one step at most.
pub const MENDED_MAX: u64 = 100;
/// How long an intent to hold a lane stands before the notification it is for: a call that has not come to its end by then
/// never will. In milliseconds.
const INTENT_TIME_MAX: i64 = 30_000;

/// Who comes first within an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Sends from the API.
    Direct,
    /// Campaigns.
    Campaign,
}

/// A lane whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The app.
    pub app: AppId,
    /// The notification.
    pub notification: NotificationId,
    /// Recipients in a second, if that is limited.
    pub rate_per_second: Option<u32>,
}

/// Opens the lane of a notification.
///
/// # Errors
/// Those of the database.
pub async fn insert_lane(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    priority: Priority,
    rate_per_second: Option<u32>,
    now: Timestamp,
) -> Result<()> {
    let row = Model {
        app_id: app,
        notification_id: notification,
        priority: match priority {
            Priority::Direct => 0,
            Priority::Campaign => 1,
        },
        state: OPEN,
        state_since: now,
        next_due: 0,
        rate_per_second: rate_per_second.map(small).transpose()?,
    };
    Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// The first lane of an app behind `after` that is open, due and has a free page.
///
/// # Errors
/// Those of the database.
pub async fn find_ready(db: &impl ConnectionTrait, after: AppId) -> Result<Option<Ready>> {
    let row = db
        .query_one_raw(ready_statement(db.get_database_backend(), after))
        .await?;
    let ready = row.map(|row| {
        let rate: Option<i32> = row.try_get("", "rate_per_second")?;
        Ok::<_, Error>(Ready {
            app: row.try_get("", "app_id")?,
            notification: row.try_get("", "notification_id")?,
            rate_per_second: rate.map(u32::try_from).transpose().map_err(Error::internal)?,
        })
    });
    ready.transpose()
}

/// How it is found.
#[must_use]
pub fn ready_statement(backend: DatabaseBackend, after: AppId) -> Statement {
    let (clock, open) = (clock(backend), open_pages(backend));
    // SQLite prefers the primary key, and then sorts all lanes of an app for the first of them.
    let lanes = match backend {
        DatabaseBackend::Sqlite => "lanes l INDEXED BY lanes_order",
        _ => "lanes l",
    };
    let sql = format!(
        "SELECT l.app_id, l.notification_id, l.rate_per_second FROM {lanes} \
         WHERE l.app_id > $1 AND l.state = {OPEN} AND l.next_due <= {clock} AND EXISTS (SELECT 1 FROM {open} \
         WHERE p.app_id = l.app_id AND p.notification_id = l.notification_id AND p.state <> 3 \
         AND (p.lease_until IS NULL OR p.lease_until <= {clock})) \
         ORDER BY l.app_id, l.priority, l.notification_id LIMIT 1"
    );
    Statement::from_sql_and_values(backend, sql, [after.into()])
}

/// Moves the time before which nothing more is claimed from a lane that is limited, by what so many recipients take, unless
/// somebody else did so first; tells whether it did.
///
/// # Errors
/// Those of the database.
pub async fn take_turn(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    recipients: i64,
    rate_per_second: u32,
) -> Result<bool> {
    let backend = db.get_database_backend();
    let clock = clock(backend);
    let millis = recipients.saturating_mul(1_000) / i64::from(rate_per_second.max(1));
    let sql = format!(
        "UPDATE lanes SET next_due = {clock} + $1 WHERE app_id = $2 AND notification_id = $3 AND state = {OPEN} \
         AND next_due <= {clock}"
    );
    let values = [millis.into(), app.into(), notification.into()];
    let done = db
        .execute_raw(Statement::from_sql_and_values(backend, sql, values))
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Says that nothing more is to be claimed from a lane, or that it may be again.
///
/// # Errors
/// Those of the database.
pub async fn hold_lane(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    held: bool,
    now: Timestamp,
) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::State, Expr::value(if held { HELD } else { OPEN }))
        .col_expr(Column::StateSince, Expr::value(now))
        .filter(Column::AppId.eq(app))
        .filter(Column::NotificationId.eq(notification))
        .exec(db)
        .await?;
    Ok(())
}

/// Removes the lane of a notification that has come to its end.
///
/// # Errors
/// Those of the database.
pub async fn delete_lane(db: &impl ConnectionTrait, app: AppId, notification: NotificationId) -> Result<()> {
    Entity::delete_many()
        .filter(Column::AppId.eq(app))
        .filter(Column::NotificationId.eq(notification))
        .exec(db)
        .await?;
    Ok(())
}

/// Makes lanes what their notifications are, where whoever changed those did not come to it: those of ended notifications
/// go, those of dispatched ones are there, and open once an intent to hold one has stood for too long. Says how many.
///
/// # Errors
/// Those of the database.
pub async fn mend_lanes(db: &impl ConnectionTrait, now: Timestamp) -> Result<u64> {
    let backend = db.get_database_backend();
    let of_lane = "SELECT 1 FROM notifications n WHERE n.app_id = lanes.app_id AND n.id = lanes.notification_id";
    // 1 is dispatching, 5 is paused.
    let ended = format!(
        "DELETE FROM lanes WHERE (app_id, notification_id) IN (SELECT app_id, notification_id FROM lanes \
         WHERE NOT EXISTS ({of_lane} AND n.status IN (1, 5)) LIMIT {MENDED_MAX})"
    );
    let missing = format!(
        "INSERT INTO lanes (app_id, notification_id, priority, state, state_since, next_due) \
         SELECT n.app_id, n.id, 0, {OPEN}, {0}, 0 FROM notifications n WHERE n.status = 1 AND NOT EXISTS \
         (SELECT 1 FROM lanes l WHERE l.app_id = n.app_id AND l.notification_id = n.id) LIMIT {MENDED_MAX} \
         ON CONFLICT DO NOTHING",
        now.millis()
    );
    let given_up = format!(
        "UPDATE lanes SET state = {OPEN} WHERE state = {HELD} AND state_since < {} AND EXISTS ({of_lane} AND n.status = 1)",
        now.millis().saturating_sub(INTENT_TIME_MAX)
    );
    let mut mended: u64 = 0;
    for sql in [ended, missing, given_up] {
        let done = db.execute_raw(Statement::from_string(backend, sql)).await?;
        mended = mended.saturating_add(done.rows_affected());
    }
    Ok(mended)
}
