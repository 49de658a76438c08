//! A build takes up what the one before it left in the middle. Here the schema is that of the build before campaigns, with
//! what a batch left in it; whole earlier builds are run by `make soak`, in `campaign.rs`.

use campanile::failpoint::Point;
use campanile_migrations::Migrator;
use sea_orm::Database;
use sea_orm_migration::MigratorTrait;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

use super::aging::Kind;
use super::load::{self, shop};
use super::server::{Server, abort_at};
use super::{check, settled};
use crate::on_both;
use crate::support::database::{Backend, TestDatabase};

/// The migrations of the build before campaigns.
const BEFORE_CAMPAIGNS: u32 = 14;

on_both! {
    async fn batches_of_the_build_before_campaigns_are_taken_up_in_the_middle(db) {
        let api = Server::start(&db, &[("CAMPANILE_ROLES", "api")]).await;
        shop(&api).await;
        let mut journal = load::batches(&api, 3, Kind::Plain, (30, 40)).await;
        for (point, time) in [(Point::BetweenSteps, 1), (Point::StepBeforeCommit, 2)] {
            let (name, armed) = abort_at(point, time);
            let worker = Server::start(&db, &[("CAMPANILE_ROLES", "worker"), (name, &armed)]).await;
            worker.died_at(point).await;
        }
        assert!(!check::is_final(&api, &journal).await, "something is left to do");
        api.stop().await;
        assert!(bring_back(&db).await >= 12, "tables");
        let server = Server::start(&db, &[]).await;
        journal.extend(load::some(&server, 1).await);
        assert_eq!(settled(&server, &journal).await, Vec::<String>::new());
        server.stop().await;
    }
}

/// Makes the database anew by the migrations of that build, fills it with what stands in it now, as far as that build had a
/// place for it, and says how many tables those are.
async fn bring_back(db: &TestDatabase) -> usize {
    match db.backend {
        Backend::Sqlite => bring_back_file(db).await,
        Backend::Postgres => bring_back_database(db).await,
    }
}

async fn migrate(db: &TestDatabase) {
    let conn = Database::connect(&db.url).await.unwrap();
    Migrator::up(&conn, Some(BEFORE_CAMPAIGNS)).await.unwrap();
    conn.close().await.unwrap();
}

/// The statement that copies the rows of a table.
fn copy(table: &str, columns: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "INSERT INTO {table} ({columns}) SELECT {columns} FROM new.{table}"
    ))
}

async fn bring_back_file(db: &TestDatabase) -> usize {
    let path = db.url.strip_prefix("sqlite://").unwrap();
    let aside = format!("{path}.new");
    std::fs::rename(path, &aside).unwrap();
    for rest in ["-wal", "-shm"] {
        drop(std::fs::remove_file(format!("{path}{rest}")));
    }
    std::fs::File::create(path).unwrap();
    migrate(db).await;
    let options: SqliteConnectOptions = db.url.parse().unwrap();
    let mut conn = options.foreign_keys(false).connect().await.unwrap();
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT t.name, group_concat(c.name, ', ') FROM sqlite_schema t, pragma_table_info(t.name) c \
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name <> 'seaql_migrations' GROUP BY t.name",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let attach = AssertSqlSafe(format!("ATTACH '{aside}' AS new"));
    conn.execute(attach).await.unwrap();
    for (table, columns) in &tables {
        conn.execute(copy(table, columns)).await.unwrap();
    }
    conn.close().await.unwrap();
    tables.len()
}

async fn bring_back_database(db: &TestDatabase) -> usize {
    let mut conn = PgConnection::connect(&db.url).await.unwrap();
    conn.execute("ALTER SCHEMA public RENAME TO new; CREATE SCHEMA public")
        .await
        .unwrap();
    migrate(db).await;
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, string_agg(quote_ident(column_name), ', ') FROM information_schema.columns \
         WHERE table_schema = 'public' AND table_name <> 'seaql_migrations' GROUP BY table_name",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    // Tables refer to each other.
    conn.execute("SET session_replication_role = replica").await.unwrap();
    for (table, columns) in &tables {
        conn.execute(copy(table, columns)).await.unwrap();
    }
    conn.execute("DROP SCHEMA new CASCADE").await.unwrap();
    conn.close().await.unwrap();
    tables.len()
}
