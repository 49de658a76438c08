//! Schema and check say the same: both judge thousands of cards, whole and damaged. What each rule demands is proven in
//! `tests.rs`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::action::ACTIONS;
use super::tests::{card_of, found, kinds, with_action};
use super::*;
use crate::model::document::url::tests::CASES;

/// An independent reading of the schema that is served.
struct Judge {
    schemas: boon::Schemas,
    root: boon::SchemaIndex,
}

static JUDGE: LazyLock<Judge> = LazyLock::new(|| {
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler
        .add_resource(
            "http://localhost/card.json",
            serde_json::from_str(schema_text()).unwrap(),
        )
        .unwrap();
    let root = compiler.compile("http://localhost/card.json", &mut schemas).unwrap();
    Judge { schemas, root }
});

/// Ids that stand twice are what a schema cannot tell.
fn agree(card: &Value) -> Result<(), String> {
    let own = found(card, None)
        .into_iter()
        .find(|violation| !violation.rule.starts_with("must be unique"));
    let theirs = JUDGE.schemas.validate(card, JUDGE.root);
    match (own, theirs) {
        (None, Ok(())) | (Some(_), Err(_)) => Ok(()),
        (Some(own), Ok(())) => Err(format!(
            "only the check refuses {card}: {} {}",
            own.field,
            own.problem()
        )),
        (None, Err(theirs)) => Err(format!("only the schema refuses {card}: {theirs:#}")),
    }
}

#[test]
fn schema_and_check_agree_on_every_kind() {
    for full in [false, true] {
        for (card, _, _, _) in kinds(full) {
            agree(&card).unwrap();
        }
    }
}

#[test]
fn schema_and_check_agree_on_urls_and_tokens() {
    let texts = CASES.map(|(url, _, _)| url);
    let more = [
        "A{{b}}",
        "ABC",
        "A{{b}}C{{d}}E",
        "{{",
        "{{1}}",
        "é{{ a }}ü",
        "\u{0}",
        "{{a}}\n",
    ];
    for text in texts.into_iter().chain(more) {
        for card in [
            with_action(json!(text)),
            with_action(json!({"type": "openUrl", "url": text})),
            with_action(json!({"type": "apiCall", "url": text})),
            with_action(json!({"type": "apiCall", "url": "https://a", "headers": {"a": text}})),
            with_action(json!({"type": "apiCall", "url": "https://a", "headers": {text: "a"}})),
            card_of(json!({"id": "i", "type": "image", "url": text})),
            card_of(json!({"id": "i", "type": "avatar", "fallbackInitials": text})),
            card_of(json!({"id": text, "type": "divider"})),
        ] {
            agree(&card).unwrap();
        }
    }
}

/// Pointers to all values of a document.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointers(item, &format!("{at}/{index}"), all);
            }
        }
        Value::Object(object) => {
            for (name, value) in object {
                pointers(
                    value,
                    &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")),
                    all,
                );
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn mutate(card: &mut Value, pick: usize, what: &Mutation) {
    let mut all = Vec::new();
    pointers(card, "", &mut all);
    // The root stays an object: what is not one never reaches the check.
    let at = all[1..][pick % (all.len() - 1)].clone();
    let target = card.pointer_mut(&at).unwrap();
    match what {
        Mutation::Replace(value) => *target = value.clone(),
        Mutation::Add(name, value) => {
            if let Some(object) = target.as_object_mut() {
                object.insert(name.clone(), value.clone());
            }
        }
        Mutation::Remove => {
            let (parent, name) = at.rsplit_once('/').unwrap();
            match card.pointer_mut(parent).unwrap() {
                Value::Object(object) => drop(object.remove(name)),
                Value::Array(items) => drop(items.remove(name.parse::<usize>().unwrap())),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Mutation {
    Replace(Value),
    Add(String, Value),
    Remove,
}

fn any_value() -> impl Strategy<Value = Value> {
    let words = ELEMENTS.kinds.iter().chain(ACTIONS.kinds).map(|kind| json!(kind.word));
    let fixed = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(0.5),
        json!(2.0),
        json!(3),
        json!(100),
        json!(101),
        json!(1e30),
        json!(""),
        json!("x"),
        json!("1.0"),
        json!("#12345"),
        json!("#A23456"),
        json!("transparent"),
        json!("50%"),
        json!("%"),
        json!("{{a}}"),
        json!("a {{ b }}"),
        json!("https://a.example/{{b}}"),
        json!("javascript:x"),
        json!("start"),
        json!("bold"),
        json!("line\nbreak"),
        json!([]),
        json!({}),
        json!(["x"]),
        json!([["x"]]),
        json!({"light": "#000000", "dark": "#000000"}),
        json!({"top": 1}),
        json!({"name": "x"}),
        json!({"type": "chatWithUser", "uid": "ada"}),
        json!({"id": "z", "type": "divider"}),
        json!([{"id": "z", "type": "divider"}]),
        json!([{"label": "x", "content": [{"id": "z", "type": "divider"}]}]),
    ];
    prop::sample::select(fixed.into_iter().chain(words).collect::<Vec<_>>())
}

fn any_name() -> impl Strategy<Value = String> {
    let kinds = ELEMENTS.kinds.iter().chain(ACTIONS.kinds);
    let names: BTreeSet<_> = kinds
        .flat_map(|kind| kind.members)
        .map(|member| member.name.to_owned())
        .collect();
    prop::sample::select(
        names
            .into_iter()
            .chain(["id", "type", "nonsense"].map(str::to_owned))
            .collect::<Vec<_>>(),
    )
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => any_value().prop_map(Mutation::Replace),
        2 => (any_name(), any_value()).prop_map(|(name, value)| Mutation::Add(name, value)),
        1 => Just(Mutation::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn schema_and_check_agree_on_damaged_cards(
        index in 0..29_usize,
        full in any::<bool>(),
        inside in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any_mutation()), 0..4),
    ) {
        let (mut card, _, _, _) = kinds(full).swap_remove(index);
        if inside {
            card["body"] = json!([{"id": "outer", "type": "column", "items": card["body"]}]);
        }
        for (pick, what) in damage {
            mutate(&mut card, pick.index(10_000), &what);
        }
        if let Err(difference) = agree(&card) {
            return Err(TestCaseError::fail(difference));
        }
    }
}
