//! Campaigns in the database. Who may do what to one is decided before it is written here; their audiences are in
//! [`super::audience`], and what they send is a notification.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait, Condition, ConnectionTrait, EntityTrait, FromQueryResult, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect, Select,
};

use super::channel::containing;
use super::entity::campaign::{Column, Entity, Model};
use super::entity::{notification, notification_recipient as recipient, page, template};
use super::import::purge_imports;
use super::list::{SortBy, list};
use super::notification::{get_counts, large, small};
use super::page::FIRST_STEP_END;
use super::value::Json;
use crate::model::campaign::recipient::Summary;
use crate::model::campaign::{Campaign, CampaignFilter, CampaignSort, CampaignStatus, CampaignView};
use crate::model::delivery::Counts;
use crate::model::id::{AppId, CampaignId, NotificationId, TemplateId};
use crate::model::name::Name;
use crate::model::notification::NotificationStatus;
use crate::model::page::{Page, PageRequest};
use crate::model::version::Version;
use crate::model::{Error, Reason, Result, Timestamp};

/// The statuses of a notification that has come to its end by itself.
const ENDED: [NotificationStatus; 3] = [
    NotificationStatus::Completed,
    NotificationStatus::Failed,
    NotificationStatus::PartiallyFailed,
];

/// Writes a campaign down.
///
/// # Errors
/// Those of the database.
pub async fn insert_campaign(db: &impl ConnectionTrait, app: AppId, campaign: &Campaign) -> Result<()> {
    Entity::insert(row_of(app, campaign)?.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Writes a changed campaign down, unless somebody else came first; tells whether it did.
///
/// # Errors
/// Those of the database.
pub async fn update_campaign(
    db: &impl ConnectionTrait,
    app: AppId,
    campaign: &Campaign,
    read: Version,
) -> Result<bool> {
    let change = row_of(app, campaign)?.into_active_model().reset_all();
    let update = Entity::update_many()
        .set(change)
        .filter(Column::AppId.eq(app))
        .filter(Column::Id.eq(campaign.id))
        .filter(Column::Version.eq(read.number()));
    Ok(update.exec(db).await?.rows_affected == 1)
}

/// Writes down that an audience has grown.
///
/// # Errors
/// Those of the database.
pub async fn record_growth(
    db: &impl ConnectionTrait,
    app: AppId,
    id: CampaignId,
    (recipients, duplicates): (u32, u32),
    now: Timestamp,
) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::RecipientCount, Expr::value(small(recipients)?))
        .col_expr(Column::DuplicateCount, Expr::value(small(duplicates)?))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::AppId.eq(app))
        .filter(Column::Id.eq(id))
        .exec(db)
        .await?;
    Ok(())
}

/// Hides a campaign for good; its rows are removed by and by.
///
/// # Errors
/// Those of the database.
pub async fn hide_campaign(db: &impl ConnectionTrait, app: AppId, id: CampaignId, now: Timestamp) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::DeletedAt, Expr::value(Some(now)))
        .filter(Column::AppId.eq(app))
        .filter(Column::Id.eq(id))
        .exec(db)
        .await?;
    Ok(())
}

/// Removes up to `limit` rows of hidden campaigns: their audiences, their imports, in the end themselves. Says how many.
///
/// # Errors
/// Those of the database.
pub async fn purge_hidden(db: &impl ConnectionTrait, limit: u64) -> Result<u64> {
    let hidden = Entity::find().filter(Column::DeletedAt.is_not_null());
    let Some(campaign) = hidden.one(db).await? else {
        return Ok(0);
    };
    let of = Condition::all()
        .add(recipient::Column::AppId.eq(campaign.app_id))
        .add(recipient::Column::NotificationId.eq(campaign.notification_id));
    let some = Query::select()
        .column(recipient::Column::Seq)
        .from(recipient::Entity)
        .cond_where(of.clone())
        .limit(limit)
        .take();
    let removed = recipient::Entity::delete_many()
        .filter(of)
        .filter(Expr::col((recipient::Entity, recipient::Column::Seq)).in_subquery(some))
        .exec(db)
        .await?
        .rows_affected;
    if removed > 0 {
        return Ok(removed);
    }
    let removed = purge_imports(db, campaign.app_id, campaign.id, limit).await?;
    if removed > 0 {
        return Ok(removed);
    }
    let gone = Entity::delete_by_id(campaign.id).exec(db).await?;
    Ok(gone.rows_affected)
}

/// The campaign with an id.
///
/// # Errors
/// [`Reason::CampaignNotFound`], and those of the database.
pub async fn get_campaign(db: &impl ConnectionTrait, app: AppId, id: CampaignId) -> Result<Campaign> {
    let row = with_id(app, id).one(db).await?;
    campaign_of(row.ok_or_else(|| not_found(id))?)
}

/// The campaign with an id, which nobody else can change before the transaction ends.
///
/// # Errors
/// [`Reason::CampaignNotFound`], and those of the database.
pub async fn get_campaign_locked(db: &impl ConnectionTrait, app: AppId, id: CampaignId) -> Result<Campaign> {
    let row = with_id(app, id).lock_exclusive().one(db).await?;
    campaign_of(row.ok_or_else(|| not_found(id))?)
}

/// That no such campaign exists.
#[must_use]
pub fn not_found(id: impl std::fmt::Display) -> Error {
    Error::not_found(Reason::CampaignNotFound, "campaignId", id)
}

/// One page of the campaigns of an app that a filter lets through.
///
/// # Errors
/// Those of the database.
pub async fn list_campaigns(
    db: &impl ConnectionTrait,
    app: AppId,
    filter: &CampaignFilter,
    page: &PageRequest<CampaignSort>,
) -> Result<Page<CampaignView>> {
    let found = list(db, matching(app, filter), page).await?;
    let campaigns = found.rows.into_iter().map(campaign_of).collect::<Result<Vec<_>>>()?;
    Ok(Page {
        rows: view(db, app, campaigns).await?,
        next: found.next,
        previous: found.previous,
        total: found.total,
    })
}

/// One campaign as callers see it.
///
/// # Errors
/// Those of the database.
pub async fn view_one(db: &impl ConnectionTrait, app: AppId, campaign: Campaign) -> Result<CampaignView> {
    let seen = view(db, app, vec![campaign]).await?;
    seen.into_iter()
        .next()
        .ok_or_else(|| Error::internal("a campaign was lost on its way out"))
}

/// Campaigns as callers see them, in the same order.
async fn view(db: &impl ConnectionTrait, app: AppId, campaigns: Vec<Campaign>) -> Result<Vec<CampaignView>> {
    let templates = template_names(db, app, &campaigns).await?;
    let running = campaigns.iter().filter(|campaign| campaign.result.is_none());
    let running: Vec<_> = running.map(|campaign| campaign.notification_id).collect();
    let works = works(db, app, running).await?;
    let seen = campaigns.into_iter().map(|campaign| {
        let (template_name, template_slug) = templates.get(&campaign.template_id).cloned().unwrap_or_default();
        let work = works.get(&campaign.notification_id).copied().unwrap_or_default();
        CampaignView {
            summary: summary(&campaign, work),
            template_name,
            template_slug,
            campaign,
        }
    });
    Ok(seen.collect())
}

/// The audience of a campaign by what became of it.
///
/// # Errors
/// Those of the database.
pub async fn get_summary(db: &impl ConnectionTrait, app: AppId, campaign: &Campaign) -> Result<Summary> {
    let works = match campaign.result {
        Some(_) => BTreeMap::new(),
        None => works(db, app, vec![campaign.notification_id]).await?,
    };
    let work = works.get(&campaign.notification_id).copied().unwrap_or_default();
    Ok(summary(campaign, work))
}

fn summary(campaign: &Campaign, work: Work) -> Summary {
    let result = campaign.result.unwrap_or((work.reached, work.missed));
    Summary::new(campaign.status, campaign.recipient_count, result, work.begun)
}

/// What the pages of a campaign have come to.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    reached: u32,
    missed: u32,
    begun: u32,
}

async fn works(
    db: &impl ConnectionTrait,
    app: AppId,
    of: Vec<NotificationId>,
) -> Result<BTreeMap<NotificationId, Work>> {
    #[derive(FromQueryResult)]
    struct Sums {
        notification_id: NotificationId,
        reached: i64,
        missed: i64,
        begun: i64,
    }
    if of.is_empty() {
        return Ok(BTreeMap::new());
    }
    // Those whose page of the first step has begun; whoever is dealt with is subtracted, so that those stay to whom a
    // further step may come.
    let begun = format!(
        "CAST(SUM(CASE WHEN number > {FIRST_STEP_END} THEN 0 WHEN state <> 3 AND fence > 0 THEN to_seq - from_seq + 1 \
         ELSE next_seq - from_seq END) AS BIGINT)"
    );
    let sums = page::Entity::find()
        .select_only()
        .column(page::Column::NotificationId)
        .expr_as(Expr::cust("CAST(SUM(sent_count) AS BIGINT)"), "reached")
        .expr_as(
            Expr::cust("CAST(SUM(failed_count + skipped_count) AS BIGINT)"),
            "missed",
        )
        .expr_as(Expr::cust(begun), "begun")
        .filter(page::Column::AppId.eq(app))
        .filter(page::Column::NotificationId.is_in(of))
        .group_by(page::Column::NotificationId)
        .into_model::<Sums>()
        .all(db)
        .await?;
    let count = |sum: i64| u32::try_from(sum).map_err(Error::internal);
    let works = sums.into_iter().map(|sums| {
        let work = Work {
            reached: count(sums.reached)?,
            missed: count(sums.missed)?,
            begun: count(Ord::max(sums.begun - sums.reached - sums.missed, 0))?,
        };
        Ok((sums.notification_id, work))
    });
    works.collect()
}

async fn template_names(
    db: &impl ConnectionTrait,
    app: AppId,
    campaigns: &[Campaign],
) -> Result<BTreeMap<TemplateId, (String, String)>> {
    let ids: BTreeSet<_> = campaigns.iter().map(|campaign| campaign.template_id).collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let names: Vec<(TemplateId, String, String)> = template::Entity::find()
        .select_only()
        .columns([template::Column::Id, template::Column::Name, template::Column::Slug])
        .filter(template::Column::AppId.eq(app))
        .filter(template::Column::Id.is_in(ids))
        .into_tuple()
        .all(db)
        .await?;
    Ok(names.into_iter().map(|(id, name, slug)| (id, (name, slug))).collect())
}

/// Campaigns whose time has come and that were not found too late, the earliest first.
///
/// # Errors
/// Those of the database.
pub async fn list_due(db: &impl ConnectionTrait, now: Timestamp, limit: u64) -> Result<Vec<(AppId, CampaignId)>> {
    let due = Entity::find()
        .select_only()
        .columns([Column::AppId, Column::Id])
        .filter(Expr::cust("status = 2"))
        .filter(Column::ScheduledAt.lte(now))
        .filter(Column::MisfiredAt.is_null())
        .filter(Column::DeletedAt.is_null())
        .order_by_asc(Column::ScheduledAt)
        .limit(limit);
    Ok(due.into_tuple().all(db).await?)
}

/// Campaigns that are being sent although their notification has come to its end.
///
/// # Errors
/// Those of the database.
pub async fn list_done(db: &impl ConnectionTrait, limit: u64) -> Result<Vec<(AppId, CampaignId)>> {
    let ended = Query::select()
        .expr(Expr::value(1))
        .from(notification::Entity)
        .and_where(Expr::col((notification::Entity, notification::Column::Id)).equals((Entity, Column::NotificationId)))
        .and_where(notification::Column::Status.is_in(ENDED.map(NotificationStatus::number)))
        .to_owned();
    let done = Entity::find()
        .select_only()
        .columns([Column::AppId, Column::Id])
        .filter(Expr::cust("campaigns.status = 3"))
        .filter(Expr::exists(ended))
        .limit(limit);
    Ok(done.into_tuple().all(db).await?)
}

/// The campaign that a notification belongs to, if it does and the notification has come to its end.
///
/// # Errors
/// Those of the database.
pub async fn find_done(db: &impl ConnectionTrait, app: AppId, id: NotificationId) -> Result<Option<CampaignId>> {
    let of = notification::Entity::find()
        .select_only()
        .column(notification::Column::CampaignId)
        .filter(notification::Column::AppId.eq(app))
        .filter(notification::Column::Id.eq(id))
        .filter(notification::Column::Status.is_in(ENDED.map(NotificationStatus::number)));
    Ok(of.into_tuple::<Option<CampaignId>>().one(db).await?.flatten())
}

/// What the notification of a campaign has come to.
///
/// # Errors
/// Those of the database.
pub async fn get_result(db: &impl ConnectionTrait, app: AppId, campaign: &Campaign) -> Result<Counts> {
    get_counts(db, app, campaign.notification_id).await
}

/// How many campaigns of a template are waiting for their time or being sent, and some of them.
///
/// # Errors
/// Those of the database.
pub async fn list_active_of_template(
    db: &impl ConnectionTrait,
    app: AppId,
    template: TemplateId,
    limit: u64,
) -> Result<Vec<CampaignId>> {
    let active = [
        CampaignStatus::Scheduled,
        CampaignStatus::Sending,
        CampaignStatus::Paused,
    ];
    let ids = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::AppId.eq(app))
        .filter(Column::TemplateId.eq(template))
        .filter(Column::Status.is_in(active.map(CampaignStatus::number)))
        .filter(Column::DeletedAt.is_null())
        .limit(limit);
    Ok(ids.into_tuple().all(db).await?)
}

impl SortBy<Entity> for CampaignSort {
    const ID: Column = Column::Id;

    fn column(self) -> Column {
        match self {
            Self::CreatedAt => Column::CreatedAt,
            Self::UpdatedAt => Column::UpdatedAt,
            Self::Name => Column::Name,
        }
    }
}

fn matching(app: AppId, filter: &CampaignFilter) -> Select<Entity> {
    let mut rows = Entity::find()
        .filter(Column::AppId.eq(app))
        .filter(Column::DeletedAt.is_null());
    if let Some(status) = filter.status {
        rows = rows.filter(Column::Status.eq(status.number()));
    }
    if let Some(text) = &filter.search {
        rows = rows.filter(Column::NameFolded.like(containing(&text.to_lowercase())));
    }
    if let Some(tag) = &filter.tag {
        rows = rows.filter(Column::Tag.eq(tag.as_str()));
    }
    match &filter.template {
        Some(id_or_slug) => rows.filter(Column::TemplateId.in_subquery(template_ids(app, id_or_slug))),
        None => rows,
    }
}

fn template_ids(app: AppId, id_or_slug: &str) -> sea_orm::sea_query::SelectStatement {
    let named = match id_or_slug.parse::<TemplateId>() {
        Ok(id) => template::Column::Id.eq(id),
        Err(_) => template::Column::Slug.eq(id_or_slug),
    };
    Query::select()
        .column(template::Column::Id)
        .from(template::Entity)
        .and_where(template::Column::AppId.eq(app))
        .and_where(named)
        .to_owned()
}

fn with_id(app: AppId, id: CampaignId) -> Select<Entity> {
    Entity::find()
        .filter(Column::AppId.eq(app))
        .filter(Column::Id.eq(id))
        .filter(Column::DeletedAt.is_null())
}

fn row_of(app: AppId, campaign: &Campaign) -> Result<Model> {
    Ok(Model {
        id: campaign.id,
        app_id: app,
        name: campaign.name.to_string(),
        name_folded: campaign.name.folded(),
        template_id: campaign.template_id,
        template_version_id: campaign.version_id,
        template_version: small(campaign.template_version)?,
        channels: Json::of(&campaign.channels)?,
        variables: Json::of(&campaign.variables)?,
        config: Json::of(&campaign.config)?,
        tag: campaign.tag.clone(),
        rate_per_second: campaign.rate_per_second.map(small).transpose()?,
        status: campaign.status.number(),
        notification_id: campaign.notification_id,
        recipient_count: small(campaign.recipient_count)?,
        duplicate_count: small(campaign.duplicate_count)?,
        scheduled_at: campaign.scheduled_at,
        time_zone: campaign.time_zone.clone(),
        misfired_at: campaign.misfired_at,
        sent_at: campaign.sent_at,
        completed_at: campaign.completed_at,
        failure: campaign.failure.clone(),
        sent_count: campaign.result.map(|(sent, _)| small(sent)).transpose()?,
        failed_count: campaign.result.map(|(_, failed)| small(failed)).transpose()?,
        created_at: campaign.created_at,
        updated_at: campaign.updated_at,
        deleted_at: None,
        version: campaign.version.number(),
    })
}

fn campaign_of(row: Model) -> Result<Campaign> {
    let result = match (row.sent_count, row.failed_count) {
        (Some(sent), Some(failed)) => Some((large(sent)?, large(failed)?)),
        (Some(_) | None, _) => None,
    };
    Ok(Campaign {
        id: row.id,
        name: Name::stored(row.name),
        template_id: row.template_id,
        version_id: row.template_version_id,
        template_version: large(row.template_version)?,
        channels: row.channels.read()?,
        variables: row.variables.read()?,
        config: row.config.read()?,
        tag: row.tag,
        rate_per_second: row.rate_per_second.map(large).transpose()?,
        status: CampaignStatus::of_number(row.status),
        notification_id: row.notification_id,
        recipient_count: large(row.recipient_count)?,
        duplicate_count: large(row.duplicate_count)?,
        scheduled_at: row.scheduled_at,
        time_zone: row.time_zone,
        misfired_at: row.misfired_at,
        sent_at: row.sent_at,
        completed_at: row.completed_at,
        failure: row.failure,
        result,
        created_at: row.created_at,
        updated_at: row.updated_at,
        version: Version::from_number(row.version),
    })
}
