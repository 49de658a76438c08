//! Bad input: each is refused with what to do about it, and a look at the store finds nothing changed. What is refused for the
//! state of a campaign is in `life.rs`, times that cannot be in `time.rs`, files that are none in `import.rs`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use campanile::pb::v1;
use campanile::pb::v1::campaign_service_client::CampaignServiceClient;
use campanile::pb::v1::import_recipients_request::Part;
use serde_json::{Value, json};
use tonic::codec::CompressionEncoding;
use tonic::transport::Endpoint;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use super::import::{imported, read_all, upload};
use super::{add, ask, draft, ready, refusal, uids};
use crate::support::rpc::Door;
use crate::support::shop::Shop;
use crate::support::world::World;
use crate::{everywhere, on_both};

/// Bytes of a part of a file that is streamed.
const PART_BYTES: usize = 200_000;
/// Bytes that a bomb unpacks to: more than any request may have.
const BOMB: usize = 20 << 20;
/// What a file is read for at most that is one line of a gigabyte: hashing as much takes minutes in a test.
const LINE_TIME_MAX: Duration = Duration::from_secs(20);

everywhere! {
    async fn a_variable_that_a_template_does_not_know_is_named_beside_those_that_it_does(world) {
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({"templateId": "order-shipped", "variables": {"code": "1"}})).await;
        let before = (ask(&shop, "GetCampaign", &id).await.body, shop.rows().await);
        let wrong = json!({"cdoe": "1", "name": "Ada"});
        let create = json!({"campaign": {"name": "Sale", "templateId": "order-shipped", "variables": wrong}});
        let inside = json!({"campaign": {"name": "Sale", "templateId": "order-shipped", "config": {"variables": wrong}}});
        let update = json!({"campaignId": id, "campaign": {"variables": wrong}});
        for (rpc, request) in [("CreateCampaign", create), ("CreateCampaign", inside), ("UpdateCampaign", update)] {
            let refused = shop.call(rpc, request).await;
            let (status, code, details) = refusal(&refused);
            assert_eq!((status, code), (400, "ERR_INVALID_VARIABLES"), "{refused:#?}");
            let named: Vec<_> = details.as_object().unwrap().iter().collect();
            let [(field, rule)] = named.as_slice() else { unreachable!("{refused:#?}") };
            assert!(field.ends_with("variables.cdoe"), "{field}");
            let rule = rule.as_str().unwrap();
            assert!(rule.contains("remove it") && rule.contains("code, name, unknown"), "{rule}");
        }
        assert_eq!((ask(&shop, "GetCampaign", &id).await.body, shop.rows().await), before);
        // Content may use what is not declared, and whoever shows the feed may use anything where nothing is.
        let content = crate::support::shop::card("{{ code }} and {{ more }}");
        let channels = json!([{"channelType": "in_app", "content": content}]);
        shop.template("using", json!({"channels": channels, "variableSchema": [{"key": "code"}]})).await;
        draft(&shop, json!({"templateId": "using", "variables": {"more": "1"}})).await;
        draft(&shop, json!({"templateId": "plain", "variables": {"anything": "1"}})).await;
    }

    async fn nothing_is_sent_with_a_template_that_is_archived(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(3)).await;
        shop.call("ArchiveTemplate", json!({"templateId": "plain"})).await.data();
        refuses_to_send(&shop, &id, &["plain"], "archived").await;
    }

    async fn nothing_is_sent_with_a_template_that_is_not_approved_or_no_more(world) {
        let shop = Shop::open(&world).await;
        shop.draft("unapproved").await;
        let id = ready(&shop, json!({}), &uids(3)).await;
        shop.call("UpdateTemplate", json!({"templateId": "plain", "template": {"status": "draft"}})).await.data();
        refuses_to_send(&shop, &id, &["plain", "unapproved"], "approve it").await;
    }

    async fn a_line_of_a_gigabyte_is_given_up_at_its_first_mebibyte(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(2)).await;
        let key = upload(&shop, &id, "user_id\nada\n").await;
        let mut file = OpenOptions::new().write(true).open(place(&world, &key)).unwrap();
        lengthen(&mut file, "user_id\nada\n");
        let before = (ask(&shop, "GetCampaign", &id).await.body, shop.rows().await);
        shop.call("ImportCampaignCsv", json!({"campaignId": id, "s3Key": key})).await.data();
        let began = Instant::now();
        read_all(&world).await;
        assert!(began.elapsed() < LINE_TIME_MAX, "{:?}", began.elapsed());
        gives_up_the_line(&shop, &id, before).await;
    }

    async fn nothing_is_sent_to_nobody(world) {
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let job = imported(&world, &shop, &id, "user_id\nno uid\n", json!({})).await;
        assert_eq!((&job["state"], &job["counts"]["failed"]), (&json!("completed"), &json!(1)));
        let before = (ask(&shop, "GetCampaign", &id).await.body, shop.rows().await);
        let later = json!({"campaignId": id, "scheduledAt": "2024-01-15T18:00:00.000Z"});
        for refused in [ask(&shop, "SendCampaign", &id).await, shop.call("ScheduleCampaign", later).await] {
            assert_eq!((refused.status, refused.code()), (400, "ERR_INVALID_STATE"), "{refused:#?}");
            assert!(refused.body.to_string().contains("add some first"), "{refused:#?}");
        }
        assert_eq!((ask(&shop, "GetCampaign", &id).await.body, shop.rows().await), before);
        let added = add(&shop, &id, &[]).await;
        assert_eq!((added.status, added.code()), (400, "ERR_BAD_REQUEST"), "{added:#?}");
        assert_eq!(shop.rows().await, before.1);
    }
}

on_both! {
    async fn a_line_that_comes_over_grpc_and_does_not_end_is_given_up_as_well(db) {
        let world = World::start(db, Door::Grpc).await;
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(2)).await;
        let before = (ask(&shop, "GetCampaign", &id).await.body, shop.rows().await);
        let key = ask(&shop, "CreateCampaignUploadUrl", &id).await.data()["s3Key"].clone();
        let file = [b"user_id\nada\n".to_vec(), vec![b'x'; 3 << 20]].concat();
        let mut messages = vec![json!({"head": {"campaignId": id, "s3Key": key}})];
        for (number, part) in file.chunks(PART_BYTES).enumerate() {
            messages.push(json!({"chunk": {"offset": number * PART_BYTES, "data": STANDARD.encode(part)}}));
        }
        shop.call("ImportRecipients", json!({"stream": messages})).await.data();
        read_all(&world).await;
        gives_up_the_line(&shop, &id, before).await;
    }

    async fn a_bomb_is_stopped_where_it_is_unpacked_and_nobody_is_added(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(2)).await;
        let key = ask(&shop, "CreateCampaignUploadUrl", &id).await.data()["s3Key"].as_str().unwrap().to_owned();
        let before = (ask(&shop, "GetCampaign", &id).await.body, shop.rows().await);
        let path = format!("/v3/campaigns/campaigns/{}/recipients", id.as_str().unwrap());
        let many = format!("{{\"userIds\": [\"ada\"{}]}}", " ".repeat(BOMB));
        let call = world.http(reqwest::Method::POST, &path, &shop.caller);
        let call = call.header("content-type", "application/json").header("content-encoding", "gzip");
        let refused = call.body(packed(many.as_bytes())).send().await.unwrap();
        let (status, told): (_, Value) = (refused.status(), refused.json().await.unwrap());
        assert_eq!((status.as_u16(), &told["error"]["code"]), (413, &json!("ERR_PAYLOAD_TOO_LARGE")), "{told:#?}");
        assert_eq!(told["error"]["details"]["limitBytes"], "16777216");

        let client = CampaignServiceClient::new(Endpoint::from_shared(world.url().to_owned()).unwrap().connect_lazy());
        let mut client = client.send_compressed(CompressionEncoding::Gzip);
        let campaign_id = id.as_str().unwrap().to_owned();
        let people = v1::AddCampaignRecipientsRequest {
            campaign_id: campaign_id.clone(),
            user_ids: vec!["x".repeat(BOMB)],
            ..v1::AddCampaignRecipientsRequest::default()
        };
        let refused = client.add_campaign_recipients(dressed(&shop, people)).await.unwrap_err();
        assert_eq!(reason(&refused), "ERR_PAYLOAD_TOO_LARGE", "{refused:?}");
        let head = v1::ImportRecipientsHead { campaign_id, s3_key: key.clone(), ..v1::ImportRecipientsHead::default() };
        let chunk = v1::ImportRecipientsChunk { offset: 0, data: vec![b'x'; BOMB] };
        let messages = [Part::Head(head), Part::Chunk(chunk)];
        let messages = messages.map(|part| v1::ImportRecipientsRequest { part: Some(part) });
        let refused = client.import_recipients(dressed(&shop, futures::stream::iter(messages))).await.unwrap_err();
        assert_eq!(reason(&refused), "ERR_PAYLOAD_TOO_LARGE", "{refused:?}");
        let found = shop.call("GetCampaignUpload", json!({"campaignId": id, "s3Key": key})).await;
        assert_eq!(found.data()["nextOffset"], 0);
        assert_eq!((ask(&shop, "GetCampaign", &id).await.body, shop.rows().await), before);
    }
}

/// Nothing that sends a draft, or makes one with these templates, is done: they are out of use, as the error says in its own
/// words, and nothing has changed.
async fn refuses_to_send(shop: &Shop<'_>, id: &Value, templates: &[&str], said: &str) {
    let before = (ask(shop, "GetCampaign", id).await.body, shop.rows().await);
    let later = "2024-01-15T18:00:00.000Z";
    let with = |template| {
        (
            "CreateCampaign",
            json!({"campaign": {"name": "Sale", "templateId": template}}),
        )
    };
    let of_draft = [
        ("SendCampaign", json!({"campaignId": id})),
        ("ScheduleCampaign", json!({"campaignId": id, "scheduledAt": later})),
        ("CloneCampaign", json!({"campaignId": id})),
    ];
    for (rpc, request) in of_draft.into_iter().chain(templates.iter().map(with)) {
        let refused = shop.call(rpc, request).await;
        let found = (refused.status, refused.code());
        assert_eq!(found, (400, "ERR_TEMPLATE_NOT_APPROVED"), "{rpc}: {refused:#?}");
        assert!(refused.body.to_string().contains(said), "{rpc}: {refused:#?}");
    }
    assert_eq!((ask(shop, "GetCampaign", id).await.body, shop.rows().await), before);
    assert_eq!(shop.all_unread(&uids(3)).await, vec![0; 3]);
}

/// A job failed for its line, and changed nothing.
async fn gives_up_the_line(shop: &Shop<'_>, id: &Value, (campaign, rows): (Value, BTreeMap<String, i64>)) {
    let job = ask(shop, "GetCampaignImportStatus", id).await;
    let message = job.data()["failureMessage"].as_str().unwrap();
    assert!(message.contains("more than 1048576 bytes at line 3"), "{message}");
    assert_eq!(
        (&job.data()["state"], &job.data()["failure"]),
        (&json!("failed"), &json!("ERR_BAD_REQUEST"))
    );
    let mut after = shop.rows().await;
    let jobs = after.get_mut("imports").unwrap();
    *jobs -= 1;
    assert_eq!(
        (ask(shop, "GetCampaign", id).await.body, after),
        (campaign, rows),
        "but for the job nothing was changed"
    );
}

fn packed(plain: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(plain).unwrap();
    packed.finish().unwrap()
}

/// A request with what the app presents.
fn dressed<T>(shop: &Shop<'_>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let key = shop.caller.api_key().parse().unwrap();
    request.metadata_mut().insert("apikey", key);
    request
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

fn place(world: &World, key: &Value) -> std::path::PathBuf {
    world.uploads().join(key.as_str().unwrap())
}

/// Makes a file a gigabyte long, all of it in one line behind its first ones. No disk holds more of it than is read.
fn lengthen(file: &mut File, head: &str) {
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(head.as_bytes()).unwrap();
    file.write_all(&vec![b'x'; 4 << 20]).unwrap();
    file.set_len(1 << 30).unwrap();
}
