//! What every answer carries, the pages beside the calls, and both doors' ways of saying no.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use tonic_types::StatusExt;

use super::{FULL, channel, doors, read, refused, server, setup};
use crate::support::server::{TestServer, boxed, http1, http2};
use campanile::model::{Error, Reason};

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_have_the_envelope() {
    let server = server().await;
    let (status, body) = read(http1().get(format!("{}/nowhere", server.url)).send().await.unwrap()).await;
    assert_eq!(status, 404);
    assert_eq!(
        body,
        json!({"error": {
            "code": "ERR_NOT_FOUND",
            "message": "Nothing was found here.",
            "devMessage": "path /nowhere is not served",
            "details": {"path": "/nowhere"},
            "source": "campaigns-service",
        }})
    );
    let response = http1().delete(format!("{}/echo", server.url)).send().await.unwrap();
    assert_eq!(response.headers()["allow"], "POST");
    let (status, body) = read(response).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (405, &json!("ERR_METHOD_NOT_ALLOWED"))
    );
    let response = http1().post(format!("{}/healthz", server.url)).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (405, &"GET, HEAD".parse().unwrap())
    );
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_another_is_replaced() {
    let server = server().await;
    let call = async |id: Option<&str>| {
        let mut request = http1().post(format!("{}/echo", server.url)).header("apikey", FULL);
        if let Some(id) = id {
            request = request.header("x-request-id", id);
        }
        let response = request.send().await.unwrap();
        let answered = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let (_, body) = read(response).await;
        assert_eq!(body["requestId"], json!(answered), "the handler sees the same");
        answered
    };
    assert_eq!(call(Some("trace-42/a:b")).await, "trace-42/a:b");
    for odd in [None, Some("two words"), Some(""), Some(&*"x".repeat(129))] {
        let own = call(odd).await;
        assert_eq!((own.len(), Some(own.as_str()) == odd), (36, false), "{odd:?}");
    }
    let status = refused(&server, "/test.Layers/Echo", &[("x-request-id", "over-grpc")]).await;
    assert_eq!(status.metadata().get("x-request-id").unwrap(), "over-grpc");
}

#[tokio::test]
async fn a_panic_is_an_internal_error_that_tells_nothing() {
    let server = server().await;
    let response = http1()
        .post(format!("{}/panic", server.url))
        .header("apikey", FULL)
        .send()
        .await
        .unwrap();
    let (status, body) = read(response).await;
    assert_eq!(status, 500);
    assert_eq!(
        body,
        json!({"error": {
            "code": "ERR_INTERNAL",
            "message": "Something went wrong on our side.",
            "devMessage": "internal error",
            "source": "campaigns-service",
        }})
    );
    let again = http1()
        .post(format!("{}/echo", server.url))
        .header("apikey", FULL)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), 200, "the server lives on");
}

#[tokio::test]
async fn a_deadline_ends_the_call_on_both_protocols() {
    let server = server().await;
    for client in [http1(), http2()] {
        let call = |wait: &str| {
            let request = client.post(format!("{}/slow", server.url)).header("apikey", FULL);
            request.header("grpc-timeout", wait).send()
        };
        let (status, body) = read(call("50m").await.unwrap()).await;
        assert_eq!((status, &body["error"]["code"]), (504, &json!("ERR_DEADLINE_EXCEEDED")));
        assert_eq!(call("20S").await.unwrap().status(), 200);
        let (status, body) = read(call("soon").await.unwrap()).await;
        assert_eq!(
            (status, body["error"]["details"].get("grpc-timeout").is_some()),
            (400, true),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_told_however_fast_the_answer_is() {
    let server = server().await;
    for wait in ["0n", "1n", "0S"] {
        let request = http1().post(format!("{}/echo", server.url)).header("apikey", FULL);
        let (status, body) = read(request.header("grpc-timeout", wait).send().await.unwrap()).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (504, &json!("ERR_DEADLINE_EXCEEDED")),
            "{wait}"
        );
        let request = http1().post(format!("{}/echo", server.url));
        assert_eq!(
            request.header("grpc-timeout", wait).send().await.unwrap().status(),
            401,
            "{wait}"
        );
    }
}

#[tokio::test]
async fn a_request_over_http1_names_its_host_once() {
    let server = server().await;
    let status = async |head: &str| {
        let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.get(9..12).unwrap().to_owned(), body.to_owned())
    };
    let close = "connection: close\r\n\r\n";
    for (hosts, problem) in [
        ("", "is required in HTTP/1.1"),
        ("host: a\r\nhost: a\r\n", "must be sent once"),
        (
            "host: a b\r\n",
            "must be a host name, with a port or without, received \\\"a b\\\"",
        ),
    ] {
        let (code, body) = status(&format!("GET /healthz HTTP/1.1\r\n{hosts}{close}")).await;
        assert_eq!(code, "400", "{hosts:?}");
        assert!(body.contains(&format!("{{\"host\":\"{problem}\"}}")), "{body}");
    }
    for head in [
        "HTTP/1.1\r\nhost: a.example:80\r\n",
        "HTTP/1.1\r\nhost:\r\n",
        "HTTP/1.1\r\nhost: [::1]:1\r\n",
        "HTTP/1.0\r\n",
    ] {
        assert_eq!(
            status(&format!("GET /healthz {head}{close}")).await.0,
            "200",
            "{head:?}"
        );
    }
    assert_eq!(
        http2()
            .get(format!("{}/healthz", server.url))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn the_servers_own_deadline_holds_for_calls_without_one() {
    let mut setup = setup();
    setup.edge.deadline_max = std::time::Duration::from_millis(100);
    let server = TestServer::start(doors(), setup).await;
    let call = http1().post(format!("{}/slow", server.url)).header("apikey", FULL);
    assert_eq!(call.header("grpc-timeout", "1H").send().await.unwrap().status(), 504);
}

#[tokio::test]
async fn what_grpc_does_not_serve_is_unimplemented_with_details() {
    let server = server().await;
    for path in ["/test.Layers/Nothing", "/nothing.Here/AtAll"] {
        let status = refused(&server, path, &[("apikey", FULL)]).await;
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unimplemented, &*format!("rpc {path} is not served"))
        );
        assert_eq!(
            status.get_error_details().error_info().unwrap().reason,
            "ERR_UNIMPLEMENTED"
        );
    }
    let raw = |content_type: &'static str, client: reqwest::Client| {
        let request = client.post(format!("{}/test.Layers/Nothing", server.url));
        request.header("content-type", content_type).body(vec![0; 5]).send()
    };
    let response = raw("application/grpc+json", http2()).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (415, &"3".parse().unwrap())
    );
    let response = raw("application/grpc", http1()).await.unwrap();
    let message = response.headers()["grpc-message"].to_str().unwrap();
    assert!(message.contains("HTTP/2"), "{message}");
    let response = raw("application/grpc-web+proto", http1()).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "12");
    assert_eq!(response.headers()["content-type"], "application/grpc-web+proto");
    let response = raw("application/grpcfoo", http2()).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "3", "neither gRPC nor JSON");
}

#[tokio::test]
async fn health_is_answered_over_grpc_and_grpc_web() {
    let server = server().await;
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel(&server).await);
    let ask = |service: &str| tonic_health::pb::HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = client.check(ask("test.Layers")).await.unwrap().into_inner();
    assert_eq!(answer.status, 1, "serving");
    assert_eq!(client.check(ask("unknown")).await.unwrap_err().code(), Code::NotFound);
    // The request: no compression, a length of 13, and field 1 with the service's name.
    let mut body = vec![0, 0, 0, 0, 13, 0x0a, 11];
    body.extend_from_slice(b"test.Layers");
    let request = http1().post(format!("{}/grpc.health.v1.Health/Check", server.url));
    let response = request
        .header("content-type", "application/grpc-web+proto")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc-web+proto");
    let bytes = response.bytes().await.unwrap();
    assert_eq!(bytes[..7], [0, 0, 0, 0, 2, 8, 1]);
    assert_eq!(bytes[7], 0x80, "trailers follow in a frame of their own");
    assert!(String::from_utf8_lossy(&bytes).contains("grpc-status:0"));
}

#[tokio::test]
async fn the_pages_answer_without_a_credential() {
    let server = server().await;
    let get = async |path: &str| {
        let response = http1().get(format!("{}{path}", server.url)).send().await.unwrap();
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await, (200, "{\"status\":\"ok\"}".to_owned()));
    assert_eq!(get("/readyz").await, (200, "{\"status\":\"ready\"}".to_owned()));
    assert_eq!(get("/openapi.json").await.1, "{\"openapi\":\"3.1.0\"}");
    let (status, page) = get("/docs").await;
    assert!(status == 200 && page.contains("docs/docs.js"), "{page}");
    http1().post(format!("{}/echo", server.url)).send().await.unwrap();
    refused(&server, "/test.Layers/Echo", &[]).await;
    let (_, metrics) = get("/metrics").await;
    for line in [
        "campanile_requests_total{rpc=\"test.Layers/Echo\",door=\"rest\"} 1",
        "campanile_requests_total{rpc=\"test.Layers/Echo\",door=\"grpc\"} 1",
        "campanile_errors_total{rpc=\"test.Layers/Echo\",door=\"rest\",reason=\"ERR_UNAUTHORIZED\"} 1",
        "campanile_request_duration_seconds_count{rpc=\"test.Layers/Echo\",door=\"grpc\"} 1",
        "campanile_connections_open ",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn the_card_schema_is_kept_until_it_changes() {
    let server = server().await;
    let url = format!("{}/v3/campaigns/card-schema.json", server.url);
    let first = http1().get(&url).send().await.unwrap();
    assert_eq!(first.headers()["content-type"], "application/schema+json");
    assert_eq!(first.headers()["cache-control"], "public, max-age=300");
    let etag = first.headers()["etag"].to_str().unwrap().to_owned();
    let (_, schema): (u16, Value) = read(first).await;
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert_eq!(schema["required"], json!(["version", "body", "style", "fallbackText"]));
    let elements = schema["definitions"]["element"]["properties"]["type"]["enum"]
        .as_array()
        .unwrap();
    assert_eq!(elements.len(), 20);
    for (known, status) in [
        (etag.clone(), 304),
        (format!("\"x\", W/{etag}"), 304),
        ("\"x\"".to_owned(), 200),
    ] {
        let again = http1().get(&url).header("if-none-match", &known).send().await.unwrap();
        assert_eq!(
            (again.status().as_u16(), again.headers()["etag"].to_str().unwrap()),
            (status, etag.as_str()),
            "{known}"
        );
        assert_eq!(again.bytes().await.unwrap().is_empty(), status == 304, "{known}");
    }
    let post = http1().post(&url).send().await.unwrap();
    assert_eq!(
        (post.status().as_u16(), post.headers()["allow"].to_str().unwrap()),
        (405, "GET, HEAD")
    );
}

#[tokio::test]
async fn a_store_that_is_away_makes_the_server_unready_but_alive() {
    let mut setup = setup();
    setup.check_ready = std::sync::Arc::new(|| boxed(Err(Error::new(Reason::Unavailable, "the database is away"))));
    let server = TestServer::start(doors(), setup).await;
    let get = |path: &str| http1().get(format!("{}{path}", server.url)).send();
    let (status, body): (u16, Value) = read(get("/readyz").await.unwrap()).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("ERR_UNAVAILABLE")));
    assert_eq!(get("/healthz").await.unwrap().status(), 200);
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel(&server).await);
    for service in ["", "test.Layers"] {
        let ask = tonic_health::pb::HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = client.check(ask).await.unwrap().into_inner();
        assert_eq!(answer.status, 2, "{service} is not serving");
    }
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    let server = server().await;
    let call = |encoding: &'static str| {
        let request = http1().post(format!("{}/large", server.url)).header("apikey", FULL);
        request.header("accept-encoding", encoding).send()
    };
    let packed = call("gzip").await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_eq!(packed.headers()["vary"], "accept-encoding");
    assert!(packed.bytes().await.unwrap().len() < 500);
    let plain = call("identity").await.unwrap();
    assert_eq!(plain.headers().get("content-encoding"), None);
    assert_eq!(plain.bytes().await.unwrap().len(), 12_000);
}

#[tokio::test]
async fn browsers_may_call_from_the_origins_of_the_setting_and_never_with_a_servers_key() {
    let mut setup = setup();
    setup.server.cors_origins = vec!["https://app.example".to_owned()];
    let open = TestServer::start(doors(), setup).await;
    let ask = |server: &TestServer, origin: &'static str| {
        let request = http1().request(reqwest::Method::OPTIONS, format!("{}/echo", server.url));
        let request = request
            .header("origin", origin)
            .header("access-control-request-method", "POST");
        request
            .header("access-control-request-headers", "apikey,operatorkey,authtoken")
            .send()
    };
    let allowed = ask(&open, "https://app.example").await.unwrap();
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://app.example");
    let headers = allowed.headers()["access-control-allow-headers"].to_str().unwrap();
    assert!(headers.contains("authtoken") && !headers.contains("apikey") && !headers.contains("operatorkey"));
    let other = ask(&open, "https://evil.example").await.unwrap();
    assert_eq!(other.headers().get("access-control-allow-origin"), None);
    let closed = server().await;
    assert_eq!(
        ask(&closed, "https://app.example").await.unwrap().status(),
        405,
        "off unless it is set"
    );
}
