//! The configuration, read again while the sidecar runs: all of it is checked first, and then put in force.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;

use crate::config::Config;
use crate::error::StartError;
use crate::targets::Targets;
use crate::web::Access;

/// How often the files of certificates are looked at. They are renewed on disk, and nobody tells us.
const LOOK: Duration = Duration::from_secs(2);

/// Any error, for the log.
pub type LoadError = Box<dyn std::error::Error + Send + Sync>;

/// Reads the configuration anew, wherever it comes from.
pub(crate) type Loader = dyn Fn() -> Result<Config, LoadError> + Send + Sync;

/// Why the configuration that was re-read is not in force. The one before is, unchanged.
#[derive(Debug, thiserror::Error)]
#[error("the configuration was not accepted, and the one before stays in force: {}", .0)]
pub struct ReloadError(LoadError);

/// How the last reload ended.
#[derive(Debug)]
pub(crate) struct ReloadRecord {
    successful: AtomicBool,
    /// Milliseconds since 1970.
    at: AtomicU64,
}

impl ReloadRecord {
    pub(crate) fn new() -> Self {
        let record = Self { successful: AtomicBool::new(true), at: AtomicU64::new(0) };
        record.note(true);
        record
    }

    pub(crate) fn note(&self, successful: bool) {
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
    current: Mutex<Config>,
    targets: Arc<Targets>,
    access: Arc<Access>,
    record: Arc<ReloadRecord>,
}

impl Reloader {
    pub(crate) fn new(
        config: Config,
        load: Option<Arc<Loader>>,
        targets: Arc<Targets>,
        access: Arc<Access>,
        record: Arc<ReloadRecord>,
    ) -> Self {
        Self { load, current: Mutex::new(config), targets, access, record }
    }

    /// # Errors
    ///
    /// If the configuration cannot be read or is not accepted. Nothing has changed then.
    pub(crate) async fn reload(&self) -> Result<(), ReloadError> {
        let mut current = self.current.lock().await;
        match self.replace(&mut current).await {
            Ok(()) => {
                self.record.note(true);
                tracing::info!("the configuration has been read again");
                Ok(())
            }
            Err(error) => {
                self.record.note(false);
                let error = ReloadError(error);
                tracing::error!("{error}");
                Err(error)
            }
        }
    }

    /// Makes new clients whenever a file of certificates that a URI names has changed. What cannot be used is said once,
    /// and changes nothing.
    pub(crate) async fn follow_certificates(self: Arc<Self>) {
        let mut said = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let renewed = match self.targets.renewed().await {
                Ok(false) => Ok(false),
                Ok(true) => self.renew().await.map(|()| true),
                Err(error) => Err(error),
            };
            match renewed {
                Ok(true) => tracing::info!("renewed TLS files of a URI are in force for new connections"),
                Ok(false) if said.is_none() => continue,
                Ok(false) => {}
                Err(error) => {
                    let error = error.to_string();
                    if said.as_ref() != Some(&error) {
                        self.record.note(false);
                        tracing::error!(
                            error,
                            "the TLS files of a URI have changed and are refused; what they held before holds"
                        );
                        said = Some(error);
                    }
                    continue;
                }
            }
            said = None;
            self.record.note(true);
        }
    }

    /// As it is, with what the files of certificates hold now.
    async fn renew(&self) -> Result<(), StartError> {
        let current = self.current.lock().await;
        let plan = self.targets.plan(&current).await?;
        self.targets.follow(plan).await;
        Ok(())
    }

    async fn replace(&self, current: &mut Config) -> Result<(), LoadError> {
        let config = match &self.load {
            None => current.clone(),
            Some(load) => {
                let load = Arc::clone(load);
                tokio::task::spawn_blocking(move || load()).await??
            }
        };
        config.validate()?;
        let plan = self.targets.plan(&config).await?;
        let rules = self.access.read(config.web_config_file.clone()).await?;
        self.targets.follow(plan).await;
        self.access.enforce(rules, config.max_requests);
        for (name, is_new) in [
            ("web.listen-address", config.listen_addresses != current.listen_addresses),
            ("web.systemd-socket", config.systemd_socket != current.systemd_socket),
            ("web.telemetry-path", config.telemetry_path != current.telemetry_path),
        ] {
            if is_new {
                tracing::warn!(name, "a change of this takes a restart");
            }
        }
        // What is in force stays what it was where it takes a restart.
        let Config { listen_addresses, systemd_socket, telemetry_path, .. } = std::mem::take(current);
        *current = Config { listen_addresses, systemd_socket, telemetry_path, ..config };
        Ok(())
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}
