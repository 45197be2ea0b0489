//! Ending a transaction: what is shown before, the request, and the record of it.

use std::path::Path;

use anyhow::{Result, bail};
use txnscope_sidecar::Target;
use txnscope_sidecar::live::{
    EndOutcome, Ending, LiveReport, Reference, Transaction, TransactionState, TreeRow, blocker_tree,
    end_transaction,
};

use super::args::Selected;
use super::is_answered;
use super::kill_record::KillLog;
use super::text::{counted, namespaces, optional, plain, state, time, tree_row};
use crate::args::exit_status::ExitStatus;
use crate::output::{confirm, print};

/// The most rows of the tree that are shown.
const MAX_ROWS: usize = 3;

/// Ends transactions of a deployment, and records each request.
#[derive(Debug, Clone)]
pub(super) struct Killer {
    target: Target,
    log: KillLog,
}

impl Killer {
    /// # Errors
    ///
    /// If the file of the record cannot be written: what cannot be recorded must not be done.
    pub(super) fn new(target: &Target, log: Option<&Path>) -> Result<Self> {
        Ok(Self { target: target.clone(), log: KillLog::open(log)? })
    }

    /// The record, which holds its lines back while a view is on the terminal.
    pub(super) fn log(&self) -> &KillLog {
        &self.log
    }

    /// Ends a transaction, and records it.
    pub(super) async fn end(&self, transaction: &Transaction) -> Ending {
        let ending = end_transaction(&self.target, &transaction.id()).await;
        self.log.write(transaction, &ending);
        ending
    }

    /// Finds a transaction in a report, shows it, asks, and ends it.
    pub(super) async fn ask_and_end(
        &self,
        report: &LiveReport,
        selected: &Selected,
        yes: bool,
    ) -> Result<ExitStatus> {
        if !is_answered(report) {
            return Ok(ExitStatus::Error);
        }
        let in_session = |of: &Transaction| of.session == selected.session;
        let Some(index) =
            report.transactions.iter().position(|of| in_session(of) && of.txn_number == selected.txn_number)
        else {
            let other = report.transactions.iter().find(|of| in_session(of));
            let outcome =
                other.map_or(EndOutcome::AlreadyOver, |of| EndOutcome::OtherTransaction(of.txn_number));
            print(&format!("{}\n", outcome.message()))?;
            return Ok(ExitStatus::Failure);
        };
        let lines = description(report, index).into_iter();
        print(&lines.map(|(name, value)| format!("{name:<14} {value}\n")).collect::<String>())?;
        let transaction = &report.transactions[index];
        if let Some(refused) = refused(transaction) {
            print(&format!("{}\n", refused.message()))?;
            return Ok(ExitStatus::Failure);
        }
        if !confirm("End this transaction?", yes)? {
            print("nothing was ended\n")?;
            return Ok(ExitStatus::Failure);
        }
        match self.end(transaction).await.result {
            Ok(outcome) => {
                print(&format!("{}\n", outcome.message()))?;
                Ok(if outcome == EndOutcome::Ended { ExitStatus::Success } else { ExitStatus::Failure })
            }
            Err(error) => bail!("{error}"),
        }
    }
}

/// Why a transaction is not ended, if that is known before the server is asked.
pub(super) fn refused(transaction: &Transaction) -> Option<EndOutcome> {
    (transaction.state == TransactionState::Prepared).then_some(EndOutcome::Prepared)
}

/// The result in words.
pub(super) fn message(ending: &Ending) -> String {
    match &ending.result {
        Ok(outcome) => outcome.message(),
        Err(error) => plain(&error.to_string()),
    }
}

/// What will be ended: whose it is, what it holds, and who waits for it.
pub(super) fn description(report: &LiveReport, index: usize) -> Vec<(&'static str, String)> {
    let Some(of) = report.transactions.get(index) else { return Vec::new() };
    let idle = of.idle.map_or_else(String::new, |idle| format!(", idle for {}", time(idle)));
    let locks: Vec<_> = of
        .locks
        .iter()
        .map(|lock| format!("{} {} {}", lock.mode, lock.resource, plain(&lock.name)))
        .collect();
    let locks = if locks.is_empty() { "-".to_owned() } else { locks.join(", ") };
    let mut lines = vec![
        ("operation", optional(of.operation.as_deref())),
        ("application", optional(of.application.as_deref())),
        ("client", format!("{}, {}", optional(of.client.as_deref()), optional(of.driver.as_deref()))),
        ("member", plain(&of.member)),
        ("session", format!("{}, transaction number {}", plain(&of.session), of.txn_number)),
        ("open for", format!("{}{idle}, {}", time(of.age), state(of))),
        ("namespaces", namespaces(of)),
        ("locks", locks),
    ];
    lines.extend(waiting_behind(report, index));
    lines
}

/// Who waits for a transaction, as far as that is known.
fn waiting_behind(report: &LiveReport, index: usize) -> Vec<(&'static str, String)> {
    let this = Reference::Transaction(index);
    let tree = blocker_tree(report);
    let at = tree.iter().position(|row| row.entries.contains(&this));
    let (behind, below): (usize, Vec<&TreeRow>) = match at.map(|at| (&tree[at], &tree[at + 1..])) {
        Some((own, rest)) => (own.blocks, rest.iter().take_while(|row| row.depth > own.depth).collect()),
        None => (0, Vec::new()),
    };
    let candidate = report.waiting.iter().filter(|waiting| waiting.candidates.contains(&this)).count();
    let mut lines = vec![("wait behind", counted(behind, "operation"))];
    let base = at.map_or(0, |at| tree[at].depth);
    for row in below.iter().take(MAX_ROWS) {
        let row = TreeRow { depth: row.depth - base, ..(*row).clone() };
        lines.push(("", tree_row(report, &row)));
    }
    if below.len() > MAX_ROWS {
        lines.push(("", format!("and {} more rows", below.len() - MAX_ROWS)));
    }
    if candidate > 0 {
        let of = counted(candidate, "operation");
        lines.push(("may wait", format!("{of}, for a document of an unknown holder")));
    }
    lines
}
