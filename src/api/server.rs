//! The one listening socket: connections, their limits and their end. It looks at no request beyond telling HTTP/1 from
//! HTTP/2.

mod pace;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{self, HeaderName, HeaderValue};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{BoxError, Layer, Service};
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::compression::{CompressionLayer, CompressionLevel};
use tower_http::cors::{AllowOrigin, CorsLayer};

use pace::{Pace, PacedStream};

use super::edge::{Edge, Peer};
use super::rest::{Body, Response};
use crate::telemetry::{Meter, Metric, UPKEEP_INTERVAL};

/// What an HTTP/2 client sends first, RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often a connection that has sent a part of the preface is looked at again.
const PREFACE_INTERVAL: Duration = Duration::from_millis(5);
/// Rest after a failed accept, as when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often it is said at most that connections cannot be accepted.
const ACCEPT_FAULT_INTERVAL: Duration = Duration::from_secs(10);
/// How often it is looked at whether the service is ready.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long after the stop a connection over HTTP/1 that waits for a request is kept; each answer closes it from then on.
const LAST_REQUEST: Duration = Duration::from_millis(500);
/// How often a server that stops says what it waits for.
pub const STOP_TOLD_INTERVAL: Duration = Duration::from_secs(2);
const CLOSE: HeaderValue = HeaderValue::from_static("close");
/// Answers smaller than this many bytes are not worth compressing.
const COMPRESSED_MIN: u16 = 1_024;
/// How long a browser may remember what CORS allows.
const CORS_MAX_AGE: Duration = Duration::from_secs(600);

/// Limits of the socket.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Connections that are open at once; more wait to be accepted.
    pub connections_max: usize,
    /// Concurrent streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// Streams of one HTTP/2 connection that its client reset before they were served, at once.
    pub stream_resets_max: usize,
    /// Streams of one HTTP/2 connection that were reset because of its client's errors, in all its life.
    pub stream_errors_max: usize,
    /// Bytes of a request's headers.
    pub header_bytes_max: u32,
    /// Header lines of a request over HTTP/1; over HTTP/2 their bytes bound them.
    pub headers_max: usize,
    /// Time for a client to send its headers.
    pub header_read_timeout: Duration,
    /// The longest that a client may take nothing more of an answer.
    pub write_timeout: Duration,
    /// Idle time after which an HTTP/2 connection is pinged.
    pub keep_alive_interval: Duration,
    /// Time for the answer to such a ping.
    pub keep_alive_timeout: Duration,
    /// Time for calls in flight to finish once the server stops.
    pub drain: Duration,
    /// Origins of web pages that may call from a browser; empty: none.
    pub cors_origins: Vec<String>,
}

/// An answer to come.
pub type Answer = BoxFuture<'static, Result<Response, Infallible>>;

/// A socket that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    options: Options,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every call was answered.
    Drained,
    /// The time for draining was over; so many connections were cut.
    Cut(usize),
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// When it is taken or not of this machine.
    pub async fn bind(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        Ok(Self { listener, options })
    }

    /// The address, with the port that the system chose when the setting said 0.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` is cancelled, then lets the calls in flight finish.
    pub async fn run(self, edge: Edge, meter: Meter, stop: CancellationToken) -> Ended {
        let hall = Hall::new(&edge, self.options.clone(), &meter, stop.clone());
        edge.look().await;
        let upkeep = async {
            loop {
                tokio::time::sleep(UPKEEP_INTERVAL).await;
                edge.upkeep();
            }
        };
        let look = async {
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                edge.look().await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = hall.accept(&self.listener) => {}
            () = upkeep => {}
            () = look => {}
        }
        hall.accept_the_last(self.listener);
        edge.tell_health(false).await;
        hall.connections.close();
        let drained = tokio::select! {
            drained = tokio::time::timeout(self.options.drain, hall.connections.wait()) => drained,
            never = hall.tell_what_is_left() => never,
        };
        if drained.is_ok() {
            return Ended::Drained;
        }
        let left = hall.connections.len();
        hall.cut.cancel();
        hall.connections.wait().await;
        Ended::Cut(left)
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// Failed accepts that nobody was told of yet.
#[derive(Default)]
struct AcceptFaults {
    count: u64,
    told: Option<Instant>,
}

impl AcceptFaults {
    fn note(&mut self, fault: &io::Error) {
        self.count += 1;
        if self.told.is_none_or(|told| told.elapsed() >= ACCEPT_FAULT_INTERVAL) {
            tracing::error!(cause = %fault, times = self.count, "connections cannot be accepted, they wait");
            *self = Self {
                count: 0,
                told: Some(Instant::now()),
            };
        }
    }
}

/// Where connections are let in, and kept until they end.
struct Hall {
    options: Options,
    stack: Stack,
    room: Arc<Semaphore>,
    open: metrics::Gauge,
    stop: CancellationToken,
    connections: TaskTracker,
    cut: CancellationToken,
}

impl Hall {
    /// Says again and again what a stop waits for.
    async fn tell_what_is_left<T>(&self) -> T {
        loop {
            tokio::time::sleep(STOP_TOLD_INTERVAL).await;
            let connections = self.connections.len();
            tracing::info!(
                connections,
                "still stopping, calls of these connections are not answered yet"
            );
        }
    }

    fn new(edge: &Edge, options: Options, meter: &Meter, stop: CancellationToken) -> Self {
        Self {
            stack: Stack::new(edge.clone(), &options),
            room: Arc::new(Semaphore::new(options.connections_max)),
            open: meter.gauge(Metric::Connections, &[]),
            stop,
            connections: TaskTracker::new(),
            cut: CancellationToken::new(),
            options,
        }
    }

    /// Takes connections for ever.
    async fn accept(&self, listener: &TcpListener) {
        let mut faults = AcceptFaults::default();
        loop {
            let Ok(place) = Arc::clone(&self.room).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, peer)) => self.let_in(stream, peer, place),
                // A client that went away while it waited is its own concern.
                Err(fault) if fault.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(fault) => {
                    faults.note(&fault);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes those that the system has let in already, as far as there is room, and then listens no more: their clients
    /// see a connection that stands, and count on an answer.
    fn accept_the_last(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        while let Ok(place) = Arc::clone(&self.room).try_acquire_owned() {
            let accepted = listener.accept().and_then(|(stream, peer)| {
                stream.set_nonblocking(true)?;
                Ok((TcpStream::from_std(stream)?, peer))
            });
            match accepted {
                Ok((stream, peer)) => self.let_in(stream, peer, place),
                Err(fault) if fault.kind() == io::ErrorKind::ConnectionAborted => {}
                // Nobody is left, or nobody can be let in any more.
                Err(_) => return,
            }
        }
    }

    fn let_in(&self, stream: TcpStream, peer: SocketAddr, place: Place) {
        // Without it one HTTP/2 connection falls to a third of its rate.
        if let Err(fault) = stream.set_nodelay(true) {
            tracing::debug!(cause = %fault, "TCP_NODELAY cannot be set");
        }
        let connection = Connection {
            builder: builder(&self.options),
            stack: self.stack.clone(),
            peer: Peer(peer.ip()),
            preface_timeout: self.options.header_read_timeout,
            write_timeout: self.options.write_timeout,
            stop: self.stop.clone(),
        };
        let (cut, open) = (self.cut.clone(), self.open.clone());
        self.connections.spawn(async move {
            open.increment(1.0);
            tokio::select! {
                () = connection.serve(stream) => {}
                () = cut.cancelled() => {}
            }
            open.decrement(1.0);
            drop(place);
        });
    }
}

fn builder(options: &Options) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_read_timeout)
        .max_headers(options.headers_max)
        .max_buf_size(usize::try_from(options.header_bytes_max).unwrap_or(usize::MAX));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_max)
        .max_pending_accept_reset_streams(options.stream_resets_max)
        .max_local_error_reset_streams(options.stream_errors_max)
        .max_header_list_size(options.header_bytes_max)
        .keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout);
    builder
}

struct Connection {
    builder: auto::Builder<TokioExecutor>,
    stack: Stack,
    peer: Peer,
    preface_timeout: Duration,
    write_timeout: Duration,
    stop: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        let first = tokio::select! {
            first = tokio::time::timeout(self.preface_timeout, speaks_http2(&stream)) => first,
            () = self.is_over() => return,
        };
        // The library's own detection waits for the preface without a limit, so it is done here.
        let (builder, is_http2) = match first {
            Ok(Ok(true)) => (self.builder.clone().http2_only(), true),
            Ok(Ok(false)) => (self.builder.clone().http1_only(), false),
            Ok(Err(_)) | Err(_) => return,
        };
        let (peer, stack, stop, pace) = (self.peer, self.stack.clone(), self.stop.clone(), Pace::default());
        let answers = pace.clone();
        let answer = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let (answer, answers, stop) = (stack.answer(request), answers.clone(), stop.clone());
            async move {
                let mut answer = answer.await?.map(|body| answers.around(body));
                if !is_http2 && stop.is_cancelled() {
                    answer.headers_mut().insert(header::CONNECTION, CLOSE);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let stream = TokioIo::new(PacedStream::new(stream, self.write_timeout));
        let connection = builder.serve_connection(stream, answer);
        tokio::pin!(connection);
        let last = async {
            // HTTP/2 has words for a stop that lose no call: it tells the client which were taken.
            if is_http2 {
                self.stop.cancelled().await;
            } else {
                self.is_over().await;
            }
        };
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = pace.stalled(self.write_timeout) => {
                tracing::debug!("connection is closed, its client took nothing of an answer for too long");
                return;
            }
            () = last => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(fault) = outcome {
            // A client that goes away or talks nonsense is its own concern.
            tracing::debug!(cause = %fault, "connection ended early");
        }
    }

    /// Resolves when the server stops and a request that was on its way has had the time to come. Over HTTP/1 a client
    /// that sends on a connection which is closed at that moment sees a failed call, and must not send it again by itself.
    async fn is_over(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(LAST_REQUEST).await;
    }
}

/// Whether a client begins with the preface of HTTP/2; what it sent stays unread.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut seen).await?;
        let seen = seen.get(..count).unwrap_or_default();
        if count == 0 || !PREFACE.starts_with(seen) {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        tokio::time::sleep(PREFACE_INTERVAL).await;
    }
}

/// The edge with what is about HTTP alone around it: a tower service.
#[derive(Clone)]
pub struct Stack {
    edge: Edge,
    compression: CompressionLayer<WorthIt>,
    cors: Option<CorsLayer>,
}

impl Stack {
    /// Puts the layers that the options ask for around the edge.
    #[must_use]
    pub fn new(edge: Edge, options: &Options) -> Self {
        let compression = CompressionLayer::new()
            .gzip(true)
            .quality(CompressionLevel::Fastest)
            .compress_when(WorthIt);
        Self {
            edge,
            compression,
            cors: cors(&options.cors_origins),
        }
    }

    /// Answers a request.
    pub fn answer<B>(&self, request: http::Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let Some(cors) = &self.cors else {
            return self.answer_here(request);
        };
        let stack = self.clone();
        let inner = tower::service_fn(move |request| stack.answer_here(request));
        Box::pin(cors.layer(inner).call(request))
    }

    /// The same without looking at where the page comes from that asks.
    fn answer_here<B>(&self, request: http::Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let edge = self.edge.clone();
        // The answers to gRPC are packed by its own rules, behind this.
        if is_grpc(request.headers()) {
            return Box::pin(async move { Ok(protect(edge.answer(request).await)) });
        }
        let answer = self.compression.layer(edge).call(request);
        Box::pin(async move { Ok(protect(answer.await?.map(Body::new))) })
    }
}

impl<B> Service<http::Request<B>> for Stack
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Answer {
        self.answer(request)
    }
}

/// Which answers are worth compressing.
#[derive(Clone, Copy, Debug)]
struct WorthIt;

impl Predicate for WorthIt {
    fn should_compress<B: http_body::Body>(&self, response: &http::Response<B>) -> bool {
        SizeAbove::new(COMPRESSED_MIN).should_compress(response)
            && !is_grpc(response.headers())
            && NotForContentType::const_new("text/event-stream").should_compress(response)
    }
}

/// Whether a message is gRPC or gRPC-Web.
fn is_grpc(headers: &http::HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let start = media_type.and_then(|value| value.get(..16));
    start.is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
}

/// What keeps an answer from being guessed at or kept by others.
fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// What browsers may send from other origins. `apikey` and `operatorkey` belong on servers and are never among it.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    const REQUEST: [HeaderName; 10] = [
        header::CONTENT_TYPE,
        header::IF_MATCH,
        HeaderName::from_static("appid"),
        HeaderName::from_static("authtoken"),
        HeaderName::from_static("grpc-timeout"),
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("last-event-id"),
        HeaderName::from_static("x-grpc-web"),
        HeaderName::from_static("x-request-id"),
        HeaderName::from_static("x-user-agent"),
    ];
    const RESPONSE: [HeaderName; 12] = [
        header::RETRY_AFTER,
        HeaderName::from_static("grpc-message"),
        HeaderName::from_static("grpc-status"),
        HeaderName::from_static("grpc-status-details-bin"),
        HeaderName::from_static("idempotent-replayed"),
        HeaderName::from_static("x-rate-limit"),
        HeaderName::from_static("x-rate-limit-remaining"),
        HeaderName::from_static("x-rate-limit-reset"),
        HeaderName::from_static("x-ratelimit-limit"),
        HeaderName::from_static("x-ratelimit-remaining"),
        HeaderName::from_static("x-ratelimit-reset"),
        HeaderName::from_static("x-request-id"),
    ];
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let methods = [
        http::Method::GET,
        http::Method::POST,
        http::Method::PUT,
        http::Method::PATCH,
        http::Method::DELETE,
    ];
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods(methods)
        .allow_headers(REQUEST)
        .expose_headers(RESPONSE)
        .max_age(CORS_MAX_AGE);
    Some(layer)
}
