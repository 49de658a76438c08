//! The whole edge over a real socket: a server on a free port in this process, and a client for each way to talk to it.

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use campanile::api::admission;
use campanile::api::edge::caller::{self, FindKey};
use campanile::api::edge::{Doors, Edge, Means, Options, rate};
use campanile::api::ops::{CheckReady, Look, Pages};
use campanile::api::server::{self, Ended, Server};
use campanile::domain::Calls;
use campanile::model::{Clock, Result};
use campanile::telemetry::Meter;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The key of operator calls on a test's server.
pub(crate) const OPERATOR_KEY: &str = "operator-key-of-the-test-server-0001";

/// What a test's server is started with.
pub(crate) struct Setup {
    pub(crate) edge: Options,
    pub(crate) server: server::Options,
    pub(crate) find_key: FindKey,
    pub(crate) check_ready: CheckReady,
    pub(crate) look: Look,
    pub(crate) meter: Meter,
    pub(crate) calls: Calls,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
}

impl Setup {
    /// No key is known, everything is ready, nothing is limited that a test could run into by accident.
    pub(crate) fn new() -> Self {
        Self {
            edge: Options {
                authentication: caller::Options {
                    operator_key: Some(OPERATOR_KEY.to_owned()),
                    host_pattern: None,
                    region: "us".to_owned(),
                },
                rate: rate::Options {
                    standard: NonZeroU32::new(100_000),
                    core: NonZeroU32::new(50_000),
                },
                deadline_max: Duration::from_secs(30),
                body_read_timeout: Duration::from_secs(10),
                admission: admission::Options::default(),
            },
            server: server::Options {
                listen: ([127, 0, 0, 1], 0).into(),
                connections_max: 100,
                streams_max: 100,
                stream_resets_max: 20,
                stream_errors_max: 1_024,
                header_bytes_max: 16_384,
                headers_max: 100,
                header_read_timeout: Duration::from_secs(5),
                write_timeout: Duration::from_secs(30),
                keep_alive_interval: Duration::from_secs(30),
                keep_alive_timeout: Duration::from_secs(20),
                drain: Duration::from_secs(10),
                cors_origins: Vec::new(),
            },
            find_key: Arc::new(|_| boxed(Ok(None))),
            check_ready: Arc::new(|| boxed(Ok(()))),
            look: Arc::new(|| Box::pin(std::future::ready(()))),
            meter: Meter::new(),
            calls: Calls::default(),
            clock: Clock::default(),
            stop: CancellationToken::new(),
        }
    }
}

/// A future that is ready.
pub(crate) fn boxed<T: Send + 'static>(value: Result<T>) -> Pin<Box<dyn Future<Output = Result<T>> + Send>> {
    Box::pin(std::future::ready(value))
}

/// A server that answers until it is dropped.
pub(crate) struct TestServer {
    /// `http://127.0.0.1:<port>`.
    pub(crate) url: String,
    stop: CancellationToken,
    task: JoinSet<Ended>,
}

impl TestServer {
    /// Starts to answer on a free port.
    pub(crate) async fn start(doors: Doors, setup: Setup) -> Self {
        let meter = setup.meter;
        let means = Means {
            find_key: setup.find_key,
            pages: Pages {
                check_ready: setup.check_ready,
                look: setup.look,
                openapi: "{\"openapi\":\"3.1.0\"}",
            },
            meter: meter.clone(),
            calls: setup.calls,
            clock: setup.clock,
            stopping: setup.stop.clone(),
        };
        let edge = Edge::new(doors, &setup.edge, means);
        let server = Server::bind(setup.server).await.unwrap();
        let url = format!("http://{}", server.address().unwrap());
        let mut task = JoinSet::new();
        task.spawn(server.run(edge, meter, setup.stop.clone()));
        Self {
            url,
            stop: setup.stop,
            task,
        }
    }

    /// Where it listens, without the scheme.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Tells it to stop, as SIGTERM does, and does not wait.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// How it ended, once it has.
    pub(crate) async fn ended(mut self) -> Ended {
        self.task.join_next().await.unwrap().unwrap()
    }
}

/// A REST client over HTTP/1.1.
pub(crate) fn http1() -> reqwest::Client {
    reqwest::Client::builder().http1_only().build().unwrap()
}

/// A REST client over HTTP/2 without TLS.
pub(crate) fn http2() -> reqwest::Client {
    reqwest::Client::builder().http2_prior_knowledge().build().unwrap()
}
