//! Spans for a collector: where they go, and how a call and what follows from it find each other. Without a collector
//! nothing of this does anything. It never puts personal data into a span.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, Status, TraceContextExt, TracerProvider};
use opentelemetry::{Context, Key};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// The name that collectors know the service by, unless `OTEL_SERVICE_NAME` says another.
const SERVICE: &str = "campanile";
/// How long the last spans may take to leave when the process ends.
const LAST_TIME_MAX: Duration = Duration::from_secs(2);
/// The header of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";

/// Whether spans are exported, which is decided once, when the log starts.
static EXPORTED: AtomicBool = AtomicBool::new(false);

/// The way to the collector. Whoever holds it ends it, so that the last spans are not lost.
#[derive(Debug, Default)]
pub struct Spans(Option<SdkTracerProvider>);

impl Spans {
    /// Sends what is left and stops. It blocks for a few seconds at most.
    pub fn end(self) {
        if let Some(Err(fault)) = self.0.map(|provider| provider.shutdown_with_timeout(LAST_TIME_MAX)) {
            tracing::warn!(cause = %fault, "the last spans may not have reached the collector");
        }
    }
}

/// Starts to export spans to a collector that speaks OTLP over gRPC; to be called inside a tokio runtime. How often, how
/// many and which is said by the standard variables (`OTEL_BSP_…`, `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`,
/// `OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_RESOURCE_ATTRIBUTES`), which the library reads.
///
/// # Errors
/// When the endpoint is none.
pub(super) fn start<S>(endpoint: &str) -> Result<(impl Layer<S> + use<S>, Spans), ExporterBuildError>
where
    S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync,
{
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    let mut resource = Resource::builder().build();
    let named = resource.get(&Key::from_static_str("service.name"));
    if named.is_none_or(|name| name.as_str().starts_with("unknown_service")) {
        resource = Resource::builder().with_service_name(SERVICE).build();
    }
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build();
    EXPORTED.store(true, Ordering::Relaxed);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SERVICE))
        .with_location(false)
        .with_threads(false)
        .with_target(false);
    // Spans of ours, however the log is set; of events those that the log shows by default.
    let ours = filter_fn(|meta| meta.target().starts_with(SERVICE) && (meta.is_span() || *meta.level() <= Level::INFO));
    Ok((layer.with_filter(ours), Spans(Some(provider))))
}

struct Headers<'h>(&'h HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct Parent<'p>(&'p str);

impl Extractor for Parent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

fn context_of(carrier: &dyn Extractor) -> Context {
    // On its own, and not in whatever is current here.
    TraceContextPropagator::new().extract_with_context(&Context::new(), carrier)
}

/// Names the span of a call, puts it into the trace that the caller's headers tell of, and says where in a trace the call
/// is from now on: by its own span where spans are exported, else where its caller is. `None`: in no trace.
#[must_use]
pub fn begin(span: &Span, rpc: &'static str, headers: &HeaderMap) -> Option<String> {
    let told = headers.contains_key(TRACEPARENT);
    let exported = EXPORTED.load(Ordering::Relaxed);
    if !told && !exported {
        return None;
    }
    let caller = context_of(&Headers(headers));
    if !exported {
        return traceparent(caller.span().span_context());
    }
    span.record("otel.name", rpc);
    span.record("otel.kind", "server");
    if caller.span().span_context().is_valid() {
        // It fails only where the span is not exported.
        drop(span.set_parent(caller));
    }
    traceparent(span.context().span().span_context())
}

/// Tells the span of a call how it was answered. `reason` is the code of its error; `fault` says that it is not the
/// caller's.
pub fn end(span: &Span, status: u16, reason: Option<&'static str>, fault: bool) {
    if !EXPORTED.load(Ordering::Relaxed) {
        return;
    }
    span.set_attribute("http.response.status_code", i64::from(status));
    if let Some(reason) = reason {
        span.set_attribute("error.type", reason);
        if fault {
            span.set_status(Status::error(reason));
        }
    }
}

/// Links a span to the call that it follows from.
pub fn link(span: &Span, traceparent: &str) {
    if EXPORTED.load(Ordering::Relaxed) {
        let context = context_of(&Parent(traceparent)).span().span_context().clone();
        if context.is_valid() {
            span.add_link(context);
        }
    }
}

/// A place in a trace as W3C Trace Context writes it, version 00.
fn traceparent(context: &SpanContext) -> Option<String> {
    let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags());
    context
        .is_valid()
        .then(|| format!("00-{trace:032x}-{span:016x}-{:02x}", flags.to_u8() & 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(value: &str) -> Option<String> {
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static(TRACEPARENT), value.parse().unwrap())]);
        begin(&Span::none(), "UserService/GetUser", &headers)
    }

    #[test]
    fn without_a_collector_the_callers_place_in_a_trace_is_kept_where_it_is_one() {
        let sane = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(place(sane).as_deref(), Some(sane));
        for odd in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "' OR 1=1 --",
        ] {
            assert_eq!(place(odd), None, "{odd}");
        }
        assert_eq!(begin(&Span::none(), "UserService/GetUser", &HeaderMap::new()), None);
    }
}
