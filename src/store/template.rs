//! Templates and their versions in the database. Which edit opens a version is not decided here.

mod send;

use std::collections::{BTreeSet, HashMap};

use sea_orm::sea_query::{OnConflict, SelectStatement};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseBackend, EntityTrait, IntoActiveModel, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select, Set,
};

use super::channel::containing;
use super::entity::template::{ActiveModel, Column, Entity, Model};
use super::entity::{category, template_version as version};
use super::list::{SortBy, list};
use super::tag::tagged;
use super::value::Json;
use crate::model::id::{AppId, CategoryId, TemplateId, TemplateVersionId};
use crate::model::name::Name;
use crate::model::page::{Page, PageRequest};
use crate::model::slug::{Reference, Slug};
use crate::model::template::{
    CategoryName, Content, Template, TemplateFilter, TemplateSort, TemplateStatus, TemplateVersion,
};
use crate::model::version::Version;
use crate::model::{Error, Reason, Result, Timestamp};

pub use send::{TemplateHead, VersionHead, find_contents, find_heads_shared, find_version_heads};

/// Writes a template and its current version down, unless its slug is taken; tells whether it did.
///
/// # Errors
/// Those of the database.
pub async fn insert_template(db: &impl ConnectionTrait, app: AppId, template: &Template) -> Result<bool> {
    let row = Model {
        id: template.id,
        app_id: app,
        slug: template.slug.to_string(),
        name: template.name.to_string(),
        name_folded: template.name.folded(),
        category_id: template.category.as_ref().map(|category| category.id),
        label: template.label.clone(),
        alternative_text: template.alternative_text.clone(),
        tags: Json::of(&template.tags)?,
        status: template.status.number(),
        config: Json::of(&template.config)?,
        current_version: stored_number(template.current.number)?,
        created_at: template.created_at,
        updated_at: template.updated_at,
        archived_at: template.archived_at,
        version: template.version.number(),
    };
    let insert = Entity::insert(row.into_active_model()).on_conflict(
        OnConflict::columns([Column::AppId, Column::Slug])
            .do_nothing()
            .to_owned(),
    );
    if insert.exec_without_returning(db).await? != 1 {
        return Ok(false);
    }
    insert_version(db, app, template.id, &template.current).await?;
    Ok(true)
}

/// Writes a version down. Two of the same number cannot be.
///
/// # Errors
/// Those of the database.
pub async fn insert_version(
    db: &impl ConnectionTrait,
    app: AppId,
    template: TemplateId,
    opened: &TemplateVersion,
) -> Result<()> {
    let row = version::Model {
        id: opened.id,
        app_id: app,
        template_id: template,
        number: stored_number(opened.number)?,
        channels: Json::of(&opened.content.channels)?,
        variable_schema: Json::of(&opened.content.variable_schema)?,
        approved_at: opened.approved_at,
        used_at: opened.used_at,
        created_at: opened.created_at,
    };
    version::Entity::insert(row.into_active_model())
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Writes down what became of a version that is not frozen: its content and its approval.
///
/// # Errors
/// Those of the database, and internal when the version is frozen after all.
pub async fn update_version(db: &impl ConnectionTrait, app: AppId, edited: &TemplateVersion) -> Result<()> {
    let change = version::ActiveModel {
        channels: Set(Json::of(&edited.content.channels)?),
        variable_schema: Set(Json::of(&edited.content.variable_schema)?),
        approved_at: Set(edited.approved_at),
        ..Default::default()
    };
    let update = version::Entity::update_many()
        .set(change)
        .filter(version::Column::AppId.eq(app))
        .filter(version::Column::Id.eq(edited.id))
        .filter(version::Column::ApprovedAt.is_null())
        .filter(version::Column::UsedAt.is_null());
    match update.exec(db).await?.rows_affected {
        1 => Ok(()),
        _ => Err(Error::internal(format!(
            "version {} is frozen and cannot change",
            edited.id
        ))),
    }
}

/// Writes a changed template down, though not its version, unless somebody else came first; tells whether it did.
///
/// # Errors
/// Those of the database.
pub async fn update_template(
    db: &impl ConnectionTrait,
    app: AppId,
    template: &Template,
    read: Version,
) -> Result<bool> {
    let change = ActiveModel {
        name: Set(template.name.to_string()),
        name_folded: Set(template.name.folded()),
        category_id: Set(template.category.as_ref().map(|category| category.id)),
        label: Set(template.label.clone()),
        alternative_text: Set(template.alternative_text.clone()),
        tags: Set(Json::of(&template.tags)?),
        status: Set(template.status.number()),
        config: Set(Json::of(&template.config)?),
        current_version: Set(stored_number(template.current.number)?),
        updated_at: Set(template.updated_at),
        archived_at: Set(template.archived_at),
        version: Set(template.version.number()),
        ..Default::default()
    };
    let update = Entity::update_many()
        .set(change)
        .filter(Column::AppId.eq(app))
        .filter(Column::Id.eq(template.id))
        .filter(Column::Version.eq(read.number()));
    Ok(update.exec(db).await?.rows_affected == 1)
}

/// The template that a reference names.
///
/// # Errors
/// [`Reason::TemplateNotFound`], and those of the database.
pub async fn get_template(
    db: &impl ConnectionTrait,
    app: AppId,
    reference: &Reference<TemplateId>,
) -> Result<Template> {
    let row = named(app, reference).one(db).await?;
    only(assemble(db, app, row.into_iter().collect()).await?, reference)
}

/// The template that a reference names, which nobody else can change before the transaction ends.
///
/// # Errors
/// [`Reason::TemplateNotFound`], and those of the database.
pub async fn get_template_locked(
    db: &impl ConnectionTrait,
    app: AppId,
    reference: &Reference<TemplateId>,
) -> Result<Template> {
    let row = named(app, reference).lock_exclusive().one(db).await?;
    only(assemble(db, app, row.into_iter().collect()).await?, reference)
}

/// The newest versions of a template, the newest first.
///
/// # Errors
/// Those of the database.
pub async fn list_versions(
    db: &impl ConnectionTrait,
    app: AppId,
    template: TemplateId,
    limit: u64,
) -> Result<Vec<TemplateVersion>> {
    let rows = version::Entity::find()
        .filter(version::Column::AppId.eq(app))
        .filter(version::Column::TemplateId.eq(template))
        .order_by_desc(version::Column::Number)
        .limit(limit)
        .all(db)
        .await?;
    rows.iter().map(version_of).collect()
}

/// The version of a template with a number, if there is one.
///
/// # Errors
/// Those of the database.
pub async fn find_version(
    db: &impl ConnectionTrait,
    app: AppId,
    template: TemplateId,
    number: u32,
) -> Result<Option<TemplateVersion>> {
    let Ok(number) = i32::try_from(number) else {
        return Ok(None);
    };
    let row = version::Entity::find()
        .filter(version::Column::AppId.eq(app))
        .filter(version::Column::TemplateId.eq(template))
        .filter(version::Column::Number.eq(number))
        .one(db)
        .await?;
    row.as_ref().map(version_of).transpose()
}

/// Notes that a notification used a version, unless one did before.
///
/// # Errors
/// Those of the database.
pub async fn record_use(db: &impl ConnectionTrait, app: AppId, used: TemplateVersionId, now: Timestamp) -> Result<()> {
    let change = version::ActiveModel {
        used_at: Set(Some(now)),
        ..Default::default()
    };
    version::Entity::update_many()
        .set(change)
        .filter(version::Column::AppId.eq(app))
        .filter(version::Column::Id.eq(used))
        .filter(version::Column::UsedAt.is_null())
        .exec(db)
        .await?;
    Ok(())
}

/// How many templates are in a category, archived ones included.
///
/// # Errors
/// Those of the database.
pub async fn count_users_of_category(db: &impl ConnectionTrait, app: AppId, category: CategoryId) -> Result<u64> {
    let users = Entity::find()
        .filter(Column::AppId.eq(app))
        .filter(Column::CategoryId.eq(category));
    Ok(users.count(db).await?)
}

/// The ids of some templates that are in a category, archived ones included.
///
/// # Errors
/// Those of the database.
pub async fn list_users_of_category(
    db: &impl ConnectionTrait,
    app: AppId,
    category: CategoryId,
    limit: u64,
) -> Result<Vec<TemplateId>> {
    let ids = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::AppId.eq(app))
        .filter(Column::CategoryId.eq(category))
        .order_by_asc(Column::Id)
        .limit(limit);
    Ok(ids.into_tuple().all(db).await?)
}

/// Those of the candidates that are taken as slugs.
///
/// # Errors
/// Those of the database.
pub async fn list_taken(db: &impl ConnectionTrait, app: AppId, candidates: &[Slug]) -> Result<Vec<String>> {
    let taken = Entity::find()
        .select_only()
        .column(Column::Slug)
        .filter(Column::AppId.eq(app))
        .filter(Column::Slug.is_in(candidates.iter().map(Slug::as_str)));
    Ok(taken.into_tuple().all(db).await?)
}

/// One page of the templates of an app that a filter lets through.
///
/// # Errors
/// Those of the database.
pub async fn list_templates(
    db: &impl ConnectionTrait,
    app: AppId,
    filter: &TemplateFilter,
    page: &PageRequest<TemplateSort>,
) -> Result<Page<Template>> {
    let matching = matching(db.get_database_backend(), app, filter);
    let page = list(db, matching, page).await?;
    let rows = assemble(db, app, page.rows).await?;
    Ok(Page {
        rows,
        next: page.next,
        previous: page.previous,
        total: page.total,
    })
}

impl SortBy<Entity> for TemplateSort {
    const ID: Column = Column::Id;

    fn column(self) -> Column {
        match self {
            Self::CreatedAt => Column::CreatedAt,
            Self::UpdatedAt => Column::UpdatedAt,
            Self::Name => Column::Name,
        }
    }
}

fn matching(backend: DatabaseBackend, app: AppId, filter: &TemplateFilter) -> Select<Entity> {
    let mut rows = Entity::find().filter(Column::AppId.eq(app));
    rows = rows.filter(tagged(backend, "templates", &filter.tags, filter.tag_match));
    rows = match filter.status {
        Some(status) => rows.filter(Column::Status.eq(status.number())),
        None => rows.filter(Column::Status.ne(TemplateStatus::Archived.number())),
    };
    if let Some(text) = &filter.search {
        let by_name = Column::NameFolded.like(containing(text));
        rows = rows.filter(Condition::any().add(by_name).add(Column::Slug.like(containing(text))));
    }
    match &filter.category {
        Some(name_or_id) => rows.filter(Column::CategoryId.in_subquery(category_ids(app, name_or_id))),
        None => rows,
    }
}

/// Templates as their rows say, in their order, each with its current version and the name of its category.
///
/// The rows come first: outside a transaction what is read afterwards can only be newer than they are, so that an etag is
/// never newer than what stands beside it.
async fn assemble(db: &impl ConnectionTrait, app: AppId, rows: Vec<Model>) -> Result<Vec<Template>> {
    let mut versions = current_versions(db, app, &rows).await?;
    let names = category_names(db, app, &rows).await?;
    let templates = rows.into_iter().map(|row| {
        let current = versions
            .remove(&row.id)
            .ok_or_else(|| Error::internal(format!("template {} has no version {}", row.id, row.current_version)))?;
        let category = row.category_id.and_then(|id| {
            let name = Name::stored(names.get(&id)?.clone());
            Some(CategoryName { id, name })
        });
        Ok(Template {
            id: row.id,
            slug: Slug::stored(row.slug),
            name: Name::stored(row.name),
            category,
            label: row.label,
            alternative_text: row.alternative_text,
            tags: row.tags.read()?,
            status: TemplateStatus::of_number(row.status),
            config: row.config.read()?,
            current,
            archived_at: row.archived_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: Version::from_number(row.version),
        })
    });
    templates.collect()
}

async fn current_versions(
    db: &impl ConnectionTrait,
    app: AppId,
    rows: &[Model],
) -> Result<HashMap<TemplateId, TemplateVersion>> {
    if rows.is_empty() {
        return Ok(HashMap::new());
    }
    let current = rows.iter().fold(Condition::any(), |any, row| {
        let one = Condition::all()
            .add(version::Column::TemplateId.eq(row.id))
            .add(version::Column::Number.eq(row.current_version));
        any.add(one)
    });
    let found = version::Entity::find()
        .filter(version::Column::AppId.eq(app))
        .filter(current)
        .all(db)
        .await?;
    let found = found.into_iter().map(|row| Ok((row.template_id, version_of(&row)?)));
    found.collect()
}

async fn category_names(db: &impl ConnectionTrait, app: AppId, rows: &[Model]) -> Result<HashMap<CategoryId, String>> {
    let ids: BTreeSet<_> = rows.iter().filter_map(|row| row.category_id).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let names = category::Entity::find()
        .filter(category::Column::AppId.eq(app))
        .filter(category::Column::Id.is_in(ids))
        .all(db)
        .await?;
    Ok(names.into_iter().map(|row| (row.id, row.name)).collect())
}

fn category_ids(app: AppId, name_or_id: &str) -> SelectStatement {
    let mut named = Condition::any().add(category::Column::Name.eq(name_or_id));
    if let Ok(id) = name_or_id.parse::<CategoryId>() {
        named = named.add(category::Column::Id.eq(id));
    }
    let ids = category::Entity::find().select_only().column(category::Column::Id);
    ids.filter(category::Column::AppId.eq(app)).filter(named).into_query()
}

fn named(app: AppId, reference: &Reference<TemplateId>) -> Select<Entity> {
    let rows = Entity::find().filter(Column::AppId.eq(app));
    match reference {
        Reference::Id(id) => rows.filter(Column::Id.eq(*id)),
        Reference::Slug(slug) => rows.filter(Column::Slug.eq(slug.as_str())),
    }
}

fn only(templates: Vec<Template>, reference: &Reference<TemplateId>) -> Result<Template> {
    let first = templates.into_iter().next();
    first.ok_or_else(|| Error::not_found(Reason::TemplateNotFound, "templateId", reference))
}

fn version_of(row: &version::Model) -> Result<TemplateVersion> {
    Ok(TemplateVersion {
        id: row.id,
        number: number_of(row.number)?,
        content: Content {
            channels: row.channels.read()?,
            variable_schema: row.variable_schema.read()?,
        },
        approved_at: row.approved_at,
        used_at: row.used_at,
        created_at: row.created_at,
    })
}

fn number_of(stored: i32) -> Result<u32> {
    u32::try_from(stored).map_err(Error::internal)
}

fn stored_number(number: u32) -> Result<i32> {
    i32::try_from(number).map_err(Error::internal)
}
