//! `txnscope man`: the man pages, one for each command.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Command};

use crate::args::exit_status::ExitStatus;
use crate::output::report_error;

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder of the pages, which is created if it does not exist.
    #[arg(long, value_name = "DIR")]
    output_dir: PathBuf,
}

pub(crate) fn run(args: &ManArgs, program: Command) -> ExitStatus {
    match write(args, program) {
        Ok(()) => ExitStatus::Success,
        Err(error) => report_error(&error, ExitStatus::Failure),
    }
}

fn write(args: &ManArgs, program: Command) -> Result<()> {
    std::fs::create_dir_all(&args.output_dir).context("--output-dir: the folder cannot be created")?;
    clap_mangen::generate_to(program, &args.output_dir).context("--output-dir: a page cannot be written")
}
