//! From methods and paths to rpcs, and what stands around bodies.

use campanile::api::rest::dialect::CAMPAIGNS;
use campanile::api::rest::{Found, Router};
use http::Method;
use serde_json::json;

use crate::support::test_service::Rest;

fn found(router: &Router, verb: &str, path: &str) -> String {
    match router.find(&Method::from_bytes(verb.as_bytes()).unwrap(), path) {
        Found::Route(found) => found.route.method.rpc.to_owned(),
        Found::MethodNotAllowed { allow } => format!("405 {allow}"),
        Found::NotFound => "404".to_owned(),
    }
}

#[test]
fn verbs_win_over_literals_and_literals_over_parameters() {
    let router = Rest::new(&CAMPAIGNS).0;
    for (verb, path, rpc) in [
        ("GET", "/v3/test/items", "ListItems"),
        ("POST", "/v3/test/items", "EchoItem"),
        ("GET", "/v3/test/items/special", "GetSpecialItem"),
        ("HEAD", "/v3/test/items/special", "GetSpecialItem"),
        ("GET", "/v3/test/items/special2", "GetItem"),
        ("GET", "/v3/test/items/%73pecial", "GetItem"),
        ("DELETE", "/v3/test/items/special", "405 GET, HEAD"),
        ("DELETE", "/v3/test/items/x", "DeleteItem"),
        ("PATCH", "/v3/test/items/x", "405 DELETE, GET, HEAD, PUT"),
        ("POST", "/v3/test/items/x:touch", "TouchItem"),
        ("POST", "/v3/test/items/special:touch", "TouchItem"),
        ("GET", "/v3/test/items/x:touch", "405 POST"),
        ("GET", "/v3/test/items/x:other", "GetItem"),
        ("GET", "/v3/test/items/x%3Atouch", "GetItem"),
        ("POST", "/v3/test/shelves/s/items", "EchoItem"),
        ("GET", "/v3/test/shelves/s/items", "405 POST"),
        ("GET", "/v3/test/shelves/s", "404"),
        ("GET", "/v3/test/items/", "404"),
        ("GET", "/v3/test//items", "404"),
        ("GET", "/V3/test/items", "404"),
        ("HEAD", "/v3/test/count/3", "405 GET"),
        ("GET", "/", "404"),
        ("GET", "", "404"),
        ("CONNECT", "", "404"),
    ] {
        assert_eq!(found(&router, verb, path), rpc, "{verb} {path}");
    }
}

#[tokio::test]
async fn json_is_asked_for_where_there_is_a_body() {
    let rest = Rest::new(&CAMPAIGNS);
    let line = "POST /v3/test/items";
    for kind in [
        "text/plain",
        "application/jsonx",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
        "",
    ] {
        let answer = rest.send(line, &[("content-type", kind)], "{\"name\": \"n\"}").await;
        assert_eq!(answer.details(415)["contentType"], kind, "{kind}");
    }
    for kind in ["application/json", "Application/JSON; charset=\"UTF-8\""] {
        let answer = rest.send(line, &[("content-type", kind)], "{\"name\": \"n\"}").await;
        assert_eq!(answer.status, 201, "{kind}");
    }
    assert_eq!(rest.plain("POST /v3/test/items/x:touch").await.status, 200);
}

#[tokio::test]
async fn a_body_where_none_belongs_is_refused() {
    let rest = Rest::new(&CAMPAIGNS);
    for line in [
        "GET /v3/test/items",
        "DELETE /v3/test/items/x",
        "POST /v3/test/items/x:touch",
    ] {
        assert_eq!(
            rest.send(line, &[], "{\"a\": 1}").await.details(400),
            json!({"body": "must be empty"}),
            "{line}"
        );
        assert_eq!(rest.send(line, &[], " {} ").await.status, 200, "{line}");
    }
}

#[tokio::test]
async fn a_body_above_the_limit_is_too_large() {
    let rest = Rest::new(&CAMPAIGNS);
    let body = format!("{{\"name\": \"{}\"}}", "x".repeat(1 << 20));
    let answer = rest.send("POST /v3/test/items", &[], body.clone()).await;
    assert_eq!(answer.details(413), json!({"limitBytes": "1048576"}));
    let answer = rest.send("POST /v3/test/echo", &[], body).await;
    assert_eq!(answer.status, 400, "its own limit is larger");
}

#[tokio::test]
async fn a_key_marks_the_call_on_rpcs_that_take_one() {
    let rest = Rest::new(&CAMPAIGNS);
    let line = "POST /v3/test/items";
    let body = "{\"name\": \"n\"}";
    let first = rest.send(line, &[("idempotency-key", "k1")], body).await.data();
    let spaced = rest
        .send(line, &[("idempotency-key", "k1")], "{ \"name\" : \"n\" }")
        .await
        .data();
    let other = rest
        .send(line, &[("idempotency-key", "k1")], "{\"name\": \"m\"}")
        .await
        .data();
    assert!(first["key"].as_str().unwrap().starts_with("k1:"));
    assert_eq!(first["key"], spaced["key"]);
    assert_ne!(first["key"], other["key"]);
    let replayed = rest.send(line, &[("idempotency-key", "again")], body).await;
    assert_eq!(replayed.headers["idempotent-replayed"], "true");
    assert_eq!(rest.send(line, &[], body).await.data()["key"], "none");
    let long = "x".repeat(256);
    for key in ["", "a b", "ä", &long] {
        let details = rest.send(line, &[("idempotency-key", key)], body).await.details(400);
        assert_eq!(
            details,
            json!({"idempotency-key": "must be one key of 1 to 255 visible ASCII characters"})
        );
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    assert_eq!(rest.send(line, &twice, body).await.status, 400);
    let ignored = rest
        .send("GET /v3/test/items/x", &[("idempotency-key", "a b")], "")
        .await;
    assert_eq!(ignored.status, 200);
}

#[tokio::test]
async fn errors_have_the_envelope_and_leak_nothing() {
    let rest = Rest::new(&CAMPAIGNS);
    let missing = rest.plain("GET /v3/test/items/missing").await;
    assert_eq!(missing.status, 404);
    insta::assert_snapshot!("missing", missing.text);
    let broken = rest.plain("GET /v3/test/items/broken").await;
    assert_eq!(broken.status, 500);
    assert!(!broken.text.contains("disk"), "{}", broken.text);
    assert_eq!(broken.headers["content-type"], "application/json");
}

#[tokio::test]
async fn answers_stand_in_their_envelope() {
    let rest = Rest::new(&CAMPAIGNS);
    let item = rest.plain("GET /v3/test/items/x").await;
    insta::assert_snapshot!("item", item.text);
    let list = rest.plain("GET /v3/test/items?page=2&limit=5").await;
    insta::assert_snapshot!("list", list.text);
    let list = rest.plain("GET /v3/test/items").await.json();
    assert_eq!(list.get("pagination"), None);
    let whole = rest.plain("DELETE /v3/test/items/x").await;
    assert_eq!(whole.json(), json!({"data": {"id": "x"}}));
}

#[tokio::test]
async fn a_call_without_a_head_is_our_fault() {
    use campanile::api::rest::Body;
    let router = Rest::new(&CAMPAIGNS).0;
    let Found::Route(found) = router.find(&Method::GET, "/v3/test/items/x") else {
        panic!("not found");
    };
    let response = found
        .call(http::Request::get("/v3/test/items/x").body(Body::empty()).unwrap())
        .await;
    assert_eq!(response.status(), 500);
}
