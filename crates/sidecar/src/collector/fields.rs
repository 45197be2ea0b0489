//! Fields that become a number as they are, or divided: most of what the server says.

use mongodb::bson::Document;
use txnscope_catalog::Metric;

use crate::decode::{flag, number};
use crate::reading::Reading;

/// One field of a reply, and the series that it becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    metric: &'static Metric,
    labels: &'static [&'static str],
    path: &'static [&'static str],
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    /// A number of the metric's unit times this.
    Per(f64),
    /// Yes or no.
    Flag,
}

/// A number that is in the metric's unit.
pub(super) const fn plain(metric: &'static Metric, path: &'static [&'static str]) -> Field {
    Field { metric, labels: &[], path, form: Form::Per(1.0) }
}

/// A number of microseconds, for a metric in seconds.
pub(super) const fn micros(metric: &'static Metric, path: &'static [&'static str]) -> Field {
    Field { metric, labels: &[], path, form: Form::Per(1e6) }
}

/// A truth, for a metric that is 0 or 1.
pub(super) const fn truth(metric: &'static Metric, path: &'static [&'static str]) -> Field {
    Field { metric, labels: &[], path, form: Form::Flag }
}

impl Field {
    /// The same with labels.
    pub(super) const fn of(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }
}

/// Reads the fields that are there. Each that is odd costs itself.
pub(super) fn read(reading: &mut Reading, reply: &Document, fields: &[Field]) {
    for Field { metric, labels, path, form } in fields {
        let found = match form {
            Form::Per(scale) => number(reply, path).map(|number| number / scale),
            Form::Flag => flag(reply, path).map(|flag| f64::from(u8::from(flag))),
        };
        reading.number(metric, labels, found);
    }
}
