//! What the code below says about the operation that it serves.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::Span;

use super::newcomer::Newcomer;
use crate::Reason;
use crate::clock::Moment;
use crate::registry::OperationMetrics;

#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The last reason, and what was the last one before its transaction noted any.
    said: Said,
    before: Said,
    pub(super) span: Option<Span>,
    /// A name that takes its place when somebody asks for it, and then what it has become.
    newcomer: Option<Newcomer>,
    admitted: Option<(&'static OperationMetrics, Moment)>,
}

/// A reason, and the transaction that it is of; of none, if the application noted it.
#[derive(Debug, Default, Clone, Copy)]
struct Said {
    reason: Option<Reason>,
    of: Option<u64>,
}

impl Notes {
    pub(super) fn reason(&self) -> Option<Reason> {
        self.said.reason
    }

    pub(super) fn note(&mut self, of: Option<u64>, reason: Reason) {
        if of.is_none() || self.said.of != of {
            self.before = self.said;
        }
        self.said = Said { reason: Some(reason), of };
    }

    /// What that transaction has noted is of no account: it has committed.
    #[cfg(feature = "mongodb")]
    pub(super) fn forget(&mut self, of: u64) {
        if self.said.of == Some(of) {
            self.said = std::mem::take(&mut self.before);
        }
    }
}

/// Where the notes are. Most requests have none.
#[derive(Debug, Default)]
pub(super) enum Pad {
    #[default]
    Empty,
    Own(Box<Notes>),
    /// With handles on the operation.
    Shared(Arc<Mutex<Notes>>),
}

impl Pad {
    pub(super) fn of(newcomer: Newcomer) -> Self {
        Self::Own(Box::new(Notes { newcomer: Some(newcomer), ..Notes::default() }))
    }

    /// A name that is no operation yet. Nobody has a handle on what it has not become.
    pub(super) fn peek(&self) -> Option<&Newcomer> {
        match self {
            Self::Own(notes) => notes.newcomer.as_ref(),
            Self::Empty | Self::Shared(_) => None,
        }
    }

    pub(super) fn newcomer(&mut self) -> Option<Newcomer> {
        match self {
            Self::Own(notes) => notes.newcomer.take(),
            Self::Empty | Self::Shared(_) => None,
        }
    }

    /// Somebody asks for it.
    pub(super) fn admit(&mut self) -> Option<&'static OperationMetrics> {
        let admitted = self.newcomer()?.serves();
        self.write(|notes| notes.admitted = Some(admitted));
        Some(admitted.0)
    }

    /// What it has become meanwhile.
    pub(super) fn admitted(&mut self) -> Option<(&'static OperationMetrics, Moment)> {
        match self {
            Self::Empty => None,
            Self::Own(notes) => notes.admitted.take(),
            Self::Shared(notes) => notes.lock().unwrap_or_else(PoisonError::into_inner).admitted.take(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(super) fn write(&mut self, f: impl FnOnce(&mut Notes)) {
        match self {
            Self::Empty => {
                let mut notes = Box::<Notes>::default();
                f(&mut notes);
                *self = Self::Own(notes);
            }
            Self::Own(notes) => f(notes),
            Self::Shared(notes) => f(&mut notes.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    #[cfg(feature = "mongodb")]
    pub(super) fn span(&self) -> Option<Span> {
        match self {
            Self::Empty => None,
            Self::Own(notes) => notes.span.clone(),
            Self::Shared(notes) => notes.lock().unwrap_or_else(PoisonError::into_inner).span.clone(),
        }
    }

    pub(super) fn share(&mut self) -> Arc<Mutex<Notes>> {
        let shared = match std::mem::take(self) {
            Self::Empty => Arc::default(),
            Self::Own(notes) => Arc::new(Mutex::new(*notes)),
            Self::Shared(notes) => notes,
        };
        *self = Self::Shared(Arc::clone(&shared));
        shared
    }

    pub(super) fn take(&mut self) -> Notes {
        match std::mem::take(self) {
            Self::Empty => Notes::default(),
            Self::Own(notes) => *notes,
            Self::Shared(notes) => std::mem::take(&mut notes.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}
