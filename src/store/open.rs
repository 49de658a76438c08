//! Opening a database: its settings, its connections, its schema. It never reads the environment.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use campanile_migrations::Migrator;
use sea_orm::{
    DatabaseConnection, DbErr, SqliteTransactionMode, SqlxPostgresConnector, SqlxSqliteConnector, TransactionOptions,
    TransactionTrait as _,
};
use sea_orm_migration::MigratorTrait;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Executor};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::{carried, is_busy};
use super::measure::Measures;
use super::postgres::PostgresWriter;
use super::pulse::Pulse;
use super::reader::{Pool, Reader};
use super::secret::SecretKey;
use super::share::Calls;
use super::sqlite::{SqliteWriter, patiently};
use super::{Inner, Store, Writer};
use crate::failpoint::{Point, hit};
use crate::model::{Error, Reason, Result, Violation};
use crate::telemetry::Meter;

/// How long a caller waits for a free connection before it is told to come back.
pub(super) const ACQUIRE_TIME_MAX: Duration = Duration::from_secs(3);
/// How long a reader of SQLite waits for another process that holds the file.
const BUSY_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a start waits for another process that is migrating the same database.
const MIGRATION_WAIT_MAX: Duration = Duration::from_secs(120);
/// Memory for pages of SQLite's writer at most, in KiB and negative as SQLite has it: four times its default, in which not even
/// the upper pages of all indexes have a place, so that it reads them from the file again and again.
const WRITER_CACHE: &str = "-8192";
/// A pooled connection that rested longer than this is asked whether it still lives, so that a restart of PostgreSQL costs
/// its first callers a reconnect and not an error.
const IDLE_UNCHECKED_MAX: Duration = Duration::from_secs(1);
/// Any two nodes that migrate one database choose this number: "camp" in ASCII.
const MIGRATION_LOCK: i64 = 0x6361_6d70;

/// How to open a store.
#[derive(Clone)]
pub struct StoreSettings {
    /// `sqlite://<path>` or `postgres://user:password@host:port/database`.
    pub url: String,
    /// Encrypts stored secrets.
    pub secret: SecretKey,
    /// Connections for reading at most, and on PostgreSQL as many again for writing, so that neither can starve the other;
    /// SQLite writes over a single one. 1 to 1,000.
    pub connections: u32,
    /// Counts what the service does.
    pub meter: Meter,
}

impl StoreSettings {
    /// Connections unless told otherwise.
    pub const CONNECTIONS: u32 = 16;

    /// The default settings for a database.
    #[must_use]
    pub fn new(url: impl Into<String>, secret: SecretKey) -> Self {
        Self {
            url: url.into(),
            secret,
            connections: Self::CONNECTIONS,
            meter: Meter::new(),
        }
    }
}

impl StoreSettings {
    /// The folder that holds SQLite's file; `None` with PostgreSQL.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        let file =
            SqliteConnectOptions::from_str(self.url.as_str().strip_prefix("sqlite:").map(|_| &*self.url)?).ok()?;
        file.get_filename().parent().map(Path::to_path_buf)
    }
}

/// Without the URL, which may hold a password.
impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSettings")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

enum Place {
    Sqlite(SqliteConnectOptions),
    Postgres(PgConnectOptions),
}

impl Store {
    /// Opens the database, creating SQLite's file and folder where missing, and brings its schema up to date.
    ///
    /// # Errors
    /// A violation of `databaseUrl` or `connections` when they cannot be right; unavailable when the database cannot be
    /// reached; internal when its schema cannot be brought up to date.
    pub async fn open(settings: &StoreSettings) -> Result<Self> {
        let place = place(settings)?;
        migrate(&place).await?;
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let (measures, calls) = (Measures::new(settings.meter.clone()), Calls::default());
        let (reader, writer) = match place {
            Place::Sqlite(options) => {
                let readers = options.clone().pragma("query_only", "ON");
                let pool = SqlitePoolOptions::new()
                    .max_connections(settings.connections)
                    .acquire_timeout(ACQUIRE_TIME_MAX)
                    .test_before_acquire(false)
                    .connect_lazy_with(readers);
                let options = options.pragma("cache_size", WRITER_CACHE);
                let writer = SqliteWriter::start(options, (&tasks, measures.clone()), stop.clone()).await;
                (Pool::Sqlite(pool), Writer::Sqlite(writer.map_err(carried)?))
            }
            Place::Postgres(options) => {
                let read_only = options.clone().options([("default_transaction_read_only", "on")]);
                let pulse = Pulse::start(read_only.clone(), &tasks, stop.clone());
                let readers = trusted_pool(settings.connections, &pulse).connect_lazy_with(read_only);
                let pool = trusted_pool(settings.connections, &pulse).connect_lazy_with(options.clone());
                let writer = PostgresWriter::new((pool, options), pulse.clone(), (measures.clone(), calls.clone()));
                (Pool::Postgres(readers, pulse), Writer::Postgres(Box::new(writer)))
            }
        };
        let group_turns = match &writer {
            Writer::Postgres(writer) => Some(Semaphore::new((writer.connections() / 2).max(1))),
            Writer::Sqlite(_) => None,
        };
        Ok(Self(Arc::new(Inner {
            group_turns,
            reader: Reader(reader),
            writer,
            cipher: settings.secret.cipher("idempotency")?,
            measures,
            calls,
            groups: TaskTracker::new(),
            tasks,
            _stopped_with_it: stop.clone().drop_guard(),
            stop,
        })))
    }

    /// Brings the schema up to date and does nothing else.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn migrate(settings: &StoreSettings) -> Result<()> {
        migrate(&place(settings)?).await
    }
}

/// A pool that lets go of connections which broke while they rested, or stem from before the database was last away.
fn trusted_pool(connections: u32, pulse: &Pulse) -> PgPoolOptions {
    let pulse = pulse.clone();
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIME_MAX)
        .test_before_acquire(false)
        .before_acquire(move |conn, meta| {
            let is_too_old = pulse.is_too_old(&meta);
            Box::pin(async move {
                if !is_too_old && meta.idle_for > IDLE_UNCHECKED_MAX {
                    conn.execute("SELECT 1").await?;
                }
                Ok(!is_too_old)
            })
        })
}

fn place(settings: &StoreSettings) -> Result<Place> {
    let mut violations = Vec::new();
    if !(1..=1_000).contains(&settings.connections) {
        violations.push(Violation::new("connections", "must be between 1 and 1000").received(settings.connections));
    }
    // The received value is left out on purpose: it may hold a password.
    let url = settings.url.as_str();
    let place = if url.starts_with("sqlite://") {
        sqlite_place(url)
    } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        postgres_place(url)
    } else {
        None
    };
    match place {
        Some(place) if violations.is_empty() => Ok(place),
        Some(_) => Err(Error::invalid(violations)),
        None => {
            violations.push(Violation::new(
                "databaseUrl",
                "must be sqlite://<path to a file> or postgres://user:password@host:port/database",
            ));
            Err(Error::invalid(violations))
        }
    }
}

fn sqlite_place(url: &str) -> Option<Place> {
    let options = SqliteConnectOptions::from_str(url).ok()?;
    // A database in memory is a new one for every connection.
    if options.get_filename().as_os_str().is_empty() || url.contains(":memory:") || url.contains("mode=memory") {
        return None;
    }
    let options = options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // An answer promises that the write survives a power cut, so every COMMIT reaches the disk.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // What a savepoint or a sort puts aside would otherwise go to a file in a folder that nobody thinks of when a disk
        // is full or no descriptor is left.
        .pragma("temp_store", "MEMORY")
        .busy_timeout(BUSY_TIME_MAX)
        .statement_cache_capacity(512)
        .disable_statement_logging();
    Some(Place::Sqlite(options))
}

fn postgres_place(url: &str) -> Option<Place> {
    let options = PgConnectOptions::from_str(url).ok()?;
    let options = options
        .application_name("campanile")
        .statement_cache_capacity(512)
        .options([
            ("statement_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "30s"),
        ])
        .disable_statement_logging();
    Some(Place::Postgres(options))
}

async fn migrate(place: &Place) -> Result<()> {
    match place {
        Place::Sqlite(options) => {
            create_folder(options.get_filename()).await?;
            // Another process may be making the same file at this very moment.
            let migrated = patiently(MIGRATION_WAIT_MAX, is_busy, || migrate_file(options)).await;
            migrated.map_err(not_migrated)
        }
        Place::Postgres(options) => {
            // Building an index may take long, and so may waiting for the node that builds it.
            let lock_timeout = format!("{}ms", MIGRATION_WAIT_MAX.as_millis());
            let options = options
                .clone()
                .options([("statement_timeout", "0".to_owned()), ("lock_timeout", lock_timeout)]);
            // One connection, because the lock belongs to the session that took it.
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .acquire_timeout(ACQUIRE_TIME_MAX);
            let pool = pool.connect_with(options).await.map_err(carried)?;
            let db = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
            let result = migrate_alone(&db).await;
            pool.close().await;
            result
        }
    }
}

async fn migrate_file(options: &SqliteConnectOptions) -> Result<(), DbErr> {
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options.clone()).await.map_err(carried)?;
    let db = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool.clone());
    let result = migrate_at_once(&db).await;
    pool.close().await;
    result
}

/// All migrations in one transaction that holds SQLite's lock from its beginning: of processes that start together one
/// migrates, and a start that is cut short leaves nothing half made.
async fn migrate_at_once(db: &DatabaseConnection) -> Result<(), DbErr> {
    // Most starts find nothing to do, and need not wait for a process that writes beside them.
    if Migrator::get_pending_migrations_read_only(db).await?.is_empty() {
        return Ok(());
    }
    let immediate = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let tx = db.begin_with_options(immediate).await?;
    Migrator::up(&tx, None).await?;
    hit(Point::Migrating);
    tx.commit().await
}

async fn migrate_alone(db: &DatabaseConnection) -> Result<()> {
    use sea_orm::ConnectionTrait;
    db.execute_unprepared(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})"))
        .await?;
    // The lock ends with its session, which the caller closes.
    Migrator::up(db, None).await.map_err(not_migrated)?;
    hit(Point::Migrating);
    Ok(())
}

fn not_migrated(error: DbErr) -> Error {
    let error = Error::from(error);
    if error.reason() == Reason::Unavailable {
        return error;
    }
    Error::new(
        Reason::Internal,
        "the schema of the database cannot be brought up to date",
    )
    .because(error)
}

async fn create_folder(file: &Path) -> Result<()> {
    let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    let folder = PathBuf::from(folder);
    tokio::fs::create_dir_all(&folder).await.map_err(|error| {
        let message = format!("the folder {} of the database cannot be created", folder.display());
        Error::new(Reason::Internal, message).because(error)
    })
}
