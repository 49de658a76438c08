//! The audience of a campaign: the file is sent, imported and looked through before anybody is sent anything.

use std::time::Duration;

use campanile::pb::v1;
use tonic::{Response, Status};
use tonic_types::StatusExt;
use v1::ImportState;
use v1::watch_campaign_preflight_response::Event;

use super::client::Client;
use super::show::{self, Screen};
use super::upload::File;
use super::{DelimiterWord, EncodingWord, Fault, Send};

/// How often is looked how far an import has come.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Rows that are told one by one when something is wrong with them.
const TOLD_MAX: i32 = 100;

/// The audience of one campaign.
pub(super) struct Audience<'a> {
    pub(super) client: &'a Client,
    pub(super) screen: &'a Screen,
    pub(super) campaign: &'a str,
}

impl Audience<'_> {
    /// Sends the file and waits until it is imported; gives the rows that were left out.
    pub(super) async fn import(&self, send: &Send, file: File, key: &str) -> Result<u64, Fault> {
        let head = v1::ImportRecipientsHead {
            campaign_id: self.campaign.to_owned(),
            s3_key: key.to_owned(),
            delimiter: send.delimiter.map(|word| delimiter(word).into()),
            encoding: Some(encoding(send.encoding).into()),
            bytes_total: Some(i64::try_from(file.bytes).unwrap_or(i64::MAX)),
            sha256: Some(file.sha256.clone()),
        };
        self.upload(&file, &head).await?;
        let job = self.wait().await?;
        let failed = self.tell(&job).await?;
        match ImportState::try_from(job.state) {
            Ok(ImportState::Completed) => Ok(failed),
            _ => {
                let why = job.failure_message.unwrap_or_else(|| "it was cancelled".to_owned());
                let word = job.failure.unwrap_or_default();
                Err(Fault::Ended(1, format!("the file was not imported: {word} {why}")))
            }
        }
    }

    /// Sends what the server does not have yet, as often as the stream breaks off and it comes on meanwhile.
    async fn upload(&self, file: &File, head: &v1::ImportRecipientsHead) -> Result<(), Fault> {
        let (mut tries, mut before) = (0, 0);
        loop {
            let request = v1::GetCampaignUploadRequest {
                campaign_id: head.campaign_id.clone(),
                s3_key: head.s3_key.clone(),
            };
            let found = self.client.call(&request, async |mut api, request| {
                api.get_campaign_upload(request).await
            });
            let found = found.await?.upload.unwrap_or_default();
            let from = u64::try_from(found.next_offset).unwrap_or_default();
            if from > before {
                (tries, before) = (0, from);
            }
            let told = self.screen.uploading(from, file.bytes);
            let (messages, trouble) = file.messages(head.clone(), from, told).await?;
            let sent = self.client.api().import_recipients(self.client.dressed(messages)).await;
            file.take(&trouble)?;
            match sent {
                Ok(_) => {
                    self.screen.over();
                    return self.screen.line(&format!("uploaded {} bytes", file.bytes));
                }
                // The server has the file to another point than it was sent from.
                Err(status) if is_refused_for(&status, "ERR_OFFSET_MISMATCH") => {
                    self.client.wait(&Status::unavailable(status.message()), tries).await?;
                }
                Err(status) => self.client.wait(&status, tries).await?,
            }
            tries += 1;
        }
    }

    async fn wait(&self) -> Result<v1::ImportJob, Fault> {
        let request = v1::GetCampaignImportStatusRequest {
            campaign_id: self.campaign.to_owned(),
        };
        loop {
            let found = self.client.call(&request, async |mut api, request| {
                api.get_campaign_import_status(request).await
            });
            let job = found.await?.job.unwrap_or_default();
            match ImportState::try_from(job.state) {
                Ok(ImportState::Completed | ImportState::Failed | ImportState::Cancelled) => return Ok(job),
                _ => self.screen.importing(&job)?,
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The rows that were left out when the file was imported, as `import` gave them then; none without an import.
    pub(super) async fn left_out(&self) -> Result<u64, Fault> {
        let request = v1::GetCampaignImportStatusRequest {
            campaign_id: self.campaign.to_owned(),
        };
        let found = self.client.call(&request, async |mut api, request| {
            match api.get_campaign_import_status(request).await {
                Err(status) if is_refused_for(&status, "ERR_IMPORT_NOT_FOUND") => {
                    Ok(Response::new(v1::GetCampaignImportStatusResponse::default()))
                }
                answer => answer,
            }
        });
        match found.await?.job {
            Some(job) => self.tell(&job).await,
            None => Ok(0),
        }
    }

    /// Tells what an import came to; gives the rows that were left out.
    async fn tell(&self, job: &v1::ImportJob) -> Result<u64, Fault> {
        self.screen.over();
        self.screen.line(&show::import(job))?;
        let failed = job.counts.unwrap_or_default().failed;
        if failed > 0 {
            self.tell_problems().await?;
        }
        Ok(u64::try_from(failed).unwrap_or_default())
    }

    async fn tell_problems(&self) -> Result<(), Fault> {
        let request = v1::ListCampaignImportErrorsRequest {
            campaign_id: self.campaign.to_owned(),
            limit: Some(TOLD_MAX),
            ..v1::ListCampaignImportErrorsRequest::default()
        };
        let listed = self.client.call(&request, async |mut api, request| {
            api.list_campaign_import_errors(request).await
        });
        let listed = listed.await?;
        for problem in &listed.errors {
            self.screen.line(&show::problem(problem))?;
        }
        let more = listed.meta.is_some_and(|meta| meta.next.is_some());
        if more {
            self.screen
                .line("  and more: GET …/import-errors.csv answers all that were kept")?;
        }
        Ok(())
    }

    /// Shows what would become of everybody; gives the plan and how many would be left out.
    pub(super) async fn preflight(&self) -> Result<(String, u64), Fault> {
        let mut tries = 0;
        let found = loop {
            match self.check().await? {
                Ok(found) => break found,
                Err(status) => self.client.wait(&status, tries).await?,
            }
            tries += 1;
        };
        self.screen.over();
        for line in show::preflight(&found) {
            self.screen.line(&line)?;
        }
        let left_out = found.total.saturating_sub(found.reachable);
        Ok((found.plan_token, u64::try_from(left_out).unwrap_or_default()))
    }

    /// Makes a preflight while its stream lasts.
    async fn check(&self) -> Result<Result<v1::PreflightCampaignResponse, Status>, Fault> {
        let request = v1::WatchCampaignPreflightRequest {
            campaign_id: self.campaign.to_owned(),
        };
        let mut events = self
            .client
            .call(&request, async |mut api, request| {
                api.watch_campaign_preflight(request).await
            })
            .await?;
        loop {
            match events.message().await {
                Ok(Some(told)) => match told.event {
                    Some(Event::Report(found)) => return Ok(Ok(found)),
                    Some(Event::Progress(progress)) => self.screen.checking(progress)?,
                    None => {}
                },
                Ok(None) => return Ok(Err(Status::unavailable("the stream ended before the preflight did"))),
                Err(status) => return Ok(Err(status)),
            }
        }
    }
}

fn is_refused_for(status: &Status, reason: &str) -> bool {
    let details = status.get_error_details();
    details.error_info().is_some_and(|info| info.reason == reason)
}

const fn delimiter(word: DelimiterWord) -> v1::CsvDelimiter {
    match word {
        DelimiterWord::Comma => v1::CsvDelimiter::Comma,
        DelimiterWord::Semicolon => v1::CsvDelimiter::Semicolon,
        DelimiterWord::Tab => v1::CsvDelimiter::Tab,
    }
}

const fn encoding(word: EncodingWord) -> v1::CsvEncoding {
    match word {
        EncodingWord::Utf8 => v1::CsvEncoding::Utf8,
        EncodingWord::Windows1252 => v1::CsvEncoding::Windows1252,
    }
}
