//! Files that come in several streams. What came of one is kept in parts, each of which is stored as a whole or not at all,
//! so whoever goes on begins behind the last of them, whatever became of those before. At the end they are one file like any
//! other.
//!
//! Several may send the same file at once, from several processes: a part is made once and never replaced, so all but one of
//! them are told where it goes on.

use std::fmt;
use std::pin::pin;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{PutMode, PutPayload};
use tokio::sync::OwnedSemaphorePermit;

use super::{Draft, Files, Reading, Version, fault, too_large};
use crate::model::{Error, Reason, Result};

/// What of a part is in memory, and so what is sent again at most behind a break.
const PART_BYTES: usize = 1024 * 1024;
/// Parts of a file. A file of 1 GiB has a thousand when nothing breaks off.
const PARTS_MAX: usize = 20_000;
/// What the parts of a file are called: its name with this behind it, and then where each begins.
pub(super) const PARTS: &str = ".parts";

/// How much of a file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The bytes that are stored for good.
    pub bytes: u64,
    /// Whether it is complete.
    pub is_complete: bool,
}

/// A file that is being sent.
pub struct Growing {
    files: Files,
    name: String,
    /// Where each part begins; all of them are stored.
    parts: Vec<u64>,
    /// The bytes that are stored in parts, or all of them when the file is complete.
    stored: u64,
    is_complete: bool,
    waiting: BytesMut,
    _place: OwnedSemaphorePermit,
}

impl fmt::Debug for Growing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Growing")
            .field("next_offset", &self.next_offset())
            .finish_non_exhaustive()
    }
}

/// The refusal of what does not go on where a file stands.
fn mismatch(problem: &str, next: u64) -> Error {
    let problem = format!("{problem}: go on from offset {next}");
    Error::new(Reason::OffsetMismatch, problem).with("nextOffset", next)
}

impl Files {
    /// How much of a file has come.
    ///
    /// # Errors
    /// Internal, when it cannot be found out.
    pub async fn received(&self, name: &str) -> Result<Received> {
        if let Some(bytes) = self.find(name).await? {
            let is_complete = true;
            return Ok(Received { bytes, is_complete });
        }
        let (_, bytes) = self.parts(name).await?;
        let is_complete = false;
        Ok(Received { bytes, is_complete })
    }

    /// Goes on with a file, or begins it.
    ///
    /// # Errors
    /// Unavailable when too many are being written; internal when none can be.
    pub async fn go_on(&self, name: &str) -> Result<Growing> {
        let place = self.place()?;
        let Received { bytes, is_complete } = self.received(name).await?;
        let parts = match is_complete {
            true => Vec::new(),
            false => self.parts(name).await?.0,
        };
        Ok(Growing {
            files: self.clone(),
            name: name.to_owned(),
            parts,
            stored: bytes,
            is_complete,
            waiting: BytesMut::new(),
            _place: place,
        })
    }

    /// Where the parts of a file begin, as far as none is missing, and what they hold together.
    async fn parts(&self, name: &str) -> Result<(Vec<u64>, u64)> {
        let mut found = Vec::new();
        let mut listed = pin!(self.store().await?.list(Some(&Path::from(format!("{name}{PARTS}")))));
        while let Some(part) = listed.next().await {
            let part = part.map_err(fault)?;
            let begins = part.location.filename().and_then(|begins| begins.parse::<u64>().ok());
            found.extend(begins.map(|begins| (begins, part.size)));
        }
        found.sort_unstable();
        let (mut parts, mut bytes) = (Vec::new(), 0);
        for (begins, size) in found {
            if begins == bytes {
                parts.push(begins);
                bytes += size;
            }
        }
        Ok((parts, bytes))
    }

    /// Hashes a file that is complete, as hexadecimal digits.
    async fn checksum(&self, name: &str) -> Result<String> {
        let mut context = Context::new(&SHA256);
        let reading = self.read(name, 0, &Version::default()).await?;
        let mut reading = reading.ok_or_else(|| Error::internal("a file is gone that was there a moment ago"))?;
        while let Some(piece) = reading.next().await? {
            context.update(&piece);
        }
        Ok(digits(context))
    }
}

fn part_name(name: &str, begins: u64) -> String {
    format!("{name}{PARTS}/{begins:016}")
}

fn digits(context: Context) -> String {
    let digest = context.finish();
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Growing {
    /// Where the next byte goes.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        let waiting = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        self.stored.saturating_add(waiting)
    }

    /// Adds bytes that begin at an offset of the file.
    ///
    /// # Errors
    /// Offset mismatch, when they do not go on where the file stands, or somebody else sends it as well; payload too large,
    /// when that makes it larger than a file may be, which drops all of it; internal when it cannot be written.
    pub async fn write(&mut self, offset: u64, mut piece: Bytes) -> Result<()> {
        let next = self.next_offset();
        if offset != next {
            let problem = format!("the chunk begins at {offset}, and the file stands at {next}");
            return Err(mismatch(&problem, next));
        }
        if self.is_complete {
            return Err(mismatch("the file is complete, and takes no more", next));
        }
        let size = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        let most = self.files.bytes_max();
        if next.saturating_add(size) > most {
            self.discard().await;
            return Err(too_large(most));
        }
        while !piece.is_empty() {
            let room = PART_BYTES.saturating_sub(self.waiting.len());
            self.waiting.extend_from_slice(&piece.split_to(room.min(piece.len())));
            if self.waiting.len() >= PART_BYTES {
                self.keep().await?;
            }
        }
        Ok(())
    }

    /// Stores what waits, so that it is still there for whoever goes on.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn keep(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.parts.len() >= PARTS_MAX {
            let problem = format!("the file came in more than {PARTS_MAX} parts: begin it again under another key");
            return Err(Error::new(Reason::PayloadTooLarge, problem).with("limitParts", PARTS_MAX));
        }
        let part = self.waiting.split().freeze();
        let bytes = u64::try_from(part.len()).map_err(Error::internal)?;
        let path = Path::from(part_name(&self.name, self.stored));
        let stored = self.files.store().await?;
        let stored = stored
            .put_opts(&path, PutPayload::from(part), PutMode::Create.into())
            .await;
        match stored {
            Ok(_) => {
                self.parts.push(self.stored);
                self.stored = self.stored.saturating_add(bytes);
                Ok(())
            }
            Err(object_store::Error::AlreadyExists { .. }) => {
                let next = self.files.received(&self.name).await?.bytes;
                Err(mismatch("another stream sends the same file", next))
            }
            Err(other) => Err(fault(other)),
        }
    }

    /// Lets the file stand under its name, for good. The parts are removed. A size or a checksum that was announced has to
    /// be that of what came.
    ///
    /// # Errors
    /// Offset mismatch, when less came; bad request, when something else came, of which nothing is kept then; internal,
    /// when the file cannot be written.
    pub async fn finish(mut self, total: Option<u64>, sha256: Option<&str>) -> Result<()> {
        self.keep().await?;
        if let Some(total) = total.filter(|total| *total != self.stored) {
            return Err(self.other_size(total).await);
        }
        let hash = match self.is_complete {
            false => self.put_together(sha256).await?,
            true if sha256.is_some() => self.files.checksum(&self.name).await?,
            true => return Ok(()),
        };
        match sha256 {
            Some(announced) if announced != hash => {
                let kept = if self.is_complete {
                    "the file was complete before"
                } else {
                    "nothing of it was kept"
                };
                self.discard().await;
                Err(other_checksum(announced, &hash, kept))
            }
            _ => {
                self.discard().await;
                Ok(())
            }
        }
    }

    async fn other_size(&mut self, total: u64) -> Error {
        let stored = self.stored;
        if stored < total {
            let problem = format!("the stream ended behind {stored} of {total} bytes");
            return mismatch(&problem, stored);
        }
        self.discard().await;
        let rule =
            format!("is less than the {stored} bytes that came, which were dropped: send the file from its beginning");
        let violation = crate::model::Violation::new("head.bytesTotal", rule);
        Error::invalid(vec![violation.received(total)])
    }

    /// Makes one file of the parts, unless they are not what was announced, and gives their checksum.
    async fn put_together(&mut self, sha256: Option<&str>) -> Result<String> {
        let mut draft = self.files.draft(&self.name).await?;
        match self.copy_parts(&mut draft).await {
            Ok(hash) if sha256.is_none_or(|announced| announced == hash) => {
                draft.finish().await?;
                Ok(hash)
            }
            other => {
                draft.abandon().await;
                other
            }
        }
    }

    /// Writes the parts one behind the other, and gives their checksum.
    async fn copy_parts(&self, draft: &mut Draft) -> Result<String> {
        let mut context = Context::new(&SHA256);
        for begins in &self.parts {
            let mut part: Reading = self.part(*begins).await?;
            while let Some(piece) = part.next().await? {
                context.update(&piece);
                draft.write(piece).await?;
            }
        }
        Ok(digits(context))
    }

    async fn part(&self, begins: u64) -> Result<Reading> {
        let part = self
            .files
            .read(&part_name(&self.name, begins), 0, &Version::default())
            .await?;
        // Whoever else completed the file has removed its parts.
        part.ok_or_else(|| mismatch("another stream ended the same file", self.stored))
    }

    /// Removes the parts. What cannot be removed now is swept later.
    async fn discard(&mut self) {
        let Ok(store) = self.files.store().await else {
            return;
        };
        self.waiting.clear();
        let paths = self
            .parts
            .drain(..)
            .map(|begins| Ok(Path::from(part_name(&self.name, begins))));
        let paths = futures::stream::iter(paths.collect::<Vec<_>>()).boxed();
        let removed: object_store::Result<Vec<Path>> = store.delete_stream(paths).try_collect().await;
        if let Err(fault) = removed {
            tracing::warn!(cause = %fault, "the parts of a file cannot be removed, they will be swept");
        }
        if !self.is_complete {
            self.stored = 0;
        }
    }
}

fn other_checksum(announced: &str, found: &str, kept: &str) -> Error {
    let rule = format!("is not the checksum of what came, {found}: {kept}, send the file from its beginning");
    Error::invalid(vec![
        crate::model::Violation::new("head.sha256", rule).received(announced),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::FileSettings;
    use super::*;

    const NAME: &str = "a/b.csv";

    fn files(folder: &std::path::Path, bytes_max: u64) -> Files {
        Files::new(FileSettings {
            bytes_max,
            ..FileSettings::new(folder.join("uploads"))
        })
    }

    fn pattern(bytes: usize) -> Bytes {
        (0..bytes)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect::<Vec<_>>()
            .into()
    }

    async fn content(files: &Files) -> Option<Vec<u8>> {
        let mut reading = files.read(NAME, 0, &Version::default()).await.unwrap()?;
        let mut all = Vec::new();
        while let Some(piece) = reading.next().await.unwrap() {
            all.extend_from_slice(&piece);
        }
        Some(all)
    }

    /// Everything that lies in the folder.
    fn left(folder: &std::path::Path) -> Vec<String> {
        let mut open = vec![folder.join("uploads")];
        let mut found = Vec::new();
        while let Some(next) = open.pop() {
            for entry in std::fs::read_dir(next).into_iter().flatten() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                } else {
                    found.push(entry.file_name().into_string().unwrap());
                }
            }
        }
        found
    }

    fn next_of(error: &Error) -> (Reason, &str) {
        let next = error.metadata().iter().find(|(key, _)| *key == "nextOffset");
        (error.reason(), next.map_or("", |(_, next)| next))
    }

    #[tokio::test]
    async fn a_file_comes_in_as_many_streams_as_it_takes() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), FileSettings::BYTES_MAX);
        let whole = pattern(2 * PART_BYTES + 1_000);
        let mut sent = 0;
        // The first is lost without a word and so is what of it was no whole part, the others say that they break off.
        for (bytes, keeps, stored) in [
            (PART_BYTES + 10, false, PART_BYTES),
            (7, true, PART_BYTES + 7),
            (PART_BYTES, true, 2 * PART_BYTES + 7),
        ] {
            let mut growing = files.go_on(NAME).await.unwrap();
            growing
                .write(u64::try_from(sent).unwrap(), whole.slice(sent..sent + bytes))
                .await
                .unwrap();
            if keeps {
                growing.keep().await.unwrap();
            }
            drop(growing);
            sent = stored;
            let received = files.received(NAME).await.unwrap();
            assert_eq!(
                (received.bytes, received.is_complete),
                (u64::try_from(stored).unwrap(), false)
            );
            assert_eq!(content(&files).await, None, "there is no file before its end");
        }
        let mut growing = files.go_on(NAME).await.unwrap();
        growing
            .write(u64::try_from(sent).unwrap(), whole.slice(sent..))
            .await
            .unwrap();
        let total = u64::try_from(whole.len()).unwrap();
        growing.finish(Some(total), None).await.unwrap();
        assert_eq!(content(&files).await.unwrap(), whole);
        assert_eq!(left(folder.path()), ["b.csv"], "the parts are gone");
        let again = files.go_on(NAME).await.unwrap();
        assert_eq!(again.next_offset(), total);
        again.finish(Some(total), None).await.unwrap();
    }

    #[tokio::test]
    async fn bytes_that_do_not_go_on_where_the_file_stands_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), FileSettings::BYTES_MAX);
        let mut growing = files.go_on(NAME).await.unwrap();
        growing.write(0, pattern(10)).await.unwrap();
        for offset in [0, 9, 11, u64::MAX] {
            let refused = growing.write(offset, pattern(1)).await.unwrap_err();
            assert_eq!(next_of(&refused), (Reason::OffsetMismatch, "10"));
        }
        let refused = growing.finish(Some(11), None).await.unwrap_err();
        assert_eq!(next_of(&refused), (Reason::OffsetMismatch, "10"));
        let growing = files.go_on(NAME).await.unwrap();
        assert_eq!(growing.next_offset(), 10, "what came was kept");
        let refused = growing.finish(Some(9), None).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::BadRequest);
        assert!(left(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn of_two_that_send_the_same_file_one_is_told_where_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), FileSettings::BYTES_MAX);
        let (mut one, mut two) = (files.go_on(NAME).await.unwrap(), files.go_on(NAME).await.unwrap());
        one.write(0, pattern(10)).await.unwrap();
        two.write(0, pattern(20)).await.unwrap();
        two.keep().await.unwrap();
        let refused = one.keep().await.unwrap_err();
        assert_eq!(next_of(&refused), (Reason::OffsetMismatch, "20"));
        two.finish(Some(20), None).await.unwrap();
        assert_eq!(content(&files).await.unwrap(), pattern(20));
    }

    #[tokio::test]
    async fn what_is_not_what_was_announced_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), FileSettings::BYTES_MAX);
        let mut growing = files.go_on(NAME).await.unwrap();
        growing.write(0, Bytes::from_static(b"user_id\nada\n")).await.unwrap();
        let refused = growing.finish(None, Some(&"0".repeat(64))).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::BadRequest);
        assert!(left(folder.path()).is_empty(), "nothing is left");
        let mut growing = files.go_on(NAME).await.unwrap();
        assert_eq!(growing.next_offset(), 0);
        growing.write(0, Bytes::from_static(b"abc")).await.unwrap();
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        growing.finish(Some(3), Some(hash)).await.unwrap();
        let again = files.go_on(NAME).await.unwrap();
        assert!(again.finish(None, Some(&"0".repeat(64))).await.is_err());
        assert_eq!(content(&files).await.unwrap(), b"abc", "a file that is complete stays");
    }

    #[tokio::test]
    async fn a_file_that_grows_too_large_never_was() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), 10);
        let mut growing = files.go_on(NAME).await.unwrap();
        growing.write(0, pattern(10)).await.unwrap();
        growing.keep().await.unwrap();
        let refused = growing.write(10, pattern(1)).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::PayloadTooLarge);
        assert!(left(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn parts_whose_time_is_over_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), FileSettings::BYTES_MAX);
        for name in ["a/old.csv", "b/new.csv"] {
            let mut growing = files.go_on(name).await.unwrap();
            growing.write(0, pattern(10)).await.unwrap();
            growing.keep().await.unwrap();
        }
        assert_eq!(
            files
                .sweep(|name| name.ends_with("/old.csv"), crate::model::Timestamp::MIN)
                .await
                .unwrap(),
            1
        );
        assert_eq!(files.received("a/old.csv").await.unwrap().bytes, 0);
        assert_eq!(files.received("b/new.csv").await.unwrap().bytes, 10);
    }
}
