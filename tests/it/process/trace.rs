//! What a call leaves behind: spans at a collector, and log lines that belong together and name nobody.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use campanile::store::{SecretKey, Store, StoreSettings};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;

use super::memory::{field, frame};
use super::{BOOTSTRAP_KEY, Running};
use crate::support::server::{http1, http2};
use crate::support::shop::card;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const SEND: &str = "campanile.v1.NotificationService/SendNotification";

/// A collector of spans.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
    _server: JoinSet<()>,
}

struct Sink(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        for resource in request.into_inner().resource_spans {
            let name = &resource.resource.unwrap().attributes;
            assert!(name.iter().any(|one| one.key == "service.name"), "{name:?}");
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans);
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::new(Mutex::new(Vec::new()));
        let service = TraceServiceServer::new(Sink(Arc::clone(&spans)));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self {
            url,
            spans,
            _server: server,
        }
    }
}

/// A server with an app that is ready to send the template `order`.
struct Sending {
    server: Running,
    folder: TempDir,
}

impl Sending {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let own = [
            ("CAMPANILE_BOOTSTRAP_APP", "shop"),
            ("CAMPANILE_BOOTSTRAP_KEY", BOOTSTRAP_KEY),
        ];
        let server = Running::start(folder.path(), &[&own, settings].concat()).await;
        let sending = Self { server, folder };
        let bell = json!({"type": "in_app", "name": "Bell", "channelId": "bell", "enabled": true});
        sending.post("/v3/campaigns/channels", &bell, &[]).await;
        let template = json!({
            "templateId": "order", "name": "needle-template", "status": "approved",
            "channels": [{"channelType": "in_app", "content": card("Hello {{name}}, needle-content")}],
            "variableSchema": [{"key": "name", "type": "string", "required": true}],
        });
        sending.post("/v3/campaigns/templates", &template, &[]).await;
        sending
    }

    async fn post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut call = http1().post(format!("{}{path}", self.server.url)).json(body);
        for (name, value) in [("apikey", BOOTSTRAP_KEY)].iter().chain(headers) {
            call = call.header(*name, *value);
        }
        let answer = call.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Sends to some users as a batch, and waits until it is final.
    async fn batch(&self, uids: &[&str], headers: &[(&str, &str)]) -> String {
        let request = json!({
            "templateId": "order", "mode": "batch", "receivers": uids, "tag": "needle-tag",
            "defaults": {"name": "needle-value"},
        });
        let (status, sent) = self
            .post("/v3/campaigns/notifications/messages", &request, headers)
            .await;
        assert_eq!(status, 200, "{sent}");
        let id = sent["data"]["batchId"].as_str().unwrap().to_owned();
        let path = format!("{}/v3/campaigns/notifications/{id}", self.server.url);
        let ended = async {
            loop {
                let found = http1().get(&path).header("apikey", BOOTSTRAP_KEY).send().await.unwrap();
                let found: Value = found.json().await.unwrap();
                if found["data"]["status"] != "dispatching" {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
        id
    }

    /// Ends the server and tells what it has logged.
    async fn end(self) -> Vec<Value> {
        self.server.signal().await;
        let (code, log) = self.server.exit().await;
        assert_eq!(code, Some(0), "{log}");
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute<'s>(span: &'s Span, key: &str) -> Option<&'s opentelemetry_proto::tonic::common::v1::any_value::Value> {
    let found = span.attributes.iter().find(|one| one.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

#[tokio::test]
async fn a_collector_gets_the_spans_of_a_call_and_of_the_pages_that_follow_from_it() {
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Is;
    let collector = Collector::start().await;
    let settings = [("CAMPANILE_OTLP_ENDPOINT", collector.url.as_str())];
    let sending = Sending::start(&settings).await;
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let id = sending
        .batch(&["needle-a", "needle-b"], &[("traceparent", &parent)])
        .await;
    let over_grpc = http2()
        .post(format!(
            "{}/campanile.v1.NotificationService/GetNotification",
            sending.server.url
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("apikey", BOOTSTRAP_KEY)
        .header("traceparent", &parent)
        .body(frame(
            false,
            &field("campanile.v1.GetNotificationRequest", "notification_id", id.as_bytes()),
        ));
    assert_eq!(over_grpc.send().await.unwrap().status(), 200);
    sending.end().await;

    let spans = collector.spans.lock().unwrap().clone();
    let named = |name: &str| -> Vec<&Span> { spans.iter().filter(|span| span.name == name).collect() };
    let children = |of: &Span, name: &str| -> usize {
        let child = |span: &&Span| span.name == name && span.parent_span_id == of.span_id;
        spans
            .iter()
            .filter(child)
            .filter(|span| span.trace_id == of.trace_id)
            .count()
    };
    for name in [SEND, "campanile.v1.NotificationService/GetNotification"] {
        let of_caller = |span: &&&Span| hex(&span.trace_id) == TRACE;
        let calls = named(name);
        let call = calls.iter().find(of_caller).unwrap();
        assert_eq!(hex(&call.parent_span_id), CALLER, "{name}");
        assert_eq!(call.kind, 2, "a server's");
        assert_eq!(attribute(call, "rpc"), Some(&Is::StringValue(name.to_owned())));
        assert_eq!(attribute(call, "http.response.status_code"), Some(&Is::IntValue(200)));
    }
    let send = named(SEND)[0];
    assert_eq!(children(send, "store write"), 1);
    let page = named("page")[0];
    let links: Vec<_> = page
        .links
        .iter()
        .map(|link| (hex(&link.trace_id), &link.span_id))
        .collect();
    assert_eq!(links, [(TRACE.to_owned(), &send.span_id)]);
    assert!(
        hex(&page.trace_id) != TRACE && page.parent_span_id.is_empty(),
        "a trace of its own"
    );
    assert!(children(page, "step") >= 1, "{spans:#?}");
    let step = named("step")[0];
    assert_eq!((children(step, "store write"), children(step, "complete")), (1, 1));
    assert!(!format!("{spans:?}").contains("needle"), "{spans:#?}");
}

#[tokio::test]
async fn a_collector_that_is_away_holds_up_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // It takes connections and never says a word.
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sending = Sending::start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())]).await;
    sending.batch(&["needle-a"], &[]).await;
    let began = std::time::Instant::now();
    sending.end().await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn lines_of_workers_carry_the_id_of_the_call_and_no_line_names_anybody() {
    let sending = Sending::start(&[("CAMPANILE_LOG", "debug")]).await;
    let uid =
        json!({"uid": "needle-bad", "name": "needle-name", "metadata": {"needle": "needle"}, "tags": ["needle-tag"]});
    for body in [&uid, &uid, &json!({"uid": "NEEDLE NOT OK"}), &json!({"needle": 1})] {
        sending
            .post("/v3/users", body, &[("idempotency-key", "needle-key")])
            .await;
    }
    poison(&sending).await;
    let headers = [
        ("x-request-id", "the-call-behind-it"),
        ("idempotency-key", "needle-key-2"),
    ];
    sending.batch(&["needle-good", "needle-bad"], &headers).await;
    for (path, user) in [
        ("/v3/campaigns/notification-feed?limit=1", "needle-good"),
        ("/v3/campaigns/notification-feed?limit=needle", "needle-good"),
        ("/v3/users/needle-nobody", "needle-good"),
        ("/v3/users?search=needle", "needle-good"),
        ("/v3/needle", "needle-good"),
    ] {
        let call = http1().get(format!("{}{path}", sending.server.url));
        let call = call.header("apikey", BOOTSTRAP_KEY).header("onbehalfof", user);
        call.send().await.unwrap();
    }
    let wrong = http1().get(format!("{}/v3/users", sending.server.url));
    wrong
        .header("apikey", "needle-key-that-nobody-has-ever-given")
        .send()
        .await
        .unwrap();

    let lines = sending.end().await;
    let about = |message: &str| -> Vec<&Value> { lines.iter().filter(|line| line["message"] == message).collect() };
    let failed = about("a page failed and will be tried again");
    assert!(failed.len() >= 7, "{lines:#?}");
    for line in failed.into_iter().chain(about("notifications became final")) {
        assert_eq!(line["span"]["request.id"], "the-call-behind-it", "{line}");
        assert!(line["span"]["notification.id"].is_string(), "{line}");
    }
    assert!(!about("call answered").is_empty());
    for line in &lines {
        let text = line.to_string();
        for secret in ["needle", BOOTSTRAP_KEY] {
            assert!(!text.to_lowercase().contains(secret), "{text}");
        }
    }
}

/// Makes the database refuse what is sent to one user.
async fn poison(sending: &Sending) {
    let url = format!("sqlite://{}/data/campanile.db", sending.folder.path().display());
    let store = Store::open(&StoreSettings::new(url, SecretKey::generate().unwrap()))
        .await
        .unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON deliveries \
                  WHEN NEW.user_id = (SELECT id FROM users WHERE uid = 'needle-bad') \
                  BEGIN SELECT RAISE(ABORT, 'refused'); END";
    let poisoned = store.write(move |tx| {
        Box::pin(async move {
            tx.execute_unprepared(refuse).await?;
            Ok(())
        })
    });
    poisoned.await.unwrap();
    store.close().await;
}
