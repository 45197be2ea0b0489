//! The result of one poll of one collector: samples of cataloged metrics.
//!
//! A collector uses the catalog's constants, so it can neither invent a name nor forget a help text. A sample
//! that does not match its entry is dropped and counted, never exported.

use std::borrow::Cow;
use std::collections::HashSet;

use txnscope_catalog::{Kind, Label, Metric, Values};

use crate::decode::Field;
use crate::error::PollError;

/// The maximum number of series of one collector of one member.
const MAX_SERIES: usize = 1_000;

/// The labels that the exporter adds to every sample.
const EXPORTER_LABELS: [&str; 2] = ["rs", "member"];

/// The samples of one poll.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SampleSet {
    samples: Vec<Sample>,
    dropped: u64,
    failure: Option<PollError>,
}

/// One series and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) metric: &'static Metric,
    /// The values of the metric's own labels, after `rs` and `member`, in the catalog's order.
    pub(crate) labels: Vec<Cow<'static, str>>,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Histogram(Histogram),
}

/// Cumulative counts at the catalog's bucket bounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Histogram {
    pub(crate) cumulative: Vec<u64>,
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

impl SampleSet {
    pub(crate) fn as_slice(&self) -> &[Sample] {
        &self.samples
    }

    /// Every number with its metric and labels, for tests.
    #[cfg(test)]
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (&'static Metric, &[Cow<'static, str>], f64)> {
        self.samples.iter().filter_map(|sample| match sample.value {
            Value::Number(number) => Some((sample.metric, sample.labels.as_slice(), number)),
            Value::Histogram(_) => None,
        })
    }

    /// The number of one series, for tests.
    #[cfg(test)]
    pub(crate) fn find(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let is = |(metric, own_labels, _): &(&Metric, &[Cow<'static, str>], f64)| {
            metric.name == name && *own_labels == labels
        };
        self.numbers().find(is).map(|(_, _, value)| value)
    }

    /// How many series were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Marks the sample set as partial. The samples that it has are valid.
    pub(crate) fn mark_partial(mut self, failure: Option<PollError>) -> Self {
        self.failure = failure;
        self
    }

    /// Why the sample set is partial, if it is.
    pub(crate) fn failure(&self) -> Option<&PollError> {
        self.failure.as_ref()
    }

    /// The sum of the numbers of a metric; `None` if there are none.
    pub(crate) fn total(&self, metric: &Metric) -> Option<f64> {
        let of_metric = self.samples.iter().filter(|sample| sample.metric.name == metric.name);
        let numbers = of_metric.filter_map(|sample| match sample.value {
            Value::Number(number) => Some(number),
            Value::Histogram(_) => None,
        });
        numbers.reduce(|sum, number| sum + number)
    }

    /// Adds a number. A missing field is left out; an invalid one is counted as dropped.
    pub(crate) fn number(
        &mut self,
        metric: &'static Metric,
        labels: &[&'static str],
        found: Field<f64>,
    ) -> &mut Self {
        self.labeled(metric, labels.iter().copied().map(Cow::Borrowed).collect(), found)
    }

    /// Adds a number with dynamic label values.
    pub(crate) fn labeled(
        &mut self,
        metric: &'static Metric,
        labels: Vec<Cow<'static, str>>,
        found: Field<f64>,
    ) -> &mut Self {
        match found {
            Field::Value(value) => self.push(Sample { metric, labels, value: Value::Number(value) }),
            Field::Invalid => self.dropped += 1,
            Field::Missing => {}
        }
        self
    }

    /// Counts a series that could not be decoded.
    pub(crate) fn count_dropped(&mut self) {
        self.dropped += 1;
    }

    /// Adds an info series: its value is 1, and its labels carry the information.
    pub(crate) fn info(&mut self, metric: &'static Metric, labels: Vec<Cow<'static, str>>) -> &mut Self {
        self.push(Sample { metric, labels, value: Value::Number(1.0) });
        self
    }

    /// Adds a histogram.
    pub(crate) fn histogram(
        &mut self,
        metric: &'static Metric,
        labels: &[&'static str],
        found: Field<Histogram>,
    ) -> &mut Self {
        match found {
            Field::Value(histogram) => {
                let labels = labels.iter().copied().map(Cow::Borrowed).collect();
                self.push(Sample { metric, labels, value: Value::Histogram(histogram) });
            }
            Field::Invalid => self.dropped += 1,
            Field::Missing => {}
        }
        self
    }

    fn push(&mut self, sample: Sample) {
        let of_metric = || self.samples.iter().filter(|other| other.metric.name == sample.metric.name);
        let is_duplicate = of_metric().any(|other| other.labels == sample.labels);
        if self.samples.len() < MAX_SERIES
            && matches_metric(&sample)
            && !is_duplicate
            && within_label_bounds(&sample, of_metric())
        {
            self.samples.push(sample);
        } else {
            self.dropped += 1;
        }
    }
}

/// The labels that a collector provides.
fn own_labels(metric: &Metric) -> impl Iterator<Item = &Label> {
    metric.labels.iter().filter(|label| !EXPORTER_LABELS.contains(&label.name))
}

/// Whether each bounded label stays within its bound, besides the value for the overflow.
fn within_label_bounds<'a>(sample: &Sample, others: impl Iterator<Item = &'a Sample> + Clone) -> bool {
    own_labels(sample.metric).zip(&sample.labels).enumerate().all(|(index, (label, value))| {
        let Values::Bounded { max, overflow } = label.values else { return true };
        if overflow == Some(value.as_ref()) {
            return true;
        }
        let known = others.clone().filter_map(|other| other.labels.get(index));
        let distinct: HashSet<_> = known.filter(|known| overflow != Some(known.as_ref())).collect();
        distinct.len() < max || distinct.contains(value)
    })
}

fn matches_metric(sample: &Sample) -> bool {
    let own_labels: Vec<_> = own_labels(sample.metric).collect();
    let labels_fit = own_labels.len() == sample.labels.len()
        && own_labels.iter().zip(&sample.labels).all(|(label, value)| match label.values {
            Values::Closed(values) => values.contains(&value.as_ref()),
            Values::Declared(_) | Values::Bounded { .. } | Values::Deployment => true,
        });
    let value_fits = match &sample.value {
        Value::Number(number) => sample.metric.kind != Kind::Histogram && number.is_finite(),
        Value::Histogram(histogram) => {
            sample.metric.kind == Kind::Histogram
                && histogram.cumulative.len() == sample.metric.buckets.len()
                && histogram.cumulative.is_sorted()
                && histogram.cumulative.last().is_none_or(|last| *last <= histogram.count)
        }
    };
    labels_fit && value_fits
}

#[cfg(test)]
mod tests {
    use txnscope_catalog::{
        MONGODB_INFO, MONGODB_TRANSACTION_DURATION, MONGODB_TRANSACTIONS_OPEN,
        MONGODB_TRANSACTIONS_OPEN_BY_APPLICATION, MONGODB_UPTIME,
    };

    use super::*;

    #[test]
    fn sample_that_does_not_match_its_entry_is_dropped() {
        let mut samples = SampleSet::default();
        samples.number(&MONGODB_UPTIME, &[], Field::Value(1.0));
        samples.number(&MONGODB_UPTIME, &[], Field::Missing);
        assert_eq!((samples.as_slice().len(), samples.dropped()), (1, 0));
        samples.number(&MONGODB_UPTIME, &[], Field::Invalid);
        samples.number(&MONGODB_UPTIME, &[], Field::Value(2.0));
        samples.number(&MONGODB_UPTIME, &["extra"], Field::Value(2.0));
        samples.number(&MONGODB_TRANSACTIONS_OPEN, &["ajar"], Field::Value(2.0));
        samples.number(&MONGODB_TRANSACTION_DURATION, &[], Field::Value(2.0));
        samples.info(&MONGODB_INFO, vec!["8.0".into(), "mongodb".into(), "".into()]);
        let histogram = Histogram { cumulative: vec![1], count: 1, sum: 1.0 };
        samples.histogram(&MONGODB_TRANSACTION_DURATION, &[], Field::Value(histogram));
        assert_eq!((samples.as_slice().len(), samples.dropped()), (1, 7));
    }

    #[test]
    fn bounded_label_is_limited() {
        let mut samples = SampleSet::default();
        for index in 0..30 {
            let application = vec![format!("app{index}").into()];
            samples.labeled(&MONGODB_TRANSACTIONS_OPEN_BY_APPLICATION, application, Field::Value(1.0));
        }
        samples.labeled(
            &MONGODB_TRANSACTIONS_OPEN_BY_APPLICATION,
            vec!["overflow".into()],
            Field::Value(1.0),
        );
        assert_eq!((samples.as_slice().len(), samples.dropped()), (21, 10));
    }

    #[test]
    fn series_are_limited() {
        let mut samples = SampleSet::default();
        for version in 0..=MAX_SERIES {
            samples.info(&MONGODB_INFO, vec![version.to_string().into(), "mongod".into(), "".into()]);
        }
        assert_eq!((samples.as_slice().len(), samples.dropped()), (MAX_SERIES, 1));
    }
}
