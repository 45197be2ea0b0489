//! Ends transactions that were given up, aside from the request: with the server away that takes as long as the
//! driver looks for one, and nobody should wait for it.

use std::time::Duration;

use mongodb::bson::doc;
use mongodb::{Client, ClientSession};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::fault::{Fault, is_away};

/// After this the server has ended the transaction by itself (`transactionLifetimeLimitSeconds`).
const LIFETIME: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(250);

/// Cleans up in tasks that a shutdown waits for.
pub(crate) struct Cleanup {
    pub(crate) client: Client,
    pub(crate) tasks: TaskTracker,
}

impl Cleanup {
    /// Aborts on a connection that works.
    pub(crate) fn abort(&self, mut session: ClientSession) {
        let abort = async move {
            // The driver tells no errors here; a server that has aborted already answers with one.
            let _ = session.abort_transaction().await;
        };
        self.tasks.spawn(abort.in_current_span());
    }

    /// Ends whatever the session has open, once the server can be reached again.
    ///
    /// A lost connection says nothing about the server: it may have begun the transaction that we never heard of,
    /// and would keep its locks. The driver sends one abort and does not tell whether it arrived.
    pub(crate) fn kill(&self, session: ClientSession) {
        let (admin, tasks) = (self.client.database("admin"), self.tasks.clone());
        let kill = async move {
            let until = Instant::now() + LIFETIME;
            // The session is held until the end: given back, it could meanwhile carry another transaction.
            while let Err(error) = admin.run_command(doc! { "killSessions": [session.id().clone()] }).await {
                if !is_away(&error) || Instant::now() > until || tasks.is_closed() {
                    let error = Fault::from(error);
                    tracing::warn!(%error, "a transaction may stay open until the server ends it");
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        self.tasks.spawn(kill.in_current_span());
    }
}
