//! What a later build wrote: rows with words that this one does not know are answered with their numbers, and nothing that
//! it cannot judge is sent or moved on.

use serde_json::{Value, json};

use crate::everywhere;
use crate::support::shop::Shop;
use crate::support::world::World;

/// A number that no word has.
const LATER: i64 = 77;

async fn write(world: &World, statements: &'static [&'static str]) {
    let store = world.store().await;
    store
        .write(move |tx| {
            Box::pin(async move {
                use sea_orm::ConnectionTrait as _;
                for sql in statements {
                    assert_ne!(tx.execute_unprepared(sql).await?.rows_affected(), 0, "{sql}");
                }
                Ok(())
            })
        })
        .await
        .unwrap();
    store.close().await;
}

async fn sent(shop: &Shop<'_>) -> Value {
    let request = json!({"templateId": "plain", "receivers": ["ada"]});
    shop.call("SendNotification", request).await.data()["notificationId"].clone()
}

everywhere! {
    async fn a_channel_of_an_unknown_type_is_listed_changed_and_not_sent_through(world) {
        let shop = Shop::open(&world).await;
        let phones = json!({"channel": {"type": "push", "name": "Phones", "channelId": "phones"}});
        shop.call("CreateChannel", phones).await.data();
        write(&world, &["UPDATE channels SET type = 77 WHERE slug = 'bell'"]).await;
        assert_eq!(shop.call("GetChannel", json!({"channelId": "bell"})).await.data()["type"], LATER);
        // Each has its place in the order by type, and the cursor finds it again.
        let first = shop.call("ListChannels", json!({"sort": "channelType", "order": "desc", "limit": 1})).await;
        assert_eq!((&first.data()[0]["type"], &first.body["pagination"]["total"]), (&json!(LATER), &json!(2)));
        let mut next = first.body["meta"]["next"].clone();
        next["order"] = json!("desc");
        let second = shop.call("ListChannels", next).await;
        assert_eq!((second.data()[0]["type"].as_str(), second.body["meta"].get("next")), (Some("push"), None));
        let mut previous = second.body["meta"]["previous"].clone();
        previous["order"] = json!("desc");
        assert_eq!(shop.call("ListChannels", previous).await.data()[0]["type"], LATER);

        let rows = shop.call("GetChannelAvailability", json!({})).await;
        let used: Vec<_> = rows.data().as_array().unwrap().iter().map(|row| row["used"].as_i64().unwrap()).collect();
        assert_eq!(used, [0, 1, 0, 0, 0, 0]);
        let renamed = json!({"channelId": "bell", "channel": {"name": "Later", "enabled": false}});
        let renamed = shop.call("UpdateChannel", renamed).await;
        assert_eq!((&renamed.data()["name"], &renamed.data()["type"]), (&json!("Later"), &json!(LATER)));
        let refused = shop.call("SendNotification", json!({"templateId": "plain", "receivers": ["ada"]})).await;
        assert_eq!((refused.status, refused.code()), (400, "ERR_INVALID_STATE"));
    }

    async fn a_template_in_an_unknown_state_is_shown_renamed_and_not_sent(world) {
        let shop = Shop::open(&world).await;
        write(&world, &["UPDATE templates SET status = 77 WHERE slug = 'plain'"]).await;
        let template = shop.call("GetTemplate", json!({"templateId": "plain"})).await;
        assert_eq!(template.data()["status"], LATER);
        let listed = shop.call("ListTemplates", json!({"search": "plain"})).await;
        assert_eq!(listed.data()[0]["status"], LATER);
        let renamed = json!({"templateId": "plain", "template": {"name": "Renamed"}});
        let renamed = shop.call("UpdateTemplate", renamed).await;
        assert_eq!((&renamed.data()["name"], &renamed.data()["status"]), (&json!("Renamed"), &json!(LATER)));
        let before = shop.rows().await;
        let moved = shop.call("UpdateTemplate", json!({"templateId": "plain", "template": {"status": "approved"}})).await;
        assert_eq!((moved.status, moved.code()), (400, "ERR_INVALID_STATE"));
        assert_eq!(moved.body["error"]["details"]["state"], "77");
        let refused = shop.call("SendNotification", json!({"templateId": "plain", "receivers": ["ada"]})).await;
        assert_eq!((refused.status, refused.code()), (400, "ERR_TEMPLATE_NOT_APPROVED"));
        assert_eq!(refused.body["error"]["details"]["status"], "77");
        assert_eq!(shop.rows().await, before);
    }

    async fn content_for_an_unknown_type_is_shown_and_fails_alone(world) {
        let shop = Shop::open(&world).await;
        // As a later build writes it: words that others know as words, its own as numbers.
        write(&world, &[
            "UPDATE template_versions SET channels = REPLACE(channels, '\"in_app\"', '77') WHERE channels LIKE '%\"plain\"%'",
            "UPDATE template_versions SET channels = REPLACE(channels, '\"ui_template\"', '77') WHERE channels LIKE '%77%'",
        ]).await;
        let template = shop.call("GetTemplate", json!({"templateId": "plain"})).await;
        let content = &template.data()["channels"][0];
        assert_eq!((&content["channelType"], &content["dataType"]), (&json!(LATER), &json!(LATER)));
        assert_eq!(shop.call("ListTemplates", json!({})).await.data().as_array().unwrap().len(), 2);
        let request = json!({"templateId": "plain", "receivers": ["ada"]});
        let answer = shop.call("SendNotification", request).await;
        let delivery = &answer.data()["receivers"][0]["deliveries"][0];
        assert_eq!((&delivery["channelType"], &delivery["reason"]), (&json!(LATER), &json!("provider_not_configured")));
        assert_eq!(answer.data()["channels"], json!([LATER]));
    }

    async fn a_notification_and_its_feed_items_are_shown_with_numbers(world) {
        let shop = Shop::open(&world).await;
        let id = sent(&shop).await;
        write(&world, &[
            "UPDATE notifications SET mode = 77, status = 77, data_type = 77",
            "UPDATE deliveries SET status = 77, channel_type = 77",
            "UPDATE notification_recipients SET outcome = 77",
            "UPDATE feed_items SET data_type = 77",
        ]).await;
        let notification = shop.call("GetNotification", json!({"notificationId": id})).await;
        let data = notification.data();
        assert_eq!((&data["mode"], &data["status"], &data["dataType"]), (&json!("77"), &json!(LATER), &json!(LATER)));
        let delivery = &data["receivers"][0]["deliveries"][0];
        assert_eq!((&delivery["status"], &delivery["channelType"]), (&json!(LATER), &json!(LATER)));
        let feed = shop.as_user("ada", "ListFeedItems", json!({})).await;
        assert_eq!(feed.data()[0]["dataType"], LATER);
        let item = json!({"feedItemId": feed.data()[0]["id"]});
        assert_eq!(shop.as_user("ada", "GetFeedItem", item).await.data()["dataType"], LATER);
    }
}
