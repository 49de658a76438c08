//! What operators look at: how much work waits and for how long, and how large the database is. Every look is bounded,
//! crosses apps, and tells nothing about any of them.

use sea_orm::{ConnectionTrait, DatabaseBackend, Statement};

use super::page::{clock, open_pages};
use super::{Store, Writer};
use crate::model::{Error, Result, Timestamp};

/// Open pages that are counted at most.
pub const PAGES_MAX: u32 = 10_000;

/// The work that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingWork {
    /// Pages that are not done, up to [`PAGES_MAX`]; those of cancelled notifications are not counted.
    pub open_pages: u32,
    /// Since when the oldest notification waits that has a page which no worker holds.
    pub oldest_page: Option<Timestamp>,
    /// When the oldest notification that is not final was made.
    pub oldest_notification: Option<Timestamp>,
}

/// How open pages are counted, the oldest waiting page is found, and the oldest unfinished notification.
#[must_use]
pub fn waiting_statements(backend: DatabaseBackend) -> [Statement; 3] {
    let clock = clock(backend);
    let open = open_pages(backend);
    let of_lane = "p.app_id = l.app_id AND p.notification_id = l.notification_id";
    [
        format!(
            "SELECT COUNT(*) AS n FROM (SELECT 1 FROM lanes l JOIN pages p ON {of_lane} WHERE p.state <> 3 \
             LIMIT {PAGES_MAX}) AS counted"
        ),
        // There are as many lanes as there are notifications under way. Those that are held, or not due by their own rate,
        // do not wait for a worker.
        format!(
            "SELECT l.state_since FROM lanes l WHERE l.state = 1 AND l.next_due <= {clock} AND EXISTS \
             (SELECT 1 FROM {open} WHERE {of_lane} AND p.state <> 3 AND (p.lease_until IS NULL OR p.lease_until <= {clock})) \
             ORDER BY l.state_since LIMIT 1"
        ),
        "SELECT created_at FROM notifications WHERE status = 1 ORDER BY created_at LIMIT 1".to_owned(),
    ]
    .map(|sql| Statement::from_string(backend, sql))
}

/// Looks at the work that waits.
///
/// # Errors
/// Those of the database.
pub async fn waiting_work(db: &impl ConnectionTrait) -> Result<WaitingWork> {
    let [pages, page, notification] = waiting_statements(db.get_database_backend());
    let open = db.query_one_raw(pages).await?;
    let open: Option<i64> = open.map(|row| row.try_get("", "n")).transpose()?;
    let page = db.query_one_raw(page).await?;
    let notification = db.query_one_raw(notification).await?;
    Ok(WaitingWork {
        open_pages: u32::try_from(open.unwrap_or_default()).map_err(Error::internal)?,
        oldest_page: page.map(|row| row.try_get("", "state_since")).transpose()?,
        oldest_notification: notification.map(|row| row.try_get("", "created_at")).transpose()?,
    })
}

/// The size of the database in bytes. On PostgreSQL this looks at every file of it, so ask seldom.
///
/// # Errors
/// Those of the database.
pub async fn size_bytes(db: &impl ConnectionTrait) -> Result<i64> {
    let backend = db.get_database_backend();
    let sql = match backend {
        DatabaseBackend::Postgres => "SELECT pg_database_size(current_database()) AS n",
        _ => "SELECT page_count * page_size AS n FROM pragma_page_count(), pragma_page_size()",
    };
    let row = db.query_one_raw(Statement::from_string(backend, sql)).await?;
    Ok(row.map(|row| row.try_get("", "n")).transpose()?.unwrap_or_default())
}

impl Store {
    /// Notes how many connections there are, and how many of them are at work.
    pub fn observe_pools(&self) {
        self.0.measures.pool("read", &self.0.reader.0);
        if let Writer::Postgres(writer) = &self.0.writer {
            self.0.measures.pool(
                "write",
                &super::Pool::Postgres(writer.pool.clone(), writer.pulse.clone()),
            );
        }
    }
}
