//! Equal calls at once, through the death of the process that took them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use campanile::failpoint::Point;
use futures::future::join_all;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_types::StatusExt as _;

use super::aging::Kind;
use super::grpc::{self, Link};
use super::load::{Journal, Outcome, attempt, message, receivers, sent, shop};
use super::server::{KEY, Server, abort_at, chance};
use super::settled;
use crate::on_both;
use crate::support::database::TestDatabase;
use crate::support::rpc::Door;

/// Equal calls.
const CALLS: usize = 32;

on_both! {
    async fn thirty_two_equal_calls_at_once_are_one_send_even_if_the_process_dies_meanwhile(db) {
        are_one_send(&db, Door::Rest).await;
    }

    async fn thirty_two_equal_calls_at_once_over_grpc_are_one_send_even_if_the_process_dies_meanwhile(db) {
        are_one_send(&db, Door::Grpc).await;
    }
}

async fn are_one_send(db: &TestDatabase, door: Door) {
    let mut server = Server::start(db, &[]).await;
    shop(&server).await;
    let mut journal = Journal::default();
    let ends = [Some(Point::SendBeforeCommit), Some(Point::SendAfterCommit), None, None];
    for (round, (end, count)) in ends.into_iter().zip([3, 30, 3, 30]).enumerate() {
        let (key, receivers) = (format!("once-{round}"), receivers(count, 40));
        server.stop().await;
        let armed = end.map(|point| abort_at(point, 1));
        let settings: Vec<_> = armed.iter().map(|(name, armed)| (*name, armed.as_str())).collect();
        let first = Server::start(db, &settings).await;
        let url = Arc::new(Mutex::new(first.url.clone()));
        let calls = calls((&*url, door), &key, &receivers);
        let restart = async {
            if let Some(point) = end {
                first.died_at(point).await;
            } else {
                tokio::time::sleep(Duration::from_millis(chance(60))).await;
                first.kill().await;
            }
            let second = Server::start(db, &[]).await;
            second.url.clone_into(&mut url.lock().unwrap());
            second
        };
        let (answers, second) = futures::join!(calls, restart);
        server = second;
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
        let sent = match door {
            Door::Rest => sent(Kind::Plain, receivers.clone(), &answers[0]),
            Door::Grpc => grpc::sent(Kind::Plain, receivers.clone(), &answers[0]),
        };
        match door {
            Door::Rest => repeat(&server, &key, &receivers, &answers[0]).await,
            Door::Grpc => repeat_over_grpc(&server, &key, &receivers, (&answers[0], &sent.id)).await,
        }
        journal.sent.push(sent);
    }
    assert_eq!(settled(&server, &journal).await, Vec::<String>::new());
    server.stop().await;
}

/// Makes all calls at once, each until it is answered, and gives the answers.
async fn calls((url, door): (&Mutex<String>, Door), key: &str, receivers: &[String]) -> Vec<Bytes> {
    let begin = Barrier::new(CALLS);
    let call = async || {
        let http = Client::builder().pool_max_idle_per_host(0).build().unwrap();
        let mut link = Link::new(false);
        begin.wait().await;
        loop {
            let url = url.lock().unwrap().clone();
            let outcome = match door {
                Door::Rest => attempt(message(&http, &url, key, Kind::Plain, receivers)).await,
                Door::Grpc => link.attempt(&url, key, Kind::Plain, receivers).await,
            };
            match outcome {
                Outcome::Answered(200, body) => return body,
                Outcome::Answered(status, body) => unreachable!("{status}: {}", String::from_utf8_lossy(&body)),
                Outcome::PutOff | Outcome::Refused | Outcome::Cut(_) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    };
    join_all((0..CALLS).map(|_| call())).await
}

/// As [`repeat`], and the same call over REST is the same call.
async fn repeat_over_grpc(server: &Server, key: &str, receivers: &[String], (answer, id): (&Bytes, &str)) {
    let channel = Endpoint::from_shared(server.url.clone()).unwrap().connect_lazy();
    let again = grpc::send(channel.clone(), (KEY, key), Kind::Plain, receivers).await;
    assert_eq!(again.unwrap(), (true, answer.clone()));
    let other = grpc::send(channel.clone(), (KEY, key), Kind::Plain, &receivers[1..])
        .await
        .unwrap_err();
    let details = other.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "ERR_CONFLICT", "{other:?}");
    let nobody = format!("{KEY}-of-nobody");
    let stranger = grpc::send(channel, (&nobody, key), Kind::Plain, receivers)
        .await
        .unwrap_err();
    assert_eq!(stranger.code(), Code::Unauthenticated, "{stranger:?}");
    let over_rest = message(&server.http, &server.url, key, Kind::Plain, receivers)
        .send()
        .await
        .unwrap();
    assert_eq!(over_rest.headers()["idempotent-replayed"], "true");
    let told: Value = over_rest.json().await.unwrap();
    assert_eq!(told["data"]["notificationId"], id);
}

/// The same call is answered again, and another one under its key is refused.
async fn repeat(server: &Server, key: &str, receivers: &[String], answer: &Bytes) {
    let again = message(&server.http, &server.url, key, Kind::Plain, receivers)
        .send()
        .await
        .unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(again.bytes().await.unwrap(), *answer);
    let other = message(&server.http, &server.url, key, Kind::Plain, &receivers[1..])
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), 409, "{}", other.text().await.unwrap());
    // Whose key it is, is part of what a key is.
    let stranger = server
        .http
        .post(format!("{}/v3/campaigns/notifications/messages", server.url))
        .header("apikey", format!("{KEY}-of-nobody"))
        .header("idempotency-key", key)
        .json(&json!({"templateId": "lasting", "receivers": receivers, "tag": Kind::Plain.tag()}));
    assert_eq!(stranger.send().await.unwrap().status(), 401);
}
