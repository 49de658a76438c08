//! All settings: flags over environment over `campanile.toml`, checked together, with every fault reported at once. The
//! only reader of the environment; it never opens what a setting points at, except the configuration file itself.

pub mod setting;
pub mod source;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::admission;
use crate::api::edge::{self, caller, rate};
use crate::api::server;
use crate::domain::S3Settings;
use crate::domain::campaign::CampaignLimits;
use crate::domain::dispatch::Dispatching;
use crate::model::channel::ChannelLimits;
use crate::store::SecretKey;

pub use setting::{SETTINGS, Setting};
pub use source::{Faults, Sources};

use source::Values;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// A text that never prints itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The effective configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listening socket and its limits.
    pub server: server::Options,
    /// The longest that a unary call may take, whatever its own deadline says.
    pub deadline_max: Duration,
    /// The longest that a client may pause while it sends a request.
    pub body_read_timeout: Duration,
    /// The database.
    pub database: Database,
    /// Keys that the operator gives.
    pub credentials: Credentials,
    /// How requests are matched with apps beside their key.
    pub tenancy: Tenancy,
    /// Requests per app, node and minute.
    pub rate_limits: rate::Options,
    /// How much is taken on at once.
    pub admission: admission::Options,
    /// What this process does.
    pub roles: Roles,
    /// Pages that it does at once.
    pub workers: usize,
    /// How batches are done.
    pub dispatching: Dispatching,
    /// What campaigns are held to.
    pub campaigns: CampaignLimits,
    /// Uploaded files.
    pub uploads: Uploads,
    /// Where clients reach the service; `None`: where the one that asks has reached it.
    pub public_url: Option<String>,
    /// The server that commands of clients go to.
    pub api: Api,
    /// Whether an unknown uid becomes a user on first use.
    pub auto_create_users: bool,
    /// How many channels of each type an app may have.
    pub channel_limits: ChannelLimits,
    /// How long feed items and what is recorded of sends are kept.
    pub retention: Duration,
    /// The log.
    pub log: Log,
}

/// The server that commands of clients go to.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where it is.
    pub url: String,
    /// The API key of the app.
    pub key: Option<Secret>,
}

/// What a process does; one of them at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// It answers calls.
    pub api: bool,
    /// It does background work.
    pub worker: bool,
}

/// The database.
#[derive(Clone)]
pub struct Database {
    /// `sqlite://<path>` or `postgres://…`.
    pub url: String,
    /// Connections in the pool.
    pub connections_max: u32,
}

impl Database {
    /// The URL without its password.
    #[must_use]
    pub fn shown(&self) -> String {
        setting::without_password(&self.url)
    }

    /// The folder that holds the database file; `None` with PostgreSQL.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        let path = self.url.strip_prefix("sqlite:")?.trim_start_matches("//");
        let path = path.split('?').next().unwrap_or(path);
        let folder = PathBuf::from(path).parent()?.to_path_buf();
        Some(if folder.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            folder
        })
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("url", &self.shown())
            .field("connections_max", &self.connections_max)
            .finish()
    }
}

/// Keys that the operator gives.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The key of operator calls; without it there are none.
    pub operator_key: Option<Secret>,
    /// An app to create at start when it is missing.
    pub bootstrap: Option<Bootstrap>,
    /// Encrypts what is stored encrypted; `None`: read or made in the data folder.
    pub secret_key: Option<SecretKey>,
}

/// An app to create at start when it is missing.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The app's id.
    pub app: String,
    /// Its `fullAccess` key.
    pub key: Secret,
}

/// How requests are matched with apps beside their key.
#[derive(Clone, Debug)]
pub struct Tenancy {
    /// Host name with `{appId}` and perhaps `{region}`; `None`: host names are not looked at.
    pub host_pattern: Option<String>,
    /// The word for `{region}`, also told in events.
    pub region: String,
}

/// Uploaded files.
#[derive(Clone, Debug)]
pub struct Uploads {
    /// Their folder; `None`: where the service keeps them by itself.
    pub folder: Option<PathBuf>,
    /// The largest one, in bytes.
    pub bytes_max: u64,
    /// The bucket that takes them instead of a folder.
    pub s3: Option<S3Settings>,
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    /// Which lines: a level, or directives such as `info,campanile::store=debug`.
    pub filter: String,
    /// The form of a line.
    pub format: LogFormat,
    /// The collector that spans are sent to.
    pub collector: Option<String>,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object each.
    Json,
}

impl Config {
    /// Reads, merges and checks all sources.
    ///
    /// # Errors
    /// Every fault of every source.
    pub fn load(sources: &Sources) -> Result<Self, Faults> {
        let values = Values::read(sources)?;
        let faults = contradictions(&values);
        if faults.is_empty() {
            Ok(Self::from_values(&values))
        } else {
            Err(Faults(faults))
        }
    }

    /// The effective value of every setting, secrets hidden, in the form of a configuration file.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn describe(sources: &Sources) -> Result<String, Faults> {
        let values = Values::read(sources)?;
        match contradictions(&values) {
            faults if faults.is_empty() => Ok(values.describe()),
            faults => Err(Faults(faults)),
        }
    }

    /// The settings of the layers in front of the calls.
    #[must_use]
    pub fn edge(&self) -> edge::Options {
        let operator_key = self.credentials.operator_key.as_ref();
        edge::Options {
            authentication: caller::Options {
                operator_key: operator_key.map(|key| key.reveal().to_owned()),
                host_pattern: self.tenancy.host_pattern.clone(),
                region: self.tenancy.region.clone(),
            },
            rate: self.rate_limits,
            deadline_max: self.deadline_max,
            body_read_timeout: self.body_read_timeout,
            admission: self.admission,
        }
    }

    fn from_values(values: &Values) -> Self {
        let seconds = |key| Duration::from_secs(values.integer(key));
        Self {
            server: server::Options {
                listen: values
                    .parsed("listen")
                    .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
                connections_max: values.integer("connections_max"),
                streams_max: values.integer("streams_max"),
                stream_resets_max: values.integer("stream_resets_max"),
                stream_errors_max: values.integer("stream_errors_max"),
                header_bytes_max: values.integer("header_bytes_max"),
                headers_max: values.integer("headers_max"),
                header_read_timeout: seconds("header_read_timeout_seconds"),
                write_timeout: seconds("write_timeout_seconds"),
                keep_alive_interval: seconds("keep_alive_interval_seconds"),
                keep_alive_timeout: seconds("keep_alive_timeout_seconds"),
                drain: seconds("drain_seconds"),
                cors_origins: setting::list(&values.text("cors_origins")),
            },
            deadline_max: seconds("deadline_max_seconds"),
            body_read_timeout: seconds("body_read_timeout_seconds"),
            database: Database {
                url: values.text("database_url"),
                connections_max: values.integer("database_connections_max"),
            },
            credentials: Credentials {
                operator_key: values.optional("operator_key").map(Secret::new),
                bootstrap: values
                    .optional("bootstrap_app")
                    .zip(values.optional("bootstrap_key"))
                    .map(|(app, key)| Bootstrap {
                        app: app.to_owned(),
                        key: Secret::new(key),
                    }),
                secret_key: values
                    .optional("secret_key")
                    .and_then(|key| SecretKey::from_base64(key).ok()),
            },
            tenancy: Tenancy {
                host_pattern: values.optional("host_pattern").map(str::to_owned),
                region: values.text("region"),
            },
            rate_limits: rate::Options {
                standard: NonZeroU32::new(values.integer("rate_limit")),
                core: NonZeroU32::new(values.integer("rate_limit_core")),
            },
            admission: admission(values),
            roles: Roles::from_values(values),
            workers: values.integer("workers"),
            dispatching: Dispatching {
                page_rows: values.parsed("page_rows"),
                lease: seconds("lease_seconds"),
            },
            campaigns: CampaignLimits {
                recipients_max: values.integer("campaign_recipients_max"),
                misfire_grace: seconds("misfire_grace_seconds"),
                import_rows: values.parsed("import_rows"),
            },
            uploads: Uploads::from_values(values),
            public_url: values.optional("public_url").map(str::to_owned),
            api: Api {
                url: values.text("api_url").to_owned(),
                key: values.optional("api_key").map(Secret::new),
            },
            auto_create_users: values.text("auto_create_users") == "true",
            channel_limits: values.parsed("channel_types").unwrap_or_default(),
            retention: Duration::from_secs(values.integer::<u64>("retention_days").saturating_mul(DAY_SECONDS)),
            log: Log::from_values(values),
        }
    }
}

impl Uploads {
    fn from_values(values: &Values) -> Self {
        Self {
            folder: values.optional("uploads_folder").map(PathBuf::from),
            bytes_max: values.integer("upload_bytes_max"),
            s3: values.optional("s3_bucket").map(|bucket| S3Settings {
                bucket: bucket.to_owned(),
                endpoint: values.optional("s3_endpoint").map(str::to_owned),
                region: values.text("s3_region"),
                access_key_id: values.text("s3_access_key_id"),
                secret_access_key: values.text("s3_secret_access_key"),
                virtual_host: values.text("s3_url_style") == "virtual-host",
                prefix: values.text("s3_prefix"),
                timeout: Duration::from_secs(values.integer("s3_timeout_seconds")),
            }),
        }
    }
}

impl Log {
    fn from_values(values: &Values) -> Self {
        Self {
            filter: values.text("log"),
            format: if values.text("log_format") == "json" {
                LogFormat::Json
            } else {
                LogFormat::Text
            },
            collector: values.optional("otlp_endpoint").map(str::to_owned),
        }
    }
}

fn admission(values: &Values) -> admission::Options {
    admission::Options {
        calls_max: values.integer("calls_max"),
        waiting_max: values.integer("calls_waiting_max"),
        watchers_max: values.integer("watchers_max"),
        memory_max: values.integer::<usize>("requests_memory_mib").saturating_mul(1 << 20),
    }
}

impl Roles {
    fn from_values(values: &Values) -> Self {
        let roles = setting::list(&values.text("roles"));
        let has = |role: &str| roles.iter().any(|named| named == role);
        Self {
            api: has("api"),
            worker: has("worker"),
        }
    }
}

/// Settings that are right by themselves and wrong together.
fn contradictions(values: &Values) -> Vec<String> {
    let mut faults = Vec::new();
    let given = |key| values.optional(key).is_some();
    if given("bootstrap_app") != given("bootstrap_key") {
        faults.push("bootstrap_app and bootstrap_key must be set together".to_owned());
    }
    if given("operator_key") && values.optional("operator_key") == values.optional("bootstrap_key") {
        faults.push("operator_key and bootstrap_key must differ".to_owned());
    }
    if !values.text("database_url").starts_with("sqlite:") && !given("secret_key") {
        faults.push(
            "secret_key must be set with PostgreSQL, equal on all nodes: make one with `openssl rand -base64 32`"
                .to_owned(),
        );
    }
    faults.extend(half_a_bucket(values));
    faults
}

/// What is missing of the settings of a bucket, or what is set without one.
fn half_a_bucket(values: &Values) -> Option<String> {
    const TOGETHER: [&str; 3] = ["s3_bucket", "s3_access_key_id", "s3_secret_access_key"];
    const BESIDE: [&str; 2] = ["s3_endpoint", "s3_prefix"];
    let (given, missing): (Vec<_>, Vec<_>) = TOGETHER.into_iter().partition(|key| values.optional(key).is_some());
    let beside = BESIDE.into_iter().filter(|key| values.optional(key).is_some());
    let given: Vec<_> = given.into_iter().chain(beside).collect();
    if given.is_empty() || missing.is_empty() {
        return None;
    }
    let (given, missing) = (given.join(", "), missing.join(", "));
    Some(format!("{missing} must be set where {given} is"))
}
