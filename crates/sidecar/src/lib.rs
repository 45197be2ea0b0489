//! Polls MongoDB's transaction counters and exports them to Prometheus.
//!
//! Each member of a replica set is polled by a direct client, on its own schedule; the samples are kept in a
//! store, and a scrape reads the store. A scrape never contacts MongoDB, and always returns at once, whether a
//! member is up, down or hangs.
//!
//! | module | contents |
//! | --- | --- |
//! | `config`, `target`, `reload` | configuration, and the parts of it that can change at runtime |
//! | `deployments` | running deployments, permanent or on demand |
//! | `uri`, `hosts`, `topology`, `hello`, `discovery`, `monitor` | discovery: from one URI to the current members |
//! | `address`, `identity` | addresses of members, and verification of the server that answers |
//! | `cause` | root causes of driver errors |
//! | `collector` | collectors: one file each |
//! | `decode`, `sample_set` | from a reply, field by field, to samples of cataloged metrics |
//! | `poller` | schedules, timeouts and failures of polls |
//! | `snapshot`, `store` | the newest sample sets, and their age |
//! | `live` | open transactions, waiting operations and their blockers, now |
//! | `checks` | scheduled checks on the data |
//! | `export`, `web` | the metrics page and the HTTP server |
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
pub mod live;
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
pub use txnscope_catalog::FileError;
pub use txnscope_mongo::{Credentials, Ignored, UriError};

use crate::deployments::DeploymentManager;
use crate::reload::{Loader, ReloadStatus, Reloader};
use crate::store::MetricStore;
use crate::web::{AccessControl, LiveFeed, Logins, Web, listeners};

/// How long a shutdown waits for running scrapes and open connections.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// A running sidecar. Dropping it starts a graceful shutdown without waiting.
#[derive(Debug)]
pub struct Sidecar {
    addresses: Vec<SocketAddr>,
    reloader: Arc<Reloader>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Sidecar {
    /// Starts listening and polling, in background tasks. The database need not be reachable.
    ///
    /// A reload reads the files again that the configuration names, and nothing else.
    ///
    /// # Errors
    ///
    /// If the configuration is invalid or a listen address cannot be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, None).await
    }

    /// Like [`start`](Self::start). A reload calls `load` for the configuration, on a thread that may block.
    ///
    /// # Errors
    ///
    /// If the configuration is invalid or a listen address cannot be used.
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
        let store = store.with_revision(config.revision);
        let deployments = Arc::new(DeploymentManager::new(store.clone(), tasks.clone(), stop.clone()));
        let plan = deployments.plan(&config).await?;
        let access = Arc::new(AccessControl::new(&config, logins, Arc::clone(&record))?);
        let (addresses, listeners): (Vec<_>, Vec<_>) = listeners(&config).await?.into_iter().unzip();

        deployments.apply(plan).await;
        let path = config.telemetry_path.clone();
        let reloader = Reloader::new(config, load, Arc::clone(&deployments), Arc::clone(&access), record);
        let reloader = Arc::new(reloader);
        let live = Arc::new(LiveFeed::new(Arc::clone(&deployments), store.clone(), &path));
        let web = Web::new(store, Arc::clone(&deployments), Arc::clone(&reloader), Arc::clone(&live), &path);
        let server = web.server(Arc::clone(&access), tasks.clone(), stop.clone());
        for listener in listeners {
            tasks.spawn(server.clone().run(listener));
        }
        tasks.spawn(stop.clone().run_until_cancelled_owned(deployments.remove_idle()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(access.watch_files()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&live).poll()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(live.record_history()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&reloader).watch_tls_files()));
        tasks.close();
        for address in &addresses {
            tracing::info!(%address, path, version = env!("CARGO_PKG_VERSION"), "listening");
        }
        Ok(Self { addresses, reloader, tasks, stop })
    }

    /// Validates a configuration and the files that it names, without listening or contacting any server.
    ///
    /// # Errors
    ///
    /// If the configuration is invalid.
    pub async fn check(config: &Config) -> Result<(), StartError> {
        config.validate()?;
        let (store, stop) = (MetricStore::default(), CancellationToken::new());
        DeploymentManager::new(store, TaskTracker::new(), stop).plan(config).await?;
        AccessControl::new(config, Arc::default(), Arc::new(ReloadStatus::new()))?;
        Ok(())
    }

    /// The first listen address.
    ///
    /// # Panics
    ///
    /// Never: there is at least one listen address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All listen addresses.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Reads the configuration again, and applies it if all of it is valid. Unchanged deployments go on
    /// undisturbed. Listen addresses and the path of the metrics page change at a restart only.
    ///
    /// A reload that removes protection from the web side (users, TLS, client certificates) is applied as well,
    /// and logged as a warning. A mere change of a file never removes protection.
    ///
    /// # Errors
    ///
    /// If the configuration is invalid, or reading it takes longer than 30 s. Nothing changes then. An empty web
    /// configuration file is rejected if the previous one had TLS or users: write `{}` into it to remove them.
    ///
    /// # Cancellation
    ///
    /// Nothing changes until the whole configuration is validated.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        self.reloader.reload().await
    }

    /// Stops polling and listening, completes running scrapes, and closes all connections.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                left = self.tasks.len(),
                "the shutdown timeout has passed, and tasks are still running"
            );
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
