//! Bodies: what comes back unchanged, and what is refused, all of it at once.

use campanile::api::rest::dialect::CAMPAIGNS;
use serde_json::{Value, json};
use tonic_types::StatusExt;

use crate::support::test_service::{Rest, grpc, pb};

const ECHO: &str = "POST /v3/test/echo";

/// The least that is valid.
pub(super) fn least() -> Value {
    json!({"strings": ["a"], "partsByString": {"a": {"name": "n"}}, "requiredPart": {"name": "n"}})
}

fn with(extra: &Value) -> Value {
    let mut body = least();
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    json!({"everything": body})
}

async fn echoed(extra: Value) -> Value {
    let answer = Rest::new(&CAMPAIGNS).json(ECHO, &with(&extra)).await;
    answer.data()
}

async fn refused(extra: Value) -> Value {
    let answer = Rest::new(&CAMPAIGNS).json(ECHO, &with(&extra)).await;
    answer.details(400)
}

#[tokio::test]
async fn every_kind_of_field_comes_back() {
    let sent: Value = serde_json::from_str(
        r#"{
        "boolValue": true, "int32Value": -100, "int64Value": 9007199254740991, "uint32Value": 1000,
        "uint64Value": 9007199254740991, "sint32Value": -5, "sint64Value": -6, "fixed32Value": 7,
        "fixed64Value": 8, "sfixed32Value": -9, "sfixed64Value": -10, "floatValue": 1.5, "doubleValue": -0.25,
        "stringValue": "ä \"quoted\" \\ \n", "bytesValue": "AQID", "enumValue": "lightBlue",
        "optionalBool": false, "optionalInt32": 2, "optionalInt64": 0, "optionalUint32": 6, "optionalUint64": 0,
        "optionalDouble": 0, "optionalString": "abc", "optionalWord": "two", "optionalBytes": "/w==",
        "optionalEnum": "dark_green", "strings": ["a", "b"], "int32s": [0, 1], "int64s": [-1], "doubles": [0.5],
        "bools": [true, false], "enums": ["red"], "byteStrings": ["", "AA=="],
        "parts": [{"name": "p", "size": 3, "parts": [{"name": "q", "parts": []}]}],
        "times": ["2024-01-15T09:30:00.000Z"], "stringsByString": {"a": "b"},
        "partsByString": {"x": {"name": "y", "parts": []}}, "stringsByInt32": {"1": "one"},
        "int64sByInt64": {"-1": 1}, "enumsByBool": {"true": "red"}, "part": {"name": "z", "parts": []},
        "requiredPart": {"name": "r", "parts": []}, "time": "0001-01-01T00:00:00.000Z", "duration": "-1.5s",
        "mask": "name,createdAt", "object": {"a": [1, 1.5, null, {"b": "c"}]}, "any": [true], "list": ["x"],
        "inline": "text", "inlines": [{"url": "https://x", "width": 1}, {"target": "t"}, true],
        "inlineMap": {"a": 5}, "inlineMaps": {"m": {"b": "c"}}, "choicePart": {"name": "c", "parts": []},
        "secret": "s", "old": "o"}"#,
    )
    .unwrap();
    let mut expected = sent.clone();
    expected["outputOnly"] = json!("");
    let answer = echoed(sent).await;
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn absent_fields_are_absent_and_implicit_ones_are_their_defaults() {
    let answer = echoed(json!({})).await;
    insta::assert_json_snapshot!("least", answer);
}

#[tokio::test]
async fn null_is_absent_and_proto_names_are_read() {
    let answer = echoed(json!({
        "optional_int32": 3, "optionalString": null, "int32s": null, "part": null, "time": null, "inline": null,
        "choiceText": null, "choice_number": 4, "stringsByString": null, "any": null, "int32Value": null,
    }))
    .await;
    assert_eq!(answer["optionalInt32"], 3);
    assert_eq!(answer["choiceNumber"], 4);
    assert_eq!(answer["int32s"], json!([]));
    for absent in ["optionalString", "part", "time", "inline", "choiceText", "any"] {
        assert_eq!(answer.get(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn numbers_and_times_have_more_than_one_form() {
    let answer = echoed(json!({
        "int32Value": 1.0, "int64Value": "-12", "uint32Value": "7", "doubleValue": 1, "enumValue": "COLOUR_RED",
        "time": 1_705_311_000, "times": [1_705_311_000.25, "2024-01-15T10:30:00+01:00"], "bytesValue": "_-8",
    }))
    .await;
    assert_eq!(answer["int32Value"], 1);
    assert_eq!(answer["int64Value"], -12);
    assert_eq!(answer["uint32Value"], 7);
    assert_eq!(answer["doubleValue"], 1);
    assert_eq!(answer["enumValue"], "red");
    assert_eq!(answer["time"], "2024-01-15T09:30:00.000Z");
    assert_eq!(
        answer["times"],
        json!(["2024-01-15T09:30:00.250Z", "2024-01-15T09:30:00.000Z"])
    );
    assert_eq!(answer["bytesValue"], "/+8=");
}

#[tokio::test]
async fn all_problems_are_named_at_once_with_path_rule_and_value() {
    let sent = serde_json::from_str(
        r#"{
        "boolValue": "yes", "int32Value": 1.5, "int64Value": 1e30, "uint32Value": -1, "floatValue": 1e300,
        "stringValue": 5, "bytesValue": "*", "enumValue": "green", "optionalInt32": 4, "optionalString": "A",
        "optionalWord": "four", "optionalEnum": "unspecified", "strings": ["", "a", "a", "toolong"], "int32s": [-1, "x"],
        "enums": ["COLOUR_UNSPECIFIED"], "parts": [{"nam": "x"}, 5, {"name": "n", "parts": [{"name": null}]}],
        "times": ["2024-01-15", "10000-01-01T00:00:00Z", 1e300], "stringsByString": {"TOO": "abcde"},
        "partsByString": {}, "stringsByInt32": {"x": "y"}, "part": [], "requiredPart": null,
        "time": true, "duration": "1.5", "mask": "Name", "object": [], "list": {}, "inline": {}, "inlines": [[], null],
        "inlineMap": {"a": {"url": "http://x", "width": 0, "size": 1}}, "choiceText": "a", "choiceNumber": 1,
        "unknown": 1, "doubleValue": 2}"#,
    )
    .unwrap();
    let answer = refused(sent).await;
    insta::assert_json_snapshot!("problems", answer);
}

#[tokio::test]
async fn an_object_that_fits_no_kind_is_one_problem_at_its_own_path() {
    let kinds = "must be a string, an object with url, an object with target, a boolean or a number";
    let details = refused(json!({"inline": {"a": 1, "b": {}}, "inlineMap": {"k": {"name": "x"}}})).await;
    let sentence = format!("{kinds}, received \"{{…}}\"");
    assert_eq!(
        details,
        json!({"everything.inline": sentence, "everything.inlineMap.k": sentence})
    );
    let details = refused(json!({"inline": {"a": 1, "target": "t"}})).await;
    assert_eq!(details, json!({"everything.inline.a": "is not a known field"}));
}

#[tokio::test]
async fn both_doors_name_the_same_problems() {
    let request = pb::EchoRequest {
        everything: Some(pb::Everything {
            int32_value: 1000,
            string_value: "a\0b".to_owned(),
            optional_string: Some("A".to_owned()),
            strings: vec!["toolong".to_owned()],
            ..pb::Everything::default()
        }),
        note: None,
    };
    let status = grpc!().echo(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    let details = status.get_error_details();
    let mut over_grpc: Vec<(String, String)> = details
        .bad_request()
        .unwrap()
        .field_violations
        .iter()
        .map(|violation| (violation.field.clone(), violation.description.clone()))
        .collect();
    let body = json!({"everything": {
        "int32Value": 1000, "stringValue": "a\u{0}b", "optionalString": "A", "strings": ["toolong"],
    }});
    let answer = Rest::new(&CAMPAIGNS).json(ECHO, &body).await.details(400);
    let mut over_rest: Vec<(String, String)> = answer
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, problem)| (path.clone(), problem.as_str().unwrap().to_owned()))
        .collect();
    over_grpc.sort();
    over_rest.sort();
    assert_eq!(over_grpc, over_rest);
    assert_eq!(over_rest.len(), 6, "{over_rest:#?}");
}

#[tokio::test]
async fn unset_and_unknown_enum_numbers_are_refused_over_grpc() {
    let request = |colour: i32, listed: i32| pb::EchoRequest {
        everything: Some(pb::Everything {
            enum_value: colour,
            optional_enum: Some(0),
            enums: vec![listed],
            strings: vec!["a".to_owned()],
            required_part: Some(pb::Part {
                name: "n".to_owned(),
                ..pb::Part::default()
            }),
            parts_by_string: [(
                "a".to_owned(),
                pb::Part {
                    name: "n".to_owned(),
                    ..pb::Part::default()
                },
            )]
            .into(),
            time: Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            }),
            float_value: f32::NAN,
            ..pb::Everything::default()
        }),
        note: None,
    };
    let status = grpc!().echo(request(99, 0)).await.unwrap_err();
    let details = status.get_error_details();
    let fields: Vec<_> = details
        .bad_request()
        .unwrap()
        .field_violations
        .iter()
        .map(|v| v.field.as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "everything.floatValue",
            "everything.enumValue",
            "everything.optionalEnum",
            "everything.enums[0]",
            "everything.time"
        ]
    );
}

#[tokio::test]
async fn text_that_is_not_json_is_refused_with_its_place() {
    let rest = Rest::new(&CAMPAIGNS);
    for (body, place) in [
        ("{", "line 1 column 1"),
        ("{\n  \"note\": tru }", "line 2"),
        ("{\"note\": \"a\"} x", "line 1 column 15"),
        ("\u{feff}{}", "line 1"),
        ("{\"note\": \"\\ud800\"}", "line 1"),
        ("{\"note\": 01}", "line 1"),
        ("{\"note\": \"a\",}", "line 1"),
    ] {
        let answer = rest.send(ECHO, &[], body).await;
        assert_eq!(answer.status, 400, "{body}");
        let sentence = answer.json()["error"]["devMessage"].as_str().unwrap().to_owned();
        assert!(
            sentence.starts_with("the body is not JSON: ") && sentence.contains(place),
            "{sentence}"
        );
    }
    let invalid = rest.send(ECHO, &[], b"{\"note\": \"\xff\"}".to_vec()).await;
    assert_eq!(invalid.status, 400);
}

#[tokio::test]
async fn other_roots_duplicate_keys_and_misspelt_names_are_refused() {
    let rest = Rest::new(&CAMPAIGNS);
    assert_eq!(
        rest.send(ECHO, &[], "[]").await.details(400),
        json!({"body": "must be an object, received \"[…]\"", })
    );
    let twice = r#"{"note": "a", "note": "b", "everything": {"strings": ["a"], "strings": ["b"], "object": {"a": 1, "a": 2},
        "stringsByString": {"a": "x", "a": "y"}, "strngs": []}}"#;
    let details = rest.send(ECHO, &[], twice).await.details(400);
    assert_eq!(details["note"], "must not be given twice");
    assert_eq!(details["everything.strings"], "must not be given twice");
    assert_eq!(details["everything.object.a"], "must not be given twice");
    assert_eq!(details["everything.stringsByString.a"], "must not be given twice");
    assert_eq!(
        details["everything.strngs"],
        "is not a known field, did you mean strings"
    );
}

#[tokio::test]
async fn an_empty_body_is_an_empty_message() {
    let rest = Rest::new(&CAMPAIGNS);
    assert_eq!(
        rest.plain(ECHO).await.details(400),
        json!({"everything": "is required"})
    );
    assert_eq!(
        rest.send(ECHO, &[], "null").await.details(400),
        json!({"everything": "is required"})
    );
    assert_eq!(
        rest.plain("POST /v3/test/items").await.details(400),
        json!({"body": "is required"})
    );
}

#[tokio::test]
async fn secrets_are_never_repeated_and_output_only_input_is_ignored() {
    let long = "x".repeat(65);
    let details = refused(json!({"secret": long, "outputOnly": 5})).await;
    assert_eq!(
        details,
        json!({"everything.secret": "must not be longer than 64 characters"})
    );
    let details = refused(json!({"secret": 5})).await;
    assert_eq!(details, json!({"everything.secret": "must be a string"}));
    let answer = echoed(json!({"outputOnly": "mine", "inputOnly": "in"})).await;
    assert_eq!(answer["outputOnly"], "");
    assert_eq!(answer.get("inputOnly"), None);
}

#[tokio::test]
async fn depth_and_free_json_are_bounded() {
    let nested = |depth: usize, open: &str, close: &str| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    let rest = Rest::new(&CAMPAIGNS);
    let send = |any: String| {
        let body = json!({"everything": least()}).to_string().replacen(
            "{\"partsByString",
            &format!("{{\"any\":{any},\"partsByString"),
            1,
        );
        let rest = &rest;
        async move { rest.send(ECHO, &[], body).await }
    };
    assert_eq!(send(nested(64, "[", "]")).await.status, 200);
    let details = send(nested(65, "[", "]")).await.details(400);
    let place = format!("everything.any{}", "[0]".repeat(64));
    let rule = "must not be nested deeper than 64 levels, received \"[…]\"";
    assert_eq!(details, json!({ place: rule }));
    let many = format!("[{}1]", "[],".repeat(70_000));
    let details = send(many).await.details(400);
    let rule = "must not hold more than 65536 values";
    assert_eq!(
        details,
        json!({"everything.any": rule}),
        "and what is beyond is not kept"
    );
    let details = send("{\"a\":[\"x\",{\"b\":\"\\u0000\",\"c\":1,\"c\":2}]}".to_owned())
        .await
        .details(400);
    assert_eq!(
        details,
        json!({
            "everything.any.a[1].c": "must not be given twice",
            "everything.any.a[1].b": "must not contain U+0000, received \"\\0\"",
        })
    );
    assert_eq!(send(nested(100_000, "[", "]")).await.status, 400);
    let details = send(format!("\"{}\"", "x".repeat(255))).await.details(400);
    assert_eq!(
        details,
        json!({"everything.any": "must not be larger than 256 bytes as JSON, received \"257 bytes\""})
    );
    let parts = nested(70, "{\"parts\":[{\"name\":\"n\",\"parts\":[", "]}]}").replace('1', "");
    let body = format!("{{\"everything\":{{\"part\":{parts}}}}}");
    assert_eq!(rest.send(ECHO, &[], body).await.status, 400);
}

#[tokio::test]
async fn lists_and_maps_beyond_their_bounds_are_counted_and_not_kept() {
    let many = vec![json!({}); 10_000];
    let details = refused(json!({"parts": many})).await;
    let parts = details["everything.parts"].as_str().unwrap();
    assert_eq!(parts, "must not have more than 3 items, received \"10000\"");
    let pairs: serde_json::Map<String, Value> = (0..9).map(|at| (format!("k{at}"), json!("v"))).collect();
    let details = refused(json!({"stringsByString": pairs})).await;
    assert_eq!(
        details["everything.stringsByString"],
        "must not have more than 2 items, received \"9\""
    );
}

#[tokio::test]
async fn undecodable_protobuf_is_the_callers_fault() {
    use tower::ServiceExt;
    let frame = bytes::Bytes::from_static(b"\0\0\0\0\x02\x0a\xff");
    let request = http::Request::builder()
        .method("POST")
        .uri("/campanile.test.v1.TestService/Echo")
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(http_body_util::Full::new(frame)))
        .unwrap();
    let response = crate::support::test_service::grpc_service()
        .oneshot(request)
        .await
        .unwrap();
    assert_eq!(response.headers()["grpc-status"], "3");
}
