//! What Prometheus has of each operation, before and after.

use std::collections::{BTreeMap, BTreeSet};

use txnscope_catalog as catalog;

use crate::services::Trouble;
use crate::services::prometheus::{Labels, Prometheus, plain};
use txnscope_rollout::{Operation, WindowCounts};

/// Slices of the baseline: enough to see how much it varies, few enough for a quick answer.
const FEWEST: f64 = 12.0;
const MOST: f64 = 48.0;
/// Two scrapes of a common interval: a shorter slice would have nothing in it.
const SHORTEST: f64 = 60.0;

/// From when to when, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Span {
    pub(crate) start: f64,
    pub(crate) end: f64,
}

impl Span {
    pub(crate) fn seconds(self) -> f64 {
        self.end - self.start
    }
}

/// More operations than this are of no estate that one table could show. The operations of one process are bounded already.
const MOST_OPERATIONS: usize = 5 * catalog::MAX_OPERATIONS;
/// More bounds than this has no histogram. Each operation has a count for each bound of any, in each slice, so that
/// their numbers multiply.
const MOST_BOUNDS: usize = 200;

/// All operations, and the bounds of their histograms.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books {
    pub(crate) bounds: Vec<f64>,
    pub(crate) operations: Vec<Operation>,
    /// What the servers counted of the transactions of each replica set, where no caller's metrics are.
    pub(crate) servers: Vec<Operation>,
    /// Labels that series of the callers' metrics lack, so that they cannot be judged.
    pub(crate) lacking: BTreeSet<&'static str>,
    /// The share of the baseline of which there is data.
    pub(crate) baseline: f64,
}

fn labels_of(selector: &str, more: &str) -> String {
    let all: Vec<&str> = [selector, more].into_iter().filter(|text| !text.is_empty()).collect();
    format!("{{{}}}", all.join(","))
}

/// What the servers say, each member once, however many sidecars watch it.
fn questions_of_servers(selector: &str) -> [(&'static str, String); 2] {
    let increase = |name: &str| {
        let labels = labels_of(selector, "");
        format!(
            "sum by (deployment, rs) (max by (cluster, deployment, rs, member) (increase({name}{labels}[WINDOW])))"
        )
    };
    [
        ("committed", increase(catalog::MONGODB_TRANSACTIONS_COMMITTED.name)),
        ("server_aborted", increase(catalog::MONGODB_TRANSACTIONS_ABORTED.name)),
    ]
}

/// The values that there are of the labels that a selector matches, if it matches nothing that could be judged.
///
/// # Errors
///
/// If Prometheus does not answer.
pub(crate) async fn choices(
    prometheus: &Prometheus,
    selector: &str,
    whole: Span,
) -> Result<Option<String>, Trouble> {
    if selector.is_empty() {
        return Ok(None);
    }
    let window = format!("{:.0}ms", whole.seconds() * 1e3);
    let duration = format!("{}_count", catalog::TRANSACTION_DURATION.name);
    let families = [
        duration.as_str(),
        catalog::CLIENT_TRANSACTIONS_STARTED.name,
        catalog::MONGODB_TRANSACTIONS_COMMITTED.name,
    ];
    let any = |by: &str, labels: &str| {
        let counts =
            families.map(|name| format!("count by ({by}) (count_over_time({name}{labels}[{window}]))"));
        counts.join(" or ")
    };
    let at = Some(whole.end);
    if !prometheus.query(&any("", &labels_of(selector, "")), at).await?.is_empty() {
        return Ok(None);
    }
    let mut there = Vec::new();
    for label in matched(selector) {
        let found = prometheus.query(&any(label, ""), at).await?;
        let values: BTreeSet<String> = found
            .iter()
            .map(|sample| sample.labels.get(label).map_or("", String::as_str))
            .filter(|value| !value.is_empty())
            .map(|value| format!("{:?}", plain(value)))
            .collect();
        let values: Vec<String> = values.into_iter().take(CHOICES).collect();
        there.push(match values.as_slice() {
            [] => format!("no series of {} has a label {label}", families.join(", ")),
            values => format!("{label} may be {}", values.join(", ")),
        });
    }
    Ok(Some(there.join("; ")))
}

/// More values of a label help nobody who mistyped one.
const CHOICES: usize = 20;

/// The labels that a selector matches.
fn matched(selector: &str) -> Vec<&str> {
    let mut labels = Vec::new();
    let mut quoted = false;
    let mut escaped = false;
    let mut start = 0;
    for (at, letter) in selector.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => start = at + 1,
            '=' | '!' if !quoted => {
                let name = selector.get(start..at).unwrap_or_default().trim();
                if !name.is_empty() && !labels.contains(&name) {
                    labels.push(name);
                }
                // The rest of the operator, and the value, belong to no name.
                start = selector.len();
            }
            _ => {}
        }
    }
    labels
}

/// What is counted, and the expression for it: `WINDOW` stands for the length of a stretch.
fn questions(selector: &str) -> [(&'static str, String); 5] {
    let labels = |more: &str| labels_of(selector, more);
    let increase = |by: &str, name: &str, more: &str| {
        format!("sum by ({by}) (increase({name}{}[WINDOW]))", labels(more))
    };
    let duration = catalog::TRANSACTION_DURATION.name;
    [
        ("ended", increase("operation, outcome", &format!("{duration}_count"), "")),
        ("buckets", increase("operation, le", &format!("{duration}_bucket"), "outcome=\"succeeded\"")),
        ("started", increase("operation", catalog::CLIENT_TRANSACTIONS_STARTED.name, "")),
        ("aborted", increase("operation", catalog::CLIENT_TRANSACTIONS_ABORTED.name, "")),
        (
            "conflicts",
            increase("operation", catalog::CLIENT_TRANSACTIONS_ABORTED.name, "reason=\"write_conflict\""),
        ),
    ]
}

/// How many slices the baseline is cut into, each as long as the window where that can be.
fn slices(baseline: f64, window: f64) -> f64 {
    let wanted = (baseline / window).round().clamp(FEWEST, MOST);
    wanted.min((baseline / SHORTEST).floor()).max(1.0)
}

/// # Errors
///
/// If Prometheus does not answer, or not with what was asked for.
pub(crate) async fn read(
    prometheus: &Prometheus,
    selector: &str,
    before: Span,
    after: Span,
) -> Result<Books, Trouble> {
    let slices = slices(before.seconds(), after.seconds());
    let mut books = count(prometheus, &questions(selector), before, after, slices).await?.books(slices);
    if books.operations.is_empty() && books.lacking.is_empty() {
        let servers = count(prometheus, &questions_of_servers(selector), before, after, slices).await?;
        let servers = servers.books(slices);
        (books.servers, books.baseline) = (servers.operations, servers.baseline);
    }
    Ok(books)
}

async fn count(
    prometheus: &Prometheus,
    questions: &[(&'static str, String)],
    before: Span,
    after: Span,
    slices: f64,
) -> Result<Counts, Trouble> {
    let mut counts = Counts::default();
    let step = before.seconds() / slices;
    for (kind, expression) in questions {
        let window = |seconds: f64| expression.replace("WINDOW", &format!("{:.0}ms", seconds * 1e3));
        let now = prometheus.query(&window(after.seconds()), Some(after.end)).await?;
        for sample in now {
            counts.add(kind, &sample.labels, None, sample.value);
        }
        counts.is_bounded().map_err(Trouble::Malformed)?;
        // Each point looks back over one slice, so the first stands at the end of the first.
        let first = before.start + step;
        for series in prometheus.range(&window(step), (first, before.end), step).await? {
            for (time, value) in series.values {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a number from 0 to 48"
                )]
                let slice = ((time - first) / step).round().clamp(0.0, slices - 1.0) as usize;
                counts.add(kind, &series.labels, Some(slice), value);
            }
        }
        counts.is_bounded().map_err(Trouble::Malformed)?;
    }
    Ok(counts)
}

/// Books of samples that say themselves what they count, and in which slice.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn of_samples(samples: &[crate::services::prometheus::Sample]) -> Books {
    let mut counts = Counts::default();
    for sample in samples {
        let label = |name: &str| sample.labels.get(name).map_or("", String::as_str);
        let slice = label("slice").parse::<usize>().ok().filter(|slice| *slice < 48);
        counts.add(label("kind"), &sample.labels, slice, sample.value);
    }
    counts.books(12.0)
}

/// `None` is the window after, a number a slice of the baseline.
type Place = Option<usize>;

#[derive(Debug, Default)]
struct Counts {
    stretches: BTreeMap<(String, Place), WindowCounts>,
    /// By bound, the bits of which are the key: they are finite and positive, so they sort as numbers do.
    buckets: BTreeMap<(String, Place), BTreeMap<u64, f64>>,
    places: BTreeSet<Place>,
    lacking: BTreeSet<&'static str>,
    names: BTreeSet<String>,
    bounds: BTreeSet<u64>,
}

impl Counts {
    /// Whether there are no more operations and bounds than can be held for all of them.
    fn is_bounded(&self) -> Result<(), String> {
        let hint = "choose with --selector which are compared";
        if self.names.len() > MOST_OPERATIONS {
            return Err(format!("it has more than {MOST_OPERATIONS} operations: {hint}"));
        }
        if self.bounds.len() > MOST_BOUNDS {
            return Err(format!("its histograms have more than {MOST_BOUNDS} different bounds: {hint}"));
        }
        Ok(())
    }

    /// What is odd (a negative count, a bound that is no number) says nothing, and costs itself only.
    fn add(&mut self, kind: &str, labels: &Labels, place: Place, value: f64) {
        let label = |name: &str| labels.get(name).map_or("", String::as_str);
        let of_server = ["committed", "server_aborted"].contains(&kind);
        let operation = if of_server { set_of(labels) } else { plain(label("operation")) };
        if !value.is_finite() || value < 0.0 {
            return;
        }
        // The name of a set may be empty, that of an operation not; and what has no outcome has not succeeded by that.
        if operation.is_empty() {
            self.lacking.insert("operation");
        }
        if kind == "ended" && label("outcome").is_empty() {
            self.lacking.insert("outcome");
        }
        if operation.is_empty() {
            return;
        }
        self.places.insert(place);
        // One more than there may be is enough to know that there are too many.
        if !self.names.contains(&operation) && self.names.len() <= MOST_OPERATIONS {
            self.names.insert(operation.clone());
        }
        if !self.names.contains(&operation) {
            return;
        }
        let key = (operation, place);
        if kind == "buckets" {
            let Ok(bound) = label("le").parse::<f64>() else { return };
            if bound > 0.0 && (self.bounds.len() <= MOST_BOUNDS || self.bounds.contains(&bound.to_bits())) {
                self.bounds.insert(bound.to_bits());
                *self.buckets.entry(key).or_default().entry(bound.to_bits()).or_default() += value;
            }
            return;
        }
        let stretch = self.stretches.entry(key).or_default();
        match kind {
            "ended" => {
                stretch.ended += value;
                if ["failed", "panicked"].contains(&label("outcome")) {
                    stretch.failed += value;
                }
            }
            "started" => stretch.started += value,
            "aborted" => stretch.aborted += value,
            "committed" => stretch.started += value,
            // Of a server, the share that is judged is that of all aborts: it does not know why.
            "server_aborted" => {
                stretch.started += value;
                stretch.aborted += value;
                stretch.conflicts += value;
            }
            _ => stretch.conflicts += value,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "there are some tens of slices")]
    fn books(self, slices: f64) -> Books {
        let infinity = f64::INFINITY.to_bits();
        let bounds: Vec<f64> =
            self.bounds.iter().filter(|bits| **bits != infinity).map(|bits| f64::from_bits(*bits)).collect();
        let stretch = |name: &String, place: Place| {
            let key = (name.clone(), place);
            let mut stretch = self.stretches.get(&key).cloned().unwrap_or_default();
            if let Some(buckets) = self.buckets.get(&key) {
                // Extrapolation is by series: a count may come out a trace smaller than that of a lower bound.
                let mut least = 0.0_f64;
                stretch.cumulative = bounds
                    .iter()
                    .map(|bound| bound.to_bits())
                    .chain([infinity])
                    .map(|bound| {
                        least = least.max(buckets.get(&bound).copied().unwrap_or_default());
                        least
                    })
                    .collect();
            }
            stretch
        };
        let places: Vec<Place> = self.places.iter().copied().filter(Option::is_some).collect();
        let baseline = (places.len() as f64 / slices).min(1.0);
        let operations: Vec<Operation> = self
            .names
            .iter()
            .map(|name| Operation {
                name: name.clone(),
                slices: places.iter().map(|place| stretch(name, *place)).collect(),
                after: stretch(name, None),
            })
            .collect();
        Books { bounds, operations, servers: Vec::new(), lacking: self.lacking, baseline }
    }
}

/// A replica set, or the mongos of a cluster, as it is called in the table.
fn set_of(labels: &Labels) -> String {
    let label = |name: &str| plain(labels.get(name).map_or("", String::as_str));
    let set = match label("rs") {
        name if name.is_empty() => "servers without a set".to_owned(),
        name => format!("replica set {name}"),
    };
    match label("deployment") {
        name if name.is_empty() => set,
        name => format!("{set} of {name}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn counts_come_together_by_operation_and_stretch() {
        let mut counts = Counts::default();
        counts.add("ended", &labels(&[("operation", "a"), ("outcome", "succeeded")]), None, 90.0);
        counts.add("ended", &labels(&[("operation", "a"), ("outcome", "failed")]), None, 10.0);
        counts.add("ended", &labels(&[("operation", "a"), ("outcome", "rejected")]), Some(1), 7.0);
        for (bound, count) in [("0.1", 50.0), ("0.5", 49.9), ("+Inf", 90.0)] {
            counts.add("buckets", &labels(&[("operation", "a"), ("le", bound)]), None, count);
        }
        counts.add("conflicts", &labels(&[("operation", "b")]), Some(0), f64::NAN);
        let books = counts.books(12.0);
        assert_eq!(books.baseline, 1.0 / 12.0, "one slice of twelve has data; no number is none");
        assert_eq!(books.bounds, [0.1, 0.5]);
        let [operation] = books.operations.as_slice() else { panic!("{books:?}") };
        assert_eq!((operation.after.ended, operation.after.failed), (100.0, 10.0));
        assert_eq!(operation.after.cumulative, [50.0, 50.0, 90.0]);
        assert_eq!(operation.before().ended, 7.0);
    }

    /// An answer of 600 kB took 1.1 GiB: each operation had a count for each bound of all others.
    #[test]
    fn more_operations_or_bounds_than_anybody_has_are_refused_and_not_held() {
        let mut many = Counts::default();
        let mut wide = Counts::default();
        for index in 0..20_000 {
            let (name, bound) = (format!("op {index}"), format!("{}", 1.0 + f64::from(index)));
            many.add("buckets", &labels(&[("operation", &name), ("le", "0.1")]), None, 1.0);
            wide.add("buckets", &labels(&[("operation", "a"), ("le", &bound)]), None, 1.0);
        }
        assert!(many.is_bounded().unwrap_err().contains("more than 1000 operations"));
        assert!(wide.is_bounded().unwrap_err().contains("more than 200 different bounds"));
        let (many, wide) = (many.books(12.0), wide.books(12.0));
        assert_eq!((many.operations.len(), wide.bounds.len()), (MOST_OPERATIONS + 1, MOST_BOUNDS + 1));
        assert_eq!(wide.operations[0].after.cumulative.len(), MOST_BOUNDS + 2);
    }

    #[test]
    fn series_without_operation_or_outcome_are_named_and_not_taken_for_success() {
        let mut counts = Counts::default();
        counts.add("ended", &labels(&[]), None, 90.0);
        let books = counts.books(12.0);
        assert!(books.operations.is_empty());
        assert_eq!(books.lacking, ["operation", "outcome"].into());
    }

    #[test]
    fn labels_of_a_selector_are_those_before_each_operator() {
        assert_eq!(matched(r#"job="shop",env!="prod""#), ["job", "env"]);
        assert_eq!(matched(r#" job =~ "a,b=\"c" , env!~"x" "#), ["job", "env"]);
        assert!(matched("").is_empty());
    }

    #[test]
    fn slices_are_as_long_as_the_window_where_that_can_be() {
        assert_eq!(slices(86_400.0, 1_800.0), 48.0);
        assert_eq!(slices(3_600.0, 1_800.0), 12.0);
        assert_eq!(slices(300.0, 300.0), 5.0);
        assert_eq!(slices(10.0, 10.0), 1.0);
    }

    proptest! {
        #[test]
        fn no_series_is_a_panic(
            rows in prop::collection::vec(
                ("[a-c]?", prop_oneof![Just("0.1"), Just("+Inf"), Just("NaN"), Just("-1"), Just("x")],
                 prop::option::of(0_usize..3), any::<f64>(), 0_usize..5),
                0..40,
            )
        ) {
            let kinds = questions("").map(|(kind, _)| kind);
            let mut counts = Counts::default();
            for (operation, bound, place, value, kind) in rows {
                let labels = labels(&[("operation", &operation), ("le", bound), ("outcome", "failed")]);
                counts.add(kinds[kind], &labels, place, value);
            }
            let books = counts.books(12.0);
            prop_assert!(books.operations.iter().all(|operation| !operation.name.is_empty()));
        }
    }
}
