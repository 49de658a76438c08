//! Which users a list holds: every filter with every other, in every order, and what the databases find them by.

use std::time::Duration;

use campanile::domain::{Service, Settings, app};
use campanile::model::app::NewApp;
use campanile::model::id::{AppId, UserId};
use campanile::model::user::{Profile, User, UserFilter, UserStatus};
use campanile::model::version::Version;
use campanile::model::{Clock, Timestamp};
use campanile::store::entity::user::Column;
use campanile::store::{Store, user as store};
use insta::assert_json_snapshot;
use sea_orm::{ConnectionTrait, DatabaseBackend, QueryOrder, QuerySelect, QueryTrait};
use serde_json::{Value, json};

use super::{create, list, uids};
use crate::support::rpc::{Answer, Door};
use crate::support::world::{Tenant, World, call};
use crate::{everywhere, on_both};

/// Somebody to find, and what there is to find them by.
struct Somebody {
    uid: &'static str,
    role: &'static str,
    tags: &'static [&'static str],
    online: bool,
    deactivated: bool,
}

const fn somebody(
    uid: &'static str,
    role: &'static str,
    tags: &'static [&'static str],
    (online, deactivated): (bool, bool),
) -> Somebody {
    Somebody {
        uid,
        role,
        tags,
        online,
        deactivated,
    }
}

const PEOPLE: [Somebody; 9] = [
    somebody("ada", "customer", &["vip", "early"], (true, false)),
    somebody("bob", "customer", &["vip"], (false, false)),
    somebody("cyd", "customer", &["a\"b", "early"], (true, true)),
    somebody("dan", "admin", &[], (true, false)),
    somebody("eve", "admin", &["vip", "early", "x"], (false, true)),
    somebody("fay", "default", &["early"], (true, false)),
    somebody("gil", "default", &["VIP", "vip "], (false, false)),
    somebody("hal", "default", &["%", "vi"], (false, false)),
    somebody("ivy", "customer", &["early", "vip"], (true, false)),
];

async fn fill(world: &World, shop: &Tenant) {
    for person in &PEOPLE {
        let user =
            json!({"uid": person.uid, "name": format!("N {}", person.uid), "role": person.role, "tags": person.tags});
        world
            .call("CreateUser", &shop.caller, json!({"user": user}))
            .await
            .data();
        world.pass(Duration::from_secs(1));
    }
    let there = async |uid: &str| {
        let caller = shop.caller.on_behalf_of(uid);
        world.call("ListFeedItems", &caller, json!({})).await.data();
    };
    // Once long ago is not now, and some were never there.
    there("bob").await;
    world.pass(Duration::from_secs(600));
    for person in PEOPLE.iter().filter(|person| person.online) {
        there(person.uid).await;
    }
    // The other way round, so that the last changes have another order than the creations.
    for person in PEOPLE.iter().rev() {
        if person.deactivated {
            let request = json!({"uid": person.uid});
            world.call("DeactivateUser", &shop.caller, request).await.data();
        } else {
            let request = json!({"uid": person.uid, "user": {"statusMessage": "hello"}});
            world.call("UpdateUser", &shop.caller, request).await.data();
        }
        world.pass(Duration::from_secs(1));
    }
}

fn expected<'p>(order: &[&'p str], parameters: &Value) -> Vec<&'p str> {
    let wanted = |name: &str| parameters[name].as_str();
    let matches = |uid: &&&str| {
        let person = PEOPLE.iter().find(|person| person.uid == **uid).unwrap();
        let role = wanted("role").is_none_or(|role| role.eq_ignore_ascii_case(person.role));
        let status = wanted("status").is_none_or(|status| (status != "offline") == person.online);
        let state = wanted("state").unwrap_or("active") == "all" || !person.deactivated;
        let tags: Vec<&str> = parameters["tags"].as_array().map_or(Vec::new(), |tags| {
            tags.iter().map(|tag| tag.as_str().unwrap()).collect()
        });
        let has = |tag: &&str| person.tags.contains(tag);
        let tagged = match wanted("tagMatch") {
            Some("all") => tags.iter().all(has),
            _ => tags.is_empty() || tags.iter().any(has),
        };
        role && status && state && tagged
    };
    order.iter().filter(matches).copied().collect()
}

/// All pages of a list by cursor, which has to tell how many there are, and to find its way back.
async fn walk(world: &World, shop: &Tenant, parameters: &Value) -> Vec<String> {
    let (mut walked, mut request) = (Vec::new(), parameters.clone());
    request["limit"] = json!(2);
    let first = list(world, shop, request.clone()).await;
    let mut page = first.clone();
    loop {
        walked.extend(uids(&page).into_iter().map(str::to_owned));
        let Some(next) = page.body["meta"].get("next") else {
            break;
        };
        let from = request.clone();
        request = merged(parameters, next);
        page = list(world, shop, request.clone()).await;
        let back = merged(parameters, &page.body["meta"]["previous"]);
        let back = list(world, shop, back).await;
        assert_eq!(uids(&back), uids(&list(world, shop, from).await), "{request}");
    }
    assert_eq!(first.body["pagination"]["total"], json!(walked.len()), "{parameters}");
    walked
}

fn merged(parameters: &Value, cursor: &Value) -> Value {
    let mut merged = parameters.clone();
    let fields = merged.as_object_mut().unwrap();
    fields.extend(cursor.as_object().unwrap().clone());
    fields.insert("limit".to_owned(), json!(2));
    merged
}

fn filters() -> Vec<Value> {
    let mut filters = Vec::new();
    for role in [None, Some("customer"), Some("ADMIN"), Some("nobody")] {
        for status in [None, Some("online"), Some("offline"), Some("available")] {
            for (tags, tag_match) in [
                (json!([]), None),
                (json!(["vip"]), None),
                (json!(["vip", "early"]), Some("any")),
                (json!(["vip", "early"]), Some("all")),
                (json!(["a\"b"]), Some("all")),
            ] {
                for state in [None, Some("all")] {
                    let mut filter = json!({"tags": tags});
                    for (name, value) in [
                        ("role", role),
                        ("status", status),
                        ("tagMatch", tag_match),
                        ("state", state),
                    ] {
                        if let Some(value) = value {
                            filter[name] = json!(value);
                        }
                    }
                    filters.push(filter);
                }
            }
        }
    }
    filters
}

async fn with_status(world: &World, shop: &Tenant, status: &str) -> Answer {
    list(world, shop, json!({"status": status})).await
}

everywhere! {
    async fn every_filter_goes_with_every_other_in_every_order(world) {
        let shop = world.tenant("shop").await;
        fill(&world, &shop).await;
        let mut orders = Vec::new();
        for sort in ["createdAt", "updatedAt", "name"] {
            for order in ["asc", "desc"] {
                let sorted = json!({"sort": sort, "order": order});
                let all = list(&world, &shop, merged(&sorted, &json!({"state": "all"}))).await;
                assert_eq!(all.body["pagination"]["total"], json!(PEOPLE.len()));
                let mut order: Vec<&str> = PEOPLE.iter().map(|person| person.uid).collect();
                // Everybody was changed, the last first, and the names go with the uids.
                if (sort == "updatedAt") == (sorted["order"] == "asc") {
                    order.reverse();
                }
                orders.push((sorted, order));
            }
        }
        for (number, filter) in filters().into_iter().enumerate() {
            let (sorted, order) = &orders[number % orders.len()];
            let parameters = merged(sorted, &filter);
            assert_eq!(walk(&world, &shop, &parameters).await, expected(order, &parameters), "{parameters}");
        }
        // With a search and a range of time as well.
        let narrow = json!({
            "role": "customer", "status": "online", "tags": ["vip", "early"], "tagMatch": "all", "state": "active",
            "search": "n I", "createdFrom": "2024-01-15T12:00:08.000Z", "createdTo": "2024-01-15T12:00:08.000Z",
        });
        assert_eq!(uids(&list(&world, &shop, narrow.clone()).await), ["ivy"]);
        for (name, other) in [
            ("role", json!("admin")), ("status", json!("offline")), ("tags", json!(["x"])), ("state", json!("deactivated")),
            ("search", json!("n a")), ("createdFrom", json!("2024-01-15T12:00:09.000Z")), ("createdTo", json!("2024-01-15T12:00:07.000Z")),
        ] {
            let mut other_parameters = narrow.clone();
            other_parameters[name] = other;
            assert_eq!(list(&world, &shop, other_parameters).await.data(), &json!([]), "{name}");
        }
    }

    async fn whoever_was_there_within_ninety_seconds_is_online(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, "ada", "Ada").await;
        world.pass(Duration::from_secs(1));
        create(&world, &shop, "bob", "Bob").await;
        world.call("ListFeedItems", &shop.caller.on_behalf_of("ada"), json!({})).await.data();
        world.pass(Duration::from_secs(90));
        let online = with_status(&world, &shop, "online").await;
        assert_eq!(uids(&online), ["ada"]);
        assert_eq!(online.data()[0]["status"], "online");
        assert_eq!(with_status(&world, &shop, "available").await.body, online.body);
        assert_eq!(uids(&with_status(&world, &shop, "offline").await), ["bob"]);
        world.pass(Duration::from_millis(1));
        assert_eq!(with_status(&world, &shop, "online").await.data(), &json!([]));
        let offline = with_status(&world, &shop, "offline").await;
        assert_eq!(uids(&offline), ["bob", "ada"]);
        assert_eq!(offline.data()[1]["status"], "offline");
    }

    async fn filters_out_of_bounds_are_refused_together(world) {
        let shop = world.tenant("shop").await;
        create(&world, &shop, "ada", "Ada").await;
        let bad = json!({"role": "sales lead", "tags": ["", "t".repeat(101)], "search": "s".repeat(101)});
        assert_json_snapshot!("user_filters_refused", list(&world, &shop, bad).await.refusal());
        let many: Vec<String> = (0..26).map(|number| format!("tag {number}")).collect();
        for bad in [json!({"tags": many}), json!({"tags": ["vip", "vip"]})] {
            let answer = list(&world, &shop, bad.clone()).await;
            assert_eq!((answer.status, answer.code()), (400, "ERR_BAD_REQUEST"), "{bad}");
        }
        let many: Vec<String> = (0..25).map(|number| format!("{number:0100}")).collect();
        assert_eq!(list(&world, &shop, json!({"tags": many, "tagMatch": "all"})).await.data(), &json!([]));
    }
}

/// An app with so many users that reading all of them is the worse way.
async fn crowd(db: &Store, service: &Service) -> AppId {
    let operator = service.as_operator();
    let new = NewApp {
        slug: Some("shop".parse().unwrap()),
        name: "Shop".parse().unwrap(),
    };
    let app = app::create(service, &operator, new).await.unwrap().value.id;
    let users: Vec<User> = (0..4_000)
        .map(|number| {
            let name = format!("Name {number}");
            let mut profile = Profile::named(name.parse().unwrap());
            if number % 1_000 == 0 {
                profile.role = "admin".parse().unwrap();
            }
            User {
                id: UserId::new(at(number)),
                uid: format!("user-{number}").parse().unwrap(),
                profile,
                status: UserStatus::Offline,
                last_active_at: None,
                deactivated_at: None,
                created_at: at(number),
                updated_at: at(number),
                version: Version::FIRST,
            }
        })
        .collect();
    db.write(move |tx| {
        let users = users.clone();
        Box::pin(async move {
            store::insert_users(tx, app, &users).await?;
            tx.execute_unprepared("ANALYZE").await?;
            Ok(())
        })
    })
    .await
    .unwrap();
    app
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_705_320_000_000 + seconds * 1_000).unwrap()
}

async fn plan(db: &Store, app: AppId, filter: &UserFilter, sort: Column) -> String {
    let backend = db.read().get_database_backend();
    let (explain, column) = match backend {
        DatabaseBackend::Postgres => ("EXPLAIN", "QUERY PLAN"),
        _ => ("EXPLAIN QUERY PLAN", "detail"),
    };
    let query = store::matching_users((backend, app), filter, at(0));
    let query = query.order_by_desc(sort).order_by_desc(Column::Id).limit(21);
    let mut statement = query.build(backend);
    statement.sql = format!("{explain} {}", statement.sql);
    let rows = db.read().query_all_raw(statement).await.unwrap();
    let lines = rows.iter().map(|row| row.try_get::<String>("", column).unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

on_both! {
    async fn a_word_that_is_none_is_refused_with_those_there_are(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = world.tenant("shop").await;
        let bad = json!({"status": "away", "tagMatch": "some", "state": "gone"});
        let answer = call(&world.through(Door::Rest), "ListUsers", &shop.caller, &bad).await;
        assert_json_snapshot!("user_filter_words_refused", answer.refusal());
    }

    async fn lists_of_users_are_read_from_indexes(db) {
        let clock = Clock::fixed(at(0));
        let service = Service::open(Settings { clock, ..Settings::new(db.settings()) }).await.unwrap();
        let store = db.open().await;
        let app = crowd(&store, &service).await;
        let any = UserFilter::default();
        let admins = UserFilter { role: Some("admin".parse().unwrap()), ..any.clone() };
        let searched = UserFilter { search: Some("Name 77".to_owned()), ..any.clone() };
        for (filter, sort, indexes) in [
            (&any, Column::CreatedAt, vec!["users_list"]),
            (&any, Column::UpdatedAt, vec!["users_changes"]),
            (&any, Column::Name, vec!["users_name"]),
            (&admins, Column::CreatedAt, vec!["users_role"]),
            (&searched, Column::CreatedAt, vec!["users_search", "users_uid"]),
        ] {
            let plan = plan(&store, app, filter, sort).await;
            for index in indexes {
                assert!(plan.contains(index), "{filter:?} by {sort:?} without {index}:\n{plan}");
            }
        }
    }
}
