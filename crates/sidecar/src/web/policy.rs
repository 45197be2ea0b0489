//! The web policy: TLS, users and headers of `--web.config.file`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::HeaderMap;
use serde_saphyr::Location;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use txnscope_catalog::FileError;
use txnscope_mongo::{EXPOSED_SECRET, FILE_LIMIT, display_path, is_readable_by_all_users, read_file};

use super::file::{ClientAuth, Version, WebFile, error_at};
use super::headers;
use super::tls;
use super::users::Users;

/// The validated contents of the web configuration file.
pub(crate) struct WebPolicy {
    pub(super) file: Option<PathBuf>,
    /// The digest of all files that were read.
    pub(super) digest: [u8; 32],
    pub(super) headers: HeaderMap,
    pub(super) users: Option<Arc<Users>>,
    tls: Option<Arc<ServerConfig>>,
    client_auth: ClientAuth,
    min_version: Version,
    /// The file is empty.
    is_blank: bool,
    /// Files with secrets that all users of the machine can read.
    exposed: Vec<String>,
    /// Cancelled when another policy is in force.
    superseded: CancellationToken,
    /// The digest of the TLS settings and of the files that they name.
    tls_digest: [u8; 32],
    /// Cancelled when a policy with other TLS settings is in force. Shared by policies with the same ones.
    tls_superseded: CancellationToken,
}

impl WebPolicy {
    /// Returns a digest of all files as well, so that a change is noticed even if the file is rejected.
    pub(super) fn read(file: Option<&Path>) -> ([u8; 32], Result<Self, FileError>) {
        let mut digest = Sha256::new();
        let policy = Self::read_with(file, &mut digest);
        let digest = digest.finalize().into();
        (digest, policy.map(|policy| Self { digest, ..policy }))
    }

    fn read_with(file: Option<&Path>, digest: &mut Sha256) -> Result<Self, FileError> {
        let mut policy = Self {
            file: file.map(Path::to_owned),
            digest: [0; 32],
            tls: None,
            client_auth: ClientAuth::No,
            min_version: Version::Tls12,
            headers: headers::defaults(),
            users: None,
            is_blank: false,
            exposed: Vec::new(),
            superseded: CancellationToken::new(),
            tls_digest: [0; 32],
            tls_superseded: CancellationToken::new(),
        };
        let Some(file) = file else { return Ok(policy) };
        let (mut exposed, mut tls_digest) = (Vec::new(), Sha256::new());
        let mut read = |key: &str, path: &Path| {
            // Paths are relative to the file.
            let named = path;
            let path = file.parent().unwrap_or(Path::new("")).join(named);
            let bytes = read_file(&path, FILE_LIMIT).map_err(|error| {
                // A user may have put the key itself in place of its file name.
                let shown = if path == file { display_path(file, file) } else { display_path(named, &path) };
                match path == file {
                    true => FileError::new(Path::new(&shown), error.to_string()),
                    false => FileError::new(file, format!("{key}cannot use {shown}: {error}")),
                }
            });
            if key.starts_with("key_file") && is_readable_by_all_users(&path) {
                exposed.push(display_path(named, &path));
            }
            let of_tls = (path != file).then_some(&mut tls_digest);
            for digest in std::iter::once(&mut *digest).chain(of_tls) {
                digest.update(bytes.as_ref().map_or(0, |bytes| bytes.len() + 1).to_be_bytes());
                digest.update(bytes.as_deref().unwrap_or_default());
            }
            bytes
        };
        let name = file.file_name().ok_or_else(|| FileError::new(file, "this is no file"))?;
        let text = String::from_utf8(read("", Path::new(name))?)
            .map_err(|_| FileError::new(file, "it is not UTF-8"))?;
        policy.is_blank = is_blank(&text);
        let parsed = WebFile::parse(file, &text)?;
        if let Some(tls) = &parsed.tls_server_config {
            policy.tls = tls::server_config(file, tls, &mut read)?;
            if policy.tls.is_some() {
                tls_digest.update(format!("{tls:?}"));
                policy.tls_digest = tls_digest.finalize().into();
                (policy.client_auth, policy.min_version) = (tls.client_auth_type, tls.min_version);
            }
        }
        let holds_secrets = parsed.basic_auth_users.is_some()
            || parsed.tls_server_config.as_ref().is_some_and(|tls| tls.key.is_some());
        if holds_secrets && is_readable_by_all_users(file) {
            exposed.push(display_path(file, file));
        }
        policy.exposed = exposed;
        headers::add(&mut policy.headers, file, &parsed.http_server_config.headers)?;
        if let Some(users) = parsed.basic_auth_users.filter(|users| !users.is_empty()) {
            let places: BTreeMap<_, _> =
                users.iter().map(|(name, hash)| (name.clone(), hash.referenced)).collect();
            let hashes: BTreeMap<_, _> = users.into_iter().map(|(name, hash)| (name, hash.value)).collect();
            // The name is not repeated: name and hash may be swapped.
            let users = Users::new(hashes).map_err(|name| {
                let what = "basic_auth_users: a user has an invalid bcrypt hash; `htpasswd -nBC 10 \"\"` \
                            makes one";
                let place = places.get(&name).copied().unwrap_or(Location::UNKNOWN);
                error_at(file, place, what)
            })?;
            policy.users = Some(Arc::new(users));
        }
        Ok(policy)
    }

    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// Completes when another policy is in force.
    pub(super) async fn superseded(&self) {
        self.superseded.cancelled().await;
    }

    /// Completes when a policy with other TLS settings is in force. Until then a connection may continue: users,
    /// headers and limits are those in force at each request.
    pub(super) async fn tls_superseded(&self) {
        self.tls_superseded.cancelled().await;
    }

    /// Replaces the current policy.
    pub(super) fn replace(mut self, current: &mut Arc<Self>) {
        if self.tls_digest == current.tls_digest {
            self.tls_superseded = current.tls_superseded.clone();
        } else {
            current.tls_superseded.cancel();
        }
        std::mem::replace(current, Arc::new(self)).superseded.cancel();
    }

    /// The protections that this policy has and the other lacks.
    pub(super) fn protections_lost_with(&self, others: &Self) -> Vec<&'static str> {
        let mut lost = Vec::new();
        let mut compare = |is_lost: bool, what| lost.extend(is_lost.then_some(what));
        compare(self.users.is_some() && others.users.is_none(), "users (basic_auth_users)");
        compare(self.tls.is_some() && others.tls.is_none(), "TLS (tls_server_config)");
        compare(self.client_auth > others.client_auth, "client certificates (client_auth_type)");
        compare(
            others.tls.is_some() && self.min_version > others.min_version,
            "the least version of TLS (min_version)",
        );
        lost
    }

    /// Checks whether a reload may replace the other policy with this one.
    ///
    /// # Errors
    ///
    /// If the policy removes protection without an explicit file, since no file is configured any more, or the
    /// file is empty: it may be half written.
    pub(super) fn check_may_replace(&self, others: &Self) -> Result<(), FileError> {
        let lost = others.protections_lost_with(self).join(", ");
        let how = match (&self.file, &others.file) {
            _ if lost.is_empty() => return Ok(()),
            (Some(file), _) if self.is_blank => (file, "the file is empty"),
            (None, Some(file)) => (file, "the file is no longer named by web.config.file"),
            (_, _) => return Ok(()),
        };
        let (file, what) = how;
        let what = format!("{what}, which would switch off {lost}; write {{}} into it to mean that");
        Err(FileError::new(file, what))
    }

    /// Logs warnings about the files.
    pub(super) fn log_warnings(&self) {
        for file in &self.exposed {
            tracing::warn!(file, "{EXPOSED_SECRET}");
        }
        if self.is_blank {
            tracing::warn!("the file of --web.config.file is empty: neither TLS nor users are asked for");
        }
    }
}

/// Whether the text consists of comments only.
fn is_blank(text: &str) -> bool {
    text.trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with('#') || line == "---" || line == "...")
}

impl fmt::Debug for WebPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("tls", &self.tls.is_some())
            .field("users", &self.users)
            .finish_non_exhaustive()
    }
}
