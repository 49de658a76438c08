//! Changes of items: each gets the next number of its feed, and the head moves with it. Which changes there are is the
//! model's; the caller holds the locks of the heads.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect, Select};
use serde::Deserialize;

use super::head::{Moves, move_heads};
use super::tally::Tally;
use crate::model::feed::{Engagement, ItemState, Topic};
use crate::model::id::{AppId, CategoryId, DeliveryId, FeedItemId, NotificationId, UserId};
use crate::model::template::course::Marks;
use crate::model::{Error, Result, Timestamp};
use crate::store::bulk::{self, Rows};
use crate::store::entity::{feed_item, feed_item_engagement as engagement};
use crate::store::gather::{self, Field};

/// A feed item as far as its feed's numbers depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemLine {
    /// Its id.
    pub id: FeedItemId,
    /// Whose feed it is in.
    pub user: UserId,
    /// What it was sent with.
    pub notification: NotificationId,
    /// The category whose count has it, if one has.
    pub category: Option<CategoryId>,
    /// When it leaves the feed.
    pub expires_at: Option<Timestamp>,
    /// What became of it since it was sent.
    pub state: ItemState,
}

#[derive(Deserialize, FromQueryResult)]
struct Line {
    id: FeedItemId,
    user_id: UserId,
    notification_id: NotificationId,
    category_id: Option<CategoryId>,
    filterable: bool,
    expires_at: Option<i64>,
    counted: bool,
    delivered_at: Option<i64>,
    read_at: Option<i64>,
    interacted_at: Option<i64>,
    deleted_at: Option<i64>,
}

/// What a [`Line`] takes.
const COLUMNS: [feed_item::Column; 11] = {
    use feed_item::Column;
    [
        Column::Id,
        Column::UserId,
        Column::NotificationId,
        Column::CategoryId,
        Column::Filterable,
        Column::ExpiresAt,
        Column::Counted,
        Column::DeliveredAt,
        Column::ReadAt,
        Column::InteractedAt,
        Column::DeletedAt,
    ]
};

/// The same, in its order.
const FIELDS: [Field; 11] = [
    Field::Id("id"),
    Field::Id("user_id"),
    Field::Id("notification_id"),
    Field::Id("category_id"),
    Field::Flag("filterable"),
    Field::Plain("expires_at"),
    Field::Flag("counted"),
    Field::Plain("delivered_at"),
    Field::Plain("read_at"),
    Field::Plain("interacted_at"),
    Field::Plain("deleted_at"),
];

fn line_of(line: &Line) -> Result<ItemLine> {
    Ok(ItemLine {
        id: line.id,
        user: line.user_id,
        notification: line.notification_id,
        category: line.category_id.filter(|_| line.filterable),
        expires_at: gather::time(line.expires_at)?,
        state: ItemState {
            counted: line.counted,
            delivered_at: gather::time(line.delivered_at)?,
            read_at: gather::time(line.read_at)?,
            interacted_at: gather::time(line.interacted_at)?,
            deleted_at: gather::time(line.deleted_at)?,
        },
    })
}

/// What happened to some items, whatever became of them since, by the delivery that each came with.
///
/// # Errors
/// Those of the database.
pub async fn find_marks(
    db: &impl ConnectionTrait,
    app: AppId,
    ids: &[FeedItemId],
) -> Result<BTreeMap<DeliveryId, Marks>> {
    let items = of_app(app).filter(feed_item::Column::Id.is_in(ids.iter().copied()));
    let lines = slim(items).all(db).await?;
    let marks = lines.into_iter().map(|line| {
        let marks = Marks {
            delivered_at: line.state.delivered_at,
            read_at: line.state.read_at,
            engaged_at: line.state.interacted_at,
            clicked_at: None,
        };
        (DeliveryId::from(line.id.uuid()), marks)
    });
    Ok(marks.collect())
}

/// Those of some items that are there and not deleted, whoever's they are.
///
/// # Errors
/// Those of the database.
pub async fn find_lines(db: &impl ConnectionTrait, app: AppId, ids: &[FeedItemId]) -> Result<Vec<ItemLine>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let given = Rows::new(db).column("id", ids.iter().copied());
    let rest = format!(
        "{} {} feed_items i ON i.id = r.id WHERE i.app_id = {} AND i.deleted_at IS NULL",
        given.table("r")?,
        given.join(),
        given.parameter(0),
    );
    let from = gather::Source {
        table: "i",
        rest: &rest,
        postgres: "",
    };
    let sql = gather::select(db.get_database_backend(), &FIELDS, &from);
    let lines: Vec<Line> = gather::rows(db, given.statement(sql, [app.into()])?).await?;
    lines.iter().map(line_of).collect()
}

/// An item of any state, deleted ones too; of one user or of any.
///
/// # Errors
/// Those of the database.
pub async fn find_line(
    db: &impl ConnectionTrait,
    app: AppId,
    of: Option<UserId>,
    id: FeedItemId,
) -> Result<Option<ItemLine>> {
    let mut items = of_app(app).filter(feed_item::Column::Id.eq(id));
    if let Some(user) = of {
        items = items.filter(feed_item::Column::UserId.eq(user));
    }
    Ok(slim(items).all(db).await?.pop())
}

fn of_app(app: AppId) -> Select<feed_item::Entity> {
    feed_item::Entity::find().filter(feed_item::Column::AppId.eq(app))
}

/// The lines of some items.
pub(super) fn slim(items: Select<feed_item::Entity>) -> Lines {
    Lines(items.select_only().columns(COLUMNS))
}

pub(super) struct Lines(Select<feed_item::Entity>);

impl Lines {
    pub(super) async fn all(self, db: &impl ConnectionTrait) -> Result<Vec<ItemLine>> {
        let lines = self.0.into_model::<Line>().all(db).await?;
        lines.iter().map(line_of).collect()
    }
}

/// Writes down what became of some items of some feeds, whose heads are locked and stand where `heads` says, which then
/// says where they stand after it. The changes of one feed are numbered in the order in which they are given. `engaged`
/// is what users did with items, each topic of an item once; those items are among the changes.
///
/// # Errors
/// Those of the database.
pub async fn record_changes(
    db: &impl ConnectionTrait,
    app: AppId,
    heads: &mut BTreeMap<UserId, i64>,
    changes: &[(ItemLine, ItemState)],
    engaged: &[(FeedItemId, Engagement)],
) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    insert_engagements(db, app, engaged).await?;
    let clicks = engaged
        .iter()
        .filter(|(_, engaged)| engaged.topic.as_str() == Topic::CLICKED);
    let clicked: BTreeSet<_> = clicks.map(|(item, _)| *item).collect();
    let (mut moves, mut tally) = (Moves::default(), Tally::default());
    let mut seqs = Vec::with_capacity(changes.len());
    for (item, after) in changes {
        let head = heads
            .get_mut(&item.user)
            .ok_or_else(|| Error::internal("a feed item changes without its head"))?;
        *head = head.saturating_add(1);
        seqs.push(*head);
        moves.change(item.user);
        tally.change(item, after);
        if clicked.contains(&item.id) {
            tally.click(item.notification);
        }
        if item.state.counted && !after.counted {
            moves.uncount(item.user, item.category);
        }
    }
    type Change = (ItemLine, ItemState);
    let rows = Rows::new(db)
        .column("id", changes.iter().map(|(item, _)| item.id))
        .column("change_seq", seqs)
        .of_each(
            "counted",
            changes,
            |change: &Change| &change.1.counted,
            |flag| Ok(*flag),
        )?
        .of_each("delivered_at", changes, |change| &change.1.delivered_at, |at| Ok(*at))?
        .of_each("read_at", changes, |change| &change.1.read_at, |at| Ok(*at))?
        .of_each("interacted_at", changes, |change| &change.1.interacted_at, |at| Ok(*at))?
        .of_each("deleted_at", changes, |change| &change.1.deleted_at, |at| Ok(*at))?;
    let sql = format!(
        "UPDATE feed_items SET change_seq = r.change_seq, counted = r.counted, delivered_at = r.delivered_at, \
         read_at = r.read_at, interacted_at = r.interacted_at, deleted_at = r.deleted_at \
         FROM {} WHERE feed_items.app_id = {} AND feed_items.id = r.id",
        rows.table("r")?,
        rows.parameter(0),
    );
    db.execute_raw(rows.statement(sql, [app.into()])?).await?;
    move_heads(db, app, &moves).await?;
    tally.record(db, app).await
}

async fn insert_engagements(db: &impl ConnectionTrait, app: AppId, engaged: &[(FeedItemId, Engagement)]) -> Result<()> {
    if engaged.is_empty() {
        return Ok(());
    }
    let rows = engaged.iter().map(|(item, engaged)| engagement::Model {
        app_id: app,
        feed_item_id: *item,
        topic: engaged.topic.to_string(),
        engaged_at: engaged.engaged_at,
    });
    bulk::insert_all::<engagement::Entity>(db, &rows.collect::<Vec<_>>()).await
}
