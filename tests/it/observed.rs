//! What an operator sees: that the metrics tell what happened, on both databases, and cost the database next to nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use campanile::domain::dispatch;
use campanile::store::Store;
use campanile::store::observe::{PAGES_MAX, waiting_statements, waiting_work};
use campanile::telemetry::{Kind, Metric};
use sea_orm::{ConnectionTrait, DatabaseBackend, Statement};
use serde_json::json;

use crate::support::database::{Backend, TestDatabase};
use crate::support::metrics::Metrics;
use crate::support::rpc::Door;
use crate::support::server::http1;
use crate::support::shop::Shop;
use crate::support::world::{Caller, World, call};
use crate::{everywhere, on_both};

fn uids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number:05}")).collect()
}

/// Names of metrics without what a histogram adds to them.
fn families(page: &Metrics) -> BTreeSet<String> {
    let base = |sample: &str| {
        let name = sample.split('{').next().unwrap();
        let of_histogram =
            |metric: &&Metric| matches!(metric.kind(), Kind::Seconds | Kind::Sizes) && name.starts_with(metric.name());
        let histogram = Metric::ALL.iter().find(of_histogram);
        histogram.map_or(name, |metric| metric.name()).to_owned()
    };
    page.names().map(base).collect()
}

everywhere! {
    async fn a_send_a_batch_and_a_replay_are_counted_once_each(world) {
        let shop = Shop::open(&world).await;
        let before = world.metrics().await;
        let once = shop.caller.once("key-1");
        let request = json!({"templateId": "plain", "receivers": ["ada", "bob"]});
        for _ in 0..3 {
            world.call("SendNotification", &once, request.clone()).await.data();
        }
        shop.call("DeactivateUser", json!({"uid": "bob"})).await.data();
        let batch = json!({"templateId": "plain", "mode": "batch", "receivers": ["ada", "bob", "eve"]});
        shop.call("SendNotification", batch).await.data();
        shop.unread("ada").await;

        world.pass(Duration::from_secs(90));
        let waiting = world.metrics().await;
        for (sample, value) in [
            ("campanile_notifications_accepted_total{mode=\"realtime\"}", 1.0),
            ("campanile_notifications_accepted_total{mode=\"batch\"}", 1.0),
            ("campanile_notifications_completed_total", 1.0),
            ("campanile_recipients_total{outcome=\"sent\"}", 2.0),
            ("campanile_idempotent_replays_total", 2.0),
            ("campanile_feed_unread_reads_total", 1.0),
        ] {
            assert!((waiting.since(&before, sample) - value).abs() < 0.1, "{sample} {}", waiting.text());
        }
        assert_eq!(waiting.value("campanile_pages_open"), 1.0);
        assert_eq!(waiting.value("campanile_pages_oldest_waiting_seconds"), 90.0);
        assert_eq!(waiting.value("campanile_notifications_oldest_unfinished_seconds"), 90.0);

        world.work().await;
        let done = world.metrics().await;
        for (sample, value) in [
            ("campanile_notifications_completed_total", 1.0),
            ("campanile_recipients_total{outcome=\"sent\"}", 2.0),
            ("campanile_recipients_total{outcome=\"skipped\"}", 1.0),
            ("campanile_page_events_total{event=\"done\"}", 1.0),
        ] {
            assert!((done.since(&waiting, sample) - value).abs() < 0.1, "{sample} {}", done.text());
        }
        for sample in [
            "campanile_pages_open",
            "campanile_pages_oldest_waiting_seconds",
            "campanile_notifications_oldest_unfinished_seconds",
            "campanile_leases_held",
            "campanile_store_writes_in_progress{queue=\"api\"}",
            "campanile_store_writes_in_progress{queue=\"background\"}",
            "campanile_recipients_total{outcome=\"failed\"}",
        ] {
            assert_eq!(done.value(sample), 0.0, "{sample}");
        }
        // The call that asks is one itself.
        assert_eq!(done.value("campanile_calls_in_flight"), 1.0);
        assert!(done.value("campanile_store_commit_duration_seconds_count") >= 6.0);
        let background = done.value("campanile_store_write_duration_seconds_count{queue=\"background\"}");
        assert!(background >= 2.0);
        let turns = if world.database().backend == Backend::Postgres { background } else { 0.0 };
        assert_eq!(done.sum("campanile_store_turn_wait_seconds_count"), turns);
        assert!(done.value("campanile_page_step_duration_seconds_count") >= 1.0);
        assert!(done.value("campanile_store_size_bytes") > 100_000.0);
        assert!(done.sum("campanile_store_connections") >= 1.0);
    }

    async fn background_work_knows_of_calls(world) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!world.service.calls().is_busy(), "nobody has called, or not for a while");
        let mut known = false;
        // On a machine that does other things as well the answer may come long after the call has ended.
        for _ in 0..50 {
            world.call("ListApps", &Caller::operator(), json!({})).await.data();
            known = known || world.service.calls().is_busy();
        }
        assert!(known);
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.metrics().await;
        assert!(!world.service.calls().is_busy(), "the page of metrics is no call");
    }

    async fn the_page_names_nobody(world) {
        let shop = Shop::open(&world).await;
        shop.call("SendNotification", json!({"templateId": "plain", "receivers": ["ada-lovelace"]})).await.data();
        shop.unread("ada-lovelace").await;
        let page = world.metrics().await;
        for secret in ["ada-lovelace", "shop", "plain", "app-", "ntf-"] {
            assert!(!page.text().contains(secret), "{secret}: {}", page.text());
        }
        let known: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.name().to_owned()).collect();
        let families = families(&page);
        assert!(families.is_subset(&known), "{families:?}");
        for name in &families {
            assert!(page.text().contains(&format!("# HELP {name} ")), "{name}");
        }
    }
}

on_both! {
    async fn pages_that_fail_are_halved_given_up_and_counted(db) {
        let world = World::start_with(db, Door::Rest, |settings| settings.dispatching.page_rows = Some(10)).await;
        let (shop, store) = (Shop::open(&world).await, world.store().await);
        shop.call("CreateUser", json!({"user": {"uid": "user-00007", "name": "Seven"}})).await.data();
        crate::batch::poison(&store).await;
        shop.call("SendNotification", json!({"templateId": "plain", "mode": "batch", "receivers": uids(10)})).await.data();
        let before = world.metrics().await;
        crate::batch::work_out(&world, &store).await;
        let page = world.metrics().await;
        let grown = |event: &str| page.since(&before, &format!("campanile_page_events_total{{event=\"{event}\"}}"));
        // Ten, five, two or three, perhaps two: then one alone.
        assert!((3.0..=4.0).contains(&grown("halved")), "{}", page.text());
        assert_eq!(grown("given_up"), 1.0);
        assert!(grown("failed") >= 2.0 + 6.0, "{}", page.text());
        assert_eq!(page.since(&before, "campanile_recipients_total{outcome=\"failed\"}"), 1.0);
        assert_eq!(page.since(&before, "campanile_recipients_total{outcome=\"sent\"}"), 9.0);
        assert_eq!(page.since(&before, "campanile_notifications_completed_total"), 1.0);
        assert_eq!(page.since(&before, "campanile_leases_taken_over_total"), 0.0, "every page was given back");
    }

    async fn a_lease_that_ends_without_a_word_is_counted_where_it_is_taken_over(db) {
        let world = World::start(db, Door::Rest).await;
        let (shop, store) = (Shop::open(&world).await, world.store().await);
        shop.call("SendNotification", json!({"templateId": "plain", "receivers": uids(11)})).await.data();
        let lost = dispatch::claim(&world.service).await.unwrap().unwrap();
        let held = dispatch::hold(&world.service, &lost);
        world.pass(Duration::from_secs(5));
        let page = world.metrics().await;
        assert_eq!(page.value("campanile_leases_held"), 1.0);
        assert_eq!(page.value("campanile_pages_open"), 1.0);
        assert_eq!(page.value("campanile_pages_oldest_waiting_seconds"), 0.0, "a page that is held does not wait");
        assert_eq!(page.value("campanile_notifications_oldest_unfinished_seconds"), 5.0);
        crate::batch::expire_leases(&store).await;
        world.work().await;
        dispatch::advance(&world.service, lost, world.clock.now()).await.unwrap();
        drop(held);
        let page = world.metrics().await;
        assert_eq!(page.value("campanile_leases_taken_over_total"), 1.0);
        assert_eq!(page.value("campanile_page_events_total{event=\"lost\"}"), 1.0);
        assert_eq!(page.value("campanile_leases_held"), 0.0);
    }

    async fn a_database_that_is_away_is_told_in_time_and_the_rest_is_shown(db) {
        let world = World::start(db, Door::Rest).await;
        assert_eq!(world.metrics().await.value("campanile_store_up"), 1.0);
        world.service.close().await;
        let page = world.metrics().await;
        assert_eq!(page.value("campanile_store_up"), 0.0);
        assert!(page.value("campanile_pages_open").is_nan());
        assert!(page.value("campanile_notifications_oldest_unfinished_seconds").is_nan());
        assert!(page.value("process_resident_memory_bytes") > 0.0);
    }

    async fn a_look_at_the_work_that_waits_reads_indexes_and_stops_at_its_bound(db) {
        let store = db.open().await;
        let app = campanile::model::id::AppId::new(campanile::model::Timestamp::MIN);
        fill(&store, app.uuid()).await;
        let lanes = "INSERT INTO lanes (app_id, notification_id, priority, state, state_since, next_due) \
                     SELECT DISTINCT app_id, notification_id, 0, 1, 0, 0 FROM pages WHERE state <> 3";
        crate::batch::execute(&store, lanes).await;
        let work = waiting_work(store.read()).await.unwrap();
        assert_eq!(work.open_pages, PAGES_MAX);
        assert!(work.oldest_page.is_some() && work.oldest_notification.is_none());
        let backend = store.read().get_database_backend();
        for (mut statement, index) in waiting_statements(backend).into_iter().zip(["", "pages_open", "notifications_oldest"]) {
            let (explain, column) = match backend {
                DatabaseBackend::Postgres => ("EXPLAIN", "QUERY PLAN"),
                _ => ("EXPLAIN QUERY PLAN", "detail"),
            };
            statement.sql = format!("{explain} {}", statement.sql);
            let rows = store.read().query_all_raw(statement).await.unwrap();
            let lines: Vec<String> = rows.iter().map(|row| row.try_get("", column).unwrap()).collect();
            let plan = lines.join("\n");
            assert!(plan.contains(index), "{plan}");
            assert!(index.is_empty() || !plan.contains("Seq Scan on pages"), "{plan}");
            assert!(index != "notifications_oldest" || !plan.contains("Seq Scan") && !plan.contains("TEMP B-TREE"), "{plan}");
        }
    }
}

#[tokio::test]
async fn watchers_beyond_the_limit_are_told_to_come_back_on_both_doors() {
    let db = TestDatabase::new(Backend::Sqlite).await.unwrap();
    let world = World::start_behind(db, Door::Rest, |_| {}, |edge| edge.admission.watchers_max = 1).await;
    let shop = Shop::open(&world).await;
    let sent = shop
        .call(
            "SendNotification",
            json!({"templateId": "plain", "receivers": uids(11)}),
        )
        .await;
    let id = &sent.data()["batchId"];
    let url = format!(
        "{}/v3/campaigns/notifications/{}/progress",
        world.url(),
        id.as_str().unwrap()
    );
    let watch = || shop.caller.dress(http1().get(&url)).send();
    let first = watch().await.unwrap();
    assert_eq!(first.status(), 200);
    let refused = watch().await.unwrap();
    assert_eq!(
        (
            refused.status().as_u16(),
            refused.headers()["retry-after"].to_str().unwrap()
        ),
        (429, "1")
    );
    let request = json!({"notificationId": id});
    let over_grpc = call(&world.through(Door::Grpc), "WatchNotification", &shop.caller, &request).await;
    assert_eq!((over_grpc.status, over_grpc.code()), (429, "ERR_TOO_MANY_REQUESTS"));
    let page = world.metrics().await;
    assert_eq!(page.value("campanile_overload_refusals_total{limit=\"watchers\"}"), 2.0);
    // The place is free again once the server has noticed that the watcher is gone.
    drop(first);
    let again = async {
        while watch().await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
}

#[tokio::test]
async fn what_is_run_again_is_counted_by_its_cause() {
    let Some(db) = TestDatabase::new(Backend::Postgres).await else {
        return;
    };
    let settings = db.settings();
    let store = Store::open(&settings).await.unwrap();
    let conflict = "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$";
    let refused = store.write(move |tx| {
        Box::pin(async move {
            tx.execute_unprepared(conflict).await?;
            Ok(())
        })
    });
    refused.await.unwrap_err();
    let page = Metrics::of(&settings.meter.render());
    assert_eq!(page.value("campanile_store_reruns_total{cause=\"conflict\"}"), 4.0);
}

/// Many done and many open pages, and so many final notifications that reading them all costs something.
async fn fill(store: &Store, app: uuid::Uuid) {
    const NOTIFICATION: &str = "template_id, template_version_id, template_version, template_name, tags, mode, status, \
                                data_type, defaults, channels, total_targets, duplicate_count, created_at";
    let hex = app.simple().to_string();
    let id = if store.is_sqlite() {
        format!("x'{hex}'")
    } else {
        format!("'{app}'::uuid")
    };
    let values = format!("{id}, {id}, 1, 'plain', '[]', 2, 2, 1, '{{}}', '[1]', 1, 0, n");
    let statements = match store.read().get_database_backend() {
        DatabaseBackend::Postgres => vec![
            format!(
                "INSERT INTO pages (app_id, notification_id, number, from_seq, to_seq, next_seq, state, fence, attempts, \
             sent_count, failed_count, skipped_count) \
             SELECT '{app}', CASE WHEN n % 3 = 0 THEN {id} ELSE md5(n::text)::uuid END, n, 1, 1, 1, CASE WHEN n % 3 = 0 THEN 1 ELSE 3 END, 0, 0, 0, 0, 0 \
             FROM generate_series(1, 60000) AS s(n)"
            ),
            format!(
                "INSERT INTO notifications (id, app_id, {NOTIFICATION}) SELECT md5(n::text)::uuid, '{app}', {values} FROM generate_series(1, 5000) AS s(n)"
            ),
        ],
        _ => vec![
            format!(
                "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 60000) \
             INSERT INTO pages (app_id, notification_id, number, from_seq, to_seq, next_seq, state, fence, attempts, \
             sent_count, failed_count, skipped_count) \
             SELECT x'{hex}', CASE WHEN n % 3 = 0 THEN {id} ELSE randomblob(16) END, n, 1, 1, 1, CASE WHEN n % 3 = 0 THEN 1 ELSE 3 END, 0, 0, 0, 0, 0 FROM s"
            ),
            format!(
                "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 5000) INSERT INTO notifications (id, app_id, {NOTIFICATION}) SELECT randomblob(16), x'{hex}', {values} FROM s"
            ),
        ],
    };
    let filled = store.write(move |tx| {
        let statements = statements.clone();
        Box::pin(async move {
            for sql in statements.into_iter().chain(["ANALYZE".to_owned()]) {
                tx.execute_raw(Statement::from_string(tx.get_database_backend(), sql))
                    .await?;
            }
            Ok(())
        })
    });
    filled.await.unwrap();
}
