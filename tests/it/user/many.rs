//! Deactivating and reactivating many users with one call: what each uid is told, and that nothing is half done.

use std::collections::BTreeMap;
use std::time::Duration;

use campanile::domain::{Acting, Service, Settings, app, identity, user};
use campanile::model::app::KeySecret;
use campanile::model::user::{NewUser, Profile, Uid, UserOutcome};
use campanile::model::{Caller, Clock, Timestamp};
use futures::future::join_all;
use insta::assert_json_snapshot;
use serde_json::{Value, json};

use super::{create, get, list, uids};
use crate::support::database::TestDatabase;
use crate::support::rpc::Answer;
use crate::support::shop::Shop;
use crate::support::world::{Tenant, World};
use crate::{everywhere, on_both};

async fn deactivate(world: &World, shop: &Tenant, uids: Value) -> Answer {
    let request = json!({"uidsToDeactivate": uids});
    world.call("DeactivateUsers", &shop.caller, request).await
}

async fn reactivate(world: &World, shop: &Tenant, uids: Value) -> Answer {
    let request = json!({"uidsToActivate": uids});
    world.call("ReactivateUsers", &shop.caller, request).await
}

async fn everybody(world: &World, shop: &Tenant) -> Value {
    list(world, shop, json!({"state": "all"})).await.body
}

everywhere! {
    async fn each_uid_is_told_what_became_of_it(world) {
        let shop = world.tenant("shop").await;
        for uid in ["ada", "bob", "cyd", "dan"] {
            create(&world, &shop, uid, uid).await;
            world.pass(Duration::from_secs(1));
        }
        world.call("DeleteUser", &shop.caller, json!({"uid": "dan"})).await.data();
        let bob = world.call("DeactivateUser", &shop.caller, json!({"uid": "bob"})).await;
        world.pass(Duration::from_secs(1));
        let named = json!(["cyd", "Ada", "bob", "nobody", "dan", "ADA"]);
        let answer = deactivate(&world, &shop, named.clone()).await;
        assert_eq!(answer.status, 200);
        assert_json_snapshot!("users_deactivated", answer.body);
        let ada = get(&world, &shop, "ada").await;
        assert_eq!(ada.data()["deactivatedAt"], "2024-01-15T12:00:05.000Z");
        assert_eq!((&ada.data()["updatedAt"], &ada.data()["etag"]), (&ada.data()["deactivatedAt"], &json!("v2")));
        assert_eq!(get(&world, &shop, "bob").await.body, bob.body);
        assert_eq!(uids(&list(&world, &shop, json!({"state": "all"})).await), ["cyd", "bob", "ada"]);

        // Once more it changes nothing.
        world.pass(Duration::from_secs(1));
        let before = everybody(&world, &shop).await;
        let again = deactivate(&world, &shop, json!(["ada", "cyd"])).await;
        let unchanged = |uid: &str| json!({"uid": uid, "outcome": "unchanged"});
        assert_eq!(again.data()["results"], json!([unchanged("ada"), unchanged("cyd")]));
        assert_eq!(again.data()["deactivatedUids"], json!(["ada", "cyd"]));
        assert_eq!(everybody(&world, &shop).await, before);

        let answer = reactivate(&world, &shop, named).await;
        assert_json_snapshot!("users_reactivated", answer.body);
        for uid in ["ada", "bob", "cyd"] {
            let user = get(&world, &shop, uid).await;
            assert_eq!((user.data().get("deactivatedAt"), &user.data()["etag"]), (None, &json!("v3")), "{uid}");
        }
        assert_eq!(get(&world, &shop, "nobody").await.status, 404);
    }

    async fn what_is_wrong_is_said_at_once_and_nobody_is_changed(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, "ada", "Ada").await;
        let before = everybody(&world, &shop).await;
        let bad = json!(["ada", "a b", "", "a.b"]);
        assert_json_snapshot!("users_to_deactivate_refused", deactivate(&world, &shop, bad.clone()).await.refusal());
        assert_json_snapshot!("users_to_activate_refused", reactivate(&world, &shop, bad).await.refusal());
        let many: Vec<String> = (0..1_001).map(|number| format!("user-{number}")).chain(["ada".to_owned()]).collect();
        for bad in [json!([]), json!(many)] {
            for answer in [deactivate(&world, &shop, bad.clone()).await, reactivate(&world, &shop, bad.clone()).await] {
                assert_eq!((answer.status, answer.code()), (400, "ERR_BAD_REQUEST"));
            }
        }
        let answer = world.call("DeactivateUsers", &shop.caller.on_behalf_of("ada"), json!({"uidsToDeactivate": ["ada"]})).await;
        assert_eq!((answer.status, answer.code()), (400, "ERR_BAD_REQUEST"));
        assert_eq!(everybody(&world, &shop).await, before);
    }

    async fn a_thousand_at_once_are_taken(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, "user-7", "Seven").await;
        let many: Vec<String> = (0..1_000).map(|number| format!("user-{number}")).collect();
        let answer = deactivate(&world, &shop, json!(many)).await;
        assert_eq!(answer.data()["deactivatedUids"], json!(["user-7"]));
        assert_eq!(answer.data()["results"].as_array().unwrap().len(), 1_000);
        assert_eq!(answer.data()["results"][8], json!({"uid": "user-8", "outcome": "not_found"}));
        assert_eq!(uids(&list(&world, &shop, json!({"state": "all"})).await), ["user-7"]);
    }

    async fn a_repeat_with_the_same_idempotency_key_answers_the_same_again(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, "ada", "Ada").await;
        let once = shop.caller.once("k-1");
        let request = json!({"uidsToDeactivate": ["ada", "nobody"]});
        let first = world.call("DeactivateUsers", &once, request.clone()).await;
        world.call("ReactivateUser", &shop.caller, json!({"uid": "ada"})).await.data();
        let again = world.call("DeactivateUsers", &once, request).await;
        assert_eq!((again.status, &again.body, again.replayed), (200, &first.body, true));
        assert_eq!(get(&world, &shop, "ada").await.data().get("deactivatedAt"), None);
        let other = world.call("DeactivateUsers", &once, json!({"uidsToDeactivate": ["ada"]})).await;
        assert_eq!((other.status, other.code()), (409, "ERR_CONFLICT"));
    }

    async fn nothing_reaches_whoever_was_deactivated_with_others(world) {
        let shop = Shop::open(&world).await;
        let send = async || shop.call("SendNotification", json!({"templateId": "plain", "receivers": ["ada", "bob"]})).await;
        send().await.data();
        shop.call("DeactivateUsers", json!({"uidsToDeactivate": ["ada"]})).await.data();
        let sent = send().await;
        let delivered = sent.data()["receivers"].as_array().unwrap().iter();
        let delivered: Vec<_> = delivered.map(|receiver| &receiver["deliveries"][0]["reason"]).collect();
        assert_eq!(delivered, [&json!("user_deactivated"), &Value::Null]);
        let refused = shop.as_user("ada", "GetUnreadCount", json!({})).await;
        assert_eq!((refused.status, refused.code()), (404, "ERR_USER_NOT_FOUND"));
        shop.call("ReactivateUsers", json!({"uidsToActivate": ["ada"]})).await.data();
        assert_eq!((shop.unread("ada").await, shop.unread("bob").await), (1, 2));
    }

    async fn the_users_of_another_app_are_left_alone(world) {
        let (shop, club) = (world.tenant("shop").await, world.tenant("club").await);
        create(&world, &shop, "ada", "Ada").await;
        create(&world, &club, "ada", "Ada").await;
        let before = everybody(&world, &shop).await;
        assert_eq!(deactivate(&world, &club, json!(["ada"])).await.data()["deactivatedUids"], json!(["ada"]));
        assert_eq!(everybody(&world, &shop).await, before);
    }
}

fn noon() -> Timestamp {
    Timestamp::from_millis(1_705_320_000_000).unwrap()
}

async fn node(db: &TestDatabase) -> Service {
    let settings = Settings {
        clock: Clock::fixed(noon()),
        ..Settings::new(db.settings())
    };
    Service::open(settings).await.unwrap()
}

async fn back_end(service: &Service) -> Acting {
    let secret: KeySecret = "k".repeat(40).parse().unwrap();
    app::ensure_bootstrap(service, "demo".parse().unwrap(), secret.clone())
        .await
        .unwrap();
    let facts = identity::find_key(service, secret.digest()).await.unwrap().unwrap();
    let caller = Caller::App {
        app: facts.app,
        key: facts.key,
        scope: facts.scope,
    };
    Acting::new(caller, None, noon())
}

on_both! {
    async fn of_calls_at_once_each_user_is_changed_by_one_and_none_waits_for_ever(db) {
        let nodes = [node(&db).await, node(&db).await];
        let acting = back_end(&nodes[0]).await;
        let everybody: Vec<Uid> = (0..20).map(|number| format!("user-{number}").parse().unwrap()).collect();
        for uid in &everybody {
            let new = NewUser { uid: uid.clone(), profile: Profile::named(uid.as_str().parse().unwrap()) };
            user::create(&nodes[0], &acting, new).await.unwrap();
        }
        // Overlapping and in all orders: whoever locked in the order of the request would wait in a circle.
        let calls = (0..12).map(|turn| {
            let mut named = everybody.clone();
            named.rotate_left(turn);
            if turn % 2 == 0 {
                named.reverse();
            }
            named.truncate(16);
            user::deactivate_many(&nodes[turn % 2], &acting, named)
        });
        let mut changes: BTreeMap<Uid, usize> = BTreeMap::new();
        for answer in join_all(calls).await {
            let results = answer.unwrap().value;
            assert_eq!(results.len(), 16);
            for result in results {
                assert_ne!(result.outcome, UserOutcome::NotFound);
                *changes.entry(result.uid).or_default() += usize::from(result.outcome == UserOutcome::Changed);
            }
        }
        assert_eq!(changes.len(), 20);
        assert!(changes.values().all(|times| *times == 1), "{changes:?}");
        for uid in &everybody {
            let user = user::get(&nodes[1], &acting, uid).await.unwrap();
            assert_eq!((user.deactivated_at, user.version.number()), (Some(noon()), 2));
        }
    }
}
