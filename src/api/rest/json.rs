//! One JSON value from a streaming reader, whatever its type: what a type does not take is read to its end, so that the
//! reader can go on behind it. Nothing here knows what a value is for.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A JSON value without what is inside it.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'de> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number below zero.
    Signed(i64),
    /// A whole number.
    Unsigned(u64),
    /// A number with a fraction or an exponent, or one too large for 64 bits.
    Float(f64),
    /// A string.
    Text(Cow<'de, str>),
    /// An array, read to its end.
    List,
    /// An object, read to its end.
    Object,
}

/// As a problem repeats it.
impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Signed(value) => value.fmt(f),
            Self::Unsigned(value) => value.fmt(f),
            // With an exponent where that is shorter.
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(value) => value.fmt(f),
            Self::List => f.write_str("[…]"),
            Self::Object => f.write_str("{…}"),
        }
    }
}

/// What becomes of a JSON value, by its type.
pub(super) trait Shape<'de>: Sized {
    /// What reading gives.
    type Output;

    /// A value with nothing inside, or one that was read to its end.
    fn scalar(self, json: Json<'de>) -> Self::Output;

    /// An array.
    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Output, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.scalar(Json::List))
    }

    /// An object.
    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Output, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self.scalar(Json::Object))
    }
}

/// Reads a value in a shape.
pub(super) fn read<'de, S: Shape<'de>, D: Deserializer<'de>>(shape: S, from: D) -> Result<S::Output, D::Error> {
    from.deserialize_any(Visit(shape, PhantomData))
}

struct Visit<'de, S>(S, PhantomData<&'de ()>);

impl<'de, S: Shape<'de>> Visitor<'de> for Visit<'de, S> {
    type Value = S::Output;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<S::Output, E> {
        Ok(self.0.scalar(Json::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<S::Output, E> {
        Ok(self.0.scalar(Json::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<S::Output, E> {
        Ok(self.0.scalar(Json::Signed(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<S::Output, E> {
        Ok(self.0.scalar(Json::Unsigned(value)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<S::Output, E> {
        Ok(self.0.scalar(Json::Float(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<S::Output, E> {
        Ok(self.0.scalar(Json::Text(Cow::Owned(value.to_owned()))))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<S::Output, E> {
        Ok(self.0.scalar(Json::Text(Cow::Borrowed(value))))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<S::Output, E> {
        Ok(self.0.scalar(Json::Text(Cow::Owned(value))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<S::Output, A::Error> {
        self.0.list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<S::Output, A::Error> {
        self.0.object(object)
    }
}

/// Any value, without what is inside it.
pub(super) struct Any;

impl<'de> Shape<'de> for Any {
    type Output = Json<'de>;

    fn scalar(self, json: Json<'de>) -> Json<'de> {
        json
    }
}

/// The name of an object's member, borrowed from the input where it has no escapes.
pub(super) struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        match read(Any, from)? {
            Json::Text(name) => Ok(name),
            other => Ok(Cow::Owned(other.to_string())),
        }
    }
}
