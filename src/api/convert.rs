//! Well-known protobuf types to the model's types and back. Nothing here knows a message of the contract.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::{Map, Number, Value as Json};

use crate::model::Timestamp;

/// An instant as protobuf writes it.
#[must_use]
pub fn timestamp(instant: Timestamp) -> prost_types::Timestamp {
    let millis = instant.millis();
    let nanos = i32::try_from(millis.rem_euclid(1_000)).unwrap_or_default() * 1_000_000;
    prost_types::Timestamp {
        seconds: millis.div_euclid(1_000),
        nanos,
    }
}

/// The model's instant, cut to milliseconds; `None` outside the years 1 to 9999 or with nanoseconds out of range.
#[must_use]
pub fn instant(timestamp: &prost_types::Timestamp) -> Option<Timestamp> {
    if !(0..1_000_000_000).contains(&timestamp.nanos) {
        return None;
    }
    let millis = timestamp
        .seconds
        .checked_mul(1_000)?
        .checked_add(i64::from(timestamp.nanos) / 1_000_000)?;
    Timestamp::from_millis(millis)
}

/// A protobuf struct as a JSON object. A number that is whole and small enough to be exact is written without a fraction.
#[must_use]
pub fn object(fields: Struct) -> Map<String, Json> {
    fields
        .fields
        .into_iter()
        .map(|(key, value)| (key, json(value)))
        .collect()
}

/// A JSON object as a protobuf struct. Numbers become doubles, as the type has no others.
#[must_use]
pub fn structure(object: Map<String, Json>) -> Struct {
    Struct {
        fields: object.into_iter().map(|(key, value)| (key, value_of(value))).collect(),
    }
}

/// A number of bytes or lines as the contract carries it.
#[must_use]
pub fn long(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count as the contract carries it.
#[must_use]
pub fn count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn json(value: Value) -> Json {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => Json::Bool(flag),
        Some(Kind::NumberValue(number)) => self::number(number),
        Some(Kind::StringValue(text)) => Json::String(text),
        Some(Kind::ListValue(list)) => Json::Array(list.values.into_iter().map(json).collect()),
        Some(Kind::StructValue(fields)) => Json::Object(object(fields)),
    }
}

fn number(number: f64) -> Json {
    // Beyond 2^53 a double no longer holds every whole number, so it keeps its own notation there.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        let text = format!("{number:.0}");
        if let Ok(whole) = text.parse::<i64>() {
            return Json::Number(whole.into());
        }
    }
    Number::from_f64(number).map_or(Json::Null, Json::Number)
}

fn value_of(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(flag),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => Kind::ListValue(ListValue {
            values: values.into_iter().map(value_of).collect(),
        }),
        Json::Object(fields) => Kind::StructValue(structure(fields)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_before_the_epoch_keep_their_milliseconds() {
        let early = Timestamp::from_millis(-1).unwrap();
        let wire = timestamp(early);
        assert_eq!((wire.seconds, wire.nanos), (-1, 999_000_000));
        assert_eq!(instant(&wire), Some(early));
        assert_eq!(
            instant(&prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0
            }),
            None
        );
        assert_eq!(instant(&prost_types::Timestamp { seconds: 0, nanos: -1 }), None);
    }

    #[test]
    fn an_object_survives_the_round_trip_with_whole_numbers_whole() {
        let json: Json = serde_json::json!({"a": 1, "b": 1.5, "c": [null, true, "x", {"d": -3}]});
        let Json::Object(map) = json.clone() else {
            panic!("an object")
        };
        assert_eq!(Json::Object(object(structure(map))), json);
    }
}
