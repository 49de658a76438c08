//! Files that are streamed to a real server that dies or stops meanwhile: whoever sends goes on where the server stands, and
//! each row is taken once.

mod s3;

use std::time::{Duration, Instant};

use campanile::pb::v1;
use campanile::pb::v1::campaign_service_client::CampaignServiceClient;
use campanile::pb::v1::import_recipients_request::Part;
use campanile::pb::v1::{ImportState, RecipientSummary};
use futures::stream::StreamExt;
use tempfile::TempDir;
use tokio::process::Command;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::on_both;
use crate::support::database::TestDatabase;
use crate::support::rpc::{Client, Door};
use crate::support::running::{BOOTSTRAP_KEY, Running};
use crate::support::shop::card;

/// Encrypts what a server on PostgreSQL encrypts.
const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// Bytes of a chunk: the most that the contract takes.
const CHUNK: usize = 256 * 1024;
/// How long a test waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server on a database with an app, whose files are in the folder.
pub(super) async fn start(db: &TestDatabase, folder: &TempDir) -> Running {
    start_with(db, folder, &[]).await
}

/// The same with more settings.
async fn start_with(db: &TestDatabase, folder: &TempDir, more: &[(&str, &str)]) -> Running {
    let uploads = folder.path().join("uploads").display().to_string();
    let settings = [
        ("CAMPANILE_DATABASE_URL", db.url.as_str()),
        ("CAMPANILE_SECRET_KEY", SECRET),
        ("CAMPANILE_UPLOADS_FOLDER", &uploads),
        ("CAMPANILE_BOOTSTRAP_APP", "shop"),
        ("CAMPANILE_BOOTSTRAP_KEY", BOOTSTRAP_KEY),
        ("CAMPANILE_RATE_LIMIT", "0"),
        ("CAMPANILE_RATE_LIMIT_CORE", "0"),
        ("CAMPANILE_LEASE_SECONDS", "2"),
    ];
    Running::start(folder.path(), &[&settings, more].concat()).await
}

/// A channel, and the approved template `order`, which needs a `code`.
pub(super) async fn furnish(server: &Running) {
    let client = Client::new(Door::Grpc, &server.url);
    let caller = [("apikey", BOOTSTRAP_KEY)];
    let bell = serde_json::json!({"channel": {"type": "in_app", "name": "Bell", "channelId": "bell", "enabled": true}});
    client.call("CreateChannel", &caller, &bell).await.data();
    let order = serde_json::json!({"template": {
        "templateId": "order",
        "name": "Order",
        "status": "approved",
        "channels": [{"channelType": "in_app", "content": card("Your code is {{code}}.")}],
        "variableSchema": [{"key": "code", "required": true}],
    }});
    client.call("CreateTemplate", &caller, &order).await.data();
}

/// A client of one server.
struct Caller(CampaignServiceClient<Channel>);

fn dressed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("apikey", BOOTSTRAP_KEY.parse().unwrap());
    request
}

fn message(part: Part) -> v1::ImportRecipientsRequest {
    v1::ImportRecipientsRequest { part: Some(part) }
}

impl Caller {
    async fn of(server: &Running) -> Self {
        let endpoint = Endpoint::from_shared(server.url.clone()).unwrap();
        Self(CampaignServiceClient::new(endpoint.connect().await.unwrap()))
    }

    /// A draft, and the key of its file.
    async fn draft(&mut self) -> v1::ImportRecipientsHead {
        let campaign = v1::Campaign {
            name: "Sale".to_owned(),
            template_id: "order".to_owned(),
            ..v1::Campaign::default()
        };
        let request = v1::CreateCampaignRequest {
            campaign: Some(campaign),
        };
        let made = self.0.create_campaign(dressed(request)).await.unwrap().into_inner();
        let campaign_id = made.campaign.unwrap().id;
        let request = v1::CreateCampaignUploadUrlRequest {
            campaign_id: campaign_id.clone(),
        };
        let given = self
            .0
            .create_campaign_upload_url(dressed(request))
            .await
            .unwrap()
            .into_inner();
        v1::ImportRecipientsHead {
            campaign_id,
            s3_key: given.s3_key,
            ..v1::ImportRecipientsHead::default()
        }
    }

    /// Sends a file from one point to another, and beyond that nothing, not even an end, unless it is its end.
    async fn send(
        &mut self,
        head: &v1::ImportRecipientsHead,
        file: &[u8],
        from: usize,
        to: usize,
    ) -> Result<(), Status> {
        let pieces = file[from..to].chunks(CHUNK).enumerate();
        let chunk = |(at, piece): (usize, &[u8])| v1::ImportRecipientsChunk {
            offset: i64::try_from(from + at * CHUNK).unwrap(),
            data: piece.to_vec(),
        };
        let chunks: Vec<_> = pieces.map(|piece| message(Part::Chunk(chunk(piece)))).collect();
        let first = futures::stream::iter([message(Part::Head(head.clone()))]);
        let sent = first.chain(futures::stream::iter(chunks));
        let answer = if to < file.len() {
            self.0
                .import_recipients(dressed(sent.chain(futures::stream::pending())))
                .await
        } else {
            self.0.import_recipients(dressed(sent)).await
        };
        answer.map(drop)
    }

    async fn stored(&mut self, head: &v1::ImportRecipientsHead) -> usize {
        let request = v1::GetCampaignUploadRequest {
            campaign_id: head.campaign_id.clone(),
            s3_key: head.s3_key.clone(),
        };
        let found = self.0.get_campaign_upload(dressed(request)).await.unwrap().into_inner();
        usize::try_from(found.upload.unwrap().next_offset).unwrap()
    }

    async fn job(&mut self, head: &v1::ImportRecipientsHead) -> v1::ImportJob {
        let request = v1::GetCampaignImportStatusRequest {
            campaign_id: head.campaign_id.clone(),
        };
        let found = self.0.get_campaign_import_status(dressed(request)).await.unwrap();
        found.into_inner().job.unwrap()
    }

    /// Waits until the import is over.
    async fn imported(&mut self, head: &v1::ImportRecipientsHead) -> v1::ImportJob {
        let began = Instant::now();
        loop {
            let job = self.job(head).await;
            if job.state() != ImportState::Queued && job.state() != ImportState::Running {
                return job;
            }
            assert!(began.elapsed() < PATIENCE, "{job:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the import is over, and finds every row of its file taken once.
    async fn imports_each_row(&mut self, head: &v1::ImportRecipientsHead, rows: usize) {
        let job = self.imported(head).await;
        assert_eq!(job.state(), ImportState::Completed, "{job:#?}");
        let counts = job.counts.unwrap();
        let rows = i32::try_from(rows).unwrap();
        assert_eq!(
            (counts.rows, counts.added, counts.duplicate, counts.failed),
            (rows, rows, 0, 0)
        );
        assert_eq!(self.summary(head).await.total, rows);
    }

    async fn summary(&mut self, head: &v1::ImportRecipientsHead) -> RecipientSummary {
        let request = v1::GetCampaignRecipientSummaryRequest {
            campaign_id: head.campaign_id.clone(),
        };
        let found = self.0.get_campaign_recipient_summary(dressed(request)).await.unwrap();
        found.into_inner().summary.unwrap()
    }
}

/// A file of some megabytes with so many users.
fn table(rows: usize) -> Vec<u8> {
    let filling = "x".repeat(1_000);
    let rows = (0..rows).map(|number| format!("user-{number:05},{number},{filling}\r\n"));
    format!("user_id,code,note\r\n{}", rows.collect::<String>()).into_bytes()
}

async fn kill(mut server: Running) {
    let pid = server.child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-KILL", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    server.child.wait().await.unwrap();
}

on_both! {
    async fn a_file_whose_server_is_killed_meanwhile_is_gone_on_with(db) {
        const ROWS: usize = 4_000;
        let folder = TempDir::new().unwrap();
        let file = table(ROWS);
        let mut server = start(&db, &folder).await;
        furnish(&server).await;
        let mut caller = Caller::of(&server).await;
        let mut head = caller.draft().await;
        head.bytes_total = Some(i64::try_from(file.len()).unwrap());
        let mut stored = 0;
        for to in [1_500_000, 3_300_000] {
            {
                let sent = caller.send(&head, &file, stored, to);
                tokio::pin!(sent);
                let mut other = Caller::of(&server).await;
                let began = Instant::now();
                // The server is killed once it has stored something more, and while it waits for the rest.
                while other.stored(&head).await <= stored {
                    assert!(began.elapsed() < PATIENCE);
                    tokio::select! {
                        ended = &mut sent => unreachable!("the stream has no end: {ended:?}"),
                        () = tokio::time::sleep(Duration::from_millis(20)) => {}
                    }
                }
                kill(server).await;
                assert!(sent.await.is_err(), "the server is gone");
            }
            server = start(&db, &folder).await;
            caller = Caller::of(&server).await;
            let now = caller.stored(&head).await;
            assert!(now > stored && now <= to, "{stored} → {now}, sent to {to}");
            stored = now;
        }
        // Whoever sends from elsewhere is told where to go on.
        let refused = caller.send(&head, &file, 0, file.len()).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
        let told = refused.get_error_details().error_info().unwrap().metadata["nextOffset"].clone();
        assert_eq!(told, stored.to_string());
        caller.send(&head, &file, stored, file.len()).await.unwrap();
        // It is killed once more while it imports, or just before.
        kill(server).await;
        server = start(&db, &folder).await;
        caller = Caller::of(&server).await;
        caller.imports_each_row(&head, ROWS).await;
        server.signal().await;
        assert_eq!(server.exit().await.0, Some(0));
    }

    async fn a_stop_does_not_wait_for_files_and_keeps_what_came(db) {
        let folder = TempDir::new().unwrap();
        let file = table(3_000);
        let server = start(&db, &folder).await;
        furnish(&server).await;
        let mut caller = Caller::of(&server).await;
        let head = caller.draft().await;
        let sent = caller.send(&head, &file, 0, 1_500_000);
        tokio::pin!(sent);
        let waits = tokio::time::timeout(Duration::from_millis(1_500), &mut sent).await;
        assert!(waits.is_err(), "the stream has no end");
        let began = Instant::now();
        server.signal().await;
        let cut = sent.await.unwrap_err();
        assert_eq!(cut.code(), Code::Unavailable, "{cut:?}");
        let (code, log) = server.exit().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(began.elapsed() < Duration::from_secs(10));
        let server = start(&db, &folder).await;
        let mut caller = Caller::of(&server).await;
        assert_eq!(caller.stored(&head).await, 1_500_000, "to the last byte, unlike behind a kill");
        caller.send(&head, &file, 1_500_000, file.len()).await.unwrap();
        let job = caller.imported(&head).await;
        assert_eq!((job.state(), job.counts.unwrap().added), (ImportState::Completed, 3_000));
    }
}
