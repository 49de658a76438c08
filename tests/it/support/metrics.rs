//! The metrics page as numbers.

use std::collections::BTreeMap;

/// Every sample of a page: name with labels, as it is printed, and value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    samples: BTreeMap<String, f64>,
    text: String,
}

impl Metrics {
    pub(crate) fn of(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        };
        Self {
            samples: lines.map(sample).collect(),
            text: text.to_owned(),
        }
    }

    /// A sample, such as `campanile_store_up` or `campanile_leases{kind="x"}`. One that is not there is a fault of the test.
    pub(crate) fn value(&self, sample: &str) -> f64 {
        let found = self.samples.get(sample);
        *found.unwrap_or_else(|| unreachable!("no sample {sample} in\n{}", self.text))
    }

    /// The samples of a metric, all labels together.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let of = |sample: &&String| sample.split('{').next() == Some(name);
        self.samples
            .iter()
            .filter(|(sample, _)| of(sample))
            .map(|(_, value)| value)
            .sum()
    }

    /// What a counter has grown by since an earlier page.
    pub(crate) fn since(&self, before: &Self, sample: &str) -> f64 {
        self.value(sample) - before.samples.get(sample).copied().unwrap_or_default()
    }

    /// Every sample's name and labels.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(String::as_str)
    }

    /// The page itself.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}
