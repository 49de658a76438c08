//! Notifications: sending a template to named users, and what became of it. What a recipient's part looks like is a pure
//! plan of the model; what is written for it is a page.

use std::sync::{Arc, Mutex};

use super::page::{self, Work};
use super::{Acting, Service, Written, template, user};
use crate::model::id::{AppId, NotificationId};
use crate::model::notification::{
    Copied, NewSend, Notification, NotificationStatus, PlannedRecipient, SendRequest, Sent, check_ways, data_type,
    in_app, plan, settle,
};
use crate::model::slug::Reference;
use crate::model::template::Sendable;
use crate::model::template::content::Compiled;
use crate::model::user::Resolved;
use crate::model::{Error, Result, Timestamp};
use crate::store::page::PageKey;
use crate::store::{Tx, notification as store, page as pages};

/// The number of a notification's first recipient.
const FIRST_SEQ: i64 = 1;

/// Sends a template to up to ten users, all of it before the answer: the notification, its recipients, their deliveries
/// and feed items are committed together or not at all.
///
/// # Errors
/// Those of [`NewSend::check`], [`check_ways`] and [`settle`]; template not found; template not
/// approved.
pub async fn send(service: &Service, acting: &Acting, request: SendRequest) -> Result<Written<Sent>> {
    let (app, now) = (acting.app()?, acting.now);
    let send = Arc::new(NewSend::check(request)?);
    let create_users = service.settings.auto_create_users;
    let compiled = Arc::new(Mutex::new(None));
    let (cards, slot) = (service.cards.clone(), Arc::clone(&compiled));
    let sent = service
        .write(acting, move |tx| {
            let (send, cards, slot) = (Arc::clone(&send), cards.clone(), Arc::clone(&slot));
            Box::pin(async move {
                let reference = Reference::from(send.template.as_str());
                let template = template::load_for_send(tx, app, &reference, send.version, now).await?;
                check_ways(&template.channels)?;
                let content = cards.of_send(&template)?;
                if let Ok(mut slot) = slot.lock() {
                    *slot = Some((template.version_id, Arc::clone(&content)));
                }
                send_all(tx, app, (&send, &template, &content.content), create_users, now).await
            })
        })
        .await?;
    if let Some((version, content)) = compiled.lock().ok().and_then(|mut slot| slot.take()) {
        service.cards.keep(version, content);
    }
    Ok(sent)
}

/// One notification with its counts and its receivers.
///
/// # Errors
/// Notification not found.
pub async fn get(service: &Service, acting: &Acting, id: NotificationId) -> Result<Notification> {
    store::get_notification(service.store.read(), acting.app()?, id).await
}

async fn send_all(
    tx: &Tx,
    app: AppId,
    (send, template, content): (&NewSend, &Sendable, &Compiled),
    create_users: bool,
    now: Timestamp,
) -> Result<Sent> {
    let values = settle(send, template, content)?;
    let users = user::resolve_many(tx, app, &send.receivers, create_users, now).await?;
    let recipients = send.receivers.iter().zip(values).map(|(uid, values)| {
        let user = users.get(uid).copied().unwrap_or(Resolved::Unknown);
        (uid.clone(), user, values)
    });
    let recipients = plan(recipients.collect(), &template.channels, FIRST_SEQ, now);
    let notification = notification(send, template, &recipients, now)?;
    write_down(tx, app, send, template, (&notification, &recipients)).await?;
    Ok(Sent {
        notification_id: notification.id,
        channels: notification.channels,
        mode: notification.mode,
        duplicate_count: notification.duplicate_count,
        receivers: notification.receivers,
    })
}

/// The notification as it will be once its one page is done, which is in the same transaction.
fn notification(
    send: &NewSend,
    template: &Sendable,
    recipients: &[PlannedRecipient],
    now: Timestamp,
) -> Result<Notification> {
    let channels: Vec<_> = template.channels.iter().map(|way| way.content.channel_type).collect();
    let counts = page::count(recipients);
    Ok(Notification {
        id: NotificationId::new(now),
        copied: Copied::from(template),
        tag: send.tag.clone(),
        mode: send.mode,
        status: NotificationStatus::of(counts),
        data_type: data_type(&template.channels),
        total: u32::try_from(recipients.len()).map_err(Error::internal)?,
        counts,
        duplicate_count: send.duplicate_count,
        receivers: recipients
            .iter()
            .map(|recipient| recipient.receiver(&channels))
            .collect(),
        channels,
        completed_at: Some(now),
        created_at: now,
    })
}

async fn write_down(
    tx: &Tx,
    app: AppId,
    send: &NewSend,
    template: &Sendable,
    (notification, recipients): (&Notification, &[PlannedRecipient]),
) -> Result<()> {
    store::insert_notification(tx, app, notification, &send.defaults).await?;
    store::insert_recipients(tx, app, notification.id, recipients, &send.own).await?;
    let key = PageKey {
        notification: notification.id,
        number: 1,
    };
    pages::insert_done(tx, app, key, FIRST_SEQ, recipients.len()).await?;
    let work = Work {
        app,
        key,
        copied: &notification.copied,
        in_app: in_app(&template.channels),
        recipients,
        now: notification.created_at,
    };
    let counts = page::run(tx, &work).await?;
    debug_assert_eq!(counts, notification.counts, "a page does what was planned for it");
    Ok(())
}
