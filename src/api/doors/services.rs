//! The gRPC services by name: straight from a path to what answers it, without the general router that tonic brings. No
//! message is looked at here.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, OnceLock};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::NamedService;
use tower::Service;

use crate::model::{Error, Result};

type Answer = BoxFuture<Response<Body>, Infallible>;
type Answering = Arc<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// gRPC services, each under its name.
#[derive(Clone, Default)]
pub struct Services(HashMap<&'static str, Answering>);

impl Services {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one service more. Generated services are always ready and cheap to clone, which is relied on.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let answer = move |request| service.clone().call(request);
        self.0.insert(S::NAME, Arc::new(answer));
        self
    }

    /// The same with one service more, which the first call to it makes. What cannot be made is not implemented.
    #[must_use]
    pub fn with_late<S>(mut self, make: fn() -> Result<S>) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let made = OnceLock::new();
        let answer = move |request| match made.get_or_init(|| make().inspect_err(not_made)) {
            Ok(service) => service.clone().call(request),
            Err(_) => unimplemented(),
        };
        self.0.insert(S::NAME, Arc::new(answer));
        self
    }

    /// The answer of the service that a path such as `/campanile.v1.UserService/GetUser` names.
    pub(crate) fn call(&self, request: Request<Body>) -> Answer {
        let path = request.uri().path();
        let name = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        match name.and_then(|(name, _)| self.0.get(name)) {
            Some(answer) => answer(request),
            None => unimplemented(),
        }
    }
}

fn unimplemented() -> Answer {
    Box::pin(std::future::ready(Ok(Status::unimplemented("").into_http())))
}

fn not_made(fault: &Error) {
    tracing::error!(cause = %fault, "a service cannot be made");
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
