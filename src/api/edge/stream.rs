//! Requests of many messages: how large each may be, what memory they take, and that they end when the server stops. How
//! many bytes come together is the handler's to say; nothing here knows what a message holds.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http_body::{Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::BoxError;

use super::speech;
use crate::api::Method;
use crate::api::admission::Share;
use crate::api::doors::Services;
use crate::api::method::too_large;
use crate::api::rest::{Body, Response};
use crate::model::{Error, Reason, Result};

/// What stands in front of each message: whether it is packed, and its length.
const PREFIX: usize = 5;
/// When whoever is cut off by a stop may come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Hands a call of a client-streaming rpc to the gRPC door.
///
/// # Errors
/// Too many requests, when there is no memory for one more; payload too large; unavailable, when the server is stopping.
pub(super) async fn call<B>(
    grpc: &Services,
    method: &'static Method,
    (head, body): (Parts, B),
    (share, stopping): (Share, CancellationToken),
) -> Result<Response>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    // One message at a time, so what one may take is taken once, for as long as the stream lasts.
    if !share.take(method.body_bytes_max) {
        return Err(share.refusal());
    }
    let fault = Arc::new(Mutex::new(None));
    let stream = Stream {
        body,
        prefix: [0; PREFIX],
        known: 0,
        left: 0,
        bytes_max: method.body_bytes_max,
        stop: Box::pin(stopping.cancelled_owned()),
        fault: Arc::clone(&fault),
    };
    let request = http::Request::from_parts(head, tonic::body::Body::new(stream));
    let answer = grpc.call(request).await.unwrap_or_else(|never| match never {});
    let response = speech::complete(answer, method.body_bytes_max);
    let fault = fault.lock().unwrap_or_else(PoisonError::into_inner).take();
    fault.map_or_else(|| Ok(response.map(Body::new)), Err)
}

/// A body that fails where a message turns out too large, and when the server stops.
struct Stream<B> {
    body: B,
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are known.
    known: usize,
    /// Bytes of the message that are still to come.
    left: usize,
    bytes_max: usize,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    fault: Arc<Mutex<Option<Error>>>,
}

impl<B> Stream<B> {
    /// Goes through what came, from message to message.
    fn look(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (own, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left = self.left.saturating_sub(own.len());
            let (own, rest) = rest.split_at((PREFIX - self.known).min(rest.len()));
            for byte in own {
                if let Some(place) = self.prefix.get_mut(self.known) {
                    *place = *byte;
                }
                self.known += 1;
            }
            if self.known == PREFIX {
                let [_, length @ ..] = self.prefix;
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.known = 0;
                if self.left > self.bytes_max {
                    return Err(too_large(self.bytes_max));
                }
            }
            bytes = rest;
        }
        Ok(())
    }

    fn fail<D>(&self, error: Error) -> Poll<Option<Result<Frame<D>, BoxError>>> {
        let shown = error.dev_message().to_owned();
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        Poll::Ready(Some(Err(shown.into())))
    }
}

impl<B> http_body::Body for Stream<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.stop.as_mut().poll(cx).is_ready() {
            let problem = "the server is stopping, open the stream again and go on from where it stands";
            return this.fail(Error::new(Reason::Unavailable, problem).retry_after(RETRY_AFTER));
        }
        match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            None => Poll::Ready(None),
            Some(Err(fault)) => Poll::Ready(Some(Err(fault.into()))),
            Some(Ok(frame)) => match frame.data_ref().map_or(Ok(()), |data| this.look(data)) {
                Ok(()) => Poll::Ready(Some(Ok(frame))),
                Err(error) => this.fail(error),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn stream(
        pieces: Vec<Vec<u8>>,
        stopping: CancellationToken,
    ) -> Stream<impl http_body::Body<Data = Bytes, Error = BoxError> + Unpin> {
        let frames = pieces.into_iter().map(|piece| Ok(Frame::data(Bytes::from(piece))));
        Stream {
            body: StreamBody::new(futures::stream::iter(frames).chain(futures::stream::pending())),
            prefix: [0; PREFIX],
            known: 0,
            left: 0,
            bytes_max: 300,
            stop: Box::pin(stopping.cancelled_owned()),
            fault: Arc::default(),
        }
    }

    fn message(bytes: u32) -> Vec<u8> {
        let mut framed = vec![0];
        framed.extend(bytes.to_be_bytes());
        framed.extend(vec![7; usize::try_from(bytes).unwrap()]);
        framed
    }

    /// How many of these pieces pass.
    async fn passing(pieces: Vec<Vec<u8>>) -> (usize, Option<Reason>) {
        let count = pieces.len();
        let mut stream = stream(pieces, CancellationToken::new());
        for passed in 0..count {
            if stream.frame().await.unwrap().is_err() {
                let fault = stream.fault.lock().unwrap().take();
                return (passed, fault.map(|fault| fault.reason()));
            }
        }
        (count, None)
    }

    #[tokio::test]
    async fn each_message_is_measured_alone_however_it_is_cut() {
        let messages = [message(300), message(0), message(1), message(300)].concat();
        for size in [1, 2, 3, 4, 5, 6, 7, 299, 1_000] {
            let pieces: Vec<Vec<u8>> = messages.chunks(size).map(<[u8]>::to_vec).collect();
            let count = pieces.len();
            assert_eq!(passing(pieces).await, (count, None), "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_ends_the_stream_before_its_first_byte() {
        let large = [message(300), message(301)].concat();
        let (before, after) = large.split_at(309);
        let pieces = vec![before.to_vec(), after.split_at(1).0.to_vec(), vec![0; 301]];
        assert_eq!(passing(pieces).await, (1, Some(Reason::PayloadTooLarge)));
    }

    #[tokio::test]
    async fn a_stream_ends_when_the_server_stops() {
        let stopping = CancellationToken::new();
        let mut stream = stream(vec![message(3)], stopping.clone());
        assert!(stream.frame().await.unwrap().is_ok());
        stopping.cancel();
        assert!(stream.frame().await.unwrap().is_err());
        let fault = stream.fault.lock().unwrap().take().unwrap();
        assert_eq!(
            (fault.reason(), fault.retry_hint()),
            (Reason::Unavailable, Some(RETRY_AFTER))
        );
    }
}
