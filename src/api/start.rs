//! Puts the handlers behind both doors and the layers in front of them: the one way to make an [`Edge`] of a service.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic_reflection::server::Builder;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tonic_reflection::server::v1alpha;

use super::doors::Services;
use super::edge::{Doors, Edge, Means, Options};
use super::ops::Pages;
use super::rest::Router;
use super::rest::dialect::CAMPAIGNS;
use super::{Api, doors as generated, upload};
use crate::domain::{Service, identity, measure};
use crate::model::{Error, Result};

/// Lets a service read and write compressed messages; tonic gives each its own type, so no function can.
macro_rules! packed {
    ($service:expr) => {
        $service
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
    };
}

/// The layers in front of some doors. `stopping` is cancelled when the server stops.
#[must_use]
pub fn edge(service: &Service, doors: Doors, options: &Options, stopping: CancellationToken) -> Edge {
    let (finder, checker, looker) = (service.clone(), service.clone(), service.clone());
    let means = Means {
        find_key: Arc::new(move |digest| {
            let service = finder.clone();
            Box::pin(async move { identity::find_key(&service, digest).await })
        }),
        pages: Pages {
            check_ready: Arc::new(move || {
                let service = checker.clone();
                Box::pin(async move { service.check().await })
            }),
            look: Arc::new(move || {
                let service = looker.clone();
                Box::pin(async move { measure::look(&service, service.clock().now()).await })
            }),
            openapi: include_str!(concat!(env!("OUT_DIR"), "/openapi.json")),
        },
        meter: service.meter().clone(),
        calls: service.calls().clone(),
        clock: service.clock().clone(),
        stopping,
    };
    Edge::new(doors, options, means)
}

/// No service at all, for a process that answers nobody: what is left are the pages for operators.
///
/// # Errors
/// As [`doors`].
pub fn no_doors() -> Result<Doors> {
    Ok(Doors {
        rest: Router::new(Vec::new()).map_err(Error::internal)?,
        grpc: Services::new(),
        methods: Vec::new(),
    })
}

/// Every service of the contract on both doors, and reflection over gRPC.
///
/// # Errors
/// Internal, when the routes contradict each other, which the build has excluded.
pub fn doors(service: &Service) -> Result<Doors> {
    let (api, dialect) = (Arc::new(Api::new(service.clone())), &CAMPAIGNS);
    let mut campaigns = generated::campaign_routes(&api, dialect);
    upload::take_forms(&mut campaigns, service);
    let routes = [
        generated::app_routes(&api, dialect),
        generated::user_routes(&api, dialect),
        generated::channel_routes(&api, dialect),
        generated::category_routes(&api, dialect),
        generated::template_routes(&api, dialect),
        generated::notification_routes(&api, dialect),
        generated::feed_routes(&api, dialect),
        campaigns,
        upload::routes(service, dialect),
    ];
    let grpc = Services::new()
        .with_late(reflection_v1)
        .with_late(reflection_v1alpha)
        .with(packed!(generated::app_grpc(&api)))
        .with(packed!(generated::user_grpc(&api)))
        .with(packed!(generated::channel_grpc(&api)))
        .with(packed!(generated::category_grpc(&api)))
        .with(packed!(generated::template_grpc(&api)))
        .with(packed!(generated::notification_grpc(&api)))
        .with(packed!(generated::feed_grpc(&api)))
        .with(packed!(generated::campaign_grpc(&api)));
    Ok(Doors {
        rest: Router::new(routes.concat()).map_err(Error::internal)?,
        grpc,
        methods: generated::METHODS.to_vec(),
    })
}

/// Reflection as it is standardized. It holds the contract in memory, so it is made by whoever asks first.
///
/// This and [`reflection_v1alpha`] must not be inlined into one function: rustc before 1.97 takes the two builders, which
/// begin alike, for one value, although the first was moved and freed (rust-lang/rust#155241 and #158830), and a release
/// build then ends. `make memcheck` looks for whatever else it may do.
#[inline(never)]
fn reflection_v1() -> Result<ServerReflectionServer<impl ServerReflection>> {
    let builder = Builder::configure().register_encoded_file_descriptor_set(generated::DESCRIPTORS);
    builder.build_v1().map_err(Error::internal)
}

/// Reflection as older clients know it.
#[inline(never)]
fn reflection_v1alpha() -> Result<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>> {
    let builder = Builder::configure().register_encoded_file_descriptor_set(generated::DESCRIPTORS);
    builder.build_v1alpha().map_err(Error::internal)
}
