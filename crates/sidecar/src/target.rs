//! A deployment to watch, and who to be there. Read once, and never shown.

use std::fmt;

use mongodb::options::ClientOptions;

use crate::error::StartError;
use crate::uri::Uri;

/// A deployment: its URI, and credentials if the URI has none.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    uri: String,
    credentials: Option<Credentials>,
}

impl Target {
    /// The deployment, in MongoDB's form. Every member of its replica set is found from it, unless it says
    /// `directConnection=true`: then this one member is watched, under the address that stands here. Each mongos
    /// that it names is watched.
    #[must_use]
    pub fn new(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), credentials: None }
    }

    /// As somebody whom the URI does not name.
    #[must_use]
    pub fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..self }
    }

    /// Whether the URI itself has something that must not be seen in `ps`: a password, say.
    #[must_use]
    pub fn has_secret_in_uri(&self) -> bool {
        let rest = self.uri.split_once("://").map_or(self.uri.as_str(), |(_, rest)| rest);
        // A password with an unescaped / or ? in it is malformed, and secret all the same.
        let (before, options) = rest.rsplit_once('?').unwrap_or((rest, ""));
        let user = before.rsplit_once('@').map(|(user, _)| user);
        let options = options.to_ascii_lowercase();
        user.is_some_and(|user| user.contains(':'))
            || options.contains('@')
            || ["password=", "authmechanismproperties="].iter().any(|name| options.contains(name))
    }

    /// Whether the URI says who we are.
    #[must_use]
    pub fn names_a_user(&self) -> bool {
        self.uri.contains('@')
    }

    /// Checks its form, without speaking to anybody.
    ///
    /// # Errors
    ///
    /// If the URI is malformed or asks for what cannot be had. The error quotes no secret.
    pub fn check(&self) -> Result<(), StartError> {
        Uri::parse(self).map(drop)
    }

    /// What the driver needs to reach the deployment as a whole. Asks DNS if the URI has a name that only DNS knows.
    ///
    /// # Errors
    ///
    /// If the URI is malformed, asks for what cannot be had, or DNS does not answer. The error quotes no secret.
    pub async fn options(&self) -> Result<ClientOptions, StartError> {
        Uri::parse(self)?.resolve().await
    }

    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
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

/// A user and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) source: Option<String>,
}

impl Credentials {
    /// A user of `admin`, unless the URI has an `authSource`.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: password.into(), source: None }
    }

    /// A user of that database.
    #[must_use]
    pub fn of_database(self, name: impl Into<String>) -> Self {
        Self { source: Some(name.into()), ..self }
    }
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_debug_forms_hold_no_secret() {
        let target =
            Target::new("mongodb://user:hunter2@db1/").with_credentials(Credentials::new("u", "hunter2"));
        assert!(!format!("{target:?} {:?}", target.credentials()).contains("hunter2"));
    }

    #[test]
    fn what_must_not_be_seen_in_ps_is_recognised() {
        for secret in [
            "mongodb://user:hunter2@db1/",
            "mongodb://user:hun/ter2@db1/",
            "mongodb://user:hun?ter2@db1/",
            "mongo://user:hunter2@db1",
            "mongodb://user:@db1/",
            "user:hunter2@db1",
            "mongodb://db1/?tlsCertificateKeyFilePassword=hunter2",
            "mongodb://db1/?authMechanismProperties=AWS_SESSION_TOKEN:hunter2",
        ] {
            assert!(Target::new(secret).has_secret_in_uri(), "{secret}");
        }
        for open in ["mongodb://db1:27017,db2:27017/?replicaSet=rs0", "mongodb://CN%3Dclient@db1/", "", "://"]
        {
            assert!(!Target::new(open).has_secret_in_uri(), "{open}");
        }
    }
}
