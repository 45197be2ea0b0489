//! Polls MongoDB's own books on transactions and shows them to Prometheus.
//!
//! Each member of a replica set is asked by a direct client, on a schedule of its own; what it says is kept in a
//! snapshot, and a scrape reads the snapshot. So a scrape never touches MongoDB, and answers at once whether a
//! member is up, down or hung.
//!
//! | module | what |
//! | --- | --- |
//! | `uri`, `topology`, `fleet` | from one URI to the members that are there now |
//! | `source` | what a member is asked: one file each |
//! | `decode`, `reading` | from a reply, field by field, to samples of catalogued metrics |
//! | `poller` | when, how long at most, and what a failure costs |
//! | `snapshot` | what is known now, and how old it is |
//! | `export`, `web` | the page |
//!
//! ```no_run
//! # async fn example() -> Result<(), txnscope_sidecar::StartError> {
//! use txnscope_sidecar::{Config, Sidecar};
//!
//! let sidecar = Sidecar::start(Config::new("mongodb://db1,db2,db3/?replicaSet=rs0")).await?;
//! println!("http://{}/metrics", sidecar.local_addr());
//! sidecar.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod config;
mod decode;
mod error;
mod export;
mod fleet;
mod poller;
mod reading;
mod snapshot;
mod source;
mod topology;
mod uri;
mod web;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::config::{Config, DEFAULT_PORT};
pub use crate::error::StartError;
pub use crate::source::{
    CurrentOpSettings, ParameterSettings, Privilege, ProfileSettings, ReplicationSettings, Resource,
    SlowTransactionSettings, SourceSettings, StorageEngineSettings, privileges, privileges_by_source,
};

use crate::export::Page;
use crate::fleet::Fleet;
use crate::poller::Pace;
use crate::snapshot::Snapshot;
use crate::uri::Uri;
use crate::web::Web;

/// How long a shutdown waits for scrapes in flight and connections to close.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running sidecar. Dropping it begins an orderly end, without waiting for it.
#[derive(Debug)]
pub struct Sidecar {
    address: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Sidecar {
    /// Listens and begins to poll, in tasks of its own. Does not wait for the database, nor need it.
    ///
    /// # Errors
    ///
    /// If the configuration is wrong or the address cannot be listened on.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.validate()?;
        let uri = Uri::parse(&config.uri)?;
        let (snapshot, tasks, stop) = (Snapshot::default(), TaskTracker::new(), CancellationToken::new());
        let pace = Pace { interval: config.poll_interval, timeout: config.poll_timeout };
        let fleet =
            Fleet::new(uri, pace, config.sources, snapshot.clone(), tasks.clone(), stop.clone()).await?;
        let page = Page::new(snapshot.clone())?;
        let address = config.listen_address;
        let refused = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let web = Web::new(page, snapshot, &config.telemetry_path);
        tasks.spawn(fleet.run());
        let stopped = stop.clone().cancelled_owned();
        tasks.spawn(async move {
            if let Err(error) = web.serve(listener, stopped).await {
                tracing::error!(%error, "the web side has failed");
            }
        });
        tasks.close();
        tracing::info!(%address, path = config.telemetry_path, version = env!("CARGO_PKG_VERSION"), "listening");
        Ok(Self { address, tasks, stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops polling and listening, answers the scrapes in flight, and closes its connections.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if tokio::time::timeout(PATIENCE, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "gave up waiting for the end of all tasks");
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
