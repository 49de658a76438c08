//! Idempotency: one effect per key, whatever happens at once, in between and after a restart.

use std::sync::Arc;
use std::time::Duration;

use campanile::model::id::AppId;
use campanile::model::{Error, Reason, Result, Timestamp};
use campanile::store::entity::{app, idempotency_key};
use campanile::store::idempotency::KEPT_FOR;
use campanile::store::{Once, Store, Written};
use futures::future::join_all;
use sea_orm::EntityTrait;
use tokio::sync::Semaphore;

use super::{insert_app, names, now};
use crate::on_both;

const TWINS: usize = 32;

fn once(key: &str) -> Once {
    Once {
        app: None,
        actor: "operator".to_owned(),
        rpc: "campanile.v1.AppService/CreateApp",
        key: key.to_owned(),
        hash: [7; 32],
        secret: false,
        now: now(),
    }
}

/// Inserts an app whose name nobody else has, and answers with that name.
async fn create(store: &Store, once: Once) -> Result<Written<String>> {
    store
        .write_once(Some(once), |tx| {
            Box::pin(async move {
                let name = AppId::new(now()).to_string();
                insert_app(tx, &name).await?;
                Ok(name)
            })
        })
        .await
}

on_both! {
    async fn equal_calls_at_once_have_one_effect_and_one_answer(db) {
        // Two services on one database, as nodes of a cluster are, or as an old process beside its successor.
        let (one, two) = (db.open().await, db.open().await);
        let calls = (0..TWINS).map(|n| create(if n % 2 == 0 { &one } else { &two }, once("twin")));
        let answers = join_all(calls).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
        let names = names(&one).await;
        assert_eq!(names.len(), 1);
        assert!(answers.iter().all(|answer| answer.value == names[0]));
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    }

    async fn an_answer_survives_a_restart(db) {
        let store = db.open().await;
        let first = create(&store, once("kept")).await.unwrap();
        store.close().await;
        let again = create(&db.open().await, once("kept")).await.unwrap();
        assert_eq!(again, Written { value: first.value, replayed: true });
    }

    async fn the_same_key_for_another_request_is_refused_and_changes_nothing(db) {
        let store = db.open().await;
        create(&store, once("key")).await.unwrap();
        let refused = create(&store, Once { hash: [8; 32], ..once("key") }).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::Conflict);
        assert_eq!(refused.metadata(), [("idempotencyKey", "key".to_owned())]);
        assert_eq!(names(&store).await.len(), 1);
    }

    async fn keys_of_other_callers_rpcs_and_apps_are_other_keys(db) {
        let store = db.open().await;
        let calls = [
            once("key"),
            Once { actor: "somebody else".to_owned(), ..once("key") },
            Once { rpc: "campanile.v1.AppService/DeleteApp", ..once("key") },
            Once { app: Some(AppId::new(now())), ..once("key") },
            Once { app: Some(AppId::new(now())), ..once("key") },
            once("KEY"),
        ];
        for call in calls.clone() {
            assert!(!create(&store, call).await.unwrap().replayed);
        }
        assert_eq!(names(&store).await.len(), calls.len());
    }

    async fn a_refused_call_leaves_its_key_free(db) {
        let store = db.open().await;
        let refused = store
            .write_once(Some(once("key")), |tx| Box::pin(async move {
                insert_app(tx, "half").await?;
                Err::<String, _>(Error::new(Reason::Forbidden, "no"))
            }))
            .await;
        assert_eq!(refused.unwrap_err().reason(), Reason::Forbidden);
        assert_eq!(idempotency_key::Entity::find().all(store.read()).await.unwrap(), []);
        assert!(!create(&store, once("key")).await.unwrap().replayed);
        assert_eq!(names(&store).await.len(), 1);
    }

    async fn a_call_without_a_key_happens_every_time(db) {
        let store = db.open().await;
        for name in ["one", "two"] {
            let written = store.write_once(None, move |tx| Box::pin(insert_app(tx, name))).await.unwrap();
            assert!(!written.replayed);
        }
        assert_eq!(names(&store).await, ["one", "two"]);
    }

    async fn a_key_is_free_again_when_its_time_is_over(db) {
        let store = db.open().await;
        let at = |since: Duration| Once { now: now().plus(since), ..once("key") };
        let first = create(&store, at(Duration::ZERO)).await.unwrap();
        let last_moment = create(&store, at(KEPT_FOR - Duration::from_millis(1))).await.unwrap();
        assert_eq!(last_moment, Written { value: first.value.clone(), replayed: true });
        let fresh = create(&store, Once { hash: [9; 32], ..at(KEPT_FOR) }).await.unwrap();
        assert!(!fresh.replayed && fresh.value != first.value);
        let again = create(&store, Once { hash: [9; 32], ..at(KEPT_FOR) }).await.unwrap();
        assert_eq!(again, Written { value: fresh.value, replayed: true });
    }

    async fn the_sweep_takes_expired_keys_only_and_in_bounds(db) {
        let store = db.open().await;
        for n in 0..5 {
            create(&store, once(&format!("old {n}"))).await.unwrap();
        }
        let later: Timestamp = now().plus(KEPT_FOR);
        create(&store, Once { now: later, ..once("new") }).await.unwrap();
        assert_eq!(store.sweep_idempotency_keys(now(), 10).await.unwrap(), 0);
        assert_eq!(store.sweep_idempotency_keys(later, 3).await.unwrap(), 3);
        assert_eq!(store.sweep_idempotency_keys(later, 3).await.unwrap(), 2);
        let left = idempotency_key::Entity::find().all(store.read()).await.unwrap();
        assert_eq!(left.into_iter().map(|row| row.key).collect::<Vec<_>>(), ["new"]);
        assert_eq!(app::Entity::find().all(store.read()).await.unwrap().len(), 6);
    }

    async fn a_key_that_is_renewed_while_the_sweep_runs_is_kept(db) {
        let (calls, sweeper) = (db.open().await, db.open().await);
        create(&calls, once("key")).await.unwrap();
        let later = now().plus(KEPT_FOR);
        let (taken, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (entered, held) = (Arc::clone(&taken), Arc::clone(&go_on));
        let renewal = calls.write_once(Some(Once { now: later, ..once("key") }), move |_| {
            let (entered, held) = (Arc::clone(&entered), Arc::clone(&held));
            Box::pin(async move {
                entered.add_permits(1);
                drop(held.acquire().await);
                Ok("renewed".to_owned())
            })
        });
        let sweep = async {
            drop(taken.acquire().await);
            let swept = sweeper.sweep_idempotency_keys(later, 10);
            // It has found the key as it was, and waits for the transaction that renews it.
            let release = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                go_on.close();
            };
            tokio::join!(swept, release).0
        };
        let (renewed, swept) = tokio::join!(renewal, sweep);
        assert_eq!((renewed.unwrap().value, swept.unwrap()), ("renewed".to_owned(), 0));
        let again = create(&calls, Once { now: later, ..once("key") }).await.unwrap();
        assert_eq!(again, Written { value: "renewed".to_owned(), replayed: true });
    }

    async fn a_secret_answer_is_stored_encrypted_and_replayed_in_clear(db) {
        let store = db.open().await;
        let secret = Once { secret: true, ..once("key") };
        let first = create(&store, secret.clone()).await.unwrap();
        let row = idempotency_key::Entity::find().one(store.read()).await.unwrap().unwrap();
        let stored = row.answer.unwrap();
        let clear = first.value.as_bytes();
        assert!(row.encrypted && !stored.windows(clear.len()).any(|part| part == clear));
        assert_eq!(create(&store, secret).await.unwrap(), Written { value: first.value, replayed: true });
    }
}
