//! Warnings about files with secrets that all users of the machine can read.
//!
//! Such a file is no error: a container has no other users, and Kubernetes creates such files by default.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use txnscope_mongo::{EXPOSED_SECRET, LineError, display_path, is_readable_by_all_users, read_one_line};

use crate::output::print_warning;

/// The names of the files, and whether warnings are logged.
static FOUND: Mutex<(BTreeSet<String>, bool)> = Mutex::new((BTreeSet::new(), false));

/// Reads a secret, which is the only line of its file. `named` is the path of the file as it was configured.
///
/// # Errors
///
/// As [`read_one_line`].
pub(crate) fn read_secret(named: &Path, file: &Path) -> Result<String, LineError> {
    let line = read_one_line(file)?;
    check_permissions(named, file);
    Ok(line)
}

/// Records a file that holds a secret, if all users can read it.
pub(crate) fn check_permissions(named: &Path, file: &Path) {
    if !is_readable_by_all_users(file) {
        return;
    }
    let name = display_path(named, file);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if found.0.insert(name.clone()) && found.1 {
        tracing::warn!(file = name, "{EXPOSED_SECRET}");
    }
}

/// Logs the warnings so far, and those to come.
pub(crate) fn log_warnings() {
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    for file in &found.0 {
        tracing::warn!(file, "{EXPOSED_SECRET}");
    }
    found.1 = true;
}

/// Prints the warnings, unless they are logged.
pub(crate) fn print_warnings() {
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if !found.1 {
        for file in &found.0 {
            print_warning(&format!("{file}: {EXPOSED_SECRET}"));
        }
    }
}
