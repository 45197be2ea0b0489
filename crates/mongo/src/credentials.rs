//! A user and a password that are given apart from the URI.

use std::fmt;

use crate::error::UriError;
use crate::line::clean;

/// A user and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) source: Option<String>,
}

impl Credentials {
    /// A user of the URI's `authSource`; without one, of the database that the URI's path names, or as its
    /// `authMechanism` has it: `$external` for `PLAIN`, else `admin`.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: password.into(), source: None }
    }

    /// A user of that database.
    #[must_use]
    pub fn of_database(self, name: impl Into<String>) -> Self {
        Self { source: Some(name.into()), ..self }
    }

    pub(crate) fn check(&self) -> Result<(), UriError> {
        let parts = [
            ("user's name", Some(&self.username)),
            ("password", Some(&self.password)),
            ("name of the user's database", self.source.as_ref()),
        ];
        for (what, text) in parts {
            text.map_or(Ok(()), |text| clean(text)).map_err(|error| UriError::Credentials { what, error })?;
        }
        Ok(())
    }
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}
