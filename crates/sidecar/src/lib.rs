//! Polls MongoDB's own books on transactions and shows them to Prometheus.
//!
//! Each member of a replica set is asked by a direct client, on a schedule of its own; what it says is kept in a
//! snapshot, and a scrape reads the snapshot. So a scrape never touches MongoDB, and answers at once whether a
//! member is up, down or hung.
//!
//! | module | what |
//! | --- | --- |
//! | `config`, `target`, `reload` | what is wanted, and what of it can change while it runs |
//! | `targets` | the deployments that are followed, always or while they are probed |
//! | `uri`, `hosts`, `topology`, `inquiry`, `discovery`, `fleet` | from one URI to the members that are there now |
//! | `address`, `identity` | how a member is named and dialed, and whether it is the one that answers |
//! | `cause` | why the driver gave up on a member |
//! | `collector` | what a member is asked: one file each |
//! | `decode`, `reading` | from a reply, field by field, to samples of catalogued metrics |
//! | `poller` | when, how long at most, and what a failure costs |
//! | `snapshot`, `board` | what is known now, and how old it is |
//! | `consistency` | the checks on the data, on a schedule |
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

mod address;
mod cause;
mod checks;
mod collector;
mod config;
mod decode;
mod deployments;
mod discovery;
mod error;
mod export;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hello;
mod hosts;
mod identity;
mod monitor;
mod poller;
mod reload;
mod sample_set;
mod snapshot;
mod store;
mod target;
mod topology;
mod uri;
mod web;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::collector::{
    CollectorSettings, CurrentOpSettings, OpenByOperationSettings, ParameterSettings, Privilege,
    ProfileSettings, ReplicationSettings, Resource, SlowTransactionSettings, StorageEngineSettings,
    privileges, privileges_by_collector,
};
pub use crate::config::{Config, DEFAULT_PORT, is_name};
pub use crate::error::StartError;
pub use crate::reload::{LoadError, ReloadError};
pub use crate::target::Target;
pub use crate::web::WebConfigError;
pub use txnscope_mongo::{Credentials, Ignored, UriError};

use crate::deployments::DeploymentManager;
use crate::export::MetricsPage;
use crate::reload::{Loader, ReloadStatus, Reloader};
use crate::store::MetricStore;
use crate::web::{AccessControl, Logins, Web, listeners};

/// How long a shutdown waits for scrapes in flight and connections to close.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// A running sidecar. Dropping it begins an orderly end, without waiting for it.
#[derive(Debug)]
pub struct Sidecar {
    addresses: Vec<SocketAddr>,
    reloader: Arc<Reloader>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Sidecar {
    /// Listens and begins to poll, in tasks of its own. Does not wait for the database, nor need it.
    ///
    /// A reload reads the files again that the configuration names, and no more.
    ///
    /// # Errors
    ///
    /// If the configuration is wrong or an address cannot be listened on.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, None).await
    }

    /// As [`start`](Self::start). A reload asks `load` for the configuration, on a thread where it may block.
    ///
    /// # Errors
    ///
    /// If the configuration is wrong or an address cannot be listened on.
    pub async fn start_reloadable(
        config: Config,
        load: impl Fn() -> Result<Config, LoadError> + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        Self::start_with(config, Some(Arc::new(load))).await
    }

    async fn start_with(config: Config, load: Option<Arc<Loader>>) -> Result<Self, StartError> {
        config.validate()?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (record, logins) = (Arc::new(ReloadStatus::new()), Arc::new(Logins::default()));
        let store = MetricStore::for_main_page(Arc::clone(&record), Arc::clone(&logins));
        let deployments = Arc::new(DeploymentManager::new(store.clone(), tasks.clone(), stop.clone()));
        let plan = deployments.plan(&config).await?;
        let access = Arc::new(AccessControl::new(&config, logins, Arc::clone(&record))?);
        let page = MetricsPage::new(store.clone())?;
        let (addresses, listeners): (Vec<_>, Vec<_>) = listeners(&config).await?.into_iter().unzip();

        deployments.apply(plan).await;
        let path = config.telemetry_path.clone();
        let reloader = Reloader::new(config, load, Arc::clone(&deployments), Arc::clone(&access), record);
        let reloader = Arc::new(reloader);
        let web = Web::new(page, store, Arc::clone(&deployments), Arc::clone(&reloader), &path);
        let server = web.server(Arc::clone(&access), tasks.clone(), stop.clone());
        for listener in listeners {
            tasks.spawn(server.clone().run(listener));
        }
        tasks.spawn(stop.clone().run_until_cancelled_owned(deployments.remove_idle()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(access.watch_files()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&reloader).watch_tls_files()));
        tasks.close();
        for address in &addresses {
            tracing::info!(%address, path, version = env!("CARGO_PKG_VERSION"), "listening");
        }
        Ok(Self { addresses, reloader, tasks, stop })
    }

    /// Checks a configuration as [`start`](Self::start) does, with the files that it names, without listening or
    /// speaking to any server.
    ///
    /// # Errors
    ///
    /// If it is wrong.
    pub async fn check(config: &Config) -> Result<(), StartError> {
        config.validate()?;
        let (store, stop) = (MetricStore::default(), CancellationToken::new());
        DeploymentManager::new(store, TaskTracker::new(), stop).plan(config).await?;
        AccessControl::new(config, Arc::default(), Arc::new(ReloadStatus::new()))?;
        Ok(())
    }

    /// Where it listens.
    ///
    /// # Panics
    ///
    /// Never: it listens somewhere.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Everywhere it listens.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Reads the configuration again, and puts it in force if all of it is accepted. What has not changed goes on
    /// undisturbed. Addresses and the path of the metrics stay: these take a restart.
    ///
    /// What takes protection away from the web side (its users, TLS, client certificates) is put in force as well, and
    /// logged as a warning: the sidecar does that at a reload alone, and never because a file has changed.
    ///
    /// # Errors
    ///
    /// If it is not accepted, or reading it takes longer than 30 s. Nothing has changed then. An empty file for TLS and
    /// users is not accepted where there were some: `{}` in it says that none are meant.
    ///
    /// # Cancellation
    ///
    /// Until all of it is checked, nothing has changed.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        self.reloader.reload().await
    }

    /// Stops polling and listening, answers the scrapes in flight, and closes its connections.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "gave up waiting for the end of all tasks");
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
