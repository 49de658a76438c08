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
        mode: notification.mode.number(),
        status: notification.status.number(),
        data_type: notification.data_type.number(),
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
            outcome: RecipientOutcome::of(recipient.user).number(),
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
        mode: SendMode::of_number(row.mode),
        status: NotificationStatus::of_number(row.status),
        channels,
        data_type: DataType::of_number(row.data_type),
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
        Receiver {
            uid: Uid::stored(row.uid),
            deliveries: RecipientOutcome::of_number(row.outcome)
                .skipped(channels)
                .unwrap_or(served),
        }
    });
    Ok(receivers.collect())
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
