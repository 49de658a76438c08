//! Apps and API keys between protobuf and the domain. It decides nothing: which app the holder of a key may reach is the
//! domain's affair.

use super::doors::AppApi;
use super::field::{Fields, in_resource, parse};
use super::page::{Totals, meta, pagination};
use super::{Api, Call, Reply, convert};
use crate::domain::app::{self, CreatedKey, KeyRef};
use crate::list_parameters;
use crate::model::app::{ApiKey, ApiKeyPatch, ApiKeySort, App, AppPatch, AppSlug, AppSort, NewApiKey, NewApp};
use crate::model::id::{ApiKeyId, AppId};
use crate::model::page::PageRequest;
use crate::model::{Error, Result, Scope, Violation};
use crate::pb::v1;

impl AppApi for Api {
    async fn create_app(&self, call: Call, request: v1::CreateAppRequest) -> Result<Reply<v1::CreateAppResponse>> {
        let new = new_app(&request.app.unwrap_or_default()).map_err(in_resource(&call, "app"))?;
        let written = app::create(&self.service, &call.acting()?, new).await?;
        Ok(Reply::of(written, |app| v1::CreateAppResponse {
            app: Some(app.into()),
        }))
    }

    async fn list_apps(&self, call: Call, request: v1::ListAppsRequest) -> Result<Reply<v1::ListAppsResponse>> {
        let acting = call.acting()?;
        let cursor = match request.id.as_deref().map(str::parse) {
            Some(Ok(slug)) => app::cursor_id(&self.service, &acting, &slug).await?,
            Some(Err(_)) | None => None,
        };
        let page = app_page(&request, cursor)?;
        let apps = app::list(&self.service, &acting, &page).await?;
        Ok(Reply::new(v1::ListAppsResponse {
            meta: Some(meta(&page, &apps, |app| app.slug.to_string())),
            pagination: pagination(&page, &apps),
            apps: apps.rows.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_app(&self, call: Call, request: v1::GetAppRequest) -> Result<Reply<v1::GetAppResponse>> {
        let slug = parse("appId", &request.app_id)?;
        let app = app::get(&self.service, &call.acting()?, &slug).await?;
        Ok(Reply::new(v1::GetAppResponse { app: Some(app.into()) }))
    }

    async fn update_app(&self, call: Call, request: v1::UpdateAppRequest) -> Result<Reply<v1::UpdateAppResponse>> {
        let slug = parse("appId", &request.app_id)?;
        let patch = app_patch(&slug, &request).map_err(in_resource(&call, "app"))?;
        let written = app::update(&self.service, &call.acting()?, slug, patch, request.etag).await?;
        Ok(Reply::of(written, |app| v1::UpdateAppResponse {
            app: Some(app.into()),
        }))
    }

    async fn create_api_key(
        &self,
        call: Call,
        request: v1::CreateApiKeyRequest,
    ) -> Result<Reply<v1::CreateApiKeyResponse>> {
        let app = app_ref(request.app_id.as_deref())?;
        let new = new_api_key(&request.api_key.unwrap_or_default()).map_err(in_resource(&call, "apiKey"))?;
        let written = app::create_key(&self.service, &call.acting()?, app, new).await?;
        Ok(Reply::of(written, |key| v1::CreateApiKeyResponse {
            api_key: Some(key.into()),
        }))
    }

    async fn list_api_keys(
        &self,
        call: Call,
        request: v1::ListApiKeysRequest,
    ) -> Result<Reply<v1::ListApiKeysResponse>> {
        let app = app_ref(request.app_id.as_deref())?;
        let page = api_key_page(&request)?;
        let keys = app::list_keys(&self.service, &call.acting()?, app.as_ref(), &page).await?;
        Ok(Reply::new(v1::ListApiKeysResponse {
            meta: Some(meta(&page, &keys, |key| key.id.to_string())),
            pagination: pagination(&page, &keys),
            api_keys: keys.rows.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_api_key(&self, call: Call, request: v1::GetApiKeyRequest) -> Result<Reply<v1::GetApiKeyResponse>> {
        let target = key_ref(request.app_id.as_deref(), &request.api_key_id)?;
        let key = app::get_key(&self.service, &call.acting()?, &target).await?;
        Ok(Reply::new(v1::GetApiKeyResponse {
            api_key: Some(key.into()),
        }))
    }

    async fn update_api_key(
        &self,
        call: Call,
        request: v1::UpdateApiKeyRequest,
    ) -> Result<Reply<v1::UpdateApiKeyResponse>> {
        let target = key_ref(request.app_id.as_deref(), &request.api_key_id)?;
        let patch = api_key_patch(&request).map_err(in_resource(&call, "apiKey"))?;
        let written = app::update_key(&self.service, &call.acting()?, target, patch, request.etag).await?;
        Ok(Reply::of(written, |key| v1::UpdateApiKeyResponse {
            api_key: Some(key.into()),
        }))
    }

    async fn revoke_api_key(
        &self,
        call: Call,
        request: v1::RevokeApiKeyRequest,
    ) -> Result<Reply<v1::RevokeApiKeyResponse>> {
        let target = key_ref(request.app_id.as_deref(), &request.api_key_id)?;
        let written = app::revoke_key(&self.service, &call.acting()?, target).await?;
        Ok(Reply::of(written, |revoked_at| v1::RevokeApiKeyResponse {
            id: request.api_key_id,
            revoked_at: Some(convert::timestamp(revoked_at)),
        }))
    }
}

fn new_app(app: &v1::App) -> Result<NewApp, Vec<Violation>> {
    let mut fields = Fields::new();
    let slug = app.id.as_deref().and_then(|id| fields.read("id", id, AppSlug::chosen));
    let name = fields.read("name", &app.name, str::parse);
    fields.make(name.map(|name| NewApp { slug, name }))
}

fn app_patch(slug: &AppSlug, request: &v1::UpdateAppRequest) -> Result<AppPatch, Vec<Violation>> {
    let mut fields = Fields::new();
    let mut patch = AppPatch::default();
    let app = request.app.clone().unwrap_or_default();
    for path in request.update_mask.iter().flat_map(|mask| &mask.paths) {
        match path.as_str() {
            "id" => fields.immutable("id", app.id.as_deref(), slug.as_str()),
            "name" => patch.name = fields.read("name", &app.name, str::parse),
            other => fields.refuse(Violation::new(other, "cannot be changed")),
        }
    }
    fields.make(Some(patch))
}

fn new_api_key(key: &v1::ApiKey) -> Result<NewApiKey, Vec<Violation>> {
    let mut fields = Fields::new();
    let name = fields.read("name", &key.name, str::parse);
    let scope = scope(&mut fields, key.scope);
    fields.make(name.map(|name| NewApiKey { name, scope }))
}

fn api_key_patch(request: &v1::UpdateApiKeyRequest) -> Result<ApiKeyPatch, Vec<Violation>> {
    let mut fields = Fields::new();
    let mut patch = ApiKeyPatch::default();
    let key = request.api_key.clone().unwrap_or_default();
    for path in request.update_mask.iter().flat_map(|mask| &mask.paths) {
        match path.as_str() {
            "name" => patch.name = fields.read("name", &key.name, str::parse),
            "scope" => patch.scope = Some(scope(&mut fields, key.scope)),
            other => fields.refuse(Violation::new(other, "cannot be changed")),
        }
    }
    fields.make(Some(patch))
}

/// A scope that is absent, or cleared by an update, is the lesser one.
fn scope(fields: &mut Fields, number: Option<i32>) -> Scope {
    match number.map(v1::ApiKeyScope::try_from) {
        Some(Ok(v1::ApiKeyScope::FullAccess)) => Scope::FullAccess,
        Some(Ok(v1::ApiKeyScope::AuthOnly)) | None => Scope::AuthOnly,
        Some(Ok(v1::ApiKeyScope::Unspecified) | Err(_)) => {
            fields.refuse(Violation::new("scope", "must be fullAccess or authOnly"));
            Scope::AuthOnly
        }
    }
}

fn app_ref(app_id: Option<&str>) -> Result<Option<AppSlug>> {
    app_id.map(|slug| parse("appId", slug)).transpose()
}

fn key_ref(app_id: Option<&str>, api_key_id: &str) -> Result<KeyRef> {
    let mut fields = Fields::new();
    let app = app_id.and_then(|slug| fields.read("appId", slug, str::parse));
    let id: Option<ApiKeyId> = fields.read("apiKeyId", api_key_id, str::parse);
    fields.make(id.map(|id| KeyRef { app, id })).map_err(Error::invalid)
}

fn app_page(request: &v1::ListAppsRequest, cursor: Option<AppId>) -> Result<PageRequest<AppSort>> {
    let sort = |number| match v1::list_apps_request::Sort::try_from(number) {
        Ok(v1::list_apps_request::Sort::CreatedAt) => Some(AppSort::CreatedAt),
        Ok(v1::list_apps_request::Sort::UpdatedAt) => Some(AppSort::UpdatedAt),
        Ok(v1::list_apps_request::Sort::Name) => Some(AppSort::Name),
        Ok(v1::list_apps_request::Sort::Unspecified) | Err(_) => None,
    };
    let parameters = list_parameters!(request, sort, {
        created_at => AppSort::CreatedAt,
        updated_at => AppSort::UpdatedAt,
        name => AppSort::Name,
    });
    parameters
        .request(AppSort::CreatedAt, Totals::Always, |_| cursor.map(AppId::uuid))
        .map_err(Error::invalid)
}

fn api_key_page(request: &v1::ListApiKeysRequest) -> Result<PageRequest<ApiKeySort>> {
    let sort = |number| match v1::list_api_keys_request::Sort::try_from(number) {
        Ok(v1::list_api_keys_request::Sort::CreatedAt) => Some(ApiKeySort::CreatedAt),
        Ok(v1::list_api_keys_request::Sort::UpdatedAt) => Some(ApiKeySort::UpdatedAt),
        Ok(v1::list_api_keys_request::Sort::Name) => Some(ApiKeySort::Name),
        Ok(v1::list_api_keys_request::Sort::Unspecified) | Err(_) => None,
    };
    let parameters = list_parameters!(request, sort, {
        created_at => ApiKeySort::CreatedAt,
        updated_at => ApiKeySort::UpdatedAt,
        name => ApiKeySort::Name,
    });
    parameters
        .request(ApiKeySort::CreatedAt, Totals::Always, |id| {
            id.parse().ok().map(ApiKeyId::uuid)
        })
        .map_err(Error::invalid)
}

impl From<App> for v1::App {
    fn from(app: App) -> Self {
        Self {
            id: Some(app.slug.to_string()),
            name: app.name.to_string(),
            created_at: Some(convert::timestamp(app.created_at)),
            updated_at: Some(convert::timestamp(app.updated_at)),
            etag: app.version.to_string(),
        }
    }
}

impl From<ApiKey> for v1::ApiKey {
    fn from(key: ApiKey) -> Self {
        let scope = match key.scope {
            Scope::FullAccess => v1::ApiKeyScope::FullAccess,
            Scope::AuthOnly => v1::ApiKeyScope::AuthOnly,
        };
        Self {
            id: key.id.to_string(),
            name: key.name.to_string(),
            scope: Some(scope.into()),
            key: None,
            hint: key.hint,
            created_at: Some(convert::timestamp(key.created_at)),
            updated_at: Some(convert::timestamp(key.updated_at)),
            etag: key.version.to_string(),
        }
    }
}

impl From<CreatedKey> for v1::ApiKey {
    fn from(created: CreatedKey) -> Self {
        Self {
            key: Some(created.secret.reveal_once().to_owned()),
            ..created.key.into()
        }
    }
}
