//! An index of a look that went through a whole table: at audiences that nothing was sent to.

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
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
