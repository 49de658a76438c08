//! Files that come piece by piece over gRPC: they end up where all others do, what breaks off is gone on with, and what is
//! refused leaves nothing. How parts become a file is proven beside the files; kills of a real server are in `process`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use campanile::domain::FileSettings;
use campanile::pb::v1;
use futures::StreamExt;
use prost::Message;
use serde_json::{Value, json};

use super::super::{ask, draft, ready, uids};
use super::url::walk;
use super::{audience, counts, imported, named, put, read_all, start};
use crate::on_both;
use crate::support::rpc::{Answer, Door};
use crate::support::server::http2;
use crate::support::shop::Shop;
use crate::support::world::World;

/// A key for a file of a campaign.
pub(super) async fn key(shop: &Shop<'_>, id: &Value) -> Value {
    ask(shop, "CreateCampaignUploadUrl", id).await.data()["s3Key"].clone()
}

pub(super) fn head(id: &Value, key: &Value, differs: &Value) -> Value {
    let mut head = json!({"campaignId": id, "s3Key": key});
    head.as_object_mut()
        .unwrap()
        .extend(differs.as_object().unwrap().clone());
    json!({"head": head})
}

fn chunk(offset: usize, data: &[u8]) -> Value {
    json!({"chunk": {"offset": offset, "data": STANDARD.encode(data)}})
}

/// What is left of a file behind an offset, in pieces.
pub(super) fn chunks(file: &[u8], from: usize, size: usize) -> Vec<Value> {
    let pieces = file[from..].chunks(size).enumerate();
    pieces.map(|(at, piece)| chunk(from + at * size, piece)).collect()
}

pub(super) async fn send(shop: &Shop<'_>, messages: Vec<Value>) -> Answer {
    shop.call("ImportRecipients", json!({"stream": messages})).await
}

/// Sends a whole file.
async fn send_file(shop: &Shop<'_>, head: Value, file: &[u8]) -> Answer {
    send(shop, [vec![head], chunks(file, 0, 100)].concat()).await
}

pub(super) async fn upload(shop: &Shop<'_>, id: &Value, key: &Value) -> Value {
    let found = shop
        .call("GetCampaignUpload", json!({"campaignId": id, "s3Key": key}))
        .await;
    json!([found.data()["nextOffset"], found.data()["complete"]])
}

fn refusal(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.code())
}

pub(super) fn sha256(file: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, file);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

on_both! {
    async fn a_stream_makes_the_same_audience_as_any_other_file(db) {
        let world = World::start(db, Door::Grpc).await;
        let shop = Shop::open(&world).await;
        let file = "user_id;note\r\nada;\"a;\r\nb\"\r\nbob;\r\na b;\r\n".as_bytes();
        let id = draft(&shop, json!({})).await;
        for size in [1, 7, file.len()] {
            let key = key(&shop, &id).await;
            assert_eq!(upload(&shop, &id, &key).await, json!([0, false]));
            let told = json!({"bytesTotal": file.len(), "sha256": sha256(file), "delimiter": "semicolon"});
            let sent = send(&shop, [vec![head(&id, &key, &told)], chunks(file, 0, size)].concat()).await;
            assert_eq!((sent.status, &sent.data()["state"], &sent.data()["s3Key"]), (202, &json!("queued"), &key), "{sent:#?}");
            assert_eq!(upload(&shop, &id, &key).await, json!([file.len(), true]));
            read_all(&world).await;
            let job = ask(&shop, "GetCampaignImportStatus", &id).await;
            assert_eq!((&job.data()["id"], &job.data()["state"]), (&sent.data()["id"], &json!("completed")));
            let added = if size == 1 { 2 } else { 0 };
            assert_eq!(counts(job.data()), json!([3, added, 2 - added, 0, 1]));
        }
        let rows = [("ada".to_owned(), json!({"note": "a;\r\nb"})), ("bob".to_owned(), json!({}))];
        assert_eq!(audience(&shop, &id).await, rows);
    }

    async fn a_stream_that_ended_too_early_is_gone_on_with(db) {
        let world = World::start(db, Door::Grpc).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let file = format!("user_id\n{}", uids(500).join("\n")).into_bytes();
        let key = key(&shop, &id).await;
        let head = head(&id, &key, &json!({"bytesTotal": file.len(), "sha256": sha256(&file)}));
        for (from, to) in [(0, 1_000), (1_000, 1_001), (1_001, 4_321)] {
            let pieces = chunks(&file[..to], from, 333);
            let refused = send(&shop, [vec![head.clone()], pieces].concat()).await;
            assert_eq!(refusal(&refused), (416, "ERR_OFFSET_MISMATCH"), "{refused:#?}");
            assert_eq!(refused.body["error"]["details"]["nextOffset"], to.to_string());
            assert_eq!(upload(&shop, &id, &key).await, json!([to, false]));
        }
        // Whoever does not know where it stands is told.
        let refused = send_file(&shop, head.clone(), &file).await;
        assert_eq!(refused.body["error"]["details"]["nextOffset"], "4321", "{refused:#?}");
        send(&shop, [vec![head], chunks(&file, 4_321, 333)].concat()).await.data();
        read_all(&world).await;
        assert_eq!(named(&audience(&shop, &id).await), uids(500));
        assert_eq!(walk(world.uploads()).len(), 1, "the parts are gone");
    }

    async fn an_answer_that_was_lost_is_given_again(db) {
        let world = World::start(db, Door::Grpc).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let given = ask(&shop, "CreateCampaignUploadUrl", &id).await;
        let (url, key) = (given.data()["url"].clone(), given.data()["s3Key"].clone());
        put(&url, "user_id\nada\n").await.data();
        // The file is complete and nothing was started: a head alone does that, once.
        let started = send(&shop, vec![head(&id, &key, &json!({"bytesTotal": 12}))]).await;
        assert_eq!(started.status, 202, "{started:#?}");
        let again = send_file(&shop, head(&id, &key, &json!({})), b"user_id\nada\n").await;
        assert_eq!(again.data(), started.data());
        read_all(&world).await;
        ask(&shop, "SendCampaign", &id).await.data();
        let late = send(&shop, vec![head(&id, &key, &json!({}))]).await;
        assert_eq!((&late.data()["id"], &late.data()["state"]), (&started.data()["id"], &json!("completed")));
        assert_eq!(named(&audience(&shop, &id).await), ["ada"]);
    }

    async fn a_stream_that_is_refused_changes_nothing_and_leaves_nothing(db) {
        let world = World::start(db, Door::Grpc).await;
        let shop = Shop::open(&world).await;
        let (id, other) = (draft(&shop, json!({})).await, draft(&shop, json!({})).await);
        let (own, foreign) = (key(&shop, &id).await, key(&shop, &other).await);
        let sent = ready(&shop, json!({}), &uids(1)).await;
        let late = key(&shop, &sent).await;
        ask(&shop, "SendCampaign", &sent).await.data();
        let busy = draft(&shop, json!({})).await;
        start(&shop, &busy, "user_id\nada\n", json!({})).await.data();
        let second = key(&shop, &busy).await;
        let made_up = json!(format!("{}/file-{}.csv", id.as_str().unwrap(), "0".repeat(26)));
        let (before, files) = (shop.rows().await, walk(world.uploads()).len());
        let (file, none) = (b"user_id\nada\n".as_slice(), json!({}));
        let first = |id: &Value, key: &Value, differs: &Value| [vec![head(id, key, differs)], chunks(file, 0, 5)].concat();
        for (messages, status, code) in [
            (Vec::new(), 400, "ERR_BAD_REQUEST"),
            (chunks(file, 0, 5), 400, "ERR_BAD_REQUEST"),
            (vec![json!({})], 400, "ERR_BAD_REQUEST"),
            (first(&json!("camp-01hf7yat00000000000000000a"), &own, &none), 404, "ERR_CAMPAIGN_NOT_FOUND"),
            (first(&id, &foreign, &none), 404, "ERR_UPLOAD_NOT_FOUND"),
            (first(&id, &made_up, &none), 404, "ERR_UPLOAD_NOT_FOUND"),
            (first(&id, &json!("../../etc/passwd"), &none), 404, "ERR_UPLOAD_NOT_FOUND"),
            (first(&sent, &late, &none), 400, "ERR_INVALID_STATE"),
            (first(&busy, &second, &none), 409, "ERR_CONFLICT"),
            (first(&id, &own, &json!({"sha256": "x"})), 400, "ERR_BAD_REQUEST"),
            (first(&id, &own, &json!({"sha256": "0".repeat(64)})), 400, "ERR_BAD_REQUEST"),
            (first(&id, &own, &json!({"bytesTotal": 11})), 400, "ERR_BAD_REQUEST"),
            (vec![head(&id, &own, &none), chunk(1, b"x")], 416, "ERR_OFFSET_MISMATCH"),
            (vec![head(&id, &own, &none), chunk(0, b"")], 400, "ERR_BAD_REQUEST"),
            (vec![head(&id, &own, &none), head(&id, &own, &none)], 400, "ERR_BAD_REQUEST"),
        ] {
            let shown = json!(messages).to_string();
            let refused = send(&shop, messages).await;
            assert_eq!(refusal(&refused), (status, code), "{shown}: {refused:#?}");
        }
        let large = vec![head(&id, &own, &none), chunk(0, &vec![b'x'; 262_145])];
        assert_eq!(refusal(&send(&shop, large).await), (400, "ERR_BAD_REQUEST"));
        let huge = vec![head(&id, &own, &none), chunk(0, &vec![b'x'; 400_000])];
        assert_eq!(refusal(&send(&shop, huge).await), (413, "ERR_PAYLOAD_TOO_LARGE"));
        assert_eq!(shop.rows().await, before);
        assert_eq!(walk(world.uploads()).len(), files);

        world.pass(Duration::from_secs(24 * 60 * 60 + 1));
        let refused = send(&shop, first(&id, &own, &none)).await;
        assert_eq!(refusal(&refused), (404, "ERR_UPLOAD_NOT_FOUND"), "{refused:#?}");
    }

    async fn a_file_that_grows_larger_than_files_may_be_never_was(db) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_path_buf();
        let world = World::start_with(db, Door::Grpc, |settings| {
            settings.files = FileSettings { bytes_max: 2_000_000, ..FileSettings::new(place) };
        }).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let key = key(&shop, &id).await;
        let head = head(&id, &key, &json!({}));
        let file = vec![b'x'; 2_000_001];
        let refused = send(&shop, [vec![head], chunks(&file, 0, 200_000)].concat()).await;
        assert_eq!(refusal(&refused), (413, "ERR_PAYLOAD_TOO_LARGE"), "{refused:#?}");
        assert!(walk(folder.path()).is_empty());
        assert_eq!(upload(&shop, &id, &key).await, json!([0, false]));
        let job = imported(&world, &shop, &id, "user_id\nada\n", json!({})).await;
        assert_eq!(job["state"], "completed");
    }

    async fn whoever_stands_still_is_not_waited_for_and_what_came_is_kept(db) {
        let world = World::start_behind(db, Door::Grpc, |_| {}, |options| {
            options.body_read_timeout = Duration::from_millis(300);
        }).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let key = key(&shop, &id).await;
        let messages = vec![head(&id, &key, &json!({})), chunk(0, b"user_id\nada")];
        let refused = world.stream("ImportRecipients", &shop.caller, messages).await;
        assert_eq!(refusal(&refused), (504, "ERR_DEADLINE_EXCEEDED"), "{refused:#?}");
        assert_eq!(upload(&shop, &id, &key).await, json!([11, false]));
        let rest = vec![head(&id, &key, &json!({})), chunk(11, b"\n")];
        send(&shop, rest).await.data();
        read_all(&world).await;
        assert_eq!(named(&audience(&shop, &id).await), ["ada"]);
    }

    async fn the_deadline_of_the_caller_ends_a_stream(db) {
        let world = World::start(db, Door::Grpc).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let head = v1::ImportRecipientsHead {
            campaign_id: id.as_str().unwrap().to_owned(),
            s3_key: key(&shop, &id).await.as_str().unwrap().to_owned(),
            ..v1::ImportRecipientsHead::default()
        };
        let part = Some(v1::import_recipients_request::Part::Head(head));
        let message = v1::ImportRecipientsRequest { part }.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let framed = [vec![0], length.to_vec(), message].concat();
        let endless = futures::stream::iter([Ok::<_, std::io::Error>(framed)]).chain(futures::stream::pending());
        let url = format!("{}/campanile.v1.CampaignService/ImportRecipients", world.url());
        // tonic's own client would not wait for the answer.
        let sent = shop.caller.dress(http2().post(url)).header("content-type", "application/grpc");
        let sent = sent.header("grpc-timeout", "300m").body(reqwest::Body::wrap_stream(endless));
        let answer = sent.send().await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "4", "{answer:#?}");
        let missing = ask(&shop, "GetCampaignImportStatus", &id).await;
        assert_eq!(refusal(&missing), (404, "ERR_IMPORT_NOT_FOUND"));
    }

    async fn browsers_are_told_that_they_cannot_stream(db) {
        let world = World::start(db, Door::Grpc).await;
        let shop = Shop::open(&world).await;
        let path = "/campanile.v1.CampaignService/ImportRecipients";
        let sent = world.http(reqwest::Method::POST, path, &shop.caller);
        let answer = sent.header("content-type", "application/grpc-web+proto").body(vec![0; 5]).send().await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "12");
    }
}
