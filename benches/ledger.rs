//! Sends as a load, and the plainest program that writes what a send writes to SQLite. It measures itself only by the
//! clock; `ledger.mjs` starts the sides and compares them.
//!
//! ```text
//! ledger load ADDRESS KEY SECONDS CALLERS CONNECTIONS USERS   sends over gRPC, each to one of so many users by chance
//! ledger floor FILE SECONDS USERS                             the rows of a send, one COMMIT each, on one connection
//! ledger sql FILE                                             the statements that it reads, on one connection
//! ```
//!
//! The last prints the first column of every row that it is answered. Each of the others prints one line: how many were done, in how many seconds, the median and 99th hundredth of their times in ms, and
//! this process's own processor time in µs.

use std::env;
use std::error::Error as StdError;
use std::fs;
use std::io::{self, Write};
use std::str::FromStr;
use std::time::{Duration, Instant};

use campanile::pb::v1;
use futures::future::try_join_all;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

type Fallible<T> = Result<T, Box<dyn StdError + Send + Sync>>;

const SEND: &str = "/campanile.v1.NotificationService/SendNotification";

fn main() -> Fallible<()> {
    let given: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = match given.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["load", address, key, seconds, callers, connections, users] => {
            let load = Load {
                address: (*address).to_owned(),
                key: (*key).to_owned(),
                users: users.parse()?,
                callers: callers.parse()?,
                connections: connections.parse()?,
            };
            runtime.block_on(load.run(within(seconds)?))?
        }
        ["sql", file] => return runtime.block_on(script(file)),
        ["floor", file, seconds, users] => runtime.block_on(floor(file, within(seconds)?, users.parse()?))?,
        // `cargo bench` and `cargo test --benches` run every benchmark without arguments.
        [] => return Ok(()),
        _ => {
            return Err(
                "ledger load ADDRESS KEY SECONDS CALLERS CONNECTIONS USERS | floor FILE SECONDS USERS | sql FILE"
                    .into(),
            );
        }
    };
    measured.print()
}

fn within(seconds: &str) -> Fallible<Duration> {
    Ok(Duration::from_secs_f64(seconds.parse()?))
}

/// When each call was done, and how long it took.
#[derive(Default)]
struct Measured {
    elapsed: Duration,
    times: Vec<Duration>,
}

impl Measured {
    fn print(mut self) -> Fallible<()> {
        self.times.sort_unstable();
        let at = |share: usize| {
            self.times
                .get(self.times.len() * share / 100)
                .copied()
                .unwrap_or_default()
        };
        let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
        let line = format!(
            "{} {:.6} {:.3} {:.3} {}\n",
            self.times.len(),
            self.elapsed.as_secs_f64(),
            millis(at(50)),
            millis(at(99)),
            processor_micros()?
        );
        io::stdout().write_all(line.as_bytes())?;
        Ok(())
    }
}

/// Threads that have ended included; proc(5) counts hundredths of a second.
fn processor_micros() -> Fallible<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    let ticks: u64 = fields.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks * 10_000)
}

/// Numbers by chance that are the same in every run: Marsaglia's xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

struct Load {
    address: String,
    key: String,
    users: u64,
    callers: usize,
    connections: usize,
}

impl Load {
    /// Callers that each send again as soon as they are answered.
    async fn run(&self, time: Duration) -> Fallible<Measured> {
        let mut channels = Vec::new();
        for _ in 0..self.connections.max(1) {
            let endpoint = Endpoint::from_shared(format!("http://{}", self.address))?.tcp_nodelay(true);
            channels.push(endpoint.connect().await?);
        }
        let began = Instant::now();
        let until = began + time;
        let seed = u64::from(std::process::id());
        let callers = (0_u64..).zip(channels.iter().cycle()).take(self.callers);
        let callers = callers.map(|(number, channel)| self.call(channel.clone(), seed * 1_000 + number + 1, until));
        let times = try_join_all(callers).await?.concat();
        Ok(Measured {
            elapsed: began.elapsed(),
            times,
        })
    }

    async fn call(&self, channel: Channel, seed: u64, until: Instant) -> Fallible<Vec<Duration>> {
        let (mut client, mut chance) = (Grpc::new(channel), Chance(seed));
        let key: MetadataValue<_> = self.key.parse()?;
        let mut times = Vec::new();
        while Instant::now() < until {
            let mut request = tonic::Request::new(send(&format!("user{}", chance.below(self.users) + 1)));
            request.metadata_mut().insert("apikey", key.clone());
            let began = Instant::now();
            client.ready().await?;
            let codec = tonic_prost::ProstCodec::<v1::SendNotificationRequest, v1::SendNotificationResponse>::default();
            let answer = client.unary(request, SEND.parse()?, codec).await?.into_inner();
            let deliveries = answer.receivers.iter().flat_map(|receiver| &receiver.deliveries);
            if deliveries.filter(|delivery| delivery.feed_item_id.is_some()).count() != 1 {
                return Err(format!("a send was answered {answer:?}").into());
            }
            times.push(began.elapsed());
        }
        Ok(times)
    }
}

fn send(uid: &str) -> v1::SendNotificationRequest {
    let name = v1::VariableValue {
        kind: Some(v1::variable_value::Kind::Text("Ada".to_owned())),
    };
    let values = v1::VariableValues {
        values: [("name".to_owned(), name)].into(),
    };
    v1::SendNotificationRequest {
        template_id: "news".to_owned(),
        receivers: vec![uid.to_owned()],
        variables: [(uid.to_owned(), values)].into(),
        ..v1::SendNotificationRequest::default()
    }
}

/// A table, the column that finds the rows of one send in it, and what is another value in each send.
type Table = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The rest of each row is as in the send that was made before.
const TABLES: [Table; 5] = [
    ("notifications", "id", &[("id", "?1")]),
    (
        "notification_recipients",
        "notification_id",
        &[("notification_id", "?1"), ("user_id", "?3"), ("uid", "?5")],
    ),
    ("pages", "notification_id", &[("notification_id", "?1")]),
    (
        "deliveries",
        "notification_id",
        &[("id", "?2"), ("notification_id", "?1"), ("user_id", "?3")],
    ),
    (
        "feed_items",
        "notification_id",
        &[
            ("id", "?2"),
            ("delivery_id", "?2"),
            ("notification_id", "?1"),
            ("user_id", "?3"),
            ("seq", "?4"),
            ("change_seq", "?4"),
        ],
    ),
];

const HEAD: &str =
    "UPDATE feed_heads SET seq = seq + 1, unread = unread + 1 WHERE app_id = ?1 AND user_id = ?2 RETURNING seq";
const CATEGORY: &str =
    "UPDATE feed_head_categories SET unread = unread + 1 WHERE app_id = ?1 AND user_id = ?2 AND category_id = ?3";

/// The statements with the values of the sample in them, prepared once by the connection.
async fn statements(conn: &mut SqliteConnection, sample: &[u8]) -> Fallible<Vec<String>> {
    let mut statements = Vec::new();
    for (table, key, differing) in TABLES {
        let columns = sqlx::query(AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')")));
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for column in columns.fetch_all(&mut *conn).await? {
            let name: String = column.try_get(0)?;
            let quote = format!("SELECT quote({name}) FROM {table} WHERE {key} = ?1");
            let row = sqlx::query(AssertSqlSafe(quote))
                .bind(sample)
                .fetch_one(&mut *conn)
                .await?;
            let same: String = row.try_get(0)?;
            let differs = differing.iter().find(|(column, _)| *column == name);
            values.push(differs.map_or(same, |(_, value)| (*value).to_owned()));
            names.push(name);
        }
        statements.push(format!(
            "INSERT INTO {table} ({}) VALUES ({})",
            names.join(", "),
            values.join(", ")
        ));
    }
    Ok(statements)
}

/// One connection with the guarantees that the service has.
async fn connect(file: &str) -> Fallible<SqliteConnection> {
    let options = SqliteConnectOptions::from_str(&format!("sqlite://{file}"))?
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(60))
        .foreign_keys(true)
        // As much as the service's writer has.
        .pragma("cache_size", "-8192")
        .statement_cache_capacity(512)
        .disable_statement_logging();
    Ok(options.connect().await?)
}

/// Runs what standard input says.
async fn script(file: &str) -> Fallible<()> {
    let mut conn = connect(file).await?;
    let statements = io::read_to_string(io::stdin())?;
    for row in sqlx::raw_sql(AssertSqlSafe(statements)).fetch_all(&mut conn).await? {
        let first: String = row.try_get(0)?;
        io::stdout().write_all(format!("{first}\n").as_bytes())?;
    }
    conn.close().await?;
    Ok(())
}

/// One send after the other, as a program would that knows nothing of groups: its rows, and a COMMIT.
async fn floor(file: &str, time: Duration, users: u64) -> Fallible<Measured> {
    let mut conn = connect(file).await?;
    let sample = "SELECT i.notification_id, i.app_id, i.category_id FROM feed_items i JOIN users u ON u.id = i.user_id WHERE u.uid = 'first'";
    let sample = sqlx::query(sample).fetch_one(&mut conn).await?;
    let (notification, app, category): (Vec<u8>, Vec<u8>, Vec<u8>) =
        (sample.try_get(0)?, sample.try_get(1)?, sample.try_get(2)?);
    let inserts = statements(&mut conn, &notification).await?;
    let (mut chance, mut measured) = (Chance(u64::from(std::process::id())), Measured::default());
    let began = Instant::now();
    while began.elapsed() < time {
        let started = Instant::now();
        let uid = format!("user{}", chance.below(users) + 1);
        let user = "SELECT id FROM users WHERE app_id = ?1 AND uid = ?2";
        sqlx::query("BEGIN IMMEDIATE").execute(&mut conn).await?;
        let user: Vec<u8> = sqlx::query(user)
            .bind(&app)
            .bind(&uid)
            .fetch_one(&mut conn)
            .await?
            .try_get(0)?;
        let head = sqlx::query(HEAD).bind(&app).bind(&user).fetch_one(&mut conn).await?;
        let seq: i64 = head.try_get(0)?;
        let category = sqlx::query(CATEGORY).bind(&app).bind(&user).bind(&category);
        category.execute(&mut conn).await?;
        let (id, delivery) = (Uuid::now_v7(), Uuid::now_v7());
        for insert in &inserts {
            let row = sqlx::query(AssertSqlSafe(insert.as_str()));
            let row = row.bind(id).bind(delivery).bind(&user).bind(seq).bind(&uid);
            row.execute(&mut conn).await?;
        }
        sqlx::query("COMMIT").execute(&mut conn).await?;
        measured.times.push(started.elapsed());
    }
    measured.elapsed = began.elapsed();
    conn.close().await?;
    Ok(measured)
}
