//! Files that are sent with the request to import them, and problems that are answered as one. Both are REST alone, as they
//! are no rpcs.

use serde_json::{Value, json};

use super::super::{ask, draft, ready, uids};
use super::{audience, counts, imported, named, read_all, start};
use crate::on_both;
use crate::support::rpc::Door;
use crate::support::shop::Shop;
use crate::support::world::{Caller, World};

const BOUNDARY: &str = "----boundary";

/// A form with these fields; one with a file name is a file.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let part = |(name, content): &(&str, &str)| {
        let file = if *name == "file" {
            "; filename=\"people.csv\"\r\ncontent-type: text/csv"
        } else {
            ""
        };
        format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n{content}\r\n")
    };
    format!("{}--{BOUNDARY}--\r\n", fields.iter().map(part).collect::<String>())
}

pub(super) async fn post(world: &World, caller: &Caller, id: &Value, body: String) -> (u16, Value) {
    let path = format!("/v3/campaigns/campaigns/{}/import-csv", id.as_str().unwrap());
    let media_type = format!("multipart/form-data; boundary={BOUNDARY}");
    let sent = world.http(reqwest::Method::POST, &path, caller);
    let answer = sent.header("content-type", media_type).body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

on_both! {
    async fn a_form_with_a_file_is_an_upload_and_an_import_in_one(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let fields = [("encoding", "windows-1252"), ("file", "user_id;note\r\nada;a,b\r\n"), ("delimiter", "semicolon")];
        let (status, body) = post(&world, &shop.caller, &id, form(&fields)).await;
        assert_eq!((status, &body["data"]["state"]), (202, &json!("queued")), "{body:#?}");
        let told = ask(&shop, "GetCampaignImportStatus", &id).await;
        assert_eq!(&body, &told.body);
        read_all(&world).await;
        assert_eq!(audience(&shop, &id).await, [("ada".to_owned(), json!({"note": "a,b"}))]);
    }

    async fn a_form_that_is_refused_changes_nothing(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let busy = draft(&shop, json!({})).await;
        start(&shop, &busy, "user_id\nada\n", json!({})).await.data();
        let sent = ready(&shop, json!({}), &uids(1)).await;
        ask(&shop, "SendCampaign", &sent).await.data();
        let (_, lesser) = world.key("shop", "authOnly").await;
        let club = world.tenant("club").await;
        let before = shop.rows().await;
        let file = form(&[("file", "user_id\nada\n")]);
        let me = &shop.caller;
        for (caller, id, body, status, code) in [
            (me, &id, form(&[]), 400, "ERR_BAD_REQUEST"),
            (me, &id, form(&[("file", "a"), ("file", "b")]), 400, "ERR_BAD_REQUEST"),
            (me, &id, form(&[("people", "user_id\nada\n")]), 400, "ERR_BAD_REQUEST"),
            (me, &id, form(&[("file", "a"), ("delimiter", "dot")]), 400, "ERR_BAD_REQUEST"),
            (me, &id, form(&[("delimiter", &"x".repeat(1_000))]), 400, "ERR_BAD_REQUEST"),
            (me, &id, "no form".to_owned(), 400, "ERR_BAD_REQUEST"),
            (me, &busy, file.clone(), 409, "ERR_CONFLICT"),
            (me, &sent, file.clone(), 400, "ERR_INVALID_STATE"),
            (me, &json!("camp-x"), file.clone(), 404, "ERR_CAMPAIGN_NOT_FOUND"),
            (&club.caller, &id, file.clone(), 404, "ERR_CAMPAIGN_NOT_FOUND"),
            (&lesser, &id, file.clone(), 403, "ERR_FORBIDDEN"),
            (&Caller::nobody(), &id, file.clone(), 401, "ERR_UNAUTHORIZED"),
            (&shop.caller.once("key"), &id, file.clone(), 400, "ERR_BAD_REQUEST"),
        ] {
            let (found, refused) = post(&world, caller, id, body).await;
            assert_eq!((found, &refused["error"]["code"]), (status, &json!(code)), "{refused:#?}");
        }
        assert_eq!(shop.rows().await, before);
        assert_eq!(named(&audience(&shop, &id).await), Vec::<&str>::new());
    }

    async fn problems_are_answered_as_a_file_that_no_spreadsheet_runs(db) {
        let world = World::start(db, Door::Rest).await;
        let shop = Shop::open(&world).await;
        let id = draft(&shop, json!({})).await;
        let path = format!("/v3/campaigns/campaigns/{}/import-errors.csv", id.as_str().unwrap());
        let get = async |caller: &Caller| world.http(reqwest::Method::GET, &path, caller).send().await.unwrap();
        assert_eq!(get(&shop.caller).await.status(), 404);
        let job = imported(&world, &shop, &id, "user_id\n=cmd|' /C calc'!A0\n\"a \"\"b\"\"\"\nada\n", json!({})).await;
        assert_eq!(counts(&job), json!([3, 1, 0, 0, 2]));
        let answer = get(&shop.caller).await;
        assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
        let rule = "must be 1 to 100 letters a to z, digits, underscores and hyphens";
        let expected = format!(
            "line,column,rule,received\r\n2,\"user_id\",\"{rule}\",\"'=cmd|' /C calc'!A0\"\r\n3,\"user_id\",\"{rule}\",\"a \"\"b\"\"\"\r\n"
        );
        assert_eq!(answer.text().await.unwrap(), expected);
        let club = world.tenant("club").await;
        assert_eq!(get(&club.caller).await.status(), 404);
        let (_, lesser) = world.key("shop", "authOnly").await;
        assert_eq!(get(&lesser).await.status(), 403);
        assert_eq!(get(&Caller::nobody()).await.status(), 401);
    }
}
