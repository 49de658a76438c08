//! How many rows every table has, to prove that a refused call wrote nothing.

use std::collections::BTreeMap;

use campanile::store::Store;
use sea_orm::{ConnectionTrait, DatabaseBackend, Statement};

/// Rows by table. The schema's own table counts as well.
pub(crate) async fn rows(store: &Store) -> BTreeMap<String, i64> {
    let db = store.read();
    let backend = db.get_database_backend();
    let names = match backend {
        DatabaseBackend::Postgres => {
            "SELECT CAST(tablename AS TEXT) AS name FROM pg_tables WHERE schemaname = 'public'"
        }
        _ => "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    };
    let mut rows = BTreeMap::new();
    for table in db.query_all_raw(Statement::from_string(backend, names)).await.unwrap() {
        let name: String = table.try_get("", "name").unwrap();
        let count = format!("SELECT COUNT(*) AS count FROM \"{name}\"");
        let count = db.query_one_raw(Statement::from_string(backend, count)).await.unwrap();
        rows.insert(name, count.unwrap().try_get("", "count").unwrap());
    }
    rows
}
