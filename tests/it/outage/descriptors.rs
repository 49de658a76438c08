//! The server may open no more files and sockets: those who are connected are served, nothing spins, and when clients leave
//! others get in.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{APP, call, open_shop, until};
use crate::support::rpc::{Client, Door};
use crate::support::running::{Running, after};

/// Clients that come, more than there are descriptors.
const CLIENTS: usize = 200;
/// The part of a processor that a server with nothing to do may use.
const SHARE_MAX: f64 = 0.25;

/// Seconds of processor time that a process has used.
fn used(server: &Running) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.child.id().unwrap())).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // Fields 14 and 15 of proc(5), in ticks of which Linux tells a hundred a second.
    let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

fn descriptors(server: &Running) -> usize {
    let folder = format!("/proc/{}/fd", server.child.id().unwrap());
    std::fs::read_dir(folder).unwrap().count()
}

/// Connects and begins a request, so that the connection is kept for as long as headers may take.
async fn connect(server: &Running) -> TcpStream {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://"))
        .await
        .unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    stream
}

async fn send(client: &Client, receiver: &str) -> u16 {
    let request = json!({"templateId": "plain", "receivers": [receiver]});
    call(client, "SendNotification", &request).await.status
}

/// A crowd comes; whoever was there before is served, and when it has left everybody is.
async fn crowded(server: &Running, crowd: impl AsyncFn() -> Vec<TcpStream>) {
    // One connection of HTTP/2 for all its calls.
    let early = Client::new(Door::Grpc, &server.url);
    assert_eq!(send(&early, "early").await, 200);
    let crowd = crowd().await;
    let before = (used(server), server.said().len());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let share = (used(server) - before.0) / 2.0;
    assert!(share < SHARE_MAX, "{share} of a processor");
    let said = server.said().split_off(before.1);
    assert!(said.lines().count() < 10, "{said}");
    for number in 0..20 {
        // Reading and writing at once, so that the database is asked for connections it does not have yet.
        let sends = (0..8).map(|_| send(&early, "early"));
        let lists = (0..8).map(|_| async {
            let list = call(&early, "ListTemplates", &json!({})).await;
            list.status
        });
        let (sent, listed) =
            futures::future::join(futures::future::join_all(sends), futures::future::join_all(lists)).await;
        assert!(
            sent.iter().chain(&listed).all(|status| *status == 200),
            "{number}: {sent:?} {listed:?}"
        );
    }
    drop(crowd);
    let late = async || {
        let late = reqwest::Client::new().get(format!("{}/healthz", server.url));
        late.timeout(Duration::from_millis(500))
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 200)
    };
    until("others get in", Duration::from_secs(2), late).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_clients_than_descriptors_wait_and_those_who_are_in_are_served() {
    let folder = TempDir::new().unwrap();
    let server = Running::start_by(after(folder.path(), "ulimit -n 64"), &APP).await;
    open_shop(&server).await;
    let crowd = async || {
        let mut crowd = Vec::new();
        for _ in 0..CLIENTS {
            crowd.push(connect(&server).await);
        }
        crowd
    };
    crowded(&server, crowd).await;
    server.signal().await;
    assert_eq!(server.exit().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_no_descriptor_left_rests_between_its_tries_to_accept() {
    let folder = TempDir::new().unwrap();
    // Few connections to the database, all of which are open before the limit is lowered below what they were promised: how
    // many a larger pool has opened by then depends on the machine.
    let few = "export CAMPANILE_DATABASE_CONNECTIONS_MAX=2; ulimit -n 256";
    let server = Running::start_by(after(folder.path(), few), &APP).await;
    open_shop(&server).await;
    let warm = Client::new(Door::Grpc, &server.url);
    let nothing = json!({});
    let lists = (0..32).map(|_| call(&warm, "ListTemplates", &nothing));
    futures::future::join_all(lists).await;
    let crowd = async || {
        // Fewer than the server believed to have when it started.
        let limit = format!("--nofile={0}:{0}", descriptors(&server) + 5);
        let pid = server.child.id().unwrap().to_string();
        assert!(
            Command::new("prlimit")
                .args(["--pid", &pid, &limit])
                .status()
                .unwrap()
                .success()
        );
        let mut crowd = Vec::new();
        for _ in 0..50 {
            crowd.push(connect(&server).await);
        }
        let told = async || server.said().contains("connections cannot be accepted");
        until("it is told", Duration::from_secs(5), told).await;
        crowd
    };
    crowded(&server, crowd).await;
    server.signal().await;
    assert_eq!(server.exit().await.0, Some(0));
}
