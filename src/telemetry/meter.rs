//! Counting, and printing what was counted. It never looks anything up: whoever knows a number hands it over.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use metrics::{Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::metric::{Kind, Metric};
use super::process;

pub use metrics::{Counter, Gauge, Histogram};

/// Bounds of the buckets of durations, in seconds: from a cached read to the longest deadline that is usual.
const DURATION_BUCKETS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Bounds of the buckets of sizes: from one alone to the largest group.
const SIZE_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// How often histograms are condensed, so that their memory stays bounded between two scrapes.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

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

/// Counts, and prints what was counted. One per service, so that two in one process do not mix. Cheap to clone.
#[derive(Clone)]
pub struct Meter(Arc<Inner>);

impl Meter {
    /// A meter that has counted nothing.
    #[must_use]
    pub fn new() -> Self {
        let mut builder = PrometheusBuilder::new();
        for metric in Metric::ALL {
            let buckets = match metric.kind() {
                Kind::Seconds => DURATION_BUCKETS,
                Kind::Sizes => SIZE_BUCKETS,
                Kind::Counter | Kind::Gauge => continue,
            };
            let matcher = Matcher::Full(metric.name().to_owned());
            builder = match builder.set_buckets_for_metric(matcher, buckets) {
                Ok(builder) => builder,
                // The only fault there is: an empty list of bounds.
                Err(_) => PrometheusBuilder::new(),
            };
        }
        let recorder = builder.build_recorder();
        for metric in Metric::ALL {
            let (name, meaning) = (metric.name().into(), metric.meaning().into());
            match metric.kind() {
                Kind::Counter => recorder.describe_counter(name, None, meaning),
                Kind::Gauge => recorder.describe_gauge(name, None, meaning),
                Kind::Seconds => recorder.describe_histogram(name, Some(Unit::Seconds), meaning),
                Kind::Sizes => recorder.describe_histogram(name, None, meaning),
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
            duration: self.histogram(Metric::RequestDuration, &labels),
        };
        let mut calls = calls.write().unwrap_or_else(PoisonError::into_inner);
        calls.entry((rpc, door)).or_insert(meter).clone()
    }

    /// A counter with labels whose values come from closed lists.
    pub fn counter(&self, metric: Metric, labels: &[(&'static str, &'static str)]) -> Counter {
        self.0
            .recorder
            .register_counter(&key(metric, Kind::Counter, labels), &METADATA)
    }

    /// A gauge with such labels.
    pub fn gauge(&self, metric: Metric, labels: &[(&'static str, &'static str)]) -> Gauge {
        self.0
            .recorder
            .register_gauge(&key(metric, Kind::Gauge, labels), &METADATA)
    }

    /// A histogram with such labels.
    pub fn histogram(&self, metric: Metric, labels: &[(&'static str, &'static str)]) -> Histogram {
        self.0
            .recorder
            .register_histogram(&key(metric, metric.kind(), labels), &METADATA)
    }

    /// Everything that was counted, in the Prometheus text format, and how the process is now.
    #[must_use]
    pub fn render(&self) -> String {
        process::observe(self);
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

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}

const METADATA: Metadata<'static> = Metadata::new("campanile", Level::INFO, None);

fn key(metric: Metric, kind: Kind, labels: &[(&'static str, &'static str)]) -> Key {
    debug_assert!(kind == metric.kind(), "{} is a {:?}", metric.name(), metric.kind());
    debug_assert!(
        labels.iter().map(|(name, _)| name).eq(metric.labels()),
        "{} has the labels {:?}",
        metric.name(),
        metric.labels()
    );
    let labels: Vec<Label> = labels.iter().map(|(name, value)| Label::new(*name, *value)).collect();
    Key::from_parts(metric.name(), labels)
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

    #[test]
    fn names_are_as_prometheus_wants_them() {
        for metric in Metric::ALL {
            let (name, kind) = (metric.name(), metric.kind());
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
            assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
            assert!(kind != Kind::Seconds || name.ends_with("_seconds"), "{name}");
            let (first, meaning) = (metric.meaning().chars().next().unwrap(), metric.meaning());
            assert!(
                (first.is_uppercase() || first.is_ascii_digit()) && !meaning.ends_with('.'),
                "{name}: {meaning}"
            );
        }
    }
}
