//! The configuration, read again while the sidecar runs: all of it is checked first, and then put in force.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::Config;
use crate::error::StartError;
use crate::targets::Targets;
use crate::web::{Access, Rules};

/// How often the files of certificates are looked at. They are renewed on disk, and nobody tells us.
const LOOK: Duration = Duration::from_secs(2);

/// The least time between two reloads that the web side asks for, on average: two may follow one another at once.
const BETWEEN_RELOADS: Duration = Duration::from_secs(1);

/// How long reading the files may take. A network file system may hang for ever.
const READING: Duration = Duration::from_secs(30);

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
    TooOften,
    Refused(ReloadError),
}

/// Who asks for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Whoever runs the process: each reload is in the log.
    ByOperator,
    /// Whoever reaches the web side: only what changes is in the log.
    ByWeb,
}

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
    current: Mutex<Current>,
    /// From when on the web side has used up none of its reloads.
    asked_by_web: std::sync::Mutex<Option<Instant>>,
    targets: Arc<Targets>,
    access: Arc<Access>,
    record: Arc<ReloadRecord>,
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
        targets: Arc<Targets>,
        access: Arc<Access>,
        record: Arc<ReloadRecord>,
    ) -> Self {
        let current = Current { read: config.clone(), config, refused: None };
        let (current, asked_by_web) = (Mutex::new(current), std::sync::Mutex::default());
        Self { load, current, asked_by_web, targets, access, record }
    }

    /// # Errors
    ///
    /// If the configuration cannot be read or is not accepted. Nothing has changed then.
    pub(crate) async fn reload(&self) -> Result<(), ReloadError> {
        self.read_again(Asked::ByOperator).await
    }

    /// The same for whoever reaches the web side, which may be anybody: once a second on average, and not while another
    /// is in progress. It goes on to its end when the caller leaves.
    ///
    /// # Errors
    ///
    /// If it is too early, or as [`reload`](Self::reload).
    pub(crate) async fn reload_for_the_web(self: &Arc<Self>) -> Result<(), WebReloadError> {
        {
            let mut asked = self.asked_by_web.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let from = asked.map_or(now, |from| from.max(now));
            if from - now > BETWEEN_RELOADS || self.current.try_lock().is_err() {
                return Err(WebReloadError::TooOften);
            }
            *asked = Some(from + BETWEEN_RELOADS);
        }
        let reloader = Arc::clone(self);
        let reloading = tokio::spawn(async move { reloader.read_again(Asked::ByWeb).await });
        match reloading.await {
            Ok(ended) => ended.map_err(WebReloadError::Refused),
            Err(error) => Err(WebReloadError::Refused(ReloadError(error.into()))),
        }
    }

    async fn read_again(&self, asked: Asked) -> Result<(), ReloadError> {
        let mut current = self.current.lock().await;
        match self.replace(&mut current).await {
            Ok(has_changed) => {
                self.record.note(true);
                let was_refused = current.refused.take().is_some();
                if has_changed || was_refused {
                    tracing::info!("the configuration has been read again");
                } else if asked == Asked::ByOperator {
                    tracing::info!("the configuration has been read again, and nothing in it has changed");
                }
                Ok(())
            }
            Err(error) => {
                self.record.note(false);
                let error = ReloadError(error);
                let text = error.to_string();
                if asked == Asked::ByOperator || current.refused.as_ref() != Some(&text) {
                    tracing::error!("{text}");
                }
                current.refused = Some(text);
                Err(error)
            }
        }
    }

    /// Makes new clients whenever a file of certificates that a URI names has changed and stays so for one look more: who
    /// writes one may not be done. What cannot be used is said once, and changes nothing.
    pub(crate) async fn follow_certificates(self: Arc<Self>) {
        let (mut seen, mut said) = (Ok(Vec::new()), None);
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.targets.renewed().await.map_err(|error| error.to_string());
            let is_settled = now == seen;
            seen.clone_from(&now);
            let renewed = match now {
                Ok(renewed) if renewed.is_empty() => Ok(false),
                _ if !is_settled => continue,
                Ok(_) => self.renew().await.map(|()| true).map_err(|error| error.to_string()),
                Err(error) => Err(error),
            };
            match renewed {
                Ok(true) => tracing::info!("renewed TLS files of a URI are in force for new connections"),
                Ok(false) if said.is_none() => continue,
                Ok(false) => {}
                Err(error) => {
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
        let plan = self.targets.plan(&current.config).await?;
        self.targets.follow(plan).await;
        Ok(())
    }

    /// All files, on a thread where that may block.
    async fn read(&self, current: &Config) -> Result<(Config, Rules), LoadError> {
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
        let rules = self.access.read(config.web_config_file.clone()).await?;
        Ok((config, rules))
    }

    /// Says whether that changes anything.
    async fn replace(&self, current: &mut Current) -> Result<bool, LoadError> {
        let reading = tokio::time::timeout(READING, self.read(&current.config));
        let (config, rules) = reading.await.map_err(|_| {
            format!(
                "reading the files took longer than {READING:?}: does a disk or a network file system hang?"
            )
        })??;
        let plan = self.targets.plan(&config).await?;
        let mut has_changed = plan.is_news() || config != current.read;
        self.targets.follow(plan).await;
        has_changed |= self.access.enforce(rules, &config);
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
