use std::collections::BTreeSet;

use super::action::ACTIONS;
use super::*;
use crate::model::document::token::Typed;
use crate::model::document::url::Target;
use crate::model::document::{Family, Kind, Member, Pattern};
use crate::model::{Reason, Violation};

/// A value that follows a rule: with the least that it needs, or with everything that it may hold.
fn sample(rule: &Rule, full: bool, ids: &mut u32) -> Value {
    match rule {
        Rule::Text | Rule::Filled | Rule::Line(_, _) => json!("Hello {{name}}"),
        Rule::Short(_) => json!("AL"),
        Rule::Url(Target::Link, _) => json!("shop://orders/{{order}}"),
        Rule::Url(Target::Web, _) => json!("https://example.com/{{order}}.png"),
        Rule::Id => {
            *ids += 1;
            json!(format!("e{ids}"))
        }
        Rule::Form(pattern) => json!(of_form(pattern)),
        Rule::Word(words) => json!(words[words.len() - 1]),
        Rule::Switch => json!(true),
        Rule::Number(bounds) => json!(bounds.most.unwrap_or(bounds.least)),
        Rule::Choice(numbers) => json!(numbers[0]),
        Rule::Object(shape) => members(shape.members, shape.any_of, full, ids),
        Rule::List(least, of) => (0..(*least).max(usize::from(full)))
            .map(|_| sample(of, full, ids))
            .collect(),
        Rule::Map(keys, values) => json!({ of_form(keys): sample(values, full, ids) }),
        Rule::Either(first, other, _) => sample(if full { other } else { first }, full, ids),
        Rule::Kind(family) if family.noun == "action" => of_kind(family, family.kinds[0], full, ids),
        Rule::Kind(family) => of_kind(family, family.kinds[8], full, ids),
        Rule::Free => json!({"any": ["{{thing}}", 1, null]}),
    }
}

fn of_form(pattern: &Pattern) -> &'static str {
    let known = ["#1a2B3c", "12.5%", "X-Header"];
    known.into_iter().find(|text| pattern.matches(text)).unwrap()
}

fn members(all: &[Member], any_of: &[&str], full: bool, ids: &mut u32) -> Value {
    let wanted = |member: &&Member| full || member.required || any_of.first() == Some(&member.name);
    let chosen = all.iter().filter(wanted);
    chosen
        .map(|member| (member.name.to_owned(), sample(&member.rule, full, ids)))
        .collect()
}

fn of_kind(family: &Family, kind: &Kind, full: bool, ids: &mut u32) -> Value {
    let mut object = members(family.common, &[], full, ids);
    let own = members(kind.members, kind.any_of, full, ids);
    object.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    object["type"] = json!(kind.word);
    object
}

pub(super) fn card_of(element: Value) -> Value {
    let mut card = Value::Object(titled(""));
    card["body"] = Value::Array(vec![element]);
    card
}

pub(super) fn with_action(action: Value) -> Value {
    let mut button = json!({"id": "b", "type": "button", "label": "Open"});
    button["action"] = action;
    card_of(button)
}

/// Each kind with a card that holds it, the path where it stands, and its members.
pub(super) fn kinds(full: bool) -> Vec<(Value, &'static str, &'static Family, &'static Kind)> {
    let mut ids = 100;
    let elements = ELEMENTS.kinds.iter();
    let mut all: Vec<_> = elements
        .map(|kind| {
            (
                card_of(of_kind(&ELEMENTS, kind, full, &mut ids)),
                "/body/0",
                &ELEMENTS,
                *kind,
            )
        })
        .collect();
    let actions = ACTIONS.kinds.iter();
    all.extend(actions.map(|kind| {
        let action = of_kind(&ACTIONS, kind, full, &mut ids);
        (with_action(action), "/body/0/action", &ACTIONS, *kind)
    }));
    all
}

pub(super) fn found(card: &Value, declared: Option<&Declared<'_>>) -> Vec<Violation> {
    let mut findings = Findings::default();
    check(card.as_object().unwrap(), declared, "", &mut findings);
    findings.into_violations()
}

fn problems(card: &Value) -> Vec<String> {
    let found = found(card, None).into_iter();
    found
        .map(|violation| format!("{} {}", violation.field, violation.problem()))
        .collect()
}

fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace("/0", "[0]").replace('/', ".")
}

#[test]
fn there_are_twenty_elements_and_nine_actions() {
    let words = |family: &Family| family.kinds.iter().map(|kind| kind.word).collect::<Vec<_>>().join(" ");
    assert_eq!(
        words(&ELEMENTS),
        "text markdown image icon avatar badge chip codeBlock divider spacer progressBar row column grid accordion tabs \
         button iconButton link table"
    );
    assert_eq!(
        words(&ACTIONS),
        "openUrl chatWithUser chatWithGroup sendMessage copyToClipboard downloadFile initiateCall apiCall customCallback"
    );
}

#[test]
fn every_kind_passes_with_the_least_and_with_everything() {
    for full in [false, true] {
        for (card, _, _, kind) in kinds(full) {
            assert_eq!(problems(&card), [""; 0], "{} {card}", kind.word);
        }
    }
}

#[test]
fn every_member_that_is_required_and_missing_is_named() {
    let mut tried = 0;
    for (card, at, family, kind) in kinds(true) {
        for member in family
            .common
            .iter()
            .chain(kind.members)
            .filter(|member| member.required)
        {
            let mut card = card.clone();
            card.pointer_mut(at)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(member.name);
            let expected = format!("{}.{} is required and {}", dotted(at), member.name, member.rule.says());
            assert_eq!(problems(&card), [expected], "{}", kind.word);
            tried += 1;
        }
        let mut card = card.clone();
        card.pointer_mut(at).unwrap().as_object_mut().unwrap().remove("type");
        assert!(problems(&card)[0].starts_with(&format!("{}.type is required and must be one of", dotted(at))));
        if !kind.any_of.is_empty() {
            let object = card.pointer_mut(at).unwrap().as_object_mut().unwrap();
            object.insert("type".to_owned(), json!(kind.word));
            object.retain(|name, _| !kind.any_of.contains(&name.as_str()));
            let expected = format!("{} must hold at least one of {}", dotted(at), kind.any_of.join(", "));
            assert_eq!(problems(&card), [expected], "{}", kind.word);
        }
    }
    assert!(tried > 40, "{tried}");
}

#[test]
fn every_member_of_a_wrong_type_is_named_with_what_was_received() {
    let values = [json!(null), json!(true), json!(-1), json!("?"), json!([]), json!({})];
    let mut tried = 0;
    for (card, at, family, kind) in kinds(true) {
        for member in family.common.iter().chain(kind.members) {
            for value in &values {
                let takes = match &member.rule {
                    Rule::Text | Rule::Filled | Rule::Line(_, _) | Rule::Short(_) | Rule::Id => value.is_string(),
                    Rule::Switch => value.is_boolean(),
                    // An object is looked into, and what it lacks is named below it.
                    Rule::Free | Rule::Map(_, _) | Rule::Object(_) | Rule::Kind(_) | Rule::Either(_, _, _) => {
                        value.is_object()
                    }
                    Rule::List(least, _) => value.is_array() && *least == 0,
                    Rule::Url(_, _) | Rule::Form(_) | Rule::Word(_) | Rule::Number(_) | Rule::Choice(_) => false,
                };
                if takes {
                    continue;
                }
                let mut card = card.clone();
                card.pointer_mut(at).unwrap()[member.name] = value.clone();
                let found = found(&card, None);
                assert_eq!(found.len(), 1, "{} {} {value}", kind.word, member.name);
                assert_eq!(found[0].field, format!("{}.{}", dotted(at), member.name));
                let received = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                assert_eq!(found[0].received.as_deref(), Some(received.as_str()));
                tried += 1;
            }
        }
    }
    assert!(tried > 500, "{tried}");
}

#[test]
fn everything_is_named_at_once_with_its_exact_path() {
    let card = json!({
        "version": 1.0,
        "body": [
            {"id": "a", "type": "text", "content": 7, "variant": "huge", "maxLines": 0, "bold": true},
            {"id": "a", "type": "image", "url": "javascript:alert(1)", "width": "wide"},
            {"id": "c", "type": "row", "items": [
                {"id": "d", "type": "carousel"},
                {"id": "{{e}}", "type": "icon", "url": "https://example.com/x", "padding": {"top": 1}, "color": {"light": "{{c}}"}},
                {"id": "f", "type": "column", "items": [{"id": "g", "type": "button", "label": "x", "action": {"type": "openUrl", "url": "data:x", "openIn": "tab"}}]},
            ]},
            {"id": "h", "type": "tabs", "tabs": [{"label": "x", "content": []}]},
            {"id": "i", "type": "button", "label": "x", "action": {"type": "explode"}},
            {"id": "j", "type": "avatar", "fallbackInitials": "ABC{{d}}"},
            {"id": "k", "type": "link", "text": "x", "action": "press {{a}}"},
            {"id": "l", "type": "grid", "columns": 5, "items": [{"id": "m", "type": "table", "columns": ["x"], "rows": [["a", 1]]}]},
        ],
        "style": {"background": "#FFFFFF", "padding": {"top": -1, "start": 2}},
        "fallbackText": "",
        "title": "x",
    });
    insta::assert_snapshot!(problems(&card).join("\n"));
}

#[test]
fn a_variable_that_does_not_fit_its_place_is_named() {
    let declared = [("hero", Typed::Image), ("press", Typed::Action), ("name", Typed::Text)];
    let declared = Declared::from_pairs(&declared);
    let body = json!([
        {"id": "a", "type": "text", "content": "{{hero}} and {{name}} and {{anything}} and {{ press }}"},
        {"id": "b", "type": "image", "url": "{{hero}}"},
        {"id": "c", "type": "image", "url": "{{press}}", "altText": "{{hero}}"},
        {"id": "d", "type": "image", "url": "https://example.com/{{hero}}"},
        {"id": "e", "type": "button", "label": "x", "action": "{{press}}"},
        {"id": "f", "type": "button", "label": "x", "action": "{{name}}"},
        {"id": "g", "type": "button", "label": "x", "action": "{{anything}}"},
        {"id": "h", "type": "button", "label": "x", "action": "{{hero}}"},
        {"id": "i", "type": "button", "label": "x", "action": {"type": "openUrl", "url": "{{hero}}"}},
        {"id": "j", "type": "button", "label": "x", "action": {"type": "openUrl", "url": "{{name}}"}},
        {"id": "k", "type": "button", "label": "x", "action": {"type": "customCallback", "payload": {"x": ["{{press}}"]}}},
        {"id": "l", "type": "avatar", "imageUrl": "{{hero}}", "fallbackInitials": "{{hero}}"},
        {"id": "m", "type": "chip", "text": "x", "icon": {"url": "{{hero}}"}},
        {"id": "n", "type": "image", "url": "{{name}}"},
    ]);
    let mut card = card_of(json!(null));
    card["body"] = body;
    let mut findings = Findings::default();
    check(card.as_object().unwrap(), Some(&declared), "", &mut findings);
    let refusal = findings.into_result().unwrap_err();
    assert_eq!(refusal.reason(), Reason::InvalidVariables);
    let named = refusal.violations().iter();
    let named: Vec<_> = named
        .map(|violation| format!("{} {}", violation.field, violation.problem()))
        .collect();
    insta::assert_snapshot!(named.join("\n"));
    // Without a schema nobody knows, and with a fault of form that is the reason.
    assert_eq!(problems(&card), [""; 0]);
    card["version"] = json!("2");
    let mut findings = Findings::default();
    check(card.as_object().unwrap(), Some(&declared), "", &mut findings);
    assert_eq!(findings.into_result().unwrap_err().reason(), Reason::BadRequest);
}

#[test]
fn a_card_full_of_faults_gets_a_short_answer() {
    let size = |found: &[Violation]| {
        found
            .iter()
            .map(|one| one.field.len() + one.problem().len())
            .sum::<usize>()
    };
    let bodies = [
        json!(vec![json!(null); 13_000]),
        json!(vec![json!({"id": "same", "type": "divider"}); 2_000]),
        json!(vec![json!({"id": "a", "type": "x".repeat(600)}); 100]),
        json!([{"id": "a", "type": "divider", "k".repeat(60_000): 1}]),
        (0..9_000).map(|number| json!({ number.to_string(): 1 })).collect(),
    ];
    for body in bodies {
        let mut card = card_of(json!(null));
        card["body"] = body;
        let found = found(&card, None);
        assert!(found.len() <= Findings::NAMED_MAX + 1, "{}", found.len());
        assert!(size(&found) < 100_000, "{}", size(&found));
    }
    let mut card = card_of(json!(null));
    card["body"] = json!(vec![json!({"id": "a", "type": "divider"}); 2_000]);
    assert_eq!(problems(&card).last().unwrap(), "… and 1899 more problems were found");
}

#[test]
fn depth_is_bounded_and_found_where_it_is_passed() {
    let nested = |levels: usize| {
        let leaf = json!({"id": "leaf", "type": "divider"});
        let nest = |inner: Value, level: usize| json!({"id": format!("r{level}"), "type": "row", "items": [inner]});
        card_of((0..levels).fold(leaf, nest))
    };
    // The card, its body, and two levels for each row: the element and its items.
    assert_eq!(problems(&nested(48)), [""; 0]);
    let deep = problems(&nested(60));
    assert_eq!(deep.len(), 1);
    assert!(
        deep[0].ends_with("must not be nested deeper than 100 levels"),
        "{deep:?}"
    );
    let free = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let deep = problems(&with_action(json!({"type": "customCallback", "payload": {"x": free}})));
    assert_eq!(deep.len(), 1);
}

#[test]
fn what_values_break_is_named_with_its_variables() {
    let source = card_of(json!({"id": "r", "type": "row", "items": [
        {"id": "a", "type": "text", "content": "{{name}}"},
        {"id": "b", "type": "image", "url": "{{hero}}", "altText": "{{name}}"},
        {"id": "c", "type": "avatar", "imageUrl": "https://example.com/{{name}}", "fallbackInitials": "{{a}}{{b}}"},
        {"id": "d", "type": "button", "label": "x", "action": "{{press}}"},
        {"id": "e", "type": "link", "text": "x", "action": {"type": "openUrl", "url": "{{link}}"}},
        {"id": "f", "type": "link", "text": "x", "action": {"type": "apiCall", "url": "https://example.com", "headers": {"X-Name": "{{name}}"}}},
    ]}));
    assert_eq!(problems(&source), [""; 0]);
    let rechecks = rechecks(&source);
    let keys: BTreeSet<_> = rechecks.keys().collect();
    assert_eq!(keys, ["a", "b", "hero", "link", "name", "press"].into_iter().collect());
    // Tokens without a value stay and break nothing.
    assert_eq!(rechecks.check(&source), []);

    let filled = |pointer: &str, value: Value| {
        let mut card = source.clone();
        *card.pointer_mut(&format!("/body/0/items/{pointer}")).unwrap() = value;
        let broken = rechecks.check(&card).into_iter();
        broken
            .map(|one| {
                format!(
                    "{}: {} {}",
                    one.keys.join(","),
                    one.violation.field,
                    one.violation.problem()
                )
            })
            .collect::<Vec<_>>()
    };
    for (pointer, value) in [
        ("1/url", json!("https://example.com/a b.png")),
        ("2/fallbackInitials", json!("ÄÖ")),
        ("3/action", json!({"type": "openUrl", "url": "shop://a"})),
        (
            "3/action",
            json!({"type": "customCallback", "callbackId": "javascript:fine"}),
        ),
        ("4/action/url", json!("mailto:ada@example.com")),
        ("5/action/headers/X-Name", json!("Ada")),
    ] {
        assert_eq!(filled(pointer, value), [""; 0], "{pointer}");
    }
    let broken = [
        ("1/url", json!("javascript:alert(1)")),
        ("1/url", json!({"url": "https://example.com", "width": 1, "height": 1})),
        ("2/imageUrl", json!("https://example.com/\n")),
        ("2/fallbackInitials", json!("ABC")),
        ("3/action", json!({"type": "openUrl", "url": " JavaScript:alert(1)"})),
        ("3/action", json!({"type": "openUrl"})),
        ("3/action", json!("press")),
        ("4/action/url", json!("data:text/html,x")),
        ("5/action/headers/X-Name", json!("a\r\nb: c")),
    ];
    let broken: Vec<_> = broken
        .into_iter()
        .flat_map(|(pointer, value)| filled(pointer, value))
        .collect();
    insta::assert_snapshot!(broken.join("\n"));
}

#[test]
fn a_card_without_variables_in_such_places_needs_no_second_look() {
    assert!(rechecks(&Value::Object(titled("Order {{code}}"))).is_empty());
}

#[test]
fn the_card_of_a_name_passes() {
    assert_eq!(problems(&Value::Object(titled("Order \"shipped\""))), [""; 0]);
}
