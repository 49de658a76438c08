//! Idempotency keys, written in the transaction of the effect that they protect.

use sea_orm_migration::prelude::*;

use crate::build::Build;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        b.create(b.table(
            "idempotency_keys",
            [
                // The nil id for calls of the operator, who belongs to no app.
                b.id("app_id"),
                // Who called, so that two callers of one app cannot read each other's answers.
                b.text("actor"),
                b.text("rpc"),
                b.text("key"),
                // SHA-256 of the request; the same key with another request is refused.
                b.bytes("hash"),
                // Null only inside the transaction that is still working on it.
                b.bytes_or_null("answer"),
                // Answers that show a secret once are stored under the service's secret key.
                b.flag("encrypted"),
                b.time("created_at"),
                b.time("expires_at"),
            ],
            &["app_id", "actor", "rpc", "key"],
        ))
        .await?;
        // For the sweep, which crosses apps. Expiries come in order, so the index grows at its end and stays cheap.
        b.index("idempotency_keys_expiry", "idempotency_keys", &["expires_at"])
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
