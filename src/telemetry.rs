//! Log, metrics and traces: how lines are written, the one list of metrics, where spans go. It never decides what is worth
//! a line, a count or a span, and none of them ever holds personal data.

mod meter;
mod metric;
mod process;
pub mod trace;

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

pub use meter::{CallMeter, Counter, Gauge, Histogram, Meter, UPKEEP_INTERVAL};
pub use metric::{Kind, Metric};
pub use trace::Spans;

/// Starts the log of this process, to standard error, and where a collector is named the export of its spans; that has to
/// be inside a tokio runtime.
///
/// # Errors
/// When the filter or the collector's address cannot be read, or the process has a log already.
pub fn start_log(
    filter: &str,
    json: bool,
    collector: Option<&str>,
) -> Result<Spans, Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_new(filter)?;
    let Some(collector) = collector else {
        // One filter for all of it, which costs less than one for each layer.
        let registry = tracing_subscriber::registry().with(filter);
        registry.with(lines(json)).try_init()?;
        return Ok(Spans::default());
    };
    let (layer, spans) = trace::start(collector)?;
    let registry = tracing_subscriber::registry().with(lines(json).with_filter(filter));
    registry.with(layer).try_init()?;
    Ok(spans)
}

/// Writes lines.
fn lines<S>(json: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // On a terminal the library decides, which honors NO_COLOR.
    let layer = if std::io::stderr().is_terminal() {
        layer
    } else {
        layer.with_ansi(false)
    };
    if json {
        let layer = layer.json().flatten_event(true);
        layer.with_current_span(true).with_span_list(false).boxed()
    } else {
        layer.with_target(false).boxed()
    }
}
