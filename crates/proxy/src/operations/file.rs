//! The operations file as it is written: TOML, checked for its form, each mistake with its line.

use std::io;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use txnscope_catalog::FileError;

/// The largest operations file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The file, before its templates, reasons and rules were looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// Whether requests that match no operation are counted as `unmatched`.
    pub(super) unmatched: bool,
    #[serde(rename = "operation")]
    pub(super) operations: Vec<Operation>,
    /// Rules for every operation, after the operation's own.
    pub(super) rejected: Vec<Spanned<Rule>>,
    pub(super) failed: Vec<Spanned<Rule>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Operation {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) rejected: Vec<Spanned<Rule>>,
    #[serde(default)]
    pub(super) failed: Vec<Spanned<Rule>>,
}

/// What a response must be for the outcome to be this one, and the reason then.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) status: Option<Spanned<u16>>,
    pub(super) header: Option<Spanned<String>>,
    pub(super) json: Option<Spanned<String>>,
    pub(super) prefix: Option<Spanned<String>>,
    pub(super) equals: Option<Spanned<String>>,
    pub(super) reason: Spanned<String>,
}

/// The text of a file.
///
/// # Errors
///
/// If it cannot be read, is no regular file, is larger than 1 MiB or is not UTF-8.
pub(super) fn read(path: &Path) -> Result<String, FileError> {
    let unreadable = |error: io::Error| FileError::new(path, format!("cannot be read: {error}"));
    // Before it is opened: opening a pipe waits for its other end.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(FileError::new(path, "is no regular file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(FileError::new(path, format!("is larger than {MAX_FILE} bytes")));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| FileError::new(path, "is not UTF-8"))
}

/// # Errors
///
/// If it is not TOML, or has a key or a type of value that makes no sense.
pub(super) fn parse(path: &Path, text: &str) -> Result<File, FileError> {
    toml::from_str(text).map_err(|error| FileError::toml(path, text, error.span(), error.message()))
}
