//! What only PostgreSQL does: transactions that stand in each other's way, and connections that break in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use campanile::model::id::AppId;
use campanile::model::{Reason, Result, Timestamp};
use campanile::store::{SecretKey, Store, StoreSettings, Tx};
use futures::future::join_all;
use sea_orm::{ConnectionTrait, Statement};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, Semaphore};
use tokio::time::timeout;

use super::{insert_app, names};
use crate::support::cable::{Cable, Cut};
use crate::support::database::{Backend, TestDatabase};

async fn execute(tx: &Tx, sql: &str) -> Result<()> {
    tx.execute_unprepared(sql).await?;
    Ok(())
}

/// Two apps, `a` and `b`, whose versions the tests below move.
async fn two_apps(db: &TestDatabase) -> Store {
    let store = db.open().await;
    store
        .write(|tx| {
            Box::pin(async move {
                insert_app(tx, "a").await?;
                insert_app(tx, "b").await
            })
        })
        .await
        .unwrap();
    store
}

async fn versions(store: &Store) -> Vec<i64> {
    let sql = "SELECT version FROM apps ORDER BY public_id";
    let statement = Statement::from_string(store.read().get_database_backend(), sql);
    let rows = store.read().query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// Moves both apps in the given order, and on its first run waits in between until its counterpart is there as well.
async fn move_both(store: &Store, order: [&'static str; 2], meet: &Arc<Barrier>, runs: &Arc<AtomicU32>) -> Result<()> {
    let (meet, runs) = (Arc::clone(meet), Arc::clone(runs));
    let first_run = Arc::new(AtomicU32::new(0));
    store
        .write(move |tx| {
            let (meet, runs, first_run) = (Arc::clone(&meet), Arc::clone(&runs), Arc::clone(&first_run));
            Box::pin(async move {
                runs.fetch_add(1, Ordering::SeqCst);
                let [first, second] =
                    order.map(|app| format!("UPDATE apps SET version = version + 1 WHERE public_id = '{app}'"));
                execute(tx, &first).await?;
                if first_run.fetch_add(1, Ordering::SeqCst) == 0 {
                    meet.wait().await;
                }
                execute(tx, &second).await
            })
        })
        .await
}

#[tokio::test]
async fn a_deadlock_is_run_again_and_both_writes_happen_once() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let store = two_apps(&db).await;
    let (meet, runs) = (Arc::new(Barrier::new(2)), Arc::new(AtomicU32::new(0)));
    let (one, two) = tokio::join!(
        move_both(&store, ["a", "b"], &meet, &runs),
        move_both(&store, ["b", "a"], &meet, &runs),
    );
    one.unwrap();
    two.unwrap();
    assert_eq!(versions(&store).await, [3, 3]);
    assert!(
        runs.load(Ordering::SeqCst) > 2,
        "nothing stood in the way, so nothing was proven"
    );
}

#[tokio::test]
async fn a_serialization_failure_is_run_again_and_both_writes_happen_once() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let store = two_apps(&db).await;
    let (meet, runs) = (Arc::new(Barrier::new(2)), Arc::new(AtomicU32::new(0)));
    // Each reads both apps and moves one of them: neither order of the two explains what the first runs saw.
    let skew = async |mine: &'static str| {
        let (meet, runs, first_run) = (Arc::clone(&meet), Arc::clone(&runs), Arc::new(AtomicU32::new(0)));
        store
            .write(move |tx| {
                let (meet, runs, first_run) = (Arc::clone(&meet), Arc::clone(&runs), Arc::clone(&first_run));
                Box::pin(async move {
                    runs.fetch_add(1, Ordering::SeqCst);
                    execute(tx, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").await?;
                    execute(tx, "SELECT sum(version) FROM apps").await?;
                    if first_run.fetch_add(1, Ordering::SeqCst) == 0 {
                        meet.wait().await;
                    }
                    let sum = "(SELECT sum(version) FROM apps)";
                    execute(
                        tx,
                        &format!("UPDATE apps SET version = {sum} WHERE public_id = '{mine}'"),
                    )
                    .await
                })
            })
            .await
    };
    let (one, two) = tokio::join!(skew("a"), skew("b"));
    one.unwrap();
    two.unwrap();
    let mut after = versions(&store).await;
    after.sort_unstable();
    assert_eq!(after, [2, 3], "as if one had come after the other");
    assert!(
        runs.load(Ordering::SeqCst) > 2,
        "nothing stood in the way, so nothing was proven"
    );
}

#[tokio::test]
async fn a_write_that_always_conflicts_is_given_up_after_five_runs() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let store = db.open().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let refused = store
        .write(move |tx| {
            let counted = Arc::clone(&counted);
            Box::pin(async move {
                counted.fetch_add(1, Ordering::SeqCst);
                insert_app(tx, "half").await?;
                execute(
                    tx,
                    "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$",
                )
                .await
            })
        })
        .await
        .unwrap_err();
    assert_eq!(
        (refused.reason(), runs.load(Ordering::SeqCst)),
        (Reason::Unavailable, 5)
    );
    assert!(refused.retry_hint().is_some());
    assert_eq!(names(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_connection_that_is_cut_in_the_middle_is_replaced_and_the_write_happens_once() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let store = db.open().await;
    let runs = Arc::new(AtomicU32::new(0));
    store
        .write(move |tx| {
            let runs = Arc::clone(&runs);
            Box::pin(async move {
                insert_app(tx, "one").await?;
                if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                    execute(tx, "SELECT pg_terminate_backend(pg_backend_pid())").await?;
                }
                Ok(())
            })
        })
        .await
        .unwrap();
    assert_eq!(names(&store).await, ["one"]);
}

#[tokio::test]
async fn a_write_whose_caller_goes_away_is_rolled_back_and_gives_its_connection_up() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let mut settings = db.settings();
    settings.connections = 1;
    let store = Store::open(&settings).await.unwrap();
    let slow = store.write(|tx| {
        Box::pin(async move {
            insert_app(tx, "nobody waits").await?;
            execute(tx, "SELECT pg_sleep(1)").await
        })
    });
    assert!(tokio::time::timeout(Duration::from_millis(200), slow).await.is_err());
    store.write(|tx| Box::pin(insert_app(tx, "next"))).await.unwrap();
    assert_eq!(names(&store).await, ["next"]);
}

#[tokio::test]
async fn a_server_without_room_is_told_as_unavailable_and_nothing_is_written() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let store = db.open().await;
    // disk_full, out_of_memory
    for (code, told) in [
        ("53100", "the disk of the database is full"),
        ("53200", "the database cannot write"),
    ] {
        let refused = store
            .write(move |tx| {
                Box::pin(async move {
                    insert_app(tx, "half").await?;
                    let sql = format!("DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '{code}'; END $$");
                    execute(tx, &sql).await
                })
            })
            .await
            .unwrap_err();
        assert_eq!(refused.reason(), Reason::Unavailable);
        assert_eq!(refused.retry_hint(), Some(Duration::from_secs(30)));
        assert!(refused.dev_message().starts_with(told), "{refused}");
    }
    assert_eq!(names(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_told_as_refused_access() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let mut settings = db.settings();
    settings.url.push_str("_nowhere");
    let refused = Store::open(&settings).await.err().unwrap();
    assert_eq!(refused.reason(), Reason::Unavailable);
    assert!(refused.dev_message().contains("refuses access"), "{refused}");
}

#[tokio::test]
async fn a_database_that_is_away_is_told_in_time_and_nobody_hangs() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = |port| format!("postgres://campanile@127.0.0.1:{port}/campanile");
    let open = async |url: String| {
        let started = Instant::now();
        let settings = StoreSettings::new(url, SecretKey::generate().unwrap());
        let refused = Store::open(&settings).await.err().unwrap();
        assert_eq!(refused.reason(), Reason::Unavailable);
        assert!(refused.retry_hint().is_some());
        assert!(started.elapsed() < Duration::from_secs(10));
    };
    // A server that takes the connection and never says a word, and one that is not there.
    open(url(port)).await;
    drop(listener);
    open(url(port)).await;
}

async fn a_lost_commit_is_settled(cut: Cut, runs_expected: u32) {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let cable = Cable::lay(&db.url).await;
    let mut settings = db.settings();
    settings.url.clone_from(&cable.url);
    let store = Store::open(&settings).await.unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    cable.cut_next(cut);
    let answer = store
        .write(move |tx| {
            let counted = Arc::clone(&counted);
            Box::pin(async move {
                insert_app(tx, "once").await?;
                Ok(counted.fetch_add(1, Ordering::SeqCst) + 1)
            })
        })
        .await;
    assert_eq!(cable.cuts_left(), 0, "the cable was not cut, so nothing was proven");
    assert_eq!(answer.unwrap(), runs_expected);
    assert_eq!(runs.load(Ordering::SeqCst), runs_expected);
    assert_eq!(names(&db.open().await).await, ["once"]);
}

#[tokio::test]
async fn a_commit_that_happened_and_whose_answer_was_lost_is_found_and_not_repeated() {
    a_lost_commit_is_settled(Cut::After, 1).await;
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_found_out_and_run_again() {
    a_lost_commit_is_settled(Cut::Before, 2).await;
}

#[tokio::test]
async fn background_work_leaves_connections_to_requests() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let mut settings = db.settings();
    settings.connections = 2;
    let store = Store::open(&settings).await.unwrap();
    let (entered, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let background = || {
        let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
        store.write_background(move |_| {
            let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
            Box::pin(async move {
                entered.add_permits(1);
                drop(gate.acquire().await);
                Ok(())
            })
        })
    };
    let request = async {
        drop(entered.acquire().await);
        store.write(|tx| Box::pin(insert_app(tx, "request"))).await.unwrap();
        assert_eq!(
            entered.available_permits(),
            1,
            "more background work went on than it may"
        );
        gate.close();
    };
    let (one, two, three, ()) = tokio::join!(background(), background(), background(), request);
    one.and(two).and(three).unwrap();
    assert_eq!(names(&store).await, ["request"]);
}

/// How many background transactions go on at once while calls are answered.
fn few() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 8))
}

/// Lets as many closures come at once as half of the connections carry, and says how many were at work together at most.
async fn most_at_once(store: &Store) -> usize {
    let (at_work, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let writes = (0..8).map(|_| {
        let (at_work, most) = (Arc::clone(&at_work), Arc::clone(&most));
        store.write_background(move |tx| {
            let (at_work, most) = (Arc::clone(&at_work), Arc::clone(&most));
            Box::pin(async move {
                most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                execute(tx, "SELECT pg_sleep(0.2)").await?;
                at_work.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        })
    });
    for done in join_all(writes).await {
        done.unwrap();
    }
    usize::try_from(most.load(Ordering::SeqCst)).unwrap()
}

#[tokio::test]
async fn background_work_goes_on_few_at_a_time_while_calls_are_answered_and_is_never_shut_out() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let store = db.open().await;
    assert!(
        most_at_once(&store).await > few().min(4),
        "nobody calls, and all the same it waits"
    );
    // A call that never ends, as a stream of calls without a gap would be.
    let call = store.calls().begin();
    let most = timeout(Duration::from_secs(30), most_at_once(&store)).await;
    assert_eq!(most.unwrap(), few());
    drop(call);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(most_at_once(&store).await > few().min(4), "the call has ended");
}

#[tokio::test]
async fn a_call_that_comes_asks_background_work_to_finish() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let store = db.open().await;
    let (begun, comes) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let asked = Arc::clone(&comes);
    let started = Arc::clone(&begun);
    let background = store.write_background(move |tx| {
        let (started, asked) = (Arc::clone(&started), Arc::clone(&asked));
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let before = tx.is_out_of_time();
            started.add_permits(1);
            drop(asked.acquire().await);
            Ok((before, tx.is_out_of_time()))
        })
    });
    let call = async {
        drop(begun.acquire().await);
        let call = store.calls().begin();
        comes.close();
        call
    };
    let (background, _call) = tokio::join!(background, call);
    assert_eq!(background.unwrap(), (false, true));
}

#[tokio::test]
async fn kinds_of_writes_that_share_transactions_leave_half_of_the_connections_together() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let mut settings = db.settings();
    settings.connections = 4;
    let store = Store::open(&settings).await.unwrap();
    let (at_work, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let kinds = [0; 3].map(|_| {
        let (at_work, most) = (Arc::clone(&at_work), Arc::clone(&most));
        store.group(move |tx, _, asked: Vec<Arc<()>>| {
            let (at_work, most) = (Arc::clone(&at_work), Arc::clone(&most));
            Box::pin(async move {
                most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                execute(tx, "SELECT pg_sleep(0.2)").await?;
                at_work.fetch_sub(1, Ordering::SeqCst);
                Ok(asked.iter().map(|_| Ok(0)).collect())
            })
        })
    });
    let apps = [0; 4].map(|_| AppId::new(Timestamp::from_millis(1_800_000_000_000).unwrap()));
    let writes = kinds
        .iter()
        .flat_map(|kind| apps.map(|app| kind.write(app, None, Arc::new(()))));
    for done in join_all(writes).await {
        done.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
}
