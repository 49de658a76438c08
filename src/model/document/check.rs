//! Holds a document against its table and names everything that is wrong at once. It never stops at the first fault, never
//! repeats more of a document than a hundred faults need, and takes time linear to its size.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Write as _};
use std::io;

use serde_json::{Map, Value};

use super::recheck::{Reason as Why, Spot};
use super::token::{self, Declared, Typed};
use super::{Bounds, Family, Member, Rule, Shape};
use crate::model::render::DEPTH_MAX;
use crate::model::{Error, Reason, Violation};

/// The longest part of a member's name that a path repeats, in characters.
const NAME_MAX: usize = 100;
/// Variables beyond this many in one text are counted and no longer named.
const KEYS_NAMED_MAX: usize = 5;
/// The largest part of a received value that is printed before it is shortened to characters, in bytes.
const RECEIVED_BYTES_MAX: usize = 4 * Violation::RECEIVED_MAX;

/// What is wrong, in the order of the documents: faults of form, and variables that do not fit their place.
#[derive(Debug, Default)]
pub struct Findings {
    named: Vec<Violation>,
    more: usize,
    form: bool,
    variables_only: bool,
}

impl Findings {
    /// Faults beyond this many are counted and no longer named, as with every other request.
    pub const NAMED_MAX: usize = 100;

    /// Findings that take note of variables alone.
    #[must_use]
    pub fn of_variables() -> Self {
        Self {
            variables_only: true,
            ..Self::default()
        }
    }

    /// Whether anything but variables is wrong.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        self.form
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Something breaks the form of the document. Path and fault are only made while they are named.
    pub fn fault(&mut self, violation: impl FnOnce() -> Violation) {
        if !self.variables_only {
            self.form = true;
            self.note(violation);
        }
    }

    /// A variable does not fit its place.
    pub fn variable(&mut self, violation: impl FnOnce() -> Violation) {
        self.note(violation);
    }

    fn note(&mut self, violation: impl FnOnce() -> Violation) {
        if self.named.len() < Self::NAMED_MAX {
            self.named.push(violation());
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// All that is named, and how much is not.
    #[must_use]
    pub fn into_violations(mut self) -> Vec<Violation> {
        if self.more > 0 {
            let rule = format!("and {} more problems were found", self.more);
            self.named.push(Violation::new("…", rule));
        }
        self.named
    }

    /// The refusal of the whole.
    ///
    /// # Errors
    /// [`Reason::InvalidVariables`] when variables alone are wrong, otherwise invalid.
    pub fn into_result(self) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let reason = if self.form {
            Reason::BadRequest
        } else {
            Reason::InvalidVariables
        };
        Err(Error::violated(reason, self.into_violations()))
    }
}

/// Where a value stands, as a list from the inside to the outside.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The member of an object.
    Member(&'a str),
    /// The element of a list.
    Index(usize),
}

impl<'a> Path<'a> {
    /// The path of a document itself; may be empty.
    #[must_use]
    pub const fn root(path: &'a str) -> Self {
        Self {
            parent: None,
            step: Step::Member(path),
        }
    }

    /// The path of a part of it.
    #[must_use]
    pub const fn to(&'a self, step: Step<'a>) -> Self {
        Self {
            parent: Some(self),
            step,
        }
    }

    /// The steps below the root.
    pub(super) fn steps(&self) -> Vec<Step<'a>> {
        let mut steps = Vec::new();
        let mut at = self;
        while let Some(parent) = at.parent {
            steps.push(at.step);
            at = parent;
        }
        steps.reverse();
        steps
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = match self.parent {
            None => self.step,
            Some(_) => {
                let mut at = self;
                while let Some(parent) = at.parent {
                    at = parent;
                }
                at.step
            }
        };
        let mut begun = false;
        for step in std::iter::once(root).chain(self.steps()) {
            match step {
                Step::Member("") if !begun => continue,
                Step::Member(name) => {
                    if begun {
                        f.write_char('.')?;
                    }
                    write_short(f, name)?;
                }
                Step::Index(index) => write!(f, "[{index}]")?,
            }
            begun = true;
        }
        Ok(())
    }
}

fn write_short(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    match name.char_indices().nth(NAME_MAX).and_then(|(at, _)| name.get(..at)) {
        None => f.write_str(name),
        Some(short) => write!(f, "{short}…"),
    }
}

/// One look at one document.
#[derive(Debug)]
pub struct Look<'a> {
    /// The declared variables; without them tokens of any type fit everywhere.
    declared: Option<&'a Declared<'a>>,
    /// Whether values are filled in already.
    filled: bool,
    findings: &'a mut Findings,
    ids: HashMap<String, String>,
    spots: Vec<Spot>,
    depth: usize,
}

impl<'a> Look<'a> {
    /// A look at a document as its author wrote it.
    pub fn at_source(declared: Option<&'a Declared<'a>>, findings: &'a mut Findings) -> Self {
        Self {
            declared,
            filled: false,
            findings,
            ids: HashMap::new(),
            spots: Vec::new(),
            depth: 0,
        }
    }

    /// A look at a part whose values are filled in.
    pub(crate) fn at_filled(findings: &'a mut Findings) -> Self {
        Self {
            filled: true,
            ..Self::at_source(None, findings)
        }
    }

    /// The places that values can break once they are filled in.
    pub(super) fn into_spots(self) -> Vec<Spot> {
        self.spots
    }

    /// Holds a value against a rule.
    pub fn check(&mut self, rule: &'static Rule, value: &Value, path: &Path<'_>) {
        match (rule, value) {
            (Rule::Text, Value::String(text)) => self.texts(text, path),
            (Rule::Filled, Value::String(text)) if !text.is_empty() => self.texts(text, path),
            (Rule::Line(least, most), Value::String(text)) => self.line(rule, (*least, *most), text, path),
            (Rule::Short(most), Value::String(text)) => self.short(rule, *most, text, path),
            (Rule::Url(_, typed), Value::String(text)) => self.url(rule, *typed, text, path),
            (Rule::Id, Value::String(text)) => self.id(text, path),
            (Rule::Form(pattern), Value::String(text)) if pattern.matches(text) => {}
            (Rule::Word(words), Value::String(text)) if words.contains(&text.as_str()) => {}
            (Rule::Switch, Value::Bool(_)) => {}
            (Rule::Number(bounds), Value::Number(number)) if within(bounds, number) => {}
            (Rule::Choice(numbers), Value::Number(number)) if chosen(numbers, number) => {}
            (Rule::Object(shape), Value::Object(object)) => {
                self.deeper(path, |look| look.object(shape, object, path));
            }
            (Rule::List(least, of), Value::Array(items)) if items.len() >= *least => {
                self.deeper(path, |look| {
                    for (index, item) in items.iter().enumerate() {
                        look.check(of, item, &path.to(Step::Index(index)));
                    }
                });
            }
            (Rule::Map(_, _), Value::Object(object)) => self.deeper(path, |look| look.map(rule, object, path)),
            (Rule::Either(first, _, _), value) if takes(first, value) => self.check(first, value, path),
            (Rule::Either(_, other, _), value) if takes(other, value) => self.check(other, value, path),
            (Rule::Kind(family), Value::Object(object)) => {
                self.deeper(path, |look| look.kind(family, object, path));
            }
            (Rule::Kind(family), Value::String(text)) if family.typed.is_some() && token::is_whole(text) => {
                self.whole(rule, family.typed, text, path);
            }
            (Rule::Free, Value::Object(_)) => self.free(value, path),
            (_, _) => self.wrong(rule, value, path),
        }
    }

    fn deeper(&mut self, path: &Path<'_>, look: impl FnOnce(&mut Self)) {
        if self.depth >= DEPTH_MAX {
            let rule = || format!("must not be nested deeper than {DEPTH_MAX} levels");
            self.findings.fault(|| Violation::new(path.to_string(), rule()));
            return;
        }
        self.depth = self.depth.saturating_add(1);
        look(self);
        self.depth = self.depth.saturating_sub(1);
    }

    fn wrong(&mut self, rule: &Rule, value: &Value, path: &Path<'_>) {
        self.findings.fault(|| {
            let tokens = value.as_str().is_some_and(|text| !token::keys(text).is_empty());
            let aside = if !tokens || matches!(rule, Rule::Id) {
                ""
            } else if matches!(rule, Rule::Kind(_)) {
                ", not in a text"
            } else {
                "; variables do not work here"
            };
            refused(path, format!("{}{aside}", rule.says()), value)
        });
    }

    fn object(&mut self, shape: &'static Shape, object: &Map<String, Value>, path: &Path<'_>) {
        self.members(&[shape.members], object, path);
        self.any_of(shape.any_of, object, path);
        let known = || shape.members.iter().map(|member| member.name).collect();
        self.unknown(shape.noun, object, path, known);
    }

    fn kind(&mut self, family: &'static Family, object: &Map<String, Value>, path: &Path<'_>) {
        let types = || family.kinds.iter().map(|kind| kind.word).collect::<Vec<_>>().join(", ");
        let given = object.get("type");
        let word = given.and_then(Value::as_str);
        let Some(kind) = family.kinds.iter().find(|kind| Some(kind.word) == word) else {
            let path_of_type = path.to(Step::Member("type"));
            self.findings.fault(|| match given {
                None => Violation::new(
                    path_of_type.to_string(),
                    format!(
                        "is required and must be one of the types of {}: {}",
                        family.one,
                        types()
                    ),
                ),
                Some(value) => refused(
                    &path_of_type,
                    format!("must be one of the types of {}: {}", family.one, types()),
                    value,
                ),
            });
            self.members(&[family.common], object, path);
            return;
        };
        self.members(&[family.common, kind.members], object, path);
        self.any_of(kind.any_of, object, path);
        let noun = format_args!("{} of type {}", family.one, kind.word);
        let known = || {
            let members = family.common.iter().chain(kind.members);
            let mut known: Vec<_> = members.map(|member| member.name).collect();
            known.insert(family.common.len(), "type");
            known
        };
        self.unknown(noun, object, path, known);
    }

    fn members(&mut self, groups: &[&'static [Member]], object: &Map<String, Value>, path: &Path<'_>) {
        for member in groups.iter().copied().flatten() {
            let at = path.to(Step::Member(member.name));
            match object.get(member.name) {
                Some(value) => self.check(&member.rule, value, &at),
                None if member.required => self.findings.fault(|| {
                    let rule = format!("is required and {}", member.rule.says());
                    Violation::new(at.to_string(), rule)
                }),
                None => {}
            }
        }
    }

    fn any_of(&mut self, names: &'static [&'static str], object: &Map<String, Value>, path: &Path<'_>) {
        if !names.is_empty() && !names.iter().any(|name| object.contains_key(*name)) {
            let rule = || format!("must hold at least one of {}", names.join(", "));
            self.findings.fault(|| Violation::new(path.to_string(), rule()));
        }
    }

    fn unknown(
        &mut self,
        noun: impl fmt::Display,
        object: &Map<String, Value>,
        path: &Path<'_>,
        known: impl FnOnce() -> Vec<&'static str>,
    ) {
        let known = known();
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            let at = path.to(Step::Member(name));
            self.findings.fault(|| {
                let rule = format!("is not known here; {noun} holds {}", known.join(", "));
                Violation::new(at.to_string(), rule)
            });
        }
    }

    fn map(&mut self, rule: &'static Rule, object: &Map<String, Value>, path: &Path<'_>) {
        let Rule::Map(keys, values) = rule else { return };
        for (key, value) in object {
            let at = path.to(Step::Member(key));
            if !keys.matches(key) {
                self.findings
                    .fault(|| Violation::new(at.to_string(), format!("has a key that {}", keys.says)));
            }
            self.check(values, value, &at);
        }
    }

    /// The texts of free JSON may hold tokens like any other.
    fn free(&mut self, value: &Value, path: &Path<'_>) {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => self.texts(text, path),
            Value::Array(items) => self.deeper(path, |look| {
                for (index, item) in items.iter().enumerate() {
                    look.free(item, &path.to(Step::Index(index)));
                }
            }),
            Value::Object(object) => self.deeper(path, |look| {
                for (key, value) in object {
                    look.free(value, &path.to(Step::Member(key)));
                }
            }),
        }
    }

    /// Tokens inside a text stand for texts. All that do not are named together, because they share a path.
    fn texts(&mut self, text: &str, path: &Path<'_>) {
        let Some(declared) = self.declared else { return };
        let mut wrong = token::keys(text);
        wrong.retain(|key| declared.of_key(key) != Typed::Text);
        if wrong.is_empty() {
            return;
        }
        wrong.sort();
        wrong.dedup();
        self.findings.variable(|| {
            let named = wrong.iter().take(KEYS_NAMED_MAX).map(|key| declared.source(key));
            let mut named: Vec<_> = named.collect();
            if let more @ 1.. = wrong.len().saturating_sub(KEYS_NAMED_MAX) {
                named.push(format!("so are {more} more"));
            }
            let rule = format!("must hold variables of type string only, but {}", named.join(", "));
            Violation::new(path.to_string(), rule).received(text)
        });
    }

    /// A token that is all there is stands for a value of one type, or for a text where the rule is about texts.
    fn whole(&mut self, rule: &'static Rule, typed: Option<Typed>, text: &str, path: &Path<'_>) {
        let keys = token::keys(text);
        self.spot(rule, &keys, path);
        let (Some(declared), Some(key)) = (self.declared, keys.first()) else {
            return;
        };
        let given = declared.of_key(key);
        let as_text = matches!(rule, Rule::Url(_, _)) && given == Typed::Text;
        if Some(given) != typed && !as_text {
            self.findings.variable(|| {
                let wanted = match (rule, typed) {
                    (Rule::Kind(_), Some(typed)) => typed.word().to_owned(),
                    (_, Some(typed)) => format!("string or {}", typed.word()),
                    (_, None) => Typed::Text.word().to_owned(),
                };
                let rule = format!("must be a variable of type {wanted}, but {}", declared.source(key));
                Violation::new(path.to_string(), rule).received(text)
            });
        }
    }

    fn line(&mut self, rule: &'static Rule, (least, most): (usize, usize), text: &str, path: &Path<'_>) {
        let length = text.chars().count();
        if length < least || length > most || !super::LINE.matches(text) {
            self.findings.fault(|| refused(path, rule.says(), &Value::from(text)));
        }
        self.texts(text, path);
        self.spot(rule, &token::keys(text), path);
    }

    fn short(&mut self, rule: &'static Rule, most: usize, text: &str, path: &Path<'_>) {
        if token::characters_beside(text) > most {
            self.findings.fault(|| refused(path, rule.says(), &Value::from(text)));
        }
        self.texts(text, path);
        self.spot(rule, &token::keys(text), path);
    }

    fn url(&mut self, rule: &'static Rule, typed: Option<Typed>, text: &str, path: &Path<'_>) {
        let Rule::Url(target, _) = rule else { return };
        let checked = if self.filled {
            target.check_filled(text)
        } else {
            target.check(text)
        };
        if let Err(broken) = checked {
            self.findings.fault(|| refused(path, broken, &Value::from(text)));
        }
        if token::is_whole(text) {
            self.whole(rule, typed, text, path);
        } else {
            self.texts(text, path);
            self.spot(rule, &token::keys(text), path);
        }
    }

    fn id(&mut self, text: &str, path: &Path<'_>) {
        if !super::ID.matches(text) {
            self.findings
                .fault(|| refused(path, super::ID.says.to_owned(), &Value::from(text)));
            return;
        }
        match self.ids.entry(text.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(path.to_string());
            }
            Entry::Occupied(first) => self.findings.fault(|| {
                let rule = format!("must be unique, but is that of {} as well", first.get());
                Violation::new(path.to_string(), rule).received(text)
            }),
        }
    }

    fn spot(&mut self, rule: &'static Rule, keys: &[String], path: &Path<'_>) {
        if !keys.is_empty() {
            self.spots.push(Spot::new(&path.steps(), keys, Why::of(rule)));
        }
    }
}

/// Whether a value is of the JSON type that a rule is about; decides between two rules.
fn takes(rule: &Rule, value: &Value) -> bool {
    match rule {
        Rule::Number(_) | Rule::Choice(_) => value.is_number(),
        Rule::Switch => value.is_boolean(),
        Rule::Object(_) | Rule::Map(_, _) | Rule::Free | Rule::Kind(_) => value.is_object(),
        Rule::List(_, _) => value.is_array(),
        Rule::Text | Rule::Filled | Rule::Line(_, _) | Rule::Short(_) | Rule::Url(_, _) => value.is_string(),
        Rule::Id | Rule::Form(_) | Rule::Word(_) => value.is_string(),
        Rule::Either(first, other, _) => takes(first, value) || takes(other, value),
    }
}

fn within(bounds: &Bounds, number: &serde_json::Number) -> bool {
    number.as_f64().is_some_and(|number| {
        number >= f64::from(bounds.least)
            && bounds.most.is_none_or(|most| number <= f64::from(most))
            && (!bounds.whole || number.fract() == 0.0)
    })
}

fn chosen(numbers: &[u32], number: &serde_json::Number) -> bool {
    let number = number.as_f64();
    numbers.iter().any(|choice| Some(f64::from(*choice)) == number)
}

/// A violation with the value that was received: a text as it is, anything else as JSON, of which no more is printed
/// than is shown.
pub(super) fn refused(path: &Path<'_>, rule: String, value: &Value) -> Violation {
    let violation = Violation::new(path.to_string(), rule);
    match value {
        Value::String(text) => violation.received(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            let mut start = Start(Vec::new());
            // Writing stops with an error once there is enough, which is what was wanted.
            drop(serde_json::to_writer(&mut start, value));
            violation.received(String::from_utf8_lossy(&start.0))
        }
    }
}

/// Keeps the start of what is written.
struct Start(Vec<u8>);

impl io::Write for Start {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() >= RECEIVED_BYTES_MAX {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let room = RECEIVED_BYTES_MAX.saturating_sub(self.0.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.0.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
