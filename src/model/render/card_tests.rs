//! What rendering whole documents promises: a value stands only where it fits, escaped for its place; and whatever the
//! check of a template and the check of a send accept is rendered, is sound afterwards, and shows its values.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::card;
use crate::model::channel::ChannelType;
use crate::model::document::check::Findings;
use crate::model::template::content::{self, Compiled};
use crate::model::template::{DataType, TemplateChannel};
use crate::model::variable::{
    self, ActionType, ActionValue, ImageValue, VariableDefinition, VariableType, VariableValues,
};

fn text(text: &str) -> VariableValue {
    VariableValue::Text(text.to_owned())
}

fn image(url: &str, width: u32, height: u32) -> VariableValue {
    VariableValue::Image(ImageValue {
        url: url.to_owned(),
        width,
        height,
    })
}

fn action(action_type: ActionType, data: &str) -> VariableValue {
    VariableValue::Action(ActionValue {
        action_type,
        data: data.to_owned(),
    })
}

fn values(pairs: &[(&str, VariableValue)]) -> VariableValues {
    let pairs = pairs.iter();
    pairs.map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

fn channel(channel_type: ChannelType, data_type: DataType, content: &Value) -> TemplateChannel {
    TemplateChannel {
        channel_type,
        channel_id: None,
        content: content.as_object().cloned(),
        data_type,
        category_filter_enabled: false,
        template_label_enabled: false,
        message_retention_hours: 0,
        step: crate::model::template::sequence::Step::default(),
    }
}

fn ui(channel_type: ChannelType, content: &Value) -> Card {
    content::compile(&channel(channel_type, DataType::UiTemplate, content)).unwrap()
}

fn card_of(body: &Value) -> Value {
    let mut card = Value::Object(card::titled("x"));
    card["body"] = body.clone();
    card
}

/// The body of a card with the values in it, after checking that its size was known beforehand.
fn body(source: &Value, values: &VariableValues) -> Value {
    let card = ui(ChannelType::InApp, &card_of(source));
    let rendered = card.render(values).unwrap();
    assert_eq!(rendered.to_string().len(), card.rendered_bytes(values), "{rendered}");
    rendered["body"].clone()
}

fn rules(channel_type: ChannelType, content: &Value, values: &VariableValues) -> Vec<(String, String)> {
    let faults = ui(channel_type, content).faults(values).into_iter();
    faults.map(|fault| (fault.keys.join(","), fault.rule)).collect()
}

#[test]
fn an_image_gives_its_url_and_a_size_to_image_elements_that_have_none() {
    let source = json!([
        {"id": "1", "type": "image", "url": "{{ a }}"},
        {"id": "2", "type": "image", "url": "{{a}}", "height": 10},
        {"id": "3", "type": "icon", "url": "{{a}}"},
        {"id": "4", "type": "chip", "text": "x", "icon": {"url": "{{a}}"}},
        {"id": "5", "type": "image", "url": "{{b}}"},
    ]);
    let given = values(&[("a", image("https://a/\"x", 7, 1_000)), ("b", text("https://b/"))]);
    assert_eq!(
        body(&source, &given),
        json!([
            {"id": "1", "type": "image", "url": "https://a/\"x", "width": 7, "height": 1000},
            {"id": "2", "type": "image", "url": "https://a/\"x", "height": 10},
            {"id": "3", "type": "icon", "url": "https://a/\"x"},
            {"id": "4", "type": "chip", "text": "x", "icon": {"url": "https://a/\"x"}},
            {"id": "5", "type": "image", "url": "https://b/"},
        ])
    );
    assert_eq!(body(&source, &VariableValues::new()), source);
}

#[test]
fn an_action_stands_for_an_action_and_nowhere_else() {
    let button = |action: &Value| json!([{"id": "1", "type": "button", "label": "{{p}}", "action": action}]);
    let given = values(&[("p", action(ActionType::Web, "https://a/"))]);
    assert_eq!(
        body(&button(&json!("{{p}}")), &given),
        json!([{"id": "1", "type": "button", "label": "{{p}}", "action": {"type": "openUrl", "url": "https://a/"}}])
    );
    let custom = values(&[("p", action(ActionType::Custom, "a\n\"b"))]);
    assert_eq!(
        body(&button(&json!("{{p}}")), &custom)[0]["action"],
        json!({"type": "customCallback", "callbackId": "a\n\"b"})
    );
    let url = card_of(&button(&json!({"type": "openUrl", "url": "{{p}}"})));
    let found = rules(ChannelType::InApp, &url, &given);
    let expected = [
        "must be of type string, because it stands in a text",
        "must be of type string, because it stands for a URL",
    ];
    assert_eq!(found.len(), 2);
    assert!(
        found
            .iter()
            .all(|(key, rule)| key == "p" && expected.contains(&rule.as_str())),
        "{found:?}"
    );
    let found = rules(
        ChannelType::InApp,
        &card_of(&button(&json!("{{p}}"))),
        &values(&[("p", text("x"))]),
    );
    assert_eq!(
        found,
        [(
            "p".to_owned(),
            "must be of type action, because it stands for an action".to_owned()
        )]
    );
}

#[test]
fn free_json_of_a_card_takes_texts_whatever_its_members_are_called() {
    let source = json!([{"id": "1", "type": "button", "label": "x", "action": {
        "type": "customCallback", "payload": {"url": "{{a}} {{a}}", "action": "{{a}}"},
    }}]);
    let given = values(&[("a", text("javascript:<x>"))]);
    assert_eq!(
        body(&source, &given)[0]["action"]["payload"],
        json!({"url": "javascript:<x> javascript:<x>", "action": "javascript:<x>"})
    );
    assert_eq!(rules(ChannelType::InApp, &card_of(&source), &given), []);
}

#[test]
fn a_part_of_a_url_is_percent_encoded_and_a_whole_one_is_not() {
    let source =
        |url: &str| json!([{"id": "1", "type": "link", "text": "x", "action": {"type": "openUrl", "url": url}}]);
    let url =
        |pattern: &str, value: &str| body(&source(pattern), &values(&[("a", text(value))]))[0]["action"]["url"].clone();
    assert_eq!(
        url("https://x/{{a}}?q={{a}}", "a/é?&=#+ %~"),
        "https://x/a%2F%C3%A9%3F%26%3D%23%2B%20%25~?q=a%2F%C3%A9%3F%26%3D%23%2B%20%25~"
    );
    assert_eq!(
        url("MAILTO:{{a}}", "ada+x@example.com?bcc=y"),
        "MAILTO:ada+x@example.com%3Fbcc%3Dy"
    );
    assert_eq!(url("tel:{{a}}", "+49 1"), "tel:+49%201");
    assert_eq!(url("{{a}}", "https://x/?q=1#2"), "https://x/?q=1#2");
    for hostile in [
        "javascript:alert(1)",
        "JAVASCRIPT:x",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc",
        " javascript:x",
        "/x",
        "",
    ] {
        assert_eq!(url("{{a}}", hostile), "{{a}}", "{hostile:?} stands nowhere");
        let found = rules(
            ChannelType::InApp,
            &card_of(&source("{{a}}")),
            &values(&[("a", text(hostile))]),
        );
        assert_eq!(found.len(), 1, "{hostile:?}");
    }
}

#[test]
fn every_channel_type_escapes_for_its_places() {
    let given = values(&[("a", text("<b>&\r\nBcc: x"))]);
    let mail = json!({"subject": "Hi {{a}}", "html": "<p>{{a}}</p>", "text": "{{a}}"});
    assert_eq!(
        ui(ChannelType::Email, &mail).render(&given).unwrap(),
        json!({
            "subject": "Hi <b>&Bcc: x",
            "html": "<p>&lt;b&gt;&amp;\r\nBcc: x</p>",
            "text": "<b>&\r\nBcc: x",
        })
    );
    let push = json!({"title": "{{a}}", "body": "{{a}}", "deepLink": "shop://o/{{a}}", "imageUrl": "{{i}}"});
    let mut with_image = given.clone();
    with_image.insert("i".to_owned(), image("https://i/", 1, 1));
    assert_eq!(
        ui(ChannelType::Push, &push).render(&with_image).unwrap(),
        json!({
            "title": "<b>&Bcc: x",
            "body": "<b>&\r\nBcc: x",
            "deepLink": "shop://o/%3Cb%3E%26%0D%0ABcc%3A%20x",
            "imageUrl": "https://i/",
        })
    );
    let link = json!({"title": "t", "body": "b", "deepLink": "{{l}}"});
    let web = values(&[("l", action(ActionType::Web, "https://l/"))]);
    assert_eq!(
        ui(ChannelType::Push, &link).render(&web).unwrap()["deepLink"],
        "https://l/"
    );
    let hostile = values(&[("l", action(ActionType::Custom, "order:1"))]);
    assert_eq!(rules(ChannelType::Push, &link, &hostile).len(), 1);
}

#[test]
fn a_document_of_the_apps_own_holds_values_as_they_are() {
    let source = json!({"url": "{{t}}", "press": "{{p}}", "list": ["{{i}}", "x{{i}}"]});
    let own = channel(ChannelType::InApp, DataType::DataTemplate, &source);
    let given = values(&[
        ("t", text("javascript:x")),
        ("p", action(ActionType::Web, "https://a")),
        ("i", image("https://i", 1, 2)),
    ]);
    let compiled = content::compile(&own).unwrap();
    let rendered = compiled.render(&given).unwrap();
    assert_eq!(
        rendered,
        json!({
            "url": "javascript:x",
            "press": {"type": "web", "data": "https://a"},
            "list": [{"url": "https://i", "width": 1, "height": 2}, "x{{i}}"],
        })
    );
    assert_eq!(rendered.to_string().len(), compiled.rendered_bytes(&given));
    assert_eq!(compiled.faults(&given).len(), 1);
}

#[test]
fn typed_values_count_towards_every_cap() {
    let wide: VariableValues = (0..200)
        .map(|n| (format!("k{n}"), image(&"x".repeat(4_096), 1, 1)))
        .collect();
    assert_eq!(check_context(&wide), Err(Exceeded::Context));
    let elements: Vec<_> = (0..100)
        .map(|n| json!({"id": n.to_string(), "type": "image", "url": "{{i}}"}))
        .collect();
    let card = ui(ChannelType::InApp, &card_of(&json!(elements)));
    let large = format!("https://x/{}", "y".repeat(2_000));
    let given = values(&[("i", image(&large, 1, 1))]);
    assert_eq!(card.render(&given), Err(Exceeded::Output));
    assert_eq!(card.faults(&given).len(), 1);
}

#[test]
fn hostile_documents_take_linear_time() {
    let header = |n: usize| (format!("h{n}"), json!("{{a}}"));
    let headers: serde_json::Map<_, _> = (0..4_000).map(header).collect();
    let headers = json!([{"id": "1", "type": "button", "label": "x", "action": {
        "type": "apiCall", "url": "https://x/", "headers": headers,
    }}]);
    let images: Vec<_> = (0..1_200)
        .map(|n| json!({"id": n.to_string(), "type": "image", "url": "{{a}}"}))
        .collect();
    let given = values(&[("a", text("https://a"))]);
    for (name, source) in [
        ("headers", headers),
        ("images", json!(images)),
        (
            "braces",
            json!([{"id": "1", "type": "text", "content": "{".repeat(60_000)}]),
        ),
        (
            "keys",
            json!([{"id": "1", "type": "text", "content": format!("{{{{{}", "a".repeat(60_000))}]),
        ),
        (
            "tokens",
            json!([{"id": "1", "type": "avatar", "fallbackInitials": "{{b}}".repeat(12_000)}]),
        ),
    ] {
        let since = Instant::now();
        let card = ui(ChannelType::InApp, &card_of(&source));
        // Some of these grow too large, which has to be found out as fast.
        drop((card.faults(&given), card.render(&given)));
        // Work that grows with the square of 60,000 bytes takes minutes.
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "{name} took {:?}",
            since.elapsed()
        );
    }
}

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(KEYS.as_slice())
}

/// A text with tokens in it.
fn source_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![3 => "[ -~]{0,6}", 2 => key().prop_map(|key| format!("{{{{{key}}}}}")), 1 => "\\PC{0,3}"];
    vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn source_url() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => key().prop_map(|key| format!("{{{{{key}}}}}")),
        2 => (key(), key()).prop_map(|(a, b)| format!("https://{{{{{a}}}}}.example/{{{{{b}}}}}?q={{{{ {a} }}}}")),
        1 => key().prop_map(|key| format!("mailto:{{{{{key}}}}}")),
        1 => Just("https://plain.example/x".to_owned()),
    ]
}

fn source_action() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => key().prop_map(|key| json!(format!("{{{{{key}}}}}"))),
        2 => source_url().prop_map(|url| json!({"type": "openUrl", "url": url})),
        1 => source_url().prop_map(|url| json!({"type": "downloadFile", "url": url, "filename": "{{a}}"})),
        1 => (source_url(), source_text()).prop_map(|(url, text)| {
            json!({"type": "apiCall", "url": url, "headers": {"x": text.clone()}, "body": {"url": text}})
        }),
        1 => source_text().prop_map(|text| json!({"type": "customCallback", "payload": {"action": [text]}})),
    ]
}

/// An element, without ids.
fn element() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        source_text().prop_map(|text| json!({"type": "text", "content": text})),
        source_url().prop_map(|url| json!({"type": "image", "url": url})),
        source_url().prop_map(|url| json!({"type": "image", "url": url, "width": 5, "altText": "{{b}}"})),
        source_url().prop_map(|url| json!({"type": "icon", "url": url})),
        (source_url(), source_text())
            .prop_map(|(url, text)| json!({"type": "avatar", "imageUrl": url, "fallbackInitials": text})),
        (source_text(), source_action())
            .prop_map(|(text, action)| json!({"type": "button", "label": text, "action": action})),
        (source_url(), source_action())
            .prop_map(|(url, action)| json!({"type": "iconButton", "icon": {"url": url}, "action": action})),
        vec(source_text(), 1..3).prop_map(|texts| json!({"type": "table", "columns": texts.clone(), "rows": [texts]})),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        vec(inner, 1..4).prop_map(|items| json!({"type": "row", "items": items}))
    })
}

fn number(elements: &mut [Value], next: &mut u32) {
    for element in elements {
        *next += 1;
        element["id"] = json!(next.to_string());
        if let Some(items) = element.get_mut("items").and_then(Value::as_array_mut) {
            number(items, next);
        }
    }
}

fn some_value() -> impl Strategy<Value = VariableValue> {
    let url = prop_oneof![
        Just("https://x.example/a?b#c".to_owned()),
        Just("javascript:alert(1)".to_owned()),
        "https://[a-z]{1,4}/[ -~]{0,8}",
    ];
    let plain = prop_oneof![
        Just("{{a}}".to_owned()),
        "[ -~]{0,4}",
        "\\PC{0,4}",
        "[\r\n\"\\\\<>&']{1,3}"
    ];
    prop_oneof![
        4 => plain.clone().prop_map(VariableValue::Text),
        3 => url.clone().prop_map(VariableValue::Text),
        2 => (url.clone(), 1..100_001_u32, 1..100_001_u32)
            .prop_map(|(url, width, height)| VariableValue::Image(ImageValue { url, width, height })),
        2 => url.prop_map(|data| VariableValue::Action(ActionValue { action_type: ActionType::Web, data })),
        1 => plain.prop_map(|data| VariableValue::Action(ActionValue { action_type: ActionType::Custom, data })),
    ]
}

fn schema() -> impl Strategy<Value = Vec<VariableDefinition>> {
    let types = prop_oneof![
        Just(VariableType::String),
        Just(VariableType::Image),
        Just(VariableType::Action)
    ];
    vec((option::weighted(0.8, types), any::<bool>()), KEYS.len()).prop_map(|declared| {
        let definitions = KEYS
            .iter()
            .zip(declared)
            .filter_map(|(key, (variable_type, required))| {
                Some(VariableDefinition {
                    key: (*key).to_owned(),
                    variable_type: variable_type?,
                    name: None,
                    required,
                    default_value: None,
                })
            });
        definitions.collect()
    })
}

/// What the checks of a send accept: values that are sound in themselves, of their declared types, and break nothing.
fn accepted(schema: &[VariableDefinition], compiled: &Compiled, values: &VariableValues) -> bool {
    values.iter().all(|(key, value)| value.check(key).is_none())
        && variable::mistyped(schema, values).is_empty()
        && variable::resolve(schema, &[values]).missing.is_empty()
        && compiled.faults(values).is_empty()
}

/// The shown text of a source, by the plainest reading.
fn shown(source: &str, values: &VariableValues) -> String {
    Template::compile(source).unwrap().render(values, Place::Text).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_accepted_is_rendered_and_sound_and_shows_its_values(
        mut elements in vec(element(), 1..4),
        schema in schema(),
        given in btree_map(key().prop_map(str::to_owned), some_value(), 0..6),
    ) {
        number(&mut elements, &mut 0);
        let source = card_of(&json!(elements));
        let channels = [channel(ChannelType::InApp, DataType::UiTemplate, &source)];
        let compiled = Compiled::of(&channels).unwrap();
        // Whatever the checks say, rendering neither panics nor lets a scheme through.
        let anyway = compiled.in_app().unwrap().render(&given).unwrap();
        if content::check(Some(&channels), Some(&schema)).is_err() {
            return Ok(());
        }
        let mut schemes = Vec::new();
        urls(&anyway, &mut schemes);
        prop_assert!(!schemes.iter().any(|url| url.to_ascii_lowercase().starts_with("javascript:")), "{anyway}");
        if !accepted(&schema, &compiled, &given) {
            return Ok(());
        }
        prop_assert_eq!(anyway.to_string().len(), compiled.in_app().unwrap().rendered_bytes(&given));
        let mut findings = Findings::default();
        card::check_filled(anyway.as_object().unwrap(), &mut findings);
        prop_assert_eq!(findings.into_violations(), vec![]);
        let pairs = elements.iter().zip(anyway["body"].as_array().unwrap());
        for (before, after) in pairs.filter(|(before, _)| before["type"] == "text") {
            prop_assert_eq!(after["content"].as_str().unwrap(), shown(before["content"].as_str().unwrap(), &given));
        }
    }

    #[test]
    fn enough_is_accepted_that_the_property_above_means_something(value in "[a-z]{1,3}") {
        let source = card_of(&json!([
            {"id": "1", "type": "image", "url": "{{b}}"},
            {"id": "2", "type": "button", "label": "{{a}}", "action": "{{c}}"},
        ]));
        let definition = |key: &str, variable_type| VariableDefinition {
            key: key.to_owned(),
            variable_type,
            name: None,
            required: true,
            default_value: None,
        };
        let schema = [
            definition("a", VariableType::String),
            definition("b", VariableType::Image),
            definition("c", VariableType::Action),
        ];
        let channels = [channel(ChannelType::InApp, DataType::UiTemplate, &source)];
        prop_assert!(content::check(Some(&channels), Some(&schema)).is_ok());
        let given: BTreeMap<_, _> = values(&[
            ("a", text(&value)),
            ("b", image(&format!("https://{value}/"), 1, 1)),
            ("c", action(ActionType::Custom, &value)),
        ]);
        prop_assert!(accepted(&schema, &Compiled::of(&channels).unwrap(), &given));
    }
}

/// Everything that stands where readers look for a URL; free JSON holds what it likes.
fn urls(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields
                .iter()
                .filter(|(name, _)| *name != "payload" && *name != "body" || value.get("version").is_some())
            {
                if let (true, Some(url)) = (name == "url" || name == "imageUrl", value.as_str()) {
                    found.push(url.to_owned());
                }
                urls(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| urls(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
