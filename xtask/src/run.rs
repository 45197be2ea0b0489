//! Running other programs.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The cargo that runs this program.
///
/// It does not get what this program's package is called, which cargo has set for it: the build script of `ring` depends on
/// these variables, so that ring, and everything that uses TLS, would be compiled again whenever cargo is called in another
/// way than the last time.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let is_of_the_package = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if is_of_the_package {
            command.env_remove(name);
        }
    }
    command.current_dir(crate::root());
    command
}

/// Runs a command with inherited output, and fails if it fails.
pub(crate) fn checked(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

/// Runs a command, and returns its output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}; is it installed?"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}:\n{}", line(command), output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command line as a user would type it, without folders.
fn line(command: &Command) -> String {
    let base = |word: &OsStr| word.to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(base).collect();
    words.join(" ")
}
