//! Pages in the database: who holds one, how far each has come and what its recipients came to. What is done for a
//! recipient is not known here.
//!
//! A page is free when it is not done and no lease on it runs. Leases go by the clock of the database, so that nodes agree
//! on them; SQLite has none but that of the process. Every lease raises the page's fence, and every step of its holder
//! begins with [`hold_page`], which finds nothing once somebody else has leased it: a holder that stood still for longer
//! than its lease changes nothing any more.

use std::ops::RangeInclusive;
use std::time::Duration;

use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, IntoActiveModel, QueryFilter, QueryResult, Statement,
    UpdateMany, Value,
};

use super::bulk;
use super::entity::page::{Column, Entity, Model};
use super::notification::{large, small};
use crate::model::delivery::Counts;
use crate::model::id::{AppId, NotificationId};
use crate::model::template::course::FIRST_STEP;
use crate::model::{Error, Result};

/// The number of a page that waits or is leased.
const OPEN: i16 = 1;
/// The number of a page that is done.
pub(super) const DONE: i16 = 3;
/// The tenure of a page that was taken over; that of any other that is held is 1.
const TAKEN_OVER: i16 = 2;

/// How far the numbers of a step's pages are from those of the step before: more than a campaign can have recipients.
const STEP_STRIDE: i32 = 200_000_000;

/// Where the numbers of the pages of the first step end.
pub(super) const FIRST_STEP_END: i32 = STEP_STRIDE;

/// The numbers of a step's pages.
pub(super) const fn step_numbers(step: i32) -> RangeInclusive<i32> {
    let before = step.saturating_sub(FIRST_STEP).saturating_mul(STEP_STRIDE);
    before.saturating_add(1)..=before.saturating_add(STEP_STRIDE)
}

/// One page of one notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageKey {
    /// The notification.
    pub notification: NotificationId,
    /// The number within it: that of the first recipient it was cut for, behind the numbers of all earlier steps.
    pub number: i32,
}

impl PageKey {
    /// The step that the page is of.
    #[must_use]
    pub const fn step(&self) -> i32 {
        self.number.saturating_sub(1) / STEP_STRIDE + FIRST_STEP
    }
}

/// A page under a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The app.
    pub app: AppId,
    /// The page.
    pub key: PageKey,
    /// What tells this lease from those before and after it.
    pub fence: i64,
    /// Leases since the page last came on, this one included.
    pub attempts: u32,
    /// Whether it was taken over from a worker whose lease had ended without a word.
    pub taken_over: bool,
}

/// What is left to do of a page: recipients by their numbers, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// The first one.
    pub from: i64,
    /// The last one.
    pub to: i64,
}

impl Rest {
    /// How many recipients that is.
    #[must_use]
    pub const fn len(&self) -> i64 {
        self.to.saturating_sub(self.from).saturating_add(1)
    }

    /// The first so many of it.
    #[must_use]
    pub fn part(&self, rows: u32) -> Self {
        let to = self.from.saturating_add(i64::from(rows)).saturating_sub(1);
        Self {
            from: self.from,
            to: Ord::min(self.to, to),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.to < self.from
    }
}

/// Milliseconds since 1970 as a statement says them.
pub(super) const fn clock(backend: DatabaseBackend) -> &'static str {
    match backend {
        DatabaseBackend::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        _ => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    }
}

/// Pages for a statement that asks for open ones. SQLite prefers the table itself, which holds all that are done as well.
pub(super) const fn open_pages(backend: DatabaseBackend) -> &'static str {
    match backend {
        DatabaseBackend::Sqlite => "pages p INDEXED BY pages_open",
        _ => "pages p",
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

fn page(number: i32, app: AppId, notification: NotificationId, rest: Rest) -> Model {
    Model {
        app_id: app,
        notification_id: notification,
        number,
        from_seq: rest.from,
        to_seq: rest.to,
        next_seq: rest.from,
        state: OPEN,
        lease_until: None,
        fence: 0,
        attempts: 0,
        sent_count: 0,
        failed_count: 0,
        skipped_count: 0,
        tenure: None,
    }
}

/// A page that is done in the transaction that writes it down.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// The page.
    pub key: PageKey,
    /// Its recipients by their numbers.
    pub recipients: Rest,
    /// What they came to.
    pub counts: Counts,
}

/// Writes down pages that are done in this very transaction.
///
/// # Errors
/// Those of the database.
pub async fn insert_done(
    db: &impl ConnectionTrait,
    app: AppId,
    pages: impl IntoIterator<Item = Done> + Send,
) -> Result<()> {
    let rows = pages.into_iter().map(|done| {
        Ok(Model {
            next_seq: done.recipients.to.saturating_add(1),
            state: DONE,
            sent_count: small(done.counts.sent)?,
            failed_count: small(done.counts.failed)?,
            skipped_count: small(done.counts.skipped)?,
            ..page(done.key.number, app, done.key.notification, done.recipients)
        })
    });
    bulk::insert_all::<Entity>(db, &rows.collect::<Result<Vec<_>>>()?).await
}

/// Cuts the recipients of a step from the first to the last into pages of so many, for workers to do.
///
/// # Errors
/// Those of the database.
pub async fn insert_open(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    step: i32,
    recipients: Rest,
    page_rows: u32,
) -> Result<()> {
    let length = i64::from(Ord::max(page_rows, 1));
    let mut rows = Vec::new();
    let mut from = recipients.from;
    while from <= recipients.to {
        let to = Ord::min(recipients.to, from.saturating_add(length).saturating_sub(1));
        rows.push(page(number(step, from)?, app, notification, Rest { from, to }));
        from = to.saturating_add(1);
    }
    bulk::insert_all::<Entity>(db, &rows).await
}

/// The number of a step's page that begins with a recipient.
fn number(step: i32, first: i64) -> Result<i32> {
    let before = i64::from(step.saturating_sub(FIRST_STEP)).saturating_mul(i64::from(STEP_STRIDE));
    i32::try_from(before.saturating_add(first)).map_err(Error::internal)
}

/// Leases the first free page of a notification, in the order of its pages.
///
/// # Errors
/// Those of the database.
pub async fn claim_page(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    lease: Duration,
) -> Result<Option<Leased>> {
    let backend = db.get_database_backend();
    // The lock clause only spares claims that come at once from waiting for each other; what makes a claim right is that
    // the outer condition says all of it once more, which PostgreSQL looks at again after waiting.
    let skip = match backend {
        DatabaseBackend::Postgres => "FOR UPDATE SKIP LOCKED",
        _ => "",
    };
    let clock = clock(backend);
    let free = format!("state <> 3 AND (lease_until IS NULL OR lease_until <= {clock})");
    let open = open_pages(backend);
    let sql = format!(
        "UPDATE pages SET lease_until = {clock} + $1, fence = fence + 1, attempts = attempts + 1, \
         tenure = CASE WHEN tenure IS NULL THEN 1 ELSE {TAKEN_OVER} END \
         WHERE app_id = $2 AND notification_id = $3 AND number = (SELECT number FROM {open} \
         WHERE {free} AND app_id = $2 AND notification_id = $3 ORDER BY number LIMIT 1 {skip}) AND {free} \
         RETURNING app_id, notification_id, number, fence, attempts, tenure"
    );
    let values = [millis(lease).into(), app.into(), notification.into()];
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let row = db.query_one_raw(statement).await?;
    row.as_ref().map(leased_of).transpose()
}

fn leased_of(row: &QueryResult) -> Result<Leased> {
    Ok(Leased {
        app: row.try_get("", "app_id")?,
        key: PageKey {
            notification: row.try_get("", "notification_id")?,
            number: row.try_get("", "number")?,
        },
        fence: row.try_get("", "fence")?,
        attempts: large(row.try_get("", "attempts")?)?,
        taken_over: row.try_get::<Option<i16>>("", "tenure")? == Some(TAKEN_OVER),
    })
}

/// Locks a page for its holder until the transaction ends, lets the lease begin anew, and says what is left to do; nothing
/// when somebody else holds the page by now, or it is done.
///
/// # Errors
/// Those of the database.
pub async fn hold_page(db: &impl ConnectionTrait, page: &Leased, lease: Duration) -> Result<Option<Rest>> {
    let backend = db.get_database_backend();
    let sql = format!(
        "UPDATE pages SET lease_until = {} + $1 \
         WHERE app_id = $2 AND notification_id = $3 AND number = $4 AND fence = $5 AND state <> 3 \
         RETURNING next_seq, to_seq",
        clock(backend)
    );
    let values: [Value; 5] = [
        millis(lease).into(),
        page.app.into(),
        page.key.notification.into(),
        page.key.number.into(),
        page.fence.into(),
    ];
    let row = db
        .query_one_raw(Statement::from_sql_and_values(backend, sql, values))
        .await?;
    let rest = row.map(|row| {
        Ok(Rest {
            from: row.try_get("", "next_seq")?,
            to: row.try_get("", "to_seq")?,
        })
    });
    rest.transpose()
}

/// What is left of a page under a lease that runs, as it is known outside of a transaction: the next moment another holder
/// may have it.
///
/// # Errors
/// Those of the database.
pub async fn find_rest(db: &impl ConnectionTrait, page: &Leased) -> Result<Option<Rest>> {
    let row = Entity::find_by_id((page.app, page.key.notification, page.key.number))
        .filter(Column::Fence.eq(page.fence))
        .filter(Column::State.ne(DONE))
        .one(db)
        .await?;
    Ok(row.map(|row| Rest {
        from: row.next_seq,
        to: row.to_seq,
    }))
}

/// All recipients that a page was cut for, whoever holds it and however far it is: what no worker may go by.
///
/// # Errors
/// Those of the database.
#[cfg(debug_assertions)]
pub async fn get_whole(db: &impl ConnectionTrait, page: &Leased) -> Result<Option<Rest>> {
    let row = Entity::find_by_id((page.app, page.key.notification, page.key.number))
        .one(db)
        .await?;
    Ok(row.map(|row| Rest {
        from: row.from_seq,
        to: row.to_seq,
    }))
}

/// Moves a page on to `next_seq` and adds what the recipients before it came to; behind its last recipient it is done. The
/// caller owns the row.
///
/// # Errors
/// Those of the database.
pub async fn record_progress(
    db: &impl ConnectionTrait,
    app: AppId,
    key: PageKey,
    next_seq: i64,
    counts: Counts,
) -> Result<()> {
    let plus = |column: Column, count: u32| Ok::<_, Error>(Expr::col(column).add(small(count)?));
    let is_done = Expr::col(Column::ToSeq).lt(next_seq);
    let state = CaseStatement::new()
        .case(is_done, DONE)
        .finally(Expr::col(Column::State));
    at(app, key)
        .col_expr(Column::NextSeq, Expr::value(next_seq))
        .col_expr(Column::State, state.into())
        .col_expr(Column::Attempts, Expr::value(0))
        .col_expr(Column::SentCount, plus(Column::SentCount, counts.sent)?)
        .col_expr(Column::FailedCount, plus(Column::FailedCount, counts.failed)?)
        .col_expr(Column::SkippedCount, plus(Column::SkippedCount, counts.skipped)?)
        .exec(db)
        .await?;
    Ok(())
}

fn at(app: AppId, key: PageKey) -> UpdateMany<Entity> {
    Entity::update_many()
        .filter(Column::AppId.eq(app))
        .filter(Column::NotificationId.eq(key.notification))
        .filter(Column::Number.eq(key.number))
}

/// Adds what recipients came to later than their page did.
///
/// # Errors
/// Those of the database.
pub async fn add_counts(db: &impl ConnectionTrait, app: AppId, key: PageKey, counts: Counts) -> Result<()> {
    let plus = |column: Column, count: u32| Ok::<_, Error>(Expr::col(column).add(small(count)?));
    at(app, key)
        .col_expr(Column::SentCount, plus(Column::SentCount, counts.sent)?)
        .col_expr(Column::FailedCount, plus(Column::FailedCount, counts.failed)?)
        .col_expr(Column::SkippedCount, plus(Column::SkippedCount, counts.skipped)?)
        .exec(db)
        .await?;
    Ok(())
}

/// Ends a holder's lease, if it still has it: the page is free after `wait`.
///
/// # Errors
/// Those of the database.
pub async fn release_page(db: &impl ConnectionTrait, page: &Leased, wait: Duration) -> Result<()> {
    let free = format!("{} + {}", clock(db.get_database_backend()), millis(wait));
    at(page.app, page.key)
        .filter(Column::Fence.eq(page.fence))
        .col_expr(Column::LeaseUntil, Expr::cust(free))
        .col_expr(Column::Tenure, Expr::value(None::<i16>))
        .exec(db)
        .await?;
    Ok(())
}

/// Makes two pages out of what is left of one that the caller holds, both free at once. The second is named by its first
/// recipient, which no other page of the step begins with.
///
/// # Errors
/// Those of the database.
pub async fn halve_page(db: &impl ConnectionTrait, held: &Leased, rest: Rest) -> Result<()> {
    let middle = rest.from.saturating_add(rest.len() / 2);
    let second = Rest {
        from: middle,
        to: rest.to,
    };
    // The attempts stay with the halves, so that a half that fails again is halved again at once; a page of one recipient
    // gets attempts of its own before it is given up.
    let attempts = |recipients: i64| if recipients == 1 { Ok(0) } else { small(held.attempts) };
    let row = Model {
        attempts: attempts(second.len())?,
        ..page(
            number(held.key.step(), middle)?,
            held.app,
            held.key.notification,
            second,
        )
    };
    Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await?;
    at(held.app, held.key)
        .col_expr(Column::ToSeq, Expr::value(middle.saturating_sub(1)))
        .col_expr(
            Column::Attempts,
            Expr::value(attempts(middle.saturating_sub(rest.from))?),
        )
        .col_expr(Column::LeaseUntil, Expr::value(None::<i64>))
        .col_expr(Column::Tenure, Expr::value(None::<i16>))
        .exec(db)
        .await?;
    Ok(())
}
