//! Whatever is sent to whichever rpc through either door, it is answered with what the contract promises: no panic, no
//! fault of our own, and every refusal in its documented form. The requests go through the real layers, without a socket.
//!
//! `CAMPANILE_TEST_FUZZ_CASES` sets the number of requests of each test; `make fuzz` runs many. What once failed is kept in
//! `proptest-regressions` beside this file and tried first.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use campanile::api::doors::METHODS;
use campanile::api::edge::Edge;
use campanile::api::{Method, start};
use campanile::domain::{Service, Settings, app};
use campanile::model::Reason;
use futures::StreamExt;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseError, TestRunner};
use prost::Message;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic_types::pb::{ErrorInfo, Status};
use tower::Service as _;

use crate::support::chaos::Choices;
use crate::support::database::{Backend, TestDatabase};
use crate::support::rpc::Rpc;
use crate::support::server::{OPERATOR_KEY, Setup};

const KEY: &str = "full-access-key-of-the-app-club-0001";
/// Numbers that one request is made of, at most.
const NUMBERS_MAX: usize = 250;

/// What every rpc may answer beside the reasons that it lists, as proto/README.md has it.
const COMMON: [Reason; 9] = [
    Reason::BadRequest,
    Reason::Unauthorized,
    Reason::Forbidden,
    Reason::TooManyRequests,
    Reason::PayloadTooLarge,
    Reason::UnsupportedMediaType,
    Reason::DeadlineExceeded,
    Reason::NotFound,
    Reason::MethodNotAllowed,
];

#[expect(
    clippy::disallowed_methods,
    reason = "a test run is told by its environment how much it is to do"
)]
fn cases(short: u32) -> u32 {
    let given = std::env::var("CAMPANILE_TEST_FUZZ_CASES").ok();
    given.map_or(short, |cases| cases.parse().unwrap())
}

/// The service with something in it, behind its layers.
struct Target {
    edge: Edge,
    rpcs: Vec<Rpc>,
    words: Vec<String>,
    /// Rpcs that were answered with a success.
    reached: Mutex<BTreeSet<String>>,
    asked: AtomicU32,
    _db: TestDatabase,
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

impl Target {
    async fn start(backend: Backend) -> Option<Self> {
        let db = TestDatabase::new(backend).await?;
        let service = Service::open(Settings::new(db.settings())).await.unwrap();
        let (slug, key) = ("club".parse().unwrap(), KEY.parse().unwrap());
        app::ensure_bootstrap(&service, slug, key).await.unwrap();
        let options = Setup::new().edge;
        let stop = CancellationToken::new();
        let doors = start::doors(&service).unwrap();
        let edge = start::edge(&service, doors, &options, stop);
        let mut target = Self {
            edge,
            rpcs: Rpc::all(),
            words: Vec::new(),
            reached: Mutex::default(),
            asked: AtomicU32::new(0),
            _db: db,
        };
        target.furnish().await;
        Some(target)
    }

    /// Makes a few entities, and learns words that lead to them.
    async fn furnish(&mut self) {
        let words = [
            "ada",
            "bob",
            "order",
            "in_app",
            "in-app",
            "Orders",
            "shop",
            "name",
            "hello",
            "-createdAt",
            "createdAt",
            "asc",
            "desc",
            "append",
            "prepend",
            "1",
            "2024-01-15T09:30:00.000Z",
            "en",
            "{{name}}",
            "approved",
            "draft",
            "default",
            "https://example.com/a.png",
            "v1",
            "*",
        ];
        self.words = words.map(str::to_owned).to_vec();
        let made = [
            ("/v3/users", json!({"uid": "ada", "name": "Ada"})),
            ("/v3/users", json!({"uid": "bob", "name": "Bob"})),
            (
                "/v3/campaigns/channels",
                json!({"channelId": "in-app", "type": "in_app", "name": "In-app", "enabled": true}),
            ),
            ("/v3/campaigns/templates/categories", json!({"name": "Orders"})),
            (
                "/v3/campaigns/templates",
                json!({"templateId": "order", "name": "Order", "channels": [{"channelType": "in_app"}]}),
            ),
        ];
        for (path, body) in made {
            let made = self.json("POST", path, &body).await;
            self.words.extend(made["data"]["id"].as_str().map(str::to_owned));
        }
        let approved = json!({"status": "approved"});
        self.json("PUT", "/v3/campaigns/templates/order", &approved).await;
        let send = json!({"templateId": "order", "receivers": ["ada"]});
        let sent = self.json("POST", "/v3/campaigns/notifications/messages", &send).await;
        let sent = &sent["data"];
        for id in [
            &sent["notificationId"],
            &sent["receivers"][0]["deliveries"][0]["feedItemId"],
        ] {
            self.words.push(id.as_str().unwrap().to_owned());
        }
    }

    async fn json(&self, verb: &str, path: &str, body: &Value) -> Value {
        let request = http::Request::builder()
            .method(verb)
            .uri(path)
            .header("host", "localhost")
            .header("apikey", KEY)
            .header("content-type", "application/json");
        let answer = self.send(request.body(body.to_string().into_bytes()).unwrap(), 1).await;
        let body = String::from_utf8(answer.body).unwrap();
        assert!(answer.status < 300, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Sends a request whose body comes in so many pieces.
    async fn send(&self, request: http::Request<Vec<u8>>, pieces: usize) -> Answer {
        let (head, body) = request.into_parts();
        let size = body.len().div_ceil(pieces).max(1);
        let frames: Vec<_> = body
            .chunks(size)
            .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece.to_vec()))))
            .collect();
        let body = StreamBody::new(futures::stream::iter(frames).boxed());
        let answer = self.edge.clone().call(http::Request::from_parts(head, body)).await;
        let (head, body) = answer.unwrap_or_else(|never| match never {}).into_parts();
        let body = body.collect().await.unwrap();
        let mut headers = head.headers;
        headers.extend(body.trailers().cloned().unwrap_or_default());
        Answer {
            status: head.status.as_u16(),
            headers,
            body: body.to_bytes().to_vec(),
        }
    }

    async fn rest(&self, choices: &mut Choices<'_>) -> Result<(), TestCaseError> {
        let rpc = &self.rpcs[choices.below(self.rpcs.len())];
        let Some((request, aimed)) = rest_request(rpc, choices) else {
            return Ok(());
        };
        let shown = shown(&request);
        let answer = self.send(request, 1 + choices.below(3)).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let fail =
            |problem: &str| TestCaseError::fail(format!("{problem}: {shown}\nanswered {} {text}", answer.status));
        let head = shown.starts_with("HEAD ");
        let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
            let page = head || text.is_empty() || !answer.headers["content-type"].to_str().unwrap().contains("json");
            return if page && answer.status < 300 {
                Ok(())
            } else {
                Err(fail("the answer is not JSON"))
            };
        };
        if answer.status < 300 {
            self.reach(rpc);
            let enveloped = body.get("data").is_some() || !aimed;
            return if enveloped {
                Ok(())
            } else {
                Err(fail("a success without data"))
            };
        }
        let error = &body["error"];
        let reason = Reason::ALL
            .iter()
            .find(|reason| Some(reason.word()) == error["code"].as_str());
        let Some(reason) = reason else {
            return Err(fail("an unknown code"));
        };
        let plain = error["message"].is_string() && error["source"] == "campaigns-service";
        let details = error.get("details").is_none_or(|details| {
            details
                .as_object()
                .is_some_and(|details| !details.is_empty() && details.values().all(Value::is_string))
        });
        if !plain || !details || reason.http_status() != answer.status {
            return Err(fail("another envelope"));
        }
        check_reason(rpc, *reason, aimed).map_err(|problem| fail(&problem))
    }

    async fn grpc(&self, choices: &mut Choices<'_>) -> Result<(), TestCaseError> {
        let rpc = &self.rpcs[choices.below(self.rpcs.len())];
        let request = grpc_request(rpc, choices);
        let shown = shown(&request);
        let mut answer = self.send(request, 1 + choices.below(3)).await;
        answer.headers.extend(web_trailers(&answer));
        let fail = |problem: &str| TestCaseError::fail(format!("{problem}: {shown}\nanswered {:?}", answer.headers));
        let code = answer.headers.get("grpc-status").and_then(|code| code.to_str().ok());
        match code {
            Some("0") => {
                self.reach(rpc);
                Ok(())
            }
            Some(code) => {
                let info = error_info(&answer.headers).ok_or_else(|| fail("no ErrorInfo"))?;
                let reason = Reason::ALL.iter().find(|reason| reason.word() == info.reason);
                let reason = reason.ok_or_else(|| fail("an unknown reason"))?;
                if reason.grpc_code().to_string() != code {
                    return Err(fail("another code than the reason's"));
                }
                check_reason(rpc, *reason, true).map_err(|problem| fail(&problem))
            }
            None => Err(fail("no grpc-status")),
        }
    }

    fn reach(&self, rpc: &Rpc) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.insert(rpc.name().to_owned());
    }
}

/// Whether the contract says that an rpc may answer so; `aimed` when the request certainly went to it.
fn check_reason(rpc: &Rpc, reason: Reason, aimed: bool) -> Result<(), String> {
    if matches!(reason, Reason::Internal | Reason::Unavailable) {
        return Err("a fault of our own".to_owned());
    }
    // A packing of messages that is not known is told by this code.
    let common = COMMON.contains(&reason) || reason == Reason::Unimplemented;
    let of_key = reason == Reason::Conflict && method(rpc).idempotency_key;
    let listed = method(rpc).reasons.contains(&reason) || common || of_key;
    if aimed && !listed {
        return Err(format!("{} does not list {reason:?}", rpc.name()));
    }
    Ok(())
}

fn method(rpc: &Rpc) -> &'static Method {
    let service = rpc.method.parent_service();
    METHODS
        .iter()
        .find(|method| method.rpc == rpc.name() && method.service == service.full_name())
        .unwrap()
}

/// What gRPC-Web has at the end of a body, because HTTP/1 has no trailers for browsers.
fn web_trailers(answer: &Answer) -> http::HeaderMap {
    use base64::Engine as _;
    let kind = answer.headers["content-type"].to_str().unwrap();
    let body = if kind.starts_with("application/grpc-web-text") {
        // Each frame is padded by itself.
        let frames = answer.body.split_inclusive(|byte| *byte == b'=');
        let decode = |frame: &[u8]| {
            base64::engine::general_purpose::STANDARD
                .decode(frame)
                .unwrap_or_default()
        };
        frames.flat_map(decode).collect()
    } else if kind.starts_with("application/grpc-web") {
        answer.body.clone()
    } else {
        Vec::new()
    };
    let text = String::from_utf8_lossy(&body);
    let start = text.find("grpc-status:").unwrap_or(text.len());
    let lines = text.get(start..).unwrap_or_default().lines();
    lines
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((
                http::HeaderName::try_from(name).ok()?,
                http::HeaderValue::try_from(value).ok()?,
            ))
        })
        .collect()
}

fn error_info(headers: &http::HeaderMap) -> Option<ErrorInfo> {
    use base64::Engine as _;
    let details = headers.get("grpc-status-details-bin")?;
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(details.as_bytes())
        .ok()?;
    let status = Status::decode(bytes.as_slice()).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("ErrorInfo"))?;
    ErrorInfo::decode(info.value.as_slice()).ok()
}

/// A request for people, cut where it is long.
fn shown(request: &http::Request<Vec<u8>>) -> String {
    let body: String = String::from_utf8_lossy(request.body()).chars().take(1_500).collect();
    let bytes = request.body().len();
    format!(
        "{} {} {:?}\n{bytes} bytes: {body:?}",
        request.method(),
        request.uri(),
        request.headers()
    )
}

/// The key that an rpc takes, most of the time, and headers that the layers look at.
fn headers(rpc: &Rpc, choices: &mut Choices<'_>, mut request: http::request::Builder) -> http::request::Builder {
    let by_app = rpc.callers().iter().any(|kind| kind == "CALLER_KIND_FULL_ACCESS");
    let by_app = by_app != choices.rarely(30);
    if !choices.rarely(50) {
        request = if by_app {
            request.header("apikey", KEY)
        } else {
            request.header("operatorkey", OPERATOR_KEY)
        };
    }
    let required = rpc.on_behalf_of() == "ON_BEHALF_OF_REQUIRED";
    if required != choices.rarely(10) {
        request = request.header("onbehalfof", header(&choices.word()));
    }
    let others = [
        "idempotency-key",
        "if-match",
        "grpc-timeout",
        "appid",
        "x-request-id",
        "last-event-id",
        "accept-encoding",
    ];
    for name in others {
        if choices.rarely(15) {
            let value = match name {
                "grpc-timeout" => choices
                    .pick(&["1S", "10m", "0n", "1n", "99999999H", "", "x"])
                    .to_owned(),
                "accept-encoding" => "gzip".to_owned(),
                _ => choices.word(),
            };
            request = request.header(name, header(&value));
        }
    }
    request
}

/// The text as far as a header can hold it.
fn header(text: &str) -> http::HeaderValue {
    http::HeaderValue::from_bytes(text.as_bytes()).unwrap_or(http::HeaderValue::from_static("odd"))
}

/// A part of a URI: escaped as it should be, most of the time.
fn escaped(choices: &mut Choices<'_>, text: &str) -> String {
    if choices.rarely(40) {
        return choices
            .pick(&["%zz", "%", "%00", "%ff", "a%2fb", "..", ".", "%ed%a0%80", "+"])
            .to_owned();
    }
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A body for an rpc, or nearly; none where its field is no message.
fn rest_body(rpc: &Rpc, choices: &mut Choices<'_>) -> Option<Vec<u8>> {
    let input = rpc.method.input();
    let mut body = match rpc.body() {
        "" if choices.rarely(20) => choices.json(&input),
        "" => Vec::new(),
        "*" => choices.json(&input),
        field => choices.json(input.get_field_by_name(field)?.kind().as_message()?),
    };
    if choices.rarely(60) {
        body.clear();
        choices.free(0, &mut body);
    }
    Some(body)
}

/// A request over REST, and whether it certainly goes to this rpc; none when no client could send it.
fn rest_request(rpc: &Rpc, choices: &mut Choices<'_>) -> Option<(http::Request<Vec<u8>>, bool)> {
    if rpc.takes_stream() {
        return None;
    }
    let input = rpc.method.input();
    let mut aimed = true;
    let mut path = rpc.path.clone();
    for name in rpc.path_fields() {
        let word = choices.word();
        aimed &= !word.is_empty();
        let value = escaped(choices, &word);
        path = path.replace(&format!("{{{name}}}"), &value);
    }
    let mut query = Vec::new();
    for field in input.fields() {
        let often = if rpc.body().is_empty() { 4 } else { 30 };
        if choices.rarely(often) {
            let value = choices.word();
            query.push(format!("{}={}", field.json_name(), escaped(choices, &value)));
        }
    }
    if choices.rarely(20) {
        let (name, value) = (choices.word(), choices.word());
        query.push(format!("{}={}", escaped(choices, &name), escaped(choices, &value)));
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let verb = if choices.rarely(60) {
        aimed = false;
        choices
            .pick(&[
                "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "ODD",
            ])
            .to_owned()
    } else {
        rpc.verb.clone()
    };
    let body = rest_body(rpc, choices)?;
    let mut request = http::Request::builder()
        .method(verb.as_str())
        .uri(path)
        .header("host", "localhost");
    request = headers(rpc, choices, request);
    if !body.is_empty() {
        let kinds = [
            "text/plain",
            "application/json; charset=utf-16",
            "application/xml",
            "",
            "application/x-www-form-urlencoded",
        ];
        let kind = if choices.rarely(40) {
            choices.pick(&kinds)
        } else {
            "application/json"
        };
        request = request.header("content-type", kind);
    }
    if choices.rarely(60) {
        request = request.header(
            "content-encoding",
            choices.pick(&["gzip", "identity", "br", "", "gzip, gzip"]),
        );
    }
    Some((request.body(body).ok()?, aimed))
}

fn grpc_request(rpc: &Rpc, choices: &mut Choices<'_>) -> http::Request<Vec<u8>> {
    let message = choices.protobuf(&rpc.method.input());
    let length = u32::try_from(message.len()).unwrap();
    let length = if choices.rarely(40) { choices.number() } else { length };
    let flag = if choices.rarely(40) {
        u8::try_from(choices.below(256)).unwrap()
    } else {
        0
    };
    let mut body = vec![flag];
    body.extend(length.to_be_bytes());
    body.extend(&message);
    choices.damage(&mut body, 40);
    if choices.rarely(40) {
        body.extend(body.clone());
    }
    let path = format!("/{}/{}", rpc.method.parent_service().full_name(), rpc.name());
    let web = choices.rarely(20);
    let kind = if web {
        choices.pick(&[
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc-web-text",
        ])
    } else {
        choices.pick(&["application/grpc", "application/grpc+proto"])
    };
    let version = if web {
        http::Version::HTTP_11
    } else {
        http::Version::HTTP_2
    };
    let mut request = http::Request::builder()
        .method("POST")
        .uri(path)
        .version(version)
        .header("host", "localhost")
        .header("content-type", kind);
    request = headers(rpc, choices, request);
    if choices.rarely(40) {
        request = request.header("grpc-encoding", choices.pick(&["gzip", "identity", "br"]));
    }
    request.body(body).unwrap()
}

/// Sends requests until one is answered as it must not be.
fn run(name: &'static str, backend: Backend, short: u32, rest: bool) {
    let runtime = Runtime::new().unwrap();
    let Some(target) = runtime.block_on(Target::start(backend)) else {
        return;
    };
    let cases = cases(short);
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 2_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(name))),
        ..ProptestConfig::default()
    });
    let numbers = prop::collection::vec(any::<u32>(), 0..NUMBERS_MAX);
    let outcome = runner.run(&numbers, |numbers| {
        target.asked.fetch_add(1, Ordering::Relaxed);
        let words = target.words.clone();
        let mut choices = Choices::new(&numbers, &words);
        runtime.block_on(async {
            if rest {
                target.rest(&mut choices).await
            } else {
                target.grpc(&mut choices).await
            }
        })
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    let reached = target.reached.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = target.asked.load(Ordering::Relaxed);
    // Requests that are all refused at once would prove little. Fewer requests find fewer ways in.
    let share = if asked < 4_000 { 8 } else { 3 };
    assert!(
        asked < 1_000 || reached.len() * share > target.rpcs.len(),
        "only {} of {} rpcs were ever answered with a success: {reached:?}",
        reached.len(),
        target.rpcs.len()
    );
}

#[test]
fn any_request_over_rest_is_answered_as_promised_on_sqlite() {
    run("tests/it/proptest-regressions/rest.txt", Backend::Sqlite, 8_000, true);
}

#[test]
fn any_request_over_grpc_is_answered_as_promised_on_sqlite() {
    run("tests/it/proptest-regressions/grpc.txt", Backend::Sqlite, 16_000, false);
}

#[test]
fn any_request_over_rest_is_answered_as_promised_on_postgres() {
    run("tests/it/proptest-regressions/rest.txt", Backend::Postgres, 2_000, true);
}

#[test]
fn any_request_over_grpc_is_answered_as_promised_on_postgres() {
    run(
        "tests/it/proptest-regressions/grpc.txt",
        Backend::Postgres,
        2_000,
        false,
    );
}
