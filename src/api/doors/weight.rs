//! How much memory a protobuf message would take, found on its bytes before anything is decoded: an element of two bytes
//! can become an object of hundreds. It judges no value; what is not protobuf is left to the decoder.

use crate::api::method;
use crate::model::{Error, Reason};

/// Beside this many times its own size, a request may take [`ALLOWANCE`].
const GROWTH_MAX: usize = 3;
/// What even the smallest request may take, in bytes.
const ALLOWANCE: usize = 1 << 20;
/// What a text costs beside its characters: the allocator's share.
const TEXT: usize = 16;
/// How deep messages are looked into; the decoder refuses what is deeper.
const DEPTH_MAX: usize = 100;

/// What the parts of a message cost.
#[derive(Debug)]
pub struct Weight {
    /// The fields that cost anything beside the message that they are in.
    pub parts: &'static [Part],
}

/// What a field costs.
#[derive(Debug)]
pub struct Part {
    /// Its number.
    pub number: u32,
    /// Bytes of each element, with the room that a growing list has; zero for what is no list.
    pub each: usize,
    /// What is inside.
    pub inner: Inner,
}

/// What is inside a field.
#[derive(Debug)]
pub enum Inner {
    /// Numbers of any length.
    Varint,
    /// Numbers of so many bytes.
    Fixed(usize),
    /// A text, or bytes.
    Text,
    /// A message.
    Message(&'static Weight),
}

/// A message that knows what it costs.
pub trait Weighed {
    /// The largest request in bytes; none for what is no request.
    const BYTES_MAX: Option<usize>;

    /// What its parts cost.
    fn weight() -> &'static Weight;
}

/// A message without lists and texts.
pub static PLAIN: Weight = Weight { parts: &[] };

/// `google.protobuf.FieldMask`.
pub static MASK: Weight = Weight {
    parts: &[list::<String>(1, Inner::Text)],
};

/// `google.protobuf.Struct`.
pub static OBJECT: Weight = Weight {
    parts: &[list::<(String, prost_types::Value)>(
        1,
        Inner::Message(&Weight {
            parts: &[one(1, Inner::Text), one(2, Inner::Message(&ANY_JSON))],
        }),
    )],
};

/// `google.protobuf.ListValue`.
pub static LIST: Weight = Weight {
    parts: &[list::<prost_types::Value>(1, Inner::Message(&ANY_JSON))],
};

/// `google.protobuf.Value`.
pub static ANY_JSON: Weight = Weight {
    parts: &[
        one(3, Inner::Text),
        one(5, Inner::Message(&OBJECT)),
        one(6, Inner::Message(&LIST)),
    ],
};

/// A field that is no list.
#[must_use]
pub const fn one(number: u32, inner: Inner) -> Part {
    Part { number, each: 0, inner }
}

/// A list or map with elements of a type. A list that grows has room for twice its elements.
#[must_use]
pub const fn list<T>(number: u32, inner: Inner) -> Part {
    let each = 2 * size_of::<T>();
    Part { number, each, inner }
}

/// Refuses a request that is too large, or would be once it is decoded.
///
/// # Errors
/// Payload too large.
pub(super) fn check<M: Weighed>(bytes: &[u8]) -> Result<(), Error> {
    let Some(bytes_max) = M::BYTES_MAX else {
        return Ok(());
    };
    if bytes.len() > bytes_max {
        return Err(method::too_large(bytes_max));
    }
    let budget = bytes_max.saturating_mul(GROWTH_MAX).saturating_add(ALLOWANCE);
    // Nothing grows a thousandfold, so most requests need not be looked at.
    if bytes.len() < budget / 1_000 || (Scale { left: budget }).weigh(bytes, M::weight(), 0).is_some() {
        return Ok(());
    }
    let sentence = format!("the request has too many parts, it would take more than {budget} bytes once it is decoded");
    Err(Error::new(Reason::PayloadTooLarge, sentence).with("limitBytes", bytes_max))
}

struct Scale {
    left: usize,
}

impl Scale {
    fn take(&mut self, bytes: usize) -> Option<()> {
        self.left = self.left.checked_sub(bytes)?;
        Some(())
    }

    /// `None` when the budget is used up. It stops without that where the bytes are no protobuf: so will the decoder.
    fn weigh(&mut self, mut bytes: &[u8], weight: &Weight, depth: usize) -> Option<()> {
        // What is inside a group is kept by no message of ours.
        let mut groups = 0_usize;
        while let Some((tag, rest)) = varint(bytes) {
            let number = u32::try_from(tag >> 3).unwrap_or(u32::MAX);
            let found = match tag & 7 {
                0 => varint(rest).map(|(_, rest)| (None, rest)),
                1 => rest.get(8..).map(|rest| (None, rest)),
                5 => rest.get(4..).map(|rest| (None, rest)),
                2 => delimited(rest).map(|(content, rest)| (Some(content), rest)),
                3 | 4 => {
                    let opens = tag & 7 == 3;
                    groups = if opens { groups + 1 } else { groups.saturating_sub(1) };
                    bytes = rest;
                    continue;
                }
                _ => None,
            };
            let Some((content, rest)) = found else {
                return Some(());
            };
            bytes = rest;
            let part = weight.parts.iter().find(|part| part.number == number);
            if let (Some(part), 0) = (part, groups) {
                self.part(part, content, depth)?;
            }
        }
        Some(())
    }

    fn part(&mut self, part: &Part, content: Option<&[u8]>, depth: usize) -> Option<()> {
        match (&part.inner, content) {
            (_, None) => self.take(part.each),
            (Inner::Varint, Some(packed)) => {
                let count = packed.iter().filter(|byte| **byte < 0x80).count();
                self.take(count.saturating_mul(part.each))
            }
            (Inner::Fixed(size), Some(packed)) => self.take((packed.len() / size).saturating_mul(part.each)),
            (Inner::Text, Some(text)) => self.take(part.each + TEXT + text.len()),
            (Inner::Message(weight), Some(message)) => {
                self.take(part.each)?;
                if depth < DEPTH_MAX {
                    self.weigh(message, weight, depth + 1)?;
                }
                Some(())
            }
        }
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some((value, bytes.get(at + 1..).unwrap_or_default()));
        }
    }
    None
}

fn delimited(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = varint(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::value::Kind;
    use prost_types::{ListValue, Struct, Value};

    use super::*;

    /// What a message of free JSON costs.
    fn cost(value: &Value) -> usize {
        let mut scale = Scale { left: usize::MAX };
        scale.weigh(&value.encode_to_vec(), &ANY_JSON, 0).unwrap();
        usize::MAX - scale.left
    }

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    #[test]
    fn texts_lists_and_maps_cost_what_they_take() {
        assert_eq!(cost(&value(Kind::NumberValue(1.0))), 0);
        assert_eq!(cost(&value(Kind::StringValue("abcd".to_owned()))), 20);
        let values = vec![value(Kind::BoolValue(true)); 5];
        let list = value(Kind::ListValue(ListValue { values }));
        assert_eq!(cost(&list), 10 * size_of::<Value>());
        let fields = [("key".to_owned(), list)].into();
        let object = value(Kind::StructValue(Struct { fields }));
        assert_eq!(
            cost(&object),
            10 * size_of::<Value>() + 2 * size_of::<(String, Value)>() + 19
        );
    }

    #[test]
    fn packed_numbers_are_counted() {
        static NUMBERS: Weight = Weight {
            parts: &[list::<i32>(1, Inner::Varint), list::<f64>(2, Inner::Fixed(8))],
        };
        let mut bytes = vec![0x0a, 5, 0x80, 0x01, 3, 4, 5, 0x12, 16];
        bytes.extend([0; 16]);
        let mut scale = Scale { left: 1_000 };
        scale.weigh(&bytes, &NUMBERS, 0).unwrap();
        assert_eq!(1_000 - scale.left, 4 * 8 + 2 * 16);
    }

    #[test]
    fn what_is_no_protobuf_is_left_to_the_decoder() {
        for bytes in [&[0xff; 20][..], &[0x0a, 200, 1], &[0x0f], &[0x0b, 0x0b], &[0x09, 1]] {
            let mut scale = Scale { left: 10 };
            assert!(scale.weigh(bytes, &OBJECT, 0).is_some(), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_inside_a_group_costs_nothing() {
        let bytes = [0x1b, 0x0a, 2, 0, 0, 0x1c, 0x0a, 0];
        let mut scale = Scale { left: 10_000 };
        scale.weigh(&bytes, &LIST, 0).unwrap();
        assert_eq!(10_000 - scale.left, 2 * size_of::<Value>());
    }
}
