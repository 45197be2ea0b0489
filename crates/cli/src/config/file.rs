//! The configuration file of `serve`, in TOML: the flags by their names, and settings that have no flag.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use toml::Spanned;
use txnscope_catalog::escape_line;
use txnscope_mongo::{FILE_LIMIT, display_path, read_file};

use crate::args::duration::duration;
use crate::args::nearest::nearest;
use crate::collectors::Collectors;
use crate::output::logging::{Level, LogFormat};

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

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MongoDb {
    pub(crate) uri: Vec<Spanned<String>>,
    pub(crate) uri_file: Vec<Spanned<PathBuf>>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Spanned<String>>,
    pub(crate) password_file: Option<Spanned<PathBuf>>,
}

/// A deployment that a probe can choose as its target.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    pub(crate) uri: Option<Spanned<String>>,
    pub(crate) uri_file: Option<Spanned<PathBuf>>,
    pub(crate) auth_module: Option<Spanned<String>>,
    /// The auth modules that a probe may choose instead; all of them, if this is missing.
    pub(crate) auth_modules: Option<Vec<Spanned<String>>>,
}

/// Credentials that a probe can choose.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthModule {
    pub(crate) username: String,
    pub(crate) password: Option<Spanned<String>>,
    pub(crate) password_file: Option<Spanned<PathBuf>>,
    pub(crate) auth_source: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Web {
    pub(crate) listen_address: Vec<Spanned<String>>,
    pub(crate) systemd_socket: Option<bool>,
    pub(crate) telemetry_path: Option<String>,
    pub(crate) config: WebConfig,
    pub(crate) max_requests: Option<usize>,
    pub(crate) allowed_hosts: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WebConfig {
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Poll {
    pub(crate) interval: Option<Time>,
    pub(crate) timeout: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Probe {
    pub(crate) idle_timeout: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Checks {
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) level: Option<Level>,
    pub(crate) format: Option<LogFormat>,
}

/// A duration in the format of the flags: 500ms, 5s, 1m.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time(pub(crate) Duration);

impl From<Time> for Duration {
    fn from(time: Time) -> Self {
        time.0
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        duration(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// An error in the configuration file. It quotes nothing that may be a secret.
#[derive(Debug)]
pub(crate) struct FileError {
    file: PathBuf,
    line: Option<usize>,
    what: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", escape_line(&self.file.display().to_string()))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        // The message may contain keys and names of the file.
        write!(f, ": {}", escape_line(&self.what))
    }
}

impl std::error::Error for FileError {}

impl FileError {
    /// An error at a place of the text.
    pub(crate) fn at(file: &Path, text: &str, span: Range<usize>, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: Some(line(text, span.start)), what: what.into() }
    }
}

/// Reads a file of TOML.
///
/// # Errors
///
/// If the file cannot be read, or is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, FileError> {
    // A path that does not exist may be anything, a secret included.
    let file = || PathBuf::from(display_path(path, path));
    let unreadable = |what: String| FileError { file: file(), line: None, what };
    let bytes = read_file(path, FILE_LIMIT).map_err(|error| unreadable(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))
}

/// Parses a file of TOML.
///
/// # Errors
///
/// If it is not TOML, or has an unknown key or an invalid value.
pub(crate) fn parse_toml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, FileError> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line(text, span.start));
        FileError { file: path.to_owned(), line, what: describe(error.message()) }
    })
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
        let file: Self = parse_toml(path, &text)?;
        Ok(Self { origin: Some((path.to_owned(), text)), ..file })
    }

    /// An error at the line of a value.
    pub(crate) fn error_at<T>(&self, value: &Spanned<T>, what: impl Into<String>) -> FileError {
        let (file, text) = self.origin.clone().unwrap_or_default();
        FileError::at(&file, &text, value.span(), what)
    }

    /// An error about a missing key.
    pub(crate) fn missing_key(&self, what: impl Into<String>) -> FileError {
        let (file, _) = self.origin.clone().unwrap_or_default();
        FileError { line: None, file, what: what.into() }
    }

    /// Resolves a path of the file: a relative path starts at the folder of the file.
    pub(crate) fn resolve_path(&self, path: &Path) -> PathBuf {
        let folder = self.origin.as_ref().and_then(|(file, _)| file.parent());
        folder.map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }
}

/// The number of the line at an offset, from 1.
fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The message of the parser without quotes of the file, and with the closest valid name.
fn describe(message: &str) -> String {
    let message = message.trim();
    let (head, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
    for (kind, what) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        let Some(unknown) = head.strip_prefix(kind).and_then(|rest| rest.strip_suffix('`')) else { continue };
        // A name that is no misspelling of a valid one may be a secret in the wrong place.
        return match nearest(unknown, &known) {
            Some(name) => format!("unknown {what} `{unknown}`; did you mean `{name}`?"),
            None if known.is_empty() => format!("unknown {what}"),
            None => format!("unknown {what}; valid are {}", known.join(", ")),
        };
    }
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some(found) = message.strip_prefix(kind)
            && let Some((_, expected)) = message.rsplit_once(", expected ")
        {
            // The name of the type, up to the quoted value.
            let kind = found.split(['`', '"', ',']).next().unwrap_or_default().trim();
            let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
            return format!("expected {expected}, found {article} {kind}");
        }
    }
    if head.contains(['`', '"', '\'']) && !head.starts_with("missing field `") {
        return "invalid TOML or an invalid value".to_owned();
    }
    message.to_owned()
}

/// Leaves out URIs and passwords.
impl fmt::Debug for MongoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoDb").finish_non_exhaustive()
    }
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
}
