//! The configuration file of `serve`, in TOML: the flags by their names, and settings that have no flag.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use txnscope_catalog::FileError;
use txnscope_mongo::{FILE_LIMIT, display_path, read_file};

use crate::config::sections::{Checks, Collectors, Log, MongoDb, Poll, Probe, Web};

/// The configuration file, whose keys and types are valid.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConfigFile {
    pub(crate) mongodb: MongoDb,
    pub(crate) targets: BTreeMap<String, Target>,
    pub(crate) auth_modules: BTreeMap<String, AuthModule>,
    pub(crate) web: Web,
    pub(crate) poll: Poll,
    #[serde(rename = "collector")]
    pub(crate) collectors: Collectors,
    pub(crate) probe: Probe,
    pub(crate) checks: Checks,
    pub(crate) log: Log,
    /// The path of the file, and its text.
    #[serde(skip)]
    origin: Option<(PathBuf, String)>,
}

/// A deployment that a probe can choose as its target.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    pub(crate) uri: Option<String>,
    pub(crate) uri_file: Option<PathBuf>,
    pub(crate) auth_module: Option<String>,
    /// The auth modules that a probe may choose instead; all of them, if this is missing.
    pub(crate) auth_modules: Option<Vec<String>>,
}

/// Credentials that a probe can choose.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthModule {
    pub(crate) username: String,
    pub(crate) password: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) auth_source: Option<String>,
}

/// Reads a file of TOML.
///
/// # Errors
///
/// If the file cannot be read, or is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, FileError> {
    // A path that does not exist may be anything, a secret included.
    let unreadable = |what: String| FileError::new(Path::new(&display_path(path, path)), what);
    let bytes = read_file(path, FILE_LIMIT).map_err(|error| unreadable(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))
}

/// Parses a file of TOML.
///
/// # Errors
///
/// If it is not TOML, or has an unknown key or an invalid value.
pub(crate) fn parse_toml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, FileError> {
    toml::from_str(text).map_err(|error| FileError::toml(path, text, error.span(), error.message()))
}

impl ConfigFile {
    /// Loads the file that a flag or a variable names. Without a path, the file is empty.
    ///
    /// # Errors
    ///
    /// As [`ConfigFile::read`].
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, FileError> {
        path.map_or_else(|| Ok(Self::default()), Self::read)
    }

    /// # Errors
    ///
    /// If the file cannot be read, is not TOML, or has an unknown key or an invalid value.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        Self::parse(path, read_text(path)?)
    }

    pub(crate) fn parse(path: &Path, text: String) -> Result<Self, FileError> {
        let mut file: Self = parse_toml(path, &text)?;
        file.origin = Some((path.to_owned(), text));
        file.web.config.file = file.web.config.file.as_deref().map(|path| file.resolve_path(path));
        file.checks.file = file.checks.file.as_deref().map(|path| file.resolve_path(path));
        Ok(file)
    }

    /// An error at the line of a value, which is found by the keys and the indexes that lead to it.
    pub(crate) fn error_at(&self, keys: &[&str], what: impl Into<String>) -> FileError {
        let (file, text) = self.origin.clone().unwrap_or_default();
        let root = DeTable::parse(&text).ok().map(|root| DeValue::Table(root.into_inner()));
        match root.and_then(|root| offset(&root, keys)) {
            Some(offset) => FileError::at(&file, &text, offset, what),
            None => FileError::new(&file, what),
        }
    }

    /// An error about a missing key.
    pub(crate) fn missing_key(&self, what: impl Into<String>) -> FileError {
        self.error_at(&[], what)
    }

    /// Resolves a path of the file: a relative path starts at the folder of the file.
    pub(crate) fn resolve_path(&self, path: &Path) -> PathBuf {
        let folder = self.origin.as_ref().and_then(|(file, _)| file.parent());
        folder.map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }
}

/// Where a value begins; `None` if it is not there.
fn offset(value: &DeValue<'_>, keys: &[&str]) -> Option<usize> {
    let (first, rest) = keys.split_first()?;
    let found = match value {
        DeValue::Table(table) => table.get(*first)?,
        DeValue::Array(list) => list.get(first.parse::<usize>().ok()?)?,
        _ => return None,
    };
    if rest.is_empty() { Some(found.span().start) } else { offset(found.get_ref(), rest) }
}

/// Leaves out the URI.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").finish_non_exhaustive()
    }
}

/// Leaves out the password.
impl fmt::Debug for AuthModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthModule").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        ConfigFile::parse(Path::new("txnscope.toml"), text.to_owned()).expect_err(text).to_string()
    }

    #[test]
    fn errors_name_the_line_and_the_closest_valid_name() {
        for (text, expected) in [
            (
                "[poll]\nintervall = \"5s\"",
                "txnscope.toml:2: unknown key `intervall`; did you mean `interval`?",
            ),
            (
                "[web]\n\nlisten_adress = []",
                "txnscope.toml:3: unknown key `listen_adress`; did you mean `listen_address`?",
            ),
            ("[elsewhere]", "txnscope.toml:1: unknown key; valid are mongodb, targets"),
            ("[poll]\ninterval = 5", "txnscope.toml:2: expected a string, found an integer"),
            ("[poll]\ninterval = \"5\"", "txnscope.toml:2: use numbers with a unit"),
            ("[log]\nlevel = \"loud\"", "txnscope.toml:2: unknown value; valid are error, warn"),
            ("[log]\nlevel = \"warm\"", "unknown value `warm`; did you mean `warn`?"),
            ("[web]\nmax_requests = -1", "txnscope.toml:2: "),
            ("[web]\nconfig.fil = \"x\"", "txnscope.toml:2: unknown key `fil`; did you mean `file`?"),
            (
                "[targets.orders]\nuri = \"a\"\nuris = \"b\"",
                "txnscope.toml:3: unknown key `uris`; did you mean `uri`?",
            ),
            ("[auth_modules.a]\npassword = \"x\"", "missing field `username`"),
            ("a = \n", "txnscope.toml:1: "),
        ] {
            let said = error(text);
            assert!(said.contains(expected), "{text:?}: {said}");
        }
    }

    #[test]
    fn values_that_may_be_secrets_are_not_quoted() {
        for text in [
            "[mongodb]\nuri = \"mongodb://user:hunter2@db1/\"",
            "mongodb = \"hunter2\"",
            "[auth_modules]\nmonitor = \"hunter2, expected \\\", expected\"",
            "[auth_modules.monitor]\nusername = \"a\"\npassword = [\"hunter2\"]",
            "[auth_modules.monitor]\nusername = \"a\"\npassword = \"hunter2",
            "[mongodb]\npassword = hunter2",
            "[mongodb]\nhunter2 = 1",
            "[log]\nlevel = \"hunter2\"",
            "[hunter2]\n[hunter2]",
            "[mongodb]\npassword = 271828",
        ] {
            let said = error(text);
            assert!(!said.contains("hunter2") && !said.contains("271828"), "{text:?}: {said}");
            assert!(said.contains("txnscope.toml:"), "{text:?}: {said}");
        }
        let file = "[mongodb]\nuri = [\"mongodb://user:hunter2@db1/\"]\n[auth_modules.a]\nusername=\"a\"\npassword=\"hunter2\"";
        let file = ConfigFile::parse(Path::new("txnscope.toml"), file.to_owned()).unwrap();
        let ConfigFile { mongodb, targets, auth_modules, .. } = &file;
        assert!(!format!("{mongodb:?} {targets:?} {auth_modules:?}").contains("hunter2"));
    }

    #[test]
    fn errors_have_the_line_of_a_value() {
        let text = "[web]\nconfig.file = \"web.yml\"\nlisten_address = [\n\"a\",\n\"b\"]\n[targets.\"a.b\"]\nuri = \"c\"\n";
        let file = ConfigFile::parse(Path::new("/etc/txnscope.toml"), text.to_owned()).unwrap();
        for (keys, expected) in [
            (&["web", "listen_address", "1"][..], "/etc/txnscope.toml:5: x"),
            (&["web", "listen_address"], "/etc/txnscope.toml:3: x"),
            (&["web", "config", "file"], "/etc/txnscope.toml:2: x"),
            (&["targets", "a.b", "uri"], "/etc/txnscope.toml:7: x"),
            (&["targets", "a.b"], "/etc/txnscope.toml:6: x"),
            (&["poll", "interval"], "/etc/txnscope.toml: x"),
            (&[], "/etc/txnscope.toml: x"),
        ] {
            assert_eq!(file.error_at(keys, "x").to_string(), expected);
        }
        assert_eq!(file.web.config.file.as_deref(), Some(Path::new("/etc/web.yml")));
    }
}
