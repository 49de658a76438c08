//! `Store::group`: writes that share a transaction, and what happens to the others when one of them goes wrong.
#![expect(clippy::panic, reason = "one of the works panics, to show that it ends alone")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use campanile::model::id::AppId;
use campanile::model::{Error, Reason, Result};
use campanile::store::{Group, Once, Store, Tx, Written};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use sea_orm::ConnectionTrait;
use tokio::sync::Semaphore;

use super::{insert_app, names, now};
use crate::on_both;
use crate::support::cable::{Cable, Cut};
use crate::support::database::{Backend, TestDatabase};

/// Writes of one app that may wait at most.
const WAITING_MAX: usize = 1_024;

/// What a member does beside inserting an app of its name.
#[derive(Clone)]
enum Also {
    Nothing,
    /// It is refused.
    Refuse,
    /// It panics.
    Panic,
    /// It meets a conflict, if it is not alone.
    Conflict,
    /// It waits until somebody opens the gate. Works await nothing but SQL; this one does, to make a queue that is certain.
    Wait(Arc<Semaphore>),
    /// It waits for a row that somebody else has locked.
    Lock,
}

struct Item {
    name: String,
    also: Also,
}

/// A group of writes that each insert an app, with the names of the members of each time that it worked.
struct Works {
    store: Store,
    group: Group<Item, String>,
    seen: Arc<Mutex<Vec<Vec<String>>>>,
    entered: Arc<Semaphore>,
    gate: Arc<Semaphore>,
}

async fn work(tx: &Tx, items: &[Arc<Item>], entered: &Semaphore) -> Result<Vec<Result<String>>> {
    let mut answers = Vec::new();
    for item in items {
        match &item.also {
            Also::Nothing => {}
            Also::Refuse => {
                answers.push(Err(Error::new(Reason::Forbidden, "no")));
                continue;
            }
            Also::Panic => panic!("a member that panics ends alone"),
            Also::Conflict if items.len() > 1 => {
                let conflict = "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$";
                tx.execute_unprepared(conflict).await?;
            }
            Also::Conflict => {}
            Also::Wait(gate) => {
                entered.add_permits(1);
                drop(gate.acquire().await);
            }
            Also::Lock => {
                tx.execute_unprepared("UPDATE apps SET version = 2 WHERE public_id = 'locked'")
                    .await?;
            }
        }
        insert_app(tx, &item.name).await?;
        answers.push(Ok(item.name.clone()));
    }
    Ok(answers)
}

impl Works {
    fn new(store: Store) -> Self {
        let seen: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
        let (entered, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (noted, came) = (Arc::clone(&seen), Arc::clone(&entered));
        let group = store.group(move |tx, _, items: Vec<Arc<Item>>| {
            let members = items.iter().map(|item| item.name.clone()).collect();
            noted.lock().unwrap().push(members);
            let came = Arc::clone(&came);
            Box::pin(async move { work(tx, &items, &came).await })
        });
        Self {
            store,
            group,
            seen,
            entered,
            gate,
        }
    }

    fn write(&self, app: AppId, once: Option<Once>, name: &str, also: Also) -> BoxFuture<'static, Result<String>> {
        let written = self.write_once(app, once, name, also);
        async move { written.await.map(|written| written.value) }.boxed()
    }

    /// Enters the queue at once, and not when the answer is awaited.
    fn write_once(
        &self,
        app: AppId,
        once: Option<Once>,
        name: &str,
        also: Also,
    ) -> BoxFuture<'static, Result<Written<String>>> {
        let (group, item) = (
            self.group.clone(),
            Item {
                name: name.to_owned(),
                also,
            },
        );
        let mut writing = async move { group.write(app, once, Arc::new(item)).await }.boxed();
        match writing.as_mut().now_or_never() {
            Some(answer) => std::future::ready(answer).boxed(),
            None => writing,
        }
    }

    /// Takes every place that an app's groups have, until the gate is opened.
    async fn hold(&self, app: AppId) -> Vec<BoxFuture<'static, Result<String>>> {
        let groups = if self.store.is_sqlite() { 1 } else { 2 };
        let mut held = Vec::new();
        for number in 0..groups {
            let gate = Also::Wait(Arc::clone(&self.gate));
            held.push(self.write(app, None, &format!("hold {number}"), gate));
            self.entered.acquire().await.unwrap().forget();
        }
        held
    }

    /// How many members each group had, those that held the places left out.
    fn sizes(&self) -> Vec<usize> {
        let seen = self.seen.lock().unwrap();
        let groups = seen.iter().filter(|group| !group[0].starts_with("hold"));
        groups.map(Vec::len).collect()
    }
}

fn app() -> AppId {
    AppId::new(now())
}

fn once(app: AppId, key: &str, hash: u8) -> Option<Once> {
    Some(Once {
        app: Some(app),
        actor: "app".to_owned(),
        rpc: "campanile.v1.NotificationService/SendNotification",
        key: key.to_owned(),
        hash: [hash; 32],
        secret: false,
        now: now(),
    })
}

fn reasons(answers: &[Result<String>]) -> Vec<Option<Reason>> {
    answers
        .iter()
        .map(|answer| answer.as_ref().err().map(Error::reason))
        .collect()
}

/// What is there beside the apps of those that held the places.
async fn written(store: &Store) -> Vec<String> {
    let mut names = names(store).await;
    names.retain(|name| !name.starts_with("hold"));
    names
}

on_both! {
    async fn a_write_that_comes_alone_is_done_at_once_and_those_that_wait_are_done_together(db) {
        let works = Works::new(db.open().await);
        let app = app();
        assert_eq!(works.write(app, None, "alone", Also::Nothing).await.unwrap(), "alone");
        let held = works.hold(app).await;
        let waiting: Vec<_> = (0..20).map(|n| works.write(app, None, &format!("{n:02}"), Also::Nothing)).collect();
        works.gate.close();
        for (n, answer) in join_all(waiting).await.into_iter().enumerate() {
            assert_eq!(answer.unwrap(), format!("{n:02}"));
        }
        join_all(held).await.into_iter().for_each(|answer| drop(answer.unwrap()));
        assert_eq!(works.sizes(), [1, 20]);
        assert_eq!(written(&works.store).await.len(), 21);
    }

    async fn whoever_is_refused_is_so_alone(db) {
        let works = Works::new(db.open().await);
        let app = app();
        let held = works.hold(app).await;
        let waiting = [
            works.write(app, once(app, "first", 1), "first", Also::Nothing),
            works.write(app, once(app, "no", 1), "no", Also::Refuse),
            works.write(app, None, "last", Also::Nothing),
        ];
        works.gate.close();
        let answers = join_all(waiting).await;
        join_all(held).await;
        assert_eq!(reasons(&answers), [None, Some(Reason::Forbidden), None]);
        assert_eq!(works.sizes(), [3], "all of them were done in one transaction");
        assert_eq!(written(&works.store).await, ["first", "last"]);
        // A refusal is not stored: the same key is free for a call that succeeds.
        let again = works.write_once(app, once(app, "no", 2), "yes", Also::Nothing).await.unwrap();
        assert_eq!(again, Written { value: "yes".to_owned(), replayed: false });
        let replayed = works.write_once(app, once(app, "first", 1), "never", Also::Nothing).await.unwrap();
        assert_eq!(replayed, Written { value: "first".to_owned(), replayed: true });
    }

    async fn whoever_breaks_a_statement_or_panics_fails_alone(db) {
        let works = Works::new(db.open().await);
        let app = app();
        works.write(app, None, "taken", Also::Nothing).await.unwrap();
        let held = works.hold(app).await;
        let waiting = [
            works.write(app, once(app, "first", 1), "first", Also::Nothing),
            works.write(app, once(app, "taken", 1), "taken", Also::Nothing),
            works.write(app, None, "panic", Also::Panic),
            works.write(app, None, "last", Also::Nothing),
        ];
        works.gate.close();
        let answers = join_all(waiting).await;
        join_all(held).await;
        let expected = [None, Some(Reason::Conflict), Some(Reason::Internal), None];
        assert_eq!(reasons(&answers), expected);
        let mut sizes = works.sizes();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 1, 1, 1, 1, 4]);
        assert_eq!(written(&works.store).await, ["first", "last", "taken"]);
        let freed = works.write_once(app, once(app, "taken", 2), "other", Also::Nothing).await.unwrap();
        assert!(!freed.replayed, "the key of a write that failed was kept");
    }

    async fn of_equal_calls_in_one_transaction_one_is_done_and_the_others_are_told_its_answer(db) {
        let works = Works::new(db.open().await);
        let app = app();
        let held = works.hold(app).await;
        let write = |key: &str, hash, name: &str, also| works.write_once(app, once(app, key, hash), name, also);
        let waiting = [
            write("a", 1, "first", Also::Nothing),
            write("b", 1, "refused", Also::Refuse),
            write("a", 1, "twin", Also::Nothing),
            write("a", 2, "another request", Also::Nothing),
            write("b", 1, "after a refusal", Also::Nothing),
            write("b", 1, "and its twin", Also::Nothing),
        ];
        works.gate.close();
        let answers = join_all(waiting).await;
        join_all(held).await;
        let told: Vec<_> = answers
            .iter()
            .map(|answer| answer.as_ref().map(|told| (told.value.as_str(), told.replayed)).map_err(Error::reason))
            .collect();
        let expected = [
            Ok(("first", false)),
            Err(Reason::Forbidden),
            Ok(("first", true)),
            Err(Reason::Conflict),
            Ok(("after a refusal", false)),
            Ok(("after a refusal", true)),
        ];
        assert_eq!(told, expected);
        assert_eq!(written(&works.store).await, ["after a refusal", "first"]);
    }

    async fn equal_calls_at_once_on_two_nodes_have_one_effect(db) {
        let nodes = [Works::new(db.open().await), Works::new(db.open().await)];
        let app = app();
        let calls = (0..64).map(|n| {
            nodes[n % 2].write_once(app, once(app, &format!("key {}", n % 4), 1), &format!("{n:02}"), Also::Nothing)
        });
        let answers: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
        let names = written(&nodes[0].store).await;
        assert_eq!(names.len(), 4);
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 4);
        for (n, answer) in answers.iter().enumerate() {
            assert!(names.contains(&answer.value));
            assert_eq!(answers[n % 4].value, answer.value);
        }
    }

    async fn an_app_that_floods_is_refused_in_time_and_others_take_their_turn(db) {
        let works = Works::new(db.open().await);
        let (flooding, other) = (app(), app());
        let held = works.hold(flooding).await;
        let mut waiting: Vec<_> = (0..=WAITING_MAX)
            .map(|n| works.write(flooding, None, &format!("{n:04}"), Also::Nothing))
            .collect();
        let refused = waiting.pop().unwrap().await.unwrap_err();
        assert_eq!(refused.reason(), Reason::Unavailable);
        assert!(refused.retry_hint().is_some());
        assert!(refused.dev_message().contains("nothing was changed"), "{refused}");
        let late = works.write(other, None, "late", Also::Nothing);
        works.gate.close();
        late.await.unwrap();
        for answer in join_all(waiting).await.into_iter().chain(join_all(held).await) {
            answer.unwrap();
        }
        let seen = works.seen.lock().unwrap().clone();
        let (groups, place) = (seen.len(), seen.iter().position(|group| group == &["late"]));
        assert!(place.unwrap() <= groups / 2, "it waited for {place:?} of {groups} groups");
        assert_eq!(written(&works.store).await.len(), WAITING_MAX + 1);
    }

    async fn whoever_goes_away_while_it_waits_is_left_out(db) {
        let works = Works::new(db.open().await);
        let app = app();
        let held = works.hold(app).await;
        let gone = works.write(app, once(app, "gone", 1), "gone", Also::Nothing);
        let stays = works.write(app, None, "stays", Also::Nothing);
        drop(gone);
        works.gate.close();
        stays.await.unwrap();
        join_all(held).await;
        assert_eq!(written(&works.store).await, ["stays"]);
    }

    async fn what_waits_is_still_done_on_close_and_nothing_after_it(db) {
        let works = Works::new(db.open().await);
        let app = app();
        let held = works.hold(app).await;
        let waiting: Vec<_> = (0..40).map(|n| works.write(app, None, &format!("{n:02}"), Also::Nothing)).collect();
        works.gate.close();
        let ((), answers) = tokio::join!(works.store.close(), join_all(waiting));
        answers.into_iter().chain(join_all(held).await).for_each(|answer| drop(answer.unwrap()));
        let late = works.write(app, None, "late", Also::Nothing).await.unwrap_err();
        assert_eq!(late.reason(), Reason::Unavailable);
        assert_eq!(written(&db.open().await).await.len(), 40);
    }
}

async fn postgres() -> Option<(TestDatabase, Works)> {
    let db = TestDatabase::new(Backend::Postgres).await?;
    let works = Works::new(db.open().await);
    Some((db, works))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_conflicts_twice_is_done_one_by_one() {
    let Some((_db, works)) = postgres().await else { return };
    let app = app();
    let held = works.hold(app).await;
    let waiting = [
        works.write(app, None, "first", Also::Nothing),
        works.write(app, None, "in the way", Also::Conflict),
        works.write(app, None, "last", Also::Nothing),
    ];
    works.gate.close();
    let answers = join_all(waiting).await;
    join_all(held).await;
    assert_eq!(reasons(&answers), [None, None, None]);
    assert_eq!(works.sizes(), [3, 3, 1, 1, 1]);
    assert_eq!(written(&works.store).await, ["first", "in the way", "last"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_a_lock_does_not_hold_up_the_others_for_good() {
    let Some((db, works)) = postgres().await else { return };
    let app = app();
    works.write(app, None, "locked", Also::Nothing).await.unwrap();
    let (locked, unlock) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (entered, held) = (Arc::clone(&locked), Arc::clone(&unlock));
    let other = db.open().await;
    let locker = other.write(move |tx| {
        let (entered, held) = (Arc::clone(&entered), Arc::clone(&held));
        Box::pin(async move {
            tx.execute_unprepared("UPDATE apps SET version = 3 WHERE public_id = 'locked'")
                .await?;
            entered.add_permits(1);
            drop(held.acquire().await);
            Ok(())
        })
    });
    let others = async {
        drop(locked.acquire().await);
        let held = works.hold(app).await;
        let stuck = works.write(app, None, "stuck", Also::Lock);
        let rest: Vec<_> = (0..8)
            .map(|n| works.write(app, None, &format!("{n}"), Also::Nothing))
            .collect();
        works.gate.close();
        join_all(held).await;
        for answer in join_all(rest).await {
            answer.unwrap();
        }
        assert_eq!(
            written(&works.store).await.len(),
            9,
            "the one that waits was done, or the rest was not"
        );
        unlock.close();
        stuck.await.unwrap();
    };
    let (done, ()) = tokio::join!(locker, others);
    done.unwrap();
    assert!(written(&works.store).await.contains(&"stuck".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_lock_rows_in_opposite_orders_are_run_again_and_happen_once() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let store = db.open().await;
    for name in ["a", "b"] {
        store.write(move |tx| Box::pin(insert_app(tx, name))).await.unwrap();
    }
    let (runs, meet) = (Arc::new(AtomicU32::new(0)), Arc::new(tokio::sync::Barrier::new(2)));
    let counted = Arc::clone(&runs);
    let group: Group<(&str, &str), ()> = store.group(move |tx, _, items: Vec<Arc<(&str, &str)>>| {
        let (run, meet) = (counted.fetch_add(1, Ordering::SeqCst), Arc::clone(&meet));
        Box::pin(async move {
            for item in &items {
                let [first, second] = [item.0, item.1]
                    .map(|app| format!("UPDATE apps SET version = version + 1 WHERE public_id = '{app}'"));
                tx.execute_unprepared(&first).await?;
                if run < 2 {
                    meet.wait().await;
                }
                tx.execute_unprepared(&second).await?;
            }
            Ok(items.iter().map(|_| Ok(())).collect())
        })
    });
    let app = app();
    let one = group.write(app, None, Arc::new(("a", "b")));
    let two = group.write(app, None, Arc::new(("b", "a")));
    let (one, two) = tokio::join!(one, two);
    one.unwrap();
    two.unwrap();
    assert!(
        runs.load(Ordering::SeqCst) > 2,
        "nothing stood in the way, so nothing was proven"
    );
    let sum = sea_orm::Statement::from_string(
        store.read().get_database_backend(),
        "SELECT CAST(sum(version) AS BIGINT) FROM apps",
    );
    let row = store.read().query_one_raw(sum).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), 6);
}

/// Loses the COMMIT of a group of three, and gives what its members were told and how often the group worked.
async fn lose_the_commit(cut: Cut) -> Option<(Vec<Result<String>>, Vec<usize>, Vec<String>)> {
    let db = TestDatabase::new(Backend::Postgres).await?;
    let cable = Cable::lay(&db.url).await;
    let mut settings = db.settings();
    settings.url.clone_from(&cable.url);
    let works = Works::new(Store::open(&settings).await.unwrap());
    let app = app();
    let held = works.hold(app).await;
    // Those that hold the places commit first, each alone.
    cable.cut_every(u32::try_from(held.len()).unwrap() + 1, cut, 1);
    let waiting = ["one", "two", "three"].map(|name| works.write(app, once(app, name, 1), name, Also::Nothing));
    works.gate.close();
    join_all(held)
        .await
        .into_iter()
        .for_each(|answer| drop(answer.unwrap()));
    let answers = join_all(waiting).await;
    assert_eq!(cable.cuts_left(), 0, "the cable was not cut, so nothing was proven");
    let names = written(&db.open().await).await;
    Some((answers, works.sizes(), names))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_groups_commit_that_happened_and_whose_answer_was_lost_is_found_once_for_all() {
    let Some((answers, sizes, names)) = lose_the_commit(Cut::After).await else {
        return;
    };
    assert_eq!(reasons(&answers), [None, None, None]);
    assert_eq!(sizes, [3]);
    assert_eq!(names, ["one", "three", "two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_groups_commit_that_never_arrived_is_found_out_and_the_group_done_again() {
    let Some((answers, sizes, names)) = lose_the_commit(Cut::Before).await else {
        return;
    };
    assert_eq!(reasons(&answers), [None, None, None]);
    assert_eq!(sizes, [3, 3]);
    assert_eq!(names, ["one", "three", "two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_groups_commit_that_nobody_can_ask_about_is_told_as_unknown_to_all_and_never_repeated() {
    let Some((answers, sizes, names)) = lose_the_commit(Cut::ForGood).await else {
        return;
    };
    for answer in answers {
        let unknown = answer.unwrap_err();
        assert_eq!(unknown.reason(), Reason::Unavailable);
        assert!(unknown.dev_message().contains("outcome unknown"), "{unknown}");
    }
    assert_eq!(sizes, [3]);
    // It did happen, and whoever repeats its call with the same key is told so.
    assert_eq!(names, ["one", "three", "two"]);
}
