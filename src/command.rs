//! What the command line can do, and how it ends. The settings are the same for every command.

mod admin;
mod campaign;
mod descriptors;
mod secret;
mod serve;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use campanile::config::{Config, Faults, LogFormat, SETTINGS, Setting, Sources};
use campanile::domain::{Service, Settings, StoreSettings};
use campanile::telemetry;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

/// A self-hosted service for campaigns and notifications.
#[derive(Parser)]
#[command(name = "campanile", version, disable_help_subcommand = true)]
struct Cli {
    /// The configuration file; campanile.toml is read when it exists
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve gRPC, gRPC-Web and REST until SIGTERM
    Serve,
    /// Bring the schema of the database up to date
    Migrate,
    /// Print the effective configuration, secrets hidden, or everything that is wrong with it
    CheckConfig,
    /// Manage apps
    #[command(subcommand)]
    App(admin::AppCommand),
    /// Manage the API keys of an app
    #[command(subcommand)]
    Key(admin::KeyCommand),
    /// Run campaigns on a server, by its public API
    #[command(subcommand)]
    Campaign(campaign::CampaignCommand),
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The command line or the configuration is wrong.
    Usage(String),
    /// What was asked for is not possible.
    Refused(campanile::model::Error),
    /// The system does not do its part.
    System(String, io::Error),
    /// It came to another end than was asked for; with the exit code of that.
    Ended(u8, String),
}

impl Fault {
    /// The exit code: 64 for usage, as sysexits.h has it, else 1 unless the command has its own.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Ended(code, _) => *code,
            Self::Refused(_) | Self::System(..) => 1,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Ended(_, text) => f.write_str(text),
            Self::System(what, fault) => write!(f, "{what}: {fault}"),
            Self::Refused(error) => {
                f.write_str(match error.dev_message() {
                    "" => error.message(),
                    message => message,
                })?;
                let mut cause = std::error::Error::source(error);
                while let Some(source) = cause {
                    write!(f, ": {source}")?;
                    cause = source.source();
                }
                Ok(())
            }
        }
    }
}

impl From<Faults> for Fault {
    fn from(faults: Faults) -> Self {
        Self::Usage(faults.to_string())
    }
}

impl From<campanile::model::Error> for Fault {
    fn from(error: campanile::model::Error) -> Self {
        Self::Refused(error)
    }
}

/// Runs what the command line asks for.
pub(crate) fn run() -> Result<(), Fault> {
    let matches = Cli::command().args(SETTINGS.iter().map(flag)).get_matches();
    let cli = Cli::from_arg_matches(&matches).map_err(|fault| Fault::Usage(fault.to_string()))?;
    let sources = Sources::of_process(cli.config, flags(&matches));
    if matches!(cli.command, Command::CheckConfig) {
        return print(&Config::describe(&sources)?);
    }
    let config = Config::load(&sources)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|fault| Fault::System("no threads can be started".to_owned(), fault))?;
    let spans = {
        let _inside = runtime.enter();
        let (json, collector) = (config.log.format == LogFormat::Json, config.log.collector.as_deref());
        telemetry::start_log(&config.log.filter, json, collector).map_err(|fault| Fault::Usage(fault.to_string()))?
    };
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Serve => serve::serve(config).await,
            Command::Migrate => {
                open(&config).await?.close().await;
                Ok(())
            }
            Command::App(command) => admin::app(&open(&config).await?, command).await,
            Command::Key(command) => admin::key(&open(&config).await?, command).await,
            Command::Campaign(command) => campaign::run(&config, command).await,
            Command::CheckConfig => Ok(()),
        }
    });
    spans.end();
    ended
}

/// Opens the service as the configuration says.
pub(crate) async fn open(config: &Config) -> Result<Service, Fault> {
    let mut settings = Settings::new(store_settings(config)?);
    settings.auto_create_users = config.auto_create_users;
    settings.channel_limits.clone_from(&config.channel_limits);
    settings.campaigns = config.campaigns;
    if let Some(folder) = &config.uploads.folder {
        settings.files.folder.clone_from(folder);
    }
    settings.files.bytes_max = config.uploads.bytes_max;
    settings.files.s3.clone_from(&config.uploads.s3);
    settings.public_url.clone_from(&config.public_url);
    settings.retention = config.retention;
    settings.region.clone_from(&config.tenancy.region);
    settings.dispatching = config.dispatching;
    Ok(Service::open(settings).await?)
}

fn store_settings(config: &Config) -> Result<StoreSettings, Fault> {
    let mut settings = StoreSettings::new(config.database.url.as_str(), secret::key(config)?);
    settings.connections = config.database.connections_max;
    Ok(settings)
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<(), Fault> {
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(|fault| Fault::System("standard output cannot be written".to_owned(), fault))
}

fn flag(setting: &'static Setting) -> Arg {
    Arg::new(setting.key)
        .long(setting.flag())
        .global(true)
        .help(setting.meaning)
        .value_name(setting.bounds())
        .help_heading("Settings")
        .hide_short_help(true)
}

fn flags(matches: &ArgMatches) -> Vec<(String, String)> {
    let given = |setting: &Setting| {
        let value = matches.get_one::<String>(setting.key)?;
        Some((setting.key.to_owned(), value.clone()))
    };
    SETTINGS.iter().filter_map(given).collect()
}
