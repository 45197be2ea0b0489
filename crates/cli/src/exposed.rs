//! Files with secrets in them that every user of the machine may read: whoever runs the command is told.
//!
//! It is no error: in a container there is no other user, and Kubernetes makes such files by default.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use txnscope_mongo::{EXPOSED_SECRET, LineError, display_path, is_readable_by_all_users, read_one_line};

/// The names as they may be shown, and whether there is a log in which they stand.
static FOUND: Mutex<(BTreeSet<String>, bool)> = Mutex::new((BTreeSet::new(), false));

/// The line that a file with a secret consists of. `named` is the file's name as it was given.
///
/// # Errors
///
/// As [`read_one_line`].
pub(crate) fn read_secret(named: &Path, file: &Path) -> Result<String, LineError> {
    let line = read_one_line(file)?;
    note(named, file);
    Ok(line)
}

/// Takes note of a file that holds a secret, if everybody may read it.
pub(crate) fn note(named: &Path, file: &Path) {
    if !is_readable_by_all_users(file) {
        return;
    }
    let name = display_path(named, file);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if found.0.insert(name.clone()) && found.1 {
        tracing::warn!(file = name, "{EXPOSED_SECRET}");
    }
}

/// Says it in the log, now and from now on.
pub(crate) fn log() {
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    for file in &found.0 {
        tracing::warn!(file, "{EXPOSED_SECRET}");
    }
    found.1 = true;
}

/// Says it to whoever has called the command, unless it is in the log.
pub(crate) fn print() {
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if !found.1 {
        for file in &found.0 {
            let _ = writeln!(io::stderr().lock(), "txnscope: {file}: {EXPOSED_SECRET}");
        }
    }
}
