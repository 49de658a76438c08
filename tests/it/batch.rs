//! Batches: what their callers see while workers do them, and that workers which stop, stand still or come at once serve
//! every receiver exactly once. That killed processes do not change that is proven in `crash.rs`.

mod waiting;

use std::sync::Arc;
use std::time::Duration;

use campanile::domain::dispatch::{self, Dispatching, Step};
use campanile::domain::{Service, Settings};
use campanile::store::Store;
use campanile::worker::{Turn, complete, dispatch as worker};
use futures::future::{join, join_all};
use insta::assert_json_snapshot;
use sea_orm::{ConnectionTrait, DatabaseBackend, Statement};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::database::{Backend, TestDatabase};
use crate::support::rpc::{Answer, Door};
use crate::support::shop::Shop;
use crate::support::world::{World, call, steady};
use crate::{everywhere, on_both};

fn uids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number:05}")).collect()
}

fn plain(receivers: &[String]) -> Value {
    json!({"templateId": "plain", "receivers": receivers})
}

async fn send(shop: &Shop<'_>, request: Value) -> Value {
    let sent = shop.call("SendNotification", request).await;
    assert_eq!(sent.data()["mode"], "batch", "{sent:#?}");
    sent.data()["batchId"].clone()
}

async fn get(shop: &Shop<'_>, id: &Value) -> Answer {
    shop.call("GetNotification", json!({"notificationId": id})).await
}

/// Sent, failed and skipped receivers, and the status.
async fn counts(shop: &Shop<'_>, id: &Value) -> Value {
    let answer = get(shop, id).await;
    let data = answer.data();
    json!([
        data["sentCount"],
        data["failedCount"],
        data["skippedCount"],
        data["status"]
    ])
}

/// The uids of the receivers with a status.
async fn with_status(shop: &Shop<'_>, id: &Value, status: &str) -> Vec<String> {
    let request = json!({"notificationId": id, "status": status, "limit": 100});
    let listed = shop.call("ListNotificationReceivers", request).await;
    let receivers = listed.data().as_array().unwrap();
    assert!(receivers.iter().all(|one| one["status"] == status), "{listed:#?}");
    let uid = |one: &Value| one["receiver"].as_str().unwrap().to_owned();
    receivers.iter().map(uid).collect()
}

/// How many problems of a refusal are counted and not named.
fn unnamed(refused: &Answer) -> usize {
    let text = refused.body["error"]["details"]["…"].as_str().unwrap();
    text.split(' ').filter_map(|word| word.parse::<usize>().ok()).sum()
}

pub(crate) async fn execute(store: &Store, sql: &'static str) {
    let done = store.write(move |tx| {
        Box::pin(async move {
            tx.execute_unprepared(sql).await?;
            Ok(())
        })
    });
    done.await.unwrap();
}

/// Lets every lease and every wait end.
pub(crate) async fn expire_leases(store: &Store) {
    execute(store, "UPDATE pages SET lease_until = 0 WHERE lease_until IS NOT NULL").await;
}

/// Lets workers do what waits and what waits for its next try, until nothing is left.
pub(crate) async fn work_out(world: &World, store: &Store) {
    for _ in 0..100 {
        world.work().await;
        let statement = Statement::from_string(
            store.read().get_database_backend(),
            "SELECT COUNT(*) AS n FROM pages WHERE state <> 3",
        );
        let row = store.read().query_one_raw(statement).await.unwrap().unwrap();
        if row.try_get::<i64>("", "n").unwrap() == 0 {
            return;
        }
        expire_leases(store).await;
    }
    unreachable!("the pages never end");
}

/// A world whose pages hold so few recipients that a small batch has several.
async fn small_pages(db: TestDatabase) -> World {
    World::start_with(db, Door::Rest, |settings| settings.dispatching.page_rows = Some(10)).await
}

async fn claimed(service: &Service) -> dispatch::LeasedPage {
    dispatch::claim(service).await.unwrap().unwrap()
}

everywhere! {
    async fn a_batch_is_accepted_at_once_and_done_by_a_worker(world) {
        let shop = Shop::open(&world).await;
        let receivers = uids(11);
        let sent = shop.call("SendNotification", plain(&receivers)).await;
        assert_eq!(sent.status, 200, "{sent:#?}");
        assert_json_snapshot!("batch_sent", steady(&sent.body));
        let id = &sent.data()["batchId"];
        assert_eq!(id, &sent.data()["notificationId"]);
        assert_json_snapshot!("batch_waiting", steady(&get(&shop, id).await.body));
        assert_eq!(shop.all_unread(&receivers).await, vec![0; 11]);

        world.pass(Duration::from_secs(1));
        world.work().await;
        let done = get(&shop, id).await;
        let path = format!("/v3/campaigns/notifications/batches/{}", id.as_str().unwrap());
        assert_eq!(world.get(&path, &shop.caller).await.body, done.body);
        assert_json_snapshot!("batch_done", steady(&done.body));
        assert_eq!(shop.all_unread(&receivers).await, vec![1; 11]);
        let feed = shop.as_user(&receivers[3], "ListFeedItems", json!({})).await;
        assert_eq!(feed.data()[0]["id"], done.data()["receivers"][3]["deliveries"][0]["feedItemId"]);
        assert_eq!(feed.data()[0]["notificationId"], *id);
    }

    async fn the_number_of_uids_decides_unless_the_request_does(world) {
        let shop = Shop::open(&world).await;
        let mode = async |receivers: &[String], mode: Option<&str>| {
            let mut request = plain(receivers);
            if let Some(mode) = mode {
                request["mode"] = json!(mode);
            }
            let sent = shop.call("SendNotification", request).await;
            let data = sent.data();
            json!([data["mode"], data["total"], data["duplicateCount"]])
        };
        let mut twice = uids(10);
        twice.push("USER-00003".to_owned());
        assert_eq!(mode(&uids(10), None).await, json!(["realtime", 10, 0]));
        assert_eq!(mode(&uids(10), Some("batch")).await, json!(["batch", 10, 0]));
        assert_eq!(mode(&uids(1), Some("batch")).await, json!(["batch", 1, 0]));
        assert_eq!(mode(&uids(11), Some("batch")).await, json!(["batch", 11, 0]));
        assert_eq!(mode(&twice, None).await, json!(["batch", 10, 1]));
        world.work().await;
        assert_eq!(shop.all_unread(&twice[..10]).await, [5, 4, 4, 4, 4, 4, 4, 4, 4, 4]);
    }

    async fn a_batch_says_of_every_receiver_why_nothing_was_sent(world) {
        let shop = Shop::open(&world).await;
        for uid in ["user-00001", "user-00002", "user-00003"] {
            shop.call("CreateUser", json!({"user": {"uid": uid, "name": uid}})).await.data();
        }
        shop.call("DeactivateUser", json!({"uid": "user-00001"})).await.data();
        let id = send(&shop, plain(&uids(12))).await;
        // What happens between the answer and the worker counts.
        shop.call("DeactivateUser", json!({"uid": "user-00002"})).await.data();
        shop.call("DeleteUser", json!({"uid": "user-00003"})).await.data();
        // What was skipped stays skipped.
        shop.call("ReactivateUser", json!({"uid": "user-00001"})).await.data();
        // An accepted batch goes out whatever becomes of its template.
        shop.call("UpdateTemplate", json!({"templateId": "plain", "template": {"status": "archived"}})).await.data();
        assert_eq!(with_status(&shop, &id, "pending").await, uids(12));
        world.work().await;
        assert_eq!(counts(&shop, &id).await, json!([9, 0, 3, "completed"]));
        assert_eq!(with_status(&shop, &id, "skipped").await, uids(4)[1..]);
        assert_eq!(with_status(&shop, &id, "sent").await.len(), 9);
        assert!(with_status(&shop, &id, "pending").await.is_empty());
        let notification = get(&shop, &id).await;
        let reasons: Vec<_> = (0..4).map(|place| notification.data()["receivers"][place]["deliveries"][0]["reason"].clone()).collect();
        assert_eq!(reasons, [json!(null), json!("user_deactivated"), json!("user_deactivated"), json!("unknown_user")]);
        assert_eq!(shop.unread("user-00001").await, 0);
    }

    async fn a_channel_that_is_switched_off_before_the_worker_comes_is_skipped_and_says_so(world) {
        let shop = Shop::open(&world).await;
        let id = send(&shop, plain(&uids(11))).await;
        shop.call("UpdateChannel", json!({"channelId": "bell", "channel": {"enabled": false}})).await.data();
        world.work().await;
        assert_eq!(counts(&shop, &id).await, json!([0, 0, 11, "completed"]));
        let delivery = &get(&shop, &id).await.data()["receivers"][10]["deliveries"][0].clone();
        assert_eq!((&delivery["status"], &delivery["reason"]), (&json!("suppressed"), &json!("channel_disabled")));
        assert_eq!(shop.unread("user-00000").await, 0);
    }

    async fn a_batch_that_some_receiver_cannot_get_is_refused_as_a_whole(world) {
        let shop = Shop::open(&world).await;
        let before = shop.rows().await;
        let request = json!({
            "templateId": "order-shipped",
            "receivers": uids(150),
            "variables": {"user-00001": {"code": "1"}, "user-00149": {"name": "Eve"}},
        });
        let refused = shop.call("SendNotification", request).await;
        assert_eq!((refused.status, refused.code()), (400, "ERR_INVALID_VARIABLES"));
        let details = refused.body["error"]["details"].as_object().unwrap();
        // A gRPC status has room for fewer.
        assert!(details.len() > if world.client.door == Door::Rest { 100 } else { 20 }, "{details:#?}");
        assert_eq!(details["variables.user-00000.code"], "is required by the template");
        assert!(!details.contains_key("variables.user-00001.code"));
        assert_eq!(details.len() - 1 + unnamed(&refused), 149);

        let request = json!({
            "templateId": "plain",
            "receivers": uids(150),
            "variables": uids(300)[150..].iter().map(|uid| (uid.clone(), json!({"a": "1"}))).collect::<serde_json::Map<_, _>>(),
        });
        let refused = shop.call("SendNotification", request).await;
        assert_eq!((refused.status, refused.code()), (400, "ERR_BAD_REQUEST"));
        let details = refused.body["error"]["details"].as_object().unwrap();
        assert_eq!(details["variables.user-00150"], "must be for one of the receivers");
        assert_eq!(details.len() - 1 + unnamed(&refused), 150);
        assert_eq!(shop.rows().await, before);
    }

    async fn every_receiver_of_a_batch_gets_values_of_its_own(world) {
        let shop = Shop::open(&world).await;
        let request = json!({
            "templateId": "order-shipped",
            "receivers": uids(11),
            "variables": {"user-00004": {"code": "4444", "name": "Four"}},
            "defaults": {"code": "0000"},
        });
        send(&shop, request).await;
        world.work().await;
        for (uid, text) in [
            ("user-00004", "Hello Four, your code is 4444. {{unknown}}"),
            ("user-00010", "Hello you, your code is 0000. {{unknown}}"),
        ] {
            let feed = shop.as_user(uid, "ListFeedItems", json!({})).await;
            assert_eq!(feed.data()[0]["content"]["body"][0]["content"], text);
        }
    }

    async fn receivers_are_listed_by_page_and_by_cursor(world) {
        let shop = Shop::open(&world).await;
        let id = send(&shop, plain(&uids(120))).await;
        assert_eq!(get(&shop, &id).await.data()["receivers"], json!([]));
        world.work().await;
        let list = async |differs: Value| {
            let mut request = json!({"notificationId": id});
            request.as_object_mut().unwrap().extend(differs.as_object().unwrap().clone());
            shop.call("ListNotificationReceivers", request).await
        };
        let mut walked = Vec::new();
        let mut cursor = json!({"limit": 50});
        loop {
            let page = list(cursor.clone()).await;
            walked.extend(page.data().as_array().unwrap().iter().map(|one| one["receiver"].as_str().unwrap().to_owned()));
            let Some(next) = page.body["meta"]["next"].as_object() else { break };
            cursor = Value::Object(next.clone());
            cursor["limit"] = json!(50);
        }
        assert_eq!(walked, uids(120));
        assert_json_snapshot!("batch_receivers", steady(&list(json!({"page": 2, "limit": 2})).await.body));
        let before = list(json!({"affix": "prepend", "id": "user-00003", "position": 4, "limit": 2})).await;
        assert_eq!((&before.data()[0]["position"], &before.data()[1]["position"]), (&json!(2), &json!(3)));
        let last = list(json!({"order": "desc", "limit": 1})).await;
        assert_eq!(last.data()[0]["receiver"], "user-00119");
        assert_json_snapshot!("batch_receivers_refused", list(json!({"page": 2, "id": "a", "sort": "position"})).await.refusal());
        let path = format!("/v3/campaigns/notifications/{}/receivers?status=lost", id.as_str().unwrap());
        let unknown = world.get(&path, &shop.caller).await;
        assert_eq!((unknown.status, unknown.code()), (400, "ERR_BAD_REQUEST"));
        let other = world.tenant("other").await;
        for rpc in ["ListNotificationReceivers", "WatchNotification"] {
            let foreign = world.call(rpc, &other.caller, json!({"notificationId": id})).await;
            assert_eq!((foreign.status, foreign.code()), (404, "ERR_NOTIFICATION_NOT_FOUND"));
        }
    }

    async fn whoever_watches_a_batch_sees_it_come_on_and_end(world) {
        let shop = Shop::open(&world).await;
        let id = send(&shop, plain(&uids(30))).await;
        let request = json!({"notificationId": id});
        // The work is done by another process, which gives no hints here.
        let elsewhere = Service::open(Settings {
            clock: world.clock.clone(),
            dispatching: Dispatching { page_rows: Some(10), ..Dispatching::default() },
            ..Settings::new(world.database().settings())
        }).await.unwrap();
        let working = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let page = dispatch::claim(&elsewhere).await.unwrap().unwrap();
            while dispatch::advance(&elsewhere, page, world.clock.now()).await.unwrap() == Step::More {
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
        };
        let (watched, ()) = join(shop.call("WatchNotification", request.clone()), working).await;
        let events = watched.data().as_array().unwrap();
        let (first, last) = (&events[0], events.last().unwrap());
        assert_eq!((&first["event"], &first["cursor"]), (&json!("progress"), &json!("0")));
        assert_eq!((&first["data"]["pendingCount"], &first["data"]["status"]), (&json!(30), &json!("dispatching")));
        assert_eq!((&last["data"]["sentCount"], &last["data"]["status"]), (&json!(30), &json!("completed")));
        assert_eq!(last["cursor"], "30");
        assert!(last["data"]["completedAt"].is_string() && first["data"]["completedAt"].is_null());
        let known = |event: &&Value| event["data"]["remainingSeconds"].is_u64();
        let midway: Vec<&Value> = events.iter().filter(known).collect();
        assert!(!midway.is_empty(), "{events:#?}");
        for event in midway {
            let count = |name: &str| event["data"][name].as_u64().unwrap();
            // Thirty in about a second; a machine that is busy takes longer.
            assert!((1..=60).contains(&count("perSecond")), "{event:#}");
            assert_eq!(count("remainingSeconds"), count("pendingCount").div_ceil(count("perSecond")), "{event:#}");
        }
        assert!(first["data"]["perSecond"].is_null() && last["data"]["remainingSeconds"].is_null());

        let late = shop.call("WatchNotification", json!({"notificationId": id, "cursor": "30"})).await;
        assert_json_snapshot!("batch_watched_late", steady(&late.body));
        let malformed = shop.call("WatchNotification", json!({"notificationId": id, "cursor": "x"})).await;
        assert_eq!((malformed.status, malformed.code()), (400, "ERR_BAD_REQUEST"));
    }

    async fn thirty_two_equal_batches_at_once_are_one(world) {
        let shop = Shop::open(&world).await;
        let request = plain(&uids(200));
        let once = shop.caller.once("key-1");
        let calls = (0..32).map(|_| world.call("SendNotification", &once, request.clone()));
        let answers = join_all(calls).await;
        let first = answers.iter().find(|answer| !answer.replayed).unwrap().clone();
        assert_eq!(first.data()["total"], 200);
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
        assert!(answers.iter().all(|answer| answer.body == first.body));
        let (caller, before) = (shop.caller.clone(), shop.rows().await);
        assert_eq!((before["notifications"], before["notification_recipients"]), (1, 200));
        let world = world.restart().await;
        for door in [Door::Rest, Door::Grpc] {
            let again = call(&world.through(door), "SendNotification", &caller.once("key-1"), &request).await;
            assert!(again.replayed, "{door:?}");
            assert_eq!(again.body, first.body, "{door:?}");
        }
        let refused = world.call("SendNotification", &caller.once("key-1"), plain(&uids(201))).await;
        assert_eq!((refused.status, refused.code()), (409, "ERR_CONFLICT"));
        let store = world.store().await;
        assert_eq!(crate::support::rows::rows(&store).await, before);
    }
}

on_both! {
    async fn a_worker_that_lost_its_page_changes_nothing(db) {
        let world = small_pages(db).await;
        let (shop, store) = (Shop::open(&world).await, world.store().await);
        let id = send(&shop, plain(&uids(11))).await;
        let now = world.clock.now();
        let stale = claimed(&world.service).await;
        expire_leases(&store).await;
        let fresh = claimed(&world.service).await;
        assert_eq!((fresh.key, fresh.fence), (stale.key, stale.fence + 1));
        assert_eq!(dispatch::advance(&world.service, stale, now).await.unwrap(), Step::Stale);
        assert_eq!(shop.rows().await["deliveries"], 0);
        assert_ne!(dispatch::advance(&world.service, fresh, now).await.unwrap(), Step::Stale);
        let before = shop.rows().await;
        assert_eq!(dispatch::advance(&world.service, stale, now).await.unwrap(), Step::Stale);
        dispatch::give_back(&world.service, stale).await.unwrap();
        assert_eq!(shop.rows().await, before);
        work_out(&world, &store).await;
        assert_eq!(counts(&shop, &id).await, json!([11, 0, 0, "completed"]));
        assert_eq!(shop.all_unread(&uids(11)).await, vec![1; 11]);
    }

    async fn what_changes_while_a_step_waits_for_its_turn_counts(db) {
        let world = small_pages(db).await;
        let (shop, other) = (Shop::open(&world).await, world.store().await);
        let id = send(&shop, plain(&uids(11))).await;
        let page = claimed(&world.service).await;
        // Whoever changes the user holds them, and on SQLite the database.
        let (held, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let deactivating = other.write({
            let (held, release) = (Arc::clone(&held), Arc::clone(&release));
            move |tx| {
                let (held, release) = (Arc::clone(&held), Arc::clone(&release));
                Box::pin(async move {
                    tx.execute_unprepared("UPDATE users SET deactivated_at = 1 WHERE uid = 'user-00003'").await?;
                    held.notify_one();
                    release.notified().await;
                    Ok(())
                })
            }
        });
        let stepping = async {
            held.notified().await;
            let waiting = async {
                let waits = "campanile_store_writes_in_progress{queue=\"background\"}";
                let one = async {
                    while world.metrics().await.value(waits) < 1.0 {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                };
                let waited = tokio::time::timeout(Duration::from_secs(4), one).await;
                release.notify_one();
                assert!(waited.is_ok(), "it never waited for its turn");
            };
            join(dispatch::advance(&world.service, page, world.clock.now()), waiting).await.0
        };
        let (deactivated, stepped) = join(deactivating, stepping).await;
        deactivated.unwrap();
        assert_eq!(stepped.unwrap(), Step::More);
        work_out(&world, &other).await;
        assert_eq!(counts(&shop, &id).await, json!([10, 0, 1, "completed"]));
        assert_eq!(with_status(&shop, &id, "skipped").await, ["user-00003"]);
        assert_eq!(shop.rows().await["feed_items"], 10);
    }

    async fn a_page_that_is_left_half_done_is_gone_on_with_by_another_process(db) {
        let world = World::start(db, Door::Rest).await;
        let (shop, store) = (Shop::open(&world).await, world.store().await);
        let id = send(&shop, plain(&uids(120))).await;
        // The first step takes a part of the page only.
        execute(&store, "UPDATE pages SET lease_until = NULL").await;
        let page = claimed(&world.service).await;
        let step = dispatch::advance(&world.service, page, world.clock.now()).await.unwrap();
        let done = counts(&shop, &id).await[0].as_i64().unwrap();
        if step == Step::More {
            assert!((1..120).contains(&done), "{done}");
            assert_eq!(with_status(&shop, &id, "pending").await.len(), usize::try_from(120 - done).unwrap().min(100));
        }
        let other = Service::open(Settings { clock: world.clock.clone(), ..Settings::new(world.database().settings()) }).await.unwrap();
        if step == Step::More {
            assert_eq!(worker::turn(&other, world.clock.now()).await, Turn::Rest, "the lease runs");
        }
        expire_leases(&store).await;
        while worker::turn(&other, world.clock.now()).await == Turn::Again {}
        assert_eq!(counts(&shop, &id).await, json!([120, 0, 0, "completed"]));
        assert_eq!(shop.rows().await["feed_items"], 120);
    }

    async fn many_workers_of_two_processes_share_the_pages_and_no_receiver(db) {
        let world = small_pages(db).await;
        let shop = Shop::open(&world).await;
        let receivers = uids(60);
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(send(&shop, plain(&receivers)).await);
        }
        let other = Service::open(Settings { clock: world.clock.clone(), ..Settings::new(world.database().settings()) }).await.unwrap();
        let now = world.clock.now();
        let work = |service: Service| async move { while worker::turn(&service, now).await == Turn::Again {} };
        join_all((0..6).map(|number| work(if number % 2 == 0 { world.service.clone() } else { other.clone() }))).await;
        work_out(&world, &world.store().await).await;
        for id in &ids {
            assert_eq!(counts(&shop, id).await, json!([60, 0, 0, "completed"]));
        }
        assert_eq!(shop.all_unread(&receivers).await, vec![4; 60]);
    }

    async fn a_receiver_that_the_database_refuses_fails_alone(db) {
        let world = small_pages(db).await;
        let (shop, store) = (Shop::open(&world).await, world.store().await);
        shop.call("CreateUser", json!({"user": {"uid": "user-00007", "name": "Seven"}})).await.data();
        poison(&store).await;
        let id = send(&shop, plain(&uids(25))).await;
        for _ in 0..2 {
            world.work().await;
            expire_leases(&store).await;
        }
        // Two failures and what follows at once: everybody else has it, and nobody waited for a wait to end.
        world.work().await;
        let others: Vec<_> = uids(25).into_iter().filter(|uid| uid != "user-00007").collect();
        assert_eq!(shop.all_unread(&others).await, vec![1; 24]);
        assert_eq!(counts(&shop, &id).await, json!([24, 0, 0, "dispatching"]));
        assert_eq!(with_status(&shop, &id, "pending").await, ["user-00007"]);
        work_out(&world, &store).await;
        assert_eq!(counts(&shop, &id).await, json!([24, 1, 0, "partially_failed"]));
        assert_eq!(with_status(&shop, &id, "failed").await, ["user-00007"]);
        let delivery = get(&shop, &id).await.data()["receivers"][7]["deliveries"][0].clone();
        assert_eq!((&delivery["status"], &delivery["reason"]), (&json!("failed"), &json!("internal_error")));
        assert_eq!(shop.unread("user-00007").await, 0);
    }

    async fn a_fault_that_passes_fails_nobody(db) {
        let world = small_pages(db).await;
        let (shop, store) = (Shop::open(&world).await, world.store().await);
        shop.call("CreateUser", json!({"user": {"uid": "user-00007", "name": "Seven"}})).await.data();
        poison(&store).await;
        let id = send(&shop, plain(&uids(11))).await;
        for _ in 0..5 {
            world.work().await;
            expire_leases(&store).await;
        }
        heal(&store).await;
        work_out(&world, &store).await;
        assert_eq!(counts(&shop, &id).await, json!([11, 0, 0, "completed"]));
        assert_eq!(shop.all_unread(&uids(11)).await, vec![1; 11]);
    }

    async fn a_batch_whose_last_worker_died_before_completing_it_is_completed_all_the_same(db) {
        let world = World::start(db, Door::Rest).await;
        let (shop, store) = (Shop::open(&world).await, world.store().await);
        let id = send(&shop, plain(&uids(11))).await;
        assert_eq!(complete::turn(&world.service, world.clock.now()).await, Turn::Rest);
        world.work().await;
        execute(&store, "UPDATE notifications SET status = 1, completed_at = NULL").await;
        assert_eq!(counts(&shop, &id).await[3], "dispatching");
        assert_eq!(complete::turn(&world.service, world.clock.now()).await, Turn::Again);
        assert_eq!(complete::turn(&world.service, world.clock.now()).await, Turn::Rest);
        assert_eq!(counts(&shop, &id).await, json!([11, 0, 0, "completed"]));
    }

    async fn apps_take_turns(db) {
        let world = small_pages(db).await;
        let shop = Shop::open(&world).await;
        let other = world.tenant("other").await;
        let bell = json!({"channel": {"type": "in_app", "name": "Bell", "channelId": "bell", "enabled": true}});
        world.call("CreateChannel", &other.caller, bell).await.data();
        let template = json!({"template": {"templateId": "plain", "name": "plain", "status": "approved", "channels": [{"channelType": "in_app"}]}});
        world.call("CreateTemplate", &other.caller, template).await.data();
        for _ in 0..3 {
            send(&shop, plain(&uids(30))).await;
        }
        world.call("SendNotification", &other.caller, plain(&uids(20))).await.data();
        let mut apps = Vec::new();
        for _ in 0..4 {
            apps.push(claimed(&world.service).await.app);
        }
        assert!(apps[0] != apps[1] && apps[0] == apps[2] && apps[1] == apps[3], "{apps:?}");
    }

    async fn ten_thousand_receivers_are_accepted_in_one_request(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        let receivers = uids(10_000);
        let began = std::time::Instant::now();
        let id = send(&shop, plain(&receivers)).await;
        let accepted = began.elapsed();
        world.work().await;
        assert_eq!(counts(&shop, &id).await, json!([10_000, 0, 0, "completed"]));
        assert_eq!(shop.rows().await["feed_items"], 10_000);
        // Far more than it takes, and far less than looking through all receivers once for each of them would.
        assert!(accepted < Duration::from_secs(20), "accepted in {accepted:?}, done in {:?}", began.elapsed() - accepted);
    }
}

/// Makes the database refuse every delivery to one user.
pub(crate) async fn poison(store: &Store) {
    let statements: &[&str] = match store.read().get_database_backend() {
        DatabaseBackend::Postgres => &[
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.user_id = (SELECT id FROM users WHERE uid = 'user-00007') THEN RAISE EXCEPTION 'poison'; END IF; \
             RETURN NEW; END $$",
            "CREATE TRIGGER refuse BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION refuse()",
        ],
        _ => &[
            "CREATE TRIGGER refuse BEFORE INSERT ON deliveries WHEN NEW.user_id = (SELECT id FROM users WHERE uid = 'user-00007') \
             BEGIN SELECT RAISE(ABORT, 'poison'); END",
        ],
    };
    for statement in statements {
        execute(store, statement).await;
    }
}

async fn heal(store: &Store) {
    match store.read().get_database_backend() {
        DatabaseBackend::Postgres => execute(store, "DROP TRIGGER refuse ON deliveries").await,
        _ => execute(store, "DROP TRIGGER refuse").await,
    }
}

#[tokio::test]
async fn whoever_watches_a_batch_that_stands_still_hears_that_the_stream_is_alive() {
    let db = TestDatabase::new(Backend::Sqlite).await.unwrap();
    let world = World::start(db, Door::Rest).await;
    let shop = Shop::open(&world).await;
    let id = send(&shop, plain(&uids(11))).await;
    let working = async {
        tokio::time::sleep(Duration::from_secs(17)).await;
        world.work().await;
    };
    let request = json!({"notificationId": id});
    let (rest, grpc) = (world.through(Door::Rest), world.through(Door::Grpc));
    let watch = |client| call(client, "WatchNotification", &shop.caller, &request);
    let (by_rest, by_grpc, ()) = futures::join!(watch(&rest), watch(&grpc), working);
    for watched in [by_rest, by_grpc] {
        let names: Vec<_> = watched
            .data()
            .as_array()
            .unwrap()
            .iter()
            .map(|event| &event["event"])
            .collect();
        assert_eq!(names[..2], [&json!("progress"), &json!("heartbeat")], "{watched:#?}");
        assert_eq!(names.last(), Some(&&json!("progress")), "{watched:#?}");
    }
}
