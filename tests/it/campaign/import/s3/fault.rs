//! A store that is not well: what is told of it, how long that takes, and that nothing is lost by it.

use std::time::{Duration, Instant};

use campanile::domain::S3Settings;
use campanile::domain::campaign::import::claim;
use campanile::store::Store;
use campanile::worker::{Turn, import};
use serde_json::{Value, json};

use super::super::super::{ask, draft};
use super::super::resume::{execute, expire_leases, job, table};
use super::super::url::url;
use super::super::{counts, read_all};
use super::{begin, beside, beside_as, put, stored};
use crate::everywhere;
use crate::support::depot::{BUCKET, Depot, Mood, SECRET};
use crate::support::rpc::Answer;
use crate::support::shop::Shop;
use crate::support::world::World;

/// How long a store may take in these tests, where it is one that does not answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long a caller waits at most then: for two such requests, and the connections before them.
const WAIT_MAX: Duration = Duration::from_secs(8);
/// Requests that one question to the store comes to at most: the first one, and three more.
const ASKED_MAX: usize = 4;

/// What stays the same when something is refused.
async fn import_of(shop: &Shop<'_>, id: &Value, key: &Value) -> Answer {
    shop.call("ImportCampaignCsv", json!({"campaignId": id, "s3Key": key}))
        .await
}

/// The last of the attempts that an import has is the next one.
async fn wear_out(store: &Store) {
    execute(store, "UPDATE imports SET attempts = 19, lease_until = 0").await;
}

/// Lets a worker try, once more than is of use, and gives the job.
async fn tried(world: &World, shop: &Shop<'_>, id: &Value) -> Value {
    let began = Instant::now();
    assert_eq!(import::turn(&world.service, world.clock.now()).await, Turn::Again);
    assert!(began.elapsed() < WAIT_MAX, "{:?}", began.elapsed());
    job(shop, id).await
}

everywhere! {
    async fn a_store_that_is_away_is_told_and_asked_again_so_often_and_no_more(world) {
        let depot = Depot::start().await;
        let settings = S3Settings { timeout: TIMEOUT, ..depot.settings() };
        let world = beside_as(world, settings).await;
        let shop = Shop::open(&world).await;
        let store = world.store().await;
        let id = draft(&shop, json!({})).await;
        let (key, _) = stored(&shop, &id, table()).await;
        let before = shop.rows().await;
        for mood in [Mood::Away, Mood::Failing, Mood::Silent] {
            depot.set(mood);
            depot.seen();
            let began = Instant::now();
            let refused = import_of(&shop, &id, &key).await;
            assert!(began.elapsed() < WAIT_MAX, "{mood:?}: {:?}", began.elapsed());
            assert_eq!((refused.status, refused.code()), (503, "ERR_UNAVAILABLE"), "{mood:?}: {refused:#?}");
            assert!(refused.retry_after.is_some(), "{mood:?}: {refused:#?}");
            let asked = depot.seen().len();
            assert!((1..=ASKED_MAX).contains(&asked), "{mood:?}: {asked}");
            let told = shop.call("GetCampaignUpload", json!({"campaignId": id, "s3Key": key})).await;
            assert_eq!((told.status, told.code()), (503, "ERR_UNAVAILABLE"), "{mood:?}: {told:#?}");
            // A URL can be given meanwhile, which is made without the store.
            url(&shop, &id).await;
        }
        assert_eq!(shop.rows().await, before);

        depot.set(Mood::Well);
        import_of(&shop, &id, &key).await.data();
        for mood in [Mood::Away, Mood::Failing, Mood::Silent] {
            depot.set(mood);
            depot.seen();
            let waiting = tried(&world, &shop, &id).await;
            assert_eq!((&waiting["state"], counts(&waiting)), (&json!("running"), json!([0, 0, 0, 0, 0])), "{mood:?}: {waiting:#?}");
            assert!((1..=ASKED_MAX).contains(&depot.seen().len()), "{mood:?}");
            expire_leases(&store).await;
        }
        depot.set(Mood::Well);
        read_all(&world).await;
        let done = job(&shop, &id).await;
        assert_eq!((&done["state"], counts(&done)), (&json!("completed"), json!([7_000, 5_600, 700, 0, 700])), "{done:#?}");
    }

    async fn an_import_from_a_store_that_stays_away_fails_in_the_end_and_can_be_begun_again(world) {
        let depot = Depot::start().await;
        let world = beside(world, &depot).await;
        let shop = Shop::open(&world).await;
        let store = world.store().await;
        let id = draft(&shop, json!({})).await;
        let (key, _) = stored(&shop, &id, table()).await;
        import_of(&shop, &id, &key).await.data();
        wear_out(&store).await;
        depot.set(Mood::Away);
        let failed = tried(&world, &shop, &id).await;
        assert_eq!((&failed["state"], &failed["failure"]), (&json!("failed"), &json!("ERR_UNAVAILABLE")), "{failed:#?}");
        let said = failed["failureMessage"].as_str().unwrap();
        assert!(said.contains("the store of uploaded files is away"), "{said}");
        depot.set(Mood::Well);
        import_of(&shop, &id, &key).await.data();
        read_all(&world).await;
        assert_eq!(job(&shop, &id).await["state"], "completed");
    }

    async fn a_store_that_refuses_the_service_is_told_and_no_secret_with_it(world) {
        let depot = Depot::start().await;
        let good = depot.settings();
        let world = beside(world, &depot).await;
        let (id, key, caller) = {
            let shop = Shop::open(&world).await;
            let id = draft(&shop, json!({})).await;
            let (key, _) = stored(&shop, &id, table()).await;
            (id, key, shop.caller.clone())
        };
        let request = json!({"campaignId": id, "s3Key": key});
        let mut world = world;
        for (settings, says) in [
            (S3Settings { secret_access_key: format!("{SECRET}0"), ..good.clone() }, "refuses the access key"),
            (S3Settings { access_key_id: "other-key".to_owned(), ..good.clone() }, "refuses the access key"),
            (S3Settings { bucket: "other-bucket".to_owned(), ..good.clone() }, "does not exist"),
        ] {
            world = beside_as(world, settings.clone()).await;
            let refused = world.call("ImportCampaignCsv", &caller, request.clone()).await;
            assert_eq!((refused.status, refused.code()), (500, "ERR_INTERNAL"), "{settings:?}: {refused:#?}");
            let said = format!("{refused:?}");
            assert!(said.contains(says), "{said}");
            assert!(!said.contains(SECRET) && !said.contains("key\":\"depot"), "{said}");
            // What is signed with another key, or for another bucket, is of no use.
            let given = world.call("CreateCampaignUploadUrl", &caller, json!({"campaignId": id})).await;
            let sent = put(given.data()["url"].as_str().unwrap(), "user_id\neve\n").await;
            assert!(matches!(sent, 403 | 404), "{settings:?}: {sent}");
        }
        assert_eq!(depot.objects().len(), 1);

        // It was right when the import began, and was changed meanwhile.
        world = beside_as(world, good.clone()).await;
        world.call("ImportCampaignCsv", &caller, request).await.data();
        let wrong = S3Settings { secret_access_key: format!("{SECRET}0"), ..good };
        world = beside_as(world, wrong).await;
        wear_out(&world.store().await).await;
        assert_eq!(import::turn(&world.service, world.clock.now()).await, Turn::Again);
        let failed = world.call("GetCampaignImportStatus", &caller, json!({"campaignId": id})).await;
        let failed = failed.data();
        assert_eq!((&failed["state"], &failed["failure"]), (&json!("failed"), &json!("ERR_INTERNAL")), "{failed:#?}");
        assert!(failed["failureMessage"].as_str().unwrap().contains("refuses the access key"), "{failed:#?}");
    }

    async fn a_file_in_a_slow_store_is_held_until_it_is_read(world) {
        let depot = Depot::start().await;
        let (s3, lease) = (depot.settings(), Duration::from_secs(3));
        let world = world.restart_with(|settings| {
            settings.files.s3 = Some(s3);
            settings.dispatching.lease = lease;
        }).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        begin(&shop, &id, table()).await;
        // To open the file takes two requests, and so longer than the lease.
        depot.set(Mood::Slow(lease * 2 / 3));
        let reading = import::turn(&world.service, world.clock.now());
        let others = async {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let taken = claim(&world.service, world.clock.now()).await.unwrap();
                assert!(taken.is_none(), "somebody else took what was held");
            }
        };
        tokio::select! {
            turn = reading => assert_eq!(turn, Turn::Again),
            () = others => {}
        }
        let done = job(&shop, &id).await;
        assert_eq!((&done["state"], counts(&done)), (&json!("completed"), json!([7_000, 5_600, 700, 0, 700])), "{done:#?}");
    }

    async fn an_answer_that_breaks_off_is_asked_for_from_there(world) {
        let depot = Depot::start().await;
        let world = beside(world, &depot).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let object = begin(&shop, &id, table()).await;
        depot.seen();
        depot.set(Mood::Breaks(10_000));
        read_all(&world).await;
        let ranges: Vec<_> = depot.seen().into_iter().filter(|seen| seen.path.ends_with(&object)).filter_map(|seen| seen.range).collect();
        assert_eq!(ranges[1].0, 10_000, "{ranges:?}");
        let done = ask(&shop, "GetCampaignImportStatus", &id).await;
        assert_eq!((&done.data()["state"], counts(done.data())), (&json!("completed"), json!([7_000, 5_600, 700, 0, 700])));
    }
}

#[test]
fn settings_of_a_bucket_do_not_print_their_key() {
    let settings = S3Settings {
        bucket: BUCKET.to_owned(),
        endpoint: None,
        region: S3Settings::REGION.to_owned(),
        access_key_id: "an-id".to_owned(),
        secret_access_key: SECRET.to_owned(),
        virtual_host: false,
        prefix: String::new(),
        timeout: TIMEOUT,
    };
    let shown = format!("{settings:?} {settings:#?}");
    assert!(
        shown.contains(BUCKET) && !shown.contains(SECRET) && !shown.contains("an-id"),
        "{shown}"
    );
}
