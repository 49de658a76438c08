//! How the sweep finds what it has to do. Its queries cross apps, or ask one app after the other.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        // When all that a deleted user left in feeds was removed; null until then.
        b.add("users", b.time_or_null("purged_at")).await?;
        b.index_where(
            "users_unpurged",
            "users",
            &["app_id", "id"],
            "deleted_at IS NOT NULL AND purged_at IS NULL",
        )
        .await?;
        // Only items that expire and still count pay for it, and leave it when they are swept. The predicate differs from
        // that of `feed_items_expiring` on purpose: a count must not take this index, which would show it the expired
        // items of everybody.
        b.index_where(
            "feed_items_expiry",
            "feed_items",
            &["expires_at"],
            "counted AND expires_at > 0",
        )
        .await?;
        b.index("notifications_age", "notifications", &["app_id", "created_at", "id"])
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
