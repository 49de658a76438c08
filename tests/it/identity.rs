//! What start-up, authentication and sends ask of the domain directly, and what happens when several nodes ask at once.
//! What callers see of apps and users is in `app.rs` and `user.rs`.

use std::collections::BTreeSet;

use campanile::domain::{Acting, Service, Settings, app, identity, user};
use campanile::model::app::{API_KEYS_MAX, KeyDigest, KeySecret, NewApiKey, NewApp};
use campanile::model::id::{ApiKeyId, AppId};
use campanile::model::user::{NewUser, Profile, Uid};
use campanile::model::{Caller, Clock, Reason, Scope, Timestamp};

use crate::on_both;
use crate::support::database::TestDatabase;

const NOON: i64 = 1_705_320_000_000;

fn noon() -> Timestamp {
    Timestamp::from_millis(NOON).unwrap()
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_millis(NOON + seconds * 1_000).unwrap()
}

async fn node(db: &TestDatabase, auto_create_users: bool) -> Service {
    let settings = Settings {
        auto_create_users,
        clock: Clock::fixed(noon()),
        ..Settings::new(db.settings())
    };
    Service::open(settings).await.unwrap()
}

fn secret(letter: &str) -> KeySecret {
    letter.repeat(40).parse().unwrap()
}

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

async fn key_of(service: &Service, secret: &KeySecret) -> campanile::model::app::KeyFacts {
    identity::find_key(service, secret.digest()).await.unwrap().unwrap()
}

/// An app with a key, and somebody who presents it.
async fn an_app(service: &Service, slug: &str, letter: &str) -> (AppId, Acting) {
    app::ensure_bootstrap(service, slug.parse().unwrap(), secret(letter))
        .await
        .unwrap();
    let facts = key_of(service, &secret(letter)).await;
    let caller = Caller::App {
        app: facts.app,
        key: facts.key,
        scope: facts.scope,
    };
    (facts.app, Acting::new(caller, None, noon()))
}

async fn create_user(service: &Service, acting: &Acting, name: &str) {
    let new = NewUser {
        uid: uid(name),
        profile: Profile::named(name.parse().unwrap()),
    };
    user::create(service, acting, new).await.unwrap();
}

on_both! {
    async fn nodes_that_start_together_make_one_app_and_one_key(db) {
        let nodes = [node(&db, true).await, node(&db, true).await, node(&db, true).await];
        for _ in 0..2 {
            let starts = nodes.iter().map(|node| app::ensure_bootstrap(node, "demo".parse().unwrap(), secret("k")));
            for start in futures::future::join_all(starts).await {
                start.unwrap();
            }
        }
        let facts = key_of(&nodes[0], &secret("k")).await;
        assert_eq!((facts.slug.as_str(), facts.scope), ("demo", Scope::FullAccess));
        // A second key for the same app joins the first.
        app::ensure_bootstrap(&nodes[1], "demo".parse().unwrap(), secret("l")).await.unwrap();
        assert_eq!(key_of(&nodes[2], &secret("l")).await.app, facts.app);
    }

    async fn a_bootstrap_key_of_another_app_is_refused_and_makes_no_app(db) {
        let service = node(&db, true).await;
        app::ensure_bootstrap(&service, "demo".parse().unwrap(), secret("k")).await.unwrap();
        let error = app::ensure_bootstrap(&service, "other".parse().unwrap(), secret("k")).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Conflict);
        assert!(!error.dev_message().contains(&"k".repeat(40)));
        let other = app::get(&service, &service.as_operator(), &"other".parse().unwrap()).await;
        assert_eq!(other.unwrap_err().reason(), Reason::AppNotFound);
    }

    async fn a_revoked_bootstrap_key_stays_revoked_at_the_next_start(db) {
        let service = node(&db, true).await;
        app::ensure_bootstrap(&service, "demo".parse().unwrap(), secret("k")).await.unwrap();
        let target = app::KeyRef { app: Some("demo".parse().unwrap()), id: key_of(&service, &secret("k")).await.key };
        app::revoke_key(&service, &service.as_operator(), target).await.unwrap();
        app::ensure_bootstrap(&service, "demo".parse().unwrap(), secret("k")).await.unwrap();
        assert_eq!(identity::find_key(&service, secret("k").digest()).await.unwrap(), None);
    }

    async fn nobody_is_found_by_a_key_that_does_not_exist(db) {
        let service = node(&db, true).await;
        an_app(&service, "demo", "k").await;
        assert_eq!(identity::find_key(&service, KeyDigest::of("")).await.unwrap(), None);
        assert_eq!(identity::find_key(&service, KeyDigest::of(&"k".repeat(39))).await.unwrap(), None);
    }

    async fn calls_at_once_never_make_more_keys_than_an_app_may_hold(db) {
        let nodes = [node(&db, true).await, node(&db, true).await];
        app::ensure_bootstrap(&nodes[0], "demo".parse().unwrap(), secret("k")).await.unwrap();
        let calls = (0..40).map(|number| {
            let service = nodes[number % 2].clone();
            async move {
                let new = NewApiKey { name: "More".parse().unwrap(), scope: Scope::AuthOnly };
                app::create_key(&service, &service.as_operator(), Some("demo".parse().unwrap()), new).await
            }
        });
        let (made, refused): (Vec<_>, Vec<_>) =
            futures::future::join_all(calls).await.into_iter().partition(Result::is_ok);
        assert_eq!(made.len(), API_KEYS_MAX as usize - 1);
        for refusal in refused {
            let error = refusal.unwrap_err();
            assert_eq!(error.reason(), Reason::Conflict);
            assert_eq!(error.metadata(), [("limit", "25".to_owned())]);
        }
        let secrets: BTreeSet<_> =
            made.iter().map(|made| made.as_ref().unwrap().value.secret.reveal_once().to_owned()).collect();
        assert_eq!(secrets.len(), made.len());
    }

    async fn an_app_that_cannot_be_made_leaves_no_categories_behind(db) {
        let service = node(&db, true).await;
        let new = || NewApp { slug: Some("demo".parse().unwrap()), name: "Demo".parse().unwrap() };
        let first = app::create(&service, &service.as_operator(), new()).await.unwrap().value;
        let error = app::create(&service, &service.as_operator(), new()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::AppAlreadyExists);
        assert_eq!(error.metadata(), [("appId", "demo".to_owned())]);
        assert_eq!(app::get(&service, &service.as_operator(), &first.slug).await.unwrap(), first);
    }

    async fn whoever_is_not_the_operator_makes_no_app(db) {
        let service = node(&db, true).await;
        let (app, acting) = an_app(&service, "demo", "k").await;
        let new = NewApp { slug: Some("mine".parse().unwrap()), name: "Mine".parse().unwrap() };
        for caller in [acting.caller, Caller::Public] {
            let acting = Acting::new(caller, None, noon());
            let error = app::create(&service, &acting, new.clone()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::Forbidden);
        }
        let mine = app::get(&service, &service.as_operator(), &"mine".parse().unwrap()).await;
        assert_eq!(mine.unwrap_err().reason(), Reason::AppNotFound);
        let stranger = Caller::App { app, key: ApiKeyId::new(noon()), scope: Scope::FullAccess };
        let named = Some("elsewhere".parse().unwrap());
        let new = NewApiKey { name: "Key".parse().unwrap(), scope: Scope::FullAccess };
        let error = app::create_key(&service, &Acting::new(stranger, None, noon()), named, new).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Unauthorized);
    }

    async fn whoever_is_first_acted_for_becomes_a_user_once(db) {
        let nodes = [node(&db, true).await, node(&db, true).await];
        let (app, acting) = an_app(&nodes[0], "demo", "k").await;
        let ada = uid("ada");
        let calls = (0..8).map(|number| user::acting(&nodes[number % 2], app, &ada, noon()));
        let users: BTreeSet<_> =
            futures::future::join_all(calls).await.into_iter().map(|user| user.unwrap().id).collect();
        assert_eq!(users.len(), 1);
        let user = user::get(&nodes[0], &acting, &ada).await.unwrap();
        assert_eq!((user.profile.name.as_str(), user.profile.role.as_str()), ("ada", "default"));
    }

    async fn strangers_are_not_acted_for_where_they_may_not_be_created(db) {
        let service = node(&db, false).await;
        let (app, acting) = an_app(&service, "demo", "k").await;
        let error = user::acting(&service, app, &uid("ada"), noon()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::UserNotFound);
        assert_eq!(error.metadata(), [("uid", "ada".to_owned())]);
        assert_eq!(user::get(&service, &acting, &uid("ada")).await.unwrap_err().reason(), Reason::UserNotFound);
    }

    async fn deactivated_and_deleted_users_are_not_acted_for(db) {
        let service = node(&db, true).await;
        let (app, acting) = an_app(&service, "demo", "k").await;
        for name in ["ada", "bob"] {
            create_user(&service, &acting, name).await;
        }
        user::deactivate(&service, &acting, uid("ada")).await.unwrap();
        user::delete(&service, &acting, uid("bob")).await.unwrap();
        for name in ["ada", "bob"] {
            let error = user::acting(&service, app, &uid(name), noon()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::UserNotFound, "{name}");
        }
        user::reactivate(&service, &acting, uid("ada")).await.unwrap();
        assert!(user::acting(&service, app, &uid("ada"), noon()).await.is_ok());
    }

    async fn presence_is_written_once_a_minute_and_changes_no_etag(db) {
        let service = node(&db, true).await;
        let (app, acting) = an_app(&service, "demo", "k").await;
        create_user(&service, &acting, "ada").await;
        let before = user::get(&service, &acting, &uid("ada")).await.unwrap();
        let mut seen = Vec::new();
        for seconds in [0, 59, 60, 61, 121] {
            let now = later(seconds);
            let ada = user::acting(&service, app, &uid("ada"), now).await.unwrap();
            user::touch(&service, app, &ada, now).await.unwrap();
            let after = user::get(&service, &Acting::new(acting.caller, None, now), &uid("ada")).await.unwrap();
            seen.push((after.last_active_at.unwrap().millis() - NOON) / 1_000);
            assert_eq!((after.version, after.updated_at), (before.version, before.updated_at));
        }
        assert_eq!(seen, [0, 0, 60, 60, 121]);
    }
}
