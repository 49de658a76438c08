//! Clients that run campaigns from the draft to the last recipient: every call under a key of its own, repeated until it is
//! answered, whatever process answers; and a journal of what has to come of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use campanile::model::Clock;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::file::{File, Member};
use super::journal::{End, Imported, Journal, Outcomes, Run};
use crate::crash::load::{Caller, Shared, events};
use crate::crash::server::{KEY, Server, chance};
use crate::support::shop::card;

/// Users that audiences are made of.
pub(super) const USERS: u64 = 60;
/// How long a call may take.
const CALL_MAX: Duration = Duration::from_secs(20);
/// How often a campaign is scheduled that is refused because its time has passed by then.
const SCHEDULED_MAX: u32 = 100;

/// Makes what campaigns need.
pub(super) async fn shop(server: &Server) {
    crate::crash::load::shop(server).await;
    let template = json!({
        "templateId": "coded",
        "name": "coded",
        "status": "approved",
        "channels": [{"channelType": "in_app", "content": card("Your code is {{code}}")}],
        "variableSchema": [{"key": "code", "required": true}],
    });
    let call = server.http.post(format!("{}/v3/campaigns/templates", server.url));
    let answer = call.header("apikey", KEY).json(&template).send().await.unwrap();
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
}

/// What a campaign goes through.
#[derive(Clone, Copy, Debug)]
enum Plot {
    /// It is looked through, sent and watched.
    Send,
    /// It is scheduled a moment ahead, perhaps anew, and watched.
    Schedule,
    /// It is held in the middle for a while.
    Hold,
    /// It is cancelled in the middle.
    Cancel,
    /// Its import is cancelled in the middle; it is sent to whom that had added.
    CutImport,
    /// It is cancelled, or deleted, before it is sent; a clone of it is sent to others.
    Clone,
}

const PLOTS: [Plot; 6] = [
    Plot::Send,
    Plot::Hold,
    Plot::Schedule,
    Plot::Cancel,
    Plot::CutImport,
    Plot::Clone,
];

const PLOTS_WITHOUT_FILES: [Plot; 3] = [Plot::Hold, Plot::Cancel, Plot::Clone];

/// Clients that go on running campaigns.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Journal>,
}

impl Load {
    pub(super) fn start(server: &Server, clients: u32) -> Self {
        Self::of(server, clients, &PLOTS)
    }

    /// The same for builds that know of campaigns and not of imports.
    pub(super) fn start_without_files(server: &Server, clients: u32) -> Self {
        Self::of(server, clients, &PLOTS_WITHOUT_FILES)
    }

    fn of(server: &Server, clients: u32, plots: &'static [Plot]) -> Self {
        let shared = Arc::new(Shared::new(server));
        let mut running = JoinSet::new();
        for number in 0..clients {
            let client = Client {
                has_files: plots.len() == PLOTS.len(),
                ..Client::new(number, Arc::clone(&shared))
            };
            running.spawn(client.go_on(plots));
        }
        Self {
            shared,
            clients: running,
        }
    }

    /// Calls another process from now on.
    pub(super) fn moved(&self, server: &Server) {
        self.shared.moved(server);
    }

    /// Lets every client finish the campaign that it is at, and gives what was acknowledged.
    pub(super) async fn end(self) -> Journal {
        self.shared.end();
        let mut journal = Journal::default();
        for one in self.clients.join_all().await {
            journal.extend(one);
        }
        journal
    }
}

/// One client of a load.
pub(super) struct Client {
    caller: Caller,
    turn: usize,
    has_files: bool,
    pub(super) journal: Journal,
}

impl Client {
    /// A client of a server that stands.
    pub(super) fn of(server: &Server) -> Self {
        Self::new(0, Arc::new(Shared::new(server)))
    }

    fn new(number: u32, shared: Arc<Shared>) -> Self {
        Self {
            caller: Caller::new(number, shared),
            turn: usize::try_from(number).unwrap(),
            has_files: true,
            journal: Journal::default(),
        }
    }

    async fn go_on(mut self, plots: &[Plot]) -> Journal {
        // Every client begins with another plot, so that a few of them play all at once.
        loop {
            self.play(plots[self.turn % plots.len()]).await;
            self.turn += 1;
            if self.caller.is_over() {
                return self.journal;
            }
        }
    }

    async fn play(&mut self, plot: Plot) {
        let run = match plot {
            Plot::Send => self.send_at_once().await,
            Plot::Schedule => self.send_later().await,
            Plot::Hold => self.hold().await,
            Plot::Cancel => self.cancel().await,
            Plot::CutImport => self.cut_import().await,
            Plot::Clone => self.copy().await,
        };
        self.journal.runs.push(run);
    }

    async fn send_at_once(&mut self) -> Run {
        let mut run = self.draft(json!({})).await;
        self.add(&mut run).await;
        self.import(&mut run, false).await;
        let plan = self.post(&run, "preflight", None).await.unwrap();
        let reachable = run.outcomes().completed.len();
        if plan["total"] != run.audience.len() || plan["reachable"] != reachable {
            self.journal.seen.push(format!(
                "a preflight of {} told of {} and {} and not of {} and {reachable}",
                run.id,
                plan["total"],
                plan["reachable"],
                run.audience.len()
            ));
        }
        self.post(&run, "send", Some(json!({"planToken": plan["planToken"]})))
            .await
            .unwrap();
        self.watch(&run).await;
        run
    }

    async fn send_later(&mut self) -> Run {
        let mut run = self.draft(json!({})).await;
        self.add(&mut run).await;
        self.schedule(&mut run, 500 + chance(1_000)).await;
        // It may have been started meanwhile; then there is nothing to take back.
        if chance(3) == 0 && self.try_post(&run, "unschedule").await {
            run.due = None;
            self.import(&mut run, false).await;
            self.schedule(&mut run, 300 + chance(500)).await;
        }
        self.watch(&run).await;
        run
    }

    async fn hold(&mut self) -> Run {
        let mut run = self.draft(json!({"ratePerSecond": 40})).await;
        self.add(&mut run).await;
        self.import(&mut run, false).await;
        self.post(&run, "send", Some(json!({}))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(chance(500))).await;
        if let Ok(view) = self.post(&run, "pause", None).await {
            let first = self.outcomes(&run).await;
            self.compare(&run, &view, &first);
            tokio::time::sleep(Duration::from_millis(200 + chance(500))).await;
            let second = self.outcomes(&run).await;
            self.unchanged(&run, &first, &second);
            self.post(&run, "resume", None).await.unwrap();
        }
        self.watch(&run).await;
        run
    }

    async fn cancel(&mut self) -> Run {
        let mut run = self.draft(json!({"ratePerSecond": 40})).await;
        self.add(&mut run).await;
        self.import(&mut run, false).await;
        self.post(&run, "send", Some(json!({}))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(chance(800))).await;
        match self.post(&run, "cancel", None).await {
            Ok(view) => {
                let outcomes = self.outcomes(&run).await;
                self.compare(&run, &view, &outcomes);
                run.end = End::Cancelled(outcomes);
            }
            Err(_) => self.watch(&run).await,
        }
        run
    }

    async fn cut_import(&mut self) -> Run {
        let mut run = self.draft(json!({})).await;
        self.add(&mut run).await;
        self.import(&mut run, true).await;
        self.post(&run, "send", Some(json!({}))).await.unwrap();
        self.watch(&run).await;
        run
    }

    async fn copy(&mut self) -> Run {
        let mut source = self.draft(json!({})).await;
        self.add(&mut source).await;
        let body = Some(json!({"name": "Copy"}));
        let view = self.post(&source, "clone", body).await.unwrap();
        let mut run = Run::of(&view, source.is_coded);
        self.add(&mut run).await;
        if chance(2) == 0 {
            let http = &self.caller.http;
            let path = format!("v3/campaigns/campaigns/{}", source.id);
            let (status, _) = self
                .caller
                .call(|url| http.delete(format!("{url}/{path}")).header("apikey", KEY))
                .await;
            // A call that was made and not answered is answered the second time with that there is nothing any more.
            assert!(matches!(status, 200 | 404), "{status}");
            source.end = End::Deleted;
        } else {
            self.schedule(&mut source, 60_000).await;
            self.post(&source, "cancel", None).await.unwrap();
            source.end = End::Cancelled(Outcomes::default());
        }
        self.journal.runs.push(source);
        self.post(&run, "send", Some(json!({}))).await.unwrap();
        self.watch(&run).await;
        run
    }

    /// Makes a draft with what differs from a plain one.
    pub(super) async fn draft(&self, differs: Value) -> Run {
        let is_coded = chance(2) == 0;
        let mut campaign = json!({"name": "Sale", "templateId": if is_coded { "coded" } else { "lasting" }});
        let fields = campaign.as_object_mut().unwrap();
        fields.extend(differs.as_object().unwrap().clone());
        let view = self.post_to("campaigns", Some(campaign)).await.unwrap();
        Run::of(&view, is_coded)
    }

    /// Adds users by name, some of them twice.
    pub(super) async fn add(&mut self, run: &mut Run) {
        let named: Vec<_> = (0..12 + chance(10)).map(|_| Member::any()).collect();
        let uids: Vec<_> = named.iter().map(|member| member.uid.clone()).collect();
        let codes: BTreeMap<_, _> = named
            .iter()
            .map(|member| (member.uid.clone(), member.has_code))
            .collect();
        let variables: BTreeMap<_, _> = codes
            .iter()
            .filter(|(_, has_code)| **has_code)
            .map(|(uid, _)| (uid, json!({"code": "1"})))
            .collect();
        let (before, mut duplicates) = (run.audience.len(), 0);
        for uid in &uids {
            if run.has(uid) {
                duplicates += 1;
            } else {
                let (uid, has_code) = (uid.clone(), codes[uid]);
                run.audience.push(Member { uid, has_code });
            }
        }
        let total = run.audience.len();
        let body = json!({"userIds": uids, "userVariables": variables});
        let answer = self.post(run, "recipients", Some(body)).await.unwrap();
        let expected = json!({
            "added": total - before, "duplicateCount": duplicates, "unknownCount": 0, "total": total,
        });
        if answer != expected {
            let told = format!("{} was given {expected} and answered {answer}", run.id);
            self.journal.seen.push(told);
        }
    }

    /// Uploads a file and imports it, to its end or until that is cancelled.
    async fn import(&mut self, run: &mut Run, is_cut: bool) {
        if !self.has_files {
            return;
        }
        let file = File::any(if is_cut { 120 } else { 35 });
        self.begin_import(run, &file).await;
        let (mut state, mut rows) = ("completed", file.rows.len());
        if is_cut {
            tokio::time::sleep(Duration::from_millis(chance(400))).await;
            // It may have come to its end meanwhile.
            if let Ok(job) = self.post(run, "import-cancel", None).await {
                rows = usize::try_from(job["counts"]["rows"].as_u64().unwrap()).unwrap();
                state = "cancelled";
            }
        }
        self.end_import(run, &file, (rows, state)).await;
    }

    /// Waits until an import is over that took so many rows, and compares it with the file.
    pub(super) async fn end_import(&mut self, run: &mut Run, file: &File, (rows, state): (usize, &'static str)) {
        let job = self.wait_for_import(run).await;
        let counts = file.take(rows, &mut run.audience);
        let (files, cut) = if state == "completed" { (1, 0) } else { (0, 1) };
        self.journal.files += files;
        self.journal.cut_files += cut;
        let imported = Imported {
            state,
            offset: file.offset(rows),
            counts,
        };
        self.journal
            .seen
            .extend(super::check::import_faults(&run.id, &imported, &job));
        run.imported = Some(imported);
    }

    pub(super) async fn begin_import(&self, run: &Run, file: &File) {
        let given = self.post(run, "recipients/upload-url", None).await.unwrap();
        // The process that gave the URL may be gone, and its address with it.
        let (_, path) = given["url"].as_str().unwrap().split_once("/v3/").unwrap();
        let http = &self.caller.http;
        let put = |url: &str| {
            let call = http.put(format!("{url}/v3/{path}")).timeout(CALL_MAX);
            call.body(file.text())
        };
        let (status, body) = self.caller.call(put).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let body = json!({"s3Key": given["s3Key"]});
        self.post(run, "import-csv", Some(body)).await.unwrap();
    }

    async fn wait_for_import(&self, run: &Run) -> Value {
        loop {
            let job = self.get(&format!("campaigns/{}/import-status", run.id)).await;
            if job["data"]["state"] != "queued" && job["data"]["state"] != "running" {
                return job["data"].clone();
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Schedules a campaign so many milliseconds ahead. By the time the call comes through that may have passed by.
    async fn schedule(&self, run: &mut Run, ahead: u64) {
        for _ in 0..SCHEDULED_MAX {
            let at = Clock::default().now().plus(Duration::from_millis(ahead)).to_string();
            match self.schedule_at(run, &at).await {
                Ok(()) => return,
                Err(refusal) => assert_eq!(refusal, "400 ERR_BAD_REQUEST"),
            }
        }
        unreachable!("{} could not be scheduled", run.id);
    }

    pub(super) async fn schedule_at(&self, run: &mut Run, at: &str) -> Result<(), String> {
        let view = self.post(run, "schedule", Some(json!({"scheduledAt": at}))).await?;
        run.due = Some(view["scheduledAt"].as_str().unwrap().to_owned());
        Ok(())
    }

    /// Who was reached and who failed by now.
    pub(super) async fn outcomes(&self, run: &Run) -> Outcomes {
        let (mut outcomes, mut cursor) = (Outcomes::default(), String::new());
        loop {
            let path = format!("campaigns/{}/recipients?limit=100{cursor}", run.id);
            let page = self.get(&path).await;
            for row in page["data"].as_array().unwrap() {
                let uid = row["uid"].as_str().unwrap().to_owned();
                match row["status"].as_str().unwrap() {
                    "completed" => outcomes.completed.insert(uid),
                    "failed" => outcomes.failed.insert(uid),
                    _ => false,
                };
            }
            let Some(next) = page["meta"]["next"].as_object() else {
                return outcomes;
            };
            cursor = crate::crash::check::cursor(next);
        }
    }

    /// Compares what was recorded of the recipients of a campaign that was held all the while.
    pub(super) fn unchanged(&mut self, run: &Run, first: &Outcomes, second: &Outcomes) {
        if first != second {
            let told = format!("{} went on while it was held: {first:?}, {second:?}", run.id);
            self.journal.seen.push(told);
        }
        self.journal.held += 1;
    }

    /// Compares what a call was answered with and what is recorded of the recipients.
    pub(super) fn compare(&mut self, run: &Run, view: &Value, found: &Outcomes) {
        let told = ["completed", "failed"].map(|name| view["recipientSummary"][name].as_u64().unwrap());
        let found = [found.completed.len() as u64, found.failed.len() as u64];
        if told != found {
            let fault = format!("{} told of {told:?} when it was held, and records {found:?}", run.id);
            self.journal.seen.push(fault);
        }
    }

    /// Watches a campaign to its end, through however many processes.
    pub(super) async fn watch(&mut self, run: &Run) {
        let mut settled = 0;
        loop {
            let url = format!("{}/v3/campaigns/campaigns/{}/progress", self.caller.url(), run.id);
            for event in events(self.caller.http.get(url).header("apikey", KEY)).await {
                let count = |name: &str| event["recipients"][name].as_u64().unwrap();
                let sum = count("completed") + count("failed") + count("cancelled");
                if sum < settled {
                    let fault = format!("{} went back from {settled} to {sum}", run.id);
                    self.journal.seen.push(fault);
                }
                settled = sum;
                let status = event["status"].as_str().unwrap();
                if !matches!(status, "draft" | "scheduled" | "sending" | "paused") {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let http = &self.caller.http;
        let call = |url: &str| {
            let call = http.get(format!("{url}/v3/campaigns/{path}"));
            call.header("apikey", KEY).timeout(CALL_MAX)
        };
        let (status, body) = self.caller.call(call).await;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    async fn try_post(&self, run: &Run, verb: &str) -> bool {
        self.post(run, verb, None).await.is_ok()
    }

    pub(super) async fn post(&self, run: &Run, verb: &str, body: Option<Value>) -> Result<Value, String> {
        self.post_to(&format!("campaigns/{}/{verb}", run.id), body).await
    }

    /// Calls under a key of its own until there is an answer, and gives its data, or status and code of a refusal.
    async fn post_to(&self, path: &str, body: Option<Value>) -> Result<Value, String> {
        let (key, http) = (self.caller.key(), &self.caller.http);
        let call = |url: &str| {
            let call = http.post(format!("{url}/v3/campaigns/{path}")).timeout(CALL_MAX);
            let call = call.header("apikey", KEY).header("idempotency-key", &key);
            match &body {
                Some(body) => call.json(body),
                None => call,
            }
        };
        let (status, body) = self.caller.call(call).await;
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        if status < 300 {
            return Ok(answer["data"].take());
        }
        let code = answer["error"]["code"].as_str().unwrap();
        // Beside a time that has passed a call is refused here only because a campaign or import was faster.
        assert!(
            matches!(code, "ERR_BAD_REQUEST" | "ERR_INVALID_STATE"),
            "{path}: {answer}"
        );
        Err(format!("{status} {code}"))
    }
}
