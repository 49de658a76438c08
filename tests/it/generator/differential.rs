//! Our JSON reader and writer against prost-reflect's, which knows nothing of them: what one writes the other reads as the
//! same message, for every message of the contract and of the test package. It is the same JSON as protobuf's own mapping
//! but for these differences of the dialect, which are undone here and nowhere else:
//!
//! 1. An enum value is written as its word; its proto name is read too. One that is not set has no form.
//! 2. `inline_oneof` and `inline_map` messages stand as what they hold.
//! 3. Fields that only the service sets are not read, and fields that only callers set are not written.
//! 4. 64-bit integers are numbers; strings are read too.
//! 5. Instants have milliseconds and lie in the years 1 to 9999.
//! 6. There is no null: where free JSON is null it is absent.
//! 7. Numbers with a fraction are finite, and zero has no sign.
//! 8. What stands for a oneof is told by its form: an object has a key at least, and a number is no string.

use campanile::api::check::Problems;
use campanile::api::rest::dialect::CAMPAIGNS;
use campanile::api::rest::read::Incoming;
use campanile::api::rest::writer::{Outgoing, Writer};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, SerializeOptions, Value as Field,
};
use serde_json::{Map, Value, json};

use crate::support::chaos::Choices;

include!(concat!(env!("OUT_DIR"), "/types.rs"));
include!(concat!(env!("OUT_DIR"), "/test_types.rs"));

const DEPTH_MAX: usize = 4;
const TEXTS: [&str; 9] = [
    "",
    "a",
    "ada",
    "two words",
    "\"quoted\" \\ /",
    "\n\r\t\u{1}\u{1f}\u{7f}",
    "äöü €",
    "\u{1f514}\u{2028}",
    "{{name}}",
];

fn option(options: &DynamicMessage, name: &str) -> Option<Field> {
    let extension = options.descriptor().parent_pool().get_extension_by_name(name)?;
    options
        .has_extension(&extension)
        .then(|| options.get_extension(&extension).into_owned())
}

fn rule(options: &DynamicMessage, extension: &str, field: &str) -> Option<Field> {
    let rule = option(options, extension)?;
    rule.as_message()?
        .get_field_by_name(field)
        .map(std::borrow::Cow::into_owned)
}

fn inline(message: &MessageDescriptor, name: &str) -> bool {
    let set = rule(&message.options(), "campanile.options.v1.message", name);
    set.and_then(|set| set.as_bool()).unwrap_or_default()
}

/// Whether a field has this behavior: 3 is `OUTPUT_ONLY`, 4 is `INPUT_ONLY`.
fn behaves(field: &FieldDescriptor, behavior: i32) -> bool {
    let behaviors = option(&field.options(), "google.api.field_behavior");
    behaviors.is_some_and(|list| {
        let mut numbers = list.as_list().unwrap_or_default().iter();
        numbers.any(|number| number.as_enum_number() == Some(behavior))
    })
}

fn word(words: &EnumDescriptor, number: i32) -> String {
    let value = words.get_value(number).unwrap();
    let own = rule(&value.options(), "campanile.options.v1.value", "word");
    let own = own.and_then(|word| word.as_str().map(str::to_owned));
    let first = words.values().next().unwrap();
    let suffix = value
        .name()
        .trim_start_matches(first.name().trim_end_matches("UNSPECIFIED"));
    own.filter(|word| !word.is_empty())
        .unwrap_or_else(|| suffix.to_lowercase())
}

/// A message that protobuf itself knows, out of choices; none for one of ours.
fn well_known(message: &MessageDescriptor, choices: &mut Choices<'_>, depth: usize) -> Option<DynamicMessage> {
    let mut made = DynamicMessage::new(message.clone());
    let mut set = |name: &str, value: Field| made.set_field_by_name(name, value);
    match message.full_name() {
        "google.protobuf.Timestamp" => {
            let seconds = [0, 1, -1, 1_705_311_000, -62_135_596_800, 253_402_300_799];
            set("seconds", Field::I64(seconds[choices.below(seconds.len())]));
            set(
                "nanos",
                Field::I32(i32::try_from(choices.below(1_000)).unwrap() * 1_000_000),
            );
        }
        "google.protobuf.Duration" => {
            let spans = [
                (0, 0),
                (1, 500_000_000),
                (-1, -500_000_000),
                (0, -1),
                (315_576_000_000, 0),
                (0, 999_999_999),
            ];
            let (seconds, nanos) = spans[choices.below(spans.len())];
            set("seconds", Field::I64(seconds));
            set("nanos", Field::I32(nanos));
        }
        "google.protobuf.FieldMask" => {
            let names = ["name", "status_message", "user.avatar_url", "tags"];
            let paths = (0..choices.below(3)).map(|_| Field::String((*choices.pick(&names)).to_owned()));
            set("paths", Field::List(paths.collect()));
        }
        "google.protobuf.Value" => {
            let bare = if depth < DEPTH_MAX { 5 } else { 3 };
            let (name, kind) = [
                ("string_value", Kind::String),
                ("number_value", Kind::Double),
                ("bool_value", Kind::Bool),
                (
                    "struct_value",
                    message.get_field_by_name("struct_value").unwrap().kind(),
                ),
                ("list_value", message.get_field_by_name("list_value").unwrap().kind()),
            ][choices.below(bare)]
            .clone();
            set(name, single(&kind, choices, depth + 1));
        }
        _ => return None,
    }
    Some(made)
}

/// A message out of choices, within what both can say.
fn random(message: &MessageDescriptor, choices: &mut Choices<'_>, depth: usize) -> DynamicMessage {
    if let Some(made) = well_known(message, choices, depth) {
        return made;
    }
    let mut made = DynamicMessage::new(message.clone());
    let one_of_it = inline(message, "inline_oneof");
    let fields: Vec<_> = message.fields().collect();
    if one_of_it {
        let field = &fields[choices.below(fields.len())];
        let mut value = single(&field.kind(), choices, depth + 1);
        if let Field::Message(part) = &mut value {
            let first = part.descriptor().fields().find(|field| field.kind() == Kind::String);
            part.set_field(&first.unwrap(), Field::String("a".to_owned()));
        }
        made.set_field(field, value);
        return made;
    }
    for field in fields {
        if choices.below(3) == 0 || depth > DEPTH_MAX {
            continue;
        }
        let value = if field.is_map() {
            let entry = field.kind();
            let entry = entry.as_message().unwrap();
            let kind = entry.map_entry_value_field().kind();
            let entries = (0..choices.below(3)).map(|_| {
                let key = map_key(&entry.map_entry_key_field().kind(), choices);
                (key, single(&kind, choices, depth + 1))
            });
            Field::Map(entries.collect())
        } else if field.is_list() {
            Field::List(
                (0..choices.below(3))
                    .map(|_| single(&field.kind(), choices, depth + 1))
                    .collect(),
            )
        } else {
            single(&field.kind(), choices, depth + 1)
        };
        made.set_field(&field, value);
    }
    made
}

fn map_key(kind: &Kind, choices: &mut Choices<'_>) -> MapKey {
    let number = i32::try_from(choices.below(9)).unwrap() - 4;
    match kind {
        Kind::Bool => MapKey::Bool(number > 0),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(number),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(i64::from(number) << 40),
        Kind::Uint32 | Kind::Fixed32 => MapKey::U32(number.unsigned_abs()),
        Kind::Uint64 | Kind::Fixed64 => MapKey::U64(u64::from(number.unsigned_abs()) << 50),
        _ => MapKey::String((*choices.pick(&TEXTS)).to_owned()),
    }
}

fn single(kind: &Kind, choices: &mut Choices<'_>, depth: usize) -> Field {
    match kind {
        Kind::Message(message) => Field::Message(random(message, choices, depth)),
        Kind::Enum(words) => {
            let values: Vec<_> = words.values().filter(|value| value.number() != 0).collect();
            Field::EnumNumber(values[choices.below(values.len())].number())
        }
        Kind::Bool => Field::Bool(choices.below(2) == 1),
        Kind::String => Field::String((*choices.pick(&TEXTS)).to_owned()),
        Kind::Bytes => Field::Bytes(
            (0..choices.below(9))
                .map(|_| u8::try_from(choices.below(256)).unwrap())
                .collect(),
        ),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Field::I32([0, 1, -1, i32::MAX, i32::MIN][choices.below(5)]),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            Field::I64([0, 1, -1, i64::MAX, i64::MIN, (1 << 53) + 1][choices.below(6)])
        }
        Kind::Uint32 | Kind::Fixed32 => Field::U32([0, 1, u32::MAX][choices.below(3)]),
        Kind::Uint64 | Kind::Fixed64 => Field::U64([0, 1, u64::MAX, (1 << 53) + 1][choices.below(4)]),
        Kind::Float => Field::F32([0.0, 1.0, -0.1, 1e30, f32::MIN_POSITIVE, 16_777_217.0][choices.below(6)]),
        Kind::Double => {
            Field::F64([0.0, 1.0, -0.1, 1e300, f64::MIN_POSITIVE, 9_007_199_254_740_993.0][choices.below(6)])
        }
    }
}

/// The message without the fields of a behavior, everywhere in it.
fn without(message: &DynamicMessage, behavior: i32) -> DynamicMessage {
    let strip = |value: &Field| match value {
        Field::Message(inner) => Field::Message(without(inner, behavior)),
        other => other.clone(),
    };
    let mut kept = DynamicMessage::new(message.descriptor());
    for (field, value) in message.fields().filter(|(field, _)| !behaves(field, behavior)) {
        let value = match value {
            Field::List(values) => Field::List(values.iter().map(strip).collect()),
            Field::Map(entries) => Field::Map(entries.iter().map(|(key, value)| (key.clone(), strip(value))).collect()),
            value => strip(value),
        };
        kept.set_field(&field, value);
    }
    // A field that is set to its default and has no presence is the same as one that is not.
    DynamicMessage::decode(message.descriptor(), kept.encode_to_vec().as_slice()).unwrap()
}

/// That two messages are the same; shown as JSON where they are not.
fn same(found: &DynamicMessage, expected: &DynamicMessage, json: &str) -> Result<(), TestCaseError> {
    let shown = |message: &DynamicMessage| serde_json::to_string(message).unwrap();
    let problem = || format!("{json} is read as {} and not as {}", shown(found), shown(expected));
    if found == expected {
        Ok(())
    } else {
        Err(TestCaseError::fail(problem()))
    }
}

/// Our JSON as protobuf's own mapping has it.
fn to_mapping(message: &MessageDescriptor, json: &Value) -> Value {
    if message.package_name() == "google.protobuf" {
        return json.clone();
    }
    if inline(message, "inline_oneof") {
        let fits = |field: &FieldDescriptor| match (field.kind(), json) {
            (Kind::String, Value::String(_)) | (Kind::Bool, Value::Bool(_)) => true,
            (Kind::Message(part), Value::Object(fields)) => {
                fields.keys().all(|key| part.get_field_by_json_name(key).is_some())
            }
            (Kind::Int32 | Kind::Int64 | Kind::Double, Value::Number(_)) => true,
            _ => false,
        };
        let field = message.fields().find(fits).unwrap();
        return json!({field.json_name(): field_to_mapping(&field, json)});
    }
    if inline(message, "inline_map") {
        let field = message.fields().next().unwrap();
        return json!({field.json_name(): field_to_mapping(&field, json)});
    }
    let fields = json.as_object().unwrap().iter().map(|(name, value)| {
        let field = message.get_field_by_json_name(name).unwrap();
        (name.clone(), field_to_mapping(&field, value))
    });
    Value::Object(fields.collect())
}

fn field_to_mapping(field: &FieldDescriptor, json: &Value) -> Value {
    each(field, json, &|kind, json| match kind {
        Kind::Message(message) => to_mapping(message, json),
        Kind::Enum(words) => {
            let named = words.values().find(|value| json == &json!(word(words, value.number())));
            json!(named.unwrap().name())
        }
        _ => json.clone(),
    })
}

/// Protobuf's own mapping with the short forms of ours.
fn to_dialect(message: &MessageDescriptor, json: &Value) -> Value {
    if message.package_name() == "google.protobuf" {
        return json.clone();
    }
    let fields = json.as_object().unwrap().iter().filter_map(|(name, value)| {
        let field = message.get_field_by_json_name(name).unwrap();
        let unset = field
            .kind()
            .as_enum()
            .is_some_and(|words| value == words.get_value(0).unwrap().name());
        let value = each(&field, value, &|kind, json| match kind {
            Kind::Message(message) if !json.is_null() => to_dialect(message, json),
            _ => json.clone(),
        });
        (!unset).then(|| (name.clone(), value))
    });
    let fields: Map<String, Value> = fields.collect();
    let short = inline(message, "inline_oneof") || inline(message, "inline_map");
    match fields.iter().find(|(_, value)| !value.is_null()) {
        Some((name, Value::String(digits)))
            if short && message.get_field_by_json_name(name).unwrap().kind() != Kind::String =>
        {
            serde_json::from_str(digits).unwrap_or_else(|_| json!(digits))
        }
        Some((_, only)) if short => only.clone(),
        None if inline(message, "inline_map") => json!({}),
        _ => Value::Object(fields),
    }
}

/// A field's JSON with each single value in it changed.
fn each(field: &FieldDescriptor, json: &Value, change: &dyn Fn(&Kind, &Value) -> Value) -> Value {
    match json {
        Value::Object(entries) if field.is_map() => {
            let kind = field.kind().as_message().unwrap().map_entry_value_field().kind();
            let entries = entries.iter().map(|(key, value)| (key.clone(), change(&kind, value)));
            Value::Object(entries.collect())
        }
        Value::Array(values) if field.cardinality() == Cardinality::Repeated => {
            values.iter().map(|value| change(&field.kind(), value)).collect()
        }
        value => change(&field.kind(), value),
    }
}

fn written<M: Message + Default + Outgoing>(bytes: &[u8]) -> String {
    let mut writer = Writer::new(&CAMPAIGNS);
    M::decode(bytes).unwrap().write(&mut writer);
    String::from_utf8(writer.into_bytes()).unwrap()
}

fn read<M: Message + Incoming>(json: &str) -> Result<Vec<u8>, String> {
    let (mut message, mut problems) = (M::default(), Problems::new());
    let mut from = serde_json::Deserializer::from_str(json);
    message
        .read(&mut from, &mut problems)
        .map_err(|fault| fault.to_string())?;
    problems.into_result().map_err(|error| error.dev_message().to_owned())?;
    Ok(message.encode_to_vec())
}

/// What we write, they read.
fn they_read(descriptor: &MessageDescriptor, numbers: &[u32], write: fn(&[u8]) -> String) -> Result<(), TestCaseError> {
    let message = without(&random(descriptor, &mut Choices::new(numbers, &[]), 0), 4);
    let ours = write(&message.encode_to_vec());
    let json: Value = serde_json::from_str(&ours).map_err(|fault| TestCaseError::fail(format!("{fault}: {ours}")))?;
    let mapping = to_mapping(descriptor, &json);
    let theirs = DynamicMessage::deserialize(descriptor.clone(), mapping)
        .map_err(|fault| TestCaseError::fail(format!("{}: {fault}: {ours}", descriptor.full_name())))?;
    same(&without(&theirs, 4), &message, &ours)
}

/// What they write, we read.
fn we_read(
    descriptor: &MessageDescriptor,
    numbers: &[u32],
    read: fn(&str) -> Result<Vec<u8>, String>,
) -> Result<(), TestCaseError> {
    let message = random(descriptor, &mut Choices::new(numbers, &[]), 0);
    for (text, defaults) in [(false, true), (true, false)] {
        let options = SerializeOptions::new()
            .stringify_64_bit_integers(text)
            .skip_default_fields(defaults);
        let theirs = message
            .serialize_with_options(serde_json::value::Serializer, &options)
            .unwrap();
        let json = to_dialect(descriptor, &theirs).to_string();
        let bytes = read(&json)
            .map_err(|problem| TestCaseError::fail(format!("{}: {problem}: {json}", descriptor.full_name())))?;
        let ours = DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).unwrap();
        same(&ours, &without(&message, 3), &json)?;
    }
    Ok(())
}

fn pool(bytes: &[u8]) -> DescriptorPool {
    DescriptorPool::decode(bytes).unwrap()
}

/// The message that is called so, out of random numbers often enough to have every field in many forms.
fn try_each(
    pool: &DescriptorPool,
    name: &str,
    check: impl Fn(&MessageDescriptor, &[u32]) -> Result<(), TestCaseError>,
) {
    let descriptor = pool.get_message_by_name(name).unwrap();
    let config = ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let numbers = prop::collection::vec(any::<u32>(), 0..300);
    let outcome = proptest::test_runner::TestRunner::new(config).run(&numbers, |numbers| check(&descriptor, &numbers));
    assert!(outcome.is_ok(), "{name}: {}", outcome.unwrap_err());
}

#[test]
fn what_we_write_is_read_as_the_same_message_by_others() {
    let (contract, test) = (pool(campanile::api::doors::DESCRIPTORS), pool(TEST_DESCRIPTORS));
    let mut count = 0;
    macro_rules! of_contract {
        ($name:literal, $type:ty) => {
            try_each(&contract, $name, |descriptor, numbers| {
                they_read(descriptor, numbers, written::<$type>)
            });
            count += 1;
        };
    }
    macro_rules! of_test {
        ($name:literal, $type:ty) => {
            try_each(&test, $name, |descriptor, numbers| {
                they_read(descriptor, numbers, written::<$type>)
            });
            count += 1;
        };
    }
    contract_outgoing!(of_contract);
    test_outgoing!(of_test);
    assert!(count > 60, "only {count} messages");
}

#[test]
fn what_others_write_is_read_as_the_same_message_by_us() {
    let (contract, test) = (pool(campanile::api::doors::DESCRIPTORS), pool(TEST_DESCRIPTORS));
    let mut count = 0;
    macro_rules! of_contract {
        ($name:literal, $type:ty) => {
            try_each(&contract, $name, |descriptor, numbers| {
                we_read(descriptor, numbers, read::<$type>)
            });
            count += 1;
        };
    }
    macro_rules! of_test {
        ($name:literal, $type:ty) => {
            try_each(&test, $name, |descriptor, numbers| {
                we_read(descriptor, numbers, read::<$type>)
            });
            count += 1;
        };
    }
    contract_incoming!(of_contract);
    test_incoming!(of_test);
    assert!(count > 60, "only {count} messages");
}

static TEST_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/test_descriptors.binpb"));
