//! The ledger of deliveries. A line is written once; whoever repeats a page finds it there and adds nothing.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::bulk;
use super::entity::delivery;
use crate::model::channel::ChannelType;
use crate::model::delivery::{Delivery, DeliveryReason, DeliveryStatus, Verdict};
use crate::model::id::{AppId, DeliveryId, FeedItemId, NotificationId, UserId};
use crate::model::notification::{PlannedLine, PlannedRecipient};
use crate::model::user::Resolved;
use crate::model::{Result, Timestamp};

/// The only step of a notification that is no sequence.
pub(super) const FIRST_STEP: i32 = 1;

/// Writes the lines planned for recipients of an app's notifications down, except those that are there already, and gives
/// those that are new.
///
/// # Errors
/// Those of the database.
pub async fn insert_deliveries<'p>(
    db: &impl ConnectionTrait,
    app: AppId,
    pages: impl IntoIterator<Item = (NotificationId, &'p [PlannedRecipient], Timestamp)> + Send,
) -> Result<BTreeSet<DeliveryId>> {
    let mut rows = Vec::new();
    for (notification, recipients, now) in pages {
        for recipient in recipients {
            let Resolved::Active(user) = recipient.user else {
                continue;
            };
            let lines = recipient.lines.iter();
            rows.extend(lines.map(|line| row_of((app, notification), user, line, now)));
        }
    }
    if rows.is_empty() {
        return Ok(BTreeSet::new());
    }
    let new = bulk::insert_new::<delivery::Entity>(db, &rows, delivery::Column::Id).await?;
    Ok(new.into_iter().map(DeliveryId::from).collect())
}

fn row_of(
    (app, notification): (AppId, NotificationId),
    user: UserId,
    line: &PlannedLine,
    now: Timestamp,
) -> delivery::Model {
    let PlannedLine { id, delivery } = line;
    delivery::Model {
        id: *id,
        app_id: app,
        notification_id: notification,
        step: FIRST_STEP,
        user_id: user,
        channel_type: delivery.channel_type.number(),
        channel_id: delivery.channel_id.unwrap_or_else(|| Uuid::nil().into()),
        address: String::new(),
        status: delivery.verdict.status.number(),
        reason: delivery.verdict.reason.as_ref().map(ToString::to_string),
        created_at: now,
        updated_at: now,
    }
}

/// The deliveries of a notification to some of its users, by user. Each has few.
///
/// # Errors
/// Those of the database.
pub async fn list_deliveries(
    db: &impl ConnectionTrait,
    app: AppId,
    notification: NotificationId,
    users: impl IntoIterator<Item = UserId>,
) -> Result<BTreeMap<UserId, Vec<Delivery>>> {
    let rows = delivery::Entity::find()
        .filter(delivery::Column::AppId.eq(app))
        .filter(delivery::Column::NotificationId.eq(notification))
        .filter(delivery::Column::Step.eq(FIRST_STEP))
        .filter(delivery::Column::UserId.is_in(users))
        .all(db)
        .await?;
    let mut lines: BTreeMap<UserId, Vec<Delivery>> = BTreeMap::new();
    for row in rows {
        lines.entry(row.user_id).or_default().push(delivery_of(row));
    }
    Ok(lines)
}

fn delivery_of(row: delivery::Model) -> Delivery {
    let channel_type = ChannelType::of_number(row.channel_type);
    let verdict = Verdict {
        status: DeliveryStatus::of_number(row.status),
        reason: row.reason.map(DeliveryReason::stored),
    };
    let in_feed = channel_type == ChannelType::InApp && verdict == Verdict::ACCEPTED;
    Delivery {
        channel_type,
        channel_id: (row.channel_id.uuid() != Uuid::nil()).then_some(row.channel_id),
        verdict,
        feed_item_id: in_feed.then(|| FeedItemId::from(row.id.uuid())),
    }
}
