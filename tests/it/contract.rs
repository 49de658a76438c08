//! Rules about the contract that no linter knows: names in comments exist, equal names mean equal things, and the pages
//! for people say what the descriptors say. How calls behave is proven beside each noun.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use campanile::config::SETTINGS;
use campanile::model::Reason;
use campanile::model::channel::ChannelType;
use campanile::model::delivery::DeliveryStatus;
use campanile::model::notification::NotificationStatus;
use campanile::model::template::sequence::StopCondition;
use campanile::model::template::{DataType, TemplateStatus};
use campanile::telemetry::Metric;
use prost::Message;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pool() -> DescriptorPool {
    let mut compiler = protox::Compiler::new([root().join("proto")]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    for entry in fs::read_dir(root().join("proto/campanile/v1")).unwrap() {
        compiler.open_file(entry.unwrap().path()).unwrap();
    }
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap()
}

fn ours(name: &str) -> bool {
    name.starts_with("campanile.v1.")
}

fn messages(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    pool.all_messages()
        .filter(|message| ours(message.full_name()) && !message.is_map_entry())
        .collect()
}

/// Every comment of the contract with the file that it stands in.
fn comments(pool: &DescriptorPool) -> Vec<(String, String)> {
    let files = pool.files().filter(|file| file.package_name() == "campanile.v1");
    files
        .flat_map(|file| {
            let name = file.name().to_owned();
            let info = file
                .file_descriptor_proto()
                .source_code_info
                .clone()
                .unwrap_or_default();
            info.location
                .into_iter()
                .map(move |place| (name.clone(), place.leading_comments().to_owned()))
        })
        .filter(|(_, comment)| !comment.is_empty())
        .collect()
}

/// Everything that a comment may name: messages, fields in both spellings, rpcs, services, enum values and their words.
fn known_names(pool: &DescriptorPool) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for message in messages(pool) {
        known.insert(message.name().to_owned());
        for field in message.fields() {
            known.insert(field.name().to_owned());
            known.insert(field.json_name().to_owned());
        }
    }
    for value in pool
        .all_enums()
        .filter(|e| ours(e.full_name()))
        .flat_map(|e| e.values().collect::<Vec<_>>())
    {
        let rule = pool.get_extension_by_name("campanile.options.v1.value").unwrap();
        let word = value.options().get_extension(&rule).as_message().and_then(|rule| {
            rule.get_field_by_name("word")
                .and_then(|word| word.as_str().map(str::to_owned))
        });
        known.extend(word);
        let parts: Vec<_> = value.name().split('_').collect();
        known.extend((1..parts.len()).map(|from| parts[from..].join("_").to_lowercase()));
        known.insert(value.name().to_owned());
    }
    for service in pool.services().filter(|service| ours(service.full_name())) {
        known.insert(service.name().to_owned());
        known.extend(service.methods().map(|method| method.name().to_owned()));
    }
    known.extend(pool.all_enums().map(|kind| kind.name().to_owned()));
    known.extend(Reason::ALL.iter().map(|reason| reason.word().to_owned()));
    known
}

#[test]
fn names_in_comments_exist() {
    let pool = pool();
    let known = known_names(&pool);
    // Headers, reasons of deliveries and words of free text fields: documented where they are answered, declared nowhere.
    let words = [
        "If-Match",
        "Idempotency-Key",
        "apikey",
        "operatorkey",
        "onbehalfof",
        "realtime",
        "batch",
        "unknown_user",
        "user_deactivated",
        "channel_disabled",
        "channel_missing",
        "provider_not_configured",
        "internal_error",
        "default",
        "app_system",
    ];
    let comments = comments(&pool);
    assert!(
        comments.len() > 300,
        "only {} comments: was the source info lost?",
        comments.len()
    );
    let mut unknown = BTreeSet::new();
    for (file, comment) in comments {
        for (at, name) in comment.split('`').enumerate() {
            if at % 2 == 1 && !known.contains(name) && !words.contains(&name) {
                unknown.insert(format!("{file}: `{name}`"));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

fn rules(pool: &DescriptorPool, field: &FieldDescriptor) -> String {
    let rule = pool.get_extension_by_name("buf.validate.field").unwrap();
    let kind = match field.kind() {
        Kind::Message(message) => message.full_name().to_owned(),
        // Sort orders are nested per request, so equal names are different types there.
        Kind::Enum(kind) => kind.name().to_owned(),
        Kind::String => "string".to_owned(),
        Kind::Int32 => "int32".to_owned(),
        _ => "another scalar".to_owned(),
    };
    let bounds = field
        .options()
        .get_extension(&rule)
        .as_message()
        .map(Message::encode_to_vec)
        .unwrap_or_default();
    format!("{kind} {bounds:?}")
}

#[test]
fn paging_fields_are_equal_in_every_list() {
    let pool = pool();
    let names = [
        "page",
        "limit",
        "affix",
        "sort",
        "order",
        "sent_at",
        "created_at",
        "updated_at",
    ];
    let numbers: BTreeMap<&str, u32> = BTreeMap::from([
        ("page", 1),
        ("limit", 2),
        ("affix", 3),
        ("id", 4),
        ("sort", 5),
        ("order", 6),
    ]);
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut lists = 0;
    for message in messages(&pool)
        .into_iter()
        .filter(|message| message.get_field_by_name("affix").is_some())
    {
        if message.name() == "CursorParams" {
            continue;
        }
        lists += 1;
        for field in message.fields() {
            if let Some(number) = numbers.get(field.name()) {
                assert_eq!(field.number(), *number, "{}", field.full_name());
            }
            if names.contains(&field.name()) {
                seen.entry(field.name().to_owned())
                    .or_default()
                    .insert(rules(&pool, &field));
            }
        }
    }
    assert!(lists >= 6, "only {lists} lists were found");
    let differing: Vec<_> = seen.iter().filter(|(_, rules)| rules.len() > 1).collect();
    assert!(differing.is_empty(), "{differing:#?}");
}

#[test]
fn times_counts_and_booleans_follow_the_naming_rules() {
    let mut wrong = Vec::new();
    for field in messages(&pool())
        .iter()
        .flat_map(|message| message.fields().collect::<Vec<_>>())
    {
        let name = field.name().to_owned();
        let is_time = matches!(field.kind(), Kind::Message(kind) if kind.full_name() == "google.protobuf.Timestamp");
        let time_name = ["_at", "_from", "_to"].iter().any(|end| name.ends_with(end));
        if is_time != time_name {
            wrong.push(format!(
                "{}: a time ends in _at, _from or _to, and nothing else does",
                field.full_name()
            ));
        }
        if field.kind() == Kind::Bool && ["is_", "not_", "disable_"].iter().any(|start| name.starts_with(start)) {
            wrong.push(format!("{}: a boolean is a positive adjective", field.full_name()));
        }
        let fixed = match name.as_str() {
            "etag" if field.parent_message().name().ends_with("Request") => Some(4),
            "etag" => Some(99),
            _ => None,
        };
        if fixed.is_some_and(|number| number != field.number()) {
            wrong.push(format!("{}: has another number than elsewhere", field.full_name()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn words_in_rows_have_the_numbers_of_the_contract() {
    let pool = pool();
    let contract = |name: &str| -> Vec<(i32, String)> {
        let words = pool.get_enum_by_name(&format!("campanile.v1.{name}")).unwrap();
        let prefix = words
            .get_value(0)
            .unwrap()
            .name()
            .trim_end_matches("UNSPECIFIED")
            .to_owned();
        let values = words.values().filter(|value| value.number() != 0);
        values
            .map(|value| (value.number(), value.name().trim_start_matches(&prefix).to_lowercase()))
            .collect()
    };
    macro_rules! agree {
        ($($name:ident)+) => {$(
            let known = $name::KNOWN.iter().map(|word| (i32::from(word.number()), word.to_string()));
            assert_eq!(known.collect::<Vec<_>>(), contract(stringify!($name)), stringify!($name));
        )+};
    }
    agree!(ChannelType TemplateStatus DataType StopCondition NotificationStatus DeliveryStatus);
}

#[test]
fn the_readme_lists_every_error() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let table: Vec<_> = Reason::ALL
        .iter()
        .map(|reason| {
            format!(
                "| `{}` | {} | {} |",
                reason.word(),
                grpc_name(reason.grpc_code()),
                reason.http_status()
            )
        })
        .collect();
    let missing: Vec<_> = table.iter().filter(|row| !readme.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "add to the table of errors:\n{}", table.join("\n"));
}

#[test]
fn the_readme_lists_every_setting() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let rows: Vec<_> = SETTINGS
        .iter()
        .map(|setting| {
            let default = match setting.default {
                "" => "–".to_owned(),
                default => format!("`{default}`"),
            };
            let (variable, bounds) = (setting.variable(), setting.bounds());
            format!("| `{variable}` | {bounds} | {default} | {} |", setting.meaning)
        })
        .collect();
    let missing = rows.iter().any(|row| !readme.contains(row.as_str()));
    assert!(!missing, "the table of settings has to hold:\n{}", rows.join("\n"));
}

#[test]
fn the_readme_lists_every_metric() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let rows: Vec<_> = Metric::ALL
        .iter()
        .map(|metric| {
            let labels = metric.labels().iter().map(|label| format!("`{label}`"));
            let labels = labels.collect::<Vec<_>>().join(", ");
            let (name, kind, meaning) = (metric.name(), metric.kind().word(), metric.meaning());
            format!("| `{name}` | {kind} | {labels} | {meaning} |").replace("|  |", "| |")
        })
        .collect();
    let missing = rows.iter().any(|row| !readme.contains(row.as_str()));
    assert!(!missing, "the table of metrics has to hold:\n{}", rows.join("\n"));
    let named = readme.lines().filter(|line| {
        let name = line.strip_prefix("| `").unwrap_or_default();
        name.starts_with("campanile_") || name.starts_with("process_")
    });
    assert_eq!(named.count(), rows.len(), "the table of metrics holds one that is gone");
}

fn grpc_name(code: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    usize::try_from(code)
        .ok()
        .and_then(|code| NAMES.get(code))
        .copied()
        .unwrap_or("UNKNOWN")
}
