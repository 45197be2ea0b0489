//! The file of checks.

use std::path::Path;

use anyhow::{Context, anyhow};
use txnscope_checks::Checks;
use txnscope_mongo::{FILE_LIMIT, display_path, read_file};

use crate::config::file::ConfigFile;
use crate::config::sections;

/// The default collection of the repair records.
pub(crate) const AUDIT_COLLECTION: &str = "txnscopeRepairs";

/// Loads the checks of the file that a flag, a variable or the configuration file names, if one of them does.
///
/// # Errors
///
/// If the file cannot be read or is invalid. The error lists all that is wrong with it, separated by `separator`.
pub(crate) fn load_checks(
    flags: &sections::Checks,
    config: &ConfigFile,
    separator: &str,
) -> anyhow::Result<Option<Checks>> {
    let path = flags.file.as_ref().or(config.checks.file.as_ref());
    path.map(|path| read_checks(path, separator)).transpose()
}

fn read_checks(file: &Path, separator: &str) -> anyhow::Result<Checks> {
    let name = display_path(file, file);
    let bytes = read_file(file, FILE_LIMIT).with_context(|| format!("cannot read {name}"))?;
    let text = String::from_utf8(bytes).with_context(|| format!("cannot read {name}: it is not UTF-8"))?;
    Checks::parse(&text).map_err(|error| {
        let messages: Vec<_> = error
            .diagnostics()
            .iter()
            .map(|mistake| format!("{name}:{}: {}", mistake.line, mistake.message))
            .collect();
        anyhow!("invalid file of checks: {}", messages.join(separator))
    })
}
