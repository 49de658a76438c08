//! Marks: delivered, read, everything read, engagement and deletion. Every one twice, by the right user and by others.

use futures::future::join_all;
use insta::assert_json_snapshot;
use serde_json::{Value, json};

use super::{MINUTE, count, ids, list, read, send};
use crate::everywhere;
use crate::support::rpc::Answer;
use crate::support::shop::Shop;
use crate::support::world::{call, steady};

/// Every mark of one item, with what it asks for beside the item.
const MARKS: [(&str, &str); 4] = [
    ("MarkFeedItemDelivered", "deliveredAt"),
    ("MarkFeedItemRead", "readAt"),
    ("ReportFeedItemEngagement", "interactedAt"),
    ("DeleteFeedItem", "deletedAt"),
];

async fn mark(shop: &Shop<'_>, user: &str, rpc: &str, id: &str) -> Answer {
    shop.as_user(user, rpc, json!({"feedItemId": id})).await
}

async fn item(shop: &Shop<'_>, id: &str) -> Value {
    shop.call("GetFeedItem", json!({"feedItemId": id})).await.data().clone()
}

async fn engage(shop: &Shop<'_>, id: &str, topic: Value) -> Answer {
    let mut request = json!({"feedItemId": id});
    if !topic.is_null() {
        request["topic"] = topic;
    }
    shop.as_user("ada", "ReportFeedItemEngagement", request).await
}

everywhere! {
    async fn every_mark_keeps_its_first_time(world) {
        let shop = Shop::open(&world).await;
        for (rpc, time) in MARKS {
            let id = send(&shop, "order-shipped", &["ada"]).await.remove(0);
            world.pass(MINUTE);
            let first = mark(&shop, "ada", rpc, &id).await;
            assert_eq!(first.status, 200, "{first:#?}");
            assert!(first.data()[time].is_string(), "{rpc} {first:#?}");
            world.pass(MINUTE);
            let again = mark(&shop, "ada", rpc, &id).await;
            assert_eq!((again.body, again.replayed), (first.body, false), "{rpc}");
        }
    }

    async fn nobody_marks_what_is_not_theirs(world) {
        let shop = Shop::open(&world).await;
        let id = send(&shop, "plain", &["ada"]).await.remove(0);
        shop.unread("bob").await;
        let (before, rows) = (item(&shop, &id).await, shop.rows().await);
        for (rpc, _) in MARKS {
            let foreign = mark(&shop, "bob", rpc, &id).await;
            assert_eq!((foreign.status, foreign.code()), (404, "ERR_FEED_ITEM_NOT_FOUND"), "{rpc}");
            let unknown = mark(&shop, "ada", rpc, "feed-00000000000000000000000000").await;
            assert_eq!((unknown.status, unknown.code()), (404, "ERR_FEED_ITEM_NOT_FOUND"), "{rpc}");
            let malformed = mark(&shop, "ada", rpc, "nope").await;
            assert_eq!((malformed.status, malformed.code()), (400, "ERR_BAD_REQUEST"), "{rpc}");
            if rpc != "DeleteFeedItem" {
                let nobody = shop.call(rpc, json!({"feedItemId": id})).await;
                assert_eq!((nobody.status, nobody.code()), (400, "ERR_BAD_REQUEST"), "{rpc}");
            }
        }
        for rpc in ["MarkAllFeedItemsRead", "MarkFeedItemsDelivered"] {
            let request = if rpc == "MarkAllFeedItemsRead" { json!({}) } else { json!({"ids": [id]}) };
            let nobody = shop.call(rpc, request.clone()).await;
            assert_eq!((nobody.status, nobody.code()), (400, "ERR_BAD_REQUEST"), "{rpc}");
            let of_bob = shop.as_user("bob", rpc, request).await;
            assert_eq!(of_bob.data()["count"], 0, "{rpc}");
        }
        let other = world.tenant("other").await;
        let stolen = world.call("DeleteFeedItem", &other.caller, json!({"feedItemId": id})).await;
        assert_eq!((stolen.status, stolen.code()), (404, "ERR_FEED_ITEM_NOT_FOUND"));
        assert_eq!(item(&shop, &id).await, before);
        let mut after = shop.rows().await;
        for table in ["apps", "api_keys", "categories"] {
            after.insert(table.to_owned(), rows[table]);
        }
        assert_eq!(after, rows);
        assert_eq!(shop.unread("ada").await, 1);
    }

    async fn marks_that_come_together_are_each_answered_and_counted_once(world) {
        let shop = Shop::open(&world).await;
        let users = ["ada", "bob", "eve", "dan", "fay", "gus"];
        let items = send(&shop, "order-shipped", &users).await;
        let full = send(&shop, "plain", &["ada"]).await.remove(0);
        for number in 0..100 {
            engage(&shop, &full, json!(format!("t{number}"))).await.data();
        }
        world.pass(MINUTE);
        // Everybody reads, is told of twice and is engaged twice, at once; and some of it is refused.
        let of = |number: usize, item: &String| {
            let request = json!({"feedItemId": item});
            let topic = |topic: &str| json!({"feedItemId": item, "topic": topic});
            let foreign = json!({"feedItemId": items[(number + 1) % users.len()]});
            [
                ("MarkFeedItemRead", request.clone(), 200),
                ("MarkFeedItemDelivered", request.clone(), 200),
                ("MarkFeedItemRead", request, 200),
                ("ReportFeedItemEngagement", topic("clicked"), 200),
                ("MarkFeedItemRead", foreign, 404),
                ("ReportFeedItemEngagement", topic("shared"), 200),
                ("ReportFeedItemEngagement", topic("clicked"), 200),
            ]
        };
        let asked = users.iter().zip(&items).enumerate().flat_map(|(number, (user, item))| {
            of(number, item).map(|(rpc, request, status)| (*user, rpc, request, status))
        });
        let asked = asked.chain([("ada", "ReportFeedItemEngagement", json!({"feedItemId": full, "topic": "more"}), 409)]);
        let told = join_all(asked.map(async |(user, rpc, request, status)| {
            let answer = shop.as_user(user, rpc, request.clone()).await;
            assert_eq!(answer.status, status, "{user} {rpc} {request} {answer:#?}");
            (rpc, answer)
        }));
        for (rpc, answer) in told.await {
            if answer.status == 200 && rpc == "MarkFeedItemRead" {
                assert_eq!(answer.data()["readAt"], "2024-01-15T12:01:00.000Z");
            }
        }
        for (user, id) in users.iter().zip(&items) {
            let shown = item(&shop, id).await;
            assert_eq!((&shown["readAt"], &shown["deliveredAt"]), (&shown["interactedAt"], &shown["readAt"]), "{shown:#}");
            let topics: Vec<_> = shown["engagements"].as_array().unwrap().iter().map(|one| &one["topic"]).collect();
            assert_eq!(topics, ["clicked", "shared"]);
            let left = i64::from(*user == "ada");
            assert_eq!((shop.unread(user).await, count(&shop, user, "Transactional").await), (left, json!(0)), "{user}");
        }
        assert_eq!(item(&shop, &full).await["engagements"].as_array().unwrap().len(), 100);
    }

    async fn pages_that_come_together_are_each_answered_for_themselves(world) {
        let shop = Shop::open(&world).await;
        // More callers than share a transaction, each of whom tells twice of a page of three and an item of somebody else.
        let users: Vec<_> = (0..10).map(|number| format!("user-{number}")).collect();
        let named: Vec<_> = users.iter().map(String::as_str).collect();
        let mut sent = Vec::new();
        for template in ["plain", "order-shipped", "plain"] {
            sent.push(send(&shop, template, &named).await);
        }
        world.pass(MINUTE);
        let page = |user: usize| [&sent[0][user], &sent[1][user], &sent[2][user]];
        let told = join_all((0..20).map(async |call| {
            let (user, foreign) = (call % 10, &sent[0][(call + 1) % 10]);
            let ids: Vec<_> = page(user).into_iter().chain([foreign]).collect();
            let answer = shop.as_user(named[user], "MarkFeedItemsDelivered", json!({"ids": ids})).await;
            (user, answer.data().clone())
        }));
        let mut counts = [0; 10];
        for (user, answer) in told.await {
            counts[user] += answer["count"].as_i64().unwrap();
            let items: Vec<_> = answer["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
            let mut own = page(user).map(String::as_str);
            own.sort_unstable();
            assert_eq!(items, own, "{answer:#}");
        }
        assert_eq!(counts, [3; 10]);
        for (user, uid) in named.iter().enumerate() {
            assert_eq!(shop.unread(uid).await, 3);
            for id in page(user) {
                assert_eq!(item(&shop, id).await["deliveredAt"], "2024-01-15T12:01:00.000Z");
            }
        }
    }

    async fn a_delivered_item_says_so_and_stays_unread(world) {
        let shop = Shop::open(&world).await;
        let id = send(&shop, "order-shipped", &["ada"]).await.remove(0);
        world.pass(MINUTE);
        let delivered = mark(&shop, "ada", "MarkFeedItemDelivered", &id).await;
        assert_eq!(delivered.data()["status"], "delivered");
        assert_eq!(delivered.data().get("readAt"), None);
        assert_eq!((shop.unread("ada").await, count(&shop, "ada", "Transactional").await), (1, json!(1)));
        world.pass(MINUTE);
        let done = read(&shop, "ada", &id).await;
        assert_eq!(done.data()["status"], "read");
        assert_eq!(done.data()["deliveredAt"], delivered.data()["deliveredAt"]);
        world.pass(MINUTE);
        assert_eq!(mark(&shop, "ada", "MarkFeedItemDelivered", &id).await.data(), done.data());
        // What was read was delivered, also when nobody had said so.
        let id = send(&shop, "plain", &["ada"]).await.remove(0);
        let done = read(&shop, "ada", &id).await;
        assert_eq!(done.data()["deliveredAt"], done.data()["readAt"]);
    }

    async fn many_items_are_delivered_in_one_step_and_what_is_not_there_is_left_out(world) {
        let shop = Shop::open(&world).await;
        let mut mine = Vec::new();
        for _ in 0..3 {
            mine.extend(send(&shop, "plain", &["ada"]).await);
            world.pass(MINUTE);
        }
        let foreign = send(&shop, "plain", &["bob"]).await.remove(0);
        let deleted = send(&shop, "plain", &["ada"]).await.remove(0);
        mark(&shop, "ada", "DeleteFeedItem", &deleted).await.data();
        mark(&shop, "ada", "MarkFeedItemDelivered", &mine[0]).await.data();
        let first = item(&shop, &mine[0]).await["deliveredAt"].clone();
        world.pass(MINUTE);
        let named = json!({"ids": [&mine[1], &mine[0], &mine[1], foreign, deleted, "feed-00000000000000000000000000"]});
        let answer = shop.as_user("ada", "MarkFeedItemsDelivered", named.clone()).await;
        let now = "2024-01-15T12:04:00.000Z";
        let expected = json!({"count": 1, "items": [{"id": mine[0], "deliveredAt": first}, {"id": mine[1], "deliveredAt": now}]});
        assert_eq!(answer.data(), &expected);
        world.pass(MINUTE);
        let again = shop.as_user("ada", "MarkFeedItemsDelivered", named).await;
        assert_eq!((&again.data()["count"], &again.data()["items"]), (&json!(0), &expected["items"]));
        assert_eq!(item(&shop, &mine[1]).await["status"], "delivered");
        assert_eq!((item(&shop, &mine[2]).await["status"].clone(), item(&shop, &foreign).await["status"].clone()), (json!("sent"), json!("sent")));
        for (name, refused) in [
            ("none", json!({"ids": []})),
            ("malformed", json!({"ids": ["nope", mine[2], "feed-1"]})),
            ("too_many", json!({"ids": vec![&mine[2]; 101]})),
        ] {
            let refused = shop.as_user("ada", "MarkFeedItemsDelivered", refused).await;
            assert_json_snapshot!(format!("feed_delivered_{name}"), steady(&refused.refusal()));
        }
        assert_eq!(item(&shop, &mine[2]).await["status"], "sent");
    }

    async fn everything_is_read_at_once_or_one_category_of_it(world) {
        let shop = Shop::open(&world).await;
        let orders = send(&shop, "order-shipped", &["ada", "bob"]).await;
        send(&shop, "order-shipped", &["ada"]).await;
        let plain = send(&shop, "plain", &["ada"]).await.remove(0);
        let done = read(&shop, "ada", &orders[0]).await;
        world.pass(MINUTE);
        let all = async |parameters: Value| shop.as_user("ada", "MarkAllFeedItemsRead", parameters).await.data()["count"].clone();
        for nothing in ["Nothing", "transactional", "cat-00000000000000000000000000"] {
            assert_eq!(all(json!({"templateCategory": nothing})).await, 0, "{nothing}");
        }
        assert_eq!(shop.unread("ada").await, 2);
        assert_eq!(all(json!({"templateCategory": "Transactional"})).await, 1);
        assert_eq!((shop.unread("ada").await, count(&shop, "ada", "Transactional").await), (1, json!(0)));
        assert_eq!(all(json!({})).await, 1);
        assert_eq!(all(json!({})).await, 0);
        assert_eq!((shop.unread("ada").await, shop.unread("bob").await), (0, 1));
        assert_eq!(ids(&list(&shop, "ada", json!({"readState": "unread"})).await), [""; 0]);
        let plain = item(&shop, &plain).await;
        assert_eq!((&plain["status"], &plain["readAt"], &plain["deliveredAt"]), (&json!("read"), &json!("2024-01-15T12:01:00.000Z"), &json!("2024-01-15T12:01:00.000Z")));
        assert_eq!(item(&shop, &orders[0]).await, *done.data());
        let empty = shop.as_user("ada", "MarkAllFeedItemsRead", json!({"templateCategory": ""})).await;
        assert_eq!((empty.status, empty.code()), (400, "ERR_BAD_REQUEST"));
    }

    async fn a_repeated_mark_is_replayed_and_marks_nothing_more(world) {
        let shop = Shop::open(&world).await;
        let id = send(&shop, "plain", &["ada"]).await.remove(0);
        for (rpc, request) in [
            ("MarkFeedItemDelivered", json!({"feedItemId": id})),
            ("MarkFeedItemsDelivered", json!({"ids": [id]})),
            ("ReportFeedItemEngagement", json!({"feedItemId": id, "topic": "clicked"})),
            ("MarkAllFeedItemsRead", json!({})),
        ] {
            let once = shop.caller.on_behalf_of("ada").once(&format!("once-{rpc}"));
            let first = world.call(rpc, &once, request.clone()).await;
            assert_eq!((first.status, first.replayed), (200, false), "{first:#?}");
            send(&shop, "plain", &["ada"]).await;
            engage(&shop, &id, json!(format!("after-{rpc}"))).await.data();
            for door in [Door::Rest, Door::Grpc] {
                let again = call(&world.through(door), rpc, &once, &request).await;
                assert_eq!((again.replayed, &again.body), (true, &first.body), "{rpc}");
            }
        }
        // The item that came after everything was read is unread, however often that call was repeated.
        assert_eq!(shop.unread("ada").await, 1);
        let other = shop.caller.on_behalf_of("ada").once("once-MarkAllFeedItemsRead");
        let refused = world.call("MarkAllFeedItemsRead", &other, json!({"templateCategory": "Alerts"})).await;
        assert_eq!((refused.status, refused.code()), (409, "ERR_CONFLICT"));
    }

    async fn an_engagement_is_kept_once_per_topic_and_moves_nothing_else(world) {
        let shop = Shop::open(&world).await;
        let id = send(&shop, "order-shipped", &["ada"]).await.remove(0);
        world.pass(MINUTE);
        engage(&shop, &id, json!("clicked")).await.data();
        world.pass(MINUTE);
        engage(&shop, &id, Value::Null).await.data();
        let longest = "x".repeat(64);
        engage(&shop, &id, json!(longest)).await.data();
        world.pass(MINUTE);
        let again = engage(&shop, &id, json!("clicked")).await;
        assert_eq!(engage(&shop, &id, Value::Null).await.data(), again.data());
        assert_json_snapshot!("feed_item_engaged", steady(&again.body));
        assert_eq!(list(&shop, "ada", json!({})).await.data(), &json!([again.data()]));
        assert_eq!(item(&shop, &id).await, *again.data());
        assert_eq!((shop.unread("ada").await, count(&shop, "ada", "Transactional").await), (1, json!(1)));
        for bad in [json!(""), json!("a b"), json!("é"), json!("x".repeat(65))] {
            let refused = engage(&shop, &id, bad.clone()).await;
            assert_eq!((refused.status, refused.code()), (400, "ERR_BAD_REQUEST"), "{bad}");
        }
        for number in 3..100 {
            engage(&shop, &id, json!(format!("t{number}"))).await.data();
        }
        let full = engage(&shop, &id, json!("one-more")).await;
        assert_json_snapshot!("feed_item_topics_full", steady(&full.refusal()));
        assert_eq!(engage(&shop, &id, json!("t50")).await.data()["engagements"].as_array().unwrap().len(), 100);
    }

    async fn a_deleted_item_leaves_feed_and_counts(world) {
        let shop = Shop::open(&world).await;
        let items = send(&shop, "order-shipped", &["ada", "bob"]).await;
        let kept = send(&shop, "order-shipped", &["ada"]).await;
        world.pass(MINUTE);
        let deleted = mark(&shop, "ada", "DeleteFeedItem", &items[0]).await;
        assert_eq!(deleted.data(), &json!({"id": items[0], "deletedAt": "2024-01-15T12:01:00.000Z"}));
        assert_eq!((shop.unread("ada").await, count(&shop, "ada", "Transactional").await), (1, json!(1)));
        assert_eq!(ids(&list(&shop, "ada", json!({})).await), kept);
        assert_eq!(ids(&list(&shop, "ada", json!({"readState": "unread"})).await), kept);
        for (rpc, _) in MARKS.iter().filter(|(rpc, _)| *rpc != "DeleteFeedItem").chain(&[("GetFeedItem", "")]) {
            let gone = mark(&shop, "ada", rpc, &items[0]).await;
            assert_eq!((gone.status, gone.code()), (404, "ERR_FEED_ITEM_NOT_FOUND"), "{rpc}");
        }
        // The app deletes from any feed, read or not, and a second time changes nothing.
        read(&shop, "bob", &items[1]).await.data();
        let by_app = shop.call("DeleteFeedItem", json!({"feedItemId": items[1]})).await;
        world.pass(MINUTE);
        assert_eq!(shop.call("DeleteFeedItem", json!({"feedItemId": items[1]})).await.data(), by_app.data());
        assert_eq!(shop.call("DeleteFeedItem", json!({"feedItemId": items[0]})).await.data(), deleted.data());
        assert_eq!((shop.unread("bob").await, shop.unread("ada").await), (0, 1));
        let shown = shop.call("ListFeedItems", json!({"includeDeleted": true, "receiver": "ada"})).await;
        let times = shown.data().as_array().unwrap().iter().map(|item| (item["id"].clone(), item.get("deletedAt").cloned()));
        let times: std::collections::BTreeMap<_, _> = times.map(|(id, at)| (id.as_str().unwrap().to_owned(), at)).collect();
        assert_eq!(times, [(items[0].clone(), deleted.data().get("deletedAt").cloned()), (kept[0].clone(), None)].into());
    }
}
