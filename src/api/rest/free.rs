//! Free JSON: values of any shape, as the contract's `Struct`, `Value` and `ListValue` hold them. Nesting is bounded while
//! reading; sizes are checked elsewhere.

use std::collections::BTreeMap;

use prost_types::value::Kind as Held;
use prost_types::{ListValue, Struct, Value};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess};

use super::json::{self, Json, Name, Shape};
use super::kind::{Kind, ReadKind, WriteKind};
use super::number;
use super::read::Outcome;
use super::writer::Writer;
use crate::api::check::rules::{self, DEPTH_MAX};
use crate::api::check::{Place, Problems};

/// A JSON object of any shape.
#[derive(Debug)]
pub struct Object;

/// A JSON array of any shape.
#[derive(Debug)]
pub struct List;

/// Any JSON.
#[derive(Debug)]
pub struct AnyJson;

impl Kind for Object {
    type Value = Struct;
}

impl Kind for List {
    type Value = ListValue;
}

impl Kind for AnyJson {
    type Value = Value;
}

/// Free JSON has no place in a query string.
fn refuse_text(problems: &mut Problems) {
    problems.violate("cannot be given in the query");
}

/// Values in one piece of free JSON that are kept: more than fit into the largest one, so that its bound in bytes finds
/// the same, and few enough that a body of empty lists does not grow tenfold.
const VALUES_MAX: usize = 65_536;

fn read_value<'de, D: Deserializer<'de>>(from: D, problems: &mut Problems) -> Result<Value, D::Error> {
    let mut reading = Reading {
        problems,
        left: VALUES_MAX,
    };
    let place = Place::Root;
    let value = json::read(reading.at(&place, 0), from)?;
    if reading.left == 0 {
        let rule = format!("must not hold more than {VALUES_MAX} values");
        reading.problems.violate(rule);
    }
    Ok(value)
}

impl ReadKind for Object {
    fn read<'de, D: Deserializer<'de>>(
        value: &mut Struct,
        from: D,
        problems: &mut Problems,
    ) -> Result<Outcome, D::Error> {
        let read = read_value(from, problems)?;
        Ok(match read.kind {
            Some(Held::StructValue(object)) => {
                *value = object;
                Outcome::Read
            }
            Some(Held::NullValue(_)) | None => Outcome::Null,
            Some(other) => wrong("must be an object", &other, problems),
        })
    }

    fn parse(_: &mut Struct, _: &str, _: &str, problems: &mut Problems) {
        refuse_text(problems);
    }
}

impl ReadKind for List {
    fn read<'de, D: Deserializer<'de>>(
        value: &mut ListValue,
        from: D,
        problems: &mut Problems,
    ) -> Result<Outcome, D::Error> {
        let read = read_value(from, problems)?;
        Ok(match read.kind {
            Some(Held::ListValue(list)) => {
                *value = list;
                Outcome::Read
            }
            Some(Held::NullValue(_)) | None => Outcome::Null,
            Some(other) => wrong("must be an array", &other, problems),
        })
    }

    fn parse(_: &mut ListValue, _: &str, _: &str, problems: &mut Problems) {
        refuse_text(problems);
    }
}

impl ReadKind for AnyJson {
    fn read<'de, D: Deserializer<'de>>(
        value: &mut Value,
        from: D,
        problems: &mut Problems,
    ) -> Result<Outcome, D::Error> {
        *value = read_value(from, problems)?;
        let null = matches!(value.kind, Some(Held::NullValue(_)) | None);
        Ok(if null { Outcome::Null } else { Outcome::Read })
    }

    fn parse(_: &mut Value, _: &str, _: &str, problems: &mut Problems) {
        refuse_text(problems);
    }
}

fn wrong(rule: &str, held: &Held, problems: &mut Problems) -> Outcome {
    match held {
        Held::StructValue(_) => problems.refuse(rule, Json::Object),
        Held::ListValue(_) => problems.refuse(rule, Json::List),
        Held::StringValue(text) => problems.refuse(rule, text),
        Held::NumberValue(number) => problems.refuse(rule, number),
        Held::BoolValue(value) => problems.refuse(rule, value),
        Held::NullValue(_) => problems.violate(rule),
    }
    Outcome::Wrong
}

/// What is shared while one piece of free JSON is read.
struct Reading<'p> {
    problems: &'p mut Problems,
    /// Values that may still come.
    left: usize,
}

impl<'p> Reading<'p> {
    fn at<'r>(&'r mut self, place: &'r Place<'r>, depth: usize) -> Free<'r, 'p> {
        Free {
            reading: self,
            place,
            depth,
        }
    }
}

/// A value at a place, with its depth counted in objects and arrays around it.
struct Free<'r, 'p> {
    reading: &'r mut Reading<'p>,
    place: &'r Place<'r>,
    depth: usize,
}

impl Free<'_, '_> {
    /// Whether what is inside is read past: because it is nested too deep, or there were too many values before.
    fn is_skipped(&mut self, received: &Json<'_>) -> bool {
        if self.depth < DEPTH_MAX {
            return self.reading.left == 0;
        }
        let problems = &mut *self.reading.problems;
        self.place
            .look(problems, |problems| problems.refuse(rules::too_deep(), received));
        true
    }
}

impl<'de> Shape<'de> for Free<'_, '_> {
    type Output = Value;

    fn scalar(self, json: Json<'de>) -> Value {
        self.reading.left = self.reading.left.saturating_sub(1);
        let held = match json {
            Json::Null | Json::List | Json::Object => Held::NullValue(0),
            Json::Bool(value) => Held::BoolValue(value),
            Json::Text(text) => Held::StringValue(text.into_owned()),
            other => Held::NumberValue(number::float(&other).unwrap_or_default()),
        };
        Value { kind: Some(held) }
    }

    fn list<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        if !self.is_skipped(&Json::List) {
            self.reading.left -= 1;
            while self.reading.left > 0 {
                let place = Place::Index(self.place, values.len());
                let Some(value) = list.next_element_seed(self.reading.at(&place, self.depth + 1))? else {
                    break;
                };
                values.push(value);
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value {
            kind: Some(Held::ListValue(ListValue { values })),
        })
    }

    fn object<A: MapAccess<'de>>(mut self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = BTreeMap::new();
        if !self.is_skipped(&Json::Object) {
            self.reading.left -= 1;
            while self.reading.left > 0 {
                let Some(name) = object.next_key_seed(Name)? else {
                    break;
                };
                let place = Place::Key(self.place, &name);
                let value = object.next_value_seed(self.reading.at(&place, self.depth + 1))?;
                if fields.insert(name.clone().into_owned(), value).is_some() {
                    let problems = &mut *self.reading.problems;
                    place.look(problems, |problems| problems.violate("must not be given twice"));
                }
            }
        }
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value {
            kind: Some(Held::StructValue(Struct { fields })),
        })
    }
}

impl<'de> DeserializeSeed<'de> for Free<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        json::read(self, from)
    }
}

impl WriteKind for Object {
    fn write(value: &Struct, to: &mut Writer) {
        to.open('{');
        for (key, value) in &value.fields {
            to.comma();
            to.text(key);
            to.raw(":");
            AnyJson::write(value, to);
        }
        to.raw("}");
    }
}

impl WriteKind for List {
    fn write(value: &ListValue, to: &mut Writer) {
        to.open('[');
        for value in &value.values {
            to.comma();
            AnyJson::write(value, to);
        }
        to.raw("]");
    }
}

impl WriteKind for AnyJson {
    fn write(value: &Value, to: &mut Writer) {
        match &value.kind {
            None | Some(Held::NullValue(_)) => to.raw("null"),
            Some(Held::BoolValue(value)) => to.raw(if *value { "true" } else { "false" }),
            Some(Held::NumberValue(number)) => to.float(*number),
            Some(Held::StringValue(text)) => to.text(text),
            Some(Held::ListValue(list)) => List::write(list, to),
            Some(Held::StructValue(object)) => Object::write(object, to),
        }
    }
}

/// The bytes of an object's compact JSON.
#[must_use]
pub fn object_size(value: &Struct) -> usize {
    Writer::measure(|to| Object::write(value, to))
}

/// The bytes of a list's compact JSON.
#[must_use]
pub fn list_size(value: &ListValue) -> usize {
    Writer::measure(|to| List::write(value, to))
}

/// The bytes of a value's compact JSON.
#[must_use]
pub fn value_size(value: &Value) -> usize {
    Writer::measure(|to| AnyJson::write(value, to))
}
