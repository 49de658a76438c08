//! How streams end when the server wants them to: at their deadline, or because it is stopping. It never touches what
//! the stream itself sends.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio_util::sync::CancellationToken;

use crate::api::rest::{Body, Dialect};
use crate::api::status;
use crate::model::{Error, Reason};

/// Resolves when a stream has to end, with the reason.
pub(crate) type End = Pin<Box<dyn Future<Output = Error> + Send>>;

/// The end of a stream: its deadline, if it has one, or the stop of the server.
pub(crate) fn end(deadline: Option<Instant>, stopping: CancellationToken) -> End {
    Box::pin(async move {
        let deadline = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = deadline => Error::new(Reason::DeadlineExceeded, "the deadline of the stream passed"),
            () = stopping.cancelled() => Error::new(Reason::Unavailable, "server is stopping, open the stream again")
                .retry_after(std::time::Duration::from_secs(1)),
        }
    })
}

/// How the last frame of a stream looks.
pub(crate) enum Form {
    /// Trailers with a status.
    Grpc,
    /// A server-sent event `error` with the dialect's envelope.
    Rest(&'static Dialect),
}

impl Form {
    fn last_frame(&self, error: &Error) -> Frame<Bytes> {
        match self {
            Self::Grpc => {
                let mut trailers = HeaderMap::new();
                if status::to_status(error).add_header(&mut trailers).is_err() {
                    trailers.insert("grpc-status", error.reason().grpc_code().into());
                }
                Frame::trailers(trailers)
            }
            Self::Rest(dialect) => {
                let mut text = b"event: error\ndata: ".to_vec();
                (dialect.error_body)(error, &mut text);
                text.extend_from_slice(b"\n\n");
                Frame::data(text.into())
            }
        }
    }
}

/// A stream's body that ends when it is told to.
pub(crate) struct Ending {
    body: Body,
    end: Option<End>,
    form: Form,
}

impl Ending {
    pub(crate) fn new(body: Body, end: End, form: Form) -> Self {
        let end = Some(end);
        Self { body, end, form }
    }
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let Some(end) = &mut this.end else {
            return Poll::Ready(None);
        };
        // First, so that a stream that always has more to say ends as well; its cursor finds what is missed.
        match end.as_mut().poll(cx) {
            Poll::Pending => Pin::new(&mut this.body).poll_frame(cx),
            Poll::Ready(error) => {
                this.end = None;
                this.body = Body::empty();
                Poll::Ready(Some(Ok(this.form.last_frame(&error))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() || self.body.is_end_stream()
    }
}
