//! What only SQLite does: one queue, many closures to a COMMIT, and transactions that it ends by itself.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use campanile::model::{Reason, Result};
use campanile::store::{Store, Tx};
use futures::future::{BoxFuture, join_all};
use sea_orm::{ConnectionTrait, Statement};
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{insert_app, names};
use crate::support::database::{Backend, TestDatabase};

/// More than the queue of requests holds.
const FLOOD: usize = 1_100;

async fn open() -> (TestDatabase, Store) {
    let db = TestDatabase::new(Backend::Sqlite).await.unwrap();
    let store = db.open().await;
    (db, store)
}

/// Keeps the writer busy until the guard is opened, and returns once it is. Closures await nothing but SQL; this one does,
/// to make a queue that is certain.
async fn hold(store: &Store) -> (Arc<Semaphore>, tokio::task::JoinHandle<Result<()>>) {
    let (guard, entered) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (held, seen, store) = (Arc::clone(&guard), Arc::clone(&entered), store.clone());
    #[expect(clippy::disallowed_methods, reason = "a test's task ends with its runtime")]
    let task = tokio::spawn(async move {
        store
            .write(move |_| {
                let (held, seen) = (Arc::clone(&held), Arc::clone(&seen));
                Box::pin(async move {
                    seen.add_permits(1);
                    // Closed for good when it opens: the closure may be run again.
                    drop(held.acquire().await);
                    Ok(())
                })
            })
            .await
    });
    entered.acquire().await.unwrap().forget();
    (guard, task)
}

/// Fills the file until SQLite can write no more, which ends its transaction.
async fn overfill(tx: &Tx) -> Result<()> {
    let pages = Statement::from_string(tx.get_database_backend(), "PRAGMA page_count");
    let row = tx.query_one_raw(pages).await?.unwrap();
    let pages: i64 = row.try_get_by_index(0)?;
    tx.query_one_raw(Statement::from_string(
        tx.get_database_backend(),
        format!("PRAGMA max_page_count = {}", pages + 2),
    ))
    .await?;
    insert_app(tx, "before the end").await?;
    insert_app(tx, &"x".repeat(1 << 20)).await
}

#[tokio::test]
async fn writes_that_wait_together_share_a_transaction_and_those_refused_leave_it_alone() {
    let (_db, store) = open().await;
    let (guard, held) = hold(&store).await;
    let writes = (0..50).map(|n| {
        store.write(move |tx| {
            Box::pin(async move {
                insert_app(tx, &format!("{n:02}")).await?;
                if n % 10 == 3 {
                    insert_app(tx, "00").await
                } else {
                    Ok(())
                }
            })
        })
    });
    let release = async {
        tokio::task::yield_now().await;
        guard.close();
    };
    let (done, ()) = tokio::join!(join_all(writes), release);
    held.await.unwrap().unwrap();
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 45);
    let names = names(&store).await;
    assert_eq!(names.len(), 45);
    assert!(!names.contains(&"13".to_owned()));
}

#[tokio::test]
async fn a_transaction_that_sqlite_ends_itself_loses_nothing_and_commits_nothing_alone() {
    let (db, store) = open().await;
    let (guard, held) = hold(&store).await;
    let before = store.write(|tx| Box::pin(insert_app(tx, "before")));
    // Looks away from the failure and goes on, as careless code would: its last insert must not commit by itself.
    let dead = store.write(|tx| {
        Box::pin(async move {
            assert!(overfill(tx).await.is_err());
            drop(insert_app(tx, "alone").await);
            Ok(())
        })
    });
    let after = store.write(|tx| Box::pin(insert_app(tx, "after")));
    let release = async { guard.close() };
    let (before, dead, after, ()) = tokio::join!(before, dead, after, release);
    held.await.unwrap().unwrap();
    before.unwrap();
    after.unwrap();
    let refused = dead.unwrap_err();
    assert_eq!(refused.reason(), Reason::Unavailable);
    assert!(refused.retry_hint().is_some());
    assert_eq!(names(&store).await, ["after", "before"]);
    store.write(|tx| Box::pin(insert_app(tx, "later"))).await.unwrap();
    store.close().await;
    assert_eq!(names(&db.open().await).await, ["after", "before", "later"]);
}

#[tokio::test]
async fn writes_whose_commit_failed_and_that_cannot_be_run_again_are_told_that_nobody_knows() {
    let (db, store) = open().await;
    let folder = PathBuf::from(db.url.trim_start_matches("sqlite://"));
    let folder = folder.parent().unwrap().to_owned();
    let away = folder.with_file_name("away");
    let (guard, held) = hold(&store).await;
    let spoiler = store.write(move |tx| {
        let moved = std::fs::rename(&folder, &away);
        Box::pin(async move {
            moved.unwrap();
            // Refused by the COMMIT only, and then the file cannot be opened again.
            tx.execute_unprepared(
                "CREATE TABLE orphans (app BLOB REFERENCES apps (id) DEFERRABLE INITIALLY DEFERRED); \
                 INSERT INTO orphans VALUES (x'00')",
            )
            .await?;
            Ok(())
        })
    });
    let beside = store.write(|tx| Box::pin(insert_app(tx, "beside")));
    let release = async { guard.close() };
    let (spoiler, beside, ()) = tokio::join!(spoiler, beside, release);
    for refused in [held.await.unwrap(), spoiler, beside] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason(), Reason::Unavailable);
        assert!(refused.dev_message().starts_with("outcome unknown"), "{refused}");
    }
}

/// Writes all the time from beside the store, and leaves the file free for a moment between two transactions only.
async fn write_on(url: &str, begun: &Semaphore) {
    let mut conn = SqliteConnection::connect(url).await.unwrap();
    loop {
        conn.execute("BEGIN IMMEDIATE").await.unwrap();
        begun.add_permits(1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        conn.execute("COMMIT").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_gets_its_turn_beside_a_process_that_writes_all_the_time() {
    let (db, store) = open().await;
    let (url, begun) = (db.url.clone(), Arc::new(Semaphore::new(0)));
    let (mut beside, begins) = (JoinSet::new(), Arc::clone(&begun));
    beside.spawn(async move { write_on(&url, &begins).await });
    for number in 0..10 {
        // Each begins while the other holds the file.
        begun.forget_permits(usize::MAX);
        begun.acquire().await.unwrap().forget();
        let write = store.write(move |tx| Box::pin(async move { insert_app(tx, &number.to_string()).await }));
        write.await.unwrap();
    }
    // And so does whoever opens the file.
    db.open().await.close().await;
    assert!(beside.try_join_next().is_none(), "it goes on writing");
    assert_eq!(names(&store).await.len(), 10);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_says_when_to_come_back() {
    let (_db, store) = open().await;
    let (guard, held) = hold(&store).await;
    let writes =
        (0..FLOOD).map(|n| store.write(move |tx| Box::pin(async move { insert_app(tx, &n.to_string()).await })));
    let release = async {
        tokio::task::yield_now().await;
        guard.close();
    };
    let (done, ()) = tokio::join!(join_all(writes), release);
    held.await.unwrap().unwrap();
    let accepted = done.iter().filter(|done| done.is_ok()).count();
    assert_eq!(accepted, 1_024);
    for refused in done.into_iter().filter_map(std::result::Result::err) {
        assert_eq!(refused.reason(), Reason::Unavailable);
        assert_eq!(refused.retry_hint(), Some(Duration::from_secs(1)));
    }
    assert_eq!(names(&store).await.len(), accepted);
}

#[tokio::test]
async fn a_write_whose_caller_went_away_while_it_waited_is_not_done() {
    let (_db, store) = open().await;
    let (guard, held) = hold(&store).await;
    let waiting = store.write(|tx| Box::pin(insert_app(tx, "nobody waits")));
    let gone = tokio::time::timeout(Duration::from_millis(20), waiting).await;
    assert!(gone.is_err());
    guard.close();
    held.await.unwrap().unwrap();
    store.write(|tx| Box::pin(insert_app(tx, "next"))).await.unwrap();
    assert_eq!(names(&store).await, ["next"]);
}

/// A write that only notes that it ran.
fn note(
    order: &Arc<Mutex<Vec<&'static str>>>,
    name: &'static str,
) -> impl for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<()>> + Send + Sync + 'static {
    let order = Arc::clone(order);
    move |_| {
        let order = Arc::clone(&order);
        Box::pin(async move {
            order.lock().unwrap().push(name);
            Ok(())
        })
    }
}

#[tokio::test]
async fn requests_go_before_background_work_that_came_earlier_but_cannot_shut_it_out() {
    let (_db, store) = open().await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let (guard, held) = hold(&store).await;
    let background = store.write_background(note(&order, "background"));
    let request = store.write(note(&order, "request"));
    let release = async { guard.close() };
    let (background, request, ()) = tokio::join!(background, request, release);
    held.await.unwrap().unwrap();
    background.unwrap();
    request.unwrap();
    assert_eq!(*order.lock().unwrap(), ["request", "background"]);

    // Requests that follow each other without a pause: the background write gets its turn all the same.
    let stop = Arc::new(Semaphore::new(0));
    let flood = async {
        while stop.available_permits() == 0 {
            let writes = (0..4).map(|_| {
                store.write(|tx| Box::pin(async move { Ok(tx.execute_unprepared("SELECT 1").await.map(|_| ())?) }))
            });
            join_all(writes).await;
        }
    };
    let background = async {
        let done = store.write_background(note(&order, "background")).await;
        stop.add_permits(1);
        done
    };
    let both = async { tokio::join!(flood, background).1 };
    tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .unwrap()
        .unwrap();
}
