//! Kinds of fields: how a value of each is read from JSON and from a query string, and how it is written. Bounds are
//! checked elsewhere; here a value is of its type or it is not.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_types::FieldMask;
use serde::de::Deserializer;

use super::json::{self, Any, Json};
use super::number;
use super::read::{Incoming, Outcome};
use super::writer::{Outgoing, Writer};
use crate::api::check::Problems;
use crate::api::convert;
use crate::model::Timestamp;

/// A kind of field and the type that holds its value.
pub trait Kind {
    /// The type in the generated messages.
    type Value: Default;
}

/// A kind that can be read.
pub trait ReadKind: Kind {
    /// Reads JSON; a value of another type is a problem.
    ///
    /// # Errors
    /// When the text is not JSON.
    fn read<'de, D: Deserializer<'de>>(
        value: &mut Self::Value,
        from: D,
        problems: &mut Problems,
    ) -> Result<Outcome, D::Error>;

    /// Reads a query parameter; `rest` is what its name says behind this field.
    fn parse(value: &mut Self::Value, rest: &str, text: &str, problems: &mut Problems);
}

/// A kind that can be written.
pub trait WriteKind: Kind {
    /// Writes JSON.
    fn write(value: &Self::Value, to: &mut Writer);
}

/// A kind whose JSON has nothing inside it.
pub trait Scalar: Kind {
    /// The value of a JSON value, or the rule that it breaks.
    ///
    /// # Errors
    /// The rule.
    fn take(json: &Json<'_>) -> Result<Self::Value, Cow<'static, str>>;

    /// The value of a text in a query string.
    ///
    /// # Errors
    /// The rule.
    fn take_text(text: &str) -> Result<Self::Value, Cow<'static, str>> {
        Self::take(&Json::Text(Cow::Borrowed(text)))
    }
}

impl<S: Scalar> ReadKind for S {
    fn read<'de, D: Deserializer<'de>>(
        value: &mut Self::Value,
        from: D,
        problems: &mut Problems,
    ) -> Result<Outcome, D::Error> {
        let json = json::read(Any, from)?;
        Ok(take::<S>(value, &json, problems))
    }

    fn parse(value: &mut Self::Value, rest: &str, text: &str, problems: &mut Problems) {
        if !rest.is_empty() {
            return problems.key(rest, |problems| problems.violate("is not a known parameter"));
        }
        match S::take_text(text) {
            Ok(read) => *value = read,
            Err(rule) => problems.refuse(rule, text),
        }
    }
}

/// Takes a JSON value that was read.
pub(super) fn take<S: Scalar>(value: &mut S::Value, json: &Json<'_>, problems: &mut Problems) -> Outcome {
    if *json == Json::Null {
        return Outcome::Null;
    }
    if matches!(json, Json::Text(text) if text.is_empty()) {
        problems.note_empty();
    }
    match S::take(json) {
        Ok(read) => {
            *value = read;
            Outcome::Read
        }
        Err(rule) => {
            problems.refuse(rule, json);
            Outcome::Wrong
        }
    }
}

/// Takes a JSON value as the member of a oneof that it stands for.
pub fn take_inline<S: Scalar, O>(
    oneof: &mut Option<O>,
    wrap: fn(S::Value) -> O,
    json: &Json<'_>,
    problems: &mut Problems,
) -> Outcome {
    let mut value = S::Value::default();
    let outcome = take::<S>(&mut value, json, problems);
    *oneof = Some(wrap(value));
    outcome
}

/// A text.
#[derive(Debug)]
pub struct Text;

impl Kind for Text {
    type Value = String;
}

impl Scalar for Text {
    fn take(json: &Json<'_>) -> Result<String, Cow<'static, str>> {
        match json {
            Json::Text(text) => Ok(text.as_ref().to_owned()),
            _ => Err("must be a string".into()),
        }
    }
}

impl WriteKind for Text {
    fn write(value: &String, to: &mut Writer) {
        to.text(value);
    }
}

/// A truth value.
#[derive(Debug)]
pub struct Bool;

impl Kind for Bool {
    type Value = bool;
}

impl Scalar for Bool {
    fn take(json: &Json<'_>) -> Result<bool, Cow<'static, str>> {
        match json {
            Json::Bool(value) => Ok(*value),
            _ => Err("must be true or false".into()),
        }
    }

    fn take_text(text: &str) -> Result<bool, Cow<'static, str>> {
        text.parse().ok().ok_or("must be true or false".into())
    }
}

impl WriteKind for Bool {
    fn write(value: &bool, to: &mut Writer) {
        to.raw(if *value { "true" } else { "false" });
    }
}

macro_rules! whole_numbers {
    ($($(#[$doc:meta])* $kind:ident = $type:ty),+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $kind;

        impl Kind for $kind {
            type Value = $type;
        }

        impl Scalar for $kind {
            fn take(json: &Json<'_>) -> Result<$type, Cow<'static, str>> {
                let whole = number::whole(json).ok_or("must be a whole number")?;
                <$type>::try_from(whole).ok().ok_or_else(|| {
                    Cow::Owned(format!("must be between {} and {}", <$type>::MIN, <$type>::MAX))
                })
            }
        }

        impl WriteKind for $kind {
            fn write(value: &$type, to: &mut Writer) {
                to.number(value);
            }
        }
    )+};
}

whole_numbers! {
    /// A signed whole number of 32 bits.
    I32 = i32,
    /// A signed whole number of 64 bits.
    I64 = i64,
    /// A whole number of 32 bits.
    U32 = u32,
    /// A whole number of 64 bits.
    U64 = u64
}

/// A number with a fraction.
#[derive(Debug)]
pub struct F64;

impl Kind for F64 {
    type Value = f64;
}

impl Scalar for F64 {
    fn take(json: &Json<'_>) -> Result<f64, Cow<'static, str>> {
        number::float(json).ok_or("must be a number".into())
    }

    fn take_text(text: &str) -> Result<f64, Cow<'static, str>> {
        number::float_text(text).ok_or("must be a number".into())
    }
}

impl WriteKind for F64 {
    fn write(value: &f64, to: &mut Writer) {
        to.float(*value);
    }
}

/// A number with a fraction, of 32 bits.
#[derive(Debug)]
pub struct F32;

impl Kind for F32 {
    type Value = f32;
}

impl Scalar for F32 {
    fn take(json: &Json<'_>) -> Result<f32, Cow<'static, str>> {
        number::narrow(F64::take(json)?).ok_or("must be within 32 bits".into())
    }

    fn take_text(text: &str) -> Result<f32, Cow<'static, str>> {
        number::narrow(F64::take_text(text)?).ok_or("must be within 32 bits".into())
    }
}

impl WriteKind for F32 {
    fn write(value: &f32, to: &mut Writer) {
        to.float32(*value);
    }
}

/// Bytes, in base64.
#[derive(Debug)]
pub struct Bytes;

impl Kind for Bytes {
    type Value = Vec<u8>;
}

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

impl Scalar for Bytes {
    fn take(json: &Json<'_>) -> Result<Vec<u8>, Cow<'static, str>> {
        let Json::Text(text) = json else {
            return Err("must be a string in base64".into());
        };
        let engine = if text.contains(['-', '_']) {
            &URL_SAFE
        } else {
            &STANDARD
        };
        engine.decode(text.as_bytes()).ok().ok_or("must be base64".into())
    }
}

impl WriteKind for Bytes {
    fn write(value: &Vec<u8>, to: &mut Writer) {
        to.text(&STANDARD.encode(value));
    }
}

/// The words of an enum.
#[derive(Debug)]
pub struct Words {
    /// The values, without the one that means not set.
    pub values: &'static [Word],
}

/// One value of an enum.
#[derive(Debug)]
pub struct Word {
    /// Its number in the contract.
    pub number: i32,
    /// Its word.
    pub word: &'static str,
    /// Its proto name without the enum's prefix.
    pub suffix: &'static str,
    /// Its proto name.
    pub proto: &'static str,
}

impl Words {
    /// The value of a word or of a proto name.
    #[must_use]
    pub fn number(&self, text: &str) -> Option<i32> {
        let value = self
            .values
            .iter()
            .find(|value| value.word == text || value.proto == text)?;
        Some(value.number)
    }

    /// The value of a number.
    #[must_use]
    pub fn of(&self, number: i32) -> Option<&'static Word> {
        self.values.iter().find(|value| value.number == number)
    }

    /// Whether a number is a value that may be sent.
    #[must_use]
    pub fn knows(&self, number: i32) -> bool {
        self.of(number).is_some()
    }

    /// All words, for a sentence.
    #[must_use]
    pub fn list(&self) -> String {
        self.values
            .iter()
            .map(|value| value.word)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// An enum with its words.
pub trait Worded {
    /// The words.
    const WORDS: &'static Words;
}

/// A value of an enum.
#[derive(Debug)]
pub struct Enum<E>(PhantomData<E>);

impl<E: Worded> Kind for Enum<E> {
    type Value = i32;
}

impl<E: Worded> Scalar for Enum<E> {
    fn take(json: &Json<'_>) -> Result<i32, Cow<'static, str>> {
        let number = match json {
            Json::Text(text) => E::WORDS.number(text),
            _ => None,
        };
        number.ok_or_else(|| format!("must be one of {}", E::WORDS.list()).into())
    }
}

impl<E: Worded> WriteKind for Enum<E> {
    fn write(value: &i32, to: &mut Writer) {
        to.word(*value, E::WORDS);
    }
}

/// An instant: RFC 3339 or unix seconds.
#[derive(Debug)]
pub struct Instant;

impl Kind for Instant {
    type Value = prost_types::Timestamp;
}

impl Scalar for Instant {
    fn take(json: &Json<'_>) -> Result<prost_types::Timestamp, Cow<'static, str>> {
        const RANGE: &str = "must be in the years 1 to 9999";
        let instant = match json {
            Json::Text(text) => text.parse::<Timestamp>()?,
            Json::Signed(_) | Json::Unsigned(_) | Json::Float(_) => number::unix_millis(json)
                .and_then(Timestamp::from_millis)
                .ok_or(RANGE)?,
            Json::Null | Json::Bool(_) | Json::List | Json::Object => {
                return Err("must be an RFC 3339 timestamp such as 2024-01-15T09:30:00.000Z, or unix seconds".into());
            }
        };
        Ok(convert::timestamp(instant))
    }

    fn take_text(text: &str) -> Result<prost_types::Timestamp, Cow<'static, str>> {
        match number::text(text) {
            Some(number) => Self::take(&number),
            None => Self::take(&Json::Text(Cow::Borrowed(text))),
        }
    }
}

impl WriteKind for Instant {
    fn write(value: &prost_types::Timestamp, to: &mut Writer) {
        to.instant(value);
    }
}

/// A length of time, such as `1.5s`.
#[derive(Debug)]
pub struct Span;

impl Kind for Span {
    type Value = prost_types::Duration;
}

impl Scalar for Span {
    fn take(json: &Json<'_>) -> Result<prost_types::Duration, Cow<'static, str>> {
        let span = match json {
            Json::Text(text) => number::span(text),
            _ => None,
        };
        span.ok_or("must be a length of time in seconds such as 1.5s".into())
    }
}

impl WriteKind for Span {
    fn write(value: &prost_types::Duration, to: &mut Writer) {
        to.text(&number::span_text(value));
    }
}

/// Names of fields, in lowerCamelCase and separated by commas.
#[derive(Debug)]
pub struct Mask;

impl Kind for Mask {
    type Value = FieldMask;
}

impl Scalar for Mask {
    fn take(json: &Json<'_>) -> Result<FieldMask, Cow<'static, str>> {
        const RULE: Cow<'static, str> =
            Cow::Borrowed("must be names of fields separated by commas, such as name,statusMessage");
        let Json::Text(text) = json else { return Err(RULE) };
        let names = text.split(',').filter(|_| !text.is_empty());
        let paths: Option<Vec<String>> = names.map(snake).collect();
        Ok(FieldMask {
            paths: paths.ok_or(RULE)?,
        })
    }
}

impl WriteKind for Mask {
    fn write(value: &FieldMask, to: &mut Writer) {
        to.text(&value.paths.iter().map(|path| camel(path)).collect::<Vec<_>>().join(","));
    }
}

fn snake(name: &str) -> Option<String> {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        } else if !(letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '.') {
            return None;
        }
        snake.push(letter.to_ascii_lowercase());
    }
    let whole = snake.split('.').all(|part| !part.is_empty() && !part.starts_with('_'));
    whole.then_some(snake)
}

fn camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for letter in name.chars() {
        if letter == '_' {
            upper = true;
        } else {
            camel.push(if upper { letter.to_ascii_uppercase() } else { letter });
            upper = false;
        }
    }
    camel
}

/// A message.
#[derive(Debug)]
pub struct Msg<M>(PhantomData<M>);

impl<M: Default> Kind for Msg<M> {
    type Value = M;
}

impl<M: Incoming> ReadKind for Msg<M> {
    fn read<'de, D: Deserializer<'de>>(value: &mut M, from: D, problems: &mut Problems) -> Result<Outcome, D::Error> {
        value.read(from, problems)
    }

    fn parse(value: &mut M, rest: &str, text: &str, problems: &mut Problems) {
        super::query::parse_into(value, rest, text, problems);
    }
}

impl<M: Outgoing + Default> WriteKind for Msg<M> {
    fn write(value: &M, to: &mut Writer) {
        value.write(to);
    }
}

/// A kind that can be the key of a map.
pub trait KeyKind {
    /// The type in the generated messages.
    type Value: Ord + Clone;

    /// The key of an object member's name.
    fn key(name: &str) -> Option<Self::Value>;

    /// The rule for such names.
    const RULE: &'static str;

    /// Writes the name, without quotes.
    fn write(key: &Self::Value, to: &mut Writer);
}

impl KeyKind for Text {
    type Value = String;

    fn key(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    const RULE: &'static str = "must be a string";

    fn write(key: &String, to: &mut Writer) {
        to.text(key);
    }
}

macro_rules! plain_keys {
    ($($kind:ident = $type:ty, $rule:literal);+) => {$(
        impl KeyKind for $kind {
            type Value = $type;

            fn key(name: &str) -> Option<$type> {
                name.parse().ok()
            }

            const RULE: &'static str = $rule;

            fn write(key: &$type, to: &mut Writer) {
                to.text(&key.to_string());
            }
        }
    )+};
}

plain_keys! {
    Bool = bool, "must have a key that is true or false";
    I32 = i32, "must have a key that is a whole number of 32 bits";
    I64 = i64, "must have a key that is a whole number of 64 bits";
    U32 = u32, "must have a key that is a whole number of 32 bits";
    U64 = u64, "must have a key that is a whole number of 64 bits"
}

/// Writes a list.
pub fn write_list<K: WriteKind>(values: &[K::Value], to: &mut Writer) {
    to.open('[');
    for value in values {
        to.comma();
        K::write(value, to);
    }
    to.raw("]");
}

/// Writes a map, ordered by key.
pub fn write_map<N: KeyKind, K: WriteKind>(values: &BTreeMap<N::Value, K::Value>, to: &mut Writer) {
    to.open('{');
    for (key, value) in values {
        to.comma();
        N::write(key, to);
        to.raw(":");
        K::write(value, to);
    }
    to.raw("}");
}
