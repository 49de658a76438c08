//! The pages that are not calls of the contract: is it alive, is it ready, what did it count, how is it used. They take
//! no credential and change nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::rest::{Body, Response, dialect, error};
use crate::model::{Result, card};
use crate::telemetry::Meter;

/// Touches what the service cannot work without.
pub type CheckReady = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// Looks at what is not counted along the way, before what was counted is shown.
pub type Look = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What the pages need.
pub struct Pages {
    /// Touches the store.
    pub check_ready: CheckReady,
    /// Looks at the work that waits.
    pub look: Look,
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
    CardSchema,
}

impl Page {
    const ALL: [Self; 8] = [
        Self::Health,
        Self::Ready,
        Self::Metrics,
        Self::OpenApi,
        Self::Docs,
        Self::DocsScript,
        Self::DocsStyle,
        Self::CardSchema,
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
            Self::CardSchema => card::SCHEMA_PATH,
        }
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Health | Self::Ready | Self::OpenApi => "application/json",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
            Self::Docs => "text/html; charset=utf-8",
            Self::DocsScript => "text/javascript; charset=utf-8",
            Self::DocsStyle => "text/css; charset=utf-8",
            Self::CardSchema => "application/schema+json",
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
    pub(crate) async fn answer(&self, page: Page, asked: &HeaderMap, meter: &Meter) -> Response {
        let body = match page {
            Page::Health => Body::from("{\"status\":\"ok\"}"),
            Page::Ready => match (self.check_ready)().await {
                Ok(()) => Body::from("{\"status\":\"ready\"}"),
                Err(fault) => return error::response(&dialect::CAMPAIGNS, fault),
            },
            Page::Metrics => {
                (self.look)().await;
                Body::from(meter.render())
            }
            Page::OpenApi => Body::from(self.openapi),
            Page::Docs => Body::from(include_str!("ops/docs.html")),
            Page::DocsScript => Body::from(include_str!("ops/docs.js")),
            Page::DocsStyle => Body::from(include_str!("ops/docs.css")),
            Page::CardSchema => return card_schema(asked),
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::OK;
        dress(&mut response, page);
        response
    }
}

/// What every page says about itself.
fn dress(response: &mut Response, page: Page) {
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
}

/// The JSON Schema of cards. Editors ask for it again and again, so whoever has the current one gets an empty answer; and
/// they keep it for a while, because it only changes with the build.
fn card_schema(asked: &HeaderMap) -> Response {
    static ETAG: LazyLock<String> = LazyLock::new(|| {
        let digest = digest::digest(&digest::SHA256, card::schema_text().as_bytes());
        let short = digest.as_ref().iter().take(16);
        format!("\"{}\"", short.map(|byte| format!("{byte:02x}")).collect::<String>())
    });
    let known = asked.get_all(header::IF_NONE_MATCH).iter();
    let mut known = known
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    // A proxy that compresses weakens the etag; for a whole answer the weak comparison is the one to make.
    let is_known = known.any(|tag| matches!(tag.trim(), "*") || tag.trim().trim_start_matches("W/") == ETAG.as_str());
    let mut response = if is_known {
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Body::from(card::schema_text()))
    };
    dress(&mut response, Page::CardSchema);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    if let Ok(etag) = HeaderValue::from_str(&ETAG) {
        headers.insert(header::ETAG, etag);
    }
    response
}
