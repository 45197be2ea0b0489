//! When a drill ends before its end: somebody says so, or its time is over.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// # Errors
    ///
    /// If the system does not let us listen.
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// The next one, or the end of that time, and which of them it was.
    pub(crate) async fn next_within(&mut self, time: Duration) -> &'static str {
        tokio::select! {
            () = self.next() => "it was interrupted",
            () = tokio::time::sleep(time) => "its time was over (--deadline)",
        }
    }
}
