//! The types of a catalog entry.

/// One metric family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// The exported name, spelled out so that a text search finds it.
    pub name: &'static str,
    /// The Prometheus type.
    pub kind: Kind,
    /// The base unit of its value.
    pub unit: Unit,
    /// The `# HELP` text.
    pub help: &'static str,
    /// Its own labels; Prometheus adds `job` and `instance`.
    pub labels: &'static [Label],
    /// Upper bounds of a histogram's buckets, without `+Inf`; empty otherwise.
    pub buckets: &'static [f64],
    /// The process that exposes the metric.
    pub emitter: Emitter,
    /// The source of the value.
    pub source: &'static str,
    /// The stability guarantee.
    pub stability: Stability,
}

impl Metric {
    /// Whether this emitter exposes the metric.
    #[must_use]
    pub fn is_emitted_by(&self, emitter: Emitter) -> bool {
        self.emitter == emitter || self.emitter == Emitter::Both
    }
}

/// A Prometheus metric type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Increases only, except for a restart.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

impl Kind {
    /// The name in a `# TYPE` line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The base unit of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// One or zero.
    Boolean,
    /// Always one; the labels carry the information.
    Info,
}

impl Unit {
    /// The name in the documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Boolean => "0 or 1",
            Self::Info => "always 1",
        }
    }
}

/// One label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The label's name.
    pub name: &'static str,
    /// The meaning of the label.
    pub help: &'static str,
    /// The values that the label may take.
    pub values: Values,
}

/// The values that a label may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Only these.
    Closed(&'static [&'static str]),
    /// These, and names that the application declares in its code.
    Declared(&'static [&'static str]),
    /// At most `max` distinct values; further ones are counted under `overflow`, if given.
    Bounded {
        /// The largest number of distinct values in one process.
        max: usize,
        /// The value for everything over the limit.
        overflow: Option<&'static str>,
    },
    /// Given by the deployment, such as server addresses or versions.
    Deployment,
}

/// The process that exposes a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emitter {
    /// The `txnscope` library, in a backend.
    Library,
    /// `txnscope serve`.
    Sidecar,
    /// Both, about their own process.
    Both,
}

/// The stability guarantee of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stability {
    /// Name, kind, unit and labels stay for the whole major version.
    Stable,
    /// May change in any release; the changelog says so.
    Experimental,
}
