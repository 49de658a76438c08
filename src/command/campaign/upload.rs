//! A file on its way to the server, piece by piece. It is read twice: for its checksum, and to be sent.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use campanile::pb::v1;
use futures::stream::{self, Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use v1::import_recipients_request::Part;

use super::Fault;

/// Bytes of a piece: the most that the contract takes.
const PIECE_BYTES: usize = 256 * 1024;

/// A file that is to be sent.
pub(super) struct File {
    path: PathBuf,
    /// Its size.
    pub(super) bytes: u64,
    /// Its checksum, in hexadecimal digits.
    pub(super) sha256: String,
}

/// Why a file could not be read on, as far as it is known.
pub(super) type Trouble = Arc<Mutex<Option<std::io::Error>>>;

impl File {
    /// Whether it can be read at all.
    pub(super) async fn check(path: &Path) -> Result<(), Fault> {
        open(path).await.map(drop).map_err(|fault| unreadable(path, fault))
    }

    /// Reads it once.
    pub(super) async fn look(path: &Path) -> Result<Self, Fault> {
        let unreadable = |fault| unreadable(path, fault);
        let mut file = open(path).await.map_err(unreadable)?;
        let (mut context, mut bytes) = (Context::new(&SHA256), 0);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = file.read(&mut piece).await.map_err(unreadable)?;
            if read == 0 {
                break;
            }
            context.update(piece.get(..read).unwrap_or_default());
            bytes += u64::try_from(read).unwrap_or_default();
        }
        let digest = context.finish();
        Ok(Self {
            path: path.to_owned(),
            bytes,
            sha256: digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// The head and what is left of it behind an offset; `told` is told how far it has come.
    pub(super) async fn messages<F>(
        &self,
        head: v1::ImportRecipientsHead,
        from: u64,
        told: F,
    ) -> Result<(impl Stream<Item = v1::ImportRecipientsRequest> + Send + use<F>, Trouble), Fault>
    where
        F: Fn(u64) + Send + 'static,
    {
        let unreadable = |fault| unreadable(&self.path, fault);
        let mut file = open(&self.path).await.map_err(unreadable)?;
        file.seek(std::io::SeekFrom::Start(from)).await.map_err(unreadable)?;
        let trouble = Trouble::default();
        let noted = Arc::clone(&trouble);
        let chunks = stream::unfold((file, from, noted, told), |(mut file, at, noted, told)| async move {
            let mut data = vec![0; PIECE_BYTES];
            match file.read(&mut data).await {
                Ok(0) => None,
                Ok(read) => {
                    data.truncate(read);
                    let chunk = v1::ImportRecipientsChunk {
                        offset: i64::try_from(at).unwrap_or(i64::MAX),
                        data,
                    };
                    let at = at + u64::try_from(read).unwrap_or_default();
                    told(at);
                    Some((message(Part::Chunk(chunk)), (file, at, noted, told)))
                }
                // The server sees a file that is too short, and the person is told why.
                Err(fault) => {
                    *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
                    None
                }
            }
        });
        let first = stream::iter([message(Part::Head(head))]);
        Ok((first.chain(chunks), trouble))
    }

    /// What stopped the reading of it, if anything did.
    pub(super) fn take(&self, trouble: &Trouble) -> Result<(), Fault> {
        let fault = trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        fault.map_or(Ok(()), |fault| Err(unreadable(&self.path, fault)))
    }
}

fn message(part: Part) -> v1::ImportRecipientsRequest {
    v1::ImportRecipientsRequest { part: Some(part) }
}

async fn open(path: &Path) -> std::io::Result<tokio::fs::File> {
    let file = tokio::fs::File::open(path).await?;
    if file.metadata().await?.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    Ok(file)
}

fn unreadable(path: &Path, fault: std::io::Error) -> Fault {
    Fault::System(format!("{} cannot be read", path.display()), fault)
}
