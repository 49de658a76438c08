//! Pages of the first step of a notification, or of its only one: who is served, and with what.
//!
//! On SQLite, where all that is written takes turns, most of it is thought out before a page has its turn. What it was
//! thought out from is looked at once more in the transaction; when anything of it has changed, it counts for nothing.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::BTreeSet;

use crate::domain::card::VersionContent;
use crate::domain::{Service, template, user};
use crate::model::id::{AppId, NotificationId, UserId};
use crate::model::notification::step::first_ways;
use crate::model::notification::{
    NotificationStatus, PlannedRecipient, RecipientOutcome, faults_of, plan as plan_page, values_of,
};
use crate::model::template::SendableChannel;
use crate::model::template::course::FIRST_STEP;
use crate::model::user::Resolved;
use crate::model::variable::VariableValues;
use crate::model::{Result, Timestamp};
use crate::store::notification::{self, Sending};
use crate::store::page::{self as pages, Leased, Rest};
use crate::store::receiver::{self, Recipient};
use crate::store::{Tx, user as users};

/// What a part of a page is planned from.
#[derive(Clone, Copy)]
pub(super) struct Basis<'a> {
    pub(super) sending: &'a Sending,
    pub(super) version: &'a VersionContent,
    pub(super) ways: &'a [SendableChannel],
    pub(super) now: Timestamp,
}

/// A part of a page as it was planned before its transaction, with all that the plan rests on and that can change.
#[derive(Debug)]
pub(super) struct Ahead {
    rest: Rest,
    sending: Sending,
    ways: Vec<SendableChannel>,
    /// Those who were active when the recipients were accepted, and are taken to be so still.
    active: Vec<UserId>,
    faulty: Vec<i64>,
    recipients: Vec<PlannedRecipient>,
}

/// Plans the next part of a page without its transaction, where that helps.
pub(super) async fn look_ahead(service: &Service, page: &Leased, rows: u32, now: Timestamp) -> Option<Ahead> {
    if !service.store.is_sqlite() || page.key.step() != FIRST_STEP {
        return None;
    }
    // Whatever keeps it from looking ahead, the step itself meets as well, and tells of it.
    ahead(service, page, rows, now).await.ok().flatten()
}

async fn ahead(service: &Service, page: &Leased, rows: u32, now: Timestamp) -> Result<Option<Ahead>> {
    let (db, place) = (service.store.read(), (page.app, page.key.notification));
    let Some(rest) = pages::find_rest(db, page).await? else {
        return Ok(None);
    };
    let rest = rest.part(rows);
    let sending = notification::get_sending_shared(db, place.0, place.1).await?;
    if sending.status != NotificationStatus::Dispatching {
        return Ok(None);
    }
    let (version, ways) = template::load_now(service, page.app, sending.copied.version_ref()).await?;
    let recipients = receiver::list_recipients(db, place, rest.from, rest.to).await?;
    let active = recipients.iter().filter_map(|one| match one.user {
        Resolved::Active(user) => Some(user),
        Resolved::Deactivated(_) | Resolved::Unknown => None,
    });
    let active = active.collect();
    let basis = Basis {
        sending: &sending,
        version: &version,
        ways: &ways,
        now,
    };
    let faulty = faulty(&recipients, &basis);
    let recipients = planned(recipients, &faulty, rest, &basis);
    Ok(Some(Ahead {
        rest,
        active,
        faulty,
        recipients,
        ways,
        sending,
    }))
}

impl Ahead {
    /// Whether the plan is what the transaction would come to by itself. Until it ends nothing of that can change.
    async fn holds(&self, tx: &Tx, app: AppId, rest: Rest, basis: &Basis<'_>) -> Result<bool> {
        let same = self.rest == rest && self.sending == *basis.sending && self.ways == basis.ways;
        Ok(same && users::count_active(tx, app, &self.active).await? == self.active.len())
    }
}

/// Plans a part of a page for all of its recipients, and writes down who of them is not served after all.
///
/// # Errors
/// Those of the database.
pub(super) async fn plan<'a>(
    tx: &Tx,
    (page, rest): (&Leased, Rest),
    basis: &Basis<'_>,
    ahead: Option<&'a Ahead>,
) -> Result<Cow<'a, [PlannedRecipient]>> {
    let place = (page.app, page.key.notification);
    if let Some(ahead) = ahead
        && ahead.holds(tx, place.0, rest, basis).await?
    {
        receiver::record_outcome(tx, place, &ahead.faulty, RecipientOutcome::InvalidVariables).await?;
        return Ok(Cow::Borrowed(&ahead.recipients));
    }
    let mut recipients = receiver::list_recipients(tx, place, rest.from, rest.to).await?;
    look_again(tx, place, &mut recipients).await?;
    let faulty = faulty(&recipients, basis);
    receiver::record_outcome(tx, place, &faulty, RecipientOutcome::InvalidVariables).await?;
    Ok(Cow::Owned(planned(recipients, &faulty, rest, basis)))
}

/// What is to become of recipients, of whom some cannot be served.
fn planned(recipients: Vec<Recipient>, faulty: &[i64], rest: Rest, basis: &Basis<'_>) -> Vec<PlannedRecipient> {
    let (sending, version) = (basis.sending, basis.version);
    let schema = &version.source.variable_schema;
    let recipients = recipients.into_iter().map(|recipient| {
        let values = values_of(&recipient.own, &sending.defaults, schema, &version.compiled);
        (recipient.uid, recipient.user, values)
    });
    let ways = first_ways(sending.sequence.as_ref(), basis.ways);
    let mut recipients = plan_page(recipients.collect(), &ways, rest.from, basis.now);
    let faulty: BTreeSet<i64> = faulty.iter().copied().collect();
    let refused = recipients.iter_mut().filter(|one| faulty.contains(&one.seq));
    refused.for_each(PlannedRecipient::refuse);
    recipients
}

/// The recipients of a campaign that cannot be served because of their variables. Nobody looked at them before.
fn faulty(recipients: &[Recipient], basis: &Basis<'_>) -> Vec<i64> {
    let (sending, version) = (basis.sending, basis.version);
    if !sending.by_campaign {
        return Vec::new();
    }
    let schema = &version.source.variable_schema;
    let is_faulty = |own: &VariableValues| !faults_of(own, &sending.defaults, schema, &version.compiled).is_empty();
    // Most have no values of their own, and all of those are served alike.
    let common = LazyCell::new(|| is_faulty(&VariableValues::new()));
    let active = recipients.iter().filter(|one| matches!(one.user, Resolved::Active(_)));
    let faulty = active.filter(|one| {
        if one.own.is_empty() {
            *common
        } else {
            is_faulty(&one.own)
        }
    });
    faulty.map(|one| one.seq).collect()
}

/// Finds out which of the recipients that were to be served were deactivated or deleted since, and writes that down. Until
/// the transaction ends nobody can do it to the others.
async fn look_again(tx: &Tx, place: (AppId, NotificationId), recipients: &mut [Recipient]) -> Result<()> {
    let served = |recipient: &&mut Recipient| matches!(recipient.user, Resolved::Active(_));
    let uids = recipients
        .iter_mut()
        .filter(served)
        .map(|recipient| recipient.uid.clone());
    let found = user::look_up_shared(tx, place.0, uids.collect()).await?;
    for outcome in [RecipientOutcome::UnknownUser, RecipientOutcome::UserDeactivated] {
        let mut changed = Vec::new();
        for recipient in recipients.iter_mut().filter(served) {
            let user = found.get(&recipient.uid).copied().unwrap_or(Resolved::Unknown);
            if RecipientOutcome::of(user) == outcome {
                recipient.user = user;
                changed.push(recipient.seq);
            }
        }
        receiver::record_outcome(tx, place, &changed, outcome).await?;
    }
    Ok(())
}
