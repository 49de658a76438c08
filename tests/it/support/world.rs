//! The whole service behind its real server: a database of its own, a clock that stands until a test moves it, and callers
//! of every kind. A test written once with [`everywhere!`](crate::everywhere) runs through both doors and on both databases.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use campanile::api::edge::Options;
use campanile::api::start;
use campanile::domain::{FileSettings, Service, Settings, identity, measure};
use campanile::model::{Clock, Timestamp};
use campanile::store::Store;
use campanile::worker::{Turn, dispatch};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::database::TestDatabase;
use super::metrics::Metrics;
use super::rpc::{Answer, Client, Door};
use super::server::{OPERATOR_KEY, Setup, TestServer, http1};

/// When every test begins: 2024-01-15T12:00:00.000Z.
const NOON: i64 = 1_705_320_000_000;

/// One running service, called through one door.
pub(crate) struct World {
    /// The service behind the server.
    pub(crate) service: Service,
    /// How it is called.
    pub(crate) client: Client,
    /// Its time.
    pub(crate) clock: Clock,
    server: TestServer,
    named: AtomicU32,
    db: TestDatabase,
    uploads: TempDir,
}

/// Who calls: headers, or metadata of the same names.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Vec<(&'static str, String)>);

impl Caller {
    /// The operator.
    pub(crate) fn operator() -> Self {
        Self(vec![("operatorkey", OPERATOR_KEY.to_owned())])
    }

    /// Whoever presents this API key.
    pub(crate) fn key(key: &str) -> Self {
        Self(vec![("apikey", key.to_owned())])
    }

    /// Nobody in particular.
    pub(crate) fn nobody() -> Self {
        Self(Vec::new())
    }

    /// The API key that it presents.
    pub(crate) fn api_key(&self) -> &str {
        let key = self.0.iter().find(|(name, _)| *name == "apikey");
        key.map_or("", |(_, value)| value)
    }

    /// The same, acting for a user.
    pub(crate) fn on_behalf_of(&self, uid: &str) -> Self {
        self.with("onbehalfof", uid)
    }

    /// The same with an idempotency key.
    pub(crate) fn once(&self, key: &str) -> Self {
        self.with("idempotency-key", key)
    }

    /// The same, waiting so long for an answer.
    pub(crate) fn within(&self, time: Duration) -> Self {
        self.with("grpc-timeout", &format!("{}m", time.as_millis()))
    }

    /// A request with what this caller presents.
    pub(crate) fn dress(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        self.0
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, value))
    }

    fn with(&self, name: &'static str, value: &str) -> Self {
        let mut headers = self.0.clone();
        headers.push((name, value.to_owned()));
        Self(headers)
    }
}

/// An app with a key of full access.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    /// The app's public id.
    pub(crate) id: String,
    /// The public id of its first key.
    pub(crate) key_id: String,
    /// Whoever presents that key.
    pub(crate) caller: Caller,
}

impl World {
    /// Starts the service on a database.
    pub(crate) async fn start(db: TestDatabase, door: Door) -> Self {
        Self::start_with(db, door, |_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn start_with(db: TestDatabase, door: Door, change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_behind(db, door, change, |_| {}).await
    }

    /// The same with other limits of the layers in front as well.
    pub(crate) async fn start_behind(
        db: TestDatabase,
        door: Door,
        change: impl FnOnce(&mut Settings),
        limit: impl FnOnce(&mut Options),
    ) -> Self {
        let uploads = tempfile::tempdir().unwrap();
        Self::start_on((db, uploads), door, change, limit).await
    }

    async fn start_on(
        (db, uploads): (TestDatabase, TempDir),
        door: Door,
        change: impl FnOnce(&mut Settings),
        limit: impl FnOnce(&mut Options),
    ) -> Self {
        let clock = Clock::fixed(Timestamp::from_millis(NOON).unwrap());
        let mut settings = Settings {
            clock: clock.clone(),
            files: FileSettings::new(uploads.path()),
            ..Settings::new(db.settings())
        };
        change(&mut settings);
        let service = Service::open(settings).await.unwrap();
        let (keys, looks) = (service.clone(), service.clone());
        let mut setup = Setup {
            find_key: Arc::new(move |digest| {
                let service = keys.clone();
                Box::pin(async move { identity::find_key(&service, digest).await })
            }),
            look: Arc::new(move || {
                let service = looks.clone();
                Box::pin(async move { measure::look(&service, service.clock().now()).await })
            }),
            meter: service.meter().clone(),
            calls: service.calls().clone(),
            clock: clock.clone(),
            ..Setup::new()
        };
        limit(&mut setup.edge);
        let server = TestServer::start(start::doors(&service).unwrap(), setup).await;
        Self {
            client: Client::new(door, &server.url),
            service,
            clock,
            server,
            named: AtomicU32::new(0),
            db,
            uploads,
        }
    }

    /// Stops the service and starts it again on the same database, at the same time of day.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let (now, door) = (self.clock.now(), self.client.door);
        self.service.close().await;
        let world = Self::start_on((self.db, self.uploads), door, change, |_| {}).await;
        world.clock.set(now);
        world
    }

    /// The database behind the service.
    pub(crate) fn database(&self) -> &TestDatabase {
        &self.db
    }

    /// A client of the same server through another door.
    pub(crate) fn through(&self, door: Door) -> Client {
        Client::new(door, &self.server.url)
    }

    /// The folder of uploaded files.
    pub(crate) fn uploads(&self) -> &Path {
        self.uploads.path()
    }

    /// The database behind the service, opened once more.
    pub(crate) async fn store(&self) -> Store {
        self.db.open().await
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        self.clock.set(self.clock.now().plus(time));
    }

    /// Calls an rpc.
    pub(crate) async fn call(&self, rpc: &str, caller: &Caller, request: Value) -> Answer {
        call(&self.client, rpc, caller, &request).await
    }

    /// Sends these messages of a client-streaming rpc and never an end.
    pub(crate) async fn stream(&self, rpc: &str, caller: &Caller, messages: Vec<Value>) -> Answer {
        let headers: Vec<_> = caller.0.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.client.stream_on(rpc, &headers, &messages).await
    }

    /// Reads a path over REST.
    pub(crate) async fn get(&self, path: &str, caller: &Caller) -> Answer {
        let headers: Vec<_> = caller.0.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.client.get(path, &headers).await
    }

    /// Where the server listens.
    pub(crate) fn url(&self) -> &str {
        &self.server.url
    }

    /// What the metrics page shows.
    pub(crate) async fn metrics(&self) -> Metrics {
        let page = http1().get(format!("{}/metrics", self.server.url)).send().await;
        Metrics::of(&page.unwrap().text().await.unwrap())
    }

    /// A request over HTTP, for what is no rpc.
    pub(crate) fn http(&self, verb: reqwest::Method, path: &str, caller: &Caller) -> reqwest::RequestBuilder {
        let sent = reqwest::Client::new().request(verb, format!("{}{path}", self.server.url));
        caller
            .0
            .iter()
            .fold(sent, |sent, (name, value)| sent.header(*name, value))
    }

    /// Lets a worker do all that waits.
    pub(crate) async fn work(&self) {
        while dispatch::turn(&self.service, self.clock.now()).await == Turn::Again {}
    }

    /// Makes an app with a key of full access, as an operator would.
    pub(crate) async fn tenant(&self, id: &str) -> Tenant {
        let operator = Caller::operator();
        let app = self
            .call("CreateApp", &operator, json!({"app": {"id": id, "name": id}}))
            .await;
        assert_eq!(app.status, 201, "{app:#?}");
        let (key_id, caller) = self.key(id, "fullAccess").await;
        Tenant {
            id: id.to_owned(),
            key_id,
            caller,
        }
    }

    /// Makes a key of an app: its id, and whoever presents it.
    pub(crate) async fn key(&self, app: &str, scope: &str) -> (String, Caller) {
        let name = format!("Key {}", self.named.fetch_add(1, Ordering::Relaxed));
        let request = json!({"appId": app, "apiKey": {"name": name, "scope": scope}});
        let made = self.call("CreateApiKey", &Caller::operator(), request).await;
        let text = |field: &str| made.data()[field].as_str().unwrap().to_owned();
        (text("id"), Caller::key(&text("key")))
    }
}

/// Calls an rpc through a client.
pub(crate) async fn call(client: &Client, rpc: &str, caller: &Caller, request: &Value) -> Answer {
    let headers: Vec<_> = caller.0.iter().map(|(name, value)| (*name, value.as_str())).collect();
    client.call(rpc, &headers, request).await
}

/// JSON as it is every time: what is random in it replaced by what it is.
pub(crate) fn steady(json: &Value) -> Value {
    match json {
        Value::String(text) => json!(steady_text(text)),
        Value::Array(values) => values.iter().map(steady).collect(),
        Value::Object(fields) => Value::Object(fields.iter().map(steady_field).collect::<Map<_, _>>()),
        other => other.clone(),
    }
}

fn steady_field((name, value): (&String, &Value)) -> (String, Value) {
    let random = (name == "hint" && value.as_str().is_some_and(|hint| hint.len() == 4))
        || (name == "key" && value.as_str().is_some_and(|key| key.len() == 64));
    (
        name.clone(),
        if random {
            json!(format!("<{name}>"))
        } else {
            steady(value)
        },
    )
}

/// Ids in a text, and nothing else of it, replaced.
fn steady_text(text: &str) -> String {
    const DIGITS: usize = 26;
    let mut steady = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('-') {
        let (kind, digits) = rest.split_at(at + 1);
        steady.push_str(kind);
        let id: String = digits.chars().take_while(char::is_ascii_alphanumeric).collect();
        if id.len() == DIGITS {
            steady.push('…');
            rest = digits.split_at(DIGITS).1;
        } else {
            rest = digits;
        }
    }
    steady + rest
}

/// Defines each test through both doors and on both databases: `everywhere! { async fn sentence(world) { … } }`.
#[macro_export]
macro_rules! everywhere {
    ($($(#[$attribute:meta])* async fn $name:ident($world:ident) $body:block)+) => {$(
        $(#[$attribute])*
        mod $name {
            use super::*;
            use $crate::support::database::{Backend, TestDatabase};
            use $crate::support::rpc::Door;
            use $crate::support::world::World;

            async fn run($world: World) $body

            async fn on(backend: Backend, door: Door) {
                // Without a cluster PostgreSQL is left out, unless the run must have it.
                if let Some(db) = TestDatabase::new(backend).await {
                    run(World::start(db, door).await).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn rest_sqlite() {
                on(Backend::Sqlite, Door::Rest).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn grpc_sqlite() {
                on(Backend::Sqlite, Door::Grpc).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn rest_postgres() {
                on(Backend::Postgres, Door::Rest).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn grpc_postgres() {
                on(Backend::Postgres, Door::Grpc).await;
            }
        }
    )+};
}
