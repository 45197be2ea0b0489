//! What the ledger does in transactions, and how it says no in one.

use std::hash::Hash;

use txnscope::transaction::TransactionBuilder;
use txnscope::{ApplicationError, Reason, Transaction};

use crate::operations::Rejection;
use crate::stored::Unreadable;

/// What is done in a transaction. It may be tried several times; only one try takes effect.
pub(crate) trait Work: Send + Sync {
    type Output: Send;

    /// What it will write and others may as well: transactions that meet there take turns.
    fn lock_keys<'a>(&self, run: TransactionBuilder<'a>) -> TransactionBuilder<'a> {
        run
    }

    /// One try. Rules are checked before the first write, so that a rejection leaves nothing behind.
    fn attempt(&self, tx: &mut Transaction) -> impl Future<Output = Result<Self::Output, Abort>> + Send;
}

/// Why a try is given up.
pub(crate) type Abort = txnscope::Abort<WorkError>;

/// The ledger's own ways to end a transaction.
#[derive(Debug)]
pub(crate) enum WorkError {
    Rejected(Rejection),
    /// The data is not as every transaction leaves it.
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

/// A document, as the thing that transactions meet at.
pub(crate) fn document(collection: &'static str, id: impl Hash) -> impl Hash {
    (collection, id)
}
