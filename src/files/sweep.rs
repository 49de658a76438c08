//! Removes files whose time is over, a bounded number at a time: of a folder by going through it, of a bucket by its list.
//! Which are old is for whoever asks to say.

use std::fs::{DirEntry, ReadDir};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;

use super::{Files, fault, growing, unusable};
use crate::model::{Error, Reason, Result, Timestamp};

/// Files and folders that one sweep looks at; the next one goes on behind them.
pub(super) const SWEPT_MAX: usize = 1_000;
/// How long a folder is empty before it goes.
const EMPTY_FOR: Duration = Duration::from_secs(60);
/// How long after the end of a bucket, or behind a store that was away, a sweep begins at its front again: each list is a
/// request that somebody may have to pay.
const LIST_REST: Duration = Duration::from_secs(60);
/// The longest that one sweep of a bucket may take. The other duties of the sweep wait for it.
const LIST_TIME_MAX: Duration = Duration::from_secs(5);

impl Files {
    /// Removes files, finished or not, whose names `is_old` says so of, and says how many. It looks at a bounded number of
    /// them and goes on there the next time, so that many are gone through in several sweeps.
    ///
    /// # Errors
    /// Internal, when the folder cannot be read; unavailable, when the store is away.
    pub async fn sweep(&self, is_old: impl Fn(&str) -> bool + Send + 'static, now: Timestamp) -> Result<u64> {
        if self.0.settings.s3.is_some() {
            return self.sweep_bucket(is_old, now).await;
        }
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

    async fn sweep_bucket(&self, is_old: impl Fn(&str) -> bool + Send, now: Timestamp) -> Result<u64> {
        let listing = || self.0.listing.lock().unwrap_or_else(PoisonError::into_inner);
        let Listing { rests_until, behind } = listing().clone();
        if rests_until.is_some_and(|until| now < until) {
            return Ok(0);
        }
        let swept = async { remove_listed(self.store().await?, behind.as_ref(), is_old).await };
        let late = |_| {
            let problem = format!("the store of uploaded files took more than {LIST_TIME_MAX:?} to be swept");
            Error::new(Reason::Unavailable, problem)
        };
        let swept = tokio::time::timeout(LIST_TIME_MAX, swept).await.map_err(late);
        let swept = swept.and_then(|swept| swept);
        let behind = match &swept {
            Ok((_, behind)) => behind.clone(),
            Err(_) => None,
        };
        let rests_until = behind.is_none().then(|| now.plus(LIST_REST));
        *listing() = Listing { rests_until, behind };
        swept.map(|(swept, _)| swept)
    }
}

/// Where the sweep of a bucket goes on.
#[derive(Clone, Default)]
pub(super) struct Listing {
    /// When it begins at its front again.
    rests_until: Option<Timestamp>,
    /// The last object that was looked at.
    behind: Option<Path>,
}

/// Removes what is old of the next objects, and says how many and behind which one there may be more.
async fn remove_listed(
    store: &Arc<dyn ObjectStore>,
    behind: Option<&Path>,
    is_old: impl Fn(&str) -> bool,
) -> Result<(u64, Option<Path>)> {
    let listed = match behind {
        Some(behind) => store.list_with_offset(None, behind),
        None => store.list(None),
    };
    let mut listed = listed.take(SWEPT_MAX);
    let (mut old, mut last, mut looked) = (Vec::new(), None, 0);
    while let Some(found) = listed.next().await {
        let path = found.map_err(fault)?.location;
        // The part of one that is being written has the name that it will have, and more behind it.
        let name = path.as_ref().split(growing::PARTS).next().unwrap_or_default();
        if is_old(name) {
            old.push(Ok(path.clone()));
        }
        last = Some(path);
        looked += 1;
    }
    let removed = store.delete_stream(futures::stream::iter(old).boxed());
    let removed: Vec<Path> = removed.try_collect().await.map_err(fault)?;
    let removed = u64::try_from(removed.len()).map_err(Error::internal)?;
    Ok((removed, last.filter(|_| looked == SWEPT_MAX)))
}

/// Where the sweep of a folder goes on: in which of its folders, and behind which file of that.
#[derive(Default)]
pub(super) struct Walk {
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
                    if is_at_rest(part) {
                        drop(std::fs::remove_dir(part));
                    }
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

/// Whether nothing came into a folder, or went out of it, for a while: whoever writes makes one before there is a file in it.
fn is_at_rest(folder: &FilePath) -> bool {
    let changed = folder.metadata().and_then(|meta| meta.modified());
    changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|rest| rest >= EMPTY_FOR))
}

/// Nothing where something is not there.
fn there<T>(found: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(other) => Err(other),
    }
}
