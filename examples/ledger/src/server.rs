//! Serving requests, and the graceful shutdown.

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

/// The time that a shutdown takes beyond the deadline of a transaction: five seconds for a response that has not been
/// read, and five to end the remaining transactions.
const GRACE: Duration = Duration::from_secs(10);

/// A running server. Dropping it starts a graceful shutdown without waiting.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    /// Serves on a listener, in a separate task.
    ///
    /// # Errors
    ///
    /// If the listener has no address.
    pub fn start(listener: TcpListener, ledger: Ledger, metrics: &Metrics) -> io::Result<Self> {
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let task = tokio::spawn(serve(listener, ledger, metrics.clone(), stop.clone().cancelled_owned()));
        Ok(Self { address, stop, task })
    }

    /// The address on which the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting connections, and returns when all received requests are answered.
    ///
    /// # Errors
    ///
    /// If this takes longer than the deadline of a transaction and some seconds.
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

/// Serves on a listener until the future is ready; then stops accepting connections, and returns when all received
/// requests are answered and every transaction has ended. Requests with an incomplete head are dropped, and those
/// with an incomplete body are answered with 408.
///
/// A connection is closed if its request head takes longer than 30 s, if it is idle for as long, or if its client
/// does not read a response within 30 s. There are at most 1,000 connections, or half as many as the process may open
/// files; the connection that has been idle for the longest time is closed for a new one.
///
/// # Errors
///
/// If this takes longer than the deadline of a transaction and some seconds.
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

/// The error of a server that did not shut down in time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A request or a transaction did not end.
    #[error(
        "gave up waiting after {patience:?}, with {left} transactions unfinished; the server will abort them"
    )]
    Late {
        /// The time limit.
        patience: Duration,
        /// The number of unfinished transactions; zero if a client kept its connection busy.
        left: usize,
    },
}
