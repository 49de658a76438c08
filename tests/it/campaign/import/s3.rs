//! Files in a bucket of a store that speaks S3: whatever works with a folder works with it, and what is the store's own is
//! the URL, which it checks itself. What becomes of an import when the store is not well is in `fault.rs`.

mod fault;

use std::time::Duration;

use campanile::domain::{FileSettings, S3Settings};
use campanile::files::Files;
use campanile::worker::sweep;
use http::Method;
use serde_json::{Value, json};

use super::super::{draft, uids};
use super::form::{form, post};
use super::resume::{ROWS, expected, expire_leases, job, steps, table, take_over};
use super::stream::{self, chunks, head, key, send, sha256, upload};
use super::url::{url, walk};
use super::{audience, counts, named, read_all};
use crate::support::depot::{BUCKET, Depot, HOST, PREFIX};
use crate::support::rpc::Door;
use crate::support::shop::Shop;
use crate::support::world::World;
use crate::{everywhere, on_both};

/// The largest file of these tests: one that is sent in two parts, but no more.
const BYTES_MAX: usize = 7_000_000;

/// The same world, that keeps its files in a bucket.
async fn beside(world: World, depot: &Depot) -> World {
    beside_as(world, depot.settings()).await
}

async fn beside_as(world: World, s3: S3Settings) -> World {
    let world = world.restart_with(|settings| {
        settings.files.s3 = Some(s3);
        settings.files.bytes_max = BYTES_MAX as u64;
    });
    world.await
}

/// Sends a file to a URL of the store, which says no more than a status.
async fn put(url: &str, file: impl Into<reqwest::Body>) -> u16 {
    let sent = reqwest::Client::new().put(url).body(file.into()).send().await;
    sent.unwrap().status().as_u16()
}

/// Uploads a file, and gives its key and the name of its object.
async fn stored(shop: &Shop<'_>, id: &Value, file: impl Into<reqwest::Body>) -> (Value, String) {
    let (url, key) = url(shop, id).await;
    assert_eq!(put(url.as_str().unwrap(), file).await, 200);
    let object = format!("{PREFIX}/{}", key.as_str().unwrap());
    (key, object)
}

/// Lets an uploaded file be imported.
async fn begin(shop: &Shop<'_>, id: &Value, file: impl Into<reqwest::Body>) -> String {
    let (key, object) = stored(shop, id, file).await;
    let started = shop.call("ImportCampaignCsv", json!({"campaignId": id, "s3Key": key}));
    assert_eq!(started.await.status, 202);
    object
}

/// A file of so many users with a kilobyte beside each of them.
fn large(rows: usize) -> String {
    let filling = "x".repeat(1_000);
    let rows = uids(rows).into_iter().map(|uid| format!("{uid},{filling}\n"));
    format!("user_id,note\n{}", rows.collect::<String>())
}

everywhere! {
    async fn a_file_in_a_bucket_becomes_an_audience_and_is_removed_in_its_time(world) {
        let depot = Depot::start().await;
        let world = beside(world, &depot).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let (good, key) = url(&shop, &id).await;
        let (good, object) = (good.as_str().unwrap(), format!("{PREFIX}/{}", key.as_str().unwrap()));
        assert!(good.starts_with(&format!("{}/{BUCKET}/{object}?", depot.url)), "{good}");
        assert!(good.contains("X-Amz-Expires=900&"), "{good}");
        let (bare, signature) = (good.split('?').next().unwrap(), good.split("X-Amz-Signature=").nth(1).unwrap());
        for wrong in [
            bare.to_owned(),
            good.replace(signature, &"0".repeat(signature.len())),
            good.replace("X-Amz-Expires=900", "X-Amz-Expires=901"),
            good.replace(".csv?", "0.csv?"),
            good.replace("depot-key", "other-key"),
        ] {
            assert_eq!(put(&wrong, "user_id\neve\n").await, 403, "{wrong}");
        }
        let read = reqwest::get(good).await.unwrap().status().as_u16();
        assert_eq!(read, 403, "it is good for nothing else");
        assert!(depot.objects().is_empty());

        assert_eq!(put(good, "user_id,note\nada,a\na b,x\nbob,\nada,\n").await, 200);
        assert_eq!(depot.objects(), [object.as_str()]);
        assert_eq!(upload(&shop, &id, &key).await, json!([35, true]));
        let started = shop.call("ImportCampaignCsv", json!({"campaignId": id, "s3Key": key})).await;
        assert_eq!(started.status, 202, "{started:#?}");
        read_all(&world).await;
        let job = job(&shop, &id).await;
        assert_eq!((&job["state"], counts(&job)), (&json!("completed"), json!([4, 2, 1, 0, 1])), "{job:#?}");
        assert_eq!(audience(&shop, &id).await, [("ada".to_owned(), json!({"note": "a"})), ("bob".to_owned(), json!({}))]);
        let path = format!("/v3/campaigns/campaigns/{}/import-errors.csv", id.as_str().unwrap());
        let problems = world.http(Method::GET, &path, &shop.caller).send().await.unwrap().text().await.unwrap();
        assert!(problems.starts_with("line,column,rule,received\r\n3,\"user_id\","), "{problems}");
        assert!(walk(world.uploads()).is_empty(), "nothing is in the folder");

        depot.put("shops/west/keep.csv", "not ours");
        depot.put(&format!("{PREFIX}/camp-x/keep.csv"), "not ours");
        for _ in 0..5 {
            stored(&shop, &draft(&shop, json!({})).await, "user_id\nada\n").await;
        }
        let open = draft(&shop, json!({})).await;
        let waiting = begin(&shop, &open, "user_id\nada\n").await;
        let kept = [format!("{PREFIX}/camp-x/keep.csv"), waiting, "shops/west/keep.csv".to_owned()];
        world.pass(Duration::from_secs(24 * 60 * 60 - 1));
        sweep::turn(&world.service, world.clock.now()).await;
        assert_eq!(depot.objects().len(), 6 + kept.len());
        world.pass(Duration::from_secs(62));
        sweep::turn(&world.service, world.clock.now()).await;
        let mut left = kept.to_vec();
        left.sort();
        assert_eq!(depot.objects(), left, "old ones alone, that nobody has to read any more");
        let asked = depot.seen().len();
        sweep::turn(&world.service, world.clock.now()).await;
        assert_eq!((depot.seen().len(), asked > 0), (0, true), "it rests behind the end of the bucket");
    }

    async fn whoever_goes_on_reads_from_where_it_was_left(world) {
        let depot = Depot::start().await;
        let world = beside(world, &depot).await;
        let shop = Shop::open(&world).await;
        let store = world.store().await;
        let id = draft(&shop, json!({})).await;
        let object = begin(&shop, &id, table()).await;
        for count in [2, 3, 4] {
            let mut work = take_over(&world).await;
            steps(&world, &mut work, count).await;
            drop(work);
            expire_leases(&store).await;
        }
        let left = job(&shop, &id).await["nextOffset"].as_u64().unwrap();
        assert!(left > 0 && left < table().len() as u64, "{left}");
        depot.seen();
        read_all(&world).await;
        let ranges: Vec<_> = depot.seen().into_iter().filter(|seen| seen.path.ends_with(&object)).filter_map(|seen| seen.range).collect();
        assert!(ranges.iter().any(|(from, _)| *from == left - 1), "{left}: {ranges:?}");
        let done = job(&shop, &id).await;
        assert_eq!((&done["state"], counts(&done)), (&json!("completed"), json!([ROWS, 5_600, 700, 0, 700])), "{done:#?}");
        assert_eq!(named(&audience(&shop, &id).await), expected());
    }

    async fn a_file_that_is_replaced_or_removed_meanwhile_ends_the_import(world) {
        let depot = Depot::start().await;
        let world = beside(world, &depot).await;
        let shop = Shop::open(&world).await;
        let store = world.store().await;
        // Of the first all is looked through before it is replaced, of the second no more than two pieces of four
        // are taken and read ahead, the third is read by somebody else then.
        for (file, done, lost, change, word, says) in [
            (table(), 1, false, Some(table().replace("again", "other")), "ERR_BAD_REQUEST", "was replaced while it was read"),
            (large(6_500), 3, false, Some(large(6_500).replace('x', "y")), "ERR_BAD_REQUEST", "was replaced while it was read"),
            (table(), 3, true, Some(table().replace("again", "other")), "ERR_BAD_REQUEST", "was changed after its import had begun"),
            (large(6_500), 3, false, None, "ERR_UPLOAD_NOT_FOUND", "was removed while it was read"),
            (table(), 3, true, None, "ERR_UPLOAD_NOT_FOUND", "was removed after its time"),
            (table(), 0, false, Some(large(BYTES_MAX / 1_000)), "ERR_PAYLOAD_TOO_LARGE", "must not be larger"),
        ] {
            let id = draft(&shop, json!({})).await;
            let object = begin(&shop, &id, file).await;
            let mut work = take_over(&world).await;
            steps(&world, &mut work, done).await;
            let taken = job(&shop, &id).await;
            match change {
                Some(other) => depot.put(&object, other),
                None => depot.remove(&object),
            }
            if lost {
                drop(work);
                expire_leases(&store).await;
                read_all(&world).await;
            } else {
                use campanile::domain::campaign::import::{Step, advance};
                while advance(&world.service, &mut work, world.clock.now()).await.unwrap() == Step::More {}
            }
            let failed = job(&shop, &id).await;
            assert_eq!((&failed["state"], &failed["failure"]), (&json!("failed"), &json!(word)), "{failed:#?}");
            assert!(failed["failureMessage"].as_str().unwrap().contains(says), "{failed:#?}");
            let added = |job: &Value| job["counts"]["added"].as_i64().unwrap_or_default();
            assert!(added(&failed) >= added(&taken) && added(&failed) < 5_600, "{failed:#?}");
            let notes = audience(&shop, &id).await;
            assert!(notes.iter().all(|(_, values)| !values.to_string().contains("yy")), "only the first file was taken");
        }
    }

    async fn what_the_store_took_without_looking_is_refused_before_it_is_read(world) {
        let depot = Depot::start().await;
        let world = beside(world, &depot).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let (key, object) = stored(&shop, &id, vec![b'x'; BYTES_MAX + 1]).await;
        let before = shop.rows().await;
        depot.seen();
        let request = json!({"campaignId": id, "s3Key": key});
        let refused = shop.call("ImportCampaignCsv", request.clone()).await;
        assert_eq!((refused.status, refused.code()), (413, "ERR_PAYLOAD_TOO_LARGE"), "{refused:#?}");
        assert!(depot.seen().iter().all(|seen| seen.method == Method::HEAD));
        depot.remove(&object);
        let refused = shop.call("ImportCampaignCsv", request).await;
        assert_eq!((refused.status, refused.code()), (404, "ERR_UPLOAD_NOT_FOUND"), "{refused:#?}");
        assert_eq!(shop.rows().await, before);
    }
}

on_both! {
    async fn a_form_goes_through_the_service_into_the_bucket(db) {
        let depot = Depot::start().await;
        let world = beside(World::start(db, Door::Rest).await, &depot).await;
        let shop = Shop::open(&world).await;
        // In one request, and in parts.
        for rows in [10, 6_000] {
            let id = draft(&shop, json!({})).await;
            let (status, body) = post(&world, &shop.caller, &id, form(&[("file", &large(rows))])).await;
            assert_eq!(status, 202, "{body:#?}");
            read_all(&world).await;
            assert_eq!(counts(&job(&shop, &id).await), json!([rows, rows, 0, 0, 0]));
        }
        assert_eq!((depot.objects().len(), depot.unfinished()), (2, 0));
        let id = draft(&shop, json!({})).await;
        let (status, body) = post(&world, &shop.caller, &id, form(&[("file", &large(7_000))])).await;
        assert_eq!((status, &body["error"]["code"]), (413, &json!("ERR_PAYLOAD_TOO_LARGE")), "{body:#?}");
        let broken = form(&[("file", &large(6_000))]);
        let (status, _) = post(&world, &shop.caller, &id, broken.split_at(6_000_000).0.to_owned()).await;
        assert_eq!(status, 400);
        assert_eq!((depot.objects().len(), depot.unfinished()), (2, 0), "nothing is left of either");
        assert!(walk(world.uploads()).is_empty());
    }

    async fn a_stream_into_a_bucket_is_gone_on_with(db) {
        let depot = Depot::start().await;
        let world = beside(World::start(db, Door::Grpc).await, &depot).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let key = key(&shop, &id).await;
        let file = large(6_000).into_bytes();
        let head = head(&id, &key, &json!({"bytesTotal": file.len(), "sha256": sha256(&file)}));
        let part = |from: usize, to: usize| [vec![head.clone()], chunks(&file[..to], from, 200_000)].concat();
        let refused = send(&shop, part(0, 2_500_000)).await;
        assert_eq!((refused.status, refused.code()), (416, "ERR_OFFSET_MISMATCH"), "{refused:#?}");
        assert_eq!(upload(&shop, &id, &key).await, json!([2_500_000, false]));
        assert_eq!(depot.objects().len(), 3, "parts of a MiB");
        let refused = send(&shop, part(0, file.len())).await;
        assert_eq!(refused.body["error"]["details"]["nextOffset"], "2500000", "{refused:#?}");
        assert_eq!(send(&shop, part(2_500_000, file.len())).await.status, 202);
        assert_eq!((depot.objects().len(), depot.unfinished()), (1, 0), "one object in the place of its parts");
        read_all(&world).await;
        assert_eq!(counts(&job(&shop, &id).await), json!([6_000, 6_000, 0, 0, 0]));

        let id = draft(&shop, json!({})).await;
        let key = stream::key(&shop, &id).await;
        let head = stream::head(&id, &key, &json!({"sha256": "0".repeat(64)}));
        let refused = send(&shop, [vec![head], chunks(&file, 0, 200_000)].concat()).await;
        assert_eq!((refused.status, refused.code()), (400, "ERR_BAD_REQUEST"), "{refused:#?}");
        assert_eq!((depot.objects().len(), depot.unfinished()), (1, 0), "nothing is left of another file than was meant");
    }
}

fn files(s3: S3Settings) -> Files {
    Files::new(FileSettings {
        s3: Some(s3),
        ..FileSettings::new("unused")
    })
}

#[tokio::test]
async fn a_signed_url_is_good_for_its_time_alone() {
    let depot = Depot::start().await;
    let files = files(depot.settings());
    let url = files
        .signed_url("a/b.csv", Duration::from_secs(1))
        .await
        .unwrap()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let late = reqwest::Client::new().put(&url).body("late").send().await.unwrap();
    assert_eq!(late.status(), 403);
    let said = late.text().await.unwrap();
    assert!(said.contains("expired"), "{said}");
    let url = files
        .signed_url("a/b.csv", Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(put(&url, "in time").await, 200);
}

#[tokio::test]
async fn a_bucket_may_be_a_part_of_the_host_name() {
    let depot = Depot::start().await;
    let port = depot.url.rsplit_once(':').unwrap().1;
    let files = files(S3Settings {
        endpoint: Some(format!("http://{HOST}:{port}/")),
        virtual_host: true,
        ..depot.settings()
    });
    let url = files
        .signed_url("a/b.csv", Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap();
    let host = format!("{BUCKET}.{HOST}");
    assert!(
        url.starts_with(&format!("http://{host}:{port}/{PREFIX}/a/b.csv?")),
        "{url}"
    );
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    let client = reqwest::Client::builder().resolve(&host, address).build().unwrap();
    let sent = client.put(&url).body("content").send().await.unwrap();
    assert_eq!(
        sent.status(),
        200,
        "the store checks the signature of this form as well"
    );
    assert_eq!(depot.objects(), [format!("{PREFIX}/a/b.csv")]);
}

#[tokio::test]
async fn amazons_own_store_needs_no_address() {
    for (virtual_host, begins) in [
        (false, "https://s3.eu-central-1.amazonaws.com/uploads/a/b.csv?"),
        (true, "https://uploads.s3.eu-central-1.amazonaws.com/a/b.csv?"),
    ] {
        let depot = Depot::start().await;
        let files = files(S3Settings {
            endpoint: None,
            region: "eu-central-1".to_owned(),
            prefix: String::new(),
            virtual_host,
            ..depot.settings()
        });
        let url = files
            .signed_url("a/b.csv", Duration::from_secs(60))
            .await
            .unwrap()
            .unwrap();
        assert!(url.starts_with(begins), "{url}");
        assert!(url.contains("%2Feu-central-1%2Fs3%2Faws4_request"), "{url}");
    }
}
