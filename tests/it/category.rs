//! What callers see of template categories: the seven that every app has, their lives, and what is refused. What happens
//! when several nodes change them at once is in `catalog.rs`.

use std::time::Duration;

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::catalog::at_root;
use crate::everywhere;
use crate::support::rpc::Answer;
use crate::support::shop::Shop;
use crate::support::world::{Tenant, World, steady};

async fn create(world: &World, shop: &Tenant, category: Value) -> Answer {
    // Later than the seven and each other, so that lists by time have one order.
    world.pass(Duration::from_secs(1));
    world
        .call("CreateCategory", &shop.caller, json!({"category": category}))
        .await
}

async fn get(world: &World, shop: &Tenant, id: &Value) -> Answer {
    world.call("GetCategory", &shop.caller, json!({"categoryId": id})).await
}

async fn update(world: &World, shop: &Tenant, id: &Value, change: Value) -> Answer {
    let request = json!({"categoryId": id, "category": change});
    world.call("UpdateCategory", &shop.caller, request).await
}

async fn delete(world: &World, shop: &Tenant, id: &Value) -> Answer {
    world
        .call("DeleteCategory", &shop.caller, json!({"categoryId": id}))
        .await
}

async fn names(world: &World, shop: &Tenant, parameters: Value) -> Vec<String> {
    let answer = world.call("ListCategories", &shop.caller, parameters).await;
    let rows = answer.data().as_array().unwrap().iter();
    rows.map(|category| category["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn template_in(world: &World, shop: &Tenant, slug: &str, category: &Value) -> Answer {
    let template = json!({
        "templateId": slug,
        "name": "Order",
        "templateCategory": category,
        "channels": [{"channelType": "in_app"}],
    });
    world
        .call("CreateTemplate", &shop.caller, json!({"template": template}))
        .await
}

everywhere! {
    async fn every_app_starts_with_seven_categories(world) {
        let shop = world.tenant("shop").await;
        let by_name = json!({"sort": "name", "order": "asc"});
        let seven = ["Alerts", "Custom", "Marketing", "Onboarding", "Polls", "Product_Showcase", "Transactional"];
        assert_eq!(names(&world, &shop, by_name.clone()).await, seven);
        let first = world.call("ListCategories", &shop.caller, json!({"sort": "name", "order": "asc", "limit": 2})).await;
        assert_json_snapshot!("category_list", steady(&first.body));
        let other = world.tenant("other").await;
        create(&world, &shop, json!({"name": "Own"})).await.data();
        assert_eq!(names(&world, &other, by_name).await, seven);
    }

    async fn a_category_is_created_changed_and_deleted(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, json!({"name": "Seasonal", "description": "Once a year"})).await;
        assert_eq!(made.status, 201);
        assert_json_snapshot!("category_created", steady(&made.body));
        let id = &made.data()["id"];
        assert_eq!(get(&world, &shop, id).await.body, made.body);
        assert_eq!(names(&world, &shop, json!({"limit": 1})).await, ["Seasonal"]);

        let changed = update(&world, &shop, id, json!({"name": "Festive", "description": null})).await;
        assert_json_snapshot!("category_updated", steady(&changed.body));
        assert_eq!(get(&world, &shop, id).await.body, changed.body);

        let deleted = delete(&world, &shop, id).await;
        assert_eq!(deleted.status, 200);
        assert_json_snapshot!("category_deleted", steady(&deleted.body));
        assert_eq!(get(&world, &shop, id).await.status, 404);
        let again = delete(&world, &shop, id).await;
        assert_json_snapshot!("category_not_found", steady(&again.refusal()));
        // The name is free again, and belongs to another category now.
        let next = create(&world, &shop, json!({"name": "Festive"})).await;
        assert_ne!(&next.data()["id"], id);
    }

    async fn a_name_is_taken_once_to_the_letter(world) {
        let shop = world.tenant("shop").await;
        let taken = create(&world, &shop, json!({"name": "Alerts"})).await;
        assert_json_snapshot!("category_already_exists", taken.refusal());
        let lower = create(&world, &shop, json!({"name": "alerts"})).await;
        let before = names(&world, &shop, json!({})).await;
        let renamed = update(&world, &shop, &lower.data()["id"], json!({"name": "Alerts"})).await;
        assert_eq!((renamed.status, renamed.code()), (409, "ERR_CATEGORY_ALREADY_EXISTS"));
        assert_eq!(names(&world, &shop, json!({})).await, before);
        assert_eq!(get(&world, &shop, &lower.data()["id"]).await.body, lower.body);
        // Its own name is no other's.
        let kept = update(&world, &shop, &lower.data()["id"], json!({"name": "alerts"})).await;
        assert_eq!(kept.status, 200);
    }

    async fn bad_input_is_refused_with_its_fields_and_changes_nothing(world) {
        let shop = world.tenant("shop").await;
        let before = names(&world, &shop, json!({})).await;
        for bad in [
            json!({"name": "", "description": ""}),
            json!({"description": "d".repeat(256)}),
            json!({"name": "n".repeat(101), "description": "d".repeat(256)}),
        ] {
            let answer = create(&world, &shop, bad.clone()).await;
            assert_eq!((answer.status, answer.code()), (400, "ERR_BAD_REQUEST"), "{bad}");
            let error = at_root("category", &answer.body["error"]);
            let fields: Vec<_> = error["details"].as_object().unwrap().keys().cloned().collect();
            assert_eq!(fields, ["description", "name"], "{bad}");
        }
        assert_eq!(names(&world, &shop, json!({})).await, before);
        let made = create(&world, &shop, json!({"name": "é".repeat(100), "description": "d".repeat(255)})).await;
        for bad in [json!({"name": null}), json!({"name": ""}), json!({"description": ""})] {
            let answer = update(&world, &shop, &made.data()["id"], bad.clone()).await;
            assert_eq!((answer.status, answer.code()), (400, "ERR_BAD_REQUEST"), "{bad}");
        }
        assert_eq!(get(&world, &shop, &made.data()["id"]).await.body, made.body);
    }

    async fn a_rename_shows_in_templates_at_once(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, json!({"name": "Seasonal"})).await;
        let id = &made.data()["id"];
        // By name and by id.
        for (slug, category) in [("by-name", &json!("Seasonal")), ("by-id", id)] {
            assert_eq!(template_in(&world, &shop, slug, category).await.data()["templateCategory"], "Seasonal");
        }
        update(&world, &shop, id, json!({"name": "Festive"})).await.data();
        for slug in ["by-name", "by-id"] {
            let template = world.call("GetTemplate", &shop.caller, json!({"templateId": slug})).await;
            assert_eq!(template.data()["templateCategory"], "Festive");
        }
    }

    async fn what_was_sent_keeps_the_name_it_was_sent_with(world) {
        let shop = Shop::open(&world).await;
        let send = async || shop.call("SendNotification", json!({"templateId": "order-shipped", "receivers": ["ada"], "variables": {"ada": {"code": "1"}}})).await.data().clone();
        let first = send().await;
        let named = shop.call("ListCategories", json!({})).await;
        let named = named.data().as_array().unwrap().iter().find(|category| category["name"] == "Transactional").unwrap().clone();
        shop.call("UpdateCategory", json!({"categoryId": named["id"], "category": {"name": "Orders"}})).await.data();
        world.pass(Duration::from_secs(1));
        send().await;
        let feed = shop.as_user("ada", "ListFeedItems", json!({})).await;
        let of = |item: &Value| (item["templateCategory"].clone(), item["categoryId"].clone());
        let items: Vec<_> = feed.data().as_array().unwrap().iter().map(of).collect();
        assert_eq!(items, [(json!("Orders"), named["id"].clone()), (json!("Transactional"), named["id"].clone())]);
        let notification = shop.call("GetNotification", json!({"notificationId": first["notificationId"]})).await;
        assert_eq!(notification.data()["category"], "Transactional");
    }

    async fn a_category_in_use_stays_until_its_last_template_leaves(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, json!({"name": "Seasonal"})).await;
        let id = &made.data()["id"];
        template_in(&world, &shop, "order", &json!("Seasonal")).await.data();
        let update_template = |change: Value| {
            let request = json!({"templateId": "order", "template": change});
            world.call("UpdateTemplate", &shop.caller, request)
        };
        let refused = delete(&world, &shop, id).await;
        assert_json_snapshot!("category_in_use", steady(&refused.refusal()));
        for number in 2..=12 {
            template_in(&world, &shop, &format!("order-{number}"), id).await.data();
        }
        let refused = delete(&world, &shop, id).await;
        let details = &refused.body["error"]["details"];
        assert_eq!(details["inUseCount"], "12");
        assert_eq!(details["inUseBy"].as_str().unwrap().split(", ").count(), 10);
        for number in 2..=12 {
            let request = json!({"templateId": format!("order-{number}"), "template": {"templateCategory": "Alerts"}});
            world.call("UpdateTemplate", &shop.caller, request).await.data();
        }
        update_template(json!({"status": "archived"})).await.data();
        assert_eq!(delete(&world, &shop, id).await.code(), "ERR_CONFLICT");
        assert_eq!(get(&world, &shop, id).await.body, made.body);

        update_template(json!({"templateCategory": null})).await.data();
        assert_eq!(delete(&world, &shop, id).await.status, 200);
    }

    async fn a_stale_etag_changes_nothing_and_the_current_one_does(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, json!({"name": "Seasonal"})).await;
        let id = &made.data()["id"];
        let change = |name: &str| json!({"categoryId": id, "category": {"name": name}, "etag": made.data()["etag"]});
        world.call("UpdateCategory", &shop.caller, change("First")).await.data();
        let late = world.call("UpdateCategory", &shop.caller, change("Second")).await;
        assert_eq!((late.status, late.code()), (412, "ERR_PRECONDITION_FAILED"));
        assert_eq!(late.body["error"]["details"], json!({"etag": "v2", "received": "v1"}));
        assert_eq!(get(&world, &shop, id).await.data()["name"], "First");
    }

    async fn a_category_of_another_app_or_none_is_not_found(world) {
        let (shop, other) = (world.tenant("shop").await, world.tenant("other").await);
        let made = create(&world, &shop, json!({"name": "Seasonal"})).await;
        let id = &made.data()["id"];
        for named in [id, &json!("seasonal"), &json!("cat-01hf7yat00000000000000000a"), &json!("chan-01hf7yat00000000000000000a")] {
            for answer in [
                get(&world, &other, named).await,
                update(&world, &other, named, json!({"name": "Mine"})).await,
                delete(&world, &other, named).await,
            ] {
                assert_eq!((answer.status, answer.code()), (404, "ERR_CATEGORY_NOT_FOUND"), "{named}");
                assert_eq!(answer.body["error"]["details"], json!({"categoryId": named}));
            }
        }
        assert_eq!(template_in(&world, &other, "order", id).await.code(), "ERR_CATEGORY_NOT_FOUND");
        assert_eq!(get(&world, &shop, id).await.body, made.body);
    }

    async fn a_repeat_with_the_same_idempotency_key_does_nothing_more(world) {
        let shop = world.tenant("shop").await;
        let request = json!({"category": {"name": "Seasonal"}});
        let made = world.call("CreateCategory", &shop.caller.once("first"), request.clone()).await;
        let again = world.call("CreateCategory", &shop.caller.once("first"), request.clone()).await;
        assert_eq!((again.status, &again.body, again.replayed), (201, &made.body, true));
        let fresh = world.call("CreateCategory", &shop.caller.once("second"), request).await;
        assert_eq!((fresh.status, fresh.replayed), (409, false));
        assert_eq!(names(&world, &shop, json!({})).await.len(), 8);
    }
}
