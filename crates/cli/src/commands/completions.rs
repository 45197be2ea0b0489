//! `txnscope completions`: completions of commands, flags and values for a shell.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::args::exit_status::ExitStatus;
use crate::output::print_result;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell: its script is printed.
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs, mut program: Command) -> ExitStatus {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "txnscope", &mut script);
    print_result(&String::from_utf8_lossy(&script))
}
