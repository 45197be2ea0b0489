//! The configuration file: the flags by their names, and what no flag can say.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::Spanned;
use txnscope_catalog::escape_line;
use txnscope_mongo::{FILE_LIMIT, display_path, read_file};

use crate::collectors::Collectors;
use crate::flags::{Level, LogFormat, duration};

/// The file, checked for its form.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
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
    /// Where it is, and its text.
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

/// A deployment to probe.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    pub(crate) uri: Option<Spanned<String>>,
    pub(crate) uri_file: Option<Spanned<PathBuf>>,
    pub(crate) auth_module: Option<Spanned<String>>,
    /// What a probe may choose instead; anything if it is not said.
    pub(crate) auth_modules: Option<Vec<Spanned<String>>>,
}

/// Who to be at a deployment.
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

/// A time as the flags have it: 500ms, 5s, 1m.
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

/// What is wrong, and where. Quotes nothing that may be a secret.
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
        // Keys and names of the file stand in it.
        write!(f, ": {}", escape_line(&self.what))
    }
}

impl std::error::Error for FileError {}

impl File {
    /// The file that a flag or a variable names; without one, a file that says nothing.
    ///
    /// # Errors
    ///
    /// As [`File::read`].
    pub(crate) fn named(path: Option<&Path>) -> Result<Self, FileError> {
        path.map_or_else(|| Ok(Self::default()), Self::read)
    }

    /// # Errors
    ///
    /// If it cannot be read, is not TOML, or has a key or a value that makes no sense.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        // What is not there may be no file's name at all.
        let file = || PathBuf::from(display_path(path, path));
        let unreadable = |what: String| FileError { file: file(), line: None, what };
        let bytes = read_file(path, FILE_LIMIT).map_err(|error| unreadable(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))?;
        Self::parse(path, text)
    }

    pub(crate) fn parse(path: &Path, text: String) -> Result<Self, FileError> {
        match toml::from_str::<Self>(&text) {
            Ok(file) => Ok(Self { origin: Some((path.to_owned(), text)), ..file }),
            Err(error) => {
                let line = error.span().map(|span| line(&text, span.start));
                Err(FileError { file: path.to_owned(), line, what: told(error.message()) })
            }
        }
    }

    /// An error at a value.
    pub(crate) fn at<T>(&self, value: &Spanned<T>, what: impl Into<String>) -> FileError {
        let (file, text) = self.origin.clone().unwrap_or_default();
        FileError { line: Some(line(&text, value.span().start)), file, what: what.into() }
    }

    /// An error of something that is missing.
    pub(crate) fn lacks(&self, what: impl Into<String>) -> FileError {
        let (file, _) = self.origin.clone().unwrap_or_default();
        FileError { line: None, file, what: what.into() }
    }

    /// A path as seen from the file.
    pub(crate) fn beside(&self, path: &Path) -> PathBuf {
        let folder = self.origin.as_ref().and_then(|(file, _)| file.parent());
        folder.map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }
}

/// From 1.
fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The parser's words without what they quote of the file, and with the name that was probably meant.
fn told(message: &str) -> String {
    let message = message.trim();
    let (head, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
    for (kind, what) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        let Some(unknown) = head.strip_prefix(kind).and_then(|rest| rest.strip_suffix('`')) else { continue };
        // What is no slip of a name that we have may be a secret in the wrong place.
        return match nearest(unknown, &known) {
            Some(name) => format!("unknown {what} `{unknown}`; did you mean `{name}`?"),
            None if known.is_empty() => format!("unknown {what}"),
            None => format!("unknown {what}; there are {}", known.join(", ")),
        };
    }
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some(found) = message.strip_prefix(kind)
            && let Some((_, expected)) = message.rsplit_once(", expected ")
        {
            // The name of the kind, up to the value that is quoted.
            let kind = found.split(['`', '"', ',']).next().unwrap_or_default().trim();
            let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
            return format!("{article} {kind} stands where {expected} is expected");
        }
    }
    if head.contains(['`', '"', '\'']) && !head.starts_with("missing field `") {
        return "what stands here is malformed".to_owned();
    }
    message.to_owned()
}

/// The one of the known names that the unknown one is a slip of.
pub(crate) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let close = known.iter().map(|name| (strsim::damerau_levenshtein(unknown, name), *name)).min()?;
    (close.0 <= 1 + unknown.chars().count() / 4).then_some(close.1)
}

/// Without URIs and passwords.
impl fmt::Debug for MongoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoDb").finish_non_exhaustive()
    }
}

/// Without the URI.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").finish_non_exhaustive()
    }
}

/// Without the password.
impl fmt::Debug for AuthModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthModule").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        File::parse(Path::new("txnscope.toml"), text.to_owned()).expect_err(text).to_string()
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_the_nearest_name() {
        for (text, expected) in [
            (
                "[poll]\nintervall = \"5s\"",
                "txnscope.toml:2: unknown key `intervall`; did you mean `interval`?",
            ),
            (
                "[web]\n\nlisten_adress = []",
                "txnscope.toml:3: unknown key `listen_adress`; did you mean `listen_address`?",
            ),
            ("[elsewhere]", "txnscope.toml:1: unknown key; there are mongodb, targets"),
            ("[poll]\ninterval = 5", "txnscope.toml:2: an integer stands where a string is expected"),
            ("[poll]\ninterval = \"5\"", "txnscope.toml:2: the unit must be"),
            ("[log]\nlevel = \"loud\"", "txnscope.toml:2: unknown value; there are error, warn"),
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
            let said = refusal(text);
            assert!(said.contains(expected), "{text:?}: {said}");
        }
    }

    #[test]
    fn no_value_is_quoted_that_may_be_a_secret() {
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
            let said = refusal(text);
            assert!(!said.contains("hunter2") && !said.contains("271828"), "{text:?}: {said}");
            assert!(said.contains("txnscope.toml:"), "{text:?}: {said}");
        }
        let file = "[mongodb]\nuri = [\"mongodb://user:hunter2@db1/\"]\n[auth_modules.a]\nusername=\"a\"\npassword=\"hunter2\"";
        let file = File::parse(Path::new("txnscope.toml"), file.to_owned()).unwrap();
        let File { mongodb, targets, auth_modules, .. } = &file;
        assert!(!format!("{mongodb:?} {targets:?} {auth_modules:?}").contains("hunter2"));
    }
}
