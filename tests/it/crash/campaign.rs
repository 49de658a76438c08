//! Campaigns survive: real processes are killed, stopped and started again while campaigns are prepared, imported, sent,
//! scheduled, held and cancelled, and afterwards audiences, imports, counts, streams and feeds are compared with the journal
//! of what was answered.

mod check;
mod file;
mod journal;
mod load;
mod scene;

use std::time::Duration;

use campanile::failpoint::Point;
use tempfile::TempDir;

use super::check::until;
use super::points::{Scene, points};
use super::server::{LEASE, Server, abort_at, chance, variable};
use super::{STANDS_MAX, kills, server};
use crate::on_both;
use crate::support::database::TestDatabase;
use check::{faults, wait};
use journal::Journal;
use load::{Load, shop};

/// What a worker shows that has given back the page of a held campaign.
const GIVEN_BACK: &str = "campanile_page_events_total{event=\"given_back\"} 1\n";
/// What a worker says that finds its lease over.
const TAKEN_OVER: &str = "taken over by another worker";
/// Clients of a load: one for each plot.
const CLIENTS: u32 = 6;
/// Campaigns that are due at the same moment.
const DUE: usize = 5;

/// Where files are, whatever process reads them.
struct Uploads(TempDir);

impl Uploads {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Settings with which little load makes many batches, and more.
    fn with<'s>(&'s self, more: &[(&'s str, &'s str)]) -> Vec<(&'s str, &'s str)> {
        let folder = ("CAMPANILE_UPLOADS_FOLDER", self.0.path().to_str().unwrap());
        [&[folder, ("CAMPANILE_IMPORT_ROWS", "10")], more].concat()
    }
}

/// Waits until all that was acknowledged is final, and gives what is wrong then.
async fn settled(server: &Server, journal: &Journal) -> Vec<String> {
    wait(server, journal).await;
    faults(server, journal).await
}

on_both! {
    async fn campaigns_lose_and_double_nothing_however_often_the_process_is_killed(db) {
        let uploads = Uploads::new();
        let settings = uploads.with(&[]);
        let mut server = Server::start(&db, &settings).await;
        shop(&server).await;
        let load = Load::start(&server, CLIENTS);
        for _ in 0..kills() {
            tokio::time::sleep(Duration::from_millis(100 + chance(1_200))).await;
            server.kill().await;
            server = Server::start(&db, &settings).await;
            load.moved(&server);
        }
        let journal = load.end().await;
        assert!(journal.files > 0 && journal.fired() > 0, "{journal:#?}");
        assert_eq!(settled(&server, &journal).await, Vec::<String>::new());
        tell(&journal);
        server.stop().await;
    }

    async fn a_process_may_die_anywhere_in_a_campaign(db) {
        let uploads = Uploads::new();
        let first = Server::start(&db, &uploads.with(&[])).await;
        shop(&first).await;
        let load = Load::start(&first, CLIENTS);
        first.kill().await;
        for (point, time) in points(Scene::Campaign) {
            let (name, armed) = abort_at(point, time);
            // What one process left in the middle the next one takes up, until it dies as well.
            let next = Server::start(&db, &uploads.with(&[(name, &armed)])).await;
            load.moved(&next);
            next.died_at(point).await;
        }
        let server = Server::start(&db, &uploads.with(&[])).await;
        load.moved(&server);
        let journal = load.end().await;
        assert_eq!(settled(&server, &journal).await, Vec::<String>::new());
        server.stop().await;
    }

    async fn two_processes_that_find_the_same_campaigns_due_at_the_same_moment_start_each_once(db) {
        let uploads = Uploads::new();
        let api = Server::start(&db, &uploads.with(&[("CAMPANILE_ROLES", "api")])).await;
        shop(&api).await;
        let journal = scene::scheduled(&api, DUE).await;
        let armed = format!("{}=stop", Point::DueFound.as_str());
        let armed = uploads.with(&[("CAMPANILE_TEST_FAILPOINTS", &armed), ("CAMPANILE_ROLES", "worker")]);
        let workers = [Server::start(&db, &armed).await, Server::start(&db, &armed).await];
        for worker in &workers {
            worker.stands_still().await;
        }
        for worker in &workers {
            worker.go_on().await;
        }
        assert_eq!(settled(&api, &journal).await, Vec::<String>::new());
        assert_eq!(journal.fired(), DUE);
        for worker in workers {
            worker.stop().await;
        }
        api.stop().await;
    }

    async fn campaigns_that_an_earlier_build_has_begun_are_finished_by_this_one(db) {
        // The path of that build; `make soak` makes one.
        let Some(earlier) = variable("CAMPANILE_TEST_PREVIOUS") else { return };
        // It makes its own schema: a database that was migrated by a later build it would refuse to start on.
        if db.backend == Backend::Postgres {
            for statement in ["DROP SCHEMA public CASCADE", "CREATE SCHEMA public"] {
                server::execute(&db, statement).await.unwrap();
            }
        }
        let first = Server::start_build(&earlier, &db, &[]).await;
        shop(&first).await;
        let mut journal = scene::scheduled(&first, DUE).await;
        let load = Load::start_without_files(&first, CLIENTS);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        // Beside the earlier one at first, as when nodes are replaced one by one.
        let second = Server::start(&db, &[]).await;
        load.moved(&second);
        tokio::time::sleep(Duration::from_millis(700)).await;
        first.kill().await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        journal.extend(load.end().await);
        assert_eq!(settled(&second, &journal).await, Vec::<String>::new());
        assert!(journal.held > 0 && journal.fired() == DUE, "{journal:#?}");
        tell(&journal);
        second.stop().await;
    }

    async fn what_was_leased_before_a_pause_is_not_done_behind_its_answer(db) {
        assert_eq!(held(&db, &[]).await, Vec::<String>::new());
    }

    async fn the_checker_finds_what_appears_behind_the_answer_to_a_pause(db) {
        let found = held(&db, &[("CAMPANILE_TEST_BROKEN", "no_hold")]).await;
        assert!(found.iter().any(|fault| fault.contains("went on while it was held")), "{found:#?}");
    }

    async fn an_importer_that_stands_still_for_longer_than_its_lease_adds_nobody_afterwards(db) {
        assert_eq!(stale(&db, &[]).await, Vec::<String>::new());
    }

    async fn the_checker_finds_rows_that_are_taken_twice_without_the_fence_of_imports(db) {
        let found = stale(&db, &[("CAMPANILE_TEST_BROKEN", "no_import_fence")]).await;
        assert!(found.iter().any(|fault| fault.contains("the import of")), "{found:#?}");
    }
}

/// A worker leases a page and stands still; the campaign is held; then the worker goes on. Gives what is wrong when it was
/// resumed and has come to its end.
async fn held(db: &TestDatabase, settings: &[(&str, &str)]) -> Vec<String> {
    let uploads = Uploads::new();
    let worker = uploads.with(&[("CAMPANILE_ROLES", "worker"), ("CAMPANILE_WORKERS", "1")]);
    let armed = format!("{}=stop", Point::AfterLease.as_str());
    let standing = [&worker[..], &[("CAMPANILE_TEST_FAILPOINTS", armed.as_str())], settings].concat();
    let api = Server::start(db, &uploads.with(&[("CAMPANILE_ROLES", "api")])).await;
    shop(&api).await;
    let mut journal = Journal::default();
    let (first, mut sending) = loop {
        let first = Server::start(db, &standing).await;
        // What it does at its start is over before there is a page.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let sending = scene::sending(&api).await;
        first.stands_still().await;
        if server::is_writable(db).await {
            break (first, sending);
        }
        // It stands in the middle of a write of another duty; see `standing_aside`.
        first.kill().await;
        let other = Server::start(db, &worker).await;
        journal.extend(sending.finish().await);
        other.stop().await;
        assert!(
            journal.runs.len() < usize::try_from(STANDS_MAX).unwrap(),
            "it never stood between two writes"
        );
    };
    sending.pause().await;
    first.go_on().await;
    until(async || first.shows(GIVEN_BACK).await || sending.is_changed().await).await;
    sending.resume().await;
    first.stop().await;
    let second = Server::start(db, &worker).await;
    journal.extend(sending.finish().await);
    let found = settled(&api, &journal).await;
    second.stop().await;
    api.stop().await;
    found
}

/// A worker takes some rows of a file and stands still; another one takes some more when the lease is over, and dies before
/// it comes to the end; then the first one goes on, and a third one does what is left. Gives what is wrong then.
async fn stale(db: &TestDatabase, settings: &[(&str, &str)]) -> Vec<String> {
    let uploads = Uploads::new();
    let worker = uploads.with(&[("CAMPANILE_ROLES", "worker")]);
    let armed = format!("{}=stop", Point::BetweenBatches.as_str());
    let standing = [&worker[..], &[("CAMPANILE_TEST_FAILPOINTS", armed.as_str())], settings].concat();
    let api = Server::start(db, &uploads.with(&[("CAMPANILE_ROLES", "api")])).await;
    shop(&api).await;
    let mut journal = Journal::default();
    let (first, importing) = loop {
        let first = Server::start(db, &standing).await;
        // What it does at its start is over before there is a file.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let importing = scene::importing(&api).await;
        first.stands_still().await;
        if server::is_writable(db).await {
            break (first, importing);
        }
        // It stands in the middle of a write of another duty; see `standing_aside`.
        first.kill().await;
        let other = Server::start(db, &worker).await;
        journal.extend(importing.finish().await);
        other.stop().await;
        assert!(
            journal.runs.len() < usize::try_from(STANDS_MAX).unwrap(),
            "it never stood between two writes"
        );
    };
    tokio::time::sleep(LEASE + Duration::from_millis(200)).await;
    let (name, armed) = server::abort_at(Point::BetweenBatches, 2);
    let second = Server::start(db, &[&worker[..], &[(name, armed.as_str())]].concat()).await;
    second.died_at(Point::BetweenBatches).await;
    let before = importing.rows().await;
    first.go_on().await;
    // Until it has found out, or taken more rows.
    until(async || first.said(TAKEN_OVER).await || importing.rows().await != before).await;
    first.stop().await;
    let third = Server::start(db, &worker).await;
    journal.extend(importing.finish().await);
    let found = settled(&api, &journal).await;
    third.stop().await;
    api.stop().await;
    found
}

/// Says how much it was that nothing was lost of.
#[expect(clippy::print_stdout, reason = "a soak shows what it did")]
fn tell(journal: &Journal) {
    println!(
        "{} kills: {} campaigns, {} fired, {} looked at while held, {} cancelled in the middle, {} files and {} cut ones; nothing lost or doubled",
        kills(),
        journal.runs.len(),
        journal.fired(),
        journal.held,
        journal.cancelled(),
        journal.files,
        journal.cut_files,
    );
}
