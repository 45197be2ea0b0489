//! How the web side may be used: over TLS or not, by whom, by how many at once. Re-read when its files change.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_saphyr::Location;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::ServerConfig;
use txnscope_mongo::shown_path;

use super::file::{HeadersFile, WebConfigError, WebFile};
use super::tls;
use super::users::Users;
use crate::reload::ReloadRecord;

/// How often the files are looked at. Certificates are renewed on disk, and nobody tells us.
const LOOK: Duration = Duration::from_secs(2);

/// The rules in force.
#[derive(Debug)]
pub(crate) struct Access {
    rules: RwLock<Arc<Rules>>,
    /// What the files held when they were last read, whether they were accepted or not.
    seen: Mutex<[u8; 32]>,
    max_requests: AtomicUsize,
    in_flight: AtomicUsize,
    record: Arc<ReloadRecord>,
}

/// What the file says, checked.
pub(crate) struct Rules {
    file: Option<PathBuf>,
    digest: [u8; 32],
    pub(super) tls: Option<Arc<ServerConfig>>,
    headers: HeaderMap,
    users: Option<Arc<Users>>,
}

impl Access {
    /// # Errors
    ///
    /// If the file, or one that it names, cannot be read or used.
    pub(crate) fn new(
        file: Option<&Path>,
        max_requests: usize,
        record: Arc<ReloadRecord>,
    ) -> Result<Self, WebConfigError> {
        let rules = Rules::read(file).1?;
        Ok(Self {
            seen: Mutex::new(rules.digest),
            rules: RwLock::new(Arc::new(rules)),
            max_requests: AtomicUsize::new(max_requests),
            in_flight: AtomicUsize::new(0),
            record,
        })
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file anew, and changes nothing yet.
    ///
    /// # Errors
    ///
    /// If it, or one that it names, cannot be read or used.
    pub(crate) async fn read(&self, file: Option<PathBuf>) -> Result<Rules, WebConfigError> {
        let reading = tokio::task::spawn_blocking(move || Rules::read(file.as_deref()));
        reading
            .await
            .map_or_else(|_| Err(WebConfigError::new(Path::new(""), "reading it failed")), |(_, read)| read)
    }

    /// From now on, for every new connection and request.
    pub(crate) fn enforce(&self, rules: Rules, max_requests: usize) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = rules.digest;
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.max_requests.store(max_requests, Ordering::Relaxed);
    }

    /// Reads the files again whenever they have changed. What is not accepted is said once, and changes nothing.
    pub(crate) async fn follow_files(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(file) = self.rules().file.clone() else { continue };
            let reading = tokio::task::spawn_blocking(move || Rules::read(Some(&file)));
            let Ok((digest, read)) = reading.await else { continue };
            if std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), digest)
                == digest
            {
                continue;
            }
            self.record.note(read.is_ok());
            match read {
                Ok(rules) => {
                    *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
                    tracing::info!("the files of --web.config.file have changed and are in force");
                }
                Err(error) => tracing::error!(
                    %error, "the files of --web.config.file have changed and are refused; what they said before holds"
                ),
            }
        }
    }

    /// A place among the requests that are served at once, if there is one.
    fn enter(self: &Arc<Self>) -> Option<Place> {
        let place = Place(Arc::clone(self));
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let most = self.max_requests.load(Ordering::Relaxed);
        (most == 0 || before < most).then_some(place)
    }
}

/// Given back when it is dropped, and so also when the caller leaves.
struct Place(Arc<Access>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What every request passes.
pub(super) async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let rules = access.rules();
    let mut response = match &rules.users {
        Some(users) if !users.admit(request.headers()).await => {
            let challenge = [(WWW_AUTHENTICATE, "Basic")];
            (StatusCode::UNAUTHORIZED, challenge, "a user and a password are needed\n").into_response()
        }
        Some(_) | None => match access.enter() {
            Some(_place) => next.run(request).await,
            None => {
                let text = "too many requests at once; --web.max-requests is the limit\n";
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response()
            }
        },
    };
    response.headers_mut().extend(rules.headers.clone());
    response
}

impl Rules {
    /// With a digest of all that was read, so that a change is seen also where it cannot be used.
    fn read(file: Option<&Path>) -> ([u8; 32], Result<Self, WebConfigError>) {
        let mut digest = Sha256::new();
        let rules = Self::read_with(file, &mut digest);
        let digest = digest.finalize().into();
        (digest, rules.map(|rules| Self { digest, ..rules }))
    }

    fn read_with(file: Option<&Path>, digest: &mut Sha256) -> Result<Self, WebConfigError> {
        let mut rules = Self {
            file: file.map(Path::to_owned),
            digest: [0; 32],
            tls: None,
            headers: HeaderMap::new(),
            users: None,
        };
        let Some(file) = file else { return Ok(rules) };
        let mut read = |key: &str, path: &Path| {
            // Paths in the file are as seen from the file.
            let named = path;
            let path = file.parent().unwrap_or(Path::new("")).join(named);
            let bytes = std::fs::read(&path).map_err(|error| {
                // What stands in the place of a name may be the key itself.
                let shown = if path == file { shown_path(file, file) } else { shown_path(named, &path) };
                match path == file {
                    true => WebConfigError::new(Path::new(&shown), error.to_string()),
                    false => WebConfigError::new(file, format!("{key}cannot use {shown}: {error}")),
                }
            });
            digest.update(bytes.as_ref().map_or(0, |bytes| bytes.len() + 1).to_be_bytes());
            digest.update(bytes.as_deref().unwrap_or_default());
            bytes
        };
        let name = file.file_name().ok_or_else(|| WebConfigError::new(file, "this is no file"))?;
        let text = String::from_utf8(read("", Path::new(name))?)
            .map_err(|_| WebConfigError::new(file, "it is not UTF-8"))?;
        let parsed = WebFile::parse(file, &text)?;
        if let Some(tls) = &parsed.tls_server_config {
            rules.tls = tls::server_config(file, tls, &mut read)?;
        }
        rules.headers = headers(file, &parsed.http_server_config.headers)?;
        if let Some(users) = parsed.basic_auth_users.filter(|users| !users.is_empty()) {
            let places: BTreeMap<_, _> =
                users.iter().map(|(name, hash)| (name.clone(), hash.referenced)).collect();
            let hashes: BTreeMap<_, _> = users.into_iter().map(|(name, hash)| (name, hash.value)).collect();
            // The name is not repeated: one may stand in the other's place.
            let users = Users::new(hashes).map_err(|name| {
                let what = "basic_auth_users: what stands here for a user is no bcrypt hash; `htpasswd -nBC 10 \"\"` \
                            makes one";
                let place = places.get(&name).copied().unwrap_or(Location::UNKNOWN);
                WebConfigError::at(file, place, what)
            })?;
            rules.users = Some(Arc::new(users));
        }
        Ok(rules)
    }
}

fn headers(file: &Path, wanted: &HeadersFile) -> Result<HeaderMap, WebConfigError> {
    let HeadersFile {
        strict_transport_security,
        x_content_type_options,
        x_frame_options,
        x_xss_protection,
        content_security_policy,
    } = wanted;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("strict-transport-security", strict_transport_security),
        ("x-content-type-options", x_content_type_options),
        ("x-frame-options", x_frame_options),
        ("x-xss-protection", x_xss_protection),
        ("content-security-policy", content_security_policy),
    ] {
        let Some(value) = value.as_ref().filter(|value| !value.is_empty()) else { continue };
        let wrong =
            || WebConfigError::new(file, format!("http_server_config: the value of {name} is no header's"));
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).map_err(|_| wrong())?);
    }
    Ok(headers)
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("tls", &self.tls.is_some())
            .field("users", &self.users)
            .finish_non_exhaustive()
    }
}
