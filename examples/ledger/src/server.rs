//! Serving, and the orderly end of it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use txnscope::Metrics;

use crate::app::app;
use crate::connections::{self, Connections, Deadlines};
use crate::state::Ledger;

/// What a shutdown grants beyond the deadline of a transaction: five seconds for an answer that has not been taken, and five
/// to end what is left in the database.
const GRACE: Duration = Duration::from_secs(10);

/// A ledger that listens. Dropping it begins an orderly end, without waiting for it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    /// Serves on that listener, in a task of its own.
    ///
    /// # Errors
    ///
    /// If the listener has no address.
    pub fn start(listener: TcpListener, ledger: Ledger, metrics: &Metrics) -> io::Result<Self> {
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let task = tokio::spawn(serve(listener, ledger, metrics.clone(), stop.clone().cancelled_owned()));
        Ok(Self { address, stop, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, and returns when what is in flight is answered.
    ///
    /// # Errors
    ///
    /// If it takes longer than the deadline of a transaction and some seconds.
    pub async fn shutdown(mut self) -> Result<(), ServeError> {
        self.stop.cancel();
        (&mut self.task).await.unwrap_or_else(|end| std::panic::resume_unwind(end.into_panic()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Serves on that listener until the future is ready; then stops accepting, and returns when what is in flight is
/// answered and every transaction is ended. A head that is not complete is not in flight, and a body that is not is answered
/// with 408.
///
/// A connection ends whose request head takes longer than 30 s, or that is kept for as long and not used, or that does not take an
/// answer within 30 s. There are at most 1,000 connections, or half as many as the process may open files; the one that has
/// been idle for the longest makes room.
///
/// # Errors
///
/// If that takes longer than the deadline of a transaction and some seconds.
pub async fn serve(
    listener: TcpListener,
    ledger: Ledger,
    metrics: Metrics,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let (stopping, patience) = (CancellationToken::new(), ledger.deadline() + GRACE);
    let connections = Connections {
        router: app(ledger.clone(), &metrics),
        most: connections::most(),
        deadlines: Deadlines::default(),
        stop: stopping.clone(),
    };
    let finish = async {
        connections.serve(listener).await;
        ledger.runner().wait_idle().await;
    };
    let late = async {
        stop.await;
        stopping.cancel();
        tokio::time::sleep(patience).await;
    };
    tokio::select! {
        () = finish => Ok(()),
        () = late => Err(ServeError::Late { patience, left: ledger.runner().pending_cleanups() }),
    }
}

/// Why serving did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Something in flight did not end.
    #[error(
        "gave up waiting after {patience:?}, with {left} transactions unfinished; the server will abort them"
    )]
    Late {
        /// How long.
        patience: Duration,
        /// How many transactions; none if a client kept its connection busy.
        left: usize,
    },
}
