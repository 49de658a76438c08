//! Two thousand sends that wait at once: whoever comes behind them is served in the next turns, and the next one is found by
//! indexes, however many wait.

use std::time::{Duration, Instant};

use campanile::domain::dispatch;
use campanile::model::id::AppId;
use campanile::store::lane;
use campanile::worker::{Turn, complete};
use futures::StreamExt as _;
use sea_orm::{ConnectionTrait, DatabaseBackend, Statement};
use serde_json::{Value, json};

use super::{claimed, expire_leases};
use crate::on_both;
use crate::support::rpc::Door;
use crate::support::shop::Shop;
use crate::support::world::{Caller, World};

/// Sends that wait.
const WAITING: usize = 2_000;
/// Calls at once.
const CALLS: usize = 8;
/// Claims that are timed.
const CLAIMS: u32 = 100;
/// What a claim may take on the slowest machine. It takes about a millisecond, and so it does where few wait.
const CLAIM_TIME_MAX: Duration = Duration::from_millis(100);

/// An app that is ready to send.
async fn app(world: &World, id: &str) -> Caller {
    let caller = world.tenant(id).await.caller;
    let bell = json!({"channel": {"type": "in_app", "name": "Bell", "channelId": "bell", "enabled": true}});
    world.call("CreateChannel", &caller, bell).await.data();
    let template =
        json!({"templateId": "plain", "name": "plain", "status": "approved", "channels": [{"channelType": "in_app"}]});
    world
        .call("CreateTemplate", &caller, json!({"template": template}))
        .await
        .data();
    caller
}

async fn send(world: &World, caller: &Caller) -> Value {
    let request = json!({"templateId": "plain", "mode": "batch", "receivers": ["ada", "bob"]});
    let sent = world.call("SendNotification", caller, request).await;
    sent.data()["batchId"].clone()
}

/// What so many claims take, each.
async fn claims(world: &World) -> Duration {
    let began = Instant::now();
    for _ in 0..CLAIMS {
        claimed(&world.service).await;
    }
    began.elapsed() / CLAIMS
}

/// How the database finds the next lane, in its own words.
async fn plan(world: &World) -> String {
    let store = world.store().await;
    let backend = store.read().get_database_backend();
    let (explain, column) = match backend {
        DatabaseBackend::Postgres => ("EXPLAIN", "QUERY PLAN"),
        _ => ("EXPLAIN QUERY PLAN", "detail"),
    };
    let mut statement: Statement = lane::ready_statement(backend, AppId::from(uuid::Uuid::nil()));
    statement.sql = format!("{explain} {}", statement.sql);
    let rows = store.read().query_all_raw(statement).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.try_get("", column).unwrap()).collect();
    lines.join("\n")
}

#[expect(clippy::print_stdout, reason = "whoever asks for it sees what a claim costs")]
fn tell(what: &str, each: Duration) {
    println!("{what}: {each:?} a claim");
}

on_both! {
    async fn two_thousand_sends_that_wait_hold_up_nobody_behind_them(db) {
        let world = World::start(db, Door::Grpc).await;
        // One app is older than the one with the many sends, one is younger: the turns go by the age of apps.
        let older = app(&world, "older").await;
        let shop = Shop::open(&world).await;
        let younger = app(&world, "younger").await;
        let many = || futures::stream::iter(0..WAITING).map(|_| send(&world, &shop.caller)).buffer_unordered(CALLS);
        assert_eq!(many().count().await, WAITING);
        crate::batch::execute(&world.store().await, "ANALYZE").await;

        let first = claimed(&world.service).await.app;
        let late = [send(&world, &younger).await, send(&world, &older).await];
        let mut turns = Vec::new();
        for _ in 0..3 {
            turns.push(claimed(&world.service).await.app);
        }
        assert_eq!(turns.iter().filter(|app| **app != first).count(), 2, "{first:?} {turns:?}");
        assert_ne!(turns[0], first, "whoever waits comes before whoever was served last");

        let plan = plan(&world).await;
        for index in ["lanes_order", "pages_open"] {
            assert!(plan.contains(index), "{plan}");
        }
        for whole in ["Sort", "Seq Scan", "TEMP B-TREE"] {
            assert!(!plan.contains(whole), "{plan}");
        }
        let with_many = claims(&world).await;
        tell("2,000 wait", with_many);
        assert!(with_many < CLAIM_TIME_MAX, "{with_many:?}");

        expire_leases(&world.store().await).await;
        world.work().await;
        for (caller, id) in [(&younger, &late[0]), (&older, &late[1])] {
            let found = world.call("GetNotification", caller, json!({"notificationId": id})).await;
            assert_eq!((&found.data()["sentCount"], &found.data()["status"]), (&json!(2), &json!("completed")));
        }
        assert_eq!(shop.all_unread(&["ada", "bob"].map(str::to_owned)).await, [2_000, 2_000]);
        // The duty removes the lanes of what is over a hundred at a time, and does not rest before it is done.
        let mut turns = 0;
        while complete::turn(&world.service, world.clock.now()).await == Turn::Again {
            turns += 1;
        }
        assert!(turns >= WAITING / 100, "{turns}");
        assert_eq!(shop.rows().await["lanes"], 0);
        assert!(dispatch::claim(&world.service).await.unwrap().is_none());
    }

    async fn two_thousand_sequences_between_their_steps_hold_up_nobody(db) {
        let world = World::start(db, Door::Grpc).await;
        let shop = Shop::open(&world).await;
        send(&world, &shop.caller).await;
        world.work().await;
        // As they are that wait for a step: their lanes are open and have no page to do.
        let id = match world.database().backend {
            Backend::Sqlite => "printf('00000000-0000-7000-8000-%012x', s.n)",
            Backend::Postgres => "('00000000-0000-7000-8000-' || lpad(to_hex(s.n), 12, '0'))::uuid",
        };
        let lanes = format!(
            "WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {WAITING}) \
             INSERT INTO lanes (app_id, notification_id, priority, state, state_since, next_due) \
             SELECT n.app_id, {id}, 0, 1, 0, 0 FROM notifications n CROSS JOIN series s"
        );
        // They are older than all that is sent.
        let store = world.store().await;
        crate::batch::execute(&store, String::leak(lanes)).await;
        for _ in 0..CLAIMS {
            send(&world, &shop.caller).await;
        }
        crate::batch::execute(&store, "ANALYZE").await;
        let each = claims(&world).await;
        tell("2,000 sequences wait", each);
        assert!(each < CLAIM_TIME_MAX, "{each:?}");
    }
}
