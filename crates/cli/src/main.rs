//! The binary `txnscope`.

use std::process::ExitCode;

fn main() -> ExitCode {
    txnscope_cli::run()
}
