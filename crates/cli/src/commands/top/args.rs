//! The arguments of `top`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::args::duration::positive_duration;
use crate::config::sections::{Collectors, ConfigPath, MongoDb};

#[derive(Debug, Args)]
#[command(
    mut_arg("config.file", |argument| argument.help(
        "The configuration file of `serve`, in TOML. It may name the deployment and the tables of backends"
    )),
    after_help = "Exit status: 0 at least one member has reported, 2 an argument, a variable or a file is invalid, or no \
                  member has reported."
)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) config: ConfigPath,

    #[command(flatten)]
    pub(crate) mongodb: MongoDb,

    // Of these, `top` uses the backends' tables; it accepts the others, so that one environment serves all commands.
    #[command(flatten)]
    pub(crate) collectors: Collectors,

    /// Print what is going on now, once, and end.
    #[arg(long)]
    pub(crate) once: bool,

    /// Output format of --once.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table, requires = "once")]
    pub(crate) output: Format,

    /// Time between two polls of a member. It grows for a member whose answer takes long.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,

    /// Time after which a member counts as not answering.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = interval)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = positive_duration(text)?;
    let bounds = Duration::from_millis(200)..=Duration::from_secs(60);
    if bounds.contains(&interval) { Ok(interval) } else { Err("it must be between 200ms and 1m".to_owned()) }
}
