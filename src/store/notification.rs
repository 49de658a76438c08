//! Notifications in the database. What they come to is decided before it is written here, except that the counts of pages
//! decide the final status.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect, Select, Statement,
};

use super::bulk;
use super::entity::{notification, page};
use super::receiver::list_all_receivers;
use super::value::Json;
use crate::model::channel::ChannelType;
use crate::model::delivery::Counts;
use crate::model::id::{AppId, NotificationId};
use crate::model::name::Name;
use crate::model::notification::{Copied, Notification, NotificationStatus, Progress, RECEIVERS_SHOWN_MAX, SendMode};
use crate::model::template::DataType;
use crate::model::template::course::{Sequence, last_step};
use crate::model::variable::VariableValues;
use crate::model::{Error, Origin, Reason, Result, Timestamp};

/// Writes notifications of an app down, each with the values that its recipients share and the call that it came with.
/// Their counts and receivers are not part of their rows.
///
/// # Errors
/// Those of the database.
pub async fn insert_notifications<'n>(
    db: &impl ConnectionTrait,
    app: AppId,
    notifications: impl IntoIterator<Item = (&'n Notification, &'n VariableValues, &'n Origin)> + Send,
) -> Result<()> {
    let rows = notifications
        .into_iter()
        .map(|(notification, defaults, origin)| row_of(app, notification, defaults, origin));
    bulk::insert_all::<notification::Entity>(db, &rows.collect::<Result<Vec<_>>>()?).await
}

fn row_of(
    app: AppId,
    notification: &Notification,
    defaults: &VariableValues,
    origin: &Origin,
) -> Result<notification::Model> {
    let copied = &notification.copied;
    Ok(notification::Model {
        id: notification.id,
        app_id: app,
        template_id: copied.template_id,
        template_name: copied.template_name.to_string(),
        template_version_id: copied.version_id,
        template_version: small(copied.version)?,
        category_id: copied.category_id,
        category_name: copied.category_name.as_ref().map(Name::to_string),
        label: copied.label.clone(),
        alternative_text: copied.alternative_text.clone(),
        tags: Json::of(&copied.tags)?,
        tag: notification.tag.clone(),
        mode: notification.mode.number(),
        status: notification.status.number(),
        data_type: notification.data_type.number(),
        defaults: Json::of(defaults)?,
        channels: Json::of(&notification.channels)?,
        total_targets: small(notification.total)?,
        duplicate_count: small(notification.duplicate_count)?,
        created_at: notification.created_at,
        completed_at: notification.completed_at,
        request_id: origin.request_id.as_deref().map(str::to_owned),
        trace_parent: origin.trace_parent.as_deref().map(str::to_owned),
        campaign_id: notification.campaign_id,
        sequence: notification.sequence.as_ref().map(Json::of).transpose()?,
    })
}

/// One notification with its counts, and with its receivers if they are few.
///
/// # Errors
/// [`Reason::NotificationNotFound`], and those of the database.
pub async fn get_notification(db: &impl ConnectionTrait, app: AppId, id: NotificationId) -> Result<Notification> {
    let row = get_row(at(app, id), id, db).await?;
    let (shape, total) = (shape_of(&row)?, large(row.total_targets)?);
    let receivers = if total <= RECEIVERS_SHOWN_MAX {
        list_all_receivers(db, app, id, &shape).await?
    } else {
        Vec::new()
    };
    Ok(Notification {
        id,
        copied: copied_of(&row)?,
        tag: row.tag,
        mode: SendMode::of_number(row.mode),
        status: NotificationStatus::of_number(row.status),
        channels: shape.channels,
        sequence: shape.sequence,
        data_type: DataType::of_number(row.data_type),
        total,
        counts: get_counts(db, app, id).await?,
        duplicate_count: large(row.duplicate_count)?,
        receivers,
        completed_at: row.completed_at,
        created_at: row.created_at,
        campaign_id: row.campaign_id,
    })
}

/// What the parts of a notification are.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// The channel types.
    pub channels: Vec<ChannelType>,
    /// How they follow each other, unless all are served at once.
    pub sequence: Option<Sequence>,
}

impl Shape {
    /// The last step.
    #[must_use]
    pub fn last_step(&self) -> i32 {
        last_step(self.sequence.as_ref())
    }
}

/// What the parts of a notification are.
///
/// # Errors
/// [`Reason::NotificationNotFound`], and those of the database.
pub async fn get_shape(db: &impl ConnectionTrait, app: AppId, id: NotificationId) -> Result<Shape> {
    shape_of(&get_row(at(app, id), id, db).await?)
}

fn shape_of(row: &notification::Model) -> Result<Shape> {
    Ok(Shape {
        channels: row.channels.read()?,
        sequence: row.sequence.as_ref().map(Json::read).transpose()?,
    })
}

/// How far a notification has come.
///
/// # Errors
/// [`Reason::NotificationNotFound`], and those of the database.
pub async fn get_progress(db: &impl ConnectionTrait, app: AppId, id: NotificationId) -> Result<Progress> {
    // The status first: once it is final, the counts are.
    let row = get_row(at(app, id), id, db).await?;
    Ok(Progress {
        status: NotificationStatus::of_number(row.status),
        total: large(row.total_targets)?,
        counts: get_counts(db, app, id).await?,
        completed_at: row.completed_at,
    })
}

/// The call that a notification came with.
///
/// # Errors
/// [`Reason::NotificationNotFound`], and those of the database.
pub async fn get_origin(db: &impl ConnectionTrait, app: AppId, id: NotificationId) -> Result<Origin> {
    let row = at(app, id)
        .select_only()
        .column(notification::Column::RequestId)
        .column(notification::Column::TraceParent);
    let row: Option<(Option<String>, Option<String>)> = row.into_tuple().one(db).await?;
    let (request_id, trace_parent) =
        row.ok_or_else(|| Error::not_found(Reason::NotificationNotFound, "notificationId", id))?;
    Ok(Origin {
        request_id: request_id.map(Into::into),
        trace_parent: trace_parent.map(Into::into),
    })
}

/// What a page needs of its notification.
#[derive(Clone, Debug, PartialEq)]
pub struct Sending {
    /// What it says about its template.
    pub copied: Copied,
    /// The values of every recipient that has none of its own.
    pub defaults: VariableValues,
    /// Whether anything of it may be done now.
    pub status: NotificationStatus,
    /// Whether it was sent by a campaign, whose recipients answer for their own variables.
    pub by_campaign: bool,
    /// How its channel types follow each other, unless all are served at once.
    pub sequence: Option<Sequence>,
}

/// A notification for a page of it. Until the transaction ends nobody can change its row.
///
/// # Errors
/// [`Reason::NotificationNotFound`], and those of the database.
pub async fn get_sending_shared(db: &impl ConnectionTrait, app: AppId, id: NotificationId) -> Result<Sending> {
    let row = get_row(at(app, id).lock_shared(), id, db).await?;
    Ok(Sending {
        copied: copied_of(&row)?,
        defaults: row.defaults.read()?,
        status: NotificationStatus::of_number(row.status),
        by_campaign: row.campaign_id.is_some(),
        sequence: row.sequence.as_ref().map(Json::read).transpose()?,
    })
}

/// Moves a notification from one of these statuses to another, once nobody does a page of it any more, and tells whether
/// it did. From then on no page of it goes on, unless that is what the status says.
///
/// # Errors
/// Those of the database.
pub async fn move_notification(
    db: &impl ConnectionTrait,
    (app, id): (AppId, NotificationId),
    from: &[NotificationStatus],
    to: NotificationStatus,
    completed_at: Option<Timestamp>,
) -> Result<bool> {
    let moved = notification::Entity::update_many()
        .col_expr(notification::Column::Status, Expr::value(to.number()))
        .col_expr(notification::Column::CompletedAt, Expr::value(completed_at))
        .filter(notification::Column::AppId.eq(app))
        .filter(notification::Column::Id.eq(id))
        .filter(notification::Column::Status.is_in(from.iter().map(|status| status.number())))
        .exec(db)
        .await?;
    Ok(moved.rows_affected == 1)
}

fn at(app: AppId, id: NotificationId) -> Select<notification::Entity> {
    notification::Entity::find()
        .filter(notification::Column::AppId.eq(app))
        .filter(notification::Column::Id.eq(id))
}

async fn get_row(
    query: Select<notification::Entity>,
    id: NotificationId,
    db: &impl ConnectionTrait,
) -> Result<notification::Model> {
    let row = query.one(db).await?;
    row.ok_or_else(|| Error::not_found(Reason::NotificationNotFound, "notificationId", id))
}

fn copied_of(row: &notification::Model) -> Result<Copied> {
    Ok(Copied {
        template_id: row.template_id,
        template_name: Name::stored(row.template_name.clone()),
        version_id: row.template_version_id,
        version: large(row.template_version)?,
        category_id: row.category_id,
        category_name: row.category_name.clone().map(Name::stored),
        label: row.label.clone(),
        alternative_text: row.alternative_text.clone(),
        tags: row.tags.read()?,
    })
}

/// Notifications that become final in one statement at most.
const COMPLETED_MAX: u64 = 100;

/// Makes every notification final whose pages are all done, for whom nobody waits for a further step and no driver has
/// anything to take, and says how many; only this one, if one is named.
///
/// It is one statement with its own condition, so it does not matter who comes first or how often. Pages never do it: two
/// that end at once would each still see the other.
///
/// # Errors
/// Those of the database.
pub async fn complete_notifications(
    db: &impl ConnectionTrait,
    only: Option<(AppId, NotificationId)>,
    now: Timestamp,
) -> Result<u64> {
    let named = if only.is_some() {
        "AND n.app_id = $2 AND n.id = $3"
    } else {
        ""
    };
    let sql = format!(
        "UPDATE notifications SET completed_at = $1, status = (SELECT CASE WHEN SUM(failed_count) = 0 THEN 2 \
         WHEN SUM(sent_count) = 0 THEN 3 ELSE 4 END FROM pages p \
         WHERE p.app_id = notifications.app_id AND p.notification_id = notifications.id) \
         WHERE status = 1 AND id IN (SELECT n.id FROM notifications n WHERE n.status = 1 {named} \
         AND NOT EXISTS (SELECT 1 FROM pages p WHERE p.app_id = n.app_id AND p.notification_id = n.id AND p.state <> 3) \
         AND NOT EXISTS (SELECT 1 FROM sequence_waits w WHERE w.app_id = n.app_id AND w.notification_id = n.id) \
         AND NOT EXISTS (SELECT 1 FROM outgoing o WHERE o.app_id = n.app_id AND o.notification_id = n.id \
         AND o.state <> 3) \
         LIMIT {COMPLETED_MAX})"
    );
    let mut values: Vec<sea_orm::Value> = vec![now.into()];
    if let Some((app, id)) = only {
        values.extend([app.into(), id.into()]);
    }
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    Ok(db.execute_raw(statement).await?.rows_affected())
}

pub(super) async fn get_counts(db: &impl ConnectionTrait, app: AppId, id: NotificationId) -> Result<Counts> {
    #[derive(FromQueryResult)]
    struct Sums {
        sent: Option<i64>,
        failed: Option<i64>,
        skipped: Option<i64>,
    }
    let sums = page::Entity::find()
        .select_only()
        .column_as(page::Column::SentCount.sum(), "sent")
        .column_as(page::Column::FailedCount.sum(), "failed")
        .column_as(page::Column::SkippedCount.sum(), "skipped")
        .filter(page::Column::AppId.eq(app))
        .filter(page::Column::NotificationId.eq(id))
        .into_model::<Sums>()
        .one(db)
        .await?;
    let count = |sum: Option<i64>| u32::try_from(sum.unwrap_or_default()).map_err(Error::internal);
    let Some(sums) = sums else {
        return Ok(Counts::default());
    };
    Ok(Counts {
        sent: count(sums.sent)?,
        failed: count(sums.failed)?,
        skipped: count(sums.skipped)?,
    })
}

/// A count or number as its column holds it.
pub(super) fn small(count: u32) -> Result<i32> {
    i32::try_from(count).map_err(Error::internal)
}

/// A count or number as its column held it.
pub(super) fn large(count: i32) -> Result<u32> {
    u32::try_from(count).map_err(Error::internal)
}
