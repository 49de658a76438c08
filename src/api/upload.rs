//! What of the REST door is no rpc: files that are sent as they are or in a form, and one that is answered. It decides
//! nothing.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderValue, Method as Verb, StatusCode, header};
use multer::{Constraints, Multipart, SizeLimit};
use serde_json::json;

use super::campaign::{id_of, import};
use super::method::{CallerKind, OnBehalfOf, RateClass};
use super::rest::router::Handler;
use super::rest::writer::{Outgoing, Writer};
use super::rest::{Body, Dialect, Request, Response, Route, error};
use super::{Call, CallHead, Method};
use crate::domain::{Acting, Draft, Service, campaign, file_too_large};
use crate::model::id::CampaignId;
use crate::model::import::{FileKey, Format, Problem};
use crate::model::{Error, Reason, Result, Violation};
use crate::pb::v1;

/// What the path of a signed upload URL begins with; the token follows.
pub const PATH: &str = "/v3/campaigns/uploads/";
/// Where the problems of an import are answered as a file.
const PROBLEMS: &str = "/v3/campaigns/campaigns/{campaign_id}/import-errors.csv";
/// The rpc that takes a form with the file instead of its key.
const IMPORT: &str = "ImportCampaignCsv";

/// The longest that an upload may take, however steadily it comes.
const TIME_MAX: Duration = Duration::from_secs(60 * 60);
/// The longest word in a form, in bytes.
const WORD_MAX: u64 = 100;

/// A file, to a signed URL.
static PUT: Method = Method {
    // The URL is the credential: only its handler can read it.
    callers: &[CallerKind::Public],
    reasons: &[Reason::CampaignNotFound, Reason::InvalidState, Reason::Conflict],
    ..file("PutFile", "/campanile.files/PutFile")
};

/// A form with a file.
static FORM: Method = Method {
    success_status: 202,
    reasons: &[Reason::CampaignNotFound, Reason::InvalidState, Reason::Conflict],
    ..file("ImportFile", "/campanile.files/ImportFile")
};

/// The problems of an import.
static GET: Method = Method {
    takes_file: false,
    body_bytes_max: 0,
    reasons: &[Reason::CampaignNotFound, Reason::ImportNotFound],
    ..file("GetProblems", "/campanile.files/GetProblems")
};

const fn file(rpc: &'static str, grpc_path: &'static str) -> Method {
    Method {
        service: "campanile.files",
        rpc,
        grpc_path,
        success_status: 200,
        callers: &[CallerKind::FullAccess],
        on_behalf_of: OnBehalfOf::RefusedAsBadRequest,
        idempotency_key: false,
        // The setting bounds it.
        body_bytes_max: usize::MAX,
        rate_class: RateClass::Standard,
        reasons: &[],
        server_streaming: false,
        takes_file: true,
        secret_answer: false,
        deprecated: false,
    }
}

/// The routes that are no rpcs.
#[must_use]
pub fn routes(service: &Service, dialect: &'static Dialect) -> Vec<Route> {
    let route = |verb, method, path: &str, handle: Handle| Route {
        method,
        verb,
        path: path.to_owned(),
        dialect,
        handler: handler(service, dialect, handle),
        form: None,
    };
    vec![
        route(Verb::PUT, &PUT, &format!("{PATH}{{token}}"), put),
        route(Verb::GET, &GET, PROBLEMS, get),
    ]
}

/// Lets the route of the import take forms as well.
pub fn take_forms(routes: &mut [Route], service: &Service) {
    for route in routes.iter_mut().filter(|route| route.method.rpc == IMPORT) {
        let form = Route {
            method: &FORM,
            handler: handler(service, route.dialect, |service, request, values| {
                post(service, request, values)
            }),
            ..route.clone()
        };
        route.form = Some(Arc::new(form));
    }
}

type Handle = fn(Service, Request, Vec<String>) -> BoxFuture<'static, Result<Response>>;

fn handler(service: &Service, dialect: &'static Dialect, handle: Handle) -> Handler {
    let service = service.clone();
    Arc::new(move |request, values| {
        let answer = handle(service.clone(), request, values);
        async move { answer.await.unwrap_or_else(|fault| error::response(dialect, fault)) }.boxed()
    })
}

/// What the layers have found out, the first variable of the path, and the rest of the request.
fn opened(request: Request, values: Vec<String>) -> Result<(Call, String, HeaderMap, Body)> {
    let (mut parts, body) = request.into_parts();
    let head: Option<CallHead> = parts.extensions.remove();
    let head = head.ok_or_else(|| Error::internal("the request reached its door without a call head"))?;
    let value = values.into_iter().next().unwrap_or_default();
    Ok((head.with(None), value, parts.headers, body))
}

fn put(service: Service, request: Request, values: Vec<String>) -> BoxFuture<'static, Result<Response>> {
    async move {
        let (call, token, _, body) = opened(request, values)?;
        let (key, draft) = campaign::import::begin_upload(&service, &token, call.now).await?;
        check_size(&service, &body)?;
        let bytes = in_time(write_all(draft, body.into_data_stream().map_err(unreadable))).await?;
        let answer = json!({"data": {"s3Key": key.to_string(), "bytes": bytes}});
        Ok(answered(StatusCode::OK, "application/json", answer.to_string()))
    }
    .boxed()
}

/// An announced size is refused before a byte is read.
fn check_size(service: &Service, body: &Body) -> Result<()> {
    let most = service.upload_bytes_max();
    let announced = http_body::Body::size_hint(body).lower();
    if announced > most {
        Err(file_too_large(most))
    } else {
        Ok(())
    }
}

/// Does the work of an upload, unless it takes too long.
///
/// # Errors
/// Deadline exceeded, and whatever the work answers.
pub(super) async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::time::timeout(TIME_MAX, work).await;
    done.unwrap_or_else(|_| {
        let seconds = TIME_MAX.as_secs();
        let problem = format!("the upload was not complete after {seconds} s");
        Err(Error::new(Reason::DeadlineExceeded, problem))
    })
}

/// Writes a file down, of which nothing is left unless all of it comes.
async fn write_all(mut draft: Draft, pieces: impl Stream<Item = Result<Bytes>>) -> Result<u64> {
    let mut pieces = pin!(pieces);
    while let Some(piece) = pieces.next().await {
        let written = match piece {
            Ok(piece) => draft.write(piece).await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = written {
            draft.abandon().await;
            return Err(fault);
        }
    }
    draft.finish().await
}

fn unreadable(fault: impl std::error::Error + Send + Sync + 'static) -> Error {
    let error = Error::new(Reason::BadRequest, format!("the body cannot be read: {fault}"));
    error.because(fault)
}

fn answered(status: StatusCode, media_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type);
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

fn post(service: Service, request: Request, values: Vec<String>) -> BoxFuture<'static, Result<Response>> {
    async move {
        let dialect = &super::rest::dialect::CAMPAIGNS;
        let (call, id, headers, body) = opened(request, values)?;
        let (acting, id) = (call.acting()?, id_of(&id)?);
        if headers.contains_key("idempotency-key") {
            let rule = "must not be sent with a file: upload it first, and import it by its s3Key";
            return Err(Error::invalid(vec![Violation::new("idempotency-key", rule)]));
        }
        let sent = in_time(read_form(&service, (&acting, id), &headers, body)).await?;
        let started = campaign::import::start(&service, &acting, id, sent).await?;
        let mut writer = Writer::new(dialect);
        writer.open('{');
        writer.key("data");
        v1::ImportJob::from(started.value).write(&mut writer);
        writer.raw("}");
        let status = StatusCode::ACCEPTED;
        Ok(answered(status, "application/json", writer.into_bytes()))
    }
    .boxed()
}

/// Writes the file of a form down, and reads how it is to be read.
async fn read_form(
    service: &Service,
    (acting, id): (&Acting, CampaignId),
    headers: &HeaderMap,
    body: Body,
) -> Result<(String, Format)> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(media_type.unwrap_or_default()).map_err(|fault| {
        let problem = "content-type multipart/form-data must name its boundary";
        Error::new(Reason::UnsupportedMediaType, problem).because(fault)
    })?;
    let limit = SizeLimit::new()
        .for_field("delimiter", WORD_MAX)
        .for_field("encoding", WORD_MAX);
    let limits = Constraints::new().size_limit(limit);
    let mut form = Multipart::with_constraints(body.into_data_stream(), boundary, limits);
    let (mut key, mut delimiter, mut encoding) = (None, None, None);
    while let Some(field) = form.next_field().await.map_err(broken)? {
        match field.name().unwrap_or_default() {
            "file" if key.is_none() => {
                let (file, draft): (FileKey, Draft) = campaign::import::begin_direct(service, acting, id).await?;
                write_all(draft, field.map_err(broken)).await?;
                key = Some(file.to_string());
            }
            "delimiter" if delimiter.is_none() => delimiter = Some(field.text().await.map_err(broken)?),
            "encoding" if encoding.is_none() => encoding = Some(field.text().await.map_err(broken)?),
            "file" | "delimiter" | "encoding" => {
                let twice = Violation::new(field.name().unwrap_or_default(), "must be sent once");
                return Err(Error::invalid(vec![twice]));
            }
            other => {
                let unknown = Violation::new(other, "is not a known field, only file, delimiter and encoding are");
                return Err(Error::invalid(vec![unknown]));
            }
        }
    }
    let format = import::format_of_words(delimiter.as_deref(), encoding.as_deref())?;
    let missing = || Error::invalid(vec![Violation::new("file", "is required")]);
    Ok((key.ok_or_else(missing)?, format))
}

fn broken(fault: multer::Error) -> Error {
    let error = Error::new(Reason::BadRequest, format!("the form cannot be read: {fault}"));
    error.because(fault)
}

fn get(service: Service, request: Request, values: Vec<String>) -> BoxFuture<'static, Result<Response>> {
    async move {
        let (call, id, _, _) = opened(request, values)?;
        let problems = campaign::import::list_all_problems(&service, &call.acting()?, id_of(&id)?).await?;
        let mut response = answered(StatusCode::OK, "text/csv; charset=utf-8", table(&problems));
        let name = HeaderValue::from_static("attachment; filename=\"import-errors.csv\"");
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
        Ok(response)
    }
    .boxed()
}

/// Problems as CSV. What was received may be what a spreadsheet takes for a formula, so such cells begin with an apostrophe.
fn table(problems: &[Problem]) -> String {
    let cell = |text: &str| {
        let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        format!("\"{}{}\"", if formula { "'" } else { "" }, text.replace('"', "\"\""))
    };
    let mut table = "line,column,rule,received\r\n".to_owned();
    for one in problems {
        let received = one.received.as_deref().unwrap_or_default();
        let cells = [cell(&one.column), cell(&one.rule), cell(received)];
        table.push_str(&format!("{},{}\r\n", one.line, cells.join(",")));
    }
    table
}
