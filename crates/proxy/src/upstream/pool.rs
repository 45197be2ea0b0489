//! Connections by HTTP/1.1 that wait for their next request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::upload::Upload;

/// The connections that are idle, the most recently used one last.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
    idle_timeout: Duration,
    max_idle: usize,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Upload>,
    since: Instant,
}

impl Pool {
    pub(super) fn new(idle_timeout: Duration, max_idle: usize) -> Self {
        Self { idle: Mutex::default(), idle_timeout, max_idle }
    }

    /// The connection that was used last: so the ones that are not needed grow old, and are closed.
    pub(super) fn take(&self) -> Option<SendRequest<Upload>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_old(&mut idle);
        // One whose task has not seen yet that its answer is over is left for the next request.
        let ready = idle.iter().rposition(|one| one.sender.is_ready() && !one.sender.is_closed())?;
        Some(idle.remove(ready).sender)
    }

    /// Keeps a connection whose answer has come to its end.
    pub(super) fn keep(&self, sender: SendRequest<Upload>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= self.max_idle {
            self.drop_old(&mut idle);
            idle.retain(|one| !one.sender.is_closed());
        }
        if idle.len() < self.max_idle {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Closes the connections that have been idle for too long.
    pub(super) fn close_old(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_old(&mut idle);
        idle.retain(|one| !one.sender.is_closed());
        idle.shrink_to(64);
    }

    fn drop_old(&self, idle: &mut Vec<Idle>) {
        let now = Instant::now();
        let old = idle.partition_point(|one| now.duration_since(one.since) >= self.idle_timeout);
        idle.drain(..old);
    }
}

/// A connection in use. Kept for the next request if its answer is read to the end, else closed.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(super) pool: Arc<Pool>,
    pub(super) sender: SendRequest<Upload>,
}

impl Lease {
    pub(crate) fn give_back(self) {
        self.pool.keep(self.sender);
    }
}
