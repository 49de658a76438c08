//! Indexes of users that hold nobody who is found without them.
//!
//! Most users are made by an import or a send that names a uid nobody was known by: their name is the uid, and their role
//! the default one. Each index costs each of them about a tenth of what making them costs, and these two say nothing of
//! them that others do not. A build before this one reads the same lists by reading more users until it is replaced.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        let db = manager.get_connection();
        db.execute_unprepared("DROP INDEX users_search").await?;
        db.execute_unprepared("DROP INDEX users_role").await?;
        // Whoever is called by their uid is found by that.
        b.index_where(
            "users_search",
            "users",
            &["app_id", "name_folded", "id"],
            "name_folded <> uid",
        )
        .await?;
        // The list of those with the default role is the list of users, nearly.
        b.index_where(
            "users_role",
            "users",
            &["app_id", "role", "created_at", "id"],
            "role <> 'default'",
        )
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
