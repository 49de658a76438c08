//! What users did with the items of a sequence, counted when they do it.
//!
//! An index of all that was marked is what it was counted by before. With it PostgreSQL puts an item that is marked as
//! delivered into all of its indexes anew; without it the new row stands beside the old one, for which a little room is left
//! now. A build that counts by the index, or marks and counts nothing, may run until it is replaced: what it marks meanwhile
//! is not counted here.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let (b, db) = (Build::new(manager), manager.get_connection());
        b.create(b.hot(b.table(
            "feed_counts",
            [
                b.id("app_id"),
                b.id("notification_id"),
                // Several rows, so that whoever counts does not wait for others who do; together they are the count.
                b.int("slot"),
                b.int("delivered"),
                b.int("viewed"),
                b.int("engaged"),
                b.int("clicked"),
            ],
            &["app_id", "notification_id", "slot"],
        )))
        .await?;
        let counted = "INSERT INTO feed_counts (app_id, notification_id, slot, delivered, viewed, engaged, clicked) \
                       SELECT x.app_id, x.notification_id, 0, COUNT(x.delivered_at), COUNT(x.read_at), COUNT(x.interacted_at), \
                       COUNT(e.topic) FROM feed_items x JOIN notifications n ON n.id = x.notification_id \
                       LEFT JOIN feed_item_engagements e ON e.app_id = x.app_id AND e.feed_item_id = x.id AND e.topic = 'clicked' \
                       WHERE n.sequence IS NOT NULL AND (x.delivered_at IS NOT NULL OR x.interacted_at IS NOT NULL) \
                       GROUP BY x.app_id, x.notification_id";
        db.execute_unprepared(counted).await?;
        db.execute_unprepared("DROP INDEX feed_items_marked").await?;
        if db.get_database_backend() == DbBackend::Postgres {
            db.execute_unprepared("ALTER TABLE feed_items SET (fillfactor = 90)")
                .await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
