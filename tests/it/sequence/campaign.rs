//! Sequences of campaigns: they are held, ended, counted and explained like everything else of them.

use std::time::Duration;

use campanile::channel::Outcome;
use campanile::store::Store;
use campanile::store::entity::notification;
use campanile::store::sequence::receipts_statement;
use insta::assert_json_snapshot;
use sea_orm::{ConnectionTrait, DatabaseBackend, EntityTrait, Statement};
use serde_json::{Value, json};

use super::{MINUTE, item, prepare, provided, read, send, settle, taken, uids};
use crate::campaign::import::imported;
use crate::support::rpc::Door;
use crate::support::shop::Shop;
use crate::support::world::{Caller, World, steady};
use crate::{everywhere, on_both};

/// A campaign that goes through the steps of a template, on its way.
async fn sent(shop: &Shop<'_>, template: &str, recipients: &[String]) -> Value {
    let campaign = json!({"name": "Spring", "templateId": template, "variables": {"name": "you"}});
    let made = shop.call("CreateCampaign", json!({"campaign": campaign})).await;
    let id = made.data()["id"].clone();
    let people = json!({"campaignId": id, "userIds": recipients});
    shop.call("AddCampaignRecipients", people).await.data();
    ask(shop, "SendCampaign", &id).await;
    id
}

/// Sequences that something is counted of.
async fn sequences_counted(store: &Store) -> i64 {
    let sql = "SELECT COUNT(DISTINCT notification_id) AS n FROM feed_counts";
    let counted = Statement::from_string(store.read().get_database_backend(), sql);
    let row = store.read().query_one_raw(counted).await.unwrap().unwrap();
    row.try_get("", "n").unwrap()
}

async fn ask(shop: &Shop<'_>, rpc: &str, id: &Value) -> Value {
    shop.call(rpc, json!({"campaignId": id})).await.data().clone()
}

/// The status, and pending, processing, completed, failed and cancelled recipients.
async fn state(shop: &Shop<'_>, id: &Value) -> Value {
    let campaign = ask(shop, "GetCampaign", id).await;
    let summary = ask(shop, "GetCampaignRecipientSummary", id).await;
    let parts = ["pending", "processing", "completed", "failed", "cancelled"].map(|part| summary[part].clone());
    json!([campaign["status"], parts])
}

async fn explained(shop: &Shop<'_>, id: &Value, uid: &str) -> Value {
    let request = json!({"campaignId": id, "uid": uid});
    shop.call("GetCampaignRecipient", request).await.data().clone()
}

/// The check with this name of a recipient who is explained, about a channel type or about all.
fn check<'e>(explained: &'e Value, name: &str, channel_type: Option<&str>) -> &'e Value {
    let mut checks = explained["checks"].as_array().unwrap().iter();
    let found = checks.find(|check| check["name"] == name && check["channelType"].as_str() == channel_type);
    found.unwrap_or_else(|| unreachable!("no {name} of {channel_type:?}: {explained:#}"))
}

async fn with_status(shop: &Shop<'_>, id: &Value, status: &str) -> Vec<String> {
    let request = json!({"campaignId": id, "status": status, "limit": 100});
    let listed = shop.call("ListCampaignRecipients", request).await;
    let rows = listed.data().as_array().unwrap();
    assert!(rows.iter().all(|one| one["status"] == status), "{listed:#?}");
    rows.iter().map(|one| one["uid"].as_str().unwrap().to_owned()).collect()
}

everywhere! {
    async fn a_campaign_ends_with_its_last_step_and_counts_each(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let draft = json!({"name": "Later", "templateId": "two-steps"});
        let draft = shop.call("CreateCampaign", json!({"campaign": draft})).await.data()["id"].clone();
        let id = sent(&shop, "two-steps", &uids(25)).await;
        settle(&world).await;
        assert_eq!(state(&shop, &id).await, json!(["sending", [0, 0, 25, 0, 0]]));
        for uid in ["user-00001", "user-00002"] {
            read(&shop, uid).await;
        }
        let item = item(&shop, "user-00003").await;
        let clicked = json!({"feedItemId": item, "topic": "clicked"});
        shop.as_user("user-00003", "ReportFeedItemEngagement", clicked).await.data();
        let waiting = ask(&shop, "GetCampaignSequenceMetrics", &id).await;
        assert_eq!((&waiting[1]["waiting"], &waiting[1]["requested"]), (&json!(25), &json!(0)));
        assert_json_snapshot!("sequence_recipient_waiting", steady(&explained(&shop, &id, "user-00001").await));
        world.pass(5 * MINUTE);
        settle(&world).await;
        assert_eq!(stub.taken().len(), 23);
        assert_eq!(state(&shop, &id).await, json!(["completed", [0, 0, 25, 0, 0]]));
        let done = ask(&shop, "GetCampaign", &id).await;
        assert_eq!(done["completedAt"], "2024-01-15T12:05:00.000Z");
        assert_json_snapshot!("sequence_metrics", ask(&shop, "GetCampaignSequenceMetrics", &id).await);
        assert_json_snapshot!("sequence_recipient_stopped", steady(&explained(&shop, &id, "user-00001").await));
        assert_json_snapshot!("sequence_recipient_reached", steady(&explained(&shop, &id, "user-00004").await));

        let planned = ask(&shop, "GetCampaignSequenceMetrics", &draft).await;
        let steps: Vec<_> = planned.as_array().unwrap().iter().map(|step| (&step["channelType"], &step["requested"])).collect();
        assert_eq!(steps, [(&json!("in_app"), &json!(0)), (&json!("push"), &json!(0))]);
        let plain = sent(&shop, "plain", &uids(2)).await;
        assert_eq!(ask(&shop, "GetCampaignSequenceMetrics", &plain).await, json!([]));
    }

    async fn a_preflight_tells_the_steps_in_their_order_and_what_each_comes_to_at_most(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let campaign = json!({"name": "Sale", "templateId": "two-steps", "ratePerSecond": 2});
        let id = shop.call("CreateCampaign", json!({"campaign": campaign})).await.data()["id"].clone();
        shop.call("AddCampaignRecipients", json!({"campaignId": id, "userIds": uids(3)})).await.data();
        let forecast = async || ask(&shop, "PreflightCampaign", &id).await;
        let found = forecast().await;
        let first = json!({"channelType": "in_app", "step": 1, "deliveries": 3});
        let second = json!({"channelType": "push", "step": 2, "deliveries": 3});
        assert_eq!((&found["channels"], &found["reachable"]), (&json!([first, second]), &json!(3)));
        assert_eq!(found["estimatedSeconds"], 2);
        let watched = ask(&shop, "WatchCampaignPreflight", &id).await;
        assert_eq!(watched.as_array().unwrap().last().unwrap()["data"], found);
        // Without the switch both are served at once, in the order in which they stand.
        let switch = |on: bool| json!({"templateId": "two-steps", "template": {"config": {"sequenceEnabled": on}}});
        shop.call("UpdateTemplate", switch(false)).await.data();
        let push = json!({"channelType": "push", "deliveries": 3});
        assert_eq!(forecast().await["channels"], json!([push, {"channelType": "in_app", "deliveries": 3}]));
        shop.call("UpdateTemplate", switch(true)).await.data();
        // A step whose channel is off reaches nobody, and the next one everybody.
        let bell = |on: bool| json!({"channelId": "bell", "channel": {"enabled": on}});
        shop.call("UpdateChannel", bell(false)).await.data();
        let closed = json!({"channelType": "in_app", "step": 1, "deliveries": 0, "reason": "channel_disabled"});
        let found = forecast().await;
        assert_eq!((&found["channels"], &found["reachable"]), (&json!([closed, second]), &json!(3)));
        shop.call("UpdateChannel", bell(true)).await.data();
        ask(&shop, "SendCampaign", &id).await;
        settle(&world).await;
        assert_eq!((shop.all_unread(&uids(3)).await, stub.taken().len()), (vec![1; 3], 0));
    }

    async fn an_audience_from_a_file_goes_through_the_steps_with_its_values(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let campaign = json!({"campaign": {"name": "Sale", "templateId": "three-steps"}});
        let id = shop.call("CreateCampaign", campaign).await.data()["id"].clone();
        let file = "user_id,name\nada,Ada\nbob,Bob\nno uid,Eve\ncyd,Cyd\n";
        let job = imported(&world, &shop, &id, file, json!({})).await;
        assert_eq!((&job["state"], &job["counts"]["added"]), (&json!("completed"), &json!(3)), "{job:#?}");
        ask(&shop, "SendCampaign", &id).await;
        settle(&world).await;
        let feed = shop.as_user("cyd", "ListFeedItems", json!({})).await;
        assert_eq!(feed.data()[0]["content"]["body"][0]["content"], "Hello Cyd");
        read(&shop, "bob").await;
        world.pass(5 * MINUTE);
        settle(&world).await;
        assert_eq!(taken(&stub), ["ada", "cyd"]);
        let of_ada = stub.taken().into_iter().find(|one| one.address == "ada").unwrap();
        assert_eq!(of_ada.content["title"], "Hello Ada");
        assert_eq!(state(&shop, &id).await, json!(["sending", [0, 0, 3, 0, 0]]));
        world.pass(10 * MINUTE);
        settle(&world).await;
        assert_eq!(taken(&stub), ["ada", "ada", "cyd", "cyd"]);
        assert_eq!(state(&shop, &id).await, json!(["completed", [0, 0, 3, 0, 0]]));
        let metrics = ask(&shop, "GetCampaignSequenceMetrics", &id).await;
        let of = |field: &str| metrics.as_array().unwrap().iter().map(|step| step[field].clone()).collect::<Vec<_>>();
        assert_eq!((of("requested"), of("stopped")), (vec![json!(3), json!(2), json!(2)], vec![json!(0), json!(1), json!(1)]));
    }

    async fn whoever_watches_sees_a_sequence_end_with_its_last_step_and_not_before(world) {
        let (world, _stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let campaign = sent(&shop, "two-steps", &uids(12)).await;
        let message = send(&shop, "two-steps", &uids(32)[12..]).await;
        // What was reached is told long before the next step is due.
        let told = || tokio::time::sleep(Duration::from_millis(3_000));
        let working = async {
            told().await;
            settle(&world).await;
            told().await;
            read(&shop, "user-00001").await;
            world.pass(5 * MINUTE);
            settle(&world).await;
        };
        let of_campaign = shop.call("WatchCampaign", json!({"campaignId": campaign}));
        let of_message = shop.call("WatchNotification", json!({"notificationId": message}));
        let (of_campaign, of_message, ()) = futures::join!(of_campaign, of_message, working);
        for (events, under_way, total) in [(of_campaign.data(), "sending", 12), (of_message.data(), "dispatching", 20)] {
            let events: Vec<_> = events.as_array().unwrap().iter().map(|event| &event["data"]).collect();
            let (last, before) = events.split_last().unwrap();
            let reached = |event: &Value| match &event["recipients"] {
                Value::Null => event["sentCount"].clone(),
                recipients => recipients["completed"].clone(),
            };
            assert!(before.iter().all(|event| event["status"] == under_way), "{events:#?}");
            assert!(before.iter().all(|event| event["completedAt"].is_null()), "{events:#?}");
            assert_eq!((reached(before[0]), reached(before.last().unwrap())), (json!(0), json!(total)), "{events:#?}");
            assert_eq!((&last["status"], reached(last)), (&json!("completed"), json!(total)));
            assert_eq!(last["completedAt"], "2024-01-15T12:05:00.000Z");
        }
    }

    async fn a_pause_holds_a_step_beyond_its_time_and_moves_no_deadline(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = sent(&shop, "two-steps", &uids(12)).await;
        settle(&world).await;
        ask(&shop, "PauseCampaign", &id).await;
        world.pass(4 * MINUTE);
        read(&shop, "user-00001").await;
        world.pass(2 * MINUTE);
        read(&shop, "user-00002").await;
        settle(&world).await;
        assert_eq!(stub.taken().len(), 0);
        assert_eq!(state(&shop, &id).await, json!(["paused", [0, 0, 12, 0, 0]]));
        ask(&shop, "ResumeCampaign", &id).await;
        settle(&world).await;
        let expected: Vec<_> = uids(12).into_iter().filter(|uid| uid != "user-00001").collect();
        assert_eq!(taken(&stub), expected);
        assert_eq!(state(&shop, &id).await, json!(["completed", [0, 0, 12, 0, 0]]));
    }

    async fn what_is_queued_when_a_campaign_is_paused_leaves_when_it_is_resumed(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = sent(&shop, "two-steps", &uids(3)).await;
        settle(&world).await;
        world.pass(5 * MINUTE);
        assert_eq!(campanile::worker::sequence::turn(&world.service, world.clock.now()).await, campanile::worker::Turn::Again);
        world.work().await;
        ask(&shop, "PauseCampaign", &id).await;
        settle(&world).await;
        assert_eq!((stub.taken().len(), state(&shop, &id).await), (0, json!(["paused", [0, 0, 3, 0, 0]])));
        ask(&shop, "ResumeCampaign", &id).await;
        settle(&world).await;
        assert_eq!((stub.taken().len(), state(&shop, &id).await), (3, json!(["completed", [0, 0, 3, 0, 0]])));
    }

    async fn a_campaign_that_is_cancelled_has_no_further_step(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let bell = json!({"channelId": "bell", "channel": {"enabled": false}});
        let reached = sent(&shop, "two-steps", &uids(3)).await;
        settle(&world).await;
        shop.call("UpdateChannel", bell).await.data();
        let unreached = sent(&shop, "two-steps", &uids(3)).await;
        settle(&world).await;
        assert_eq!(state(&shop, &unreached).await, json!(["sending", [0, 3, 0, 0, 0]]));
        assert_eq!(with_status(&shop, &unreached, "processing").await, uids(3));
        let queued = sent(&shop, "two-steps", &uids(3)).await;
        settle(&world).await;
        ask(&shop, "CancelCampaign", &reached).await;
        ask(&shop, "CancelCampaign", &unreached).await;
        world.pass(5 * MINUTE);
        // Of the third one the messages are queued when it is cancelled.
        campanile::worker::sequence::turn(&world.service, world.clock.now()).await;
        world.work().await;
        ask(&shop, "CancelCampaign", &queued).await;
        settle(&world).await;
        world.pass(60 * MINUTE);
        settle(&world).await;
        assert_eq!(stub.taken().len(), 0);
        assert_eq!(state(&shop, &reached).await, json!(["cancelled", [0, 0, 3, 0, 0]]));
        assert_eq!(state(&shop, &unreached).await, json!(["cancelled", [0, 0, 0, 0, 3]]));
        assert_eq!(with_status(&shop, &unreached, "cancelled").await, uids(3));
        assert_eq!(state(&shop, &queued).await, json!(["cancelled", [0, 0, 0, 0, 3]]));
        assert_eq!(with_status(&shop, &queued, "cancelled").await, uids(3));
        let told = explained(&shop, &reached, "user-00000").await;
        let (due, ended) = (check(&told, "step_due", Some("push")), &ask(&shop, "GetCampaign", &reached).await["completedAt"]);
        assert_eq!((&due["result"], &due["reason"], &due["foundAt"]), (&json!("failed"), &json!("campaign_cancelled"), ended));
        let told = explained(&shop, &queued, "user-00000").await;
        let push = &told["deliveries"][0];
        assert_eq!((&push["status"], &push["reason"], &push["attempts"]), (&json!("suppressed"), &json!("cancelled"), &json!(0)));
        let ended = ask(&shop, "GetCampaign", &queued).await["completedAt"].clone();
        assert_eq!((&push["updatedAt"], &check(&told, "reached", None)["foundAt"]), (&ended, &ended));
        let rows = shop.rows().await;
        assert_eq!((rows["sequence_waits"], rows["lanes"]), (0, 0));
    }

    async fn a_recipient_is_told_how_often_a_provider_was_asked_and_when_it_took_it(world) {
        let (world, stub) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = sent(&shop, "two-steps", &uids(1)).await;
        settle(&world).await;
        stub.answer([Outcome::Retry]);
        world.pass(5 * MINUTE);
        settle(&world).await;
        let [written, taken] = ["2024-01-15T12:05:00.000Z", "2024-01-15T12:06:00.000Z"];
        let queued = explained(&shop, &id, "user-00000").await;
        let push = &queued["deliveries"][0];
        assert_eq!((&push["status"], &push["attempts"]), (&json!("queued"), &json!(1)));
        assert_eq!((&push["createdAt"], &push["updatedAt"]), (&json!(written), &json!(written)));
        assert_eq!(check(&queued, "channel_open", Some("push"))["foundAt"], written);
        let open = check(&queued, "delivered", Some("push"));
        assert_eq!((&open["result"], open.get("foundAt")), (&json!("pending"), None));

        world.pass(MINUTE);
        crate::batch::execute(&world.store().await, "UPDATE outgoing SET lease_until = 0 WHERE state = 1").await;
        settle(&world).await;
        let done = explained(&shop, &id, "user-00000").await;
        let [push, in_app] = [0, 1].map(|place| &done["deliveries"][place]);
        assert_eq!((&push["status"], &push["attempts"]), (&json!("accepted"), &json!(2)));
        assert_eq!((&push["createdAt"], &push["updatedAt"]), (&json!(written), &json!(taken)));
        assert_eq!((in_app.get("attempts"), &in_app["createdAt"]), (None, &in_app["updatedAt"]));
        let sent_at = &check(&done, "campaign_started", None)["foundAt"];
        for (name, channel_type, at) in [
            ("reached", None, sent_at),
            ("channel_open", Some("in_app"), sent_at),
            ("delivered", Some("in_app"), sent_at),
            ("step_due", Some("push"), &json!(written)),
            ("channel_open", Some("push"), &json!(written)),
            ("delivered", Some("push"), &json!(taken)),
        ] {
            assert_eq!(&check(&done, name, channel_type)["foundAt"], at, "{name} {channel_type:?}");
        }
        let listed = ask(&shop, "ListCampaignRecipients", &id).await;
        assert_eq!(listed[0]["deliveries"], done["deliveries"]);
    }

    async fn a_sequence_begins_where_a_restart_left_it(world) {
        let (world, _) = provided(world).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = sent(&shop, "two-steps", &uids(12)).await;
        settle(&world).await;
        read(&shop, "user-00007").await;
        let caller = shop.caller.clone();
        drop(shop);
        let (world, stub) = provided(world).await;
        world.pass(5 * MINUTE);
        settle(&world).await;
        let expected: Vec<_> = uids(12).into_iter().filter(|uid| uid != "user-00007").collect();
        assert_eq!(taken(&stub), expected);
        let done = world.call("GetCampaign", &caller, json!({"campaignId": id})).await;
        assert_eq!(done.data()["status"], "completed");
    }
}

/// How the database counts what drivers were told of the second step of a campaign, in its own words.
async fn plan(world: &World) -> String {
    let store = world.store().await;
    crate::batch::execute(&store, "ANALYZE").await;
    let backend = store.read().get_database_backend();
    let (explain, column) = match backend {
        DatabaseBackend::Postgres => ("EXPLAIN", "QUERY PLAN"),
        _ => ("EXPLAIN QUERY PLAN", "detail"),
    };
    let found = notification::Entity::find().one(store.read()).await.unwrap().unwrap();
    let mut statement = receipts_statement(backend, (found.app_id, found.id), 2);
    statement.sql = format!("{explain} {}", statement.sql);
    let rows = store.read().query_all_raw(statement).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.try_get("", column).unwrap()).collect();
    lines.join("\n")
}

/// What the metrics of the first step say that users did, and what their items say of it.
async fn done(world: &World, caller: &Caller, id: &Value) -> [Vec<i64>; 2] {
    let store = world.store().await;
    let sql = "SELECT COUNT(i.delivered_at) AS delivered, COUNT(i.read_at) AS viewed, COUNT(i.interacted_at) AS engaged, \
               COUNT(e.topic) AS clicked FROM feed_items i JOIN notifications n ON n.id = i.notification_id \
               LEFT JOIN feed_item_engagements e ON e.feed_item_id = i.id AND e.topic = 'clicked' \
               WHERE n.sequence IS NOT NULL";
    let backend = store.read().get_database_backend();
    let row = store
        .read()
        .query_one_raw(Statement::from_string(backend, sql))
        .await
        .unwrap()
        .unwrap();
    let metrics = world
        .call("GetCampaignSequenceMetrics", caller, json!({"campaignId": id}))
        .await;
    let metrics = metrics.data();
    let names = ["delivered", "viewed", "engaged", "clicked"];
    let said = names.map(|name| metrics[0][name].as_i64().unwrap_or_default());
    [said.to_vec(), names.map(|name| row.try_get("", name).unwrap()).to_vec()]
}

on_both! {
    async fn what_drivers_were_told_of_a_step_is_counted_by_an_index_of_what_they_were_told(db) {
        let (world, _stub) = provided(World::start(db, Door::Rest).await).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let id = sent(&shop, "two-steps", &uids(1_000)).await;
        settle(&world).await;
        for uid in ["user-00001", "user-00002", "user-00003"] {
            read(&shop, uid).await;
        }
        // Engaged with by somebody whose device never told that it has it.
        let clicked = json!({"feedItemId": item(&shop, "user-00004").await, "topic": "clicked"});
        shop.as_user("user-00004", "ReportFeedItemEngagement", clicked).await.data();
        world.pass(5 * MINUTE);
        settle(&world).await;
        let user = "(SELECT id FROM users WHERE uid = 'user-00009')";
        let receipt = format!("UPDATE outgoing SET delivered_at = 1, clicked_at = 1 WHERE user_id = {user}");
        crate::batch::execute(&world.store().await, String::leak(receipt)).await;
        let metrics = ask(&shop, "GetCampaignSequenceMetrics", &id).await;
        let of = |step: usize| ["requested", "stopped", "delivered", "viewed", "engaged", "clicked"].map(|field| metrics[step][field].as_i64().unwrap());
        assert_eq!(of(0), [1_000, 0, 3, 3, 1, 1], "{metrics:#}");
        assert_eq!(of(1), [997, 3, 1, 0, 0, 1]);
        let plan = plan(&world).await;
        assert!(plan.contains("outgoing_marked"), "{plan}");
    }

    async fn what_users_do_with_a_step_at_once_is_counted_once(db) {
        let (world, _stub) = provided(World::start(db, Door::Grpc).await).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        let users = uids(40);
        let id = sent(&shop, "two-steps", &users).await;
        // Nobody counts what is done with other sends.
        send(&shop, "plain", &users).await;
        settle(&world).await;
        let mut items = Vec::new();
        for uid in &users {
            let feed = shop.as_user(uid, "ListFeedItems", json!({})).await;
            items.push(feed.data().as_array().unwrap().iter().map(|one| one["id"].clone()).collect::<Vec<_>>());
        }
        assert!(items.iter().all(|items| items.len() == 2), "{items:?}");
        let marks = users.iter().zip(&items).enumerate().flat_map(|(number, (uid, items))| {
            let each = |item: &Value| [
                (1, "MarkFeedItemDelivered", json!({"feedItemId": item})),
                (2, "MarkFeedItemRead", json!({"feedItemId": item})),
                (3, "ReportFeedItemEngagement", json!({"feedItemId": item, "topic": "clicked"})),
                (5, "ReportFeedItemEngagement", json!({"feedItemId": item, "topic": "shared"})),
                (3, "ReportFeedItemEngagement", json!({"feedItemId": item, "topic": "clicked"})),
            ];
            let of_all = [
                (4, "MarkFeedItemsDelivered", json!({"ids": items})),
                (7, "MarkAllFeedItemsRead", json!({})),
            ];
            let all = items.iter().flat_map(each).chain(of_all);
            all.filter(move |(every, ..)| number % every == 0).map(move |(_, rpc, request)| (uid, rpc, request))
        });
        let marks: Vec<_> = marks.collect();
        futures::future::join_all(marks.into_iter().map(async |(uid, rpc, request)| {
            let answer = shop.as_user(uid, rpc, request).await;
            assert_eq!(answer.status, 200, "{rpc}: {answer:#?}");
        })).await;
        let caller = shop.caller.clone();
        let [said, counted] = done(&world, &caller, &id).await;
        assert_eq!(said, counted);
        assert_eq!(counted[1..], [23, 19, 14], "{counted:?}");
        // What an item has come to stays counted when it goes.
        for item in &items[0] {
            shop.as_user(&users[0], "DeleteFeedItem", json!({"feedItemId": item})).await.data();
        }
        assert_eq!(done(&world, &caller, &id).await[0], said);
        let store = world.store().await;
        assert_eq!(sequences_counted(&store).await, 1);
        // A build that counted by an index leaves its marks to this one.
        for undone in [
            "DROP TABLE feed_counts",
            "CREATE INDEX feed_items_marked ON feed_items (app_id, notification_id) WHERE delivered_at IS NOT NULL",
            "DELETE FROM seaql_migrations WHERE version = 'm0020_feed_counts'",
        ] {
            crate::batch::execute(&store, undone).await;
        }
        drop((store, shop));
        let (world, _stub) = provided(world).await;
        assert_eq!(done(&world, &caller, &id).await[0], said);
    }

    async fn every_step_of_a_campaign_keeps_to_its_rate(db) {
        let (world, stub) = provided(World::start(db, Door::Rest).await).await;
        let shop = Shop::open(&world).await;
        prepare(&shop).await;
        // Pages of ten, one in two seconds: the first is due at once.
        let pause = || tokio::time::sleep(Duration::from_millis(2_050));
        let campaign = json!({"campaign": {"name": "Slow", "templateId": "two-steps", "ratePerSecond": 5}});
        let id = shop.call("CreateCampaign", campaign).await.data()["id"].clone();
        shop.call("AddCampaignRecipients", json!({"campaignId": id, "userIds": uids(20)})).await.data();
        ask(&shop, "SendCampaign", &id).await;
        let reached = async || {
            settle(&world).await;
            let feeds: i64 = shop.all_unread(&uids(20)).await.iter().sum();
            (feeds, stub.taken().len())
        };
        assert_eq!(reached().await, (10, 0));
        pause().await;
        assert_eq!(reached().await, (20, 0));
        world.pass(5 * MINUTE);
        pause().await;
        assert_eq!(reached().await, (20, 10), "the pages of the second step");
        assert_eq!(reached().await, (20, 10), "nothing more at once");
        pause().await;
        assert_eq!(reached().await, (20, 20));
        assert_eq!(state(&shop, &id).await, json!(["completed", [0, 0, 20, 0, 0]]));
    }
}
