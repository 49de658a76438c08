//! What operators follow: the call that a batch came from, whose lease ended without a word, and how long work waits.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        // The id of the call that a notification came with, and its place in the caller's trace (W3C traceparent), for the
        // log lines and spans of workers.
        b.add("notifications", b.text_or_null("request_id")).await?;
        b.add("notifications", b.text_or_null("trace_parent")).await?;
        // 1 while a worker holds the page, 2 if it took it over from one whose lease had ended; null when it was given
        // back. A build that does not know the column leaves it as it is, which only miscounts what was taken over.
        b.add("pages", b.word_or_null("tenure")).await?;
        // The oldest of what is still to do, of all apps. Notifications are numbered by time.
        b.index_where("pages_oldest", "pages", &["notification_id"], "state <> 3")
            .await?;
        b.index_where("notifications_oldest", "notifications", &["created_at"], "status = 1")
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
