//! Sequences: the steps that a send took along, what waits for its time between two of them, and the messages that leave
//! through a driver.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        // The steps in their order, copied from the template at send; null for a send that serves all channels at once,
        // as every one does that a build before this one accepted.
        b.add("notifications", b.text_or_null("sequence")).await?;
        waits(&b).await?;
        outgoing(&b).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// A row goes when the pages of its step are cut, so the table holds only what still waits.
async fn waits(b: &Build<'_>) -> Result<(), DbErr> {
    b.create(b.clustered(b.table(
        "sequence_waits",
        [
            b.id("app_id"),
            b.id("notification_id"),
            // The step that comes next.
            b.int("step"),
            // The recipients that it is for, by their numbers.
            b.long("from_seq"),
            b.long("to_seq"),
            // By the clock of the service: when the window of the step before has ended for all of them.
            b.time("due_at"),
        ],
        &["app_id", "notification_id", "step", "from_seq"],
    )))
    .await?;
    b.index(
        "sequence_waits_due",
        "sequence_waits",
        &["app_id", "notification_id", "due_at"],
    )
    .await
}

/// Deliveries that a driver takes. What was sent in-app has no row here and pays nothing for it.
async fn outgoing(b: &Build<'_>) -> Result<(), DbErr> {
    b.create(b.hot(b.table(
        "outgoing",
        [
            b.id("app_id"),
            b.id("delivery_id"),
            b.id("notification_id"),
            // The page whose counts have the recipient.
            b.int("page_number"),
            b.long("seq"),
            b.id("user_id"),
            // 1 queued, 2 leased, 3 over.
            b.word("state"),
            // By the database's clock, as leases of pages are. While it is queued: not before.
            b.time_or_null("lease_until"),
            // Grows with every lease; an outcome that comes back under an older one changes nothing.
            b.long("fence"),
            b.int("attempts"),
            // What the receiver's side said later.
            b.time_or_null("delivered_at"),
            b.time_or_null("clicked_at"),
        ],
        &["app_id", "delivery_id"],
    )))
    .await?;
    b.index_where(
        "outgoing_open",
        "outgoing",
        &["app_id", "notification_id", "delivery_id"],
        "state <> 3",
    )
    .await
}
