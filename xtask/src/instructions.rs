//! Counts the allocations and instructions that the tower layer adds to a request, and compares them with
//! `benches/cost/counts.txt`.
//!
//! Counts, unlike durations, do not depend on the load of the machine: allocations must be equal, and instructions
//! equal within a tolerance, because another processor selects another `memcpy`. With another compiler the
//! instructions differ, so they are printed and not compared.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::demo::target;
use crate::fetch;
use crate::run::{cargo, checked, output};

const FILE: &str = "benches/cost/counts.txt";

/// In hundredths.
const TOLERANCE: u64 = 5;

/// The counted subjects and their references without the layer; the difference is the layer's.
const SUBJECTS: &[(&str, &str)] =
    &[("service-routed", "service"), ("service-named", "service"), ("router-routed", "router")];

const HEADER: &str = "\
# What the tower layer adds to a request: allocations, and instructions as callgrind counts them.
# `cargo xtask test instructions` compares, `cargo xtask instructions --write` writes this file.
";

/// The counts per request that the layer adds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Count {
    name: String,
    allocations: u64,
    instructions: u64,
}

/// Counts, and compares or writes the counts.
pub(crate) fn run(write: bool) -> Result<()> {
    checked(cargo().args(["build", "--release", "--quiet", "--package", "cost", "--bin", "count"]))?;
    let counts = count()?;
    for Count { name, allocations, instructions } in &counts {
        eprintln!("{name}: {allocations} allocations, {instructions} instructions");
    }
    let rustc = output(Command::new("rustc").arg("--version"))?;
    let compiler = rustc.split(' ').nth(1).unwrap_or("unknown");
    let file = crate::root().join(FILE);
    if write {
        return fs::write(&file, print(compiler, &counts)).with_context(|| format!("cannot write {FILE}"));
    }
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {FILE}"))?;
    let (known, figures) = parse(&text).with_context(|| format!("{FILE} is not as it is written"))?;
    if known != compiler {
        eprintln!(
            "note: the instructions in {FILE} are those of rustc {known}; with {compiler} they are not compared"
        );
    }
    let complaints = compare(&figures, &counts, known == compiler);
    if !complaints.is_empty() {
        bail!(
            "a request does not cost what it did:\n  {}\nFind out which change it was (`cargo xtask bench layer` shows times, \
             callgrind_annotate shows where). If it is meant to be so: cargo xtask instructions --write",
            complaints.join("\n  ")
        );
    }
    Ok(())
}

fn count() -> Result<Vec<Count>> {
    let program = target().join("release/count");
    let printed = output(&mut Command::new(&program))?;
    let allocations = |name: &str| -> Result<u64> {
        let line = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|count| count.parse().ok()).with_context(|| format!("`count` does not print {name}"))
    };
    let instructions = |name: &str| callgrind(&program, &[name]);
    SUBJECTS
        .iter()
        .map(|(name, without)| {
            Ok(Count {
                name: (*name).to_owned(),
                allocations: allocations(name)?.saturating_sub(allocations(without)?),
                instructions: (instructions(name)?.saturating_sub(instructions(without)?)) / REQUESTS,
            })
        })
        .collect()
}

/// The instructions that callgrind counts in a program's `measured_requests`.
pub(crate) fn callgrind(program: &Path, arguments: &[&str]) -> Result<u64> {
    let mut valgrind = fetch::valgrind()?;
    // Code before and after the requests is not counted, and the file with all details is not needed.
    valgrind.args([
        "--tool=callgrind",
        "--toggle-collect=*measured_requests*",
        "--callgrind-out-file=/dev/null",
    ]);
    let (report, outcome) = both(valgrind.arg(program).args(arguments))?;
    let collected = report.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match collected {
        Some(count) if outcome && count > 0 => Ok(count),
        _ => bail!("callgrind did not count {}:\n{}", arguments.join(" "), report.trim()),
    }
}

/// The number of requests that are counted at once, as in `benches/cost`.
pub(crate) const REQUESTS: u64 = 1_000;

/// The output of a program, and whether it succeeded.
fn both(command: &mut Command) -> Result<(String, bool)> {
    let ended = command.output().context("cannot run valgrind")?;
    Ok((String::from_utf8_lossy(&ended.stderr).into_owned(), ended.status.success()))
}

fn print(compiler: &str, counts: &[Count]) -> String {
    let mut text = format!("{HEADER}rustc {compiler}\n");
    for Count { name, allocations, instructions } in counts {
        let _ = writeln!(text, "{name} {allocations} {instructions}");
    }
    text
}

/// Formats the compiler and the counts.
fn parse(text: &str) -> Option<(&str, Vec<Count>)> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let compiler = lines.next()?.strip_prefix("rustc ")?;
    let counts = lines.map(|line| {
        let mut words = line.split(' ');
        let name = words.next()?.to_owned();
        let (allocations, instructions) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Count { name, allocations, instructions })
    });
    Some((compiler, counts.collect::<Option<_>>()?))
}

/// The differences from the known counts, including improvements, so that these are recorded.
fn compare(figures: &[Count], counts: &[Count], same_compiler: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for count in counts {
        let Some(figure) = figures.iter().find(|figure| figure.name == count.name) else {
            complaints.push(format!("{}: not in {FILE}", count.name));
            continue;
        };
        if count.allocations != figure.allocations {
            complaints.push(format!(
                "{}: {} allocations, were {}",
                count.name, count.allocations, figure.allocations
            ));
        }
        let apart = count.instructions.abs_diff(figure.instructions);
        if same_compiler && apart * 100 > figure.instructions * TOLERANCE {
            complaints.push(format!(
                "{}: {} instructions, were {} (more than {TOLERANCE} % apart)",
                count.name, count.instructions, figure.instructions
            ));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(allocations: u64, instructions: u64) -> Vec<Count> {
        vec![Count { name: "service-routed".to_owned(), allocations, instructions }]
    }

    #[test]
    fn instruction_counts_roundtrip() {
        let text = print("1.95.0", &counts(0, 400));
        assert_eq!(parse(&text), Some(("1.95.0", counts(0, 400))));
        assert_eq!(parse(&text.replace("400", "many")), None);
    }

    #[test]
    fn added_allocation_is_reported_and_small_instruction_change_is_not() {
        let known = counts(0, 400);
        assert!(compare(&known, &counts(0, 420), true).is_empty());
        assert_eq!(compare(&known, &counts(1, 400), true).len(), 1);
        assert_eq!(compare(&known, &counts(0, 421), true).len(), 1);
        assert_eq!(compare(&known, &counts(0, 379), true).len(), 1, "an improvement is reported as well");
        assert_eq!(compare(&[], &known, true).len(), 1, "an unknown subject is reported as well");
    }

    #[test]
    fn other_compiler_compares_allocations_only() {
        assert!(compare(&counts(0, 400), &counts(0, 900), false).is_empty());
        assert_eq!(compare(&counts(0, 400), &counts(2, 900), false).len(), 1);
    }
}
