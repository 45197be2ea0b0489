//! The arguments of the commands that run checks on the data.

use std::path::PathBuf;

use clap::Args;

use crate::args::connection::ConnectionArgs;

/// The deployment and the checks to run on it.
#[derive(Debug, Args)]
pub(crate) struct ChecksArgs {
    /// The configuration file of `serve`, in TOML. It may name the deployment and the file of checks.
    #[arg(long = "config.file", value_name = "FILE", env = "TXNSCOPE_CONFIG_FILE", hide_env_values = true)]
    pub(crate) config_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,

    /// The file of checks; docs/checks.md describes its format.
    #[arg(long = "checks.file", value_name = "FILE", env = "TXNSCOPE_CHECKS_FILE", hide_env_values = true)]
    pub(crate) checks_file: Option<PathBuf>,

    /// Run only the check of this name. May be given more than once.
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
}
