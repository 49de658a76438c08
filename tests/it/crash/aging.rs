//! What makes rows old past the service, because no test waits for 90 days: so that the sweep finds work while batches are
//! still on their way. A kind of send is told by its `tag`.

use std::time::Duration;

use campanile::model::Clock;

use super::server::execute;
use crate::support::database::TestDatabase;

/// Longer than things are kept.
const LONG: Duration = Duration::from_secs(91 * 24 * 60 * 60);
/// How often the rows of a load are made old.
const INTERVAL: Duration = Duration::from_millis(150);

/// What becomes of a send behind the back of those who do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Plain,
    /// It is old while it is still on its way; its items are not.
    Early,
    /// Its items expire.
    Brief,
    /// It is old, and so are its items: all of it is removed.
    Old,
}

impl Kind {
    /// The tag that it is sent with.
    pub(super) const fn tag(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Early => "early",
            Self::Brief => "brief",
            Self::Old => "old",
        }
    }
}

/// Makes old what is there by now.
pub(super) async fn age(db: &TestDatabase) -> sqlx::Result<()> {
    let now = Clock::default().now();
    let (old, long_ago) = (now.minus(LONG).millis(), now.minus(LONG / 2).millis());
    let of = |tag: &str| format!("notification_id IN (SELECT id FROM notifications WHERE tag = '{tag}')");
    let statements = [
        format!("UPDATE notifications SET completed_at = {old} WHERE tag = 'old' AND completed_at > {long_ago}"),
        format!(
            "UPDATE notifications SET created_at = {old} WHERE tag IN ('early', 'old') AND created_at > {long_ago}"
        ),
        format!(
            "UPDATE feed_items SET expires_at = {} WHERE expires_at > {0} AND {}",
            now.millis(),
            of("brief")
        ),
        format!(
            "UPDATE feed_items SET sent_at = {old} WHERE sent_at > {long_ago} AND {}",
            of("old")
        ),
    ];
    for statement in statements {
        execute(db, &statement).await?;
    }
    Ok(())
}

/// Makes old what comes, until it is dropped.
pub(super) async fn keep_aging(db: &TestDatabase) {
    loop {
        // It stands in nobody's way: where the database is busy, or lets the service win, the next turn does it.
        drop(age(db).await);
        tokio::time::sleep(INTERVAL).await;
    }
}
