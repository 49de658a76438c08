//! The items of feeds: which ones a feed shows, and how a row reads. It never changes an item that is there.

use std::collections::BTreeMap;

use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, Select};

use crate::model::feed::{FeedSort, ReadState, StoredItem};
use crate::model::id::{AppId, FeedItemId, UserId};
use crate::model::name::Name;
use crate::model::page::{Page, PageRequest};
use crate::model::template::DataType;
use crate::model::{Error, Result, Timestamp};
use crate::store::bulk;
use crate::store::entity::{feed_item, user};
use crate::store::list::{SortBy, list};
use crate::store::value::Json;

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
