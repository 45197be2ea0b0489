//! The arguments of `top`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use mongodb::bson::Uuid;

use crate::args::duration::positive_duration;
use crate::config::sections::{Collectors, ConfigPath, MongoDb};

#[derive(Debug, Args)]
#[command(
    mut_arg("config.file", |argument| argument.help(
        "The configuration file of `serve`, in TOML. It may name the deployment and the tables of backends"
    )),
    after_help = "Exit status: 0 at least one member has reported, or the transaction was ended; 1 the transaction of \
                  --end-transaction was not ended; 2 an argument, a variable or a file is invalid, no member has reported, or \
                  the user lacks a privilege."
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

    /// Allow a transaction to be ended, with the key K or with --end-transaction. The user needs the privilege that
    /// `txnscope role --allow-kill` prints.
    #[arg(long)]
    pub(crate) allow_kill: bool,

    /// End this open transaction, and nothing else: its session and its number, as `session` and `txn_number` of
    /// --output=json.
    #[arg(long, value_name = "SESSION:NUMBER", requires = "allow_kill", conflicts_with = "once")]
    pub(crate) end_transaction: Option<Selected>,

    /// End the transaction of --end-transaction without asking.
    #[arg(long, requires = "end_transaction")]
    pub(crate) yes: bool,

    /// File to which a line is appended for each request to end a transaction. The line also goes to the standard error.
    #[arg(long, value_name = "FILE", requires = "allow_kill")]
    pub(crate) kill_log: Option<PathBuf>,
}

/// A transaction by its session and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selected {
    pub(crate) session: String,
    pub(crate) txn_number: i64,
}

impl FromStr for Selected {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str =
            "use the session, a colon and the number, as in 6e01e4f2-3c1f-4a6e-9d0b-0c8f5a1b2c3d:7";
        let (session, number) = text.split_once(':').ok_or(FORM)?;
        let session = Uuid::parse_str(session).map_err(|_| FORM)?.to_string();
        Ok(Self { session, txn_number: number.parse().map_err(|_| FORM)? })
    }
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
