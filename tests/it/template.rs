//! What callers see of templates: their lives, their versions, their lists, and what is refused. What sends ask of them,
//! and what happens when several nodes change them at once, is in `catalog.rs`.

mod channels;
mod life;

use std::time::Duration;

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::catalog::at_root;
use crate::everywhere;
use crate::support::rpc::Answer;
use crate::support::world::{Tenant, World, steady};

async fn create(world: &World, shop: &Tenant, template: Value) -> Answer {
    let answer = world
        .call("CreateTemplate", &shop.caller, json!({"template": template}))
        .await;
    // A second between templates, so that lists by time have one order.
    world.pass(Duration::from_secs(1));
    answer
}

async fn get(world: &World, shop: &Tenant, template: &str) -> Answer {
    world
        .call("GetTemplate", &shop.caller, json!({"templateId": template}))
        .await
}

async fn update(world: &World, shop: &Tenant, template: &str, change: Value) -> Answer {
    let request = json!({"templateId": template, "template": change});
    let answer = world.call("UpdateTemplate", &shop.caller, request).await;
    world.pass(Duration::from_secs(1));
    answer
}

async fn list(world: &World, shop: &Tenant, parameters: Value) -> Vec<String> {
    let answer = world.call("ListTemplates", &shop.caller, parameters).await;
    let rows = answer.data().as_array().unwrap().iter();
    rows.map(|template| template["templateId"].as_str().unwrap().to_owned())
        .collect()
}

/// Number and approval of every version, the newest first.
async fn versions(world: &World, shop: &Tenant, template: &str) -> Vec<(u64, bool)> {
    let answer = get(world, shop, template).await;
    let versions = answer.data()["versions"].as_array().unwrap().iter();
    versions
        .map(|version| (version["version"].as_u64().unwrap(), version["approvedAt"].is_string()))
        .collect()
}

fn details(answer: &Answer) -> Vec<String> {
    let error = at_root("template", &answer.body["error"]);
    error["details"].as_object().unwrap().keys().cloned().collect()
}

fn card(text: &str) -> Value {
    json!({
        "version": "1.0",
        "body": [{"id": "t", "type": "text", "content": text, "maxLines": 2}],
        "style": {"background": {"light": "#FFFFFF", "dark": "#000000"}, "padding": 1.5},
        "fallbackText": text,
    })
}

fn push() -> Value {
    json!({"title": "Shipped", "body": "On its way"})
}

fn least(slug: &str) -> Value {
    json!({"templateId": slug, "name": "Order", "channels": [{"channelType": "in_app", "content": card("Hello {{name}}")}]})
}

fn shipped(bell: &str) -> Value {
    json!({
        "templateId": "order-shipped",
        "name": "Order shipped",
        "templateCategory": "Transactional",
        "label": "Orders",
        "alternativeText": "Your order is on its way.",
        "tags": ["shop", "order"],
        "channels": [
            {
                "channelType": "in_app",
                "channelId": bell,
                "content": card("Hello {{name}}, order {{order}} is on its way"),
                "categoryFilterEnabled": false,
                "messageRetentionHours": 24,
            },
            {"channelType": "email", "content": {"subject": "Shipped", "text": "On its way", "priority": 2}, "dataType": "data_template"},
            {"channelType": "sms", "content": {"body": "On its way"}},
        ],
        "variableSchema": [
            {"key": "name", "name": "First name", "required": true},
            {"key": "order", "type": "string", "default": "42"},
        ],
        "config": {"owner": "growth", "level": 3},
    })
}

async fn with_bell(world: &World) -> Tenant {
    let shop = world.tenant("shop").await;
    let bell = json!({"channel": {"channelId": "shop-bell", "type": "in_app", "name": "Bell", "enabled": true}});
    world.call("CreateChannel", &shop.caller, bell).await.data();
    shop
}

everywhere! {
    async fn a_template_is_created_and_read_back_by_id_and_by_slug(world) {
        let shop = with_bell(&world).await;
        let made = create(&world, &shop, shipped("shop-bell")).await;
        assert_eq!(made.status, 201);
        assert_json_snapshot!("template_created", steady(&made.body));
        let read = get(&world, &shop, "order-shipped").await;
        assert_json_snapshot!("template_read", steady(&read.body));
        assert_eq!(get(&world, &shop, made.data()["id"].as_str().unwrap()).await.body, read.body);
        // The channel was named by its slug and is answered by its id.
        let bell = world.call("GetChannel", &shop.caller, json!({"channelId": "shop-bell"})).await;
        assert_eq!(made.data()["channels"][0]["channelId"], bell.data()["id"]);
        // A list shows the same without the versions.
        let listed = world.call("ListTemplates", &shop.caller, json!({})).await;
        assert_eq!(listed.data(), &json!([made.data()]));
    }

    async fn in_app_content_that_is_absent_is_a_card_with_the_name(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, json!({"name": "Order \"shipped\"", "channels": [{"channelType": "in_app"}]})).await;
        assert_json_snapshot!("template_created_with_the_least", steady(&made.body));
        let again = create(&world, &shop, json!({"name": "order shipped", "channels": [{"channelType": "in_app"}]})).await;
        assert_eq!(again.data()["templateId"], "cc-template-order-shipped-2");
    }

    async fn all_that_is_wrong_is_said_at_once_and_nothing_is_created(world) {
        let shop = world.tenant("shop").await;
        let bad = json!({
            "templateId": "categories",
            "name": "Order",
            "channels": [
                {"channelType": "in_app", "content": {"version": "2.0", "body": [], "title": "x"}},
                {"channelType": "push", "templateLabelEnabled": false, "messageRetentionHours": 0, "categoryFilterEnabled": true},
            ],
            "variableSchema": [
                {"key": "a", "default": "1", "defaultValue": "2"},
                {"key": "b"},
                {"key": "a"},
            ],
        });
        let answer = create(&world, &shop, bad).await;
        assert_json_snapshot!("template_refused", at_root("template", &answer.refusal()));
        assert_eq!(list(&world, &shop, json!({})).await, [""; 0]);
    }

    async fn bounds_of_the_contract_are_kept(world) {
        let shop = world.tenant("shop").await;
        for (field, bad) in [
            ("name", json!("")),
            ("name", json!("n".repeat(101))),
            ("templateCategory", json!("")),
            ("label", json!("l".repeat(101))),
            ("alternativeText", json!("a".repeat(1_001))),
            ("tags", json!(["same", "same"])),
            ("channels", json!([])),
            ("config", json!({"text": "c".repeat(5_120)})),
        ] {
            let mut template = least("order");
            template[field] = bad.clone();
            let answer = create(&world, &shop, template).await;
            assert_eq!((answer.status, answer.code()), (400, "ERR_BAD_REQUEST"), "{field} {bad}");
            assert!(details(&answer)[0].starts_with(field), "{field}: {:?}", details(&answer));
        }
        for key in ["", "1a", "a-b", "a b", "é", &"k".repeat(101)] {
            let mut template = least("order");
            template["variableSchema"] = json!([{"key": "fine"}, {"key": key}]);
            let answer = create(&world, &shop, template).await;
            assert_eq!(details(&answer), ["variableSchema[1].key"], "{key}");
        }
        let room = 65_536 - serde_json::to_string(&card("")).unwrap().len();
        for (length, status) in [(room / 2, 201), (room / 2 + 1, 400)] {
            let mut template = least("big");
            template["channels"][0]["content"] = card(&"x".repeat(length));
            assert_eq!(create(&world, &shop, template).await.status, status, "{length}");
        }
        assert_eq!(list(&world, &shop, json!({})).await, ["big"]);
    }

    async fn what_a_template_refers_to_has_to_exist_and_fit(world) {
        let shop = with_bell(&world).await;
        let mut template = least("order");
        template["templateCategory"] = json!("transactional");
        let answer = create(&world, &shop, template.clone()).await;
        assert_json_snapshot!("template_category_not_found", at_root("template", &answer.refusal()));

        template["templateCategory"] = json!("Transactional");
        template["channels"] = json!([{"channelType": "in_app", "channelId": "nobody"}, {"channelType": "push", "channelId": "shop-bell", "content": push()}]);
        let answer = create(&world, &shop, template.clone()).await;
        assert_json_snapshot!("template_channel_not_found", at_root("template", &answer.refusal()));
        template["channels"][0]["channelId"] = json!("shop-bell");
        let answer = create(&world, &shop, template.clone()).await;
        assert_json_snapshot!("template_channel_of_another_type", at_root("template", &answer.refusal()));

        template["channels"] = json!([
            {"channelType": "push", "content": push()}, {"channelType": "in_app"}, {"channelType": "push", "content": push()},
        ]);
        let answer = create(&world, &shop, template).await;
        assert_json_snapshot!("template_channel_type_twice", at_root("template", &answer.refusal()));
        assert_eq!(list(&world, &shop, json!({})).await, [""; 0]);
    }

    async fn a_slug_is_taken_once_in_an_app(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, least("order")).await.data();
        let before = get(&world, &shop, "order").await;
        let again = create(&world, &shop, least("order")).await;
        assert_json_snapshot!("template_already_exists", again.refusal());
        assert_eq!(get(&world, &shop, "order").await.body, before.body);
        assert_eq!(list(&world, &shop, json!({})).await, ["order"]);
        for slug in ["categories", "tmpl-01hf7yat00000000000000000a", "Order", ""] {
            let answer = create(&world, &shop, least(slug)).await;
            assert_eq!(details(&answer), ["templateId"], "{slug}");
        }
        assert_eq!(list(&world, &shop, json!({})).await, ["order"]);
        let other = world.tenant("other").await;
        assert_eq!(create(&world, &other, least("order")).await.status, 201);
    }

    async fn an_update_changes_what_it_names_and_clears_what_is_null(world) {
        let shop = with_bell(&world).await;
        create(&world, &shop, shipped("shop-bell")).await.data();
        let change = json!({
            "name": "Order sent",
            "templateCategory": null,
            "label": null,
            "alternativeText": "Sent.",
            "tags": [],
            "config": null,
            "variableSchema": [],
        });
        let changed = update(&world, &shop, "order-shipped", change).await;
        assert_json_snapshot!("template_updated", steady(&changed.body));
        let mut read = get(&world, &shop, "order-shipped").await.body;
        read["data"]["versions"] = json!([]);
        assert_eq!(read, changed.body);
    }

    async fn what_was_read_can_be_sent_back_and_opens_no_version(world) {
        let shop = with_bell(&world).await;
        create(&world, &shop, shipped("shop-bell")).await.data();
        update(&world, &shop, "order-shipped", json!({"status": "approved"})).await.data();
        let read = get(&world, &shop, "order-shipped").await.data().clone();
        let sent = update(&world, &shop, "order-shipped", read.clone()).await;
        let mut expected = read;
        expected["etag"] = json!("v3");
        expected["versions"] = json!([]);
        expected["updatedAt"] = sent.data()["updatedAt"].clone();
        assert_eq!(sent.data(), &expected);
        assert_eq!(versions(&world, &shop, "order-shipped").await, [(1, true)]);
    }

    async fn what_cannot_change_is_refused_and_nothing_changes(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, least("order")).await.data();
        let before = get(&world, &shop, "order").await;
        let moved = update(&world, &shop, "order", json!({"templateId": "other", "name": "Other"})).await;
        assert_json_snapshot!("template_immutable", at_root("template", &moved.refusal()));
        for change in [
            json!({"templateId": null}),
            json!({"name": null}),
            json!({"channels": null}),
            json!({"channels": []}),
            json!({"name": "Other", "channels": [{"channelType": "in_app", "content": {}}]}),
            json!({"name": "Other", "variableSchema": [{"key": "a"}, {"key": "a"}]}),
            json!({"name": "Other", "channels": [{"channelType": "push", "content": push()}, {"channelType": "push", "content": push()}]}),
            json!({"name": "Other", "templateCategory": "Nothing"}),
            json!({"name": "Other", "channels": [{"channelType": "push", "channelId": "nobody", "content": push()}]}),
        ] {
            let answer = update(&world, &shop, "order", change.clone()).await;
            assert!((400..500).contains(&answer.status), "{change}: {answer:?}");
            assert_eq!(get(&world, &shop, "order").await.body, before.body, "{change}");
        }
    }

    async fn statuses_move_as_the_contract_says(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, least("order")).await.data();
        let mut status = "draft";
        for next in ["approved", "draft", "archived", "draft", "approved", "archived"] {
            let moved = update(&world, &shop, "order", json!({"status": next})).await;
            assert_eq!(moved.data()["status"], next, "from {status}");
            status = next;
        }
        let before = get(&world, &shop, "order").await;
        let refused = update(&world, &shop, "order", json!({"status": "approved", "name": "Other"})).await;
        assert_json_snapshot!("template_invalid_state", refused.refusal());
        assert_eq!(get(&world, &shop, "order").await.body, before.body);
        // Clearing sets the default.
        let cleared = update(&world, &shop, "order", json!({"status": null})).await;
        assert_eq!(cleared.data()["status"], "draft");
        for (slug, status) in [("sent-at-once", "approved"), ("never-sent", "archived")] {
            let mut template = least(slug);
            template["status"] = json!(status);
            assert_eq!(create(&world, &shop, template).await.data()["status"], status);
        }
        assert_eq!(versions(&world, &shop, "sent-at-once").await, [(1, true)]);
        assert_eq!(versions(&world, &shop, "never-sent").await, [(1, false)]);
    }

    async fn a_version_never_changes_once_it_was_approved(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, least("order")).await.data();
        let content = |text: &str| json!({"channels": [{"channelType": "in_app", "content": card(text)}]});
        let schema = |key: &str| json!({"variableSchema": [{"key": key}]});

        // A draft that was never approved changes in place.
        update(&world, &shop, "order", content("one")).await.data();
        update(&world, &shop, "order", schema("a")).await.data();
        assert_eq!(versions(&world, &shop, "order").await, [(1, false)]);
        update(&world, &shop, "order", json!({"status": "approved"})).await.data();
        let first = get(&world, &shop, "order").await.data()["versions"][0].clone();
        // What is not content opens nothing, and neither does content that stays.
        let descriptions = json!({"name": "Other", "label": "L", "tags": ["t"], "templateCategory": "Alerts", "alternativeText": "A", "config": {"a": 1}});
        update(&world, &shop, "order", descriptions).await.data();
        update(&world, &shop, "order", content("one")).await.data();
        assert_eq!(versions(&world, &shop, "order").await, [(1, true)]);
        // Content does, and the version is approved with its template.
        assert_eq!(update(&world, &shop, "order", content("two")).await.data()["currentVersion"], 2);
        assert_eq!(versions(&world, &shop, "order").await, [(2, true), (1, true)]);
        // Back in draft the frozen one stays as well; the next is nobody's yet and changes in place.
        update(&world, &shop, "order", json!({"status": "draft"})).await.data();
        update(&world, &shop, "order", schema("b")).await.data();
        update(&world, &shop, "order", schema("c")).await.data();
        assert_eq!(versions(&world, &shop, "order").await, [(3, false), (2, true), (1, true)]);
        let read = get(&world, &shop, "order").await;
        assert_json_snapshot!("template_versions", steady(&read.data()["versions"]));
        assert_eq!(read.data()["versions"][2], first);
        // Status and content at once: the new content is what is approved.
        let mut both = content("four");
        both["status"] = json!("approved");
        assert_eq!(update(&world, &shop, "order", both).await.data()["currentVersion"], 3);
        assert_eq!(versions(&world, &shop, "order").await, [(3, true), (2, true), (1, true)]);
    }

    async fn a_version_can_be_opened_by_hand(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, least("order")).await.data();
        let open = || world.call("CreateTemplateVersion", &shop.caller, json!({"templateId": "order"}));
        let opened = open().await;
        assert_eq!(opened.status, 201);
        assert_json_snapshot!("template_version_created", steady(&opened.body));
        assert_eq!(versions(&world, &shop, "order").await, [(2, false), (1, false)]);
        assert_eq!(get(&world, &shop, "order").await.data()["etag"], "v2");
        update(&world, &shop, "order", json!({"status": "approved"})).await.data();
        open().await.data();
        assert_eq!(versions(&world, &shop, "order").await, [(3, true), (2, true), (1, false)]);

        let once = shop.caller.once("first");
        let made = world.call("CreateTemplateVersion", &once, json!({"templateId": "order"})).await;
        let again = world.call("CreateTemplateVersion", &once, json!({"templateId": "order"})).await;
        assert_eq!((again.replayed, &again.body), (true, &made.body));
        assert_eq!(versions(&world, &shop, "order").await.len(), 4);
    }

    async fn a_stale_etag_changes_nothing_and_the_current_one_does(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, least("order")).await.data().clone();
        let change = |name: &str| json!({"templateId": "order", "template": {"name": name}, "etag": made["etag"]});
        world.call("UpdateTemplate", &shop.caller, change("First")).await.data();
        let late = world.call("UpdateTemplate", &shop.caller, change("Second")).await;
        assert_json_snapshot!("template_precondition_failed", late.refusal());
        assert_eq!(get(&world, &shop, "order").await.data()["name"], "First");
    }

    async fn a_template_of_another_app_or_none_is_not_found(world) {
        let (shop, other) = (world.tenant("shop").await, world.tenant("other").await);
        let made = create(&world, &shop, least("order")).await;
        let before = get(&world, &shop, "order").await;
        for named in [made.data()["id"].as_str().unwrap(), "order", "tmpl-01hf7yat00000000000000000a"] {
            for answer in [
                get(&world, &other, named).await,
                update(&world, &other, named, json!({"name": "Mine"})).await,
                world.call("CreateTemplateVersion", &other.caller, json!({"templateId": named})).await,
            ] {
                assert_eq!((answer.status, answer.code()), (404, "ERR_TEMPLATE_NOT_FOUND"), "{named}");
                assert_eq!(answer.body["error"]["details"], json!({"templateId": named}));
            }
        }
        assert_eq!(list(&world, &other, json!({})).await, [""; 0]);
        assert_eq!(get(&world, &shop, "order").await.body, before.body);
        // Another app's channels and categories are none of mine either.
        let bell = json!({"channel": {"channelId": "bell", "type": "in_app", "name": "Bell"}});
        let bell = world.call("CreateChannel", &shop.caller, bell).await.data()["id"].clone();
        let stolen = json!({"name": "Order", "channels": [{"channelType": "in_app", "channelId": bell}]});
        assert_eq!(create(&world, &other, stolen).await.code(), "ERR_CHANNEL_NOT_FOUND");
    }

    async fn lists_filter_search_sort_and_walk(world) {
        let shop = world.tenant("shop").await;
        for (slug, name, category, status) in [
            ("welcome", "GRÖSSE 100%", "Onboarding", "approved"),
            ("order_sent", "Order", "Transactional", "draft"),
            ("old-news", "News", "Transactional", "archived"),
            ("news", "Aktuelles", "Marketing", "approved"),
        ] {
            let mut template = least(slug);
            template["name"] = json!(name);
            template["templateCategory"] = json!(category);
            template["status"] = json!(status);
            create(&world, &shop, template).await.data();
        }
        let categories = world.call("ListCategories", &shop.caller, json!({})).await;
        let transactional = categories.data().as_array().unwrap().iter().find(|row| row["name"] == "Transactional");
        let transactional = transactional.unwrap()["id"].clone();
        for (parameters, expected) in [
            (json!({}), "news order_sent welcome"),
            (json!({"status": "archived"}), "old-news"),
            (json!({"status": "approved"}), "news welcome"),
            (json!({"templateCategory": "Transactional"}), "order_sent"),
            (json!({"templateCategory": transactional, "status": "archived"}), "old-news"),
            (json!({"templateCategory": "Nothing"}), ""),
            (json!({"search": "grösse"}), "welcome"),
            (json!({"search": "NEWS"}), "news"),
            (json!({"search": "%"}), "welcome"),
            (json!({"search": "_"}), "order_sent"),
            (json!({"sort": "name", "order": "asc"}), "news welcome order_sent"),
        ] {
            assert_eq!(list(&world, &shop, parameters.clone()).await.join(" "), expected, "{parameters}");
        }
        update(&world, &shop, "welcome", json!({"label": "New"})).await.data();
        assert_eq!(list(&world, &shop, json!({"sort": "updatedAt"})).await, ["welcome", "news", "order_sent"]);
        for sort in ["name", "createdAt", "updatedAt"] {
            let all = list(&world, &shop, json!({"sort": sort})).await;
            let mut walked = Vec::new();
            let mut next = json!({"sort": sort, "limit": 1});
            loop {
                let page = world.call("ListTemplates", &shop.caller, next.clone()).await;
                walked.push(page.data()[0]["templateId"].as_str().unwrap().to_owned());
                let Some(cursor) = page.body["meta"].get("next") else { break };
                for (name, value) in cursor.as_object().unwrap() {
                    next[name] = value.clone();
                }
                assert!(walked.len() <= 3, "{walked:?}");
            }
            assert_eq!(walked, all, "{sort}");
        }
        let page = world.call("ListTemplates", &shop.caller, json!({"page": 2, "limit": 2})).await;
        assert_json_snapshot!("template_list", steady(&page.body));
    }
}
