//! The configuration, read again while the sidecar runs: all of it is checked first, and then put in force.

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

/// How often the files of certificates are looked at. They are renewed on disk, and nobody tells us.
const RECHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The least time between two reloads that the web side asks for, on average: two may follow one another at once.
const MIN_RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// How long reading the files may take. A network file system may hang for ever.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Any error, for the log.
pub type LoadError = Box<dyn std::error::Error + Send + Sync>;

/// Reads the configuration anew, wherever it comes from.
pub(crate) type Loader = dyn Fn() -> Result<Config, LoadError> + Send + Sync;

/// Why the configuration that was re-read is not in force. The one before is, unchanged.
#[derive(Debug, thiserror::Error)]
#[error("the configuration was not accepted, and the one before stays in force: {}", .0)]
pub struct ReloadError(LoadError);

/// Why a reload that the web side asked for was not done.
#[derive(Debug)]
pub(crate) enum WebReloadError {
    /// One is in progress, or two were done within the last second.
    RateLimited,
    Refused(ReloadError),
}

/// Who asks for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReloadSource {
    /// Whoever runs the process: each reload is in the log.
    Operator,
    /// Whoever reaches the web side: only what changes is in the log.
    Web,
}

/// How the last reload ended.
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

    /// Whether it was accepted, and when the last was that was, in seconds since 1970.
    pub(crate) fn last(&self) -> (bool, f64) {
        #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
        let at = self.at.load(Ordering::Relaxed) as f64 / 1e3;
        (self.successful.load(Ordering::Relaxed), at)
    }
}

/// What a reload acts upon.
pub(crate) struct Reloader {
    load: Option<Arc<Loader>>,
    /// Held during a reload, so that one follows the other.
    current: Mutex<Current>,
    /// From when on the web side has used up none of its reloads.
    next_web_reload: std::sync::Mutex<Option<Instant>>,
    deployments: Arc<DeploymentManager>,
    access: Arc<AccessControl>,
    status: Arc<ReloadStatus>,
}

struct Current {
    /// In force: what takes a restart is as it was at the start.
    config: Config,
    /// As it was last read and accepted.
    read: Config,
    /// What was wrong with it when it was read last, if anything was.
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
    /// If the configuration cannot be read or is not accepted. Nothing has changed then.
    pub(crate) async fn reload(&self) -> Result<(), ReloadError> {
        self.reload_from(ReloadSource::Operator).await
    }

    /// The same for whoever reaches the web side, which may be anybody: once a second on average, and not while another
    /// is in progress. It goes on to its end when the caller leaves.
    ///
    /// # Errors
    ///
    /// If it is too early, or as [`reload`](Self::reload).
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

    /// Makes new clients whenever a file of certificates that a URI names has changed and stays so for one look more: who
    /// writes one may not be done. What cannot be used is said once, and changes nothing.
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
                            "the TLS files of a URI have changed and are refused; what they held before holds"
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

    /// As it is, with what the files of certificates hold now.
    async fn reconnect_with_new_tls(&self) -> Result<(), StartError> {
        let current = self.current.lock().await;
        let plan = self.deployments.plan(&current.config).await?;
        self.deployments.apply(plan).await;
        Ok(())
    }

    /// All files, on a thread where that may block.
    async fn read(&self, current: &Config) -> Result<(Config, WebPolicy), LoadError> {
        let (load, current) = (self.load.clone(), current.clone());
        let loading = tokio::task::spawn_blocking(move || {
            let config = match load {
                None => current,
                Some(load) => load()?,
            };
            // They are read again where nothing may block: this is where a disk that hangs is found out.
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

    /// Says whether that changes anything.
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
                tracing::warn!(name, "a change of this takes a restart");
            }
        }
        current.read = config.clone();
        // What is in force stays what it was where it takes a restart.
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
