//! Notifications: sending a template to named users, and what became of it. What a recipient's part looks like is a pure
//! plan of the model; what is written for it is a page, which a batch leaves to [`super::dispatch`].

mod realtime;

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use super::{Acting, Service, Written, template, user};
use crate::failpoint::{Point, hit};
use crate::model::delivery::{Counts, Reached};
use crate::model::id::{AppId, NotificationId};
use crate::model::notification::{
    Copied, NewSend, Notification, NotificationStatus, PlannedRecipient, Progress, Receiver, ReceiverSort,
    ReceiverStatus, SendMode, SendRequest, Sent, check_receivers, check_ways, data_type, plan,
};
use crate::model::page::{Page, PageRequest};
use crate::model::slug::Reference;
use crate::model::template::Sendable;
use crate::model::template::course::FIRST_STEP;
use crate::model::user::Resolved;
use crate::model::{Error, Origin, Result, Timestamp};
use crate::store::lane::{self as lanes, Priority};
use crate::store::page::Rest;
use crate::store::{Tx, notification as store, page as pages, receiver as receivers};

pub(super) use realtime::{Asked, Sends, sends};

/// The number of a notification's first recipient.
const FIRST_SEQ: i64 = 1;

/// Sends a template to users. Up to ten are served before the answer: the notification, its recipients, their deliveries
/// and feed items are committed together or not at all. A batch is committed with its recipients and its pages, which
/// workers do.
///
/// # Errors
/// Those of [`NewSend::check`], [`check_ways`] and [`check_receivers`]; template not found; template not approved.
pub async fn send(service: &Service, acting: &Acting, request: SendRequest) -> Result<Written<Sent>> {
    let app = acting.app()?;
    let send = NewSend::check(request)?;
    let asked = Arc::new(Asked::new(send, acting));
    let sent = match asked.send.mode {
        SendMode::Batch => send_batch(service, acting, Arc::clone(&asked)).await?,
        SendMode::Realtime | SendMode::Campaign | SendMode::Unknown(_) => {
            let sent = service.sends.write(app, acting.once.clone(), Arc::clone(&asked));
            service.noted(sent.await?)
        }
    };
    hit(Point::SendAfterCommit);
    asked.keep_content(&service.cards);
    if !sent.replayed {
        service
            .measures
            .sent(sent.value.mode, is_over(&sent.value), counts_of(&sent.value));
    }
    if sent.value.mode == SendMode::Batch || !is_over(&sent.value) {
        service.wake.pages();
    }
    Ok(sent)
}

async fn send_batch(service: &Service, acting: &Acting, asked: Arc<Asked>) -> Result<Written<Sent>> {
    let app = acting.app()?;
    let (create_users, page_rows) = (service.settings.auto_create_users, service.page_rows());
    let (cards, shared) = (service.cards.clone(), Arc::clone(&asked));
    service
        .write(acting, move |tx| {
            let (cards, asked) = (cards.clone(), Arc::clone(&shared));
            Box::pin(async move {
                let (send, now) = (&asked.send, asked.now);
                let named = (Reference::from(send.template.as_str()), send.version);
                let templates = template::load_for_sends(tx, app, &cards, slice::from_ref(&named)).await?;
                let ready = templates.get(&named.0, named.1)?;
                check_ways(&ready.template.channels)?;
                check_receivers(send, &ready.template, &ready.content.compiled)?;
                asked.note_content(ready);
                template::record_uses(tx, app, [ready].into_iter(), now).await?;
                // Only who they are: the rest is looked up again when their turn comes.
                let users = user::resolve_many(tx, app, &send.receivers.iter().collect(), create_users, now).await?;
                let recipients = send.receivers.iter().map(|uid| {
                    let user = users.get(uid).copied().unwrap_or(Resolved::Unknown);
                    (uid.clone(), user, Default::default())
                });
                let recipients = plan(recipients.collect(), &[], FIRST_SEQ, now);
                hit(Point::SendPlanned);
                let what = (send, &*ready.template, &asked.origin);
                let sent = accept(tx, app, what, &recipients, (page_rows, now)).await?;
                hit(Point::SendBeforeCommit);
                Ok(sent)
            })
        })
        .await
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
    let shape = store::get_shape(db, app, id).await?;
    receivers::list_receivers(db, (app, id), &shape, status, page).await
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

/// Writes a batch down for workers to do.
async fn accept(
    tx: &Tx,
    app: AppId,
    (send, template, origin): (&NewSend, &Sendable, &Origin),
    recipients: &[PlannedRecipient],
    (page_rows, now): (u32, Timestamp),
) -> Result<Sent> {
    let notification = notification(send, template, recipients, now)?;
    store::insert_notifications(tx, app, [(&notification, &send.defaults, origin)]).await?;
    receivers::insert_recipients(tx, app, &[(notification.id, recipients, &send.own)]).await?;
    let all = Rest {
        from: FIRST_SEQ,
        to: i64::from(notification.total),
    };
    pages::insert_open(tx, (app, notification.id), FIRST_STEP, all, page_rows).await?;
    lanes::insert_lane(tx, (app, notification.id), Priority::Direct, None, now).await?;
    Ok(sent(notification))
}

/// What the receivers of a send came to, as far as they are dealt with.
fn counts_of(sent: &Sent) -> Counts {
    let mut counts = Counts::default();
    for receiver in &sent.receivers {
        let reached = Reached::of(receiver.deliveries.iter().map(|delivery| &delivery.verdict));
        if reached == Reached::Sent || !receiver.waiting {
            counts.add(reached);
        }
    }
    counts
}

/// Whether nothing more is to come to any receiver who was dealt with.
fn is_over(sent: &Sent) -> bool {
    sent.receivers.iter().all(|receiver| !receiver.waiting)
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
        sequence: template.sequence.clone(),
        completed_at: None,
        created_at: now,
        campaign_id: None,
    })
}
