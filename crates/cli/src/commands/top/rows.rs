//! The rows of the lists: filtered by member and text, and in order.

use std::cmp::Reverse;
use std::collections::HashMap;

use txnscope_sidecar::live::{Reference, Transaction, TreeRow, WaitingOperation, blocker_tree};

use super::app::{App, Focus, Sort};

/// A row of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Row {
    /// A transaction by its index, and how many operations wait behind it.
    Transaction(usize, usize),
    Tree(TreeRow),
}

impl Row {
    /// The entry whose details are shown; the first one of a group.
    pub(super) fn entry(&self) -> Option<Reference> {
        match self {
            Self::Transaction(index, _) => Some(Reference::Transaction(*index)),
            Self::Tree(row) => row.entries.first().copied(),
        }
    }
}

/// The rows of a list.
pub(super) fn rows(app: &App, focus: Focus) -> Vec<Row> {
    let tree = blocker_tree(&app.report);
    match focus {
        Focus::Transactions => transactions(app, &tree),
        Focus::Tree => tree_rows(app, tree),
    }
}

fn transactions(app: &App, tree: &[TreeRow]) -> Vec<Row> {
    let blocks: HashMap<Reference, usize> =
        tree.iter().flat_map(|row| row.entries.iter().map(|entry| (*entry, row.blocks))).collect();
    let blocks = |index| blocks.get(&Reference::Transaction(index)).copied().unwrap_or_default();
    let is_shown = |transaction: &Transaction| {
        app.member().is_none_or(|member| member == transaction.member)
            && matches(&app.filter, || transaction_texts(transaction))
    };
    let all = &app.report.transactions;
    let mut rows: Vec<_> = (0..all.len()).filter(|index| is_shown(&all[*index])).collect();
    rows.sort_by_key(|index| {
        let transaction = &all[*index];
        let (first, name) = match app.sort {
            Sort::Age => (Reverse(transaction.age.as_nanos()), None),
            Sort::Idle => (Reverse(transaction.idle.unwrap_or_default().as_nanos()), None),
            Sort::Blocks => (Reverse(blocks(*index) as u128), None),
            Sort::Operation => {
                (Reverse(0), transaction.operation.as_deref().or(transaction.application.as_deref()))
            }
        };
        (first, name, Reverse(transaction.age))
    });
    rows.into_iter().map(|index| Row::Transaction(index, blocks(index))).collect()
}

/// With a filter, the trees in which a row matches are shown as a whole: a match without its blocker says little.
fn tree_rows(app: &App, tree: Vec<TreeRow>) -> Vec<Row> {
    let mut trees: Vec<Vec<TreeRow>> = Vec::new();
    for row in tree {
        match trees.last_mut() {
            Some(tree) if row.depth > 0 => tree.push(row),
            Some(_) | None => trees.push(vec![row]),
        }
    }
    let is_shown = |tree: &Vec<TreeRow>| {
        let mut entries = tree.iter().flat_map(|row| row.entries.iter().copied());
        let of_member = tree.first().and_then(|row| app.report.member_of(*row.entries.first()?));
        app.member().is_none_or(|member| of_member == Some(member))
            && entries.any(|entry| entry_matches(app, entry))
    };
    trees.into_iter().filter(is_shown).flatten().map(Row::Tree).collect()
}

fn entry_matches(app: &App, entry: Reference) -> bool {
    let report = &app.report;
    let texts = || match entry {
        Reference::Transaction(index) => report.transactions.get(index).map(transaction_texts),
        Reference::Waiting(index) => report.waiting.get(index).map(waiting_texts),
        Reference::Running(index) => report.running.get(index).map(|of| {
            texts(&[Some(&of.command), of.namespace.as_ref(), of.application.as_ref(), of.client.as_ref()])
        }),
    };
    matches(&app.filter, || texts().unwrap_or_default())
}

fn transaction_texts(transaction: &Transaction) -> Vec<String> {
    let mut all = texts(&[
        transaction.operation.as_ref(),
        transaction.application.as_ref(),
        transaction.client.as_ref(),
        transaction.command.as_ref(),
        Some(&transaction.session),
    ]);
    all.extend(transaction.namespaces.iter().cloned());
    all.push(super::text::state(transaction));
    all
}

fn waiting_texts(waiting: &WaitingOperation) -> Vec<String> {
    texts(&[
        Some(&waiting.command),
        waiting.namespace.as_ref(),
        waiting.application.as_ref(),
        waiting.client.as_ref(),
    ])
}

fn texts(all: &[Option<&String>]) -> Vec<String> {
    all.iter().copied().flatten().cloned().collect()
}

fn matches(filter: &str, texts: impl FnOnce() -> Vec<String>) -> bool {
    let filter = filter.to_lowercase();
    filter.is_empty() || texts().iter().any(|text| text.to_lowercase().contains(&filter))
}
