//! What the code below says about the operation that it serves.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::Span;

use crate::Reason;

#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) reason: Option<Reason>,
    pub(super) span: Option<Span>,
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
