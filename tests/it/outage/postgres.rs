//! PostgreSQL goes away under load, falls silent, crashes, or loses the answers to COMMIT.

use std::time::{Duration, Instant};

use tempfile::TempDir;
use tonic::transport::Endpoint;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::load::{Load, check};
use super::{SECRET, page, shop, short_or_long, until};
use crate::support::cable::{Cable, Cut};
use crate::support::cluster::Cluster;
use crate::support::database::{Backend, TestDatabase};
use crate::support::rows::rows;
use crate::support::running::Running;

/// Callers that send.
const SENDERS: u32 = 8;
/// Within which the service serves again once its database is back.
const BACK_WITHIN: Duration = Duration::from_secs(2);
/// Lines that are written about the absence itself, however long it is, once it was told.
const LINES_MAX: usize = 12;

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Settings of a server whose database is behind a cable.
fn settings(url: &str) -> [(&str, &str); 2] {
    [("CAMPANILE_DATABASE_URL", url), ("CAMPANILE_SECRET_KEY", SECRET)]
}

/// How many sends the database holds.
async fn sends(db: &TestDatabase) -> usize {
    usize::try_from(rows(&db.open().await).await["notifications"]).unwrap()
}

/// What those are told who ask by grpc.health.v1.
async fn health(server: &Running) -> i32 {
    let channel = Endpoint::from_shared(server.url.clone())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let request = HealthCheckRequest::default();
    HealthClient::new(channel)
        .check(request)
        .await
        .unwrap()
        .into_inner()
        .status
}

/// Lines that are about no call, after the one that tells of the loss.
fn lines_since_loss(server: &Running) -> Vec<String> {
    let said = server.said();
    let since = said
        .lines()
        .skip_while(|line| !line.contains("the database does not answer"));
    let own = since.skip(1).filter(|line| !line.contains("\"rpc\""));
    own.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_commit_that_are_lost_under_load_double_and_lose_nothing() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let (folder, cable) = (TempDir::new().unwrap(), Cable::lay(&db.url).await);
    let server = shop(&folder, &settings(&cable.url)).await;
    let load = Load::start(&server.url, SENDERS);
    for cut in [Cut::After, Cut::Before, Cut::After] {
        cable.cut_every(3, cut, u32::try_from(short_or_long(20, 300)).unwrap());
        let all = async || cable.cuts_left() == 0;
        until("every cut is made", Duration::from_secs(300), all).await;
    }
    let journal = load.end().await;
    journal.check_refusals(Duration::from_secs(10));
    check(&server.url, &journal).await;
    assert_eq!(sends(&db).await, journal.sent.len());
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Away {
    /// Every connection is cut, and so is each new one.
    Gone,
    /// Connections stay open, and nothing comes back.
    Silent,
}

async fn the_database_is_away(away: Away, answer_within: Duration) {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let (folder, cable) = (TempDir::new().unwrap(), Cable::lay(&db.url).await);
    let server = shop(&folder, &settings(&cable.url)).await;
    let ready = async || page(&server, "/readyz").await.0 == 200;
    assert!(ready().await);
    let load = Load::start(&server.url, SENDERS);
    seconds(1).await;
    match away {
        Away::Gone => cable.go_away(),
        Away::Silent => cable.fall_silent(),
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(short_or_long(5, 30)) {
        let (status, took) = page(&server, "/readyz").await;
        assert!(
            status == 503 && took < Duration::from_secs(3),
            "{status} after {took:?}"
        );
        let (status, took) = page(&server, "/healthz").await;
        assert!(
            status == 200 && took < Duration::from_secs(1),
            "{status} after {took:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(health(&server).await, ServingStatus::NotServing as i32);
    let (status, took) = page(&server, "/metrics").await;
    assert!(
        status == 200 && took < Duration::from_secs(5),
        "{status} after {took:?}"
    );
    let lines = lines_since_loss(&server);
    cable.come_back();
    let back = Instant::now();
    until("ready again", BACK_WITHIN, ready).await;
    seconds(short_or_long(3, 10)).await;
    assert_eq!(health(&server).await, ServingStatus::Serving as i32);
    let journal = load.end().await;
    assert!(journal.slowest() > Duration::from_secs(1), "nobody noticed");
    journal.check_refusals(answer_within);
    journal.check_served_since(back + BACK_WITHIN);
    check(&server.url, &journal).await;
    assert_eq!(sends(&db).await, journal.sent.len());
    assert!(lines.len() <= LINES_MAX, "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_is_told_in_time_and_served_again_at_once() {
    the_database_is_away(Away::Gone, Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_falls_silent_is_told_in_time_and_served_again_at_once() {
    the_database_is_away(Away::Silent, Duration::from_secs(16)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_database_is_silent_stops_when_it_is_told_to() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let (folder, cable) = (TempDir::new().unwrap(), Cable::lay(&db.url).await);
    let server = shop(&folder, &settings(&cable.url)).await;
    let load = Load::start(&server.url, SENDERS);
    seconds(1).await;
    cable.fall_silent();
    server.signal().await;
    let began = Instant::now();
    let (code, log) = server.exit().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    drop(load);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_crashes_and_starts_again_in_mid_send_loses_and_doubles_nothing() {
    let Some(cluster) = Cluster::start().await else { return };
    let folder = TempDir::new().unwrap();
    let server = shop(&folder, &settings(&cluster.url)).await;
    let load = Load::start(&server.url, SENDERS);
    for _ in 0..short_or_long(2, 10) {
        seconds(1).await;
        cluster.restart().await;
    }
    seconds(1).await;
    cluster.halt().await;
    seconds(short_or_long(2, 30)).await;
    cluster.restart().await;
    let back = Instant::now();
    seconds(4).await;
    let journal = load.end().await;
    journal.check_refusals(Duration::from_secs(12));
    journal.check_served_since(back + BACK_WITHIN);
    check(&server.url, &journal).await;
}
