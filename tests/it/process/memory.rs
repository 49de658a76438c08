//! How much memory requests can make the server take that are small on the wire, measured on a server of its own.

use std::io::Write;

use prost::encoding::encode_varint;
use tempfile::TempDir;

use super::{BOOTSTRAP_KEY, Running};
use crate::edge::flood;
use crate::support::server::{http1, http2};

pub(super) const MIB: usize = 1 << 20;
/// What the largest requests may add to the memory of an idle server.
const GROWTH_MAX: usize = 64 * MIB;
/// What a series of the largest requests of every kind may add to it.
const SERIES_MAX: usize = 128 * MIB;

/// A line of the kernel's account of a process, in bytes.
pub(super) fn memory(pid: u32, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kilobytes: usize = line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1_024
}

/// The tag of a field of a request whose elements have a length.
fn tag(message: &str, field: &str) -> Vec<u8> {
    let pool = prost_reflect::DescriptorPool::decode(campanile::api::doors::DESCRIPTORS).unwrap();
    let field = pool
        .get_message_by_name(message)
        .unwrap()
        .get_field_by_name(field)
        .unwrap();
    let mut tag = Vec::new();
    encode_varint(u64::from(field.number() << 3 | 2), &mut tag);
    tag
}

/// A field with this content.
pub(super) fn field(message: &str, name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = tag(message, name);
    encode_varint(u64::try_from(content.len()).unwrap(), &mut bytes);
    bytes.extend(content);
    bytes
}

/// The same again and again, until there are so many bytes.
fn filled(bytes: usize, part: &[u8]) -> Vec<u8> {
    part.repeat(bytes / part.len())
}

pub(super) fn frame(packed: bool, message: &[u8]) -> Vec<u8> {
    let mut framed = vec![u8::from(packed)];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    framed
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Messages of many small parts: the rpc, and the bytes.
fn messages() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    const SEND: &str = "campanile.v1.SendNotificationRequest";
    let large = 16 * MIB - 100;
    let empty = |name: &str| field(SEND, name, &[]);
    // An entry of the map with a key of two bytes that differs from its neighbors'.
    let variables = tag(SEND, "variables");
    let entry = |number: u16| {
        let key = number.to_be_bytes().map(|byte| byte & 0x7f);
        [&variables[..], &[4, 0x0a, 2], &key].concat()
    };
    let entries: Vec<u8> = (0..u16::MAX).flat_map(entry).collect();
    // A list of free JSON whose values are empty: field 1 of a list, field 6 of a value, field 2 of an entry of an object.
    let values = filled(MIB - 200, &[0x0a, 0]);
    let mut value = vec![0x32];
    encode_varint(u64::try_from(values.len()).unwrap(), &mut value);
    value.extend(values);
    let mut entry = vec![0x0a, 1, b'a', 0x12];
    encode_varint(u64::try_from(value.len()).unwrap(), &mut entry);
    entry.extend(value);
    let mut object = vec![0x0a];
    encode_varint(u64::try_from(entry.len()).unwrap(), &mut object);
    object.extend(entry);
    let user = field("campanile.v1.User", "metadata", &object);
    vec![
        (
            "NotificationService/SendNotification",
            "empty receivers",
            filled(large, &empty("receivers")),
        ),
        (
            "NotificationService/SendNotification",
            "empty variables",
            filled(large, &empty("variables")),
        ),
        (
            "NotificationService/SendNotification",
            "many variables",
            filled(large, &entries),
        ),
        (
            "NotificationService/SendNotification",
            "fields that nobody knows",
            filled(large, &[0xfa, 0x7f, 0]),
        ),
        (
            "NotificationService/SendNotification",
            "one long text",
            field(SEND, "template_id", &vec![b'x'; large]),
        ),
        (
            "UserService/CreateUser",
            "free JSON",
            field("campanile.v1.CreateUserRequest", "user", &user),
        ),
    ]
}

/// Bodies of many small parts: the path, and the JSON.
fn bodies() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    const SEND: &str = "/v3/campaigns/notifications/messages";
    let large = 16 * MIB - 100;
    let around = |before: &str, part: &str, bytes: usize, after: &str| {
        [before.as_bytes(), &filled(bytes, part.as_bytes()), after.as_bytes()].concat()
    };
    vec![
        (
            SEND,
            "empty receivers",
            around("{\"receivers\":[", "\"\",", large, "\"\"]}"),
        ),
        (
            SEND,
            "wrong receivers",
            around("{\"receivers\":[", "{},", large, "{}]}"),
        ),
        (SEND, "unknown keys", around("{", "\"a\":1,", large, "\"b\":1}")),
        (
            SEND,
            "the same variables",
            around("{\"variables\":{", "\"a\":{},", large, "\"b\":{}}}"),
        ),
        (SEND, "lists in lists", around("{\"variables\":", "[", large / 2, "")),
        (SEND, "one long text", around("{\"templateId\":\"", "x", large, "\"}")),
        (
            "/v3/users",
            "free JSON",
            around("{\"metadata\":{\"a\":[", "[],", MIB - 100, "[]]}}"),
        ),
        (
            "/v3/users",
            "free objects",
            around("{\"metadata\":{\"a\":[", "{\"\":0},", MIB - 100, "0]}}"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_take_little_memory() {
    let folder = TempDir::new().unwrap();
    let server = Running::start(folder.path(), &[]).await;
    let address = server.url.trim_start_matches("http://");
    let pid = server.child.id().unwrap();
    let before = memory(pid, "VmRSS:");
    let head = flood::call(flood::POST, "/v3/users");
    let opened = |stream: u32| flood::frame(flood::HEADERS, flood::END_STREAM | flood::END_HEADERS, stream, &head);
    let reset = |stream: u32| flood::frame(flood::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let resets: Vec<u8> = (1..40_000)
        .step_by(2)
        .flat_map(|stream| [opened(stream), reset(stream)].concat())
        .collect();
    let unfinished = flood::frame(flood::HEADERS, flood::END_STREAM, 1, &head);
    let more = flood::frame(flood::CONTINUATION, 0, 1, &flood::literal("x-more", &"x".repeat(100)));
    let continued = [unfinished, more.repeat(100_000)].concat();
    let pings = flood::frame(flood::PING, 0, 0, &[7; 8]).repeat(200_000);
    let settings = flood::frame(flood::SETTINGS, 0, 0, &[]).repeat(200_000);
    for flooded in [resets, continued, pings, settings] {
        for _ in 0..5 {
            let mut raw = flood::Raw::connect(address, &[]).await;
            // Where it is stopped is proven with the layers.
            drop(tokio::time::timeout(std::time::Duration::from_secs(1), raw.send(&flooded)).await);
        }
        assert_eq!(
            http1()
                .get(format!("{}/healthz", server.url))
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    }
    let grown = memory(pid, "VmHWM:").saturating_sub(before);
    assert!(grown < GROWTH_MAX, "it grew by {} MiB", grown / MIB);
}

#[tokio::test]
async fn requests_of_many_small_parts_take_little_memory_and_are_refused() {
    let folder = TempDir::new().unwrap();
    let settings = [
        ("CAMPANILE_BOOTSTRAP_APP", "shop"),
        ("CAMPANILE_BOOTSTRAP_KEY", BOOTSTRAP_KEY),
    ];
    let server = Running::start(folder.path(), &settings).await;
    let pid = server.child.id().unwrap();
    let request = |client: reqwest::Client, path: &str| {
        client
            .post(format!("{}{path}", server.url))
            .header("apikey", BOOTSTRAP_KEY)
    };
    // What the first call of each kind needs once is no growth.
    request(http1(), "/v3/users").body("{}").send().await.unwrap();
    let first = memory(pid, "VmRSS:");
    // The allocator keeps some of what each request gave back, so a series grows by more than its largest request.
    let growth = |what: &str, before: usize| {
        let peak = memory(pid, "VmHWM:");
        let (grown, in_all) = (peak.saturating_sub(before), peak.saturating_sub(first));
        assert!(grown < GROWTH_MAX, "{what} made it grow by {} MiB", grown / MIB);
        assert!(in_all < SERIES_MAX, "up to {what} it grew by {} MiB", in_all / MIB);
    };
    // Lets the peak begin anew, and tells where.
    let begin = || {
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
        memory(pid, "VmRSS:")
    };
    for (rpc, what, message) in messages() {
        // To pack all of them takes long.
        for packed in [false, what == "empty receivers"] {
            let message = if packed { gzip(&message) } else { message.clone() };
            let call = request(http2(), &format!("/campanile.v1.{rpc}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("grpc-encoding", if packed { "gzip" } else { "identity" });
            let before = begin();
            let answer = call.body(frame(packed, &message)).send().await.unwrap();
            let code = answer.headers()["grpc-status"].to_str().unwrap().to_owned();
            assert!(matches!(code.as_str(), "3" | "8"), "{what}: {:?}", answer.headers());
            growth(what, before);
        }
    }
    for (path, what, body) in bodies() {
        for packed in [false, what == "empty receivers"] {
            let body = if packed { gzip(&body) } else { body.clone() };
            let call = request(http1(), path)
                .header("content-type", "application/json")
                .header("content-encoding", if packed { "gzip" } else { "identity" });
            let before = begin();
            let answer = call.body(body).send().await.unwrap();
            assert!(
                matches!(answer.status().as_u16(), 400 | 413),
                "{what}: {}",
                answer.status()
            );
            growth(what, before);
        }
    }
}
