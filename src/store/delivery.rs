//! The ledger of deliveries. A line is written once; whoever repeats a page finds it there and adds nothing.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::entity::delivery;
use super::{bulk, outgoing};
use crate::model::channel::ChannelType;
use crate::model::delivery::{Delivery, DeliveryReason, DeliveryStatus, Verdict};
use crate::model::id::{AppId, DeliveryId, FeedItemId, NotificationId, UserId};
use crate::model::notification::step::PastLine;
use crate::model::notification::{PlannedLine, PlannedRecipient};
use crate::model::template::course::FIRST_STEP;
use crate::model::user::{Resolved, Uid};
use crate::model::{Result, Timestamp};

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
            rows.extend(lines.map(|line| row_of((app, notification), (user, &recipient.uid), line, now)));
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
    (user, uid): (UserId, &Uid),
    line: &PlannedLine,
    now: Timestamp,
) -> delivery::Model {
    let PlannedLine { id, step, delivery } = line;
    delivery::Model {
        id: *id,
        app_id: app,
        notification_id: notification,
        step: *step,
        user_id: user,
        channel_type: delivery.channel_type.number(),
        channel_id: delivery.channel_id.unwrap_or_else(|| Uuid::nil().into()),
        // Users have no addresses of their own yet, so a driver is told who it is for.
        address: match delivery.verdict.status {
            DeliveryStatus::Queued => uid.to_string(),
            DeliveryStatus::Accepted
            | DeliveryStatus::Failed
            | DeliveryStatus::Suppressed
            | DeliveryStatus::Unknown(_) => String::new(),
        },
        status: delivery.verdict.status.number(),
        reason: delivery.verdict.reason.as_ref().map(ToString::to_string),
        created_at: now,
        updated_at: now,
    }
}

/// What the ledger says of one recipient.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Their deliveries.
    pub deliveries: Vec<Delivery>,
    /// Whether something more is to come to them: a step up to the last one, or what a driver has not taken.
    pub goes_on: bool,
    is_over: bool,
}

impl Served {
    /// The deliveries in the order of the channel types. What is queued by a notification never leaves once that is
    /// cancelled.
    #[must_use]
    pub fn in_order(mut self, channels: &[ChannelType], cancelled_at: Option<Timestamp>) -> Vec<Delivery> {
        self.deliveries
            .sort_by_key(|delivery| channels.iter().position(|channel| *channel == delivery.channel_type));
        let Some(cancelled_at) = cancelled_at else {
            return self.deliveries;
        };
        let queued = |delivery: &&mut Delivery| delivery.verdict == Verdict::QUEUED;
        for delivery in self.deliveries.iter_mut().filter(queued) {
            delivery.verdict = Verdict::suppressed(DeliveryReason::CANCELLED);
            delivery.updated_at = delivery.updated_at.max(Some(cancelled_at));
        }
        self.deliveries
    }
}

/// The deliveries of a notification with so many steps to some of its users, by user. Each has few.
///
/// # Errors
/// Those of the database.
pub async fn list_deliveries(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    last: i32,
    users: impl IntoIterator<Item = UserId>,
) -> Result<BTreeMap<UserId, Served>> {
    let rows = of_users(db, (app, notification), last, users).await?;
    let is_driven = |row: &&delivery::Model| row.channel_type != ChannelType::InApp.number();
    let driven: Vec<DeliveryId> = rows.iter().filter(is_driven).map(|row| row.id).collect();
    // After the lines: what has an outcome there was handed to a driver at least once.
    let attempts = outgoing::find_attempts(db, app, &driven).await?;
    let mut lines: BTreeMap<UserId, Served> = BTreeMap::new();
    for row in rows {
        let served = lines.entry(row.user_id).or_default();
        served.is_over |= row.step == last;
        served.goes_on |= row.status == DeliveryStatus::Queued.number();
        let attempts = attempts.get(&row.id).copied();
        served.deliveries.push(delivery_of(row, attempts));
    }
    for served in lines.values_mut() {
        served.goes_on |= !served.is_over;
    }
    Ok(lines)
}

/// The lines that steps up to `last` have written for some users, by user.
///
/// # Errors
/// Those of the database.
pub async fn list_lines(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    last: i32,
    users: impl IntoIterator<Item = UserId>,
) -> Result<BTreeMap<UserId, Vec<PastLine>>> {
    let rows = of_users(db, (app, notification), last, users).await?;
    let mut lines: BTreeMap<UserId, Vec<PastLine>> = BTreeMap::new();
    for row in rows {
        let line = PastLine {
            id: row.id,
            step: row.step,
            created_at: row.created_at,
            verdict: verdict_of(row.status, row.reason),
        };
        lines.entry(row.user_id).or_default().push(line);
    }
    Ok(lines)
}

/// The channel type and the address of a line.
///
/// # Errors
/// Those of the database.
pub async fn find_line(db: &impl ConnectionTrait, app: AppId, id: DeliveryId) -> Result<Option<(ChannelType, String)>> {
    let row = delivery::Entity::find()
        .filter(delivery::Column::AppId.eq(app))
        .filter(delivery::Column::Id.eq(id))
        .one(db)
        .await?;
    Ok(row.map(|row| (ChannelType::of_number(row.channel_type), row.address)))
}

async fn of_users(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    last: i32,
    users: impl IntoIterator<Item = UserId>,
) -> Result<Vec<delivery::Model>> {
    // The steps are named one by one, because the key leads with them.
    let rows = delivery::Entity::find()
        .filter(delivery::Column::AppId.eq(app))
        .filter(delivery::Column::NotificationId.eq(notification))
        .filter(delivery::Column::Step.is_in(FIRST_STEP..=last))
        .filter(delivery::Column::UserId.is_in(users));
    Ok(rows.all(db).await?)
}

fn verdict_of(status: i16, reason: Option<String>) -> Verdict {
    Verdict {
        status: DeliveryStatus::of_number(status),
        reason: reason.map(DeliveryReason::stored),
    }
}

fn delivery_of(row: delivery::Model, attempts: Option<u32>) -> Delivery {
    let channel_type = ChannelType::of_number(row.channel_type);
    let verdict = verdict_of(row.status, row.reason);
    let in_feed = channel_type == ChannelType::InApp && verdict == Verdict::ACCEPTED;
    Delivery {
        channel_type,
        channel_id: (row.channel_id.uuid() != Uuid::nil()).then_some(row.channel_id),
        verdict,
        feed_item_id: in_feed.then(|| FeedItemId::from(row.id.uuid())),
        attempts,
        created_at: Some(row.created_at),
        updated_at: Some(row.updated_at),
    }
}
