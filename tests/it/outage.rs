//! What the world does to a running server: its database goes away, falls silent, crashes or loses answers; its disk fills
//! up; it runs out of descriptors. Every call is answered in its time, nothing that was acknowledged is lost or doubled, and
//! the server goes on by itself. That its own process dies is not covered here.
//!
//! `make test` runs the short form; `CAMPANILE_TEST_SOAK=1` the long one.

mod descriptors;
mod disk;
mod load;
mod postgres;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::rpc::{Answer, Client, Door};
use crate::support::running::{BOOTSTRAP_KEY, Running};
use crate::support::shop::card;

/// Encrypts what the servers on PostgreSQL encrypt.
const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// A duration of the short form, and of the long one.
#[expect(
    clippy::disallowed_methods,
    reason = "a test run is told by its environment how long it may take"
)]
fn short_or_long(short: u64, long: u64) -> u64 {
    match std::env::var("CAMPANILE_TEST_SOAK").as_deref() {
        Err(_) | Ok("" | "0") => short,
        Ok(_) => long,
    }
}

/// Calls an rpc as the app does.
async fn call(client: &Client, rpc: &str, request: &Value) -> Answer {
    client.call(rpc, &[("apikey", BOOTSTRAP_KEY)], request).await
}

/// The status and the time of a page that takes no credential.
async fn page(server: &Running, path: &str) -> (u16, Duration) {
    let began = Instant::now();
    let answer = reqwest::get(format!("{}{path}", server.url)).await.unwrap();
    (answer.status().as_u16(), began.elapsed())
}

/// A server with an app that is ready to send.
async fn shop(folder: &TempDir, settings: &[(&str, &str)]) -> Running {
    let server = Running::start(folder.path(), &[settings, &APP].concat()).await;
    open_shop(&server).await;
    server
}

/// Settings of an app, and of pages so small that a batch of twelve has two.
const APP: [(&str, &str); 6] = [
    ("CAMPANILE_BOOTSTRAP_APP", "shop"),
    ("CAMPANILE_BOOTSTRAP_KEY", BOOTSTRAP_KEY),
    ("CAMPANILE_RATE_LIMIT", "0"),
    ("CAMPANILE_RATE_LIMIT_CORE", "0"),
    ("CAMPANILE_PAGE_ROWS", "10"),
    ("CAMPANILE_LEASE_SECONDS", "2"),
];

async fn open_shop(server: &Running) {
    let client = Client::new(Door::Rest, &server.url);
    let channel = json!({"type": "in_app", "name": "Bell", "channelId": "bell", "enabled": true});
    call(&client, "CreateChannel", &json!({"channel": channel}))
        .await
        .data();
    let template = json!({
        "templateId": "plain",
        "name": "plain",
        "status": "approved",
        "channels": [{"channelType": "in_app", "content": card("plain")}],
    });
    call(&client, "CreateTemplate", &json!({"template": template}))
        .await
        .data();
}

/// Waits until something is so, and says how long that took.
async fn until(what: &str, most: Duration, so: impl AsyncFn() -> bool) -> Duration {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < most, "not within {most:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}
