//! Sequences: who gets a further step and who does not, at the very millisecond, through pauses, restarts and two workers at
//! once. A provider that is not there takes what leaves; the rules on templates are in `template`.

mod campaign;

use std::sync::Arc;
use std::time::Duration;

use campanile::channel::stub::Stub;
use campanile::channel::{Driver, Drivers, Outcome};
use campanile::model::channel::ChannelType;
use campanile::worker::{Turn, complete, outgoing, sequence, sweep};
use futures::future::join;
use serde_json::{Value, json};

use crate::batch::{execute, poison, work_out};
use crate::everywhere;
use crate::support::shop::{Shop, card};
use crate::support::world::World;

const MINUTE: Duration = Duration::from_secs(60);
const MILLISECOND: Duration = Duration::from_millis(1);

/// So many uids, named so that their order is that of their numbers.
fn uids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number:05}")).collect()
}

/// The same service with a provider for push notifications and mails.
pub(crate) async fn provided(world: World) -> (World, Arc<Stub>) {
    let stub = Arc::new(Stub::default());
    let driver = || Arc::clone(&stub) as Arc<dyn Driver>;
    let drivers = Drivers::default()
        .with(ChannelType::Push, driver())
        .with(ChannelType::Email, driver());
    let world = world
        .restart_with(|settings| {
            settings.drivers = drivers;
            settings.channel_limits = "push=1,email=1".parse().unwrap();
        })
        .await;
    (world, stub)
}

/// Makes the channels that the steps go through, and a template of two: a card that is to be read within five minutes, and
/// then a push notification; and one of three, the last of which is a mail.
async fn prepare(shop: &Shop<'_>) {
    for (channel_type, slug) in [("push", "phones"), ("email", "mails")] {
        let channel = json!({"type": channel_type, "name": slug, "channelId": slug, "enabled": true});
        shop.call("CreateChannel", json!({"channel": channel})).await.data();
    }
    let first = json!({
        "channelType": "in_app", "content": card("Hello {{name}}"),
        "sequenceOrder": 1, "stopCondition": "read", "waitMinutes": 5,
    });
    let push = |differs: Value| {
        let mut push = json!({
            "channelType": "push", "content": {"title": "Hello {{name}}", "body": "Look"}, "sequenceOrder": 2,
        });
        push.as_object_mut()
            .unwrap()
            .extend(differs.as_object().unwrap().clone());
        push
    };
    let mail = json!({
        "channelType": "email", "content": {"subject": "Hello", "text": "Look"}, "sequenceOrder": 3,
    });
    let config = json!({"sequenceEnabled": true});
    // The order in which they stand is not the one in which they go.
    let two = json!({"config": config, "channels": [push(json!({})), first]});
    shop.template("two-steps", two).await;
    let clicked = push(json!({"stopCondition": "clicked", "waitMinutes": 10}));
    let three = json!({"config": config, "channels": [first, clicked, mail]});
    shop.template("three-steps", three).await;
}

/// Lets all that waits be done: steps whose time has come, their pages, and what drivers take.
pub(crate) async fn settle(world: &World) {
    let now = || world.clock.now();
    let mut turns = 0;
    loop {
        let cut = sequence::turn(&world.service, now()).await;
        world.work().await;
        let taken = outgoing::turn(&world.service, now()).await;
        while complete::turn(&world.service, now()).await == Turn::Again {}
        if (cut, taken) == (Turn::Rest, Turn::Rest) {
            return;
        }
        turns += 1;
        assert!(turns < 1_000, "there is always more to do");
    }
}

async fn send(shop: &Shop<'_>, template: &str, receivers: &[String]) -> Value {
    let request = json!({"templateId": template, "receivers": receivers, "defaults": {"name": "you"}});
    shop.call("SendNotification", request).await.data()["notificationId"].clone()
}

async fn notification(shop: &Shop<'_>, id: &Value) -> Value {
    let found = shop.call("GetNotification", json!({"notificationId": id})).await;
    found.data().clone()
}

/// Status, and sent, failed and skipped receivers.
async fn state(shop: &Shop<'_>, id: &Value) -> Value {
    let data = notification(shop, id).await;
    json!([
        data["status"],
        data["sentCount"],
        data["failedCount"],
        data["skippedCount"]
    ])
}

/// What a notification says of a receiver: their status, and channel type, status and reason of each delivery.
async fn receiver(shop: &Shop<'_>, id: &Value, uid: &str) -> Value {
    let data = notification(shop, id).await;
    let found = data["receivers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["receiver"] == uid);
    let found = found.unwrap();
    let lines = found["deliveries"].as_array().unwrap().iter();
    let lines = lines.map(|line| json!([line["channelType"], line["status"], line["reason"]]));
    json!([found["status"], lines.collect::<Vec<_>>()])
}

/// The receivers of a notification with a status.
async fn with_status(shop: &Shop<'_>, id: &Value, status: &str) -> Vec<String> {
    let request = json!({"notificationId": id, "status": status, "limit": 100});
    let listed = shop.call("ListNotificationReceivers", request).await;
    let rows = listed.data().as_array().unwrap();
    assert!(rows.iter().all(|one| one["status"] == status), "{listed:#?}");
    rows.iter()
        .map(|one| one["receiver"].as_str().unwrap().to_owned())
        .collect()
}

/// The item of a user's feed.
async fn item(shop: &Shop<'_>, uid: &str) -> Value {
    let feed = shop.as_user(uid, "ListFeedItems", json!({})).await;
    feed.data()[0]["id"].clone()
}

async fn read(shop: &Shop<'_>, uid: &str) {
    let id = item(shop, uid).await;
    shop.as_user(uid, "MarkFeedItemRead", json!({"feedItemId": id}))
        .await
        .data();
}

/// Whom the provider was given something for, in order.
pub(crate) fn taken(stub: &Stub) -> Vec<String> {
    let mut addresses: Vec<_> = stub.taken().into_iter().map(|envelope| envelope.address).collect();
    addresses.sort();
    addresses
}

everywhere! {
    async fn the_next_step_goes_to_those_alone_who_did_not_read_the_first_one_in_time(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = send(&shop, "two-steps", &uids(12)).await;
        settle(&world).await;
        assert_eq!(shop.all_unread(&uids(12)).await, vec![1; 12]);
        assert_eq!(state(&shop, &id).await, json!(["dispatching", 12, 0, 0]));
        assert_eq!(receiver(&shop, &id, "user-00000").await, json!(["sent", [["in_app", "accepted", null]]]));

        world.pass(4 * MINUTE);
        read(&shop, "user-00001").await;
        world.pass(MINUTE - MILLISECOND);
        settle(&world).await;
        assert_eq!(taken(&stub), Vec::<String>::new(), "a millisecond too early");
        world.pass(MILLISECOND);
        read(&shop, "user-00002").await;
        world.pass(MILLISECOND);
        read(&shop, "user-00003").await;
        settle(&world).await;
        let expected: Vec<_> = uids(12).into_iter().filter(|uid| !["user-00001", "user-00002"].contains(&uid.as_str())).collect();
        assert_eq!(taken(&stub), expected);
        assert_eq!(stub.taken()[0].content, *json!({"title": "Hello you", "body": "Look"}).as_object().unwrap());
        assert_eq!(state(&shop, &id).await, json!(["completed", 12, 0, 0]));
        let stopped = json!(["sent", [["push", "suppressed", "sequence_stopped"], ["in_app", "accepted", null]]]);
        let reached = json!(["sent", [["push", "accepted", null], ["in_app", "accepted", null]]]);
        assert_eq!(receiver(&shop, &id, "user-00001").await, stopped);
        assert_eq!(receiver(&shop, &id, "user-00002").await, stopped, "the last millisecond is in time");
        assert_eq!(receiver(&shop, &id, "user-00003").await, reached, "and the next one is not");
        settle(&world).await;
        assert_eq!(stub.taken().len(), 10, "nothing is sent again");
    }

    async fn a_send_that_is_done_when_it_answers_has_its_further_steps_later(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let request = json!({"templateId": "two-steps", "receivers": ["ada", "bob"], "defaults": {"name": "you"}});
        let caller = shop.caller.once("once");
        let sent = world.call("SendNotification", &caller, request.clone()).await;
        let (data, id) = (sent.data(), sent.data()["notificationId"].clone());
        assert_eq!((&data["mode"], &data["receivers"][0]["status"]), (&json!("realtime"), &json!("sent")));
        assert_eq!(data["receivers"][0]["deliveries"].as_array().unwrap().len(), 1);
        assert_eq!(shop.unread("ada").await, 1);
        assert_eq!(state(&shop, &id).await, json!(["dispatching", 2, 0, 0]));
        read(&shop, "bob").await;
        let world = world.restart_with(|settings| {
            settings.drivers = Drivers::default().with(ChannelType::Push, Arc::clone(&stub) as Arc<dyn Driver>);
        }).await;
        world.pass(5 * MINUTE);
        settle(&world).await;
        assert_eq!(taken(&stub), ["ada"]);
        let again = world.call("SendNotification", &caller, request).await;
        assert_eq!(again.body, sent.body);
        settle(&world).await;
        let found = world.call("GetNotification", &caller, json!({"notificationId": id})).await;
        assert_eq!(found.data()["status"], "completed");
        assert_eq!(found.data()["completedAt"], "2024-01-15T12:05:00.000Z");
        assert_eq!(stub.taken().len(), 1);
    }

    async fn three_steps_follow_each_other_and_each_condition_is_its_own(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = send(&shop, "three-steps", &uids(4)).await;
        world.pass(5 * MINUTE);
        read(&shop, "user-00003").await;
        settle(&world).await;
        assert_eq!(stub.taken().len(), 3);
        // What a provider's receipt will do: the first one clicked in time, the second a moment too late.
        let clicked = |uid: &str, at: i64| {
            let user = format!("(SELECT id FROM users WHERE uid = '{uid}')");
            format!("UPDATE outgoing SET delivered_at = {at}, clicked_at = {at} WHERE user_id = {user}").leak()
        };
        let end = world.clock.now().plus(10 * MINUTE).millis();
        let store = world.store().await;
        execute(&store, clicked("user-00000", end)).await;
        execute(&store, clicked("user-00001", end + 1)).await;
        world.pass(5 * MINUTE);
        read(&shop, "user-00002").await;
        world.pass(5 * MINUTE);
        settle(&world).await;
        let mut mails: Vec<_> = stub.taken().into_iter().skip(3).map(|envelope| envelope.address).collect();
        mails.sort();
        assert_eq!(mails, ["user-00001", "user-00002"], "reading the card does not end what waits for a click");
        assert_eq!(state(&shop, &id).await, json!(["completed", 4, 0, 0]));
        let none = json!(["sent", [["in_app", "accepted", null], ["push", "suppressed", "sequence_stopped"], ["email", "suppressed", "sequence_stopped"]]]);
        assert_eq!(receiver(&shop, &id, "user-00003").await, none);
        let half = json!(["sent", [["in_app", "accepted", null], ["push", "accepted", null], ["email", "suppressed", "sequence_stopped"]]]);
        assert_eq!(receiver(&shop, &id, "user-00000").await, half);
    }

    async fn a_user_who_goes_between_two_steps_gets_no_further_one(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = send(&shop, "three-steps", &uids(3)).await;
        shop.call("DeactivateUser", json!({"uid": "user-00000"})).await.data();
        shop.call("DeleteUser", json!({"uid": "user-00001"})).await.data();
        world.pass(5 * MINUTE);
        settle(&world).await;
        assert_eq!(taken(&stub), ["user-00002"]);
        world.pass(10 * MINUTE);
        settle(&world).await;
        assert_eq!(taken(&stub), ["user-00002"; 2]);
        let lines = |reason: &str| json!(["sent", [["in_app", "accepted", null], ["push", "suppressed", reason], ["email", "suppressed", reason]]]);
        assert_eq!(receiver(&shop, &id, "user-00000").await, lines("user_deactivated"));
        assert_eq!(receiver(&shop, &id, "user-00001").await, lines("unknown_user"));
        assert_eq!(state(&shop, &id).await, json!(["completed", 3, 0, 0]));
    }

    async fn whoever_no_step_reaches_is_told_so_once_the_last_one_is_over(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let bell = json!({"channelId": "bell", "channel": {"enabled": false}});
        shop.call("UpdateChannel", bell.clone()).await.data();
        stub.answer([Outcome::Refused, Outcome::Accepted]);
        let id = send(&shop, "two-steps", &uids(3)).await;
        assert_eq!(state(&shop, &id).await, json!(["dispatching", 0, 0, 0]));
        assert_eq!(receiver(&shop, &id, "user-00000").await, json!(["pending", [["in_app", "suppressed", "channel_disabled"]]]));
        assert_eq!(with_status(&shop, &id, "pending").await, uids(3));
        assert_eq!(with_status(&shop, &id, "skipped").await, Vec::<String>::new());
        shop.call("DeactivateUser", json!({"uid": "user-00002"})).await.data();
        world.pass(5 * MINUTE);
        settle(&world).await;
        assert_eq!(state(&shop, &id).await, json!(["partially_failed", 1, 1, 1]));
        let asked = stub.taken();
        let [first, second] = [&asked[0].address, &asked[1].address];
        for (status, uid) in [("failed", first.as_str()), ("sent", second), ("skipped", "user-00002")] {
            assert_eq!(with_status(&shop, &id, status).await, [uid]);
        }
        assert_eq!(with_status(&shop, &id, "pending").await, Vec::<String>::new());
        let refused = json!(["failed", [["push", "failed", "provider_refused"], ["in_app", "suppressed", "channel_disabled"]]]);
        assert_eq!(receiver(&shop, &id, first).await, refused);
    }

    async fn a_step_that_is_given_up_fails_nobody_whom_an_earlier_one_has_reached(world) {
        let (world, stub) = provided(world).await;
        let (shop, store) = (Shop::open(&world).await, world.store().await);
        prepare(&shop).await;
        let id = send(&shop, "two-steps", &uids(12)).await;
        settle(&world).await;
        poison(&store).await;
        let before = world.metrics().await;
        world.pass(5 * MINUTE);
        settle(&world).await;
        work_out(&world, &store).await;
        settle(&world).await;
        let page = world.metrics().await;
        assert_eq!(page.since(&before, "campanile_page_events_total{event=\"given_up\"}"), 1.0);
        assert_eq!(page.since(&before, "campanile_recipients_total{outcome=\"failed\"}"), 0.0);
        assert_eq!(state(&shop, &id).await, json!(["completed", 12, 0, 0]));
        assert_eq!(stub.taken().len(), 11);
    }

    async fn what_a_provider_cannot_take_now_is_tried_again_under_the_same_delivery(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = send(&shop, "two-steps", &uids(1)).await;
        stub.answer([Outcome::Retry, Outcome::Retry]);
        world.pass(5 * MINUTE);
        settle(&world).await;
        assert_eq!(state(&shop, &id).await, json!(["dispatching", 1, 0, 0]));
        let queued = json!(["sent", [["push", "queued", null], ["in_app", "accepted", null]]]);
        assert_eq!(receiver(&shop, &id, "user-00000").await, queued);
        let attempts = async || notification(&shop, &id).await["receivers"][0]["deliveries"][0]["attempts"].clone();
        assert_eq!(attempts().await, 1);
        let store = world.store().await;
        for _ in 0..2 {
            execute(&store, "UPDATE outgoing SET lease_until = 0 WHERE state = 1").await;
            settle(&world).await;
        }
        let (taken, first) = (stub.taken(), stub.taken()[0].delivery);
        let counted: Vec<_> = taken.iter().map(|envelope| (envelope.delivery, envelope.attempt)).collect();
        assert_eq!(counted, [(first, 1), (first, 2), (first, 3)]);
        assert_eq!(attempts().await, 3);
        assert_eq!(state(&shop, &id).await, json!(["completed", 1, 0, 0]));
    }

    async fn two_processes_at_once_fire_a_step_once(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = send(&shop, "two-steps", &uids(30)).await;
        settle(&world).await;
        world.pass(5 * MINUTE);
        let now = world.clock.now();
        let service = &world.service;
        let (one, other) = join(sequence::turn(service, now), sequence::turn(service, now)).await;
        assert!([one, other].contains(&Turn::Again) && ![one, other].contains(&Turn::Failed), "{one:?} {other:?}");
        join(world.work(), world.work()).await;
        for _ in 0..3 {
            let (one, other) = join(outgoing::turn(service, now), outgoing::turn(service, now)).await;
            assert!(![one, other].contains(&Turn::Failed), "{one:?} {other:?}");
        }
        settle(&world).await;
        assert_eq!(taken(&stub), uids(30));
        assert_eq!(state(&shop, &id).await, json!(["completed", 30, 0, 0]));
    }

    async fn a_channel_that_nothing_here_can_send_on_is_passed_over_with_its_reason(world) {
        let shop = Shop::open(&world).await;
        let push = json!({"type": "push", "name": "phones", "channelId": "phones", "enabled": true});
        shop.call("CreateChannel", json!({"channel": push})).await.data();
        let channels = json!([
            {"channelType": "push", "content": {"title": "a", "body": "b"}, "sequenceOrder": 1, "stopCondition": "delivered", "waitMinutes": 5},
            {"channelType": "in_app", "content": card("Hello"), "sequenceOrder": 2},
        ]);
        shop.template("push-first", json!({"config": {"sequenceEnabled": true}, "channels": channels})).await;
        let id = send(&shop, "push-first", &uids(2)).await;
        let first = json!(["pending", [["push", "failed", "provider_not_configured"]]]);
        assert_eq!(receiver(&shop, &id, "user-00000").await, first);
        assert_eq!(shop.unread("user-00000").await, 0);
        world.pass(5 * MINUTE);
        settle(&world).await;
        assert_eq!(shop.all_unread(&uids(2)).await, [1, 1]);
        assert_eq!(state(&shop, &id).await, json!(["completed", 2, 0, 0]));
    }

    async fn what_a_later_step_has_to_know_is_not_removed_before_it_is_old_and_the_sequence_over(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = send(&shop, "two-steps", &uids(2)).await;
        read(&shop, "user-00000").await;
        // Nobody worked for longer than things are kept.
        world.pass(100 * 24 * 60 * MINUTE);
        while sweep::turn(&world.service, world.clock.now()).await == Turn::Again {}
        assert_eq!(state(&shop, &id).await, json!(["dispatching", 2, 0, 0]));
        settle(&world).await;
        assert_eq!(taken(&stub), ["user-00001"], "who had read it in time is still known");
        assert_eq!(shop.rows().await["feed_counts"], 1);
        world.pass(100 * 24 * 60 * MINUTE);
        while sweep::turn(&world.service, world.clock.now()).await == Turn::Again {}
        let gone = shop.call("GetNotification", json!({"notificationId": id})).await;
        assert_eq!(gone.code(), "ERR_NOTIFICATION_NOT_FOUND");
        let rows = shop.rows().await;
        let left = ["deliveries", "outgoing", "sequence_waits", "pages", "lanes", "feed_items", "feed_counts"].map(|table| rows[table]);
        assert_eq!(left, [0; 7]);
    }
}
