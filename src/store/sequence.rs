//! What the steps of a sequence have come to, counted from the ledger, the feeds and what drivers have taken.

use sea_orm::{ConnectionTrait, FromQueryResult, Statement, Value};

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

async fn count_served(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    step: i32,
    in_feed: bool,
) -> Result<StepCounts> {
    #[derive(FromQueryResult)]
    struct Sums {
        requested: i64,
        accepted: i64,
        failed: i64,
        delivered: i64,
        viewed: i64,
        engaged: i64,
        clicked: i64,
        stopped: i64,
        skipped: i64,
    }
    // An item has the id of its delivery.
    let (of, read, interacted, clicked) = if in_feed {
        let topic = "EXISTS (SELECT 1 FROM feed_item_engagements e WHERE e.app_id = d.app_id AND e.feed_item_id = d.id \
                     AND e.topic = 'clicked')";
        let of = "feed_items x ON x.id = d.id AND x.app_id = d.app_id";
        (of, "x.read_at IS NOT NULL", "x.interacted_at IS NOT NULL", topic)
    } else {
        let of = "outgoing x ON x.app_id = d.app_id AND x.delivery_id = d.id";
        (of, "1 = 0", "1 = 0", "x.clicked_at IS NOT NULL")
    };
    let stopped = format!("d.reason = '{}'", DeliveryReason::SEQUENCE_STOPPED);
    let sums = [
        ("requested", "d.status <> 3"),
        ("accepted", "d.status = 1"),
        ("failed", "d.status = 2"),
        ("delivered", "x.delivered_at IS NOT NULL"),
        ("viewed", read),
        ("engaged", interacted),
        ("clicked", clicked),
        ("stopped", &format!("d.status = 3 AND {stopped}")),
        ("skipped", &format!("d.status = 3 AND NOT {stopped}")),
    ];
    let sums =
        sums.map(|(name, is)| format!("CAST(COALESCE(SUM(CASE WHEN {is} THEN 1 ELSE 0 END), 0) AS BIGINT) AS {name}"));
    let sql = format!(
        "SELECT {} FROM deliveries d LEFT JOIN {of} WHERE d.app_id = $1 AND d.notification_id = $2 AND d.step = $3",
        sums.join(", ")
    );
    let values: [Value; 3] = [app.into(), notification.into(), step.into()];
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let Some(sums) = Sums::find_by_statement(statement).one(db).await? else {
        return Ok(StepCounts::default());
    };
    let count = |sum: i64| u32::try_from(sum).map_err(Error::internal);
    Ok(StepCounts {
        requested: count(sums.requested)?,
        accepted: count(sums.accepted)?,
        failed: count(sums.failed)?,
        delivered: count(sums.delivered)?,
        viewed: count(sums.viewed)?,
        engaged: count(sums.engaged)?,
        clicked: count(sums.clicked)?,
        stopped: count(sums.stopped)?,
        skipped: count(sums.skipped)?,
        waiting: 0,
    })
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
