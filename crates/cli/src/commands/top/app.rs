//! The state of the view.

use txnscope_sidecar::live::{LiveReport, Reference, Transaction};

use super::kill_popup::KillPopup;
use super::rows::{Row, rows};

/// What is on the screen.
#[derive(Debug, Clone, Default)]
pub(super) struct App {
    /// The newest report, or the one at which the view was paused.
    pub(super) report: LiveReport,
    pub(super) paused: bool,
    /// 0 is all members; the others follow in their order.
    pub(super) tab: usize,
    pub(super) focus: Focus,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) is_typing_filter: bool,
    pub(super) selected: usize,
    pub(super) popup: Popup,
    pub(super) quit: bool,
    /// Whether transactions may be ended.
    pub(super) allow_kill: bool,
    /// The question whether to end a transaction, and the result.
    pub(super) kill: Option<KillPopup>,
    /// A transaction that the user has confirmed to end.
    pub(super) to_end: Option<Transaction>,
    /// A message in place of the keys, until the next key.
    pub(super) notice: Option<String>,
    /// Whether colors may be used.
    pub(super) color: bool,
}

/// The list that the keys move in, and the one that a small screen shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Focus {
    #[default]
    Transactions,
    Tree,
}

/// The order of transactions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Age,
    Idle,
    Blocks,
    Operation,
}

impl Sort {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Idle => "idle",
            Self::Blocks => "blocks",
            Self::Operation => "operation",
        }
    }

    pub(super) const fn next(self) -> Self {
        match self {
            Self::Age => Self::Idle,
            Self::Idle => Self::Blocks,
            Self::Blocks => Self::Operation,
            Self::Operation => Self::Age,
        }
    }
}

/// What is in front of the lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Popup {
    #[default]
    None,
    Details,
    Help,
}

impl App {
    pub(super) fn new(color: bool) -> Self {
        Self { color, ..Self::default() }
    }

    /// Takes a new report, unless the view is paused. What was selected stays selected, if it is still there.
    pub(super) fn update(&mut self, report: LiveReport) {
        if self.paused {
            return;
        }
        let before = self.selected_key();
        self.report = report;
        self.tab = self.tab.min(self.report.members.len());
        let rows = self.rows();
        let kept =
            before.and_then(|before| rows.iter().position(|row| self.key(row) == Some(before.clone())));
        self.selected = kept.unwrap_or_else(|| self.selected.min(rows.len().saturating_sub(1)));
    }

    /// The address of the member whose tab is shown.
    pub(super) fn member(&self) -> Option<&str> {
        let index = self.tab.checked_sub(1)?;
        self.report.members.get(index).map(|member| member.member.as_str())
    }

    /// The rows of the list that has the focus.
    pub(super) fn rows(&self) -> Vec<Row> {
        rows(self, self.focus)
    }

    /// The entry that is selected.
    pub(super) fn selected_entry(&self) -> Option<Reference> {
        self.rows().get(self.selected).and_then(Row::entry)
    }

    /// An identity of a row that stays the same in the next report.
    fn key(&self, row: &Row) -> Option<(String, String, i64)> {
        let entry = row.entry()?;
        let member = self.report.member_of(entry)?.to_owned();
        let (text, number) = match entry {
            Reference::Transaction(index) => {
                let transaction = self.report.transactions.get(index)?;
                (transaction.session.clone(), transaction.txn_number)
            }
            Reference::Waiting(index) => (String::new(), self.report.waiting.get(index)?.opid),
            Reference::Running(index) => (String::new(), self.report.running.get(index)?.opid),
        };
        Some((member, text, number))
    }

    fn selected_key(&self) -> Option<(String, String, i64)> {
        self.rows().get(self.selected).and_then(|row| self.key(row))
    }
}
