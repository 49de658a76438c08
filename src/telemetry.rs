//! Log and metrics: how lines are written, and the one list of metrics. It never decides what is worth a line or a count,
//! and neither ever holds personal data.

mod meter;
mod metric;
mod process;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

pub use meter::{CallMeter, Counter, Gauge, Histogram, Meter, UPKEEP_INTERVAL};
pub use metric::{Kind, Metric};

/// Starts the log of this process, to standard error.
///
/// # Errors
/// When the filter cannot be read, or the process has a log already.
pub fn start_log(filter: &str, json: bool) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter)?)
        .with_writer(std::io::stderr);
    // On a terminal the library decides, which honors NO_COLOR.
    let builder = if std::io::stderr().is_terminal() {
        builder
    } else {
        builder.with_ansi(false)
    };
    if json {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init()
    } else {
        builder.with_target(false).try_init()
    }
}
