//! The one stack of layers in front of both doors, in the order that the contract promises: route, credentials, rate,
//! size, and only then the message. It never reads a message and knows no rpc by name.

pub mod caller;
pub mod rate;

mod body;
mod deadline;
mod ending;
mod host;
mod observe;
mod speech;
mod stream;
mod unpack;

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use http::request::Parts;
use http::{HeaderValue, Version, header};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::{BoxError, Layer, Service};
use tracing::Instrument;

use super::admission::{self, Admission};
use super::doors::Services;
use super::ops::{Page, Pages};
use super::rest::router::{Found, Match};
use super::rest::{self, Body, Dialect, Response, Router};
use super::{CallHead, Door, Method};
use crate::domain::Calls;
use crate::model::{Caller, Clock, Error, Reason, Result};
use crate::telemetry::{Gauge, Meter, Metric, trace};

use body::{Held, Limit};
use ending::{Ending, Form};
use observe::Observation;
use speech::Speech;
use unpack::call_rest;

/// Bytes that a gRPC message has in front of it.
const GRPC_FRAMING: u64 = 5;
/// gRPC-Web as text is base64: four bytes for three.
const WEB_TEXT_GROWTH: usize = 2;
/// Largest request of health checks and reflection, in bytes.
const BUILT_IN_BODY_MAX: usize = 64 * 1024;
/// Path prefixes of the services that every gRPC server has; they take no credential.
const BUILT_IN: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// The address that a connection comes from, in a request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// What stands behind the layers: both doors onto the same handlers.
pub struct Doors {
    /// The REST door.
    pub rest: Router,
    /// The gRPC services; health is added to them.
    pub grpc: Services,
    /// Every rpc that the gRPC services have.
    pub methods: Vec<&'static Method>,
}

/// Settings of the layers.
#[derive(Clone)]
pub struct Options {
    /// Credentials.
    pub authentication: caller::Options,
    /// Rate limits.
    pub rate: rate::Options,
    /// The longest that a unary call may take.
    pub deadline_max: Duration,
    /// The longest that a client may pause while it sends a request.
    pub body_read_timeout: Duration,
    /// How much is taken on at once.
    pub admission: admission::Options,
}

/// What the layers are given to work with.
pub struct Means {
    /// Finds API keys.
    pub find_key: caller::FindKey,
    /// The pages that are not calls.
    pub pages: Pages,
    /// Counts calls.
    pub meter: Meter,
    /// Is told of the calls at work.
    pub calls: Calls,
    /// Tells the time.
    pub clock: Clock,
    /// Cancelled when the server stops: streams end then.
    pub stopping: CancellationToken,
}

/// The layers with the doors behind them: a tower service.
#[derive(Clone)]
pub struct Edge(Arc<Inner>);

struct Inner {
    rest: Router,
    grpc: Services,
    methods: HashMap<&'static str, &'static Method>,
    authenticator: caller::Authenticator,
    limiter: rate::Limiter,
    deadline_max: Duration,
    body_read_timeout: Duration,
    health: HealthReporter,
    /// What was told last; nothing at first.
    serving: Mutex<Option<bool>>,
    in_flight: Gauge,
    admission: Admission,
    means: Means,
}

/// Where a request goes.
enum Target {
    Page(Page),
    Refused(Response),
    Rest(Match),
    Grpc(&'static Method),
    BuiltIn,
}

/// Where a request goes, and in which form its answer leaves.
struct Place {
    target: Target,
    rpc: &'static str,
    speech: Speech,
}

/// What became known of a call on its way in.
#[derive(Default)]
struct Trail {
    caller: Option<Caller>,
    allowance: Option<rate::Allowance>,
}

/// What the layers know of a call before its message.
struct Arrival<'a> {
    peer: IpAddr,
    id: &'a Arc<str>,
    trace_parent: Option<Arc<str>>,
    started: Instant,
}

impl Arrival<'_> {
    fn too_late(&self) -> Error {
        let waited = self.started.elapsed().as_millis();
        Error::new(
            Reason::DeadlineExceeded,
            format!("no answer was ready after {waited} ms"),
        )
    }
}

impl Edge {
    /// Puts the layers in front of the doors.
    #[must_use]
    pub fn new(doors: Doors, options: &Options, means: Means) -> Self {
        let (health, service) = tonic_health::server::health_reporter();
        Self(Arc::new(Inner {
            rest: doors.rest,
            grpc: doors.grpc.with(service),
            health,
            serving: Mutex::default(),
            methods: doors
                .methods
                .into_iter()
                .map(|method| (method.grpc_path, method))
                .collect(),
            authenticator: caller::Authenticator::new(Arc::clone(&means.find_key), &options.authentication),
            limiter: rate::Limiter::new(options.rate),
            deadline_max: options.deadline_max,
            body_read_timeout: options.body_read_timeout,
            admission: Admission::new(options.admission, (&means.meter, &means.calls)),
            in_flight: means.meter.gauge(Metric::CallsInFlight, &[]),
            means,
        }))
    }

    /// Frees what time has made superfluous; to be called about every [`crate::telemetry::UPKEEP_INTERVAL`].
    pub fn upkeep(&self) {
        self.0.limiter.upkeep();
        self.0.means.meter.upkeep();
    }

    /// Looks whether the service is ready, for those who ask by grpc.health.v1; to be called at the start and then often
    /// enough that they learn of it in time.
    pub async fn look(&self) {
        let ready = (self.0.means.pages.check_ready)().await.is_ok();
        self.tell_health(ready && !self.0.means.stopping.is_cancelled()).await;
    }

    /// Answers one request, whatever becomes of it.
    pub async fn answer<B>(&self, request: http::Request<B>) -> Response
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        self.0.answer(request).await
    }

    /// Tells those who ask by grpc.health.v1 whether calls are served, as a whole and per service.
    pub async fn tell_health(&self, serving: bool) {
        let told = &self.0.serving;
        let before = told.lock().unwrap_or_else(PoisonError::into_inner).replace(serving);
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        let services: BTreeSet<&str> = self.0.methods.values().map(|method| method.service).collect();
        if before != Some(serving) {
            for name in services.into_iter().chain([""]) {
                self.0.health.set_service_status(name, status).await;
            }
        }
    }
}

impl<B> Service<http::Request<B>> for Edge
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let edge = self.clone();
        Box::pin(async move { Ok(edge.answer(request).await) })
    }
}

impl Inner {
    /// Answers one request, whatever becomes of it: the outermost layer.
    async fn answer<B>(&self, request: http::Request<B>) -> Response
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let started = Instant::now();
        let _in_flight = observe::InFlight::begin(&self.in_flight);
        let (head, body) = request.into_parts();
        let id = observe::request_id(&head.headers, self.means.clock.now());
        let peer = head
            .extensions
            .get::<Peer>()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
        let Place { target, rpc, speech } = self.place(&head);
        // Who asks before sending does not send what is refused.
        let asks = head.headers.contains_key(header::EXPECT);
        let mut body = Held::new(body, self.body_read_timeout);
        let door = speech.door();
        let span = observe::span(&id, rpc, door);
        let trace_parent = trace::begin(&span, rpc, &head.headers).map(Arc::from);
        let mut trail = Trail::default();
        let id_ref = &id;
        let arrival = Arrival {
            peer,
            id: id_ref,
            trace_parent,
            started,
        };
        let admitted = self.admit(target, (head, body.clone()), &arrival, (&speech, &mut trail));
        let outcome = AssertUnwindSafe(admitted).catch_unwind().instrument(span.clone()).await;
        let outcome = outcome.unwrap_or_else(|panic| Err(observe::panicked(panic.as_ref())));
        let outcome = body.refusal().map_or(outcome, Err);
        let mut response = outcome.unwrap_or_else(|error| {
            span.in_scope(|| observe::log_fault(&error));
            speech.refuse(error)
        });
        if let Some(allowance) = trail.allowance {
            allowance.write(response.headers_mut());
        }
        observe::write_request_id(&mut response, &id);
        if !asks && observe::is_refusal(&response) {
            body.drain().await;
        }
        let observation = Observation {
            meter: &self.means.meter,
            rpc,
            door,
            app: trail.caller.and_then(|caller| caller.app()),
            started,
        };
        observation.record(&response, &span);
        response
    }

    /// Finds where a request goes: the layer that answers 404 and 405.
    fn place(&self, head: &Parts) -> Place {
        let path = head.uri.path();
        let speech = Speech::of(&head.headers);
        if let Some(error) = host::fault(head) {
            return Place::refused(speech.refuse(error), speech);
        }
        if let Speech::Grpc { web, .. } = speech {
            return self.grpc_place(head, speech, web);
        }
        if let Some(page) = Page::at(path) {
            let readable = matches!(head.method, http::Method::GET | http::Method::HEAD);
            let target = if readable {
                Target::Page(page)
            } else {
                Target::Refused(rest::error::method_not_allowed(
                    speech.dialect(),
                    &head.method,
                    "GET, HEAD",
                ))
            };
            let rpc = page.path();
            return Place { target, rpc, speech };
        }
        match self.rest.find(&head.method, path) {
            Found::Route(found) => {
                let content_type = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
                let found = found.of_type(content_type.unwrap_or_default());
                Place {
                    rpc: rpc_name(found.route.method),
                    speech: Speech::Rest(found.route.dialect),
                    target: Target::Rest(found),
                }
            }
            Found::MethodNotAllowed { allow } => {
                let refusal = rest::error::method_not_allowed(speech.dialect(), &head.method, &allow);
                Place::refused(refusal, speech)
            }
            Found::NotFound => Place::refused(rest::error::not_found(speech.dialect(), path), speech),
        }
    }

    fn grpc_place(&self, head: &Parts, speech: Speech, web: bool) -> Place {
        let path = head.uri.path();
        let refused = |error| Place::refused(speech.refuse(error), speech.clone());
        if let Err(error) = speech.check() {
            return refused(error);
        }
        if head.method != http::Method::POST {
            let problem = format!("method {} is not allowed for gRPC, use POST", head.method);
            let error = Error::new(Reason::MethodNotAllowed, problem);
            return refused(error.with("method", &head.method).with("allowed", "POST"));
        }
        if !web && head.version != Version::HTTP_2 {
            let problem = "gRPC needs HTTP/2; over HTTP/1.1 use gRPC-Web";
            return refused(Error::new(Reason::Unimplemented, problem));
        }
        if let Some(method) = self.methods.get(path) {
            if web && method.takes_file {
                let problem = "gRPC-Web has no streams of requests, use gRPC";
                return refused(Error::new(Reason::Unimplemented, problem));
            }
            let (target, rpc) = (Target::Grpc(method), rpc_name(method));
            return Place { target, rpc, speech };
        }
        if BUILT_IN.iter().any(|prefix| path.starts_with(prefix)) {
            let (target, rpc) = (Target::BuiltIn, "built-in");
            return Place { target, rpc, speech };
        }
        let path: String = path.chars().take(200).collect();
        refused(Error::new(Reason::Unimplemented, format!("rpc {path} is not served")))
    }

    /// Takes a request through the layers to its door.
    async fn admit<B>(
        &self,
        target: Target,
        (mut head, body): (Parts, B),
        arrival: &Arrival<'_>,
        (speech, trail): (&Speech, &mut Trail),
    ) -> Result<Response>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (method, tenant) = match &target {
            Target::Refused(_) | Target::Page(_) | Target::BuiltIn => (None, None),
            Target::Rest(found) => (Some(found.route.method), found.tenant.clone()),
            Target::Grpc(method) => (Some(*method), None),
        };
        let Some(method) = method else {
            return self.admit_public(target, head, body, speech).await;
        };
        let deadline = deadline::read(&head.headers);
        let waits = deadline.as_ref().ok().copied().flatten();
        let ends = self.ends(method, arrival.started, waits);
        let work = async {
            let caller = self
                .caller(&head, method, (speech.dialect(), tenant.as_deref()), (arrival, trail))
                .await?;
            deadline?;
            // What is ready at once would otherwise be answered however short the deadline is.
            if ends.is_some_and(|ends| ends <= Instant::now()) {
                return Err(arrival.too_late());
            }
            self.admission.look(caller, &self.means.stopping).await?;
            let call = CallHead {
                method,
                door: speech.door(),
                caller,
                on_behalf_of: caller::on_behalf_of(&head.headers, method, speech.dialect())?,
                now: self.means.clock.now(),
                deadline: ends,
                authority: host::authority(&head),
                request_id: Arc::clone(arrival.id),
                trace_parent: arrival.trace_parent.clone(),
                admission: Some(self.admission.clone()),
            };
            head.extensions.insert(call);
            match target {
                Target::Rest(found) => call_rest(found, head, body, self.admission.share()).await,
                _ if method.takes_file => {
                    let means = (self.admission.share(), self.means.stopping.clone());
                    stream::call(&self.grpc, method, (head, body), means).await
                }
                _ => {
                    let stream = method.server_streaming.then_some(ends);
                    let size = method.body_bytes_max;
                    Ok(self.call_grpc((speech, size), head, body, stream).await)
                }
            }
        };
        let answer = match ends {
            Some(ends) => tokio::time::timeout_at(ends.into(), work).await,
            None => Ok(work.await),
        };
        let Ok(answer) = answer else {
            return Err(arrival.too_late());
        };
        let stream = method.server_streaming && speech.door() == Door::Rest;
        Ok(if stream {
            self.ending(answer?, ends, speech)
        } else {
            answer?
        })
    }

    async fn admit_public<B>(&self, target: Target, head: Parts, body: B, speech: &Speech) -> Result<Response>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        match target {
            Target::Page(page) => Ok(self.means.pages.answer(page, &head.headers, &self.means.meter).await),
            Target::Refused(response) => Ok(response),
            _ => {
                let size = (speech, BUILT_IN_BODY_MAX);
                Ok(self.call_grpc(size, head, body, Some(None)).await)
            }
        }
    }

    /// When a call ends: at its caller's deadline, and unless it is a stream at the server's own.
    fn ends(&self, method: &Method, started: Instant, waits: Option<Duration>) -> Option<Instant> {
        let longest = (!method.server_streaming && !method.takes_file).then_some(self.deadline_max);
        let wait = match (waits, longest) {
            (Some(own), Some(longest)) => Some(own.min(longest)),
            (own, longest) => own.or(longest),
        };
        wait.and_then(|wait| started.checked_add(wait))
    }

    /// Who calls, if it may: the layers that answer 401, 403 and 429.
    async fn caller(
        &self,
        head: &Parts,
        method: &Method,
        (dialect, tenant): (&'static Dialect, Option<&str>),
        (arrival, trail): (&Arrival<'_>, &mut Trail),
    ) -> Result<Caller> {
        let now = self.means.clock.now();
        let take = |caller, class| self.limiter.take(caller, arrival.peer, class, now);
        let presented = caller::Presented::read(head, dialect, tenant)?;
        let authenticated = match self.authenticator.authenticate(&presented, method).await {
            Ok(caller) => caller,
            Err(error) => {
                // Guessing keys is bounded by the address it comes from.
                let guesses = take(Caller::Public, method.rate_class);
                let refusal = guesses.and_then(|guesses| guesses.refusal());
                return Err(match refusal.filter(|_| error.reason() == Reason::Unauthorized) {
                    Some(refusal) => {
                        trail.allowance = guesses;
                        refusal
                    }
                    None => error,
                });
            }
        };
        trail.caller = Some(authenticated);
        caller::may_act_for(&head.headers, method, dialect)?;
        trail.allowance = take(authenticated, method.rate_class);
        match trail.allowance.and_then(|allowance| allowance.refusal()) {
            Some(refusal) => Err(refusal),
            None => Ok(authenticated),
        }
    }

    /// Hands a call to the gRPC door. `stream` says when a stream ends, and is absent for a unary call.
    async fn call_grpc<B>(
        &self,
        (speech, bytes_max): (&Speech, usize),
        head: Parts,
        body: B,
        stream: Option<Option<Instant>>,
    ) -> Response
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let web = matches!(speech, Speech::Grpc { web: true, .. });
        let limit = Limit::new(bytes_max, self.admission.share());
        let framing = if web {
            // Base64 is measured before it is decoded; the decoder behind it holds the exact limit.
            u64::try_from(bytes_max.saturating_mul(WEB_TEXT_GROWTH - 1)).unwrap_or(u64::MAX)
        } else {
            GRPC_FRAMING
        };
        let request = http::Request::from_parts(head, limit.around(body, framing));
        let finish = |response| {
            let response = speech::complete(response, bytes_max);
            match stream {
                None => response,
                Some(deadline) => response.map(|body| {
                    let end = ending::end(deadline, self.means.stopping.clone());
                    tonic::body::Body::new(Ending::new(Body::new(body), end, Form::Grpc))
                }),
            }
        };
        let answer = if web {
            let inner = tower::service_fn(|request| self.grpc.call(request).map_ok(finish));
            // Boxed, as it is large and the other way is the usual one.
            tonic_web::GrpcWebLayer::new().layer(inner).call(request).boxed().await
        } else {
            self.grpc.call(request.map(tonic::body::Body::new)).await.map(finish)
        };
        let response = answer.unwrap_or_else(|never| match never {});
        match limit.refusal() {
            Some(refusal) => speech.refuse(refusal),
            None => response.map(Body::new),
        }
    }

    /// Lets a stream over REST end at its deadline and when the server stops.
    fn ending(&self, response: Response, deadline: Option<Instant>, speech: &Speech) -> Response {
        let end = ending::end(deadline, self.means.stopping.clone());
        response.map(|body| Body::new(Ending::new(body, end, Form::Rest(speech.dialect()))))
    }
}

impl Place {
    fn refused(response: Response, speech: Speech) -> Self {
        Self {
            target: Target::Refused(response),
            rpc: "unknown",
            speech,
        }
    }
}

/// `campanile.v1.UserService/GetUser`.
fn rpc_name(method: &'static Method) -> &'static str {
    method.grpc_path.trim_start_matches('/')
}
