//! The audience of a campaign in the database: recipients of its notification, numbered from the moment they are added.
//! Whoever adds some holds the campaign's row, so that the numbers are dense.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect};

use super::bulk::Rows;
use super::delivery::{Served, list_deliveries};
use super::entity::{notification_recipient as recipient, page};
use super::list::list;
use super::notification::get_shape;
use super::receiver::{goes_on, line, of, waiting};
use crate::model::campaign::recipient::{AudienceMember, RecipientStatus, Turn};
use crate::model::campaign::{Campaign, CampaignStatus};
use crate::model::delivery::DeliveryStatus;
use crate::model::id::{AppId, NotificationId, UserId};
use crate::model::notification::{ReceiverSort, RecipientOutcome};
use crate::model::page::{Page, PageRequest};
use crate::model::template::course::FIRST_STEP;
use crate::model::user::Uid;
use crate::model::{Error, Reason, Result};

/// Those of some uids that are in an audience already.
///
/// # Errors
/// Those of the database.
pub async fn list_present(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    uids: &[Uid],
) -> Result<BTreeSet<Uid>> {
    let rows = Rows::new(db).column("uid", uids.iter().map(ToString::to_string));
    let sql = format!(
        "SELECT r.uid AS uid FROM {} WHERE EXISTS (SELECT 1 FROM notification_recipients n \
         WHERE n.app_id = {} AND n.notification_id = {} AND n.uid = r.uid)",
        rows.table("r")?,
        rows.parameter(0),
        rows.parameter(1),
    );
    let found = db
        .query_all_raw(rows.statement(sql, [app.into(), notification.into()])?)
        .await?;
    let uids = found.iter().map(|row| Ok(Uid::stored(row.try_get("", "uid")?)));
    uids.collect()
}

/// One page of an audience with what became of each, perhaps only of those with a status.
///
/// # Errors
/// Those of the database, and internal when a row holds what this build does not know.
pub async fn list_members(
    db: &impl ConnectionTrait,
    app: AppId,
    campaign: &Campaign,
    status: Option<RecipientStatus>,
    page: &PageRequest<ReceiverSort>,
) -> Result<Page<AudienceMember>> {
    let rows = of(app, campaign.notification_id);
    let last = last_step(db, app, campaign).await?;
    let rows = match status {
        Some(status) => rows.filter(being(campaign, status, last)),
        None => rows,
    };
    let found = list(db, rows, page).await?;
    Ok(Page {
        rows: members(db, app, (campaign, last), &found.rows).await?,
        next: found.next,
        previous: found.previous,
        total: found.total,
    })
}

/// One recipient of a campaign with what was found out about them, if they are in the audience.
///
/// # Errors
/// As [`list_members`].
pub async fn find_member(
    db: &impl ConnectionTrait,
    app: AppId,
    campaign: &Campaign,
    uid: &Uid,
) -> Result<Option<(AudienceMember, RecipientOutcome)>> {
    let row = of(app, campaign.notification_id)
        .filter(recipient::Column::Uid.eq(uid.as_str()))
        .one(db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let outcome = RecipientOutcome::of_number(row.outcome);
    let last = last_step(db, app, campaign).await?;
    let found = members(db, app, (campaign, last), &[row]).await?;
    Ok(found.into_iter().next().map(|member| (member, outcome)))
}

/// Whether the pages of a campaign are cut.
fn is_started(campaign: &Campaign) -> bool {
    campaign.sent_at.is_some()
}

/// The last step of what a campaign sends.
async fn last_step(db: &impl ConnectionTrait, app: AppId, campaign: &Campaign) -> Result<i32> {
    if !is_started(campaign) {
        return Ok(FIRST_STEP);
    }
    match get_shape(db, app, campaign.notification_id).await {
        // Retention has removed it, and with it everything that a step could be asked of.
        Err(gone) if gone.reason() == Reason::NotificationNotFound => Ok(FIRST_STEP),
        shape => Ok(shape?.last_step()),
    }
}

/// The recipients that are of a status, by the same facts that [`members`] goes by.
fn being(campaign: &Campaign, status: RecipientStatus, last: i32) -> Condition {
    let over = campaign.status.is_final();
    let nobody = || Condition::all().add(Expr::value(1).eq(0));
    if !is_started(campaign) {
        let everybody = match status {
            RecipientStatus::Pending => !over,
            RecipientStatus::Cancelled => over,
            RecipientStatus::Processing | RecipientStatus::Completed | RecipientStatus::Failed => false,
        };
        return if everybody { Condition::all() } else { nobody() };
    }
    let accepted = || line(DeliveryStatus::Accepted, last);
    let later = || goes_on(last).and(accepted().not());
    let begun = || waiting(Some(Expr::col((page::Entity, page::Column::Fence)).gt(0)));
    match status {
        RecipientStatus::Pending if over => nobody(),
        RecipientStatus::Processing if over => nobody(),
        RecipientStatus::Cancelled if !over => nobody(),
        RecipientStatus::Pending => Condition::all().add(waiting(None)).add(begun().not()),
        RecipientStatus::Processing => Condition::any().add(begun()).add(later()),
        RecipientStatus::Completed => Condition::all().add(accepted()),
        RecipientStatus::Failed => Condition::all()
            .add(waiting(None).not())
            .add(accepted().not())
            .add(later().not()),
        RecipientStatus::Cancelled => Condition::any().add(waiting(None)).add(later()),
    }
}

async fn members(
    db: &impl ConnectionTrait,
    app: AppId,
    (campaign, last): (&Campaign, i32),
    rows: &[recipient::Model],
) -> Result<Vec<AudienceMember>> {
    let of = campaign.notification_id;
    let started = is_started(campaign);
    // What waits first: whoever is served in between is shown without deliveries, never with those of a skipped one.
    let open = if started {
        list_open(db, app, of).await?
    } else {
        Vec::new()
    };
    let users = rows.iter().filter_map(|row| row.user_id);
    let mut lines: BTreeMap<UserId, Served> = match started {
        true => list_deliveries(db, (app, of), last, users).await?,
        false => BTreeMap::new(),
    };
    let members = rows.iter().map(|row| {
        let served = row.user_id.and_then(|user| lines.remove(&user)).unwrap_or_default();
        let unserved = RecipientOutcome::of_number(row.outcome).unserved(&campaign.channels);
        let turn = match turn(started, &open, row.seq) {
            Turn::Over if unserved.is_none() && served.goes_on => Turn::Later,
            turn => turn,
        };
        let cancelled = campaign.status == CampaignStatus::Cancelled;
        let deliveries = match turn {
            Turn::Waiting | Turn::Begun => Vec::new(),
            Turn::Later | Turn::Over => unserved.unwrap_or_else(|| served.in_order(&campaign.channels, cancelled)),
        };
        Ok(AudienceMember {
            uid: Uid::stored(row.uid.clone()),
            position: u32::try_from(row.seq).map_err(Error::internal)?,
            status: RecipientStatus::of(campaign.status, turn, &deliveries),
            variables: row.variables.read()?,
            deliveries,
        })
    });
    members.collect()
}

fn turn(started: bool, open: &[Open], seq: i64) -> Turn {
    let page = open.iter().find(|page| (page.next_seq..=page.to_seq).contains(&seq));
    match page {
        _ if !started => Turn::Waiting,
        Some(page) if page.fence > 0 => Turn::Begun,
        Some(_) => Turn::Waiting,
        None => Turn::Over,
    }
}

/// What is left to do of a page.
#[derive(FromQueryResult)]
struct Open {
    next_seq: i64,
    to_seq: i64,
    fence: i64,
}

async fn list_open(db: &impl ConnectionTrait, app: AppId, notification: NotificationId) -> Result<Vec<Open>> {
    let open = page::Entity::find()
        .select_only()
        .columns([page::Column::NextSeq, page::Column::ToSeq, page::Column::Fence])
        .filter(page::Column::AppId.eq(app))
        .filter(page::Column::NotificationId.eq(notification))
        .filter(page::Column::State.ne(super::page::DONE))
        .filter(page::Column::Number.lte(super::page::FIRST_STEP_END));
    Ok(open.into_model::<Open>().all(db).await?)
}
