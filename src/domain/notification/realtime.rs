//! Sends that are done before they are answered. Those of an app that come at the same time share a transaction and its
//! statements, so what is decided here is decided for several at once, and refusals before anything is written.
//!
//! The order of locks, over all sends of a transaction: shares of the templates by id and of their channels; the versions
//! that are used for the first time, by id; shares of the users by uid, and then those who are new, by uid; the heads of
//! the feeds by user. Batches and their pages, and whoever changes templates, channels, users and feeds, take theirs in the
//! same order.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::Acting;
use crate::domain::card::{Cards, VersionContent};
use crate::domain::page::{self, Work};
use crate::domain::template::{self, Ready};
use crate::domain::{sequence, user};
use crate::failpoint::{Point, hit};
use crate::model::id::{AppId, TemplateId, TemplateVersionId};
use crate::model::notification::step::first_ways;
use crate::model::notification::{
    NewSend, Notification, NotificationStatus, PlannedRecipient, Sent, check_ways, in_app, plan, settle,
};
use crate::model::slug::Reference;
use crate::model::template::course::{FIRST_STEP, last_step};
use crate::model::user::{Resolved, Uid};
use crate::model::variable::VariableValues;
use crate::model::{Error, Origin, Result, Timestamp};
use crate::store::lane::{self as lanes, Priority};
use crate::store::page::{Done, PageKey, Rest};
use crate::store::{Group, Store, Tx, notification as store, page as pages, receiver as receivers};

use super::{FIRST_SEQ, notification, sent};

/// The number of the only page that a send begins with.
const PAGE: i32 = 1;

/// A send as it waits to be done.
#[derive(Debug)]
pub(in crate::domain) struct Asked {
    /// What is sent.
    pub(super) send: NewSend,
    /// When it was asked for.
    pub(super) now: Timestamp,
    /// The call that it came with.
    pub(super) origin: Origin,
    /// The content that it was last done with.
    content: Mutex<Option<(TemplateVersionId, Arc<VersionContent>)>>,
}

impl Asked {
    pub(super) fn new(send: NewSend, acting: &Acting) -> Self {
        Self {
            send,
            now: acting.now,
            origin: acting.origin.clone(),
            content: Mutex::default(),
        }
    }

    fn template(&self) -> (Reference<TemplateId>, Option<u32>) {
        (Reference::from(self.send.template.as_str()), self.send.version)
    }

    /// Notes the content for [`Asked::keep_content`].
    pub(super) fn note_content(&self, ready: &Ready) {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        *content = Some((ready.template.version_id, Arc::clone(&ready.content)));
    }

    /// Keeps the content of a send that is committed.
    pub(super) fn keep_content(&self, cards: &Cards) {
        let noted = self.content.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((version, content)) = noted {
            cards.keep(version, content);
        }
    }
}

/// Sends that share transactions.
pub(in crate::domain) type Sends = Group<Asked, Sent>;

/// The sends of a service.
pub(in crate::domain) fn sends(store: &Store, cards: &Cards, create_users: bool) -> Sends {
    let cards = cards.clone();
    store.group(move |tx, app, asked| {
        let cards = cards.clone();
        Box::pin(async move { send_all(tx, app, (&cards, create_users), &asked).await })
    })
}

/// A send that is not refused.
struct Accepted<'a> {
    asked: &'a Asked,
    ready: &'a Ready,
    values: Vec<VariableValues>,
}

/// One that is planned.
struct Planned<'a> {
    accepted: Accepted<'a>,
    notification: Notification,
    recipients: Vec<PlannedRecipient>,
}

async fn send_all(
    tx: &Tx,
    app: AppId,
    (cards, create_users): (&Cards, bool),
    asked: &[Arc<Asked>],
) -> Result<Vec<Result<Sent>>> {
    let named: Vec<_> = asked.iter().map(|one| one.template()).collect();
    let templates = template::load_for_sends(tx, app, cards, &named).await?;
    let mut answers = Vec::with_capacity(asked.len());
    let mut accepted = Vec::with_capacity(asked.len());
    for (one, (reference, version)) in asked.iter().zip(&named) {
        let checked = templates.get(reference, *version).and_then(|ready| check(one, ready));
        answers.push(checked.map(|one| accepted.push(one)));
    }
    let planned = plan_all(tx, app, accepted, create_users).await?;
    write_all(tx, app, &planned).await?;
    let mut done = planned.into_iter().map(|planned| sent(planned.notification));
    let answers = answers.into_iter().map(|answer| match answer {
        Ok(()) => done
            .next()
            .ok_or_else(|| Error::internal("a send was accepted and not planned")),
        Err(refusal) => Err(refusal),
    });
    Ok(answers.collect())
}

/// Everything that a send can be refused for.
fn check<'a>(asked: &'a Asked, ready: &'a Ready) -> Result<Accepted<'a>> {
    check_ways(&ready.template.channels)?;
    let values = settle(&asked.send, &ready.template, &ready.content.compiled)?;
    asked.note_content(ready);
    Ok(Accepted { asked, ready, values })
}

async fn plan_all<'a>(
    tx: &Tx,
    app: AppId,
    accepted: Vec<Accepted<'a>>,
    create_users: bool,
) -> Result<Vec<Planned<'a>>> {
    // Whoever is new is so since the first of the sends that name somebody.
    let Some(first) = accepted.iter().map(|one| one.asked.now).min() else {
        return Ok(Vec::new());
    };
    let uids: BTreeSet<&Uid> = accepted.iter().flat_map(|one| &one.asked.send.receivers).collect();
    template::record_uses(tx, app, accepted.iter().map(|one| one.ready), first).await?;
    let users = user::resolve_many(tx, app, &uids, create_users, first).await?;
    let planned = accepted.into_iter().map(|mut accepted| {
        let (asked, template) = (accepted.asked, &accepted.ready.template);
        let mut values = std::mem::take(&mut accepted.values).into_iter();
        let recipients = asked.send.receivers.iter().map(|uid| {
            let user = users.get(uid).copied().unwrap_or(Resolved::Unknown);
            (uid.clone(), user, values.next().unwrap_or_default())
        });
        let (sequence, last) = (template.sequence.as_ref(), last_step(template.sequence.as_ref()));
        let ways = first_ways(sequence, &template.channels);
        let recipients = plan(recipients.collect(), &ways, FIRST_SEQ, asked.now);
        let mut notification = notification(&asked.send, template, &recipients, asked.now)?;
        notification.counts = page::count(&recipients, last);
        let goes_on = |one: &PlannedRecipient| one.goes_on(last) || one.is_queued();
        if !recipients.iter().any(goes_on) {
            notification.status = NotificationStatus::of(notification.counts);
            notification.completed_at = Some(asked.now);
        }
        let shown = recipients.iter();
        notification.receivers = shown.map(|one| one.receiver(&notification.channels, last)).collect();
        Ok(Planned {
            accepted,
            notification,
            recipients,
        })
    });
    planned.collect()
}

/// Writes down what is planned, each kind of row for all sends at once.
async fn write_all(tx: &Tx, app: AppId, planned: &[Planned<'_>]) -> Result<()> {
    if planned.is_empty() {
        return Ok(());
    }
    hit(Point::SendPlanned);
    let rows = planned
        .iter()
        .map(|one| (&one.notification, &one.send().defaults, &one.accepted.asked.origin));
    store::insert_notifications(tx, app, rows).await?;
    let rows = planned
        .iter()
        .map(|one| (one.notification.id, one.recipients.as_slice(), &one.send().own));
    receivers::insert_recipients(tx, app, &rows.collect::<Vec<_>>()).await?;
    pages::insert_done(tx, app, planned.iter().map(Planned::page)).await?;
    let works: Vec<_> = planned.iter().map(Planned::work).collect();
    page::run(tx, app, &works).await?;
    for one in planned {
        one.go_on(tx, app).await?;
    }
    hit(Point::SendBeforeCommit);
    Ok(())
}

impl Planned<'_> {
    fn send(&self) -> &NewSend {
        &self.accepted.asked.send
    }

    /// Opens a lane for what is still to come, if anything is.
    async fn go_on(&self, tx: &Tx, app: AppId) -> Result<()> {
        let (notification, now) = (&self.notification, self.notification.created_at);
        if notification.completed_at.is_some() {
            return Ok(());
        }
        let place = (app, notification.id);
        lanes::insert_lane(tx, place, Priority::Direct, None, now).await?;
        let at = (notification.sequence.as_ref(), FIRST_STEP);
        sequence::wait_for_next(tx, place, at, &self.recipients, now).await
    }

    /// The only page of its first step.
    fn page(&self) -> Done {
        let to = self.recipients.last().map_or(FIRST_SEQ - 1, |last| last.seq);
        Done {
            key: PageKey {
                notification: self.notification.id,
                number: PAGE,
            },
            recipients: Rest { from: FIRST_SEQ, to },
            counts: self.notification.counts,
        }
    }

    fn work(&self) -> Work<'_> {
        Work {
            notification: self.notification.id,
            number: PAGE,
            copied: &self.notification.copied,
            in_app: in_app(&self.accepted.ready.template.channels),
            recipients: &self.recipients,
            now: self.notification.created_at,
        }
    }
}
