//! What the values of a send break for one of its receivers. It names the field that the caller has to mend, and never
//! decides which value wins.

use super::{VariableDefinition, VariableValues, Violation};
use crate::model::template::content::Compiled;
use crate::model::variable::{self, Mistyped};

/// Whose values are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layers<'a> {
    /// The path of the receiver's own values.
    pub(super) path: &'a str,
    /// The receiver's own.
    pub(super) own: &'a VariableValues,
    /// Those of the send.
    pub(super) defaults: &'a VariableValues,
}

/// The path of the values of the send.
const DEFAULTS: &str = "defaults";

/// Everything that is wrong with the values of one receiver: required ones that are missing, values of another type than
/// the template declares, and what the winning values break in the content.
pub(super) fn of(layers: Layers<'_>, schema: &[VariableDefinition], content: &Compiled) -> Vec<Violation> {
    let Layers { path, own, defaults } = layers;
    let resolved = variable::resolve(schema, &[own, defaults]);
    let missing = resolved.missing.iter();
    let mut violations: Vec<_> = missing
        .map(|key| Violation::new(format!("{path}.{key}"), "is required by the template"))
        .collect();
    let mut values = resolved.to_values();
    for (path, layer) in [(path, own), (DEFAULTS, defaults)] {
        for wrong in variable::mistyped(schema, layer) {
            violations.push(violation(path, &wrong));
            values.remove(wrong.key);
        }
    }
    for fault in content.faults(&values) {
        let violation = |path: String| {
            let violation = Violation::new(path, fault.rule.as_str());
            match &fault.received {
                Some(received) => violation.received(received),
                None => violation,
            }
        };
        if fault.keys.is_empty() {
            violations.push(violation(path.to_owned()));
        }
        for key in &fault.keys {
            let of_send = !own.contains_key(key) && defaults.contains_key(key);
            let path = if of_send { DEFAULTS } else { path };
            violations.push(violation(format!("{path}.{key}")));
        }
    }
    violations
}

fn violation(path: &str, wrong: &Mistyped<'_>) -> Violation {
    Violation::new(format!("{path}.{}", wrong.key), wrong.rule()).received(wrong.received)
}
