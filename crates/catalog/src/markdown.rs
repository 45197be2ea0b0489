//! Rendering of the catalog as Markdown.

use std::fmt::Write as _;

use crate::{Emitter, METRICS, Metric, Stability, Values};

const HEAD: &str = "# Metrics

Generated from the catalog (`crates/catalog`) by `cargo xtask gen`; a test compares the two.
Units are base units; a counter increases only, except for a restart of its process. Prometheus adds `job` and `instance`.
A backend that exports the callers' metrics by itself, in any language, keeps the contract in [prom-client.md](prom-client.md).

";

/// The contents of `docs/metrics.md`.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for (title, emitter) in [
        ("From the backend (the `txnscope` library)", Emitter::Library),
        ("From the sidecar (`txnscope serve`)", Emitter::Sidecar),
        ("From both, about the process itself", Emitter::Both),
    ] {
        let _ = writeln!(page, "## {title}\n");
        page.push_str(
            "| metric | kind | unit | labels | meaning | source |\n| --- | --- | --- | --- | --- | --- |\n",
        );
        for metric in METRICS.iter().filter(|metric| metric.emitter == emitter) {
            row(&mut page, metric);
        }
        page.push('\n');
    }
    labels(&mut page);
    buckets(&mut page);
    page
}

fn row(page: &mut String, metric: &Metric) {
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{}`", label.name)).collect();
    let experimental = match metric.stability {
        Stability::Stable => "",
        Stability::Experimental => " (experimental)",
    };
    let _ = writeln!(
        page,
        "| `{}`{experimental} | {} | {} | {} | {} | {} |",
        metric.name,
        metric.kind.as_str(),
        metric.unit.as_str(),
        labels.join(", "),
        metric.help,
        // A placeholder such as `<type>` would be an HTML tag.
        metric.source.replace('<', "&lt;").replace('>', "&gt;"),
    );
}

fn labels(page: &mut String) {
    page.push_str("## Labels\n\n| label | of | meaning | values |\n| --- | --- | --- | --- |\n");
    let mut seen: Vec<crate::Label> = Vec::new();
    for metric in METRICS {
        for label in metric.labels {
            if seen.contains(label) {
                continue;
            }
            seen.push(*label);
            let of: Vec<_> = METRICS
                .iter()
                .filter(|other| other.labels.contains(label))
                .map(|other| format!("`{}`", other.name))
                .collect();
            let of = if of.len() > 4 { format!("{} metrics", of.len()) } else { of.join(", ") };
            let _ = writeln!(page, "| `{}` | {of} | {} | {} |", label.name, label.help, values(label.values));
        }
    }
    page.push('\n');
}

fn values(values: Values) -> String {
    let list = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match values {
        Values::Closed(names) => list(names),
        Values::Declared(names) => format!("{}, and names that the application declares", list(names)),
        Values::Bounded { max, overflow: Some(name) } => format!("at most {max}, then `{name}`"),
        Values::Bounded { max, overflow: None } => format!("at most {max}"),
        Values::Deployment => "depends on the deployment".to_owned(),
    }
}

fn buckets(page: &mut String) {
    page.push_str("## Buckets\n\n");
    for metric in METRICS.iter().filter(|metric| !metric.buckets.is_empty()) {
        let bounds: Vec<_> = metric.buckets.iter().map(f64::to_string).collect();
        let _ = writeln!(page, "- `{}`: {}", metric.name, bounds.join(", "));
    }
}
