//! Card documents, version 1.0: twenty elements and nine actions in tables, their check, their JSON Schema, and what values
//! can break in one. Nothing here fills values in or draws a card.
//!
//! Beyond the published schema, a `customCallback` may hold `callbackId` and `payload`, as the pages of the client libraries list them:
//! that is what a press hands to the app. A `chip` has no action, and a call may name a user and a group at once; readers
//! take the user.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::channel::JsonObject;
use super::document::check::{Findings, Look, Path};
use super::document::recheck::Rechecks;
use super::document::token::Declared;
use super::document::{Rule, Shape, must, schema};

mod action;
mod element;
mod shared;

use element::ELEMENTS;

/// The version of card documents.
pub const VERSION: &str = "1.0";

/// Where the JSON Schema is served.
pub const SCHEMA_PATH: &str = "/v3/campaigns/card-schema.json";

static CARD: Shape = Shape {
    noun: "a card",
    members: &[
        must("version", Rule::Word(&[VERSION])),
        must("body", Rule::List(1, &element::CHILD)),
        must("style", Rule::Object(&shared::STYLE)),
        must("fallbackText", Rule::Text),
    ],
    any_of: &[],
};

static ROOT: Rule = Rule::Object(&CARD);
static ACTION: Rule = Rule::Kind(&action::ACTIONS);

/// Names everything that is wrong with a card. Without `declared`, variables of every type fit every place.
pub fn check(card: &JsonObject, declared: Option<&Declared<'_>>, path: &str, findings: &mut Findings) {
    // A copy, because the tables speak of values; cards are small and saved rarely.
    let card = Value::Object(card.clone());
    Look::at_source(declared, findings).check(&ROOT, &card, &Path::root(path));
}

/// What values can break in a card that passed its check. Made once, when the card is compiled; [`Rechecks::check`] then
/// looks at a rendering.
#[must_use]
pub fn rechecks(card: &Value) -> Rechecks {
    Rechecks::of(&ROOT, card)
}

/// Names everything that is wrong with a card whose values are filled in.
#[cfg(test)]
pub(crate) fn check_filled(card: &JsonObject, findings: &mut Findings) {
    let card = Value::Object(card.clone());
    Look::at_filled(findings).check(&ROOT, &card, &Path::root(""));
}

/// Names everything that is wrong with an action, such as the one that the value of a variable becomes.
pub fn check_action(action: &Value, path: &str, findings: &mut Findings) {
    Look::at_source(None, findings).check(&ACTION, action, &Path::root(path));
}

/// The JSON Schema of card documents, draft-07, pretty-printed.
#[must_use]
pub fn schema_text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let description = "A card that an in-app notification shows, with its variables. Ids are unique in a card, and \
                           colors, numbers, words, ids and types take no variables.";
        let schema = schema::of("Campanile card 1.0", description, &CARD, &[&ELEMENTS, &action::ACTIONS]);
        format!("{schema:#}\n")
    });
    &TEXT
}

/// The card of an in-app channel that came without content: it shows the name of the template. A name is no place for
/// variables, but braces in it fill in like any others.
#[must_use]
pub fn titled(name: &str) -> JsonObject {
    let card = json!({
        "version": VERSION,
        "body": [{ "id": "title", "type": "text", "content": name, "variant": "heading3" }],
        "style": { "background": { "light": "#FFFFFF", "dark": "#1A1A1A" } },
        "fallbackText": name,
    });
    match card {
        Value::Object(card) => card,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => JsonObject::new(),
    }
}

#[cfg(test)]
#[path = "card/agree.rs"]
mod agree;
#[cfg(test)]
#[path = "card/tests.rs"]
mod tests;
