//! What the renderer promises: nothing is lost, nothing is read twice, nothing panics, and sizes are known beforehand.

use std::collections::BTreeSet;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::variable::{VariableValue, VariableValues};

fn values(pairs: &[(&str, &str)]) -> VariableValues {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), of(value)))
        .collect()
}

fn of(text: &str) -> VariableValue {
    VariableValue::Text(text.to_owned())
}

fn render(source: &str, pairs: &[(&str, &str)]) -> String {
    Template::compile(source)
        .unwrap()
        .render(&values(pairs), Place::Text)
        .unwrap()
}

#[test]
fn a_token_takes_its_value_with_or_without_blanks_inside() {
    let ada = [("name", "Ada"), ("_x9", "y")];
    assert_eq!(render("Hello {{name}}, {{ name }}{{\t_x9}}", &ada), "Hello Ada, Aday");
}

#[test]
fn a_token_without_value_stays_as_it_was_written() {
    assert_eq!(render("{{a}} {{ b\t}} {{c}}", &[("c", "1")]), "{{a}} {{ b\t}} 1");
}

#[test]
fn what_is_not_a_token_is_text() {
    let long = format!("{{{{{}}}}}", "k".repeat(KEY_BYTES_MAX + 1));
    for text in [
        "",
        "{",
        "{{",
        "{{}}",
        "{{ }}",
        "{{a",
        "{{a}",
        "{{a b}}",
        "{{1a}}",
        "{{a.b}}",
        "{{a-b}}",
        "{{ä}}",
        "}}a{{",
        "{ {a}}",
        "{{\na}}",
        "{{a\u{a0}}}",
        &long,
    ] {
        assert_eq!(render(text, &[("a", "!"), ("ä", "!"), ("1a", "!")]), text);
    }
    assert_eq!(render("{{{a}}}", &[("a", "1")]), "{1}");
    assert_eq!(render("{{{{a}}}}", &[("a", "1")]), "{{1}}");
    assert_eq!(render("{{x{{a}}}}", &[("a", "1"), ("x", "2")]), "{{x1}}");
    assert_eq!(render("{{{{{{{{a}}", &[("a", "é")]), "{{{{{{é");
}

#[test]
fn tokens_inside_values_are_not_expanded() {
    let sly = [("a", "{{b}}"), ("b", "{{a}}"), ("c", "{{"), ("d", "a}}")];
    assert_eq!(render("{{a}} {{b}} {{c}}{{d}}", &sly), "{{b}} {{a}} {{a}}");
}

#[test]
fn values_are_escaped_for_their_place_and_the_source_is_not() {
    let template = Template::compile("<b title='{{v}}'>").unwrap();
    let sly = values(&[("v", "<i>&\"'\r\nBcc: x\0")]);
    assert_eq!(
        template.render(&sly, Place::Html).unwrap(),
        "<b title='&lt;i&gt;&amp;&quot;&#39;\r\nBcc: x\0'>"
    );
    assert_eq!(
        template.render(&sly, Place::Header).unwrap(),
        "<b title='<i>&\"'Bcc: x'>"
    );
}

#[test]
fn a_value_cannot_break_out_of_its_string_in_a_card() {
    let card = Card::compile(&json!({"{{k}}": ["{{v}}", 1, null, true, {"t": "a{{v}}b"}]})).unwrap();
    let rendered = card.render(&values(&[("v", "\",\"x\":\"\\\n"), ("k", "no")])).unwrap();
    assert_eq!(
        rendered,
        json!({"{{k}}": ["\",\"x\":\"\\\n", 1, null, true, {"t": "a\",\"x\":\"\\\nb"}]})
    );
    assert_eq!(card.keys(), BTreeSet::from(["v"]));
}

#[test]
fn every_cap_is_an_error() {
    let large = "x".repeat(SOURCE_BYTES_MAX + 1);
    assert_eq!(Template::compile(&large), Err(Exceeded::Source));
    assert_eq!(Card::compile(&json!([large.as_str()])).err(), Some(Exceeded::Source));
    assert_eq!(
        Card::compile(&json!(vec!["abcdefgh"; 8_000])).err(),
        Some(Exceeded::Source)
    );

    let deep = (0..=DEPTH_MAX).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(Card::compile(&deep).err(), Some(Exceeded::Depth));
    let deepest = (0..DEPTH_MAX).fold(json!("{{a}}"), |inner, _| json!({ "x": inner }));
    assert!(Card::compile(&deepest).is_ok());

    let bomb = "{{v}}".repeat(SOURCE_BYTES_MAX / 5);
    let filling = values(&[("v", &"y".repeat(4_096))]);
    let template = Template::compile(&bomb).unwrap();
    assert_eq!(template.render(&filling, Place::Text), Err(Exceeded::Output));
    let card = Card::compile(&json!([bomb.get(..60_000).unwrap()])).unwrap();
    assert_eq!(card.render(&filling), Err(Exceeded::Output));

    let wide: VariableValues = (0..200).map(|n| (format!("k{n}"), of(&"z".repeat(4_096)))).collect();
    assert_eq!(Card::compile(&json!([])).unwrap().render(&wide), Err(Exceeded::Context));
}

#[test]
fn the_largest_output_that_is_allowed_is_rendered() {
    let card = Card::compile(&json!("{{v}}")).unwrap();
    let fits = values(&[("v", &"x".repeat(OUTPUT_BYTES_MAX - 2))]);
    assert!(card.render(&fits).is_ok());
    let one_more = values(&[("v", &"x".repeat(OUTPUT_BYTES_MAX - 1))]);
    assert_eq!(card.render(&one_more), Err(Exceeded::Output));
}

/// Text in which braces, keys and blanks are frequent.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => "[{}]{1,3}",
        3 => "[ab_1 ]{0,3}",
        2 => "\\{\\{ ?[abc] ?\\}\\}",
        1 => "\\PC{0,4}",
        1 => "[\"\\\\\n\u{1}]{1,2}",
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn some_values() -> impl Strategy<Value = VariableValues> {
    btree_map("[abc]", text().prop_map(VariableValue::Text), 0..4)
}

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(text(), inner, 0..5).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// The plainest renderer: at each place try to read a token by the letter of the grammar.
fn by_the_letter(source: &str, values: &VariableValues) -> String {
    let pattern = regex::Regex::new(r"\A\{\{[ \t]*([a-zA-Z_][a-zA-Z0-9_]{0,99})[ \t]*\}\}").unwrap();
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < chars.len() {
        let rest: String = chars.iter().skip(at).collect();
        if let Some(found) = pattern.captures(&rest) {
            let written = found.get(0).unwrap().as_str();
            out.push_str(
                values
                    .get(found.get(1).unwrap().as_str())
                    .map_or(written, |value| value.content()),
            );
            at += written.chars().count();
        } else {
            out.extend(chars.get(at));
            at += 1;
        }
    }
    out
}

proptest! {
    #[test]
    fn it_agrees_with_a_reading_by_the_letter(source in text(), values in some_values()) {
        let template = Template::compile(&source).unwrap();
        prop_assert_eq!(template.render(&values, Place::Text).unwrap(), by_the_letter(&source, &values));
    }

    #[test]
    fn without_values_nothing_changes(source in any::<String>()) {
        let template = Template::compile(&source).unwrap();
        for place in [Place::Text, Place::Html, Place::Header, Place::Url, Place::Address] {
            prop_assert_eq!(&template.render(&VariableValues::new(), place).unwrap(), &source);
        }
    }

    #[test]
    fn output_is_at_most_the_source_and_each_value_once_per_token(source in text(), values in some_values()) {
        let template = Template::compile(&source).unwrap();
        let drawn: usize = template.keys().filter_map(|key| values.get(key)).map(|value| value.content().len()).sum();
        prop_assert!(template.render(&values, Place::Text).unwrap().len() <= source.len() + drawn);
    }

    #[test]
    fn html_output_holds_no_markup_of_a_value(values in some_values()) {
        let template = Template::compile("{{a}}{{b}}{{c}}").unwrap();
        let escaped: VariableValues = ["a", "b", "c"]
            .iter()
            .map(|key| ((*key).to_owned(), values.get(*key).cloned().unwrap_or_else(|| of(""))))
            .collect();
        let out = template.render(&escaped, Place::Html).unwrap();
        prop_assert!(!out.contains(['<', '>', '"', '\'']));
    }

    #[test]
    fn a_card_keeps_its_shape_and_its_size_is_known_beforehand(document in document(), values in some_values()) {
        let card = Card::compile(&document).unwrap();
        let printed = card.render(&values).unwrap().to_string();
        prop_assert_eq!(printed.len(), card.rendered_bytes(&values));
        let plain = card.render(&VariableValues::new()).unwrap();
        prop_assert_eq!(plain.to_string().len(), json_bytes(&document));
        prop_assert_eq!(plain, document);
    }
}
