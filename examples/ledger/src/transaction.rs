//! The work that the ledger does in transactions, and its errors.

use std::hash::Hash;

use txnscope::transaction::TransactionBuilder;
use txnscope::{ApplicationError, Reason, Transaction};

use crate::operations::Rejection;
use crate::stored::Unreadable;

/// Work that is done in a transaction. It may be attempted several times; only one attempt takes effect.
pub(crate) trait Work: Send + Sync {
    type Output: Send;

    /// Adds the keys of the documents that this work writes concurrently with others: transactions with the same key
    /// are serialized.
    fn lock_keys<'a>(&self, run: TransactionBuilder<'a>) -> TransactionBuilder<'a> {
        run
    }

    /// One attempt. Rules are checked before the first write, so that a rejection changes nothing.
    fn attempt(&self, tx: &mut Transaction) -> impl Future<Output = Result<Self::Output, Abort>> + Send;
}

/// The error of an attempt.
pub(crate) type Abort = txnscope::Abort<WorkError>;

/// The application errors that end a transaction.
#[derive(Debug)]
pub(crate) enum WorkError {
    Rejected(Rejection),
    /// The data violates an invariant of the ledger.
    Inconsistent(&'static str),
    /// A document cannot be read.
    Unreadable(Unreadable),
}

impl WorkError {
    pub(crate) const fn inconsistent(what: &'static str) -> Abort {
        Abort::Application(Self::Inconsistent(what))
    }
}

impl ApplicationError for WorkError {
    fn reason(&self) -> Reason {
        match self {
            Self::Rejected(rejection) => rejection.reason,
            Self::Inconsistent(_) | Self::Unreadable(_) => Reason::APPLICATION,
        }
    }

    fn is_fault(&self) -> bool {
        matches!(self, Self::Inconsistent(_) | Self::Unreadable(_))
    }
}

impl From<Rejection> for Abort {
    fn from(rejection: Rejection) -> Self {
        Self::Application(WorkError::Rejected(rejection))
    }
}

impl From<Unreadable> for Abort {
    fn from(unreadable: Unreadable) -> Self {
        Self::Application(WorkError::Unreadable(unreadable))
    }
}

/// The key of a document, to serialize transactions on.
pub(crate) fn document(collection: &'static str, id: impl Hash) -> impl Hash {
    (collection, id)
}
