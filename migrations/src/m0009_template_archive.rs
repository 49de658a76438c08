//! Since when a template is archived.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        let mut column = b.time_or_null("archived_at");
        manager
            .alter_table(Table::alter().table("templates").add_column(&mut column).take())
            .await?;
        // Those that are archived by now (3) were so by their last change at the latest.
        let sql = "UPDATE templates SET archived_at = updated_at WHERE status = 3";
        manager.get_connection().execute_unprepared(sql).await?;
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
