//! Notifications, their recipients and pages, and the ledger of deliveries.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        // Nothing below refers to another table by a foreign key: at campaign scale every check would read and lock the
        // parent's row once per recipient. The page's transaction decides what exists.
        notifications(&b).await?;
        recipients(&b).await?;
        deliveries(&b).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

async fn notifications(b: &Build<'_>) -> Result<(), DbErr> {
    b.create(b.table(
        "notifications",
        [
            b.id("id"),
            b.id("app_id"),
            b.id("template_id"),
            b.id("template_version_id"),
            b.int("template_version"),
            // From here to `tags`: copied from the template at send, so later edits do not change what was said.
            b.text("template_name"),
            b.id_or_null("category_id"),
            b.text_or_null("category_name"),
            b.text_or_null("label"),
            b.text_or_null("alternative_text"),
            b.json("tags"),
            // The sender's own mark on the send.
            b.text_or_null("tag"),
            b.word("mode"),
            b.word("status"),
            b.word("data_type"),
            // The variables that every recipient shares; a recipient's own are on its row.
            b.json("defaults"),
            b.json("channels"),
            b.int("total_targets"),
            // How often the request named a receiver again.
            b.int("duplicate_count"),
            b.time("created_at"),
            b.time_or_null("completed_at"),
        ],
        // No list index: a notification is read by its id only.
        &["id"],
    ))
    .await
}

async fn recipients(b: &Build<'_>) -> Result<(), DbErr> {
    b.create(b.clustered(b.table(
        "notification_recipients",
        [
            b.id("app_id"),
            b.id("notification_id"),
            // Dense from 1 within the notification; pages are ranges of it.
            b.long("seq"),
            b.text("uid"),
            // Null for a uid that is no user of the app.
            b.id_or_null("user_id"),
            b.json("variables"),
            b.word("outcome"),
        ],
        &["app_id", "notification_id", "seq"],
    )))
    .await?;
    b.create(b.hot(b.table(
        "pages",
        [
            b.id("app_id"),
            b.id("notification_id"),
            b.int("number"),
            b.long("from_seq"),
            b.long("to_seq"),
            // Where the next attempt goes on: a page that ran out of time commits what it has done.
            b.long("next_seq"),
            b.word("state"),
            // By the database's clock, unlike every other instant, so that nodes agree on it.
            b.time_or_null("lease_until"),
            // Grows with every lease; a worker that lost its lease no longer matches it.
            b.long("fence"),
            b.int("attempts"),
            b.int("sent_count"),
            b.int("failed_count"),
            b.int("skipped_count"),
        ],
        &["app_id", "notification_id", "number"],
    )))
    .await
}

async fn deliveries(b: &Build<'_>) -> Result<(), DbErr> {
    b.create(b.table(
        "deliveries",
        [
            b.id("id"),
            b.id("app_id"),
            b.id("notification_id"),
            b.int("step"),
            b.id("user_id"),
            b.word("channel_type"),
            // The nil id when the app has no channel of the type: NULL would never equal itself in the unique key.
            b.id("channel_id"),
            // Empty for in-app, and never NULL, for the same reason.
            b.text("address"),
            b.word("status"),
            b.text_or_null("reason"),
            b.time("created_at"),
            b.time("updated_at"),
        ],
        &["id"],
    ))
    .await?;
    // What makes a repeated page harmless. It also finds a notification's deliveries, so there is no other index.
    b.unique(
        "deliveries_once",
        "deliveries",
        &[
            "app_id",
            "notification_id",
            "step",
            "user_id",
            "channel_type",
            "channel_id",
            "address",
        ],
    )
    .await
}
