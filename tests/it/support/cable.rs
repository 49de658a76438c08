//! The cable between the service and PostgreSQL, which a test can cut, stop up, or break just when a COMMIT is sent or its
//! answer comes back.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Where a cable breaks: before the server has COMMIT, or before its answer comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Before,
    After,
    /// As after, and nobody reaches the server over this cable any more.
    ForGood,
}

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// They are carried.
    Whole,
    /// They are cut, and so is each new one.
    Gone,
    /// They stay open and carry nothing more, each until its client hangs up, as when the server's machine stands still.
    Deaf,
}

/// Which of the next COMMITs break their connections.
#[derive(Clone, Copy, Debug)]
struct Plan {
    cut: Cut,
    /// Every so many.
    every: u32,
    seen: u32,
    /// How often yet.
    left: u32,
}

/// A port that leads to the server.
pub(crate) struct Cable {
    /// The database as the service is told of it.
    pub(crate) url: String,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

struct Shared {
    server: String,
    mode: watch::Sender<Mode>,
    plan: Mutex<Option<Plan>>,
}

impl Cable {
    /// Lays a cable to the server of this database.
    pub(crate) async fn lay(url: &str) -> Self {
        let (base, name) = url.rsplit_once('/').unwrap();
        let (user, server) = base.rsplit_once('@').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            mode: watch::Sender::new(Mode::Whole),
            plan: Mutex::default(),
        });
        let mut task = JoinSet::new();
        task.spawn(serve(listener, Arc::clone(&shared)));
        Self {
            url: format!("{user}@127.0.0.1:{port}/{name}"),
            shared,
            _task: task,
        }
    }

    /// Breaks the connection of the next COMMIT.
    pub(crate) fn cut_next(&self, cut: Cut) {
        self.cut_every(1, cut, 1);
    }

    /// Breaks the connection of every so many COMMITs, so many times.
    pub(crate) fn cut_every(&self, every: u32, cut: Cut, times: u32) {
        let seen = 0;
        let plan = Plan {
            cut,
            every,
            seen,
            left: times,
        };
        *self.shared.plan.lock().unwrap() = Some(plan);
    }

    /// How many of the COMMITs that were to break their connections have not come yet.
    pub(crate) fn cuts_left(&self) -> u32 {
        self.shared.plan.lock().unwrap().map_or(0, |plan| plan.left)
    }

    /// Cuts every connection, and lets none through.
    pub(crate) fn go_away(&self) {
        self.shared.mode.send_replace(Mode::Gone);
    }

    /// Carries nothing more over any connection, and leaves them open.
    pub(crate) fn fall_silent(&self) {
        self.shared.mode.send_replace(Mode::Deaf);
    }

    /// Carries new connections again. Those that fell silent stay so.
    pub(crate) fn come_back(&self) {
        self.shared.mode.send_replace(Mode::Whole);
    }
}

impl Shared {
    /// Whether these bytes of a client are a COMMIT that is to break its connection.
    fn cuts(&self, said: &[u8]) -> Option<Cut> {
        if !said.windows(6).any(|word| word == b"COMMIT") {
            return None;
        }
        let mut plan = self.plan.lock().unwrap();
        let plan = plan.as_mut().filter(|plan| plan.left > 0)?;
        plan.seen += 1;
        if plan.seen % plan.every != 0 {
            return None;
        }
        plan.left -= 1;
        Some(plan.cut)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.unwrap();
                connections.spawn(connection(client, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(mut client: TcpStream, shared: Arc<Shared>) {
    let mut mode = shared.mode.subscribe();
    let now = *mode.borrow_and_update();
    if now == Mode::Whole {
        // A server that refuses is told by hanging up.
        let Ok(mut server) = TcpStream::connect(&shared.server).await else {
            return;
        };
        tokio::select! {
            () = carry(&mut client, &mut server, &shared) => {}
            _ = mode.changed() => {
                if *mode.borrow() == Mode::Deaf {
                    // The server does not notice either.
                    listen(&mut client).await;
                }
            }
        }
    } else if now == Mode::Deaf {
        listen(&mut client).await;
    }
}

/// Hears a client out, until it hangs up.
async fn listen(client: &mut TcpStream) {
    let mut heard = vec![0; 1 << 12];
    while client.read(&mut heard).await.is_ok_and(|read| read > 0) {}
}

async fn carry(client: &mut TcpStream, server: &mut TcpStream, shared: &Shared) {
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Some(said) = read.ok().filter(|read| *read > 0).map(|read| &up[..read]) else { return };
                let cut = shared.cuts(said);
                if cut == Some(Cut::Before) || server.write_all(said).await.is_err() {
                    return;
                }
                if let Some(cut) = cut {
                    // The answer arrives and is kept back: the transaction is durable and its client does not know.
                    drop(server.read(&mut down).await);
                    if cut == Cut::ForGood {
                        shared.mode.send_replace(Mode::Gone);
                    }
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Some(said) = read.ok().filter(|read| *read > 0).map(|read| &down[..read]) else { return };
                if client.write_all(said).await.is_err() {
                    return;
                }
            }
        }
    }
}
