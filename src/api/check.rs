//! What is wrong with a request: all of it, with the path of each field. Filled by the JSON reader and by the bounds of
//! the contract, which hold for both doors; nothing here stops at the first problem.

pub mod rules;
pub mod update;

use std::borrow::Cow;
use std::fmt;

use crate::model::{Error, Violation};

/// One step from a message to a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(&'static str),
    /// A field whose value must not be repeated.
    Secret(&'static str),
    Index(usize),
    Key(String),
}

/// A place inside free JSON, as a chain of references: free JSON can be large, and only a problem needs the path.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The value itself.
    Root,
    /// A member of an object.
    Key(&'a Place<'a>, &'a str),
    /// An element of a list.
    Index(&'a Place<'a>, usize),
}

impl Place<'_> {
    /// Looks at the place meanwhile.
    pub fn look<R>(&self, problems: &mut Problems, look: impl FnOnce(&mut Problems) -> R) -> R {
        let depth = problems.path.len();
        self.push(problems);
        let result = look(problems);
        problems.path.truncate(depth);
        result
    }

    fn push(&self, problems: &mut Problems) {
        let (outer, step) = match self {
            Self::Root => return,
            Self::Key(outer, key) => (outer, Step::Key((*key).to_owned())),
            Self::Index(outer, index) => (outer, Step::Index(*index)),
        };
        outer.push(problems);
        problems.path.push(step);
    }
}

/// The problems of one request, and the path of the value that is looked at.
#[derive(Debug, Default)]
pub struct Problems {
    path: Vec<Step>,
    found: Vec<Violation>,
    more: usize,
    /// The field that the body is, over REST: it is no part of paths then.
    pub(super) body_field: Option<&'static str>,
    /// Other names of root fields, in dialects that have them.
    pub(super) names: &'static [(&'static str, &'static str)],
    /// The fields that the body named at its root, by proto name, when that is what an update goes by.
    pub(super) present: Option<Vec<&'static str>>,
    /// Whether bounds are checked by now; before, values are read.
    pub(super) checking: bool,
    /// What could not be read, by path.
    unread: Vec<String>,
    /// Texts that were given and are empty, by path: to the message they look absent.
    empty: Vec<String>,
    /// Whether the body as a whole could not be read.
    body_unread: bool,
    /// The query parameters that were read.
    pub(super) given: Vec<String>,
}

impl Problems {
    /// Problems beyond this many are counted and no longer named.
    pub const NAMED_MAX: usize = 100;

    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The error that names all of them.
    ///
    /// # Errors
    /// `ERR_BAD_REQUEST`, when there is any.
    pub fn into_result(mut self) -> Result<(), Error> {
        if self.found.is_empty() {
            return Ok(());
        }
        if self.more > 0 {
            let rule = format!("and {} more problems were found", self.more);
            self.found.push(Violation::new(Violation::UNNAMED, rule));
        }
        Err(Error::invalid(self.found))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Looks at a field meanwhile.
    pub fn field<R>(&mut self, name: &'static str, look: impl FnOnce(&mut Self) -> R) -> R {
        self.step(Step::Field(name), look)
    }

    /// Looks at a field meanwhile whose value must not be repeated.
    pub fn secret<R>(&mut self, name: &'static str, look: impl FnOnce(&mut Self) -> R) -> R {
        self.step(Step::Secret(name), look)
    }

    /// Looks at an element of a list meanwhile.
    pub fn index<R>(&mut self, index: usize, look: impl FnOnce(&mut Self) -> R) -> R {
        self.step(Step::Index(index), look)
    }

    /// Looks at the value under a key of a map meanwhile.
    pub fn key<R>(&mut self, key: impl fmt::Display, look: impl FnOnce(&mut Self) -> R) -> R {
        self.step(Step::Key(key.to_string()), look)
    }

    fn step<R>(&mut self, step: Step, look: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(step);
        let result = look(self);
        self.path.pop();
        result
    }

    /// How deep the value lies.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.path.len()
    }

    /// Whether the value is the body itself, whose keys are noted.
    pub(super) fn is_body_root(&self) -> bool {
        self.present.is_some() && self.is_root()
    }

    /// The body has this key.
    pub(super) fn note_present(&mut self, field: Option<&Field>) {
        if let (Some(present), Some(field)) = (&mut self.present, field)
            && !field.output_only
        {
            present.push(field.proto);
        }
    }

    /// Notes that a query parameter was read; one that takes a single value is taken once.
    pub(super) fn take_once(&mut self) -> bool {
        let path = self.path();
        let fresh = !self.given.contains(&path);
        if fresh {
            self.given.push(path);
        } else {
            self.misname("must not be given twice");
        }
        fresh
    }

    /// The value breaks a rule. While values are read that means that this one could not be: it and its parts break no
    /// further rules.
    pub fn violate(&mut self, rule: impl Into<String>) {
        self.record(rule.into(), None);
        self.note_unread();
    }

    /// The same, with the value, unless it is secret.
    pub fn refuse(&mut self, rule: impl Into<String>, received: impl fmt::Display) {
        self.remark(rule, received);
        self.note_unread();
    }

    /// The value was read and breaks a rule all the same.
    pub fn remark(&mut self, rule: impl Into<String>, received: impl fmt::Display) {
        let secret = self.path.iter().any(|step| matches!(step, Step::Secret(_)));
        self.record(rule.into(), (!secret).then_some(&received));
    }

    /// The name of a value is wrong, whatever its value.
    pub fn misname(&mut self, rule: impl Into<String>) {
        self.record(rule.into(), None);
    }

    /// A text was given and is empty.
    pub(super) fn note_empty(&mut self) {
        if self.empty.len() <= Self::NAMED_MAX {
            self.empty.push(self.path());
        }
    }

    /// A value has to be there and is not, or is an empty text.
    pub fn require(&mut self) {
        const RULE: &str = "is required";
        if self.empty.contains(&self.path()) {
            self.refuse(RULE, "");
        } else {
            self.violate(RULE);
        }
    }

    fn note_unread(&mut self) {
        if self.checking || self.unread.len() > Self::NAMED_MAX {
            return;
        }
        self.body_unread |= self.is_root();
        self.unread.push(self.path());
    }

    fn record(&mut self, rule: String, received: Option<&dyn fmt::Display>) {
        let field = self.path();
        let known = |violation: &Violation| violation.field == field && violation.rule == rule;
        if self.is_unread(&field) || self.found.iter().any(known) {
            return;
        }
        if self.found.len() == Self::NAMED_MAX {
            self.more += 1;
            return;
        }
        let violation = Violation::new(field, rule);
        self.found.push(match received {
            Some(value) => violation.received(value),
            None => violation,
        });
    }

    fn is_unread(&self, field: &str) -> bool {
        if !self.checking {
            return false;
        }
        let covers = |unread: &String| {
            let rest = field.strip_prefix(unread.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let inside = match (self.body_field, self.path.first()) {
            (Some(body), Some(Step::Field(first))) => body == *first,
            (body, _) => body.is_none(),
        };
        (self.body_unread && inside) || self.unread.iter().any(covers)
    }

    /// Whether the value is the body itself.
    fn is_root(&self) -> bool {
        match (self.body_field, self.path.as_slice()) {
            (None, []) => true,
            (Some(body), [Step::Field(first)]) => body == *first,
            _ => false,
        }
    }

    /// The path of the value that is looked at.
    #[must_use]
    pub fn path(&self) -> String {
        let mut steps = self.path.as_slice();
        if let (Some(body), [Step::Field(first) | Step::Secret(first), rest @ ..]) = (self.body_field, steps)
            && body == *first
        {
            steps = rest;
        }
        let mut path = String::new();
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Field(name) | Step::Secret(name) => {
                    let name = if at == 0 { self.outward(name) } else { name };
                    push_name(&mut path, name);
                }
                Step::Key(key) => push_name(&mut path, &shortened(key)),
            }
        }
        if path.is_empty() { "body".to_owned() } else { path }
    }

    fn outward(&self, name: &'static str) -> &'static str {
        let other = self.names.iter().find(|(own, _)| *own == name);
        other.map_or(name, |(_, outward)| *outward)
    }
}

/// Keys come from the caller and may be of any length.
fn shortened(key: &str) -> Cow<'_, str> {
    match key.char_indices().nth(Violation::RECEIVED_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}…", key.split_at(end).0)),
        None => Cow::Borrowed(key),
    }
}

fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// A message that may be sent to the service.
pub trait Checked: Default {
    /// Its fields, in the order of the contract.
    const FIELDS: &'static [Field];

    /// Checks one field against its bounds, and everything in it.
    fn check_field(&self, field: usize, problems: &mut Problems);

    /// Checks all fields.
    fn check(&self, problems: &mut Problems) {
        for field in 0..Self::FIELDS.len() {
            self.check_field(field, problems);
        }
        self.check_groups(problems);
    }

    /// Checks rules about several fields.
    fn check_groups(&self, _: &mut Problems) {}

    /// Forgets what only the service may set, here and in everything in it.
    fn forget_output(&mut self) {}

    /// Whether a field holds something.
    fn holds(&self, _field: usize) -> bool {
        false
    }

    /// Makes the message what handlers see: without output-only values, with its update mask settled, checked.
    fn prepare(&mut self, problems: &mut Problems) {
        self.forget_output();
        self.check(problems);
    }
}

/// What the tables know about a field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in JSON and in paths.
    pub json: &'static str,
    /// Its name in the contract.
    pub proto: &'static str,
    /// Whether only the service may set it: it is ignored on input.
    pub output_only: bool,
    /// Whether its value must not be repeated.
    pub secret: bool,
}

impl Field {
    /// A field that callers may set.
    #[must_use]
    pub const fn new(json: &'static str, proto: &'static str) -> Self {
        Self {
            json,
            proto,
            output_only: false,
            secret: false,
        }
    }

    /// The same, set by the service alone.
    #[must_use]
    pub const fn output_only(mut self) -> Self {
        self.output_only = true;
        self
    }

    /// The same, with a value that must not be repeated.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_fields_elements_and_keys() {
        let mut problems = Problems::new();
        problems.field("channels", |p| {
            p.index(2, |p| p.field("content", |p| p.violate("is required")))
        });
        problems.field("variables", |p| p.key("ada", |p| p.refuse("must be a string", 5)));
        let error = problems.into_result().unwrap_err();
        let found: Vec<_> = error
            .violations()
            .iter()
            .map(|v| (v.field.as_str(), v.problem()))
            .collect();
        assert_eq!(
            found,
            [
                ("channels[2].content", "is required".to_owned()),
                ("variables.ada", "must be a string, received \"5\"".to_owned()),
            ]
        );
    }

    #[test]
    fn the_body_field_is_no_part_of_paths() {
        let mut problems = Problems {
            body_field: Some("item"),
            ..Problems::default()
        };
        problems.field("item", |p| p.field("name", |p| p.violate("is required")));
        problems.field("shelfId", |p| p.violate("is required"));
        problems.field("item", |p| p.violate("is required"));
        let error = problems.into_result().unwrap_err();
        let found: Vec<_> = error.violations().iter().map(|v| v.field.as_str()).collect();
        assert_eq!(found, ["name", "shelfId", "body"]);
    }

    #[test]
    fn a_part_of_what_could_not_be_read_is_not_named_again() {
        let mut problems = Problems::new();
        problems.field("part", |p| p.refuse("must be an object", 5));
        problems.field("list", |p| p.remark("must not have more than 3 items", 5));
        problems.checking = true;
        problems.field("list", |p| p.index(0, |p| p.violate("is required")));
        problems.field("part", |p| p.field("name", |p| p.violate("is required")));
        problems.field("partner", |p| p.violate("is required"));
        let error = problems.into_result().unwrap_err();
        let found: Vec<_> = error.violations().iter().map(|v| v.field.as_str()).collect();
        assert_eq!(found, ["part", "list", "list[0]", "partner"]);
    }

    #[test]
    fn a_place_in_free_json_is_named_with_the_field_around_it() {
        let mut problems = Problems::new();
        let outer = Place::Key(&Place::Root, "body");
        problems.field("content", |p| {
            Place::Index(&outer, 2).look(p, |p| p.refuse("must be finite", "NaN"));
            p.violate("is wrong");
        });
        let error = problems.into_result().unwrap_err();
        let found: Vec<_> = error.violations().iter().map(|v| v.field.as_str()).collect();
        assert_eq!(found, ["content.body[2]", "content"]);
    }

    #[test]
    fn what_is_required_and_was_given_empty_is_told_apart_from_what_is_absent() {
        let mut problems = Problems::new();
        problems.field("name", Problems::note_empty);
        problems.checking = true;
        problems.field("name", Problems::require);
        problems.field("title", Problems::require);
        let error = problems.into_result().unwrap_err();
        let found: Vec<_> = error.violations().iter().map(Violation::problem).collect();
        assert_eq!(found, ["is required, received \"\"", "is required"]);
    }

    #[test]
    fn secrets_are_not_repeated_and_problems_have_a_limit() {
        let mut problems = Problems::new();
        problems.secret("key", |p| p.refuse("must be shorter", "hunter2"));
        for at in 0..200 {
            problems.field("list", |p| p.index(at, |p| p.violate("is wrong")));
        }
        let error = problems.into_result().unwrap_err();
        assert_eq!(error.violations().len(), Problems::NAMED_MAX + 1);
        assert_eq!(error.violations()[0].received, None);
        assert_eq!(
            error.violations().last().unwrap().rule,
            "and 101 more problems were found"
        );
    }
}
