//! Files that callers uploaded, for as long as they are needed: in a folder of the service's own, or wherever else an
//! object store keeps them. It never looks into one, and knows neither campaigns nor who may do what.
//!
//! A file appears under its name as a whole or not at all: until its last byte is on the disk it stands under another name.

mod growing;

use std::fmt;
use std::fs::{DirEntry, ReadDir};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::model::{Error, Reason, Result};

pub use growing::{Growing, Received};

/// Files that are written at once; more have to come back later.
const WRITTEN_AT_ONCE: usize = 16;
/// When those come back.
const BUSY: Duration = Duration::from_secs(5);
/// What of a file that is being written is in memory at most.
const PART_BYTES: usize = 512 * 1024;
/// Files and folders that one sweep looks at; the next one goes on behind them.
const SWEPT_MAX: usize = 1_000;

/// Where files are, and how large one may be.
#[derive(Clone, Debug)]
pub struct FileSettings {
    /// The folder; made when the first file comes.
    pub folder: PathBuf,
    /// The largest file, in bytes.
    pub bytes_max: u64,
}

impl FileSettings {
    /// The largest file unless a setting says otherwise: 1 GiB.
    pub const BYTES_MAX: u64 = 1024 * 1024 * 1024;

    /// Files in a folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            bytes_max: Self::BYTES_MAX,
        }
    }
}

/// The files. Cheap to clone.
#[derive(Clone)]
pub struct Files(Arc<Inner>);

struct Inner {
    settings: FileSettings,
    store: OnceCell<Arc<dyn ObjectStore>>,
    room: Arc<Semaphore>,
    walk: Mutex<Walk>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Files").field(&self.0.settings).finish()
    }
}

impl Files {
    /// Files as the settings say. Nothing is touched before the first one.
    #[must_use]
    pub fn new(settings: FileSettings) -> Self {
        Self(Arc::new(Inner {
            settings,
            store: OnceCell::new(),
            room: Arc::new(Semaphore::new(WRITTEN_AT_ONCE)),
            walk: Mutex::default(),
        }))
    }

    /// The largest file, in bytes.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.0.settings.bytes_max
    }

    async fn store(&self) -> Result<&Arc<dyn ObjectStore>> {
        let open = || async {
            let folder = &self.0.settings.folder;
            tokio::fs::create_dir_all(folder)
                .await
                .map_err(|cause| unusable("made", folder).because(cause))?;
            let store = LocalFileSystem::new_with_prefix(folder).map_err(fault)?;
            let store = store.with_fsync(true).with_automatic_cleanup(true);
            Ok(Arc::new(store) as Arc<dyn ObjectStore>)
        };
        self.0.store.get_or_try_init(open).await
    }

    /// Begins a file that is to stand under a name; one that stands there is replaced at the end.
    ///
    /// # Errors
    /// Unavailable when too many are being written, internal when none can be.
    pub async fn begin(&self, name: &str) -> Result<Draft> {
        let place = self.place()?;
        let mut draft = self.draft(name).await?;
        draft._place = Some(place);
        Ok(draft)
    }

    /// A place among the files that are written at once.
    fn place(&self) -> Result<OwnedSemaphorePermit> {
        let busy = |_| {
            let problem = format!("{WRITTEN_AT_ONCE} files are being uploaded already, come back later");
            Error::new(Reason::Unavailable, problem).retry_after(BUSY)
        };
        Arc::clone(&self.0.room).try_acquire_owned().map_err(busy)
    }

    /// A file that is written by whoever has a place already.
    async fn draft(&self, name: &str) -> Result<Draft> {
        let upload = self.store().await?.put_multipart(&Path::from(name)).await;
        Ok(Draft {
            upload: upload.map_err(fault)?,
            waiting: BytesMut::new(),
            bytes: 0,
            bytes_max: self.bytes_max(),
            _place: None,
        })
    }

    /// The size of a file, if there is one under this name.
    ///
    /// # Errors
    /// Internal, when it cannot be found out.
    pub async fn find(&self, name: &str) -> Result<Option<u64>> {
        match self.store().await?.head(&Path::from(name)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(other) => Err(fault(other)),
        }
    }

    /// What stands in a file from a byte on; nothing when there is no file under this name.
    ///
    /// # Errors
    /// Internal, when it cannot be read.
    pub async fn read(&self, name: &str, from: u64) -> Result<Option<Reading>> {
        let options = GetOptions {
            range: (from > 0).then_some(GetRange::Offset(from)),
            ..GetOptions::default()
        };
        match self.store().await?.get_opts(&Path::from(name), options).await {
            Ok(found) => Ok(Some(Reading(Mutex::new(found.into_stream())))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(other) => Err(fault(other)),
        }
    }

    /// Removes files, finished or not, whose names `is_old` says so of, and says how many. It looks at a bounded number of
    /// them and goes on there the next time, so that a large folder is gone through in several sweeps.
    ///
    /// # Errors
    /// Internal, when the folder cannot be read.
    pub async fn sweep(&self, is_old: impl Fn(&str) -> bool + Send + 'static) -> Result<u64> {
        let inner = Arc::clone(&self.0);
        let sweep = move || {
            let mut walk = inner.walk.lock().unwrap_or_else(PoisonError::into_inner);
            let swept = walk.go_on(&inner.settings.folder, is_old);
            if swept.is_err() {
                *walk = Walk::default();
            }
            swept
        };
        let swept = tokio::task::spawn_blocking(sweep).await;
        let swept = swept.map_err(Error::internal)?;
        swept.map_err(|cause| unusable("swept", &self.0.settings.folder).because(cause))
    }
}

/// A file that is being written. Dropped before its end it never was.
pub struct Draft {
    upload: Box<dyn MultipartUpload>,
    waiting: BytesMut,
    bytes: u64,
    bytes_max: u64,
    _place: Option<OwnedSemaphorePermit>,
}

impl Draft {
    /// Adds to the file.
    ///
    /// # Errors
    /// Payload too large, when that makes it larger than a file may be; internal when it cannot be written.
    pub async fn write(&mut self, mut piece: Bytes) -> Result<()> {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if self.bytes > self.bytes_max {
            return Err(too_large(self.bytes_max));
        }
        while !piece.is_empty() {
            let room = PART_BYTES.saturating_sub(self.waiting.len());
            self.waiting.extend_from_slice(&piece.split_to(room.min(piece.len())));
            if self.waiting.len() >= PART_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let part = self.waiting.split().freeze();
        self.upload.put_part(PutPayload::from(part)).await.map_err(fault)
    }

    /// Lets the file stand under its name, for good, and says how many bytes it has.
    ///
    /// # Errors
    /// Internal, when it cannot be written.
    pub async fn finish(mut self) -> Result<u64> {
        if !self.waiting.is_empty() {
            self.flush().await?;
        }
        self.upload.complete().await.map_err(fault)?;
        Ok(self.bytes)
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// A file that is being read, piece by piece.
// The lock is never waited for: it lets whoever has a reading be looked at from several threads.
pub struct Reading(Mutex<BoxStream<'static, object_store::Result<Bytes>>>);

impl Reading {
    /// The next piece, never an empty one; nothing at the end.
    ///
    /// # Errors
    /// Internal, when it cannot be read.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let stream = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(fault)?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading")
    }
}

/// The refusal of a file that is larger than files may be.
#[must_use]
pub fn too_large(bytes_max: u64) -> Error {
    let problem =
        format!("a file must not be larger than {bytes_max} bytes: split it, and import the parts one by one");
    Error::new(Reason::PayloadTooLarge, problem).with("limitBytes", bytes_max)
}

fn fault(cause: object_store::Error) -> Error {
    Error::new(Reason::Internal, "the files of uploads cannot be used").because(cause)
}

fn unusable(what: &str, folder: &FilePath) -> Error {
    let problem = format!("the folder {} of uploads cannot be {what}", folder.display());
    Error::new(Reason::Internal, problem)
}

/// Where the sweep of a folder goes on: in which of its folders, and behind which file of that.
#[derive(Default)]
struct Walk {
    parts: Option<ReadDir>,
    files: Option<(PathBuf, ReadDir)>,
}

impl Walk {
    /// Goes by names as `<folder>/<file>`. Another process may sweep the same folder, so what is gone is no fault.
    fn go_on(&mut self, folder: &FilePath, is_old: impl Fn(&str) -> bool) -> std::io::Result<u64> {
        let mut swept = 0;
        for _ in 0..SWEPT_MAX {
            if let Some((part, files)) = &mut self.files {
                if let Some(file) = files.next() {
                    swept += u64::from(remove_old(part, &file?, &is_old)?);
                } else {
                    // One that is not empty stays, which is what was meant.
                    drop(std::fs::remove_dir(part));
                    self.files = None;
                }
                continue;
            }
            if self.parts.is_none() {
                self.parts = there(std::fs::read_dir(folder))?;
            }
            let Some(part) = self.parts.as_mut().and_then(Iterator::next) else {
                self.parts = None;
                break;
            };
            let part = part?;
            if part.file_type()?.is_dir() {
                let files = there(std::fs::read_dir(part.path()))?;
                self.files = files.map(|files| (part.path(), files));
            }
        }
        Ok(swept)
    }
}

/// Removes a file that is old, and tells whether it did. One that is being written has the name that it will have and
/// something behind it, and so has the folder of its parts.
fn remove_old(part: &FilePath, file: &DirEntry, is_old: impl Fn(&str) -> bool) -> std::io::Result<bool> {
    let (part, name) = (part.file_name().unwrap_or_default(), file.file_name());
    let name = name.to_string_lossy();
    let name = name.split('#').next().unwrap_or_default();
    let name = name.strip_suffix(growing::PARTS).unwrap_or(name);
    if !is_old(&format!("{}/{name}", part.to_string_lossy())) {
        return Ok(false);
    }
    let removed = match file.file_type()?.is_dir() {
        true => std::fs::remove_dir_all(file.path()),
        false => std::fs::remove_file(file.path()),
    };
    Ok(there(removed)?.is_some())
}

/// Nothing where something is not there.
fn there<T>(found: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &FilePath, bytes_max: u64) -> Files {
        Files::new(FileSettings {
            folder: folder.join("uploads"),
            bytes_max,
        })
    }

    async fn content(files: &Files, name: &str, from: u64) -> Option<Vec<u8>> {
        let mut reading = files.read(name, from).await.unwrap()?;
        let mut all = Vec::new();
        while let Some(piece) = reading.next().await.unwrap() {
            all.extend_from_slice(&piece);
        }
        Some(all)
    }

    #[tokio::test]
    async fn a_file_appears_as_a_whole_and_is_read_from_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), FileSettings::BYTES_MAX);
        assert_eq!(files.find("a/b.csv").await.unwrap(), None);
        let mut draft = files.begin("a/b.csv").await.unwrap();
        let large = vec![b'x'; PART_BYTES + 7];
        draft.write(Bytes::from(large)).await.unwrap();
        assert_eq!(files.find("a/b.csv").await.unwrap(), None);
        draft.write(Bytes::from_static(b"yz")).await.unwrap();
        let bytes = u64::try_from(PART_BYTES).unwrap() + 9;
        assert_eq!(draft.finish().await.unwrap(), bytes);
        assert_eq!(files.find("a/b.csv").await.unwrap(), Some(bytes));
        assert_eq!(content(&files, "a/b.csv", bytes - 2).await.unwrap(), b"yz");
        assert_eq!(content(&files, "a/c.csv", 0).await, None);
    }

    #[tokio::test]
    async fn a_file_that_is_too_large_never_was() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), 4);
        let mut draft = files.begin("a/b.csv").await.unwrap();
        draft.write(Bytes::from_static(b"1234")).await.unwrap();
        let refused = draft.write(Bytes::from_static(b"5")).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::PayloadTooLarge);
        drop(draft);
        assert_eq!(files.find("a/b.csv").await.unwrap(), None);
    }

    #[tokio::test]
    async fn no_more_are_written_at_once_than_there_is_memory_for() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), 4);
        let mut drafts = Vec::new();
        for number in 0..WRITTEN_AT_ONCE {
            drafts.push(files.begin(&format!("a/{number}.csv")).await.unwrap());
        }
        let refused = files.begin("a/more.csv").await.unwrap_err();
        assert_eq!(
            (refused.reason(), refused.retry_hint()),
            (Reason::Unavailable, Some(BUSY))
        );
        drafts.pop();
        assert!(files.begin("a/more.csv").await.is_ok());
    }

    #[tokio::test]
    async fn a_sweep_takes_what_is_old_finished_or_not_and_leaves_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), 4);
        assert_eq!(files.sweep(|_| true).await.unwrap(), 0);
        for name in ["a/old.csv", "b/old.csv", "b/new.csv"] {
            files.begin(name).await.unwrap().finish().await.unwrap();
        }
        std::fs::write(folder.path().join("uploads/a/old.csv#1"), "half").unwrap();
        assert_eq!(files.sweep(|name| name.ends_with("/old.csv")).await.unwrap(), 3);
        assert_eq!(files.find("b/new.csv").await.unwrap(), Some(0));
        assert!(!folder.path().join("uploads/a").exists());
    }

    #[tokio::test]
    async fn a_sweep_looks_at_so_much_and_the_next_ones_at_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), 4);
        for part in ["a", "b", "c"] {
            let part = folder.path().join("uploads").join(part);
            std::fs::create_dir_all(&part).unwrap();
            (0..SWEPT_MAX / 2).for_each(|number| std::fs::write(part.join(format!("{number}.csv")), "").unwrap());
        }
        let looked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let sweep = async |old: bool| {
            let counted = Arc::clone(&looked);
            let is_old = move |_: &str| {
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                old
            };
            (
                files.sweep(is_old).await.unwrap(),
                looked.swap(0, std::sync::atomic::Ordering::Relaxed),
            )
        };
        let (first, second) = (sweep(false).await, sweep(false).await);
        assert!(first.1 < SWEPT_MAX && second.1 < SWEPT_MAX, "{first:?} {second:?}");
        assert_eq!(
            first.1 + second.1,
            SWEPT_MAX / 2 * 3,
            "each file is looked at once in a walk"
        );
        assert_eq!(sweep(true).await.0 + sweep(true).await.0, SWEPT_MAX as u64 / 2 * 3);
        assert_eq!(sweep(true).await, (0, 0));
        let left = std::fs::read_dir(folder.path().join("uploads")).unwrap().count();
        assert_eq!(left, 0, "empty folders go as well");
    }
}
