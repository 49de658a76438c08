//! Indexes of looks that went through whole tables: at audiences that nothing was sent to, and at what users did with the
//! steps of a sequence.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        // The sweep's query crosses apps. Campaigns are never removed, so the table only grows; few of them end unsent.
        b.index_where(
            "campaigns_unsent",
            "campaigns",
            &["completed_at"],
            "sent_at IS NULL AND completed_at IS NOT NULL",
        )
        .await?;
        // What is sent pays nothing for these two: it gets into them with the first mark. Whatever is read was delivered.
        b.index_where(
            "feed_items_marked",
            "feed_items",
            &["app_id", "notification_id"],
            "delivered_at IS NOT NULL OR interacted_at IS NOT NULL",
        )
        .await?;
        b.index_where(
            "outgoing_marked",
            "outgoing",
            &["app_id", "notification_id", "page_number"],
            "delivered_at IS NOT NULL OR clicked_at IS NOT NULL",
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
