//! Apps and API keys in the database. Keys are found by their digest alone when a caller presents one, since its app is
//! not known before; everything else asks for the app first.

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter, QuerySelect, Select, Set,
};

use super::entity::{api_key, app};
use super::list::{SortBy, list};
use crate::model::app::{ApiKey, ApiKeySort, App, AppSlug, AppSort, KeyDigest, KeyFacts};
use crate::model::id::{ApiKeyId, AppId};
use crate::model::name::Name;
use crate::model::page::{Page, PageRequest};
use crate::model::version::Version;
use crate::model::{Error, Reason, Result, Scope, Timestamp};

/// Who holds the key with a certain digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyOwner {
    /// The app.
    pub app: AppId,
    /// When the key was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

impl SortBy<app::Entity> for AppSort {
    const ID: app::Column = app::Column::Id;

    fn column(self) -> app::Column {
        match self {
            Self::CreatedAt => app::Column::CreatedAt,
            Self::UpdatedAt => app::Column::UpdatedAt,
            Self::Name => app::Column::Name,
        }
    }
}

impl SortBy<api_key::Entity> for ApiKeySort {
    const ID: api_key::Column = api_key::Column::Id;

    fn column(self) -> api_key::Column {
        match self {
            Self::CreatedAt => api_key::Column::CreatedAt,
            Self::UpdatedAt => api_key::Column::UpdatedAt,
            Self::Name => api_key::Column::Name,
        }
    }
}

/// Writes an app down, unless its slug is taken; tells whether it did.
///
/// # Errors
/// Those of the database.
pub async fn insert_app(db: &impl ConnectionTrait, app: &App) -> Result<bool> {
    let row = app::Model {
        id: app.id,
        public_id: app.slug.to_string(),
        name: app.name.to_string(),
        created_at: app.created_at,
        updated_at: app.updated_at,
        version: app.version.number(),
    };
    let insert = app::Entity::insert(row.into_active_model())
        .on_conflict(OnConflict::column(app::Column::PublicId).do_nothing().to_owned());
    Ok(insert.exec_without_returning(db).await? == 1)
}

/// The app with a slug, if there is one.
///
/// # Errors
/// Those of the database.
pub async fn find_app(db: &impl ConnectionTrait, slug: &AppSlug) -> Result<Option<App>> {
    let row = app::Entity::find()
        .filter(app::Column::PublicId.eq(slug.as_str()))
        .one(db)
        .await?;
    Ok(row.map(app_of))
}

/// The app with a slug.
///
/// # Errors
/// [`Reason::AppNotFound`], and those of the database.
pub async fn get_app(db: &impl ConnectionTrait, slug: &AppSlug) -> Result<App> {
    find_app(db, slug)
        .await?
        .ok_or_else(|| Error::not_found(Reason::AppNotFound, "appId", slug))
}

/// The app with a slug, locked until the transaction ends: whoever changes it or counts what it holds waits. On SQLite
/// there is one writer anyway, and the clause is left out.
///
/// # Errors
/// [`Reason::AppNotFound`], and those of the database.
pub async fn get_app_locked(db: &impl ConnectionTrait, slug: &AppSlug) -> Result<App> {
    let query = app::Entity::find().filter(app::Column::PublicId.eq(slug.as_str()));
    let row = query.lock_exclusive().one(db).await?;
    row.map(app_of)
        .ok_or_else(|| Error::not_found(Reason::AppNotFound, "appId", slug))
}

/// Locks an app, as [`get_app_locked`] does.
///
/// # Errors
/// Those of the database.
pub async fn lock_app(db: &impl ConnectionTrait, app: AppId) -> Result<()> {
    app::Entity::find_by_id(app).lock_exclusive().one(db).await?;
    Ok(())
}

/// Writes a changed app down if it still is as it was read; tells whether it was.
///
/// # Errors
/// Those of the database.
pub async fn update_app(db: &impl ConnectionTrait, app: &App, read: Version) -> Result<bool> {
    let change = app::ActiveModel {
        name: Set(app.name.to_string()),
        updated_at: Set(app.updated_at),
        version: Set(app.version.number()),
        ..Default::default()
    };
    let update = app::Entity::update_many()
        .set(change)
        .filter(app::Column::Id.eq(app.id))
        .filter(app::Column::Version.eq(read.number()));
    Ok(update.exec(db).await?.rows_affected == 1)
}

/// The apps of the installation.
///
/// # Errors
/// Those of the database.
pub async fn list_apps(db: &impl ConnectionTrait, request: &PageRequest<AppSort>) -> Result<Page<App>> {
    Ok(list(db, app::Entity::find(), request).await?.map(app_of))
}

/// The internal id behind a slug, for a cursor.
///
/// # Errors
/// Those of the database.
pub async fn find_app_id(db: &impl ConnectionTrait, slug: &AppSlug) -> Result<Option<AppId>> {
    Ok(find_app(db, slug).await?.map(|app| app.id))
}

fn app_of(row: app::Model) -> App {
    App {
        id: row.id,
        slug: AppSlug::stored(row.public_id),
        name: Name::stored(row.name),
        created_at: row.created_at,
        updated_at: row.updated_at,
        version: Version::from_number(row.version),
    }
}

/// Writes an API key down, unless the same key exists in any app; tells whether it did.
///
/// # Errors
/// Those of the database.
pub async fn insert_api_key(db: &impl ConnectionTrait, app: AppId, key: &ApiKey, digest: KeyDigest) -> Result<bool> {
    let row = api_key::Model {
        id: key.id,
        app_id: app,
        name: key.name.to_string(),
        scope: scope_number(key.scope),
        hash: digest.as_bytes().to_vec(),
        hint: key.hint.clone(),
        created_at: key.created_at,
        updated_at: key.updated_at,
        revoked_at: None,
        version: key.version.number(),
    };
    let insert = api_key::Entity::insert(row.into_active_model())
        .on_conflict(OnConflict::column(api_key::Column::Hash).do_nothing().to_owned());
    Ok(insert.exec_without_returning(db).await? == 1)
}

/// How many keys an app holds that are not revoked.
///
/// # Errors
/// Those of the database.
pub async fn count_api_keys(db: &impl ConnectionTrait, app: AppId) -> Result<u64> {
    Ok(live_keys(app).count(db).await?)
}

/// One key that is not revoked.
///
/// # Errors
/// [`Reason::ApiKeyNotFound`], and those of the database.
pub async fn get_api_key(db: &impl ConnectionTrait, app: AppId, id: ApiKeyId) -> Result<ApiKey> {
    let row = live_keys(app).filter(api_key::Column::Id.eq(id)).one(db).await?;
    row.map(api_key_of).ok_or_else(|| no_such_key(id))?
}

/// One key that is not revoked, locked until the transaction ends.
///
/// # Errors
/// As [`get_api_key`].
pub async fn get_api_key_locked(db: &impl ConnectionTrait, app: AppId, id: ApiKeyId) -> Result<ApiKey> {
    let row = live_keys(app)
        .filter(api_key::Column::Id.eq(id))
        .lock_exclusive()
        .one(db)
        .await?;
    row.map(api_key_of).ok_or_else(|| no_such_key(id))?
}

/// Writes a changed key down if it still is as it was read; tells whether it was.
///
/// # Errors
/// Those of the database.
pub async fn update_api_key(db: &impl ConnectionTrait, app: AppId, key: &ApiKey, read: Version) -> Result<bool> {
    let change = api_key::ActiveModel {
        name: Set(key.name.to_string()),
        scope: Set(scope_number(key.scope)),
        updated_at: Set(key.updated_at),
        version: Set(key.version.number()),
        ..Default::default()
    };
    let update = api_key::Entity::update_many()
        .set(change)
        .filter(api_key::Column::AppId.eq(app))
        .filter(api_key::Column::Id.eq(key.id))
        .filter(api_key::Column::RevokedAt.is_null())
        .filter(api_key::Column::Version.eq(read.number()));
    Ok(update.exec(db).await?.rows_affected == 1)
}

/// Revokes a key for good.
///
/// # Errors
/// [`Reason::ApiKeyNotFound`], also when it was revoked before, and those of the database.
pub async fn revoke_api_key(db: &impl ConnectionTrait, app: AppId, id: ApiKeyId, now: Timestamp) -> Result<()> {
    let change = api_key::ActiveModel {
        revoked_at: Set(Some(now)),
        ..Default::default()
    };
    let update = api_key::Entity::update_many()
        .set(change)
        .filter(api_key::Column::AppId.eq(app))
        .filter(api_key::Column::Id.eq(id))
        .filter(api_key::Column::RevokedAt.is_null());
    match update.exec(db).await?.rows_affected {
        0 => Err(no_such_key(id)),
        _ => Ok(()),
    }
}

/// What authentication has to know of the key with this digest; nothing of one that is revoked.
///
/// # Errors
/// Those of the database.
pub async fn find_key_facts(db: &impl ConnectionTrait, digest: KeyDigest) -> Result<Option<KeyFacts>> {
    let row = by_digest(digest)
        .filter(api_key::Column::RevokedAt.is_null())
        .one(db)
        .await?;
    let Some(key) = row else { return Ok(None) };
    let app = app::Entity::find_by_id(key.app_id).one(db).await?;
    let Some(app) = app else { return Ok(None) };
    Ok(Some(KeyFacts {
        app: app.id,
        slug: AppSlug::stored(app.public_id),
        key: key.id,
        scope: scope_of(key.scope)?,
    }))
}

/// Who holds the key with this digest, revoked or not.
///
/// # Errors
/// Those of the database.
pub async fn find_key_owner(db: &impl ConnectionTrait, digest: KeyDigest) -> Result<Option<KeyOwner>> {
    let row = by_digest(digest).one(db).await?;
    Ok(row.map(|row| KeyOwner {
        app: row.app_id,
        revoked_at: row.revoked_at,
    }))
}

/// The keys of an app that are not revoked.
///
/// # Errors
/// Those of the database.
pub async fn list_api_keys(
    db: &impl ConnectionTrait,
    app: AppId,
    request: &PageRequest<ApiKeySort>,
) -> Result<Page<ApiKey>> {
    list(db, live_keys(app), request).await?.try_map(api_key_of)
}

// A scope that this build does not know is an error: what a key may do cannot be guessed.
fn api_key_of(row: api_key::Model) -> Result<ApiKey> {
    Ok(ApiKey {
        id: row.id,
        name: Name::stored(row.name),
        scope: scope_of(row.scope)?,
        hint: row.hint,
        created_at: row.created_at,
        updated_at: row.updated_at,
        version: Version::from_number(row.version),
    })
}

fn live_keys(app: AppId) -> Select<api_key::Entity> {
    api_key::Entity::find()
        .filter(api_key::Column::AppId.eq(app))
        .filter(api_key::Column::RevokedAt.is_null())
}

fn by_digest(digest: KeyDigest) -> Select<api_key::Entity> {
    api_key::Entity::find().filter(api_key::Column::Hash.eq(digest.as_bytes().to_vec()))
}

fn no_such_key(id: ApiKeyId) -> Error {
    Error::not_found(Reason::ApiKeyNotFound, "apiKeyId", id)
}

// The numbers are those of ApiKeyScope in the contract.
fn scope_number(scope: Scope) -> i16 {
    match scope {
        Scope::FullAccess => 1,
        Scope::AuthOnly => 2,
    }
}

fn scope_of(number: i16) -> Result<Scope> {
    match number {
        1 => Ok(Scope::FullAccess),
        2 => Ok(Scope::AuthOnly),
        other => Err(Error::internal(format!("an API key has the unknown scope {other}"))),
    }
}
