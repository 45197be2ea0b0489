//! The line about each request to end a transaction: who, when, what, and the result. One JSON object on one line.
//!
//! The line goes to the standard error, and to a file if one is given. While the view is on the terminal, lines for the
//! terminal are held back: they would be drawn into it.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use txnscope_catalog::escape_line;
use txnscope_mongo::display_path;
use txnscope_sidecar::live::{Ending, Transaction};

use crate::output::print_warning;
use crate::runtime::user_at_host;

/// Where the lines go.
#[derive(Debug, Clone)]
pub(super) struct KillLog {
    file: Option<Arc<File>>,
    /// The lines that are held back, while that is so.
    held: Arc<Mutex<Option<Vec<String>>>>,
}

impl KillLog {
    /// # Errors
    ///
    /// If the file cannot be opened for appending.
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().append(true).create(true).open(path);
            file.with_context(|| format!("--kill-log: cannot append to {}", display_path(path, path)))
        };
        let file = path.map(open).transpose()?.map(Arc::new);
        Ok(Self { file, held: Arc::default() })
    }

    /// Holds lines back until [`release`](Self::release), if the standard error is a terminal.
    pub(super) fn hold(&self) {
        if io::stderr().is_terminal() {
            *self.lock() = Some(Vec::new());
        }
    }

    /// Writes the lines that were held back.
    pub(super) fn release(&self) {
        for line in self.lock().take().into_iter().flatten() {
            print_line(&line);
        }
    }

    /// Writes the line about a request.
    pub(super) fn write(&self, transaction: &Transaction, ending: &Ending) {
        let line = escape_line(&record(transaction, ending).to_string()).into_owned();
        if let Some(file) = &self.file
            && let Err(error) = (&**file).write_all(format!("{line}\n").as_bytes())
        {
            print_warning(&format!("cannot write to the file of --kill-log: {error}"));
        }
        match &mut *self.lock() {
            Some(held) => held.push(line),
            None => print_line(&line),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<String>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn print_line(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn record(of: &Transaction, ending: &Ending) -> Value {
    let (result, error) = match &ending.result {
        Ok(outcome) => (outcome.as_str(), None),
        Err(error) => (error.as_str(), Some(error.to_string())),
    };
    json!({
        "time": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        "message": "end transaction",
        "result": result,
        "error": error,
        "user": user_at_host(),
        "uid": rustix::process::getuid().as_raw(),
        "database_users": ending.users,
        "member": of.member,
        "session": of.session,
        "txn_number": of.txn_number,
        "started_at": of.started_at,
        "age_seconds": of.age.as_secs_f64(),
        "operation": of.operation,
        "application": of.application,
        "client": of.client,
        "namespaces": of.namespaces,
    })
}
