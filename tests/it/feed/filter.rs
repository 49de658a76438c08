//! Which items a list holds: each filter, all of them together, and what it costs to ask for nonsense.

use std::time::Duration;

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use super::{MINUTE, ids, list, read, send};
use crate::everywhere;
use crate::support::rpc::Answer;
use crate::support::shop::{Shop, card};
use crate::support::world::World;

/// A shop with items of all kinds for ada: the ids, by a name for each.
struct Mixed {
    ids: Vec<(&'static str, String)>,
}

impl Mixed {
    /// Sends one item of each kind, a minute apart.
    async fn send(world: &World, shop: &Shop<'_>) -> Self {
        // Templates that name no channel go through the oldest, which a second one of the same instant might be.
        world.pass(Duration::from_millis(1));
        let inbox = json!({"channel": {"type": "in_app", "name": "Inbox", "channelId": "inbox", "enabled": true}});
        shop.call("CreateChannel", inbox).await.data();
        let by = |channel: &str| json!([{"channelType": "in_app", "channelId": channel, "content": card("x")}]);
        let hidden = json!([{"channelType": "in_app", "content": card("x"), "categoryFilterEnabled": false}]);
        for (name, differs) in [
            ("red", json!({"tags": ["red"], "templateCategory": "Alerts"})),
            (
                "blue",
                json!({"tags": ["blue", "odd \"tag\", 100%"], "templateCategory": "Alerts"}),
            ),
            ("both", json!({"tags": ["red", "blue"], "channels": by("inbox")})),
            (
                "hidden",
                json!({"tags": ["redder"], "templateCategory": "Alerts", "channels": hidden}),
            ),
        ] {
            shop.template(name, differs).await;
        }
        let mut ids = Vec::new();
        for name in ["red", "blue", "both", "hidden", "order-shipped"] {
            ids.push((name, send(shop, name, &["ada"]).await.remove(0)));
            world.pass(MINUTE);
        }
        Self { ids }
    }

    fn id(&self, name: &str) -> &str {
        &self.ids.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// The names of the items of an answer, in its order.
    fn names(&self, answer: &Answer) -> Vec<&'static str> {
        let name = |id: &String| self.ids.iter().find(|(_, known)| known == id).unwrap().0;
        ids(answer).iter().map(name).collect()
    }
}

/// Walks a whole list by cursor and gives the ids.
async fn walk(shop: &Shop<'_>, user: &str, parameters: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut asked = parameters.clone();
    loop {
        let page = list(shop, user, asked.clone()).await;
        found.extend(ids(&page));
        let Some(next) = page.body["meta"].get("next") else {
            return found;
        };
        asked = parameters.clone();
        asked.as_object_mut().unwrap().extend(next.as_object().unwrap().clone());
    }
}

everywhere! {
    async fn each_filter_finds_what_it_names_and_all_of_them_combine(world) {
        let shop = Shop::open(&world).await;
        let mixed = Mixed::send(&world, &shop).await;
        send(&shop, "red", &["bob"]).await;
        read(&shop, "ada", mixed.id("red")).await.data();
        let categories = shop.call("ListCategories", json!({"limit": 100})).await;
        let alerts = categories.data().as_array().unwrap().iter().find(|one| one["name"] == "Alerts").unwrap()["id"].clone();
        let channels = shop.call("ListChannels", json!({})).await;
        let inbox = channels.data().as_array().unwrap().iter().find(|one| one["channelId"] == "inbox").unwrap()["id"].clone();
        let all = ["order-shipped", "hidden", "both", "blue", "red"];
        for (parameters, expected) in [
            (json!({}), &all[..]),
            (json!({"tags": ["red"]}), &["both", "red"]),
            (json!({"tags": ["red", "blue"]}), &["both", "blue", "red"]),
            (json!({"tags": ["red", "blue"], "tagMatch": "any"}), &["both", "blue", "red"]),
            (json!({"tags": ["red", "blue"], "tagMatch": "all"}), &["both"]),
            (json!({"tags": ["red", "red"], "tagMatch": "all"}), &["both", "red"]),
            (json!({"tagMatch": "all"}), &all),
            (json!({"tags": ["RED"]}), &[]),
            (json!({"tags": ["%"]}), &[]),
            (json!({"templateCategory": "Alerts"}), &["blue", "red"]),
            (json!({"templateCategory": alerts}), &["blue", "red"]),
            (json!({"templateCategory": "Nothing"}), &[]),
            (json!({"templateCategory": "cat-00000000000000000000000000"}), &[]),
            (json!({"channelId": "inbox"}), &["both"]),
            (json!({"channelId": inbox}), &["both"]),
            (json!({"channelId": "bell"}), &["order-shipped", "hidden", "blue", "red"]),
            (json!({"channelId": "nowhere"}), &[]),
            (json!({"dateFrom": "2024-01-15T12:01:00.001Z"}), &["order-shipped", "hidden", "both", "blue"]),
            (json!({"dateTo": "2024-01-15T12:01:00.001Z"}), &["blue", "red"]),
            (json!({"dateTo": "2024-01-15T12:01:00.000Z"}), &["red"]),
            (json!({"dateFrom": "2024-01-15T12:01:00.002Z", "dateTo": "2024-01-15T12:03:00.000Z"}), &["both"]),
            (json!({"dateFrom": "2024-01-15T12:01:00.001Z", "dateTo": "2024-01-15T12:01:00.001Z"}), &["blue"]),
            (json!({"readState": "unread", "tags": ["red", "blue"]}), &["both", "blue"]),
            (json!({"readState": "read", "templateCategory": "Alerts", "channelId": "bell", "tags": ["red"],
                "tagMatch": "all", "dateTo": "2024-01-15T12:00:01Z", "includeExpired": true}), &["red"]),
            (json!({"readState": "unread", "templateCategory": "Alerts", "channelId": "bell", "tags": ["red"]}), &[]),
        ] {
            let found = list(&shop, "ada", parameters.clone()).await;
            assert_eq!(mixed.names(&found), expected, "{parameters}");
            let page = list(&shop, "ada", {
                let mut by_page = parameters.clone();
                by_page["page"] = json!(1);
                by_page
            }).await;
            assert_eq!(ids(&page), ids(&found), "{parameters} by page");
            assert_eq!(page.body["pagination"]["total"], expected.len(), "{parameters}");
        }
        assert_eq!(shop.call("ListFeedItems", json!({"tags": ["red"]})).await.data().as_array().unwrap().len(), 3);
        let of_bob = shop.call("ListFeedItems", json!({"tags": ["red"], "receiver": "bob"})).await;
        assert_eq!(of_bob.data()[0]["receiver"], "bob");
    }

    async fn a_filtered_list_is_walked_without_gap_or_repeat_where_instants_tie(world) {
        let shop = Shop::open(&world).await;
        shop.template("red", json!({"tags": ["red"]})).await;
        let mut sent = Vec::new();
        // Seven items of one instant, five of the next, of which every other one passes.
        for round in 0..12 {
            if round == 7 {
                world.pass(Duration::from_millis(1));
            }
            let template = if round % 2 == 0 { "red" } else { "plain" };
            let id = send(&shop, template, &["ada"]).await.remove(0);
            sent.push((template, round >= 7, id));
        }
        let mut red: Vec<_> = sent.iter().filter(|(template, ..)| *template == "red").map(|(_, late, id)| (*late, id.clone())).collect();
        red.sort();
        let ascending: Vec<_> = red.into_iter().map(|(_, id)| id).collect();
        let descending: Vec<_> = ascending.iter().rev().cloned().collect();
        for (order, expected) in [("asc", ascending), ("desc", descending)] {
            for sort in ["sentAt", "createdAt"] {
                for limit in [1, 2, 4] {
                    let parameters = json!({"tags": ["red"], "readState": "unread", "order": order, "sort": sort, "limit": limit});
                    assert_eq!(walk(&shop, "ada", &parameters).await, expected, "{parameters}");
                }
            }
            let mut by_page = Vec::new();
            for page in 1..=3 {
                by_page.extend(ids(&list(&shop, "ada", json!({"tags": ["red"], "order": order, "limit": 2, "page": page})).await));
            }
            assert_eq!(by_page, expected);
        }
        let as_app = shop.call("ListFeedItems", json!({"limit": 100, "order": "asc"})).await;
        assert_eq!(as_app.data().as_array().unwrap().len(), 12);
    }

    async fn what_has_expired_is_listed_to_whoever_asks_and_what_was_deleted_to_the_app_alone(world) {
        let shop = Shop::open(&world).await;
        let expiring = send(&shop, "order-shipped", &["ada"]).await.remove(0);
        let lasting = send(&shop, "plain", &["ada"]).await.remove(0);
        shop.as_user("ada", "DeleteFeedItem", json!({"feedItemId": lasting})).await.data();
        world.pass(MINUTE * 60 * 48);
        assert_eq!(ids(&list(&shop, "ada", json!({})).await), [""; 0]);
        assert_eq!(ids(&list(&shop, "ada", json!({"includeExpired": true})).await), [expiring.as_str()]);
        assert_eq!(ids(&list(&shop, "ada", json!({"includeExpired": true, "readState": "unread"})).await), [expiring.as_str()]);
        assert_eq!(ids(&list(&shop, "ada", json!({"includeDeleted": false})).await), [""; 0]);
        let as_app = async |parameters: Value| ids(&shop.call("ListFeedItems", parameters).await);
        assert_eq!(as_app(json!({"includeDeleted": true})).await, [lasting.as_str()]);
        assert_eq!(as_app(json!({"includeDeleted": true, "receiver": "ada", "readState": "unread"})).await, [lasting.as_str()]);
        let mut both = as_app(json!({"includeDeleted": true, "includeExpired": true})).await;
        both.sort();
        let mut expected = vec![expiring, lasting];
        expected.sort();
        assert_eq!(both, expected);
        let refused = list(&shop, "ada", json!({"includeDeleted": true})).await;
        assert_json_snapshot!("feed_list_deleted_for_a_user", refused.refusal());
    }

    async fn a_template_is_answered_instead_of_content_when_it_was_asked_for(world) {
        let shop = Shop::open(&world).await;
        let item = send(&shop, "order-shipped", &["ada"]).await.remove(0);
        let whole = shop.as_user("ada", "GetFeedItem", json!({"feedItemId": item})).await;
        let mut expected = whole.data().clone();
        expected.as_object_mut().unwrap().remove("content").unwrap();
        assert_eq!((&expected["templateVersion"], &expected["variables"]["code"]), (&json!(1), &json!("1234")));
        let slim = shop.as_user("ada", "GetFeedItem", json!({"feedItemId": item, "templateOnly": true})).await;
        assert_eq!(slim.data(), &expected);
        assert_eq!(list(&shop, "ada", json!({"templateOnly": true})).await.data(), &json!([expected]));
        assert_eq!(list(&shop, "ada", json!({"templateOnly": false})).await.data(), &json!([whole.data()]));
    }

    async fn a_list_is_not_filtered_by_nonsense(world) {
        let shop = Shop::open(&world).await;
        for (name, parameters) in [
            ("dates", json!({"dateFrom": "2024-01-15T12:00:01Z", "dateTo": "2024-01-15T12:00:00Z"})),
            ("filters", json!({"tags": ["", "x".repeat(101)], "templateCategory": "", "channelId": "A b", "receiver": "ä"})),
        ] {
            let refused = list(&shop, "ada", parameters).await;
            assert_json_snapshot!(format!("feed_list_{name}"), refused.refusal());
        }
    }
}
