//! Campaigns, and the lanes that open work is claimed from.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        b.add("notifications", b.id_or_null("campaign_id")).await?;
        // A user stands in an audience once. It also finds one recipient among a million.
        b.unique(
            "notification_recipients_once",
            "notification_recipients",
            &["app_id", "notification_id", "uid"],
        )
        .await?;
        campaigns(&b).await?;
        lanes(&b).await?;
        // What waits is found by its lane now.
        let db = manager.get_connection();
        db.execute_unprepared("DROP INDEX pages_oldest").await?;
        // What is being dispatched by now gets its lane here, and from builds before this one by a duty of the workers.
        let sql = "INSERT INTO lanes (app_id, notification_id, priority, state, state_since, next_due) \
                   SELECT app_id, id, 0, 1, 0, 0 FROM notifications WHERE status = 1";
        db.execute_unprepared(sql).await?;
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

async fn campaigns(b: &Build<'_>) -> Result<(), DbErr> {
    b.create(b.table(
        "campaigns",
        [
            b.id("id"),
            b.id("app_id"),
            b.text("name"),
            // What people search for: the name without regard to case.
            b.text("name_folded"),
            b.id("template_id"),
            b.id("template_version_id"),
            b.int("template_version"),
            b.json("channels"),
            b.json("variables"),
            b.json("config"),
            b.text_or_null("tag"),
            b.int_or_null("rate_per_second"),
            b.word("status"),
            // Given out with the campaign, because the audience is numbered under it before it is sent.
            b.id("notification_id"),
            b.int("recipient_count"),
            b.int("duplicate_count"),
            b.time_or_null("scheduled_at"),
            b.text_or_null("time_zone"),
            b.time_or_null("misfired_at"),
            b.time_or_null("sent_at"),
            b.time_or_null("completed_at"),
            b.text_or_null("failure"),
            // What it came to, kept when the notification is gone; null while it runs.
            b.int_or_null("sent_count"),
            b.int_or_null("failed_count"),
            b.time("created_at"),
            b.time("updated_at"),
            // Its audience is removed by and by.
            b.time_or_null("deleted_at"),
            b.version(),
        ],
        &["id"],
    ))
    .await?;
    let list = [
        ("campaigns_created", "created_at"),
        ("campaigns_updated", "updated_at"),
        ("campaigns_name", "name"),
    ];
    for (name, column) in list {
        b.index(name, "campaigns", &["app_id", column, "id"]).await?;
    }
    // What duties look for: few of all campaigns.
    b.index_where("campaigns_due", "campaigns", &["app_id", "scheduled_at"], "status = 2")
        .await?;
    b.index_where(
        "campaigns_sending",
        "campaigns",
        &["app_id", "notification_id"],
        "status = 3",
    )
    .await?;
    b.index_where(
        "campaigns_deleted",
        "campaigns",
        &["app_id", "deleted_at"],
        "deleted_at IS NOT NULL",
    )
    .await
}

async fn lanes(b: &Build<'_>) -> Result<(), DbErr> {
    b.create(b.hot(b.table(
        "lanes",
        [
            b.id("app_id"),
            b.id("notification_id"),
            // The lower comes first within its app: 0 for direct sends, 1 for campaigns.
            b.word("priority"),
            // 1 open, 2 held.
            b.word("state"),
            b.time("state_since"),
            // By the database's clock, as leases are: no page is claimed before.
            b.time("next_due"),
            // Recipients in a second; null for as many as there can be.
            b.int_or_null("rate_per_second"),
        ],
        &["app_id", "notification_id"],
    )))
    .await?;
    b.index("lanes_order", "lanes", &["app_id", "priority", "notification_id"])
        .await
}
