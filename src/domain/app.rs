//! Apps and API keys: who may make them, how many there may be, and what a key may not do to itself. It never sees a
//! caller's key, only who the caller is.

use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};

use super::{Acting, Service, Written};
use crate::model::app::{
    API_KEYS_MAX, ApiKey, ApiKeyPatch, ApiKeySort, App, AppPatch, AppSlug, AppSort, KeySecret, NewApiKey, NewApp,
};
use crate::model::id::{ApiKeyId, AppId};
use crate::model::page::{Page, PageRequest};
use crate::model::version::Version;
use crate::model::{Caller, Error, Reason, Result, Timestamp, Violation};
use crate::store::{Connection, Tx};
use crate::store::{app as store, category};

/// Creates an app with its categories.
///
/// # Errors
/// [`Reason::AppAlreadyExists`] when the slug is taken; [`Reason::Forbidden`] to all but the operator.
pub async fn create(service: &Service, acting: &Acting, new: NewApp) -> Result<Written<App>> {
    acting.operator()?;
    let now = acting.now;
    let id = AppId::new(now);
    let app = App {
        id,
        slug: new.slug.unwrap_or_else(|| AppSlug::generated(id)),
        name: new.name,
        created_at: now,
        updated_at: now,
        version: Version::FIRST,
    };
    service
        .write(acting, move |tx| {
            let app = app.clone();
            Box::pin(async move {
                if insert(tx, &app).await? {
                    Ok(app)
                } else {
                    Err(already_exists(&app.slug))
                }
            })
        })
        .await
}

/// Lists the apps of the installation.
///
/// # Errors
/// [`Reason::Forbidden`] to all but the operator.
pub async fn list(service: &Service, acting: &Acting, page: &PageRequest<AppSort>) -> Result<Page<App>> {
    acting.operator()?;
    store::list_apps(service.store.read(), page).await
}

/// The internal id behind a list cursor's slug.
///
/// # Errors
/// [`Reason::Forbidden`] to all but the operator.
pub async fn cursor_id(service: &Service, acting: &Acting, slug: &AppSlug) -> Result<Option<AppId>> {
    acting.operator()?;
    store::find_app_id(service.store.read(), slug).await
}

/// The app with a slug.
///
/// # Errors
/// [`Reason::AppNotFound`]; [`Reason::Forbidden`] to all but the operator.
pub async fn get(service: &Service, acting: &Acting, slug: &AppSlug) -> Result<App> {
    acting.operator()?;
    store::get_app(service.store.read(), slug).await
}

/// Changes an app.
///
/// # Errors
/// [`Reason::AppNotFound`]; [`Reason::PreconditionFailed`] when `etag` is not the current one; [`Reason::Forbidden`] to
/// all but the operator.
pub async fn update(
    service: &Service,
    acting: &Acting,
    slug: AppSlug,
    patch: AppPatch,
    etag: Option<String>,
) -> Result<Written<App>> {
    acting.operator()?;
    let now = acting.now;
    service
        .write(acting, move |tx| {
            let (slug, patch, etag) = (slug.clone(), patch.clone(), etag.clone());
            Box::pin(async move {
                let mut app = store::get_app_locked(tx, &slug).await?;
                let read = app.version;
                read.check(etag.as_deref())?;
                app.name = patch.name.unwrap_or(app.name);
                app.updated_at = now;
                app.version = read.next();
                super::unchanged_since(store::update_app(tx, &app, read).await?)?;
                Ok(app)
            })
        })
        .await
}

/// An API key with its secret, for the one answer that shows it. Stored for a repeat of the call, it is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedKey {
    /// The key.
    pub key: ApiKey,
    /// Its secret.
    pub secret: KeySecret,
}

/// Creates an API key of the app that `app` names, or of the caller's own.
///
/// # Errors
/// [`Reason::Conflict`] when the app holds [`API_KEYS_MAX`] keys; those of [`list_keys`].
pub async fn create_key(
    service: &Service,
    acting: &Acting,
    app: Option<AppSlug>,
    new: NewApiKey,
) -> Result<Written<CreatedKey>> {
    let mut bits = [0; 32];
    rand::fill(&mut bits).map_err(Error::internal)?;
    let secret = KeySecret::from_random(bits);
    let key = new_key(new, &secret, acting.now);
    let created = CreatedKey { key, secret };
    let caller = acting.caller;
    service
        .write(acting, move |tx| {
            let (app, created) = (app.clone(), created.clone());
            Box::pin(async move {
                let app = reach(tx, caller, app.as_ref()).await?;
                check_room(tx, app).await?;
                if !store::insert_api_key(tx, app, &created.key, created.secret.digest()).await? {
                    return Err(Error::internal("256 random bits came twice"));
                }
                Ok(created)
            })
        })
        .await
}

/// Lists the keys of an app that are not revoked.
///
/// # Errors
/// For the operator [`Reason::AppNotFound`] and a violation when no app is named; for an app [`Reason::Unauthorized`] when
/// another one is named.
pub async fn list_keys(
    service: &Service,
    acting: &Acting,
    app: Option<&AppSlug>,
    page: &PageRequest<ApiKeySort>,
) -> Result<Page<ApiKey>> {
    let app = reach(service.store.read(), acting.caller, app).await?;
    store::list_api_keys(service.store.read(), app, page).await
}

/// Which key is meant, of which app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRef {
    /// The app, where the caller names one.
    pub app: Option<AppSlug>,
    /// The key.
    pub id: ApiKeyId,
}

/// One key that is not revoked.
///
/// # Errors
/// [`Reason::ApiKeyNotFound`]; those of [`list_keys`].
pub async fn get_key(service: &Service, acting: &Acting, target: &KeyRef) -> Result<ApiKey> {
    let app = reach(service.store.read(), acting.caller, target.app.as_ref()).await?;
    store::get_api_key(service.store.read(), app, target.id).await
}

/// Changes a key.
///
/// # Errors
/// [`Reason::Forbidden`] when it is the caller's own; [`Reason::PreconditionFailed`] when `etag` is not the current one;
/// those of [`get_key`].
pub async fn update_key(
    service: &Service,
    acting: &Acting,
    target: KeyRef,
    patch: ApiKeyPatch,
    etag: Option<String>,
) -> Result<Written<ApiKey>> {
    let (caller, now) = (acting.caller, acting.now);
    service
        .write(acting, move |tx| {
            let (target, patch, etag) = (target.clone(), patch.clone(), etag.clone());
            Box::pin(async move {
                let app = reach(tx, caller, target.app.as_ref()).await?;
                not_oneself(caller, target.id)?;
                let mut key = store::get_api_key_locked(tx, app, target.id).await?;
                let read = key.version;
                read.check(etag.as_deref())?;
                key.name = patch.name.unwrap_or(key.name);
                key.scope = patch.scope.unwrap_or(key.scope);
                key.updated_at = now;
                key.version = read.next();
                super::unchanged_since(store::update_api_key(tx, app, &key, read).await?)?;
                Ok(key)
            })
        })
        .await
}

/// Revokes a key for good and tells when.
///
/// # Errors
/// [`Reason::Forbidden`] when it is the caller's own; those of [`get_key`].
pub async fn revoke_key(service: &Service, acting: &Acting, target: KeyRef) -> Result<Written<Timestamp>> {
    let (caller, now) = (acting.caller, acting.now);
    service
        .write(acting, move |tx| {
            let target = target.clone();
            Box::pin(async move {
                let app = reach(tx, caller, target.app.as_ref()).await?;
                not_oneself(caller, target.id)?;
                store::revoke_api_key(tx, app, target.id, now).await?;
                Ok(now)
            })
        })
        .await
}

/// Creates the app with this slug and this key of full access, as far as they are missing. Several nodes may do so at
/// once, and all of them at every start. A key that was revoked stays revoked.
///
/// # Errors
/// [`Reason::Conflict`] when the key belongs to another app, or the app holds [`API_KEYS_MAX`] others.
pub async fn ensure_bootstrap(service: &Service, slug: AppSlug, secret: KeySecret) -> Result<()> {
    let acting = service.as_operator();
    let now = acting.now;
    let name = slug.as_str().parse().map_err(Error::internal)?;
    let app = App {
        id: AppId::new(now),
        slug,
        name,
        created_at: now,
        updated_at: now,
        version: Version::FIRST,
    };
    service
        .write(&acting, move |tx| {
            let (app, secret) = (app.clone(), secret.clone());
            Box::pin(async move {
                insert(tx, &app).await?;
                let app = store::get_app_locked(tx, &app.slug).await?;
                bootstrap_key(tx, &app, &secret, now).await
            })
        })
        .await?;
    Ok(())
}

async fn bootstrap_key(tx: &Tx, app: &App, secret: &KeySecret, now: Timestamp) -> Result<()> {
    let digest = secret.digest();
    if let Some(owner) = store::find_key_owner(tx, digest).await? {
        return if owner.app == app.id {
            Ok(())
        } else {
            Err(elsewhere(&app.slug))
        };
    }
    check_room(tx, app.id).await?;
    let new = NewApiKey {
        name: "Bootstrap".parse().map_err(Error::internal)?,
        scope: crate::model::Scope::FullAccess,
    };
    let key = new_key(new, secret, now);
    if store::insert_api_key(tx, app.id, &key, digest).await? {
        return Ok(());
    }
    // Another node was faster, with the same key for the same app or for another one.
    match store::find_key_owner(tx, digest).await? {
        Some(owner) if owner.app == app.id => Ok(()),
        Some(_) | None => Err(elsewhere(&app.slug)),
    }
}

async fn insert(tx: &Tx, app: &App) -> Result<bool> {
    let inserted = store::insert_app(tx, app).await?;
    if inserted {
        category::seed(tx, app.id, app.created_at).await?;
    }
    Ok(inserted)
}

/// The app whose keys a call is about.
async fn reach(db: &impl Connection, caller: Caller, named: Option<&AppSlug>) -> Result<AppId> {
    match (caller, named) {
        (Caller::Operator, Some(slug)) => Ok(store::get_app(db, slug).await?.id),
        (Caller::Operator, None) => Err(Error::invalid(vec![Violation::new(
            "appId",
            "is required with the operator key",
        )])),
        (Caller::App { app, .. }, None) => Ok(app),
        (Caller::App { app, .. }, Some(slug)) => match store::find_app(db, slug).await? {
            Some(found) if found.id == app => Ok(app),
            Some(_) | None => Err(Error::new(
                Reason::Unauthorized,
                "the API key does not belong to the app that appId names",
            )),
        },
        (Caller::Public, _) => Err(Error::new(Reason::Unauthorized, "a key is required")),
    }
}

async fn check_room(tx: &Tx, app: AppId) -> Result<()> {
    // Counting is only as good as the lock: without it two calls would both count 24.
    store::lock_app(tx, app).await?;
    if store::count_api_keys(tx, app).await? < u64::from(API_KEYS_MAX) {
        return Ok(());
    }
    Err(Error::new(
        Reason::Conflict,
        format!("the app holds {API_KEYS_MAX} API keys, which is the limit: revoke one first"),
    )
    .with("limit", API_KEYS_MAX))
}

fn not_oneself(caller: Caller, id: ApiKeyId) -> Result<()> {
    match caller {
        Caller::App { key, .. } if key == id => Err(Error::new(
            Reason::Forbidden,
            "an API key may not change or revoke itself: use another key of full access or the operator key",
        )
        .with("rule", "an API key may not change or revoke itself")),
        Caller::App { .. } | Caller::Operator | Caller::Public => Ok(()),
    }
}

fn new_key(new: NewApiKey, secret: &KeySecret, now: Timestamp) -> ApiKey {
    ApiKey {
        id: ApiKeyId::new(now),
        name: new.name,
        scope: new.scope,
        hint: secret.hint(),
        created_at: now,
        updated_at: now,
        version: Version::FIRST,
    }
}

fn already_exists(slug: &AppSlug) -> Error {
    Error::new(
        Reason::AppAlreadyExists,
        format!("appId {slug} is taken: choose another one"),
    )
    .with("appId", slug)
}

fn elsewhere(slug: &AppSlug) -> Error {
    Error::new(
        Reason::Conflict,
        format!("the bootstrap key belongs to another app than {slug}: choose another key"),
    )
    .with("inUseBy", "another app")
}
