//! Imports of files into audiences, and what was wrong with their rows.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        b.create(b.table(
            "imports",
            [
                b.id("id"),
                b.id("app_id"),
                b.id("campaign_id"),
                // The imports of a campaign are numbered from 1, behind the lock of its row.
                b.int("number"),
                b.text("file_key"),
                // How the file is to be read, as it was asked for.
                b.json("format"),
                b.word("state"),
                // SHA-256 of the file in hexadecimal, and its size: whoever goes on later reads the same file or none.
                b.text_or_null("checksum"),
                b.long("bytes_total"),
                // Where the first row begins that is not settled. It moves in the transaction that settles those before.
                b.long("next_offset"),
                b.long("next_line"),
                b.int("row_count"),
                b.int("added_count"),
                b.int("duplicate_count"),
                b.int("unknown_count"),
                b.int("failed_count"),
                // Problems that were kept.
                b.int("problem_count"),
                b.text_or_null("failure"),
                b.text_or_null("failure_message"),
                // By the database's clock, as leases of pages are; null when nobody holds it.
                b.time_or_null("lease_until"),
                b.long("fence"),
                b.int("attempts"),
                b.time("created_at"),
                b.time_or_null("started_at"),
                b.time_or_null("ended_at"),
            ],
            &["id"],
        ))
        .await?;
        b.index("imports_campaign", "imports", &["app_id", "campaign_id", "number"])
            .await?;
        b.index_where("imports_open", "imports", &["app_id", "id"], "state < 3")
            .await?;
        b.create(b.clustered(b.table(
            "import_problems",
            [
                b.id("app_id"),
                b.id("import_id"),
                b.int("position"),
                b.long("line"),
                b.text("name"),
                b.text("rule"),
                b.text_or_null("received"),
            ],
            &["app_id", "import_id", "position"],
        )))
        .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
