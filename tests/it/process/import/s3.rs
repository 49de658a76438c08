//! Files in a bucket, and a real server that dies while it reads them.

use std::time::{Duration, Instant};

use campanile::pb::v1;
use campanile::pb::v1::ImportState;
use serde_json::json;
use tempfile::TempDir;
use tonic::Status;

use super::{Caller, PATIENCE, dressed, furnish, kill, start_with, table};
use crate::on_both;
use crate::support::depot::{Depot, Mood, SECRET};
use crate::support::rpc::{Client, Door};
use crate::support::running::BOOTSTRAP_KEY;

impl Caller {
    /// A draft with a file that was sent to the store, and the job that reads it.
    async fn begin(&mut self, file: Vec<u8>) -> Result<v1::ImportRecipientsHead, Status> {
        let head = self.draft().await;
        let request = v1::CreateCampaignUploadUrlRequest {
            campaign_id: head.campaign_id.clone(),
        };
        let given = self.0.create_campaign_upload_url(dressed(request)).await?.into_inner();
        let sent = reqwest::Client::new().put(&given.url).body(file).send().await.unwrap();
        assert_eq!(sent.status(), 200);
        let request = v1::ImportCampaignCsvRequest {
            campaign_id: head.campaign_id.clone(),
            s3_key: given.s3_key.clone(),
            ..v1::ImportCampaignCsvRequest::default()
        };
        self.0.import_campaign_csv(dressed(request)).await?;
        let s3_key = given.s3_key;
        Ok(v1::ImportRecipientsHead { s3_key, ..head })
    }
}

on_both! {
    async fn a_file_in_a_bucket_whose_server_is_killed_meanwhile_is_gone_on_with(db) {
        const ROWS: usize = 6_000;
        let folder = TempDir::new().unwrap();
        let depot = Depot::start().await;
        let mut settings = depot.environment();
        settings.extend([("CAMPANILE_IMPORT_ROWS", "20"), ("CAMPANILE_LOG", "debug")]);
        let mut server = start_with(&db, &folder, &settings).await;
        furnish(&server).await;
        let mut caller = Caller::of(&server).await;
        let head = caller.begin(table(ROWS)).await.unwrap();
        let (mut offset, mut log) = (0, String::new());
        for _ in 0..2 {
            let (began, before) = (Instant::now(), offset);
            loop {
                let job = caller.job(&head).await;
                assert_ne!(job.state(), ImportState::Completed, "it came to its end before it was killed");
                offset = job.next_offset;
                if offset > before + 200_000 {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "{job:#?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            log.push_str(&server.said());
            kill(server).await;
            depot.seen();
            server = start_with(&db, &folder, &settings).await;
            caller = Caller::of(&server).await;
        }
        caller.imports_each_row(&head, ROWS).await;
        let from = depot.seen().into_iter().filter_map(|seen| seen.range).map(|(from, _)| from);
        let from: Vec<_> = from.collect();
        // The last server compared the whole file and looked at its head, and then it began no further back than where the one
        // before was seen.
        let (least, rows) = (u64::try_from(offset).unwrap() - 1, from.rsplit(|from| *from == 0).next().unwrap());
        assert!(!rows.is_empty() && rows.iter().all(|from| *from >= least), "{offset}: {from:?}");

        // A store that is away when a server starts is no reason not to.
        server.signal().await;
        let (code, said) = server.exit().await;
        assert_eq!(code, Some(0));
        log.push_str(&said);
        depot.set(Mood::Away);
        let server = start_with(&db, &folder, &settings).await;
        let mut caller = Caller::of(&server).await;
        let request = v1::CreateCampaignUploadUrlRequest { campaign_id: caller.draft().await.campaign_id };
        let given = caller.0.create_campaign_upload_url(dressed(request)).await.unwrap().into_inner();
        let request = json!({"campaignId": given.s3_key.split('/').next(), "s3Key": given.s3_key});
        let client = Client::new(Door::Grpc, &server.url);
        let refused = client.call("ImportCampaignCsv", &[("apikey", BOOTSTRAP_KEY)], &request).await;
        assert_eq!((refused.status, refused.code()), (503, "ERR_UNAVAILABLE"), "{refused:#?}");
        // Whoever sweeps meets it as well, and says so.
        let began = Instant::now();
        while !server.said().contains("the store of uploaded files is away") {
            assert!(began.elapsed() < PATIENCE, "{}", server.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server.signal().await;
        let (code, said) = server.exit().await;
        assert_eq!(code, Some(0));
        log.push_str(&said);
        assert!(!log.contains(SECRET), "the log holds the secret");
        assert!(!log.contains("X-Amz-Signature"), "the log holds a signed URL");
    }
}
