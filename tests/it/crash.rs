//! What was acknowledged survives: real processes are killed, stopped and started again under load, and afterwards every
//! feed, count and stream is compared with the journal of what was answered. So that "nothing was found" means something,
//! the same checker looks at ledgers that were broken on purpose, and has to find it.
//!
//! `CAMPANILE_TEST_KILLS` says how often the processes are killed, per database: 6 in `make test`, 200 in `make soak`.

mod aging;
mod campaign;
mod check;
mod grpc;
mod load;
mod once;
mod points;
mod server;
mod steps;
mod upgrade;

use std::time::{Duration, Instant};

use campanile::failpoint::Point;

use crate::on_both;
use crate::support::database::{Backend, TestDatabase};
use crate::support::rpc::Door;
use aging::{age, keep_aging};
use check::faults;
use load::{Journal, Load, Pressure, shop};
use server::{LEASE, Server, chance, variable};

/// How often a worker is started that has to stand still at a place where it holds nothing but a lease.
const STANDS_MAX: u32 = 20;
/// How long a process that is told to stop may take.
const STOP_MAX: Duration = Duration::from_secs(25);

fn kills() -> u32 {
    variable("CAMPANILE_TEST_KILLS").map_or(6, |text| text.parse().unwrap())
}

/// Waits until all that was acknowledged is final, and gives what is wrong then.
async fn settled(server: &Server, journal: &Journal) -> Vec<String> {
    check::wait(server, journal).await;
    faults(server, journal).await
}

on_both! {
    async fn nothing_is_lost_or_doubled_however_often_the_process_is_killed(db) {
        let mut server = Server::start(&db, &[]).await;
        shop(&server).await;
        let load = Load::start(&server, Pressure { ages: true, ..Pressure::SOME });
        let killing = async {
            for _ in 0..kills() {
                tokio::time::sleep(Duration::from_millis(100 + chance(1_200))).await;
                server.kill().await;
                // The sweep runs at every start, beside what is taken up again.
                server = Server::start(&db, &[]).await;
                load.moved(&server);
            }
        };
        tokio::select! {
            () = killing => {}
            () = keep_aging(&db) => {}
        }
        let journal = load.end().await;
        assert!(journal.batches() > 0 && journal.sent.len() > journal.batches(), "{journal:#?}");
        assert!(!journal.read.is_empty() && journal.watched > 0, "{journal:#?}");
        check::wait(&server, &journal).await;
        server.stop().await;
        age(&db).await.unwrap();
        let server = Server::start(&db, &[]).await;
        check::wait_for_sweep(&server, &journal).await;
        assert_eq!(settled(&server, &journal).await, Vec::<String>::new());
        tell(&journal);
        server.stop().await;
    }

    async fn a_process_that_stands_still_for_longer_than_its_lease_changes_nothing_afterwards(db) {
        let (journal, server) = stale(&db, &[]).await;
        assert_eq!(settled(&server, &journal).await, Vec::<String>::new());
        server.stop().await;
    }

    async fn two_processes_that_are_killed_in_turns_share_the_work(db) {
        let mut servers = [Server::start(&db, &[]).await, Server::start(&db, &[]).await];
        shop(&servers[0]).await;
        let load = Load::start(&servers[0], Pressure::SOME);
        for turn in 0..kills().min(50) {
            tokio::time::sleep(Duration::from_millis(100 + chance(800))).await;
            let place = usize::try_from(turn % 2).unwrap();
            load.moved(&servers[1 - place]);
            servers[place].kill().await;
            servers[place] = Server::start(&db, &[]).await;
        }
        let journal = load.end().await;
        assert_eq!(settled(&servers[0], &journal).await, Vec::<String>::new());
        for server in servers {
            server.stop().await;
        }
    }

    async fn a_process_that_is_told_to_stop_under_full_load_fails_no_call_and_leaves_its_pages(db) {
        stops_under(&db, Pressure::FULL).await;
    }

    async fn a_process_that_is_told_to_stop_under_full_load_over_grpc_fails_no_call_and_leaves_its_pages(db) {
        stops_under(&db, Pressure { door: Door::Grpc, ..Pressure::FULL }).await;
    }

    async fn a_process_starts_beside_one_that_writes_all_the_time(db) {
        let server = Server::start(&db, &[]).await;
        shop(&server).await;
        let load = Load::start(&server, Pressure::FULL);
        for _ in 0..5 {
            Server::start(&db, &[]).await.kill().await;
        }
        let journal = load.end().await;
        assert_eq!(settled(&server, &journal).await, Vec::<String>::new());
        server.stop().await;
    }

    async fn a_process_that_only_answers_leaves_batches_to_one_that_only_works(db) {
        let api = Server::start(&db, &[("CAMPANILE_ROLES", "api")]).await;
        shop(&api).await;
        let journal = load::some(&api, 2).await;
        tokio::time::sleep(Duration::from_millis(800)).await;
        assert!(!check::is_final(&api, &journal).await, "nobody works");
        let worker = Server::start(&db, &[("CAMPANILE_ROLES", "worker")]).await;
        assert_eq!(worker.status("/v3/users").await, 404);
        for page in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(worker.status(page).await, 200, "{page}");
        }
        assert_eq!(settled(&api, &journal).await, Vec::<String>::new());
        worker.stop().await;
        api.stop().await;
    }

    async fn the_checker_finds_what_is_lost_when_progress_comes_before_the_work(db) {
        let api = Server::start(&db, &[("CAMPANILE_ROLES", "api")]).await;
        shop(&api).await;
        let journal = load::some(&api, 1).await;
        let armed = format!("{}=abort", Point::BetweenSteps.as_str());
        let broken = [("CAMPANILE_TEST_BROKEN", "progress_first"), ("CAMPANILE_TEST_FAILPOINTS", &armed)];
        Server::start(&db, &broken).await.died_at(Point::BetweenSteps).await;
        let server = Server::start(&db, &[]).await;
        let found = settled(&server, &journal).await;
        assert!(found.iter().any(|fault| fault.contains("counts")), "{found:#?}");
        assert!(found.iter().any(|fault| fault.contains("lost")), "{found:#?}");
        server.stop().await;
        api.stop().await;
    }

    async fn the_checker_finds_what_is_counted_twice_without_the_fence(db) {
        let (journal, server) = stale(&db, &[("CAMPANILE_TEST_BROKEN", "no_fence")]).await;
        let found = settled(&server, &journal).await;
        assert!(found.iter().any(|fault| fault.contains("counts")), "{found:#?}");
        assert!(!found.iter().any(|fault| fault.contains("doubled")), "the unique key still holds: {found:#?}");
        server.stop().await;
    }

    async fn the_checker_finds_what_is_doubled_without_the_fence_and_the_unique_key(db) {
        drop(db.open().await);
        server::execute(&db, "DROP INDEX deliveries_once").await.unwrap();
        let (journal, server) = stale(&db, &[("CAMPANILE_TEST_BROKEN", "no_fence")]).await;
        let found = settled(&server, &journal).await;
        assert!(found.iter().any(|fault| fault.contains("doubled")), "{found:#?}");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_at_once_on_a_new_file_share_it() {
    let db = TestDatabase::new(Backend::Sqlite).await.unwrap();
    let servers = futures::future::join_all((0..4).map(|_| Server::start(&db, &[]))).await;
    shop(&servers[0]).await;
    let journal = load::some(&servers[1], 2).await;
    assert_eq!(settled(&servers[2], &journal).await, Vec::<String>::new());
    for server in servers {
        server.stop().await;
    }
}

/// Tells a process to stop three times in the middle of a load.
async fn stops_under(db: &TestDatabase, pressure: Pressure) {
    let mut server = Server::start(db, &[]).await;
    shop(&server).await;
    let load = Load::start(&server, pressure);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let began = Instant::now();
        server.stop().await;
        assert!(began.elapsed() < STOP_MAX, "{:?}", began.elapsed());
        server = Server::start(db, &[]).await;
        load.moved(&server);
    }
    let journal = load.end().await;
    assert!(
        journal.sent.len() > usize::try_from(pressure.clients).unwrap(),
        "{journal:#?}"
    );
    assert_eq!(
        journal.cut,
        Vec::<String>::new(),
        "calls that were taken and not answered"
    );
    assert_eq!(journal.put_off, 0, "calls that were answered with a refusal");
    assert_eq!(settled(&server, &journal).await, Vec::<String>::new());
    server.stop().await;
}

/// Says how much it was that nothing was lost of.
#[expect(clippy::print_stdout, reason = "a soak shows what it did")]
fn tell(journal: &Journal) {
    println!(
        "{} kills: {} sends, {} of them batches, {} items read, {} streams watched, {} calls cut; nothing lost or doubled",
        kills(),
        journal.sent.len(),
        journal.batches(),
        journal.read.len(),
        journal.watched,
        journal.cut.len()
    );
}

/// A worker leases a page and stands still; another one does the page when the lease is over, and dies before it comes to
/// the other pages, so that the notification is still on its way; then the first one goes on.
async fn stale(db: &TestDatabase, settings: &[(&str, &str)]) -> (Journal, Server) {
    let armed = format!("{}=stop", Point::AfterLease.as_str());
    let alone = [("CAMPANILE_ROLES", "worker"), ("CAMPANILE_WORKERS", "1")];
    let standing = [&alone[..], &[("CAMPANILE_TEST_FAILPOINTS", armed.as_str())], settings].concat();
    let api = Server::start(db, &[("CAMPANILE_ROLES", "api")]).await;
    shop(&api).await;
    let (journal, first) = standing_aside(db, &api, &standing).await;
    tokio::time::sleep(LEASE + Duration::from_millis(200)).await;
    let (name, armed) = server::abort_at(Point::BeforeCompletion, 1);
    let second = Server::start(db, &[&alone[..], &[(name, armed.as_str())]].concat()).await;
    second.died_at(Point::BeforeCompletion).await;
    first.go_on().await;
    // It has to find out before it is looked at what it did: it stops only behind the step that it was in.
    tokio::time::sleep(Duration::from_millis(300)).await;
    first.stop().await;
    let third = Server::start(db, &alone).await;
    check::wait(&api, &journal).await;
    third.stop().await;
    (journal, api)
}

/// A worker that stands still with a lease and without SQLite's one lock, and all that was sent. One that was in the
/// middle of a write of another duty when it stopped would keep the lock, and everybody else would wait for that and not for
/// the lease; what it was to do is done by others then, and the next one gets sends of its own.
async fn standing_aside(db: &TestDatabase, api: &Server, settings: &[(&str, &str)]) -> (Journal, Server) {
    let mut journal = Journal::default();
    for _ in 0..STANDS_MAX {
        let server = Server::start(db, settings).await;
        // What it does at its start is over before there is a page.
        tokio::time::sleep(Duration::from_millis(500)).await;
        journal.extend(load::some(api, 1).await);
        server.stands_still().await;
        if server::is_writable(db).await {
            return (journal, server);
        }
        server.kill().await;
        let other = Server::start(db, &[("CAMPANILE_ROLES", "worker")]).await;
        check::wait(api, &journal).await;
        other.stop().await;
    }
    unreachable!("it stood in the middle of a write {STANDS_MAX} times in a row")
}
