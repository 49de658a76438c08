//! The JSON reader: messages, lists and maps out of a stream, every problem noted with its path. Only text that is not
//! JSON stops it; it knows no message by name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess};

use super::json::{self, Json, Name, Shape};
use super::kind::{KeyKind, Kind, ReadKind};
use crate::api::check::rules::DEPTH_MAX;
use crate::api::check::{Checked, Problems};

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was `null`: absent.
    Null,
    /// It was of another type; the problem is noted.
    Wrong,
    /// It was read.
    Read,
}

/// A message that can be read.
pub trait Incoming: Checked {
    /// The field of a JSON name or a proto name.
    fn find(name: &str) -> Option<usize>;

    /// Reads one field.
    ///
    /// # Errors
    /// When the text is not JSON.
    fn read_field<'de, D: Deserializer<'de>>(
        &mut self,
        field: usize,
        from: D,
        problems: &mut Problems,
    ) -> Result<(), D::Error>;

    /// Reads one field from a query parameter; `rest` is what its name says behind this field.
    fn parse_field(&mut self, field: usize, rest: &str, text: &str, problems: &mut Problems);

    /// Reads the whole message.
    ///
    /// # Errors
    /// When the text is not JSON.
    fn read<'de, D: Deserializer<'de>>(&mut self, from: D, problems: &mut Problems) -> Result<Outcome, D::Error> {
        json::read(
            Members {
                message: self,
                problems,
            },
            from,
        )
    }
}

/// A message that stands in JSON as the value of its oneof.
pub trait InlineOneof: Incoming {
    /// What the value may be, for a sentence.
    const EXPECTED: &'static str;

    /// The member whose message has a field of this name.
    fn member(name: &str) -> Option<usize>;

    /// Takes a value with nothing inside it.
    fn take(&mut self, json: &Json<'_>, problems: &mut Problems) -> Outcome;

    /// Reads the members of an object into the message of a member.
    ///
    /// # Errors
    /// When the text is not JSON.
    fn read_member<'de, A: MapAccess<'de>>(
        &mut self,
        member: usize,
        first: Cow<'de, str>,
        object: A,
        problems: &mut Problems,
    ) -> Result<(), A::Error>;
}

/// Looks at a field of a message meanwhile.
pub fn at<M: Checked, R>(field: usize, problems: &mut Problems, look: impl FnOnce(&mut Problems) -> R) -> R {
    match M::FIELDS.get(field) {
        Some(field) if field.secret => problems.secret(field.json, look),
        Some(field) => problems.field(field.json, look),
        None => look(problems),
    }
}

/// Reads a field that is never absent; `null` is its default.
///
/// # Errors
/// When the text is not JSON.
pub fn one<'de, K: ReadKind, D: Deserializer<'de>>(
    value: &mut K::Value,
    from: D,
    problems: &mut Problems,
) -> Result<(), D::Error> {
    K::read(value, from, problems).map(|_| ())
}

/// Reads a field that may be absent. One of the wrong type is there all the same, so that it is not also missing.
///
/// # Errors
/// When the text is not JSON.
pub fn optional<'de, K: ReadKind, D: Deserializer<'de>>(
    value: &mut Option<K::Value>,
    from: D,
    problems: &mut Problems,
) -> Result<(), D::Error> {
    let mut read = K::Value::default();
    let outcome = K::read(&mut read, from, problems)?;
    *value = (outcome != Outcome::Null).then_some(read);
    Ok(())
}

/// Reads a member of a oneof.
///
/// # Errors
/// When the text is not JSON.
pub fn member<'de, K: ReadKind, O, D: Deserializer<'de>>(
    oneof: &mut Option<O>,
    wrap: fn(K::Value) -> O,
    from: D,
    problems: &mut Problems,
) -> Result<(), D::Error> {
    let mut read = None;
    optional::<K, D>(&mut read, from, problems)?;
    set_member(oneof, read.map(wrap), problems);
    Ok(())
}

/// Sets a oneof, unless another member is set.
pub fn set_member<O>(oneof: &mut Option<O>, value: Option<O>, problems: &mut Problems) {
    match value {
        Some(_) if oneof.is_some() => problems.violate("must not be set beside another field of its choice"),
        Some(value) => *oneof = Some(value),
        None => {}
    }
}

/// Reads a list of at most so many elements; `null` is an empty one.
///
/// # Errors
/// When the text is not JSON.
pub fn list<'de, K: ReadKind, D: Deserializer<'de>>(
    values: &mut Vec<K::Value>,
    max: usize,
    from: D,
    problems: &mut Problems,
) -> Result<(), D::Error> {
    values.clear();
    let shape = Elements::<K> { values, max, problems };
    json::read(shape, from).map(|_| ())
}

/// Reads a map of at most so many entries; `null` is an empty one.
///
/// # Errors
/// When the text is not JSON.
pub fn map<'de, N: KeyKind, K: ReadKind, D: Deserializer<'de>>(
    values: &mut BTreeMap<N::Value, K::Value>,
    max: usize,
    from: D,
    problems: &mut Problems,
) -> Result<Outcome, D::Error> {
    values.clear();
    let shape = Entries::<N, K> { values, max, problems };
    json::read(shape, from)
}

/// Reads a message that stands as the value of its oneof.
///
/// # Errors
/// When the text is not JSON.
pub fn inline_oneof<'de, M: InlineOneof, D: Deserializer<'de>>(
    message: &mut M,
    from: D,
    problems: &mut Problems,
) -> Result<Outcome, D::Error> {
    json::read(Inline { message, problems }, from)
}

/// Reads the members of an object, of which the first name may have been read before.
///
/// # Errors
/// When the text is not JSON.
pub fn members<'de, M: Incoming, A: MapAccess<'de>>(
    message: &mut M,
    first: Option<Cow<'de, str>>,
    mut object: A,
    problems: &mut Problems,
) -> Result<(), A::Error> {
    let root = problems.is_body_root();
    let mut seen = 0_u128;
    let mut name = match first {
        None => object.next_key_seed(Name)?,
        first => first,
    };
    while let Some(known) = name {
        match M::find(&known) {
            None => {
                object.next_value::<IgnoredAny>()?;
                unknown::<M>(&known, problems);
            }
            Some(field) if seen & (1 << field) != 0 => {
                object.next_value::<IgnoredAny>()?;
                at::<M, _>(field, problems, |problems| problems.misname("must not be given twice"));
            }
            Some(field) => {
                seen |= 1 << field;
                if root {
                    problems.note_present(M::FIELDS.get(field));
                }
                let value = Value {
                    message: &mut *message,
                    field,
                    problems: &mut *problems,
                };
                object.next_value_seed(value)?;
            }
        }
        name = object.next_key_seed(Name)?;
    }
    Ok(())
}

/// Reads past a value.
///
/// # Errors
/// When the text is not JSON.
pub fn skip<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
    serde::Deserialize::deserialize(from).map(|_: IgnoredAny| ())
}

/// Reads past an object of which a name was read.
///
/// # Errors
/// When the text is not JSON.
pub fn skip_members<'de, A: MapAccess<'de>>(mut object: A) -> Result<(), A::Error> {
    object.next_value::<IgnoredAny>()?;
    while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Notes a value that fits no member of a oneof.
pub fn refuse_inline<M: InlineOneof>(json: &Json<'_>, problems: &mut Problems) -> Outcome {
    problems.refuse(format!("must be {}", M::EXPECTED), json);
    Outcome::Wrong
}

/// Notes a name that no field has, with the one that may have been meant.
pub(super) fn unknown<M: Checked>(name: &str, problems: &mut Problems) {
    let near = M::FIELDS
        .iter()
        .map(|field| field.json)
        .find(|known| *known != name && is_near(known, name));
    problems.key(name, |problems| match near {
        Some(near) => problems.misname(format!("is not a known field, did you mean {near}")),
        None => problems.misname("is not a known field"),
    });
}

/// Whether a name differs from a known one by case, one letter, or two that changed places.
fn is_near(known: &str, name: &str) -> bool {
    if known.eq_ignore_ascii_case(name) {
        return true;
    }
    let (known, name) = (known.as_bytes(), name.as_bytes());
    if known.len().abs_diff(name.len()) > 1 || name.len() < 3 {
        return false;
    }
    let front = known.iter().zip(name).take_while(|(a, b)| a == b).count();
    let (known, name) = (known.split_at(front).1, name.split_at(front).1);
    match (known, name) {
        ([a, b, known @ ..], [c, d, name @ ..]) if a == d && b == c => known == name,
        ([_, known @ ..], [_, name @ ..]) if known.len() == name.len() => known == name,
        ([_, known @ ..], name) if known.len() == name.len() => known == name,
        (known, [_, name @ ..]) => known == name,
        _ => false,
    }
}

/// A message's field that is next in the stream.
struct Value<'a, M> {
    message: &'a mut M,
    field: usize,
    problems: &'a mut Problems,
}

impl<'de, M: Incoming> DeserializeSeed<'de> for Value<'_, M> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let Self {
            message,
            field,
            problems,
        } = self;
        if M::FIELDS.get(field).is_some_and(|field| field.output_only) {
            return skip(from);
        }
        at::<M, _>(field, problems, |problems| message.read_field(field, from, problems))
    }
}

fn too_deep(problems: &mut Problems) -> bool {
    let deep = problems.depth() >= DEPTH_MAX;
    if deep {
        problems.violate(format!("must not be nested deeper than {DEPTH_MAX} levels"));
    }
    deep
}

/// An object as a message.
struct Members<'a, M> {
    message: &'a mut M,
    problems: &'a mut Problems,
}

impl<'de, M: Incoming> Shape<'de> for Members<'_, M> {
    type Output = Outcome;

    fn scalar(self, json: Json<'de>) -> Outcome {
        if json == Json::Null {
            return Outcome::Null;
        }
        self.problems.refuse("must be an object", json);
        Outcome::Wrong
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<Outcome, A::Error> {
        if too_deep(self.problems) {
            while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Outcome::Wrong);
        }
        members(self.message, None, object, self.problems)?;
        Ok(Outcome::Read)
    }
}

/// Any value as the member of a oneof that it fits.
struct Inline<'a, M> {
    message: &'a mut M,
    problems: &'a mut Problems,
}

impl<'de, M: InlineOneof> Shape<'de> for Inline<'_, M> {
    type Output = Outcome;

    fn scalar(self, json: Json<'de>) -> Outcome {
        match json {
            Json::Null => Outcome::Null,
            json => self.message.take(&json, self.problems),
        }
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<Outcome, A::Error> {
        if too_deep(self.problems) {
            while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Outcome::Wrong);
        }
        let mut unknown = Vec::new();
        while let Some(name) = object.next_key_seed(Name)? {
            if let Some(member) = M::member(&name) {
                for name in unknown {
                    self.problems
                        .key(name, |problems: &mut Problems| problems.misname("is not a known field"));
                }
                self.message.read_member(member, name, object, self.problems)?;
                return Ok(Outcome::Read);
            }
            object.next_value::<IgnoredAny>()?;
            // More than can be named need not be kept.
            if unknown.len() < Problems::NAMED_MAX {
                unknown.push(name);
            }
        }
        let received = if unknown.is_empty() { "{}" } else { "{…}" };
        self.problems.refuse(format!("must be {}", M::EXPECTED), received);
        Ok(Outcome::Wrong)
    }
}

/// An array as a list.
struct Elements<'a, K: Kind> {
    values: &'a mut Vec<K::Value>,
    max: usize,
    problems: &'a mut Problems,
}

impl<'de, K: ReadKind> Shape<'de> for Elements<'_, K> {
    type Output = Outcome;

    fn scalar(self, json: Json<'de>) -> Outcome {
        if json == Json::Null {
            return Outcome::Null;
        }
        self.problems.refuse("must be an array", json);
        Outcome::Wrong
    }

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<Outcome, A::Error> {
        // What is beyond the bound is counted and not kept: a body of empty objects would grow a hundredfold.
        while self.values.len() < self.max {
            let element = Element::<K> {
                values: &mut *self.values,
                problems: &mut *self.problems,
            };
            if list.next_element_seed(element)?.is_none() {
                return Ok(Outcome::Read);
            }
        }
        let mut count = self.max;
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        crate::api::check::rules::count(count, 0, self.max, self.problems);
        Ok(Outcome::Read)
    }
}

struct Element<'a, K: Kind> {
    values: &'a mut Vec<K::Value>,
    problems: &'a mut Problems,
}

impl<'de, K: ReadKind> DeserializeSeed<'de> for Element<'_, K> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let mut value = K::Value::default();
        self.problems.index(self.values.len(), |problems| {
            if K::read(&mut value, from, problems)? == Outcome::Null {
                problems.violate("must not be null");
            }
            Ok(())
        })?;
        self.values.push(value);
        Ok(())
    }
}

/// An object as a map.
struct Entries<'a, N: KeyKind, K: Kind> {
    values: &'a mut BTreeMap<N::Value, K::Value>,
    max: usize,
    problems: &'a mut Problems,
}

impl<'de, N: KeyKind, K: ReadKind> Shape<'de> for Entries<'_, N, K> {
    type Output = Outcome;

    fn scalar(self, json: Json<'de>) -> Outcome {
        if json == Json::Null {
            return Outcome::Null;
        }
        self.problems.refuse("must be an object", json);
        Outcome::Wrong
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<Outcome, A::Error> {
        let Self { values, max, problems } = self;
        let mut count = 0_usize;
        while let Some(name) = object.next_key_seed(Name)? {
            count += 1;
            let Some(key) = N::key(&name) else {
                object.next_value::<IgnoredAny>()?;
                problems.key(&name, |problems| problems.violate(N::RULE));
                continue;
            };
            if values.contains_key(&key) {
                object.next_value::<IgnoredAny>()?;
                problems.key(&name, |problems| problems.misname("must not be given twice"));
                continue;
            }
            if values.len() == max {
                object.next_value::<IgnoredAny>()?;
                continue;
            }
            let entry = problems.key(&name, |problems| {
                object.next_value_seed(Entry::<K>(problems, PhantomData))
            })?;
            values.insert(key, entry);
        }
        crate::api::check::rules::count(count, 0, max, problems);
        Ok(Outcome::Read)
    }
}

struct Entry<'a, K>(&'a mut Problems, PhantomData<K>);

impl<'de, K: ReadKind> DeserializeSeed<'de> for Entry<'_, K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<K::Value, D::Error> {
        let mut value = K::Value::default();
        if K::read(&mut value, from, self.0)? == Outcome::Null {
            self.0.violate("must not be null");
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_one_slip_away() {
        for name in [
            "statusmessage",
            "statusMesage",
            "statusMessagee",
            "statusMessgae",
            "statusMessagf",
            "ttatusMessage",
        ] {
            assert!(is_near("statusMessage", name), "{name}");
        }
        for name in ["status", "statusMess", "x", "messageStatus"] {
            assert!(!is_near("statusMessage", name), "{name}");
        }
    }
}
