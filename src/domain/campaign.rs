//! What may happen to campaigns: how one is prepared, when it may be sent, and what it looks like. What it sends is a
//! notification whose pages [`super::dispatch`] does.

mod audience;
pub mod import;
mod preflight;
mod run;

pub use audience::{add, get_recipient, list_recipients, summary};
pub(super) use preflight::Turns;
pub use preflight::{AT_ONCE_MAX as PREFLIGHTS_MAX, Survey, preflight};
pub use run::{cancel, finish, fire_due, pause, resume, send};

use std::time::Duration;

use futures::future::BoxFuture;

use super::{Acting, Service, Written, template};
use crate::model::campaign::schedule::When;
use crate::model::campaign::{
    Campaign, CampaignFilter, CampaignPatch, CampaignProgress, CampaignSort, CampaignStatus, CampaignView,
    DeletedCampaign, NewCampaign, check_variables, name_of_copy, variables_of,
};
use crate::model::id::{AppId, CampaignId, NotificationId};
use crate::model::name::Name;
use crate::model::page::{Page, PageRequest};
use crate::model::slug::Reference;
use crate::model::version::Version;
use crate::model::{Result, Timestamp};
use crate::store::{Tx, campaign as store, template as templates};

/// What campaigns are held to.
#[derive(Clone, Copy, Debug)]
pub struct CampaignLimits {
    /// The most recipients of one.
    pub recipients_max: u32,
    /// How much later than its time one is sent that could not be sent then.
    pub misfire_grace: Duration,
    /// Rows of a file that are taken in one transaction; `None`: as many as suit the database.
    pub import_rows: Option<u32>,
}

impl Default for CampaignLimits {
    fn default() -> Self {
        Self {
            recipients_max: 1_000_000,
            misfire_grace: Duration::from_secs(60 * 60),
            import_rows: None,
        }
    }
}

/// Creates a campaign as a draft.
///
/// # Errors
/// Template not found, template not approved, invalid variables; invalid when there is no such version.
pub async fn create(service: &Service, acting: &Acting, new: NewCampaign) -> Result<Written<CampaignView>> {
    let (app, now) = (acting.app()?, acting.now);
    let variables = variables_of(new.variables.clone(), new.config.as_ref())?;
    let cards = service.cards.clone();
    service
        .write(acting, move |tx| {
            let (new, variables, cards) = (new.clone(), variables.clone(), cards.clone());
            Box::pin(async move {
                let named = (Reference::from(new.template.as_str()), new.version);
                let ready = template::load_approved(tx, app, &cards, named).await?;
                let template = ready.template;
                check_variables(&variables, &template.variable_schema, &ready.content.compiled)?;
                let campaign = Campaign {
                    template_id: template.template_id,
                    version_id: template.version_id,
                    template_version: template.version,
                    channels: template.channels.iter().map(|way| way.content.channel_type).collect(),
                    variables,
                    config: new.config,
                    tag: new.tag,
                    rate_per_second: new.rate_per_second,
                    ..draft(CampaignId::new(now), new.name, now)
                };
                store::insert_campaign(tx, app, &campaign).await?;
                store::view_one(tx, app, campaign).await
            })
        })
        .await
}

/// A draft about which nothing is known but its name.
fn draft(id: CampaignId, name: Name, now: Timestamp) -> Campaign {
    let nil = uuid::Uuid::nil();
    Campaign {
        id,
        name,
        template_id: nil.into(),
        version_id: nil.into(),
        template_version: 0,
        channels: Vec::new(),
        variables: Default::default(),
        config: None,
        tag: None,
        rate_per_second: None,
        status: CampaignStatus::Draft,
        notification_id: NotificationId::new(now),
        recipient_count: 0,
        duplicate_count: 0,
        scheduled_at: None,
        time_zone: None,
        misfired_at: None,
        sent_at: None,
        completed_at: None,
        failure: None,
        result: None,
        created_at: now,
        updated_at: now,
        version: Version::FIRST,
    }
}

/// Makes a draft with the same content and settings, and without recipients.
///
/// # Errors
/// Campaign not found; template not found, template not approved.
pub async fn clone(
    service: &Service,
    acting: &Acting,
    id: CampaignId,
    name: Option<Name>,
) -> Result<Written<CampaignView>> {
    let (app, now) = (acting.app()?, acting.now);
    let cards = service.cards.clone();
    service
        .write(acting, move |tx| {
            let (name, cards) = (name.clone(), cards.clone());
            Box::pin(async move {
                let source = store::get_campaign(tx, app, id).await?;
                let named = (Reference::Id(source.template_id), Some(source.template_version));
                template::load_approved(tx, app, &cards, named).await?;
                let name = name.unwrap_or_else(|| name_of_copy(&source.name));
                let copy = Campaign {
                    template_id: source.template_id,
                    version_id: source.version_id,
                    template_version: source.template_version,
                    channels: source.channels,
                    variables: source.variables,
                    config: source.config,
                    tag: source.tag,
                    rate_per_second: source.rate_per_second,
                    ..draft(CampaignId::new(now), name, now)
                };
                store::insert_campaign(tx, app, &copy).await?;
                store::view_one(tx, app, copy).await
            })
        })
        .await
}

/// Lists the campaigns of the app.
///
/// # Errors
/// Those of the database.
pub async fn list(
    service: &Service,
    acting: &Acting,
    filter: &CampaignFilter,
    page: &PageRequest<CampaignSort>,
) -> Result<Page<CampaignView>> {
    store::list_campaigns(service.store.read(), acting.app()?, filter, page).await
}

/// One campaign with its counts.
///
/// # Errors
/// Campaign not found.
pub async fn get(service: &Service, acting: &Acting, id: CampaignId) -> Result<CampaignView> {
    let (app, db) = (acting.app()?, service.store.read());
    store::view_one(db, app, store::get_campaign(db, app, id).await?).await
}

/// How far a campaign has come.
///
/// # Errors
/// Campaign not found.
pub async fn progress(service: &Service, acting: &Acting, id: CampaignId) -> Result<CampaignProgress> {
    let (app, db) = (acting.app()?, service.store.read());
    // The status first: once it is final, the counts are.
    let campaign = store::get_campaign(db, app, id).await?;
    Ok(CampaignProgress {
        status: campaign.status,
        summary: store::get_summary(db, app, &campaign).await?,
        completed_at: campaign.completed_at,
    })
}

/// Changes a draft.
///
/// # Errors
/// Campaign not found; invalid state; precondition failed; invalid variables.
pub async fn update(
    service: &Service,
    acting: &Acting,
    id: CampaignId,
    patch: CampaignPatch,
    etag: Option<String>,
) -> Result<Written<CampaignView>> {
    let cards = service.cards.clone();
    change(service, acting, (id, etag), move |tx, app, mut campaign| {
        let (patch, cards) = (patch.clone(), cards.clone());
        Box::pin(async move {
            campaign.status.check("changed", &[CampaignStatus::Draft])?;
            let reference = Reference::Id(campaign.template_id);
            let template = templates::get_template(tx, app, &reference).await?;
            patch.check_fixed(&campaign, template.slug.as_str())?;
            campaign.name = patch.name.unwrap_or(campaign.name);
            campaign.tag = patch.tag.unwrap_or(campaign.tag);
            campaign.rate_per_second = patch.rate_per_second.unwrap_or(campaign.rate_per_second);
            let settles = patch.variables.is_some() || patch.config.is_some();
            campaign.config = patch.config.unwrap_or(campaign.config);
            if settles {
                let given = patch.variables.unwrap_or(Some(campaign.variables)).unwrap_or_default();
                campaign.variables = variables_of(Some(given), campaign.config.as_ref())?;
                let (content, _) = template::load_for_page(tx, app, &cards, campaign.version_ref()).await?;
                check_variables(&campaign.variables, &content.source.variable_schema, &content.compiled)?;
            }
            Ok(campaign)
        })
    })
    .await
}

/// Sets the time at which a campaign is sent, or another one.
///
/// # Errors
/// Campaign not found; invalid state; precondition failed; template not approved; invalid, when the time is not one.
pub async fn schedule(
    service: &Service,
    acting: &Acting,
    (id, etag): (CampaignId, Option<String>),
    when: &When,
) -> Result<Written<CampaignView>> {
    let (when, now, cards) = (when.clone(), acting.now, service.cards.clone());
    change(service, acting, (id, etag), move |tx, app, mut campaign| {
        let (when, cards) = (when.clone(), cards.clone());
        Box::pin(async move {
            // Not before: a call that is repeated when that time has passed is answered as the first one was.
            let schedule = when.settle(now)?;
            run::check_startable(&campaign, "scheduled")?;
            run::check_imported(tx, app, &campaign, "scheduled").await?;
            let named = (Reference::Id(campaign.template_id), Some(campaign.template_version));
            template::load_approved(tx, app, &cards, named).await?;
            campaign.status = CampaignStatus::Scheduled;
            campaign.scheduled_at = Some(schedule.at);
            campaign.time_zone = schedule.time_zone;
            campaign.misfired_at = None;
            Ok(campaign)
        })
    })
    .await
}

/// Makes a draft of a scheduled campaign again.
///
/// # Errors
/// Campaign not found; invalid state; precondition failed.
pub async fn unschedule(
    service: &Service,
    acting: &Acting,
    id: CampaignId,
    etag: Option<String>,
) -> Result<Written<CampaignView>> {
    change(service, acting, (id, etag), |_, _, mut campaign| {
        Box::pin(async move {
            campaign.status.check("unscheduled", &[CampaignStatus::Scheduled])?;
            campaign.unschedule();
            Ok(campaign)
        })
    })
    .await
}

/// Deletes a draft; its audience is removed by and by.
///
/// # Errors
/// Campaign not found; invalid state; precondition failed.
pub async fn delete(
    service: &Service,
    acting: &Acting,
    id: CampaignId,
    etag: Option<String>,
) -> Result<Written<DeletedCampaign>> {
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            let etag = etag.clone();
            Box::pin(async move {
                let campaign = store::get_campaign_locked(tx, app, id).await?;
                campaign.version.check(etag.as_deref())?;
                campaign.status.check("deleted", &[CampaignStatus::Draft])?;
                store::hide_campaign(tx, app, id, now).await?;
                Ok(DeletedCampaign { id, deleted_at: now })
            })
        })
        .await
}

/// Removes a batch of what deleted campaigns left behind, and says how many rows.
///
/// # Errors
/// Those of the database.
pub async fn purge(service: &Service, limit: u64) -> Result<u64> {
    service
        .store
        .write_background(move |tx| Box::pin(async move { store::purge_hidden(tx, limit).await }))
        .await
}

/// Changes a campaign that is locked: `decide` gives it as it is to be, or refuses. One that it gives back as it was is not
/// written.
async fn change<F>(
    service: &Service,
    acting: &Acting,
    (id, etag): (CampaignId, Option<String>),
    decide: F,
) -> Result<Written<CampaignView>>
where
    F: for<'t> Fn(&'t Tx, AppId, Campaign) -> BoxFuture<'t, Result<Campaign>> + Clone + Send + Sync + 'static,
{
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            let (etag, decide) = (etag.clone(), decide.clone());
            Box::pin(async move {
                let campaign = store::get_campaign_locked(tx, app, id).await?;
                campaign.version.check(etag.as_deref())?;
                let changed = decide(tx, app, campaign.clone()).await?;
                let campaign = if changed == campaign {
                    campaign
                } else {
                    record(tx, app, (campaign.version, changed), now).await?
                };
                store::view_one(tx, app, campaign).await
            })
        })
        .await
}

/// Writes a changed campaign down; it was locked when it was read.
async fn record(tx: &Tx, app: AppId, (read, changed): (Version, Campaign), now: Timestamp) -> Result<Campaign> {
    let changed = Campaign {
        updated_at: now,
        version: read.next(),
        ..changed
    };
    super::unchanged_since(store::update_campaign(tx, app, &changed, read).await?)?;
    Ok(changed)
}
