//! The binary itself: its commands, exit codes, signals and the files it makes. What it serves is proven elsewhere, in
//! process.

mod import;
mod memory;
mod overload;
mod send;
mod trace;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use campanile::model::Clock;
use campanile::store::{SecretKey, Store, StoreSettings};
use campanile::worker::sweep;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::running::{BOOTSTRAP_KEY, Running, command};
use crate::support::server::{http1, http2};
use crate::worker::{insert_keys, keys};

async fn run(folder: &Path, words: &[&str]) -> Output {
    command(folder, words).output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The services that a server's reflection lists, as a client of one of its versions asks for them.
macro_rules! reflected {
    ($version:ident, $url:expr) => {{
        use tonic_reflection::pb::$version::ServerReflectionRequest;
        use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
        let endpoint = tonic::transport::Endpoint::from_shared($url.to_owned()).unwrap();
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let asks = futures::stream::iter([ask]);
        let mut client = ServerReflectionClient::new(endpoint.connect().await.unwrap());
        let mut answers = client.server_reflection_info(asks).await.unwrap().into_inner();
        match answers.message().await.unwrap().unwrap().message_response.unwrap() {
            MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|one| one.name).collect(),
            _ => Vec::<String>::new(),
        }
    }};
}

#[tokio::test]
async fn every_fault_of_the_configuration_is_told_at_once_with_exit_code_64() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("campanile.toml"), "stream_max = 3\nlog = \"info\"\n").unwrap();
    for words in [
        &["check-config", "--region", "NOT OK"][..],
        &["serve", "--region", "NOT OK"],
    ] {
        let output = run(folder.path(), words).await;
        assert_eq!(output.status.code(), Some(64), "{words:?}");
        assert_eq!(
            text(&output.stderr),
            "campanile: the configuration has 2 fault(s):\n  \
             stream_max (campanile.toml) is not a setting; did you mean streams_max?\n  \
             --region (flag) must be 1 to 32 lower-case letters, digits or dashes, received \"NOT OK\"\n"
        );
    }
    assert!(!folder.path().join("data").exists(), "nothing was made");
}

#[tokio::test]
async fn check_config_prints_what_counts_and_where_it_is_from() {
    let folder = TempDir::new().unwrap();
    let mut command = command(folder.path(), &["check-config", "--streams-max", "7"]);
    let output = command
        .env("CAMPANILE_OPERATOR_KEY", "k".repeat(40))
        .output()
        .await
        .unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("streams_max = \"7\" # flag\n"), "{shown}");
    assert!(shown.contains("operator_key = \"***\" # environment\n"), "{shown}");
    assert!(
        shown.contains("database_url = \"sqlite://data/campanile.db\" # default\n"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_server_starts_from_nothing_and_stops_cleanly() {
    let folder = TempDir::new().unwrap();
    let settings = [
        ("CAMPANILE_BOOTSTRAP_APP", "shop"),
        ("CAMPANILE_BOOTSTRAP_KEY", BOOTSTRAP_KEY),
    ];
    let mut kept = None;
    for _ in 0..2 {
        let server = Running::start(folder.path(), &settings).await;
        for page in [
            "/healthz",
            "/readyz",
            "/metrics",
            "/docs",
            "/openapi.json",
            "/v3/campaigns/card-schema.json",
        ] {
            let answer = http1().get(format!("{}{page}", server.url)).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{page}");
        }
        for services in [reflected!(v1, server.url), reflected!(v1alpha, server.url)] {
            for service in ["campanile.v1.AppService", "campanile.v1.NotificationService"] {
                assert!(services.iter().any(|name| name == service), "{services:?}");
            }
        }
        server.signal().await;
        let (code, log) = server.exit().await;
        assert_eq!(code, Some(0), "{log}");
        let key = std::fs::read_to_string(folder.path().join("data/secret.key")).unwrap();
        assert_eq!(
            *kept.get_or_insert(key.clone()),
            key,
            "the second start uses the first one's key"
        );
    }
    let made = std::fs::metadata(folder.path().join("data/secret.key")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&made.permissions()) & 0o777,
        0o600
    );
}

#[tokio::test]
async fn a_log_that_is_not_on_a_terminal_has_no_colors_and_tells_of_no_library() {
    let folder = TempDir::new().unwrap();
    let mut command = command(folder.path(), &["serve"]);
    command.env("CAMPANILE_LOG_FORMAT", "text");
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    child.kill().await.unwrap();
    assert!(first.contains("listening"), "{first}");
    assert!(!first.contains('\u{1b}'), "{first:?}");
}

#[tokio::test]
async fn a_server_sweeps_what_has_expired_without_resting_between_full_batches() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}/expired.db", folder.path().display());
    let store = Store::open(&StoreSettings::new(url.as_str(), SecretKey::generate().unwrap()))
        .await
        .unwrap();
    let hour = Duration::from_secs(3_600);
    let now = Clock::default().now();
    insert_keys(&store, "old", 2 * sweep::BATCH_MAX, now.minus(hour)).await;
    insert_keys(&store, "new", 1, now.plus(hour)).await;
    let server = Running::start(folder.path(), &[("CAMPANILE_DATABASE_URL", &url)]).await;
    let swept = async {
        while keys(&store).await.len() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(sweep::INTERVAL / 2, swept).await.unwrap();
    assert_eq!(keys(&store).await, ["new 0"]);
    server.signal().await;
    let (code, log) = server.exit().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn keys_are_created_listed_and_revoked_from_the_command_line() {
    let folder = TempDir::new().unwrap();
    let create = run(folder.path(), &["app", "create", "--id", "shop", "--name", "The shop"]).await;
    assert_eq!(text(&create.stdout), "shop\n", "{}", text(&create.stderr));
    let again = run(folder.path(), &["app", "create", "--id", "shop", "--name", "The shop"]).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("shop"), "{}", text(&again.stderr));
    let words = [
        "key", "create", "--app", "shop", "--name", "back end", "--scope", "authOnly",
    ];
    let key = text(&run(folder.path(), &words).await.stdout);
    assert_eq!(key.trim_end().len(), 64);
    let list = text(&run(folder.path(), &["key", "list", "--app", "shop"]).await.stdout);
    let fields: Vec<&str> = list.trim_end().split('\t').collect();
    assert_eq!((fields[1], fields[4]), ("authOnly", "back end"));
    assert!(!list.contains(key.trim_end()), "the secret is never shown again");
    let revoke = run(folder.path(), &["key", "revoke", "--app", "shop", "--id", fields[0]]).await;
    assert!(revoke.status.success(), "{}", text(&revoke.stderr));
    assert_eq!(
        text(&run(folder.path(), &["key", "list", "--app", "shop"]).await.stdout),
        ""
    );
    let wrong = run(folder.path(), &["key", "list", "--app", "Not a slug"]).await;
    assert_eq!(wrong.status.code(), Some(64));
}

#[tokio::test]
async fn sigterm_under_load_loses_no_call_and_exits_with_0() {
    let folder = TempDir::new().unwrap();
    let server = Running::start(folder.path(), &[]).await;
    let url = format!("{}/openapi.json", server.url);
    let mut callers = JoinSet::new();
    for number in 0..8 {
        let client = if number % 2 == 0 { http1() } else { http2() };
        let url = url.clone();
        callers.spawn(async move {
            let mut answered = 0_u32;
            // Until the listener is gone; a call that was taken has to be answered in full.
            loop {
                match client.get(&url).send().await {
                    Ok(answer) => {
                        assert_eq!(answer.status(), 200);
                        answer.bytes().await.unwrap();
                        answered += 1;
                    }
                    Err(fault) => {
                        assert!(fault.is_connect() || fault.is_request(), "{fault:?}");
                        return answered;
                    }
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    server.signal().await;
    let answered: u32 = callers.join_all().await.into_iter().sum();
    assert!(answered > 8, "there was load: {answered}");
    let (code, log) = server.exit().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("every call was answered"), "{log}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// A call whose body never comes in full, so that it stays in flight.
async fn call_without_end(server: &Running) -> TcpStream {
    let address = server.url.trim_start_matches("http://");
    let mut call = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v3/users HTTP/1.1\r\nhost: x\r\napikey: {BOOTSTRAP_KEY}\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{{"
    );
    call.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    call
}

#[tokio::test]
async fn a_server_that_stops_says_what_it_waits_for() {
    let folder = TempDir::new().unwrap();
    let settings = [
        ("CAMPANILE_BOOTSTRAP_APP", "shop"),
        ("CAMPANILE_BOOTSTRAP_KEY", BOOTSTRAP_KEY),
        ("CAMPANILE_DRAIN_SECONDS", "3"),
    ];
    let server = Running::start(folder.path(), &settings).await;
    let _call = call_without_end(&server).await;
    server.signal().await;
    let (code, log) = server.exit().await;
    assert_eq!(code, Some(0), "{log}");
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<Value> = lines.filter(|line| line["connections"].is_u64()).collect();
    let text = |line: &Value| line["message"].as_str().unwrap().to_owned();
    assert!(text(&told[0]).starts_with("still stopping"), "{log}");
    assert!(
        text(told.last().unwrap()).contains("the time for draining was over"),
        "{log}"
    );
    assert!(told.iter().all(|line| line["connections"] == 1), "{log}");
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    let folder = TempDir::new().unwrap();
    let settings = [
        ("CAMPANILE_BOOTSTRAP_APP", "shop"),
        ("CAMPANILE_BOOTSTRAP_KEY", BOOTSTRAP_KEY),
    ];
    let server = Running::start(folder.path(), &settings).await;
    let _call = call_without_end(&server).await;
    server.signal().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    server.signal().await;
    let (code, log) = server.exit().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("a second signal exits at once"), "{log}");
    assert!(began.elapsed() < Duration::from_secs(5));
}
