//! What may happen to template categories: names are taken once, and one that is in use stays. What was sent keeps its own
//! copy and is not looked at here.

use serde::{Deserialize, Serialize};

use super::{Acting, Service, Written, user};
use crate::model::category::{Category, CategoryPatch, CategorySort, NewCategory};
use crate::model::id::{CategoryId, TemplateId};
use crate::model::page::{Page, PageRequest};
use crate::model::version::Version;
use crate::model::{Error, Reason, Result, Timestamp};
use crate::store::{category as store, template as templates};

/// Templates that are named to whoever wants to delete their category.
const NAMED_MAX: u64 = 10;

/// Creates a category.
///
/// # Errors
/// [`Reason::CategoryAlreadyExists`] when the name is taken.
pub async fn create(service: &Service, acting: &Acting, new: NewCategory) -> Result<Written<Category>> {
    let (app, now) = (acting.app()?, acting.now);
    let category = Category {
        id: CategoryId::new(now),
        name: new.name,
        description: new.description,
        created_at: now,
        updated_at: now,
        version: Version::FIRST,
    };
    service
        .write(acting, move |tx| {
            let category = category.clone();
            Box::pin(async move {
                if store::insert_category(tx, app, &category).await? {
                    Ok(category)
                } else {
                    Err(store::already_exists(&category.name))
                }
            })
        })
        .await
}

/// Lists the categories of the app.
///
/// # Errors
/// [`Reason::UserNotFound`] when the user acted for is missing.
pub async fn list(service: &Service, acting: &Acting, page: &PageRequest<CategorySort>) -> Result<Page<Category>> {
    let app = user::app_read_for(service, acting).await?;
    store::list_categories(service.store.read(), app, page).await
}

/// The category with an id.
///
/// # Errors
/// [`Reason::CategoryNotFound`]; [`Reason::UserNotFound`] when the user acted for is missing.
pub async fn get(service: &Service, acting: &Acting, id: CategoryId) -> Result<Category> {
    let app = user::app_read_for(service, acting).await?;
    store::get_category(service.store.read(), app, id).await
}

/// Changes a category.
///
/// # Errors
/// [`Reason::CategoryNotFound`]; [`Reason::CategoryAlreadyExists`] when another one has the new name;
/// [`Reason::PreconditionFailed`] when `etag` is not the current one.
pub async fn update(
    service: &Service,
    acting: &Acting,
    id: CategoryId,
    patch: CategoryPatch,
    etag: Option<String>,
) -> Result<Written<Category>> {
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            let (patch, etag) = (patch.clone(), etag.clone());
            Box::pin(async move {
                let mut category = store::get_category_locked(tx, app, id).await?;
                let read = category.version;
                read.check(etag.as_deref())?;
                category.name = patch.name.unwrap_or(category.name);
                category.description = patch.description.unwrap_or(category.description);
                category.updated_at = now;
                category.version = read.next();
                super::unchanged_since(store::update_category(tx, app, &category, read).await?)?;
                Ok(category)
            })
        })
        .await
}

/// That a category is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedCategory {
    /// The category.
    pub id: CategoryId,
    /// When it went.
    pub deleted_at: Timestamp,
}

/// Deletes a category for good.
///
/// # Errors
/// [`Reason::CategoryNotFound`]; [`Reason::Conflict`] while templates are in it, archived ones included.
pub async fn delete(service: &Service, acting: &Acting, id: CategoryId) -> Result<Written<DeletedCategory>> {
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            Box::pin(async move {
                store::get_category_locked(tx, app, id).await?;
                let count = templates::count_users_of_category(tx, app, id).await?;
                if count > 0 {
                    let some = templates::list_users_of_category(tx, app, id, NAMED_MAX).await?;
                    return Err(in_use(id, count, &some));
                }
                store::delete_category(tx, app, id).await?;
                Ok(DeletedCategory { id, deleted_at: now })
            })
        })
        .await
}

fn in_use(id: CategoryId, count: u64, some: &[TemplateId]) -> Error {
    let names: Vec<_> = some.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    let templates = if count == 1 { "template" } else { "templates" };
    let message =
        format!("category {id} is in use by {count} {templates}, among them {names}: give them another one first");
    Error::new(Reason::Conflict, message)
        .with("inUseBy", names)
        .with("inUseCount", count)
}
