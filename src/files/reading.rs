//! Files as they are read: piece by piece, each of which is asked for by itself. So whoever reads may take any time, nothing
//! is held open meanwhile, and a store that loses a connection loses no more than a piece.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};

use super::{changed, fault};
use crate::model::{Error, Reason, Result};

/// Which of the files that stood under a name one after the other: a URL of a store's own lets another one be sent while the
/// first is read. The plain value is any of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version(Option<String>);

/// A file that is being read. All of its pieces are of one version.
pub struct Reading {
    store: Arc<dyn ObjectStore>,
    path: Path,
    version: Version,
    at: u64,
    end: u64,
    piece_bytes: u64,
}

impl Reading {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        meta: ObjectMeta,
        from: u64,
        version: &Version,
        piece_bytes: u64,
    ) -> Result<Self> {
        if version.0.is_some() && version.0 != meta.e_tag {
            return Err(changed());
        }
        Ok(Self {
            store,
            path: meta.location,
            version: Version(meta.e_tag),
            at: from,
            end: meta.size,
            piece_bytes,
        })
    }

    /// Which version it is.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The next piece, never an empty one; nothing at the end.
    ///
    /// # Errors
    /// Bad request, when the file was replaced meanwhile; upload not found, when it was removed; internal, when it cannot be
    /// read; unavailable, when the store is away.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let until = self.end.min(self.at.saturating_add(self.piece_bytes));
        let options = GetOptions {
            range: Some(GetRange::Bounded(self.at..until)),
            if_match: self.version.0.clone(),
            ..GetOptions::default()
        };
        let found = async { self.store.get_opts(&self.path, options).await?.bytes().await };
        let piece = match found.await {
            Err(gone @ object_store::Error::NotFound { .. }) => {
                let problem = "the file was removed while it was read: upload it again";
                return Err(Error::new(Reason::UploadNotFound, problem).because(gone));
            }
            found => found.map_err(fault)?,
        };
        self.at = until;
        Ok(Some(piece))
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading")
            .field("at", &self.at)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
