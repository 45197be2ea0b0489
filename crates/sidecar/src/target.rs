//! A deployment to monitor, with its credentials. The contents are never shown.

use std::collections::BTreeSet;
use std::fmt;

use mongodb::options::ClientOptions;
use txnscope_mongo::{Credentials, Ignored, TlsFiles, Uri, UriError};

use crate::error::StartError;

/// A deployment: its URI, and credentials if the URI has none.
#[derive(Clone, PartialEq)]
pub struct Target {
    uri: Result<Uri, UriError>,
    credentials: Option<Credentials>,
    /// The auth modules that a probe may select. `None`: any.
    auth_modules: Option<BTreeSet<String>>,
}

impl Target {
    /// A deployment by its MongoDB URI. All members of its replica set are discovered, unless the URI has
    /// `directConnection=true`: then only this member is monitored, under this address. Each mongos must be
    /// listed.
    ///
    /// Errors in the URI are returned by [`check`](Self::check).
    #[must_use]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "accepts any string type, and drops a text that may hold a secret"
    )]
    pub fn new(uri: impl Into<String>) -> Self {
        Self { uri: Uri::parse(&uri.into()), credentials: None, auth_modules: None }
    }

    /// Sets the credentials, if the URI has none.
    #[must_use]
    pub fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..self }
    }

    /// Restricts the auth modules that a probe may select with `&auth_module=`. Without this, a probe may select
    /// any that is configured, and so have its password used at this deployment.
    #[must_use]
    pub fn with_auth_modules(self, names: impl IntoIterator<Item = String>) -> Self {
        Self { auth_modules: Some(names.into_iter().collect()), ..self }
    }

    /// Whether a probe may select this auth module.
    pub(crate) fn may_use(&self, auth_module: &str) -> bool {
        self.auth_modules.as_ref().is_none_or(|names| names.contains(auth_module))
    }

    /// Sets the credentials if the URI has none. A URI with a user, or with a mechanism that needs no password
    /// (`MONGODB-X509`), is left as it is.
    #[must_use]
    pub fn with_default_credentials(self, credentials: &Credentials) -> Self {
        if self.uri.as_ref().is_ok_and(Uri::takes_credentials) {
            self.with_credentials(credentials.clone())
        } else {
            self
        }
    }

    /// Whether the URI contains secrets that must not appear in `ps`. A malformed URI counts as secret.
    #[must_use]
    pub fn has_secret_in_uri(&self) -> bool {
        self.uri.as_ref().map_or(true, Uri::contains_secret)
    }

    /// The options of the URI that have no effect here, by name: other drivers know them.
    #[must_use]
    pub fn ignored_options(&self) -> &[Ignored] {
        self.uri.as_ref().map_or(&[], Uri::ignored)
    }

    /// Validates the URI and the credentials, without contacting any server.
    ///
    /// # Errors
    ///
    /// If the URI is malformed or has unsupported options. The error quotes nothing of it.
    pub fn check(&self) -> Result<(), StartError> {
        let uri = self.uri()?;
        if uri.is_load_balanced() {
            let advice = ": it reaches one server or another: name the members instead";
            return Err(UriError::Option { name: "loadBalanced", advice }.into());
        }
        Ok(uri.check(self.credentials.as_ref())?)
    }

    /// The driver's options for a client of the whole deployment. Resolves an SRV name through DNS.
    ///
    /// # Errors
    ///
    /// If the URI is malformed, has unsupported options, names unusable files, or DNS does not answer. The error
    /// quotes nothing of it.
    pub async fn options(&self) -> Result<ClientOptions, StartError> {
        self.check()?;
        Ok(self.uri()?.options(self.credentials.as_ref()).await?)
    }

    /// The contents of the TLS files that the URI names.
    pub(crate) fn tls_files(&self) -> Result<TlsFiles, StartError> {
        Ok(self.uri()?.tls_files()?)
    }

    /// Whether the private key file of the URI is readable by all users of the machine.
    #[must_use]
    pub fn key_is_readable_by_all_users(&self) -> bool {
        self.uri.as_ref().is_ok_and(Uri::key_is_readable_by_all_users)
    }

    pub(crate) fn uri(&self) -> Result<&Uri, StartError> {
        self.uri.as_ref().map_err(|error| error.clone().into())
    }
}

impl<T: Into<String>> From<T> for Target {
    fn from(uri: T) -> Self {
        Self::new(uri)
    }
}

/// Without the URI, which may hold a password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_debug_output_has_no_secret() {
        let target =
            Target::new("mongodb://user:hunter2@db1/").with_credentials(Credentials::new("u", "hunter2"));
        assert!(!format!("{target:?} {:?} {:?}", target.credentials, target.uri).contains("hunter2"));
    }

    #[test]
    fn malformed_uri_counts_as_secret_and_load_balancer_is_rejected() {
        for secret in ["mongodb://user:hun/ter2@db1/", "mongo://user:hunter2@db1", "user:hunter2@db1", ""] {
            assert!(Target::new(secret).has_secret_in_uri(), "{secret}");
        }
        assert!(!Target::new("mongodb://db1:27017,db2:27017/?replicaSet=rs0").has_secret_in_uri());
        let error = Target::new("mongodb://db1/?loadBalanced=true").check().unwrap_err().to_string();
        assert!(error.contains("loadBalanced"), "{error}");
    }

    #[test]
    fn default_credentials_do_not_replace_the_uri_s() {
        let who = Credentials::new("u", "hunter2");
        for (uri, taken) in [
            ("mongodb://db1/", true),
            ("mongodb://db1/?authMechanism=PLAIN", true),
            ("mongodb://other:x@db1/", false),
            ("mongodb://db1/?authMechanism=MONGODB-X509&tls=true", false),
        ] {
            let target = Target::new(uri).with_default_credentials(&who);
            assert_eq!(target.credentials.is_some(), taken, "{uri}");
            assert!(target.check().is_ok(), "{uri}");
        }
    }
}
