//! Server streams over REST as server-sent events: ids to go on from, comments while nothing happens, and a last event
//! with the envelope when a stream fails. What the events are is not known here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use http_body::Frame;
use tokio::time::{Instant, Sleep};

use super::grpc::note;
use crate::api::Method;
use crate::api::admission::Watching;
use crate::api::rest::writer::{Outgoing, Writer};
use crate::api::rest::{Body, Dialect, Response};
use crate::model::Result;

/// What a handler of a server-streaming rpc answers.
pub type Events<E> = BoxStream<'static, Result<E>>;

/// How long a stream is silent before a comment is sent, so that proxies do not close it.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An event of a stream: a oneof `event` and a `cursor`.
pub trait Event: Outgoing {
    /// The JSON name of the member that is set; none for a kind that this build does not know.
    fn name(&self) -> Option<&'static str>;

    /// Where to go on behind this event; empty for none.
    fn cursor(&self) -> &str;

    /// Writes the member that is set.
    fn write_event(&self, to: &mut Writer);
}

/// The events of a stream that has a place among the watchers for as long as it lasts.
pub(super) fn hold<E: Send + 'static>(events: Events<E>, place: Option<Watching>) -> Events<E> {
    let hold = move |_: &Result<E>| {
        let _held = &place;
    };
    events.inspect(hold).boxed()
}

/// What a stream's answer needs beside its events.
pub(super) struct Frames<E> {
    pub(super) events: Events<E>,
    pub(super) dialect: &'static Dialect,
    pub(super) method: &'static Method,
    pub(super) request_id: Arc<str>,
    pub(super) keep_alive: Duration,
}

/// The response that carries the events.
pub(super) fn response<E: Event + Send + 'static>(frames: Frames<E>) -> Response {
    let timer = Box::pin(tokio::time::sleep(frames.keep_alive));
    let body = SseBody {
        frames,
        timer,
        ended: false,
    };
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would otherwise hold events back until its buffer is full.
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    response
}

struct SseBody<E> {
    frames: Frames<E>,
    timer: Pin<Box<Sleep>>,
    ended: bool,
}

impl<E: Event + Send + 'static> http_body::Body for SseBody<E> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let text = match Pin::new(&mut this.frames.events).poll_next(context) {
            Poll::Ready(Some(Ok(event))) => event_text(&event, this.frames.dialect),
            Poll::Ready(Some(Err(error))) => {
                this.ended = true;
                note(this.frames.method, &this.frames.request_id, &error);
                let mut text = b"event: error\ndata: ".to_vec();
                (this.frames.dialect.error_body)(&error, &mut text);
                text.extend_from_slice(b"\n\n");
                text
            }
            Poll::Ready(None) => {
                this.ended = true;
                return Poll::Ready(None);
            }
            Poll::Pending if this.timer.as_mut().poll(context).is_ready() => b": keep-alive\n\n".to_vec(),
            Poll::Pending => return Poll::Pending,
        };
        this.timer.as_mut().reset(Instant::now() + this.frames.keep_alive);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))))
    }
}

fn event_text<E: Event>(event: &E, dialect: &'static Dialect) -> Vec<u8> {
    let mut writer = Writer::new(dialect);
    // A cursor is visible ASCII by the contract; a line break in one would forge events.
    if !event.cursor().is_empty() && !event.cursor().contains(['\n', '\r', '\0']) {
        writer.raw("id: ");
        writer.raw(event.cursor());
        writer.raw("\n");
    }
    if let Some(name) = event.name() {
        writer.raw("event: ");
        writer.raw(name);
        writer.raw("\n");
    }
    writer.raw("data: ");
    event.write_event(&mut writer);
    writer.raw("\n\n");
    writer.into_bytes()
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use http_body_util::BodyExt;

    use super::*;
    use crate::api::doors;
    use crate::api::rest::dialect::CAMPAIGNS;

    struct Word(&'static str);

    impl Outgoing for Word {
        fn write(&self, to: &mut Writer) {
            to.text(self.0);
        }
    }

    impl Event for Word {
        fn name(&self) -> Option<&'static str> {
            Some("word")
        }

        fn cursor(&self) -> &str {
            self.0
        }

        fn write_event(&self, to: &mut Writer) {
            self.write(to);
        }
    }

    fn frames(events: Events<Word>) -> Frames<Word> {
        Frames {
            events,
            dialect: &CAMPAIGNS,
            method: doors::METHODS[0],
            request_id: Arc::from("test"),
            keep_alive: Duration::from_millis(5),
        }
    }

    async fn next(body: &mut Body) -> String {
        let frame = body.frame().await.unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_silent_stream_sends_comments_until_something_happens() {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Word>>(1);
        let events = tokio_stream::wrappers::ReceiverStream::new(receiver).boxed();
        let mut body = response(frames(events)).into_body();
        assert_eq!(next(&mut body).await, ": keep-alive\n\n");
        assert_eq!(next(&mut body).await, ": keep-alive\n\n");
        sender.send(Ok(Word("hello"))).await.unwrap();
        let mut text = next(&mut body).await;
        while text.starts_with(':') {
            text = next(&mut body).await;
        }
        assert_eq!(text, "id: hello\nevent: word\ndata: \"hello\"\n\n");
        drop(sender);
        while let Some(frame) = body.frame().await {
            assert!(frame.unwrap().into_data().unwrap().starts_with(b":"));
        }
    }

    #[tokio::test]
    async fn a_cursor_cannot_forge_an_event() {
        let events = futures::stream::iter([Ok(Word("a\ndata: forged"))]).boxed();
        let mut body = response(frames(events)).into_body();
        assert_eq!(next(&mut body).await, "event: word\ndata: \"a\\ndata: forged\"\n\n");
    }
}
