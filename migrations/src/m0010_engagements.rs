//! What users did with feed items, one row per item and topic.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        b.create(b.clustered(b.table(
            "feed_item_engagements",
            [
                b.id("app_id"),
                b.id("feed_item_id"),
                // Empty when none was told: NULL would never equal itself in the key.
                b.text("topic"),
                // The first time; a repetition changes nothing.
                b.time("engaged_at"),
            ],
            &["app_id", "feed_item_id", "topic"],
        )))
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
