//! `campanile campaign send`: the real command against a real server, from the file to the end of the campaign, with every
//! exit code that it has.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::import::{furnish, start};
use super::text;
use crate::on_both;
use crate::support::rpc::{Client, Door};
use crate::support::running::{BOOTSTRAP_KEY, Running, command};

/// The command in the folder, with what differs from a plain call.
fn send(folder: &TempDir, url: &str, words: &[&str]) -> Command {
    let plain = ["campaign", "send", "--file", "people.csv"];
    let mut command = command(folder.path(), &[&plain, words].concat());
    command
        .env("CAMPANILE_API_URL", url)
        .env("CAMPANILE_API_KEY", BOOTSTRAP_KEY)
        .env("CAMPANILE_LOG", "error");
    command
}

async fn finished(folder: &TempDir, server: &Running, words: &[&str]) -> (Option<i32>, String, String) {
    told(&send(folder, &server.url, words).output().await.unwrap())
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn people(folder: &TempDir, content: &str) {
    std::fs::write(folder.path().join("people.csv"), content).unwrap();
}

async fn call(server: &Running, rpc: &str, request: Value) -> Value {
    let client = Client::new(Door::Grpc, &server.url);
    let answer = client.call(rpc, &[("apikey", BOOTSTRAP_KEY)], &request).await;
    answer.data().clone()
}

async fn unread(server: &Running, uid: &str) -> Value {
    let client = Client::new(Door::Grpc, &server.url);
    let caller = [("apikey", BOOTSTRAP_KEY), ("onbehalfof", uid)];
    client.call("GetUnreadCount", &caller, &json!({})).await.data()["count"].clone()
}

async fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status().await;
    assert!(sent.unwrap().success());
}

/// The key that was printed when the campaign was begun.
fn printed(out: &str) -> &str {
    let mut words = out.split_whitespace().skip_while(|word| *word != "--resume");
    words.nth(1).unwrap()
}

/// The campaigns that there are, by status.
async fn campaigns(server: &Running) -> Vec<String> {
    let listed = call(server, "ListCampaigns", json!({})).await;
    let listed = listed.as_array().unwrap();
    listed
        .iter()
        .map(|one| one["status"].as_str().unwrap().to_owned())
        .collect()
}

on_both! {
    async fn a_file_is_sent_and_watched_to_its_end(db) {
        let folder = TempDir::new().unwrap();
        let server = start(&db, &folder).await;
        furnish(&server).await;
        people(&folder, "user_id;code\nada;1\nbob;2\n");
        let (code, out, err) = finished(&folder, &server, &["--template", "order"]).await;
        assert_eq!(code, Some(0), "{out}{err}");
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines[0].starts_with("campaign camp-") && lines[0].ends_with(" is a draft, \"people\""), "{out}");
        for line in [
            "uploaded 25 bytes",
            "imported 2 rows: 2 added, 0 duplicate, 0 unknown, 0 failed",
            "preflight: 2 recipients, 2 of them reachable",
            "  in_app: 2 deliveries",
        ] {
            assert!(lines.contains(&line), "{line:?} is not in {out}");
        }
        assert!(lines.last().unwrap().ends_with(" is completed: 2 reached, 0 failed, 0 cancelled"), "{out}");
        assert_eq!(unread(&server, "ada").await, 1);
        assert_eq!(campaigns(&server).await, ["completed"]);
    }

    async fn rows_and_recipients_that_are_left_out_are_told_with_their_reasons(db) {
        let folder = TempDir::new().unwrap();
        let server = start(&db, &folder).await;
        furnish(&server).await;
        people(&folder, "user_id,code\nada,1\na b,2\nbob,\n");
        let (code, out, err) = finished(&folder, &server, &["--template", "order", "--strict"]).await;
        assert_eq!(code, Some(3), "{out}{err}");
        assert!(err.contains("nothing was sent, because 2 rows or recipients would be left out"), "{err}");
        assert_eq!(campaigns(&server).await, ["draft"]);
        let (code, out, err) = finished(&folder, &server, &["--template", "order", "--name", "Second"]).await;
        assert_eq!(code, Some(3), "{out}{err}");
        for line in [
            "imported 3 rows: 2 added, 0 duplicate, 0 unknown, 1 failed",
            "  line 3, user_id: must be 1 to 100 letters a to z, digits, underscores and hyphens, received \"a b\"",
            "preflight: 2 recipients, 1 of them reachable",
            "  left out for invalid_variables: 1",
        ] {
            assert!(out.lines().any(|told| told == line), "{line:?} is not in {out}");
        }
        let bob: Vec<_> = out.lines().filter(|line| line.starts_with("  bob: ") && line.contains("code")).collect();
        assert_eq!(bob.len(), 2, "beforehand and in the end: {out}");
        assert!(out.contains(" is partially_failed: 1 reached, 1 failed, 0 cancelled"), "{out}");
        assert!(err.contains("the campaign left out 2 rows or recipients"), "{err}");
        assert_eq!((unread(&server, "ada").await, unread(&server, "bob").await), (json!(1), json!(0)));
    }

    async fn nothing_is_sent_where_that_was_asked_for(db) {
        let folder = TempDir::new().unwrap();
        let server = start(&db, &folder).await;
        furnish(&server).await;
        people(&folder, "user_id,code\nada,1\n");
        let (code, out, err) = finished(&folder, &server, &["--template", "order", "--dry-run"]).await;
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.contains("preflight: 1 recipients, 1 of them reachable"), "{out}");
        assert_eq!(campaigns(&server).await, Vec::<String>::new());
        let (code, out, err) = finished(&folder, &server, &["--template", "order", "--no-send"]).await;
        assert_eq!(code, Some(0), "{out}{err}");
        assert_eq!(campaigns(&server).await, ["draft"]);
        let at = ["--schedule", "2090-01-01T09:00", "--time-zone", "Europe/Rome"];
        let at = [&["--delimiter", "comma", "--encoding", "windows-1252"][..], &at].concat();
        let (code, out, err) = finished(&folder, &server, &[&["--template", "order"], &at[..]].concat()).await;
        assert_eq!(code, Some(1), "more than a year away: {out}{err}");
        assert!(err.contains("scheduled"), "{err}");
        let again = format!("--resume {} {}\n", printed(&out), at.join(" "));
        assert!(err.ends_with(&again), "what goes on with it reads the file in the same way: {err}");
        let tomorrow = campanile::model::Clock::default().now().plus(Duration::from_secs(86_400)).to_string();
        let (code, out, err) = finished(&folder, &server, &["--template", "order", "--schedule", &tomorrow]).await;
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.contains(&format!("is scheduled for {tomorrow}")), "{out}");
        assert!(campaigns(&server).await.contains(&"scheduled".to_owned()));
        assert_eq!(unread(&server, "ada").await, 0);
    }

    async fn a_schedule_that_is_no_time_is_refused_before_anything_is_made(db) {
        let folder = TempDir::new().unwrap();
        let server = start(&db, &folder).await;
        furnish(&server).await;
        people(&folder, "user_id,code\nada,1\n");
        for words in [
            &["--schedule", "tomorrow"][..],
            &["--schedule", "2030-03-31T09:00"],
            &["--schedule", "2030-03-31T09:00:00Z", "--time-zone", "Europe/Rome"],
            &["--schedule", "2030-03-31", "--time-zone", "Europe/Rome"],
            &["--schedule", "2030-02-30T09:00", "--time-zone", "Europe/Rome"],
            &["--schedule", "2030-03-31T09:00", "--time-zone", "Europe/Atlantis"],
        ] {
            let (code, out, err) = finished(&folder, &server, &[&["--template", "order"], words].concat()).await;
            assert_eq!(code, Some(64), "{words:?}: {out}{err}");
            assert!(err.contains("--schedule must be a time"), "{err}");
            assert!(!err.contains("--resume"), "nothing was begun: {err}");
            assert_eq!(campaigns(&server).await, Vec::<String>::new(), "{words:?}");
        }
    }

    async fn what_was_begun_is_gone_on_with_by_the_key_that_was_printed(db) {
        let folder = TempDir::new().unwrap();
        let server = start(&db, &folder).await;
        furnish(&server).await;
        people(&folder, "user_id,code\nada,1\n");
        let far = ["--template", "order", "--strict", "--schedule", "2090-01-01T09:00:00Z"];
        let (code, out, err) = finished(&folder, &server, &far).await;
        assert_eq!(code, Some(1), "more than a year away: {out}{err}");
        let key = printed(&out).to_owned();
        let again = format!("campanile campaign send --file people.csv --resume {key}");
        assert!(err.contains(&format!("{again} --schedule 2090-01-01T09:00:00Z --strict\n")), "{err}");
        let url = server.url.clone();
        server.signal().await;
        server.exit().await;
        let (code, _, err) = told(&send(&folder, &url, &["--resume", &key]).output().await.unwrap());
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(&format!("{url} does not answer")) && err.contains(&again), "{err}");
        let server = start(&db, &folder).await;
        assert_eq!(campaigns(&server).await, ["draft"]);
        let (code, out, err) = finished(&folder, &server, &["--resume", &key]).await;
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.contains(" is completed: 1 reached"), "{out}");
        assert_eq!(unread(&server, "ada").await, 1, "it was sent once");
        assert_eq!(campaigns(&server).await, ["completed"]);
    }

    async fn rows_that_were_left_out_are_not_forgotten_by_whoever_comes_again(db) {
        let folder = TempDir::new().unwrap();
        let server = start(&db, &folder).await;
        furnish(&server).await;
        people(&folder, "user_id,code\nada,1\na b,2\n");
        let (code, out, err) = finished(&folder, &server, &["--template", "order"]).await;
        assert_eq!(code, Some(3), "{out}{err}");
        assert!(!err.contains("--resume"), "there is nothing to go on with: {err}");
        let (code, out, err) = finished(&folder, &server, &["--resume", printed(&out)]).await;
        assert_eq!(code, Some(3), "{out}{err}");
        assert!(out.contains(" is completed: 1 reached, 0 failed, 0 cancelled"), "{out}");
        assert!(out.contains("  line 3, user_id: "), "{out}");
        assert!(err.contains("the campaign left out 1 row or recipient"), "{err}");
        assert_eq!(unread(&server, "ada").await, 1, "it was sent once");
        // A campaign whose audience came by no file has no rows that could have been left out.
        let order = json!({"campaign": {"name": "By hand", "templateId": "order"}});
        let id = call(&server, "CreateCampaign", order).await["id"].clone();
        let ada = json!({"campaignId": id, "userIds": ["ada"], "userVariables": {"ada": {"code": "1"}}});
        call(&server, "AddCampaignRecipients", ada).await;
        call(&server, "SendCampaign", json!({"campaignId": id})).await;
        let key = format!("{}/any", id.as_str().unwrap());
        let (code, out, err) = finished(&folder, &server, &["--resume", &key]).await;
        assert_eq!(code, Some(0), "{out}{err}");
    }

    async fn what_cannot_be_sent_is_said_and_nothing_is_begun(db) {
        let folder = TempDir::new().unwrap();
        let server = start(&db, &folder).await;
        furnish(&server).await;
        people(&folder, "user_id,code\nada,1\n");
        let (code, _, err) = finished(&folder, &server, &["--template", "nothing"]).await;
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("ERR_TEMPLATE_NOT_FOUND"), "{err}");
        let mut wrong = send(&folder, &server.url, &["--template", "order"]);
        let wrong = wrong.env("CAMPANILE_API_KEY", "0".repeat(64)).output().await.unwrap();
        let (code, _, err) = told(&wrong);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("ERR_UNAUTHORIZED"), "{err}");
        let mut none = send(&folder, &server.url, &["--template", "order"]);
        let (code, _, err) = told(&none.env_remove("CAMPANILE_API_KEY").output().await.unwrap());
        assert_eq!(code, Some(64), "{err}");
        assert!(err.contains("CAMPANILE_API_KEY"), "{err}");
        let (code, _, err) = finished(&folder, &server, &[]).await;
        assert!(code != Some(0) && err.contains("--template"), "{err}");
        std::fs::remove_file(folder.path().join("people.csv")).unwrap();
        let (code, _, err) = finished(&folder, &server, &["--template", "order"]).await;
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("people.csv cannot be read"), "{err}");
        assert_eq!(campaigns(&server).await, Vec::<String>::new());
        people(&folder, "{\"user_id\": \"ada\"}");
        let (code, _, err) = finished(&folder, &server, &["--template", "order"]).await;
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("ERR_BAD_REQUEST") && err.contains("JSON"), "{err}");
        assert_eq!(campaigns(&server).await, ["draft"]);
    }

    async fn whoever_interrupts_it_is_told_how_to_go_on(db) {
        let folder = TempDir::new().unwrap();
        let server = start(&db, &folder).await;
        furnish(&server).await;
        people(&folder, "user_id,code\nada,1\n");
        let (code, out, err) = finished(&folder, &server, &["--template", "order", "--no-send"]).await;
        assert_eq!(code, Some(0), "{out}{err}");
        let id = call(&server, "ListCampaigns", json!({})).await[0]["id"].clone();
        let job = call(&server, "GetCampaignImportStatus", json!({"campaignId": id})).await;
        let key = job["s3Key"].as_str().unwrap().to_owned();
        // A server that stands still, so that there is time to interrupt.
        let pid = server.child.id().unwrap();
        signal("-STOP", pid).await;
        let mut waiting = send(&folder, &server.url, &["--resume", &key]);
        let waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        signal("-INT", waiting.id().unwrap()).await;
        let (code, _, err) = told(&waiting.wait_with_output().await.unwrap());
        signal("-CONT", pid).await;
        assert_eq!(code, Some(130), "{err}");
        assert!(err.contains(&format!("campanile campaign send --file people.csv --resume {key}")), "{err}");
        let (code, out, err) = finished(&folder, &server, &["--resume", &key]).await;
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.contains(" is completed: 1 reached"), "{out}");
        assert_eq!(unread(&server, "ada").await, 1, "it was sent once");
    }

    async fn a_server_that_is_away_is_waited_for_a_while(db) {
        let folder = TempDir::new().unwrap();
        let server = start(&db, &folder).await;
        furnish(&server).await;
        people(&folder, "user_id,code\nada,1\n");
        let url = server.url.clone();
        server.signal().await;
        server.exit().await;
        let began = Instant::now();
        let (code, _, err) = told(&send(&folder, &url, &["--template", "order"]).output().await.unwrap());
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(&format!("{url} does not answer")), "{err}");
        assert!(began.elapsed() > Duration::from_secs(3) && began.elapsed() < Duration::from_secs(60));
    }
}
