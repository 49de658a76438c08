//! The table of settings: name, type, unit, default, bounds and meaning of each, said once for the reader, the flags and
//! the README. It never holds a value.

use std::net::SocketAddr;

use crate::domain::S3Settings;
use crate::model::app::{AppSlug, KeySecret};
use crate::model::channel::ChannelLimits;
use crate::store::SecretKey;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The key in `campanile.toml`; the flag is `--key-with-dashes`, the variable `CAMPANILE_KEY`.
    pub key: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The value when none is given; empty: not set.
    pub default: &'static str,
    /// Whether it is never shown.
    pub secret: bool,
    /// What it does, one or two sentences without a full stop at the end.
    pub meaning: &'static str,
}

/// What values a setting takes.
#[derive(Debug)]
pub enum Kind {
    /// `<IP address>:<port>`.
    Address,
    /// `true` or `false`.
    Switch,
    /// A whole number within bounds.
    Number {
        /// What it counts.
        unit: &'static str,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text with a rule of its own.
    Text {
        /// The rule as a predicate: `must be …`.
        rule: &'static str,
        /// Whether a text keeps it.
        keeps: fn(&str) -> bool,
    },
}

impl Setting {
    /// The environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("CAMPANILE_{}", self.key.to_uppercase())
    }

    /// The flag, without its leading dashes.
    #[must_use]
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Type, unit and bounds in words.
    #[must_use]
    pub fn bounds(&self) -> String {
        match &self.kind {
            Kind::Address => "address and port".to_owned(),
            Kind::Switch => "`true` or `false`".to_owned(),
            Kind::Number { unit, min, max } => format!("{min}–{max} {unit}"),
            Kind::Word(words) => words
                .iter()
                .map(|word| format!("`{word}`"))
                .collect::<Vec<_>>()
                .join(" or "),
            Kind::Text { rule, .. } => rule.trim_start_matches("must be ").to_owned(),
        }
    }

    /// The rule that a value breaks, if it does.
    pub(super) fn broken_rule(&self, value: &str) -> Option<String> {
        let (kept, rule) = match &self.kind {
            Kind::Address => (
                value.parse::<SocketAddr>().is_ok(),
                "must be an IP address and a port such as 127.0.0.1:8080".to_owned(),
            ),
            Kind::Switch => (matches!(value, "true" | "false"), "must be true or false".to_owned()),
            Kind::Number { unit, min, max } => (
                value.parse::<u64>().is_ok_and(|number| (*min..=*max).contains(&number)),
                format!("must be a whole number from {min} to {max} ({unit})"),
            ),
            Kind::Word(words) => (words.contains(&value), format!("must be one of {}", words.join(", "))),
            Kind::Text { rule, keeps } => (keeps(value), (*rule).to_owned()),
        };
        (!kept).then_some(rule)
    }
}

const fn number(unit: &'static str, min: u64, max: u64) -> Kind {
    Kind::Number { unit, min, max }
}

const fn plain(key: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Setting {
    Setting {
        key,
        kind,
        default,
        secret: false,
        meaning,
    }
}

const fn secret(key: &'static str, kind: Kind, meaning: &'static str) -> Setting {
    Setting {
        key,
        kind,
        default: "",
        secret: true,
        meaning,
    }
}

const KEY: Kind = Kind::Text {
    rule: "must be 32 to 128 visible ASCII characters",
    keeps: |text| text.parse::<KeySecret>().is_ok(),
};

const GRAPHIC: Kind = Kind::Text {
    rule: "must be 1 to 256 visible ASCII characters",
    keeps: |text| (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()),
};

/// Every setting, in the order of the documentation.
pub static SETTINGS: &[Setting] = &[
    plain(
        "listen",
        Kind::Address,
        "127.0.0.1:8080",
        "Where gRPC, gRPC-Web, REST, `/docs`, `/healthz`, `/readyz` and `/metrics` are served. No TLS: put a proxy in front before it faces a network",
    ),
    plain(
        "database_url",
        Kind::Text {
            rule: "must be sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE",
            keeps: |url| {
                let path = url.strip_prefix("sqlite:").map(|path| path.trim_start_matches("//"));
                path.is_some_and(|path| !path.is_empty())
                    || url.starts_with("postgres://")
                    || url.starts_with("postgresql://")
            },
        },
        "sqlite://data/campanile.db",
        "The database. A relative SQLite path is relative to the working directory; its folder is created",
    ),
    plain(
        "database_connections_max",
        number("connections", 2, 500),
        "16",
        "Connections in the pool; with SQLite, readers beside the one writer",
    ),
    plain(
        "bootstrap_app",
        Kind::Text {
            rule: "must be 1 to 63 lower-case letters, digits or dashes, not beginning with a dash",
            keeps: |text| AppSlug::chosen(text).is_ok(),
        },
        "",
        "An app with this id is created at start when it is missing. Goes with `bootstrap_key`",
    ),
    secret(
        "bootstrap_key",
        KEY,
        "The `fullAccess` API key of the app that `bootstrap_app` names; added at start when it is missing",
    ),
    secret(
        "operator_key",
        KEY,
        "The value of the `operatorkey` header on operator calls. Without it operator calls are refused",
    ),
    secret(
        "secret_key",
        Kind::Text {
            rule: "must be 32 bytes in base64, as `openssl rand -base64 32` prints them",
            keeps: |text| SecretKey::from_base64(text).is_ok(),
        },
        "Encrypts provider secrets and stored answers that hold a key. With SQLite it is made at the first start and kept beside the database as `secret.key`; with PostgreSQL it is required and equal on all nodes",
    ),
    plain(
        "host_pattern",
        Kind::Text {
            rule: "must be a host name with {appId} once, and {region} at most once, such as {appId}.api-{region}.example.com",
            keeps: |text| {
                let plain = text.replace("{appId}", "a").replace("{region}", "r");
                text.matches("{appId}").count() == 1
                    && text.matches("{region}").count() <= 1
                    && plain.bytes().all(|byte| is_slug_byte(byte) || byte == b'.')
            },
        },
        "",
        "When set, a call whose host name fits the pattern and names another app than its key's is refused with 401",
    ),
    plain(
        "region",
        Kind::Text {
            rule: "must be 1 to 32 lower-case letters, digits or dashes",
            keeps: |text| (1..=32).contains(&text.len()) && text.bytes().all(is_slug_byte) && !text.contains('_'),
        },
        "us",
        "The word for `{region}` in `host_pattern`",
    ),
    plain(
        "rate_limit",
        number("calls per app, node and minute", 0, 100_000_000),
        "20000",
        "Rate limit of most calls; 0 turns it off",
    ),
    plain(
        "rate_limit_core",
        number("calls per app, node and minute", 0, 100_000_000),
        "10000",
        "Rate limit of calls that create or delete users and credentials; 0 turns it off",
    ),
    plain(
        "cors_origins",
        Kind::Text {
            rule: "must be a comma-separated list of origins such as https://app.example.com, or *",
            keeps: |text| list(text).iter().all(|origin| is_origin(origin)),
        },
        "",
        "Origins of web pages that may call from a browser. `apikey` and `operatorkey` are never allowed from there",
    ),
    plain(
        "auto_create_users",
        Kind::Switch,
        "true",
        "Whether an unknown uid becomes a user on first use; otherwise it is refused",
    ),
    plain(
        "channel_types",
        Kind::Text {
            rule: "must be a comma-separated list of channel types, each with the most channels that an app may have of it, such as email,sms=2",
            keeps: |text| text.parse::<ChannelLimits>().is_ok(),
        },
        "",
        "Channel types that apps may use beyond `in_app` without limit and one `push`. A type without a number has no limit, 0 takes it away; channels that exist stay",
    ),
    plain(
        "retention_days",
        number("days", 1, 3_650),
        "90",
        "How long feed items, notifications and deliveries are kept after they were sent; then they are removed for good",
    ),
    plain(
        "roles",
        Kind::Text {
            rule: "must be api, worker, or both with a comma between them",
            keeps: |text| {
                let roles = list(text);
                !roles.is_empty() && roles.iter().all(|role| matches!(role.as_str(), "api" | "worker"))
            },
        },
        "api,worker",
        "What this process does: answer calls, do background work such as batches, or both. Health, readiness and metrics are always served",
    ),
    plain(
        "workers",
        number("workers", 1, 16),
        "4",
        "Pages of batches that this process does at once: with PostgreSQL over half of its connections at most, and fewer while calls are answered; with SQLite in turns",
    ),
    plain(
        "page_rows",
        number("recipients", 10, 10_000),
        "",
        "Recipients of a batch that one page holds. Unset, 1,000 with PostgreSQL and 200 with SQLite",
    ),
    plain(
        "lease_seconds",
        number("seconds", 1, 600),
        "30",
        "How long a worker may hold a page without a sign of life before another one takes it over",
    ),
    plain(
        "campaign_recipients_max",
        number("recipients", 1, 100_000_000),
        "1000000",
        "The most recipients that a campaign may have",
    ),
    plain(
        "misfire_grace_seconds",
        number("seconds", 0, 2_592_000),
        "3600",
        "How much later than its time a scheduled campaign is still sent that could not be sent then; after that it waits for somebody to decide",
    ),
    plain(
        "import_rows",
        number("rows", 10, 10_000),
        "",
        "Rows of an imported file that are taken in one transaction at most, fewer where they take long. Unset, 10,000 with PostgreSQL and 1,000 with SQLite",
    ),
    plain(
        "uploads_folder",
        Kind::Text {
            rule: "must be the path of a folder",
            keeps: |text| !text.trim().is_empty(),
        },
        "",
        "Where uploaded files are kept. Unset, the folder `uploads` beside the SQLite database, and `data/uploads` with PostgreSQL; nodes that share a database have to share it",
    ),
    plain(
        "upload_bytes_max",
        number("bytes", 1_024, 1_099_511_627_776),
        "1073741824",
        "The largest file that can be uploaded",
    ),
    plain(
        "s3_bucket",
        Kind::Text {
            rule: "must be the name of a bucket: 3 to 63 lower-case letters, digits, hyphens and dots",
            keeps: is_bucket,
        },
        "",
        "The bucket of a store that speaks S3 which keeps uploaded files instead of a folder; upload URLs are the store's own then. Goes with `s3_access_key_id` and `s3_secret_access_key`",
    ),
    plain(
        "s3_endpoint",
        Kind::Text {
            rule: "must be an http or https URL without a path, such as https://s3.example.com",
            keeps: |text| text != "*" && is_origin(text),
        },
        "",
        "Where the store is, for this service and for those who upload. Unset, Amazon's in `s3_region`",
    ),
    plain(
        "s3_region",
        Kind::Text {
            rule: "must be 1 to 63 letters, digits and hyphens",
            keeps: |text| {
                (1..=63).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            },
        },
        S3Settings::REGION,
        "The region of the bucket; stores that know none take any",
    ),
    secret("s3_access_key_id", GRAPHIC, "The id of the access key of the store"),
    secret(
        "s3_secret_access_key",
        GRAPHIC,
        "The secret of the access key of the store",
    ),
    plain(
        "s3_url_style",
        Kind::Word(&["path", "virtual-host"]),
        "path",
        "Where URLs name the bucket: in their path, as most stores that are not Amazon's have it, or in the host name before `s3_endpoint`",
    ),
    plain(
        "s3_prefix",
        Kind::Text {
            rule: "must be 1 to 200 letters, digits, hyphens, underscores and dots, with single slashes between them",
            keeps: is_prefix,
        },
        "",
        "What the names of all objects begin with. Installations that share a bucket must not share this",
    ),
    plain(
        "s3_timeout_seconds",
        number("seconds", 1, 600),
        "30",
        "The longest that the store may take to answer one request, which is for 2 MiB of a file or takes a part of 5 MiB",
    ),
    plain(
        "public_url",
        Kind::Text {
            rule: "must be an http or https URL without a path, such as https://api.example.com",
            keeps: |text| text != "*" && is_origin(text),
        },
        "",
        "Where clients reach the service; upload URLs begin with it. Unset, with `http` and the host that the request names",
    ),
    plain(
        "api_url",
        Kind::Text {
            rule: "must be an http or https URL without a path, such as https://api.example.com",
            keeps: |text| text != "*" && is_origin(text),
        },
        "http://127.0.0.1:8080",
        "The server that `campanile campaign` goes to",
    ),
    secret(
        "api_key",
        KEY,
        "The key of full access to an app that `campanile campaign` presents to it",
    ),
    plain(
        "deadline_max_seconds",
        number("seconds", 1, 600),
        "30",
        "The longest a unary call may take; a shorter `grpc-timeout` of the caller wins",
    ),
    plain(
        "drain_seconds",
        number("seconds", 0, 600),
        "25",
        "How long calls in flight may finish after SIGTERM; a second signal exits at once",
    ),
    plain(
        "calls_max",
        number("calls", 4, 1_000),
        "128",
        "Unary calls that are at work at once; more wait for their turn, apps one after the other. An app gets three quarters of them",
    ),
    plain(
        "calls_waiting_max",
        number("calls", 2, 100_000),
        "1024",
        "Calls that wait for their turn; more are refused with 429. An app gets half of them",
    ),
    plain(
        "watchers_max",
        number("streams", 1, 100_000),
        "1000",
        "Streams of progress that are open at once; more are refused with 429",
    ),
    plain(
        "requests_memory_mib",
        number("MiB", 16, 65_536),
        "64",
        "Memory that requests being read or served may take together, estimated as eight times their bodies; more are refused with 429. A request counts with half of it at most",
    ),
    plain(
        "connections_max",
        number("connections", 1, 1_000_000),
        "10000",
        "Client connections that are open at once; more wait to be accepted",
    ),
    plain(
        "streams_max",
        number("streams", 1, 10_000),
        "250",
        "Concurrent streams of one HTTP/2 connection",
    ),
    plain(
        "stream_resets_max",
        number("streams", 1, 10_000),
        "20",
        "Streams that an HTTP/2 client may have opened and reset before they were served, after which its connection is closed",
    ),
    plain(
        "stream_errors_max",
        number("streams", 1, 100_000),
        "1024",
        "Streams that were reset for errors of an HTTP/2 client, after which its connection is closed",
    ),
    plain(
        "header_bytes_max",
        number("bytes", 8_192, 1_048_576),
        "16384",
        "Size of a request's headers",
    ),
    plain(
        "headers_max",
        number("header lines", 20, 1_000),
        "100",
        "Header lines of a request over HTTP/1; over HTTP/2 `header_bytes_max` bounds them, each counted with 32 bytes more",
    ),
    plain(
        "header_read_timeout_seconds",
        number("seconds", 1, 300),
        "10",
        "Time for a client to send its headers over HTTP/1, also between two requests of one connection",
    ),
    plain(
        "body_read_timeout_seconds",
        number("seconds", 1, 300),
        "10",
        "The longest that a client may pause while it sends the body of a request; the call's deadline bounds the whole",
    ),
    plain(
        "write_timeout_seconds",
        number("seconds", 1, 3_600),
        "30",
        "The longest that a client may take nothing more of an answer or stream that waits for it, after which its connection is closed",
    ),
    plain(
        "keep_alive_interval_seconds",
        number("seconds", 5, 3_600),
        "30",
        "Idle time after which an HTTP/2 connection is pinged",
    ),
    plain(
        "keep_alive_timeout_seconds",
        number("seconds", 1, 300),
        "20",
        "Time for the answer to such a ping, after which the connection is closed",
    ),
    plain(
        "otlp_endpoint",
        Kind::Text {
            rule: "must be http://HOST:PORT of a collector that takes OTLP over gRPC",
            keeps: |text| {
                let host = text.strip_prefix("http://").map(|host| host.trim_end_matches('/'));
                host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']))
            },
        },
        "",
        "Where spans of calls, writes and pages are sent; also read from `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and `OTEL_EXPORTER_OTLP_ENDPOINT`. Unset, there are none",
    ),
    plain(
        "log",
        Kind::Text {
            rule: "must be a level (error, warn, info, debug, trace) or directives such as info,campanile::store=debug",
            keeps: |text| tracing_subscriber::EnvFilter::try_new(text).is_ok(),
        },
        "warn,campanile=info",
        "Which log lines are written, to standard error",
    ),
    plain(
        "log_format",
        Kind::Word(&["text", "json"]),
        "text",
        "The form of a log line",
    ),
];

/// The members of a comma-separated list.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|member| !member.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The URL with `***` for its password.
pub(super) fn without_password(url: &str) -> String {
    let hidden = url.split_once("://").and_then(|(scheme, rest)| {
        let (credentials, place) = rest.rsplit_once('@')?;
        let (user, _) = credentials.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{place}"))
    });
    hidden.unwrap_or_else(|| url.to_owned())
}

fn is_slug_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
}

fn is_bucket(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let is_dotted = text.starts_with(['-', '.']) || text.ends_with(['-', '.']) || text.contains("..");
    (3..=63).contains(&text.len()) && text.bytes().all(letter) && !is_dotted
}

fn is_prefix(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(letter);
    text.len() <= 200 && text.split('/').all(part)
}

fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    text == "*" || host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', '*']))
}
