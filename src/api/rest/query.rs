//! Query strings and path variables as fields of a request, through the same problems as the body. What a field means
//! is not known here.

use percent_encoding::percent_decode_str;

use super::dialect::{Dialect, Source};
use super::kind::{Kind, ReadKind};
use super::read::{Incoming, at, set_member, unknown};
use crate::api::check::Problems;
use crate::api::doors::binding::Binding;

/// Parameters beyond this many are refused.
const PARAMETERS_MAX: usize = 200;

/// Reads a query string as the fields that neither the path nor the body nor a header gives.
pub(crate) fn read<M: Incoming>(
    request: &mut M,
    query: &str,
    binding: &Binding,
    dialect: &Dialect,
    problems: &mut Problems,
) {
    let (hidden, limit) = (binding.hidden, binding.limit);
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    for (count, pair) in pairs.enumerate() {
        if count == PARAMETERS_MAX {
            return problems.key("query", |p| {
                p.violate(format!("must not have more than {PARAMETERS_MAX} parameters"))
            });
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(name) = decode(name) else {
            problems.key("query", |p| p.refuse(ENCODED, pair));
            continue;
        };
        let Some(value) = decode(value) else {
            problems.key(&name, |p| p.refuse(ENCODED, value));
            continue;
        };
        let is_credential = |source| matches!(source, Source::Query(own) if own == name);
        if dialect
            .credentials
            .iter()
            .any(|credential| is_credential(credential.source))
        {
            continue;
        }
        let (root, rest) = name.split_once('.').unwrap_or((&name, ""));
        let known = dialect.paging.inward(root).and_then(M::find).filter(|field| {
            let proto = M::FIELDS.get(*field).map_or("", |field| field.proto);
            !hidden.contains(&proto)
        });
        match known {
            Some(field) => {
                at_field(request, field, rest, &value, problems);
                if limit == Some(field) {
                    at::<M, _>(field, problems, |problems| bound_limit(&value, dialect, problems));
                }
            }
            None if M::find(root).is_some_and(|_| dialect.paging.inward(root).is_some()) => {
                problems.key(&name, |problems| problems.misname("is no query parameter here"));
            }
            None => unknown::<M>(&name, problems),
        }
    }
}

/// A dialect may have smaller pages than the contract.
fn bound_limit(text: &str, dialect: &Dialect, problems: &mut Problems) {
    let max = dialect.paging.limit_max;
    if text.parse().is_ok_and(|limit: i64| limit > i64::from(max)) {
        problems.refuse(format!("must not be greater than {max}"), text);
    }
}

/// The rule for names and values in a URI.
pub(crate) const ENCODED: &str = "must be UTF-8 with every % followed by two hexadecimal digits";

/// Whether a part of a URI keeps [`ENCODED`]: the decoder alone would take a lone % as it stands.
pub(crate) fn is_encoded(text: &str) -> bool {
    let whole = text.split('%').skip(1).all(|behind| {
        let digits = behind.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    whole && percent_decode_str(text).decode_utf8().is_ok()
}

fn decode(text: &str) -> Option<String> {
    if !is_encoded(text) {
        return None;
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .ok()
        .map(std::borrow::Cow::into_owned)
}

fn at_field<M: Incoming>(message: &mut M, field: usize, rest: &str, text: &str, problems: &mut Problems) {
    at::<M, _>(field, problems, |problems| {
        message.parse_field(field, rest, text, problems)
    });
}

/// Sets the field that a path variable names.
pub(crate) fn set<M: Incoming>(request: &mut M, path: &str, text: &str, problems: &mut Problems) {
    let (root, rest) = path.split_once('.').unwrap_or((path, ""));
    if let Some(field) = M::find(root) {
        at_field(request, field, rest, text, problems);
    }
}

/// Reads a parameter into a message: the rest of its name says which field.
pub(crate) fn parse_into<M: Incoming>(message: &mut M, rest: &str, text: &str, problems: &mut Problems) {
    if rest.is_empty() {
        return problems.violate("must be given field by field, such as filter.word=value");
    }
    let (name, rest) = rest.split_once('.').unwrap_or((rest, ""));
    match M::find(name) {
        Some(field) if M::FIELDS.get(field).is_some_and(|field| !field.output_only) => {
            at_field(message, field, rest, text, problems);
        }
        _ => unknown::<M>(name, problems),
    }
}

/// A field that is never absent.
pub fn one<K: ReadKind>(value: &mut K::Value, rest: &str, text: &str, problems: &mut Problems) {
    if !rest.is_empty() || problems.take_once() {
        K::parse(value, rest, text, problems);
    }
}

/// A field that may be absent.
pub fn optional<K: ReadKind>(value: &mut Option<K::Value>, rest: &str, text: &str, problems: &mut Problems) {
    if !rest.is_empty() || problems.take_once() {
        K::parse(value.get_or_insert_default(), rest, text, problems);
    }
}

/// A member of a oneof that has no fields of its own.
pub fn member<K: ReadKind, O>(
    oneof: &mut Option<O>,
    wrap: fn(K::Value) -> O,
    parameter: (&str, &str),
    problems: &mut Problems,
) {
    let mut value = K::Value::default();
    K::parse(&mut value, parameter.0, parameter.1, problems);
    set_member(oneof, Some(wrap(value)), problems);
}

/// A list: repeated parameters, or values separated by commas.
pub fn list<K: ReadKind>(values: &mut Vec<K::Value>, max: usize, parameter: (&str, &str), problems: &mut Problems) {
    let (rest, text) = parameter;
    for part in text.split(',') {
        if values.len() > max {
            return;
        }
        let mut value = <K as Kind>::Value::default();
        problems.index(values.len(), |problems| K::parse(&mut value, rest, part, problems));
        values.push(value);
    }
}

/// A field that has no form in a query string.
pub fn never(problems: &mut Problems) {
    problems.violate("cannot be given in the query");
}
