//! Whatever is sent, the doors answer: nothing panics, nothing is answered with 500.

use campanile::api::rest::dialect::CAMPAIGNS;
use proptest::prelude::*;
use serde_json::Value;

use super::read::least;
use crate::support::test_service::Rest;

const NAMES: &[&str] = &[
    "everything",
    "note",
    "boolValue",
    "int32Value",
    "int64Value",
    "uint64Value",
    "floatValue",
    "doubleValue",
    "stringValue",
    "bytesValue",
    "enumValue",
    "optionalString",
    "strings",
    "int32s",
    "enums",
    "parts",
    "times",
    "stringsByString",
    "partsByString",
    "stringsByInt32",
    "enumsByBool",
    "part",
    "requiredPart",
    "time",
    "duration",
    "mask",
    "object",
    "any",
    "list",
    "inline",
    "inlines",
    "inlineMap",
    "inlineMaps",
    "choiceText",
    "choicePart",
    "url",
    "target",
    "width",
    "name",
    "size",
    "outputOnly",
    "secret",
    "item",
    "a",
    "",
    "\u{0}",
];

fn json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "\\PC{0,12}",
        prop::sample::select(NAMES).prop_map(str::to_owned),
        prop::sample::select(
            &[
                "red",
                "1.5s",
                "2024-01-15T09:30:00Z",
                "AQID",
                "-1",
                "1e5",
                "9999-12-31T23:59:60Z"
            ][..]
        )
        .prop_map(str::to_owned),
    ];
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3_i64..300).prop_map(Value::from),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        text.prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let name = prop_oneof![4 => prop::sample::select(NAMES).prop_map(str::to_owned), 1 => "\\PC{0,8}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..8).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn send(line: &str, body: impl Into<Vec<u8>>) -> u16 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(Rest::new(&CAMPAIGNS).send(line, &[], body)).status
}

fn is_answer(status: u16) -> bool {
    status < 300 || status == 400
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_answered(body in json()) {
        for line in ["POST /v3/test/echo", "POST /v3/test/items", "PUT /v3/test/items/x"] {
            prop_assert!(is_answer(send(line, body.to_string())));
        }
    }

    #[test]
    fn any_field_of_any_value_is_answered(name in prop::sample::select(NAMES), value in json()) {
        let mut everything = least();
        everything[name] = value;
        let body = serde_json::json!({"everything": everything}).to_string();
        prop_assert!(is_answer(send("POST /v3/test/echo", body)));
    }

    #[test]
    fn any_bytes_are_answered(body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(is_answer(send("POST /v3/test/echo", body)));
    }

    #[test]
    fn any_query_is_answered(query in "([a-z]{2,7}(\\.[a-z]{2,6})?=[a-zA-Z0-9!$'()*+,./:;=?@_~%-]{0,12}&){0,6}(%[0-9A-F]{2}){0,3}") {
        for path in ["query/7", "items", "count/3"] {
            let status = send(&format!("GET /v3/test/{path}?{query}"), "");
            prop_assert!(is_answer(status));
        }
    }

    #[test]
    fn what_was_answered_can_be_sent_again(name in prop::sample::select(NAMES), value in json()) {
        let mut everything = least();
        everything[name] = value;
        let body = serde_json::json!({"everything": everything}).to_string();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rest = Rest::new(&CAMPAIGNS);
            let first = rest.send("POST /v3/test/echo", &[], body).await;
            if first.status == 200 {
                let again = serde_json::json!({"everything": first.data()}).to_string();
                let second = rest.send("POST /v3/test/echo", &[], again).await;
                prop_assert_eq!(first.text, second.text);
            }
            Ok(())
        })?;
    }
}
