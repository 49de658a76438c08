//! The checker of campaigns: compares, through the public API alone, audiences, imports, counts, streams and feeds with what
//! was acknowledged.

use std::collections::BTreeMap;

use futures::StreamExt;
use serde_json::{Value, json};

use super::journal::{End, Imported, Journal, Outcomes, Run};
use crate::crash::check::{CALLS, Expected, feed_faults, get, list, try_get, until};
use crate::crash::load::events;
use crate::crash::server::{KEY, Server};

/// Waits until every campaign that goes its way is final.
pub(super) async fn wait(server: &Server, journal: &Journal) {
    for run in journal.runs.iter().filter(|run| matches!(run.end, End::Done)) {
        let path = format!("campaigns/{}", run.id);
        until(async || {
            let (_, body) = try_get(server, &path, None).await;
            !["draft", "scheduled", "sending", "paused"]
                .map(Some)
                .contains(&body["data"]["status"].as_str())
        })
        .await;
    }
}

/// What is wrong: recipients that are lost, doubled or never named, imports that took a row twice or not at all, campaigns
/// that went on when they were held or over, that were sent before their time or twice; counts and streams that do not
/// agree with the rows.
pub(super) async fn faults(server: &Server, journal: &Journal) -> Vec<String> {
    let mut faults = journal.seen.clone();
    let mut users: BTreeMap<String, Expected> = BTreeMap::new();
    let mut looked = futures::stream::iter(&journal.runs)
        .map(|run| async move { (run, look_at(server, run).await) })
        .buffer_unordered(CALLS);
    while let Some((run, (wrong, items))) = looked.next().await {
        faults.extend(wrong);
        for member in &run.audience {
            let expected = users.entry(member.uid.clone()).or_default();
            match items.get(&member.uid) {
                Some(item) => drop(expected.visible.insert((run.notification.clone(), item.clone()))),
                None => drop(expected.absent.insert(run.notification.clone())),
            }
        }
    }
    let nothing = Default::default();
    let mut looked = futures::stream::iter(&users)
        .map(|(user, expected)| feed_faults(server, user, expected, &nothing))
        .buffer_unordered(CALLS);
    while let Some(wrong) = looked.next().await {
        faults.extend(wrong);
    }
    faults
}

/// What is wrong with a campaign by itself, and the item that each recipient got.
async fn look_at(server: &Server, run: &Run) -> (Vec<String>, BTreeMap<String, String>) {
    let (id, path) = (&run.id, format!("campaigns/{}", run.id));
    let (status, body) = try_get(server, &path, None).await;
    let outcomes = match &run.end {
        End::Deleted => {
            let kept = (status != 404).then(|| format!("{id} was deleted and is there"));
            return (kept.into_iter().collect(), BTreeMap::new());
        }
        End::Done => run.outcomes(),
        End::Cancelled(outcomes) => outcomes.clone(),
    };
    if status != 200 {
        return (vec![format!("{id} is lost: {body}")], BTreeMap::new());
    }
    let mut faults = count_faults(server, run, &outcomes, &body["data"]).await;
    faults.extend(file_faults(server, run).await);
    let rows = list(server, &format!("{path}/recipients?"), None).await;
    let (wrong, items) = rows_of(run, &outcomes, &rows);
    faults.extend(wrong);
    (faults, items)
}

/// What is wrong with the status and the counts of a campaign, wherever they are told.
async fn count_faults(server: &Server, run: &Run, outcomes: &Outcomes, data: &Value) -> Vec<String> {
    let (mut faults, id, path) = (Vec::new(), &run.id, format!("campaigns/{}", run.id));
    let (total, completed, failed) = (run.audience.len(), outcomes.completed.len(), outcomes.failed.len());
    let word = match (&run.end, completed, failed) {
        (End::Cancelled(_) | End::Deleted, ..) => "cancelled",
        (End::Done, _, 0) => "completed",
        (End::Done, 0, _) => "failed",
        (End::Done, ..) => "partially_failed",
    };
    let summary = json!({
        "total": total, "pending": 0, "processing": 0, "completed": completed, "failed": failed,
        "cancelled": total.saturating_sub(completed + failed),
    });
    let told = ["status", "totalTargets", "sentCount", "failedCount"].map(|name| data[name].clone());
    if told != [json!(word), json!(total), json!(completed), json!(failed)] {
        faults.push(format!("{id} tells {told:?}, not {word} with {summary}"));
    }
    let counted = &get(server, &format!("{path}/recipients/summary"), None).await["data"];
    let stream = server.http.get(format!("{}/v3/campaigns/{path}/progress", server.url));
    let streamed = events(stream.header("apikey", KEY)).await;
    let last = streamed.last().unwrap_or(&Value::Null);
    for (what, found) in [
        ("view", &data["recipientSummary"]),
        ("summary", counted),
        ("stream", &last["recipients"]),
    ] {
        if *found != summary {
            faults.push(format!("the {what} of {id} tells {found} and not {summary}"));
        }
    }
    if last["status"] != word {
        faults.push(format!("the stream of {id} ends with {last}, not {word}"));
    }
    if let (Some(due), Some(sent)) = (&run.due, data["sentAt"].as_str())
        && sent < due.as_str()
    {
        faults.push(format!("{id} was due at {due} and sent at {sent}"));
    }
    let told = (data["sentAt"].is_string(), word);
    faults.extend(notification_faults(server, run, told, [total, completed, failed]).await);
    faults
}

/// What is wrong with what a campaign has sent, or has not.
async fn notification_faults(
    server: &Server,
    run: &Run,
    (was_sent, word): (bool, &str),
    [total, completed, failed]: [usize; 3],
) -> Option<String> {
    let (status, body) = try_get(server, &format!("notifications/{}", run.notification), None).await;
    let data = &body["data"];
    let told = [&data["status"], &data["totalTargets"], &data["sentCount"]].map(Value::clone);
    let missed = data["failedCount"].as_u64().unwrap_or(0) + data["skippedCount"].as_u64().unwrap_or(0);
    let is_right = match was_sent {
        true => told == [json!(word), json!(total), json!(completed)] && missed == failed as u64,
        false => status == 404,
    };
    (!is_right).then(|| format!("{} of {} tells {status} {data}", run.notification, run.id))
}

async fn file_faults(server: &Server, run: &Run) -> Vec<String> {
    let Some(imported) = &run.imported else {
        return Vec::new();
    };
    let path = format!("campaigns/{}", run.id);
    let job = get(server, &format!("{path}/import-status"), None).await;
    let mut faults = import_faults(&run.id, imported, &job["data"]);
    let problems = get(server, &format!("{path}/import-errors?page=1&limit=1"), None).await;
    let told = &problems["pagination"]["total"];
    if *told != imported.counts[3] {
        faults.push(format!(
            "{told} rows of {} are told as wrong, not {}",
            run.id, imported.counts[3]
        ));
    }
    faults
}

/// What is wrong with an import: a row that was taken twice or not at all.
pub(super) fn import_faults(id: &str, expected: &Imported, job: &Value) -> Vec<String> {
    let told = ["rows", "added", "duplicate", "failed"].map(|name| job["counts"][name].as_u64().unwrap());
    // Before a file is looked through it is not known where its rows begin.
    let begins = job["nextOffset"] == 0 && expected.counts[0] == 0;
    let stands = begins || job["nextOffset"] == expected.offset;
    let is_right = told == expected.counts && job["state"] == expected.state && stands;
    let fault = || format!("the import of {id} is {job}, not {expected:?}");
    (!is_right).then(fault).into_iter().collect()
}

/// Compares what is recorded of each recipient with what has to be, and gives the item that each got.
fn rows_of(run: &Run, outcomes: &Outcomes, rows: &[Value]) -> (Vec<String>, BTreeMap<String, String>) {
    let (mut faults, mut items) = (Vec::new(), BTreeMap::new());
    let named: Vec<_> = rows.iter().map(|row| row["uid"].as_str().unwrap()).collect();
    let asked: Vec<_> = run.audience.iter().map(|member| member.uid.as_str()).collect();
    if named != asked {
        faults.push(format!("the audience of {} is {named:?} and not {asked:?}", run.id));
    }
    for (place, row) in rows.iter().enumerate() {
        let uid = row["uid"].as_str().unwrap();
        let word = if outcomes.completed.contains(uid) {
            "completed"
        } else if outcomes.failed.contains(uid) {
            "failed"
        } else {
            "cancelled"
        };
        let item = row["deliveries"][0]["feedItemId"].as_str();
        let deliveries = row["deliveries"].as_array().unwrap().len();
        let due = usize::from(word != "cancelled");
        if row["status"] != word || item.is_some() != (word == "completed") || deliveries != due {
            faults.push(format!("{} records of {uid}, who is {word}: {row}", run.id));
        }
        if row["position"] != place + 1 {
            faults.push(format!(
                "{} numbers {uid} {} and not {}",
                run.id,
                row["position"],
                place + 1
            ));
        }
        if let Some(item) = item {
            items.insert(uid.to_owned(), item.to_owned());
        }
    }
    (faults, items)
}
