//! Imports: which files are taken, what becomes of their rows, and what is told of those that are left out. How a row is
//! read byte by byte is proven beside the reader.

mod form;
mod resume;
mod s3;
mod stream;
mod url;

use std::collections::BTreeMap;

use campanile::domain::campaign::CampaignLimits;
use campanile::worker::{Turn, import};
use insta::assert_json_snapshot;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ask, draft, ready, refusal, status, summary, uids, work};
use crate::support::rpc::{Answer, Door};
use crate::support::shop::Shop;
use crate::support::world::{World, steady};
use crate::{everywhere, on_both};

/// Sends a file to an upload URL, and gives status and body.
async fn put(url: &Value, file: impl Into<reqwest::Body>) -> Answer {
    let sent = reqwest::Client::new().put(url.as_str().unwrap()).body(file.into());
    let answer = sent.send().await.unwrap();
    Answer {
        status: answer.status().as_u16(),
        replayed: false,
        retry_after: None,
        body: answer.json().await.unwrap(),
    }
}

/// Uploads a file, and gives its key.
pub(super) async fn upload(shop: &Shop<'_>, id: &Value, file: impl Into<reqwest::Body>) -> Value {
    let given = ask(shop, "CreateCampaignUploadUrl", id).await;
    let stored = put(&given.data()["url"], file).await;
    assert_eq!(stored.data()["s3Key"], given.data()["s3Key"], "{stored:#?}");
    given.data()["s3Key"].clone()
}

/// Lets a file be imported, with what differs from a plain request.
async fn start(shop: &Shop<'_>, id: &Value, file: impl Into<reqwest::Body>, differs: Value) -> Answer {
    let key = upload(shop, id, file).await;
    let mut request = json!({"campaignId": id, "s3Key": key});
    request
        .as_object_mut()
        .unwrap()
        .extend(differs.as_object().unwrap().clone());
    shop.call("ImportCampaignCsv", request).await
}

/// Lets a worker read all that waits.
pub(super) async fn read_all(world: &World) {
    while import::turn(&world.service, world.clock.now()).await == Turn::Again {}
}

/// Imports a file to its end, and gives the job.
pub(crate) async fn imported(
    world: &World,
    shop: &Shop<'_>,
    id: &Value,
    file: impl Into<reqwest::Body>,
    differs: Value,
) -> Value {
    start(shop, id, file, differs).await.data();
    read_all(world).await;
    ask(shop, "GetCampaignImportStatus", id).await.data().clone()
}

/// Rows, and of them added, duplicate, unknown and failed ones.
fn counts(job: &Value) -> Value {
    let counts = &job["counts"];
    json!([
        counts["rows"],
        counts["added"],
        counts["duplicate"],
        counts["unknown"],
        counts["failed"]
    ])
}

/// Everybody in an audience with the values of their own, in order.
async fn audience(shop: &Shop<'_>, id: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut request = json!({"campaignId": id, "limit": 100});
    loop {
        let page = shop.call("ListCampaignRecipients", request.clone()).await;
        for one in page.data().as_array().unwrap() {
            all.push((one["uid"].as_str().unwrap().to_owned(), one["variables"].clone()));
            assert_eq!(one["position"], all.len());
        }
        let Some(next) = page.body["meta"]["next"].as_object() else {
            return all;
        };
        request.as_object_mut().unwrap().extend(next.clone());
    }
}

fn named(all: &[(String, Value)]) -> Vec<&str> {
    all.iter().map(|(uid, _)| uid.as_str()).collect()
}

/// Line, column and rule of each problem.
async fn problems(shop: &Shop<'_>, id: &Value) -> Value {
    let listed = ask(shop, "ListCampaignImportErrors", id).await;
    let problems = listed.data().as_array().unwrap().iter();
    problems
        .map(|one| json!([one["line"], one["column"], one["received"]]))
        .collect()
}

everywhere! {
    async fn a_file_becomes_an_audience_that_is_sent_to(world) {
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({"templateId": "order-shipped"})).await;
        let mut given = ask(&shop, "CreateCampaignUploadUrl", &id).await;
        assert_eq!(given.status, 201);
        let (url, key) = (given.body["data"]["url"].take(), given.data()["s3Key"].clone());
        assert_json_snapshot!("upload_url", steady(&given.body));
        let stored = put(&url, "user_id,code,name\nada,1,Ada\nbob,2,\n").await;
        assert_eq!((stored.status, stored.data()), (200, &json!({"s3Key": key, "bytes": 35})));

        let started = shop.call("ImportCampaignCsv", json!({"campaignId": id, "s3Key": key})).await;
        assert_eq!(started.status, 202, "{started:#?}");
        assert_json_snapshot!("import_queued", steady(started.data()));
        read_all(&world).await;
        let job = ask(&shop, "GetCampaignImportStatus", &id).await;
        assert_json_snapshot!("import_completed", steady(job.data()));
        assert_eq!(
            audience(&shop, &id).await,
            [
                ("ada".to_owned(), json!({"code": "1", "name": "Ada"})),
                ("bob".to_owned(), json!({"code": "2"})),
            ]
        );
        assert_eq!(ask(&shop, "ListCampaignImportErrors", &id).await.data(), &json!([]));

        ask(&shop, "SendCampaign", &id).await.data();
        work(&world).await;
        assert_eq!(summary(&shop, &id).await, json!([0, 0, 2, 0, 0]));
        assert_eq!(shop.unread("bob").await, 1);
    }

    async fn every_form_of_csv_that_people_have_makes_the_same_audience(world) {
        let shop = Shop::open(&world).await;
        let quoted: &[u8] = b"\"user_id\",\"note\"\r\n\"ada\",\"a, \"\"b\"\"\r\nc\"\r\n\"bob\",\"\"\r\n";
        let latin: &[u8] = b"user_id;note\r\nada;a, \"b\"\xe9\x80\r\nbob;\r\n";
        let rows = "ada\ta, \"\"b\"\"\nbob\t";
        for (file, differs, note) in [
            (quoted.to_vec(), json!({}), "a, \"b\"\r\nc"),
            ([b"\xef\xbb\xbf", quoted].concat(), json!({}), "a, \"b\"\r\nc"),
            (b"userId;note\nada;\"a, \"\"b\"\"\"\nbob;".to_vec(), json!({}), "a, \"b\""),
            (b"uid\tnote\rada\t\"a, \"\"b\"\"\"\rbob\t\r".to_vec(), json!({}), "a, \"b\""),
            (b"note,user_id\n\n\n\"a, \"\"b\"\"\", ADA \n\n,bob\n\n".to_vec(), json!({}), "a, \"b\""),
            (latin.to_vec(), json!({"encoding": "windows-1252"}), "a, \"b\"é€"),
            (format!("user_id\tnote\n{rows}").into_bytes(), json!({"delimiter": "tab"}), "a, \"\"b\"\""),
        ] {
            let id = draft(&shop, json!({})).await;
            let shown = String::from_utf8_lossy(&file).into_owned();
            let job = imported(&world, &shop, &id, file, differs).await;
            assert_eq!((&job["state"], counts(&job)), (&json!("completed"), json!([2, 2, 0, 0, 0])), "{shown:?}: {job:#?}");
            let expected = [("ada".to_owned(), json!({"note": note})), ("bob".to_owned(), json!({}))];
            assert_eq!(audience(&shop, &id).await, expected, "{shown:?}");
        }
    }

    async fn what_is_no_csv_file_fails_with_advice_and_adds_nobody(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(1)).await;
        let mut late = b"user_id\n".to_vec();
        late.extend((0..3_000).flat_map(|number| format!("user-{number}\n").into_bytes()));
        late.extend(b"caf\xe9\n");
        let utf16: Vec<u8> = "\u{feff}user_id\nada\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let gzip = {
            use std::io::Write;
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            packed.write_all(&vec![b'0'; 10 << 20]).unwrap();
            packed.finish().unwrap()
        };
        let line = [b"user_id\nada\n".to_vec(), vec![b'x'; 3 << 20]].concat();
        for (file, advice) in [
            (Vec::new(), "is empty"),
            (b"\n\n".to_vec(), "nothing but line ends"),
            (b"PK\x03\x04xlsx".to_vec(), "save it as CSV"),
            (gzip, "unpack it first"),
            (utf16, "UTF-16"),
            (b"user_id\nada\n\0\0\n".to_vec(), "NUL"),
            (late, "not UTF-8 at line 3002"),
            (line, "more than 1048576 bytes at line 3"),
            (b"user_id\nada\n\"bob\ncyd\n".to_vec(), "ends within quotes"),
            (b"email,code\nada,1\n".to_vec(), "no column user_id"),
            (b"user_id,code,code\nada,1,2\n".to_vec(), "names the column code twice"),
            (b"user_id,first name\nada,1\n".to_vec(), "names column 2 \"first name\""),
            (b"user_id,code,first-name\nada,1,2\n".to_vec(), "names column 3 \"first-name\""),
            (b"user_id,2nd\nada,1\n".to_vec(), "names column 2 \"2nd\""),
            (b"{\"user_id\": \"ada\"}".to_vec(), "JSON"),
        ] {
            let job = imported(&world, &shop, &id, file, json!({})).await;
            assert_eq!((&job["state"], &job["failure"]), (&json!("failed"), &json!("ERR_BAD_REQUEST")), "{advice}: {job:#?}");
            assert!(job["failureMessage"].as_str().unwrap().contains(advice), "{advice}: {job:#?}");
            assert_eq!(counts(&job), json!([0, 0, 0, 0, 0]));
        }
        assert_eq!(named(&audience(&shop, &id).await), ["user-00000"]);
        let found = shop.call("GetUser", json!({"uid": "user-1"})).await;
        assert_eq!(found.status, 404, "nobody was created either");
    }

    async fn a_row_that_is_wrong_is_left_out_alone_and_told_with_its_line(world) {
        let shop = Shop::open(&world).await;
        let schema = json!([{"key": "logo", "type": "image"}, {"key": "go", "type": "action"}]);
        shop.template("typed", json!({"variableSchema": schema})).await;
        let id = draft(&shop, json!({"templateId": "typed"})).await;
        let image = r#""{""url"":""https://a.example/b.png"",""width"":1,""height"":2}""#;
        let file = format!(
            "user_id,logo,go,note\nada,{image},,\"two\nlines\"\na b,,,x\nbob,https://a.example/b.png,,\ncyd,,\n,,,\ndan,,{image},\neve,,,{}\nADA,,,\n",
            "x".repeat(4_097)
        );
        let job = imported(&world, &shop, &id, file, json!({})).await;
        assert_eq!((&job["state"], counts(&job)), (&json!("completed"), json!([8, 1, 1, 0, 6])), "{job:#?}");
        assert_eq!(named(&audience(&shop, &id).await), ["ada"]);
        let long = format!("{}…", "x".repeat(100));
        let action = r#"{"url":"https://a.example/b.png","width":1,"height":2}"#;
        assert_eq!(
            problems(&shop, &id).await,
            json!([
                [4, "user_id", "a b"],
                [5, "logo", "https://a.example/b.png"],
                [6, "", null],
                [7, "user_id", ""],
                [8, "go", action],
                [9, "note", long],
            ])
        );
        let listed = shop.call("ListCampaignImportErrors", json!({"campaignId": id, "limit": 2})).await;
        assert_json_snapshot!("import_errors", steady(&listed.body));
        let mut next = listed.body["meta"]["next"].clone();
        next["campaignId"] = id.clone();
        let rest = shop.call("ListCampaignImportErrors", next).await;
        assert_eq!(rest.data()[0]["position"], 3, "{rest:#?}");
    }

    async fn whoever_is_in_the_audience_stays_as_they_are(world) {
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let people = json!({"campaignId": id, "userIds": ["ada"], "userVariables": {"ada": {"code": "1"}}});
        shop.call("AddCampaignRecipients", people).await.data();
        let job = imported(&world, &shop, &id, "user_id,code\nada,2\nbob,3\nBob,4\ncyd,5\n", json!({})).await;
        assert_eq!(counts(&job), json!([4, 2, 2, 0, 0]));
        let again = imported(&world, &shop, &id, "user_id,code\nada,2\nbob,3\nbob,4\ncyd,5", json!({})).await;
        assert_eq!(counts(&again), json!([4, 0, 4, 0, 0]));
        assert_ne!(again["id"], job["id"], "the last one is told");
        let codes: Vec<_> = audience(&shop, &id).await.into_iter().map(|(_, values)| values["code"].clone()).collect();
        assert_eq!(codes, ["1", "3", "5"]);
        let campaign = ask(&shop, "GetCampaign", &id).await;
        assert_eq!(campaign.data()["totalTargets"], 3);
    }

    async fn whoever_is_known_joins_as_the_user_that_they_are(world) {
        let shop = Shop::open(&world).await;
        for uid in ["ada", "bob", "cyd"] {
            shop.call("CreateUser", json!({"user": {"uid": uid, "name": "Somebody"}})).await.data();
        }
        shop.call("DeactivateUser", json!({"uid": "bob"})).await.data();
        shop.call("DeleteUser", json!({"uid": "cyd"})).await.data();
        let id = draft(&shop, json!({"templateId": "order-shipped"})).await;
        let file = "user_id,code\ndan,4\ncyd,3\nada,1\neve,5\nbob,2\n";
        let job = imported(&world, &shop, &id, file, json!({})).await;
        assert_eq!(counts(&job), json!([5, 5, 0, 1, 0]), "a uid that was deleted is nobody's");
        assert_eq!(named(&audience(&shop, &id).await), ["dan", "cyd", "ada", "eve", "bob"]);
        let ada = shop.call("GetUser", json!({"uid": "ada"})).await;
        assert_eq!(ada.data()["name"], "Somebody");
        let dan = shop.call("GetUser", json!({"uid": "dan"})).await;
        assert_eq!((&dan.data()["name"], &dan.data()["role"]), (&json!("dan"), &json!("default")));

        let second = draft(&shop, json!({"templateId": "order-shipped"})).await;
        let job = imported(&world, &shop, &second, file, json!({})).await;
        assert_eq!(counts(&job), json!([5, 5, 0, 1, 0]), "the same people stand in another audience");
        ask(&shop, "SendCampaign", &second).await.data();
        work(&world).await;
        assert_eq!(summary(&shop, &second).await, json!([0, 0, 3, 2, 0]));
        assert_eq!(shop.unread("dan").await, 1);
    }

    async fn one_file_at_a_time_and_nothing_is_sent_meanwhile(world) {
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(1)).await;
        start(&shop, &id, "user_id\nada\n", json!({})).await.data();
        let second = start(&shop, &id, "user_id\nbob\n", json!({})).await;
        assert_eq!((second.status, second.code()), (409, "ERR_CONFLICT"), "{second:#?}");
        let later = json!({"campaignId": id, "scheduledAt": "2024-01-15T18:00:00.000Z"});
        for refused in [ask(&shop, "SendCampaign", &id).await, shop.call("ScheduleCampaign", later.clone()).await] {
            assert_eq!((refused.status, refused.code()), (400, "ERR_INVALID_STATE"), "{refused:#?}");
        }
        assert_eq!(status(&shop, &id).await, "draft");
        read_all(&world).await;
        shop.call("ScheduleCampaign", later).await.data();
        assert_eq!(named(&audience(&shop, &id).await), ["user-00000", "ada"]);
    }

    async fn an_import_that_is_refused_changes_nothing(world) {
        let shop = Shop::open(&world).await;
        let (id, other) = (draft(&shop, json!({})).await, draft(&shop, json!({})).await);
        let (key, foreign) = (upload(&shop, &id, "user_id\nada\n").await, upload(&shop, &other, "user_id\nada\n").await);
        let sent = ready(&shop, json!({}), &uids(1)).await;
        let late = upload(&shop, &sent, "user_id\nada\n").await;
        let url = ask(&shop, "CreateCampaignUploadUrl", &sent).await.data()["url"].clone();
        ask(&shop, "SendCampaign", &sent).await.data();
        let before = shop.rows().await;
        let nowhere = json!("camp-01hf7yat00000000000000000a");
        for (campaign, key, status, code) in [
            (&nowhere, &key, 404, "ERR_CAMPAIGN_NOT_FOUND"),
            (&id, &foreign, 404, "ERR_UPLOAD_NOT_FOUND"),
            (&id, &json!("../../etc/passwd"), 404, "ERR_UPLOAD_NOT_FOUND"),
            (&sent, &late, 400, "ERR_INVALID_STATE"),
        ] {
            let refused = shop.call("ImportCampaignCsv", json!({"campaignId": campaign, "s3Key": key})).await;
            assert_eq!((refused.status, refused.code()), (status, code), "{refused:#?}");
        }
        let missing = shop.call("ImportCampaignCsv", json!({"campaignId": id})).await;
        assert_eq!(refusal(&missing).1, "ERR_BAD_REQUEST");
        for rpc in ["GetCampaignImportStatus", "CancelCampaignImport", "ListCampaignImportErrors"] {
            let refused = ask(&shop, rpc, &id).await;
            assert_eq!((refused.status, refused.code()), (404, "ERR_IMPORT_NOT_FOUND"), "{refused:#?}");
        }
        let refused = ask(&shop, "CreateCampaignUploadUrl", &sent).await;
        assert_eq!((refused.status, refused.code()), (400, "ERR_INVALID_STATE"), "{refused:#?}");
        let refused = put(&url, "user_id\nada\n").await;
        assert_eq!((refused.status, refused.code()), (400, "ERR_INVALID_STATE"), "{refused:#?}");
        assert_eq!(shop.rows().await, before);
    }

    async fn a_repeated_call_starts_one_import_and_gives_one_url(world) {
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let caller = shop.caller.once("same");
        let url = || world.call("CreateCampaignUploadUrl", &caller, json!({"campaignId": id}));
        let (first, second) = (url().await, url().await);
        assert_eq!((first.data(), second.replayed), (second.data(), true));
        put(&first.data()["url"], "user_id\nada\n").await.data();
        let request = json!({"campaignId": id, "s3Key": first.data()["s3Key"]});
        let begin = || world.call("ImportCampaignCsv", &caller, request.clone());
        let (first, second) = (begin().await, begin().await);
        assert_eq!((first.data(), second.replayed), (second.data(), true));
    }
}

on_both! {
    async fn an_audience_that_grows_too_large_ends_the_import_and_says_how_far_it_came(db) {
        let world = World::start_with(db, Door::Rest, |settings| {
            settings.campaigns = CampaignLimits { recipients_max: 3, ..CampaignLimits::default() };
        }).await;
        let shop = Shop::open(&world).await;
        let id = ready(&shop, json!({}), &uids(2)).await;
        let job = imported(&world, &shop, &id, "user_id\nada\nbob\n", json!({})).await;
        assert_eq!((&job["state"], &job["failure"]), (&json!("failed"), &json!("ERR_TARGET_LIMIT_EXCEEDED")));
        let message = "a campaign takes at most 3 recipients, and would have 4; 1 rows before line 3 were dealt with, 1 of them added";
        assert_eq!((&job["failureMessage"], &job["nextOffset"]), (&json!(message), &json!(12)));
        assert_eq!(counts(&job), json!([1, 1, 0, 0, 0]));
        assert_eq!(named(&audience(&shop, &id).await), ["user-00000", "user-00001", "ada"]);
        let found = shop.call("GetUser", json!({"uid": "bob"})).await;
        assert_eq!(found.status, 404, "nobody was created who did not fit");
        let full = imported(&world, &shop, &id, "user_id\nada\na b\nuser-00000\n", json!({})).await;
        assert_eq!((&full["state"], counts(&full)), (&json!("completed"), json!([3, 0, 2, 0, 1])));
    }

    async fn what_fits_of_a_large_file_is_taken_to_the_last_row(db) {
        const MOST: usize = 1_000;
        for grows in [0, 1, 499] {
            let db = TestDatabase::new(db.backend).await.unwrap();
            let world = World::start_with(db, Door::Rest, |settings| {
                let recipients_max = u32::try_from(MOST).unwrap();
                settings.campaigns = CampaignLimits { recipients_max, ..CampaignLimits::default() };
            }).await;
            let shop = Shop::open(&world).await;
            let id = ready(&shop, json!({}), &uids(grows + 1)).await;
            // Every third row is wrong or names somebody again.
            let lines: Vec<_> = (0..2_000).map(|row| match row % 6 {
                2 => "a b".to_owned(),
                5 => "new-0".to_owned(),
                _ => format!("new-{row}"),
            }).collect();
            let job = imported(&world, &shop, &id, format!("user_id\n{}\n", lines.join("\n")), json!({})).await;
            assert_eq!((&job["state"], &job["failure"]), (&json!("failed"), &json!("ERR_TARGET_LIMIT_EXCEEDED")));
            let room = MOST - grows - 1;
            let fresh = lines.iter().enumerate().filter(|(row, _)| !matches!(row % 6, 2 | 5));
            let (first_out, _) = fresh.clone().nth(room).unwrap();
            let failed = lines[..first_out].iter().filter(|line| *line == "a b").count();
            assert_eq!(counts(&job), json!([first_out, room, first_out - room - failed, 0, failed]), "{grows}");
            let offset = "user_id\n".len() + lines[..first_out].iter().map(|line| line.len() + 1).sum::<usize>();
            assert_eq!(job["nextOffset"], offset);
            let expected: Vec<_> = uids(grows + 1).into_iter().chain(fresh.take(room).map(|(_, line)| line.clone())).collect();
            assert_eq!(named(&audience(&shop, &id).await), expected);
        }
    }

    async fn without_their_creation_unknown_users_are_counted(db) {
        let world = World::start_with(db, Door::Grpc, |settings| settings.auto_create_users = false).await;
        let shop = Shop::open(&world).await;
        shop.call("CreateUser", json!({"user": {"uid": "ada", "name": "Ada"}})).await.data();
        let id = draft(&shop, json!({})).await;
        let job = imported(&world, &shop, &id, "user_id\nada\neve\n", json!({})).await;
        assert_eq!(counts(&job), json!([2, 2, 0, 1, 0]));
    }

    async fn files_that_name_the_same_new_users_at_once_make_each_of_them_once(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        let lines = |from: usize| (from..from + 1_500).map(|number| format!("new-{number}\n")).collect::<String>();
        let mut ids = Vec::new();
        for from in [0, 500, 1_000, 250] {
            let id = draft(&shop, json!({})).await;
            start(&shop, &id, format!("user_id\n{}", lines(from)), json!({})).await.data();
            ids.push((id, from));
        }
        futures::future::join_all(ids.iter().map(|_| read_all(&world))).await;
        for (id, from) in ids {
            let job = ask(&shop, "GetCampaignImportStatus", &id).await.data().clone();
            assert_eq!((&job["state"], counts(&job)), (&json!("completed"), json!([1_500, 1_500, 0, 0, 0])), "{job:#?}");
            assert_eq!(named(&audience(&shop, &id).await).concat(), lines(from).replace('\n', ""));
        }
        let users = shop.call("ListUsers", json!({"limit": 1, "search": "new-", "page": 1})).await;
        assert_eq!(users.body["pagination"]["total"], 2_500, "{users:#?}");
    }

    async fn a_thousand_problems_are_kept_and_all_are_counted(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let mut file = "user_id\n".to_owned();
        (0..3_000).for_each(|number| file.push_str(if number % 2 == 0 { "a b\n" } else { "é\n" }));
        file.push_str("ada\n");
        let job = imported(&world, &shop, &id, file, json!({})).await;
        assert_eq!(counts(&job), json!([3_001, 1, 0, 0, 3_000]));
        let page = json!({"campaignId": id, "page": 10, "limit": 100});
        let last = shop.call("ListCampaignImportErrors", page).await;
        assert_eq!(last.body["pagination"]["total"], 1_000);
        assert_eq!(last.data()[99]["line"], 1_001);
    }

    async fn any_file_makes_the_audience_that_another_reader_of_csv_finds_in_it(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        for (rows, delimiter, ends) in sampled(24) {
            let mut writer = csv::WriterBuilder::new()
                .delimiter(delimiter)
                .terminator(if ends { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') })
                .from_writer(Vec::new());
            writer.write_record(["note", "user_id"]).unwrap();
            rows.iter().for_each(|(note, uid)| writer.write_record([note, uid]).unwrap());
            let file = writer.into_inner().unwrap();
            let id = draft(&shop, json!({})).await;
            let word = match delimiter { b',' => "comma", b';' => "semicolon", _ => "tab" };
            let job = imported(&world, &shop, &id, file.clone(), json!({"delimiter": word})).await;
            assert_eq!(job["state"], "completed", "{job:#?}");

            let mut expected: BTreeMap<String, Value> = BTreeMap::new();
            let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(file.as_slice());
            for row in reader.records() {
                let row = row.unwrap();
                let values = if row[0].is_empty() { json!({}) } else { json!({"note": &row[0]}) };
                expected.entry(row[1].to_lowercase()).or_insert(values);
            }
            let found: BTreeMap<_, _> = audience(&shop, &id).await.into_iter().collect();
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(&file));
        }
    }
}

type Sample = (Vec<(String, String)>, u8, bool);

/// Tables with notes of every kind, always the same ones.
fn sampled(count: usize) -> Vec<Sample> {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, TestRng, TestRunner};
    let note = "[a-zé€\" ,;\t\r\n'\u{1f514}]{0,12}";
    let row = (note, "[a-zA-Z0-9_-]{1,12}");
    let delimiter = prop_oneof![Just(b','), Just(b';'), Just(b'\t')];
    let table = (prop::collection::vec(row, 0..40), delimiter, any::<bool>());
    let rng = TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count)
        .map(|_| table.new_tree(&mut runner).unwrap().current())
        .collect()
}
