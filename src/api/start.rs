//! Puts the handlers behind both doors and the layers in front of them: the one way to make an [`Edge`] of a service.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_reflection::server::Builder;

use super::edge::{Doors, Edge, Means, Options};
use super::ops::Pages;
use super::rest::Router;
use super::rest::dialect::CAMPAIGNS;
use super::{Api, doors as generated};
use crate::domain::{Service, identity};
use crate::model::{Error, Result};
use crate::telemetry::Meter;

/// Lets a service read and write compressed messages; tonic gives each its own type, so no function can.
macro_rules! packed {
    ($service:expr) => {
        $service
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
    };
}

/// The layers and doors of a service. `stopping` is cancelled when the server stops.
///
/// # Errors
/// Internal, when the routes contradict each other, which the build has excluded.
pub fn edge(service: &Service, options: &Options, (meter, stopping): (Meter, CancellationToken)) -> Result<Edge> {
    let (finder, checker) = (service.clone(), service.clone());
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
            openapi: include_str!(concat!(env!("OUT_DIR"), "/openapi.json")),
        },
        meter,
        clock: service.clock().clone(),
        stopping,
    };
    Ok(Edge::new(doors(service)?, options, means))
}

/// Every service of the contract on both doors, and reflection over gRPC.
///
/// # Errors
/// Internal, when the routes contradict each other, which the build has excluded.
pub fn doors(service: &Service) -> Result<Doors> {
    let (api, dialect) = (Arc::new(Api::new(service.clone())), &CAMPAIGNS);
    let routes = [
        generated::app_routes(&api, dialect),
        generated::user_routes(&api, dialect),
        generated::channel_routes(&api, dialect),
        generated::category_routes(&api, dialect),
        generated::template_routes(&api, dialect),
        generated::notification_routes(&api, dialect),
        generated::feed_routes(&api, dialect),
    ];
    let reflection = |builder: Builder<'static>| builder.register_encoded_file_descriptor_set(generated::DESCRIPTORS);
    let v1 = reflection(Builder::configure()).build_v1().map_err(Error::internal)?;
    let v1alpha = reflection(Builder::configure())
        .build_v1alpha()
        .map_err(Error::internal)?;
    let grpc = Routes::new(v1)
        .add_service(v1alpha)
        .add_service(packed!(generated::app_grpc(&api)))
        .add_service(packed!(generated::user_grpc(&api)))
        .add_service(packed!(generated::channel_grpc(&api)))
        .add_service(packed!(generated::category_grpc(&api)))
        .add_service(packed!(generated::template_grpc(&api)))
        .add_service(packed!(generated::notification_grpc(&api)))
        .add_service(packed!(generated::feed_grpc(&api)));
    Ok(Doors {
        rest: Router::new(routes.concat()).map_err(Error::internal)?,
        grpc,
        methods: generated::METHODS.to_vec(),
    })
}
