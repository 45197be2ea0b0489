//! What was measured, for people and for machines.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::checks::table::{grouped, table};
use crate::drill::flags::{Format, LoadFlags};
use crate::drill::load::Outcomes;
use crate::drill::load::books::{Book, Outcome};

/// Before the load: nobody wants to learn after an hour that the result has no place.
///
/// # Errors
///
/// If it cannot be created.
pub(super) fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("--result-file: cannot create {}", path.display()))
}

pub(super) fn write(file: File, report: &Value) -> Result<()> {
    let mut out = BufWriter::new(file);
    serde_json::to_writer_pretty(&mut out, report)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

pub(super) fn render(flags: &LoadFlags, outcomes: &Outcomes, report: &Value) -> Result<String> {
    match flags.output {
        Format::Table => people(flags, outcomes),
        Format::Json => Ok(format!("{report:#}\n")),
    }
}

fn people(flags: &LoadFlags, outcomes: &Outcomes) -> Result<String> {
    let mut head = vec!["OPERATION", "ARRIVALS"];
    let upper = Outcome::ALL.map(|outcome| outcome.as_str().to_uppercase());
    head.extend(upper.iter().map(String::as_str));
    head.extend(["P50", "P90", "P99", "P99.9", "MAX"]);
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for (operation, book) in &outcomes.books.of {
        rows.push(row(operation.name(), book));
    }
    let all = outcomes.books.all()?;
    rows.push(row("all", &all));
    let mut text = table(&rows);
    let books = &outcomes.books;
    text.push_str(&format!(
        "\n{} arrivals at {} a second, each measured from when it was to be sent; the last answer came after {:.1} s\n",
        grouped(outcomes.arrived),
        grouped(flags.rate.into()),
        outcomes.took.as_secs_f64(),
    ));
    if outcomes.interrupted {
        text.push_str("it was interrupted\n");
    }
    if books.late > 0 {
        text.push_str(&format!(
            "{} were sent more than 10 ms late, at most {:.1} ms: this machine could not keep up, and its delay is in the figures\n",
            grouped(books.late),
            books.latest.as_secs_f64() * 1e3,
        ));
    }
    if all.count(Outcome::Dropped) > 0 {
        text.push_str(&format!(
            "{} were not sent, because {} were under way (--max-in-flight): the figures are better than the truth\n",
            grouped(all.count(Outcome::Dropped)),
            grouped(flags.max_in_flight.into()),
        ));
    }
    text.push_str(&format!("what it made is marked {}\n", outcomes.mark));
    Ok(text)
}

fn row(name: &str, book: &Book) -> Vec<String> {
    let mut row = vec![name.to_owned(), grouped(book.arrivals())];
    row.extend(Outcome::ALL.map(|outcome| grouped(book.count(outcome))));
    row.extend([0.5, 0.9, 0.99, 0.999, 1.0].map(|part| match book.latencies.len() {
        0 => "-".to_owned(),
        _ => format!("{:.1} ms", book.quantile(part) * 1e3),
    }));
    row
}

pub(super) fn json(flags: &LoadFlags, outcomes: &Outcomes) -> Result<Value> {
    let books = &outcomes.books;
    let operations: serde_json::Map<_, _> =
        books.of.iter().map(|(operation, book)| (operation.name().to_owned(), book.json())).collect();
    Ok(json!({
        "url": flags.backend.url.trim_end_matches('/'),
        "mark": outcomes.mark,
        "rate_per_second": flags.rate,
        "duration_seconds": flags.duration.as_secs_f64(),
        "max_in_flight": flags.max_in_flight,
        "entities": flags.entities,
        "seed": flags.seed,
        "arrived": outcomes.arrived,
        "took_seconds": outcomes.took.as_secs_f64(),
        "interrupted": outcomes.interrupted,
        "sent_late": {"count": books.late, "most_seconds": books.latest.as_secs_f64()},
        "statuses": books.statuses,
        "all": books.all()?.json(),
        "operations": operations,
    }))
}
