//! The context that code below the layer attaches to its operation: reasons and a span.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::Span;

use super::unregistered::UnregisteredOperation;
use crate::Reason;
use crate::registry::OperationMetrics;
use crate::timestamp::Timestamp;

#[derive(Debug, Default)]
pub(super) struct OperationContext {
    /// The last reason, and the last one before its transaction noted any.
    last: NotedReason,
    previous: NotedReason,
    pub(super) span: Option<Span>,
    /// A name that is not registered yet, and its registration afterwards.
    unregistered: Option<UnregisteredOperation>,
    registered: Option<(&'static OperationMetrics, Timestamp)>,
}

/// A reason, and the transaction that noted it; `None` if the application noted it.
#[derive(Debug, Default, Clone, Copy)]
struct NotedReason {
    reason: Option<Reason>,
    transaction: Option<u64>,
}

impl OperationContext {
    pub(super) fn reason(&self) -> Option<Reason> {
        self.last.reason
    }

    pub(super) fn note(&mut self, transaction: Option<u64>, reason: Reason) {
        if transaction.is_none() || self.last.transaction != transaction {
            self.previous = self.last;
        }
        self.last = NotedReason { reason: Some(reason), transaction };
    }

    /// Drops the reasons of a transaction that has committed.
    #[cfg(feature = "mongodb")]
    pub(super) fn forget(&mut self, transaction: u64) {
        if self.last.transaction == Some(transaction) {
            self.last = std::mem::take(&mut self.previous);
        }
    }
}

/// The storage of a context. Most requests have none.
#[derive(Debug, Default)]
pub(super) enum ContextCell {
    #[default]
    Empty,
    Own(Box<OperationContext>),
    /// Shared with handles on the operation.
    Shared(Arc<Mutex<OperationContext>>),
}

impl ContextCell {
    pub(super) fn for_unregistered(unregistered: UnregisteredOperation) -> Self {
        Self::Own(Box::new(OperationContext {
            unregistered: Some(unregistered),
            ..OperationContext::default()
        }))
    }

    /// Returns the name that is not registered yet. There are no handles before it is registered.
    pub(super) fn unregistered(&self) -> Option<&UnregisteredOperation> {
        match self {
            Self::Own(context) => context.unregistered.as_ref(),
            Self::Empty | Self::Shared(_) => None,
        }
    }

    pub(super) fn take_unregistered(&mut self) -> Option<UnregisteredOperation> {
        match self {
            Self::Own(context) => context.unregistered.take(),
            Self::Empty | Self::Shared(_) => None,
        }
    }

    /// Registers the name, because code below the layer asks for the operation.
    pub(super) fn register(&mut self) -> Option<&'static OperationMetrics> {
        let registered = self.take_unregistered()?.handler_reached();
        self.write(|context| context.registered = Some(registered));
        Some(registered.0)
    }

    /// Takes the registration made meanwhile.
    pub(super) fn take_registered(&mut self) -> Option<(&'static OperationMetrics, Timestamp)> {
        match self {
            Self::Empty => None,
            Self::Own(context) => context.registered.take(),
            Self::Shared(context) => context.lock().unwrap_or_else(PoisonError::into_inner).registered.take(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(super) fn write(&mut self, f: impl FnOnce(&mut OperationContext)) {
        match self {
            Self::Empty => {
                let mut context = Box::<OperationContext>::default();
                f(&mut context);
                *self = Self::Own(context);
            }
            Self::Own(context) => f(context),
            Self::Shared(context) => f(&mut context.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    #[cfg(feature = "mongodb")]
    pub(super) fn span(&self) -> Option<Span> {
        match self {
            Self::Empty => None,
            Self::Own(context) => context.span.clone(),
            Self::Shared(context) => context.lock().unwrap_or_else(PoisonError::into_inner).span.clone(),
        }
    }

    pub(super) fn share(&mut self) -> Arc<Mutex<OperationContext>> {
        let shared = match std::mem::take(self) {
            Self::Empty => Arc::default(),
            Self::Own(context) => Arc::new(Mutex::new(*context)),
            Self::Shared(context) => context,
        };
        *self = Self::Shared(Arc::clone(&shared));
        shared
    }

    pub(super) fn take(&mut self) -> OperationContext {
        match std::mem::take(self) {
            Self::Empty => OperationContext::default(),
            Self::Own(context) => *context,
            Self::Shared(context) => {
                std::mem::take(&mut context.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }
}
