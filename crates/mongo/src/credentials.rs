//! Credentials that are given apart from the URI.

use std::fmt;

use crate::error::UriError;
use crate::secret_line::check_single_line;

/// A user name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) source: Option<String>,
}

impl Credentials {
    /// Credentials for the URI's `authSource`; without one, for the database in the URI's path, or the default
    /// of its `authMechanism`: `$external` for `PLAIN`, else `admin`.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: password.into(), source: None }
    }

    /// Sets the authentication database.
    #[must_use]
    pub fn with_auth_source(self, name: impl Into<String>) -> Self {
        Self { source: Some(name.into()), ..self }
    }

    pub(crate) fn check(&self) -> Result<(), UriError> {
        let parts = [
            ("user's name", Some(&self.username)),
            ("password", Some(&self.password)),
            ("name of the user's database", self.source.as_ref()),
        ];
        for (what, text) in parts {
            text.map_or(Ok(()), |text| check_single_line(text))
                .map_err(|error| UriError::Credentials { what, error })?;
        }
        Ok(())
    }
}

/// Does not show the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}
