//! What callers see of users: their lives, their lists, and what is refused. Who may be acted for, and presence, are in
//! `identity.rs`; who may call at all is in `isolation.rs`.

mod list;
mod many;

use std::time::Duration;

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::everywhere;
use crate::support::rpc::Answer;
use crate::support::world::{Caller, Tenant, steady};

async fn create(world: &crate::support::world::World, shop: &Tenant, uid: &str, name: &str) -> Value {
    let answer = world
        .call("CreateUser", &shop.caller, json!({"user": {"uid": uid, "name": name}}))
        .await;
    answer.data().clone()
}

async fn get(world: &crate::support::world::World, shop: &Tenant, uid: &str) -> Answer {
    world.call("GetUser", &shop.caller, json!({"uid": uid})).await
}

async fn list(world: &crate::support::world::World, shop: &Tenant, parameters: Value) -> Answer {
    world.call("ListUsers", &shop.caller, parameters).await
}

fn uids(answer: &Answer) -> Vec<&str> {
    answer
        .data()
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["uid"].as_str().unwrap())
        .collect()
}

fn ada() -> Value {
    json!({
        "uid": "Ada",
        "name": "Ada Lovelace",
        "avatar": "https://example.com/ada.png",
        "link": "https://example.com/ada",
        "role": "Customer",
        "statusMessage": "On holiday",
        "metadata": {"plan": "gold", "seats": 3, "rate": 0.5, "nested": {"list": [1, null, true]}},
        "tags": ["vip", "early"],
    })
}

everywhere! {
    async fn a_user_is_created_lowered_and_read_back(world) {
        let shop = world.tenant("shop").await;
        let made = world.call("CreateUser", &shop.caller, json!({"user": ada()})).await;
        assert_eq!(made.status, 201);
        assert_json_snapshot!("user_created", made.body);
        assert_eq!(get(&world, &shop, "ADA").await.body, made.body);
        let least = world.call("CreateUser", &shop.caller, json!({"user": {"uid": "bob", "name": "Bob"}})).await;
        assert_json_snapshot!("user_created_with_the_least", least.body);
    }

    async fn a_uid_is_taken_once_and_stays_taken_when_its_user_is_deleted(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, "ada", "Ada").await;
        let again = world.call("CreateUser", &shop.caller, json!({"user": {"uid": "ADA", "name": "Another"}})).await;
        assert_json_snapshot!("user_already_exists", again.refusal());
        assert_eq!(get(&world, &shop, "ada").await.data(), &made);

        let deleted = world.call("DeleteUser", &shop.caller, json!({"uid": "Ada"})).await;
        assert_eq!(deleted.status, 200);
        assert_json_snapshot!("user_deleted", deleted.body);
        let again = world.call("CreateUser", &shop.caller, json!({"user": {"uid": "ada", "name": "Another"}})).await;
        assert_eq!((again.status, again.code()), (409, "ERR_USER_ALREADY_EXISTS"));
        assert_eq!(get(&world, &shop, "ada").await.status, 404);
    }

    async fn a_deleted_user_is_gone_for_every_call(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, "ada", "Ada").await;
        world.call("DeleteUser", &shop.caller, json!({"uid": "ada"})).await.data();
        assert_json_snapshot!("user_not_found", get(&world, &shop, "ada").await.refusal());
        for (rpc, request) in [
            ("UpdateUser", json!({"uid": "ada", "user": {"name": "Again"}})),
            ("DeactivateUser", json!({"uid": "ada"})),
            ("ReactivateUser", json!({"uid": "ada"})),
            ("DeleteUser", json!({"uid": "ada"})),
        ] {
            let answer = world.call(rpc, &shop.caller, request).await;
            assert_eq!((answer.status, answer.code()), (404, "ERR_USER_NOT_FOUND"), "{rpc}");
        }
        let all = list(&world, &shop, json!({"state": "all"})).await;
        assert_eq!(all.data(), &json!([]));
    }

    async fn all_that_is_wrong_with_a_user_is_said_at_once_and_nobody_is_created(world) {
        let shop = world.tenant("shop").await;
        let bad = json!({
            "uid": "a b",
            "name": "n".repeat(101),
            "avatar": "ftp://example.com/x",
            "link": "",
            "role": "sales lead",
            "statusMessage": "s".repeat(256),
            "metadata": {"text": "m".repeat(5_200)},
            "tags": ["same", "same", ""],
        });
        let answer = world.call("CreateUser", &shop.caller, json!({"user": bad})).await;
        assert_eq!((answer.status, answer.code()), (400, "ERR_BAD_REQUEST"));
        let details = answer.body["error"]["details"].as_object().unwrap();
        let field = |name: &str| details.keys().any(|key| key.trim_start_matches("user.").starts_with(name));
        for name in ["uid", "name", "avatar", "link", "role", "statusMessage", "metadata", "tags"] {
            assert!(field(name), "{name} is not named in {details:#?}");
        }
        assert!(!answer.body.to_string().contains(&"m".repeat(200)));
        let many: Vec<String> = (0..26).map(|number| format!("tag {number}")).collect();
        let answer = world.call("CreateUser", &shop.caller, json!({"user": {"uid": "ada", "name": "Ada", "tags": many}})).await;
        assert_eq!(answer.status, 400);
        let answer = world.call("CreateUser", &shop.caller, json!({"user": {}})).await;
        let details = answer.body["error"]["details"].as_object().unwrap();
        assert_eq!(details.len(), 2, "{details:#?}");
        assert_eq!(list(&world, &shop, json!({"state": "all"})).await.data(), &json!([]));
    }

    async fn values_at_their_bounds_are_taken(world) {
        let shop = world.tenant("shop").await;
        let tags: Vec<String> = (0..25).map(|number| format!("{number:0100}")).collect();
        let user = json!({
            "uid": "u".repeat(100),
            "name": "é".repeat(100),
            "statusMessage": "s".repeat(255),
            "metadata": {"text": "m".repeat(5_120 - r#"{"text":""}"#.len())},
            "tags": tags,
        });
        let made = world.call("CreateUser", &shop.caller, json!({"user": user})).await;
        assert_eq!(made.status, 201, "{made:#?}");
        for (name, value) in user.as_object().unwrap() {
            assert_eq!(&made.data()[name], value);
        }
    }

    async fn an_update_changes_what_it_names_and_clears_what_is_null(world) {
        let shop = world.tenant("shop").await;
        world.call("CreateUser", &shop.caller, json!({"user": ada()})).await.data();
        world.pass(Duration::from_secs(60));
        let change = json!({"name": "Countess", "avatar": null, "tags": ["one"], "metadata": {"plan": "silver"}, "role": null});
        let changed = world.call("UpdateUser", &shop.caller, json!({"uid": "ADA", "user": change})).await;
        assert_eq!(changed.status, 200);
        // Over gRPC null cannot be said; what clears there is a mask that names an absent field, which the helper sends.
        assert_json_snapshot!("user_updated", changed.body);
        assert_eq!(get(&world, &shop, "ada").await.body, changed.body);
    }

    async fn what_was_read_can_be_sent_back_unchanged(world) {
        let shop = world.tenant("shop").await;
        world.call("CreateUser", &shop.caller, json!({"user": ada()})).await.data();
        let read = get(&world, &shop, "ada").await.data().clone();
        let sent = world.call("UpdateUser", &shop.caller, json!({"uid": "ada", "user": read, "etag": read["etag"]})).await;
        let mut expected = read.clone();
        expected["etag"] = json!("v2");
        assert_eq!(sent.data(), &expected);
    }

    async fn a_stale_etag_changes_nothing_and_the_current_one_does(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, "ada", "Ada").await;
        let update = |name: &str, etag: &Value| json!({"uid": "ada", "user": {"name": name}, "etag": etag});
        world.call("UpdateUser", &shop.caller, update("First", &made["etag"])).await.data();
        let late = world.call("UpdateUser", &shop.caller, update("Second", &made["etag"])).await;
        assert_json_snapshot!("user_precondition_failed", late.refusal());
        assert_eq!(get(&world, &shop, "ada").await.data()["name"], "First");
    }

    async fn of_updates_at_once_with_the_same_etag_one_wins(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, "ada", "Ada").await;
        let calls = (0..8).map(|number| {
            let request = json!({"uid": "ada", "user": {"name": format!("Name {number}")}, "etag": made["etag"]});
            world.call("UpdateUser", &shop.caller, request)
        });
        let statuses: Vec<u16> = futures::future::join_all(calls).await.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 7, "{statuses:?}");
        assert_eq!(get(&world, &shop, "ada").await.data()["etag"], "v2");
    }

    async fn a_uid_never_changes_and_a_name_is_never_cleared(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, "ada", "Ada").await;
        for change in [json!({"uid": "bob"}), json!({"name": null}), json!({"name": ""})] {
            let answer = world.call("UpdateUser", &shop.caller, json!({"uid": "ada", "user": change})).await;
            assert_eq!((answer.status, answer.code()), (400, "ERR_BAD_REQUEST"), "{change}");
        }
        assert_eq!(get(&world, &shop, "ada").await.data(), &made);
        assert_eq!(get(&world, &shop, "bob").await.status, 404);
    }

    async fn deactivating_and_reactivating_answer_the_same_twice(world) {
        let shop = world.tenant("shop").await;
        let made = create(&world, &shop, "ada", "Ada").await;
        world.pass(Duration::from_secs(1));
        let first = world.call("DeactivateUser", &shop.caller, json!({"uid": "ada"})).await;
        assert_eq!(first.data()["deactivatedAt"], "2024-01-15T12:00:01.000Z");
        world.pass(Duration::from_secs(1));
        let second = world.call("DeactivateUser", &shop.caller, json!({"uid": "ada"})).await;
        assert_eq!((second.status, &second.body), (200, &first.body));
        assert_eq!(get(&world, &shop, "ada").await.body, first.body);

        let first = world.call("ReactivateUser", &shop.caller, json!({"uid": "ada"})).await;
        world.pass(Duration::from_secs(1));
        let second = world.call("ReactivateUser", &shop.caller, json!({"uid": "ada"})).await;
        assert_eq!(second.body, first.body);
        assert_eq!(first.data().get("deactivatedAt"), None);
        assert_eq!(first.data()["name"], made["name"]);
    }

    async fn a_repeat_with_the_same_idempotency_key_does_nothing_more(world) {
        let shop = world.tenant("shop").await;
        let once = shop.caller.once("k-1");
        let request = json!({"user": {"uid": "ada", "name": "Ada"}});
        let calls = (0..8).map(|_| world.call("CreateUser", &once, request.clone()));
        let answers = futures::future::join_all(calls).await;
        for answer in &answers {
            assert_eq!((answer.status, &answer.body), (201, &answers[0].body));
        }
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
        let other = world.call("CreateUser", &once, json!({"user": {"uid": "bob", "name": "Bob"}})).await;
        assert_json_snapshot!("user_idempotency_conflict", other.refusal());
        assert_eq!(get(&world, &shop, "bob").await.status, 404);
        // A refusal is not kept: once the reason for it is gone, the same call succeeds.
        let fresh = shop.caller.once("k-2");
        assert_eq!(world.call("DeactivateUser", &fresh, json!({"uid": "bob"})).await.status, 404);
        create(&world, &shop, "bob", "Bob").await;
        assert_eq!(world.call("DeactivateUser", &fresh, json!({"uid": "bob"})).await.status, 200);
    }

    async fn the_list_finds_by_the_beginning_of_uid_or_name_whatever_the_case(world) {
        let shop = world.tenant("shop").await;
        for (uid, name) in [
            ("ada", "Zoë"), ("adam", "Adam"), ("bob", "Ada's friend"), ("a_b", "Under"), ("axb", "Score"),
            ("percent", "100% real"), ("eva", "Éva"), ("back", r"b\s"),
        ] {
            create(&world, &shop, uid, name).await;
        }
        for (search, expected) in [
            ("ada", vec!["ada", "adam", "bob"]),
            ("ADA", vec!["ada", "adam", "bob"]),
            ("a_", vec!["a_b"]),
            ("100%", vec!["percent"]),
            ("%", vec![]),
            ("_", vec![]),
            ("éVA", vec!["eva"]),
            (r"b\", vec!["back"]),
            ("zoë", vec!["ada"]),
            ("da", vec![]),
            ("'", vec![]),
        ] {
            let found = list(&world, &shop, json!({"search": search, "sort": "name", "order": "asc"})).await;
            let mut found = uids(&found);
            found.sort_unstable();
            assert_eq!(found, expected, "{search}");
        }
    }

    async fn the_list_filters_by_time_of_creation_both_ends_included_and_by_state(world) {
        let shop = world.tenant("shop").await;
        for uid in ["first", "second", "third"] {
            create(&world, &shop, uid, uid).await;
            world.pass(Duration::from_secs(1));
        }
        world.call("DeactivateUser", &shop.caller, json!({"uid": "third"})).await.data();
        let (from, to) = ("2024-01-15T12:00:01.000Z", "2024-01-15T12:00:02.000Z");
        for (parameters, expected) in [
            (json!({}), vec!["second", "first"]),
            (json!({"state": "active"}), vec!["second", "first"]),
            (json!({"state": "deactivated"}), vec!["third"]),
            (json!({"state": "all"}), vec!["third", "second", "first"]),
            (json!({"state": "all", "createdFrom": from, "createdTo": to}), vec!["third", "second"]),
            (json!({"state": "all", "createdTo": from}), vec!["second", "first"]),
            (json!({"state": "all", "createdFrom": to}), vec!["third"]),
            (json!({"createdFrom": to, "createdTo": from}), vec![]),
        ] {
            assert_eq!(uids(&list(&world, &shop, parameters.clone()).await), expected, "{parameters}");
        }
    }

    async fn the_list_is_walked_by_cursor_there_and_back_and_read_by_page(world) {
        let shop = world.tenant("shop").await;
        for number in 0..5 {
            create(&world, &shop, &format!("user-{number}"), &format!("Name {number}")).await;
            world.pass(Duration::from_secs(1));
        }
        let first = list(&world, &shop, json!({"limit": 2})).await;
        assert_eq!(uids(&first), ["user-4", "user-3"]);
        assert_json_snapshot!("user_list", first.body);
        let mut next = first.body["meta"]["next"].clone();
        next["limit"] = json!(2);
        let second = list(&world, &shop, next.clone()).await;
        assert_eq!(uids(&second), ["user-2", "user-1"]);
        assert_eq!(second.body.get("pagination"), None);
        // A cursor outlives its row.
        world.call("DeleteUser", &shop.caller, json!({"uid": "user-3"})).await.data();
        assert_eq!(uids(&list(&world, &shop, next).await), ["user-2", "user-1"]);
        let mut previous = second.body["meta"]["previous"].clone();
        previous["limit"] = json!(2);
        assert_eq!(uids(&list(&world, &shop, previous).await), ["user-4"]);
        let page = list(&world, &shop, json!({"page": 2, "limit": 3, "sort": "name", "order": "asc"})).await;
        assert_eq!(uids(&page), ["user-4"]);
        assert_eq!(page.body["pagination"], json!({"page": 2, "limit": 3, "total": 4, "totalPages": 2}));
    }

    async fn list_parameters_out_of_bounds_are_refused(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, "ada", "Ada").await;
        let at = "2024-01-15T12:00:00.000Z";
        for parameters in [
            json!({"limit": 0}),
            json!({"limit": 101}),
            json!({"page": 0}),
            json!({"page": 101, "limit": 100}),
            json!({"page": 1, "id": "ada", "createdAt": at}),
            json!({"id": "ada"}),
            json!({"createdAt": at}),
            json!({"id": "nobody", "createdAt": at}),
            json!({"id": "ada", "createdAt": at, "sort": "name"}),
            json!({"search": ""}),
            json!({"search": "s".repeat(101)}),
        ] {
            let answer = list(&world, &shop, parameters.clone()).await;
            assert_eq!((answer.status, answer.code()), (400, "ERR_BAD_REQUEST"), "{parameters}");
        }
        assert_eq!(list(&world, &shop, json!({"limit": 100, "page": 100})).await.status, 200);
    }

    async fn whoever_is_acted_for_becomes_a_user_and_must_be_active(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, "ada", "Ada").await;
        let for_bob = shop.caller.on_behalf_of("BOB");
        assert_eq!(world.call("GetUser", &for_bob, json!({"uid": "ada"})).await.status, 200);
        assert_eq!(get(&world, &shop, "bob").await.data()["name"], "bob");
        world.call("DeactivateUser", &shop.caller, json!({"uid": "bob"})).await.data();
        let answer = world.call("GetUser", &for_bob, json!({"uid": "ada"})).await;
        assert_eq!((answer.status, answer.code()), (404, "ERR_USER_NOT_FOUND"));
        let answer = world.call("DeactivateUser", &shop.caller.on_behalf_of("carol"), json!({"uid": "ada"})).await;
        assert_eq!(answer.status, 400);
        assert_eq!(get(&world, &shop, "ada").await.data().get("deactivatedAt"), None);
        assert_eq!(get(&world, &shop, "carol").await.status, 404);
    }

    async fn the_same_uid_in_another_app_is_another_user(world) {
        let (shop, club) = (world.tenant("shop").await, world.tenant("club").await);
        create(&world, &shop, "ada", "Ada of the shop").await;
        create(&world, &club, "ada", "Ada of the club").await;
        world.call("DeleteUser", &shop.caller, json!({"uid": "ada"})).await.data();
        assert_eq!(get(&world, &club, "ada").await.data()["name"], "Ada of the club");
        assert_eq!(steady(get(&world, &shop, "ada").await.body.get("error").unwrap())["code"], "ERR_USER_NOT_FOUND");
        assert_eq!(world.call("ListUsers", &Caller::operator(), json!({})).await.status, 403);
    }
}
