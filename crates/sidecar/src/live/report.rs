//! The models of all members as one report: what `txnscope top --once --output=json` prints.

use std::time::Duration;

use serde::Serialize;

use super::history::History;
use super::model::{
    ConnectionPool, KeyQueue, LiveModel, MissingPart, Reference, RunningOperation, Transaction,
    WaitingOperation, optional_seconds,
};
use super::rates::Rates;

/// A deployment at one moment. `docs/live.schema.json` describes its JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LiveReport {
    /// The name of the replica set, once it is known.
    pub replica_set: Option<String>,
    /// The members, sorted by address.
    pub members: Vec<MemberReport>,
    /// Open transactions, by member, the oldest first.
    pub transactions: Vec<Transaction>,
    /// Waiting operations, by member, in the order in which they began.
    pub waiting: Vec<WaitingOperation>,
    /// Operations outside of transactions that block a waiting operation.
    pub running: Vec<RunningOperation>,
    /// The keys that transactions of the backends wait for, those with the longest queues first.
    pub queues: Vec<KeyQueue>,
    /// The connection pools of the backends.
    pub pools: Vec<ConnectionPool>,
}

/// One member of the deployment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemberReport {
    /// Its address.
    pub member: String,
    /// `primary`, `secondary`, `arbiter` or `other`, once it is known.
    pub role: Option<&'static str>,
    /// Whether it answers.
    pub state: MemberStatus,
    /// Why it does not answer.
    pub error: Option<String>,
    /// The age of its last answer.
    #[serde(rename = "answered_seconds_ago", serialize_with = "optional_seconds")]
    pub answered_ago: Option<Duration>,
    /// The number of open transactions by its own count.
    pub open_transactions: Option<u64>,
    /// It has more operations than are read.
    pub truncated: bool,
    /// Rates since its answer before.
    pub rates: Option<Rates>,
    /// What it did not report.
    pub missing: Vec<MissingPart>,
    /// While transactions abort because of write conflicts: the idle ones that may have changed their documents, the
    /// oldest first. The writers do not wait, and are not in the list of those that do: a statement of a transaction fails
    /// at once, and drivers run the transaction again.
    pub conflict_candidates: Vec<Reference>,
    /// The last fifteen minutes.
    #[serde(skip)]
    pub history: History,
}

/// Whether a member answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberStatus {
    /// It has not been asked yet, or has not had the time to answer.
    #[default]
    Connecting,
    /// It answers.
    Answers,
    /// It does not answer, or refuses. What it reported before is left out: it may be over.
    Fails,
}

impl LiveReport {
    /// Appends the model of a member. References are positions in the lists of the whole report.
    pub(super) fn append(&mut self, model: &LiveModel) {
        let (transactions, waiting, running) =
            (self.transactions.len(), self.waiting.len(), self.running.len());
        let shifted = |reference: &Reference| match reference {
            Reference::Transaction(index) => Reference::Transaction(index + transactions),
            Reference::Waiting(index) => Reference::Waiting(index + waiting),
            Reference::Running(index) => Reference::Running(index + running),
        };
        self.transactions.extend(model.transactions.iter().cloned());
        self.running.extend(model.running.iter().cloned());
        self.waiting.extend(model.waiting.iter().map(|operation| WaitingOperation {
            transaction: operation.transaction.map(|index| index + transactions),
            blocked_by: operation.blocked_by.iter().map(shifted).collect(),
            candidates: operation.candidates.iter().map(shifted).collect(),
            ..operation.clone()
        }));
    }

    /// The member that an entry belongs to.
    #[must_use]
    pub fn member_of(&self, reference: Reference) -> Option<&str> {
        match reference {
            Reference::Transaction(index) => self.transactions.get(index).map(|of| of.member.as_str()),
            Reference::Waiting(index) => self.waiting.get(index).map(|of| of.member.as_str()),
            Reference::Running(index) => self.running.get(index).map(|of| of.member.as_str()),
        }
    }

    /// How many operations wait for an entry, directly.
    #[must_use]
    pub fn blocked_by(&self, reference: Reference) -> usize {
        self.waiting.iter().filter(|waiting| waiting.blocked_by.contains(&reference)).count()
    }
}
