//! What callers see of sends: who got what and why not, what is refused before anything is written, and that a repeated
//! send is the same send. What users see of it is in `feed.rs`.

use std::sync::Arc;
use std::time::Duration;

use campanile::model::{Error, Timestamp};
use campanile::store::entity::user;
use campanile::store::{Store, feed};
use futures::future::{join, join_all};
use insta::assert_json_snapshot;
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, DatabaseBackend, EntityTrait as _, QueryFilter as _, Statement};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::database::{Backend, TestDatabase};
use crate::support::rpc::{Answer, Door};
use crate::support::shop::{Shop, card};
use crate::support::world::{World, call, steady};
use crate::{everywhere, on_both};

async fn send(shop: &Shop<'_>, request: Value) -> Answer {
    shop.call("SendNotification", request).await
}

async fn get(shop: &Shop<'_>, id: &Value) -> Answer {
    shop.call("GetNotification", json!({"notificationId": id})).await
}

/// The status and reason of each receiver's deliveries, by uid.
fn outcomes(answer: &Answer) -> Value {
    let receivers = answer.data()["receivers"].as_array().unwrap();
    let outcome = |delivery: &Value| {
        let word = |field: &str| delivery[field].as_str().unwrap_or("-").to_owned();
        format!("{} {} {}", word("channelType"), word("status"), word("reason"))
    };
    let of = |receiver: &Value| {
        let deliveries = receiver["deliveries"].as_array().unwrap();
        let outcomes: Vec<_> = deliveries.iter().map(outcome).collect();
        (receiver["receiver"].as_str().unwrap().to_owned(), json!(outcomes))
    };
    receivers.iter().map(of).collect::<serde_json::Map<_, _>>().into()
}

fn counts(notification: &Answer) -> Value {
    let data = notification.data();
    json!([
        data["totalTargets"],
        data["sentCount"],
        data["failedCount"],
        data["skippedCount"],
        data["status"]
    ])
}

everywhere! {
    async fn a_send_answers_who_got_what_and_is_read_back(world) {
        let shop = Shop::open(&world).await;
        let sent = send(&shop, json!({
            "templateId": "order-shipped",
            "receivers": ["Ada", "bob"],
            "variables": {"ada": {"code": "1234"}},
            "defaults": {"code": "0000"},
            "mode": "realtime",
            "tag": "spring",
        })).await;
        assert_eq!(sent.status, 200, "{sent:#?}");
        assert_json_snapshot!("notification_sent", steady(&sent.body));

        let notification = get(&shop, &sent.data()["notificationId"]).await;
        assert_json_snapshot!("notification", steady(&notification.body));
        assert_eq!(notification.data()["receivers"], sent.data()["receivers"]);
    }

    async fn a_template_is_sent_by_its_id_or_its_slug_and_in_an_older_version(world) {
        let shop = Shop::open(&world).await;
        let id = shop.template("old", json!({"channels": [{"channelType": "in_app", "content": card("first")}]})).await;
        let change = json!({"templateId": "old", "template": {"channels": [{"channelType": "in_app", "content": card("second")}]}});
        shop.call("UpdateTemplate", change).await.data();
        for (request, version) in [
            (json!({"templateId": "old", "receivers": ["ada"]}), 2),
            (json!({"templateId": id, "receivers": ["ada"]}), 2),
            (json!({"templateId": "old", "receivers": ["ada"], "templateVersion": 1}), 1),
        ] {
            let sent = send(&shop, request).await;
            let notification = get(&shop, &sent.data()["notificationId"]).await;
            assert_eq!(notification.data()["templateVersion"], version);
            assert_eq!(notification.data()["templateId"], json!(id));
        }
        let feed = shop.as_user("ada", "ListFeedItems", json!({"order": "asc", "sort": "createdAt"})).await;
        let texts: Vec<_> = feed.data().as_array().unwrap().iter().map(|item| item["content"]["body"][0]["content"].clone()).collect();
        assert_eq!(texts.iter().filter(|text| **text == "first").count(), 1);
        assert_eq!(texts.len(), 3);
    }

    async fn sends_that_wait_together_are_each_answered_by_themselves(world) {
        const CALLS: usize = 40;
        let shop = Shop::open(&world).await;
        let before = shop.rows().await;
        let metrics = world.metrics().await;
        // Whoever holds the template, and on SQLite the database, lets all sends wait.
        let (other, held, release) = (world.store().await, Arc::new(Notify::new()), Arc::new(Notify::new()));
        let holding = other.write({
            let (held, release) = (Arc::clone(&held), Arc::clone(&release));
            move |tx| {
                let (held, release) = (Arc::clone(&held), Arc::clone(&release));
                Box::pin(async move {
                    tx.execute_unprepared("UPDATE templates SET version = version").await?;
                    held.notify_one();
                    release.notified().await;
                    Ok(())
                })
            }
        });
        let calls = (0..CALLS).map(|n| {
            let (caller, request) = match n % 5 {
                0 => (shop.caller.clone(), json!({"templateId": "plain", "receivers": ["ada", format!("new{n}"), "newest"]})),
                1 => (shop.caller.clone(), json!({"templateId": "nowhere", "receivers": ["eve"]})),
                2 => (shop.caller.clone(), json!({"templateId": "order-shipped", "receivers": ["eve"]})),
                3 => (
                    shop.caller.clone(),
                    json!({"templateId": "order-shipped", "receivers": ["ada"], "defaults": {"code": format!("{n}")}}),
                ),
                _ => (shop.caller.once("twin"), json!({"templateId": "plain", "receivers": ["bob"]})),
            };
            let world = &world;
            async move { world.call("SendNotification", &caller, request).await }
        });
        let sending = async {
            held.notified().await;
            let waiting = async {
                let waits = "campanile_store_writes_in_progress{queue=\"api\"}";
                let all = async { while world.metrics().await.value(waits) < 40.0 {} };
                // On a machine that is too busy for that some come later, and are answered all the same.
                drop(tokio::time::timeout(Duration::from_secs(4), all).await);
                release.notify_one();
            };
            join(join_all(calls), waiting).await.0
        };
        let (held, answers) = join(holding, sending).await;
        held.unwrap();
        let commits = world.metrics().await.since(&metrics, "campanile_store_commit_group_size_count");
        assert!(commits <= 20.0, "{commits} transactions for {CALLS} sends");
        let codes: Vec<_> = answers.iter().map(|answer| if answer.status == 200 { "done" } else { answer.code() }).collect();
        let expected = ["done", "ERR_TEMPLATE_NOT_FOUND", "ERR_INVALID_VARIABLES", "done", "done"];
        assert!(codes.iter().zip(expected.iter().cycle()).all(|(code, expected)| code == expected), "{codes:?}");
        let twins: Vec<_> = answers.iter().skip(4).step_by(5).map(Answer::data).collect();
        assert!(twins.windows(2).all(|twins| twins[0] == twins[1]), "{twins:#?}");
        assert_eq!((shop.unread("ada").await, shop.unread("newest").await, shop.unread("bob").await), (16, 8, 1));
        assert_eq!((shop.unread("new5").await, shop.unread("eve").await), (1, 0));
        let after = shop.rows().await;
        let new = |table: &str| after[table] - before[table];
        assert_eq!((new("notifications"), new("deliveries"), new("feed_items")), (17, 33, 33));
        // Who is named by refused sends alone does not become a user by them, but by looking at a feed.
        assert_eq!((new("users"), new("idempotency_keys")), (12, 1));
    }

    async fn a_receiver_named_twice_is_served_once_and_counted(world) {
        let shop = Shop::open(&world).await;
        let sent = send(&shop, json!({"templateId": "plain", "receivers": ["Bob", "ada", "bob", "BOB"]})).await;
        assert_eq!((&sent.data()["total"], &sent.data()["duplicateCount"]), (&json!(2), &json!(2)));
        let receivers: Vec<_> = sent.data()["receivers"].as_array().unwrap().iter().map(|one| one["receiver"].clone()).collect();
        assert_eq!(receivers, ["bob", "ada"]);
        assert_eq!(shop.unread("bob").await, 1);
        let notification = get(&shop, &sent.data()["notificationId"]).await;
        assert_eq!(notification.data()["duplicateCount"], 2);
        assert_eq!(counts(&notification), json!([2, 2, 0, 0, "completed"]));
    }

    async fn an_unknown_uid_becomes_a_user_and_a_deactivated_one_is_skipped_and_counted(world) {
        let shop = Shop::open(&world).await;
        assert_eq!(shop.call("GetUser", json!({"uid": "new"})).await.code(), "ERR_USER_NOT_FOUND");
        shop.call("CreateUser", json!({"user": {"uid": "gone", "name": "Gone"}})).await.data();
        shop.call("DeactivateUser", json!({"uid": "gone"})).await.data();
        let sent = send(&shop, json!({"templateId": "plain", "receivers": ["gone", "new"]})).await;
        assert_eq!(outcomes(&sent), json!({
            "gone": ["in_app suppressed user_deactivated"],
            "new": ["in_app accepted -"],
        }));
        assert_eq!(shop.call("GetUser", json!({"uid": "new"})).await.data()["name"], "new");
        let notification = get(&shop, &sent.data()["notificationId"]).await;
        assert_eq!(counts(&notification), json!([2, 1, 0, 1, "completed"]));
        assert_eq!(outcomes(&notification), outcomes(&sent));
        // Nothing waits for a user who comes back.
        shop.call("ReactivateUser", json!({"uid": "gone"})).await.data();
        assert_eq!(shop.unread("gone").await, 0);
    }

    async fn a_deleted_user_is_unknown_and_is_never_made_again(world) {
        let shop = Shop::open(&world).await;
        send(&shop, json!({"templateId": "plain", "receivers": ["ada"]})).await.data();
        shop.call("DeleteUser", json!({"uid": "ada"})).await.data();
        let sent = send(&shop, json!({"templateId": "plain", "receivers": ["ada", "bob"]})).await;
        assert_eq!(outcomes(&sent), json!({
            "ada": ["in_app suppressed unknown_user"],
            "bob": ["in_app accepted -"],
        }));
        assert_eq!(shop.call("ListFeedItems", json!({})).await.data().as_array().unwrap().len(), 1);
    }

    async fn every_channel_says_what_became_of_it(world) {
        let shop = Shop::open(&world).await;
        let (bell, push) = (json!({"channelType": "in_app"}), json!({"channelType": "push", "content": {"title": "t", "body": "b"}}));
        let email = json!({"channelType": "email", "content": {"subject": "s", "text": "t"}});
        shop.template("three", json!({"channels": [bell, push, email]})).await;
        shop.template("push-only", json!({"channels": [push]})).await;
        let send_to = |template: &'static str| send(&shop, json!({"templateId": template, "receivers": ["ada"]}));

        let sent = send_to("three").await;
        assert_eq!(outcomes(&sent), json!({"ada": [
            "in_app accepted -", "push failed provider_not_configured", "email failed provider_not_configured",
        ]}));
        assert_eq!(sent.data()["channels"], json!(["in_app", "push", "email"]));
        let notification = get(&shop, &sent.data()["notificationId"]).await;
        assert_eq!(counts(&notification), json!([1, 1, 0, 0, "completed"]));
        assert_eq!(notification.data()["receivers"], sent.data()["receivers"]);

        let sent = send_to("push-only").await;
        assert_eq!(outcomes(&sent), json!({"ada": ["push failed provider_not_configured"]}));
        assert_eq!(counts(&get(&shop, &sent.data()["notificationId"]).await), json!([1, 0, 1, 0, "failed"]));

        shop.call("CreateChannel", json!({"channel": {"type": "push", "name": "Push", "channelId": "push"}})).await.data();
        assert_eq!(outcomes(&send_to("three").await)["ada"][1], "push suppressed channel_disabled");
        shop.call("UpdateChannel", json!({"channelId": "bell", "channel": {"enabled": false}})).await.data();
        let sent = send_to("three").await;
        assert_eq!(outcomes(&sent), json!({"ada": [
            "in_app suppressed channel_disabled", "push suppressed channel_disabled", "email failed provider_not_configured",
        ]}));
        assert_eq!(outcomes(&get(&shop, &sent.data()["notificationId"]).await), outcomes(&sent));
        assert_eq!(shop.unread("ada").await, 2);
    }

    async fn a_send_that_no_channel_could_carry_is_refused_and_writes_nothing(world) {
        let shop = Shop::open(&world).await;
        shop.call("UpdateChannel", json!({"channelId": "bell", "channel": {"enabled": false}})).await.data();
        let before = shop.rows().await;
        let refused = send(&shop, json!({"templateId": "plain", "receivers": ["ada"]})).await;
        assert_json_snapshot!("notification_no_channel", refused.refusal());
        assert_eq!(shop.rows().await, before);
    }

    async fn every_variable_that_is_required_and_missing_is_named_and_nothing_is_written(world) {
        let shop = Shop::open(&world).await;
        let before = shop.rows().await;
        let refused = send(&shop, json!({
            "templateId": "order-shipped",
            "receivers": ["ada", "bob", "eve"],
            "variables": {"bob": {"code": "1"}, "eve": {"name": "Eve"}},
        })).await;
        assert_json_snapshot!("notification_variables_missing", refused.refusal());
        assert_eq!(shop.rows().await, before);
    }

    async fn values_that_make_the_card_too_large_are_refused(world) {
        let shop = Shop::open(&world).await;
        let text = "{{big}}".repeat(20);
        shop.template("large", json!({"channels": [{"channelType": "in_app", "content": card(&text)}]})).await;
        let before = shop.rows().await;
        let request = json!({"templateId": "large", "receivers": ["ada"], "defaults": {"big": "x".repeat(4_000)}});
        assert_json_snapshot!("notification_content_too_large", send(&shop, request).await.refusal());
        assert_eq!(shop.rows().await, before);
    }

    async fn all_that_is_wrong_with_a_send_is_said_at_once_and_nothing_is_written(world) {
        let shop = Shop::open(&world).await;
        let before = shop.rows().await;
        let refused = send(&shop, json!({
            "templateId": "Order Shipped",
            "receivers": ["ada", "a b"],
            "variables": {"ada": {"1st": "x", "long": "x".repeat(4_097)}},
            "defaults": {"code": "y".repeat(5_000)},
            "tag": "",
            "templateVersion": 0,
        })).await;
        assert_json_snapshot!("notification_invalid", refused.refusal());
        let refused = send(&shop, json!({
            "templateId": "plain",
            "receivers": ["ada", "bob"],
            "variables": {"eve": {"a": "1"}, "bob": {"fits": "é".repeat(2_049)}, "BOB": {}},
        })).await;
        assert_json_snapshot!("notification_contradictory", refused.refusal());
        assert_eq!(shop.rows().await, before);
    }

    async fn what_cannot_be_sent_is_refused_with_its_reason_and_nothing_is_written(world) {
        let shop = Shop::open(&world).await;
        shop.draft("draft").await;
        let eleven: Vec<String> = (0..11).map(|number| format!("user-{number}")).collect();
        let many: Vec<String> = (0..10_001).map(|number| format!("user-{number}")).collect();
        let before = shop.rows().await;
        for (name, request) in [
            ("template_not_found", json!({"templateId": "nothing", "receivers": ["ada"]})),
            ("template_not_approved", json!({"templateId": "draft", "receivers": ["ada"]})),
            ("version_unknown", json!({"templateId": "plain", "receivers": ["ada"], "templateVersion": 9})),
            ("mode_unknown", json!({"templateId": "plain", "receivers": ["ada"], "mode": "fast"})),
            ("mode_unknown_and_far_too_many", json!({"templateId": "plain", "receivers": many, "mode": "fast"})),
            ("too_many_realtime", json!({"templateId": "plain", "receivers": eleven, "mode": "realtime"})),
            ("far_too_many", json!({"templateId": "plain", "receivers": many})),
            ("far_too_many_batch", json!({"templateId": "plain", "receivers": many, "mode": "batch"})),
            ("nobody", json!({"templateId": "plain", "receivers": []})),
            ("nothing", json!({})),
        ] {
            let refused = send(&shop, request).await;
            assert_json_snapshot!(format!("notification_{name}"), steady(&refused.refusal()));
            assert_eq!(shop.rows().await, before, "{name}");
        }
        let refused = shop.as_user("ada", "SendNotification", json!({"templateId": "plain", "receivers": ["ada"]})).await;
        assert_eq!((refused.status, refused.code()), (403, "ERR_FORBIDDEN"));
        assert_eq!(shop.rows().await, before);
    }

    async fn a_notification_is_found_by_its_id_and_in_its_app_alone(world) {
        let shop = Shop::open(&world).await;
        let sent = send(&shop, json!({"templateId": "plain", "receivers": ["ada"]})).await;
        let id = &sent.data()["notificationId"];
        let other = world.tenant("other").await;
        let elsewhere = world.call("GetNotification", &other.caller, json!({"notificationId": id})).await;
        assert_eq!((elsewhere.status, elsewhere.code()), (404, "ERR_NOTIFICATION_NOT_FOUND"));
        let stolen = world.call("SendNotification", &other.caller, json!({"templateId": "plain", "receivers": ["ada"]})).await;
        assert_eq!((stolen.status, stolen.code()), (404, "ERR_TEMPLATE_NOT_FOUND"));
        let unknown = get(&shop, &json!("ntf-00000000000000000000000000")).await;
        assert_json_snapshot!("notification_not_found", unknown.refusal());
        assert_eq!((get(&shop, &json!("nope")).await.status, get(&shop, id).await.status), (400, 200));
    }

    async fn a_repeated_send_is_the_same_send_through_either_door(world) {
        let shop = Shop::open(&world).await;
        let request = json!({"templateId": "order-shipped", "receivers": ["ada"], "defaults": {"code": "1"}});
        let once = shop.caller.once("key-1");
        let first = world.call("SendNotification", &once, request.clone()).await;
        assert!(!first.replayed, "{first:#?}");
        let before = shop.rows().await;
        for door in [Door::Rest, Door::Grpc] {
            let again = call(&world.through(door), "SendNotification", &once, &request).await;
            assert!(again.replayed);
            assert_eq!(again.body, first.body, "{door:?}");
        }
        let other = json!({"templateId": "order-shipped", "receivers": ["ada"], "defaults": {"code": "2"}});
        let refused = world.call("SendNotification", &once, other).await;
        assert_eq!((refused.status, refused.code()), (409, "ERR_CONFLICT"));
        assert_eq!(shop.rows().await, before);
        assert_eq!(shop.unread("ada").await, 1);
        let second = world.call("SendNotification", &shop.caller.once("key-2"), request).await;
        assert_ne!(second.data()["notificationId"], first.data()["notificationId"]);
        assert_eq!(shop.unread("ada").await, 2);
    }

    async fn a_refused_send_may_be_repeated_with_its_key(world) {
        let shop = Shop::open(&world).await;
        let request = json!({"templateId": "later", "receivers": ["ada"]});
        let once = shop.caller.once("key-1");
        assert_eq!(world.call("SendNotification", &once, request.clone()).await.status, 404);
        shop.template("later", json!({})).await;
        let sent = world.call("SendNotification", &once, request).await;
        assert_eq!((sent.status, sent.replayed), (200, false));
    }

    async fn twins_send_once(world) {
        let shop = Shop::open(&world).await;
        let request = json!({"templateId": "plain", "receivers": ["ada", "bob"]});
        let once = shop.caller.once("key-1");
        let twins = (0..8).map(|_| world.call("SendNotification", &once, request.clone()));
        let answers = futures::future::join_all(twins).await;
        let first = answers.iter().find(|answer| !answer.replayed).unwrap();
        assert!(answers.iter().all(|answer| answer.body == first.body));
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
        assert_eq!(shop.unread("ada").await, 1);
    }

    async fn sends_that_share_users_at_once_are_all_counted(world) {
        let shop = Shop::open(&world).await;
        let orders = [["ada", "bob", "eve"], ["eve", "bob", "ada"], ["bob", "eve", "ada"]];
        let sends = (0..12).map(|turn| send(&shop, json!({"templateId": "plain", "receivers": orders[turn % 3]})));
        for sent in futures::future::join_all(sends).await {
            assert_eq!(sent.status, 200, "{sent:#?}");
        }
        for uid in ["ada", "bob", "eve"] {
            assert_eq!(shop.unread(uid).await, 12);
        }
    }
}

on_both! {
    async fn where_users_are_not_made_by_themselves_an_unknown_uid_is_skipped_alone(db) {
        let world = World::start_with(db, Door::Rest, |settings| settings.auto_create_users = false).await;
        let shop = Shop::open(&world).await;
        shop.call("CreateUser", json!({"user": {"uid": "ada", "name": "Ada"}})).await.data();
        for door in [Door::Rest, Door::Grpc] {
            let request = json!({"templateId": "plain", "receivers": ["nobody", "ada"]});
            let sent = call(&world.through(door), "SendNotification", &shop.caller, &request).await;
            assert_eq!(outcomes(&sent), json!({
                "nobody": ["in_app suppressed unknown_user"],
                "ada": ["in_app accepted -"],
            }));
            let notification = get(&shop, &sent.data()["notificationId"]).await;
            assert_eq!(counts(&notification), json!([2, 1, 0, 1, "completed"]));
            assert_eq!(notification.data()["receivers"], sent.data()["receivers"]);
        }
        let before = shop.rows().await;
        for rpc in ["ListFeedItems", "GetUnreadCount"] {
            let refused = shop.as_user("nobody", rpc, json!({})).await;
            assert_eq!((refused.status, refused.code()), (404, "ERR_USER_NOT_FOUND"), "{rpc}");
        }
        assert_eq!(shop.rows().await, before);
        assert_eq!(shop.call("GetUser", json!({"uid": "nobody"})).await.status, 404);
        assert_eq!(shop.unread("ada").await, 2);
    }
}

/// Waits until so many sessions of a PostgreSQL database wait for a lock.
async fn wait_for_waiting(store: &Store, expected: i64) {
    const WAITING: &str =
        "SELECT COUNT(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let mut waiting = -1;
    for _ in 0..200 {
        let row = store
            .read()
            .query_one_raw(Statement::from_string(DatabaseBackend::Postgres, WAITING))
            .await;
        waiting = row.unwrap().unwrap().try_get("", "n").unwrap();
        if waiting == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(waiting, expected, "sessions that wait for a lock");
}

/// SQLite has one writer, so there is nothing to race with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stops_a_send_is_answered_after_it_on_postgres() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let world = World::start(db, Door::Rest).await;
    let shop = Shop::open(&world).await;
    send(&shop, json!({"templateId": "plain", "receivers": ["ada", "bob"]}))
        .await
        .data();
    let store = world.store().await;
    let ada = user::Entity::find()
        .filter(user::Column::Uid.eq("ada"))
        .one(store.read())
        .await
        .unwrap()
        .unwrap();

    // Whoever holds the head of a feed stops the send at its last step.
    let (held, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let holding = store.write({
        let (held, release) = (Arc::clone(&held), Arc::clone(&release));
        move |tx| {
            let (held, release) = (Arc::clone(&held), Arc::clone(&release));
            Box::pin(async move {
                feed::lock_head(tx, ada.app_id, ada.id).await?;
                held.notify_one();
                release.notified().await;
                Ok::<_, Error>(Timestamp::MAX)
            })
        }
    });
    let racing = async {
        held.notified().await;
        let sending = send(&shop, json!({"templateId": "plain", "receivers": ["ada", "bob"]}));
        let stopping = async {
            wait_for_waiting(&store, 1).await;
            let stops = [
                ("DeactivateUser", json!({"uid": "ada"})),
                ("DeleteUser", json!({"uid": "bob"})),
                (
                    "UpdateChannel",
                    json!({"channelId": "bell", "channel": {"enabled": false}}),
                ),
                (
                    "UpdateTemplate",
                    json!({"templateId": "plain", "template": {"status": "archived"}}),
                ),
            ];
            let stops = join_all(stops.into_iter().map(|(rpc, request)| shop.call(rpc, request)));
            let releasing = async {
                wait_for_waiting(&store, 5).await;
                release.notify_one();
            };
            join(stops, releasing).await.0
        };
        join(sending, stopping).await
    };
    let (held, (sent, stopped)) = join(holding, racing).await;
    held.unwrap();
    assert_eq!(
        outcomes(&sent),
        json!({"ada": ["in_app accepted -"], "bob": ["in_app accepted -"]})
    );
    assert!(stopped.iter().all(|answer| answer.status == 200), "{stopped:#?}");
    let late = send(&shop, json!({"templateId": "plain", "receivers": ["ada"]})).await;
    assert_eq!(late.code(), "ERR_TEMPLATE_NOT_APPROVED");
}
