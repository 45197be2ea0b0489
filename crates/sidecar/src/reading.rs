//! What one poll of one source brought: samples of catalogued metrics.
//!
//! A source names the catalogue's constants, so it can neither invent a name nor forget a help text. What does not
//! fit the entry is dropped and counted, never exported.

use std::borrow::Cow;

use txnscope_catalog::{Kind, Metric, Values};

use crate::decode::Found;

/// The most series that one source may give for one member.
const MAX_SERIES: usize = 1_000;

/// The labels that the exporter adds to every sample.
const ADDED: [&str; 2] = ["rs", "member"];

/// One poll's samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reading {
    samples: Vec<Sample>,
    dropped: u64,
}

/// One series and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) metric: &'static Metric,
    /// The values of the metric's own labels, after `rs` and `member`, in the catalogue's order.
    pub(crate) labels: Vec<Cow<'static, str>>,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Histogram(Histogram),
}

/// Cumulative counts at the catalogue's bounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Histogram {
    pub(crate) cumulative: Vec<u64>,
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

impl Reading {
    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// How many series were offered and not taken.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The sum of the numbers of that metric; nothing if there are none.
    pub(crate) fn total(&self, metric: &Metric) -> Option<f64> {
        let of_metric = self.samples.iter().filter(|sample| sample.metric.name == metric.name);
        let numbers = of_metric.filter_map(|sample| match sample.value {
            Value::Number(number) => Some(number),
            Value::Histogram(_) => None,
        });
        numbers.reduce(|sum, number| sum + number)
    }

    /// Adds a number. One that the server does not have is left out; an odd one is dropped.
    pub(crate) fn number(
        &mut self,
        metric: &'static Metric,
        labels: &[&'static str],
        found: Found<f64>,
    ) -> &mut Self {
        match found {
            Found::Value(value) => {
                let labels = labels.iter().copied().map(Cow::Borrowed).collect();
                self.push(Sample { metric, labels, value: Value::Number(value) });
            }
            Found::Odd => self.dropped += 1,
            Found::Missing => {}
        }
        self
    }

    /// Adds a fact: a series of the value 1 whose labels say it.
    pub(crate) fn info(&mut self, metric: &'static Metric, labels: Vec<Cow<'static, str>>) -> &mut Self {
        self.push(Sample { metric, labels, value: Value::Number(1.0) });
        self
    }

    /// Adds a histogram.
    pub(crate) fn histogram(&mut self, metric: &'static Metric, found: Found<Histogram>) -> &mut Self {
        match found {
            Found::Value(histogram) => {
                self.push(Sample { metric, labels: Vec::new(), value: Value::Histogram(histogram) });
            }
            Found::Odd => self.dropped += 1,
            Found::Missing => {}
        }
        self
    }

    fn push(&mut self, sample: Sample) {
        let twice = |other: &Sample| other.metric.name == sample.metric.name && other.labels == sample.labels;
        if self.samples.len() < MAX_SERIES && fits(&sample) && !self.samples.iter().any(twice) {
            self.samples.push(sample);
        } else {
            self.dropped += 1;
        }
    }
}

fn fits(sample: &Sample) -> bool {
    let own: Vec<_> = sample.metric.labels.iter().filter(|label| !ADDED.contains(&label.name)).collect();
    let labels_fit = own.len() == sample.labels.len()
        && own.iter().zip(&sample.labels).all(|(label, value)| match label.values {
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
        MONGODB_INFO, MONGODB_TRANSACTION_DURATION, MONGODB_TRANSACTIONS_OPEN, MONGODB_UPTIME,
    };

    use super::*;

    #[test]
    fn what_does_not_fit_its_entry_is_dropped_and_counted() {
        let mut reading = Reading::default();
        reading.number(&MONGODB_UPTIME, &[], Found::Value(1.0));
        reading.number(&MONGODB_UPTIME, &[], Found::Missing);
        assert_eq!((reading.samples().len(), reading.dropped()), (1, 0));
        reading.number(&MONGODB_UPTIME, &[], Found::Odd);
        reading.number(&MONGODB_UPTIME, &[], Found::Value(2.0));
        reading.number(&MONGODB_UPTIME, &["extra"], Found::Value(2.0));
        reading.number(&MONGODB_TRANSACTIONS_OPEN, &["ajar"], Found::Value(2.0));
        reading.number(&MONGODB_TRANSACTION_DURATION, &[], Found::Value(2.0));
        reading.info(&MONGODB_INFO, vec!["8.0".into(), "mongodb".into(), "".into()]);
        let histogram = Histogram { cumulative: vec![1], count: 1, sum: 1.0 };
        reading.histogram(&MONGODB_TRANSACTION_DURATION, Found::Value(histogram));
        assert_eq!((reading.samples().len(), reading.dropped()), (1, 7));
    }

    #[test]
    fn series_have_a_limit() {
        let mut reading = Reading::default();
        for version in 0..=MAX_SERIES {
            reading.info(&MONGODB_INFO, vec![version.to_string().into(), "mongod".into(), "".into()]);
        }
        assert_eq!((reading.samples().len(), reading.dropped()), (MAX_SERIES, 1));
    }
}
