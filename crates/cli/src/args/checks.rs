//! The arguments of the commands that run checks on the data.

use clap::{Arg, Args};

use crate::config::sections::{Checks, ConfigPath, MongoDb};

/// The help text of `--config.file`, for the commands that take the deployment and the checks from it.
pub(crate) fn names_deployment_and_checks(argument: Arg) -> Arg {
    argument
        .help("The configuration file of `serve`, in TOML. It may name the deployment and the file of checks")
}

/// The deployment and the checks to run on it.
#[derive(Debug, Args)]
#[command(mut_arg("config.file", names_deployment_and_checks))]
pub(crate) struct ChecksArgs {
    #[command(flatten)]
    pub(crate) config: ConfigPath,

    #[command(flatten)]
    pub(crate) mongodb: MongoDb,

    #[command(flatten)]
    pub(crate) checks: Checks,

    /// Run only the check of this name. May be given more than once.
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
}
