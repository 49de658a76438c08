//! Imports as their callers see them: a URL to upload a file to, the job that reads it, what was wrong with its rows. How a
//! file becomes recipients is in [`work`].

mod receive;
mod source;
mod work;

pub use receive::{Announced, Receiving, receive, received};
pub use work::{Importing, Step, advance, claim, fail, give_back};

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::store;
use crate::domain::{Acting, Service, Written, file_too_large};
use crate::files::Draft;
use crate::model::campaign::CampaignStatus;
use crate::model::id::{AppId, CampaignId, ImportId};
use crate::model::import::{
    FILE_TIME, FileKey, Format, ImportCounts, ImportJob, ImportState, Problem, ProblemSort, URL_TIME, UploadGrant,
    UploadUrl,
};
use crate::model::page::{Page, PageRequest};
use crate::model::{Error, Reason, Result, Timestamp};
use crate::store::import as imports;

/// What the signatures of upload URLs are good for.
const PURPOSE: &str = "uploads";

/// What completes "a campaign that is … cannot be …".
const GIVEN_RECIPIENTS: &str = "given recipients";

/// Gives a URL that a file can be uploaded to for a draft: one of the store that files are in, or the token in one of ours.
///
/// # Errors
/// Campaign not found; invalid state.
pub async fn upload_url(service: &Service, acting: &Acting, id: CampaignId) -> Result<Written<UploadUrl>> {
    let (app, now) = (acting.app()?, acting.now);
    let signer = std::sync::Arc::new(service.settings.store.secret.signer(PURPOSE));
    let (bytes_max, key) = (service.files.bytes_max(), FileKey::new(id, now));
    let elsewhere = service.files.signed_url(&key.to_string(), URL_TIME).await?;
    service
        .write(acting, move |tx| {
            let (signer, elsewhere) = (std::sync::Arc::clone(&signer), elsewhere.clone());
            Box::pin(async move {
                let campaign = store::get_campaign(tx, app, id).await?;
                campaign.status.check(GIVEN_RECIPIENTS, &[CampaignStatus::Draft])?;
                let expires_at = now.plus(URL_TIME);
                let own = || {
                    let mut token = UploadGrant { app, key, expires_at }.to_bytes();
                    let signature = signer.sign(&token);
                    token.extend(signature);
                    URL_SAFE_NO_PAD.encode(token)
                };
                Ok(UploadUrl {
                    is_whole: elsewhere.is_some(),
                    url: elsewhere.unwrap_or_else(own),
                    key: key.to_string(),
                    bytes_max,
                    expires_at,
                })
            })
        })
        .await
}

/// Begins the file that a token lets be uploaded, and gives its key.
///
/// # Errors
/// Unauthorized, when the token is not good or not good any more; conflict, when the file was imported already; campaign not
/// found; invalid state; unavailable.
pub async fn begin_upload(service: &Service, token: &str, now: Timestamp) -> Result<(FileKey, Draft)> {
    let refused = || {
        let problem =
            "the upload URL is not one of ours, or was good only until a time that has passed: ask for another";
        Error::new(Reason::Unauthorized, problem)
    };
    let bytes = URL_SAFE_NO_PAD.decode(token).ok().ok_or_else(refused)?;
    let (grant, signature) = bytes.split_at_checked(UploadGrant::BYTES).ok_or_else(refused)?;
    if !service
        .settings
        .store
        .secret
        .signer(PURPOSE)
        .is_signed(grant, signature)
    {
        return Err(refused());
    }
    let grant = UploadGrant::of_bytes(grant).filter(|grant| now < grant.expires_at);
    let grant = grant.ok_or_else(refused)?;
    if imports::is_used(service.store.read(), grant.app, grant.key).await? {
        let problem = "the file of this upload URL was imported already: ask for another URL";
        return Err(Error::new(Reason::Conflict, problem).with("s3Key", grant.key));
    }
    begin_file(service, grant.app, grant.key).await
}

/// Begins a file that is sent together with the request to import it, and gives its key.
///
/// # Errors
/// Campaign not found; invalid state; unavailable.
pub async fn begin_direct(service: &Service, acting: &Acting, id: CampaignId) -> Result<(FileKey, Draft)> {
    begin_file(service, acting.app()?, FileKey::new(id, acting.now)).await
}

async fn begin_file(service: &Service, app: AppId, key: FileKey) -> Result<(FileKey, Draft)> {
    let campaign = store::get_campaign(service.store.read(), app, key.campaign).await?;
    campaign.status.check(GIVEN_RECIPIENTS, &[CampaignStatus::Draft])?;
    Ok((key, service.files.begin(&key.to_string()).await?))
}

/// Lets a file be imported into the audience of a draft.
///
/// # Errors
/// Campaign not found; invalid state; upload not found; payload too large; conflict, while another import is not over;
/// unavailable, when the store of files is away.
pub async fn start(
    service: &Service,
    acting: &Acting,
    id: CampaignId,
    (key, format): (String, Format),
) -> Result<Written<ImportJob>> {
    let (app, now) = (acting.app()?, acting.now);
    let named = key.parse().ok().filter(|key: &FileKey| key.campaign == id);
    let found = match named {
        Some(named) => service.files.find(&named.to_string()).await?,
        None => None,
    };
    let (is_there, bytes_max) = (found.is_some(), service.files.bytes_max());
    // A store of another's takes files without asking how large they may be.
    if found.is_some_and(|bytes| bytes > bytes_max) {
        return Err(file_too_large(bytes_max));
    }
    let started = service.write(acting, move |tx| {
        let key = key.clone();
        Box::pin(async move {
            let campaign = store::get_campaign_locked(tx, app, id).await?;
            campaign.status.check(GIVEN_RECIPIENTS, &[CampaignStatus::Draft])?;
            if !is_there {
                return Err(FileKey::not_found(key));
            }
            let last = imports::find_last(tx, app, id).await?;
            if last.as_ref().is_some_and(|job| job.state.is_open()) {
                return Err(not_over(id));
            }
            let job = ImportJob {
                id: ImportId::new(now),
                campaign: id,
                number: last.map_or(0, |job| job.number).saturating_add(1),
                key,
                state: ImportState::Queued,
                next_offset: 0,
                bytes_total: None,
                counts: ImportCounts::default(),
                failure: None,
                started_at: None,
                ended_at: None,
                created_at: now,
            };
            imports::insert_import(tx, app, &job, &format).await?;
            Ok(job)
        })
    });
    let started = started.await?;
    service.wake.imports();
    Ok(started)
}

/// The refusal of a second import at a time.
fn not_over(id: CampaignId) -> Error {
    let problem = "an import of this campaign is not over: wait for it, or cancel it";
    Error::new(Reason::Conflict, problem).with("campaignId", id)
}

/// The last import of a campaign.
///
/// # Errors
/// Campaign not found; import not found.
pub async fn status(service: &Service, acting: &Acting, id: CampaignId) -> Result<ImportJob> {
    let (app, db) = (acting.app()?, service.store.read());
    store::get_campaign(db, app, id).await?;
    let last = imports::find_last(db, app, id).await?;
    last.ok_or_else(|| ImportJob::not_found(id))
}

/// Ends the import of a campaign. Behind the answer no further row is added.
///
/// # Errors
/// Campaign not found; import not found; invalid state, when it has come to its end by itself.
pub async fn cancel(service: &Service, acting: &Acting, id: CampaignId) -> Result<Written<ImportJob>> {
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            Box::pin(async move {
                store::get_campaign(tx, app, id).await?;
                let last = imports::find_last_locked(tx, app, id).await?;
                let job = last.ok_or_else(|| ImportJob::not_found(id))?;
                if job.state == ImportState::Cancelled {
                    return Ok(job);
                }
                if !job.state.is_open() {
                    let problem = format!("an import that is {} cannot be cancelled, it is over", job.state);
                    return Err(Error::new(Reason::InvalidState, problem)
                        .with("state", job.state)
                        .with("allowed", "queued, running"));
                }
                imports::cancel_import(tx, app, job.id, now).await?;
                Ok(ImportJob {
                    state: ImportState::Cancelled,
                    ended_at: Some(now),
                    ..job
                })
            })
        })
        .await
}

/// One page of what was wrong with the rows of a campaign's last import.
///
/// # Errors
/// Campaign not found; import not found.
pub async fn list_problems(
    service: &Service,
    acting: &Acting,
    id: CampaignId,
    page: &PageRequest<ProblemSort>,
) -> Result<(ImportId, Page<Problem>)> {
    let job = status(service, acting, id).await?;
    let page = page.clone().beside(job.id.uuid());
    let found = imports::list_problems(service.store.read(), acting.app()?, job.id, &page).await?;
    Ok((job.id, found))
}

/// All that was kept of what was wrong with the rows of a campaign's last import.
///
/// # Errors
/// Campaign not found; import not found.
pub async fn list_all_problems(service: &Service, acting: &Acting, id: CampaignId) -> Result<Vec<Problem>> {
    let job = status(service, acting, id).await?;
    imports::list_all_problems(service.store.read(), acting.app()?, job.id).await
}

/// Removes the uploaded files whose time is over and which no import still has to read, and says how many.
///
/// # Errors
/// Those of the database, and internal when the files cannot be read.
pub async fn sweep_files(service: &Service, now: Timestamp) -> Result<u64> {
    let used = imports::list_open_files(service.store.read()).await?;
    let before = now.minus(FILE_TIME);
    let is_old = move |name: &str| {
        let key: Option<FileKey> = name.parse().ok();
        let made = key.and_then(|key| key.made_at());
        made.is_some_and(|made| made < before) && !used.iter().any(|used| used == name)
    };
    service.files.sweep(is_old, now).await
}

/// Returns when there may be something to import.
pub async fn wait(service: &Service, at_most: Duration) {
    service.wake.for_imports(at_most).await;
}
