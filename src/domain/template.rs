//! What may happen to templates: what they may refer to, how their status moves, and when an edit opens a version. Nothing
//! here renders or sends.

mod channel;
mod sendable;

pub use channel::{remove_channel, set_channel};
pub use sendable::{Named, Ready, load_for_sends, record_uses};
pub(crate) use sendable::{load_approved, load_for_page, load_now};

use super::{Acting, Service, Written, user};
use crate::model::channel::{ChannelType, JsonObject};
use crate::model::id::{AppId, TemplateId};
use crate::model::name::Name;
use crate::model::page::{Page, PageRequest};
use crate::model::slug::{Reference, Slug};
use crate::model::template::preview::{self, Preview, PreviewRequest};
use crate::model::template::{
    ArchivedTemplate, CategoryName, Content, DataType, NewClone, NewTemplate, RequestedChannel, SLUG_PREFIX, Template,
    TemplateChannel, TemplateFilter, TemplatePatch, TemplateSort, TemplateStatus, TemplateVersion, content, sequence,
};
use crate::model::version::Version;
use crate::model::{Error, Reason, Result, Timestamp, Violation, card};
use crate::store::{Tx, campaign as campaigns, category as categories, channel as channels, template as store};

/// Versions that are shown of a template at most, the newest.
const VERSIONS_MAX: u64 = 100;

/// Campaigns that are named to whoever wants to take their template back.
const CAMPAIGNS_NAMED_MAX: u64 = 10;

/// Creates a template with its version 1.
///
/// # Errors
/// [`Reason::TemplateAlreadyExists`] when the slug is taken; [`Reason::CategoryNotFound`] and
/// [`Reason::ChannelNotFound`] when it refers to what does not exist; a conflict or invalid when its content breaks the
/// rules.
pub async fn create(service: &Service, acting: &Acting, new: NewTemplate) -> Result<Written<Template>> {
    let (app, now) = (acting.app()?, acting.now);
    content::check(Some(&new.channels), Some(&new.variable_schema))?;
    service
        .write(acting, move |tx| {
            let new = new.clone();
            Box::pin(async move { insert(tx, app, new, now).await })
        })
        .await
}

/// Lists the templates of the app.
///
/// # Errors
/// [`Reason::UserNotFound`] when the user acted for is missing.
pub async fn list(
    service: &Service,
    acting: &Acting,
    filter: &TemplateFilter,
    page: &PageRequest<TemplateSort>,
) -> Result<Page<Template>> {
    let app = user::app_read_for(service, acting).await?;
    store::list_templates(service.store.read(), app, filter, page).await
}

/// The template that a reference names, with its versions, the newest first.
///
/// # Errors
/// [`Reason::TemplateNotFound`]; [`Reason::UserNotFound`] when the user acted for is missing.
pub async fn get(
    service: &Service,
    acting: &Acting,
    template: &Reference<TemplateId>,
) -> Result<(Template, Vec<TemplateVersion>)> {
    let (app, db) = (user::app_read_for(service, acting).await?, service.store.read());
    let template = store::get_template(db, app, template).await?;
    let versions = store::list_versions(db, app, template.id, VERSIONS_MAX).await?;
    Ok((template, versions))
}

/// Changes a template; a change of its content goes into its current version or opens the next one.
///
/// # Errors
/// [`Reason::TemplateNotFound`]; [`Reason::PreconditionFailed`] when `etag` is not the current one;
/// [`Reason::InvalidState`] when the status may not follow; those of [`create`].
pub async fn update(
    service: &Service,
    acting: &Acting,
    template: Reference<TemplateId>,
    patch: TemplatePatch,
    etag: Option<String>,
) -> Result<Written<Template>> {
    let (app, now) = (acting.app()?, acting.now);
    content::check(patch.channels.as_deref(), patch.variable_schema.as_deref())?;
    service
        .write(acting, move |tx| {
            let (template, patch, etag) = (template.clone(), patch.clone(), etag.clone());
            Box::pin(async move {
                let template = store::get_template_locked(tx, app, &template).await?;
                template.version.check(etag.as_deref())?;
                let changed = patched(tx, app, &template, patch, now).await?;
                record(tx, app, &template, changed, now).await
            })
        })
        .await
}

/// Opens the next version of a template with the same content; the one before it never changes again.
///
/// # Errors
/// [`Reason::TemplateNotFound`].
pub async fn create_version(
    service: &Service,
    acting: &Acting,
    template: Reference<TemplateId>,
) -> Result<Written<TemplateVersion>> {
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            let template = template.clone();
            Box::pin(async move {
                let template = store::get_template_locked(tx, app, &template).await?;
                let number = template.current.number.saturating_add(1);
                let content = template.current.content.clone();
                let changed = Template {
                    current: TemplateVersion::open(number, content, template.status, now),
                    ..template.clone()
                };
                Ok(record(tx, app, &template, changed, now).await?.current)
            })
        })
        .await
}

/// How a version of a template looks with some values, whatever its status. Nothing is changed, not even that the version
/// was used; a repeat under an idempotency key answers the first look again.
///
/// # Errors
/// [`Reason::TemplateNotFound`]; invalid when it has no such version, or none of the channel types.
pub async fn preview(
    service: &Service,
    acting: &Acting,
    template: Reference<TemplateId>,
    request: PreviewRequest,
) -> Result<Written<Preview>> {
    let app = acting.app()?;
    service
        .write(acting, move |tx| {
            let (template, request) = (template.clone(), request.clone());
            Box::pin(async move {
                let template = store::get_template(tx, app, &template).await?;
                let shown = version_of(tx, app, &template, request.version).await?;
                let (channels, problems) = preview::render(&shown.content, &request)?;
                Ok(Preview {
                    template_id: template.id,
                    version: shown.number,
                    channels,
                    problems,
                })
            })
        })
        .await
}

/// Archives a template; one that is archived stays as it is.
///
/// # Errors
/// [`Reason::TemplateNotFound`]; [`Reason::PreconditionFailed`] when `etag` is not the current one.
pub async fn archive(
    service: &Service,
    acting: &Acting,
    template: Reference<TemplateId>,
    etag: Option<String>,
) -> Result<Written<ArchivedTemplate>> {
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            let (template, etag) = (template.clone(), etag.clone());
            Box::pin(async move {
                let mut template = store::get_template_locked(tx, app, &template).await?;
                template.version.check(etag.as_deref())?;
                if template.archived_at.is_none() {
                    let archived = template.clone().under(TemplateStatus::Archived, now);
                    template = record(tx, app, &template, archived, now).await?;
                }
                Ok(ArchivedTemplate {
                    id: template.id,
                    archived_at: template.archived_at.unwrap_or(now),
                })
            })
        })
        .await
}

/// The current version of a template, or the one with this number.
async fn version_of(tx: &Tx, app: AppId, template: &Template, number: Option<u32>) -> Result<TemplateVersion> {
    let newest = template.current.number;
    match number {
        Some(number) if number != newest => store::find_version(tx, app, template.id, number)
            .await?
            .ok_or_else(|| no_such_version(number, newest)),
        Some(_) | None => Ok(template.current.clone()),
    }
}

/// Makes a draft out of a template, or of one of its versions.
///
/// # Errors
/// [`Reason::TemplateNotFound`]; [`Reason::TemplateAlreadyExists`] when the slug is taken; invalid when there is no such
/// version.
pub async fn clone(
    service: &Service,
    acting: &Acting,
    source: Reference<TemplateId>,
    clone: NewClone,
) -> Result<Written<Template>> {
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            let (source, clone) = (source.clone(), clone.clone());
            Box::pin(async move {
                let source = store::get_template(tx, app, &source).await?;
                let content = version_of(tx, app, &source, clone.version).await?.content;
                let name = clone.name.unwrap_or_else(|| source.name.clone());
                let config = source
                    .config
                    .clone()
                    .map(|config| sequence::kept(config, &content.channels));
                let (chosen, status) = (clone.slug.is_some(), TemplateStatus::Draft);
                let template = Template {
                    id: TemplateId::new(now),
                    slug: clone
                        .slug
                        .unwrap_or_else(|| Slug::from_name(SLUG_PREFIX, name.as_str())),
                    name,
                    status,
                    config,
                    current: TemplateVersion::open(1, content, status, now),
                    archived_at: None,
                    created_at: now,
                    updated_at: now,
                    version: Version::FIRST,
                    ..source
                };
                insert_template(tx, app, template, chosen).await
            })
        })
        .await
}

async fn insert(tx: &Tx, app: AppId, new: NewTemplate, now: Timestamp) -> Result<Template> {
    let content = Content {
        channels: found(tx, app, new.channels, &new.name).await?,
        variable_schema: new.variable_schema,
    };
    content::check_fit(&content)?;
    check_steps(new.config.as_ref(), &content.channels)?;
    let chosen = new.slug.is_some();
    let made = || Slug::from_name(SLUG_PREFIX, new.name.as_str());
    let template = Template {
        id: TemplateId::new(now),
        slug: new.slug.clone().unwrap_or_else(made),
        name: new.name.clone(),
        category: category(tx, app, new.category.as_deref()).await?,
        label: new.label,
        alternative_text: new.alternative_text,
        tags: new.tags,
        status: new.status,
        config: new.config,
        current: TemplateVersion::open(1, content, new.status, now),
        archived_at: (new.status == TemplateStatus::Archived).then_some(now),
        created_at: now,
        updated_at: now,
        version: Version::FIRST,
    };
    insert_template(tx, app, template, chosen).await
}

/// Writes a new template down, under its slug if the app chose that, else under the first one like it that is free.
async fn insert_template(tx: &Tx, app: AppId, template: Template, chosen: bool) -> Result<Template> {
    if !chosen {
        return insert_under_free_slug(tx, app, template).await;
    }
    match store::insert_template(tx, app, &template).await? {
        true => Ok(template),
        false => Err(already_exists(&template.slug)),
    }
}

async fn insert_under_free_slug(tx: &Tx, app: AppId, mut template: Template) -> Result<Template> {
    let made = template.slug.clone();
    for round in 0..Slug::ROUNDS_MAX {
        let candidates = made.candidates(round);
        let taken = store::list_taken(tx, app, &candidates).await?;
        for slug in candidates
            .into_iter()
            .filter(|slug| !taken.iter().any(|taken| taken == slug.as_str()))
        {
            template.slug = slug;
            if store::insert_template(tx, app, &template).await? {
                return Ok(template);
            }
        }
    }
    Err(already_exists(&made))
}

/// The template as a patch wants it, with the version that its content leads to.
async fn patched(tx: &Tx, app: AppId, template: &Template, patch: TemplatePatch, now: Timestamp) -> Result<Template> {
    if let Some(slug) = patch.slug.filter(|slug| slug != template.slug.as_str()) {
        let rule = format!("must not change, and is {:?}", template.slug.as_str());
        return Err(Error::invalid(vec![Violation::new("templateId", rule).received(slug)]));
    }
    let status = template.status.move_to(patch.status.unwrap_or(template.status))?;
    if (template.status, status) == (TemplateStatus::Approved, TemplateStatus::Draft) {
        check_unused(tx, app, template).await?;
    }
    let mut changed = template.clone().under(status, now);
    changed.name = patch.name.unwrap_or(changed.name);
    changed.label = patch.label.unwrap_or(changed.label);
    changed.alternative_text = patch.alternative_text.unwrap_or(changed.alternative_text);
    changed.tags = patch.tags.unwrap_or(changed.tags);
    let stepped = patch.channels.is_some() || patch.config.is_some();
    changed.config = patch.config.unwrap_or(changed.config);
    if let Some(named) = patch.category {
        changed.category = category(tx, app, named.as_deref()).await?;
    }
    let mut content = template.current.content.clone();
    let edited = patch.channels.is_some() || patch.variable_schema.is_some();
    if let Some(requested) = patch.channels {
        content.channels = found(tx, app, requested, &changed.name).await?;
    }
    content.variable_schema = patch.variable_schema.unwrap_or(content.variable_schema);
    if edited {
        content::check_fit(&content)?;
    }
    if stepped {
        check_steps(changed.config.as_ref(), &content.channels)?;
    }
    changed.current = template.current.edited(content, changed.status, now);
    Ok(changed)
}

/// Lets a template be taken back that no campaign is about to send or sending.
async fn check_unused(tx: &Tx, app: AppId, template: &Template) -> Result<()> {
    let some = campaigns::list_active_of_template(tx, app, template.id, CAMPAIGNS_NAMED_MAX).await?;
    if some.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = some.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    let message = format!(
        "template {} is being sent, or about to be, by {names}: cancel or unschedule first",
        template.id
    );
    Err(Error::new(Reason::InvalidState, message)
        .with("state", format!("approved, in use by {names}"))
        .with("allowed", "a template that no scheduled or sending campaign uses"))
}

/// Checks the sequence that a template will have: also when only one of channels and config was sent.
fn check_steps(config: Option<&JsonObject>, channels: &[TemplateChannel]) -> Result<()> {
    let mut violations: Vec<_> = sequence::check_switch(config).into_iter().collect();
    violations.extend(sequence::check(sequence::is_enabled(config), channels));
    if violations.is_empty() {
        Ok(())
    } else {
        Err(Error::invalid(violations))
    }
}

/// Writes a change down; the template was locked when it was read.
async fn record(tx: &Tx, app: AppId, read: &Template, changed: Template, now: Timestamp) -> Result<Template> {
    let changed = Template {
        updated_at: now,
        version: read.version.next(),
        ..changed
    };
    if changed.current.id != read.current.id {
        store::insert_version(tx, app, changed.id, &changed.current).await?;
    } else if changed.current != read.current {
        store::update_version(tx, app, &changed.current).await?;
    }
    super::unchanged_since(store::update_template(tx, app, &changed, read.version).await?)?;
    Ok(changed)
}

async fn category(tx: &Tx, app: AppId, named: Option<&str>) -> Result<Option<CategoryName>> {
    let Some(named) = named else { return Ok(None) };
    let found = categories::find_category_locked(tx, app, named).await?;
    let Some(category) = found else {
        let violation = Violation::new(
            "templateCategory",
            "must be the name or the id of a category of the app",
        );
        return Err(
            Error::violated(Reason::CategoryNotFound, vec![violation.received(named)]).with("categoryId", named),
        );
    };
    Ok(Some(CategoryName {
        id: category.id,
        name: category.name,
    }))
}

/// The requested content with the channels that it names, each of which has to exist and be of the content's type.
async fn found(tx: &Tx, app: AppId, requested: Vec<RequestedChannel>, name: &Name) -> Result<Vec<TemplateChannel>> {
    let (mut found, mut missing, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for (index, requested) in requested.into_iter().enumerate() {
        let field = format!("channels[{index}].channelId");
        let channel = match &requested.channel_id {
            None => None,
            Some(reference) => match channels::find_channel(tx, app, reference).await? {
                None => {
                    missing.push(Violation::new(field, "must be a channel of the app").received(reference));
                    None
                }
                Some(channel) if channel.channel_type != requested.channel_type => {
                    let rule = format!(
                        "must be a channel of type {}, but is {}",
                        requested.channel_type, channel.channel_type
                    );
                    wrong.push(Violation::new(field, rule).received(reference));
                    None
                }
                Some(channel) => Some(channel.id),
            },
        };
        found.push(completed(requested.through(channel), name));
    }
    if let Some(first) = missing.first().and_then(|violation| violation.received.clone()) {
        return Err(Error::violated(Reason::ChannelNotFound, missing).with("channelId", first));
    }
    if wrong.is_empty() {
        Ok(found)
    } else {
        Err(Error::invalid(wrong))
    }
}

/// Gives in-app content that came without a document the one that shows the template's name.
fn completed(channel: TemplateChannel, name: &Name) -> TemplateChannel {
    let missing = channel.content.is_none() && channel.channel_type == ChannelType::InApp;
    let content = match channel.data_type {
        _ if !missing => channel.content,
        DataType::UiTemplate => Some(card::titled(name.as_str())),
        DataType::DataTemplate | DataType::Unknown(_) => Some(JsonObject::new()),
    };
    TemplateChannel { content, ..channel }
}

fn no_such_version(number: u32, newest: u32) -> Error {
    let rule = format!("must be a version of the template, which has 1 to {newest}");
    Error::invalid(vec![Violation::new("templateVersion", rule).received(number)])
}

fn already_exists(slug: &Slug) -> Error {
    let message = format!("a template with templateId {:?} exists in this app", slug.as_str());
    Error::new(Reason::TemplateAlreadyExists, message).with("templateId", slug)
}
