//! Imports: a CSV file on its way into the audience of a campaign. What stands in the file is read by [`csv`] and judged by
//! [`row`]; nothing here knows where the file or the audience is.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::id::{CampaignId, ImportId, UploadId};
use super::page::{SortField, Sortable};
use super::word::words;
use super::{Error, Reason, Result, Timestamp, Violation};

pub mod csv;
pub mod row;

/// How long an upload URL is good.
pub const URL_TIME: Duration = Duration::from_secs(15 * 60);
/// How long an uploaded file is kept; longer only while its import is not over.
pub const FILE_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Problems that are kept of an import.
pub const PROBLEMS_MAX: u32 = 1_000;
/// The longest rule that is kept, and the longest reason of a failure, in characters.
const SENTENCE_MAX: usize = 500;

/// How far an import has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportState {
    /// It waits for a worker.
    Queued,
    /// A worker has begun with it.
    Running,
    /// Every row is settled.
    Completed,
    /// It could not go on.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// One that a later build knows.
    Unknown(i16),
}

words!(ImportState {
    Queued = 1 "queued",
    Running = 2 "running",
    Completed = 3 "completed",
    Failed = 4 "failed",
    Cancelled = 5 "cancelled",
});

impl ImportState {
    /// Whether it is still to come to its end, as far as this build can tell.
    #[must_use]
    pub const fn is_open(self) -> bool {
        match self {
            Self::Queued | Self::Running => true,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Unknown(_) => false,
        }
    }
}

/// What the rows of an import came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportCounts {
    /// Those that are settled: the sum of the next two and the last.
    pub rows: u32,
    /// Users who are new in the audience.
    pub added: u32,
    /// Rows that named a user again.
    pub duplicate: u32,
    /// Users among the added ones who do not exist.
    pub unknown: u32,
    /// Rows that were left out.
    pub failed: u32,
}

impl ImportCounts {
    /// Both together.
    #[must_use]
    pub const fn and(self, more: Self) -> Self {
        Self {
            rows: self.rows.saturating_add(more.rows),
            added: self.added.saturating_add(more.added),
            duplicate: self.duplicate.saturating_add(more.duplicate),
            unknown: self.unknown.saturating_add(more.unknown),
            failed: self.failed.saturating_add(more.failed),
        }
    }
}

/// How a file is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// What stands between the cells; found out from the first row when absent.
    pub delimiter: Option<Delimiter>,
    /// How the letters are encoded.
    pub encoding: Encoding,
}

/// What stands between the cells of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delimiter {
    /// A comma.
    Comma,
    /// A semicolon.
    Semicolon,
    /// A tab.
    Tab,
}

impl Delimiter {
    /// All of them; of those that are equally frequent the first one counts.
    pub const ALL: [Self; 3] = [Self::Comma, Self::Semicolon, Self::Tab];

    /// The byte that it is.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
        }
    }
}

/// How the letters of a file are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// UTF-8.
    #[default]
    Utf8,
    /// Windows-1252.
    Windows1252,
}

/// What names an uploaded file: the campaign it was uploaded for, and the file. As a text `camp-…/file-….csv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileKey {
    /// The campaign.
    pub campaign: CampaignId,
    /// The file.
    pub upload: UploadId,
}

impl FileKey {
    /// The name of a new file.
    #[must_use]
    pub fn new(campaign: CampaignId, now: Timestamp) -> Self {
        let upload = UploadId::new(now);
        Self { campaign, upload }
    }

    /// When it was given out; `None` of an id that is not one of ours.
    #[must_use]
    pub fn made_at(&self) -> Option<Timestamp> {
        let (seconds, nanos) = self.upload.uuid().get_timestamp()?.to_unix();
        let millis = i64::try_from(seconds).ok()?.checked_mul(1_000)?;
        Timestamp::from_millis(millis.checked_add(i64::from(nanos / 1_000_000))?)
    }

    /// That no such file was uploaded.
    #[must_use]
    pub fn not_found(key: impl fmt::Display) -> Error {
        let message = format!("no file {key} was uploaded for this campaign, or it was removed after its time");
        Error::new(Reason::UploadNotFound, message).with("s3Key", key)
    }
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.csv", self.campaign, self.upload)
    }
}

impl FromStr for FileKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "must be a key that an upload URL came with";
        let (campaign, file) = text.split_once('/').ok_or(RULE)?;
        Ok(Self {
            campaign: campaign.parse().ok().ok_or(RULE)?,
            upload: file.strip_suffix(".csv").and_then(|id| id.parse().ok()).ok_or(RULE)?,
        })
    }
}

/// Where a file can be uploaded to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadUrl {
    /// The URL, or what the path of one of our own ends with.
    pub url: String,
    /// Whether it is the URL of another store as it stands.
    #[serde(default)]
    pub is_whole: bool,
    /// What names the file.
    pub key: String,
    /// The largest file.
    pub bytes_max: u64,
    /// When the URL ends to be good.
    pub expires_at: Timestamp,
}

/// Why an import could not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The word of an error.
    pub word: String,
    /// What to do about it.
    pub message: String,
}

impl Failure {
    /// What an error says.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        let message = match error.dev_message() {
            "" => error.message(),
            message => message,
        };
        Self {
            word: error.reason().word().to_owned(),
            message: shortened(message),
        }
    }

    /// The same with what has become of the file before it.
    #[must_use]
    pub fn after(mut self, counts: ImportCounts, line: u64) -> Self {
        let (rows, added) = (counts.rows, counts.added);
        let before = format!("; {rows} rows before line {line} were dealt with, {added} of them added");
        self.message.push_str(&before);
        self
    }
}

/// The import of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportJob {
    /// Its id.
    pub id: ImportId,
    /// The campaign.
    pub campaign: CampaignId,
    /// Its number among the campaign's imports, from 1.
    pub number: u32,
    /// The file.
    pub key: String,
    /// How far it has come.
    pub state: ImportState,
    /// Where the first byte stands that is not settled.
    pub next_offset: u64,
    /// The size of the file, once it was looked through.
    pub bytes_total: Option<u64>,
    /// What the rows came to.
    pub counts: ImportCounts,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When a worker first began with it.
    pub started_at: Option<Timestamp>,
    /// When it came to its end.
    pub ended_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl ImportJob {
    /// That a campaign has had none.
    #[must_use]
    pub fn not_found(campaign: CampaignId) -> Error {
        Error::new(Reason::ImportNotFound, "nothing was imported into this campaign").with("campaignId", campaign)
    }

    /// Lets something pass that is not for a campaign whose import is not over. `what` completes "a campaign whose import
    /// is not over cannot be …".
    ///
    /// # Errors
    /// Invalid state.
    pub fn check_over(is_open: bool, what: &str) -> Result<()> {
        if !is_open {
            return Ok(());
        }
        let message = format!("a campaign whose import is not over cannot be {what}: wait for it, or cancel it");
        Err(Error::new(Reason::InvalidState, message)
            .with("state", "draft with an import that is not over")
            .with("allowed", "draft"))
    }
}

/// One thing that is wrong with one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its number, from 1.
    pub position: u32,
    /// The line on which the row begins, from 1.
    pub line: u64,
    /// The column; empty when it is about the row as a whole.
    pub column: String,
    /// The rule that is broken.
    pub rule: String,
    /// What was received.
    pub received: Option<String>,
}

impl Problem {
    /// What a violation in a row comes to.
    #[must_use]
    pub fn new(position: u32, line: u64, violation: Violation) -> Self {
        Self {
            position,
            line,
            column: violation.field,
            rule: shortened(&violation.rule),
            received: violation.received,
        }
    }
}

/// What problems are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemSort {
    /// Their number.
    Position,
}

impl Sortable for ProblemSort {
    fn field(self) -> SortField {
        match self {
            Self::Position => SortField::Position,
        }
    }
}

/// What a signed upload URL says: which file of which campaign of which app, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadGrant {
    /// The app.
    pub app: super::id::AppId,
    /// The file.
    pub key: FileKey,
    /// When the URL ends to be good.
    pub expires_at: Timestamp,
}

impl UploadGrant {
    /// The bytes that are signed.
    pub const BYTES: usize = 56;

    /// The grant as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let ids = [self.app.uuid(), self.key.campaign.uuid(), self.key.upload.uuid()];
        let mut bytes: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
        bytes.extend(self.expires_at.millis().to_be_bytes());
        bytes
    }

    /// The grant that these bytes are.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let id = |from: usize| {
            let bytes: [u8; 16] = bytes.get(from..from + 16)?.try_into().ok()?;
            Some(Uuid::from_bytes(bytes))
        };
        let millis: [u8; 8] = bytes.get(48..Self::BYTES)?.try_into().ok()?;
        Some(Self {
            app: id(0)?.into(),
            key: FileKey {
                campaign: id(16)?.into(),
                upload: id(32)?.into(),
            },
            expires_at: Timestamp::from_millis(i64::from_be_bytes(millis))?,
        })
    }
}

fn shortened(text: &str) -> String {
    let mut letters = text.chars();
    let mut short: String = letters.by_ref().take(SENTENCE_MAX - 1).collect();
    if letters.next().is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::AppId;

    #[test]
    fn a_key_names_its_campaign_and_tells_when_it_was_given_out() {
        let now = Timestamp::from_millis(1_705_311_000_123).unwrap();
        let key = FileKey::new(CampaignId::new(now), now);
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.made_at(), Some(now));
        for wrong in [
            "",
            "camp/file.csv",
            "../etc/passwd",
            &format!("{key}x"),
            &format!("/{key}"),
        ] {
            assert!(wrong.parse::<FileKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_grant_survives_its_bytes_and_is_nothing_else() {
        let now = Timestamp::from_millis(1_705_311_000_123).unwrap();
        let grant = UploadGrant {
            app: AppId::new(now),
            key: FileKey::new(CampaignId::new(now), now),
            expires_at: now,
        };
        let bytes = grant.to_bytes();
        assert_eq!(bytes.len(), UploadGrant::BYTES);
        assert_eq!(UploadGrant::of_bytes(&bytes), Some(grant));
        assert_eq!(UploadGrant::of_bytes(bytes.get(1..).unwrap()), None);
    }
}
