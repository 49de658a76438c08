//! What the generator says about the contract: one line for each promise, and tables that agree with each other.

use campanile::api::doors;
use campanile::api::rest::kind::Worded;

use crate::support::test_service;

#[test]
fn every_promise_has_a_line() {
    insta::assert_snapshot!("contract", doors::CONTRACT);
}

#[test]
fn every_promise_of_the_test_service_has_a_line() {
    insta::assert_snapshot!("test_contract", test_service::CONTRACT);
}

#[test]
fn rpcs_are_found_by_their_grpc_path() {
    for method in doors::METHODS {
        assert!(std::ptr::eq(doors::method(method.grpc_path).unwrap(), *method));
    }
    assert!(doors::method("/campanile.v1.UserService/Nothing").is_none());
}

#[test]
fn every_pattern_compiles() {
    for pattern in doors::patterns::ALL.iter().chain(test_service::doors::patterns::ALL) {
        assert!(pattern.is_sound(), "{pattern:?}");
    }
}

#[test]
fn words_read_back_as_their_values() {
    let words = test_service::pb::Colour::WORDS;
    for value in words.values {
        assert_eq!(words.number(value.word), Some(value.number));
        assert_eq!(words.number(value.proto), Some(value.number));
    }
    assert_eq!(words.number("COLOUR_UNSPECIFIED"), None);
    assert_eq!(words.number("unspecified"), None);
}

#[test]
fn the_descriptors_hold_the_options() {
    let text = String::from_utf8_lossy(doors::DESCRIPTORS);
    assert!(text.contains("Creates a user"), "comments are kept for reflection");
    assert!(doors::DESCRIPTORS.len() > 50_000);
}

#[test]
fn the_openapi_document_changes_on_purpose_only() {
    let text = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));
    let document: serde_json::Value = serde_json::from_str(text).unwrap();
    insta::assert_json_snapshot!("openapi", document);
}
