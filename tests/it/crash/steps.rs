//! Further steps of sequences through deaths: every point between a step that is due and the outcome of its last message, and
//! two processes that find the same step due. The provider writes down whatever it is given, so what is lost or doubled shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use campanile::failpoint::Point;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::check::until;
use super::load::shop;
use super::points::{Scene, points};
use super::server::{KEY, Server, abort_at, execute};
use crate::on_both;
use crate::support::database::TestDatabase;
use crate::support::shop::card;

/// Receivers of a send: several pages, and more than a driver is given at once.
const RECEIVERS: usize = 60;

async fn post(server: &Server, path: &str, body: &Value) -> Value {
    let url = format!("{}/v3/campaigns/{path}", server.url);
    let call = server.http.post(url).header("apikey", KEY).json(body);
    let answer = call.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

async fn state(server: &Server, id: &str) -> (String, i64) {
    let url = format!("{}/v3/campaigns/notifications/{id}", server.url);
    let answer = server.http.get(url).header("apikey", KEY).send().await.unwrap();
    let data = answer.json::<Value>().await.unwrap()["data"].take();
    (
        data["status"].as_str().unwrap().to_owned(),
        data["sentCount"].as_i64().unwrap(),
    )
}

/// Makes a template of two steps.
async fn prepare(server: &Server) {
    shop(server).await;
    let push = json!({"type": "push", "name": "Phones", "channelId": "phones", "enabled": true});
    post(server, "channels", &push).await;
    let first = json!({
        "channelType": "in_app", "content": card("Hello"), "sequenceOrder": 1, "stopCondition": "read", "waitMinutes": 5,
    });
    let second = json!({"channelType": "push", "content": {"title": "Hello", "body": "Look"}, "sequenceOrder": 2});
    let template = json!({
        "templateId": "steps", "name": "Steps", "status": "approved", "channels": [first, second],
        "config": {"sequenceEnabled": true},
    });
    post(server, "templates", &template).await;
}

/// Lets the time of all that waits for a step come.
async fn pass(db: &TestDatabase) {
    execute(db, "UPDATE sequence_waits SET due_at = 0").await.unwrap();
}

/// Sends, and lets a worker do the first step of it.
async fn first_step(db: &TestDatabase, api: &Server, worker: &[(&str, &str)]) -> String {
    let receivers: Vec<_> = (0..RECEIVERS).map(|number| format!("user-{number:03}")).collect();
    let sent = post(
        api,
        "notifications/messages",
        &json!({"templateId": "steps", "receivers": receivers}),
    )
    .await;
    let id = sent["data"]["notificationId"].as_str().unwrap().to_owned();
    let worker = Server::start(db, worker).await;
    let all = i64::try_from(RECEIVERS).unwrap();
    until(async || state(api, &id).await == ("dispatching".to_owned(), all)).await;
    worker.stop().await;
    id
}

/// What the provider was given: the attempts of each delivery, and whom each was for.
fn taken(file: &Path) -> (BTreeMap<String, Vec<u32>>, BTreeMap<String, usize>) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let (mut deliveries, mut addresses) = (BTreeMap::<_, Vec<u32>>::new(), BTreeMap::new());
    for line in text.lines() {
        let [delivery, attempt, address] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let attempts = deliveries.entry(delivery.to_owned()).or_default();
        if attempts.is_empty() {
            *addresses.entry(address.to_owned()).or_default() += 1;
        }
        attempts.push(attempt.parse().unwrap());
    }
    (deliveries, addresses)
}

on_both! {
    async fn a_process_may_die_anywhere_in_a_further_step(db) {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("taken");
        let stub = ("CAMPANILE_TEST_STUB", file.to_str().unwrap());
        let worker = [("CAMPANILE_ROLES", "worker"), stub];
        let api = Server::start(&db, &[("CAMPANILE_ROLES", "api"), stub]).await;
        prepare(&api).await;
        let (mut ids, mut may_double) = (Vec::new(), 0);
        for (point, time) in points(Scene::Steps) {
            ids.push(first_step(&db, &api, &worker).await);
            pass(&db).await;
            let (before, _) = taken(&file);
            let (name, armed) = abort_at(point, time);
            let dying = Server::start(&db, &[&worker[..], &[(name, armed.as_str())]].concat()).await;
            dying.died_at(point).await;
            // Only here nobody can know what became of what the provider was given.
            if [Point::AfterDelivery, Point::OutcomeBeforeCommit].contains(&point) {
                may_double += taken(&file).0.len() - before.len();
            }
            // Nobody waits for half a minute to see that a lease ends.
            execute(&db, "UPDATE outgoing SET lease_until = 0 WHERE state = 2").await.unwrap();
            let next = Server::start(&db, &worker).await;
            let id = ids.last().unwrap();
            until(async || state(&api, id).await.0 != "dispatching").await;
            next.stop().await;
        }
        let (deliveries, addresses) = taken(&file);
        assert_eq!(deliveries.len(), ids.len() * RECEIVERS, "one for each receiver of each send");
        assert_eq!(addresses.len(), RECEIVERS);
        assert_eq!(addresses.into_values().collect::<BTreeSet<_>>(), BTreeSet::from([ids.len()]));
        let doubled: Vec<_> = deliveries.values().filter(|attempts| attempts.len() > 1).collect();
        assert_eq!(doubled.len(), may_double, "{doubled:?}");
        assert!(may_double > 0 && doubled.iter().all(|attempts| **attempts == [1, 2]), "{doubled:?}");
        for id in &ids {
            assert_eq!(state(&api, id).await, ("completed".to_owned(), i64::try_from(RECEIVERS).unwrap()));
        }
        api.stop().await;
    }

    async fn two_processes_that_find_the_same_step_due_fire_it_once(db) {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("taken");
        let stub = ("CAMPANILE_TEST_STUB", file.to_str().unwrap());
        let worker = [("CAMPANILE_ROLES", "worker"), stub];
        let api = Server::start(&db, &[("CAMPANILE_ROLES", "api"), stub]).await;
        prepare(&api).await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(first_step(&db, &api, &worker).await);
        }
        pass(&db).await;
        let (one, other) = futures::future::join(Server::start(&db, &worker), Server::start(&db, &worker)).await;
        for id in &ids {
            until(async || state(&api, id).await.0 != "dispatching").await;
        }
        let (deliveries, addresses) = taken(&file);
        assert_eq!(deliveries.len(), ids.len() * RECEIVERS);
        assert!(deliveries.values().all(|attempts| *attempts == [1]), "{deliveries:?}");
        assert!(addresses.values().all(|count| *count == ids.len()), "{addresses:?}");
        for id in &ids {
            assert_eq!(state(&api, id).await, ("completed".to_owned(), i64::try_from(RECEIVERS).unwrap()));
        }
        for server in [one, other, api] {
            server.stop().await;
        }
    }
}
