//! Puts the handlers behind both doors and the layers in front of them: the one way to make an [`Edge`] of a service.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::edge::{Doors, Edge, Means, Options};
use super::ops::Pages;
use super::rest::Router;
use super::rest::dialect::CAMPAIGNS;
use super::{Api, doors as generated};
use crate::domain::{Service, identity};
use crate::model::{Error, Result};
use crate::telemetry::Meter;

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

/// Every service of the contract on both doors, with health.
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
    let (_, health) = tonic_health::server::health_reporter();
    let grpc = Routes::new(health)
        .add_service(generated::app_grpc(&api))
        .add_service(generated::user_grpc(&api))
        .add_service(generated::channel_grpc(&api))
        .add_service(generated::category_grpc(&api))
        .add_service(generated::template_grpc(&api))
        .add_service(generated::notification_grpc(&api))
        .add_service(generated::feed_grpc(&api));
    Ok(Doors {
        rest: Router::new(routes.concat()).map_err(Error::internal)?,
        grpc,
        methods: generated::METHODS.to_vec(),
    })
}
