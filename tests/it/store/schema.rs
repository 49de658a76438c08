//! The schema: the same on both databases, and led by the app everywhere.

use std::collections::{BTreeMap, BTreeSet};

use campanile::store::Reader;
use sea_orm::{ConnectionTrait, QueryResult, Statement};

use crate::on_both;
use crate::support::database::{Backend, TestDatabase};

/// A column: its type in one word for both databases, and whether it may be null.
type Columns = BTreeMap<String, (String, bool)>;

/// A key or an index: its columns, whether it is unique, and whether it holds only some rows.
type Keys = BTreeSet<(Vec<String>, bool, bool)>;

#[derive(Debug, Default, PartialEq)]
struct Table {
    columns: Columns,
    keys: Keys,
    references: BTreeSet<(String, String)>,
}

async fn rows(db: &Reader, sql: &str) -> Vec<QueryResult> {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    db.query_all_raw(statement).await.unwrap()
}

fn text(row: &QueryResult, column: &str) -> String {
    row.try_get("", column).unwrap()
}

fn flag(row: &QueryResult, column: &str) -> bool {
    row.try_get("", column).unwrap()
}

fn word(declared: &str) -> &'static str {
    match declared {
        "uuid_text" | "uuid" => "id",
        "text" => "text",
        "smallint" => "short",
        // SQLite has one integer of up to eight bytes, and sea-query calls both of ours so.
        "integer" | "bigint" => "number",
        "boolean" => "flag",
        "blob" | "bytea" => "bytes",
        other => unreachable!("the schema has no columns of type {other}"),
    }
}

const SQLITE: [&str; 3] = [
    "SELECT t.name AS \"table\", c.name AS name, lower(c.type) AS type, c.\"notnull\" = 0 AS nullable \
     FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%'",
    "SELECT t.name AS \"table\", i.\"unique\" AS \"unique\", i.partial AS partial, \
     (SELECT group_concat(name, ',') FROM (SELECT name FROM pragma_index_info(i.name) ORDER BY seqno)) AS columns \
     FROM sqlite_schema t, pragma_index_list(t.name) i WHERE t.type = 'table'",
    "SELECT t.name AS \"table\", f.\"from\" AS name, f.\"table\" AS target \
     FROM sqlite_schema t, pragma_foreign_key_list(t.name) f WHERE t.type = 'table'",
];

const POSTGRES: [&str; 3] = [
    "SELECT table_name::text AS table, column_name::text AS name, data_type::text AS type, is_nullable = 'YES' AS nullable \
     FROM information_schema.columns WHERE table_schema = 'public'",
    "SELECT i.indrelid::regclass::text AS table, i.indisunique AS unique, i.indpred IS NOT NULL AS partial, \
     (SELECT string_agg(a.attname, ',' ORDER BY k.n) FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, n) \
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) AS columns \
     FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'public'::regnamespace",
    "SELECT c.conrelid::regclass::text AS table, a.attname::text AS name, c.confrelid::regclass::text AS target \
     FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] WHERE c.contype = 'f'",
];

async fn schema(db: &TestDatabase) -> BTreeMap<String, Table> {
    let store = db.open().await;
    let [columns, keys, references] = match db.backend {
        Backend::Sqlite => SQLITE,
        Backend::Postgres => POSTGRES,
    };
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    for row in rows(store.read(), columns).await {
        if text(&row, "table") == "seaql_migrations" {
            continue;
        }
        let column = (word(&text(&row, "type")).to_owned(), flag(&row, "nullable"));
        let table = tables.entry(text(&row, "table")).or_default();
        table.columns.insert(text(&row, "name"), column);
    }
    for row in rows(store.read(), keys).await {
        if let Some(table) = tables.get_mut(&text(&row, "table")) {
            let columns = text(&row, "columns").split(',').map(str::to_owned).collect();
            let fresh = table
                .keys
                .insert((columns, flag(&row, "unique"), flag(&row, "partial")));
            assert!(fresh, "{} has an index twice", text(&row, "table"));
        }
    }
    for row in rows(store.read(), references).await {
        let table = tables.get_mut(&text(&row, "table")).unwrap();
        table.references.insert((text(&row, "name"), text(&row, "target")));
    }
    tables
}

#[tokio::test]
async fn both_databases_have_the_same_schema() {
    let sqlite = TestDatabase::new(Backend::Sqlite).await.unwrap();
    if let Some(postgres) = TestDatabase::new(Backend::Postgres).await {
        let (sqlite, postgres) = (schema(&sqlite).await, schema(&postgres).await);
        assert_eq!(sqlite.keys().collect::<Vec<_>>(), postgres.keys().collect::<Vec<_>>());
        for (name, table) in &sqlite {
            assert_eq!(Some(table), postgres.get(name), "{name}");
        }
    }
}

on_both! {
    async fn every_table_and_every_index_is_led_by_the_app(db) {
        // Rows are found by their own id, which is unique in the world, so a primary key may be that alone.
        let id = vec!["id".to_owned()];
        let exceptions = [
            // A key is presented before its app is known.
            ("api_keys", vec!["hash"]),
            // The sweep of expired keys crosses apps.
            ("idempotency_keys", vec!["expires_at"]),
            // So does that of feed items that have expired.
            ("feed_items", vec!["expires_at"]),
            // And that of audiences that nothing was sent to.
            ("campaigns", vec!["completed_at"]),
            // Operators are told of the oldest work of all apps.
            ("pages", vec!["notification_id"]),
            ("notifications", vec!["created_at"]),
        ];
        let tables = schema(&db).await;
        assert!(tables.len() >= 16);
        for (name, table) in &tables {
            if name == "apps" {
                continue;
            }
            assert_eq!(table.columns.get("app_id"), Some(&("id".to_owned(), false)), "{name}");
            for (columns, ..) in &table.keys {
                let excepted = exceptions.iter().any(|(table, of)| table == name && of == columns);
                assert!(columns[0] == "app_id" || *columns == id || excepted, "{name} {columns:?}");
            }
        }
    }

    async fn migrating_again_or_at_once_changes_nothing(db) {
        let before = schema(&db).await;
        let settings = db.settings();
        let again = futures::future::join_all((0..4).map(|_| campanile::store::Store::migrate(&settings))).await;
        again.into_iter().for_each(Result::unwrap);
        assert_eq!(schema(&db).await, before);
    }
}
