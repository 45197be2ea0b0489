//! Access control of the web side: TLS, users, and limits. The files are read again when they change.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use txnscope_catalog::FileError;

use super::SCRAPE_TIMEOUT;
use super::connections::Connection;
use super::logins::{LoginOutcome, Logins};
use super::origin::has_allowed_host;
use super::peer::Peer;
use super::policy::WebPolicy;
use super::users::{Credentials, Users};
use crate::config::Config;
use crate::reload::ReloadStatus;

/// How often the files are checked for changes. Certificates are renewed on disk without a notification.
const RECHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The policy in force, with counters of running requests.
#[derive(Debug)]
pub(crate) struct AccessControl {
    policy: RwLock<Arc<WebPolicy>>,
    limits: RwLock<Limits>,
    requests: AtomicUsize,
    /// Probes wait for MongoDB, and so have a limit of their own.
    probes: AtomicUsize,
    logins: Arc<Logins>,
    status: Arc<ReloadStatus>,
}

/// The limits of the configuration.
#[derive(Debug, Clone)]
struct Limits {
    max_requests: usize,
    /// Prometheus may probe all targets at the same time.
    max_probes: usize,
    allowed_hosts: Arc<[String]>,
}

impl Limits {
    fn of(config: &Config) -> Self {
        let max_probes = match config.max_requests {
            0 => 0,
            limit => limit.max(2 * config.probes.len()),
        };
        Self {
            max_requests: config.max_requests,
            max_probes,
            allowed_hosts: config.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        }
    }
}

impl AccessControl {
    /// # Errors
    ///
    /// If the web configuration file, or a file that it names, cannot be used.
    pub(crate) fn new(
        config: &Config,
        logins: Arc<Logins>,
        status: Arc<ReloadStatus>,
    ) -> Result<Self, FileError> {
        let policy = WebPolicy::read(config.web_config_file.as_deref()).1?;
        policy.log_warnings();
        Ok(Self {
            policy: RwLock::new(Arc::new(policy)),
            limits: RwLock::new(Limits::of(config)),
            requests: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
            logins,
            status,
        })
    }

    pub(super) fn policy(&self) -> Arc<WebPolicy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn limits(&self) -> Limits {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again, without applying it.
    ///
    /// # Errors
    ///
    /// If the file, or one that it names, cannot be used, or if it would remove protection by being empty: it
    /// may be half written.
    pub(crate) async fn read(&self, file: Option<PathBuf>) -> Result<WebPolicy, FileError> {
        let reading = tokio::task::spawn_blocking(move || WebPolicy::read(file.as_deref()).1);
        let policy = reading
            .await
            .unwrap_or_else(|_| Err(FileError::new(std::path::Path::new(""), "reading it failed")))?;
        policy.check_may_replace(&self.policy())?;
        Ok(policy)
    }

    /// Applies a policy to all new connections and requests; if the TLS settings differ, open connections end after
    /// their current request. Returns whether anything has changed.
    pub(crate) fn apply(&self, policy: WebPolicy, config: &Config) -> bool {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Limits::of(config);
        let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        if (policy.digest, &policy.file) == (current.digest, &current.file) {
            return false;
        }
        policy.log_warnings();
        let lost = current.protections_lost_with(&policy);
        if !lost.is_empty() {
            let lost = lost.join(", ");
            tracing::warn!(lost, "the web side is less protected than before this reload");
        }
        policy.replace(&mut current);
        true
    }

    /// Applies a policy, if `before` is still in force.
    fn replace(&self, before: &Arc<WebPolicy>, policy: WebPolicy) -> bool {
        let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        let is_same = Arc::ptr_eq(&current, before);
        if is_same {
            policy.log_warnings();
            policy.replace(&mut current);
        }
        is_same
    }

    /// Reads the files again whenever they have changed and were the same at two consecutive checks, since a
    /// file may be half written. A rejected file is logged once, and changes nothing; so is one that would
    /// remove protection, which needs an explicit reload.
    pub(crate) async fn watch_files(self: Arc<Self>) {
        let mut followed = self.policy();
        let (mut seen, mut refused) = (None, None);
        loop {
            tokio::time::sleep(RECHECK_INTERVAL).await;
            let before = self.policy();
            if !Arc::ptr_eq(&before, &followed) {
                (seen, refused) = (None, None);
                followed = Arc::clone(&before);
            }
            let Some(file) = before.file.clone() else { continue };
            let reading = tokio::task::spawn_blocking(move || WebPolicy::read(Some(&file)));
            let read = tokio::select! {
                read = reading => read,
                // A file system that hangs must not block the check of the file that a reload has switched to.
                () = before.superseded() => continue,
            };
            let Ok((digest, read)) = read else { continue };
            if digest == before.digest {
                seen = None;
                if refused.take().is_some() {
                    self.status.set(true);
                    tracing::info!("the files of --web.config.file are again those that are in force");
                }
                continue;
            }
            if seen.replace(digest) != Some(digest) || refused == Some(digest) {
                continue;
            }
            match read.map(|policy| (before.protections_lost_with(&policy).join(", "), policy)) {
                Ok((lost, policy)) if lost.is_empty() => {
                    if self.replace(&before, policy) {
                        self.status.set(true);
                        tracing::info!("the files of --web.config.file have changed and are in force");
                    }
                    continue;
                }
                Ok((lost, _)) => tracing::error!(
                    lost,
                    "the files of --web.config.file have changed and would remove protection, which needs a reload \
                     (SIGHUP, or POST /-/reload); the previous ones stay in force"
                ),
                Err(error) => tracing::error!(
                    %error, "the files of --web.config.file have changed and are rejected; the previous ones stay in force"
                ),
            }
            self.status.set(false);
            refused = Some(digest);
        }
    }

    /// Authenticates a request.
    async fn authenticate(
        &self,
        users: &Users,
        headers: &HeaderMap,
        peer: Peer,
        connection: Option<&Connection>,
    ) -> Result<(), Response> {
        let login = match users.credentials(headers) {
            Credentials::Given(login) => login,
            Credentials::None => return Err(challenge()),
            Credentials::Malformed => {
                self.logins.note(LoginOutcome::Rejected, peer);
                return Err(challenge());
            }
        };
        let present = self.logins.register(peer, connection.map_or(0, |connection| connection.number));
        let is_scrape = headers.contains_key(SCRAPE_TIMEOUT);
        let ended = async {
            match connection {
                Some(connection) => connection.stop.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let checked = async {
            let outcome = self.logins.verify_login(login, &present, is_scrape).await;
            self.logins.note(outcome, peer);
            if outcome == LoginOutcome::Rejected {
                if let Some(connection) = connection {
                    connection.penalize();
                }
                tokio::time::sleep(present.penalty()).await;
            }
            outcome
        };
        tokio::select! {
            outcome = checked => match outcome {
                LoginOutcome::Accepted => Ok(()),
                LoginOutcome::Rejected => Err(challenge()),
                LoginOutcome::NotChecked => {
                    let text = "too many passwords are being checked; try again\n";
                    Err((StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "10")], text).into_response())
                }
            },
            () = ended => Err((StatusCode::SERVICE_UNAVAILABLE, "txnscope is stopping\n").into_response()),
        }
    }

    async fn handle(&self, policy: &Arc<WebPolicy>, mut request: Request, next: Next) -> Response {
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        let (peer, is_local) = match &connection {
            Some(connection) => (connection.peer, connection.is_local),
            None => (Peer::from(std::net::IpAddr::from([127, 0, 0, 1])), false),
        };
        let Limits { max_requests, max_probes, allowed_hosts } = self.limits();
        if !has_allowed_host(&request, &allowed_hosts, is_local) {
            let text = "the Host header has a name that is not allowed; if the name is right, allow it with \
                        --web.allowed-hosts\n";
            return (StatusCode::FORBIDDEN, text).into_response();
        }
        let mut policy = Arc::clone(policy);
        while let Some(users) = &policy.users {
            if let Err(refused) =
                self.authenticate(users, request.headers(), peer, connection.as_deref()).await
            {
                return refused;
            }
            // The users may have changed during the wait.
            let now = self.policy();
            if Arc::ptr_eq(&now, &policy) {
                break;
            }
            policy = now;
        }
        // An event stream ends when another policy is in force.
        request.extensions_mut().insert(policy);
        let (taken, limit, text) = match request.uri().path() {
            // Health checks must not depend on other load.
            "/-/healthy" | "/-/ready" => return next.run(request).await,
            "/probe" => (
                &self.probes,
                max_probes,
                "too many probes at once; --web.max-requests is the limit, or twice as many as there are targets\n",
            ),
            _ => {
                (&self.requests, max_requests, "too many requests at once; --web.max-requests is the limit\n")
            }
        };
        match RequestPermit::acquire(taken, limit) {
            Some(_permit) => next.run(request).await,
            None => (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response(),
        }
    }
}

fn challenge() -> Response {
    let challenge = [(WWW_AUTHENTICATE, "Basic")];
    (StatusCode::UNAUTHORIZED, challenge, "a user and a password are needed\n").into_response()
}

/// A permit to serve a request. Released when it is dropped, also when the client disconnects.
struct RequestPermit<'a>(&'a AtomicUsize);

impl<'a> RequestPermit<'a> {
    /// A permit, if there is one; `limit` 0 means no limit.
    fn acquire(taken: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let permit = Self(taken);
        let before = taken.fetch_add(1, Ordering::Relaxed);
        (limit == 0 || before < limit).then_some(permit)
    }
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The middleware that every request passes.
pub(super) async fn guard(
    State(access): State<Arc<AccessControl>>,
    request: Request,
    next: Next,
) -> Response {
    let policy = access.policy();
    let mut response = access.handle(&policy, request, next).await;
    let headers = response.headers_mut();
    for (name, value) in &policy.headers {
        headers.insert(name, value.clone());
    }
    response
}

#[cfg(test)]
mod tests;
