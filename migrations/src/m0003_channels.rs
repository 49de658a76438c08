//! Channels, an app's configured ways out.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        b.create(b.table(
            "channels",
            [
                b.id("id"),
                b.id("app_id"),
                // The `channelId` of the contract: a name that the app chose.
                b.text("slug"),
                b.word("type"),
                b.text("name"),
                // The name in lower case, for the search; SQLite lowers ASCII only.
                b.text("name_folded"),
                b.flag("enabled"),
                b.json("metadata"),
                b.time("created_at"),
                b.time("updated_at"),
                b.version(),
            ],
            &["id"],
        ))
        .await?;
        // The only index: an app has few channels, so every list reads them all and sorts.
        b.unique("channels_slug", "channels", &["app_id", "slug"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
