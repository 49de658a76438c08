//! What lists of users are read by, beside the order of creation.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        // Who keeps a copy of the users walks them by their last change, page by page: without the index each page would
        // read all of them. The same for a walk by name.
        b.index("users_changes", "users", &["app_id", "updated_at", "id"])
            .await?;
        b.index("users_name", "users", &["app_id", "name", "id"]).await?;
        // The search by the beginning of a name; that of the uid has `users_uid`.
        b.index("users_search", "users", &["app_id", "name_folded", "id"])
            .await?;
        // Few have any role but the default one, and the list of those few is asked for.
        b.index("users_role", "users", &["app_id", "role", "created_at", "id"])
            .await
        // No index by presence, which is written far more often than it is searched, nor by tag.
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
