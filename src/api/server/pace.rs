//! How slowly a client may take its answers: on the socket, and inside HTTP/2, where a client can keep the socket open and
//! still let no answer through. What an answer holds is not known here.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::api::rest::Body;

/// The largest piece of an answer that is handed over at once, so that how far a client has come shows.
const PIECE_MAX: usize = 64 * 1024;

/// A socket that fails when its client takes nothing for too long.
#[derive(Debug)]
pub(super) struct PacedStream {
    stream: TcpStream,
    pause_max: Duration,
    /// Runs while the client takes nothing; made when that happens first.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl PacedStream {
    pub(super) fn new(stream: TcpStream, pause_max: Duration) -> Self {
        Self {
            stream,
            pause_max,
            timer: None,
            waiting: false,
        }
    }

    fn paced(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.waiting = false;
            return written;
        }
        let ends = Instant::now() + self.pause_max;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(ends)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(ends);
        }
        ready!(timer.as_mut().poll(cx));
        let fault = "the client took nothing of an answer for too long";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, fault)))
    }
}

impl AsyncRead for PacedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl AsyncWrite for PacedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.paced(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.paced(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The answers of one connection of which the client has yet to take what was handed over.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(Arc<Mutex<Untaken>>);

#[derive(Debug, Default)]
struct Untaken {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

impl Pace {
    fn untaken(&self) -> MutexGuard<'_, Untaken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when the client has taken nothing of an answer for so long.
    pub(super) async fn stalled(&self, pause_max: Duration) {
        loop {
            let now = Instant::now();
            let oldest = self.untaken().since.values().min().copied();
            let ends = oldest.unwrap_or(now) + pause_max;
            if ends <= now {
                return;
            }
            tokio::time::sleep_until(ends).await;
        }
    }

    /// An answer that tells how far its client has come.
    pub(super) fn around(&self, body: Body) -> PacedBody {
        PacedBody {
            body,
            rest: Bytes::new(),
            pace: self.clone(),
            number: None,
        }
    }
}

/// The body of an answer, in pieces.
pub(super) struct PacedBody {
    body: Body,
    /// What is left of a frame that was larger than a piece.
    rest: Bytes,
    pace: Pace,
    /// Stands in the connection's list while a piece was handed over and no more was asked for.
    number: Option<u64>,
}

impl PacedBody {
    fn note(&mut self) {
        let mut untaken = self.pace.untaken();
        let number = *self.number.get_or_insert_with(|| {
            untaken.next += 1;
            untaken.next
        });
        untaken.since.insert(number, Instant::now());
    }

    fn forget(&mut self) {
        if let Some(number) = self.number.take() {
            self.pace.untaken().since.remove(&number);
        }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            let Some(Ok(frame)) = frame else {
                return Poll::Ready(frame);
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE_MAX));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl http_body::Body for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = this.next(cx);
        if matches!(frame, Poll::Ready(Some(Ok(_)))) && !this.is_end_stream() {
            this.note();
        } else {
            this.forget();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

impl Drop for PacedBody {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use http_body_util::BodyExt;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_large_answer_comes_in_pieces_and_whole() {
        let pace = Pace::default();
        let large: Vec<u8> = (0..=255).cycle().take(3 * PIECE_MAX + 1).collect();
        let mut body = pace.around(Body::from(large.clone()));
        assert_eq!(body.size_hint().exact(), Some(3 * 65_536 + 1));
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE_MAX);
            whole.extend_from_slice(&piece);
        }
        assert!(whole == large);
        assert!(pace.untaken().since.is_empty());
    }

    #[tokio::test]
    async fn only_what_was_handed_over_and_not_taken_stalls() {
        let pace = Pace::default();
        let stalled = async || tokio::time::timeout(MOMENT * 10, pace.stalled(MOMENT)).await.is_ok();
        let silent = Body::from_stream(futures::stream::pending::<io::Result<Bytes>>());
        let mut silent = pace.around(silent);
        let asked = tokio::time::timeout(MOMENT, silent.frame()).await;
        assert!(asked.is_err() && !stalled().await, "the source is silent");
        let events = futures::stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(b"event")));
        let mut events = pace.around(Body::from_stream(events.boxed()));
        events.frame().await.unwrap().unwrap();
        assert!(stalled().await, "the client is");
        drop(events);
        assert!(!stalled().await, "it has gone");
    }
}
