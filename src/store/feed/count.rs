//! How much of a feed is unread: what its head says, without what has expired since. It never counts items one by one
//! that the head has counted already.

use sea_orm::{ConnectionTrait, DatabaseBackend, FromQueryResult, Statement};

use crate::model::feed::EXPIRED_MAX;
use crate::model::id::{AppId, CategoryId, UserId};
use crate::model::{Error, Result, Timestamp};

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
