//! The gRPC door: from tonic's requests to the handlers and back. Credentials, deadlines and limits were looked after by
//! the layers in front.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use http::HeaderValue;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::idempotency::{self, REPLAYED};
use super::messages::Messages;
use super::sse::{self, Events};
use crate::api::check::{Checked, Problems};
use crate::api::method::too_large;
use crate::api::{Call, CallHead, Method, Reply, status};
use crate::model::{Error, Reason, Result};

/// The answer of a server-streaming rpc.
pub type GrpcEvents<E> = BoxStream<'static, Result<E, Status>>;

/// Checks the request, calls the handler, and gives its answer.
pub async fn unary<Req, Res, Answer>(
    request: Request<Req>,
    handle: impl FnOnce(Call, Req) -> Answer,
) -> Result<Response<Res>, Status>
where
    Req: Checked + Message,
    Answer: Future<Output = Result<Reply<Res>>>,
{
    let (mut call, request) = open(request)?;
    let (method, id) = (call.method, Arc::clone(&call.request_id));
    call.enter().await.map_err(|error| refused(method, &id, &error))?;
    match handle(call, request).await {
        Ok(reply) => {
            let mut response = Response::new(reply.message);
            if reply.replayed {
                response
                    .metadata_mut()
                    .insert(REPLAYED, MetadataValue::from_static("true"));
            }
            Ok(response)
        }
        Err(error) => Err(refused(method, &id, &error)),
    }
}

/// Checks the request, calls the handler, and gives its events.
pub async fn stream<Req, E, Answer>(
    request: Request<Req>,
    handle: impl FnOnce(Call, Req) -> Answer,
) -> Result<Response<GrpcEvents<E>>, Status>
where
    Req: Checked + Message,
    E: Send + 'static,
    Answer: Future<Output = Result<Events<E>>>,
{
    let (mut call, request) = open(request)?;
    let (method, id) = (call.method, Arc::clone(&call.request_id));
    let opened = async {
        call.enter().await?;
        let watching = call.watch()?;
        Ok(sse::hold(handle(call, request).await?, watching))
    };
    let events: Events<E> = opened.await.map_err(|error| refused(method, &id, &error))?;
    let events = events.map(move |event| event.map_err(|error| refused(method, &id, &error)));
    Ok(Response::new(events.boxed()))
}

/// Lets the handler read the messages of a client-streaming rpc, and gives its answer. The stream takes a place among those
/// that are open, as the ones that answer do: it may be as long.
pub async fn collect<Req, Res, Answer>(
    request: Request<Streaming<Req>>,
    handle: impl FnOnce(Call, Messages<Req>) -> Answer,
) -> Result<Response<Res>, Status>
where
    Req: Checked + Message,
    Answer: Future<Output = Result<Reply<Res>>>,
{
    let (_, mut extensions, stream) = request.into_parts();
    let Some(head) = extensions.remove::<CallHead>() else {
        return Err(status::to_status(&missing_head()));
    };
    let call = head.with(None);
    let (method, id) = (call.method, Arc::clone(&call.request_id));
    let answered = async {
        let _held = call.watch()?;
        handle(call, Messages::new(stream, method)).await
    };
    let reply = answered.await.map_err(|error| refused(method, &id, &error))?;
    Ok(Response::new(reply.message))
}

fn open<Req: Checked + Message>(request: Request<Req>) -> Result<(Call, Req), Status> {
    let (metadata, mut extensions, message) = request.into_parts();
    let Some(head) = extensions.remove::<CallHead>() else {
        return Err(status::to_status(&missing_head()));
    };
    let id = Arc::clone(&head.request_id);
    let method = head.method;
    let opened = enter(head, message, &metadata.into_headers(), Problems::new());
    opened.map_err(|error| refused(method, &id, &error))
}

/// The error of a request that no layer has looked at: a fault of our own wiring.
pub(super) fn missing_head() -> Error {
    Error::internal("the request reached its door without a call head")
}

/// What both doors do with a request that was read: settle, check, bind the idempotency key.
///
/// # Errors
/// All problems of the request at once, with those found while reading it.
pub(super) fn enter<Req: Checked + Message>(
    head: CallHead,
    mut request: Req,
    headers: &http::HeaderMap<HeaderValue>,
    mut problems: Problems,
) -> Result<(Call, Req)> {
    let method = head.method;
    let key = idempotency::read(method, headers, &mut problems);
    problems.checking = true;
    request.prepare(&mut problems);
    problems.into_result()?;
    let bytes = request.encoded_len();
    if bytes > method.body_bytes_max {
        return Err(too_large(method.body_bytes_max));
    }
    let idempotency = key.map(|key| idempotency::bind(method, key, &request));
    Ok((head.with(idempotency), request))
}

fn refused(method: &Method, request_id: &str, error: &Error) -> Status {
    note(method, request_id, error);
    status::to_status(error)
}

/// Logs a fault of our own, once, where it is turned into an answer. Refusals are the caller's business.
pub(super) fn note(method: &Method, request_id: &str, error: &Error) {
    if matches!(error.reason(), Reason::Internal | Reason::Unavailable) {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::error!(
            rpc.service = method.service,
            rpc.method = method.rpc,
            request.id = request_id,
            reason = error.reason().word(),
            cause,
            "call failed"
        );
    }
}
