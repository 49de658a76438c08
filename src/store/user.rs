//! Users in the database. A deleted user's row stays, so that the uid stays taken; no query but those that say so sees it.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict, SelectStatement, UnionType};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseBackend, EntityTrait, FromQueryResult, IntoActiveModel,
    QueryFilter, QuerySelect, QueryTrait, Select, Set,
};

use serde::Deserialize;

use super::Tx;
use super::bulk::{self, Rows};
use super::entity::user;
use super::gather::{self, Field};
use super::list::{SortBy, list};
use super::load::{Cell, Load, Source};
use super::tag::tagged;
use super::value::Json;
use crate::model::id::{AppId, UserId};
use crate::model::name::Name;
use crate::model::page::{Page, PageRequest};
use crate::model::user::{Profile, Resolved, Role, Uid, User, UserFilter, UserSort, UserState, UserStatus};
use crate::model::version::Version;
use crate::model::{Error, Reason, Result, Timestamp};

/// Rows that one statement inserts, so that the users of the largest send are not in memory as a whole once more.
const INSERTED_MAX: usize = 1_000;

impl SortBy<user::Entity> for UserSort {
    const ID: user::Column = user::Column::Id;

    fn column(self) -> user::Column {
        match self {
            Self::CreatedAt => user::Column::CreatedAt,
            Self::UpdatedAt => user::Column::UpdatedAt,
            Self::Name => user::Column::Name,
        }
    }
}

/// What decides whether a user may be acted for or sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The user.
    pub id: UserId,
    /// When they were last there.
    pub last_active_at: Option<Timestamp>,
    /// When they were deactivated, while they are.
    pub deactivated_at: Option<Timestamp>,
    /// When they were deleted, if they were.
    pub deleted_at: Option<Timestamp>,
}

impl Candidate {
    /// Whether they are neither deactivated nor deleted.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.deactivated_at.is_none() && self.deleted_at.is_none()
    }

    /// What a send makes of them.
    #[must_use]
    pub const fn resolved(&self) -> Resolved {
        match (self.deleted_at, self.deactivated_at) {
            (Some(_), _) => Resolved::Unknown,
            (None, Some(_)) => Resolved::Deactivated(self.id),
            (None, None) => Resolved::Active(self.id),
        }
    }
}

/// Writes a user down, unless the uid is or ever was taken; tells whether it did.
///
/// # Errors
/// Those of the database.
pub async fn insert_user(db: &impl ConnectionTrait, app: AppId, user: &User) -> Result<bool> {
    let insert = user::Entity::insert(row_of(app, user)?.into_active_model()).on_conflict(on_taken_uid());
    Ok(insert.exec_without_returning(db).await? == 1)
}

/// Writes users down, except those whose uid is or ever was taken.
///
/// # Errors
/// Those of the database.
pub async fn insert_users(db: &impl ConnectionTrait, app: AppId, users: &[User]) -> Result<()> {
    for part in users.chunks(INSERTED_MAX) {
        let rows = part.iter().map(|user| row_of(app, user)).collect::<Result<Vec<_>>>()?;
        bulk::insert_new::<user::Entity>(db, &rows, user::Column::Id).await?;
    }
    Ok(())
}

/// Writes users down who are like one of them in everything but id, uid and name, which is the uid; tells whether it did.
/// Where a uid is or ever was taken, none of them is written.
///
/// # Errors
/// Those of the database.
pub async fn insert_alike(tx: &Tx, app: AppId, like: &User, users: &[(UserId, &Uid)]) -> Result<bool> {
    let like = row_of(app, like)?;
    let load = Load {
        table: "users",
        columns: [
            ("id", Source::Each(0)),
            ("app_id", Source::Same(Cell::Id(app.uuid()))),
            ("uid", Source::Each(1)),
            ("name", Source::Each(1)),
            // A uid has no upper-case letters.
            ("name_folded", Source::Each(1)),
            ("role", Source::Same(Cell::Text(&like.role))),
            ("metadata", Source::Same(Cell::Text(like.metadata.as_str()))),
            ("tags", Source::Same(Cell::Text(like.tags.as_str()))),
            ("created_at", Source::Same(Cell::Long(like.created_at.millis()))),
            ("updated_at", Source::Same(Cell::Long(like.updated_at.millis()))),
            ("version", Source::Same(Cell::Long(like.version))),
        ],
        rows: users.len(),
    };
    let row = |index: usize| match users.get(index) {
        Some((id, uid)) => [Cell::Id(id.uuid()), Cell::Text(uid.as_str())],
        None => [Cell::Null, Cell::Null],
    };
    load.unless_taken(tx, row).await
}

/// What is known of a uid, deleted or not; nothing of one that was never heard of.
///
/// # Errors
/// Those of the database.
pub async fn find_candidate(db: &impl ConnectionTrait, app: AppId, uid: &Uid) -> Result<Option<Candidate>> {
    let mut found = find_candidates(db, app, &BTreeSet::from([uid]), "").await?;
    Ok(found.remove(uid))
}

/// What is known of each of these uids, deleted or not; those that were never heard of are left out. Until the transaction
/// ends nobody can deactivate or delete those that were found.
///
/// # Errors
/// Those of the database.
pub async fn find_candidates_shared(
    db: &impl ConnectionTrait,
    app: AppId,
    uids: &BTreeSet<&Uid>,
) -> Result<BTreeMap<Uid, Candidate>> {
    // SQLite knows no such lock and needs none: it has one writer.
    match db.get_database_backend() {
        DatabaseBackend::Postgres => find_candidates(db, app, uids, "ORDER BY u.uid FOR SHARE OF u").await,
        _ => find_candidates(db, app, uids, "").await,
    }
}

/// The same, and until the transaction ends nobody can send to them or act for them either.
///
/// # Errors
/// Those of the database.
pub async fn find_candidates_locked(
    db: &impl ConnectionTrait,
    app: AppId,
    uids: &BTreeSet<&Uid>,
) -> Result<BTreeMap<Uid, Candidate>> {
    // In the order in which sends take their share of the same rows, so that neither waits for the other in a circle.
    match db.get_database_backend() {
        DatabaseBackend::Postgres => find_candidates(db, app, uids, "ORDER BY u.uid FOR UPDATE OF u").await,
        _ => find_candidates(db, app, uids, "").await,
    }
}

/// The same without a lock: what is known of them may change at any time.
///
/// # Errors
/// Those of the database.
pub async fn find_candidates_now(
    db: &impl ConnectionTrait,
    app: AppId,
    uids: &BTreeSet<&Uid>,
) -> Result<BTreeMap<Uid, Candidate>> {
    find_candidates(db, app, uids, "").await
}

async fn find_candidates(
    db: &impl ConnectionTrait,
    app: AppId,
    uids: &BTreeSet<&Uid>,
    lock: &str,
) -> Result<BTreeMap<Uid, Candidate>> {
    if uids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let given = Rows::new(db).column("uid", uids.iter().map(|uid| uid.to_string()));
    let rest = format!(
        "{} {} users u ON u.app_id = {} AND u.uid = r.uid",
        given.table("r")?,
        given.join(),
        given.parameter(0),
    );
    let from = gather::Source {
        table: "u",
        rest: &rest,
        postgres: lock,
    };
    let sql = gather::select(db.get_database_backend(), &Found::FIELDS, &from);
    let found: Vec<Found> = gather::rows(db, given.statement(sql, [app.into()])?).await?;
    found.into_iter().map(candidate_of).collect()
}

/// How many of these users are neither deactivated nor deleted. On SQLite nobody can change that until the transaction
/// ends.
///
/// # Errors
/// Those of the database.
pub async fn count_active(tx: &Tx, app: AppId, users: &[UserId]) -> Result<usize> {
    let given = Rows::new(tx).column("id", users.iter().copied());
    let sql = format!(
        "SELECT COUNT(*) AS active FROM {} {} users u ON u.id = r.id WHERE u.app_id = {} AND u.deactivated_at IS NULL \
         AND u.deleted_at IS NULL",
        given.table("r")?,
        given.join(),
        given.parameter(0),
    );
    let row = tx.query_one_raw(given.statement(sql, [app.into()])?).await?;
    let active: Option<i64> = row.map(|row| row.try_get("", "active")).transpose()?;
    usize::try_from(active.unwrap_or_default()).map_err(Error::internal)
}

/// A user that is not deleted.
///
/// # Errors
/// [`Reason::UserNotFound`], and those of the database.
pub async fn get_user(db: &impl ConnectionTrait, app: AppId, uid: &Uid, now: Timestamp) -> Result<User> {
    let row = live_users(app)
        .filter(user::Column::Uid.eq(uid.as_str()))
        .one(db)
        .await?;
    user_of(row.ok_or_else(|| no_such_user(uid))?, now)
}

/// A user that is not deleted, locked until the transaction ends.
///
/// # Errors
/// As [`get_user`].
pub async fn get_user_locked(db: &impl ConnectionTrait, app: AppId, uid: &Uid, now: Timestamp) -> Result<User> {
    let query = live_users(app).filter(user::Column::Uid.eq(uid.as_str()));
    let row = query.lock_exclusive().one(db).await?;
    user_of(row.ok_or_else(|| no_such_user(uid))?, now)
}

/// Writes a changed user down if they still are as they were read; tells whether they were. Presence is left alone.
///
/// # Errors
/// Those of the database.
pub async fn update_user(db: &impl ConnectionTrait, app: AppId, user: &User, read: Version) -> Result<bool> {
    let profile = &user.profile;
    let change = user::ActiveModel {
        name: Set(profile.name.to_string()),
        name_folded: Set(profile.name.folded()),
        avatar: Set(profile.avatar.clone()),
        link: Set(profile.link.clone()),
        role: Set(profile.role.as_str().to_owned()),
        status_message: Set(profile.status_message.clone()),
        metadata: Set(Json::of(&profile.metadata)?),
        tags: Set(Json::of(&profile.tags)?),
        deactivated_at: Set(user.deactivated_at),
        updated_at: Set(user.updated_at),
        version: Set(user.version.number()),
        ..Default::default()
    };
    let update = user::Entity::update_many()
        .set(change)
        .filter(user::Column::AppId.eq(app))
        .filter(user::Column::Id.eq(user.id))
        .filter(user::Column::DeletedAt.is_null())
        .filter(user::Column::Version.eq(read.number()));
    Ok(update.exec(db).await?.rows_affected == 1)
}

/// Notes of users, who are locked, since when they are deactivated, or that they are not; tells how many there were.
///
/// # Errors
/// Those of the database.
pub async fn set_deactivated(
    db: &impl ConnectionTrait,
    app: AppId,
    users: &[UserId],
    deactivated_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<u64> {
    if users.is_empty() {
        return Ok(0);
    }
    let rows = Rows::new(db).column("id", users.iter().copied());
    let sql = format!(
        "UPDATE users SET deactivated_at = {}, updated_at = {}, version = version + 1 FROM {} \
         WHERE users.app_id = {} AND users.id = r.id AND users.deleted_at IS NULL",
        rows.parameter(0),
        rows.parameter(1),
        rows.table("r")?,
        rows.parameter(2),
    );
    let values = [deactivated_at.into(), now.into(), app.into()];
    let done = db.execute_raw(rows.statement(sql, values)?).await?;
    Ok(done.rows_affected())
}

/// Deletes a user: the row keeps the uid and forgets the person.
///
/// # Errors
/// [`Reason::UserNotFound`], also when they were deleted before, and those of the database.
pub async fn delete_user(db: &impl ConnectionTrait, app: AppId, uid: &Uid, now: Timestamp) -> Result<()> {
    let change = user::ActiveModel {
        name: Set(String::new()),
        name_folded: Set(String::new()),
        avatar: Set(None),
        link: Set(None),
        role: Set(Role::default().as_str().to_owned()),
        status_message: Set(None),
        metadata: Set(Json::of(&None::<()>)?),
        tags: Set(Json::of(&[(); 0])?),
        last_active_at: Set(None),
        deleted_at: Set(Some(now)),
        updated_at: Set(now),
        ..Default::default()
    };
    let update = user::Entity::update_many()
        .set(change)
        .col_expr(user::Column::Version, Expr::col(user::Column::Version).add(1))
        .filter(user::Column::AppId.eq(app))
        .filter(user::Column::Uid.eq(uid.as_str()))
        .filter(user::Column::DeletedAt.is_null());
    match update.exec(db).await?.rows_affected {
        0 => Err(no_such_user(uid)),
        _ => Ok(()),
    }
}

/// Notes that a user is there, unless that was noted later than `before`.
///
/// # Errors
/// Those of the database.
pub async fn record_presence(
    db: &impl ConnectionTrait,
    app: AppId,
    id: UserId,
    now: Timestamp,
    before: Timestamp,
) -> Result<()> {
    let change = user::ActiveModel {
        last_active_at: Set(Some(now)),
        ..Default::default()
    };
    let due = Condition::any()
        .add(user::Column::LastActiveAt.is_null())
        .add(user::Column::LastActiveAt.lte(before));
    let update = user::Entity::update_many()
        .set(change)
        .filter(user::Column::AppId.eq(app))
        .filter(user::Column::Id.eq(id))
        .filter(user::Column::DeletedAt.is_null())
        .filter(due);
    update.exec(db).await?;
    Ok(())
}

/// The internal id behind a uid, deleted or not, for a cursor that outlives its row.
///
/// # Errors
/// Those of the database.
pub async fn find_user_id(db: &impl ConnectionTrait, app: AppId, uid: &Uid) -> Result<Option<UserId>> {
    let row = user::Entity::find()
        .filter(user::Column::AppId.eq(app))
        .filter(user::Column::Uid.eq(uid.as_str()))
        .one(db)
        .await?;
    Ok(row.map(|row| row.id))
}

/// The user that a uid names, unless they are deleted.
///
/// # Errors
/// Those of the database.
pub async fn find_live_user(db: &impl ConnectionTrait, app: AppId, uid: &Uid) -> Result<Option<UserId>> {
    let id = user::Entity::find()
        .select_only()
        .column(user::Column::Id)
        .filter(user::Column::AppId.eq(app))
        .filter(user::Column::Uid.eq(uid.as_str()))
        .filter(user::Column::DeletedAt.is_null());
    Ok(id.into_tuple().one(db).await?)
}

/// The uids behind the users of some items.
///
/// # Errors
/// Those of the database.
pub async fn find_uids(
    db: &impl ConnectionTrait,
    app: AppId,
    users: impl IntoIterator<Item = UserId>,
) -> Result<BTreeMap<UserId, Uid>> {
    let rows: Vec<(UserId, String)> = user::Entity::find()
        .select_only()
        .columns([user::Column::Id, user::Column::Uid])
        .filter(user::Column::AppId.eq(app))
        .filter(user::Column::Id.is_in(users))
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().map(|(id, uid)| (id, Uid::stored(uid))).collect())
}

/// Users that are not deleted.
///
/// # Errors
/// Those of the database.
pub async fn list_users(
    db: &impl ConnectionTrait,
    app: AppId,
    filter: &UserFilter,
    request: &PageRequest<UserSort>,
    now: Timestamp,
) -> Result<Page<User>> {
    let rows = list(
        db,
        matching_users((db.get_database_backend(), app), filter, now),
        request,
    )
    .await?;
    rows.try_map(|row| user_of(row, now))
}

/// The users that a filter lets through, in no order yet. Public so that a test can ask the databases how they find them.
#[must_use]
pub fn matching_users(
    (backend, app): (DatabaseBackend, AppId),
    filter: &UserFilter,
    now: Timestamp,
) -> Select<user::Entity> {
    let mut query = live_users(app).filter(tagged(backend, "users", &filter.tags, filter.tag_match));
    if let Some(search) = &filter.search {
        query = query.filter(user::Column::Id.in_subquery(found(app, search)));
    }
    if let Some(from) = filter.created_from {
        query = query.filter(user::Column::CreatedAt.gte(from));
    }
    if let Some(to) = filter.created_to {
        query = query.filter(user::Column::CreatedAt.lte(to));
    }
    if let Some(role) = &filter.role {
        query = query.filter(user::Column::Role.eq(role.as_str()));
        if *role != Role::default() {
            // As the index says it, which holds only the few who have another one.
            query = query.filter(Expr::cust("role <> 'default'"));
        }
    }
    let since = UserStatus::online_since(now);
    query = match filter.status {
        Some(UserStatus::Online) => query.filter(user::Column::LastActiveAt.gte(since)),
        Some(UserStatus::Offline) => query.filter(
            Condition::any()
                .add(user::Column::LastActiveAt.is_null())
                .add(user::Column::LastActiveAt.lt(since)),
        ),
        None => query,
    };
    match filter.state {
        UserState::Active => query.filter(user::Column::DeactivatedAt.is_null()),
        UserState::Deactivated => query.filter(user::Column::DeactivatedAt.is_not_null()),
        UserState::All => query,
    }
}

/// The ids of those whose uid or name begins with a text. Found by themselves and not by an OR, for which SQLite would read
/// all users of the app. Whoever is called by their uid is found by that, and stands in no index of names.
fn found(app: AppId, search: &str) -> SelectStatement {
    let folded = search.to_lowercase();
    let by = |column: user::Column| {
        // A range instead of LIKE: nothing in it is a wildcard, both databases compare by bytes, and an index fits.
        let to = format!("{folded}{}", char::MAX);
        let ids = user::Entity::find().select_only().column(user::Column::Id);
        ids.filter(user::Column::AppId.eq(app))
            .filter(column.gte(folded.as_str()))
            .filter(column.lt(to))
    };
    // As the index says it.
    let by_name = by(user::Column::NameFolded).filter(Expr::cust("name_folded <> uid"));
    let mut ids = by(user::Column::Uid).into_query();
    ids.union(UnionType::Distinct, by_name.into_query());
    ids
}

fn user_of(row: user::Model, now: Timestamp) -> Result<User> {
    Ok(User {
        id: row.id,
        uid: Uid::stored(row.uid),
        profile: Profile {
            name: Name::stored(row.name),
            avatar: row.avatar,
            link: row.link,
            role: Role::stored(row.role),
            status_message: row.status_message,
            metadata: row.metadata.read()?,
            tags: row.tags.read()?,
        },
        status: UserStatus::at(now, row.last_active_at),
        last_active_at: row.last_active_at,
        deactivated_at: row.deactivated_at,
        created_at: row.created_at,
        updated_at: row.updated_at,
        version: Version::from_number(row.version),
    })
}

/// What is read of a row to find out whether the user may be sent to.
#[derive(Deserialize, FromQueryResult)]
struct Found {
    uid: String,
    id: UserId,
    last_active_at: Option<i64>,
    deactivated_at: Option<i64>,
    deleted_at: Option<i64>,
}

impl Found {
    const FIELDS: [Field; 5] = [
        Field::Plain("uid"),
        Field::Id("id"),
        Field::Plain("last_active_at"),
        Field::Plain("deactivated_at"),
        Field::Plain("deleted_at"),
    ];
}

fn candidate_of(found: Found) -> Result<(Uid, Candidate)> {
    let candidate = Candidate {
        id: found.id,
        last_active_at: gather::time(found.last_active_at)?,
        deactivated_at: gather::time(found.deactivated_at)?,
        deleted_at: gather::time(found.deleted_at)?,
    };
    Ok((Uid::stored(found.uid), candidate))
}

fn row_of(app: AppId, user: &User) -> Result<user::Model> {
    let profile = &user.profile;
    Ok(user::Model {
        id: user.id,
        app_id: app,
        uid: user.uid.to_string(),
        name: profile.name.to_string(),
        name_folded: profile.name.folded(),
        avatar: profile.avatar.clone(),
        link: profile.link.clone(),
        role: profile.role.as_str().to_owned(),
        status_message: profile.status_message.clone(),
        metadata: Json::of(&profile.metadata)?,
        tags: Json::of(&profile.tags)?,
        last_active_at: user.last_active_at,
        deactivated_at: user.deactivated_at,
        deleted_at: None,
        created_at: user.created_at,
        updated_at: user.updated_at,
        version: user.version.number(),
        purged_at: None,
    })
}

fn live_users(app: AppId) -> Select<user::Entity> {
    user::Entity::find()
        .filter(user::Column::AppId.eq(app))
        .filter(user::Column::DeletedAt.is_null())
}

fn on_taken_uid() -> OnConflict {
    OnConflict::columns([user::Column::AppId, user::Column::Uid])
        .do_nothing()
        .to_owned()
}

fn no_such_user(uid: &Uid) -> Error {
    Error::not_found(Reason::UserNotFound, "uid", uid)
}
