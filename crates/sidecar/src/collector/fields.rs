//! Mappings from fields of a reply to series: most of what is read.

use mongodb::bson::Document;
use txnscope_catalog::Metric;

use crate::decode::{boolean, number};
use crate::sample_set::SampleSet;

/// A field of a reply, and the series that it becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldMapping {
    metric: &'static Metric,
    labels: &'static [&'static str],
    path: &'static [&'static str],
    conversion: Conversion,
}

#[derive(Debug, Clone, Copy)]
enum Conversion {
    /// A number, divided by this to get the metric's unit.
    Per(f64),
    /// A boolean.
    Boolean,
}

/// A number in the metric's unit.
pub(super) const fn number_field(metric: &'static Metric, path: &'static [&'static str]) -> FieldMapping {
    FieldMapping { metric, labels: &[], path, conversion: Conversion::Per(1.0) }
}

/// A number of microseconds, for a metric in seconds.
pub(super) const fn micros_field(metric: &'static Metric, path: &'static [&'static str]) -> FieldMapping {
    FieldMapping { metric, labels: &[], path, conversion: Conversion::Per(1e6) }
}

/// A boolean, for a metric that is 0 or 1.
pub(super) const fn boolean_field(metric: &'static Metric, path: &'static [&'static str]) -> FieldMapping {
    FieldMapping { metric, labels: &[], path, conversion: Conversion::Boolean }
}

impl FieldMapping {
    /// Sets the labels.
    pub(super) const fn of(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }
}

/// Reads the fields that exist. An invalid field costs itself only.
pub(super) fn read(samples: &mut SampleSet, reply: &Document, fields: &[FieldMapping]) {
    for FieldMapping { metric, labels, path, conversion } in fields {
        let found = match conversion {
            Conversion::Per(scale) => number(reply, path).map(|number| number / scale),
            Conversion::Boolean => boolean(reply, path).map(|boolean| f64::from(u8::from(boolean))),
        };
        samples.number(metric, labels, found);
    }
}
