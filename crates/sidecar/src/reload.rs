//! Reloading of the configuration: all of it is validated first, and then applied.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::Config;
use crate::deployments::DeploymentManager;
use crate::error::StartError;
use crate::web::{AccessControl, WebPolicy};

/// How often the TLS files are checked for changes. They are renewed on disk without a notification.
const RECHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The minimum average time between two reloads through the web API. Two may follow one another at once.
const MIN_RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// The timeout for reading the files: a network file system may hang.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Any error, for the log.
pub type LoadError = Box<dyn std::error::Error + Send + Sync>;

/// A function that reads the configuration.
pub(crate) type Loader = dyn Fn() -> Result<Config, LoadError> + Send + Sync;

/// Why a reloaded configuration was rejected. The previous one stays in force, unchanged.
#[derive(Debug, thiserror::Error)]
#[error("the configuration was rejected, and the previous one stays in force: {}", .0)]
pub struct ReloadError(LoadError);

/// Why a reload through the web API was not done.
#[derive(Debug)]
pub(crate) enum WebReloadError {
    /// A reload is in progress, or two were done within the last second.
    RateLimited,
    Refused(ReloadError),
}

/// The source of a reload request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReloadSource {
    /// The operator of the process: each reload is logged.
    Operator,
    /// A client of the web API: only changes are logged.
    Web,
}

/// The result of the last reload.
#[derive(Debug)]
pub(crate) struct ReloadStatus {
    successful: AtomicBool,
    /// Milliseconds since 1970.
    at: AtomicU64,
}

impl ReloadStatus {
    pub(crate) fn new() -> Self {
        let status = Self { successful: AtomicBool::new(true), at: AtomicU64::new(0) };
        status.set(true);
        status
    }

    pub(crate) fn set(&self, successful: bool) {
        self.successful.store(successful, Ordering::Relaxed);
        if successful {
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            self.at.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Whether the last reload succeeded, and when the last successful one was, in seconds since 1970.
    pub(crate) fn last(&self) -> (bool, f64) {
        #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
        let at = self.at.load(Ordering::Relaxed) as f64 / 1e3;
        (self.successful.load(Ordering::Relaxed), at)
    }
}

/// Reloads the configuration.
pub(crate) struct Reloader {
    load: Option<Arc<Loader>>,
    /// Locked during a reload, so that reloads do not overlap.
    current: Mutex<Current>,
    /// The rate limiter's state: from this time on, no reload is owed.
    next_web_reload: std::sync::Mutex<Option<Instant>>,
    deployments: Arc<DeploymentManager>,
    access: Arc<AccessControl>,
    status: Arc<ReloadStatus>,
}

struct Current {
    /// The configuration in force. Settings that need a restart keep their values from the start.
    config: Config,
    /// The configuration as it was last read and accepted.
    read: Config,
    /// The last error, if the last reload was rejected.
    refused: Option<String>,
}

impl Reloader {
    pub(crate) fn new(
        config: Config,
        load: Option<Arc<Loader>>,
        deployments: Arc<DeploymentManager>,
        access: Arc<AccessControl>,
        status: Arc<ReloadStatus>,
    ) -> Self {
        let current = Current { read: config.clone(), config, refused: None };
        let (current, next_web_reload) = (Mutex::new(current), std::sync::Mutex::default());
        Self { load, current, next_web_reload, deployments, access, status }
    }

    /// # Errors
    ///
    /// If the configuration cannot be read or is rejected. Nothing changes then.
    pub(crate) async fn reload(&self) -> Result<(), ReloadError> {
        self.reload_from(ReloadSource::Operator).await
    }

    /// Reloads for a client of the web API, who may be untrusted: once a second on average, and not while
    /// another reload is in progress. It completes even if the client disconnects.
    ///
    /// # Errors
    ///
    /// If the rate limit is exceeded, or as [`reload`](Self::reload).
    pub(crate) async fn reload_from_web(self: &Arc<Self>) -> Result<(), WebReloadError> {
        {
            let mut source = self.next_web_reload.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let from = source.map_or(now, |from| from.max(now));
            if from - now > MIN_RELOAD_INTERVAL || self.current.try_lock().is_err() {
                return Err(WebReloadError::RateLimited);
            }
            *source = Some(from + MIN_RELOAD_INTERVAL);
        }
        let reloader = Arc::clone(self);
        let reloading = tokio::spawn(async move { reloader.reload_from(ReloadSource::Web).await });
        match reloading.await {
            Ok(ended) => ended.map_err(WebReloadError::Refused),
            Err(error) => Err(WebReloadError::Refused(ReloadError(error.into()))),
        }
    }

    async fn reload_from(&self, source: ReloadSource) -> Result<(), ReloadError> {
        let mut current = self.current.lock().await;
        match self.replace(&mut current).await {
            Ok(has_changed) => {
                self.status.set(true);
                let was_refused = current.refused.take().is_some();
                if has_changed || was_refused {
                    tracing::info!("the configuration has been read again");
                } else if source == ReloadSource::Operator {
                    tracing::info!("the configuration has been read again, and nothing in it has changed");
                }
                Ok(())
            }
            Err(error) => {
                self.status.set(false);
                let error = ReloadError(error);
                let text = error.to_string();
                if source == ReloadSource::Operator || current.refused.as_ref() != Some(&text) {
                    tracing::error!("{text}");
                }
                current.refused = Some(text);
                Err(error)
            }
        }
    }

    /// Creates new clients whenever a TLS file of a URI has changed and was the same at two consecutive checks,
    /// since a file may be half written. An unusable file is logged once, and changes nothing.
    pub(crate) async fn watch_tls_files(self: Arc<Self>) {
        let (mut seen, mut last_logged) = (Ok(Vec::new()), None);
        loop {
            tokio::time::sleep(RECHECK_INTERVAL).await;
            let now = self.deployments.changed_tls_files().await.map_err(|error| error.to_string());
            let is_settled = now == seen;
            seen.clone_from(&now);
            let renewed = match now {
                Ok(renewed) if renewed.is_empty() => Ok(false),
                _ if !is_settled => continue,
                Ok(_) => {
                    self.reconnect_with_new_tls().await.map(|()| true).map_err(|error| error.to_string())
                }
                Err(error) => Err(error),
            };
            match renewed {
                Ok(true) => tracing::info!("renewed TLS files of a URI are in force for new connections"),
                Ok(false) if last_logged.is_none() => continue,
                Ok(false) => {}
                Err(error) => {
                    if last_logged.as_ref() != Some(&error) {
                        self.status.set(false);
                        tracing::error!(
                            error,
                            "the TLS files of a URI have changed and are rejected; the previous ones stay in force"
                        );
                        last_logged = Some(error);
                    }
                    continue;
                }
            }
            last_logged = None;
            self.status.set(true);
        }
    }

    /// Applies the current configuration with the current contents of the TLS files.
    async fn reconnect_with_new_tls(&self) -> Result<(), StartError> {
        let current = self.current.lock().await;
        let plan = self.deployments.plan(&current.config).await?;
        self.deployments.apply(plan).await;
        Ok(())
    }

    /// Reads all files, on a thread that may block.
    async fn read(&self, current: &Config) -> Result<(Config, WebPolicy), LoadError> {
        let (load, current) = (self.load.clone(), current.clone());
        let loading = tokio::task::spawn_blocking(move || {
            let config = match load {
                None => current,
                Some(load) => load()?,
            };
            // The TLS files are read again later, where nothing may block: a file system that hangs must be
            // noticed here.
            for target in config.targets.iter().chain(config.probes.values()) {
                let _ = target.tls_files();
            }
            Ok::<_, LoadError>(config)
        });
        let config = loading.await??;
        config.validate()?;
        let policy = self.access.read(config.web_config_file.clone()).await?;
        Ok((config, policy))
    }

    /// Returns whether anything has changed.
    async fn replace(&self, current: &mut Current) -> Result<bool, LoadError> {
        let reading = tokio::time::timeout(READ_TIMEOUT, self.read(&current.config));
        let (config, policy) = reading.await.map_err(|_| {
            format!(
                "reading the files took longer than {READ_TIMEOUT:?}: does a disk or a network file system hang?"
            )
        })??;
        let plan = self.deployments.plan(&config).await?;
        let mut has_changed = plan.has_new_deployments() || config != current.read;
        self.deployments.apply(plan).await;
        has_changed |= self.access.apply(policy, &config);
        for (name, is_new) in [
            ("web.listen-address", config.listen_addresses != current.config.listen_addresses),
            ("web.systemd-socket", config.systemd_socket != current.config.systemd_socket),
            ("web.telemetry-path", config.telemetry_path != current.config.telemetry_path),
        ] {
            if is_new && has_changed {
                tracing::warn!(name, "a change of this setting needs a restart");
            }
        }
        current.read = config.clone();
        // Settings that need a restart keep their values.
        let Config { listen_addresses, systemd_socket, telemetry_path, .. } =
            std::mem::take(&mut current.config);
        current.config = Config { listen_addresses, systemd_socket, telemetry_path, ..config };
        Ok(has_changed)
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}
