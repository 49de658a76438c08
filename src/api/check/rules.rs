//! The bounds of the contract, one function for each kind of value. Every rule that a value breaks is stated once; no
//! rule is known here by its field.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::sync::LazyLock;

use prost_types::value::Kind;
use prost_types::{Duration, Struct, Timestamp, Value};
use regex::Regex;

use super::{Place, Problems};
use crate::api::convert;
use crate::api::rest::free;

/// The deepest JSON, and the deepest free JSON, counted in objects and lists.
pub const DEPTH_MAX: usize = 64;

/// The rule of every text: PostgreSQL cannot keep this character.
const NO_NUL: &str = "must not contain U+0000";

/// A regular expression of the contract. The build has proven that it compiles.
#[derive(Debug)]
pub struct Pattern {
    text: &'static str,
    compiled: LazyLock<Option<Regex>>,
}

impl Pattern {
    /// Compiled when it is first used.
    #[must_use]
    pub const fn new(text: &'static str, compile: fn() -> Option<Regex>) -> Self {
        Self {
            text,
            compiled: LazyLock::new(compile),
        }
    }

    /// Whether it compiles.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.compiled.is_some()
    }

    fn matches(&self, text: &str) -> bool {
        // A pattern that does not compile lets nothing pass.
        self.compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// Compiles a pattern of the contract.
#[must_use]
pub fn compile(text: &str) -> Option<Regex> {
    Regex::new(text).ok()
}

/// A form that a text has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An e-mail address.
    Email,
    /// A host name.
    Hostname,
    /// An absolute URI.
    Uri,
    /// A UUID with hyphens.
    Uuid,
    /// An IP address of either version.
    Ip,
}

/// The bounds of a text, in characters.
#[derive(Debug)]
pub struct TextRule {
    /// The fewest.
    pub min: usize,
    /// The most.
    pub max: usize,
    /// The most in bytes.
    pub bytes_max: usize,
    /// What it has to match.
    pub pattern: Option<&'static Pattern>,
    /// How it has to begin.
    pub prefix: &'static str,
    /// How it has to end.
    pub suffix: &'static str,
    /// What it has to hold.
    pub contains: &'static str,
    /// The only values, when there are any.
    pub only: &'static [&'static str],
    /// Values that are refused.
    pub never: &'static [&'static str],
    /// The form.
    pub format: Option<Format>,
}

impl TextRule {
    /// Any text.
    pub const ANY: Self = Self {
        min: 0,
        max: usize::MAX,
        bytes_max: usize::MAX,
        pattern: None,
        prefix: "",
        suffix: "",
        contains: "",
        only: &[],
        never: &[],
        format: None,
    };
}

/// Checks a text. U+0000 is refused in every text, as PostgreSQL cannot keep it.
pub fn text(value: &str, rule: &TextRule, problems: &mut Problems) {
    if value.contains('\0') {
        return problems.refuse(NO_NUL, value);
    }
    if let Some(broken) = text_fault(value, rule) {
        problems.refuse(broken, value);
    }
}

fn text_fault(value: &str, rule: &TextRule) -> Option<String> {
    // The bytes bound the characters, which then mostly need not be counted.
    if value.len() > rule.max || value.len() < rule.min.saturating_mul(4) {
        let length = value.chars().count();
        if length > rule.max {
            return Some(format!("must not be longer than {} characters", rule.max));
        }
        if length < rule.min {
            return Some(too_short(rule.min));
        }
    }
    if value.len() > rule.bytes_max {
        return Some(format!("must not be longer than {} bytes", rule.bytes_max));
    }
    if !rule.only.is_empty() && !rule.only.contains(&value) {
        return Some(format!("must be one of {}", rule.only.join(", ")));
    }
    if rule.never.contains(&value) {
        return Some(format!("must not be one of {}", rule.never.join(", ")));
    }
    if let Some(pattern) = rule.pattern
        && !pattern.matches(value)
    {
        return Some(format!("must match {}", pattern.text));
    }
    if !value.starts_with(rule.prefix) {
        return Some(format!("must begin with {}", rule.prefix));
    }
    if !value.ends_with(rule.suffix) {
        return Some(format!("must end with {}", rule.suffix));
    }
    if !value.contains(rule.contains) {
        return Some(format!("must contain {}", rule.contains));
    }
    rule.format.and_then(|format| format_fault(value, format))
}

fn too_short(min: usize) -> String {
    match min {
        1 => "must not be empty".to_owned(),
        min => format!("must not be shorter than {min} characters"),
    }
}

fn format_fault(value: &str, format: Format) -> Option<String> {
    static EMAIL: LazyLock<Option<Regex>> =
        LazyLock::new(|| compile(r"^[^\s@<>(),;:\\\x22\[\]]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$"));
    static HOSTNAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        compile(r"^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$")
    });
    let matches = |regex: &LazyLock<Option<Regex>>| regex.as_ref().is_some_and(|regex| regex.is_match(value));
    let (well_formed, name) = match format {
        Format::Email => (matches(&EMAIL), "an e-mail address"),
        Format::Hostname => (value.len() <= 253 && matches(&HOSTNAME), "a host name"),
        Format::Uri => {
            let parsed = value.parse::<http::Uri>();
            (parsed.is_ok_and(|uri| uri.scheme().is_some()), "an absolute URI")
        }
        Format::Uuid => (value.len() == 36 && uuid::Uuid::try_parse(value).is_ok(), "a UUID"),
        Format::Ip => (value.parse::<std::net::IpAddr>().is_ok(), "an IP address"),
    };
    (!well_formed).then(|| format!("must be {name}"))
}

/// The bounds of bytes.
#[derive(Debug)]
pub struct BytesRule {
    /// The fewest.
    pub min: usize,
    /// The most.
    pub max: usize,
}

impl BytesRule {
    /// Any bytes.
    pub const ANY: Self = Self {
        min: 0,
        max: usize::MAX,
    };
}

/// Checks bytes.
pub fn bytes(value: &[u8], rule: &BytesRule, problems: &mut Problems) {
    if value.len() > rule.max {
        problems.refuse(
            format!("must not be longer than {} bytes", rule.max),
            format!("{} bytes", value.len()),
        );
    } else if value.len() < rule.min {
        problems.refuse(
            format!("must not be shorter than {} bytes", rule.min),
            format!("{} bytes", value.len()),
        );
    }
}

/// The bounds of a number.
#[derive(Debug)]
pub struct NumberRule<N: 'static> {
    /// The least.
    pub gte: Option<N>,
    /// More than this.
    pub gt: Option<N>,
    /// The most.
    pub lte: Option<N>,
    /// Less than this.
    pub lt: Option<N>,
    /// The only values, when there are any.
    pub only: &'static [N],
    /// Values that are refused.
    pub never: &'static [N],
}

impl<N> NumberRule<N> {
    /// Any number.
    pub const ANY: Self = Self {
        gte: None,
        gt: None,
        lte: None,
        lt: None,
        only: &[],
        never: &[],
    };
}

/// Checks a number. NaN is within no bounds.
pub fn number<N: PartialOrd + Display + Copy>(value: N, rule: &NumberRule<N>, problems: &mut Problems) {
    let broken = |bound: Option<N>, holds: fn(&N, &N) -> bool| bound.filter(|bound| !holds(&value, bound));
    let list = |values: &[N]| values.iter().map(N::to_string).collect::<Vec<_>>().join(", ");
    let fault = if let Some(bound) = broken(rule.gte, N::ge) {
        format!("must not be less than {bound}")
    } else if let Some(bound) = broken(rule.gt, N::gt) {
        format!("must be greater than {bound}")
    } else if let Some(bound) = broken(rule.lte, N::le) {
        format!("must not be greater than {bound}")
    } else if let Some(bound) = broken(rule.lt, N::lt) {
        format!("must be less than {bound}")
    } else if !rule.only.is_empty() && !rule.only.contains(&value) {
        format!("must be one of {}", list(rule.only))
    } else if rule.never.contains(&value) {
        format!("must not be one of {}", list(rule.never))
    } else {
        return;
    };
    problems.refuse(fault, value);
}

/// Checks that a number with a fraction is neither NaN nor infinite, which JSON cannot carry.
pub fn finite(value: f64, problems: &mut Problems) {
    if !value.is_finite() {
        problems.refuse("must be finite", value);
    }
}

/// Checks the number of elements of a list or a map.
pub fn count(count: usize, min: usize, max: usize, problems: &mut Problems) {
    if count > max {
        problems.remark(format!("must not have more than {max} {}", items(max)), count);
    } else if count < min {
        problems.remark(format!("must have at least {min} {}", items(min)), count);
    }
}

const fn items(count: usize) -> &'static str {
    if count == 1 { "item" } else { "items" }
}

/// Checks that no element of a list equals another; the later ones are named.
pub fn unique<'v, V: Ord + Debug + 'v>(values: impl IntoIterator<Item = V>, problems: &mut Problems) {
    let mut known = BTreeSet::new();
    for (index, value) in values.into_iter().enumerate() {
        if known.contains(&value) {
            problems.index(index, |problems| problems.violate("must not repeat an earlier item"));
        } else {
            known.insert(value);
        }
    }
}

/// The key of a number with a fraction among others.
#[must_use]
pub fn float_key(value: f64) -> u64 {
    value.to_bits()
}

/// Checks the value of an enum; `zero` says whether not set is a value.
pub fn word(value: i32, words: &super::super::rest::kind::Words, zero: bool, problems: &mut Problems) {
    if (value != 0 || !zero) && !words.knows(value) {
        problems.refuse(format!("must be one of {}", words.list()), value);
    }
}

/// Checks that an instant is in the years 1 to 9999.
pub fn timestamp(value: &Timestamp, problems: &mut Problems) {
    if convert::instant(value).is_none() {
        problems.refuse(
            "must be in the years 1 to 9999",
            format!("{} s {} ns", value.seconds, value.nanos),
        );
    }
}

/// The longest length of time in seconds, about ten thousand years, as protobuf bounds it.
pub const DURATION_SECONDS_MAX: i64 = 315_576_000_000;

/// Checks that a length of time is one.
pub fn duration(value: &Duration, problems: &mut Problems) {
    let signs = value.seconds == 0 || value.nanos == 0 || (value.seconds < 0) == (value.nanos < 0);
    let bounds = value.seconds.abs() <= DURATION_SECONDS_MAX && value.nanos.abs() < 1_000_000_000;
    if !signs || !bounds {
        problems.refuse(
            "must be a length of time within 10000 years",
            format!("{} s {} ns", value.seconds, value.nanos),
        );
    }
}

/// Checks a JSON object of any shape.
pub fn object(value: &Struct, bytes_max: usize, problems: &mut Problems) {
    if Soundness::of(problems, |free| free.members(value, &Place::Root, 1)) {
        json_size(free::object_size(value), bytes_max, problems);
    }
}

/// Checks a JSON list of any shape.
pub fn json_list(value: &prost_types::ListValue, bytes_max: usize, problems: &mut Problems) {
    if Soundness::of(problems, |free| free.elements(&value.values, &Place::Root, 1)) {
        json_size(free::list_size(value), bytes_max, problems);
    }
}

/// Checks JSON of any shape.
pub fn json(value: &Value, bytes_max: usize, problems: &mut Problems) {
    if Soundness::of(problems, |free| free.value(value, &Place::Root, 0)) {
        json_size(free::value_size(value), bytes_max, problems);
    }
}

fn json_size(bytes: usize, bytes_max: usize, problems: &mut Problems) {
    if bytes > bytes_max {
        problems.refuse(
            format!("must not be larger than {bytes_max} bytes as JSON"),
            format!("{bytes} bytes"),
        );
    }
}

/// What free JSON must not hold, wherever in it.
struct Soundness<'p> {
    problems: &'p mut Problems,
    sound: bool,
}

impl Soundness<'_> {
    fn of(problems: &mut Problems, look: impl FnOnce(&mut Soundness<'_>)) -> bool {
        let mut free = Soundness { problems, sound: true };
        look(&mut free);
        free.sound
    }

    fn refuse(&mut self, place: &Place<'_>, rule: impl Into<String>, received: impl Display) {
        self.sound = false;
        place.look(self.problems, |problems| problems.refuse(rule, received));
    }

    fn too_deep(&mut self, place: &Place<'_>, depth: usize, received: &str) -> bool {
        let deep = depth > DEPTH_MAX;
        if deep {
            self.refuse(place, too_deep(), received);
        }
        deep
    }

    fn members(&mut self, value: &Struct, place: &Place<'_>, depth: usize) {
        if self.too_deep(place, depth, "{…}") {
            return;
        }
        for (key, value) in &value.fields {
            if key.contains('\0') {
                self.refuse(place, "must not have a key with U+0000", key);
            }
            self.value(value, &Place::Key(place, key), depth);
        }
    }

    fn elements(&mut self, values: &[Value], place: &Place<'_>, depth: usize) {
        if self.too_deep(place, depth, "[…]") {
            return;
        }
        for (index, value) in values.iter().enumerate() {
            self.value(value, &Place::Index(place, index), depth);
        }
    }

    fn value(&mut self, value: &Value, place: &Place<'_>, depth: usize) {
        match &value.kind {
            Some(Kind::StructValue(inner)) => self.members(inner, place, depth + 1),
            Some(Kind::ListValue(inner)) => self.elements(&inner.values, place, depth + 1),
            Some(Kind::StringValue(text)) if text.contains('\0') => self.refuse(place, NO_NUL, text),
            Some(Kind::NumberValue(number)) if !number.is_finite() => self.refuse(place, "must be finite", number),
            Some(Kind::StringValue(_) | Kind::NumberValue(_) | Kind::BoolValue(_) | Kind::NullValue(_)) | None => {}
        }
    }
}

/// The rule about nesting.
pub(crate) fn too_deep() -> String {
    format!("must not be nested deeper than {DEPTH_MAX} levels")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(check: impl FnOnce(&mut Problems)) -> Option<String> {
        let mut problems = Problems::new();
        problems.field("it", check);
        let error = problems.into_result().err()?;
        Some(error.violations()[0].problem())
    }

    #[test]
    fn texts_are_counted_in_characters() {
        let rule = TextRule {
            min: 2,
            max: 3,
            ..TextRule::ANY
        };
        assert_eq!(broken(|p| text("äöü", &rule, p)), None);
        assert_eq!(
            broken(|p| text("ä", &rule, p)).unwrap(),
            "must not be shorter than 2 characters, received \"ä\""
        );
        assert_eq!(
            broken(|p| text("äöüß", &rule, p)).unwrap(),
            "must not be longer than 3 characters, received \"äöüß\""
        );
        assert_eq!(
            broken(|p| text("a\0b", &TextRule::ANY, p)).unwrap(),
            "must not contain U+0000, received \"a\\0b\""
        );
    }

    #[test]
    fn formats_are_checked() {
        let is = |format: Format, value: &str| format_fault(value, format).is_none();
        assert!(is(Format::Email, "ada@example.com") && !is(Format::Email, "ada") && !is(Format::Email, "a b@c"));
        assert!(is(Format::Uri, "https://example.com/x") && !is(Format::Uri, "/x"));
        assert!(
            is(Format::Uuid, "01890a5d-ac96-774b-bcce-b302099a8057")
                && !is(Format::Uuid, "01890a5dac96774bbcceb302099a8057")
        );
        assert!(is(Format::Hostname, "example.com") && !is(Format::Hostname, "-x"));
        assert!(is(Format::Ip, "::1") && !is(Format::Ip, "1.2.3"));
    }

    #[test]
    fn numbers_have_open_and_closed_bounds() {
        let rule = NumberRule {
            gt: Some(1.0),
            lte: Some(2.0),
            ..NumberRule::ANY
        };
        assert_eq!(broken(|p| number(2.0, &rule, p)), None);
        assert_eq!(
            broken(|p| number(1.0, &rule, p)).unwrap(),
            "must be greater than 1, received \"1\""
        );
        assert!(broken(|p| number(f64::NAN, &rule, p)).is_some());
    }

    #[test]
    fn free_json_is_bounded_in_depth_and_size() {
        let mut deep = Value {
            kind: Some(Kind::BoolValue(true)),
        };
        for _ in 0..DEPTH_MAX {
            deep = Value {
                kind: Some(Kind::ListValue(prost_types::ListValue { values: vec![deep] })),
            };
        }
        assert_eq!(broken(|p| json(&deep, 1_000, p)), None);
        assert!(
            broken(|p| json(&deep, 100, p))
                .unwrap()
                .contains("larger than 100 bytes")
        );
        let deeper = prost_types::ListValue { values: vec![deep] };
        assert!(
            broken(|p| json_list(&deeper, 1_000, p))
                .unwrap()
                .contains("deeper than 64")
        );
    }

    #[test]
    fn problems_inside_free_json_are_all_named_where_they_are() {
        let text = |text: &str| Value {
            kind: Some(Kind::StringValue(text.to_owned())),
        };
        let number = Value {
            kind: Some(Kind::NumberValue(f64::NAN)),
        };
        let list = prost_types::ListValue {
            values: vec![text("fine"), text("a\0"), number],
        };
        let list = Value {
            kind: Some(Kind::ListValue(list)),
        };
        let fields = [("k\0".to_owned(), text("x")), ("body".to_owned(), list)];
        let value = Struct { fields: fields.into() };
        let mut problems = Problems::new();
        problems.field("content", |p| object(&value, 1_000, p));
        let error = problems.into_result().unwrap_err();
        let found: Vec<_> = error
            .violations()
            .iter()
            .map(|v| (v.field.as_str(), v.problem()))
            .collect();
        let expected = [
            ("content.body[1]", "must not contain U+0000, received \"a\\0\""),
            ("content.body[2]", "must be finite, received \"NaN\""),
            ("content", "must not have a key with U+0000, received \"k\\0\""),
        ];
        assert_eq!(found, expected.map(|(field, problem)| (field, problem.to_owned())));
    }

    #[test]
    fn repeated_items_are_named() {
        let mut problems = Problems::new();
        problems.field("tags", |p| unique(["a", "b", "a"], p));
        assert_eq!(problems.into_result().unwrap_err().violations()[0].field, "tags[2]");
    }
}
