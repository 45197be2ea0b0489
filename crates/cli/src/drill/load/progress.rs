//! How far it is, for whoever watches a terminal; nobody else is told.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::checks::table::grouped;
use crate::drill::load::arrivals::Plan;
use crate::drill::load::books::{Books, Outcome};

/// One line that is written over and over.
#[derive(Debug)]
pub(crate) struct Progress {
    on: bool,
}

impl Progress {
    /// On the standard error, if that is a terminal.
    pub(crate) fn on_terminal() -> Self {
        Self { on: io::stderr().is_terminal() }
    }

    pub(crate) fn prepared(&mut self, made: usize) {
        self.line(&format!("preparing: {} documents made", grouped(made as u64)));
    }

    pub(crate) fn show(&mut self, books: &Books, plan: Plan, elapsed: Duration) {
        if !self.on {
            return;
        }
        let p99 = books.all().map_or(0.0, |all| all.quantile(0.99));
        self.line(&format!(
            "{:>4} s  {} of {} ended  {} failed  {} unanswered  {} dropped  p99 {:.1} ms",
            elapsed.as_secs(),
            grouped(books.arrivals()),
            grouped(plan.arrivals),
            grouped(books.total(Outcome::Failed)),
            grouped(books.total(Outcome::Unanswered)),
            grouped(books.total(Outcome::Dropped)),
            p99 * 1e3,
        ));
    }

    pub(crate) fn clear(&mut self) {
        self.line("");
    }

    /// A terminal that is gone is no reason to stop.
    fn line(&mut self, text: &str) {
        if self.on {
            let mut out = io::stderr().lock();
            let _ = write!(out, "\r\u{1b}[K{text}").and_then(|()| out.flush());
        }
    }
}
