//! Template categories in the database. That a category in use does not go is kept by the database as well as asked here.

use std::fmt;

use sea_orm::sea_query::{LockType, OnConflict};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Select, Set};

use super::entity::category::{ActiveModel, Column, Entity, Model};
use super::error::taken;
use super::list::{SortBy, list};
use crate::model::category::{Category, CategorySort, SEEDED};
use crate::model::id::{AppId, CategoryId};
use crate::model::name::Name;
use crate::model::page::{Page, PageRequest};
use crate::model::version::Version;
use crate::model::{Error, Reason, Result, Timestamp};

/// Gives a new app the categories that every app starts with.
///
/// # Errors
/// Those of the database.
pub async fn seed(db: &impl ConnectionTrait, app: AppId, now: Timestamp) -> Result<()> {
    for name in SEEDED {
        let category = Category {
            id: CategoryId::new(now),
            name: Name::stored(name.to_owned()),
            description: None,
            created_at: now,
            updated_at: now,
            version: Version::FIRST,
        };
        insert_category(db, app, &category).await?;
    }
    Ok(())
}

/// Writes a category down, unless its name is taken; tells whether it did.
///
/// # Errors
/// Those of the database.
pub async fn insert_category(db: &impl ConnectionTrait, app: AppId, category: &Category) -> Result<bool> {
    let row = Model {
        id: category.id,
        app_id: app,
        name: category.name.to_string(),
        description: category.description.clone(),
        created_at: category.created_at,
        updated_at: category.updated_at,
        version: category.version.number(),
    };
    let insert = Entity::insert(row.into_active_model()).on_conflict(
        OnConflict::columns([Column::AppId, Column::Name])
            .do_nothing()
            .to_owned(),
    );
    Ok(insert.exec_without_returning(db).await? == 1)
}

/// The category with a name.
///
/// # Errors
/// Those of the database.
pub async fn find_category_id(db: &impl ConnectionTrait, app: AppId, name: &str) -> Result<Option<CategoryId>> {
    let id = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::AppId.eq(app))
        .filter(Column::Name.eq(name));
    Ok(id.into_tuple().one(db).await?)
}

/// The category with an id.
///
/// # Errors
/// [`Reason::CategoryNotFound`], and those of the database.
pub async fn get_category(db: &impl ConnectionTrait, app: AppId, id: CategoryId) -> Result<Category> {
    let row = with_id(app, id).one(db).await?;
    row.map(category_of).ok_or_else(|| not_found(id))
}

/// The category with an id, which nobody else can change or use anew before the transaction ends.
///
/// # Errors
/// [`Reason::CategoryNotFound`], and those of the database.
pub async fn get_category_locked(db: &impl ConnectionTrait, app: AppId, id: CategoryId) -> Result<Category> {
    let row = with_id(app, id).lock_exclusive().one(db).await?;
    row.map(category_of).ok_or_else(|| not_found(id))
}

/// The category that a template names by its name or its id, if there is one. It cannot go before the transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn find_category_locked(db: &impl ConnectionTrait, app: AppId, name_or_id: &str) -> Result<Option<Category>> {
    let rows = || Entity::find().filter(Column::AppId.eq(app)).lock(LockType::KeyShare);
    // A name may look like an id, so the name wins: whoever reads a template and sends it back means what was shown.
    let by_name = rows().filter(Column::Name.eq(name_or_id)).one(db).await?;
    let row = match (by_name, name_or_id.parse::<CategoryId>()) {
        (None, Ok(id)) => rows().filter(Column::Id.eq(id)).one(db).await?,
        (row, _) => row,
    };
    Ok(row.map(category_of))
}

/// Writes a changed category down, unless somebody else came first; tells whether it did.
///
/// # Errors
/// [`Reason::CategoryAlreadyExists`] when another one has the name, and those of the database.
pub async fn update_category(
    db: &impl ConnectionTrait,
    app: AppId,
    category: &Category,
    read: Version,
) -> Result<bool> {
    let change = ActiveModel {
        name: Set(category.name.to_string()),
        description: Set(category.description.clone()),
        updated_at: Set(category.updated_at),
        version: Set(category.version.number()),
        ..Default::default()
    };
    let update = Entity::update_many()
        .set(change)
        .filter(Column::AppId.eq(app))
        .filter(Column::Id.eq(category.id))
        .filter(Column::Version.eq(read.number()));
    let done = update.exec(db).await;
    let done = done.map_err(|fault| taken(fault, || already_exists(&category.name)))?;
    Ok(done.rows_affected == 1)
}

/// Deletes a category for good.
///
/// # Errors
/// [`Reason::Conflict`] when a template is in it, and those of the database.
pub async fn delete_category(db: &impl ConnectionTrait, app: AppId, id: CategoryId) -> Result<()> {
    Entity::delete_many()
        .filter(Column::AppId.eq(app))
        .filter(Column::Id.eq(id))
        .exec(db)
        .await?;
    Ok(())
}

/// One page of the categories of an app.
///
/// # Errors
/// Those of the database.
pub async fn list_categories(
    db: &impl ConnectionTrait,
    app: AppId,
    page: &PageRequest<CategorySort>,
) -> Result<Page<Category>> {
    let rows = Entity::find().filter(Column::AppId.eq(app));
    Ok(list(db, rows, page).await?.map(category_of))
}

impl SortBy<Entity> for CategorySort {
    const ID: Column = Column::Id;

    fn column(self) -> Column {
        match self {
            Self::CreatedAt => Column::CreatedAt,
            Self::UpdatedAt => Column::UpdatedAt,
            Self::Name => Column::Name,
        }
    }
}

/// That no such category exists.
#[must_use]
pub fn not_found(id: impl fmt::Display) -> Error {
    Error::not_found(Reason::CategoryNotFound, "categoryId", id)
}

/// That the name of a category is taken.
#[must_use]
pub fn already_exists(name: &Name) -> Error {
    let message = format!("a category with name {:?} exists in this app", name.as_str());
    Error::new(Reason::CategoryAlreadyExists, message).with("name", name)
}

fn with_id(app: AppId, id: CategoryId) -> Select<Entity> {
    Entity::find().filter(Column::AppId.eq(app)).filter(Column::Id.eq(id))
}

fn category_of(row: Model) -> Category {
    Category {
        id: row.id,
        name: Name::stored(row.name),
        description: row.description,
        created_at: row.created_at,
        updated_at: row.updated_at,
        version: Version::from_number(row.version),
    }
}
