//! An uploaded file as its import reads it: looked through as a whole, hashed, and taken row by row from wherever the import
//! stands, in memory that does not grow with it. Nothing is written here.

use std::collections::HashSet;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Buf, Bytes, BytesMut};

use super::super::store;
use crate::domain::Service;
use crate::files::{Reading, Version};
use crate::model::campaign::CampaignStatus;
use crate::model::import::csv::{HEAD_BYTES, Place, Rows, Step as Read, delimiter_of, look_at, not_encoded, refused};
use crate::model::import::row::Columns;
use crate::model::import::{FileKey, Format, ImportCounts, PROBLEMS_MAX, Problem};
use crate::model::variable::VariableDefinition;
use crate::model::{Error, Result};
use crate::store::audience::Joining;
use crate::store::import::{Leased, Settled};
use crate::store::template as templates;

/// Bytes of the file that a batch takes, after which it is done with fewer rows. Two of them are in memory.
const BATCH_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes that are looked through before the lease begins anew.
const LOOKED_BYTES: u64 = 32 * 1024 * 1024;

/// Rows that were read.
#[derive(Debug)]
pub(super) struct Batch {
    /// Those who join the audience, each once.
    pub(super) joining: Vec<Joining>,
    /// How often some of them were named again.
    pub(super) again: u32,
    /// What they come to so far, and where the row behind them begins.
    pub(super) settled: Settled,
}

fn gone(job: &Leased) -> Error {
    FileKey::not_found(&job.key)
}

/// A file from its beginning, for its checksum alone.
#[derive(Debug)]
pub(super) struct Hashing {
    reading: Reading,
    digest: Digest,
}

impl Hashing {
    pub(super) async fn open(service: &Service, job: &Leased) -> Result<Box<Self>> {
        let reading = service.files.read(&job.key, 0, &Version::default()).await?;
        let reading = reading.ok_or_else(|| gone(job))?;
        let digest = Digest::default();
        Ok(Box::new(Self { reading, digest }))
    }

    /// Which version of the file it is.
    pub(super) fn version(&self) -> &Version {
        self.reading.version()
    }

    /// Goes on for a while; gives the checksum at the end.
    pub(super) async fn go_on(&mut self) -> Result<Option<String>> {
        let until = self.digest.bytes.saturating_add(LOOKED_BYTES);
        while self.digest.bytes < until {
            match self.reading.next().await? {
                Some(piece) => self.digest.add(&piece),
                None => return Ok(Some(self.digest.text())),
            }
        }
        Ok(None)
    }
}

/// SHA-256 of what was read.
struct Digest {
    context: Context,
    bytes: u64,
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digest")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self {
            context: Context::new(&SHA256),
            bytes: 0,
        }
    }
}

impl Digest {
    fn add(&mut self, piece: &[u8]) {
        self.context.update(piece);
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
    }

    fn text(&self) -> String {
        let digest = self.context.clone().finish();
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A file whose rows are read one by one.
#[derive(Debug)]
pub(super) struct Source {
    reading: Reading,
    digest: Digest,
    buffer: Bytes,
    is_over: bool,
    rows: Rows,
    format: Format,
    columns: Columns,
    /// Where the rows behind the first one begin.
    first: Place,
}

impl Source {
    /// Opens a file and reads its first row.
    pub(super) async fn open(service: &Service, job: &Leased, version: &Version) -> Result<Box<Self>> {
        let schema = schema_of(service, job).await?;
        let reading = service.files.read(&job.key, 0, version).await?;
        let mut reading = reading.ok_or_else(|| gone(job))?;
        let mut digest = Digest::default();
        let mut head = BytesMut::new();
        let mut is_over = false;
        while head.len() < HEAD_BYTES && !is_over {
            match reading.next().await? {
                Some(piece) => {
                    digest.add(&piece);
                    head.extend_from_slice(&piece);
                }
                None => is_over = true,
            }
        }
        let mut buffer = head.freeze();
        let start = look_at(buffer.get(..HEAD_BYTES).unwrap_or(&buffer))?;
        buffer.advance(start);
        let delimiter = job.format.delimiter.unwrap_or_else(|| delimiter_of(&buffer));
        let first = Place::start(u64::try_from(start).unwrap_or_default());
        let mut source = Box::new(Self {
            reading,
            digest,
            buffer,
            is_over,
            rows: Rows::new(delimiter, first, false),
            format: Format {
                delimiter: Some(delimiter),
                ..job.format
            },
            columns: Columns::default(),
            first,
        });
        if !source.next_row().await? {
            return Err(refused("holds nothing but line ends: its first row names the columns"));
        }
        source.columns = Columns::of(source.rows.cells(job.format.encoding), &schema)?;
        source.first = source.rows.next();
        Ok(source)
    }

    /// Which version of the file it is.
    pub(super) fn version(&self) -> &Version {
        self.reading.version()
    }

    /// The same file from where the import stands.
    pub(super) async fn behind(
        self: Box<Self>,
        service: &Service,
        job: &Leased,
        version: &Version,
    ) -> Result<Box<Self>> {
        if self.rows.next().offset == job.next.offset {
            return Ok(self);
        }
        // One byte earlier, which tells whether a line end was cut in two.
        let from = job.next.offset.saturating_sub(1);
        let reading = service.files.read(&job.key, from, version).await?;
        let mut reading = reading.ok_or_else(|| gone(job))?;
        let mut buffer = reading.next().await?.unwrap_or_default();
        let before = buffer.first().copied();
        buffer.advance(1.min(buffer.len()));
        let delimiter = self.format.delimiter.unwrap_or(crate::model::import::Delimiter::Comma);
        Ok(Box::new(Self {
            reading,
            buffer,
            is_over: false,
            rows: Rows::new(delimiter, job.next, before == Some(b'\r')),
            ..*self
        }))
    }

    /// Reads the next row, if there is one.
    async fn next_row(&mut self) -> Result<bool> {
        loop {
            if self.buffer.is_empty() && !self.is_over {
                match self.reading.next().await? {
                    Some(piece) => {
                        self.digest.add(&piece);
                        self.buffer = piece;
                    }
                    None => self.is_over = true,
                }
            }
            let mut input: &[u8] = &self.buffer;
            let step = self.rows.read(&mut input)?;
            let read = self.buffer.len().saturating_sub(input.len());
            self.buffer.advance(read);
            match step {
                Read::Row => return Ok(true),
                Read::End => return Ok(false),
                Read::More if self.is_over && self.buffer.is_empty() && read == 0 => return Ok(false),
                Read::More => {}
            }
        }
    }

    /// Looks through the file for a while; says at its end what it is and where the rows behind the first one begin.
    pub(super) async fn look_through(&mut self) -> Result<Option<(String, u64, Place)>> {
        let until = self.digest.bytes.saturating_add(LOOKED_BYTES);
        while self.digest.bytes < until {
            if !self.next_row().await? {
                return Ok(Some((self.digest.text(), self.digest.bytes, self.first)));
            }
            if !self.rows.cells(self.format.encoding).are_texts() {
                return Err(not_encoded(self.rows.row().line));
            }
        }
        Ok(None)
    }

    /// Reads so many rows; none are left when there is no batch. So many problems were kept of those before.
    pub(super) async fn batch(&mut self, rows: u32, problem_count: u32) -> Result<Option<Batch>> {
        let (mut joining, mut seen) = (Vec::new(), HashSet::new());
        let mut counts = ImportCounts::default();
        let mut problems = Vec::new();
        let mut again: u32 = 0;
        let until = self.rows.next().offset.saturating_add(BATCH_BYTES_MAX);
        let mut position = problem_count;
        while counts.rows < rows && self.rows.next().offset < until && self.next_row().await? {
            counts.rows = counts.rows.saturating_add(1);
            match self.columns.read(self.rows.cells(self.format.encoding)) {
                Ok((uid, values)) if seen.insert(uid.clone()) => joining.push(Joining::new(uid, &values)?),
                Ok(_) => again = again.saturating_add(1),
                Err(wrong) => {
                    counts.failed = counts.failed.saturating_add(1);
                    let line = self.rows.row().line;
                    for violation in wrong {
                        if position < PROBLEMS_MAX {
                            position += 1;
                            problems.push(Problem::new(position, line, violation));
                        }
                    }
                }
            }
        }
        let next = self.rows.next();
        let settled = Settled { next, counts, problems };
        Ok((counts.rows > 0).then_some(Batch {
            joining,
            again,
            settled,
        }))
    }
}

/// What the campaign's template declares; also that there still is a draft to import into.
async fn schema_of(service: &Service, job: &Leased) -> Result<Vec<VariableDefinition>> {
    let (app, db) = (job.lease.app, service.store.read());
    let campaign = store::get_campaign(db, app, job.campaign).await?;
    campaign
        .status
        .check(super::GIVEN_RECIPIENTS, &[CampaignStatus::Draft])?;
    let mut found = templates::find_contents(db, app, [campaign.version_id]).await?;
    let content = found.remove(&campaign.version_id);
    let content = content.ok_or_else(|| Error::internal("the template version of a campaign is gone"))?;
    Ok(content.variable_schema)
}
