//! The indexes of the lists that feeds are read by beside their own order.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        // What is unread of one feed. Every new item is in it, and leaves it when it is read, deleted or swept: without it
        // the ten unread items of a user who has read a hundred thousand would cost a walk over all of them.
        b.index_where(
            "feed_items_unread",
            "feed_items",
            &["app_id", "user_id", "sent_at", "id"],
            "counted",
        )
        .await?;
        // All feeds of an app, and what retention removes of it, oldest first. New items come at its end, so it costs
        // fan-out far less than an index whose entries go all over the place. Every row is in it; the predicate is there so
        // that only queries that say it, too, can take it: otherwise PostgreSQL reads the feed of a user with it, past the
        // items of all others, whenever it believes that the user has most of them.
        b.index_where(
            "feed_items_app",
            "feed_items",
            &["app_id", "sent_at", "id"],
            "created_at > 0",
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
