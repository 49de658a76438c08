//! Log and metrics: how lines are written, and the one list of metric names. It never decides what is worth a line or a
//! count, and neither ever holds personal data.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tracing_subscriber::EnvFilter;

/// Bounds of the buckets of durations, in seconds: from a cached read to the longest deadline that is usual.
const DURATION_BUCKETS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// How often histograms are condensed, so that their memory stays bounded between two scrapes.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Every metric of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Calls answered, by `rpc` and `door`.
    Requests,
    /// Calls answered with an error, by `rpc`, `door` and `reason`.
    Errors,
    /// Time from a call's head to its answer's head, by `rpc` and `door`.
    RequestDuration,
    /// Client connections that are open.
    Connections,
}

impl Metric {
    /// Every metric.
    pub const ALL: &'static [Self] = &[Self::Requests, Self::Errors, Self::RequestDuration, Self::Connections];

    /// The name in the exposition.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "campanile_requests_total",
            Self::Errors => "campanile_errors_total",
            Self::RequestDuration => "campanile_request_duration_seconds",
            Self::Connections => "campanile_connections_open",
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::Requests => "Calls answered",
            Self::Errors => "Calls answered with an error",
            Self::RequestDuration => "Time from a call's head to its answer's head",
            Self::Connections => "Client connections that are open",
        }
    }
}

/// The counters of one rpc on one door.
#[derive(Clone)]
pub struct CallMeter {
    /// Calls answered.
    pub requests: Counter,
    /// How long they took.
    pub duration: Histogram,
}

type CallKey = (&'static str, &'static str);

struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    calls: RwLock<HashMap<CallKey, CallMeter>>,
}

/// Counts, and prints what was counted. One per server, so that two in one process do not mix.
#[derive(Clone)]
pub struct Meter(Arc<Inner>);

impl Meter {
    /// A meter that has counted nothing.
    #[must_use]
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new();
        let matcher = Matcher::Full(Metric::RequestDuration.name().to_owned());
        let builder = match builder.set_buckets_for_metric(matcher, DURATION_BUCKETS) {
            Ok(builder) => builder,
            // The only fault there is: an empty list of bounds.
            Err(_) => PrometheusBuilder::new(),
        };
        let recorder = builder.build_recorder();
        for metric in Metric::ALL {
            let (name, meaning) = (metric.name().into(), metric.meaning().into());
            match metric {
                Metric::Requests | Metric::Errors => recorder.describe_counter(name, None, meaning),
                Metric::RequestDuration => recorder.describe_histogram(name, Some(Unit::Seconds), meaning),
                Metric::Connections => recorder.describe_gauge(name, None, meaning),
            }
        }
        let (handle, calls) = (recorder.handle(), RwLock::default());
        Self(Arc::new(Inner {
            recorder,
            handle,
            calls,
        }))
    }

    /// The counters of an rpc on a door; they are made once.
    #[must_use]
    pub fn call(&self, rpc: &'static str, door: &'static str) -> CallMeter {
        let calls = &self.0.calls;
        if let Some(meter) = calls.read().unwrap_or_else(PoisonError::into_inner).get(&(rpc, door)) {
            return meter.clone();
        }
        let labels = [("rpc", rpc), ("door", door)];
        let meter = CallMeter {
            requests: self.counter(Metric::Requests, &labels),
            duration: self
                .0
                .recorder
                .register_histogram(&key(Metric::RequestDuration, &labels), &METADATA),
        };
        let mut calls = calls.write().unwrap_or_else(PoisonError::into_inner);
        calls.entry((rpc, door)).or_insert(meter).clone()
    }

    /// A counter with labels whose values come from closed lists.
    pub fn counter(&self, metric: Metric, labels: &[(&'static str, &'static str)]) -> Counter {
        self.0.recorder.register_counter(&key(metric, labels), &METADATA)
    }

    /// A gauge without labels.
    pub fn gauge(&self, metric: Metric) -> Gauge {
        self.0.recorder.register_gauge(&key(metric, &[]), &METADATA)
    }

    /// Everything that was counted, in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.handle.render()
    }

    /// Condenses histograms; to be called every [`UPKEEP_INTERVAL`].
    pub fn upkeep(&self) {
        self.0.handle.run_upkeep();
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

const METADATA: Metadata<'static> = Metadata::new("campanile", Level::INFO, None);

fn key(metric: Metric, labels: &[(&'static str, &'static str)]) -> Key {
    let labels: Vec<Label> = labels.iter().map(|(name, value)| Label::new(*name, *value)).collect();
    Key::from_parts(metric.name(), labels)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_rpc_and_door() {
        let meter = Meter::new();
        meter.call("UserService/GetUser", "rest").requests.increment(1);
        meter.call("UserService/GetUser", "rest").requests.increment(1);
        meter.call("UserService/GetUser", "grpc").duration.record(0.003);
        let text = meter.render();
        assert!(
            text.contains("campanile_requests_total{rpc=\"UserService/GetUser\",door=\"rest\"} 2"),
            "{text}"
        );
        assert!(text.contains("le=\"0.005\"} 1"), "{text}");
        assert!(!Meter::new().render().contains("GetUser"), "meters do not mix");
    }
}
