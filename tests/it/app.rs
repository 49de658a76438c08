//! What operators and back ends see of apps and API keys. How many nodes agree on them is in `identity.rs`; who may call at
//! all, and how fast a revocation bites, is in `isolation.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::everywhere;
use crate::support::rpc::Answer;
use crate::support::world::{Caller, World, steady};

async fn operate(world: &World, rpc: &str, request: Value) -> Answer {
    world.call(rpc, &Caller::operator(), request).await
}

async fn app(world: &World, id: &str) -> Answer {
    operate(world, "GetApp", json!({"appId": id})).await
}

fn names(answer: &Answer) -> Vec<&str> {
    answer
        .data()
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect()
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{answer:#?}");
}

everywhere! {
    async fn an_app_is_created_with_the_id_it_was_given_or_one_of_its_own(world) {
        let made = operate(&world, "CreateApp", json!({"app": {"id": "shop", "name": "The shop"}})).await;
        assert_eq!(made.status, 201);
        assert_json_snapshot!("app_created", made.body);
        assert_eq!(app(&world, "shop").await.body, made.body);
        let generated = operate(&world, "CreateApp", json!({"app": {"name": "Another"}})).await;
        let id = generated.data()["id"].as_str().unwrap();
        assert!(id.starts_with("app-") && id.len() == 30, "{id}");
        assert_eq!(app(&world, id).await.body, generated.body);
    }

    async fn an_app_starts_with_seven_categories(world) {
        let shop = world.tenant("shop").await;
        let categories = world.call("ListCategories", &shop.caller, json!({"sort": "name", "order": "asc"})).await;
        let expected = ["Alerts", "Custom", "Marketing", "Onboarding", "Polls", "Product_Showcase", "Transactional"];
        assert_eq!(names(&categories), expected);
    }

    async fn an_app_id_is_taken_once_and_has_its_form(world) {
        operate(&world, "CreateApp", json!({"app": {"id": "shop", "name": "First"}})).await.data();
        let again = operate(&world, "CreateApp", json!({"app": {"id": "shop", "name": "Second"}})).await;
        assert_json_snapshot!("app_already_exists", again.refusal());
        assert_eq!(app(&world, "shop").await.data()["name"], "First");
        let like_generated = format!("app-{}", "0".repeat(26));
        for id in ["Shop", "", "-shop", "a_b", "a.b", &"a".repeat(64), &like_generated] {
            let answer = operate(&world, "CreateApp", json!({"app": {"id": id, "name": "Shop"}})).await;
            refused(&answer, 400, "ERR_BAD_REQUEST");
            let details = answer.body["error"]["details"].as_object().unwrap();
            assert!(details.keys().all(|key| key.trim_start_matches("app.") == "id"), "{id}: {details:#?}");
        }
        refused(&operate(&world, "CreateApp", json!({"app": {"id": "club", "name": ""}})).await, 400, "ERR_BAD_REQUEST");
        assert_eq!(names(&operate(&world, "ListApps", json!({})).await), ["First"]);
    }

    async fn an_app_is_renamed_unless_somebody_came_first(world) {
        let made = operate(&world, "CreateApp", json!({"app": {"id": "shop", "name": "Old"}})).await.data().clone();
        world.pass(Duration::from_secs(60));
        let change = json!({"appId": "shop", "app": {"name": "New"}, "etag": made["etag"]});
        let renamed = operate(&world, "UpdateApp", change.clone()).await;
        assert_json_snapshot!("app_updated", renamed.body);
        refused(&operate(&world, "UpdateApp", change).await, 412, "ERR_PRECONDITION_FAILED");
        for app in [json!({"id": "club"}), json!({"name": null}), json!({"name": "n".repeat(101)})] {
            let answer = operate(&world, "UpdateApp", json!({"appId": "shop", "app": app})).await;
            refused(&answer, 400, "ERR_BAD_REQUEST");
        }
        assert_eq!(app(&world, "shop").await.body, renamed.body);
        let read = renamed.data().clone();
        let sent_back = operate(&world, "UpdateApp", json!({"appId": "shop", "app": read})).await;
        assert_eq!(sent_back.data()["name"], "New");
        let missing = operate(&world, "UpdateApp", json!({"appId": "club", "app": {"name": "Club"}})).await;
        assert_json_snapshot!("app_not_found", missing.refusal());
    }

    async fn apps_are_listed_by_cursor_and_by_page(world) {
        for id in ["a", "b", "c"] {
            operate(&world, "CreateApp", json!({"app": {"id": id, "name": id.to_uppercase()}})).await.data();
            world.pass(Duration::from_secs(1));
        }
        let first = operate(&world, "ListApps", json!({"limit": 2})).await;
        assert_eq!(names(&first), ["C", "B"]);
        assert_json_snapshot!("app_list", first.body);
        let next = first.body["meta"]["next"].clone();
        assert_eq!(names(&operate(&world, "ListApps", next).await), ["A"]);
        let page = json!({"page": 2, "limit": 2, "sort": "name", "order": "asc"});
        assert_eq!(names(&operate(&world, "ListApps", page).await), ["C"]);
        let stranger = json!({"id": "nowhere", "createdAt": "2024-01-15T12:00:00.000Z"});
        refused(&operate(&world, "ListApps", stranger).await, 400, "ERR_BAD_REQUEST");
    }

    async fn a_key_is_shown_once_and_works(world) {
        let shop = world.tenant("shop").await;
        let made = world.call("CreateApiKey", &shop.caller, json!({"apiKey": {"name": "Back end", "scope": "fullAccess"}})).await;
        assert_eq!(made.status, 201);
        assert_json_snapshot!("api_key_created", steady(&made.body));
        let key = made.data()["key"].as_str().unwrap();
        assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
        assert!(key.ends_with(made.data()["hint"].as_str().unwrap()));
        let read = world.call("GetApiKey", &Caller::key(key), json!({"apiKeyId": made.data()["id"]})).await;
        assert_json_snapshot!("api_key_read", steady(&read.body));
        let listed = world.call("ListApiKeys", &shop.caller, json!({})).await;
        assert_eq!(listed.data().as_array().unwrap().len(), 2);
        let renamed = json!({"apiKeyId": made.data()["id"], "apiKey": {"name": "Other"}});
        let renamed = world.call("UpdateApiKey", &shop.caller, renamed).await;
        for answer in [&read, &listed, &renamed] {
            assert!(!answer.body.to_string().contains(key));
        }
    }

    async fn a_key_without_a_scope_reaches_least(world) {
        let shop = world.tenant("shop").await;
        let made = world.call("CreateApiKey", &shop.caller, json!({"apiKey": {"name": "Front end"}})).await;
        assert_eq!(made.data()["scope"], "authOnly");
        for key in [json!({}), json!({"name": ""}), json!({"name": "n".repeat(101)})] {
            let answer = world.call("CreateApiKey", &shop.caller, json!({"apiKey": key})).await;
            refused(&answer, 400, "ERR_BAD_REQUEST");
        }
        assert_eq!(world.call("ListApiKeys", &shop.caller, json!({})).await.data().as_array().unwrap().len(), 2);
    }

    async fn a_repeat_with_the_same_idempotency_key_shows_the_same_secret(world) {
        let shop = world.tenant("shop").await;
        let once = shop.caller.once("first-key");
        let request = json!({"apiKey": {"name": "Back end"}});
        let first = world.call("CreateApiKey", &once, request.clone()).await;
        let second = world.call("CreateApiKey", &once, request).await;
        assert_eq!((second.status, &second.body), (201, &first.body));
        assert_eq!((first.replayed, second.replayed), (false, true));
        let other = world.call("CreateApiKey", &once, json!({"apiKey": {"name": "Front end"}})).await;
        refused(&other, 409, "ERR_CONFLICT");
        assert_eq!(world.call("ListApiKeys", &shop.caller, json!({})).await.data().as_array().unwrap().len(), 2);
    }

    async fn an_app_holds_twenty_five_keys_and_a_revoked_one_makes_room(world) {
        let shop = world.tenant("shop").await;
        let mut ids = Vec::new();
        for _ in 1..25 {
            ids.push(world.key("shop", "authOnly").await.0);
        }
        let request = json!({"apiKey": {"name": "One more"}});
        let answer = world.call("CreateApiKey", &shop.caller, request.clone()).await;
        assert_json_snapshot!("api_key_limit", answer.refusal());
        let listed = world.call("ListApiKeys", &shop.caller, json!({"limit": 100})).await;
        assert_eq!(listed.data().as_array().unwrap().len(), 25);
        world.call("RevokeApiKey", &shop.caller, json!({"apiKeyId": ids[0]})).await.data();
        assert_eq!(world.call("CreateApiKey", &shop.caller, request).await.status, 201);
        // Another app has room of its own.
        world.tenant("club").await;
    }

    async fn a_key_changes_name_and_scope_unless_somebody_came_first(world) {
        let shop = world.tenant("shop").await;
        let (id, caller) = world.key("shop", "authOnly").await;
        world.pass(Duration::from_secs(60));
        let change = |key: Value, etag: &str| json!({"apiKeyId": id, "apiKey": key, "etag": etag});
        let wider = json!({"name": "Renamed", "scope": "fullAccess"});
        let changed = world.call("UpdateApiKey", &shop.caller, change(wider, "v1")).await;
        assert_json_snapshot!("api_key_updated", steady(&changed.body));
        let late = world.call("UpdateApiKey", &shop.caller, change(json!({"name": "Late"}), "v1")).await;
        refused(&late, 412, "ERR_PRECONDITION_FAILED");
        assert_eq!(world.call("ListUsers", &caller, json!({})).await.status, 200);
        let cleared = world.call("UpdateApiKey", &shop.caller, change(json!({"scope": null}), "v2")).await;
        assert_eq!((&cleared.data()["scope"], &cleared.data()["name"]), (&json!("authOnly"), &json!("Renamed")));
    }

    async fn a_key_neither_changes_nor_revokes_itself(world) {
        let shop = world.tenant("shop").await;
        let target = json!({"apiKeyId": shop.key_id, "apiKey": {"scope": "authOnly"}});
        let answer = world.call("UpdateApiKey", &shop.caller, target).await;
        assert_json_snapshot!("api_key_no_self_action", answer.refusal());
        let target = json!({"apiKeyId": shop.key_id});
        refused(&world.call("RevokeApiKey", &shop.caller, target.clone()).await, 403, "ERR_FORBIDDEN");
        let read = world.call("GetApiKey", &shop.caller, target).await;
        assert_eq!((&read.data()["scope"], &read.data()["etag"]), (&json!("fullAccess"), &json!("v1")));
    }

    async fn a_key_is_revoked_once_and_gone(world) {
        let shop = world.tenant("shop").await;
        let (id, _) = world.key("shop", "authOnly").await;
        let revoked = world.call("RevokeApiKey", &shop.caller, json!({"apiKeyId": id})).await;
        assert_eq!(revoked.status, 200);
        assert_json_snapshot!("api_key_revoked", steady(&revoked.body));
        for (rpc, request) in [
            ("RevokeApiKey", json!({"apiKeyId": id})),
            ("GetApiKey", json!({"apiKeyId": id})),
            ("UpdateApiKey", json!({"apiKeyId": id, "apiKey": {"name": "Back"}})),
        ] {
            let answer = world.call(rpc, &shop.caller, request).await;
            refused(&answer, 404, "ERR_APIKEY_NOT_FOUND");
            assert_json_snapshot!("api_key_not_found", steady(&answer.refusal()));
        }
        let malformed = world.call("GetApiKey", &shop.caller, json!({"apiKeyId": "shop"})).await;
        refused(&malformed, 400, "ERR_BAD_REQUEST");
        assert_eq!(world.call("ListApiKeys", &shop.caller, json!({})).await.data().as_array().unwrap().len(), 1);
    }

    async fn the_operator_manages_the_keys_of_any_app_it_names(world) {
        let shop = world.tenant("shop").await;
        world.tenant("club").await;
        let listed = operate(&world, "ListApiKeys", json!({"appId": "shop"})).await;
        let ids: BTreeSet<_> = listed.data().as_array().unwrap().iter().map(|key| key["id"].clone().to_string()).collect();
        assert_eq!(ids, BTreeSet::from([json!(shop.key_id).to_string()]));
        let unnamed = operate(&world, "ListApiKeys", json!({})).await;
        assert_json_snapshot!("api_key_app_required", unnamed.refusal());
        refused(&operate(&world, "ListApiKeys", json!({"appId": "nowhere"})).await, 404, "ERR_APP_NOT_FOUND");
        let elsewhere = json!({"appId": "club", "apiKeyId": shop.key_id});
        refused(&operate(&world, "RevokeApiKey", elsewhere).await, 404, "ERR_APIKEY_NOT_FOUND");
        let own = world.call("GetApiKey", &shop.caller, json!({"appId": "shop", "apiKeyId": shop.key_id})).await;
        assert_eq!(own.status, 200);
        let revoked = operate(&world, "RevokeApiKey", json!({"appId": "shop", "apiKeyId": shop.key_id})).await;
        assert_eq!(revoked.data()["id"], json!(shop.key_id));
    }
}
