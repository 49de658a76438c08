//! Notifications: sending a template to named users, and what became of it. What a recipient's part looks like is a pure
//! plan of the model; what is written for it is a page, which a batch leaves to [`super::dispatch`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::page::{self, Work};
use super::{Acting, Service, Written, template, user};
use crate::model::delivery::{Counts, Reached};
use crate::model::id::{AppId, NotificationId};
use crate::model::notification::{
    Copied, NewSend, Notification, NotificationStatus, PlannedRecipient, Progress, Receiver, ReceiverSort,
    ReceiverStatus, SendMode, SendRequest, Sent, check_receivers, check_ways, data_type, in_app, plan, settle,
};
use crate::model::page::{Page, PageRequest};
use crate::model::slug::Reference;
use crate::model::template::Sendable;
use crate::model::template::content::Compiled;
use crate::model::user::Resolved;
use crate::model::{Error, Origin, Result, Timestamp};
use crate::store::page::{PageKey, Rest};
use crate::store::{Tx, notification as store, page as pages, receiver as receivers};

/// The number of a notification's first recipient.
const FIRST_SEQ: i64 = 1;

/// Sends a template to users. Up to ten are served before the answer: the notification, its recipients, their deliveries
/// and feed items are committed together or not at all. A batch is committed with its recipients and its pages, which
/// workers do.
///
/// # Errors
/// Those of [`NewSend::check`], [`check_ways`] and [`check_receivers`]; template not found; template not approved.
pub async fn send(service: &Service, acting: &Acting, request: SendRequest) -> Result<Written<Sent>> {
    let (app, now) = (acting.app()?, acting.now);
    let send = Arc::new(NewSend::check(request)?);
    let create_users = service.settings.auto_create_users;
    let page_rows = service.page_rows();
    let compiled = Arc::new(Mutex::new(None));
    let (cards, slot) = (service.cards.clone(), Arc::clone(&compiled));
    let origin = acting.origin.clone();
    let sent = service
        .write(acting, move |tx| {
            let (send, cards, slot) = (Arc::clone(&send), cards.clone(), Arc::clone(&slot));
            let origin = origin.clone();
            Box::pin(async move {
                let reference = Reference::from(send.template.as_str());
                let template = template::load_for_send(tx, app, &reference, send.version, now).await?;
                check_ways(&template.channels)?;
                let content = cards.of_send(&template)?;
                if let Ok(mut slot) = slot.lock() {
                    *slot = Some((template.version_id, Arc::clone(&content)));
                }
                let recipients = recipients(tx, app, (&send, &template, &content.content), create_users, now).await?;
                if send.mode == SendMode::Batch {
                    accept(tx, app, (&send, &template, &origin), &recipients, (page_rows, now)).await
                } else {
                    send_all(tx, app, (&send, &template, &origin), &recipients, now).await
                }
            })
        })
        .await?;
    if let Some((version, content)) = compiled.lock().ok().and_then(|mut slot| slot.take()) {
        service.cards.keep(version, content);
    }
    if !sent.replayed {
        service.measures.sent(sent.value.mode, counts_of(&sent.value));
    }
    if sent.value.mode == SendMode::Batch {
        service.wake.pages();
    }
    Ok(sent)
}

/// One notification with its counts, and with its receivers if they are few.
///
/// # Errors
/// Notification not found.
pub async fn get(service: &Service, acting: &Acting, id: NotificationId) -> Result<Notification> {
    store::get_notification(service.store.read(), acting.app()?, id).await
}

/// One page of a notification's receivers, perhaps only of those with a status.
///
/// # Errors
/// Notification not found.
pub async fn list_receivers(
    service: &Service,
    acting: &Acting,
    id: NotificationId,
    status: Option<ReceiverStatus>,
    page: &PageRequest<ReceiverSort>,
) -> Result<Page<Receiver>> {
    let (app, db) = (acting.app()?, service.store.read());
    let channels = store::get_channels(db, app, id).await?;
    receivers::list_receivers(db, (app, id), &channels, status, page).await
}

/// How far a notification has come.
///
/// # Errors
/// Notification not found.
pub async fn progress(service: &Service, acting: &Acting, id: NotificationId) -> Result<Progress> {
    store::get_progress(service.store.read(), acting.app()?, id).await
}

/// Returns when a notification may have come on: something was done in this process, or `at_most` has passed, because
/// another process tells nothing.
pub async fn may_have_moved(service: &Service, at_most: Duration) {
    service.wake.moved(at_most).await;
}

/// The recipients with what is planned for each: everything in a realtime send; in a batch only who they are, because
/// the rest is looked up again when their turn comes.
async fn recipients(
    tx: &Tx,
    app: AppId,
    (send, template, content): (&NewSend, &Sendable, &Compiled),
    create_users: bool,
    now: Timestamp,
) -> Result<Vec<PlannedRecipient>> {
    let (ways, values) = if send.mode == SendMode::Batch {
        check_receivers(send, template, content)?;
        (&[][..], Vec::new())
    } else {
        (template.channels.as_slice(), settle(send, template, content)?)
    };
    let users = user::resolve_many(tx, app, &send.receivers, create_users, now).await?;
    let mut values = values.into_iter();
    let recipients = send.receivers.iter().map(|uid| {
        let user = users.get(uid).copied().unwrap_or(Resolved::Unknown);
        (uid.clone(), user, values.next().unwrap_or_default())
    });
    Ok(plan(recipients.collect(), ways, FIRST_SEQ, now))
}

async fn send_all(
    tx: &Tx,
    app: AppId,
    (send, template, origin): (&NewSend, &Sendable, &Origin),
    recipients: &[PlannedRecipient],
    now: Timestamp,
) -> Result<Sent> {
    let mut notification = notification(send, template, recipients, now)?;
    notification.counts = page::count(recipients);
    notification.status = NotificationStatus::of(notification.counts);
    notification.completed_at = Some(now);
    let shown = recipients.iter();
    notification.receivers = shown.map(|one| one.receiver(&notification.channels)).collect();
    write_down(tx, app, (send, template, origin), (&notification, recipients)).await?;
    Ok(sent(notification))
}

/// Writes a batch down for workers to do.
async fn accept(
    tx: &Tx,
    app: AppId,
    (send, template, origin): (&NewSend, &Sendable, &Origin),
    recipients: &[PlannedRecipient],
    (page_rows, now): (u32, Timestamp),
) -> Result<Sent> {
    let notification = notification(send, template, recipients, now)?;
    store::insert_notification(tx, app, &notification, &send.defaults, origin).await?;
    receivers::insert_recipients(tx, app, notification.id, recipients, &send.own).await?;
    let all = Rest {
        from: FIRST_SEQ,
        to: i64::from(notification.total),
    };
    pages::insert_open(tx, app, notification.id, all, page_rows).await?;
    Ok(sent(notification))
}

/// What the receivers of a send came to, as far as they are dealt with.
fn counts_of(sent: &Sent) -> Counts {
    let mut counts = Counts::default();
    for receiver in &sent.receivers {
        counts.add(Reached::of(
            receiver.deliveries.iter().map(|delivery| &delivery.verdict),
        ));
    }
    counts
}

fn sent(notification: Notification) -> Sent {
    Sent {
        notification_id: notification.id,
        channels: notification.channels,
        mode: notification.mode,
        total: notification.total,
        duplicate_count: notification.duplicate_count,
        receivers: notification.receivers,
    }
}

/// The notification as it is before anything of it is done.
fn notification(
    send: &NewSend,
    template: &Sendable,
    recipients: &[PlannedRecipient],
    now: Timestamp,
) -> Result<Notification> {
    Ok(Notification {
        id: NotificationId::new(now),
        copied: Copied::from(template),
        tag: send.tag.clone(),
        mode: send.mode,
        status: NotificationStatus::Dispatching,
        data_type: data_type(&template.channels),
        total: u32::try_from(recipients.len()).map_err(Error::internal)?,
        counts: Counts::default(),
        duplicate_count: send.duplicate_count,
        receivers: Vec::new(),
        channels: template.channels.iter().map(|way| way.content.channel_type).collect(),
        completed_at: None,
        created_at: now,
    })
}

async fn write_down(
    tx: &Tx,
    app: AppId,
    (send, template, origin): (&NewSend, &Sendable, &Origin),
    (notification, recipients): (&Notification, &[PlannedRecipient]),
) -> Result<()> {
    store::insert_notification(tx, app, notification, &send.defaults, origin).await?;
    receivers::insert_recipients(tx, app, notification.id, recipients, &send.own).await?;
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
