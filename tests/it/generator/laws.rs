//! Contracts that the build refuses: each test breaks the test package in one place and runs the build script on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The build script that made this test: the newest beside its output.
fn build_script() -> PathBuf {
    let builds = Path::new(env!("OUT_DIR")).parent().unwrap().parent().unwrap();
    let scripts = fs::read_dir(builds).unwrap().filter_map(|folder| {
        let folder = folder.unwrap().path();
        let own = folder.file_name()?.to_str()?.starts_with("campanile-");
        let script = folder.join("build-script-build");
        let built = fs::metadata(&script).ok()?.modified().ok()?;
        own.then_some((built, script))
    });
    scripts.max().unwrap().1
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// What the build says when the first `from` of the test package is `to`; nothing when it succeeds.
fn build(from: &str, to: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    copy(&root.join("proto"), &folder.path().join("proto"));
    copy(&root.join("tests/proto"), &folder.path().join("tests/proto"));
    fs::create_dir(folder.path().join("out")).unwrap();
    let file = folder.path().join("tests/proto/campanile/test/v1/test.proto");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "the test package has no {from:?}");
    fs::write(&file, text.replacen(from, to, 1)).unwrap();
    let output = Command::new(build_script())
        .current_dir(folder.path())
        .env("OUT_DIR", folder.path().join("out"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then_some(said)
}

fn refuses(from: &str, to: &str, because: &[&str]) {
    let said = build(from, to).unwrap_or_else(|| unreachable!("{from:?} -> {to:?} was built"));
    for part in because {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn the_package_itself_is_lawful() {
    assert_eq!(build("service TestService", "service TestService"), None);
}

#[test]
fn an_rpc_says_who_may_call_it_and_where_it_is() {
    let rule = "option (campanile.options.v1.method) = {\n      auth: {\n        callers: [CALLER_KIND_PUBLIC]\n        \
                on_behalf_of: ON_BEHALF_OF_OPTIONAL\n      }\n      rate_class: RATE_CLASS_STANDARD\n    };";
    refuses(
        rule,
        "",
        &[
            "rpc campanile.test.v1.TestService.EchoQuery",
            "nobody knows who may call it",
        ],
    );
    refuses(
        "callers: [CALLER_KIND_PUBLIC]",
        "",
        &["TestService.Echo ", "lets in no kind of caller"],
    );
    refuses(
        "on_behalf_of: ON_BEHALF_OF_OPTIONAL",
        "",
        &["TestService.Echo ", "on_behalf_of"],
    );
    refuses(
        "rate_class: RATE_CLASS_STANDARD",
        "",
        &["TestService.Echo ", "has no rate class"],
    );
    refuses(
        "option (google.api.http) = {get: \"/v3/test/query/{id}\"};",
        "",
        &["EchoQuery", "has no (google.api.http)"],
    );
}

#[test]
fn two_rpcs_never_have_one_path() {
    refuses(
        "/v3/test/items/{id}:touch",
        "/v3/test/items",
        &["TouchItem is bound to POST /v3/test/items, as", "EchoItem"],
    );
    refuses(
        "get: \"/v3/test/items/special\"",
        "get: \"/v3/test/items/{other=*}\"",
        &["is bound to GET /v3/test/items/*"],
    );
}

#[test]
fn paths_follow_the_grammar_and_bind_fields() {
    refuses("/v3/test/query/{id}", "/v3/test/query/{id", &["EchoQuery"]);
    refuses(
        "/v3/test/query/{id}",
        "/v3/test/query/{nothing}",
        &["EchoQuery binds nothing, which is no field"],
    );
    refuses(
        "/v3/test/query/{id}",
        "/v3/test/query/{words}",
        &["EchoQuery binds words, which is no text"],
    );
    refuses(
        "response_body: \"everything\"",
        "response_body: \"nothing\"",
        &["EchoResponse has no field nothing"],
    );
}

#[test]
fn methods_keys_and_side_effects_agree() {
    refuses(
        "idempotency_key: true",
        "",
        &["TestService.Echo must take an idempotency key exactly when"],
    );
    refuses(
        "option idempotency_level = NO_SIDE_EFFECTS;",
        "",
        &["EchoQuery must be NO_SIDE_EFFECTS exactly when"],
    );
    refuses(
        "delete: \"/v3/test/items/{id}\"",
        "delete: \"/v3/test/items/{id}\" body: \"*\"",
        &["has a body on GET or DELETE"],
    );
    refuses(
        "returns (stream CountResponse) {\n    option idempotency_level = NO_SIDE_EFFECTS;\n    option (google.api.http) = {get:",
        "returns (stream CountResponse) {\n    option (google.api.http) = {post:",
        &["Count streams its answer, which only GET can do"],
    );
    refuses(
        "rpc Echo(EchoRequest)",
        "rpc Echo(stream EchoRequest)",
        &["TestService.Echo streams requests, which HTTP with JSON cannot"],
    );
    refuses(
        "rpc Add(stream AddRequest) returns (AddResponse)",
        "rpc Add(stream AddRequest) returns (stream AddResponse)",
        &["TestService.Add streams both ways"],
    );
    refuses(
        "rpc Add(stream AddRequest)",
        "rpc Add(AddRequest)",
        &["TestService.Add", "has no (google.api.http)"],
    );
    refuses(
        "body_bytes_max: 1000",
        "idempotency_key: true",
        &["TestService.Add must take an idempotency key exactly when"],
    );
    refuses(
        "success_status: 201",
        "success_status: 404",
        &["a success status that is no success"],
    );
}

#[test]
fn an_update_has_the_resource_as_its_body() {
    refuses(
        "put: \"/v3/test/items/{item_id}\"\n      body: \"item\"",
        "put: \"/v3/test/items/{item_id}\"\n      body: \"*\"",
        &["UpdateItem has an update_mask, so its body must be the field of the resource"],
    );
}

#[test]
fn enums_have_a_zero_that_means_nothing_and_different_words() {
    refuses(
        "COLOUR_UNSPECIFIED = 0",
        "COLOUR_NONE = 0",
        &["campanile.test.v1.Colour: the value 0 must end in _UNSPECIFIED"],
    );
    refuses(
        ".word = \"lightBlue\"",
        ".word = \"red\"",
        &["COLOUR_LIGHT_BLUE and COLOUR_RED have the same word"],
    );
}

#[test]
fn inline_messages_can_be_told_apart() {
    refuses(
        "string target = 1",
        "string url = 1",
        &["campanile.test.v1.Inline: ", "share the field url"],
    );
    refuses(
        "bool flag = 4;",
        "string flag = 4;",
        &["campanile.test.v1.Inline: ", "share the string"],
    );
    refuses(
        "map<string, Inline> values = 1",
        "map<string, Inline> values = 1; int32 more = 2; map<string, Inline> others = 3",
        &["campanile.test.v1.InlineMap: an inline_map has exactly one map"],
    );
}

#[test]
fn every_value_has_a_bound_that_is_known() {
    refuses(
        " [(campanile.options.v1.field).json_bytes_max = 256]",
        "",
        &["Everything.object", "json_bytes_max"],
    );
    refuses(
        "repeated int64 int64s = 43 [(buf.validate.field).repeated.max_items = 5]",
        "repeated int64 int64s = 43",
        &["Everything.int64s: a list has max_items"],
    );
    refuses(
        "(buf.validate.field).float.finite = true",
        "(buf.validate.field).float.const = 1 , (buf.validate.field).cel = {id: \"x\"}",
        &["Everything.float_value: the rule cel of buf.validate is not known"],
    );
    refuses(
        "optional bool optional_bool = 21;",
        "optional bool optional_bool = 21 [(buf.validate.field).bool.const = true];",
        &["the rule bool.const of buf.validate is not known"],
    );
}

#[test]
fn a_message_holds_itself_in_a_list_only() {
    refuses(
        "repeated Part parts = 3 [(buf.validate.field).repeated.max_items = 4];",
        "Part part = 3;",
        &["Part.part: holds Part in itself"],
    );
}
