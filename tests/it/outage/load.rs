//! Callers that go on through an outage: each sends under a key of its own, through either door, and repeats the same send
//! until it is acknowledged; others only read. All that they were told is written down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{call, until};
use crate::support::rpc::{Answer, Client, Door};
use crate::support::running::BOOTSTRAP_KEY;

/// Users that are sent to.
const USERS: u64 = 24;
/// Receivers of a batch: two pages.
const BATCH: u64 = 12;
/// After which no caller believes in an answer any more. Nothing may come near.
const HUNG: Duration = Duration::from_secs(60);
/// What those who send call.
const SEND: &str = "SendNotification";
/// What a caller waits after each answer.
const PAUSE: Duration = Duration::from_millis(10);

/// A send that was acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    key: String,
    id: String,
    receivers: Vec<String>,
}

/// What a caller was told, and how long that took.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) rpc: &'static str,
    pub(super) began: Instant,
    pub(super) took: Duration,
    pub(super) answer: Answer,
}

/// What all callers were told.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) sent: Vec<Sent>,
    pub(super) told: Vec<Told>,
}

impl Journal {
    /// The answers that were none.
    pub(super) fn refused(&self) -> impl Iterator<Item = &Told> {
        self.told.iter().filter(|told| told.answer.status >= 300)
    }

    /// Nobody who only reads was refused.
    pub(super) fn check_reads(&self) {
        let reads = self.told.iter().filter(|told| told.rpc != SEND);
        let refused: Vec<_> = reads.filter(|told| told.answer.status >= 300).collect();
        assert!(refused.is_empty(), "{refused:#?}");
    }

    /// Every refusal says that the service is unavailable and when to come back, and came in time.
    pub(super) fn check_refusals(&self, most: Duration) {
        for told in self.refused() {
            let answer = &told.answer;
            assert_eq!((answer.status, answer.code()), (503, "ERR_UNAVAILABLE"), "{told:#?}");
            assert!(answer.retry_after.is_some(), "{told:#?}");
            assert!(told.took <= most, "{told:#?}");
        }
    }

    /// From this moment on nobody was refused.
    pub(super) fn check_served_since(&self, moment: Instant) {
        let late: Vec<_> = self.refused().filter(|told| told.began >= moment).collect();
        assert!(late.is_empty(), "{late:#?}");
        assert!(self.told.iter().any(|told| told.began >= moment), "nobody called");
    }

    /// The slowest answer.
    pub(super) fn slowest(&self) -> Duration {
        self.told.iter().map(|told| told.took).max().unwrap_or_default()
    }
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    keys: AtomicU64,
}

/// Callers that go on.
pub(super) struct Load {
    shared: Arc<Shared>,
    callers: JoinSet<Journal>,
}

impl Load {
    /// So many callers that send and half as many that read, through both doors by turns.
    pub(super) fn start(url: &str, senders: u32) -> Self {
        let (shared, mut callers) = (Arc::<Shared>::default(), JoinSet::new());
        for number in 0..senders {
            let door = if number % 2 == 0 { Door::Rest } else { Door::Grpc };
            let client = Client::new(door, url);
            callers.spawn(send_on(client.clone(), Arc::clone(&shared)));
            if number % 4 < 2 {
                callers.spawn(read_on(client, Arc::clone(&shared)));
            }
        }
        Self { shared, callers }
    }

    /// Lets every caller finish the send that it is at, and gives what they were told.
    pub(super) async fn end(self) -> Journal {
        self.shared.ended.store(true, Ordering::Relaxed);
        let mut journal = Journal::default();
        for of_one in self.callers.join_all().await {
            journal.sent.extend(of_one.sent);
            journal.told.extend(of_one.told);
        }
        journal
    }
}

async fn ask(client: &Client, rpc: &'static str, headers: &[(&str, &str)], request: &Value) -> Told {
    let began = Instant::now();
    let headers = [&[("apikey", BOOTSTRAP_KEY)], headers].concat();
    let answer = tokio::time::timeout(HUNG, client.call(rpc, &headers, request)).await;
    let answer = answer.unwrap_or_else(|_| unreachable!("{rpc} hangs"));
    Told {
        rpc,
        began,
        took: began.elapsed(),
        answer,
    }
}

async fn send_on(client: Client, shared: Arc<Shared>) -> Journal {
    let mut journal = Journal::default();
    while !shared.ended.load(Ordering::Relaxed) {
        let number = shared.keys.fetch_add(1, Ordering::Relaxed);
        let count = if number.is_multiple_of(4) { BATCH } else { 2 };
        let receivers: Vec<_> = (number..number + count)
            .map(|number| format!("user-{:02}", number % USERS))
            .collect();
        let (key, request) = (
            format!("key-{number}"),
            json!({"templateId": "plain", "receivers": receivers}),
        );
        loop {
            let told = ask(&client, SEND, &[("idempotency-key", &key)], &request).await;
            let id = told.answer.body["data"]["notificationId"].as_str().map(str::to_owned);
            journal.told.push(told);
            tokio::time::sleep(PAUSE).await;
            if let Some(id) = id {
                journal.sent.push(Sent { key, id, receivers });
                break;
            }
        }
    }
    journal
}

async fn read_on(client: Client, shared: Arc<Shared>) -> Journal {
    let mut journal = Journal::default();
    while !shared.ended.load(Ordering::Relaxed) {
        for (rpc, headers) in [
            ("ListTemplates", &[][..]),
            ("ListFeedItems", &[("onbehalfof", "user-01")]),
        ] {
            journal.told.push(ask(&client, rpc, headers, &json!({})).await);
            tokio::time::sleep(PAUSE).await;
        }
    }
    journal
}

/// Compares what was acknowledged with what came of it, once that is all done: every receiver of every send has it once,
/// there is nothing else, and a repetition answers what was answered.
pub(super) async fn check(url: &str, journal: &Journal) {
    let client = Client::new(Door::Rest, url);
    let mut expected = BTreeMap::<&str, i64>::new();
    for sent in &journal.sent {
        for receiver in &sent.receivers {
            *expected.entry(receiver).or_default() += 1;
        }
        let done = async || {
            let read = call(&client, "GetNotification", &json!({"notificationId": sent.id})).await;
            read.data()["status"] == "completed"
        };
        until("a notification is completed", Duration::from_secs(60), done).await;
    }
    let mut found = BTreeMap::new();
    for user in expected.keys().copied() {
        let headers = [("apikey", BOOTSTRAP_KEY), ("onbehalfof", user)];
        let count = client.call("GetUnreadCount", &headers, &json!({})).await;
        found.insert(user, count.data()["count"].as_i64().unwrap());
    }
    assert_eq!(found, expected);
    for sent in journal.sent.iter().rev().take(8) {
        let request = json!({"templateId": "plain", "receivers": sent.receivers});
        let again = ask(&client, SEND, &[("idempotency-key", &sent.key)], &request).await;
        assert_eq!(again.answer.data()["notificationId"], sent.id, "{again:#?}");
        assert!(again.answer.replayed, "{again:#?}");
    }
}
