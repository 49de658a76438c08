//! Recipients that wait for the next step of a sequence. A row is written with the step before, and goes in the transaction
//! that cuts the pages of the step it waits for, so that each is cut exactly once. Whether something is due is said by the
//! caller's clock.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, IntoActiveModel, QueryFilter, Statement, Value,
};

use super::entity::sequence_wait::{Column, Entity, Model};
use super::page::Rest;
use crate::model::id::{AppId, NotificationId};
use crate::model::{Result, Timestamp};

/// Lets recipients wait for a step.
///
/// # Errors
/// Those of the database.
pub async fn insert_wait(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    step: i32,
    recipients: Rest,
    due_at: Timestamp,
) -> Result<()> {
    let row = Model {
        app_id: app,
        notification_id: notification,
        step,
        from_seq: recipients.from,
        to_seq: recipients.to,
        due_at,
    };
    Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Notifications with open lanes whose recipients have waited long enough, each with the limit of its lane.
///
/// # Errors
/// Those of the database.
pub async fn list_due(
    db: &impl ConnectionTrait,
    now: Timestamp,
    limit: u64,
) -> Result<Vec<(AppId, NotificationId, Option<u32>)>> {
    // A lane that is held stands before all that waits in it, however much that is.
    let sql = format!(
        "SELECT l.app_id, l.notification_id, l.rate_per_second FROM lanes l WHERE l.state = 1 AND EXISTS \
         (SELECT 1 FROM sequence_waits w WHERE w.app_id = l.app_id AND w.notification_id = l.notification_id \
         AND w.due_at <= $1) LIMIT {limit}"
    );
    let rows = db
        .query_all_raw(Statement::from_sql_and_values(
            db.get_database_backend(),
            sql,
            [now.into()],
        ))
        .await?;
    let due = rows.iter().map(|row| {
        let rate: Option<i32> = row.try_get("", "rate_per_second")?;
        Ok((
            row.try_get("", "app_id")?,
            row.try_get("", "notification_id")?,
            rate.map(super::notification::large).transpose()?,
        ))
    });
    due.collect()
}

/// Takes recipients that have waited long enough for one step of a notification, up to `limit` ranges of them, and says
/// which step. Nobody else gets them.
///
/// # Errors
/// Those of the database.
pub async fn take_due(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    now: Timestamp,
    limit: u64,
) -> Result<Option<(i32, Vec<Rest>)>> {
    let backend = db.get_database_backend();
    // Whoever comes at the same time takes others. SQLite has one writer.
    let skip = match backend {
        DatabaseBackend::Postgres => "FOR UPDATE SKIP LOCKED",
        _ => "",
    };
    let due = "app_id = $1 AND notification_id = $2 AND due_at <= $3";
    let sql = format!(
        "SELECT step, from_seq, to_seq FROM sequence_waits WHERE {due} \
         AND step = (SELECT MIN(step) FROM sequence_waits WHERE {due}) ORDER BY from_seq LIMIT {limit} {skip}"
    );
    let values: [Value; 3] = [app.into(), notification.into(), now.into()];
    let rows = db
        .query_all_raw(Statement::from_sql_and_values(backend, sql, values))
        .await?;
    let (mut step, mut taken) = (None, Vec::new());
    for row in &rows {
        step = Some(row.try_get("", "step")?);
        taken.push(Rest {
            from: row.try_get("", "from_seq")?,
            to: row.try_get("", "to_seq")?,
        });
    }
    let Some(step) = step else { return Ok(None) };
    of(app, notification)
        .filter(Column::Step.eq(step))
        .filter(Column::FromSeq.is_in(taken.iter().map(|rest| rest.from)))
        .exec(db)
        .await?;
    Ok(Some((step, taken)))
}

/// When a recipient that waits for a step has waited long enough.
///
/// # Errors
/// Those of the database.
pub async fn find_wait(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    seq: i64,
) -> Result<Option<Timestamp>> {
    let wait = Entity::find()
        .filter(Column::AppId.eq(app))
        .filter(Column::NotificationId.eq(notification))
        .filter(Column::FromSeq.lte(seq))
        .filter(Column::ToSeq.gte(seq))
        .one(db)
        .await?;
    Ok(wait.map(|wait| wait.due_at))
}

/// Lets nobody wait any longer: the notification has ended before its time.
///
/// # Errors
/// Those of the database.
pub async fn delete_waits(db: &impl ConnectionTrait, app: AppId, notification: NotificationId) -> Result<()> {
    of(app, notification).exec(db).await?;
    Ok(())
}

fn of(app: AppId, notification: NotificationId) -> sea_orm::DeleteMany<Entity> {
    Entity::delete_many()
        .filter(Column::AppId.eq(app))
        .filter(Column::NotificationId.eq(notification))
}
