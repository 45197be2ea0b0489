//! Consistent counters, which a mutation changes.

use end_to_end::load::Responses;
use testkit::Scrape;
use txnscope_catalog::{self as catalog, Metric};

use super::page::Page;
use crate::audit::{Exception, audit};
use crate::counters::{Counters, Server};
use crate::fault::FaultRun;

pub(super) const CONSUME: &str = "POST /api/retainers/{id}/consume";
/// An operation that moves no money.
pub(super) const PAYMENT: &str = "POST /api/payments";

/// All counters after an iteration.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) page: Page,
    pub(super) servers: Vec<Server>,
    pub(super) movements: f64,
    pub(super) answers: Responses,
    pub(super) injected: u64,
    pub(super) exceptions: &'static [Exception],
}

impl Case {
    /// Nine operations, all answered; eight transactions, of which two were aborted and none is open.
    pub(super) fn right() -> Self {
        let mut page = Page::default();
        for (operation, outcome, times) in [
            (CONSUME, "succeeded", 5.0),
            (CONSUME, "rejected", 2.0),
            (PAYMENT, "succeeded", 1.0),
            (PAYMENT, "failed", 1.0),
        ] {
            let of = ("operation", operation);
            page.add(catalog::TRANSACTION_ATTEMPTS, &[of], times);
            page.add(catalog::TRANSACTION_DURATION, &[of, ("outcome", outcome)], times);
            if outcome != "succeeded" {
                let of = [of, ("outcome", outcome), ("reason", "other")];
                page.add(catalog::TRANSACTION_FAILURES, &of, times);
            }
        }
        for (operation, committed, conflicts) in [(CONSUME, 5.0, 1.0), (PAYMENT, 1.0, 1.0)] {
            let of = ("operation", operation);
            page.add(catalog::CLIENT_TRANSACTIONS_STARTED, &[of], committed + conflicts);
            page.add(catalog::CLIENT_TRANSACTIONS_COMMITTED, &[of], committed);
            page.add(catalog::CLIENT_TRANSACTIONS_ABORTED, &[of, ("reason", "write_conflict")], conflicts);
        }
        let answers =
            [((CONSUME, "200"), 5), ((CONSUME, "409"), 2), ((PAYMENT, "201"), 1), ((PAYMENT, "503"), 1)];
        let answers =
            answers.into_iter().map(|((operation, status), times)| ((operation, status.to_owned()), times));
        Self {
            page,
            servers: vec![
                Server { started: 6.0, committed: 5.0, aborted: 1.0, open: 0.0 },
                Server { started: 2.0, committed: 1.0, aborted: 1.0, open: 0.0 },
            ],
            movements: 5.0,
            answers: answers.collect(),
            injected: 0,
            exceptions: &[],
        }
    }

    pub(super) fn audit(&self) -> Vec<String> {
        let before = Counters::made_up(Scrape::default(), vec![Server::default(); self.servers.len()], 0.0);
        let after = Counters::made_up(self.page.read(), self.servers.clone(), self.movements);
        let fault_run =
            FaultRun { injected: self.injected, exceptions: self.exceptions, ..FaultRun::default() };
        audit(&before, &after, &self.answers, &fault_run)
    }

    pub(super) fn counted(&mut self, metric: Metric, labels: &[(&str, &str)], more: f64) {
        self.page.add(metric, labels, more);
    }

    pub(super) fn answered(&mut self, operation: &'static str, answer: &str, more: u64) {
        *self.answers.entry((operation, answer.to_owned())).or_default() += more;
    }
}
