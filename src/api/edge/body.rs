//! The size of a request's body: a wrapper that counts what is read and stops at the limit. It reads nothing that nobody
//! asked for, except to drain a body that is already refused.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

use crate::model::{Error, Reason};

/// How much of a refused body is read and thrown away before the answer. Without it an HTTP/2 client that is still
/// sending sees a stream error instead of the 413.
const DRAIN_MAX: u64 = 8 * 1024 * 1024;

/// Whether a body went over its limit; shared by the body and whoever has to answer for it.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    bytes: u64,
    exceeded: Arc<AtomicBool>,
}

impl Limit {
    /// A limit that nothing has reached.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            exceeded: Arc::default(),
        }
    }

    /// A wrapper of a body that shares this limit and allows it this much framing beside the message.
    pub(crate) fn around<B>(&self, body: B, framing: u64) -> Limited<B> {
        Limited {
            body,
            state: State::Reading {
                left: self.bytes.saturating_add(framing),
            },
            limit: self.clone(),
        }
    }

    /// The refusal, when the limit was exceeded.
    pub(crate) fn refusal(&self) -> Option<Error> {
        let exceeded = self.exceeded.load(Ordering::Acquire);
        exceeded.then(|| {
            let problem = format!(
                "request body must not be larger than {} bytes after decompression",
                self.bytes
            );
            Error::new(Reason::PayloadTooLarge, problem).with("limitBytes", self.bytes)
        })
    }
}

enum State {
    Reading { left: u64 },
    Draining { left: u64 },
    Over,
}

/// A body that fails when it turns out larger than its limit.
pub(crate) struct Limited<B> {
    body: B,
    state: State,
    limit: Limit,
}

impl<B> Limited<B> {
    fn exceed(&mut self) {
        self.limit.exceeded.store(true, Ordering::Release);
        self.state = State::Draining { left: DRAIN_MAX };
    }

    fn refuse(&mut self) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.state = State::Over;
        Poll::Ready(self.limit.refusal().map(|error| Err(error.into())))
    }
}

impl<B> Body for Limited<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            match this.state {
                State::Over => return Poll::Ready(None),
                // A length that is announced is refused before a byte of it is read.
                State::Reading { left } if this.body.size_hint().lower() > left => {
                    this.exceed();
                    if this.body.size_hint().lower() > DRAIN_MAX {
                        return this.refuse();
                    }
                }
                State::Reading { .. } | State::Draining { .. } => {}
            }
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => {
                    let draining = matches!(this.state, State::Draining { .. });
                    return if draining { this.refuse() } else { Poll::Ready(None) };
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => frame,
            };
            let size = frame
                .data_ref()
                .map_or(0, |data| u64::try_from(data.remaining()).unwrap_or(u64::MAX));
            match &mut this.state {
                State::Over => {}
                State::Reading { left } => match left.checked_sub(size) {
                    Some(rest) => {
                        *left = rest;
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    None => this.exceed(),
                },
                State::Draining { left } => match left.checked_sub(size) {
                    Some(rest) => *left = rest,
                    None => return this.refuse(),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Over) || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_passes_and_one_more_byte_does_not() {
        let limit = Limit::new(4);
        let body = limit.around(Full::new(Bytes::from_static(b"1234")), 0);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "1234");
        assert!(limit.refusal().is_none());
        let body = limit.around(Full::new(Bytes::from_static(b"12345")), 0);
        assert!(body.collect().await.is_err());
        assert_eq!(limit.refusal().unwrap().reason(), Reason::PayloadTooLarge);
    }

    #[tokio::test]
    async fn a_body_without_length_is_drained_before_it_fails() {
        let frames = (0..3).map(|_| Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"123"))));
        let limit = Limit::new(4);
        let mut body = limit.around(StreamBody::new(futures::stream::iter(frames)), 0);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(
            body.frame().await.unwrap().is_err(),
            "the second and the third are swallowed"
        );
        assert!(body.frame().await.is_none());
    }
}
