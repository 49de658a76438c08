//! `campanile app` and `campanile key`: the operator's hand on apps and their keys, on the database itself, whether a
//! server runs or not.

use campanile::domain::Service;
use campanile::domain::app::{self, KeyRef};
use campanile::model::Scope;
use campanile::model::app::{API_KEYS_MAX, ApiKeySort, AppSlug, NewApiKey, NewApp};
use campanile::model::page::{Order, PageRequest, Start};
use clap::{Args, Subcommand, ValueEnum};

use super::{Fault, print};

#[derive(Subcommand)]
pub(super) enum AppCommand {
    /// Create an app and print its id
    Create {
        /// The id: 1 to 63 lower-case letters, digits and hyphens; generated when it is absent
        #[arg(long)]
        id: Option<String>,
        /// What it is called
        #[arg(long)]
        name: String,
    },
}

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Create a key and print it; this is the only time it is shown
    Create {
        #[command(flatten)]
        of: OfApp,
        /// What it is called
        #[arg(long)]
        name: String,
        /// How far it reaches
        #[arg(long, value_enum, default_value = "fullAccess")]
        scope: ScopeWord,
    },
    /// List the keys of an app, without their secrets
    List {
        #[command(flatten)]
        of: OfApp,
    },
    /// Revoke a key for good
    Revoke {
        #[command(flatten)]
        of: OfApp,
        /// The key's id, such as `list` prints it
        #[arg(long)]
        id: String,
    },
}

#[derive(Args)]
pub(super) struct OfApp {
    /// The app's id
    #[arg(long)]
    app: String,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "camelCase")]
pub(super) enum ScopeWord {
    /// Everything within the app
    FullAccess,
    /// Minting tokens for end users
    AuthOnly,
}

/// Runs one of the commands about apps.
pub(super) async fn app(service: &Service, command: AppCommand) -> Result<(), Fault> {
    let AppCommand::Create { id, name } = command;
    let new = NewApp {
        slug: id.map(|id| AppSlug::chosen(&id)).transpose().map_err(wrong("--id"))?,
        name: name.parse().map_err(wrong("--name"))?,
    };
    let created = app::create(service, &service.as_operator(), new).await?;
    service.close().await;
    print(&format!("{}\n", created.value.slug))
}

/// Runs one of the commands about keys.
pub(super) async fn key(service: &Service, command: KeyCommand) -> Result<(), Fault> {
    let output = match command {
        KeyCommand::Create { of, name, scope } => create(service, &of, &name, scope).await?,
        KeyCommand::List { of } => list(service, &of).await?,
        KeyCommand::Revoke { of, id } => {
            let target = KeyRef {
                app: Some(of.slug()?),
                id: id.parse().map_err(wrong("--id"))?,
            };
            app::revoke_key(service, &service.as_operator(), target).await?;
            format!("{id} is revoked; servers refuse it within five seconds\n")
        }
    };
    service.close().await;
    print(&output)
}

async fn create(service: &Service, of: &OfApp, name: &str, scope: ScopeWord) -> Result<String, Fault> {
    let new = NewApiKey {
        name: name.parse().map_err(wrong("--name"))?,
        scope: match scope {
            ScopeWord::FullAccess => Scope::FullAccess,
            ScopeWord::AuthOnly => Scope::AuthOnly,
        },
    };
    let created = app::create_key(service, &service.as_operator(), Some(of.slug()?), new).await?;
    Ok(format!("{}\n", created.value.secret.reveal_once()))
}

async fn list(service: &Service, of: &OfApp) -> Result<String, Fault> {
    let page = PageRequest {
        limit: API_KEYS_MAX,
        sort: ApiKeySort::CreatedAt,
        order: Order::Descending,
        start: Start::First,
        totals: false,
    };
    let keys = app::list_keys(service, &service.as_operator(), Some(&of.slug()?), &page).await?;
    let line = |key: &campanile::model::app::ApiKey| {
        let scope = match key.scope {
            Scope::FullAccess => "fullAccess",
            Scope::AuthOnly => "authOnly",
        };
        format!("{}\t{scope}\t…{}\t{}\t{}\n", key.id, key.hint, key.created_at, key.name)
    };
    Ok(keys.rows.iter().map(line).collect())
}

impl OfApp {
    fn slug(&self) -> Result<AppSlug, Fault> {
        self.app.parse().map_err(wrong("--app"))
    }
}

fn wrong(flag: &str) -> impl Fn(&'static str) -> Fault {
    move |rule| Fault::Usage(format!("{flag} {rule}"))
}
