//! Files that come piece by piece to be imported. What broke off is gone on with by the same key; what the pieces say is
//! not looked at here.

use bytes::Bytes;

use super::{GIVEN_RECIPIENTS, imports, start, store};
use crate::domain::{Acting, Service};
use crate::files::{Growing, Received};
use crate::model::campaign::CampaignStatus;
use crate::model::id::CampaignId;
use crate::model::import::{FILE_TIME, FileKey, Format, ImportJob, URL_TIME};
use crate::model::{Result, Timestamp};

/// What is said of a file before its first piece.
#[derive(Clone, Debug)]
pub struct Announced {
    /// The campaign that it is for.
    pub campaign: CampaignId,
    /// Its key.
    pub key: String,
    /// How it is to be read.
    pub format: Format,
    /// Its size.
    pub bytes_total: Option<u64>,
    /// Its checksum, in hexadecimal digits.
    pub sha256: Option<String>,
}

/// A file that is being received.
#[derive(Debug)]
pub struct Receiving {
    announced: Announced,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Pieces may come.
    Open(Box<Growing>),
    /// It was imported before: the answer of that was lost.
    Imported(Box<ImportJob>),
}

/// Begins to receive a file, or goes on.
///
/// # Errors
/// Campaign not found; upload not found, for a key that cannot be one of the campaign's; invalid state; unavailable.
pub async fn receive(service: &Service, acting: &Acting, announced: Announced) -> Result<Receiving> {
    let (app, db) = (acting.app()?, service.store.read());
    let campaign = store::get_campaign(db, app, announced.campaign).await?;
    let key = key_of(&announced.key, announced.campaign, acting.now)?;
    let stage = match imports::find_of_file(db, app, key).await? {
        Some(job) => Stage::Imported(Box::new(job)),
        None => {
            campaign.status.check(GIVEN_RECIPIENTS, &[CampaignStatus::Draft])?;
            if imports::has_open(db, app, announced.campaign).await? {
                return Err(super::not_over(announced.campaign));
            }
            Stage::Open(Box::new(service.files.go_on(&announced.key).await?))
        }
    };
    Ok(Receiving { announced, stage })
}

impl Receiving {
    /// Takes some bytes that begin at an offset of the file.
    ///
    /// # Errors
    /// Offset mismatch; payload too large.
    pub async fn take(&mut self, offset: u64, piece: Bytes) -> Result<()> {
        match &mut self.stage {
            Stage::Open(growing) => growing.write(offset, piece).await,
            // Whoever sends it once more is told its job.
            Stage::Imported(_) => Ok(()),
        }
    }

    /// Keeps what came, for whoever goes on with the file.
    pub async fn keep(&mut self) {
        if let Stage::Open(growing) = &mut self.stage
            && let Err(fault) = growing.keep().await
        {
            tracing::info!(cause = %fault, "the end of what came of a file is not kept");
        }
    }

    /// Stores the file for good and lets it be imported.
    ///
    /// # Errors
    /// Offset mismatch, when it is not complete; bad request, when it is another than was announced; those of [`start`].
    pub async fn finish(self, service: &Service, acting: &Acting) -> Result<ImportJob> {
        let Announced {
            campaign, key, format, ..
        } = self.announced;
        match self.stage {
            Stage::Imported(job) => Ok(*job),
            Stage::Open(growing) => {
                growing
                    .finish(self.announced.bytes_total, self.announced.sha256.as_deref())
                    .await?;
                Ok(start(service, acting, campaign, (key, format)).await?.value)
            }
        }
    }
}

/// How much of a file has come.
///
/// # Errors
/// Campaign not found; upload not found, for a key that cannot be one of the campaign's.
pub async fn received(service: &Service, acting: &Acting, id: CampaignId, key: &str) -> Result<Received> {
    store::get_campaign(service.store.read(), acting.app()?, id).await?;
    let key = key_of(key, id, acting.now)?;
    service.files.received(&key.to_string()).await
}

/// The key, if it can be one that was given out for the campaign and whose file is still kept.
fn key_of(text: &str, campaign: CampaignId, now: Timestamp) -> Result<FileKey> {
    let key: Option<FileKey> = text.parse().ok().filter(|key: &FileKey| key.campaign == campaign);
    // The clock of another process may be ahead, by less than the time that it gives for an upload.
    let kept = now.minus(FILE_TIME)..=now.plus(URL_TIME);
    let is_kept = |key: &FileKey| key.made_at().is_some_and(|made| kept.contains(&made));
    key.filter(is_kept).ok_or_else(|| FileKey::not_found(text))
}
