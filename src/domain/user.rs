//! Users: who exists, who may be acted for, and who is there. It never delivers anything to them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Acting, Service, Written};
use crate::model::id::{AppId, UserId};
use crate::model::page::{Page, PageRequest};
use crate::model::user::{
    ActingUser, NewUser, PRESENCE_INTERVAL, Profile, Resolved, Uid, User, UserFilter, UserOutcome, UserPatch,
    UserResult, UserSort, UserStatus, presence_is_due,
};
use crate::model::version::Version;
use crate::model::{Error, Reason, Result, Timestamp};
use crate::store::Tx;
use crate::store::user as store;

/// Creates a user.
///
/// # Errors
/// [`Reason::UserAlreadyExists`] when the uid is taken, also by a user who was deleted.
pub async fn create(service: &Service, acting: &Acting, new: NewUser) -> Result<Written<User>> {
    let app = acting.app()?;
    let user = new_user(new.uid, new.profile, acting.now);
    service
        .write(acting, move |tx| {
            let user = user.clone();
            Box::pin(async move {
                if store::insert_user(tx, app, &user).await? {
                    return Ok(user);
                }
                Err(Error::new(
                    Reason::UserAlreadyExists,
                    format!("uid {} is taken, perhaps by a user who was deleted", user.uid),
                )
                .with("uid", &user.uid))
            })
        })
        .await
}

/// Lists users that are not deleted.
///
/// # Errors
/// Those of the database.
pub async fn list(
    service: &Service,
    acting: &Acting,
    filter: &UserFilter,
    page: &PageRequest<UserSort>,
) -> Result<Page<User>> {
    store::list_users(service.store.read(), acting.app()?, filter, page, acting.now).await
}

/// The internal id behind a list cursor's uid; also of a user who was deleted, so that a walk goes on past them.
///
/// # Errors
/// Those of the database.
pub async fn cursor_id(service: &Service, acting: &Acting, uid: &Uid) -> Result<Option<UserId>> {
    store::find_user_id(service.store.read(), acting.app()?, uid).await
}

/// One user, active or deactivated.
///
/// # Errors
/// [`Reason::UserNotFound`], also when they were deleted, or when the user acted for is missing.
pub async fn get(service: &Service, acting: &Acting, uid: &Uid) -> Result<User> {
    let app = app_read_for(service, acting).await?;
    store::get_user(service.store.read(), app, uid, acting.now).await
}

/// Changes a user. An unchanged user is written all the same: the etag tells that somebody meant it.
///
/// # Errors
/// [`Reason::UserNotFound`]; [`Reason::PreconditionFailed`] when `etag` is not the current one.
pub async fn update(
    service: &Service,
    acting: &Acting,
    uid: Uid,
    patch: UserPatch,
    etag: Option<String>,
) -> Result<Written<User>> {
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            let (uid, patch, etag) = (uid.clone(), patch.clone(), etag.clone());
            Box::pin(async move {
                let mut user = store::get_user_locked(tx, app, &uid, now).await?;
                user.version.check(etag.as_deref())?;
                user.profile.apply(patch);
                save(tx, app, user, now).await
            })
        })
        .await
}

/// Deactivates a user. Doing it twice changes nothing more.
///
/// # Errors
/// [`Reason::UserNotFound`].
pub async fn deactivate(service: &Service, acting: &Acting, uid: Uid) -> Result<Written<User>> {
    set_deactivated(service, acting, uid, Some(acting.now)).await
}

/// Makes a deactivated user active again. Doing it twice changes nothing more.
///
/// # Errors
/// [`Reason::UserNotFound`].
pub async fn reactivate(service: &Service, acting: &Acting, uid: Uid) -> Result<Written<User>> {
    set_deactivated(service, acting, uid, None).await
}

/// Deactivates users, all of those who exist together, and tells of each uid once what became of them.
///
/// # Errors
/// Those of the database.
pub async fn deactivate_many(service: &Service, acting: &Acting, uids: Vec<Uid>) -> Result<Written<Vec<UserResult>>> {
    set_many_deactivated(service, acting, uids, Some(acting.now)).await
}

/// Makes deactivated users active again, all of those who exist together, and tells of each uid once what became of them.
///
/// # Errors
/// Those of the database.
pub async fn reactivate_many(service: &Service, acting: &Acting, uids: Vec<Uid>) -> Result<Written<Vec<UserResult>>> {
    set_many_deactivated(service, acting, uids, None).await
}

/// Deletes a user for good and tells when.
///
/// # Errors
/// [`Reason::UserNotFound`], also when they were deleted before.
pub async fn delete(service: &Service, acting: &Acting, uid: Uid) -> Result<Written<Timestamp>> {
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            let uid = uid.clone();
            Box::pin(async move {
                store::delete_user(tx, app, &uid, now).await?;
                Ok(now)
            })
        })
        .await
}

/// The user that a call acts for. One that was never heard of is created, where the installation allows that.
///
/// # Errors
/// [`Reason::UserNotFound`] when they are unknown and may not be created, deactivated, or deleted.
pub async fn acting(service: &Service, app: AppId, uid: &Uid, now: Timestamp) -> Result<ActingUser> {
    let found = match store::find_candidate(service.store.read(), app, uid).await? {
        None if service.settings.auto_create_users => {
            let new = newcomer(uid.clone(), now)?;
            service
                .store
                .write(move |tx| {
                    let new = new.clone();
                    Box::pin(async move {
                        store::insert_user(tx, app, &new).await?;
                        // Another call may have been faster, and its user may be deactivated or gone by now.
                        store::find_candidate(tx, app, &new.uid).await
                    })
                })
                .await?
        }
        found => found,
    };
    match found {
        Some(candidate) if candidate.is_active() => Ok(ActingUser {
            id: candidate.id,
            uid: uid.clone(),
            last_active_at: candidate.last_active_at,
        }),
        Some(_) | None => Err(Error::not_found(Reason::UserNotFound, "uid", uid)),
    }
}

/// The app that something is read in, perhaps for one of its users, who then has to be there.
///
/// # Errors
/// As [`acting`].
pub(super) async fn app_read_for(service: &Service, acting: &Acting) -> Result<AppId> {
    let app = acting.app()?;
    if let Some(uid) = &acting.on_behalf_of {
        self::acting(service, app, uid, acting.now).await?;
    }
    Ok(app)
}

/// Notes that a user is there. It writes at most once a minute.
///
/// # Errors
/// Those of the database.
pub async fn touch(service: &Service, app: AppId, user: &ActingUser, now: Timestamp) -> Result<()> {
    if !presence_is_due(now, user.last_active_at) {
        return Ok(());
    }
    let (id, before) = (user.id, now.minus(PRESENCE_INTERVAL));
    service
        .store
        .write(move |tx| Box::pin(async move { store::record_presence(tx, app, id, now, before).await }))
        .await
}

/// What became of each uid that a send names, by set and in the transaction of the send. Those that were never heard of
/// are created if `create` says so.
///
/// # Errors
/// Those of the database.
pub(crate) async fn resolve_many(
    tx: &Tx,
    app: AppId,
    wanted: &BTreeSet<&Uid>,
    create: bool,
    now: Timestamp,
) -> Result<BTreeMap<Uid, Resolved>> {
    let mut known = store::find_candidates_shared(tx, app, wanted).await?;
    let missing: Vec<&Uid> = wanted.iter().copied().filter(|uid| !known.contains_key(*uid)).collect();
    if create && !missing.is_empty() {
        // In the order of the uids, so that two sends that create the same users wait for each other in one direction.
        let newcomers = missing
            .iter()
            .map(|uid| newcomer((*uid).clone(), now))
            .collect::<Result<Vec<_>>>()?;
        store::insert_users(tx, app, &newcomers).await?;
        // Read back, because another send may have created some of them first.
        known.extend(store::find_candidates_shared(tx, app, &missing.into_iter().collect()).await?);
    }
    Ok(wanted
        .iter()
        .map(|uid| {
            (
                (*uid).clone(),
                known.get(uid).map_or(Resolved::Unknown, store::Candidate::resolved),
            )
        })
        .collect())
}

/// Creates users of uids that nobody was known by when they were looked up, each given once, and tells which user each uid
/// names now, in their order; none where somebody was faster whose user is deleted already.
///
/// # Errors
/// Those of the database.
pub(crate) async fn create_many(tx: &Tx, app: AppId, uids: &[&Uid], now: Timestamp) -> Result<Vec<Option<UserId>>> {
    let Some(first) = uids.first() else {
        return Ok(Vec::new());
    };
    // In the order of the uids, so that two that create the same users wait for each other in one direction; and ids in
    // the same order, so that the indexes that lead by them grow at their end.
    let mut places: Vec<(&Uid, usize)> = uids.iter().copied().zip(0..).collect();
    places.sort_unstable();
    let mut ids: Vec<UserId> = uids.iter().map(|_| UserId::new(now)).collect();
    ids.sort_unstable();
    let users: Vec<(UserId, &Uid)> = ids.into_iter().zip(places.iter().map(|(uid, _)| *uid)).collect();
    let mut found = vec![None; uids.len()];
    if store::insert_alike(tx, app, &newcomer((*first).clone(), now)?, &users).await? {
        for ((id, _), (_, place)) in users.into_iter().zip(places) {
            if let Some(found) = found.get_mut(place) {
                *found = Some(id);
            }
        }
        return Ok(found);
    }
    // Somebody has created some of them meanwhile.
    let resolved = resolve_many(tx, app, &uids.iter().copied().collect(), true, now).await?;
    let named = uids.iter().map(|uid| match resolved.get(*uid) {
        Some(Resolved::Active(user) | Resolved::Deactivated(user)) => Some(*user),
        Some(Resolved::Unknown) | None => None,
    });
    Ok(named.collect())
}

/// What is known of each of these uids now, in the transaction of a page. Until it ends nobody can deactivate or delete
/// those that were found.
///
/// # Errors
/// Those of the database.
pub(crate) async fn look_up_shared(tx: &Tx, app: AppId, uids: BTreeSet<Uid>) -> Result<BTreeMap<Uid, Resolved>> {
    let found = store::find_candidates_shared(tx, app, &uids.iter().collect()).await?;
    Ok(found
        .into_iter()
        .map(|(uid, candidate)| (uid, candidate.resolved()))
        .collect())
}

/// The same outside of a transaction: what is known of them may change at any time.
///
/// # Errors
/// Those of the database.
pub(crate) async fn look_up(service: &Service, app: AppId, uids: BTreeSet<Uid>) -> Result<BTreeMap<Uid, Resolved>> {
    let found = store::find_candidates_now(service.store.read(), app, &uids.iter().collect()).await?;
    Ok(found
        .into_iter()
        .map(|(uid, candidate)| (uid, candidate.resolved()))
        .collect())
}

async fn set_deactivated(
    service: &Service,
    acting: &Acting,
    uid: Uid,
    deactivated_at: Option<Timestamp>,
) -> Result<Written<User>> {
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            let uid = uid.clone();
            Box::pin(async move {
                let mut user = store::get_user_locked(tx, app, &uid, now).await?;
                if user.deactivated_at.is_some() == deactivated_at.is_some() {
                    return Ok(user);
                }
                user.deactivated_at = deactivated_at;
                save(tx, app, user, now).await
            })
        })
        .await
}

async fn set_many_deactivated(
    service: &Service,
    acting: &Acting,
    mut uids: Vec<Uid>,
    deactivated_at: Option<Timestamp>,
) -> Result<Written<Vec<UserResult>>> {
    let (app, now) = (acting.app()?, acting.now);
    let mut named = BTreeSet::new();
    uids.retain(|uid| named.insert(uid.clone()));
    service
        .write(acting, move |tx| {
            let uids = uids.clone();
            Box::pin(async move {
                let known = store::find_candidates_locked(tx, app, &uids.iter().collect()).await?;
                let (mut results, mut changed) = (Vec::new(), Vec::new());
                for uid in uids {
                    let outcome = match known.get(&uid) {
                        Some(user) if user.deleted_at.is_some() => UserOutcome::NotFound,
                        Some(user) if user.deactivated_at.is_some() == deactivated_at.is_some() => {
                            UserOutcome::Unchanged
                        }
                        Some(user) => {
                            changed.push(user.id);
                            UserOutcome::Changed
                        }
                        None => UserOutcome::NotFound,
                    };
                    results.push(UserResult { uid, outcome });
                }
                let written = store::set_deactivated(tx, app, &changed, deactivated_at, now).await?;
                super::unchanged_since(usize::try_from(written) == Ok(changed.len()))?;
                Ok(results)
            })
        })
        .await
}

async fn save(tx: &Tx, app: AppId, mut user: User, now: Timestamp) -> Result<User> {
    let read = user.version;
    user.updated_at = now;
    user.version = read.next();
    super::unchanged_since(store::update_user(tx, app, &user, read).await?)?;
    Ok(user)
}

/// A user of whom nothing is known but the uid, which stands in for the name.
fn newcomer(uid: Uid, now: Timestamp) -> Result<User> {
    let name = uid.as_str().parse().map_err(|rule: &str| Error::internal(rule))?;
    Ok(new_user(uid, Profile::named(name), now))
}

fn new_user(uid: Uid, profile: Profile, now: Timestamp) -> User {
    User {
        id: UserId::new(now),
        uid,
        profile,
        status: UserStatus::Offline,
        last_active_at: None,
        deactivated_at: None,
        created_at: now,
        updated_at: now,
        version: Version::FIRST,
    }
}
