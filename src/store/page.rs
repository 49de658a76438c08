//! Pages in the database: how far each has come and what its recipients came to. Who may run one is not decided here.

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter};

use super::entity::page::{Column, Entity, Model};
use super::notification::small;
use crate::model::delivery::Counts;
use crate::model::id::{AppId, NotificationId};
use crate::model::{Error, Result};

/// The number of a page that is done. What is still to do has smaller ones.
const DONE: i16 = 3;

/// One page of one notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageKey {
    /// The notification.
    pub notification: NotificationId,
    /// The number within it, from 1.
    pub number: i32,
}

/// Writes down a page that is done in this very transaction, with so many recipients.
///
/// # Errors
/// Those of the database.
pub async fn insert_done(
    db: &impl ConnectionTrait,
    app: AppId,
    key: PageKey,
    from_seq: i64,
    recipients: usize,
) -> Result<()> {
    let next_seq = from_seq.saturating_add(i64::try_from(recipients).map_err(Error::internal)?);
    let row = Model {
        app_id: app,
        notification_id: key.notification,
        number: key.number,
        from_seq,
        to_seq: next_seq.saturating_sub(1),
        next_seq: from_seq,
        state: DONE,
        lease_until: None,
        fence: 0,
        attempts: 1,
        sent_count: 0,
        failed_count: 0,
        skipped_count: 0,
    };
    Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Moves a page on to `next_seq` and adds what the recipients before it came to. The caller owns the row.
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
    Entity::update_many()
        .col_expr(Column::NextSeq, Expr::value(next_seq))
        .col_expr(Column::SentCount, plus(Column::SentCount, counts.sent)?)
        .col_expr(Column::FailedCount, plus(Column::FailedCount, counts.failed)?)
        .col_expr(Column::SkippedCount, plus(Column::SkippedCount, counts.skipped)?)
        .filter(Column::AppId.eq(app))
        .filter(Column::NotificationId.eq(key.notification))
        .filter(Column::Number.eq(key.number))
        .exec(db)
        .await?;
    Ok(())
}
