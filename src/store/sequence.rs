//! What the steps of a sequence have come to, counted from the ledger, the feeds and what drivers have taken.

use sea_orm::{ConnectionTrait, DatabaseBackend, QueryResult, Statement, Value};

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
    let marks = db
        .query_one_raw(marks_statement(backend, (app, notification), step, in_feed))
        .await?;
    let count = |row: &Option<QueryResult>, name: &str| {
        let counted: Option<i64> = row.as_ref().map(|row| row.try_get("", name)).transpose()?;
        u32::try_from(counted.unwrap_or_default()).map_err(Error::internal)
    };
    Ok(StepCounts {
        requested: count(&ledger, "requested")?,
        accepted: count(&ledger, "accepted")?,
        failed: count(&ledger, "failed")?,
        delivered: count(&marks, "delivered")?,
        viewed: count(&marks, "viewed")?,
        engaged: count(&marks, "engaged")?,
        clicked: count(&marks, "clicked")?,
        stopped: count(&ledger, "stopped")?,
        skipped: count(&ledger, "skipped")?,
        waiting: 0,
    })
}

/// How what users did with a step is counted: only what they did something with is looked at. One step of a sequence goes
/// through the feed.
#[must_use]
pub fn marks_statement(
    backend: DatabaseBackend,
    (app, notification): (AppId, NotificationId),
    step: i32,
    in_feed: bool,
) -> Statement {
    // SQLite prefers indexes that hold all rows.
    let by = |index: &str| match backend {
        DatabaseBackend::Sqlite => format!("INDEXED BY {index}"),
        _ => String::new(),
    };
    let of = "x.app_id = $1 AND x.notification_id = $2";
    let values: [Value; 2] = [app.into(), notification.into()];
    if in_feed {
        let sql = format!(
            "SELECT COUNT(x.delivered_at) AS delivered, COUNT(x.read_at) AS viewed, COUNT(x.interacted_at) AS engaged, \
             COUNT(e.topic) AS clicked FROM feed_items x {} LEFT JOIN feed_item_engagements e ON e.app_id = x.app_id \
             AND e.feed_item_id = x.id AND e.topic = 'clicked' \
             WHERE {of} AND (x.delivered_at IS NOT NULL OR x.interacted_at IS NOT NULL)",
            by("feed_items_marked")
        );
        return Statement::from_sql_and_values(backend, sql, values);
    }
    let numbers = step_numbers(step);
    let sql = format!(
        "SELECT COUNT(x.delivered_at) AS delivered, COUNT(NULL) AS viewed, COUNT(NULL) AS engaged, \
         COUNT(x.clicked_at) AS clicked FROM outgoing x {} WHERE {of} AND x.page_number BETWEEN $3 AND $4 \
         AND (x.delivered_at IS NOT NULL OR x.clicked_at IS NOT NULL)",
        by("outgoing_marked")
    );
    let numbers = [(*numbers.start()).into(), (*numbers.end()).into()];
    Statement::from_sql_and_values(backend, sql, values.into_iter().chain(numbers))
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
