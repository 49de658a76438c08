//! What values can break in a document that was sound when it was saved: URLs, lengths and actions. The places are found
//! once, when the document is compiled; most documents have none. Nothing here fills values in.

use serde_json::Value;

use super::Rule;
use super::check::{Findings, Look, Path, Step};
use crate::model::Violation;

/// A place whose value has to be looked at once it is filled in.
#[derive(Clone, Debug)]
pub struct Spot {
    steps: Box<[Owned]>,
    keys: Box<[Box<str>]>,
    reason: Reason,
}

#[derive(Clone, Debug)]
enum Owned {
    Member(Box<str>),
    Index(usize),
}

/// The rule to hold the filled in value against.
#[derive(Clone, Copy, Debug)]
pub struct Reason(&'static Rule);

impl Reason {
    pub(super) const fn of(rule: &'static Rule) -> Self {
        Self(rule)
    }
}

/// What a value broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The keys of the variables that stand there, so that a refusal can name the caller's own fields.
    pub keys: Vec<String>,
    /// The place in the document, the rule and what stands there now.
    pub violation: Violation,
}

impl Spot {
    pub(super) fn new(steps: &[Step<'_>], keys: &[String], reason: Reason) -> Self {
        let owned = |step: &Step<'_>| match step {
            Step::Member(name) => Owned::Member((*name).into()),
            Step::Index(index) => Owned::Index(*index),
        };
        Self {
            steps: steps.iter().map(owned).collect(),
            keys: keys.iter().map(|key| key.as_str().into()).collect(),
            reason,
        }
    }

    fn check(&self, filled: &Value, findings: &mut Findings) {
        let mut at = Some(filled);
        for step in &self.steps {
            at = at.and_then(|value| match step {
                Owned::Member(name) => value.get(name.as_ref()),
                Owned::Index(index) => value.get(index),
            });
        }
        let root = Path::root("");
        let mut look = Look::at_filled(findings);
        self.walk(&root, &self.steps, at.unwrap_or(&Value::Null), &mut look);
    }

    /// Builds the path on the stack, one step to a call.
    fn walk(&self, path: &Path<'_>, steps: &[Owned], value: &Value, look: &mut Look<'_>) {
        let Some((step, rest)) = steps.split_first() else {
            return look.check(self.reason.0, value, path);
        };
        let step = match step {
            Owned::Member(name) => Step::Member(name),
            Owned::Index(index) => Step::Index(*index),
        };
        self.walk(&path.to(step), rest, value, look);
    }
}

/// The places of one document that values can break.
#[derive(Clone, Debug, Default)]
pub struct Rechecks(Box<[Spot]>);

impl Rechecks {
    /// The places of a document that passed its check.
    #[must_use]
    pub fn of(rule: &'static Rule, source: &Value) -> Self {
        let mut findings = Findings::default();
        let mut look = Look::at_source(None, &mut findings);
        look.check(rule, source, &Path::root(""));
        Self(look.into_spots().into())
    }

    /// Whether values can break nothing, so that [`Rechecks::check`] is not needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The places and the rules that their values are held against. Whole URLs and actions are among them, because a value
    /// of a type may stand there.
    pub fn places(&self) -> impl Iterator<Item = (Vec<Step<'_>>, &'static Rule)> {
        self.0.iter().map(|spot| {
            let steps = spot.steps.iter().map(|step| match step {
                Owned::Member(name) => Step::Member(name),
                Owned::Index(index) => Step::Index(*index),
            });
            (steps.collect(), spot.reason.0)
        })
    }

    /// The keys of the variables that can break something, each as often as it stands somewhere.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|spot| spot.keys.iter().map(AsRef::as_ref))
    }

    /// What the values of one rendering broke. `filled` is the whole document with the values in it; paths begin at its
    /// root. A token that had no value stands there as it was written and breaks nothing.
    #[must_use]
    pub fn check(&self, filled: &Value) -> Vec<Broken> {
        let mut broken = Vec::new();
        for spot in &self.0 {
            let mut findings = Findings::default();
            spot.check(filled, &mut findings);
            broken.extend(findings.into_violations().into_iter().map(|violation| Broken {
                keys: spot.keys.iter().map(ToString::to_string).collect(),
                violation,
            }));
        }
        broken
    }
}
