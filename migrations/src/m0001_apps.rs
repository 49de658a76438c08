//! Apps, which own everything else, and the keys that open them.

use sea_orm_migration::prelude::*;

use crate::build::{Build, reference};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        b.create(b.table(
            "apps",
            [
                b.id("id"),
                // The id the outside knows and chooses; rows refer to `id`.
                b.text("public_id"),
                b.text("name"),
                b.time("created_at"),
                b.time("updated_at"),
                b.version(),
            ],
            &["id"],
        ))
        .await?;
        b.unique("apps_public_id", "apps", &["public_id"]).await?;

        let mut keys = b.table(
            "api_keys",
            [
                b.id("id"),
                b.id("app_id"),
                b.text("name"),
                b.word("scope"),
                // SHA-256 of the key; the key itself is shown once and never stored.
                b.bytes("hash"),
                // The key's last characters, so that a person can tell keys apart.
                b.text("hint"),
                b.time("created_at"),
                b.time("updated_at"),
                b.time_or_null("revoked_at"),
                b.version(),
            ],
            &["id"],
        );
        keys.foreign_key(&mut reference("api_keys_app", ("api_keys", "app_id"), "apps"));
        b.create(keys).await?;
        // The one index that does not start with the app: a key is presented before its app is known.
        b.unique("api_keys_hash", "api_keys", &["hash"]).await?;
        b.index("api_keys_list", "api_keys", &["app_id", "created_at", "id"])
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
