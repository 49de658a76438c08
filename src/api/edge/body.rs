//! The body of a request: how large it may be, how long its sender may pause, and what is read away once the request is
//! refused. Nothing here knows what a body holds.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, timeout};
use tower::BoxError;

use crate::api::admission::Share;
use crate::model::{Error, Reason};

/// How much of a refused body is read and thrown away before the answer. Without it an HTTP/2 client that is still
/// sending sees a stream error instead of the refusal.
const DRAIN_MAX: u64 = 8 * 1024 * 1024;
/// How long that may take at all.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the sender may pause meanwhile: some wait for the answer before they send more.
const DRAIN_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The body as it comes in, shared by whoever reads it and the layer that reads the rest away. It fails when nothing
/// comes for too long.
pub(crate) struct Held<B>(Arc<Mutex<Wire<B>>>);

struct Wire<B> {
    /// Absent at its end.
    body: Option<B>,
    pause_max: Duration,
    /// Runs while nothing comes; made when that happens first.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    stalled: bool,
}

impl<B> Clone for Held<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B> Held<B> {
    /// Holds a body whose sender may pause for so long.
    pub(crate) fn new(body: B, pause_max: Duration) -> Self {
        let wire = Wire {
            body: Some(body),
            pause_max,
            timer: None,
            waiting: false,
            stalled: false,
        };
        Self(Arc::new(Mutex::new(wire)))
    }

    fn wire(&self) -> MutexGuard<'_, Wire<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The refusal, when the sender paused for too long.
    pub(crate) fn refusal(&self) -> Option<Error> {
        let wire = self.wire();
        let seconds = wire.pause_max.as_secs_f64();
        wire.stalled.then(|| {
            let problem = format!("the request was not complete and nothing more of it came for {seconds} s");
            Error::new(Reason::DeadlineExceeded, problem)
        })
    }
}

impl<B> Held<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Reads away what is left, within bounds of size and time.
    pub(crate) async fn drain(&mut self) {
        self.drain_within(DRAIN_TIME_MAX, DRAIN_PAUSE_MAX).await;
    }

    async fn drain_within(&mut self, time_max: Duration, pause_max: Duration) {
        if self.is_end_stream() || self.size_hint().lower() > DRAIN_MAX {
            return;
        }
        let read = async {
            let mut left = DRAIN_MAX;
            loop {
                let frame = timeout(pause_max, poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx))).await;
                let Ok(Some(Ok(frame))) = frame else { return };
                match left.checked_sub(size(&frame)) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        // Whether the sender came to an end or not, it is answered now.
        drop(timeout(time_max, read).await);
    }
}

impl<B> Body for Held<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let wire = &mut *self.wire();
        let Some(body) = &mut wire.body else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            wire.waiting = false;
            if !matches!(frame, Some(Ok(_))) {
                wire.body = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let ends = Instant::now() + wire.pause_max;
        let timer = wire
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(ends)));
        if !wire.waiting {
            wire.waiting = true;
            timer.as_mut().reset(ends);
        }
        ready!(timer.as_mut().poll(cx));
        wire.body = None;
        wire.stalled = true;
        Poll::Ready(Some(Err("the sender of the body paused for too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.wire().body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let wire = self.wire();
        wire.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

fn size(frame: &Frame<Bytes>) -> u64 {
    let data = frame.data_ref();
    data.map_or(0, |data| u64::try_from(data.remaining()).unwrap_or(u64::MAX))
}

/// Whether a body went over its limit; shared by the body and whoever has to answer for it.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    bytes: u64,
    exceeded: Arc<AtomicBool>,
    share: Arc<Share>,
    /// Whether there was no room for the body.
    crowded: Arc<AtomicBool>,
}

impl Limit {
    /// A limit that nothing has reached, of a body that takes its share of the memory for as long as this lives.
    pub(crate) fn new(bytes: usize, share: Share) -> Self {
        Self {
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            exceeded: Arc::default(),
            share: Arc::new(share),
            crowded: Arc::default(),
        }
    }

    /// A wrapper of a body that shares this limit and allows it this much framing beside the message.
    pub(crate) fn around<B>(&self, body: B, framing: u64) -> Limited<B> {
        Limited {
            body,
            left: Some(self.bytes.saturating_add(framing)),
            limit: self.clone(),
        }
    }

    /// Takes the memory that a frame needs; says whether there is any.
    fn take(&self, frame: &Frame<Bytes>) -> bool {
        let taken = self.share.take(usize::try_from(size(frame)).unwrap_or(usize::MAX));
        self.crowded.store(!taken, Ordering::Release);
        taken
    }

    /// The refusal, when the limit was exceeded or there was no room.
    pub(crate) fn refusal(&self) -> Option<Error> {
        if self.crowded.load(Ordering::Acquire) {
            return Some(self.share.refusal());
        }
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

/// A body that fails when it turns out larger than its limit.
pub(crate) struct Limited<B> {
    body: B,
    /// What may still come; nothing once there was more.
    left: Option<u64>,
    limit: Limit,
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
        let Some(left) = this.left else {
            return Poll::Ready(None);
        };
        // A length that is announced is refused before a byte of it is read.
        let announced = this.body.size_hint().lower();
        let rest = if announced > left {
            None
        } else {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => left.checked_sub(size(&frame)).map(|rest| (rest, frame)),
            }
        };
        this.left = None;
        match rest {
            None => this.limit.exceeded.store(true, Ordering::Release),
            Some((rest, frame)) if this.limit.take(&frame) => {
                this.left = Some(rest);
                return Poll::Ready(Some(Ok(frame)));
            }
            Some(_) => {}
        }
        Poll::Ready(this.limit.refusal().map(|error| Err(error.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;
    use crate::api::admission::{Admission, Options};
    use crate::domain::Calls;

    type Frames = StreamBody<futures::stream::BoxStream<'static, Result<Frame<Bytes>, BoxError>>>;

    fn pieces(count: usize, bytes: usize) -> Frames {
        let piece = Bytes::from(vec![b'x'; bytes]);
        let frames = (0..count).map(move |_| Ok(Frame::data(piece.clone())));
        StreamBody::new(futures::stream::iter(frames).boxed())
    }

    /// Sends one piece and then nothing, without an end.
    fn silence() -> Frames {
        let frames = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"123")))]);
        StreamBody::new(frames.chain(futures::stream::pending()).boxed())
    }

    fn limited(bytes: usize) -> Limit {
        let meter = crate::telemetry::Meter::new();
        Limit::new(
            bytes,
            Admission::new(Options::default(), (&meter, &Calls::default())).share(),
        )
    }

    #[tokio::test]
    async fn a_body_that_finds_no_memory_is_refused_and_gives_back_what_it_took() {
        let options = Options {
            memory_max: 160,
            ..Options::default()
        };
        let house = Admission::new(options, (&crate::telemetry::Meter::new(), &Calls::default()));
        let (one, two) = (Limit::new(1_000, house.share()), Limit::new(1_000, house.share()));
        assert!(
            one.around(pieces(3, 9), 0).collect().await.is_ok(),
            "one alone may be as large as it likes"
        );
        assert!(two.around(pieces(2, 9), 0).collect().await.is_ok());
        let three = Limit::new(1_000, house.share());
        assert!(three.around(pieces(1, 9), 0).collect().await.is_err());
        assert_eq!(three.refusal().unwrap().reason(), Reason::TooManyRequests);
        drop((one, two, three));
        let four = Limit::new(1_000, house.share());
        assert!(four.around(pieces(1, 9), 0).collect().await.is_ok());
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_passes_and_one_more_byte_does_not() {
        let limit = limited(4);
        let body = limit.around(Full::new(Bytes::from_static(b"1234")), 0);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "1234");
        assert!(limit.refusal().is_none());
        let body = limit.around(Full::new(Bytes::from_static(b"12345")), 0);
        assert!(body.collect().await.is_err());
        assert_eq!(limit.refusal().unwrap().reason(), Reason::PayloadTooLarge);
    }

    #[tokio::test]
    async fn a_body_without_length_fails_where_it_goes_over() {
        let limit = limited(4);
        let mut body = limit.around(pieces(3, 3), 0);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_sender_that_pauses_for_too_long_is_refused() {
        let mut body = Held::new(silence(), Duration::from_millis(50));
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.refusal().is_none());
        let began = Instant::now();
        assert!(body.frame().await.unwrap().is_err());
        assert!(began.elapsed() >= Duration::from_millis(50));
        assert_eq!(body.refusal().unwrap().reason(), Reason::DeadlineExceeded);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn the_rest_is_read_away_within_bounds_of_size_and_time() {
        let minute = Duration::from_secs(60);
        let mut body = Held::new(pieces(100, 1_000), minute);
        body.drain().await;
        assert!(body.is_end_stream(), "it was read to its end");
        let mut body = Held::new(pieces(9, 1 << 20), minute);
        body.drain().await;
        assert!(!body.is_end_stream(), "nine megabytes are too many");
        let began = Instant::now();
        let mut body = Held::new(silence(), minute);
        body.drain_within(minute, Duration::from_millis(50)).await;
        let mut body = Held::new(silence(), minute);
        body.drain_within(Duration::from_millis(50), minute).await;
        assert!(began.elapsed() < DRAIN_TIME_MAX);
    }
}
