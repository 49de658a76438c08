//! A database for every test: on SQLite a file in a temporary folder, on PostgreSQL a copy of a template that was migrated
//! once. Nothing is shared between tests, so they run side by side and leave nothing behind.
//!
//! Write a test once with [`on_both!`](crate::on_both); it runs as `name::sqlite` and `name::postgres`. The latter needs
//! `CAMPANILE_TEST_POSTGRES_URL` (`make test` sets it); without it the test passes unrun, unless `CI` or
//! `CAMPANILE_TEST_REQUIRE_POSTGRES` is set: then it fails.

use std::sync::atomic::{AtomicU32, Ordering};

use campanile::model::Clock;
use campanile::store::{SecretKey, Store, StoreSettings};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tempfile::TempDir;
use tokio::sync::OnceCell;

const TEMPLATE_PREFIX: &str = "campanile_template_";
/// A run's template outlives it, because nothing runs at a test program's end; a later run removes those of this age.
const TEMPLATE_AGE_MAX_SECONDS: i64 = 3_600;

static TEMPLATE: OnceCell<String> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// A file.
    Sqlite,
    /// A database of the cluster that the environment names.
    Postgres,
}

/// A fresh, migrated database; dropped with the value.
pub(crate) struct TestDatabase {
    pub(crate) backend: Backend,
    pub(crate) url: String,
    secret: SecretKey,
    _home: Home,
}

enum Home {
    Folder { _folder: TempDir },
    Database { _database: OwnDatabase },
}

impl TestDatabase {
    /// `None` when the backend is not there and need not be.
    pub(crate) async fn new(backend: Backend) -> Option<Self> {
        let (url, home) = match backend {
            Backend::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}/data/test.db", folder.path().display());
                (url, Home::Folder { _folder: folder })
            }
            Backend::Postgres => {
                let database = OwnDatabase::create(&server()?).await;
                (database.url(), Home::Database { _database: database })
            }
        };
        let secret = SecretKey::generate().unwrap();
        Some(Self {
            backend,
            url,
            secret,
            _home: home,
        })
    }

    pub(crate) fn settings(&self) -> StoreSettings {
        StoreSettings::new(self.url.as_str(), self.secret.clone())
    }

    /// Opens the database, as often as a test likes: every further store is another process as far as the first can tell.
    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.settings()).await.unwrap()
    }
}

/// Defines each test on both databases: `on_both! { async fn sentence(db) { … } }`.
#[macro_export]
macro_rules! on_both {
    ($($(#[$attribute:meta])* async fn $name:ident($db:ident) $body:block)+) => {$(
        $(#[$attribute])*
        mod $name {
            use super::*;
            use $crate::support::database::{Backend, TestDatabase};

            async fn run($db: TestDatabase) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(TestDatabase::new(Backend::Sqlite).await.unwrap()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(db) = TestDatabase::new(Backend::Postgres).await {
                    run(db).await;
                }
            }
        }
    )+};
}

/// The cluster to make databases in.
#[expect(
    clippy::disallowed_methods,
    reason = "a test run is told by its environment which databases there are"
)]
pub(crate) fn server() -> Option<String> {
    let given = std::env::var("CAMPANILE_TEST_POSTGRES_URL")
        .ok()
        .filter(|url| !url.is_empty());
    let required = ["CI", "CAMPANILE_TEST_REQUIRE_POSTGRES"]
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false")));
    assert!(
        given.is_some() || !required,
        "CAMPANILE_TEST_POSTGRES_URL is not set, but this run must test PostgreSQL: tests/setup/postgres.sh start prints one"
    );
    given
}

/// A database of one test, dropped with the value, whoever is still connected to it.
struct OwnDatabase {
    server: String,
    name: String,
}

impl OwnDatabase {
    async fn create(server: &str) -> Self {
        let template = TEMPLATE.get_or_init(|| make_template(server)).await;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}_{number}", template.replacen("template", "test", 1));
        run(server, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        Self {
            server: server.to_owned(),
            name,
        }
    }

    fn url(&self) -> String {
        database_url(&self.server, &self.name)
    }
}

impl Drop for OwnDatabase {
    fn drop(&mut self) {
        let (server, sql) = (
            self.server.clone(),
            format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
        );
        // A thread of its own, because a destructor cannot wait inside the test's runtime.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(run(&server, &sql));
        })
        .join();
        assert!(
            dropped.is_ok() || std::thread::panicking(),
            "the test's database could not be dropped"
        );
    }
}

async fn connect(server: &str) -> PgConnection {
    let options: PgConnectOptions = server.parse().unwrap();
    options.connect().await.unwrap()
}

async fn run(server: &str, sql: &str) {
    let mut conn = connect(server).await;
    conn.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    conn.close().await.unwrap();
}

/// The same server, another database.
fn database_url(server: &str, name: &str) -> String {
    let (base, options) = server
        .split_once('?')
        .map_or((server, None), |(base, options)| (base, Some(options)));
    let (base, _) = base.rsplit_once('/').unwrap();
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    format!("{base}/{name}{options}")
}

async fn make_template(server: &str) -> String {
    let now = Clock::default().now().millis() / 1_000;
    drop_old_templates(server, now).await;
    let name = format!("{TEMPLATE_PREFIX}{now}_{}", std::process::id());
    run(server, &format!("CREATE DATABASE {name}")).await;
    let settings = StoreSettings::new(database_url(server, &name), SecretKey::generate().unwrap());
    Store::migrate(&settings).await.unwrap();
    name
}

async fn drop_old_templates(server: &str, now: i64) {
    let mut conn = connect(server).await;
    let names: Vec<String> = sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)")
        .bind(TEMPLATE_PREFIX)
        .fetch_all(&mut conn)
        .await
        .unwrap();
    for name in names {
        let made = name
            .trim_start_matches(TEMPLATE_PREFIX)
            .split('_')
            .next()
            .and_then(|seconds| seconds.parse::<i64>().ok());
        if made.is_some_and(|made| now - made > TEMPLATE_AGE_MAX_SECONDS) {
            // Another run may be dropping it as well.
            drop(
                conn.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")))
                    .await,
            );
        }
    }
}
