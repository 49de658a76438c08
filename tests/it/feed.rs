//! The feed: what a user sees of it, what is unread, and what reading does. Filters are in `feed/filter.rs`, all marks in
//! `feed/mark.rs`. That counts and states agree with a simple model whatever happens is in `feed/random.rs`, that they hold
//! while everything happens at once in `feed/race.rs`, what the sweep does in `feed/retention.rs`, and how all of it stays
//! fast in `feed/fast.rs`.

mod fast;
mod filter;
mod mark;
mod race;
mod random;
mod retention;

use std::time::Duration;

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::everywhere;
use crate::support::rpc::Answer;
use crate::support::shop::{Shop, card};
use crate::support::world::{World, call, steady};

const MINUTE: Duration = Duration::from_secs(60);

/// Sends a template to users and gives the ids of their feed items.
async fn send(shop: &Shop<'_>, template: &str, users: &[&str]) -> Vec<String> {
    let request = json!({"templateId": template, "receivers": users, "defaults": {"code": "1234"}});
    let sent = shop.call("SendNotification", request).await;
    let receivers = sent.data()["receivers"].as_array().unwrap();
    let item = |receiver: &Value| receiver["deliveries"][0]["feedItemId"].as_str().unwrap().to_owned();
    receivers.iter().map(item).collect()
}

/// Sends a template to one user so often, a minute apart, and gives the ids of the items, the newest first.
async fn send_some(world: &World, shop: &Shop<'_>, user: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.extend(send(shop, "plain", &[user]).await);
        world.pass(MINUTE);
    }
    ids.reverse();
    ids
}

fn ids(answer: &Answer) -> Vec<String> {
    let rows = answer.data().as_array().unwrap();
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

async fn list(shop: &Shop<'_>, user: &str, parameters: Value) -> Answer {
    shop.as_user(user, "ListFeedItems", parameters).await
}

async fn read(shop: &Shop<'_>, user: &str, id: &str) -> Answer {
    shop.as_user(user, "MarkFeedItemRead", json!({"feedItemId": id})).await
}

async fn count(shop: &Shop<'_>, user: &str, category: &str) -> Value {
    let parameters = json!({"templateCategory": category});
    shop.as_user(user, "GetUnreadCount", parameters).await.data()["count"].clone()
}

everywhere! {
    async fn an_item_shows_what_was_sent_with_its_variables_filled_in(world) {
        let shop = Shop::open(&world).await;
        let items = send(&shop, "order-shipped", &["ada"]).await;
        let found = shop.as_user("ada", "GetFeedItem", json!({"feedItemId": items[0]})).await;
        assert_json_snapshot!("feed_item", steady(&found.body));
        let listed = list(&shop, "ada", json!({})).await;
        assert_json_snapshot!("feed_list", steady(&listed.body["meta"]));
        assert_eq!(listed.data(), &json!([found.data()]));
    }

    async fn what_was_sent_stays_as_it_was_when_the_template_changes(world) {
        let shop = Shop::open(&world).await;
        let items = send(&shop, "order-shipped", &["ada"]).await;
        let item = async || shop.as_user("ada", "GetFeedItem", json!({"feedItemId": items[0]})).await;
        let before = item().await;
        shop.call("UpdateTemplate", json!({"templateId": "order-shipped", "template": {
            "name": "Other", "templateCategory": "Alerts", "label": "Other", "alternativeText": "Other", "tags": ["other"],
            "channels": [{"channelType": "in_app", "content": card("other")}], "variableSchema": [],
        }})).await.data();
        assert_eq!(item().await, before);
        shop.call("UpdateTemplate", json!({"templateId": "order-shipped", "template": {"status": "archived"}})).await.data();
        assert_eq!(item().await, before);
        assert_eq!(shop.unread("ada").await, 1);
    }

    async fn a_value_cannot_change_the_shape_of_a_card(world) {
        let shop = Shop::open(&world).await;
        let sly = "\"}],\"body\":[{{code}}\u{1}\\";
        let request = json!({"templateId": "order-shipped", "receivers": ["ada"], "defaults": {"code": sly, "name": "<b>"}});
        shop.call("SendNotification", request).await.data();
        let feed = list(&shop, "ada", json!({})).await;
        let body = &feed.data()[0]["content"]["body"];
        assert_eq!(body.as_array().unwrap().len(), 1);
        assert_eq!(body[0]["content"], format!("Hello <b>, your code is {sly}. {{{{unknown}}}}"));
    }

    async fn a_feed_is_walked_by_cursor_and_by_page_in_both_orders(world) {
        let shop = Shop::open(&world).await;
        let sent = send_some(&world, &shop, "ada", 5).await;
        send(&shop, "plain", &["bob"]).await;

        let first = list(&shop, "ada", json!({"limit": 2})).await;
        assert_eq!(ids(&first), sent[..2]);
        assert_eq!(first.body.get("pagination"), None);
        assert_eq!(first.body["meta"].get("previous"), None);
        let mut next = first.body["meta"]["next"].clone();
        next["limit"] = json!(2);
        let second = list(&shop, "ada", next).await;
        assert_eq!(ids(&second), sent[2..4]);
        let mut previous = second.body["meta"]["previous"].clone();
        previous["limit"] = json!(2);
        assert_eq!(ids(&list(&shop, "ada", previous).await), sent[..2]);

        let page = list(&shop, "ada", json!({"page": 3, "limit": 2})).await;
        assert_eq!(ids(&page), sent[4..]);
        assert_eq!(page.body["pagination"], json!({"page": 3, "limit": 2, "total": 5, "totalPages": 3}));

        let mut oldest_first = sent.clone();
        oldest_first.reverse();
        assert_eq!(ids(&list(&shop, "ada", json!({"order": "asc"})).await), oldest_first);
        assert_eq!(ids(&list(&shop, "ada", json!({"sort": "createdAt"})).await), sent);
    }

    async fn a_feed_is_filtered_by_what_was_read(world) {
        let shop = Shop::open(&world).await;
        let sent = send_some(&world, &shop, "ada", 3).await;
        read(&shop, "ada", &sent[1]).await.data();
        assert_eq!(ids(&list(&shop, "ada", json!({"readState": "read"})).await), [sent[1].as_str()]);
        assert_eq!(ids(&list(&shop, "ada", json!({"readState": "unread"})).await), [sent[0].as_str(), sent[2].as_str()]);
        assert_eq!(ids(&list(&shop, "ada", json!({"readState": "all"})).await), sent);
    }

    async fn an_app_sees_all_feeds_or_that_of_a_receiver_and_a_user_only_their_own(world) {
        let shop = Shop::open(&world).await;
        let both = send(&shop, "plain", &["ada", "bob"]).await;
        let all = shop.call("ListFeedItems", json!({})).await;
        assert_eq!(all.data().as_array().unwrap().len(), 2);
        let of_bob = shop.call("ListFeedItems", json!({"receiver": "BOB"})).await;
        assert_eq!(ids(&of_bob), [both[1].as_str()]);
        assert_eq!(of_bob.data()[0]["receiver"], "bob");
        assert_eq!(ids(&list(&shop, "ada", json!({"receiver": "bob"})).await), [both[0].as_str()]);
        assert_eq!(shop.call("ListFeedItems", json!({"receiver": "nobody"})).await.data(), &json!([]));
        assert_eq!(shop.call("GetUnreadCount", json!({"receiver": "bob"})).await.data()["count"], 1);
        assert_eq!(shop.call("GetUnreadCount", json!({"receiver": "nobody"})).await.data()["count"], 0);
        assert_eq!(shop.call("GetUser", json!({"uid": "nobody"})).await.status, 404);

        let other = world.tenant("other").await;
        assert_eq!(world.call("ListFeedItems", &other.caller, json!({})).await.data(), &json!([]));
        let stolen = world.call("GetFeedItem", &other.caller, json!({"feedItemId": both[0]})).await;
        assert_eq!((stolen.status, stolen.code()), (404, "ERR_FEED_ITEM_NOT_FOUND"));
    }

    async fn an_item_of_another_user_does_not_exist(world) {
        let shop = Shop::open(&world).await;
        let items = send(&shop, "plain", &["ada"]).await;
        assert_eq!(shop.unread("bob").await, 0);
        let before = shop.rows().await;
        let foreign = shop.as_user("bob", "GetFeedItem", json!({"feedItemId": items[0]})).await;
        assert_eq!((foreign.status, foreign.code()), (404, "ERR_FEED_ITEM_NOT_FOUND"));
        let foreign = read(&shop, "bob", &items[0]).await;
        assert_eq!((foreign.status, foreign.code()), (404, "ERR_FEED_ITEM_NOT_FOUND"));
        let unknown = read(&shop, "ada", "feed-00000000000000000000000000").await;
        assert_json_snapshot!("feed_item_not_found", unknown.refusal());
        let malformed = read(&shop, "ada", "nope").await;
        assert_json_snapshot!("feed_item_malformed", malformed.refusal());
        let as_app = shop.call("MarkFeedItemRead", json!({"feedItemId": items[0]})).await;
        assert_eq!((as_app.status, as_app.code()), (400, "ERR_BAD_REQUEST"));
        assert_eq!(shop.rows().await, before);
        assert_eq!(shop.unread("ada").await, 1);
        let found = shop.call("GetFeedItem", json!({"feedItemId": items[0]})).await;
        assert_eq!(found.data()["status"], "sent");
    }

    async fn reading_marks_once_implies_delivery_and_lowers_the_count(world) {
        let shop = Shop::open(&world).await;
        let items = send(&shop, "order-shipped", &["ada"]).await;
        send(&shop, "plain", &["ada"]).await;
        world.pass(MINUTE);
        let first = read(&shop, "ada", &items[0]).await;
        assert_json_snapshot!("feed_item_read", steady(&first.body));
        assert_eq!((shop.unread("ada").await, count(&shop, "ada", "Transactional").await), (1, json!(0)));
        world.pass(MINUTE);
        let again = read(&shop, "ada", &items[0]).await;
        assert_eq!(again.body, first.body);
        assert!(!again.replayed);
        assert_eq!((shop.unread("ada").await, count(&shop, "ada", "Transactional").await), (1, json!(0)));
        assert_eq!(shop.as_user("ada", "GetFeedItem", json!({"feedItemId": items[0]})).await.data(), first.data());
    }

    async fn a_repeated_read_is_replayed_through_either_door(world) {
        let shop = Shop::open(&world).await;
        let items = send(&shop, "plain", &["ada"]).await;
        let once = shop.caller.on_behalf_of("ada").once("read-1");
        let request = json!({"feedItemId": items[0]});
        let first = world.call("MarkFeedItemRead", &once, request.clone()).await;
        for door in [Door::Rest, Door::Grpc] {
            let again = call(&world.through(door), "MarkFeedItemRead", &once, &request).await;
            assert_eq!((again.replayed, &again.body), (true, &first.body));
        }
    }

    async fn readers_at_once_lower_the_count_once(world) {
        let shop = Shop::open(&world).await;
        let items = send_some(&world, &shop, "ada", 3).await;
        let reads = (0..9).map(|turn| read(&shop, "ada", &items[turn % 2]));
        let sends = (0..4).map(|_| send(&shop, "plain", &["ada", "bob"]));
        let (reads, _) = futures::future::join(futures::future::join_all(reads), futures::future::join_all(sends)).await;
        assert!(reads.iter().all(|answer| answer.status == 200), "{reads:#?}");
        assert_eq!(shop.unread("ada").await, 5);
    }

    async fn unread_items_are_counted_by_category(world) {
        let shop = Shop::open(&world).await;
        let category = shop.call("ListCategories", json!({"limit": 100})).await;
        let categories = category.data().as_array().unwrap();
        let alerts = categories.iter().find(|one| one["name"] == "Alerts").unwrap()["id"].as_str().unwrap();
        shop.template("alert", json!({"templateCategory": "Alerts"})).await;
        shop.template("unfiltered", json!({"templateCategory": "Alerts", "channels": [
            {"channelType": "in_app", "content": card("x"), "categoryFilterEnabled": false},
        ]})).await;
        for template in ["alert", "alert", "unfiltered", "order-shipped", "plain"] {
            send(&shop, template, &["ada"]).await;
        }
        assert_eq!(shop.unread("ada").await, 5);
        for (category, expected) in [("Alerts", 2), (alerts, 2), ("Transactional", 1), ("alerts", 0), ("Nothing", 0), ("cat-00000000000000000000000000", 0)] {
            assert_eq!(count(&shop, "ada", category).await, expected, "{category}");
        }
        // Renaming follows in the count, and what was sent keeps its copy.
        shop.call("UpdateCategory", json!({"categoryId": alerts, "category": {"name": "Alarms"}})).await.data();
        assert_eq!((count(&shop, "ada", "Alarms").await, count(&shop, "ada", "Alerts").await), (json!(2), json!(0)));
        let feed = list(&shop, "ada", json!({})).await;
        let names = feed.data().as_array().unwrap().iter().filter(|item| item["category"] == "Alerts");
        assert_eq!(names.count(), 3);
    }

    async fn the_label_is_shown_only_where_the_template_says_so(world) {
        let shop = Shop::open(&world).await;
        shop.template("unlabelled", json!({"label": "Secret", "channels": [
            {"channelType": "in_app", "content": card("x"), "templateLabelEnabled": false},
        ]})).await;
        send(&shop, "unlabelled", &["ada"]).await;
        assert_eq!(list(&shop, "ada", json!({})).await.data()[0].get("label"), None);
    }

    async fn an_item_leaves_feed_and_count_when_it_expires(world) {
        let shop = Shop::open(&world).await;
        let items = send(&shop, "order-shipped", &["ada", "bob"]).await;
        let kept = send(&shop, "plain", &["ada"]).await;
        read(&shop, "bob", &items[1]).await.data();
        world.pass(MINUTE * 60 * 48 - Duration::from_millis(1));
        assert_eq!((shop.unread("ada").await, count(&shop, "ada", "Transactional").await), (2, json!(1)));
        world.pass(Duration::from_millis(1));
        assert_eq!((shop.unread("ada").await, count(&shop, "ada", "Transactional").await), (1, json!(0)));
        assert_eq!((shop.unread("bob").await, ids(&list(&shop, "bob", json!({})).await).len()), (0, 0));
        assert_eq!(ids(&list(&shop, "ada", json!({})).await), kept);
        assert_eq!(ids(&shop.call("ListFeedItems", json!({})).await), kept);
        let expired = shop.as_user("ada", "GetFeedItem", json!({"feedItemId": items[0]})).await;
        assert_eq!(expired.data()["expiresAt"], "2024-01-17T12:00:00.000Z");
        // Whoever still has it on the screen may read it, and the count stays right.
        read(&shop, "ada", &items[0]).await.data();
        assert_eq!((shop.unread("ada").await, count(&shop, "ada", "Transactional").await), (1, json!(0)));
    }

    async fn reading_the_feed_shows_that_a_user_is_there(world) {
        let shop = Shop::open(&world).await;
        let items = send(&shop, "plain", &["ada"]).await;
        let status = async || shop.call("GetUser", json!({"uid": "ada"})).await.data()["status"].clone();
        assert_eq!(status().await, "offline");
        for (rpc, request) in [
            ("ListFeedItems", json!({})),
            ("GetUnreadCount", json!({})),
            ("GetFeedItem", json!({"feedItemId": items[0]})),
            ("MarkFeedItemRead", json!({"feedItemId": items[0]})),
        ] {
            world.pass(MINUTE * 3);
            assert_eq!(status().await, "offline", "before {rpc}");
            shop.as_user("ada", rpc, request).await.data();
            assert_eq!(status().await, "online", "after {rpc}");
        }
    }

    async fn a_feed_is_read_even_when_nothing_can_be_noted_about_its_reader(world) {
        let shop = Shop::open(&world).await;
        let items = send(&shop, "plain", &["ada"]).await;
        fast::refuse_changes(&world.store().await, "users").await;
        assert_eq!(ids(&list(&shop, "ada", json!({})).await), items);
        assert_eq!(shop.unread("ada").await, 1);
        assert_eq!(shop.call("GetUser", json!({"uid": "ada"})).await.data()["status"], "offline");
    }

    async fn an_item_keeps_the_values_that_its_card_names_and_no_others(world) {
        let shop = Shop::open(&world).await;
        let request = json!({"templateId": "order-shipped", "receivers": ["ada"],
            "defaults": {"code": "1234", "unused": "a"}, "variables": {"ada": {"secret": "b", "name": "Ada"}}});
        shop.call("SendNotification", request).await.data();
        let feed = list(&shop, "ada", json!({})).await;
        assert_eq!(feed.data()[0]["variables"], json!({"code": "1234", "name": "Ada"}));
        assert_eq!(feed.data()[0]["content"]["body"][0]["content"], "Hello Ada, your code is 1234. {{unknown}}");
    }

    async fn a_category_that_is_named_like_the_id_of_another_is_counted_by_its_name(world) {
        let shop = Shop::open(&world).await;
        let made = async |name: &str| {
            let made = shop.call("CreateCategory", json!({"category": {"name": name}})).await;
            made.data()["id"].as_str().unwrap().to_owned()
        };
        let first = made("First").await;
        shop.template("first", json!({"templateCategory": first})).await;
        send(&shop, "first", &["ada"]).await;
        assert_eq!(count(&shop, "ada", &first).await, 1);
        made(&first).await;
        assert_eq!(count(&shop, "ada", &first).await, 0);
    }

    async fn an_unknown_user_is_made_when_acted_for_and_a_deactivated_one_refused(world) {
        let shop = Shop::open(&world).await;
        assert_eq!(list(&shop, "New", json!({})).await.data(), &json!([]));
        assert_eq!(shop.call("GetUser", json!({"uid": "new"})).await.status, 200);
        shop.call("DeactivateUser", json!({"uid": "new"})).await.data();
        for (rpc, request) in [("ListFeedItems", json!({})), ("GetUnreadCount", json!({}))] {
            let refused = shop.as_user("new", rpc, request).await;
            assert_eq!((refused.status, refused.code()), (404, "ERR_USER_NOT_FOUND"), "{rpc}");
        }
    }

    async fn what_a_list_cannot_be_asked_for_is_refused(world) {
        let shop = Shop::open(&world).await;
        let item = &send(&shop, "plain", &["ada"]).await[0];
        for (name, parameters) in [
            ("bounds", json!({"limit": 0, "page": 0, "receiver": "a b"})),
            ("cursor_and_page", json!({"page": 1, "sentAt": "2024-01-15T12:00:00.000Z", "id": item})),
            ("cursor_of_another_sort", json!({"sort": "sentAt", "createdAt": "2024-01-15T12:00:00.000Z", "id": item})),
            ("half_a_cursor", json!({"sentAt": "2024-01-15T12:00:00.000Z"})),
            ("cursor_of_another_kind", json!({"sentAt": "2024-01-15T12:00:00.000Z", "id": "tmpl-00000000000000000000000000"})),
            ("too_far", json!({"page": 101, "limit": 100})),
        ] {
            let refused = list(&shop, "ada", parameters).await;
            assert_json_snapshot!(format!("feed_list_{name}"), refused.refusal());
        }
        let refused = shop.call("GetUnreadCount", json!({})).await;
        assert_json_snapshot!("feed_count_of_nobody", refused.refusal());
    }
}
