//! What workers look for: pages that are not done, and notifications that are not final.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        Build::new(manager).open_work().await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
