//! What users did with the items of sequences, counted with the marks themselves. It never looks at an item, so a count takes
//! as long for a million items as for one.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseBackend, FromQueryResult, Statement};

use super::change::ItemLine;
use crate::model::Result;
use crate::model::feed::ItemState;
use crate::model::id::{AppId, NotificationId};
use crate::store::bulk::Rows;

/// Rows that the count of one notification is spread over on PostgreSQL, so that few who count at once meet. SQLite has one
/// writer.
const SLOTS: u32 = 8;
/// What is counted, as columns.
const COUNTS: [&str; 4] = ["delivered", "viewed", "engaged", "clicked"];

/// How much was done with the items of some notifications.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<NotificationId, Done>);

#[derive(Clone, Copy, Debug, Default)]
struct Done {
    delivered: i32,
    viewed: i32,
    engaged: i32,
    clicked: i32,
}

/// What users did with the items of a notification, each item once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromQueryResult)]
pub struct Tallied {
    /// Items that were delivered.
    pub delivered: i64,
    /// Items that were read.
    pub viewed: i64,
    /// Items that somebody did something with.
    pub engaged: i64,
    /// Items that somebody clicked on.
    pub clicked: i64,
}

impl Tally {
    /// One more item whose state changes.
    pub(super) fn change(&mut self, item: &ItemLine, after: &ItemState) {
        let (before, is_new) = (&item.state, |before: bool, after: bool| i32::from(after && !before));
        let done = Done {
            delivered: is_new(before.delivered_at.is_some(), after.delivered_at.is_some()),
            viewed: is_new(before.read_at.is_some(), after.read_at.is_some()),
            engaged: is_new(before.interacted_at.is_some(), after.interacted_at.is_some()),
            clicked: 0,
        };
        self.add(item.notification, done);
    }

    /// One more item that was clicked on for the first time.
    pub(super) fn click(&mut self, notification: NotificationId) {
        let clicked = Done {
            clicked: 1,
            ..Done::default()
        };
        self.add(notification, clicked);
    }

    fn add(&mut self, notification: NotificationId, more: Done) {
        let Done {
            delivered,
            viewed,
            engaged,
            clicked,
        } = more;
        if delivered + viewed + engaged + clicked > 0 {
            let done = self.0.entry(notification).or_default();
            done.delivered += delivered;
            done.viewed += viewed;
            done.engaged += engaged;
            done.clicked += clicked;
        }
    }

    /// Adds it to the counts of those notifications that are sequences. The last thing that a transaction locks, in the order
    /// of the notifications.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn record(&self, db: &impl ConnectionTrait, app: AppId) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let done = || self.0.values();
        let rows = Rows::new(db)
            .column("notification_id", self.0.keys().copied())
            .column("delivered", done().map(|done| done.delivered))
            .column("viewed", done().map(|done| done.viewed))
            .column("engaged", done().map(|done| done.engaged))
            .column("clicked", done().map(|done| done.clicked));
        // Each connection has a slot of its own, as far as there are so many.
        let slot = match db.get_database_backend() {
            DatabaseBackend::Postgres => format!("pg_backend_pid() % {SLOTS}"),
            _ => "0".to_owned(),
        };
        let added = COUNTS.map(|name| format!("{name} = feed_counts.{name} + excluded.{name}"));
        let sql = format!(
            "INSERT INTO feed_counts (app_id, notification_id, slot, {counts}) \
             SELECT {app_id}, r.notification_id, {slot}, {counted} FROM {source} {join} \
             notifications n ON n.id = r.notification_id WHERE n.app_id = {app_id} AND n.sequence IS NOT NULL \
             ORDER BY r.notification_id ON CONFLICT (app_id, notification_id, slot) DO UPDATE SET {added}",
            counts = COUNTS.join(", "),
            counted = COUNTS.map(|name| format!("r.{name}")).join(", "),
            app_id = rows.parameter(0),
            source = rows.table("r")?,
            join = rows.join(),
            added = added.join(", "),
        );
        db.execute_raw(rows.statement(sql, [app.into()])?).await?;
        Ok(())
    }
}

/// What users did with the items of a sequence.
///
/// # Errors
/// Those of the database.
pub async fn find_tally(db: &impl ConnectionTrait, app: AppId, notification: NotificationId) -> Result<Tallied> {
    let sums = COUNTS.map(|name| format!("COALESCE(SUM({name}), 0) AS {name}"));
    let sql = format!(
        "SELECT {} FROM feed_counts WHERE app_id = $1 AND notification_id = $2",
        sums.join(", ")
    );
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [app.into(), notification.into()]);
    let found = Tallied::find_by_statement(statement).one(db).await?;
    Ok(found.unwrap_or_default())
}

/// Forgets what was counted for a notification, because it goes.
///
/// # Errors
/// Those of the database.
pub async fn delete_tally(db: &impl ConnectionTrait, app: AppId, notification: NotificationId) -> Result<()> {
    let sql = "DELETE FROM feed_counts WHERE app_id = $1 AND notification_id = $2";
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [app.into(), notification.into()]);
    db.execute_raw(statement).await?;
    Ok(())
}
