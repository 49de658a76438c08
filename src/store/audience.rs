//! The audience of a campaign in the database: recipients of its notification, numbered from the moment they are added.
//! Whoever adds some holds the campaign's row, so that the numbers are dense.

use std::collections::BTreeMap;

use sea_orm::sea_query::{ArrayType, Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseBackend, EntityTrait, FromQueryResult, QueryFilter, QuerySelect,
    Statement, Value,
};
use uuid::Uuid;

use super::delivery::{Served, list_deliveries};
use super::entity::{notification_recipient as recipient, page};
use super::list::list;
use super::load::{Cell, Load, Source};
use super::notification::get_shape;
use super::receiver::{goes_on, line, of, waiting};
use super::tx::Tx;
use super::value::Json;
use crate::model::campaign::recipient::{AudienceMember, RecipientStatus, Turn};
use crate::model::campaign::{Campaign, CampaignStatus};
use crate::model::delivery::DeliveryStatus;
use crate::model::id::{AppId, NotificationId, UserId};
use crate::model::notification::{ReceiverSort, RecipientOutcome};
use crate::model::page::{Page, PageRequest};
use crate::model::template::course::FIRST_STEP;
use crate::model::user::Uid;
use crate::model::variable::VariableValues;
use crate::model::{Error, Reason, Result};

/// Somebody who is to stand in an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// The uid.
    pub uid: Uid,
    /// The values of their own.
    pub variables: Json,
}

impl Joining {
    /// Somebody with these values.
    ///
    /// # Errors
    /// Internal, which never happens: values have a JSON form.
    pub fn new(uid: Uid, own: &VariableValues) -> Result<Self> {
        let variables = Json::of(own)?;
        Ok(Self { uid, variables })
    }
}

/// What is known of a uid that is to stand in an audience.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Whether it stands there.
    pub is_present: bool,
    /// Whether it is or ever was a user's.
    pub is_taken: bool,
    /// The user, unless they were deleted.
    pub user: Option<UserId>,
}

/// What is known of each of some uids, in their order. None of it is locked: who is added is looked at again when the
/// campaign is sent, and who else adds to the audience waits for the campaign's row.
///
/// # Errors
/// Those of the database, and internal when an answer is not of the form that was asked for.
pub async fn look_up(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    joining: &[Joining],
) -> Result<Vec<Known>> {
    let mut known = vec![Known::default(); joining.len()];
    let uids = joining.iter().map(|one| one.uid.as_str());
    let found = match db.get_database_backend() {
        DatabaseBackend::Postgres => look_up_rows(db, (app, notification), uids).await?,
        _ => look_up_document(db, (app, notification), uids).await?,
    };
    for (number, one) in found {
        let place = usize::try_from(number).ok().and_then(|number| known.get_mut(number));
        *place.ok_or_else(|| Error::internal("a uid was found that was not asked for"))? = one;
    }
    Ok(known)
}

/// By one look into the index of uids for each of them, whatever the tables are thought to hold. Rows are compared as they
/// stand in that index, in whose order alone one row is enough. With plain equality every index that begins with the app
/// costs the same on a table of which nothing is known yet, a statement keeps the plan that it was given then, and thousands
/// of uids are looked for in all users of the app, one after the other.
async fn look_up_rows(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    uids: impl Iterator<Item = &str>,
) -> Result<Vec<(i64, Known)>> {
    const SQL: &str = "SELECT r.n - 1 AS n, u.id, u.deleted_at IS NULL AS live, m.seq IS NOT NULL AS present \
        FROM UNNEST($1::text[]) WITH ORDINALITY AS r (uid, n) \
        LEFT JOIN LATERAL (SELECT app_id, uid, id, deleted_at FROM users \
        WHERE (app_id, uid) >= ($2, r.uid) ORDER BY app_id, uid LIMIT 1) AS u \
        ON u.app_id = $2 AND u.uid = r.uid \
        LEFT JOIN LATERAL (SELECT app_id, notification_id, uid, seq FROM notification_recipients \
        WHERE (app_id, notification_id, uid) >= ($2, $3, r.uid) ORDER BY app_id, notification_id, uid LIMIT 1) AS m \
        ON m.app_id = $2 AND m.notification_id = $3 AND m.uid = r.uid \
        WHERE u.id IS NOT NULL OR m.seq IS NOT NULL";
    let uids = uids.map(Value::from).collect();
    let values = [
        Value::Array(ArrayType::String, Some(Box::new(uids))),
        app.into(),
        notification.into(),
    ];
    let statement = Statement::from_sql_and_values(DatabaseBackend::Postgres, SQL, values);
    let rows = db.query_all_raw(statement).await?;
    let found = rows.iter().map(|row| {
        let id: Option<UserId> = row.try_get("", "id")?;
        let live: bool = row.try_get("", "live")?;
        let known = Known {
            is_present: row.try_get("", "present")?,
            is_taken: id.is_some(),
            user: id.filter(|_| live),
        };
        Ok((row.try_get("", "n")?, known))
    });
    found.collect()
}

/// The same as one row, because each row that SQLite answers passes from its thread to ours.
async fn look_up_document(
    db: &impl ConnectionTrait,
    (app, notification): (AppId, NotificationId),
    uids: impl Iterator<Item = &str>,
) -> Result<Vec<(i64, Known)>> {
    const SQL: &str = "SELECT json_group_array(json_array(r.key, hex(u.id), u.deleted_at IS NULL, m.seq IS NOT NULL)) AS found \
        FROM json_each($1) AS r LEFT JOIN users u ON u.app_id = $2 AND u.uid = r.value \
        LEFT JOIN notification_recipients m ON m.app_id = $2 AND m.notification_id = $3 AND m.uid = r.value \
        WHERE u.id IS NOT NULL OR m.seq IS NOT NULL";
    let uids = serde_json::to_string(&uids.collect::<Vec<_>>()).map_err(Error::internal)?;
    let values = [uids.into(), app.into(), notification.into()];
    let statement = Statement::from_sql_and_values(DatabaseBackend::Sqlite, SQL, values);
    let row = db.query_one_raw(statement).await?;
    let found: Json = row
        .map(|row| row.try_get("", "found"))
        .transpose()?
        .unwrap_or_else(Json::empty_list);
    let found: Vec<(i64, String, u8, u8)> = found.read()?;
    let found = found.into_iter().map(|(number, id, live, present)| {
        let id = match id.as_str() {
            "" => None,
            id => Some(UserId::from(Uuid::try_parse(id).map_err(Error::internal)?)),
        };
        let known = Known {
            is_present: present != 0,
            is_taken: id.is_some(),
            user: id.filter(|_| live != 0),
        };
        Ok((number, known))
    });
    found.collect()
}

/// Lets some stand in an audience who do not, numbered on from the last one, each with the user if there is one.
///
/// # Errors
/// Those of the database; conflict, when one of them stands there.
pub async fn insert_members(
    tx: &Tx,
    (app, notification): (AppId, NotificationId),
    last: u32,
    members: &[(&Joining, Option<UserId>)],
) -> Result<()> {
    let load = Load {
        table: "notification_recipients",
        columns: [
            ("app_id", Source::Same(Cell::Id(app.uuid()))),
            ("notification_id", Source::Same(Cell::Id(notification.uuid()))),
            ("seq", Source::Each(0)),
            ("uid", Source::Each(1)),
            ("user_id", Source::Each(2)),
            ("variables", Source::Each(3)),
            ("outcome", Source::Each(4)),
        ],
        rows: members.len(),
    };
    let row = |index: usize| {
        let (uid, variables, user) = match members.get(index) {
            Some((one, user)) => (one.uid.as_str(), one.variables.as_str(), *user),
            None => ("", "", None),
        };
        let seq = i64::from(last).saturating_add(i64::try_from(index).unwrap_or(i64::MAX - 1) + 1);
        // Whoever is deactivated now may be active when the campaign is sent, which looks again.
        let outcome = match user {
            Some(_) => RecipientOutcome::Planned,
            None => RecipientOutcome::UnknownUser,
        };
        [
            Cell::Long(seq),
            Cell::Text(uid),
            user.map_or(Cell::Null, |user| Cell::Id(user.uuid())),
            Cell::Text(variables),
            Cell::Short(outcome.number()),
        ]
    };
    load.all(tx, row).await
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
    let cancelled = campaign.status == CampaignStatus::Cancelled;
    let cancelled_at = cancelled.then(|| campaign.completed_at.unwrap_or(campaign.updated_at));
    let members = rows.iter().map(|row| {
        let served = row.user_id.and_then(|user| lines.remove(&user)).unwrap_or_default();
        let unserved = RecipientOutcome::of_number(row.outcome).unserved(&campaign.channels);
        let turn = match turn(started, &open, row.seq) {
            Turn::Over if unserved.is_none() && served.goes_on => Turn::Later,
            turn => turn,
        };
        let deliveries = match turn {
            Turn::Waiting | Turn::Begun => Vec::new(),
            Turn::Later | Turn::Over => unserved.unwrap_or_else(|| served.in_order(&campaign.channels, cancelled_at)),
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
