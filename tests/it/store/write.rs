//! `Store::write`: all or nothing, answered once durable, on both databases alike.
#![expect(clippy::panic, reason = "one of the closures panics, to show that it ends alone")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use campanile::model::{Error, Reason};
use campanile::store::{SecretKey, Store, StoreSettings, taken};
use futures::future::join_all;
use sea_orm::{ConnectionTrait, Statement};

use super::{insert_app, names};
use crate::on_both;

on_both! {
    async fn a_write_is_there_when_it_is_answered(db) {
        let store = db.open().await;
        let answer = store.write(|tx| Box::pin(async move { insert_app(tx, "one").await.map(|()| 7) })).await;
        assert_eq!(answer.unwrap(), 7);
        assert_eq!(names(&store).await, ["one"]);
        store.close().await;
        assert_eq!(names(&db.open().await).await, ["one"]);
    }

    async fn a_refused_write_leaves_nothing(db) {
        let store = db.open().await;
        let refused = store
            .write(|tx| Box::pin(async move {
                insert_app(tx, "half").await?;
                Err::<(), _>(Error::new(Reason::Forbidden, "no"))
            }))
            .await;
        assert_eq!(refused.unwrap_err().reason(), Reason::Forbidden);
        assert_eq!(names(&store).await, Vec::<String>::new());
    }

    async fn each_of_many_writes_at_once_is_seen_from_outside_as_soon_as_it_is_answered(db) {
        let (store, outside) = (db.open().await, db.open().await);
        let writes = (0..100).map(async |n| {
            let name = format!("{n:03}");
            let written = name.clone();
            let done = store
                .write(move |tx| {
                    let name = written.clone();
                    Box::pin(async move {
                        insert_app(tx, &name).await?;
                        match n % 5 {
                            0 => Err(Error::new(Reason::Forbidden, "no")),
                            1 => panic!("a closure that panics ends alone"),
                            _ => Ok(()),
                        }
                    })
                })
                .await;
            assert_eq!(names(&outside).await.contains(&name), done.is_ok());
            done.is_ok()
        });
        let done = join_all(writes).await;
        assert_eq!(done.iter().filter(|done| **done).count(), 60);
        assert_eq!(names(&outside).await.len(), 60);
    }

    async fn a_statement_that_failed_spoils_its_write_even_if_nobody_looks(db) {
        let store = db.open().await;
        let refused = store
            .write(|tx| Box::pin(async move {
                insert_app(tx, "before").await?;
                drop(tx.execute_unprepared("SELECT * FROM no_such_table").await);
                assert!(insert_app(tx, "after").await.is_err());
                Ok(())
            }))
            .await;
        assert_eq!(refused.unwrap_err().reason(), Reason::Internal);
        assert_eq!(names(&store).await, Vec::<String>::new());
    }

    async fn a_taken_key_is_told_by_the_word_that_the_caller_gives_it(db) {
        let store = db.open().await;
        store.write(|tx| Box::pin(insert_app(tx, "one"))).await.unwrap();
        let plain = store.write(|tx| Box::pin(insert_app(tx, "one"))).await.unwrap_err();
        assert_eq!(plain.reason(), Reason::Conflict);
        let named = store
            .write(|tx| Box::pin(async move {
                let again = "INSERT INTO apps SELECT * FROM apps";
                let exists = || Error::new(Reason::AppAlreadyExists, "taken");
                tx.execute_unprepared(again).await.map_err(|error| taken(error, exists))?;
                Ok(())
            }))
            .await;
        assert_eq!(named.unwrap_err().reason(), Reason::AppAlreadyExists);
        assert_eq!(names(&store).await, ["one"]);
    }

    async fn an_app_that_is_referred_to_cannot_go(db) {
        let store = db.open().await;
        store
            .write(|tx| Box::pin(async move {
                insert_app(tx, "one").await?;
                let key = "INSERT INTO api_keys (id, app_id, name, scope, hash, hint, created_at, updated_at, version) \
                           SELECT id, id, 'k', 1, $1, 'x', 0, 0, 1 FROM apps";
                let values = [vec![1_u8; 32].into()];
                tx.execute_raw(Statement::from_sql_and_values(tx.get_database_backend(), key, values)).await?;
                Ok(())
            }))
            .await
            .unwrap();
        let refused = store
            .write(|tx| Box::pin(async move { Ok(tx.execute_unprepared("DELETE FROM apps").await.map(|_| ())?) }))
            .await;
        assert_eq!(refused.unwrap_err().reason(), Reason::Conflict);
        assert_eq!(names(&store).await, ["one"]);
    }

    async fn what_waits_is_still_done_on_close_and_nothing_after_it(db) {
        let store = db.open().await;
        let write = |name: &'static str| {
            let store = store.clone();
            async move { store.write(move |tx| Box::pin(insert_app(tx, name))).await }
        };
        let (before, ()) = tokio::join!(write("before"), store.close());
        before.unwrap();
        assert_eq!(write("after").await.unwrap_err().reason(), Reason::Unavailable);
        assert_eq!(names(&db.open().await).await, ["before"]);
    }

    async fn a_reader_does_not_write(db) {
        let store = db.open().await;
        let reader = store.read();
        assert!(reader.execute_unprepared("DELETE FROM apps").await.is_err());
        let sql = "INSERT INTO idempotency_keys SELECT * FROM idempotency_keys RETURNING 1";
        let sneaked = reader.query_one_raw(Statement::from_string(reader.get_database_backend(), sql)).await;
        assert!(sneaked.is_err());
        store.check().await.unwrap();
    }

    async fn a_database_that_has_lost_a_table_is_not_ready(db) {
        let store = db.open().await;
        store.check().await.unwrap();
        let lost = store.write(|tx| Box::pin(async move {
            tx.execute_unprepared("ALTER TABLE apps RENAME TO lost").await?;
            Ok(())
        }));
        lost.await.unwrap();
        assert!(store.check().await.is_err());
    }

    async fn a_background_write_is_told_when_its_time_is_over_and_a_request_is_not(db) {
        let store = db.open().await;
        let spend = |tx: &'_ campanile::store::Tx| !tx.is_out_of_time();
        let early = store.write_background(move |tx| Box::pin(async move { Ok(spend(tx)) })).await.unwrap();
        assert!(early);
        let rounds = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&rounds);
        store
            .write_background(move |tx| {
                let counted = Arc::clone(&counted);
                Box::pin(async move {
                    while !tx.is_out_of_time() {
                        tx.execute_unprepared("SELECT 1").await?;
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .await
            .unwrap();
        assert!(rounds.load(Ordering::Relaxed) > 0);
        let late = store
            .write(move |tx| Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(tx.is_out_of_time())
            }))
            .await;
        assert!(!late.unwrap());
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    let notes = "not a database, but something that somebody needs ".repeat(100);
    std::fs::write(&file, &notes).unwrap();
    let settings = StoreSettings::new(format!("sqlite://{}", file.display()), SecretKey::generate().unwrap());
    let refused = Store::open(&settings).await.err().unwrap();
    assert_eq!(refused.reason(), Reason::Unavailable);
    assert!(refused.dev_message().contains("refuses access"), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), notes);
}

#[tokio::test]
async fn settings_that_cannot_be_right_are_refused_by_name_and_never_repeated() {
    for url in [
        "",
        "mysql://root:secret@db/x",
        "sqlite::memory:",
        "sqlite://:memory:",
        "sqlite://x?mode=memory",
        "postgres://[:secret",
    ] {
        let mut settings = StoreSettings::new(url, SecretKey::generate().unwrap());
        settings.connections = 0;
        let refused = Store::open(&settings).await.err().unwrap();
        let fields: Vec<&str> = refused
            .violations()
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        assert_eq!(fields, ["connections", "databaseUrl"], "{url}");
        assert!(!format!("{refused:?} {settings:?}").contains("secret"), "{url}");
    }
}
