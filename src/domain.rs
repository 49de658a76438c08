//! What may happen: decisions, each in one transaction. It is the only user of the store, and knows neither protobuf nor
//! HTTP nor where a setting comes from.

pub mod app;
pub mod campaign;
mod card;
pub mod category;
pub mod channel;
pub mod dispatch;
pub mod feed;
pub mod idempotency;
pub mod identity;
pub mod measure;
pub mod notification;
pub mod outgoing;
mod page;
pub mod retention;
pub mod sequence;
pub mod template;
pub mod user;
mod wake;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::channel::Drivers;
use crate::files::Files;
use crate::model::channel::ChannelLimits;
use crate::model::id::AppId;
use crate::model::user::Uid;
use crate::model::{Caller, Clock, Error, Origin, Reason, Result, Timestamp};
use crate::store::{Store, Tx};

use campaign::{CampaignLimits, Turns};
use dispatch::{Dispatching, Pace};
use feed::{Deliveries, Marks};
use measure::Measures;
use notification::Sends;
use wake::Wake;

pub use crate::files::{Draft, FileSettings, Received, S3Settings, too_large as file_too_large};
pub use crate::store::{Answering, Calls, Once, SecretKey, StoreSettings, Written};
pub use card::{Cards, VersionContent};

/// How long things are kept unless a setting says otherwise: 90 days.
const RETENTION: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// What the service is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The database and what encrypts its secrets.
    pub store: StoreSettings,
    /// Whether a uid that was never heard of becomes a user when it is first used.
    pub auto_create_users: bool,
    /// How many channels of each type an app may have.
    pub channel_limits: ChannelLimits,
    /// How long feed items and what is recorded of sends are kept.
    pub retention: Duration,
    /// Where the installation stands, told in events.
    pub region: String,
    /// How batches are done.
    pub dispatching: Dispatching,
    /// What campaigns are held to.
    pub campaigns: CampaignLimits,
    /// Where uploaded files are.
    pub files: FileSettings,
    /// Where clients reach the service; `None`: where the one that asks has reached it.
    pub public_url: Option<String>,
    /// What takes deliveries of channel types other than in-app.
    pub drivers: Drivers,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Settings {
    /// The default settings on a database.
    #[must_use]
    pub fn new(store: StoreSettings) -> Self {
        Self {
            files: FileSettings::new(store.folder().unwrap_or_else(|| "data".into()).join("uploads")),
            public_url: None,
            drivers: crate::channel::built_in(),
            store,
            auto_create_users: true,
            channel_limits: ChannelLimits::default(),
            retention: RETENTION,
            region: "us".to_owned(),
            dispatching: Dispatching::default(),
            campaigns: CampaignLimits::default(),
            clock: Clock::default(),
        }
    }
}

/// The running service: all that decisions need. Cheap to clone; there is nothing global beside it.
#[derive(Clone)]
pub struct Service {
    store: Store,
    settings: Arc<Settings>,
    cards: Cards,
    sends: Sends,
    marks: Marks,
    deliveries: Deliveries,
    files: Files,
    pace: Arc<Pace>,
    preflights: Arc<Turns>,
    wake: Wake,
    measures: Arc<Measures>,
    retired: Arc<AtomicBool>,
}

impl Service {
    /// Opens the service: brings the schema of the database up to date and connects. The one constructor, in production
    /// and in tests.
    ///
    /// # Errors
    /// Violations of settings that cannot be; [`Reason::Unavailable`] when the database is away.
    pub async fn open(settings: Settings) -> Result<Self> {
        let store = Store::open(&settings.store).await?;
        let cards = Cards::new(settings.drivers.clone());
        Ok(Self {
            sends: notification::sends(&store, &cards, settings.auto_create_users),
            marks: feed::marks(&store),
            deliveries: feed::deliveries(&store),
            store,
            measures: Arc::new(Measures::new(settings.store.meter.clone())),
            files: Files::new(settings.files.clone()),
            settings: Arc::new(settings),
            cards,
            pace: Arc::default(),
            preflights: Arc::default(),
            wake: Wake::default(),
            retired: Arc::default(),
        })
    }

    /// Where the time comes from.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.settings.clock
    }

    /// Where the installation stands.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.settings.region
    }

    /// The largest file that is taken, in bytes.
    #[must_use]
    pub fn upload_bytes_max(&self) -> u64 {
        self.files.bytes_max()
    }

    /// Where clients reach the service, if the installation says so.
    #[must_use]
    pub fn public_url(&self) -> Option<&str> {
        self.settings.public_url.as_deref()
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`Reason::Unavailable`], when it does not.
    pub async fn check(&self) -> Result<()> {
        self.store.check().await
    }

    /// Waits while the database is known to be away.
    pub async fn reachable(&self) {
        self.store.reachable().await;
    }

    /// The calls that are being answered, so that background work knows of them.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        self.store.calls()
    }

    /// Finishes the writes that wait and lets go of the database.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// Lets background work end after the step that it is in: the service is about to close.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether background work is to end.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// The operator's own hand on the service, for the command line and for what happens at start.
    #[must_use]
    pub fn as_operator(&self) -> Acting {
        Acting::new(Caller::Operator, None, self.clock().now())
    }

    /// Decides in a transaction: once per idempotency key if the call has one. The closure may run more than once, so it
    /// awaits nothing but store functions.
    async fn write<T, F>(&self, acting: &Acting, work: F) -> Result<Written<T>>
    where
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        Ok(self.noted(self.store.write_once(acting.once.clone(), work).await?))
    }

    /// Counts what was answered from an earlier equal call.
    fn noted<T>(&self, written: Written<T>) -> Written<T> {
        if written.replayed {
            self.measures.replays.increment(1);
        }
        written
    }

    /// What an earlier equal call answered, for decisions that take more than one transaction. Those that take one need
    /// not ask.
    async fn answered<T: DeserializeOwned>(&self, acting: &Acting) -> Result<Option<T>> {
        let Some(once) = &acting.once else {
            return Ok(None);
        };
        let answer = self.store.find_answer(once).await?;
        if answer.is_some() {
            self.measures.replays.increment(1);
        }
        Ok(answer)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Who asks for something, for whom, when, and under which idempotency key.
#[derive(Clone, Debug)]
pub struct Acting {
    /// Who asks.
    pub caller: Caller,
    /// The user it is asked for.
    pub on_behalf_of: Option<Uid>,
    /// When.
    pub now: Timestamp,
    /// The idempotency key with what it is bound to.
    pub once: Option<Once>,
    /// The call that asks.
    pub origin: Origin,
}

impl Acting {
    /// A call without an idempotency key.
    #[must_use]
    pub fn new(caller: Caller, on_behalf_of: Option<Uid>, now: Timestamp) -> Self {
        Self {
            caller,
            on_behalf_of,
            now,
            once: None,
            origin: Origin::default(),
        }
    }

    /// The same with an idempotency key, bound to the app, the user acted for, and the rpc; not to the API key, so that a
    /// call may be repeated with a new one.
    #[must_use]
    pub fn with_key(mut self, rpc: &'static str, secret: bool, key: String, hash: [u8; 32]) -> Self {
        let actor = match (&self.on_behalf_of, self.caller) {
            (Some(uid), _) => format!("user:{uid}"),
            (None, Caller::Operator) => "operator".to_owned(),
            (None, Caller::App { .. }) => "app".to_owned(),
            (None, Caller::Public) => "public".to_owned(),
        };
        self.once = Some(Once {
            app: self.caller.app(),
            actor,
            rpc,
            key,
            hash,
            secret,
            now: self.now,
        });
        self
    }

    /// The app that it is asked in.
    ///
    /// # Errors
    /// [`Reason::Forbidden`] to callers that belong to none. The layers in front have refused them by the contract's rule
    /// already; this is the second lock on the same door.
    pub fn app(&self) -> Result<AppId> {
        self.caller
            .app()
            .ok_or_else(|| Error::new(Reason::Forbidden, "this is for the key of an app"))
    }

    /// Lets the operator pass.
    ///
    /// # Errors
    /// [`Reason::Forbidden`] to all others.
    pub fn operator(&self) -> Result<()> {
        match self.caller {
            Caller::Operator => Ok(()),
            Caller::App { .. } | Caller::Public => Err(Error::new(Reason::Forbidden, "this is for the operator key")),
        }
    }
}

/// Nobody can change a row between reading it under its lock and writing it, so if that happened the lock is missing.
fn unchanged_since(written: bool) -> Result<()> {
    if written {
        Ok(())
    } else {
        Err(Error::internal("a row changed although it was locked"))
    }
}
