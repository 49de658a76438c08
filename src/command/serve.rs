//! `campanile serve`: opens things in order, says where it listens, and drains when it is told to stop.

use std::process;

use campanile::api::server::{Ended, STOP_TOLD_INTERVAL, Server};
use campanile::api::start;
use campanile::config::Config;
use campanile::domain::{self, Service};
use campanile::failpoint::{Point, hit};
use campanile::worker;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Fault, descriptors, open};

/// Serves until SIGTERM or SIGINT.
pub(super) async fn serve(config: Config) -> Result<(), Fault> {
    let signals = Signals::listen()?;
    let service = open(&config).await?;
    bootstrap(&service, &config).await?;
    let server = bind(&config).await?;
    let stop = CancellationToken::new();
    let doors = if config.roles.api {
        start::doors(&service)?
    } else {
        start::no_doors()?
    };
    let edge = start::edge(&service, doors, &config.edge(), stop.clone());
    announce(&server, &config)?;
    let tasks = TaskTracker::new();
    if config.roles.worker {
        worker::start(&service, config.workers, &tasks, &stop);
    }
    let ended = {
        let run = server.run(edge, service.meter().clone(), stop.clone());
        tokio::pin!(run);
        tokio::select! {
            ended = run.as_mut() => ended,
            () = signals.stop(stop.clone()) => run.await,
        }
    };
    stop.cancel();
    hit(Point::Stopping);
    finish(&tasks).await;
    hit(Point::Stopped);
    service.close().await;
    match ended {
        Ended::Drained => tracing::info!("stopped, every call was answered"),
        Ended::Cut(connections) => tracing::warn!(connections, "stopped, the time for draining was over"),
    }
    Ok(())
}

/// Waits for the steps that workers are in, and says so while it does.
async fn finish(tasks: &TaskTracker) {
    tasks.close();
    while tokio::time::timeout(STOP_TOLD_INTERVAL, tasks.wait()).await.is_err() {
        tracing::info!(
            duties = tasks.len(),
            "still stopping, these background duties end their step"
        );
    }
}

async fn bootstrap(service: &Service, config: &Config) -> Result<(), Fault> {
    let Some(bootstrap) = &config.credentials.bootstrap else {
        return Ok(());
    };
    let fault = |rule| Fault::Usage(format!("bootstrap_app or bootstrap_key {rule}"));
    let app = bootstrap.app.parse().map_err(fault)?;
    let key = bootstrap.key.reveal().parse().map_err(fault)?;
    Ok(domain::app::ensure_bootstrap(service, app, key).await?)
}

async fn bind(config: &Config) -> Result<Server, Fault> {
    let mut options = config.server.clone();
    options.connections_max = descriptors::connections_max(options.connections_max, config.database.connections_max);
    let server = Server::bind(options).await;
    server.map_err(|fault| Fault::System(format!("{} cannot be listened on", config.server.listen), fault))
}

fn announce(server: &Server, config: &Config) -> Result<(), Fault> {
    let address = server.address();
    let address = address.map_err(|fault| Fault::System("the listening address is unknown".to_owned(), fault))?;
    tracing::info!(
        url = %format_args!("http://{address}"),
        docs = %format_args!("http://{address}/docs"),
        database = config.database.shown(),
        version = env!("CARGO_PKG_VERSION"),
        "listening for gRPC, gRPC-Web and REST"
    );
    Ok(())
}

/// The signals that end a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens before anything else is started, so that no signal is lost.
    fn listen() -> Result<Self, Fault> {
        let listen = |kind| signal(kind).map_err(|fault| Fault::System("signals cannot be heard".to_owned(), fault));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Cancels `stop` at the first signal, and lets a second one exit at once.
    async fn stop(mut self, stop: CancellationToken) {
        self.heard().await;
        tracing::info!("stopping, calls in flight may finish; a second signal exits at once");
        stop.cancel();
        let tasks = TaskTracker::new();
        tasks.spawn(async move {
            self.heard().await;
            process::exit(1);
        });
    }

    async fn heard(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
