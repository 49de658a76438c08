//! Load with a journal: clients that send under a key of their own each time, repeat the same call until it is answered,
//! whatever process answers, and write down what was. Some watch their batches, and some read what was sent, and click on it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::aging::Kind;
use super::grpc::{self, Link};
use super::server::{KEY, Server, chance};
use crate::support::rpc::Door;
use crate::support::server::http2;
use crate::support::shop::card;

/// Users that a load sends to.
const USERS: u64 = 40;
/// Receivers of a load's batch: three pages.
const BATCH: u64 = 30;

/// A send that was acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) receivers: Vec<String>,
    /// Those of them that nothing could be done for.
    pub(super) failed: BTreeSet<String>,
    /// What was answered.
    pub(super) answer: Value,
}

/// What was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) sent: Vec<Sent>,
    /// Items that were read, each with whose it is.
    pub(super) read: BTreeSet<(String, String)>,
    /// What watchers saw that cannot be.
    pub(super) seen: Vec<String>,
    /// How many batches were watched to their end.
    pub(super) watched: u32,
    /// Calls that a server took and did not answer.
    pub(super) cut: Vec<String>,
    /// Calls that were answered with a request to come back.
    pub(super) put_off: u32,
}

impl Journal {
    pub(super) fn batches(&self) -> usize {
        self.sent.iter().filter(|sent| sent.receivers.len() > 10).count()
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.sent.extend(other.sent);
        self.read.extend(other.read);
        self.seen.extend(other.seen);
        self.watched += other.watched;
        self.cut.extend(other.cut);
        self.put_off += other.put_off;
    }
}

/// Makes what sends need.
pub(super) async fn shop(server: &Server) {
    let channel = json!({"type": "in_app", "name": "Bell", "channelId": "bell", "enabled": true});
    let template = |slug: &str, differs: Value| {
        let mut content = json!({"channelType": "in_app", "content": card(slug)});
        content
            .as_object_mut()
            .unwrap()
            .extend(differs.as_object().unwrap().clone());
        json!({"templateId": slug, "name": slug, "status": "approved", "channels": [content]})
    };
    for (path, body) in [
        ("channels", channel),
        ("templates", template("lasting", json!({}))),
        ("templates", template("brief", json!({"messageRetentionHours": 1}))),
    ] {
        let url = format!("{}/v3/campaigns/{path}", server.url);
        let answer = server
            .http
            .post(url)
            .header("apikey", KEY)
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }
}

/// So many users, one after the other from a random one on.
pub(super) fn receivers(count: u64, of: u64) -> Vec<String> {
    let first = chance(of);
    (first..first + count)
        .map(|number| format!("user-{:03}", number % of))
        .collect()
}

/// The call that sends.
pub(super) fn message(http: &Client, url: &str, key: &str, kind: Kind, receivers: &[String]) -> RequestBuilder {
    let template = if kind == Kind::Brief { "brief" } else { "lasting" };
    http.post(format!("{url}/v3/campaigns/notifications/messages"))
        .header("apikey", KEY)
        .header("idempotency-key", key)
        .timeout(Duration::from_secs(20))
        .json(&json!({"templateId": template, "receivers": receivers, "tag": kind.tag()}))
}

/// What became of a call, as far as a client can tell.
pub(super) enum Outcome {
    Answered(u16, bytes::Bytes),
    /// The service asks to come back.
    PutOff,
    /// Nobody listened.
    Refused,
    /// A server took it and did not answer it.
    Cut(String),
}

pub(super) async fn attempt(call: RequestBuilder) -> Outcome {
    let answer = match call.send().await {
        Err(fault) if fault.is_connect() => return Outcome::Refused,
        Err(fault) => return Outcome::Cut(format!("{fault:?}")),
        Ok(answer) => answer,
    };
    let status = answer.status().as_u16();
    match answer.bytes().await {
        Err(fault) => Outcome::Cut(format!("{fault:?}")),
        Ok(_) if matches!(status, 503 | 504) => Outcome::PutOff,
        Ok(body) => Outcome::Answered(status, body),
    }
}

/// Sends so many batches through a server that stands, to so many receivers out of as many users.
pub(super) async fn batches(server: &Server, count: u32, kind: Kind, (receivers_each, of): (u64, u64)) -> Journal {
    let mut journal = Journal::default();
    for number in 0..count {
        let receivers = receivers(receivers_each, of);
        let key = format!("batch-{number}-{}", chance(u64::MAX));
        match attempt(message(&server.http, &server.url, &key, kind, &receivers)).await {
            Outcome::Answered(200, body) => journal.sent.push(sent(kind, receivers, &body)),
            _ => unreachable!("a batch was not answered"),
        }
    }
    journal
}

/// The same with three pages each.
pub(super) async fn some(server: &Server, count: u32) -> Journal {
    batches(server, count, Kind::Plain, (BATCH, USERS)).await
}

pub(super) fn sent(kind: Kind, receivers: Vec<String>, body: &[u8]) -> Sent {
    let body: Value = serde_json::from_slice(body).unwrap();
    recorded(kind, receivers, body["data"].clone())
}

/// A send that was answered with this.
pub(super) fn recorded(kind: Kind, receivers: Vec<String>, answer: Value) -> Sent {
    Sent {
        id: answer["notificationId"].as_str().unwrap().to_owned(),
        kind,
        receivers,
        failed: BTreeSet::new(),
        answer,
    }
}

/// How a load is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pressure {
    pub(super) clients: u32,
    /// What a client waits between two calls.
    pub(super) pause: Duration,
    /// Whether sends of every kind are made; else plain ones.
    pub(super) ages: bool,
    /// How sends are made.
    pub(super) door: Door,
}

impl Pressure {
    pub(super) const SOME: Self = Self {
        clients: 4,
        pause: Duration::from_millis(20),
        ages: false,
        door: Door::Rest,
    };
    pub(super) const FULL: Self = Self {
        clients: 24,
        pause: Duration::ZERO,
        ages: false,
        door: Door::Rest,
    };
}

/// What the clients of a load have in common.
pub(super) struct Shared {
    url: Mutex<String>,
    ended: AtomicBool,
    keys: AtomicU64,
    watched: AtomicU32,
    put_off: AtomicU32,
    cut: Mutex<Vec<String>>,
}

impl Shared {
    pub(super) fn new(server: &Server) -> Self {
        Self {
            url: Mutex::new(server.url.clone()),
            ended: AtomicBool::new(false),
            keys: AtomicU64::new(0),
            watched: AtomicU32::new(0),
            put_off: AtomicU32::new(0),
            cut: Mutex::default(),
        }
    }

    /// Calls another process from now on.
    pub(super) fn moved(&self, server: &Server) {
        server.url.clone_into(&mut self.url.lock().unwrap());
    }

    /// Asks every client to end.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Clients that go on sending.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Journal>,
}

impl Load {
    pub(super) fn start(server: &Server, pressure: Pressure) -> Self {
        let shared = Arc::new(Shared::new(server));
        let mut clients = JoinSet::new();
        for number in 0..pressure.clients {
            let caller = Caller::new(number, Arc::clone(&shared));
            // Every other one keeps its connection.
            clients.spawn(caller.send_on(pressure, Link::new(number % 2 == 0)));
        }
        Self { shared, clients }
    }

    /// Calls another process from now on.
    pub(super) fn moved(&self, server: &Server) {
        self.shared.moved(server);
    }

    /// Lets every client finish what it is at, and gives what was acknowledged.
    pub(super) async fn end(self) -> Journal {
        self.shared.end();
        let mut journal = Journal::default();
        for one in self.clients.join_all().await {
            journal.extend(one);
        }
        journal.watched = self.shared.watched.load(Ordering::Relaxed);
        journal.put_off = self.shared.put_off.load(Ordering::Relaxed);
        journal.cut = std::mem::take(&mut self.shared.cut.lock().unwrap());
        journal
    }
}

fn any_kind(pressure: Pressure) -> Kind {
    match chance(if pressure.ages { 6 } else { 3 }) {
        3 => Kind::Early,
        4 => Kind::Brief,
        5 => Kind::Old,
        _ => Kind::Plain,
    }
}

/// One client of a load.
pub(super) struct Caller {
    shared: Arc<Shared>,
    pub(super) http: Client,
    run: u64,
}

impl Caller {
    /// Of three clients one opens a connection for each call, one keeps it, and one speaks HTTP/2.
    pub(super) fn new(number: u32, shared: Arc<Shared>) -> Self {
        let http = match number % 3 {
            0 => Client::builder()
                .http1_only()
                .pool_max_idle_per_host(0)
                .build()
                .unwrap(),
            1 => Client::builder().http1_only().build().unwrap(),
            _ => http2(),
        };
        let run = chance(u64::MAX);
        Self { shared, http, run }
    }

    pub(super) fn url(&self) -> String {
        self.shared.url.lock().unwrap().clone()
    }

    /// An idempotency key that no other call has.
    pub(super) fn key(&self) -> String {
        format!("{}-{}", self.run, self.shared.keys.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether it is to end.
    pub(super) fn is_over(&self) -> bool {
        self.shared.ended.load(Ordering::Relaxed)
    }

    async fn send_on(self, pressure: Pressure, mut link: Link) -> Journal {
        let mut journal = Journal::default();
        while !self.is_over() {
            // Each client begins with a batch that it watches and an item that it reads; then chance decides.
            let (kind, is_batch, looks) = match journal.sent.len() {
                0 => (Kind::Plain, true, true),
                1 => (Kind::Plain, false, true),
                _ => (any_kind(pressure), chance(4) == 0, chance(4) == 0),
            };
            let receivers = receivers(if is_batch { BATCH } else { 3 }, USERS);
            let key = self.key();
            let (status, body) = match pressure.door {
                Door::Rest => self.call(|url| message(&self.http, url, &key, kind, &receivers)).await,
                Door::Grpc => loop {
                    let outcome = link.attempt(&self.url(), &key, kind, &receivers).await;
                    if let Some(answer) = self.note(outcome).await {
                        break answer;
                    }
                },
            };
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
            let sent = match pressure.door {
                Door::Rest => sent(kind, receivers, &body),
                Door::Grpc => grpc::sent(kind, receivers, &body),
            };
            // What is old may be gone before anybody looks.
            if looks && is_batch && kind != Kind::Old {
                journal.seen.extend(self.watch(&sent).await);
            } else if looks && matches!(kind, Kind::Plain | Kind::Early) {
                let read = self.read(&sent).await;
                journal.read.insert(read);
            }
            journal.sent.push(sent);
            tokio::time::sleep(pressure.pause).await;
        }
        journal
    }

    /// Calls until there is an answer.
    pub(super) async fn call(&self, call: impl Fn(&str) -> RequestBuilder) -> (u16, bytes::Bytes) {
        loop {
            if let Some(answer) = self.note(attempt(call(&self.url())).await).await {
                return answer;
            }
        }
    }

    /// What was answered. Otherwise notes why nothing was, and waits a little.
    async fn note(&self, outcome: Outcome) -> Option<(u16, bytes::Bytes)> {
        match outcome {
            Outcome::Answered(status, body) => return Some((status, body)),
            Outcome::PutOff => {
                self.shared.put_off.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Refused => {}
            Outcome::Cut(fault) => self.shared.cut.lock().unwrap().push(fault),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        None
    }

    /// Has the first receiver of a send be shown its item, read it and click on it, each in a call of its own.
    async fn read(&self, sent: &Sent) -> (String, String) {
        let first = &sent.answer["receivers"][0];
        let user = first["receiver"].as_str().unwrap().to_owned();
        let item = first["deliveries"][0]["feedItemId"].as_str().unwrap().to_owned();
        for (path, body) in [
            ("delivered".to_owned(), json!({"ids": [item]})),
            (format!("{item}/read"), json!({})),
            (format!("{item}/engagement"), json!({"topic": "clicked"})),
        ] {
            let call = self.call(|url| {
                let call = self.http.post(format!("{url}/v3/campaigns/notification-feed/{path}"));
                call.header("apikey", KEY).header("onbehalfof", &user).json(&body)
            });
            let (status, answer) = call.await;
            assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&answer));
        }
        (user, item)
    }

    /// Watches a batch to its end, through however many processes, and says what it saw that cannot be.
    async fn watch(&self, sent: &Sent) -> Vec<String> {
        let (mut faults, mut settled) = (Vec::new(), 0);
        loop {
            let url = format!("{}/v3/campaigns/notifications/{}/progress", self.url(), sent.id);
            for event in events(self.http.get(url).header("apikey", KEY)).await {
                let now = ["sentCount", "failedCount", "skippedCount"].map(|name| event[name].as_u64().unwrap());
                let sum = now.iter().sum::<u64>();
                if sum < settled {
                    faults.push(format!("{} went back from {settled} to {sum}", sent.id));
                }
                settled = sum;
                if event["status"] != "dispatching" {
                    let total = sent.receivers.len() as u64;
                    if now != [total, 0, 0] || event["status"] != "completed" {
                        faults.push(format!("the stream of {} ends with {event}", sent.id));
                    }
                    self.shared.watched.fetch_add(1, Ordering::Relaxed);
                    return faults;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What a stream tells of progress until it ends or breaks.
pub(super) async fn events(call: RequestBuilder) -> Vec<Value> {
    let mut text = String::new();
    if let Ok(mut answer) = call.send().await {
        while let Ok(Some(chunk)) = answer.chunk().await {
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
    // What broke off in the middle has no empty line behind it.
    let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    whole
        .split("\n\n")
        .filter(|event| event.contains("event: progress\n"))
        .filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}
