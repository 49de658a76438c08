//! Feeds in the database: heads, which count, and items, which say.
//!
//! Whoever changes an item locks the head of its feed first, so the changes of one feed have an order, which is that of
//! `change_seq`, and two of them never wait for each other in a circle. The unread count moves only by items whose
//! `counted` flips in the same transaction.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseBackend, EntityTrait, FromQueryResult, QueryFilter, QuerySelect,
    Select, Set, Statement,
};

use super::bulk::{self, Rows};
use super::entity::{category, feed_head, feed_head_category as head_category, feed_item, template_version, user};
use super::list::{SortBy, list};
use super::notification::large;
use super::value::Json;
use crate::model::feed::{EXPIRED_MAX, FeedSort, ReadState, StoredItem};
use crate::model::id::{AppId, CategoryId, FeedItemId, TemplateId, TemplateVersionId, UserId};
use crate::model::name::Name;
use crate::model::page::{Page, PageRequest};
use crate::model::template::DataType;
use crate::model::template::TemplateChannel;
use crate::model::user::Uid;
use crate::model::{Error, Result, Timestamp};

/// The items that a feed shows: neither expired nor deleted, those of one user or of all that are not deleted.
#[must_use]
pub fn visible_items(
    app: AppId,
    of: Option<UserId>,
    read_state: ReadState,
    now: Timestamp,
) -> Select<feed_item::Entity> {
    let unexpired = feed_item::Column::ExpiresAt
        .is_null()
        .or(feed_item::Column::ExpiresAt.gt(now));
    let items = feed_item::Entity::find()
        .filter(feed_item::Column::AppId.eq(app))
        .filter(feed_item::Column::DeletedAt.is_null())
        .filter(unexpired);
    let items = match of {
        Some(user) => items.filter(feed_item::Column::UserId.eq(user)),
        None => items.filter(of_live_user()),
    };
    match read_state {
        ReadState::Read => items.filter(feed_item::Column::ReadAt.is_not_null()),
        ReadState::Unread => items.filter(feed_item::Column::ReadAt.is_null()),
        ReadState::All => items,
    }
}

fn of_live_user() -> Condition {
    let live = Query::select()
        .expr(Expr::value(1))
        .from(user::Entity)
        .and_where(Expr::col((user::Entity, user::Column::Id)).equals((feed_item::Entity, feed_item::Column::UserId)))
        .and_where(Expr::col((user::Entity, user::Column::DeletedAt)).is_null())
        .to_owned();
    Condition::all().add(Expr::exists(live))
}

impl SortBy<feed_item::Entity> for FeedSort {
    const ID: feed_item::Column = feed_item::Column::Id;

    fn column(self) -> feed_item::Column {
        match self {
            Self::SentAt => feed_item::Column::SentAt,
            Self::CreatedAt => feed_item::Column::CreatedAt,
        }
    }
}

/// One page of items.
///
/// # Errors
/// Those of the database, and internal when a row holds what this build does not know.
pub async fn list_items(
    db: &impl ConnectionTrait,
    items: Select<feed_item::Entity>,
    page: &PageRequest<FeedSort>,
) -> Result<Page<StoredItem>> {
    let found = list(db, items, page).await?;
    Ok(Page {
        rows: found.rows.into_iter().map(item_of).collect::<Result<_>>()?,
        next: found.next,
        previous: found.previous,
        total: found.total,
    })
}

/// An item that is not deleted, expired or not; of one user, or of any that is not deleted.
///
/// # Errors
/// Those of the database.
pub async fn find_item(
    db: &impl ConnectionTrait,
    app: AppId,
    of: Option<UserId>,
    id: FeedItemId,
) -> Result<Option<StoredItem>> {
    let item = feed_item::Entity::find()
        .filter(feed_item::Column::AppId.eq(app))
        .filter(feed_item::Column::Id.eq(id))
        .filter(feed_item::Column::DeletedAt.is_null());
    let item = match of {
        Some(user) => item.filter(feed_item::Column::UserId.eq(user)),
        None => item.filter(of_live_user()),
    };
    item.one(db).await?.map(item_of).transpose()
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

/// The category with a name.
///
/// # Errors
/// Those of the database.
pub async fn find_category_id(db: &impl ConnectionTrait, app: AppId, name: &str) -> Result<Option<CategoryId>> {
    let id = category::Entity::find()
        .select_only()
        .column(category::Column::Id)
        .filter(category::Column::AppId.eq(app))
        .filter(category::Column::Name.eq(name));
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

/// What rendering needs of a template version. It never changes once something was sent with it.
#[derive(Clone, Debug)]
pub struct SentVersion {
    /// The template.
    pub template_id: TemplateId,
    /// The number of the version.
    pub number: u32,
    /// Its content.
    pub channels: Vec<TemplateChannel>,
}

/// Template versions by id.
///
/// # Errors
/// Those of the database.
pub async fn find_versions(
    db: &impl ConnectionTrait,
    app: AppId,
    ids: impl IntoIterator<Item = TemplateVersionId>,
) -> Result<BTreeMap<TemplateVersionId, SentVersion>> {
    let rows = template_version::Entity::find()
        .filter(template_version::Column::AppId.eq(app))
        .filter(template_version::Column::Id.is_in(ids))
        .all(db)
        .await?;
    let versions = rows.into_iter().map(|row| {
        let version = SentVersion {
            template_id: row.template_id,
            number: large(row.number)?,
            channels: row.channels.read()?,
        };
        Ok((row.id, version))
    });
    versions.collect()
}

/// What a feed counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Unread {
    /// What the head says, of the category if one was named.
    counted: i64,
    /// Those of them that have expired and were not swept yet.
    expired: i64,
    /// All that have expired, up to one more than are subtracted.
    expired_of_all: i64,
}

impl Unread {
    /// The unread items, unless so many have expired that they have to be swept first.
    #[must_use]
    pub fn settled(&self) -> Option<u32> {
        let few = u64::try_from(self.expired_of_all).is_ok_and(|expired| expired <= EXPIRED_MAX);
        few.then(|| self.exact())
    }

    /// The unread items, when all that have expired were counted.
    #[must_use]
    pub fn exact(&self) -> u32 {
        // A count that is off must not take the feed down with it.
        u32::try_from(self.counted.saturating_sub(self.expired)).unwrap_or_default()
    }
}

/// Counts a user's unread items, of one category or of all.
///
/// # Errors
/// Those of the database.
pub async fn count_unread(
    db: &impl ConnectionTrait,
    (app, user): (AppId, UserId),
    category: Option<CategoryId>,
    now: Timestamp,
    expired: Expired,
) -> Result<Unread> {
    let statement = unread_statement(db.get_database_backend(), (app, user), category, now, expired);
    let counted = Unread::find_by_statement(statement).one(db).await?;
    counted.ok_or_else(|| Error::internal("a count answered no row"))
}

/// How many expired items a count looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// One more than [`EXPIRED_MAX`] at most, which is enough to see that there are too many.
    Few,
    /// All of them.
    All,
}

/// The statement of [`count_unread`]. It is one, so that head and items are of one moment. Its predicate on expiring items
/// is spelled as that of their partial index, in literals: with a bind the planner could not know that the index covers it.
#[must_use]
pub fn unread_statement(
    backend: DatabaseBackend,
    (app, user): (AppId, UserId),
    category: Option<CategoryId>,
    now: Timestamp,
    expired: Expired,
) -> Statement {
    let (head, of_category) = match category {
        Some(_) => (
            "feed_head_categories WHERE app_id = $1 AND user_id = $2 AND category_id = $4",
            "FILTER (WHERE filterable AND category_id = $4)",
        ),
        None => ("feed_heads WHERE app_id = $1 AND user_id = $2", ""),
    };
    let limit = match expired {
        Expired::Few => format!(" LIMIT {}", EXPIRED_MAX.saturating_add(1)),
        Expired::All => String::new(),
    };
    let sql = format!(
        "SELECT CAST(COALESCE((SELECT unread FROM {head}), 0) AS BIGINT) AS counted, \
         COUNT(*) {of_category} AS expired, COUNT(*) AS expired_of_all \
         FROM (SELECT category_id, filterable FROM feed_items \
         WHERE app_id = $1 AND user_id = $2 AND counted AND expires_at IS NOT NULL AND expires_at <= $3{limit}) \
         AS expired_items"
    );
    let mut values: Vec<sea_orm::Value> = vec![app.into(), user.into(), now.into()];
    values.extend(category.map(sea_orm::Value::from));
    Statement::from_sql_and_values(backend, sql, values)
}

/// The last number of a user's feed, whose row stays locked until the transaction ends. There is none before the first
/// item.
///
/// # Errors
/// Those of the database.
pub async fn find_head_locked(db: &impl ConnectionTrait, app: AppId, user: UserId) -> Result<Option<i64>> {
    let seq = feed_head::Entity::find()
        .select_only()
        .column(feed_head::Column::Seq)
        .filter(feed_head::Column::AppId.eq(app))
        .filter(feed_head::Column::UserId.eq(user))
        .lock_exclusive()
        .into_tuple()
        .one(db)
        .await?;
    Ok(seq)
}

/// Moves the heads of some users' feeds on by one unread item each, in the order of the users, and gives the number that
/// each item gets. A feed begins with its first item.
///
/// # Errors
/// Those of the database.
pub async fn advance_heads(
    db: &impl ConnectionTrait,
    app: AppId,
    users: &BTreeSet<UserId>,
) -> Result<BTreeMap<UserId, i64>> {
    let rows = Rows::new(db).column("user_id", users.iter().copied());
    let (source, app_id) = (rows.table("new_items")?, rows.parameter(0));
    let sql = format!(
        "INSERT INTO feed_heads (app_id, user_id, seq, unread, purged_seq) \
         SELECT {app_id}, user_id, 1, 1, 0 FROM {source} WHERE TRUE ORDER BY user_id \
         ON CONFLICT (app_id, user_id) DO UPDATE SET seq = feed_heads.seq + 1, unread = feed_heads.unread + 1 \
         RETURNING user_id, seq"
    );
    let heads = db.query_all_raw(rows.statement(sql, [app.into()])?).await?;
    let seqs = heads
        .iter()
        .map(|head| Ok((head.try_get("", "user_id")?, head.try_get("", "seq")?)));
    seqs.collect()
}

/// Moves the unread counts of a category on by one for each of some users, whose heads are locked.
///
/// # Errors
/// Those of the database.
pub async fn advance_categories(
    db: &impl ConnectionTrait,
    app: AppId,
    category: CategoryId,
    users: &BTreeSet<UserId>,
) -> Result<()> {
    let rows = Rows::new(db).column("user_id", users.iter().copied());
    let (source, app_id, category_id) = (rows.table("new_items")?, rows.parameter(0), rows.parameter(1));
    let sql = format!(
        "INSERT INTO feed_head_categories (app_id, user_id, category_id, unread) \
         SELECT {app_id}, user_id, {category_id}, 1 FROM {source} WHERE TRUE ORDER BY user_id \
         ON CONFLICT (app_id, user_id, category_id) DO UPDATE SET unread = feed_head_categories.unread + 1"
    );
    db.execute_raw(rows.statement(sql, [app.into(), category.into()])?)
        .await?;
    Ok(())
}

/// Puts items into feeds, with the numbers that their heads gave.
///
/// # Errors
/// Those of the database.
pub async fn insert_items(
    db: &impl ConnectionTrait,
    app: AppId,
    items: &[StoredItem],
    seqs: &BTreeMap<UserId, i64>,
) -> Result<()> {
    let rows = items.iter().map(|item| {
        let seq = seqs.get(&item.user).copied();
        row_of(
            app,
            item,
            seq.ok_or_else(|| Error::internal("a feed head gave no number"))?,
        )
    });
    bulk::insert_all::<feed_item::Entity>(db, &rows.collect::<Result<Vec<_>>>()?).await
}

/// Writes down that an unread item was read. The head is locked by the caller and stands at `head`; `before` was read
/// since.
///
/// # Errors
/// Those of the database.
pub async fn record_read(
    db: &impl ConnectionTrait,
    app: AppId,
    before: &StoredItem,
    read: &StoredItem,
    head: i64,
) -> Result<()> {
    let seq = head.saturating_add(1);
    let change = feed_item::ActiveModel {
        read_at: Set(read.read_at),
        delivered_at: Set(read.delivered_at),
        counted: Set(read.counted),
        change_seq: Set(seq),
        ..Default::default()
    };
    feed_item::Entity::update_many()
        .set(change)
        .filter(feed_item::Column::AppId.eq(app))
        .filter(feed_item::Column::Id.eq(read.id))
        .exec(db)
        .await?;
    let gone = i32::from(before.counted && !read.counted);
    move_head(db, app, read.user, seq, gone).await?;
    match read.category_id.filter(|_| read.filterable) {
        Some(category) => move_category(db, app, read.user, category, gone).await,
        None => Ok(()),
    }
}

/// Takes up to [`EXPIRED_MAX`] expired items of a user out of the count, and gives each the next number of the feed. The
/// head is locked by the caller and stands at `head`.
///
/// # Errors
/// Those of the database.
pub async fn sweep_expired(
    db: &impl ConnectionTrait,
    app: AppId,
    user: UserId,
    head: i64,
    now: Timestamp,
) -> Result<()> {
    #[derive(FromQueryResult)]
    struct Swept {
        category_id: Option<CategoryId>,
        filterable: bool,
    }
    let sql = format!(
        "WITH gone AS (SELECT id, ROW_NUMBER() OVER (ORDER BY expires_at, id) AS place FROM feed_items \
         WHERE app_id = $1 AND user_id = $2 AND counted AND expires_at IS NOT NULL AND expires_at <= $3 \
         ORDER BY expires_at, id LIMIT {EXPIRED_MAX}) \
         UPDATE feed_items SET counted = FALSE, change_seq = $4 + gone.place FROM gone WHERE feed_items.id = gone.id \
         RETURNING category_id, filterable"
    );
    let values: [sea_orm::Value; 4] = [app.into(), user.into(), now.into(), head.into()];
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let swept = Swept::find_by_statement(statement).all(db).await?;
    let gone = i32::try_from(swept.len()).map_err(Error::internal)?;
    move_head(db, app, user, head.saturating_add(gone.into()), gone).await?;
    let mut categories: BTreeMap<CategoryId, i32> = BTreeMap::new();
    for category in swept
        .iter()
        .filter(|item| item.filterable)
        .filter_map(|item| item.category_id)
    {
        let gone = categories.entry(category).or_default();
        *gone = gone.saturating_add(1);
    }
    for (category, gone) in categories {
        move_category(db, app, user, category, gone).await?;
    }
    Ok(())
}

async fn move_head(db: &impl ConnectionTrait, app: AppId, user: UserId, seq: i64, gone: i32) -> Result<()> {
    feed_head::Entity::update_many()
        .col_expr(feed_head::Column::Seq, Expr::value(seq))
        .col_expr(
            feed_head::Column::Unread,
            Expr::col(feed_head::Column::Unread).sub(gone),
        )
        .filter(feed_head::Column::AppId.eq(app))
        .filter(feed_head::Column::UserId.eq(user))
        .exec(db)
        .await?;
    Ok(())
}

async fn move_category(
    db: &impl ConnectionTrait,
    app: AppId,
    user: UserId,
    category: CategoryId,
    gone: i32,
) -> Result<()> {
    head_category::Entity::update_many()
        .col_expr(
            head_category::Column::Unread,
            Expr::col(head_category::Column::Unread).sub(gone),
        )
        .filter(head_category::Column::AppId.eq(app))
        .filter(head_category::Column::UserId.eq(user))
        .filter(head_category::Column::CategoryId.eq(category))
        .exec(db)
        .await?;
    Ok(())
}

/// A new item's row. Its change number is its own number until it changes.
fn row_of(app: AppId, item: &StoredItem, seq: i64) -> Result<feed_item::Model> {
    Ok(feed_item::Model {
        id: item.id,
        app_id: app,
        user_id: item.user,
        notification_id: item.notification_id,
        delivery_id: item.id.uuid().into(),
        template_version_id: item.version_id,
        channel_id: item.channel_id,
        seq,
        change_seq: seq,
        category_id: item.category_id,
        category_name: item.category_name.as_ref().map(ToString::to_string),
        filterable: item.filterable,
        label: item.label.clone(),
        alternative_text: item.alternative_text.clone(),
        tags: Json::of(&item.tags)?,
        data_type: item.data_type.number(),
        variables: Json::of(&item.variables)?,
        counted: item.counted,
        sent_at: item.sent_at,
        delivered_at: item.delivered_at,
        read_at: item.read_at,
        interacted_at: None,
        expires_at: item.expires_at,
        deleted_at: None,
        created_at: item.created_at,
    })
}

fn item_of(row: feed_item::Model) -> Result<StoredItem> {
    Ok(StoredItem {
        id: row.id,
        user: row.user_id,
        notification_id: row.notification_id,
        version_id: row.template_version_id,
        channel_id: row.channel_id,
        category_id: row.category_id,
        category_name: row.category_name.map(Name::stored),
        filterable: row.filterable,
        label: row.label,
        alternative_text: row.alternative_text,
        tags: row.tags.read()?,
        data_type: DataType::of_number(row.data_type),
        variables: row.variables.read()?,
        counted: row.counted,
        sent_at: row.sent_at,
        delivered_at: row.delivered_at,
        read_at: row.read_at,
        expires_at: row.expires_at,
        created_at: row.created_at,
    })
}
