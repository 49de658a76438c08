//! Files that callers uploaded, for as long as they are needed: in a folder of the service's own, or in a bucket of a store
//! that speaks S3. It never looks into one, and knows neither campaigns nor who may do what.
//!
//! A file appears under its name as a whole or not at all: until its last byte is stored it stands under another name, or
//! under none.

mod growing;
mod reading;
mod s3;
mod sweep;

use std::fmt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::model::{Error, Reason, Result};

pub use growing::{Growing, Received};
pub use reading::{Reading, Version};
pub use s3::S3Settings;

/// Files that are written at once; more have to come back later.
const WRITTEN_AT_ONCE: usize = 16;
/// When those come back, and those who met a store that did not answer.
const BUSY: Duration = Duration::from_secs(5);
/// What of a file that is being written is in memory at most.
const PART_BYTES: usize = 512 * 1024;
/// What of a file that is being read is asked for at once.
const PIECE_BYTES: u64 = 512 * 1024;
/// How often a folder is made for a file at most.
const TRIES: usize = 3;
/// The name of the metadata of errors that are the store's.
const STORE_KEY: &str = "store";

/// Where files are, and how large one may be.
#[derive(Clone, Debug)]
pub struct FileSettings {
    /// The folder; made when the first file comes.
    pub folder: PathBuf,
    /// The largest file, in bytes.
    pub bytes_max: u64,
    /// The bucket that takes them instead of the folder.
    pub s3: Option<S3Settings>,
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
            s3: None,
        }
    }
}

/// The files. Cheap to clone.
#[derive(Clone)]
pub struct Files(Arc<Inner>);

struct Inner {
    settings: FileSettings,
    store: OnceCell<Arc<dyn ObjectStore>>,
    /// The same bucket as what signs URLs; never set when files are in a folder.
    bucket: OnceCell<s3::Bucket>,
    room: Arc<Semaphore>,
    walk: Mutex<sweep::Walk>,
    listing: Mutex<sweep::Listing>,
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
            bucket: OnceCell::new(),
            room: Arc::new(Semaphore::new(WRITTEN_AT_ONCE)),
            walk: Mutex::default(),
            listing: Mutex::default(),
        }))
    }

    /// The largest file, in bytes.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.0.settings.bytes_max
    }

    async fn store(&self) -> Result<&Arc<dyn ObjectStore>> {
        let open = || async {
            if let Some(bucket) = self.bucket().await? {
                return Ok(bucket.store());
            }
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
    /// Unavailable when too many are being written or the store is away, internal when none can be.
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
        Ok(Draft {
            store: Arc::clone(self.store().await?),
            path: Path::from(name),
            upload: None,
            waiting: BytesMut::new(),
            bytes: 0,
            bytes_max: self.bytes_max(),
            part_bytes: match &self.0.settings.s3 {
                Some(_) => s3::part_bytes(self.bytes_max()),
                None => PART_BYTES,
            },
            _place: None,
        })
    }

    /// The size of a file, if there is one under this name.
    ///
    /// # Errors
    /// Internal, when it cannot be found out; unavailable, when the store is away.
    pub async fn find(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.meta(name).await?.map(|meta| meta.size))
    }

    async fn meta(&self, name: &str) -> Result<Option<ObjectMeta>> {
        let (store, path) = (self.store().await?, Path::from(name));
        match store.head(&path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => {
                if let Some(bucket) = self.bucket().await? {
                    bucket.check_exists().await?;
                }
                Ok(None)
            }
            Err(other) => Err(fault(other)),
        }
    }

    /// What stands in a file from a byte on; nothing when there is no file under this name.
    ///
    /// # Errors
    /// Bad request, when it is not the version that is asked for any more; payload too large, when it is larger than a file
    /// may be; internal, when it cannot be read; unavailable, when the store is away.
    pub async fn read(&self, name: &str, from: u64, version: &Version) -> Result<Option<Reading>> {
        let Some(meta) = self.meta(name).await? else {
            return Ok(None);
        };
        if meta.size > self.bytes_max() {
            return Err(too_large(self.bytes_max()));
        }
        let piece_bytes = match &self.0.settings.s3 {
            Some(_) => s3::PIECE_BYTES,
            None => PIECE_BYTES,
        };
        let store = Arc::clone(self.store().await?);
        Reading::new(store, meta, from, version, piece_bytes).map(Some)
    }
}

/// A file that is being written. Dropped before its end it never was.
pub struct Draft {
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// What takes its parts; nothing of a file that has only one is sent before its end.
    upload: Option<Box<dyn MultipartUpload>>,
    waiting: BytesMut,
    bytes: u64,
    bytes_max: u64,
    part_bytes: usize,
    _place: Option<OwnedSemaphorePermit>,
}

impl Draft {
    /// Adds to the file.
    ///
    /// # Errors
    /// Payload too large, when that makes it larger than a file may be; internal when it cannot be written; unavailable,
    /// when the store is away.
    pub async fn write(&mut self, mut piece: Bytes) -> Result<()> {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if self.bytes > self.bytes_max {
            return Err(too_large(self.bytes_max));
        }
        while !piece.is_empty() {
            let room = self.part_bytes.saturating_sub(self.waiting.len());
            self.waiting.extend_from_slice(&piece.split_to(room.min(piece.len())));
            if self.waiting.len() >= self.part_bytes {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let part = self.waiting.split().freeze();
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => {
                let begun = tried(|| self.store.put_multipart(&self.path)).await;
                self.upload.insert(begun.map_err(fault)?)
            }
        };
        upload.put_part(PutPayload::from(part)).await.map_err(fault)
    }

    /// Lets the file stand under its name, for good, and says how many bytes it has.
    ///
    /// # Errors
    /// Internal, when it cannot be written; unavailable, when the store is away.
    pub async fn finish(mut self) -> Result<u64> {
        match self.complete().await {
            Ok(()) => Ok(self.bytes),
            Err(fault) => {
                self.abandon().await;
                Err(fault)
            }
        }
    }

    async fn complete(&mut self) -> Result<()> {
        if self.upload.is_some() && !self.waiting.is_empty() {
            self.flush().await?;
        }
        let stored = match &mut self.upload {
            Some(upload) => upload.complete().await,
            None => {
                let whole = PutPayload::from(self.waiting.split().freeze());
                tried(|| self.store.put(&self.path, whole.clone())).await
            }
        };
        stored.map(drop).map_err(fault)
    }

    /// Gives the file up. A folder is rid of what came of it when a draft is dropped, a bucket has to be told.
    pub async fn abandon(mut self) {
        if let Some(upload) = &mut self.upload
            && let Err(fault) = upload.abort().await
        {
            tracing::info!(cause = %fault, "what came of a file that was given up cannot be removed");
        }
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Makes a file, some times if need be: whoever removes the last file of a folder takes the folder along, and may find it empty
/// that was made for this one just then.
async fn tried<T, F>(make: impl Fn() -> F) -> object_store::Result<T>
where
    F: Future<Output = object_store::Result<T>>,
{
    for _ in 1..TRIES {
        match make().await {
            Err(object_store::Error::Generic { store, .. }) if store != s3::NAME => {}
            made => return made,
        }
    }
    make().await
}

/// The refusal of a file that is larger than files may be.
#[must_use]
pub fn too_large(bytes_max: u64) -> Error {
    let problem =
        format!("a file must not be larger than {bytes_max} bytes: split it, and import the parts one by one");
    Error::new(Reason::PayloadTooLarge, problem).with("limitBytes", bytes_max)
}

/// What came of a store. A folder knows none of the reasons but the last.
fn fault(cause: object_store::Error) -> Error {
    use object_store::Error as Cause;
    let (reason, problem) = match &cause {
        Cause::Precondition { .. } => return changed().because(cause),
        Cause::Generic { store: s3::NAME, .. } => (
            Reason::Unavailable,
            "the store of uploaded files is away, or does not answer as it should",
        ),
        Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. } => (
            Reason::Internal,
            "the store of uploaded files refuses the access key of this service",
        ),
        Cause::NotFound { .. } => (
            Reason::Internal,
            "the bucket or folder of uploaded files does not exist",
        ),
        _ => (Reason::Internal, "the files of uploads cannot be used"),
    };
    let error = Error::new(reason, problem).because(cause).with(STORE_KEY, "uploads");
    match reason {
        Reason::Unavailable => error.retry_after(BUSY),
        _ => error,
    }
}

/// Whether it is the store of files that failed.
#[must_use]
pub fn is_of_store(error: &Error) -> bool {
    error.metadata().iter().any(|(key, _)| *key == STORE_KEY)
}

fn changed() -> Error {
    let problem = "the file was replaced while it was read: import it anew";
    Error::new(Reason::BadRequest, problem)
}

fn unusable(what: &str, folder: &FilePath) -> Error {
    let problem = format!("the folder {} of uploads cannot be {what}", folder.display());
    Error::new(Reason::Internal, problem)
}

#[cfg(test)]
mod tests {
    use super::sweep::SWEPT_MAX;
    use super::*;
    use crate::model::Timestamp;

    /// A folder is swept at any time.
    const NOW: Timestamp = Timestamp::MIN;

    fn files(folder: &FilePath, bytes_max: u64) -> Files {
        Files::new(FileSettings {
            bytes_max,
            ..FileSettings::new(folder.join("uploads"))
        })
    }

    async fn content(files: &Files, name: &str, from: u64) -> Option<Vec<u8>> {
        let mut reading = files.read(name, from, &Version::default()).await.unwrap()?;
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

    /// Lets nothing have come into a folder for long.
    fn age(folder: &std::path::Path) {
        let folder = std::fs::File::open(folder).unwrap();
        folder.set_modified(std::time::UNIX_EPOCH).unwrap();
    }

    #[tokio::test]
    async fn a_sweep_takes_what_is_old_finished_or_not_and_leaves_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), 4);
        assert_eq!(files.sweep(|_| true, NOW).await.unwrap(), 0);
        for name in ["a/old.csv", "b/old.csv", "b/new.csv"] {
            files.begin(name).await.unwrap().finish().await.unwrap();
        }
        std::fs::write(folder.path().join("uploads/a/old.csv#1"), "half").unwrap();
        assert_eq!(files.sweep(|name| name.ends_with("/old.csv"), NOW).await.unwrap(), 3);
        assert_eq!(files.find("b/new.csv").await.unwrap(), Some(0));
        let emptied = folder.path().join("uploads/a");
        assert!(emptied.exists(), "somebody may be about to write into it");
        age(&emptied);
        files.sweep(|_| false, NOW).await.unwrap();
        assert!(!emptied.exists());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_sweep_takes_no_folder_away_from_whoever_writes_the_first_file_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), 4);
        let sweep = async {
            loop {
                files.sweep(|_| false, NOW).await.unwrap();
            }
        };
        let write = async {
            for number in 0..500 {
                let draft = files.begin(&format!("{number}/a.csv")).await.unwrap();
                draft.finish().await.unwrap();
                std::fs::remove_dir_all(folder.path().join(format!("uploads/{number}"))).unwrap();
            }
        };
        tokio::select! {
            () = write => {}
            () = sweep => {}
        }
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
                files.sweep(is_old, NOW).await.unwrap(),
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
        let parts = ["a", "b", "c"].map(|part| folder.path().join("uploads").join(part));
        parts.iter().for_each(|part| age(part));
        assert_eq!(sweep(true).await, (0, 0));
        let left = std::fs::read_dir(folder.path().join("uploads")).unwrap().count();
        assert_eq!(left, 0, "empty folders go as well");
    }
}
