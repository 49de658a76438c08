//! Where values come from: flags, the environment, a file, the defaults. It knows their order and who set what, and never
//! what a value means.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use config::{File, FileFormat, Source as _};

use super::setting::{SETTINGS, Setting, without_password};

/// The file that is read when it exists and no other is named.
const DEFAULT_FILE: &str = "campanile.toml";
/// What the environment variables of the service start with.
const PREFIX: &str = "CAMPANILE_";
/// What the environment variables of the test suite start with; the service does not look at them.
const TEST_PREFIX: &str = "CAMPANILE_TEST_";
/// The variable that names the file.
const FILE_VARIABLE: &str = "CAMPANILE_CONFIG";

/// Variables that other programs have given a meaning, and the settings that they are read for. Ours win over them, and a
/// later one over an earlier one.
const STANDARD: [(&str, &str); 2] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "otlp_endpoint"),
];

/// Where settings are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file; it has to exist. `None`: `campanile.toml`, if there is one.
    pub file: Option<PathBuf>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// Flags, by key.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// The sources of this process: its environment, and the flags it was given.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        let environment: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| {
                let ours = name.starts_with(PREFIX) && !name.starts_with(TEST_PREFIX);
                ours || STANDARD.iter().any(|(standard, _)| standard == name)
            })
            .collect();
        let named = environment.iter().find(|(name, _)| name == FILE_VARIABLE);
        Self {
            file: file.or_else(|| named.map(|(_, path)| PathBuf::from(path))),
            environment,
            flags,
        }
    }
}

/// Everything that is wrong with the configuration.
#[derive(Debug)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s):", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

struct Value {
    text: String,
    origin: String,
}

/// One checked value for every setting that has one.
pub(super) struct Values(BTreeMap<&'static str, Value>);

impl Values {
    /// Merges the sources and checks each value by its setting's rule.
    pub(super) fn read(sources: &Sources) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let mut values = BTreeMap::new();
        for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
            let (text, origin) = (setting.default.to_owned(), "default".to_owned());
            values.insert(setting.key, Value { text, origin });
        }
        let given = from_file(sources.file.as_deref(), &mut faults)
            .into_iter()
            .chain(from_standard(&sources.environment))
            .chain(from_environment(&sources.environment))
            .chain(from_flags(&sources.flags));
        for (name, setting, text, origin) in given {
            match setting {
                None => faults.push(format!("{name} ({origin}) is not a setting{}", nearest(&name))),
                Some(setting) => {
                    if let Some(rule) = setting.broken_rule(&text).filter(|_| !text.is_empty()) {
                        let received = if setting.secret {
                            format!("{} characters", text.chars().count())
                        } else {
                            format!("{:?}", without_password(&text))
                        };
                        faults.push(format!("{name} ({origin}) {rule}, received {received}"));
                    }
                    values.insert(setting.key, Value { text, origin });
                }
            }
        }
        if faults.is_empty() {
            Ok(Self(values))
        } else {
            Err(Faults(faults))
        }
    }

    /// A setting's value, if it has one.
    pub(super) fn optional(&self, key: &str) -> Option<&str> {
        debug_assert!(SETTINGS.iter().any(|setting| setting.key == key), "no setting {key}");
        self.0
            .get(key)
            .map(|value| value.text.as_str())
            .filter(|text| !text.is_empty())
    }

    /// A setting's value, or nothing.
    pub(super) fn text(&self, key: &str) -> String {
        self.optional(key).unwrap_or_default().to_owned()
    }

    /// A setting's value as another type; the table's rule has been checked before.
    pub(super) fn parsed<T: FromStr>(&self, key: &str) -> Option<T> {
        self.optional(key)?.parse().ok()
    }

    /// A number; the table's bounds have been checked before.
    pub(super) fn integer<T: FromStr + Default>(&self, key: &str) -> T {
        self.parsed(key).unwrap_or_default()
    }

    /// Every setting with its value and origin, as a configuration file.
    pub(super) fn describe(&self) -> String {
        let line = |setting: &Setting| match self.0.get(setting.key).filter(|value| !value.text.is_empty()) {
            None => format!("# {} is not set\n", setting.key),
            Some(value) => {
                let shown = if setting.secret {
                    "***".to_owned()
                } else {
                    without_password(&value.text)
                };
                format!("{} = {shown:?} # {}\n", setting.key, value.origin)
            }
        };
        SETTINGS.iter().map(line).collect()
    }
}

type Given = (String, Option<&'static Setting>, String, String);

fn from_file(path: Option<&Path>, faults: &mut Vec<String>) -> Vec<Given> {
    let required = path.is_some();
    let path = path.unwrap_or(Path::new(DEFAULT_FILE));
    let origin = path.display().to_string();
    let table = File::new(&origin, FileFormat::Toml).required(required).collect();
    let table = table.unwrap_or_else(|fault| {
        faults.push(format!("{origin} cannot be read: {fault}"));
        config::Map::new()
    });
    let mut given = Vec::new();
    for (name, value) in table {
        let setting = SETTINGS.iter().find(|setting| setting.key == name);
        let text = match value.clone().into_array() {
            Ok(members) => members
                .into_iter()
                .map(config::Value::into_string)
                .collect::<Result<Vec<_>, _>>()
                .map(|members| members.join(",")),
            Err(_) => value.into_string(),
        };
        match text {
            Ok(text) => given.push((name, setting, text, origin.clone())),
            Err(fault) => faults.push(format!("{name} ({origin}) must be a plain value: {fault}")),
        }
    }
    given.sort_by(|a, b| a.0.cmp(&b.0));
    given
}

fn from_standard(environment: &[(String, String)]) -> Vec<Given> {
    let given = |(standard, key): &(&str, &str)| {
        let (name, text) = environment
            .iter()
            .find(|(name, text)| name == standard && !text.is_empty())?;
        let setting = SETTINGS.iter().find(|setting| setting.key == *key);
        Some((name.clone(), setting, text.clone(), "environment".to_owned()))
    };
    STANDARD.iter().filter_map(given).collect()
}

fn from_environment(environment: &[(String, String)]) -> Vec<Given> {
    let mut given: Vec<Given> = environment
        .iter()
        .filter(|(name, _)| name.as_str() != FILE_VARIABLE && name.starts_with(PREFIX))
        .map(|(name, text)| {
            let setting = SETTINGS.iter().find(|setting| setting.variable() == *name);
            (name.clone(), setting, text.clone(), "environment".to_owned())
        })
        .collect();
    given.sort_by(|a, b| a.0.cmp(&b.0));
    given
}

fn from_flags(flags: &[(String, String)]) -> Vec<Given> {
    let one = |(key, text): &(String, String)| {
        let setting = SETTINGS.iter().find(|setting| setting.key == key);
        let name = format!("--{}", key.replace('_', "-"));
        (name, setting, text.clone(), "flag".to_owned())
    };
    flags.iter().map(one).collect()
}

/// A hint for a name that is probably misspelled: the setting with the same beginning that differs least behind it.
fn nearest(name: &str) -> String {
    const SHARED_MIN: usize = 3;
    let name = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
    let shared = |setting: &Setting| {
        let pairs = setting.key.bytes().zip(name.bytes());
        pairs.take_while(|(a, b)| a == b).count()
    };
    let differing = |setting: &&Setting| {
        let longer = setting.key.len().max(name.len());
        let pairs = setting.key.bytes().rev().zip(name.bytes().rev());
        let end = pairs.take_while(|(a, b)| a == b).count();
        longer.saturating_sub(shared(setting) + end)
    };
    let alike = SETTINGS.iter().filter(|setting| shared(setting) >= SHARED_MIN);
    match alike.min_by_key(differing) {
        Some(setting) => format!("; did you mean {}?", setting.key),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use crate::domain::S3Settings;

    fn sources(environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Sources {
            file: None,
            environment: owned(environment),
            flags: owned(flags),
        }
    }

    #[test]
    fn every_default_keeps_its_own_rule() {
        for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
            assert_eq!(setting.broken_rule(setting.default), None, "{}", setting.key);
        }
        Config::load(&Sources::default()).unwrap();
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("campanile.toml");
        std::fs::write(
            &file,
            "region = \"file\"\nstreams_max = 7\ncors_origins = [\"https://a.example\", \"https://b.example\"]\n",
        )
        .unwrap();
        let mut sources = sources(
            &[("CAMPANILE_REGION", "env"), ("CAMPANILE_RATE_LIMIT", "5")],
            &[("region", "flag")],
        );
        sources.file = Some(file);
        let config = Config::load(&sources).unwrap();
        assert_eq!(config.tenancy.region, "flag");
        assert_eq!(config.server.streams_max, 7);
        assert_eq!(config.rate_limits.standard.map(u32::from), Some(5));
        assert_eq!(config.server.cors_origins, ["https://a.example", "https://b.example"]);
    }

    #[test]
    fn all_faults_are_reported_at_once_and_secrets_stay_hidden() {
        let faults = Config::load(&sources(
            &[
                ("CAMPANILE_LISTN", "x"),
                ("CAMPANILE_STREAMS_MAX", "0"),
                ("CAMPANILE_OPERATOR_KEY", "hunter2"),
            ],
            &[("log_format", "xml")],
        ))
        .unwrap_err()
        .to_string();
        assert_eq!(
            faults,
            "the configuration has 4 fault(s):\n  \
             CAMPANILE_LISTN (environment) is not a setting; did you mean listen?\n  \
             CAMPANILE_OPERATOR_KEY (environment) must be 32 to 128 visible ASCII characters, received 7 characters\n  \
             CAMPANILE_STREAMS_MAX (environment) must be a whole number from 1 to 10000 (streams), received \"0\"\n  \
             --log-format (flag) must be one of text, json, received \"xml\""
        );
    }

    #[test]
    fn a_collector_is_read_from_the_variables_that_others_use_as_well() {
        let collector = |environment: &[(&str, &str)]| Config::load(&sources(environment, &[])).unwrap().log.collector;
        let standard = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4317");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:4317");
        let own = ("CAMPANILE_OTLP_ENDPOINT", "http://c:4317/");
        assert_eq!(collector(&[]), None);
        assert_eq!(collector(&[standard]).as_deref(), Some("http://a:4317"));
        assert_eq!(collector(&[traces, standard]).as_deref(), Some("http://b:4317"));
        assert_eq!(collector(&[own, standard, traces]).as_deref(), Some("http://c:4317/"));
        let refused = Config::load(&sources(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a:4317")], &[]));
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("OTEL_EXPORTER_OTLP_ENDPOINT (environment) must be http://")
        );
    }

    #[test]
    fn half_a_bucket_is_a_fault_and_a_whole_one_does_not_print_its_key() {
        let bucket = ("CAMPANILE_S3_BUCKET", "uploads");
        let id = ("CAMPANILE_S3_ACCESS_KEY_ID", "an-access-key");
        let secret = ("CAMPANILE_S3_SECRET_ACCESS_KEY", "the-secret-of-it");
        let endpoint = ("CAMPANILE_S3_ENDPOINT", "https://s3.example.com");
        for (given, fault) in [
            (
                vec![bucket],
                "s3_access_key_id, s3_secret_access_key must be set where s3_bucket is",
            ),
            (
                vec![bucket, id],
                "s3_secret_access_key must be set where s3_bucket, s3_access_key_id is",
            ),
            (
                vec![id, secret],
                "s3_bucket must be set where s3_access_key_id, s3_secret_access_key is",
            ),
            (
                vec![endpoint],
                "s3_bucket, s3_access_key_id, s3_secret_access_key must be set where s3_endpoint is",
            ),
        ] {
            let faults = Config::load(&sources(&given, &[])).unwrap_err();
            assert_eq!(faults.0, [fault]);
        }
        for (key, wrong) in [
            ("CAMPANILE_S3_BUCKET", "Up"),
            ("CAMPANILE_S3_ENDPOINT", "s3.example.com"),
            ("CAMPANILE_S3_ENDPOINT", "https://s3.example.com/path"),
            ("CAMPANILE_S3_REGION", "eu west"),
            ("CAMPANILE_S3_URL_STYLE", "host"),
            ("CAMPANILE_S3_PREFIX", "/a"),
            ("CAMPANILE_S3_PREFIX", "a/../b"),
            ("CAMPANILE_S3_TIMEOUT_SECONDS", "0"),
            ("CAMPANILE_S3_SECRET_ACCESS_KEY", "hunter 2"),
        ] {
            let mut given = vec![bucket, id, secret];
            given.retain(|(named, _)| *named != key);
            given.push((key, wrong));
            let faults = Config::load(&sources(&given, &[])).unwrap_err();
            assert!(faults.0.len() == 1 && faults.0[0].starts_with(key), "{faults}");
            assert!(!faults.to_string().contains("hunter"), "{faults}");
        }
        let whole = sources(&[bucket, id, secret, endpoint], &[]);
        let config = Config::load(&whole).unwrap();
        let s3 = config.uploads.s3.as_ref().unwrap();
        assert_eq!(
            (s3.bucket.as_str(), s3.secret_access_key.as_str()),
            ("uploads", "the-secret-of-it")
        );
        assert_eq!(
            (s3.region.as_str(), s3.timeout),
            (S3Settings::REGION, S3Settings::TIMEOUT)
        );
        let shown = format!("{config:?} {}", Config::describe(&whole).unwrap());
        assert!(
            !shown.contains("the-secret-of-it") && !shown.contains("an-access-key"),
            "{shown}"
        );
        assert!(
            Config::load(&sources(&[], &[])).unwrap().uploads.s3.is_none(),
            "a folder, unless a bucket is named"
        );
    }

    #[test]
    fn contradictions_are_faults() {
        let url = "postgres://ada:lovelace@db/campanile";
        let faults = Config::load(&sources(
            &[("CAMPANILE_DATABASE_URL", url), ("CAMPANILE_BOOTSTRAP_APP", "demo")],
            &[],
        ))
        .unwrap_err();
        assert_eq!(faults.0.len(), 2, "{faults}");
        let shown = Config::describe(&sources(
            &[
                ("CAMPANILE_DATABASE_URL", url),
                ("CAMPANILE_SECRET_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ],
            &[],
        ))
        .unwrap();
        assert!(shown.contains("database_url = \"postgres://ada:***@db/campanile\" # environment\n"));
        assert!(shown.contains("secret_key = \"***\" # environment\n"));
        assert!(!shown.contains("lovelace") && !shown.contains("AAAA"));
    }
}
