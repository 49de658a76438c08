//! Feed heads, which count, and feed items, which say.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        b.create(b.hot(b.table(
            "feed_heads",
            [
                b.id("app_id"),
                b.id("user_id"),
                // The last number given to an item or to a change; its row lock is what orders a user's feed.
                b.long("seq"),
                b.int("unread"),
                // Changes up to here may be gone; a stream cursor below it has expired.
                b.long("purged_seq"),
            ],
            &["app_id", "user_id"],
        )))
        .await?;
        b.create(b.hot(b.table(
            "feed_head_categories",
            [b.id("app_id"), b.id("user_id"), b.id("category_id"), b.int("unread")],
            &["app_id", "user_id", "category_id"],
        )))
        .await?;
        items(&b).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

async fn items(b: &Build<'_>) -> Result<(), DbErr> {
    b.create(b.table(
        "feed_items",
        [
            b.id("id"),
            b.id("app_id"),
            b.id("user_id"),
            b.id("notification_id"),
            b.id("delivery_id"),
            b.id("template_version_id"),
            b.id("channel_id"),
            // The head's number when the item came, and when it last changed.
            b.long("seq"),
            b.long("change_seq"),
            b.id_or_null("category_id"),
            b.text_or_null("category_name"),
            // Whether filters by category find the item, and the category's count has it. As its template said at send.
            b.flag("filterable"),
            b.text_or_null("label"),
            b.text_or_null("alternative_text"),
            b.json("tags"),
            b.word("data_type"),
            // With the version, all that rendering needs: the text is made when it is read.
            b.json("variables"),
            // Whether the item is in its head's unread count; the count moves only by rows that flip this.
            b.flag("counted"),
            b.time("sent_at"),
            b.time_or_null("delivered_at"),
            b.time_or_null("read_at"),
            b.time_or_null("interacted_at"),
            b.time_or_null("expires_at"),
            b.time_or_null("deleted_at"),
            b.time("created_at"),
        ],
        &["id"],
    ))
    .await?;
    // The feed as its user reads it. Unread items are counted by the head, so they need no index of their own.
    b.index("feed_items_list", "feed_items", &["app_id", "user_id", "sent_at", "id"])
        .await?;
    b.expiring_items().await
}
