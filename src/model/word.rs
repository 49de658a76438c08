//! Words of the contract that stand in rows, each with its number: one that a later build wrote is carried on and answered
//! as its number. What a word means is said where its enum is.

/// Gives an enum its numbers and words, which are those of the contract. The enum holds its words and `Unknown(i16)`.
///
/// In JSON a word stands as a text. One that builds before its own could not read is to be written as its number from the
/// beginning, which every build reads.
macro_rules! words {
    ($name:ident { $($variant:ident = $number:literal $word:literal,)+ }) => {
        impl $name {
            /// Those that this build knows, in the order of the contract.
            pub const KNOWN: &'static [Self] = &[$(Self::$variant),+];

            /// The number in the contract and in rows.
            #[must_use]
            pub const fn number(self) -> i16 {
                match self {
                    $(Self::$variant => $number,)+
                    Self::Unknown(number) => number,
                }
            }

            /// The one with this number.
            #[must_use]
            pub const fn of_number(number: i16) -> Self {
                match number {
                    $($number => Self::$variant,)+
                    other => Self::Unknown(other),
                }
            }

            /// The word that stands for it; `None` when a later build knows it.
            #[must_use]
            pub const fn word(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some($word),)+
                    Self::Unknown(_) => None,
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                match self.word() {
                    Some(word) => f.write_str(word),
                    None => self.number().fmt(f),
                }
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.word() {
                    Some(word) => serializer.serialize_str(word),
                    None => serializer.serialize_i16(self.number()),
                }
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                use $crate::model::word::Written;
                match Written::deserialize(deserializer)? {
                    Written::Number(number) => Ok(Self::of_number(number)),
                    Written::Word(word) => {
                        let known = Self::KNOWN.iter().find(|known| known.word() == Some(word.as_ref()));
                        known.copied().ok_or_else(|| {
                            ::serde::de::Error::custom(format!("{word:?} is no {}", stringify!($name)))
                        })
                    }
                }
            }
        }
    };
}

pub(crate) use words;

/// A word as JSON holds it.
#[derive(serde::Deserialize)]
#[serde(untagged)]
pub(crate) enum Written {
    Number(i16),
    Word(String),
}

#[cfg(test)]
mod tests {
    use super::super::channel::ChannelType;
    use super::super::delivery::DeliveryStatus;
    use super::super::notification::{NotificationStatus, RecipientOutcome, SendMode};
    use super::super::template::{DataType, TemplateStatus};

    #[test]
    fn every_number_survives_rows_and_json_known_or_not() {
        for number in -1..100 {
            let through = |json: serde_json::Value| json.to_string();
            macro_rules! survives {
                ($($name:ident)+) => {$(
                    let word = $name::of_number(number);
                    assert_eq!(word.number(), number);
                    assert_eq!(word.word().is_some(), $name::KNOWN.contains(&word));
                    let json = through(serde_json::to_value(word).unwrap());
                    assert_eq!(serde_json::from_str::<$name>(&json).unwrap(), word);
                    assert_eq!(serde_json::from_str::<$name>(&number.to_string()).unwrap(), word);
                    assert!(serde_json::from_str::<$name>("\"fax\"").is_err());
                )+};
            }
            survives!(ChannelType DeliveryStatus NotificationStatus RecipientOutcome SendMode DataType TemplateStatus);
        }
        assert_eq!(serde_json::to_string(&ChannelType::InApp).unwrap(), "\"in_app\"");
        assert_eq!(serde_json::to_string(&ChannelType::of_number(77)).unwrap(), "77");
        assert_eq!(
            (ChannelType::InApp.to_string(), ChannelType::of_number(77).to_string()),
            ("in_app".into(), "77".into())
        );
    }
}
