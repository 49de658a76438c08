//! Campaigns in a state of their own, through a server that stands.

use std::time::Duration;

use campanile::model::Clock;
use serde_json::{Value, json};

use super::file::File;
use super::journal::{Journal, Outcomes, Run};
use super::load::Client;
use crate::crash::server::Server;

/// Campaigns that are due at the same moment, a little later.
pub(super) async fn scheduled(server: &Server, count: usize) -> Journal {
    let mut client = Client::of(server);
    let at = Clock::default().now().plus(Duration::from_secs(3)).to_string();
    for _ in 0..count {
        let mut run = client.draft(json!({})).await;
        client.add(&mut run).await;
        client.schedule_at(&mut run, &at).await.unwrap();
        client.journal.runs.push(run);
    }
    client.journal
}

/// A campaign whose import has begun.
pub(super) struct Importing {
    client: Client,
    run: Run,
    file: File,
}

/// Lets a file of several batches be imported.
pub(super) async fn importing(server: &Server) -> Importing {
    let mut client = Client::of(server);
    let mut run = client.draft(json!({})).await;
    client.add(&mut run).await;
    let file = File::right(80);
    client.begin_import(&run, &file).await;
    Importing { client, run, file }
}

impl Importing {
    /// How many rows are taken by now.
    pub(super) async fn rows(&self) -> Value {
        let job = self
            .client
            .get(&format!("campaigns/{}/import-status", self.run.id))
            .await;
        job["data"]["counts"]["rows"].clone()
    }

    /// Waits until the file is imported, and sends the campaign to its end.
    pub(super) async fn finish(mut self) -> Journal {
        let rows = self.file.rows.len();
        self.client
            .end_import(&mut self.run, &self.file, (rows, "completed"))
            .await;
        self.client.post(&self.run, "send", Some(json!({}))).await.unwrap();
        self.client.watch(&self.run).await;
        self.client.journal.runs.push(self.run);
        self.client.journal
    }
}

/// A campaign that is being sent.
pub(super) struct Sending {
    client: Client,
    run: Run,
    /// What had become of its recipients when it was held.
    held: Outcomes,
}

/// Sends a campaign of several pages.
pub(super) async fn sending(server: &Server) -> Sending {
    let mut client = Client::of(server);
    let mut run = client.draft(json!({})).await;
    client.add(&mut run).await;
    client.post(&run, "send", Some(json!({}))).await.unwrap();
    let held = Outcomes::default();
    Sending { client, run, held }
}

impl Sending {
    /// Holds it, and compares the answer with what is recorded.
    pub(super) async fn pause(&mut self) {
        let view = self.client.post(&self.run, "pause", None).await.unwrap();
        self.held = self.client.outcomes(&self.run).await;
        self.client.compare(&self.run, &view, &self.held);
    }

    /// Whether more of its recipients were dealt with than when it was held.
    pub(super) async fn is_changed(&self) -> bool {
        self.client.outcomes(&self.run).await != self.held
    }

    /// Looks at it for the last time while it is held, and lets it go on.
    pub(super) async fn resume(&mut self) {
        let now = self.client.outcomes(&self.run).await;
        self.client.unchanged(&self.run, &self.held, &now);
        self.client.post(&self.run, "resume", None).await.unwrap();
    }

    /// Watches it to its end.
    pub(super) async fn finish(mut self) -> Journal {
        self.client.watch(&self.run).await;
        self.client.journal.runs.push(self.run);
        self.client.journal
    }
}
