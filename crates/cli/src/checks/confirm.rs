//! Asking before anything is changed.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail};

/// Whether the one at the terminal says yes.
///
/// # Errors
///
/// If nobody can be asked.
pub(crate) fn confirm(question: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        bail!("nobody can be asked here, since the input is no terminal: say --yes to go ahead");
    }
    let mut out = io::stderr().lock();
    write!(out, "{question} [y/N] ").and_then(|()| out.flush()).context("cannot ask on the terminal")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
