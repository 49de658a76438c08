//! The binary as a process that is killed, stopped and started again on the same database.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use campanile::failpoint::Point;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::support::database::{Backend, TestDatabase};

pub(super) const KEY: &str = "bootstrap-key-of-the-crash-tests-0001";
const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// How long a test waits for what has to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a process may take from its start until it listens, whatever others write beside it.
const START_MAX: Duration = Duration::from_secs(20);
/// How long a worker may hold a page without a sign of life.
pub(super) const LEASE: Duration = Duration::from_secs(1);
/// This build.
const BINARY: &str = env!("CARGO_BIN_EXE_campanile");
/// What `abort` ends a process with.
const SIGABRT: i32 = 6;

/// A number below `most`, by chance.
pub(super) fn chance(most: u64) -> u64 {
    RandomState::new().build_hasher().finish() % most
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test run is told by its environment how long it may take"
)]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Lets a process die at a point.
pub(super) fn abort_at(point: Point, time: u32) -> (&'static str, String) {
    ("CAMPANILE_TEST_FAILPOINTS", format!("{}=abort@{time}", point.as_str()))
}

/// One process that serves.
pub(super) struct Server {
    /// Where it listens.
    pub(super) url: String,
    pub(super) http: reqwest::Client,
    pid: String,
    child: Mutex<Child>,
    log: Arc<Mutex<String>>,
    reads: JoinSet<()>,
    _folder: TempDir,
}

/// The command that serves the database. A page holds few recipients and a lease is short, so that little load makes many
/// steps.
fn command(binary: &str, db: &TestDatabase, folder: &TempDir, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary);
    command
        .arg("serve")
        .env_clear()
        .current_dir(folder.path())
        .kill_on_drop(true);
    command
        .env("PATH", variable("PATH").unwrap_or_default())
        .env("CAMPANILE_LISTEN", "127.0.0.1:0")
        .env("CAMPANILE_LOG_FORMAT", "json")
        .env("CAMPANILE_DATABASE_URL", &db.url)
        .env("CAMPANILE_SECRET_KEY", SECRET)
        .env("CAMPANILE_BOOTSTRAP_APP", "shop")
        .env("CAMPANILE_BOOTSTRAP_KEY", KEY)
        .env("CAMPANILE_RATE_LIMIT", "0")
        .env("CAMPANILE_RATE_LIMIT_CORE", "0")
        .env("CAMPANILE_PAGE_ROWS", "10")
        .env("CAMPANILE_LEASE_SECONDS", LEASE.as_secs().to_string())
        .envs(settings.iter().copied());
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    command
}

impl Server {
    /// Starts a process on the database, and returns once it listens.
    pub(super) async fn start(db: &TestDatabase, settings: &[(&str, &str)]) -> Self {
        Self::start_build(BINARY, db, settings).await
    }

    /// The same of another build.
    pub(super) async fn start_build(binary: &str, db: &TestDatabase, settings: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut child = command(binary, db, &folder, settings).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listens = tokio::time::timeout(START_MAX, listening(&mut lines)).await;
        let url = match listens {
            Ok(Ok(url)) => url,
            failed => unreachable!("it did not start: {failed:?}"),
        };
        let log = Arc::<Mutex<String>>::default();
        let (mut reads, kept) = (JoinSet::new(), Arc::clone(&log));
        // Read to the end: a server whose log nobody reads stands still once the pipe is full.
        reads.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lock().await;
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        Self {
            url,
            http: reqwest::Client::new(),
            pid: child.id().unwrap().to_string(),
            child: Mutex::new(child),
            log,
            reads,
            _folder: folder,
        }
    }

    async fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid]).status().await.unwrap();
        assert!(sent.success(), "{signal}");
    }

    async fn ended(&self) -> ExitStatus {
        self.child.lock().await.wait().await.unwrap()
    }

    /// Kills it, as a power cut would, but for what the system has not written yet.
    pub(super) async fn kill(&self) {
        self.signal("-KILL").await;
        self.ended().await;
    }

    /// Tells it to stop, and does not wait.
    pub(super) async fn terminate(&self) {
        self.signal("-TERM").await;
    }

    /// Tells it to stop, and waits until it has, in order and with every call answered.
    pub(super) async fn stop(mut self) {
        self.terminate().await;
        let status = self.ended().await;
        while self.reads.join_next().await.is_some() {}
        let log = self.log.lock().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("stopped, every call was answered"), "{log}");
    }

    /// Waits until it has died at a point, and fails if it did not.
    pub(super) async fn died_at(mut self, point: Point) {
        let ended = tokio::time::timeout(PATIENCE, self.ended()).await;
        let signal = ended.ok().and_then(|status| status.signal());
        if signal.is_some() {
            while self.reads.join_next().await.is_some() {}
        }
        let log = self.log.lock().await;
        let told = log.contains(&format!("failpoint {}\n", point.as_str()));
        assert!(
            told && signal == Some(SIGABRT),
            "{point:?} was not reached: {signal:?} {log}"
        );
    }

    /// Whether its log holds a text.
    pub(super) async fn said(&self, text: &str) -> bool {
        self.log.lock().await.contains(text)
    }

    /// Whether its metrics hold a line.
    pub(super) async fn shows(&self, line: &str) -> bool {
        let page = self.http.get(format!("{}/metrics", self.url)).send().await.unwrap();
        page.text().await.unwrap().contains(line)
    }

    /// Waits until it stands still.
    pub(super) async fn stands_still(&self) {
        let standing = async {
            loop {
                let stat = tokio::fs::read_to_string(format!("/proc/{}/stat", self.pid))
                    .await
                    .unwrap();
                if stat.rsplit(") ").next().unwrap().starts_with('T') {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, standing).await.unwrap();
    }

    /// Lets it go on.
    pub(super) async fn go_on(&self) {
        self.signal("-CONT").await;
    }

    /// The status that it answers to a GET.
    pub(super) async fn status(&self, path: &str) -> u16 {
        let answer = self
            .http
            .get(format!("{}{path}", self.url))
            .header("apikey", KEY)
            .send()
            .await;
        answer.unwrap().status().as_u16()
    }
}

/// Waits until a process listens, and gives its URL; or what it said before it ended.
async fn listening(lines: &mut Lines<BufReader<ChildStderr>>) -> Result<String, String> {
    let mut said = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        let told = serde_json::from_str::<serde_json::Value>(&line).ok();
        if let Some(url) = told.as_ref().and_then(|line| line["url"].as_str()) {
            return Ok(url.to_owned());
        }
        said.push_str(&line);
        said.push('\n');
    }
    Err(said)
}

/// Starts a process that dies at a point before it listens.
pub(super) async fn dies_at_start(db: &TestDatabase, point: Point) {
    let folder = TempDir::new().unwrap();
    let (name, armed) = abort_at(point, 1);
    let output = command(BINARY, db, &folder, &[(name, &armed)]).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let told = said.contains(&format!("failpoint {}\n", point.as_str()));
    assert!(
        told && output.status.signal() == Some(SIGABRT),
        "{point:?} was not reached: {said}"
    );
}

/// Runs a statement on the database, past the service.
pub(super) async fn execute(db: &TestDatabase, sql: &str) -> sqlx::Result<()> {
    let sql = AssertSqlSafe(sql.to_owned());
    match db.backend {
        Backend::Sqlite => {
            let options: SqliteConnectOptions = db.url.parse()?;
            let mut conn = options.busy_timeout(Duration::from_secs(10)).connect().await?;
            conn.execute(sql).await?;
            conn.close().await
        }
        Backend::Postgres => {
            let mut conn = PgConnection::connect(&db.url).await?;
            conn.execute(sql).await?;
            conn.close().await
        }
    }
}

/// Whether the database takes a write at once.
pub(super) async fn is_writable(db: &TestDatabase) -> bool {
    if db.backend == Backend::Postgres {
        return true;
    }
    let options: SqliteConnectOptions = db.url.parse().unwrap();
    let mut conn = options.busy_timeout(Duration::ZERO).connect().await.unwrap();
    let taken = conn.execute("BEGIN IMMEDIATE").await.is_ok();
    conn.close().await.unwrap();
    taken
}
