//! What stops an import, and that it goes on from there: each row is taken once, whoever takes it.

use std::time::Duration;

use campanile::domain::campaign::import::{Importing, Step, advance, claim};
use campanile::store::Store;
use campanile::worker::{import, sweep};
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};

use super::super::{ask, draft, ready, uids};
use super::{audience, counts, imported, named, read_all, start};
use crate::everywhere;
use crate::support::rows::rows;
use crate::support::shop::Shop;
use crate::support::world::World;

/// Enough rows for several steps on either database.
pub(super) const ROWS: usize = 7_000;

/// A file with so many users, some of them twice and some rows wrong.
pub(super) fn table() -> String {
    let rows = (0..ROWS).map(|number| match number % 10 {
        3 => format!("user-{:05},again\r\n", number - 1),
        7 => "a b,wrong\r\n".to_owned(),
        _ => format!("user-{number:05},\"{number}\r\n\"\r\n"),
    });
    format!("user_id,note\r\n{}", rows.collect::<String>())
}

pub(super) fn expected() -> Vec<String> {
    let added = (0..ROWS).filter(|number| !matches!(number % 10, 3 | 7));
    added.map(|number| format!("user-{number:05}")).collect()
}

pub(super) async fn execute(store: &Store, sql: &'static str) {
    let done = store.write(move |tx| {
        Box::pin(async move {
            let statement = Statement::from_string(tx.get_database_backend(), sql);
            tx.execute_raw(statement).await?;
            Ok(())
        })
    });
    done.await.unwrap();
}

pub(super) async fn expire_leases(store: &Store) {
    execute(
        store,
        "UPDATE imports SET lease_until = 0 WHERE lease_until IS NOT NULL",
    )
    .await;
}

pub(super) async fn take_over(world: &World) -> Importing {
    claim(&world.service, world.clock.now()).await.unwrap().unwrap()
}

/// Does so many steps.
pub(super) async fn steps(world: &World, work: &mut Importing, count: usize) {
    for _ in 0..count {
        assert_eq!(
            advance(&world.service, work, world.clock.now()).await.unwrap(),
            Step::More
        );
    }
}

pub(super) async fn job(shop: &Shop<'_>, id: &Value) -> Value {
    ask(shop, "GetCampaignImportStatus", id).await.data().clone()
}

everywhere! {
    async fn whoever_goes_on_takes_each_row_once_wherever_it_was_left(world) {
        let shop = Shop::open(&world).await;
        let store = world.store().await;
        let id = draft(&shop, json!({})).await;
        start(&shop, &id, table(), json!({})).await.data();
        let mut offset = 0;
        for count in [0, 1, 2, 3, 4] {
            let mut work = take_over(&world).await;
            steps(&world, &mut work, count).await;
            drop(work);
            let now = job(&shop, &id).await;
            assert_eq!(now["state"], "running");
            assert!(now["nextOffset"].as_i64().unwrap() >= offset, "{now:#?}");
            offset = now["nextOffset"].as_i64().unwrap();
            assert!(claim(&world.service, world.clock.now()).await.unwrap().is_none(), "the lease holds");
            expire_leases(&store).await;
        }
        assert!(offset > 100, "some rows were taken before");
        read_all(&world).await;
        let done = job(&shop, &id).await;
        assert_eq!((&done["state"], counts(&done)), (&json!("completed"), json!([7_000, 5_600, 700, 0, 700])), "{done:#?}");
        assert_eq!(done["nextOffset"], done["bytesTotal"]);
        assert_eq!(named(&audience(&shop, &id).await), expected());
        // The rows before hold a line end each, in four of five cases two.
        let last = json!({"campaignId": id, "page": 7, "limit": 100});
        let last = shop.call("ListCampaignImportErrors", last).await;
        let lines = |rows: usize| 2 + rows + (0..rows).filter(|number| !matches!(number % 10, 3 | 7)).count();
        assert_eq!(last.data()[99]["line"], lines(ROWS - 3), "{last:#?}");
    }

    async fn whoever_stood_still_for_too_long_adds_nobody_any_more(world) {
        let shop = Shop::open(&world).await;
        let store = world.store().await;
        let id = draft(&shop, json!({})).await;
        start(&shop, &id, table(), json!({})).await.data();
        let mut slow = take_over(&world).await;
        steps(&world, &mut slow, 3).await;
        expire_leases(&store).await;
        let mut fast = take_over(&world).await;
        steps(&world, &mut fast, 2).await;
        let before = rows(&store).await;
        assert_eq!(advance(&world.service, &mut slow, world.clock.now()).await.unwrap(), Step::Stale);
        assert_eq!(rows(&store).await, before);
        while advance(&world.service, &mut fast, world.clock.now()).await.unwrap() == Step::More {}
        assert_eq!(named(&audience(&shop, &id).await), expected());
    }

    async fn several_workers_at_once_share_the_files_and_take_each_row_once(world) {
        let shop = Shop::open(&world).await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            let id = draft(&shop, json!({})).await;
            start(&shop, &id, table(), json!({})).await.data();
            ids.push(id);
        }
        futures::future::join_all((0..4).map(|_| read_all(&world))).await;
        for id in &ids {
            assert_eq!(counts(&job(&shop, id).await), json!([7_000, 5_600, 700, 0, 700]));
            assert_eq!(named(&audience(&shop, id).await), expected());
        }
    }

    async fn a_restart_in_the_middle_loses_nothing(world) {
        let (id, caller) = {
            let shop = Shop::open(&world).await;
            let id = draft(&shop, json!({})).await;
            start(&shop, &id, table(), json!({})).await.data();
            let mut work = take_over(&world).await;
            steps(&world, &mut work, 3).await;
            (id, shop.caller.clone())
        };
        let world = world.restart().await;
        expire_leases(&world.store().await).await;
        import::turn(&world.service, world.clock.now()).await;
        let done = world.call("GetCampaignImportStatus", &caller, json!({"campaignId": id})).await;
        assert_eq!(counts(done.data()), json!([7_000, 5_600, 700, 0, 700]));
    }

    async fn behind_a_cancel_no_further_row_is_added(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(1)).await;
        start(&shop, &id, table(), json!({})).await.data();
        let mut work = take_over(&world).await;
        steps(&world, &mut work, 3).await;
        let cancelled = ask(&shop, "CancelCampaignImport", &id).await;
        assert_eq!(cancelled.data()["state"], "cancelled", "{cancelled:#?}");
        let before = (named(&audience(&shop, &id).await).len(), shop.rows().await);
        assert!(before.0 > 1 && before.0 < 5_600);
        assert_eq!(advance(&world.service, &mut work, world.clock.now()).await.unwrap(), Step::Stale);
        read_all(&world).await;
        assert_eq!((named(&audience(&shop, &id).await).len(), shop.rows().await), before);
        assert_eq!(ask(&shop, "CancelCampaignImport", &id).await.data(), cancelled.data());

        let again = imported(&world, &shop, &id, table(), json!({})).await;
        assert_eq!(again["state"], "completed");
        let over = ask(&shop, "CancelCampaignImport", &id).await;
        assert_eq!((over.status, over.code()), (400, "ERR_INVALID_STATE"), "{over:#?}");
        ask(&shop, "SendCampaign", &id).await.data();
    }

    async fn a_file_that_is_changed_or_gone_meanwhile_ends_the_import(world) {
        let shop = Shop::open(&world).await;
        let store = world.store().await;
        for change in [true, false] {
            let id = draft(&shop, json!({})).await;
            let started = start(&shop, &id, table(), json!({})).await;
            let file = world.uploads().join(started.data()["s3Key"].as_str().unwrap());
            let mut work = take_over(&world).await;
            steps(&world, &mut work, 3).await;
            let taken = job(&shop, &id).await;
            if change {
                std::fs::write(&file, table().replace("again", "other")).unwrap();
            } else {
                std::fs::remove_file(&file).unwrap();
            }
            expire_leases(&store).await;
            read_all(&world).await;
            let failed = job(&shop, &id).await;
            let word = if change { "ERR_BAD_REQUEST" } else { "ERR_UPLOAD_NOT_FOUND" };
            assert_eq!((&failed["state"], &failed["failure"]), (&json!("failed"), &json!(word)), "{failed:#?}");
            assert_eq!(failed["counts"], taken["counts"]);
        }
    }

    async fn an_import_ends_with_its_campaign(world) {
        let shop = Shop::open(&world).await;
        let (deleted, cancelled) = (draft(&shop, json!({})).await, draft(&shop, json!({})).await);
        let clean = shop.rows().await;
        for id in [&deleted, &cancelled] {
            start(&shop, id, table(), json!({})).await.data();
        }
        let (mut one, mut two) = (take_over(&world).await, take_over(&world).await);
        steps(&world, &mut one, 3).await;
        steps(&world, &mut two, 3).await;
        ask(&shop, "DeleteCampaign", &deleted).await.data();
        ask(&shop, "CancelCampaign", &cancelled).await.data();
        for work in [&mut one, &mut two] {
            assert_eq!(advance(&world.service, work, world.clock.now()).await.unwrap(), Step::Done);
        }
        let failed = job(&shop, &cancelled).await;
        assert_eq!((&failed["state"], &failed["failure"]), (&json!("failed"), &json!("ERR_INVALID_STATE")));
        world.pass(Duration::from_secs(1));
        for _ in 0..40 {
            sweep::turn(&world.service, world.clock.now()).await;
        }
        let left = shop.rows().await;
        assert_eq!((left["imports"], left["campaigns"]), (clean["imports"] + 1, clean["campaigns"] - 1));
    }
}
