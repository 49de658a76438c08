//! What callers see of channels: their lives, their lists, and what is refused. What happens when several nodes change
//! them at once is in `catalog.rs`.

use std::time::Duration;

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::catalog::at_root;
use crate::support::rpc::{Answer, Door};
use crate::support::world::{Caller, Tenant, World, call, steady};
use crate::{everywhere, on_both};

async fn create(world: &World, shop: &Tenant, channel: Value) -> Answer {
    let answer = world
        .call("CreateChannel", &shop.caller, json!({"channel": channel}))
        .await;
    // A second between channels, so that lists by time have one order.
    world.pass(Duration::from_secs(1));
    answer
}

async fn get(world: &World, shop: &Tenant, channel: &str) -> Answer {
    world
        .call("GetChannel", &shop.caller, json!({"channelId": channel}))
        .await
}

async fn update(world: &World, shop: &Tenant, channel: &str, change: Value) -> Answer {
    let request = json!({"channelId": channel, "channel": change});
    world.call("UpdateChannel", &shop.caller, request).await
}

async fn list(world: &World, shop: &Tenant, parameters: Value) -> Answer {
    world.call("ListChannels", &shop.caller, parameters).await
}

fn slugs(answer: &Answer) -> Vec<&str> {
    let rows = answer.data().as_array().unwrap().iter();
    rows.map(|channel| channel["channelId"].as_str().unwrap()).collect()
}

fn bell() -> Value {
    json!({
        "channelId": "shop-bell",
        "type": "in_app",
        "name": "Shop bell",
        "enabled": true,
        "metadata": {"team": "growth", "weight": 3, "ratio": 0.25, "list": [1, null, {"deep": true}]},
    })
}

on_both! {
    async fn what_the_operator_provisions_may_be_created_and_no_more(db) {
        let limits = "email,sms=2,push=0";
        let world = World::start_with(db, Door::Rest, |settings| settings.channel_limits = limits.parse().unwrap()).await;
        let shop = world.tenant("shop").await;
        for (door, number) in [(Door::Rest, 1), (Door::Grpc, 2)] {
            let client = world.through(door);
            let create = async |channel_type: &str| {
                let request = json!({"channel": {"type": channel_type, "name": format!("Way {number}")}});
                call(&client, "CreateChannel", &shop.caller, &request).await
            };
            assert_eq!(create("sms").await.data()["type"], "sms");
            assert_eq!(create("email").await.status, 201);
            for (channel_type, status, code, details) in [
                ("custom", 403, "ERR_FORBIDDEN", json!({"rule": "channelType custom"})),
                ("push", 403, "ERR_FORBIDDEN", json!({"rule": "channelType push"})),
            ] {
                let refused = create(channel_type).await;
                assert_eq!((refused.status, refused.code()), (status, code), "{channel_type}");
                assert_eq!(refused.body["error"]["details"], details);
            }
        }
        let third = create(&world, &shop, json!({"type": "sms", "name": "Way 3"})).await;
        assert_eq!((third.status, third.code()), (409, "ERR_CONFLICT"));
        assert_eq!(third.body["error"]["details"], json!({"limit": "2"}));
        let rows = world.call("GetChannelAvailability", &shop.caller, json!({})).await;
        assert_json_snapshot!("channel_availability_provisioned", rows.body);
        assert_eq!(list(&world, &shop, json!({})).await.data().as_array().unwrap().len(), 4);
    }
}

everywhere! {
    async fn a_channel_is_created_and_read_back_by_id_and_by_slug(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, bell()).await;
        assert_eq!(made.status, 201);
        assert_json_snapshot!("channel_created", steady(&made.body));
        assert_eq!(get(&world, &shop, made.data()["id"].as_str().unwrap()).await.body, made.body);
        assert_eq!(get(&world, &shop, "shop-bell").await.body, made.body);
        let least = create(&world, &shop, json!({"type": "push", "name": "Phones & Tablets"})).await;
        assert_json_snapshot!("channel_created_with_the_least", steady(&least.body));
    }

    async fn a_slug_is_made_of_the_name_and_numbered_when_it_is_taken(world) {
        let shop = world.tenant("shop").await;
        let mut made = Vec::new();
        for name in ["Shop bell", "shop BELL!", "Shop: bell", "鐘", "鐘"] {
            let answer = create(&world, &shop, json!({"type": "in_app", "name": name})).await;
            made.push(answer.data()["channelId"].as_str().unwrap().to_owned());
        }
        assert_eq!(made, [
            "cc-notification-channel-shop-bell",
            "cc-notification-channel-shop-bell-2",
            "cc-notification-channel-shop-bell-3",
            "cc-notification-channel",
            "cc-notification-channel-2",
        ]);
    }

    async fn a_slug_that_could_be_mistaken_is_refused_and_nothing_is_created(world) {
        let shop = world.tenant("shop").await;
        for slug in ["availability", "categories", "chan-01hf7yat00000000000000000a", "Shop", "", "-a", "a b", &"x".repeat(101)] {
            let answer = create(&world, &shop, json!({"channelId": slug, "type": "in_app", "name": "Bell"})).await;
            assert_eq!((answer.status, answer.code()), (400, "ERR_BAD_REQUEST"), "{slug}");
            let error = at_root("channel", &answer.body["error"]);
            assert!(error["details"]["channelId"].is_string(), "{slug}: {error:#}");
        }
        assert_eq!(list(&world, &shop, json!({})).await.data(), &json!([]));
        let reserved = create(&world, &shop, json!({"channelId": "availability", "type": "in_app", "name": "Bell"})).await;
        assert_json_snapshot!("channel_slug_reserved", at_root("channel", &reserved.refusal()));
    }

    async fn all_that_is_wrong_is_said_at_once_and_nothing_is_created(world) {
        let shop = world.tenant("shop").await;
        let bad = json!({
            "channelId": "No Slug",
            "name": "n".repeat(101),
            "metadata": {"text": "m".repeat(5_200)},
        });
        let answer = create(&world, &shop, bad).await;
        assert_eq!((answer.status, answer.code()), (400, "ERR_BAD_REQUEST"));
        let error = at_root("channel", &answer.body["error"]);
        let fields: Vec<_> = error["details"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, ["channelId", "metadata", "name", "type"]);
        assert_eq!(create(&world, &shop, json!({"name": "", "type": "in_app"})).await.status, 400);
        assert_eq!(list(&world, &shop, json!({})).await.data(), &json!([]));
    }

    async fn types_that_are_not_provisioned_are_forbidden_and_push_is_one(world) {
        let shop = world.tenant("shop").await;
        for channel_type in ["sms", "email", "whatsapp", "custom"] {
            let answer = create(&world, &shop, json!({"type": channel_type, "name": "Way out"})).await;
            assert_eq!((answer.status, answer.code()), (403, "ERR_FORBIDDEN"), "{channel_type}");
            assert_eq!(answer.body["error"]["details"]["rule"], json!(format!("channelType {channel_type}")));
        }
        let sms = create(&world, &shop, json!({"type": "sms", "name": "Way out"})).await;
        assert_json_snapshot!("channel_type_forbidden", sms.refusal());
        assert_eq!(list(&world, &shop, json!({})).await.data(), &json!([]));

        create(&world, &shop, json!({"type": "push", "name": "Phones"})).await.data();
        let second = create(&world, &shop, json!({"type": "push", "name": "Tablets"})).await;
        assert_json_snapshot!("channel_limit_reached", second.refusal());
        for name in ["One", "Two", "Three"] {
            create(&world, &shop, json!({"type": "in_app", "name": name})).await.data();
        }
        let availability = world.call("GetChannelAvailability", &shop.caller, json!({})).await;
        assert_json_snapshot!("channel_availability", availability.body);
        // Another app has its own.
        let other = world.tenant("other").await;
        create(&world, &other, json!({"type": "push", "name": "Phones"})).await.data();
    }

    async fn a_slug_is_taken_once_in_an_app(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, bell()).await;
        let again = create(&world, &shop, json!({"channelId": "shop-bell", "type": "in_app", "name": "Another"})).await;
        assert_json_snapshot!("channel_already_exists", again.refusal());
        assert_eq!(get(&world, &shop, "shop-bell").await.body, made.body);
        assert_eq!(slugs(&list(&world, &shop, json!({})).await), ["shop-bell"]);
        let other = world.tenant("other").await;
        assert_eq!(create(&world, &other, bell()).await.status, 201);
    }

    async fn an_update_changes_what_it_names_and_clears_what_is_null(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, bell()).await.data().clone();
        let changed = update(&world, &shop, "shop-bell", json!({"name": "Door bell", "enabled": null, "metadata": null})).await;
        assert_json_snapshot!("channel_updated", steady(&changed.body));
        assert_eq!(get(&world, &shop, "shop-bell").await.body, changed.body);
        // What was read can be sent back, also under the id.
        let read = changed.data().clone();
        let sent = update(&world, &shop, made["id"].as_str().unwrap(), read.clone()).await;
        let mut expected = read;
        expected["etag"] = json!("v3");
        expected["updatedAt"] = sent.data()["updatedAt"].clone();
        assert_eq!(sent.data(), &expected);
    }

    async fn what_cannot_change_is_refused_and_nothing_changes(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, bell()).await;
        let moved = update(&world, &shop, "shop-bell", json!({"channelId": "door-bell", "type": "push", "name": "Door"})).await;
        assert_json_snapshot!("channel_immutable", at_root("channel", &moved.refusal()));
        for change in [json!({"channelId": null}), json!({"type": null}), json!({"name": null}), json!({"name": ""})] {
            let answer = update(&world, &shop, "shop-bell", change.clone()).await;
            assert_eq!((answer.status, answer.code()), (400, "ERR_BAD_REQUEST"), "{change}");
        }
        assert_eq!(get(&world, &shop, "shop-bell").await.body, made.body);
        assert_eq!(get(&world, &shop, "door-bell").await.status, 404);
    }

    async fn a_stale_etag_changes_nothing_and_the_current_one_does(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, bell()).await.data().clone();
        let change = |name: &str| json!({"channelId": "shop-bell", "channel": {"name": name}, "etag": made["etag"]});
        world.call("UpdateChannel", &shop.caller, change("First")).await.data();
        let late = world.call("UpdateChannel", &shop.caller, change("Second")).await;
        assert_json_snapshot!("channel_precondition_failed", late.refusal());
        assert_eq!(get(&world, &shop, "shop-bell").await.data()["name"], "First");
    }

    async fn a_channel_of_another_app_or_none_is_not_found(world) {
        let (shop, other) = (world.tenant("shop").await, world.tenant("other").await);
        let made = create(&world, &shop, bell()).await;
        let id = made.data()["id"].as_str().unwrap();
        for named in [id, "shop-bell", "nobody", "chan-01hf7yat00000000000000000a"] {
            for answer in [get(&world, &other, named).await, update(&world, &other, named, json!({"name": "Mine"})).await] {
                assert_eq!((answer.status, answer.code()), (404, "ERR_CHANNEL_NOT_FOUND"), "{named}");
                assert_eq!(answer.body["error"]["details"], json!({"channelId": named}));
            }
        }
        assert_eq!(list(&world, &other, json!({})).await.data(), &json!([]));
        assert_eq!(get(&world, &shop, id).await.body, made.body);
        assert_json_snapshot!("channel_not_found", get(&world, &shop, "nobody").await.refusal());
    }

    async fn lists_search_sort_and_walk(world) {
        let shop = world.tenant("shop").await;
        for (slug, channel_type, name) in [
            ("a-bell", "in_app", "GRÖSSE 100%"),
            ("phones", "push", "Phones"),
            ("b_bell", "in_app", "Second"),
            ("other", "in_app", "Über_all"),
        ] {
            create(&world, &shop, json!({"channelId": slug, "type": channel_type, "name": name})).await.data();
        }
        let found = |search: &'static str| {
            let (world, shop) = (&world, &shop);
            async move { slugs(&list(world, shop, json!({"search": search})).await).join(" ") }
        };
        assert_eq!(found("BELL").await, "b_bell a-bell");
        assert_eq!(found("größe").await, "");
        assert_eq!(found("grösse").await, "a-bell");
        assert_eq!(found("über").await, "other");
        assert_eq!(found("%").await, "a-bell");
        assert_eq!(found("_").await, "other b_bell");
        assert_eq!(found("\\").await, "");

        let by_type = |order: &str| json!({"sort": "channelType", "order": order});
        assert_eq!(slugs(&list(&world, &shop, by_type("asc")).await)[3], "phones");
        assert_eq!(slugs(&list(&world, &shop, by_type("desc")).await)[0], "phones");
        update(&world, &shop, "a-bell", json!({"enabled": true})).await.data();
        assert_eq!(slugs(&list(&world, &shop, json!({"sort": "updatedAt"})).await)[0], "a-bell");

        for sort in ["channelType", "createdAt", "updatedAt"] {
            let all = list(&world, &shop, json!({"sort": sort})).await;
            assert_eq!(all.body["pagination"]["total"], 4);
            let mut walked = Vec::new();
            let mut next = json!({"sort": sort, "limit": 1});
            loop {
                let page = list(&world, &shop, next.clone()).await;
                walked.extend(slugs(&page).into_iter().map(str::to_owned));
                let Some(cursor) = page.body["meta"].get("next") else { break };
                for (name, value) in cursor.as_object().unwrap() {
                    next[name] = value.clone();
                }
                assert!(walked.len() <= 4, "{walked:?}");
            }
            assert_eq!(walked, slugs(&all), "{sort}");
        }
        let page = list(&world, &shop, json!({"page": 2, "limit": 3, "sort": "createdAt"})).await;
        assert_json_snapshot!("channel_list", steady(&page.body));
    }

    async fn a_repeat_with_the_same_idempotency_key_does_nothing_more(world) {
        let shop = world.tenant("shop").await;
        let caller = shop.caller.once("first");
        let request = json!({"channel": {"type": "in_app", "name": "Bell"}});
        let made = world.call("CreateChannel", &caller, request.clone()).await;
        let again = world.call("CreateChannel", &caller, request).await;
        assert_eq!((again.status, &again.body, again.replayed), (201, &made.body, true));
        let other = json!({"channel": {"type": "in_app", "name": "Another"}});
        let refused = world.call("CreateChannel", &caller, other).await;
        assert_eq!((refused.status, refused.code()), (409, "ERR_CONFLICT"));
        assert_eq!(list(&world, &shop, json!({})).await.data().as_array().unwrap().len(), 1);
    }

    async fn only_reads_may_act_for_a_user(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, bell()).await.data();
        world.call("CreateUser", &shop.caller, json!({"user": {"uid": "ada", "name": "Ada"}})).await.data();
        let ada: Caller = shop.caller.on_behalf_of("ada");
        let read = world.call("GetChannel", &ada, json!({"channelId": "shop-bell"})).await;
        assert_eq!(read.body, get(&world, &shop, "shop-bell").await.body);
        assert_eq!(slugs(&world.call("ListChannels", &ada, json!({})).await), ["shop-bell"]);
        for (rpc, request) in [
            ("CreateChannel", json!({"channel": {"type": "in_app", "name": "Bell"}})),
            ("UpdateChannel", json!({"channelId": "shop-bell", "channel": {"name": "Mine"}})),
            ("GetChannelAvailability", json!({})),
        ] {
            let answer = world.call(rpc, &ada, request).await;
            assert_eq!((answer.status, answer.code()), (400, "ERR_BAD_REQUEST"), "{rpc}");
        }
        world.call("DeactivateUser", &shop.caller, json!({"uid": "ada"})).await.data();
        for (rpc, request) in [("GetChannel", json!({"channelId": "shop-bell"})), ("ListChannels", json!({}))] {
            let answer = world.call(rpc, &ada, request).await;
            assert_eq!((answer.status, answer.code()), (404, "ERR_USER_NOT_FOUND"), "{rpc}");
        }
        assert_eq!(slugs(&list(&world, &shop, json!({})).await), ["shop-bell"]);
    }
}
