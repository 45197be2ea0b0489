//! Debian's valgrind, to count instructions: `.tools/valgrind`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Package, Registry, Scratch, debian, on_path, place};

const VALGRIND: Package = Package {
    name: "valgrind",
    version: "1:3.19.0-1",
    sha256: "324842f2308a1e42abf2d81ff5eb19a9475fc9db95647f4d9da71444eda4087f",
    registry: Registry::Debian,
};

/// The valgrind that `TXNSCOPE_VALGRIND` names, that of `PATH`, or our own, which is fetched if it is missing.
pub(super) fn bring(tools: &Path) -> Result<Command> {
    if let Some(file) = std::env::var_os("TXNSCOPE_VALGRIND") {
        return Ok(Command::new(file));
    }
    if on_path(VALGRIND.name).is_some() {
        return Ok(Command::new(VALGRIND.name));
    }
    let folder = tools.join("valgrind");
    if !folder.is_dir() {
        eprintln!("==> fetching {} {} for the counts of instructions", VALGRIND.name, VALGRIND.version);
        let scratch = Scratch::new(tools, &VALGRIND)?;
        let unpacked = debian::one(&VALGRIND, &scratch.0)
            .context("cannot fetch valgrind; install one yourself, or set TXNSCOPE_VALGRIND to it")?;
        place(&unpacked, &folder)?;
    }
    let mut command = Command::new(folder.join("usr/bin/valgrind"));
    // Its tools are not at the compiled-in path.
    command.env("VALGRIND_LIB", folder.join("usr/libexec/valgrind"));
    Ok(command)
}
