//! What the build is made of, and whether that is allowed.

use std::process::Command;

use anyhow::Result;

use crate::fetch::{self, cargo_tools};
use crate::run::checked;

/// Licences, sources, bans and duplicates, as deny.toml has them. Of the registries it needs what cargo needs: not the
/// advisories, whose database is elsewhere (docs/security.md).
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
