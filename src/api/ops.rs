//! The pages that are not calls of the contract: is it alive, is it ready, what did it count, how is it used. They take
//! no credential and change nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::rest::{Body, Response, dialect, error};
use crate::model::Result;
use crate::telemetry::Meter;

/// Touches what the service cannot work without.
pub type CheckReady = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// What the pages need.
pub struct Pages {
    /// Touches the store.
    pub check_ready: CheckReady,
    /// The OpenAPI document.
    pub openapi: &'static str,
}

/// One page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Health,
    Ready,
    Metrics,
    OpenApi,
    Docs,
    DocsScript,
    DocsStyle,
}

impl Page {
    const ALL: [Self; 7] = [
        Self::Health,
        Self::Ready,
        Self::Metrics,
        Self::OpenApi,
        Self::Docs,
        Self::DocsScript,
        Self::DocsStyle,
    ];

    /// Where it is served.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Health => "/healthz",
            Self::Ready => "/readyz",
            Self::Metrics => "/metrics",
            Self::OpenApi => "/openapi.json",
            Self::Docs => "/docs",
            Self::DocsScript => "/docs/docs.js",
            Self::DocsStyle => "/docs/docs.css",
        }
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Health | Self::Ready | Self::OpenApi => "application/json",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
            Self::Docs => "text/html; charset=utf-8",
            Self::DocsScript => "text/javascript; charset=utf-8",
            Self::DocsStyle => "text/css; charset=utf-8",
        }
    }

    /// The page at a path.
    pub(crate) fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|page| page.path() == path)
    }
}

/// Nothing from elsewhere is loaded, framed or run.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                              base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Pages {
    /// One page as it is now.
    pub(crate) async fn answer(&self, page: Page, meter: &Meter) -> Response {
        let body = match page {
            Page::Health => Body::from("{\"status\":\"ok\"}"),
            Page::Ready => match (self.check_ready)().await {
                Ok(()) => Body::from("{\"status\":\"ready\"}"),
                Err(fault) => return error::response(&dialect::CAMPAIGNS, fault),
            },
            Page::Metrics => Body::from(meter.render()),
            Page::OpenApi => Body::from(self.openapi),
            Page::Docs => Body::from(include_str!("ops/docs.html")),
            Page::DocsScript => Body::from(include_str!("ops/docs.js")),
            Page::DocsStyle => Body::from(include_str!("ops/docs.css")),
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(page.media_type()));
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(CONTENT_POLICY),
        );
        headers.insert(
            HeaderName::from_static("referrer-policy"),
            HeaderValue::from_static("no-referrer"),
        );
        response
    }
}
