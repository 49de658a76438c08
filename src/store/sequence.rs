//! What the steps of a sequence have come to, counted from the ledger, with the marks of feeds and from what drivers have
//! taken.

use sea_orm::{ConnectionTrait, DatabaseBackend, FromQueryResult, Statement, Value};

use super::feed::{Tallied, find_tally};
use super::notification::get_shape;
use super::page::step_numbers;
use crate::model::campaign::sequence::{StepCounts, StepMetrics};
use crate::model::channel::ChannelType;
use crate::model::delivery::DeliveryReason;
use crate::model::id::{AppId, NotificationId};
use crate::model::{Error, Reason, Result};

/// What each step of a notification has come to; nothing when it is no sequence, or was removed.
///
/// # Errors
/// Those of the database.
pub async fn list_metrics(
    db: &impl ConnectionTrait,
    app: AppId,
    notification: NotificationId,
) -> Result<Vec<StepMetrics>> {
    let shape = match get_shape(db, app, notification).await {
        Err(gone) if gone.reason() == Reason::NotificationNotFound => return Ok(Vec::new()),
        found => found?,
    };
    let mut metrics = Vec::new();
    let steps = shape.sequence.iter().flat_map(|sequence| sequence.steps());
    for (number, step) in (1..).zip(steps) {
        let in_feed = step.channel_type == ChannelType::InApp;
        let served = count_served(db, (app, notification), number, in_feed).await?;
        let waiting = count_waiting(db, (app, notification), number).await?;
        metrics.push(StepMetrics {
            counts: StepCounts { waiting, ..served },
            ..StepMetrics::new(number, step)
        });
    }
    Ok(metrics)
}

/// What the ledger says of a step, and the marks of what it sent.
async fn count_served(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    step: i32,
    in_feed: bool,
) -> Result<StepCounts> {
    let stopped = format!("d.reason = '{}'", DeliveryReason::SEQUENCE_STOPPED);
    let sums = [
        ("requested", "d.status <> 3"),
        ("accepted", "d.status = 1"),
        ("failed", "d.status = 2"),
        ("stopped", &format!("d.status = 3 AND {stopped}")),
        ("skipped", &format!("d.status = 3 AND NOT {stopped}")),
    ];
    let sums = sums.map(|(name, is)| format!("COUNT(CASE WHEN {is} THEN 1 END) AS {name}"));
    let sql = format!(
        "SELECT {} FROM deliveries d WHERE d.app_id = $1 AND d.notification_id = $2 AND d.step = $3",
        sums.join(", ")
    );
    let backend = db.get_database_backend();
    let values: [Value; 3] = [app.into(), notification.into(), step.into()];
    let ledger = db
        .query_one_raw(Statement::from_sql_and_values(backend, sql, values))
        .await?;
    let marks = count_marks(db, (app, notification), step, in_feed).await?;
    let count = |name: &str| {
        let counted: Option<i64> = ledger.as_ref().map(|row| row.try_get("", name)).transpose()?;
        counted_of(counted.unwrap_or_default())
    };
    Ok(StepCounts {
        requested: count("requested")?,
        accepted: count("accepted")?,
        failed: count("failed")?,
        delivered: counted_of(marks.delivered)?,
        viewed: counted_of(marks.viewed)?,
        engaged: counted_of(marks.engaged)?,
        clicked: counted_of(marks.clicked)?,
        stopped: count("stopped")?,
        skipped: count("skipped")?,
        waiting: 0,
    })
}

fn counted_of(number: i64) -> Result<u32> {
    u32::try_from(number).map_err(Error::internal)
}

/// What users did with a step. One step of a sequence goes through the feed.
async fn count_marks(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    step: i32,
    in_feed: bool,
) -> Result<Tallied> {
    if in_feed {
        return find_tally(db, app, notification).await;
    }
    let statement = receipts_statement(db.get_database_backend(), (app, notification), step);
    let found = Tallied::find_by_statement(statement).one(db).await?;
    Ok(found.unwrap_or_default())
}

/// How what drivers were told of a step is counted: only what there is something of is looked at.
#[must_use]
pub fn receipts_statement(
    backend: DatabaseBackend,
    (app, notification): (AppId, NotificationId),
    step: i32,
) -> Statement {
    // SQLite prefers indexes that hold all rows.
    let by = match backend {
        DatabaseBackend::Sqlite => "INDEXED BY outgoing_marked",
        _ => "",
    };
    let sql = format!(
        "SELECT COUNT(x.delivered_at) AS delivered, COUNT(NULL) AS viewed, COUNT(NULL) AS engaged, \
         COUNT(x.clicked_at) AS clicked FROM outgoing x {by} WHERE x.app_id = $1 AND x.notification_id = $2 \
         AND x.page_number BETWEEN $3 AND $4 AND (x.delivered_at IS NOT NULL OR x.clicked_at IS NOT NULL)"
    );
    let numbers = step_numbers(step);
    let values: [Value; 4] = [
        app.into(),
        notification.into(),
        (*numbers.start()).into(),
        (*numbers.end()).into(),
    ];
    Statement::from_sql_and_values(backend, sql, values)
}

/// Recipients in the ranges that wait for a step, or whose page of it is not done.
async fn count_waiting(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    step: i32,
) -> Result<u32> {
    let numbers = step_numbers(step);
    let sql = "SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) AS n FROM (SELECT to_seq - from_seq + 1 AS n FROM sequence_waits \
               WHERE app_id = $1 AND notification_id = $2 AND step = $3 UNION ALL SELECT to_seq - next_seq + 1 AS n \
               FROM pages WHERE app_id = $1 AND notification_id = $2 AND number BETWEEN $4 AND $5 AND state <> 3) w";
    let values: [Value; 5] = [
        app.into(),
        notification.into(),
        step.into(),
        (*numbers.start()).into(),
        (*numbers.end()).into(),
    ];
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let row = db.query_one_raw(statement).await?;
    let waiting: Option<i64> = row.map(|row| row.try_get("", "n")).transpose()?;
    u32::try_from(waiting.unwrap_or_default()).map_err(Error::internal)
}
