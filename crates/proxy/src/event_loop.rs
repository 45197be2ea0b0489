//! The threads that serve callers. Each has an event loop of its own and its own connections to the backend, so that a
//! request passes between two connections of one thread: no other core is woken for it, and no lock is contended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use txnscope::TransactionService;

use crate::error::StartError;
use crate::exchange::{Classifier, Exchange};
use crate::in_flight::OperationsInFlight;

/// A thread with its event loop.
#[derive(Clone)]
pub(crate) struct EventLoop {
    pub(crate) runtime: Handle,
    pub(crate) service: TransactionService<Exchange, Classifier>,
    /// The operations in flight on its connections.
    pub(crate) in_flight: Arc<OperationsInFlight>,
    connections: Arc<AtomicUsize>,
}

/// A connection that an event loop serves, until this is dropped.
pub(crate) struct Served(Arc<AtomicUsize>);

impl EventLoop {
    pub(crate) fn new(runtime: Handle, service: TransactionService<Exchange, Classifier>) -> Self {
        Self { runtime, service, in_flight: Arc::default(), connections: Arc::default() }
    }

    /// Starts the thread. It ends, and drops what it still serves, when `end` is cancelled.
    ///
    /// # Errors
    ///
    /// If the system has no more threads or file descriptors.
    pub(crate) fn start(
        service: TransactionService<Exchange, Classifier>,
        exchange: Exchange,
        end: CancellationToken,
    ) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(StartError::Thread)?;
        let event_loop = Self::new(runtime.handle().clone(), service);
        let serve = move || runtime.block_on(end.run_until_cancelled(exchange.close_old_connections()));
        std::thread::Builder::new().name("proxy-loop".to_owned()).spawn(serve).map_err(StartError::Thread)?;
        Ok(event_loop)
    }

    /// Counts a connection as its own.
    pub(crate) fn serves(&self) -> Served {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Served(Arc::clone(&self.connections))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The one with the fewest connections: callers keep theirs, so that what is unequal now stays unequal.
pub(crate) fn least_loaded(event_loops: &[EventLoop]) -> Option<&EventLoop> {
    event_loops.iter().min_by_key(|event_loop| event_loop.connections.load(Ordering::Relaxed))
}
