//! Verifies the licenses and sources of all dependencies.

use std::process::Command;

use anyhow::Result;

use crate::fetch::{self, cargo_tools};
use crate::run::checked;

/// Checks licenses, sources, bans and duplicates with deny.toml. Only cargo's registry is needed, not the advisory
/// database (docs/security.md).
pub(crate) fn check() -> Result<()> {
    let deny = fetch::cargo_tool(&cargo_tools::DENY)?;
    let mut command = Command::new(deny);
    command.current_dir(crate::root()).args([
        "--locked",
        "--log-level=error",
        "check",
        "--hide-inclusion-graph",
    ]);
    checked(command.args(["licenses", "bans", "sources"]))
}
