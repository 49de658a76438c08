//! The REST door: from HTTP requests to the handlers and back. It reads bodies, queries, paths and two headers; what
//! they mean is in the generated tables.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use http::header::{CONTENT_TYPE, IF_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost::Message;

use super::binding::{Answer, Binding, BodyRule};
use super::grpc::{enter, missing_head, note};
use super::idempotency::REPLAYED;
use super::sse::{self, Event, Events, Frames, KEEP_ALIVE};
use crate::api::check::Problems;
use crate::api::method::too_large;
use crate::api::rest::read::{Incoming, at};
use crate::api::rest::router::Handler;
use crate::api::rest::writer::{Outgoing, Writer};
use crate::api::rest::{Body, Dialect, Request, Response, Route, error, query};
use crate::api::{Call, CallHead, Method, Reply};
use crate::model::{Error, Reason, Result};

/// The route of a unary rpc, unless the dialect does not serve its path.
pub fn unary<T, Req, Res, Reading>(
    api: &Arc<T>,
    binding: &'static Binding,
    dialect: &'static Dialect,
    handle: fn(Arc<T>, Call, Req) -> Reading,
) -> Option<Route>
where
    T: Send + Sync + 'static,
    Req: Incoming + Message + 'static,
    Res: Outgoing,
    Reading: Future<Output = Result<Reply<Res>>> + Send + 'static,
{
    let api = Arc::clone(api);
    let handler: Handler = Arc::new(move |request, values| {
        let api = Arc::clone(&api);
        async move {
            let door = Door::new(&request, binding, dialect);
            let answer = match door.open::<Req>(request, values).await {
                Ok((call, request)) => handle(api, call, request).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(reply) => door.answer(&reply),
                Err(error) => door.refuse(error),
            }
        }
        .boxed()
    });
    route(binding, dialect, handler)
}

/// The route of a server-streaming rpc, unless the dialect does not serve its path.
pub fn stream<T, Req, E, Reading>(
    api: &Arc<T>,
    binding: &'static Binding,
    dialect: &'static Dialect,
    handle: fn(Arc<T>, Call, Req) -> Reading,
) -> Option<Route>
where
    T: Send + Sync + 'static,
    Req: Incoming + Message + 'static,
    E: Event + Send + 'static,
    Reading: Future<Output = Result<Events<E>>> + Send + 'static,
{
    let api = Arc::clone(api);
    let handler: Handler = Arc::new(move |request, values| {
        let api = Arc::clone(&api);
        async move {
            let door = Door::new(&request, binding, dialect);
            let events = match door.open::<Req>(request, values).await {
                Ok((call, request)) => match call.watch() {
                    Ok(watching) => handle(api, call, request)
                        .await
                        .map(|events| sse::hold(events, watching)),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            match events {
                Ok(events) => sse::response(Frames {
                    events,
                    dialect,
                    method: binding.method,
                    request_id: door.request_id,
                    keep_alive: KEEP_ALIVE,
                }),
                Err(error) => door.refuse(error),
            }
        }
        .boxed()
    });
    route(binding, dialect, handler)
}

fn route(binding: &'static Binding, dialect: &'static Dialect, handler: Handler) -> Option<Route> {
    Some(Route {
        method: binding.method,
        verb: Verb::from_bytes(binding.verb.as_bytes()).ok()?,
        path: dialect.paths.apply(binding.path)?,
        dialect,
        handler,
        form: None,
    })
}

/// One request at one binding.
struct Door {
    binding: &'static Binding,
    dialect: &'static Dialect,
    request_id: Arc<str>,
}

impl Door {
    fn new(request: &Request, binding: &'static Binding, dialect: &'static Dialect) -> Self {
        let head = request.extensions().get::<CallHead>();
        Self {
            binding,
            dialect,
            request_id: head.map_or_else(|| Arc::from(""), |head| Arc::clone(&head.request_id)),
        }
    }

    /// Reads and checks a request.
    async fn open<Req: Incoming + Message>(&self, request: Request, values: Vec<String>) -> Result<(Call, Req)> {
        let (mut parts, body) = request.into_parts();
        let head = parts.extensions.remove::<CallHead>().ok_or_else(missing_head)?;
        let bytes = read_body(self.binding.method, &parts.headers, body).await?;
        let mut problems = Problems::new();
        problems.names = self.dialect.paging.names;
        let mut request = Req::default();
        self.read_message(&mut request, &bytes, &mut problems)?;
        self.read_parts(&mut request, &parts, &values, &mut problems);
        let (mut call, request) = enter(head, request, &parts.headers, problems)?;
        call.enter().await?;
        Ok((call, request))
    }

    /// Reads the body.
    fn read_message<Req: Incoming>(&self, request: &mut Req, bytes: &[u8], problems: &mut Problems) -> Result<()> {
        let blank = bytes.iter().all(u8::is_ascii_whitespace);
        match self.binding.body {
            BodyRule::None => {
                let empty = blank || bytes.trim_ascii() == b"{}";
                if !empty {
                    problems.key("body", |problems| problems.violate("must be empty"));
                }
            }
            _ if blank => {}
            BodyRule::Whole => parse(bytes, |from| request.read(from, problems).map(|_| ()))?,
            BodyRule::Field(field) => {
                problems.body_field = Req::FIELDS.get(field).map(|field| field.json);
                problems.present = self.binding.hidden.contains(&"update_mask").then(Vec::new);
                parse(bytes, |from| {
                    at::<Req, _>(field, problems, |problems| request.read_field(field, from, problems))
                })?;
            }
        }
        if let BodyRule::Field(field) = self.binding.body {
            problems.body_field = Req::FIELDS.get(field).map(|field| field.json);
        }
        Ok(())
    }

    /// Reads what stands outside the body.
    fn read_parts<Req: Incoming>(&self, request: &mut Req, parts: &Parts, values: &[String], problems: &mut Problems) {
        let binding = self.binding;
        if let Some(text) = parts.uri.query() {
            query::read(request, text, binding, self.dialect, problems);
        }
        if !query::is_encoded(parts.uri.path()) {
            problems.key("path", |problems| problems.refuse(query::ENCODED, parts.uri.path()));
        }
        for (path, value) in binding.variables.iter().zip(values) {
            query::set(request, path, value, problems);
        }
        if let (Some(field), Some(value)) = (binding.etag, parts.headers.get(IF_MATCH)) {
            // Handlers compare etags as they are: a weak one is compared like a strong one, because proxies that compress
            // weaken them on the way.
            let text = value.to_str().unwrap_or_default().trim();
            let etag = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
            if etag.contains(['"', ',']) {
                problems.field("If-Match", |problems| {
                    problems.refuse("must be one etag in double quotes, or *", text);
                });
            } else if etag != "*" {
                at::<Req, _>(field, problems, |problems| {
                    request.parse_field(field, "", etag, problems)
                });
            }
        }
        let last = parts.headers.get(HeaderName::from_static("last-event-id"));
        if let (Some(field), Some(value)) = (binding.cursor, last) {
            let text = value.to_str().unwrap_or_default();
            let told = problems.given.iter().any(|path| path == "cursor");
            if !told {
                at::<Req, _>(field, problems, |problems| {
                    request.parse_field(field, "", text, problems)
                });
            }
        }
        self.read_limit(request, problems);
    }

    /// Sets the rows of a page where the dialect has a default of its own.
    fn read_limit<Req: Incoming>(&self, request: &mut Req, problems: &mut Problems) {
        let (Some(field), Some(default)) = (self.binding.limit, self.dialect.paging.limit_default) else {
            return;
        };
        at::<Req, _>(field, problems, |problems| {
            if !problems.given.contains(&problems.path()) {
                request.parse_field(field, "", &default.to_string(), problems);
            }
        });
    }

    /// Writes an answer.
    fn answer<Res: Outgoing>(&self, reply: &Reply<Res>) -> Response {
        let mut writer = Writer::new(self.dialect);
        write_answer(&reply.message, self.binding.answer, self.dialect, &mut writer);
        let mut response = Response::new(Body::from(writer.into_bytes()));
        let status = (self.dialect.success_status)(self.binding.method.success_status);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if reply.replayed {
            headers.insert(HeaderName::from_static(REPLAYED), HeaderValue::from_static("true"));
        }
        if self.binding.method.deprecated {
            // RFC 9745 wants a date; `@0` says: since before you asked.
            headers.insert(HeaderName::from_static("deprecation"), HeaderValue::from_static("@0"));
        }
        response
    }

    fn refuse(&self, error: Error) -> Response {
        note(self.binding.method, &self.request_id, &error);
        error::response(self.dialect, error)
    }
}

/// Writes a response into the dialect's envelope.
fn write_answer<Res: Outgoing>(message: &Res, answer: Answer, dialect: &Dialect, to: &mut Writer) {
    let envelope = &dialect.envelope;
    match (answer, envelope.single) {
        (Answer::List { rows, meta, pagination }, _) => {
            to.open('{');
            to.key(envelope.list);
            message.write_field(rows, to);
            for (key, field) in [(envelope.meta, meta), (envelope.pagination, pagination)] {
                if let (Some(key), Some(field)) = (key, field)
                    && message.is_present(field)
                {
                    to.key(key);
                    to.paging(|to| message.write_field(field, to));
                }
            }
            to.raw("}");
        }
        (Answer::Whole, None) => message.write(to),
        (Answer::Field(field), None) => message.write_field(field, to),
        (Answer::Whole, Some(key)) => {
            to.open('{');
            to.key(key);
            message.write(to);
            to.raw("}");
        }
        (Answer::Field(field), Some(key)) => {
            to.open('{');
            to.key(key);
            message.write_field(field, to);
            to.raw("}");
        }
    }
}

/// Reads a body to its end, which is where its size, its type and its encoding show.
async fn read_body(method: &Method, headers: &HeaderMap, body: Body) -> Result<Bytes> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // An announced size is not refused here: the layer in front reads such a body away first, because an HTTP/2 client that
    // is still sending would see a stream error and no answer.
    let bytes = match Limited::new(body, method.body_bytes_max).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(fault) if is_limit(&*fault) => return Err(too_large(method.body_bytes_max)),
        Err(fault) => {
            let error = Error::new(Reason::BadRequest, format!("the body cannot be read: {fault}"));
            return Err(error.because(fault));
        }
    };
    if !bytes.is_empty() && !is_json(headers) {
        let sent = headers
            .get(CONTENT_TYPE)
            .map(|value| String::from_utf8_lossy(value.as_bytes()));
        let sent: String = sent.as_deref().unwrap_or("none").chars().take(100).collect();
        let sentence = format!("content-type must be application/json in utf-8, received {sent:?}");
        return Err(Error::new(Reason::UnsupportedMediaType, sentence).with("contentType", sent));
    }
    Ok(bytes)
}

/// Layers in front may limit the body too; their error then is inside others.
fn is_limit(fault: &(dyn std::error::Error + 'static)) -> bool {
    fault.is::<LengthLimitError>() || fault.source().is_some_and(is_limit)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut parts = value.unwrap_or_default().split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    kind.eq_ignore_ascii_case("application/json") && parts.all(is_utf8)
}

/// Whether a parameter of a content type names no other charset.
fn is_utf8(parameter: &str) -> bool {
    match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    }
}

/// Reads JSON to its end. Only text that is not JSON is an error here, with its place.
fn parse<'de>(
    bytes: &'de [u8],
    read: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::SliceRead<'de>>) -> serde_json::Result<()>,
) -> Result<()> {
    let mut from = serde_json::Deserializer::from_slice(bytes);
    read(&mut from).and_then(|()| from.end()).map_err(|fault| {
        let sentence = format!("the body is not JSON: {fault}");
        Error::new(Reason::BadRequest, sentence)
    })
}
