//! The arguments of the commands that run checks on the data.

use clap::{Arg, Args};
use txnscope_catalog::escape_line;
use txnscope_checks::Reason;

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

/// How to get the privilege that is missing, if a privilege may be missing.
pub(crate) fn privilege_hint(reason: Reason, repair: bool) -> String {
    let condition = match reason {
        Reason::PermissionDenied => "",
        // A user without a privilege on a collection does not see whether it exists.
        Reason::CollectionMissing => " if it exists,",
        _ => return String::new(),
    };
    let command = if repair { "txnscope role --repair" } else { "txnscope role" };
    format!(
        ";{condition} `{command}`, with the same --checks.file or --config.file, prints the commands that grant what is needed"
    )
}

impl ChecksArgs {
    /// The flags that name the same deployment and checks again, for a command to copy. A URI is left out, since it may hold a
    /// password.
    pub(crate) fn flags_again(&self) -> String {
        let mut flags = String::new();
        let named = [
            ("config.file", self.config.file.as_ref()),
            ("mongodb.uri-file", self.mongodb.uri_file.as_ref().and_then(|files| files.first())),
            ("checks.file", self.checks.file.as_ref()),
        ];
        for (flag, path) in named {
            if let Some(path) = path {
                let path = path.display().to_string();
                let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@%,:=".contains(c));
                let path =
                    if plain { path } else { format!("'{}'", escape_line(&path.replace('\'', "'\\''"))) };
                flags += &format!(" --{flag}={path}");
            }
        }
        flags
    }
}
