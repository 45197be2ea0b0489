//! The shape of a catalogue entry.

/// One metric family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// The name on the wire, whole, so that it can be found by a text search.
    pub name: &'static str,
    /// What it is to Prometheus.
    pub kind: Kind,
    /// The base unit of its value.
    pub unit: Unit,
    /// The `# HELP` text.
    pub help: &'static str,
    /// Its own labels; Prometheus adds `job` and `instance`.
    pub labels: &'static [Label],
    /// Upper bounds of a histogram's buckets, without `+Inf`; empty otherwise.
    pub buckets: &'static [f64],
    /// The process that exposes it.
    pub emitter: Emitter,
    /// Where the number comes from.
    pub source: &'static str,
    /// What a user may rely on.
    pub stability: Stability,
}

impl Metric {
    /// Whether it is on the page of that emitter.
    #[must_use]
    pub fn is_emitted_by(&self, emitter: Emitter) -> bool {
        self.emitter == emitter || self.emitter == Emitter::Both
    }
}

/// A Prometheus metric type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

impl Kind {
    /// The word that a `# TYPE` line uses.
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
    /// Always one; the labels carry the facts.
    Info,
}

impl Unit {
    /// The word that the documentation uses.
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
    /// What it says.
    pub help: &'static str,
    /// The values that it may take.
    pub values: Values,
}

/// The values that a label may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Only these.
    Closed(&'static [&'static str]),
    /// These, and names that the application declares in its code.
    Declared(&'static [&'static str]),
    /// At most `most` distinct values; what comes after is counted under `overflow` if it is given.
    Bounded {
        /// The largest number of distinct values in one process.
        most: usize,
        /// The value that takes what is over the limit.
        overflow: Option<&'static str>,
    },
    /// Given by the deployment: as many as there are servers or builds.
    Deployment,
}

/// The process that exposes a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emitter {
    /// The `txnscope` library, inside a backend.
    Library,
    /// `txnscope serve`.
    Sidecar,
    /// Either of them, of itself.
    Both,
}

/// What a user may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stability {
    /// Name, kind, unit and labels stay for the whole major version.
    Stable,
    /// May change in any release; the changelog says so.
    Experimental,
}
