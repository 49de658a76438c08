//! Signed upload URLs: for how long and for what one is good, how large a file may be, and when files are removed.

use std::time::Duration;

use campanile::domain::FileSettings;
use campanile::worker::sweep;
use serde_json::{Value, json};

use super::super::{ask, draft};
use super::{audience, imported, named, put, read_all, start, upload};
use crate::support::rpc::Door;
use crate::support::shop::Shop;
use crate::support::world::World;
use crate::{everywhere, on_both};

pub(super) async fn url(shop: &Shop<'_>, id: &Value) -> (Value, Value) {
    let given = ask(shop, "CreateCampaignUploadUrl", id).await;
    (given.data()["url"].clone(), given.data()["s3Key"].clone())
}

everywhere! {
    async fn an_upload_url_is_good_for_fifteen_minutes_and_as_it_was_given(world) {
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let (good, key) = url(&shop, &id).await;
        let text = good.as_str().unwrap();
        let (path, token) = text.rsplit_once('/').unwrap();
        let mut wrong = vec![format!("{path}/x"), format!("{text}AAAA"), format!("{path}/{}", "A".repeat(token.len()))];
        for at in [0, 30, 60, 80, token.len() - 2] {
            let mut letters: Vec<char> = token.chars().collect();
            letters[at] = if letters[at] == 'A' { 'B' } else { 'A' };
            wrong.push(format!("{path}/{}", letters.into_iter().collect::<String>()));
        }
        for tampered in wrong {
            let refused = put(&json!(tampered), "user_id\nada\n").await;
            assert_eq!((refused.status, refused.code()), (401, "ERR_UNAUTHORIZED"), "{refused:#?}");
        }
        world.pass(Duration::from_secs(15 * 60 - 1));
        put(&good, "user_id\nada\n").await.data();
        put(&good, "user_id\nbob\n").await.data();
        world.pass(Duration::from_secs(1));
        let refused = put(&good, "user_id\ncyd\n").await;
        assert_eq!((refused.status, refused.code()), (401, "ERR_UNAUTHORIZED"), "{refused:#?}");
        shop.call("ImportCampaignCsv", json!({"campaignId": id, "s3Key": key})).await.data();
        read_all(&world).await;
        assert_eq!(named(&audience(&shop, &id).await), ["bob"], "the last whole file counts");
    }

    async fn a_file_that_was_imported_cannot_be_replaced(world) {
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let (good, key) = url(&shop, &id).await;
        put(&good, "user_id\nada\n").await.data();
        shop.call("ImportCampaignCsv", json!({"campaignId": id, "s3Key": key})).await.data();
        let refused = put(&good, "user_id\neve\n").await;
        assert_eq!((refused.status, refused.code()), (409, "ERR_CONFLICT"), "{refused:#?}");
        read_all(&world).await;
        assert_eq!(named(&audience(&shop, &id).await), ["ada"]);
    }

    async fn the_files_of_another_app_do_not_exist(world) {
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let key = upload(&shop, &id, "user_id\nada\n").await;
        let club = world.tenant("club").await;
        let refused = world.call("ImportCampaignCsv", &club.caller, json!({"campaignId": id, "s3Key": key})).await;
        assert_eq!((refused.status, refused.code()), (404, "ERR_CAMPAIGN_NOT_FOUND"), "{refused:#?}");
        let refused = world.call("CreateCampaignUploadUrl", &club.caller, json!({"campaignId": id})).await;
        assert_eq!((refused.status, refused.code()), (404, "ERR_CAMPAIGN_NOT_FOUND"), "{refused:#?}");
    }
}

on_both! {
    async fn a_file_that_is_too_large_is_refused_and_leaves_nothing(db) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_path_buf();
        let world = World::start_with(db, Door::Rest, |settings| {
            settings.files = FileSettings { bytes_max: 2_000_000, ..FileSettings::new(place) };
        }).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let (good, key) = url(&shop, &id).await;
        let before = shop.rows().await;
        let pieces = (0..30).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 100_000]));
        let streamed = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
        for body in [reqwest::Body::from(vec![b'x'; 2_000_001]), streamed] {
            let refused = put(&good, body).await;
            assert_eq!((refused.status, refused.code()), (413, "ERR_PAYLOAD_TOO_LARGE"), "{refused:#?}");
        }
        let packed = {
            use std::io::Write;
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            packed.write_all(&vec![b'0'; 50 << 20]).unwrap();
            packed.finish().unwrap()
        };
        let bomb = reqwest::Client::new().put(good.as_str().unwrap()).header("content-encoding", "gzip").body(packed);
        assert_eq!(bomb.send().await.unwrap().status(), 413);
        let refused = shop.call("ImportCampaignCsv", json!({"campaignId": id, "s3Key": key})).await;
        assert_eq!((refused.status, refused.code()), (404, "ERR_UPLOAD_NOT_FOUND"), "{refused:#?}");
        assert_eq!(shop.rows().await, before);
        let job = imported(&world, &shop, &id, "user_id\nada\n", json!({})).await;
        assert_eq!(job["state"], "completed");
        let left = walk(folder.path());
        assert_eq!(left.len(), 1, "{left:?}");
    }

    async fn files_are_removed_after_a_day_unless_their_import_is_not_over(db) {
        let world = World::start(db, Door::Grpc).await;
        let shop = Shop::open(&world).await;
        let (one, two) = (draft(&shop, json!({})).await, draft(&shop, json!({})).await);
        upload(&shop, &one, "user_id\nada\n").await;
        start(&shop, &two, "user_id\nada\n", json!({})).await.data();
        std::fs::write(world.uploads().join("camp-x"), "not ours").unwrap();
        world.pass(Duration::from_secs(24 * 60 * 60 - 1));
        sweep::turn(&world.service, world.clock.now()).await;
        assert_eq!(walk(world.uploads()).len(), 3);
        world.pass(Duration::from_secs(2));
        sweep::turn(&world.service, world.clock.now()).await;
        assert_eq!(walk(world.uploads()).len(), 2);
        read_all(&world).await;
        let job = ask(&shop, "GetCampaignImportStatus", &two).await;
        assert_eq!(job.data()["state"], "completed");
        sweep::turn(&world.service, world.clock.now()).await;
        assert_eq!(walk(world.uploads()).len(), 1);
    }

    async fn an_address_that_is_set_is_what_upload_urls_begin_with(db) {
        let world = World::start_with(db, Door::Grpc, |settings| {
            settings.public_url = Some("https://api.example.com".to_owned());
        }).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let (good, _) = url(&shop, &id).await;
        assert!(good.as_str().unwrap().starts_with("https://api.example.com/v3/campaigns/uploads/"), "{good}");
    }
}

/// All files in a folder.
pub(super) fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}
