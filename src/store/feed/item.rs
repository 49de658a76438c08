//! The items of feeds: which ones a list holds, and how a row reads. It never changes an item that is there.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseBackend, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    Select,
};

use crate::model::feed::{Engagement, FeedSort, ItemState, ReadState, StoredItem, Topic};
use crate::model::id::{AppId, CategoryId, ChannelId, FeedItemId, UserId};
use crate::model::name::Name;
use crate::model::page::{Page, PageRequest};
use crate::model::tag::TagMatch;
use crate::model::template::DataType;
use crate::model::{Result, Timestamp};
use crate::store::bulk::{self, Rows};
use crate::store::entity::{feed_item, feed_item_engagement as engagement, user};
use crate::store::list::{SortBy, list};
use crate::store::tag::tagged;
use crate::store::value::Json;

/// Which items a list holds, with every name resolved.
#[derive(Clone, Debug)]
pub struct ItemFilter {
    /// Of one user, or of all that are not deleted.
    pub user: Option<UserId>,
    /// By whether they were read.
    pub read_state: ReadState,
    /// Sent then or later.
    pub sent_from: Option<Timestamp>,
    /// Sent then or earlier.
    pub sent_to: Option<Timestamp>,
    /// With these tags; empty: whatever the tags.
    pub tags: Vec<String>,
    /// How several tags match.
    pub tag_match: TagMatch,
    /// Of this category, where filters by category find the item.
    pub category: Option<CategoryId>,
    /// Through this channel.
    pub channel: Option<ChannelId>,
    /// Also those that were deleted.
    pub with_deleted: bool,
    /// Also those that have expired.
    pub with_expired: bool,
    /// By what has expired.
    pub now: Timestamp,
}

/// The items that pass a filter.
///
/// The unread items of one feed have an index of their own, which holds what the head counts; the filter says it in the
/// words of that index, without a bind, or the databases could not know. Items that have expired and were not swept are
/// counted, and left out by their instant like elsewhere.
#[must_use]
pub fn matching_items(backend: DatabaseBackend, app: AppId, filter: &ItemFilter) -> Select<feed_item::Entity> {
    use feed_item::Column;
    let mut all = Condition::all().add(Column::AppId.eq(app));
    all = match filter.user {
        Some(user) => all.add(Column::UserId.eq(user)),
        None => all.add(of_whole_app()).add(of_live_user()),
    };
    let unseen = filter.with_deleted || filter.with_expired;
    all = match filter.read_state {
        ReadState::Read => all.add(Column::ReadAt.is_not_null()),
        ReadState::Unread if unseen => all.add(Column::ReadAt.is_null()),
        ReadState::Unread => all.add(Expr::col((feed_item::Entity, Column::Counted))),
        ReadState::All => all,
    };
    if !filter.with_deleted {
        all = all.add(Column::DeletedAt.is_null());
    }
    if !filter.with_expired {
        all = all.add(Column::ExpiresAt.is_null().or(Column::ExpiresAt.gt(filter.now)));
    }
    all = all
        .add_option(filter.sent_from.map(|from| Column::SentAt.gte(from)))
        .add_option(filter.sent_to.map(|to| Column::SentAt.lte(to)))
        .add_option(filter.channel.map(|channel| Column::ChannelId.eq(channel)));
    if let Some(category) = filter.category {
        all = all
            .add(Expr::col((feed_item::Entity, Column::Filterable)))
            .add(Column::CategoryId.eq(category));
    }
    // Tags have no index: each would be one more row per item and tag in every fan-out, for a filter that narrows a feed of
    // some hundred items.
    feed_item::Entity::find().filter(all.add(tagged(backend, "feed_items", &filter.tags, filter.tag_match)))
}

/// What says that a query is about a whole app, and takes the index for that: it holds for every item. A literal, like all
/// predicates of indexes, and on a column that nobody filters by, so that no filter implies it.
pub(super) fn of_whole_app() -> Expr {
    Expr::cust("\"feed_items\".\"created_at\" > 0")
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

    /// An item is created by being sent, so both orders are one, and one index serves them.
    fn column(self) -> feed_item::Column {
        match self {
            Self::SentAt | Self::CreatedAt => feed_item::Column::SentAt,
        }
    }
}

/// One page of the items that pass a filter.
///
/// # Errors
/// Those of the database, and internal when a row holds what this build does not know.
pub async fn list_items(
    db: &impl ConnectionTrait,
    app: AppId,
    filter: &ItemFilter,
    page: &PageRequest<FeedSort>,
) -> Result<Page<StoredItem>> {
    let items = matching_items(db.get_database_backend(), app, filter);
    let mut page = list(db, items, page).await?.try_map(item_of)?;
    add_engagements(db, app, &mut page.rows).await?;
    Ok(page)
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
    let Some(row) = item.one(db).await? else {
        return Ok(None);
    };
    let mut found = [item_of(row)?];
    add_engagements(db, app, &mut found).await?;
    let [item] = found;
    Ok(Some(item))
}

/// Those of some items that are not deleted, whoever's they are, expired or not.
///
/// # Errors
/// Those of the database.
pub async fn find_items(
    db: &impl ConnectionTrait,
    app: AppId,
    ids: &BTreeSet<FeedItemId>,
) -> Result<BTreeMap<FeedItemId, StoredItem>> {
    let rows = bulk::Rows::new(db).column("id", ids.iter().copied());
    let sql = format!(
        "SELECT feed_items.* FROM {} {} feed_items ON feed_items.id = r.id \
         WHERE feed_items.app_id = {} AND feed_items.deleted_at IS NULL",
        rows.table("r")?,
        rows.join(),
        rows.parameter(0),
    );
    let found = db.query_all_raw(rows.statement(sql, [app.into()])?).await?;
    let found = found
        .iter()
        .map(|row| item_of(feed_item::Model::from_query_result(row, "")?));
    let mut items = found.collect::<Result<Vec<_>>>()?;
    add_engagements(db, app, &mut items).await?;
    Ok(items.into_iter().map(|item| (item.id, item)).collect())
}

/// Completes items with what their users did with them. Most items have nothing of it, and cost nothing here.
async fn add_engagements(db: &impl ConnectionTrait, app: AppId, items: &mut [StoredItem]) -> Result<()> {
    let engaged = items.iter().filter(|item| item.state.interacted_at.is_some());
    let ids: Vec<FeedItemId> = engaged.map(|item| item.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let rows = engagement::Entity::find()
        .filter(engagement::Column::AppId.eq(app))
        .filter(engagement::Column::FeedItemId.is_in(ids))
        .order_by_asc(engagement::Column::Topic)
        .all(db)
        .await?;
    let mut of_item: BTreeMap<FeedItemId, Vec<Engagement>> = BTreeMap::new();
    for row in rows {
        of_item.entry(row.feed_item_id).or_default().push(Engagement {
            topic: Topic::stored(row.topic),
            engaged_at: row.engaged_at,
        });
    }
    for item in items {
        item.engagements = of_item.remove(&item.id).unwrap_or_default();
    }
    Ok(())
}

/// Puts items into feeds, each with the number that its head gave.
///
/// # Errors
/// Those of the database.
pub async fn insert_items(db: &impl ConnectionTrait, app: AppId, items: &[(StoredItem, i64)]) -> Result<()> {
    type New = (StoredItem, i64);
    let rows = Rows::new(db)
        .of_each("id", items, |new: &New| &new.0.id, |id| Ok(*id))?
        .same("app_id", app)
        .of_each("user_id", items, |new| &new.0.user, |user| Ok(*user))?
        .of_each("notification_id", items, |new| &new.0.notification_id, |id| Ok(*id))?
        .of_each("delivery_id", items, |new| &new.0.id, |id| Ok(id.uuid()))?
        .of_each("template_version_id", items, |new| &new.0.version_id, |id| Ok(*id))?
        .of_each("channel_id", items, |new| &new.0.channel_id, |id| Ok(*id))?
        .of_each("seq", items, |new| &new.1, |seq| Ok(*seq))?
        // A new item's change number is its own number until it changes.
        .of_each("change_seq", items, |new| &new.1, |seq| Ok(*seq))?
        .of_each("category_id", items, |new| &new.0.category_id, |id| Ok(*id))?
        .of_each("category_name", items, |new| &new.0.category_name, |name| Ok(text(name)))?
        .of_each("filterable", items, |new| &new.0.filterable, |flag| Ok(*flag))?
        .of_each("label", items, |new| &new.0.label, |label| Ok(label.clone()))?
        .of_each("alternative_text", items, |new| &new.0.alternative_text, |text| Ok(text.clone()))?
        .of_each("tags", items, |new| &new.0.tags, Json::of)?
        .of_each("data_type", items, |new| &new.0.data_type, |kind| Ok(kind.number()))?
        .of_each("variables", items, |new| &new.0.variables, Json::of)?
        .of_each("counted", items, |new| &new.0.state.counted, |flag| Ok(*flag))?
        .of_each("sent_at", items, |new| &new.0.sent_at, |at| Ok(*at))?
        .of_each("delivered_at", items, |new| &new.0.state.delivered_at, |at| Ok(*at))?
        .of_each("read_at", items, |new| &new.0.state.read_at, |at| Ok(*at))?
        .of_each("interacted_at", items, |new| &new.0.state.interacted_at, |at| Ok(*at))?
        .of_each("expires_at", items, |new| &new.0.expires_at, |at| Ok(*at))?
        .of_each("deleted_at", items, |new| &new.0.state.deleted_at, |at| Ok(*at))?
        .of_each("created_at", items, |new| &new.0.sent_at, |at| Ok(*at))?;
    bulk::insert_rows::<feed_item::Entity>(db, rows).await
}

fn text(name: &Option<Name>) -> Option<String> {
    name.as_ref().map(ToString::to_string)
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
        sent_at: row.sent_at,
        expires_at: row.expires_at,
        state: ItemState {
            counted: row.counted,
            delivered_at: row.delivered_at,
            read_at: row.read_at,
            interacted_at: row.interacted_at,
            deleted_at: row.deleted_at,
        },
        engagements: Vec::new(),
    })
}
