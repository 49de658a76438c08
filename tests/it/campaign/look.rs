//! Preflights and explanations as guests: they wait for nobody who writes, keep nobody waiting, and end when whoever asked
//! is gone. What they tell is in `people.rs`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

use super::{add, ask, draft, ready, uids, work};
use crate::on_both;
use crate::support::database::{Backend, TestDatabase};
use crate::support::rpc::Door;
use crate::support::shop::Shop;
use crate::support::world::World;

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
        let id = draft(&shop, json!({"templateId": "order-shipped", "variables": {"code": "1"}})).await;
        for part in uids(MANY).chunks(10_000) {
            add(&shop, &id, part).await.data();
        }
        let began = Instant::now();
        let whole = ask(&shop, "PreflightCampaign", &id).await;
        let takes = began.elapsed();
        assert_eq!((&whole.data()["total"], &whole.data()["reachable"]), (&json!(MANY), &json!(MANY)));

        let path = format!("/v3/campaigns/campaigns/{}/preflight", id.as_str().unwrap());
        let call = world.http(reqwest::Method::POST, &path, &shop.caller).timeout(takes / 8);
        assert!(call.send().await.unwrap_err().is_timeout());
        let gone = Instant::now();
        let at_work = async || world.metrics().await.value("campanile_calls_in_flight");
        // The page that is read counts itself.
        while at_work().await > 1.0 {
            assert!(gone.elapsed() < takes / 2, "it went on for {:?} of {takes:?}", gone.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
