//! Imports in the database: which file goes into which audience, who holds the job and how far it has come. What a row of
//! the file says is not known here.
//!
//! An import is held by a lease with a fence, as pages are: see [`super::page`].

use std::time::Duration;

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, FromQueryResult as _, IntoActiveModel, ModelTrait as _,
    QueryFilter, QueryOrder, QuerySelect, Select, Statement, UpdateMany, Value,
};

use super::bulk;
use super::entity::import::{Column, Entity, Model};
use super::entity::import_problem as problem;
use super::list::{SortBy, list};
use super::notification::{large, small};
use super::page::clock;
use super::value::Json;
use crate::model::id::{AppId, CampaignId, ImportId};
use crate::model::import::csv::Place;
use crate::model::import::{Failure, FileKey, Format, ImportCounts, ImportJob, ImportState, Problem, ProblemSort};
use crate::model::page::{Page, PageRequest, SortValue};
use crate::model::{Error, Result, Timestamp};

/// What tells one lease of an import from those before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The app.
    pub app: AppId,
    /// The import.
    pub id: ImportId,
    /// The number of the lease.
    pub fence: i64,
}

/// An import under a lease, as it stood when that began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The lease.
    pub lease: Lease,
    /// The campaign.
    pub campaign: CampaignId,
    /// The file.
    pub key: String,
    /// How it is to be read.
    pub format: Format,
    /// Its checksum, once it was looked through.
    pub checksum: Option<String>,
    /// Where the first row begins that is not settled.
    pub next: Place,
    /// What the rows before came to.
    pub counts: ImportCounts,
    /// Problems that were kept.
    pub problem_count: u32,
    /// Leases since it last came on, this one included.
    pub attempts: u32,
}

/// What a step settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Where the first row begins that is not settled now.
    pub next: Place,
    /// What the rows came to.
    pub counts: ImportCounts,
    /// What was wrong with them.
    pub problems: Vec<Problem>,
}

/// Writes an import down that waits.
///
/// # Errors
/// Those of the database.
pub async fn insert_import(db: &impl ConnectionTrait, app: AppId, job: &ImportJob, format: &Format) -> Result<()> {
    let row = Model {
        id: job.id,
        app_id: app,
        campaign_id: job.campaign,
        number: small(job.number)?,
        file_key: job.key.clone(),
        format: Json::of(format)?,
        state: job.state.number(),
        checksum: None,
        bytes_total: 0,
        next_offset: 0,
        next_line: 1,
        row_count: 0,
        added_count: 0,
        duplicate_count: 0,
        unknown_count: 0,
        failed_count: 0,
        problem_count: 0,
        failure: None,
        failure_message: None,
        lease_until: None,
        fence: 0,
        attempts: 0,
        created_at: job.created_at,
        started_at: None,
        ended_at: None,
    };
    Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// The last import of a campaign, if there was one.
///
/// # Errors
/// Those of the database, and internal when a row holds what this build does not know.
pub async fn find_last(db: &impl ConnectionTrait, app: AppId, campaign: CampaignId) -> Result<Option<ImportJob>> {
    let row = of(app, campaign).order_by_desc(Column::Number).one(db).await?;
    row.map(job_of).transpose()
}

/// The same, which nobody else can change before the transaction ends.
///
/// # Errors
/// As [`find_last`].
pub async fn find_last_locked(
    db: &impl ConnectionTrait,
    app: AppId,
    campaign: CampaignId,
) -> Result<Option<ImportJob>> {
    let row = of(app, campaign)
        .order_by_desc(Column::Number)
        .lock_exclusive()
        .one(db)
        .await?;
    row.map(job_of).transpose()
}

/// The last import of a file into a campaign, if there was one.
///
/// # Errors
/// As [`find_last`].
pub async fn find_of_file(db: &impl ConnectionTrait, app: AppId, key: FileKey) -> Result<Option<ImportJob>> {
    let row = of(app, key.campaign)
        .filter(Column::FileKey.eq(key.to_string()))
        .order_by_desc(Column::Number)
        .one(db)
        .await?;
    row.map(job_of).transpose()
}

/// Whether an import of a campaign is not over.
///
/// # Errors
/// Those of the database.
pub async fn has_open(db: &impl ConnectionTrait, app: AppId, campaign: CampaignId) -> Result<bool> {
    let open = of(app, campaign).filter(Expr::cust("state < 3"));
    Ok(open.one(db).await?.is_some())
}

/// Whether a file is or was imported.
///
/// # Errors
/// Those of the database.
pub async fn is_used(db: &impl ConnectionTrait, app: AppId, key: FileKey) -> Result<bool> {
    let used = of(app, key.campaign).filter(Column::FileKey.eq(key.to_string()));
    Ok(used.one(db).await?.is_some())
}

/// The files that imports still have to read.
///
/// # Errors
/// Those of the database.
pub async fn list_open_files(db: &impl ConnectionTrait) -> Result<Vec<String>> {
    let keys = Entity::find()
        .select_only()
        .column(Column::FileKey)
        .filter(Expr::cust("state < 3"));
    Ok(keys.into_tuple().all(db).await?)
}

fn of(app: AppId, campaign: CampaignId) -> Select<Entity> {
    Entity::find()
        .filter(Column::AppId.eq(app))
        .filter(Column::CampaignId.eq(campaign))
}

/// Leases the import that has waited longest.
///
/// # Errors
/// Those of the database.
pub async fn claim_import(db: &impl ConnectionTrait, lease: Duration, now: Timestamp) -> Result<Option<Leased>> {
    let backend = db.get_database_backend();
    // As with pages: the lock clause only spares claims that come at once from waiting, the outer condition makes it right.
    let skip = match backend {
        DatabaseBackend::Postgres => "FOR UPDATE SKIP LOCKED",
        _ => "",
    };
    let clock = clock(backend);
    let free = format!("state < 3 AND (lease_until IS NULL OR lease_until <= {clock})");
    let sql = format!(
        "UPDATE imports SET lease_until = {clock} + $1, fence = fence + 1, attempts = attempts + 1, state = 2, \
         started_at = COALESCE(started_at, $2) \
         WHERE id = (SELECT id FROM imports WHERE {free} ORDER BY id LIMIT 1 {skip}) AND {free} RETURNING *"
    );
    let values = [millis(lease).into(), now.into()];
    let row = db
        .query_one_raw(Statement::from_sql_and_values(backend, sql, values))
        .await?;
    let row = row.map(|row| Model::from_query_result(&row, "")).transpose()?;
    row.map(leased_of).transpose()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

/// Locks an import for its holder until the transaction ends and lets the lease begin anew; tells whether it is still the
/// holder's.
///
/// # Errors
/// Those of the database.
pub async fn hold_import(db: &impl ConnectionTrait, lease: Lease, time: Duration) -> Result<bool> {
    let until = format!("{} + {}", clock(db.get_database_backend()), millis(time));
    let held = at(lease).col_expr(Column::LeaseUntil, Expr::cust(until));
    Ok(held.exec(db).await?.rows_affected == 1)
}

/// The row of a lease that is still good.
fn at(lease: Lease) -> UpdateMany<Entity> {
    let row = Entity::update_many()
        .filter(Column::AppId.eq(lease.app))
        .filter(Column::Id.eq(lease.id))
        .filter(Expr::cust("state < 3"));
    #[cfg(debug_assertions)]
    if crate::failpoint::broken() == Some(crate::failpoint::Break::NoImportFence) {
        return row;
    }
    row.filter(Column::Fence.eq(lease.fence))
}

/// Writes down what a file is that was looked through, and where its rows begin.
///
/// # Errors
/// Those of the database.
pub async fn record_file(
    db: &impl ConnectionTrait,
    lease: Lease,
    (checksum, bytes): (&str, u64),
    first: Place,
) -> Result<()> {
    at(lease)
        .col_expr(Column::Checksum, Expr::value(Some(checksum.to_owned())))
        .col_expr(Column::BytesTotal, Expr::value(long(bytes)?))
        .col_expr(Column::NextOffset, Expr::value(long(first.offset)?))
        .col_expr(Column::NextLine, Expr::value(long(first.line)?))
        .col_expr(Column::Attempts, Expr::value(0))
        .exec(db)
        .await?;
    Ok(())
}

/// Moves an import on that its holder has locked: what the rows came to is added, their problems are kept.
///
/// # Errors
/// Those of the database.
pub async fn record_settled(db: &impl ConnectionTrait, lease: Lease, settled: &Settled) -> Result<()> {
    let plus = |column: Column, count: u32| Ok::<_, Error>(Expr::col(column).add(small(count)?));
    let (counts, kept) = (settled.counts, settled.problems.len());
    at(lease)
        .col_expr(Column::NextOffset, Expr::value(long(settled.next.offset)?))
        .col_expr(Column::NextLine, Expr::value(long(settled.next.line)?))
        .col_expr(Column::RowCount, plus(Column::RowCount, counts.rows)?)
        .col_expr(Column::AddedCount, plus(Column::AddedCount, counts.added)?)
        .col_expr(Column::DuplicateCount, plus(Column::DuplicateCount, counts.duplicate)?)
        .col_expr(Column::UnknownCount, plus(Column::UnknownCount, counts.unknown)?)
        .col_expr(Column::FailedCount, plus(Column::FailedCount, counts.failed)?)
        .col_expr(
            Column::ProblemCount,
            plus(Column::ProblemCount, u32::try_from(kept).map_err(Error::internal)?)?,
        )
        .col_expr(Column::Attempts, Expr::value(0))
        .exec(db)
        .await?;
    let row = |one: &Problem| {
        Ok(problem::Model {
            app_id: lease.app,
            import_id: lease.id,
            position: small(one.position)?,
            line: long(one.line)?,
            name: one.column.clone(),
            rule: one.rule.clone(),
            received: one.received.clone(),
        })
    };
    if settled.problems.is_empty() {
        return Ok(());
    }
    let rows = settled.problems.iter().map(row).collect::<Result<Vec<_>>>()?;
    bulk::insert_all::<problem::Entity>(db, &rows).await
}

/// Ends an import; tells whether the lease was still good.
///
/// # Errors
/// Those of the database.
pub async fn end_import(
    db: &impl ConnectionTrait,
    lease: Lease,
    (state, failure): (ImportState, Option<&Failure>),
    now: Timestamp,
) -> Result<bool> {
    let ended = at(lease)
        .col_expr(Column::State, Expr::value(state.number()))
        .col_expr(
            Column::Failure,
            Expr::value(failure.map(|failure| failure.word.clone())),
        )
        .col_expr(
            Column::FailureMessage,
            Expr::value(failure.map(|failure| failure.message.clone())),
        )
        .col_expr(Column::LeaseUntil, Expr::value(None::<i64>))
        .col_expr(Column::EndedAt, Expr::value(Some(now)));
    Ok(ended.exec(db).await?.rows_affected == 1)
}

/// Cancels an import that is locked.
///
/// # Errors
/// Those of the database.
pub async fn cancel_import(db: &impl ConnectionTrait, app: AppId, id: ImportId, now: Timestamp) -> Result<()> {
    Entity::update_many()
        .filter(Column::AppId.eq(app))
        .filter(Column::Id.eq(id))
        .col_expr(Column::State, Expr::value(ImportState::Cancelled.number()))
        .col_expr(Column::LeaseUntil, Expr::value(None::<i64>))
        .col_expr(Column::EndedAt, Expr::value(Some(now)))
        .exec(db)
        .await?;
    Ok(())
}

/// Ends a holder's lease, if it still has it: the import is free after `wait`.
///
/// # Errors
/// Those of the database.
pub async fn release_import(db: &impl ConnectionTrait, lease: Lease, wait: Duration) -> Result<()> {
    let free = format!("{} + {}", clock(db.get_database_backend()), millis(wait));
    at(lease)
        .col_expr(Column::LeaseUntil, Expr::cust(free))
        .exec(db)
        .await?;
    Ok(())
}

/// Removes up to `limit` rows of the imports of a campaign: their problems, in the end themselves. Says how many.
///
/// # Errors
/// Those of the database.
pub async fn purge_imports(db: &impl ConnectionTrait, app: AppId, campaign: CampaignId, limit: u64) -> Result<u64> {
    let Some(one) = of(app, campaign).one(db).await? else {
        return Ok(0);
    };
    let some = problem::Entity::find()
        .select_only()
        .column(problem::Column::Position)
        .filter(problem::Column::AppId.eq(app))
        .filter(problem::Column::ImportId.eq(one.id))
        .limit(limit);
    let some: Vec<i32> = some.into_tuple().all(db).await?;
    if some.is_empty() {
        return Ok(one.delete(db).await?.rows_affected);
    }
    let removed = problem::Entity::delete_many()
        .filter(problem::Column::AppId.eq(app))
        .filter(problem::Column::ImportId.eq(one.id))
        .filter(problem::Column::Position.is_in(some));
    Ok(removed.exec(db).await?.rows_affected)
}

impl SortBy<problem::Entity> for ProblemSort {
    // The same in all rows of a list: a position is unique by itself.
    const ID: problem::Column = problem::Column::ImportId;

    fn column(self) -> problem::Column {
        match self {
            Self::Position => problem::Column::Position,
        }
    }

    fn value(self, row: &problem::Model) -> Option<SortValue> {
        match row.get(self.column()) {
            Value::Int(Some(number)) => Some(SortValue::Number(number.into())),
            _ => None,
        }
    }
}

/// One page of what was wrong with the rows of an import.
///
/// # Errors
/// Those of the database.
pub async fn list_problems(
    db: &impl ConnectionTrait,
    app: AppId,
    id: ImportId,
    page: &PageRequest<ProblemSort>,
) -> Result<Page<Problem>> {
    let found = list(db, problems_of(app, id), page).await?;
    Ok(Page {
        rows: found.rows.into_iter().map(problem_of).collect::<Result<Vec<_>>>()?,
        next: found.next,
        previous: found.previous,
        total: found.total,
    })
}

/// All that was kept of what was wrong with the rows of an import, which is bounded.
///
/// # Errors
/// Those of the database.
pub async fn list_all_problems(db: &impl ConnectionTrait, app: AppId, id: ImportId) -> Result<Vec<Problem>> {
    let rows = problems_of(app, id)
        .order_by_asc(problem::Column::Position)
        .all(db)
        .await?;
    rows.into_iter().map(problem_of).collect()
}

fn problems_of(app: AppId, id: ImportId) -> Select<problem::Entity> {
    problem::Entity::find()
        .filter(problem::Column::AppId.eq(app))
        .filter(problem::Column::ImportId.eq(id))
}

fn problem_of(row: problem::Model) -> Result<Problem> {
    Ok(Problem {
        position: large(row.position)?,
        line: unsigned(row.line)?,
        column: row.name,
        rule: row.rule,
        received: row.received,
    })
}

fn job_of(row: Model) -> Result<ImportJob> {
    let failure = row.failure.clone().map(|word| Failure {
        word,
        message: row.failure_message.clone().unwrap_or_default(),
    });
    Ok(ImportJob {
        id: row.id,
        campaign: row.campaign_id,
        number: large(row.number)?,
        state: ImportState::of_number(row.state),
        next_offset: unsigned(row.next_offset)?,
        bytes_total: row.checksum.is_some().then(|| unsigned(row.bytes_total)).transpose()?,
        counts: counts_of(&row)?,
        failure,
        started_at: row.started_at,
        ended_at: row.ended_at,
        created_at: row.created_at,
        key: row.file_key,
    })
}

fn leased_of(row: Model) -> Result<Leased> {
    Ok(Leased {
        lease: Lease {
            app: row.app_id,
            id: row.id,
            fence: row.fence,
        },
        campaign: row.campaign_id,
        format: row.format.read()?,
        next: Place {
            offset: unsigned(row.next_offset)?,
            line: unsigned(row.next_line)?,
        },
        counts: counts_of(&row)?,
        problem_count: large(row.problem_count)?,
        attempts: large(row.attempts)?,
        checksum: row.checksum,
        key: row.file_key,
    })
}

fn counts_of(row: &Model) -> Result<ImportCounts> {
    Ok(ImportCounts {
        rows: large(row.row_count)?,
        added: large(row.added_count)?,
        duplicate: large(row.duplicate_count)?,
        unknown: large(row.unknown_count)?,
        failed: large(row.failed_count)?,
    })
}

fn long(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(Error::internal)
}

fn unsigned(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(Error::internal)
}
