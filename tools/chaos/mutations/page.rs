//! A metrics page whose values can be changed.

use std::collections::BTreeMap;
use std::fmt::Write;

use testkit::Scrape;
use txnscope_catalog::{Kind, Metric};

/// A page whose values can all be changed.
#[derive(Clone, Default)]
pub(super) struct Page(pub(super) BTreeMap<&'static str, (Kind, BTreeMap<String, f64>)>);

impl Page {
    pub(super) fn add(&mut self, metric: Metric, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let family = self.0.entry(metric.name).or_insert((metric.kind, BTreeMap::new()));
        *family.1.entry(labels.join(",")).or_default() += value;
    }

    pub(super) fn read(&self) -> Scrape {
        let mut text = String::new();
        for (name, (kind, series)) in &self.0 {
            let word = format!("{kind:?}").to_lowercase();
            let _ = write!(text, "# HELP {name} -\n# TYPE {name} {word}\n");
            for (labels, value) in series {
                let _ = match kind {
                    Kind::Histogram => write!(
                        text,
                        "{name}_bucket{{{labels},le=\"+Inf\"}} {value}\n{name}_sum{{{labels}}} 0\n{name}_count{{{labels}}} {value}\n"
                    ),
                    Kind::Counter | Kind::Gauge => writeln!(text, "{name}{{{labels}}} {value}"),
                };
            }
        }
        Scrape::parse(&text).unwrap()
    }

    pub(super) fn numbers(&mut self) -> impl Iterator<Item = &mut f64> {
        self.0.values_mut().flat_map(|(_, series)| series.values_mut())
    }
}
