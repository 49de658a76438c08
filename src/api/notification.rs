//! Notifications between protobuf and the domain. It decides nothing.

mod progress;

use progress::OfNotification;

use super::channel::type_number;
use super::doors::NotificationApi;
use super::doors::sse::Events;
use super::page::{ListParameters, Totals, meta, pagination};
use super::variable::values_of;
use super::{Api, Call, Reply, convert, field};
use crate::domain::notification;
use crate::list_parameters;
use crate::model::channel::ChannelType;
use crate::model::delivery::Delivery;
use crate::model::id::NotificationId;
use crate::model::notification::{Notification, Receiver, ReceiverSort, ReceiverStatus, SendMode, SendRequest, Sent};
use crate::model::page::PageRequest;
use crate::model::{Error, Result};
use crate::pb::v1;

impl NotificationApi for Api {
    async fn send_notification(
        &self,
        call: Call,
        request: v1::SendNotificationRequest,
    ) -> Result<Reply<v1::SendNotificationResponse>> {
        let sent = notification::send(&self.service, &call.acting()?, request.into()).await?;
        Ok(Reply::of(sent, Into::into))
    }

    async fn get_notification(
        &self,
        call: Call,
        request: v1::GetNotificationRequest,
    ) -> Result<Reply<v1::GetNotificationResponse>> {
        let id = field::parse("notificationId", &request.notification_id)?;
        let notification = notification::get(&self.service, &call.acting()?, id).await?;
        Ok(Reply::new(v1::GetNotificationResponse {
            notification: Some(notification.into()),
        }))
    }

    async fn list_notification_receivers(
        &self,
        call: Call,
        request: v1::ListNotificationReceiversRequest,
    ) -> Result<Reply<v1::ListNotificationReceiversResponse>> {
        let id: NotificationId = field::parse("notificationId", &request.notification_id)?;
        let (status, page) = (request.status.and_then(receiver_status), page_of(&request, id)?);
        let found = notification::list_receivers(&self.service, &call.acting()?, id, status, &page).await?;
        Ok(Reply::new(v1::ListNotificationReceiversResponse {
            meta: Some(meta(&page, &found, |receiver| receiver.uid.to_string())),
            pagination: pagination(&page, &found),
            receivers: found.rows.into_iter().map(Into::into).collect(),
        }))
    }

    async fn watch_notification(
        &self,
        call: Call,
        request: v1::WatchNotificationRequest,
    ) -> Result<Events<v1::WatchNotificationResponse>> {
        let id = field::parse("notificationId", &request.notification_id)?;
        super::progress::watch(&self.service, call.acting()?, OfNotification(id)).await
    }
}

/// Asked for in the order in which the receivers were named, unless the request says otherwise.
fn page_of(request: &v1::ListNotificationReceiversRequest, id: NotificationId) -> Result<PageRequest<ReceiverSort>> {
    let sort = |_: i32| Some(ReceiverSort::Position);
    let mut parameters: ListParameters<ReceiverSort> =
        list_parameters!(request, sort, { position => ReceiverSort::Position });
    parameters.order = parameters.order.or(Some(v1::SortOrder::Asc.into()));
    // A position is unique by itself; what the rows of this list have beside it is the same in all of them.
    parameters
        .request(ReceiverSort::Position, Totals::ByPage, |_| Some(id.uuid()))
        .map_err(Error::invalid)
}

fn receiver_status(number: i32) -> Option<ReceiverStatus> {
    match v1::ReceiverStatus::try_from(number).ok()? {
        v1::ReceiverStatus::Unspecified => None,
        v1::ReceiverStatus::Pending => Some(ReceiverStatus::Pending),
        v1::ReceiverStatus::Sent => Some(ReceiverStatus::Sent),
        v1::ReceiverStatus::Failed => Some(ReceiverStatus::Failed),
        v1::ReceiverStatus::Skipped => Some(ReceiverStatus::Skipped),
        v1::ReceiverStatus::Cancelled => Some(ReceiverStatus::Cancelled),
    }
}

impl From<ReceiverStatus> for v1::ReceiverStatus {
    fn from(status: ReceiverStatus) -> Self {
        match status {
            ReceiverStatus::Pending => Self::Pending,
            ReceiverStatus::Sent => Self::Sent,
            ReceiverStatus::Failed => Self::Failed,
            ReceiverStatus::Skipped => Self::Skipped,
            ReceiverStatus::Cancelled => Self::Cancelled,
        }
    }
}

impl From<v1::SendNotificationRequest> for SendRequest {
    fn from(request: v1::SendNotificationRequest) -> Self {
        let own = request.variables.into_iter();
        Self {
            template: request.template_id,
            version: request.template_version.and_then(|number| u32::try_from(number).ok()),
            receivers: request.receivers,
            variables: own.map(|(uid, values)| (uid, values_of(values))).collect(),
            defaults: request.defaults.map(values_of).unwrap_or_default(),
            mode: request.mode,
            tag: request.tag,
        }
    }
}

impl From<Sent> for v1::SendNotificationResponse {
    fn from(sent: Sent) -> Self {
        Self {
            notification_id: sent.notification_id.to_string(),
            channels: types(&sent.channels),
            mode: sent.mode.to_string(),
            total: convert::count(sent.total),
            duplicate_count: convert::count(sent.duplicate_count),
            receivers: sent.receivers.into_iter().map(Into::into).collect(),
            batch_id: batch_id(sent.mode, sent.notification_id),
        }
    }
}

impl From<Notification> for v1::Notification {
    fn from(notification: Notification) -> Self {
        let copied = notification.copied;
        Self {
            id: notification.id.to_string(),
            template_id: copied.template_id.to_string(),
            template_name: copied.template_name.to_string(),
            template_version: convert::count(copied.version),
            category: copied.category_name.map(|name| name.to_string()),
            label: copied.label,
            tags: copied.tags,
            tag: notification.tag,
            mode: notification.mode.to_string(),
            status: notification.status.number().into(),
            campaign_id: notification.campaign_id.map(|id| id.to_string()),
            channels: types(&notification.channels),
            data_type: notification.data_type.number().into(),
            total_targets: convert::count(notification.total),
            sent_count: convert::count(notification.counts.sent),
            failed_count: convert::count(notification.counts.failed),
            skipped_count: convert::count(notification.counts.skipped),
            duplicate_count: convert::count(notification.duplicate_count),
            receivers: notification.receivers.into_iter().map(Into::into).collect(),
            completed_at: notification.completed_at.map(convert::timestamp),
            batch_id: batch_id(notification.mode, notification.id),
            created_at: Some(convert::timestamp(notification.created_at)),
        }
    }
}

fn batch_id(mode: SendMode, id: NotificationId) -> Option<String> {
    (mode == SendMode::Batch).then(|| id.to_string())
}

impl From<Receiver> for v1::NotificationReceiver {
    fn from(receiver: Receiver) -> Self {
        Self {
            status: v1::ReceiverStatus::from(receiver.status()).into(),
            position: convert::count(receiver.position),
            receiver: receiver.uid.to_string(),
            deliveries: receiver.deliveries.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Delivery> for v1::Delivery {
    fn from(delivery: Delivery) -> Self {
        Self {
            channel_type: type_number(delivery.channel_type),
            channel_id: delivery.channel_id.map(|id| id.to_string()),
            status: delivery.verdict.status.number().into(),
            reason: delivery.verdict.reason.map(|reason| reason.to_string()),
            feed_item_id: delivery.feed_item_id.map(|id| id.to_string()),
            attempts: delivery.attempts.map(convert::count),
            created_at: delivery.created_at.map(convert::timestamp),
            updated_at: delivery.updated_at.map(convert::timestamp),
        }
    }
}

fn types(channels: &[ChannelType]) -> Vec<i32> {
    channels.iter().copied().map(type_number).collect()
}
