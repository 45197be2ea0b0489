//! The progress of a load test, on a terminal only.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::commands::drill::load::arrivals::ArrivalPlan;
use crate::commands::drill::load::stats::{LoadStats, Outcome};
use crate::output::grouped;

/// A line on the terminal that is overwritten.
#[derive(Debug)]
pub(crate) struct Progress {
    on: bool,
}

impl Progress {
    /// Writes to the standard error, if that is a terminal.
    pub(crate) fn on_terminal() -> Self {
        Self { on: io::stderr().is_terminal() }
    }

    pub(crate) fn prepared(&mut self, made: usize) {
        self.line(&format!("preparing: {} documents created", grouped(made as u64)));
    }

    pub(crate) fn show(&mut self, stats: &LoadStats, plan: ArrivalPlan, elapsed: Duration) {
        if !self.on {
            return;
        }
        let p99 = stats.all().map_or(0.0, |all| all.quantile(0.99));
        self.line(&format!(
            "{:>4} s  {} of {} ended  {} failed  {} unanswered  {} dropped  p99 {:.1} ms",
            elapsed.as_secs(),
            grouped(stats.arrivals()),
            grouped(plan.arrivals),
            grouped(stats.total(Outcome::Failed)),
            grouped(stats.total(Outcome::Unanswered)),
            grouped(stats.total(Outcome::Dropped)),
            p99 * 1e3,
        ));
    }

    pub(crate) fn clear(&mut self) {
        self.line("");
    }

    /// Ignores errors, since the load must not depend on the terminal.
    fn line(&mut self, text: &str) {
        if self.on {
            let mut out = io::stderr().lock();
            let _ = write!(out, "\r\u{1b}[K{text}").and_then(|()| out.flush());
        }
    }
}
