//! Preflights, explanations and metrics as guests: they wait for nobody who writes, keep nobody waiting, come on by and
//! by, and end when whoever asked is gone. What they find is in `people.rs`.

use std::time::{Duration, Instant};

use campanile::domain::Acting;
use campanile::domain::campaign::{PREFLIGHTS_MAX, Survey};
use campanile::model::id::ApiKeyId;
use campanile::model::{Caller, Scope};
use campanile::pb::v1::campaign_service_client::CampaignServiceClient;
use campanile::pb::v1::{PreflightCampaignRequest, WatchCampaignPreflightRequest};
use campanile::store::entity::app;
use futures::future::join_all;
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use tonic::Request;
use tonic::transport::Endpoint;

use super::{add, ask, draft, ready, refusal, uids, work};
use crate::support::database::{Backend, TestDatabase};
use crate::support::rpc::Door;
use crate::support::shop::Shop;
use crate::support::world::{World, call};
use crate::{everywhere, on_both};

/// How long a call may take that waits for nobody.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Recipients of a large audience.
const MANY: usize = 20_000;

/// Somebody who has taken everything that a write would need.
enum Writer {
    Sqlite(sqlx::SqliteConnection),
    Postgres(PgConnection),
}

impl Writer {
    async fn of(db: &TestDatabase) -> Self {
        match db.backend {
            Backend::Sqlite => {
                let options: SqliteConnectOptions = db.url.parse().unwrap();
                let mut conn = options.busy_timeout(WAIT_MAX).connect().await.unwrap();
                conn.execute("BEGIN IMMEDIATE").await.unwrap();
                Self::Sqlite(conn)
            }
            Backend::Postgres => {
                let mut conn = PgConnection::connect(&db.url).await.unwrap();
                let tables = "campaigns, channels, templates, template_versions, users, notification_recipients";
                conn.execute("BEGIN").await.unwrap();
                let lock = sqlx::AssertSqlSafe(format!("LOCK TABLE {tables} IN EXCLUSIVE MODE"));
                conn.execute(lock).await.unwrap();
                Self::Postgres(conn)
            }
        }
    }

    async fn end(self) {
        match self {
            Self::Sqlite(conn) => conn.close().await.unwrap(),
            Self::Postgres(conn) => conn.close().await.unwrap(),
        }
    }
}

async fn in_time(shop: &Shop<'_>, rpc: &str, request: Value) -> Value {
    let answer = tokio::time::timeout(WAIT_MAX, shop.call(rpc, request)).await;
    answer.unwrap().data().clone()
}

on_both! {
    async fn who_looks_does_not_wait_for_who_writes(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(30)).await;
        let sent = ready(&shop, json!({}), &uids(2)).await;
        ask(&shop, "SendCampaign", &sent).await.data();
        work(&world).await;
        let writer = Writer::of(world.database()).await;
        assert_eq!(in_time(&shop, "PreflightCampaign", json!({"campaignId": id})).await["reachable"], 30);
        for id in [&id, &sent] {
            let request = json!({"campaignId": id, "uid": "user-00001"});
            assert_eq!(in_time(&shop, "GetCampaignRecipient", request).await["uid"], "user-00001");
            assert_eq!(in_time(&shop, "GetCampaignSequenceMetrics", json!({"campaignId": id})).await, json!([]));
        }
        writer.end().await;
        // Under a key its answer is kept, which is a write.
        let caller = shop.caller.once("plan-1");
        let look = || world.call("PreflightCampaign", &caller, json!({"campaignId": id}));
        let (first, second) = (look().await, look().await);
        assert_eq!((first.data(), second.replayed), (second.data(), true));
    }

    async fn a_preflight_ends_when_whoever_asked_for_it_is_gone(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        let (id, takes) = large(&shop).await;

        let path = format!("/v3/campaigns/campaigns/{}/preflight", id.as_str().unwrap());
        let call = world.http(reqwest::Method::POST, &path, &shop.caller).timeout(takes / 8);
        assert!(call.send().await.unwrap_err().is_timeout());
        ends(&world, takes).await;

        let mut watched = world.http(reqwest::Method::GET, &format!("{path}/progress"), &shop.caller).send().await.unwrap();
        let first = watched.chunk().await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&first).contains("event: progress\n"), "{first:?}");
        assert_eq!(running(&world).await, 1.0);
        drop(watched);
        ends(&world, takes).await;

        let mut client = CampaignServiceClient::new(Endpoint::from_shared(world.url().to_owned()).unwrap().connect_lazy());
        let mut request = Request::new(WatchCampaignPreflightRequest { campaign_id: id.as_str().unwrap().to_owned() });
        request.metadata_mut().insert("apikey", shop.caller.api_key().parse().unwrap());
        let mut watched = client.watch_campaign_preflight(request).await.unwrap().into_inner();
        assert!(watched.message().await.unwrap().is_some());
        assert_eq!(running(&world).await, 1.0);
        drop(watched);
        ends(&world, takes).await;
    }

    async fn a_preflight_that_cannot_end_in_time_is_refused_and_ends(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        let (id, takes) = large(&shop).await;
        let before = shop.rows().await;
        let hurried = shop.caller.within(takes / 8).once("plan-1");
        let refused = world.call("PreflightCampaign", &hurried, json!({"campaignId": id})).await;
        assert_eq!((refused.status, refused.code()), (504, "ERR_DEADLINE_EXCEEDED"), "{refused:#?}");
        ends(&world, takes).await;
        // This client ends its call by itself at its deadline, without waiting for the server to say so.
        let mut client = CampaignServiceClient::new(Endpoint::from_shared(world.url().to_owned()).unwrap().connect_lazy());
        let mut request = Request::new(PreflightCampaignRequest { campaign_id: id.as_str().unwrap().to_owned() });
        request.metadata_mut().insert("apikey", shop.caller.api_key().parse().unwrap());
        request.set_timeout(takes / 8);
        client.preflight_campaign(request).await.unwrap_err();
        ends(&world, takes).await;
        assert_eq!(shop.rows().await, before, "not even the key is kept");
    }

    async fn whoever_watches_a_large_preflight_sees_it_come_on(db) {
        for door in [Door::Rest, Door::Grpc] {
            let world = World::start(TestDatabase::new(db.backend).await.unwrap(), door).await;
            let shop = Shop::open(&world).await;
            let (id, _) = large(&shop).await;
            let watched = ask(&shop, "WatchCampaignPreflight", &id).await;
            let events = watched.data().as_array().unwrap();
            let (report, told) = events.split_last().unwrap();
            assert_eq!((&report["event"], &report["cursor"]), (&json!("report"), &json!("20000")));
            assert!(told.iter().all(|event| event["event"] == "progress" && event["data"]["total"] == MANY), "{events:#?}");
            let checked: Vec<_> = told.iter().map(|event| event["data"]["checkedCount"].as_i64().unwrap()).collect();
            assert!(checked[0] == 0 && checked.is_sorted_by(|one, next| one < next), "{checked:?}");
        }
    }

    async fn an_app_goes_through_so_many_audiences_at_once_and_others_wait_for_nobody(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(3)).await;
        // Those that are over soon wait for each other.
        let calls = (0..4 * PREFLIGHTS_MAX).map(|_| ask(&shop, "PreflightCampaign", &id));
        assert!(join_all(calls).await.iter().all(|answer| answer.status == 200));

        let store = world.store().await;
        let app = app::Entity::find().one(store.read()).await.unwrap().unwrap().id;
        let now = world.clock.now();
        let caller = Caller::App { app, key: ApiKeyId::new(now), scope: Scope::FullAccess };
        let campaign = id.as_str().unwrap().parse().unwrap();
        let mut held = Vec::new();
        for _ in 0..PREFLIGHTS_MAX {
            held.push(Survey::begin(&world.service, &Acting::new(caller, None, now), campaign).await.unwrap());
        }
        assert_eq!(running(&world).await, 4.0);
        let before = world.metrics().await;
        let details = json!({"limit": "4", "retryAfterSeconds": "5"});
        for (door, rpc) in [(Door::Rest, "PreflightCampaign"), (Door::Grpc, "PreflightCampaign"), (Door::Grpc, "WatchCampaignPreflight")] {
            let refused = call(&world.through(door), rpc, &shop.caller, &json!({"campaignId": id})).await;
            assert_eq!(refusal(&refused), (429, "ERR_TOO_MANY_REQUESTS", &details), "{door:?} {rpc}");
            assert_eq!(refused.retry_after, Some(5));
        }
        assert_eq!(world.metrics().await.since(&before, "campanile_overload_refusals_total{limit=\"preflights\"}"), 3.0);

        let club = world.tenant("club").await;
        let bell = json!({"channel": {"type": "in_app", "name": "Bell", "channelId": "bell", "enabled": true}});
        world.call("CreateChannel", &club.caller, bell).await.data();
        let template = json!({"template": {"templateId": "plain", "name": "Plain", "status": "approved", "channels": [{"channelType": "in_app"}]}});
        world.call("CreateTemplate", &club.caller, template).await.data();
        let other = world.call("CreateCampaign", &club.caller, json!({"campaign": {"name": "Other", "templateId": "plain"}})).await;
        let found = world.call("PreflightCampaign", &club.caller, json!({"campaignId": other.data()["id"]})).await;
        assert_eq!(found.data()["total"], 0);

        held.pop();
        assert_eq!(ask(&shop, "PreflightCampaign", &id).await.data()["reachable"], 3);
    }
}

everywhere! {
    async fn whoever_watches_a_preflight_is_told_what_it_finds(world) {
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({"templateId": "order-shipped", "ratePerSecond": 2})).await;
        let people = json!({"campaignId": id, "userIds": ["ada", "bob", "cyd"], "userVariables": {"ada": {"code": "1"}}});
        shop.call("AddCampaignRecipients", people).await.data();
        let before = shop.rows().await;
        let found = ask(&shop, "PreflightCampaign", &id).await;
        let watched = ask(&shop, "WatchCampaignPreflight", &id).await;
        let begun = json!({"event": "progress", "cursor": "0", "data": {"checkedCount": 0, "total": 3}});
        let report = json!({"event": "report", "cursor": "3", "data": found.data()});
        assert_eq!(watched.data(), &json!([begun, report]));
        assert_eq!(report["data"]["problems"].as_array().unwrap().len(), 2);
        assert_eq!(shop.rows().await, before);

        let plan = &report["data"]["planToken"];
        shop.call("SendCampaign", json!({"campaignId": id, "planToken": plan})).await.data();
        let refused = ask(&shop, "WatchCampaignPreflight", &id).await;
        assert_eq!((refused.status, refused.code()), (400, "ERR_INVALID_STATE"), "{refused:#?}");
        let unknown = ask(&shop, "WatchCampaignPreflight", &json!("camp-00000000000000000000000000")).await;
        assert_eq!((unknown.status, unknown.code()), (404, "ERR_CAMPAIGN_NOT_FOUND"));
    }
}

/// A campaign of so many recipients that going through them takes a while, and how long that is.
async fn large(shop: &Shop<'_>) -> (Value, Duration) {
    let id = draft(shop, json!({"templateId": "order-shipped", "variables": {"code": "1"}})).await;
    for part in uids(MANY).chunks(10_000) {
        add(shop, &id, part).await.data();
    }
    let began = Instant::now();
    let whole = ask(shop, "PreflightCampaign", &id).await;
    let takes = began.elapsed();
    assert_eq!(
        (&whole.data()["total"], &whole.data()["reachable"]),
        (&json!(MANY), &json!(MANY))
    );
    (id, takes)
}

/// How many audiences are being gone through.
async fn running(world: &World) -> f64 {
    world.metrics().await.value("campanile_preflights_running")
}

/// Waits until none is, which is long before one that goes on would have come to its end.
async fn ends(world: &World, takes: Duration) {
    let gone = Instant::now();
    while running(world).await > 0.0 {
        assert!(
            gone.elapsed() < takes / 2,
            "it went on for {:?} of {takes:?}",
            gone.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
