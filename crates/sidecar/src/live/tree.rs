//! The tree of blockers: who is at the root of a queue.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::model::{Reference, WaitingOperation};
use super::report::LiveReport;

/// From this number on, operations that wait alike are one row.
const GROUP: usize = 3;

/// A row of the tree, in the order in which it is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TreeRow {
    /// The distance from the root.
    pub depth: usize,
    /// The entry. Several, if operations with one command on one namespace wait for the same.
    pub entries: Vec<Reference>,
    /// Whether it certainly waits for the row above. The server names no holder of a document.
    pub certain: bool,
    /// How many entries wait below, directly or not.
    pub blocks: usize,
}

/// The tree of a report. An operation that waits for several others is below the last one in its queue.
#[must_use]
pub fn blocker_tree(report: &LiveReport) -> Vec<TreeRow> {
    let mut builder = Builder { report, children: HashMap::new(), visited: HashSet::new(), rows: Vec::new() };
    let mut has_parent = HashSet::new();
    for (index, waiting) in report.waiting.iter().enumerate() {
        let node = builder.node(Reference::Waiting(index));
        let parent = parent(waiting).map(|(parent, certain)| (builder.node(parent), certain));
        if let Some((parent, certain)) = parent.filter(|(parent, _)| *parent != node) {
            builder.children.entry(parent).or_default().push((node, certain));
            has_parent.insert(node);
        }
    }
    let mut roots: Vec<_> = builder.children.keys().copied().collect();
    let waiting = (0..report.waiting.len()).map(|index| builder.node(Reference::Waiting(index)));
    roots.extend(waiting);
    roots.sort();
    roots.dedup();
    // Those in a cycle, a deadlock that the server is about to end, have no root: they come last.
    let (inner, top): (Vec<_>, Vec<_>) = roots.into_iter().partition(|node| has_parent.contains(node));
    for node in top {
        builder.add(node, 0, true);
    }
    for node in inner {
        builder.add(node, 0, true);
    }
    builder.rows
}

/// The blocker below which an operation is drawn, and whether it is certain.
fn parent(waiting: &WaitingOperation) -> Option<(Reference, bool)> {
    let in_queue = waiting.blocked_by.iter().rfind(|blocker| matches!(blocker, Reference::Waiting(_)));
    match (in_queue.or_else(|| waiting.blocked_by.first()), waiting.candidates.as_slice()) {
        (Some(blocker), _) => Some((*blocker, true)),
        (None, [only]) => Some((*only, false)),
        (None, _) => None,
    }
}

struct Builder<'a> {
    report: &'a LiveReport,
    children: HashMap<Reference, Vec<(Reference, bool)>>,
    visited: HashSet<Reference>,
    rows: Vec<TreeRow>,
}

impl Builder<'_> {
    /// A transaction whose statement waits is one node with it.
    fn node(&self, reference: Reference) -> Reference {
        match reference {
            Reference::Waiting(index) => {
                let transaction = self.report.waiting.get(index).and_then(|waiting| waiting.transaction);
                transaction.map_or(reference, Reference::Transaction)
            }
            Reference::Transaction(_) | Reference::Running(_) => reference,
        }
    }

    /// Adds a node and those below. Returns their number.
    fn add(&mut self, node: Reference, depth: usize, certain: bool) -> usize {
        if !self.visited.insert(node) {
            return 0;
        }
        let row = self.rows.len();
        self.rows.push(TreeRow { depth, entries: vec![node], certain, blocks: 0 });
        let mut blocks = 0;
        for (children, certain) in self.grouped(node) {
            match children.as_slice() {
                [child] => blocks += self.add(*child, depth + 1, certain),
                _ => {
                    let entries: Vec<_> =
                        children.into_iter().filter(|child| self.visited.insert(*child)).collect();
                    blocks += entries.len();
                    self.rows.push(TreeRow { depth: depth + 1, entries, certain, blocks: 0 });
                }
            }
        }
        self.rows[row].blocks = blocks;
        blocks + 1
    }

    /// The children of a node. Those that block nothing themselves, and wait alike, are together.
    fn grouped(&self, node: Reference) -> Vec<(Vec<Reference>, bool)> {
        let mut groups: Vec<(Option<Alike<'_>>, Vec<Reference>, bool)> = Vec::new();
        for (child, certain) in self.children.get(&node).into_iter().flatten() {
            let alike = self.alike(*child);
            match groups.iter_mut().find(|(of, _, is)| of.is_some() && *of == alike && is == certain) {
                Some((_, group, _)) => group.push(*child),
                None => groups.push((alike, vec![*child], *certain)),
            }
        }
        let split = |(_, group, certain): (_, Vec<Reference>, bool)| -> Vec<(Vec<Reference>, bool)> {
            match group.len() {
                GROUP.. => vec![(group, certain)],
                _ => group.into_iter().map(|child| (vec![child], certain)).collect(),
            }
        };
        groups.into_iter().flat_map(split).collect()
    }

    fn alike(&self, child: Reference) -> Option<Alike<'_>> {
        let Reference::Waiting(index) = child else { return None };
        if self.children.contains_key(&child) {
            return None;
        }
        let waiting = self.report.waiting.get(index)?;
        Some((&waiting.command, waiting.namespace.as_deref()))
    }
}

/// Command and namespace.
type Alike<'a> = (&'a str, Option<&'a str>);
