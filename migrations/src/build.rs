//! The column types of the schema, each said once. It never builds a table: every migration names its own.
//!
//! - An id is a UUID: `uuid` on PostgreSQL, sixteen bytes on SQLite.
//! - An instant is a BIGINT of milliseconds since 1970 in UTC: one encoding, one order, no time zone in either database.
//! - A word of the contract (type, status, scope …) is a SMALLINT with the number the contract gives it, so that an older
//!   build can carry a word that it does not know yet.
//! - JSON is TEXT: `jsonb` reorders keys, rewrites numbers and refuses `\u0000`, so the two databases would answer
//!   differently; nothing searches inside these documents at scale, and they are bound and read by the same code.
//! - Text sorts by its bytes: COLLATE "C" on PostgreSQL is what SQLite does by default, so lists, cursors and indexes
//!   agree, whatever locale the PostgreSQL cluster was made with.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

/// Builds columns, keys and indexes for one database.
pub(crate) struct Build<'m> {
    manager: &'m SchemaManager<'m>,
    postgres: bool,
}

impl<'m> Build<'m> {
    pub(crate) fn new(manager: &'m SchemaManager<'m>) -> Self {
        Self {
            manager,
            postgres: manager.get_database_backend() == DatabaseBackend::Postgres,
        }
    }

    pub(crate) fn id(&self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).uuid().not_null().take()
    }

    pub(crate) fn id_or_null(&self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).uuid().null().take()
    }

    pub(crate) fn text(&self, name: &'static str) -> ColumnDef {
        self.bytewise(ColumnDef::new(name).text().not_null().take())
    }

    pub(crate) fn text_or_null(&self, name: &'static str) -> ColumnDef {
        self.bytewise(ColumnDef::new(name).text().null().take())
    }

    pub(crate) fn json(&self, name: &'static str) -> ColumnDef {
        self.text(name)
    }

    pub(crate) fn time(&self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).big_integer().not_null().take()
    }

    pub(crate) fn time_or_null(&self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).big_integer().null().take()
    }

    pub(crate) fn word(&self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).small_integer().not_null().take()
    }

    pub(crate) fn word_or_null(&self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).small_integer().null().take()
    }

    pub(crate) fn int(&self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).integer().not_null().take()
    }

    pub(crate) fn int_or_null(&self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).integer().null().take()
    }

    pub(crate) fn long(&self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).big_integer().not_null().take()
    }

    pub(crate) fn flag(&self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).boolean().not_null().take()
    }

    pub(crate) fn bytes(&self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).blob().not_null().take()
    }

    pub(crate) fn bytes_or_null(&self, name: &'static str) -> ColumnDef {
        ColumnDef::new(name).blob().null().take()
    }

    /// The row's count of changes, which is its etag; it starts at 1.
    pub(crate) fn version(&self) -> ColumnDef {
        self.long("version")
    }

    fn bytewise(&self, mut column: ColumnDef) -> ColumnDef {
        if self.postgres {
            column.extra("COLLATE \"C\"");
        }
        column
    }

    /// A table with its columns and primary key.
    pub(crate) fn table(
        &self,
        name: &'static str,
        columns: impl IntoIterator<Item = ColumnDef>,
        key: &[&'static str],
    ) -> TableCreateStatement {
        let mut table = Table::create().table(name).take();
        for column in columns {
            table.col(column);
        }
        let mut primary = Index::create();
        for column in key {
            primary.col(*column);
        }
        table.primary_key(primary.name(format!("{name}_pkey")));
        table
    }

    /// Small rows that are found by their key alone: on SQLite the key is the table, instead of an index beside it.
    pub(crate) fn clustered(&self, mut table: TableCreateStatement) -> TableCreateStatement {
        if !self.postgres {
            table.extra("WITHOUT ROWID");
        }
        table
    }

    /// Rows that are updated far more often than inserted: half of each page stays free, so that PostgreSQL can put the
    /// new row beside the old one without touching an index.
    pub(crate) fn hot(&self, mut table: TableCreateStatement) -> TableCreateStatement {
        if self.postgres {
            table.extra("WITH (fillfactor = 50)");
            table
        } else {
            self.clustered(table)
        }
    }

    pub(crate) async fn create(&self, table: TableCreateStatement) -> Result<(), DbErr> {
        self.manager.create_table(table).await
    }

    pub(crate) async fn unique(
        &self,
        name: &'static str,
        table: &'static str,
        columns: &[&'static str],
    ) -> Result<(), DbErr> {
        let mut index = Index::create();
        index.name(name).table(table).unique();
        for column in columns {
            index.col(*column);
        }
        self.manager.create_index(index).await
    }

    /// The unread items that will expire: those that have are subtracted from the head's count until the sweep comes by.
    /// Few items expire, so few pay for it. Queries must spell the predicate as here, with literals, or lose the index.
    pub(crate) async fn expiring_items(&self) -> Result<(), DbErr> {
        let sql = "CREATE INDEX feed_items_expiring ON feed_items (app_id, user_id, expires_at) \
                   WHERE counted AND expires_at IS NOT NULL";
        self.manager.get_connection().execute_unprepared(sql).await?;
        Ok(())
    }

    /// An index of some rows. Queries must spell the predicate as here, with literals, or lose the index.
    pub(crate) async fn index_where(
        &self,
        name: &'static str,
        table: &'static str,
        columns: &[&'static str],
        predicate: &'static str,
    ) -> Result<(), DbErr> {
        let sql = format!(
            "CREATE INDEX {name} ON {table} ({}) WHERE {predicate}",
            columns.join(", ")
        );
        self.manager.get_connection().execute_unprepared(&sql).await?;
        Ok(())
    }

    /// A further column of a table. It has to be nullable: builds that do not know it go on writing rows.
    pub(crate) async fn add(&self, table: &'static str, column: ColumnDef) -> Result<(), DbErr> {
        let table = Table::alter().table(table).add_column(column).take();
        self.manager.alter_table(table).await
    }

    /// What is still to do, which is little of what there is. Queries must spell the predicates as here, with literals.
    pub(crate) async fn open_work(&self) -> Result<(), DbErr> {
        let db = self.manager.get_connection();
        let pages = "CREATE INDEX pages_open ON pages (app_id, notification_id, number) WHERE state <> 3";
        db.execute_unprepared(pages).await?;
        let notifications = "CREATE INDEX notifications_open ON notifications (app_id, id) WHERE status = 1";
        db.execute_unprepared(notifications).await?;
        Ok(())
    }

    pub(crate) async fn index(
        &self,
        name: &'static str,
        table: &'static str,
        columns: &[&'static str],
    ) -> Result<(), DbErr> {
        let mut index = Index::create();
        index.name(name).table(table);
        for column in columns {
            index.col(*column);
        }
        self.manager.create_index(index).await
    }
}

/// A reference that the database itself keeps, for the few places where a race would otherwise leave a dangling row.
pub(crate) fn reference(
    name: &'static str,
    from: (&'static str, &'static str),
    to: &'static str,
) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .name(name)
        .from(from.0, from.1)
        .to(to, "id")
        .on_delete(ForeignKeyAction::Restrict)
        .take()
}
