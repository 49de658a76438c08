//! What goes wrong before a handler sees a gRPC message, and the wire forms of gRPC, with an rpc of the contract.

use std::io::{Read, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use campanile::api::start;
use campanile::domain::{Service, Settings, app, identity};
use campanile::pb::campanile::v1::{CreateUserRequest, CreateUserResponse, ListUsersRequest, ListUsersResponse, User};
use prost::Message;
use reqwest::header::HeaderMap;
use tonic_types::pb::Status as RichStatus;

use super::FULL;
use crate::support::database::{Backend, TestDatabase};
use crate::support::server::{Setup, TestServer, http1, http2};

const CREATE: &str = "/campanile.v1.UserService/CreateUser";
const LIST: &str = "/campanile.v1.UserService/ListUsers";

/// The whole service on SQLite, with a key.
struct Contract {
    server: TestServer,
    _db: TestDatabase,
}

impl Contract {
    async fn start() -> Self {
        let db = TestDatabase::new(Backend::Sqlite).await.unwrap();
        let service = Service::open(Settings::new(db.settings())).await.unwrap();
        let (slug, key) = ("shop".parse().unwrap(), FULL.parse().unwrap());
        app::ensure_bootstrap(&service, slug, key).await.unwrap();
        let doors = start::doors(&service).unwrap();
        let setup = Setup {
            find_key: Arc::new(move |digest| {
                let service = service.clone();
                Box::pin(async move { identity::find_key(&service, digest).await })
            }),
            ..Setup::new()
        };
        let server = TestServer::start(doors, setup).await;
        Self { server, _db: db }
    }

    async fn post(&self, path: &str, body: Vec<u8>, headers: &[(&str, &str)]) -> (HeaderMap, Vec<u8>) {
        let web = headers
            .iter()
            .any(|(_, value)| value.starts_with("application/grpc-web"));
        let client = if web { http1() } else { http2() };
        let mut request = client.post(format!("{}{path}", self.server.url)).header("apikey", FULL);
        if !web {
            request = request
                .header("content-type", "application/grpc")
                .header("te", "trailers");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.body(body).send().await.unwrap();
        let headers = answer.headers().clone();
        (headers, answer.bytes().await.unwrap().to_vec())
    }

    async fn users(&self) -> usize {
        let (_, bytes) = self
            .post(LIST, frame(0, &ListUsersRequest::default().encode_to_vec()), &[])
            .await;
        ListUsersResponse::decode(&bytes[5..]).unwrap().users.len()
    }
}

/// One message as gRPC frames it.
fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut framed = vec![flag];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// The code of a refusal, and the reason in its details.
fn refusal(headers: &HeaderMap) -> (&str, String) {
    let details = STANDARD_NO_PAD
        .decode(headers["grpc-status-details-bin"].as_bytes())
        .unwrap();
    let rich = RichStatus::decode(details.as_slice()).unwrap();
    let info = rich
        .details
        .iter()
        .find(|any| any.type_url.ends_with("ErrorInfo"))
        .unwrap();
    let info = tonic_types::pb::ErrorInfo::decode(info.value.as_slice()).unwrap();
    (headers["grpc-status"].to_str().unwrap(), info.reason)
}

fn new_user(uid: &str) -> Vec<u8> {
    let user = User {
        uid: uid.to_owned(),
        name: "Ada".to_owned(),
        ..User::default()
    };
    CreateUserRequest { user: Some(user) }.encode_to_vec()
}

/// What is wrong, the body, its headers, and how it is refused: code and reason.
type Case<'c> = (&'c str, Vec<u8>, &'c [(&'c str, &'c str)], &'c str, &'c str);

#[tokio::test]
async fn what_cannot_be_read_is_the_callers_fault_and_changes_nothing() {
    let contract = Contract::start().await;
    let large = vec![0; 2 * 1024 * 1024];
    let packed: &[(&str, &str)] = &[("grpc-encoding", "gzip")];
    let cases: [Case<'_>; 8] = [
        ("not protobuf", frame(0, &[0xff; 3]), &[], "3", "ERR_BAD_REQUEST"),
        (
            "a cut message",
            frame(0, &new_user("ada"))[..9].to_vec(),
            &[],
            "3",
            "ERR_BAD_REQUEST",
        ),
        ("no message", Vec::new(), &[], "3", "ERR_BAD_REQUEST"),
        (
            "an unknown flag",
            frame(7, &new_user("ada")),
            &[],
            "3",
            "ERR_BAD_REQUEST",
        ),
        ("not gzip", frame(1, &new_user("ada")), packed, "3", "ERR_BAD_REQUEST"),
        ("too large", frame(0, &large), &[], "8", "ERR_PAYLOAD_TOO_LARGE"),
        (
            "too large once unpacked",
            frame(1, &gzip(&large)),
            packed,
            "8",
            "ERR_PAYLOAD_TOO_LARGE",
        ),
        (
            "an unknown packing",
            frame(1, b"x"),
            &[("grpc-encoding", "br")],
            "12",
            "ERR_UNIMPLEMENTED",
        ),
    ];
    for (case, body, headers, code, reason) in cases {
        let (answer, _) = contract.post(CREATE, body, headers).await;
        assert_eq!(refusal(&answer), (code, reason.to_owned()), "{case}: {answer:?}");
    }
    assert_eq!(contract.users().await, 0);
}

/// The message of a refusal.
fn message(headers: &HeaderMap) -> String {
    let text = headers["grpc-message"].to_str().unwrap();
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .unwrap()
        .into_owned()
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_in_our_words_however_it_comes() {
    let contract = Contract::start().await;
    let size = 1024 * 1024;
    let filled = |bytes: usize| {
        let user = User {
            uid: "ada".to_owned(),
            name: "x".repeat(bytes),
            ..User::default()
        };
        CreateUserRequest { user: Some(user) }.encode_to_vec()
    };
    let packed: &[(&str, &str)] = &[("grpc-encoding", "gzip")];
    for (body, headers) in [
        (frame(0, &filled(size)), &[][..]),
        (frame(1, &gzip(&filled(size))), packed),
        (frame(1, &gzip(&filled(20 * size))), packed),
        (frame(0, &filled(20 * size)), &[]),
    ] {
        let (answer, _) = contract.post(CREATE, body, headers).await;
        assert_eq!(refusal(&answer), ("8", "ERR_PAYLOAD_TOO_LARGE".to_owned()));
        let said = message(&answer);
        assert!(
            said.ends_with("must not be larger than 1048576 bytes after decompression"),
            "{said}"
        );
    }
    assert_eq!(contract.users().await, 0);
}

#[tokio::test]
async fn a_message_of_too_many_parts_is_refused_before_it_is_decoded() {
    let contract = Contract::start().await;
    // The tags of a user: field 10, a text of no length, as often as fit into a request.
    let user = pb_field("campanile.v1.User", "tags");
    let tags = [&user[..], &[0]].concat().repeat(200_000);
    let mut request = vec![0x0a];
    prost::encoding::encode_varint(u64::try_from(tags.len()).unwrap(), &mut request);
    request.extend(&tags);
    assert!(request.len() < 1024 * 1024);
    let (answer, _) = contract.post(CREATE, frame(0, &request), &[]).await;
    assert_eq!(refusal(&answer), ("8", "ERR_PAYLOAD_TOO_LARGE".to_owned()));
    assert_eq!(
        message(&answer),
        "the request has too many parts, it would take more than 4194304 bytes once it is decoded"
    );
    // So few that they can be counted are named for what they are.
    let tags = [&user[..], &[0]].concat().repeat(1_000);
    let mut request = vec![0x0a];
    prost::encoding::encode_varint(u64::try_from(tags.len()).unwrap(), &mut request);
    request.extend(&tags);
    let (answer, _) = contract.post(CREATE, frame(0, &request), &[]).await;
    assert_eq!(refusal(&answer), ("3", "ERR_BAD_REQUEST".to_owned()));
    assert!(
        message(&answer).contains("must not have more than 25 items"),
        "{}",
        message(&answer)
    );
    assert_eq!(contract.users().await, 0);
}

/// The tag of a field whose elements have a length.
fn pb_field(message: &str, field: &str) -> Vec<u8> {
    let pool = prost_reflect::DescriptorPool::decode(campanile::api::doors::DESCRIPTORS).unwrap();
    let field = pool
        .get_message_by_name(message)
        .unwrap()
        .get_field_by_name(field)
        .unwrap();
    let mut tag = Vec::new();
    prost::encoding::encode_varint(u64::from(field.number() << 3 | 2), &mut tag);
    tag
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_told_in_the_form_of_grpc() {
    let contract = Contract::start().await;
    let (answer, _) = contract
        .post(CREATE, frame(0, &new_user("ada")), &[("grpc-timeout", "1n")])
        .await;
    assert_eq!(refusal(&answer), ("4", "ERR_DEADLINE_EXCEEDED".to_owned()));
    let (answer, _) = contract
        .post(CREATE, frame(0, &new_user("ada")), &[("grpc-timeout", "later")])
        .await;
    assert_eq!(refusal(&answer), ("3", "ERR_BAD_REQUEST".to_owned()));
    assert_eq!(contract.users().await, 0);
}

#[tokio::test]
async fn messages_are_packed_both_ways_for_those_who_ask() {
    let contract = Contract::start().await;
    let headers = [("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip")];
    let (answer, bytes) = contract.post(CREATE, frame(1, &gzip(&new_user("ada"))), &headers).await;
    assert_eq!(answer["grpc-encoding"], "gzip");
    assert_eq!(bytes[0], 1, "the message is packed");
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&bytes[5..])
        .read_to_end(&mut plain)
        .unwrap();
    assert_eq!(
        CreateUserResponse::decode(plain.as_slice()).unwrap().user.unwrap().uid,
        "ada"
    );
    assert_eq!(contract.users().await, 1);
}

#[tokio::test]
async fn browsers_call_over_grpc_web_as_bytes_and_as_text() {
    let contract = Contract::start().await;
    let (answer, bytes) = contract
        .post(
            CREATE,
            frame(0, &new_user("ada")),
            &[("content-type", "application/grpc-web+proto")],
        )
        .await;
    assert_eq!(answer["content-type"], "application/grpc-web+proto");
    let length = usize::try_from(u32::from_be_bytes(bytes[1..5].try_into().unwrap())).unwrap();
    let made = CreateUserResponse::decode(&bytes[5..5 + length]).unwrap();
    assert_eq!(made.user.unwrap().uid, "ada");
    assert!(String::from_utf8_lossy(&bytes[5 + length..]).contains("grpc-status:0"));
    let text = base64::engine::general_purpose::STANDARD.encode(frame(0, &new_user("bob")));
    let form = [
        ("content-type", "application/grpc-web-text+proto"),
        ("accept", "application/grpc-web-text+proto"),
    ];
    let (answer, _) = contract.post(CREATE, text.into_bytes(), &form).await;
    assert_eq!(answer["content-type"], "application/grpc-web-text+proto");
    assert_eq!(contract.users().await, 2);
    let large = frame(0, &vec![0; 2 * 1024 * 1024 + 10]);
    let (answer, _) = contract
        .post(CREATE, large, &[("content-type", "application/grpc-web+proto")])
        .await;
    assert_eq!(refusal(&answer), ("8", "ERR_PAYLOAD_TOO_LARGE".to_owned()));
    let (answer, _) = contract
        .post(
            CREATE,
            frame(0, &new_user("ada")),
            &[("content-type", "application/grpc-web+proto")],
        )
        .await;
    assert_eq!(refusal(&answer), ("6", "ERR_USER_ALREADY_EXISTS".to_owned()));
}
