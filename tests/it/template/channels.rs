//! One channel type of a template at a time: set, added, removed, and the sequence that they make together.

use std::collections::BTreeSet;

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use super::{create, get, least, update, versions};
use crate::everywhere;
use crate::support::rpc::{Answer, Door};
use crate::support::world::{Tenant, World, call, steady};

async fn set(world: &World, shop: &Tenant, channel_type: &str, channel: Value) -> Answer {
    let request = json!({"templateId": "order", "channelType": channel_type, "channel": channel});
    world.call("SetTemplateChannel", &shop.caller, request).await
}

async fn remove(world: &World, shop: &Tenant, channel_type: &str) -> Answer {
    let request = json!({"templateId": "order", "channelType": channel_type});
    world.call("RemoveTemplateChannel", &shop.caller, request).await
}

fn types(template: &Value) -> Vec<&str> {
    let channels = template["channels"].as_array().unwrap().iter();
    channels
        .map(|channel| channel["channelType"].as_str().unwrap())
        .collect()
}

/// Where the door has the fields of the channel type: at the root over REST.
fn places(world: &World, answer: &Answer) -> Vec<String> {
    let details = answer.body["error"]["details"].as_object().unwrap();
    let root = match world.client.door {
        Door::Grpc => "channel.",
        Door::Rest => "",
    };
    let places = details
        .keys()
        .map(|place| place.strip_prefix(root).unwrap_or(place).to_owned());
    places.collect::<BTreeSet<_>>().into_iter().collect()
}

everywhere! {
    async fn content_and_settings_of_one_channel_type_are_set_and_the_rest_stays(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, least("order")).await.data();
        let push = json!({"content": {"title": "Sent", "body": "Hello {{name}}"}});
        let added = set(&world, &shop, "push", push).await;
        assert_json_snapshot!("template_channel_added", steady(&added.body));
        // What is not named stays, null clears, and what has a default takes it.
        let settings = json!({"categoryFilterEnabled": false, "messageRetentionHours": 24, "dataType": "data_template", "content": {"any": [1]}});
        let changed = set(&world, &shop, "in_app", settings).await.data()["channels"][0].clone();
        let expected = json!({"channelType": "in_app", "content": {"any": [1]}, "dataType": "data_template",
            "categoryFilterEnabled": false, "templateLabelEnabled": true, "messageRetentionHours": 24});
        assert_eq!(changed, expected);
        let cleared = json!({"categoryFilterEnabled": null, "messageRetentionHours": null, "dataType": null, "content": null});
        let cleared = set(&world, &shop, "in_app", cleared).await;
        let channel = &cleared.data()["channels"][0];
        assert_eq!(channel["content"]["body"][0]["content"], "Order", "the card with the name");
        assert_eq!((&channel["categoryFilterEnabled"], &channel["messageRetentionHours"]), (&json!(true), &json!(0)));
        assert_eq!(types(cleared.data()), ["in_app", "push"]);
        assert_eq!(versions(&world, &shop, "order").await, [(1, false)], "a draft changes in place");
    }

    async fn what_is_wrong_with_one_channel_type_is_said_at_its_place_and_nothing_changes(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, least("order")).await.data();
        let before = get(&world, &shop, "order").await;
        for (channel_type, channel, code, expected) in [
            ("push", json!({"sequenceOrder": 11, "waitMinutes": 7, "messageRetentionHours": 1}), "ERR_BAD_REQUEST", vec!["sequenceOrder", "waitMinutes"]),
            ("push", json!({"messageRetentionHours": 1, "content": {"title": "t", "body": "b"}}), "ERR_BAD_REQUEST", vec!["messageRetentionHours"]),
            ("push", json!({"channelType": "email"}), "ERR_BAD_REQUEST", vec!["channelType"]),
            ("in_app", json!({"stopCondition": "clicked"}), "ERR_BAD_REQUEST", vec!["stopCondition", "waitMinutes"]),
            ("in_app", json!({"content": {"version": "1.0"}}), "ERR_BAD_REQUEST", vec!["content.body", "content.fallbackText", "content.style"]),
            ("in_app", json!({"channelId": "nobody"}), "ERR_CHANNEL_NOT_FOUND", vec!["channelId"]),
        ] {
            let refused = set(&world, &shop, channel_type, channel.clone()).await;
            assert_eq!(refused.code(), code, "{channel}: {refused:#?}");
            assert_eq!(places(&world, &refused), expected, "{channel}");
        }
        let unknown = world.through(Door::Rest);
        let request = json!({"templateId": "order", "channelType": "telegraph", "channel": {}});
        let unknown = call(&unknown, "SetTemplateChannel", &shop.caller, &request).await;
        assert_eq!((unknown.status, unknown.code()), (400, "ERR_BAD_REQUEST"));
        assert_eq!(get(&world, &shop, "order").await.body, before.body);
    }

    async fn a_frozen_version_keeps_its_channel_types(world) {
        let shop = world.tenant("shop").await;
        let mut order = least("order");
        order["status"] = json!("approved");
        create(&world, &shop, order).await.data();
        let first = get(&world, &shop, "order").await.data()["versions"][0].clone();
        set(&world, &shop, "sms", json!({"content": {"body": "Sent"}})).await.data();
        assert_eq!(versions(&world, &shop, "order").await, [(2, true), (1, true)]);
        let rest = remove(&world, &shop, "in_app").await;
        assert_eq!((types(rest.data()), &rest.data()["currentVersion"]), (vec!["sms"], &json!(3)));
        assert_eq!(get(&world, &shop, "order").await.data()["versions"][2], first);
        // What it has not got cannot be removed, and the last one stays.
        let gone = remove(&world, &shop, "in_app").await;
        assert_eq!((gone.status, gone.code()), (404, "ERR_CHANNEL_NOT_FOUND"));
        let last = remove(&world, &shop, "sms").await;
        assert_json_snapshot!("template_last_channel_refused", steady(&last.refusal()));
        assert_eq!(versions(&world, &shop, "order").await.len(), 3);
    }

    async fn a_sequence_is_whole_while_it_is_on(world) {
        let shop = world.tenant("shop").await;
        let mut order = least("order");
        order["channels"][0]["sequenceOrder"] = json!(1);
        order["channels"][0]["stopCondition"] = json!("read");
        order["channels"][0]["waitMinutes"] = json!(30);
        order["config"] = json!({"sequenceEnabled": true, "owner": "growth"});
        let refused = create(&world, &shop, order.clone()).await;
        assert_json_snapshot!("template_sequence_refused", crate::catalog::at_root("template", &refused.refusal()));
        order["config"]["sequenceEnabled"] = json!("yes");
        let word = create(&world, &shop, order.clone()).await;
        assert_eq!(word.code(), "ERR_BAD_REQUEST", "{word:#?}");
        assert_eq!(get(&world, &shop, "order").await.status, 404, "nothing was created");

        order["channels"].as_array_mut().unwrap().push(
            json!({"channelType": "email", "content": {"subject": "s", "text": "t"}, "sequenceOrder": 2}));
        order["config"]["sequenceEnabled"] = json!(true);
        let made = create(&world, &shop, order).await;
        assert_json_snapshot!("template_with_sequence", steady(&made.data()["channels"]));
        // Neither a change of one step nor one of the config may leave a sequence in pieces.
        let before = get(&world, &shop, "order").await;
        let refused = set(&world, &shop, "email", json!({"sequenceOrder": 1})).await;
        assert_eq!((refused.code(), places(&world, &refused)), ("ERR_BAD_REQUEST", vec!["sequenceOrder".to_owned()]));
        assert_eq!(remove(&world, &shop, "email").await.code(), "ERR_BAD_REQUEST");
        assert_eq!(get(&world, &shop, "order").await.body, before.body);
        update(&world, &shop, "order", json!({"config": {"owner": "growth"}})).await.data();
        remove(&world, &shop, "email").await.data();
        let back = update(&world, &shop, "order", json!({"config": {"sequenceEnabled": true}})).await;
        assert_eq!(back.code(), "ERR_BAD_REQUEST", "one step is no sequence");
    }
}
