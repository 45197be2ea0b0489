//! `cargo xtask bench counts`: allocations and instructions per request, with the tower layer and its alternatives.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::instructions::{REQUESTS, callgrind};
use crate::run::output;

/// One contender, as the program prints it.
struct Contender<'a> {
    stack: &'a str,
    number: &'a str,
    allocations: u64,
    name: &'a str,
}

/// Counts with a program, and returns Markdown.
pub(crate) fn measure(program: &Path) -> Result<String> {
    let printed = output(&mut Command::new(program))?;
    let contenders: Vec<_> = printed
        .lines()
        .map(parse)
        .collect::<Option<_>>()
        .with_context(|| format!("{} does not print what it should:\n{printed}", program.display()))?;
    let mut report = format!(
        "What each adds to a request, as callgrind counts {REQUESTS} of them to all routes in turn; in brackets a request \
         without a layer.\n"
    );
    for (stack, title) in
        [("service", "Around a service that does nothing"), ("router", "On axum's router with 50 routes")]
    {
        let _ = write!(report, "\n### {title}, counted\n\n| | instructions | allocations | against ours |\n");
        report.push_str("| --- | ---: | ---: | ---: |\n");
        let field: Vec<_> = contenders.iter().filter(|contender| contender.stack == stack).collect();
        table(&mut report, &field, |contender| {
            Ok(callgrind(program, &[stack, contender.number])? / REQUESTS)
        })?;
    }
    Ok(report)
}

/// The first contender has no layer and is the reference for the others; one needs no service at all.
fn table(
    report: &mut String,
    field: &[&Contender<'_>],
    count: impl Fn(&Contender<'_>) -> Result<u64>,
) -> Result<()> {
    let counts: Vec<u64> = field.iter().map(|contender| count(contender)).collect::<Result<_>>()?;
    let (without, first) = field.first().zip(counts.first()).context("the program lists no contender")?;
    let added = |index: usize| match field[index].name {
        ALONE => (counts[index], field[index].allocations),
        _ => (
            counts[index].saturating_sub(*first),
            field[index].allocations.saturating_sub(without.allocations),
        ),
    };
    let ours = field.iter().position(|contender| contender.name == OURS).context("ours is not counted")?;
    let (ours, _) = added(ours);
    for (index, contender) in field.iter().enumerate() {
        if index == 0 {
            let _ = writeln!(report, "| {} | ({first}) | ({}) | |", contender.name, contender.allocations);
            continue;
        }
        let (instructions, allocations) = added(index);
        #[allow(clippy::cast_precision_loss, reason = "thousands")]
        let ratio = instructions as f64 / ours.max(1) as f64;
        let _ = writeln!(report, "| {} | {instructions} | {allocations} | {ratio:.2} × |", contender.name);
    }
    Ok(())
}

/// The program's names of the reference and of our layer.
const ALONE: &str = "floor";
const OURS: &str = "**txnscope**";

fn parse(line: &str) -> Option<Contender<'_>> {
    let mut words = line.splitn(4, ' ');
    let (stack, number) = (words.next()?, words.next()?);
    Some(Contender { stack, number, allocations: words.next()?.parse().ok()?, name: words.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_shows_added_cost_and_absolute_floor() {
        let lines =
            ["service 0 2 no layer", "service 1 0 floor", "service 2 2 **txnscope**", "service 3 5 a peer"];
        let contenders: Vec<_> = lines.iter().map(|line| parse(line).unwrap()).collect();
        let counts = [1_000, 100, 1_400, 3_000];
        let mut report = String::new();
        let count = |contender: &Contender<'_>| Ok(counts[contender.number.parse::<usize>()?]);
        table(&mut report, &contenders.iter().collect::<Vec<_>>(), count).unwrap();
        assert_eq!(
            report,
            "| no layer | (1000) | (2) | |\n| floor | 100 | 0 | 0.25 × |\n| **txnscope** | 400 | 0 | 1.00 × |\n\
             | a peer | 2000 | 3 | 5.00 × |\n"
        );
        assert!(parse("service x").is_none());
    }
}
