//! The heads of feeds: the last number given, and the unread counts, of all and by category. Whoever moves one holds its
//! lock; why it moves is not decided here.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait, DatabaseBackend, FromQueryResult};
use serde::Deserialize;

use crate::model::Result;
use crate::model::id::{AppId, CategoryId, UserId};
use crate::store::bulk::Rows;
use crate::store::gather::{self, Field};

/// Rows that SQLite answers a write with at most. Looking more of them up in one go costs less than handing each over.
const RETURNED_MAX: usize = 8;

/// The last numbers of some users' feeds, whose rows stay locked until the transaction ends. A user without items has
/// none. They are locked in the order of the users, as every send locks them, so that nobody waits in a circle.
///
/// # Errors
/// Those of the database.
pub async fn lock_heads(
    db: &impl ConnectionTrait,
    app: AppId,
    users: &BTreeSet<UserId>,
) -> Result<BTreeMap<UserId, i64>> {
    let rows = Rows::new(db).column("user_id", users.iter().copied());
    let lock = match db.get_database_backend() {
        DatabaseBackend::Postgres => " FOR UPDATE OF feed_heads",
        _ => "",
    };
    let sql = format!(
        "SELECT feed_heads.user_id AS user_id, feed_heads.seq AS seq FROM feed_heads WHERE feed_heads.app_id = {} \
         AND feed_heads.user_id IN (SELECT r.user_id FROM {}) ORDER BY feed_heads.user_id{lock}",
        rows.parameter(0),
        rows.table("r")?,
    );
    let heads = db.query_all_raw(rows.statement(sql, [app.into()])?).await?;
    let seqs = heads
        .iter()
        .map(|head| Ok((head.try_get("", "user_id")?, head.try_get("", "seq")?)));
    seqs.collect()
}

/// The last number of a user's feed, whose row stays locked until the transaction ends. There is none before the first
/// item.
///
/// # Errors
/// Those of the database.
pub async fn lock_head(db: &impl ConnectionTrait, app: AppId, user: UserId) -> Result<Option<i64>> {
    Ok(lock_heads(db, app, &BTreeSet::from([user])).await?.remove(&user))
}

/// Moves the heads of some users' feeds on by so many unread items each, in the order of the users, and gives the number of
/// each one's last item. A feed begins with its first item.
///
/// # Errors
/// Those of the database.
pub async fn advance_heads(
    db: &impl ConnectionTrait,
    app: AppId,
    items: &BTreeMap<UserId, i32>,
) -> Result<BTreeMap<UserId, i64>> {
    let rows = Rows::new(db)
        .column("user_id", items.keys().copied())
        .column("items", items.values().copied());
    let (source, app_id) = (rows.table("new_items")?, rows.parameter(0));
    let upsert = format!(
        "INSERT INTO feed_heads (app_id, user_id, seq, unread, purged_seq) \
         SELECT {app_id}, user_id, items, items, 0 FROM {source} WHERE TRUE ORDER BY user_id \
         ON CONFLICT (app_id, user_id) DO UPDATE SET seq = feed_heads.seq + excluded.seq, \
         unread = feed_heads.unread + excluded.unread"
    );
    if db.get_database_backend() == DatabaseBackend::Sqlite && items.len() > RETURNED_MAX {
        db.execute_raw(rows.statement(upsert, [app.into()])?).await?;
        return last_numbers(db, app, items.keys().copied()).await;
    }
    let sql = format!("{upsert} RETURNING user_id, seq");
    let heads = db.query_all_raw(rows.statement(sql, [app.into()])?).await?;
    let seqs = heads
        .iter()
        .map(|head| Ok((head.try_get("", "user_id")?, head.try_get("", "seq")?)));
    seqs.collect()
}

/// The last numbers of feeds whose heads exist.
async fn last_numbers(
    db: &impl ConnectionTrait,
    app: AppId,
    users: impl Iterator<Item = UserId> + Send,
) -> Result<BTreeMap<UserId, i64>> {
    #[derive(Deserialize, FromQueryResult)]
    struct Head {
        user_id: UserId,
        seq: i64,
    }
    let given = Rows::new(db).column("user_id", users);
    let rest = format!(
        "{} {} feed_heads h ON h.app_id = {} AND h.user_id = r.user_id",
        given.table("r")?,
        given.join(),
        given.parameter(0),
    );
    let from = gather::Source {
        table: "h",
        rest: &rest,
        postgres: "",
    };
    let fields = [Field::Id("user_id"), Field::Plain("seq")];
    let sql = gather::select(db.get_database_backend(), &fields, &from);
    let heads: Vec<Head> = gather::rows(db, given.statement(sql, [app.into()])?).await?;
    Ok(heads.into_iter().map(|head| (head.user_id, head.seq)).collect())
}

/// Moves the unread counts of some users' categories on by so many, whose heads are locked.
///
/// # Errors
/// Those of the database.
pub async fn advance_categories(
    db: &impl ConnectionTrait,
    app: AppId,
    items: &BTreeMap<(UserId, CategoryId), i32>,
) -> Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    let rows = Rows::new(db)
        .column("user_id", items.keys().map(|(user, _)| *user))
        .column("category_id", items.keys().map(|(_, category)| *category))
        .column("items", items.values().copied());
    let (source, app_id) = (rows.table("new_items")?, rows.parameter(0));
    let sql = format!(
        "INSERT INTO feed_head_categories (app_id, user_id, category_id, unread) \
         SELECT {app_id}, user_id, category_id, items FROM {source} WHERE TRUE ORDER BY user_id, category_id \
         ON CONFLICT (app_id, user_id, category_id) \
         DO UPDATE SET unread = feed_head_categories.unread + excluded.unread"
    );
    db.execute_raw(rows.statement(sql, [app.into()])?).await?;
    Ok(())
}

/// How the heads of some feeds move.
#[derive(Debug, Default)]
pub(super) struct Moves {
    heads: BTreeMap<UserId, HeadMove>,
    categories: BTreeMap<(UserId, CategoryId), i32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct HeadMove {
    changes: i64,
    gone: i32,
    purged_seq: i64,
}

impl Moves {
    /// One more change in a feed.
    pub(super) fn change(&mut self, user: UserId) {
        let head = self.heads.entry(user).or_default();
        head.changes = head.changes.saturating_add(1);
    }

    /// One unread item less in a feed, and in one of its categories.
    pub(super) fn uncount(&mut self, user: UserId, category: Option<CategoryId>) {
        let head = self.heads.entry(user).or_default();
        head.gone = head.gone.saturating_add(1);
        if let Some(category) = category {
            let gone = self.categories.entry((user, category)).or_default();
            *gone = gone.saturating_add(1);
        }
    }

    /// A change that nobody can be told any more.
    pub(super) fn purge(&mut self, user: UserId, change_seq: i64) {
        let head = self.heads.entry(user).or_default();
        head.purged_seq = head.purged_seq.max(change_seq);
    }
}

/// Moves heads, which are locked by the caller.
///
/// # Errors
/// Those of the database.
pub(super) async fn move_heads(db: &impl ConnectionTrait, app: AppId, moves: &Moves) -> Result<()> {
    let heads = || moves.heads.values();
    let rows = Rows::new(db)
        .column("user_id", moves.heads.keys().copied())
        .column("changes", heads().map(|head| head.changes))
        .column("gone", heads().map(|head| head.gone))
        .column("purged_seq", heads().map(|head| head.purged_seq));
    let sql = format!(
        "UPDATE feed_heads SET seq = feed_heads.seq + r.changes, unread = feed_heads.unread - r.gone, \
         purged_seq = CASE WHEN r.purged_seq > feed_heads.purged_seq THEN r.purged_seq ELSE feed_heads.purged_seq END \
         FROM {} WHERE feed_heads.app_id = {} AND feed_heads.user_id = r.user_id",
        rows.table("r")?,
        rows.parameter(0),
    );
    db.execute_raw(rows.statement(sql, [app.into()])?).await?;
    if moves.categories.is_empty() {
        return Ok(());
    }
    let rows = Rows::new(db)
        .column("user_id", moves.categories.keys().map(|(user, _)| *user))
        .column("category_id", moves.categories.keys().map(|(_, category)| *category))
        .column("gone", moves.categories.values().copied());
    let sql = format!(
        "UPDATE feed_head_categories SET unread = feed_head_categories.unread - r.gone \
         FROM {} WHERE feed_head_categories.app_id = {} AND feed_head_categories.user_id = r.user_id \
         AND feed_head_categories.category_id = r.category_id",
        rows.table("r")?,
        rows.parameter(0),
    );
    db.execute_raw(rows.statement(sql, [app.into()])?).await?;
    Ok(())
}
