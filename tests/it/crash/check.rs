//! The checker: compares, through the public API alone, what users see and what the service counts with what was
//! acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Map, Value};

use super::aging::Kind;
use super::load::{Journal, Sent, events};
use super::server::{KEY, PATIENCE, Server};

/// Calls at once.
pub(super) const CALLS: usize = 4;

pub(super) async fn try_get(server: &Server, path: &str, user: Option<&str>) -> (u16, Value) {
    let mut call = server
        .http
        .get(format!("{}/v3/campaigns/{path}", server.url))
        .header("apikey", KEY);
    if let Some(user) = user {
        call = call.header("onbehalfof", user);
    }
    let answer = call.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

pub(super) async fn get(server: &Server, path: &str, user: Option<&str>) -> Value {
    let (status, body) = try_get(server, path, user).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Every row of a list, page after page.
pub(super) async fn list(server: &Server, path: &str, user: Option<&str>) -> Vec<Value> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut page = get(server, &format!("{path}limit=100{cursor}"), user).await;
        rows.append(page["data"].as_array_mut().unwrap());
        let Some(next) = page["meta"]["next"].as_object() else {
            return rows;
        };
        cursor = self::cursor(next);
    }
}

/// What a page's `next` is as a part of a query.
pub(super) fn cursor(next: &Map<String, Value>) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    next.iter()
        .map(|(name, value)| format!("&{name}={}", text(value)))
        .collect()
}

/// Whether every acknowledged send is final.
pub(super) async fn is_final(server: &Server, journal: &Journal) -> bool {
    for sent in &journal.sent {
        if !is_done(server, sent).await {
            return false;
        }
    }
    true
}

async fn is_done(server: &Server, sent: &Sent) -> bool {
    let (status, body) = try_get(server, &format!("notifications/{}", sent.id), None).await;
    match status {
        // Old sends are removed, and only when they are final.
        404 => sent.kind == Kind::Old,
        _ => body["data"]["status"] != "dispatching",
    }
}

/// Waits until every acknowledged send is final.
pub(super) async fn wait(server: &Server, journal: &Journal) {
    for sent in &journal.sent {
        until(async || is_done(server, sent).await).await;
    }
}

/// Waits until the sweep has removed what is old.
pub(super) async fn wait_for_sweep(server: &Server, journal: &Journal) {
    for sent in journal.sent.iter().filter(|sent| sent.kind == Kind::Old) {
        let path = format!("notifications/{}", sent.id);
        until(async || try_get(server, &path, None).await.0 == 404).await;
    }
}

pub(super) async fn until(holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

/// What a user has to find: items with their notifications, by what became of them.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) visible: BTreeSet<(String, String)>,
    expired: BTreeSet<(String, String)>,
    /// Notifications that nothing is left of, or that failed for this user.
    pub(super) absent: BTreeSet<String>,
}

/// What is wrong: items that are lost, doubled or never asked for, receivers whose outcome nobody recorded, counts of
/// notifications, unread counts and streams that do not add up, sends that were acknowledged under one id twice.
pub(super) async fn faults(server: &Server, journal: &Journal) -> Vec<String> {
    let mut faults = journal.seen.clone();
    let mut ids = BTreeSet::new();
    let mut users: BTreeMap<String, Expected> = BTreeMap::new();
    let mut looked = futures::stream::iter(&journal.sent)
        .map(|sent| async move { (sent, look_at(server, sent).await) })
        .buffer_unordered(CALLS);
    while let Some((sent, (wrong, items))) = looked.next().await {
        faults.extend(wrong);
        if !ids.insert(sent.id.clone()) {
            faults.push(format!("{} was answered to two sends", sent.id));
        }
        for receiver in &sent.receivers {
            let expected = users.entry(receiver.clone()).or_default();
            let Some(item) = items.get(receiver) else {
                if sent.kind != Kind::Old && !sent.failed.contains(receiver) {
                    faults.push(format!("{} is lost to {receiver}, nothing was delivered", sent.id));
                }
                expected.absent.insert(sent.id.clone());
                continue;
            };
            let all = if sent.kind == Kind::Brief {
                &mut expected.expired
            } else {
                &mut expected.visible
            };
            all.insert((sent.id.clone(), item.clone()));
        }
    }
    let read = &journal.read;
    let mut looked = futures::stream::iter(&users)
        .map(|(user, expected)| feed_faults(server, user, expected, read))
        .buffer_unordered(CALLS);
    while let Some(wrong) = looked.next().await {
        faults.extend(wrong);
    }
    faults
}

/// What is wrong with a send by itself, and the item that each receiver got.
async fn look_at(server: &Server, sent: &Sent) -> (Vec<String>, BTreeMap<String, String>) {
    let (id, path) = (&sent.id, format!("notifications/{}", sent.id));
    let (status, body) = try_get(server, &path, None).await;
    if sent.kind == Kind::Old {
        let kept = (status != 404).then(|| format!("{id} is old and was kept"));
        return (kept.into_iter().collect(), BTreeMap::new());
    }
    if status != 200 {
        return (vec![format!("{id} is lost: {body}")], BTreeMap::new());
    }
    let mut faults = Vec::new();
    let data = &body["data"];
    let names = ["totalTargets", "sentCount", "failedCount", "skippedCount"];
    let counts = names.map(|name| data[name].as_u64().unwrap());
    let (total, failed) = (sent.receivers.len() as u64, sent.failed.len() as u64);
    let word = if failed == 0 { "completed" } else { "partially_failed" };
    if counts != [total, total - failed, failed, 0] || data["status"] != word {
        faults.push(format!(
            "{id} has the wrong counts: {counts:?} of {total}, {}",
            data["status"]
        ));
    }
    let stream = server.http.get(format!("{}/v3/campaigns/{path}/progress", server.url));
    let told = events(stream.header("apikey", KEY)).await;
    let last = told.last().map(|last| names.map(|name| last[name].as_u64().unwrap()));
    if last != Some(counts) {
        faults.push(format!("{id} counts {counts:?} and its stream tells {last:?}"));
    }
    let (wrong, items) = outcomes(sent, &list(server, &format!("{path}/receivers?"), None).await);
    faults.extend(wrong);
    (faults, items)
}

/// Compares what is recorded of each receiver with the journal, and gives the item that each got.
fn outcomes(sent: &Sent, rows: &[Value]) -> (Vec<String>, BTreeMap<String, String>) {
    let (mut faults, mut items) = (Vec::new(), BTreeMap::new());
    let named: Vec<_> = rows.iter().map(|row| row["receiver"].as_str().unwrap()).collect();
    let asked: Vec<_> = sent.receivers.iter().map(String::as_str).collect();
    if named != asked {
        faults.push(format!("{} lists {named:?} and not {asked:?}", sent.id));
    }
    for row in rows {
        let receiver = row["receiver"].as_str().unwrap();
        let word = if sent.failed.contains(receiver) {
            "failed"
        } else {
            "sent"
        };
        let deliveries = row["deliveries"].as_array().unwrap();
        if row["status"] != word || deliveries.len() != 1 {
            faults.push(format!("{} records of {receiver}: {row}", sent.id));
        }
        if let Some(item) = deliveries.first().and_then(|delivery| delivery["feedItemId"].as_str()) {
            items.insert(receiver.to_owned(), item.to_owned());
        }
    }
    // A realtime send is answered with what it did; a batch with nothing of it.
    let answered = sent.answer["receivers"].as_array().into_iter().flatten();
    for row in answered {
        let receiver = row["receiver"].as_str().unwrap();
        let item = row["deliveries"][0]["feedItemId"].as_str();
        if items.get(receiver).map(String::as_str) != item {
            faults.push(format!("{} was answered with {item:?} for {receiver}", sent.id));
        }
    }
    (faults, items)
}

pub(super) async fn feed_faults(
    server: &Server,
    user: &str,
    expected: &Expected,
    read: &BTreeSet<(String, String)>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let feed = "notification-feed?";
    let rows = list(server, feed, Some(user)).await;
    compare(&mut faults, user, &rows, &expected.visible);
    let all = list(server, &format!("{feed}includeExpired=true&"), Some(user)).await;
    compare(
        &mut faults,
        user,
        &all,
        &expected.visible.union(&expected.expired).cloned().collect(),
    );
    for row in &all {
        if row["notificationId"]
            .as_str()
            .is_some_and(|id| expected.absent.contains(id))
        {
            faults.push(format!(
                "{} is in the feed of {user} and should not be",
                row["notificationId"]
            ));
        }
    }
    let read_by = |row: &&Value| read.contains(&(user.to_owned(), row["id"].as_str().unwrap().to_owned()));
    for row in &rows {
        let marks = ["deliveredAt", "readAt", "interactedAt"].map(|name| row[name].is_string());
        let clicks = row["engagements"].as_array().map_or(0, Vec::len);
        if (marks, clicks) != ([read_by(&row); 3], usize::from(read_by(&row))) {
            faults.push(format!(
                "{} of {user} is delivered, read and clicked on or not, against what was answered: {row}",
                row["id"]
            ));
        }
    }
    let unread = rows.iter().filter(|row| row["readAt"].is_null()).count();
    let count = &get(server, "notification-feed/unread-count", Some(user)).await["data"]["count"];
    if *count != unread {
        faults.push(format!("{user} has {unread} unread items and {count} are counted"));
    }
    faults
}

/// Compares a feed with what has to be in it.
fn compare(faults: &mut Vec<String>, user: &str, rows: &[Value], expected: &BTreeSet<(String, String)>) {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let mut seen = BTreeSet::new();
    let mut notifications = BTreeSet::new();
    for row in rows {
        let id = text(row, "notificationId");
        if !notifications.insert(id.clone()) {
            faults.push(format!("{id} is doubled in the feed of {user}"));
        }
        seen.insert((id, text(row, "id")));
    }
    for (lost, item) in expected.difference(&seen) {
        faults.push(format!("{lost} is lost to {user}, as {item}"));
    }
    for (surplus, item) in seen.difference(expected) {
        faults.push(format!(
            "{surplus} is in the feed of {user}, as {item}, and nobody was told so"
        ));
    }
}
