//! Users, whom an app may reach.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        b.create(b.table(
            "users",
            [
                b.id("id"),
                b.id("app_id"),
                // The id that the app gave its user.
                b.text("uid"),
                b.text("name"),
                // The name in lower case, which search compares: neither database lowers more than ASCII by itself.
                b.text("name_folded"),
                b.text_or_null("avatar"),
                b.text_or_null("link"),
                b.text("role"),
                b.text_or_null("status_message"),
                b.json("metadata"),
                b.json("tags"),
                // Written at most once a minute; nothing is indexed by it, so the update stays within its page.
                b.time_or_null("last_active_at"),
                b.time_or_null("deactivated_at"),
                // A deleted user's row stays: its uid remains taken and its feed remains attributable.
                b.time_or_null("deleted_at"),
                b.time("created_at"),
                b.time("updated_at"),
                b.version(),
            ],
            &["id"],
        ))
        .await?;
        // Finds users of a send by uid, and lists by uid.
        b.unique("users_uid", "users", &["app_id", "uid"]).await?;
        // The default order of the list, and its created-at range. Search by name reads the app's users.
        b.index("users_list", "users", &["app_id", "created_at", "id"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
