//! The layers in front of both doors, over real sockets: each refusal with its exact body and status, in the promised
//! order, and what every answer carries. What an rpc does is proven with its noun.

mod admission;
pub(crate) mod flood;
mod grpc;
mod protocol;
mod size;
mod stopping;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use campanile::api::doors::Services;
use campanile::api::edge::Doors;
use campanile::api::edge::caller::FindKey;
use campanile::api::method::{CallerKind, OnBehalfOf, RateClass};
use campanile::api::rest::{Body, Request, Response, Route, Router, dialect};
use campanile::api::{CallHead, Method};
use campanile::model::app::{AppSlug, KeyDigest, KeyFacts};
use campanile::model::id::{ApiKeyId, AppId};
use campanile::model::{Caller, Scope, Timestamp};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::server::{Setup, TestServer, boxed};

/// A key of full access to the app `shop`.
const FULL: &str = "full-access-key-of-the-app-shop-0001";
/// A key of the same app that may only mint tokens.
const AUTH_ONLY: &str = "auth-only-key-of-the-app-shop-000001";

const PLAIN: Method = Method {
    service: "test.Layers",
    rpc: "Echo",
    grpc_path: "/test.Layers/Echo",
    success_status: 200,
    callers: &[CallerKind::FullAccess],
    on_behalf_of: OnBehalfOf::Optional,
    idempotency_key: false,
    body_bytes_max: 1_000,
    rate_class: RateClass::Standard,
    reasons: &[],
    server_streaming: false,
    takes_file: false,
    secret_answer: false,
    deprecated: false,
};

static ECHO: Method = PLAIN;
static SLOW: Method = Method {
    rpc: "Slow",
    grpc_path: "/test.Layers/Slow",
    ..PLAIN
};
static PANIC: Method = Method {
    rpc: "Panic",
    grpc_path: "/test.Layers/Panic",
    ..PLAIN
};
static LARGE: Method = Method {
    rpc: "Large",
    grpc_path: "/test.Layers/Large",
    body_bytes_max: 1 << 20,
    ..PLAIN
};
static STREAM: Method = Method {
    rpc: "Stream",
    grpc_path: "/test.Layers/Stream",
    server_streaming: true,
    ..PLAIN
};
static POUR: Method = Method {
    rpc: "Pour",
    grpc_path: "/test.Layers/Pour",
    server_streaming: true,
    ..PLAIN
};
static OPERATE: Method = Method {
    rpc: "Operate",
    grpc_path: "/test.Layers/Operate",
    callers: &[CallerKind::Operator],
    on_behalf_of: OnBehalfOf::RefusedAsBadRequest,
    ..PLAIN
};
static ACT: Method = Method {
    rpc: "Act",
    grpc_path: "/test.Layers/Act",
    on_behalf_of: OnBehalfOf::Required,
    ..PLAIN
};
static SEND: Method = Method {
    rpc: "Send",
    grpc_path: "/test.Layers/Send",
    on_behalf_of: OnBehalfOf::RefusedAsForbidden,
    rate_class: RateClass::Core,
    ..PLAIN
};
static OPEN: Method = Method {
    rpc: "Open",
    grpc_path: "/test.Layers/Open",
    callers: &[CallerKind::Public],
    ..PLAIN
};

static METHODS: [&Method; 10] = [
    &ECHO, &SLOW, &PANIC, &LARGE, &STREAM, &POUR, &OPERATE, &ACT, &SEND, &OPEN,
];

/// Tells what the layers found out, and how much body there was.
async fn echo(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let call = head.extensions.get::<CallHead>().unwrap();
    let caller = match call.caller {
        Caller::Operator => "operator",
        Caller::Public => "public",
        Caller::App { .. } => "app",
    };
    let facts = json!({
        "rpc": call.method.rpc, "caller": caller, "onBehalfOf": call.on_behalf_of, "requestId": &*call.request_id,
    });
    match body.collect().await {
        Err(_) => Response::new(Body::from("the layer in front replaces this")),
        Ok(body) => {
            let mut facts = facts;
            facts["bytes"] = json!(body.to_bytes().len());
            Response::new(Body::from(facts.to_string()))
        }
    }
}

/// Bytes that were made of the answers of `Pour`, by the query that asked for them.
static POURED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

fn poured(name: &str) -> usize {
    POURED.lock().unwrap()[name]
}

async fn answer(method: &'static Method, request: Request) -> Response {
    assert!(method.rpc != "Panic", "the secret of the handler");
    match method.rpc {
        "Slow" => {
            tokio::time::sleep(Duration::from_millis(600)).await;
            echo(request).await
        }
        "Stream" => {
            let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"data: 1\n\n"))]);
            let body = futures::StreamExt::chain(first, futures::stream::pending());
            let mut response = Response::new(Body::from_stream(body));
            let headers = response.headers_mut();
            headers.insert("content-type", "text/event-stream".parse().unwrap());
            response
        }
        // Has more to say than anybody can take.
        "Pour" => {
            let name = request.uri().query().unwrap_or_default().to_owned();
            let events = futures::stream::repeat_with(move || {
                let piece = vec![b'x'; 10_000];
                *POURED.lock().unwrap().entry(name.clone()).or_default() += piece.len();
                Ok::<_, std::io::Error>(Bytes::from(piece))
            });
            let mut response = Response::new(Body::from_stream(events));
            let headers = response.headers_mut();
            headers.insert("content-type", "text/event-stream".parse().unwrap());
            response
        }
        "Large" => Response::new(Body::from("compress me ".repeat(1_000))),
        _ => echo(request).await,
    }
}

/// REST routes that answer by `answer`; over gRPC nothing but the built-in services.
fn doors() -> Doors {
    let routes = METHODS.iter().map(|method| Route {
        form: None,
        method,
        verb: if method.server_streaming {
            http::Method::GET
        } else {
            http::Method::POST
        },
        path: format!("/{}", method.rpc.to_lowercase()),
        dialect: &dialect::CAMPAIGNS,
        handler: Arc::new(|request, _| Box::pin(answer(method, request))),
    });
    Doors {
        rest: Router::new(routes.collect()).unwrap(),
        grpc: Services::new(),
        methods: METHODS.to_vec(),
    }
}

fn keys() -> FindKey {
    let now = Timestamp::from_millis(1_705_311_000_000).unwrap();
    let app = AppId::new(now);
    let facts = |scope| KeyFacts {
        app,
        slug: AppSlug::chosen("shop").unwrap(),
        key: ApiKeyId::new(now),
        scope,
    };
    let known = HashMap::from([
        (KeyDigest::of(FULL), facts(Scope::FullAccess)),
        (KeyDigest::of(AUTH_ONLY), facts(Scope::AuthOnly)),
    ]);
    Arc::new(move |hash| boxed(Ok(known.get(&hash).cloned())))
}

fn setup() -> Setup {
    Setup {
        find_key: keys(),
        ..Setup::new()
    }
}

async fn server() -> TestServer {
    TestServer::start(doors(), setup()).await
}

/// A gRPC client of the server for calls of whatever path.
async fn channel(server: &TestServer) -> tonic::transport::Channel {
    let endpoint = tonic::transport::Endpoint::from_shared(server.url.clone()).unwrap();
    endpoint.connect().await.unwrap()
}

/// Calls a path over gRPC with an empty message, and answers how it was refused.
async fn refused(server: &TestServer, path: &'static str, metadata: &[(&'static str, &str)]) -> tonic::Status {
    let mut client = tonic::client::Grpc::new(channel(server).await);
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(());
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    client.unary(request, path, codec).await.unwrap_err()
}

/// Status and JSON body of an answer.
async fn read(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}
