//! `cargo xtask drill`: builds the drill of the alerts, and runs it.

use std::process::ExitCode;

use anyhow::Result;

use crate::{demo, fetch};

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    fetch::all()?;
    eprintln!("==> building");
    demo::example("drill", arguments)
}
