//! Recipients of notifications in the database: who they are, written when a send is accepted, and what became of them,
//! which the ledger says. A recipient's row changes only when it is not served after all.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, FromQueryResult, ModelTrait, QueryFilter, QueryOrder,
    QuerySelect, Select, Statement, Value,
};
use serde::Deserialize;

use super::bulk;
use super::delivery::{Served, list_deliveries};
use super::entity::{delivery, notification, notification_recipient as recipient, page};
use super::gather::{self, Field};
use super::list::{SortBy, list};
use super::notification::Shape;
use super::value::Json;
use crate::model::delivery::DeliveryStatus;
use crate::model::id::{AppId, NotificationId, UserId};
use crate::model::notification::{
    NotificationStatus, PlannedRecipient, RECEIVERS_SHOWN_MAX, Receiver, ReceiverSort, ReceiverStatus, RecipientOutcome,
};
use crate::model::page::{Page, PageRequest, SortValue};
use crate::model::template::course::FIRST_STEP;
use crate::model::user::{Resolved, Uid};
use crate::model::variable::VariableValues;
use crate::model::{Error, Result, Timestamp};

/// Rows that one statement inserts, so that a batch of the largest size is not in memory as a whole once more.
const INSERTED_MAX: usize = 1_000;

/// The recipients of one notification, and the values that some have of their own.
pub type Accepting<'n> = (
    NotificationId,
    &'n [PlannedRecipient],
    &'n BTreeMap<Uid, VariableValues>,
);

/// Writes the recipients of notifications of an app down, each with the values of its own.
///
/// # Errors
/// Those of the database.
pub async fn insert_recipients(db: &impl ConnectionTrait, app: AppId, notifications: &[Accepting<'_>]) -> Result<()> {
    let all: Vec<_> = notifications
        .iter()
        .flat_map(|(notification, recipients, own)| recipients.iter().map(|one| (*notification, one, *own)))
        .collect();
    for part in all.chunks(INSERTED_MAX) {
        let rows = part
            .iter()
            .map(|(notification, recipient, own)| row_of(app, *notification, recipient, own));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        bulk::insert_all::<recipient::Entity>(db, &rows).await?;
    }
    Ok(())
}

fn row_of(
    app: AppId,
    notification: NotificationId,
    recipient: &PlannedRecipient,
    own: &BTreeMap<Uid, VariableValues>,
) -> Result<recipient::Model> {
    Ok(recipient::Model {
        app_id: app,
        notification_id: notification,
        seq: recipient.seq,
        uid: recipient.uid.to_string(),
        user_id: match recipient.user {
            Resolved::Active(user) | Resolved::Deactivated(user) => Some(user),
            Resolved::Unknown => None,
        },
        variables: Json::of(own.get(&recipient.uid).unwrap_or(&VariableValues::new()))?,
        outcome: recipient.outcome.number(),
    })
}

/// A recipient as it was accepted.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// The number within the notification.
    pub seq: i64,
    /// The uid.
    pub uid: Uid,
    /// What was found out about the uid then.
    pub user: Resolved,
    /// The values of its own.
    pub own: VariableValues,
}

/// What a page reads of a recipient's row.
#[derive(Deserialize, FromQueryResult)]
struct Accepted {
    seq: i64,
    uid: String,
    user_id: Option<UserId>,
    variables: String,
    outcome: i16,
}

impl Accepted {
    const FIELDS: [Field; 5] = [
        Field::Plain("seq"),
        Field::Plain("uid"),
        Field::Id("user_id"),
        Field::Plain("variables"),
        Field::Plain("outcome"),
    ];
}

/// Recipients by their numbers, both included.
///
/// # Errors
/// Those of the database, and internal when a row holds what this build does not know.
pub async fn list_recipients(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    from: i64,
    to: i64,
) -> Result<Vec<Recipient>> {
    let backend = db.get_database_backend();
    let sql = gather::select(
        backend,
        &Accepted::FIELDS,
        &gather::Source {
            table: "r",
            rest: "notification_recipients r WHERE r.app_id = $1 AND r.notification_id = $2 AND r.seq BETWEEN $3 AND $4",
            postgres: "ORDER BY r.seq",
        },
    );
    let values: [Value; 4] = [app.into(), notification.into(), from.into(), to.into()];
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let mut rows: Vec<Accepted> = gather::rows(db, statement).await?;
    rows.sort_unstable_by_key(|row| row.seq);
    let recipients = rows.into_iter().map(|row| {
        let user = match (RecipientOutcome::of_number(row.outcome), row.user_id) {
            (RecipientOutcome::Planned, Some(user)) => Resolved::Active(user),
            (RecipientOutcome::UserDeactivated, Some(user)) => Resolved::Deactivated(user),
            (
                RecipientOutcome::UnknownUser
                | RecipientOutcome::Failed
                | RecipientOutcome::InvalidVariables
                | RecipientOutcome::Unknown(_),
                _,
            )
            | (_, None) => Resolved::Unknown,
        };
        Ok(Recipient {
            seq: row.seq,
            uid: Uid::stored(row.uid),
            user,
            own: serde_json::from_str(&row.variables).map_err(Error::internal)?,
        })
    });
    recipients.collect()
}

/// Writes down that some recipients are not served, who were to be.
///
/// # Errors
/// Those of the database.
pub async fn record_outcome(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    seqs: &[i64],
    outcome: RecipientOutcome,
) -> Result<()> {
    if seqs.is_empty() {
        return Ok(());
    }
    recipient::Entity::update_many()
        .col_expr(recipient::Column::Outcome, Expr::value(outcome.number()))
        .filter(recipient::Column::AppId.eq(app))
        .filter(recipient::Column::NotificationId.eq(notification))
        .filter(recipient::Column::Seq.is_in(seqs.iter().copied()))
        .exec(db)
        .await?;
    Ok(())
}

impl SortBy<recipient::Entity> for ReceiverSort {
    // The same in all rows of a list: a position is unique by itself.
    const ID: recipient::Column = recipient::Column::NotificationId;

    fn column(self) -> recipient::Column {
        match self {
            Self::Position => recipient::Column::Seq,
        }
    }

    fn value(self, row: &recipient::Model) -> Option<SortValue> {
        match row.get(self.column()) {
            Value::BigInt(Some(number)) => Some(SortValue::Number(number)),
            _ => None,
        }
    }
}

/// One page of a notification's receivers with what became of each.
///
/// # Errors
/// Those of the database, and internal when a row holds what this build does not know.
pub async fn list_receivers(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    shape: &Shape,
    status: Option<ReceiverStatus>,
    page: &PageRequest<ReceiverSort>,
) -> Result<Page<Receiver>> {
    let rows = of(app, notification);
    let rows = match status {
        Some(status) => rows.filter(being(status, shape.last_step())),
        None => rows,
    };
    let found = list(db, rows, page).await?;
    let receivers = receivers(db, (app, notification), shape, &found.rows).await?;
    Ok(Page {
        rows: receivers,
        next: found.next,
        previous: found.previous,
        total: found.total,
    })
}

/// The receivers of a notification that has few.
///
/// # Errors
/// As [`list_receivers`].
pub(super) async fn list_all_receivers(
    db: &impl ConnectionTrait,
    app: AppId,
    notification: NotificationId,
    shape: &Shape,
) -> Result<Vec<Receiver>> {
    let rows = of(app, notification)
        .order_by_asc(recipient::Column::Seq)
        .limit(u64::from(RECEIVERS_SHOWN_MAX))
        .all(db)
        .await?;
    receivers(db, (app, notification), shape, &rows).await
}

pub(super) fn of(app: AppId, notification: NotificationId) -> Select<recipient::Entity> {
    recipient::Entity::find()
        .filter(recipient::Column::AppId.eq(app))
        .filter(recipient::Column::NotificationId.eq(notification))
}

/// The recipients that are of a status, by the same facts that [`receivers`] goes by.
fn being(status: ReceiverStatus, last: i32) -> Condition {
    let planned = recipient::Column::Outcome.eq(RecipientOutcome::Planned.number());
    let failed = [RecipientOutcome::Failed, RecipientOutcome::InvalidVariables].map(RecipientOutcome::number);
    let unserved = recipient::Column::Outcome.is_in(failed);
    let (any_accepted, any_failed) = (line(DeliveryStatus::Accepted, last), line(DeliveryStatus::Failed, last));
    match status {
        ReceiverStatus::Pending => Condition::all().add(open(last)).add(cancelled().not()),
        ReceiverStatus::Cancelled => Condition::all().add(open(last)).add(cancelled()),
        ReceiverStatus::Sent => Condition::all().add(any_accepted),
        ReceiverStatus::Failed => Condition::any()
            .add(unserved.and(waiting(None).not()))
            .add(any_failed.and(any_accepted.not()).and(goes_on(last).not())),
        ReceiverStatus::Skipped => {
            let none = planned.and(any_accepted.not()).and(any_failed.not());
            let none = none.and(goes_on(last).not());
            let skipped =
                [RecipientOutcome::UnknownUser, RecipientOutcome::UserDeactivated].map(RecipientOutcome::number);
            Condition::all()
                .add(waiting(None).not())
                .add(none.or(recipient::Column::Outcome.is_in(skipped)))
        }
    }
}

/// That it has not come to a recipient, or not with everything that could still reach them.
fn open(last: i32) -> Condition {
    let unreached = line(DeliveryStatus::Accepted, last).not();
    Condition::any().add(waiting(None)).add(goes_on(last).and(unreached))
}

/// That something more is to come to a recipient to whom it has come: a step up to the last one, or what a driver has not
/// taken.
pub(super) fn goes_on(last: i32) -> Expr {
    let planned = recipient::Column::Outcome.eq(RecipientOutcome::Planned.number());
    let past = planned.and(waiting(None).not());
    let queued = line(DeliveryStatus::Queued, last);
    if last == FIRST_STEP {
        past.and(queued)
    } else {
        past.and(queued.or(any_line(last..=last, None).not()))
    }
}

/// That a recipient has a line of the ledger with a status, of any step up to the last one.
pub(super) fn line(status: DeliveryStatus, last: i32) -> Expr {
    any_line(FIRST_STEP..=last, Some(status))
}

fn any_line(steps: RangeInclusive<i32>, status: Option<DeliveryStatus>) -> Expr {
    let column = |column: delivery::Column| Expr::col((delivery::Entity, column));
    let of = |column: recipient::Column| (recipient::Entity, column);
    let of_status = status.map(|status| column(delivery::Column::Status).eq(status.number()));
    let lines = Query::select()
        .expr(Expr::value(1))
        .from(delivery::Entity)
        .and_where(column(delivery::Column::AppId).equals(of(recipient::Column::AppId)))
        .and_where(column(delivery::Column::NotificationId).equals(of(recipient::Column::NotificationId)))
        .and_where(column(delivery::Column::Step).is_in(steps))
        .and_where(column(delivery::Column::UserId).equals(of(recipient::Column::UserId)))
        .and_where_option(of_status)
        .to_owned();
    Expr::exists(lines)
}

/// That a recipient's page of the first step, of which something more may be said, has not come to them.
pub(super) fn waiting(more: Option<Expr>) -> Expr {
    let column = |column: page::Column| Expr::col((page::Entity, column));
    let of = |column: recipient::Column| (recipient::Entity, column);
    let seq = || Expr::col(of(recipient::Column::Seq));
    let pages = Query::select()
        .expr(Expr::value(1))
        .from(page::Entity)
        .and_where(column(page::Column::AppId).equals(of(recipient::Column::AppId)))
        .and_where(column(page::Column::NotificationId).equals(of(recipient::Column::NotificationId)))
        .and_where(column(page::Column::State).ne(super::page::DONE))
        .and_where(column(page::Column::Number).lte(super::page::FIRST_STEP_END))
        .and_where(column(page::Column::NextSeq).lte(seq()))
        .and_where(column(page::Column::ToSeq).gte(seq()))
        .and_where_option(more)
        .to_owned();
    Expr::exists(pages)
}

/// That the notification was ended before its time.
fn cancelled() -> Expr {
    let column = |column: notification::Column| Expr::col((notification::Entity, column));
    let of = |column: recipient::Column| (recipient::Entity, column);
    let ended = Query::select()
        .expr(Expr::value(1))
        .from(notification::Entity)
        .and_where(column(notification::Column::AppId).equals(of(recipient::Column::AppId)))
        .and_where(column(notification::Column::Id).equals(of(recipient::Column::NotificationId)))
        .and_where(column(notification::Column::Status).eq(NotificationStatus::Cancelled.number()))
        .to_owned();
    Expr::exists(ended)
}

async fn receivers(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    shape: &Shape,
    rows: &[recipient::Model],
) -> Result<Vec<Receiver>> {
    let (place, channels) = ((app, notification), &shape.channels);
    let cancelled_at = find_cancelled_at(db, app, notification).await?;
    let cancelled = cancelled_at.is_some();
    // What waits first: whoever is served in between is shown without deliveries, never with those of a skipped one.
    let waiting = list_waiting(db, app, notification).await?;
    let users = rows.iter().filter_map(|row| row.user_id);
    let mut lines: BTreeMap<UserId, Served> = list_deliveries(db, place, shape.last_step(), users).await?;
    let receivers = rows.iter().map(|row| {
        let served = row.user_id.and_then(|user| lines.remove(&user)).unwrap_or_default();
        let waits = waiting.iter().any(|(from, to)| (*from..=*to).contains(&row.seq));
        let unserved = RecipientOutcome::of_number(row.outcome)
            .unserved(channels)
            .filter(|_| !waits);
        let goes_on = unserved.is_none() && (waits || served.goes_on);
        Ok(Receiver {
            uid: Uid::stored(row.uid.clone()),
            position: u32::try_from(row.seq).map_err(Error::internal)?,
            deliveries: unserved.unwrap_or_else(|| served.in_order(channels, cancelled_at)),
            cancelled: goes_on && cancelled,
            waiting: goes_on && !cancelled,
        })
    });
    receivers.collect()
}

/// The ranges of recipients that wait.
async fn list_waiting(db: &impl ConnectionTrait, app: AppId, notification: NotificationId) -> Result<Vec<(i64, i64)>> {
    #[derive(FromQueryResult)]
    struct Range {
        next_seq: i64,
        to_seq: i64,
    }
    let ranges = page::Entity::find()
        .select_only()
        .columns([page::Column::NextSeq, page::Column::ToSeq])
        .filter(page::Column::AppId.eq(app))
        .filter(page::Column::NotificationId.eq(notification))
        .filter(page::Column::State.ne(super::page::DONE))
        .filter(page::Column::Number.lte(super::page::FIRST_STEP_END))
        .into_model::<Range>()
        .all(db)
        .await?;
    Ok(ranges.into_iter().map(|range| (range.next_seq, range.to_seq)).collect())
}

/// When a notification was ended before its time, if it was.
async fn find_cancelled_at(db: &impl ConnectionTrait, app: AppId, id: NotificationId) -> Result<Option<Timestamp>> {
    let ended = notification::Entity::find()
        .select_only()
        .column(notification::Column::CompletedAt)
        .filter(notification::Column::AppId.eq(app))
        .filter(notification::Column::Id.eq(id))
        .filter(notification::Column::Status.eq(NotificationStatus::Cancelled.number()));
    let ended = ended.into_tuple::<Option<Timestamp>>().one(db).await?;
    Ok(ended.flatten())
}
