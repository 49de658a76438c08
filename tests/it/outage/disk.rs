//! SQLite's disk is full, or another process holds its file: writes are refused in time, reads go on, nothing is half
//! written, and once there is room again writes succeed without a restart.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures::FutureExt;
use sqlx::{Connection, Executor, SqliteConnection};
use tempfile::TempDir;

use super::load::{Journal, Load, check};
use super::{APP, open_shop, page, shop, short_or_long, until};
use crate::support::running::{Running, after};

/// Callers that send.
const SENDERS: u32 = 4;
/// Within which writes are done again once they can be.
const BACK_WITHIN: Duration = Duration::from_secs(2);
/// Within which a write is refused that cannot be done: SQLite waits five seconds for another process.
const ANSWER_WITHIN: Duration = Duration::from_secs(7);
/// Lines about no call in a second.
const LINES_MAX: u64 = 6;

/// Lets a server run into something that keeps it from writing, and go on after it.
async fn nothing_can_be_written(server: &Running, begin: impl AsyncFn(), end: impl AsyncFn()) -> Journal {
    let load = Load::start(&server.url, SENDERS);
    tokio::time::sleep(Duration::from_millis(700)).await;
    begin().await;
    let began = Instant::now();
    let refused = async || server.said().contains("ERR_UNAVAILABLE");
    until("a write is refused", ANSWER_WITHIN, refused).await;
    let (time, lines) = (short_or_long(3, 30), own_lines(server));
    tokio::time::sleep(Duration::from_secs(time)).await;
    let lines = own_lines(server) - lines;
    // Reads go on, so it is ready.
    assert_eq!(page(server, "/readyz").await.0, 200);
    end().await;
    let back = Instant::now();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let journal = load.end().await;
    let refused = journal.refused().filter(|told| told.began + told.took >= began).count();
    assert!(refused > 0, "nobody noticed");
    journal.check_reads();
    journal.check_refusals(ANSWER_WITHIN);
    journal.check_served_since(back + BACK_WITHIN);
    check(&server.url, &journal).await;
    assert!(
        lines <= usize::try_from(LINES_MAX * time).unwrap(),
        "{lines} lines in {time} s: {}",
        server.said()
    );
    journal
}

fn own_lines(server: &Running) -> usize {
    let said = server.said();
    said.lines().filter(|line| !line.contains("\"rpc\"")).count()
}

/// SQLite finds nothing wrong with the file, and it holds exactly the sends that were acknowledged.
async fn check_file(folder: &Path, journal: &Journal) {
    let url = format!("sqlite://{}", folder.join("data/campanile.db").display());
    let mut conn = SqliteConnection::connect(&url).await.unwrap();
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(whole, "ok");
    let orphans = conn.fetch_all("PRAGMA foreign_key_check").await.unwrap();
    assert!(orphans.is_empty());
    let sends: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM notifications")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(usize::try_from(sends).unwrap(), journal.sent.len());
}

/// Bounds the files of a process that runs; beyond it writing fails as on a disk that is full.
fn limit_files(server: &Running, bytes: &str) {
    let pid = server.child.id().unwrap().to_string();
    let limit = format!("--fsize={bytes}:unlimited");
    let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
    assert!(done.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_notices_a_send_that_is_missing_and_one_that_is_there_twice() {
    let folder = TempDir::new().unwrap();
    let server = shop(&folder, &[]).await;
    let load = Load::start(&server.url, SENDERS);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let mut journal = load.end().await;
    check(&server.url, &journal).await;
    let notices = async |journal: &Journal| {
        AssertUnwindSafe(check(&server.url, journal))
            .catch_unwind()
            .await
            .is_err()
    };
    let last = journal.sent.pop().unwrap();
    assert!(notices(&journal).await, "one more than was acknowledged");
    journal.sent.extend([last.clone(), last]);
    assert!(notices(&journal).await, "one fewer than was acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_may_not_grow_refuse_writes_until_they_may_and_reads_go_on() {
    let folder = TempDir::new().unwrap();
    // Its default is to end the process.
    let server = Running::start_by(after(folder.path(), "trap '' XFSZ"), &APP).await;
    open_shop(&server).await;
    let (begin, end) = (
        async || limit_files(&server, "1"),
        async || limit_files(&server, "unlimited"),
    );
    let journal = nothing_can_be_written(&server, begin, end).await;
    server.signal().await;
    assert_eq!(server.exit().await.0, Some(0));
    check_file(folder.path(), &journal).await;
}

/// A disk of its own, where the system lets us have one.
struct Disk(PathBuf);

impl Disk {
    fn new(folder: &Path) -> Option<Self> {
        let path = folder.join("disk");
        fs::create_dir(&path).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "campanile-test"])
            .arg(&path)
            .output();
        mount.is_ok_and(|done| done.status.success()).then_some(Self(path))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Leaves no room.
    fn fill(&self) {
        let full = fs::write(self.ballast(), vec![1; 16 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_refuses_writes_until_there_is_room_and_reads_go_on() {
    let folder = TempDir::new().unwrap();
    // The test above does without, for a system that gives us none.
    let Some(disk) = Disk::new(folder.path()) else { return };
    let server = Running::start(&disk.0, &APP).await;
    open_shop(&server).await;
    let journal = nothing_can_be_written(&server, async || disk.fill(), async || disk.make_room()).await;
    let told = journal
        .refused()
        .map(|told| told.answer.body["error"]["devMessage"].to_string());
    let told: Vec<_> = told
        .filter(|told| !told.contains("disk of the database is full, nothing was changed"))
        .collect();
    assert!(told.is_empty(), "{told:#?}");
    server.signal().await;
    assert_eq!(server.exit().await.0, Some(0));
    check_file(&disk.0, &journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_process_holds_refuses_all_writes_in_time_and_reads_go_on() {
    let folder = TempDir::new().unwrap();
    let server = shop(&folder, &[]).await;
    let url = format!("sqlite://{}/data/campanile.db", folder.path().display());
    let other = tokio::sync::Mutex::new(SqliteConnection::connect(&url).await.unwrap());
    let execute = async |sql: &'static str| {
        other.lock().await.execute(sql).await.unwrap();
    };
    let (begin, end) = (
        async || execute("BEGIN IMMEDIATE").await,
        async || execute("ROLLBACK").await,
    );
    let journal = nothing_can_be_written(&server, begin, end).await;
    server.signal().await;
    assert_eq!(server.exit().await.0, Some(0));
    check_file(folder.path(), &journal).await;
}
