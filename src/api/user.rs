//! Users between protobuf and the domain. It decides nothing: whose uid is taken, and by whom, the domain knows.

use super::doors::UserApi;
use super::field::{Fields, in_resource, parse};
use super::page::{Totals, meta, pagination};
use super::{Api, Call, Reply, convert};
use crate::domain::user;
use crate::list_parameters;
use crate::model::id::UserId;
use crate::model::page::PageRequest;
use crate::model::tag::TagMatch;
use crate::model::user::{
    Metadata, NewUser, Profile, Role, Uid, User, UserFilter, UserOutcome, UserPatch, UserResult, UserSort, UserState,
    UserStatus,
};
use crate::model::{Error, Result, Violation};
use crate::pb::v1;

impl UserApi for Api {
    async fn create_user(&self, call: Call, request: v1::CreateUserRequest) -> Result<Reply<v1::CreateUserResponse>> {
        let new = new_user(request.user.unwrap_or_default()).map_err(in_resource(&call, "user"))?;
        let written = user::create(&self.service, &call.acting()?, new).await?;
        Ok(Reply::of(written, |user| v1::CreateUserResponse {
            user: Some(user.into()),
        }))
    }

    async fn list_users(&self, call: Call, request: v1::ListUsersRequest) -> Result<Reply<v1::ListUsersResponse>> {
        let acting = call.acting()?;
        let cursor = match request.id.as_deref().map(str::parse) {
            Some(Ok(uid)) => user::cursor_id(&self.service, &acting, &uid).await?,
            Some(Err(_)) | None => None,
        };
        let page = page(&request, cursor)?;
        let users = user::list(&self.service, &acting, &filter(&request)?, &page).await?;
        Ok(Reply::new(v1::ListUsersResponse {
            meta: Some(meta(&page, &users, |user| user.uid.to_string())),
            pagination: pagination(&page, &users),
            users: users.rows.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_user(&self, call: Call, request: v1::GetUserRequest) -> Result<Reply<v1::GetUserResponse>> {
        let uid = parse("uid", &request.uid)?;
        let user = user::get(&self.service, &call.acting()?, &uid).await?;
        Ok(Reply::new(v1::GetUserResponse {
            user: Some(user.into()),
        }))
    }

    async fn update_user(&self, call: Call, request: v1::UpdateUserRequest) -> Result<Reply<v1::UpdateUserResponse>> {
        let uid = parse("uid", &request.uid)?;
        let mask = request.update_mask.unwrap_or_default().paths;
        let patch = patch(&uid, &request.user.unwrap_or_default(), &mask).map_err(in_resource(&call, "user"))?;
        let written = user::update(&self.service, &call.acting()?, uid, patch, request.etag).await?;
        Ok(Reply::of(written, |user| v1::UpdateUserResponse {
            user: Some(user.into()),
        }))
    }

    async fn deactivate_user(
        &self,
        call: Call,
        request: v1::DeactivateUserRequest,
    ) -> Result<Reply<v1::DeactivateUserResponse>> {
        let uid = parse("uid", &request.uid)?;
        let written = user::deactivate(&self.service, &call.acting()?, uid).await?;
        Ok(Reply::of(written, |user| v1::DeactivateUserResponse {
            user: Some(user.into()),
        }))
    }

    async fn reactivate_user(
        &self,
        call: Call,
        request: v1::ReactivateUserRequest,
    ) -> Result<Reply<v1::ReactivateUserResponse>> {
        let uid = parse("uid", &request.uid)?;
        let written = user::reactivate(&self.service, &call.acting()?, uid).await?;
        Ok(Reply::of(written, |user| v1::ReactivateUserResponse {
            user: Some(user.into()),
        }))
    }

    async fn deactivate_users(
        &self,
        call: Call,
        request: v1::DeactivateUsersRequest,
    ) -> Result<Reply<v1::DeactivateUsersResponse>> {
        let uids = uids("uidsToDeactivate", &request.uids_to_deactivate)?;
        let written = user::deactivate_many(&self.service, &call.acting()?, uids).await?;
        Ok(Reply::of(written, |results| v1::DeactivateUsersResponse {
            deactivated_uids: found(&results),
            results: results.into_iter().map(Into::into).collect(),
        }))
    }

    async fn reactivate_users(
        &self,
        call: Call,
        request: v1::ReactivateUsersRequest,
    ) -> Result<Reply<v1::ReactivateUsersResponse>> {
        let uids = uids("uidsToActivate", &request.uids_to_activate)?;
        let written = user::reactivate_many(&self.service, &call.acting()?, uids).await?;
        Ok(Reply::of(written, |results| v1::ReactivateUsersResponse {
            non_deactivated_uids: found(&results),
            results: results.into_iter().map(Into::into).collect(),
        }))
    }

    async fn delete_user(&self, call: Call, request: v1::DeleteUserRequest) -> Result<Reply<v1::DeleteUserResponse>> {
        let uid: Uid = parse("uid", &request.uid)?;
        let written = user::delete(&self.service, &call.acting()?, uid.clone()).await?;
        Ok(Reply::of(written, |deleted_at| v1::DeleteUserResponse {
            uid: uid.to_string(),
            deleted_at: Some(convert::timestamp(deleted_at)),
        }))
    }
}

fn new_user(user: v1::User) -> Result<NewUser, Vec<Violation>> {
    let mut fields = Fields::new();
    let uid = fields.read("uid", &user.uid, str::parse);
    let name = fields.read("name", &user.name, str::parse);
    let role = role(&mut fields, user.role.as_deref());
    let metadata = metadata(user.metadata);
    fields.make(uid.zip(name).map(|(uid, name)| NewUser {
        uid,
        profile: Profile {
            name,
            avatar: user.avatar,
            link: user.link,
            role,
            status_message: user.status_message,
            metadata,
            tags: user.tags,
        },
    }))
}

fn patch(uid: &Uid, user: &v1::User, mask: &[String]) -> Result<UserPatch, Vec<Violation>> {
    let mut fields = Fields::new();
    let mut patch = UserPatch::default();
    for path in mask {
        match path.as_str() {
            "uid" => fields.immutable("uid", Some(user.uid.to_ascii_lowercase().as_str()), uid.as_str()),
            "name" => patch.name = fields.read("name", &user.name, str::parse),
            "avatar" => patch.avatar = Some(user.avatar.clone()),
            "link" => patch.link = Some(user.link.clone()),
            "role" => patch.role = Some(role(&mut fields, user.role.as_deref())),
            "status_message" => patch.status_message = Some(user.status_message.clone()),
            "metadata" => patch.metadata = Some(metadata(user.metadata.clone())),
            "tags" => patch.tags = Some(user.tags.clone()),
            other => fields.refuse(Violation::new(other, "cannot be changed")),
        }
    }
    fields.make(Some(patch))
}

/// A role that is absent, or cleared by an update, is the default one.
fn role(fields: &mut Fields, role: Option<&str>) -> Role {
    role.and_then(|role| fields.read("role", role, str::parse))
        .unwrap_or_default()
}

fn metadata(metadata: Option<prost_types::Struct>) -> Option<Metadata> {
    metadata.map(convert::object)
}

fn uids(field: &str, uids: &[String]) -> Result<Vec<Uid>> {
    let mut fields = Fields::new();
    let read = uids
        .iter()
        .enumerate()
        .map(|(at, uid)| fields.read(&format!("{field}[{at}]"), uid, str::parse));
    let read = read.collect();
    fields.make(read).map_err(Error::invalid)
}

fn found(results: &[UserResult]) -> Vec<String> {
    let found = results.iter().filter(|result| result.outcome != UserOutcome::NotFound);
    found.map(|result| result.uid.to_string()).collect()
}

fn filter(request: &v1::ListUsersRequest) -> Result<UserFilter> {
    let state = match request.state.map(v1::list_users_request::State::try_from) {
        Some(Ok(v1::list_users_request::State::Deactivated)) => UserState::Deactivated,
        Some(Ok(v1::list_users_request::State::All)) => UserState::All,
        Some(Ok(v1::list_users_request::State::Active | v1::list_users_request::State::Unspecified) | Err(_))
        | None => UserState::Active,
    };
    let status = match request.status.map(v1::UserStatus::try_from) {
        Some(Ok(v1::UserStatus::Online | v1::UserStatus::Available)) => Some(UserStatus::Online),
        Some(Ok(v1::UserStatus::Offline)) => Some(UserStatus::Offline),
        Some(Ok(v1::UserStatus::Unspecified) | Err(_)) | None => None,
    };
    let tag_match = match request.tag_match.map(v1::list_users_request::TagMatch::try_from) {
        Some(Ok(v1::list_users_request::TagMatch::All)) => TagMatch::All,
        Some(Ok(v1::list_users_request::TagMatch::Any | v1::list_users_request::TagMatch::Unspecified) | Err(_))
        | None => TagMatch::Any,
    };
    Ok(UserFilter {
        search: request.search.clone(),
        created_from: request.created_from.as_ref().and_then(convert::instant),
        created_to: request.created_to.as_ref().and_then(convert::instant),
        state,
        role: request.role.as_deref().map(|role| parse("role", role)).transpose()?,
        status,
        tags: request.tags.clone(),
        tag_match,
    })
}

fn page(request: &v1::ListUsersRequest, cursor: Option<UserId>) -> Result<PageRequest<UserSort>> {
    let sort = |number| match v1::list_users_request::Sort::try_from(number) {
        Ok(v1::list_users_request::Sort::CreatedAt) => Some(UserSort::CreatedAt),
        Ok(v1::list_users_request::Sort::UpdatedAt) => Some(UserSort::UpdatedAt),
        Ok(v1::list_users_request::Sort::Name) => Some(UserSort::Name),
        Ok(v1::list_users_request::Sort::Unspecified) | Err(_) => None,
    };
    let parameters = list_parameters!(request, sort, {
        created_at => UserSort::CreatedAt,
        updated_at => UserSort::UpdatedAt,
        name => UserSort::Name,
    });
    parameters
        .request(UserSort::CreatedAt, Totals::Always, |_| cursor.map(UserId::uuid))
        .map_err(Error::invalid)
}

impl From<UserResult> for v1::UserResult {
    fn from(result: UserResult) -> Self {
        let outcome = match result.outcome {
            UserOutcome::Changed => v1::user_result::Outcome::Changed,
            UserOutcome::Unchanged => v1::user_result::Outcome::Unchanged,
            UserOutcome::NotFound => v1::user_result::Outcome::NotFound,
        };
        Self {
            uid: result.uid.to_string(),
            outcome: outcome.into(),
        }
    }
}

impl From<User> for v1::User {
    fn from(user: User) -> Self {
        let status = match user.status {
            UserStatus::Online => v1::UserStatus::Online,
            UserStatus::Offline => v1::UserStatus::Offline,
        };
        Self {
            uid: user.uid.to_string(),
            name: user.profile.name.to_string(),
            avatar: user.profile.avatar,
            link: user.profile.link,
            role: Some(user.profile.role.as_str().to_owned()),
            status_message: user.profile.status_message,
            metadata: user.profile.metadata.map(convert::structure),
            tags: user.profile.tags,
            status: status.into(),
            last_active_at: user.last_active_at.map(convert::timestamp),
            deactivated_at: user.deactivated_at.map(convert::timestamp),
            created_at: Some(convert::timestamp(user.created_at)),
            updated_at: Some(convert::timestamp(user.updated_at)),
            etag: user.version.to_string(),
        }
    }
}
