//! How long audiences are kept of campaigns that were never sent.

use std::time::Duration;

use campanile::model::id::CampaignId;
use campanile::store::entity::campaign;
use campanile::store::{bulk, retention};
use campanile::worker::{schedule, sweep};
use sea_orm::{ConnectionTrait, DatabaseBackend, EntityTrait};
use serde_json::json;

use super::{ask, draft, ready, summary, uids, work};
use crate::support::rpc::Door;
use crate::support::shop::Shop;
use crate::support::world::World;
use crate::{everywhere, on_both};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

everywhere! {
    async fn recipients_of_a_campaign_that_was_never_sent_go_when_it_has_been_over_for_long(world) {
        let shop = Shop::open(&world).await;
        shop.template("other", json!({})).await;
        let cancelled = ready(&shop, json!({}), &uids(450)).await;
        let missed = ready(&shop, json!({"templateId": "other"}), &uids(250)).await;
        let waiting = ready(&shop, json!({}), &uids(3)).await;
        let sent = ready(&shop, json!({}), &uids(2)).await;
        let when = json!({"campaignId": missed, "scheduledAt": "2024-01-15T13:00:00.000Z"});
        shop.call("ScheduleCampaign", when).await.data();
        shop.call("ArchiveTemplate", json!({"templateId": "other"})).await.data();
        world.pass(Duration::from_secs(60 * 60));
        schedule::turn(&world.service, world.clock.now()).await;
        ask(&shop, "CancelCampaign", &cancelled).await.data();
        ask(&shop, "SendCampaign", &sent).await.data();
        work(&world).await;
        let told = [summary(&shop, &cancelled).await, summary(&shop, &missed).await];
        let kept = shop.rows().await;
        assert_eq!(kept["notification_recipients"], 450 + 250 + 3 + 2);

        world.pass(90 * DAY);
        sweep::turn(&world.service, world.clock.now()).await;
        assert_eq!(shop.rows().await["notification_recipients"], 705, "90 days are not over before their last moment is");
        world.pass(Duration::from_millis(1));
        let mut before = 705;
        for _ in 0..8 {
            sweep::turn(&world.service, world.clock.now()).await;
            let left = shop.rows().await["notification_recipients"];
            // A step removes so many of these, and of notifications that were sent.
            assert!(before - left <= 2 * i64::try_from(sweep::BATCH_MAX).unwrap(), "{before} {left}");
            before = left;
        }
        assert_eq!(before, 3, "those of the draft stay");
        assert_eq!(ask(&shop, "ListCampaignRecipients", &cancelled).await.data(), &json!([]));
        assert_eq!([summary(&shop, &cancelled).await, summary(&shop, &missed).await], told);
        assert_eq!(ask(&shop, "GetCampaign", &cancelled).await.data()["totalTargets"], 450);
        assert_eq!(summary(&shop, &waiting).await, json!([3, 0, 0, 0, 0]));
        assert_eq!(shop.rows().await["campaigns"], 4);
    }
}

on_both! {
    async fn audiences_that_nothing_was_sent_to_are_found_by_an_index(db) {
        let world = World::start(db, Door::Rest).await;
        let (shop, store) = (Shop::open(&world).await, world.store().await);
        draft(&shop, json!({})).await;
        let now = world.clock.now();
        let one = campaign::Entity::find().one(store.read()).await.unwrap().unwrap();
        // Most were sent, some never were, and few of those ended.
        let rows: Vec<_> = (0..4_000).map(|number| campaign::Model {
            id: CampaignId::new(now),
            sent_at: (number % 40 != 0).then_some(now),
            completed_at: (number % 80 == 0 || number % 40 != 0).then_some(now),
            ..one.clone()
        }).collect();
        let fill = store.write(move |tx| {
            let rows = rows.clone();
            Box::pin(async move {
                bulk::insert_all::<campaign::Entity>(tx, &rows).await?;
                tx.execute_unprepared("ANALYZE").await?;
                Ok(())
            })
        });
        fill.await.unwrap();
        let backend = store.read().get_database_backend();
        let (explain, column) = match backend {
            DatabaseBackend::Postgres => ("EXPLAIN", "QUERY PLAN"),
            _ => ("EXPLAIN QUERY PLAN", "detail"),
        };
        let mut statement = retention::unsent_statement(backend, now, 50);
        statement.sql = format!("{explain} {}", statement.sql);
        let rows = store.read().query_all_raw(statement).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.try_get("", column).unwrap()).collect();
        let plan = plan.join("\n");
        assert!(plan.contains("campaigns_unsent"), "{plan}");
    }
}
