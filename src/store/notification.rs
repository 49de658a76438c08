//! Notifications and their recipients in the database. What becomes of a recipient is decided before it is written here.

use std::collections::BTreeMap;

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};

use super::bulk;
use super::delivery::list_deliveries;
use super::entity::{notification, notification_recipient as recipient, page};
use super::value::Json;
use crate::model::channel::ChannelType;
use crate::model::delivery::{Counts, Delivery};
use crate::model::id::{AppId, NotificationId, UserId};
use crate::model::name::Name;
use crate::model::notification::{
    Copied, Notification, NotificationStatus, PlannedRecipient, Receiver, RecipientOutcome, SendMode,
};
use crate::model::template::DataType;
use crate::model::user::{Resolved, Uid};
use crate::model::variable::VariableValues;
use crate::model::{Error, Reason, Result};

/// Writes a notification down. Its counts and receivers are not part of its row.
///
/// # Errors
/// Those of the database.
pub async fn insert_notification(
    db: &impl ConnectionTrait,
    app: AppId,
    notification: &Notification,
    defaults: &VariableValues,
) -> Result<()> {
    let copied = &notification.copied;
    let row = notification::Model {
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
        mode: mode_number(notification.mode),
        status: status_number(notification.status),
        data_type: data_type_number(notification.data_type),
        defaults: Json::of(defaults)?,
        channels: Json::of(&notification.channels)?,
        total_targets: small(notification.total)?,
        duplicate_count: small(notification.duplicate_count)?,
        created_at: notification.created_at,
        completed_at: notification.completed_at,
    };
    notification::Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Writes the recipients of a notification down, each with the values of its own.
///
/// # Errors
/// Those of the database.
pub async fn insert_recipients(
    db: &impl ConnectionTrait,
    app: AppId,
    notification: NotificationId,
    recipients: &[PlannedRecipient],
    own: &BTreeMap<Uid, VariableValues>,
) -> Result<()> {
    let none = VariableValues::new();
    let rows = recipients.iter().map(|recipient| {
        Ok(recipient::Model {
            app_id: app,
            notification_id: notification,
            seq: recipient.seq,
            uid: recipient.uid.to_string(),
            user_id: match recipient.user {
                Resolved::Active(user) | Resolved::Deactivated(user) => Some(user),
                Resolved::Unknown => None,
            },
            variables: Json::of(own.get(&recipient.uid).unwrap_or(&none))?,
            outcome: outcome_number(RecipientOutcome::of(recipient.user)),
        })
    });
    bulk::insert_all::<recipient::Entity>(db, &rows.collect::<Result<Vec<_>>>()?).await
}

/// One notification with its counts and what became of each receiver.
///
/// # Errors
/// [`Reason::NotificationNotFound`], and those of the database.
pub async fn get_notification(db: &impl ConnectionTrait, app: AppId, id: NotificationId) -> Result<Notification> {
    let row = notification::Entity::find()
        .filter(notification::Column::AppId.eq(app))
        .filter(notification::Column::Id.eq(id))
        .one(db)
        .await?;
    let row = row.ok_or_else(|| Error::not_found(Reason::NotificationNotFound, "notificationId", id))?;
    let channels: Vec<ChannelType> = row.channels.read()?;
    let receivers = list_receivers(db, app, id, &channels).await?;
    Ok(Notification {
        id,
        copied: Copied {
            template_id: row.template_id,
            template_name: Name::stored(row.template_name),
            version_id: row.template_version_id,
            version: large(row.template_version)?,
            category_id: row.category_id,
            category_name: row.category_name.map(Name::stored),
            label: row.label,
            alternative_text: row.alternative_text,
            tags: row.tags.read()?,
        },
        tag: row.tag,
        mode: mode_of(row.mode)?,
        status: status_of(row.status)?,
        channels,
        data_type: data_type_of(row.data_type)?,
        total: large(row.total_targets)?,
        counts: get_counts(db, app, id).await?,
        duplicate_count: large(row.duplicate_count)?,
        receivers,
        completed_at: row.completed_at,
        created_at: row.created_at,
    })
}

async fn list_receivers(
    db: &impl ConnectionTrait,
    app: AppId,
    id: NotificationId,
    channels: &[ChannelType],
) -> Result<Vec<Receiver>> {
    let rows = recipient::Entity::find()
        .filter(recipient::Column::AppId.eq(app))
        .filter(recipient::Column::NotificationId.eq(id))
        .order_by_asc(recipient::Column::Seq)
        .limit(RECEIVERS_MAX)
        .all(db)
        .await?;
    let mut lines: BTreeMap<UserId, Vec<Delivery>> = list_deliveries(db, app, id).await?;
    let receivers = rows.into_iter().map(|row| {
        let mut served = row.user_id.and_then(|user| lines.remove(&user)).unwrap_or_default();
        served.sort_by_key(|delivery| channels.iter().position(|channel| *channel == delivery.channel_type));
        Ok(Receiver {
            uid: Uid::stored(row.uid),
            deliveries: outcome_of(row.outcome)?.skipped(channels).unwrap_or(served),
        })
    });
    receivers.collect()
}

/// The receivers that an answer holds at most, as the contract says.
const RECEIVERS_MAX: u64 = 10_000;

async fn get_counts(db: &impl ConnectionTrait, app: AppId, id: NotificationId) -> Result<Counts> {
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

/// The number of a data type in the contract and in rows.
pub(super) const fn data_type_number(data_type: DataType) -> i16 {
    match data_type {
        DataType::UiTemplate => 1,
        DataType::DataTemplate => 2,
    }
}

/// The data type with this number.
pub(super) fn data_type_of(number: i16) -> Result<DataType> {
    match number {
        1 => Ok(DataType::UiTemplate),
        2 => Ok(DataType::DataTemplate),
        other => Err(unknown("data type", other)),
    }
}

const fn mode_number(mode: SendMode) -> i16 {
    match mode {
        SendMode::Realtime => 1,
    }
}

fn mode_of(number: i16) -> Result<SendMode> {
    match number {
        1 => Ok(SendMode::Realtime),
        other => Err(unknown("send mode", other)),
    }
}

const fn status_number(status: NotificationStatus) -> i16 {
    match status {
        NotificationStatus::Dispatching => 1,
        NotificationStatus::Completed => 2,
        NotificationStatus::Failed => 3,
        NotificationStatus::PartiallyFailed => 4,
    }
}

fn status_of(number: i16) -> Result<NotificationStatus> {
    match number {
        1 => Ok(NotificationStatus::Dispatching),
        2 => Ok(NotificationStatus::Completed),
        3 => Ok(NotificationStatus::Failed),
        4 => Ok(NotificationStatus::PartiallyFailed),
        other => Err(unknown("notification status", other)),
    }
}

const fn outcome_number(outcome: RecipientOutcome) -> i16 {
    match outcome {
        RecipientOutcome::Planned => 1,
        RecipientOutcome::UnknownUser => 2,
        RecipientOutcome::UserDeactivated => 3,
    }
}

fn outcome_of(number: i16) -> Result<RecipientOutcome> {
    match number {
        1 => Ok(RecipientOutcome::Planned),
        2 => Ok(RecipientOutcome::UnknownUser),
        3 => Ok(RecipientOutcome::UserDeactivated),
        other => Err(unknown("recipient outcome", other)),
    }
}

/// A number that a later build wrote.
pub(super) fn unknown(what: &str, number: i16) -> Error {
    Error::internal(format!("{what} {number} is not known to this build"))
}
