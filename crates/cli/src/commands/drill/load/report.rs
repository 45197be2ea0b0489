//! The report of a load test as a table and as JSON.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::commands::drill::args::{Format, LoadArgs};
use crate::commands::drill::load::LoadResult;
use crate::commands::drill::load::stats::{OperationStats, Outcome};
use crate::output::{grouped, table};

/// Creates the result file. Called before the load, so that an invalid path does not waste the run.
///
/// # Errors
///
/// If the file cannot be created.
pub(super) fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("--result-file: cannot create {}", path.display()))
}

pub(super) fn write(file: File, report: &Value) -> Result<()> {
    let mut out = BufWriter::new(file);
    serde_json::to_writer_pretty(&mut out, report)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

pub(super) fn render(args: &LoadArgs, measured: &LoadResult, report: &Value) -> Result<String> {
    match args.output {
        Format::Table => render_text(args, measured),
        Format::Json => Ok(format!("{report:#}\n")),
    }
}

fn render_text(args: &LoadArgs, measured: &LoadResult) -> Result<String> {
    let mut head = vec!["OPERATION", "ARRIVALS"];
    let upper = Outcome::ALL.map(|outcome| outcome.as_str().to_uppercase());
    head.extend(upper.iter().map(String::as_str));
    head.extend(["P50", "P90", "P99", "P99.9", "MAX"]);
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for (name, operation_stats) in &measured.stats.of {
        rows.push(row(name, operation_stats));
    }
    let all = measured.stats.all()?;
    rows.push(row("all", &all));
    let mut text = table(&rows);
    let stats = &measured.stats;
    text.push_str(&format!(
        "\n{} arrivals at {} per second, each measured from its scheduled time; the last response came after {:.1} s\n",
        grouped(measured.arrived),
        grouped(args.rate.into()),
        measured.took.as_secs_f64(),
    ));
    if measured.interrupted {
        text.push_str("the load test was interrupted\n");
    }
    if stats.late > 0 {
        text.push_str(&format!(
            "{} were sent more than 10 ms late, at most {:.1} ms: this machine could not keep up, and the latencies include its delay\n",
            grouped(stats.late),
            stats.latest.as_secs_f64() * 1e3,
        ));
    }
    if all.count(Outcome::Dropped) > 0 {
        text.push_str(&format!(
            "{} were not sent, because {} were in flight (--max-in-flight): latencies are underestimated (coordinated omission)\n",
            grouped(all.count(Outcome::Dropped)),
            grouped(args.max_in_flight.into()),
        ));
    }
    text.push_str(&format!("the data of this run is marked {}\n", measured.mark));
    Ok(text)
}

fn row(name: &str, operation_stats: &OperationStats) -> Vec<String> {
    let mut row = vec![name.to_owned(), grouped(operation_stats.arrivals())];
    row.extend(Outcome::ALL.map(|outcome| grouped(operation_stats.count(outcome))));
    row.extend([0.5, 0.9, 0.99, 0.999, 1.0].map(|part| match operation_stats.latencies.len() {
        0 => "-".to_owned(),
        _ => format!("{:.1} ms", operation_stats.quantile(part) * 1e3),
    }));
    row
}

pub(super) fn json(args: &LoadArgs, measured: &LoadResult) -> Result<Value> {
    let stats = &measured.stats;
    let operations: serde_json::Map<_, _> =
        stats.of.iter().map(|(name, operation_stats)| (name.clone(), operation_stats.json())).collect();
    Ok(json!({
        "url": args.backend.url.trim_end_matches('/'),
        "mark": measured.mark,
        "rate_per_second": args.rate,
        "duration_seconds": args.duration.as_secs_f64(),
        "max_in_flight": args.max_in_flight,
        "entities": args.entities,
        "seed": args.seed,
        "arrived": measured.arrived,
        "took_seconds": measured.took.as_secs_f64(),
        "interrupted": measured.interrupted,
        "sent_late": {"count": stats.late, "most_seconds": stats.latest.as_secs_f64()},
        "statuses": stats.statuses,
        "all": stats.all()?.json(),
        "operations": operations,
    }))
}
