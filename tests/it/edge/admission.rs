//! Who is let in: 401, 403, 429, and the headers that name an app or a user.

use std::num::NonZeroU32;

use campanile::api::edge::rate;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

use super::{AUTH_ONLY, FULL, doors, read, refused, server, setup};
use crate::support::server::{OPERATOR_KEY, TestServer, http1};

const UNKNOWN: &str = "a-key-that-nobody-has-ever-been-given";

#[tokio::test]
async fn a_missing_key_is_answered_as_the_public_api_prints_it() {
    let server = server().await;
    let (status, body) = read(http1().post(format!("{}/echo", server.url)).send().await.unwrap()).await;
    let error = json!({
        "code": "ERR_UNAUTHORIZED", "message": "apikey header is required", "source": "campaigns-service",
    });
    assert_eq!((status, body), (401, json!({ "error": error })));
    let status = refused(&server, "/test.Layers/Echo", &[]).await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unauthenticated, "apikey header is required")
    );
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "ERR_UNAUTHORIZED");
    assert_eq!(
        details.localized_message().unwrap().message,
        "apikey header is required"
    );
    let status = refused(&server, "/test.Layers/Operate", &[]).await;
    assert_eq!(status.message(), "operatorkey header is required");
}

/// The rpc, the headers, and how they are refused: gRPC code, HTTP status, message for developers.
type Refusal = (
    &'static str,
    &'static [(&'static str, &'static str)],
    Code,
    u16,
    &'static str,
);

const REFUSALS: [Refusal; 8] = [
    (
        "Echo",
        &[("apikey", UNKNOWN)],
        Code::Unauthenticated,
        401,
        "apikey is unknown or revoked",
    ),
    (
        "Echo",
        &[("apikey", "")],
        Code::Unauthenticated,
        401,
        "apikey is unknown or revoked",
    ),
    (
        "Operate",
        &[("operatorkey", UNKNOWN)],
        Code::Unauthenticated,
        401,
        "operatorkey is not the operator's key",
    ),
    (
        "Echo",
        &[("apikey", AUTH_ONLY)],
        Code::PermissionDenied,
        403,
        "test.Layers/Echo needs an API key of scope fullAccess, received an API key of scope authOnly",
    ),
    (
        "Operate",
        &[("apikey", FULL)],
        Code::PermissionDenied,
        403,
        "test.Layers/Operate needs the operator key, received an API key of scope fullAccess",
    ),
    (
        "Echo",
        &[("operatorkey", OPERATOR_KEY)],
        Code::PermissionDenied,
        403,
        "test.Layers/Echo needs an API key of scope fullAccess, received the operator key",
    ),
    (
        "Echo",
        &[("apikey", FULL), ("operatorkey", OPERATOR_KEY)],
        Code::InvalidArgument,
        400,
        "operatorkey must not be sent together with an API key",
    ),
    (
        "Echo",
        &[("apikey", FULL), ("appid", "another")],
        Code::Unauthenticated,
        401,
        "apikey belongs to another app than the request names",
    ),
];

#[tokio::test]
async fn credentials_that_do_not_fit_are_refused_on_both_doors() {
    let server = server().await;
    for (rpc, headers, code, status, problem) in REFUSALS {
        let path: &'static str = if rpc == "Echo" {
            "/test.Layers/Echo"
        } else {
            "/test.Layers/Operate"
        };
        let over_grpc = refused(&server, path, headers).await;
        assert_eq!(
            (over_grpc.code(), over_grpc.message()),
            (code, problem),
            "{rpc} {headers:?}"
        );
        let mut request = http1().post(format!("{}/{}", server.url, rpc.to_lowercase()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (over_rest, body) = read(request.send().await.unwrap()).await;
        assert_eq!(
            (over_rest, &body["error"]["devMessage"]),
            (status, &json!(problem)),
            "{rpc} {headers:?}"
        );
    }
}

#[tokio::test]
async fn the_right_credential_comes_through() {
    let server = server().await;
    let call = |path: &str, name: &str, key: &str| {
        let request = http1().post(format!("{}/{path}", server.url)).header(name, key);
        request.header("appid", "shop").send()
    };
    let (status, body) = read(call("echo", "apikey", FULL).await.unwrap()).await;
    assert_eq!((status, &body["caller"]), (200, &json!("app")));
    let (status, body) = read(call("operate", "operatorkey", OPERATOR_KEY).await.unwrap()).await;
    assert_eq!((status, &body["caller"]), (200, &json!("operator")));
    let (status, body) = read(call("open", "x-none", "").await.unwrap()).await;
    assert_eq!((status, &body["caller"]), (200, &json!("public")));
}

#[tokio::test]
async fn a_host_name_of_another_app_is_refused() {
    let mut setup = setup();
    setup.edge.authentication.host_pattern = Some("{appId}.api-{region}.example.com".to_owned());
    let server = TestServer::start(doors(), setup).await;
    let call = |host: &str| {
        let request = http1().post(format!("{}/echo", server.url)).header("apikey", FULL);
        request.header("host", host).send()
    };
    for (host, expected) in [
        ("shop.api-us.example.com", 200),
        ("SHOP.api-us.example.com:443", 200),
        ("other.api-us.example.com", 401),
        ("other.api-eu.example.com", 200),
        ("localhost", 200),
    ] {
        assert_eq!(call(host).await.unwrap().status(), expected, "{host}");
    }
}

#[tokio::test]
async fn the_header_onbehalfof_follows_the_rule_of_the_rpc() {
    let server = server().await;
    let call = async |path: &str, uid: Option<&str>| {
        let mut request = http1().post(format!("{}/{path}", server.url));
        let (name, key) = if path == "operate" {
            ("operatorkey", OPERATOR_KEY)
        } else {
            ("apikey", FULL)
        };
        request = request.header(name, key);
        if let Some(uid) = uid {
            request = request.header("onbehalfof", uid);
        }
        read(request.send().await.unwrap()).await
    };
    let (status, body) = call("echo", Some("Ada-1")).await;
    assert_eq!((status, &body["onBehalfOf"]), (200, &json!("ada-1")));
    assert_eq!(
        call("act", None).await.1["error"]["details"],
        json!({"onbehalfof": "is required: the uid of the user to act for"})
    );
    assert_eq!(call("act", Some("ada")).await.0, 200);
    let (status, body) = call("echo", Some("a b")).await;
    let rule = "must be 1 to 100 letters a to z, digits, underscores and hyphens, received \"a b\"";
    assert_eq!((status, &body["error"]["details"]), (400, &json!({"onbehalfof": rule})));
    assert_eq!(call("operate", Some("ada")).await.0, 400);
    let (status, body) = call("send", Some("ada")).await;
    assert_eq!((status, &body["error"]["code"]), (403, &json!("ERR_FORBIDDEN")));
    let status = refused(&server, "/test.Layers/Act", &[("apikey", FULL)]).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.get_error_details().bad_request().unwrap().field_violations[0].field,
        "onbehalfof"
    );
}

#[tokio::test]
async fn a_used_up_rate_limit_says_when_to_come_back_in_both_spellings() {
    let mut setup = setup();
    setup.edge.rate = rate::Options {
        standard: NonZeroU32::new(2),
        core: NonZeroU32::new(1),
    };
    let server = TestServer::start(doors(), setup).await;
    let call = |path: &str| {
        http1()
            .post(format!("{}/{path}", server.url))
            .header("apikey", FULL)
            .send()
    };
    let first = call("echo").await.unwrap();
    let header = |response: &reqwest::Response, name: &str| {
        response
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(first.status(), 200);
    for (limit, remaining) in [
        ("x-rate-limit", "x-rate-limit-remaining"),
        ("x-ratelimit-limit", "x-ratelimit-remaining"),
    ] {
        assert_eq!(header(&first, limit).as_deref(), Some("2"));
        assert_eq!(header(&first, remaining).as_deref(), Some("1"));
    }
    assert_eq!(header(&first, "retry-after"), None);
    assert_eq!(call("echo").await.unwrap().status(), 200);
    let refusal = call("echo").await.unwrap();
    assert_eq!(header(&refusal, "retry-after").as_deref(), Some("30"));
    assert!(header(&refusal, "x-rate-limit-reset").is_some());
    assert_eq!(
        header(&refusal, "x-rate-limit-reset"),
        header(&refusal, "x-ratelimit-reset")
    );
    let (status, body) = read(refusal).await;
    assert_eq!((status, &body["error"]["code"]), (429, &json!("ERR_TOO_MANY_REQUESTS")));
    assert_eq!(
        body["error"]["details"],
        json!({"limit": "2", "retryAfterSeconds": "30"})
    );
    let over_grpc = refused(&server, "/test.Layers/Echo", &[("apikey", FULL)]).await;
    assert_eq!(over_grpc.code(), Code::ResourceExhausted, "both doors share one bucket");
    assert_eq!(
        over_grpc
            .get_error_details()
            .retry_info()
            .unwrap()
            .retry_delay
            .unwrap()
            .as_secs(),
        29
    );
    assert_eq!(
        call("send").await.unwrap().status(),
        200,
        "core calls have a bucket of their own"
    );
    assert_eq!(call("send").await.unwrap().status(), 429);
}

#[tokio::test]
async fn guessing_keys_is_bounded_by_the_address_it_comes_from() {
    let mut setup = setup();
    setup.edge.rate.standard = NonZeroU32::new(2);
    let server = TestServer::start(doors(), setup).await;
    let call = |key: &str| {
        http1()
            .post(format!("{}/echo", server.url))
            .header("apikey", key)
            .send()
    };
    for expected in [401, 401, 429] {
        assert_eq!(call(UNKNOWN).await.unwrap().status(), expected);
    }
    assert_eq!(
        call(FULL).await.unwrap().status(),
        200,
        "a good key has a bucket of its own"
    );
}

#[tokio::test]
async fn routes_come_before_credentials_and_these_before_everything_else() {
    let server = server().await;
    let url = &server.url;
    let large = "x".repeat(5_000);
    let status = |request: reqwest::RequestBuilder| async move { request.send().await.unwrap().status().as_u16() };
    assert_eq!(status(http1().post(format!("{url}/nowhere"))).await, 404);
    assert_eq!(status(http1().put(format!("{url}/echo"))).await, 405);
    assert_eq!(
        status(http1().post(format!("{url}/echo")).body(large.clone())).await,
        401
    );
    let known = http1().post(format!("{url}/echo")).header("apikey", FULL);
    assert_eq!(status(known.body(large)).await, 413);
}
