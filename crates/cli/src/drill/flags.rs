//! The command lines of `drill race` and `drill load`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::flags::duration;

/// Send real requests to a backend, on data that the drill makes, and see what becomes of them.
#[derive(Debug, Args)]
pub(crate) struct DrillFlags {
    #[command(subcommand)]
    pub(crate) drill: Drill,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Drill {
    /// Prove that of many consumptions, completions, transfers and cancellations at once, those succeed that may.
    ///
    /// It makes retainers, payments and accounts of its own, which stay there: their clientId, customerId and
    /// accountNumber begin with txnscope-drill. Run it where such data does no harm.
    #[command(
        after_help = "Exit status: 0 proven, 1 broken, 2 it could not be said (and nothing was found broken)."
    )]
    Race(RaceFlags),
    /// Send consumptions, completions and transfers at a fixed rate, and measure how long each takes.
    ///
    /// Requests arrive whether or not the earlier ones are answered, and each is measured from when it was to be
    /// sent: a backend that stalls is seen to stall. It makes data of its own, as `drill race` does.
    #[command(
        after_help = "Exit status: 0 every request was answered as it may be, 1 some failed, were not answered or not sent, 2 it could not be run to its end."
    )]
    Load(LoadFlags),
}

/// The backend, and who we are there.
#[derive(Debug, Args)]
pub(crate) struct BackendFlags {
    /// The backend, as http://host:port or https://host. Nothing else is spoken to; redirects are not followed.
    #[arg(long, value_name = "URL", env = "TXNSCOPE_DRILL_URL", hide_env_values = true)]
    pub(crate) url: String,

    /// A file with the bearer token and nothing else. TXNSCOPE_DRILL_TOKEN is the token itself.
    #[arg(long, value_name = "FILE", env = "TXNSCOPE_DRILL_TOKEN_FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,

    /// Certificates, in PEM, of authorities to trust besides the system's.
    #[arg(long, value_name = "FILE", env = "TXNSCOPE_DRILL_CA_FILE", hide_env_values = true)]
    pub(crate) ca_file: Option<PathBuf>,

    /// How long one request may take: 500ms, 30s.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct RaceFlags {
    #[command(flatten)]
    pub(crate) backend: BackendFlags,

    /// How many requests race each other.
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) concurrency: u32,

    /// How often each scenario is run, each time on new data.
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,

    /// Only this scenario. May be given more than once.
    #[arg(long, value_name = "NAME", value_parser = crate::drill::race::names())]
    pub(crate) scenario: Vec<String>,

    /// How long all of it may take. What has not been run by then is not known.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = deadline)]
    pub(crate) deadline: Duration,

    /// How to print what was seen.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct LoadFlags {
    #[command(flatten)]
    pub(crate) backend: BackendFlags,

    /// How many requests arrive each second.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: u32,

    /// For how long they arrive: 30s, 10m.
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    pub(crate) duration: Duration,

    /// How many requests may be under way at once. One that arrives when so many are is not sent, and counted as
    /// dropped: the others are not slowed down.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) max_in_flight: u32,

    /// On how many retainers and accounts: the fewer, the more they meet.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(crate) entities: u32,

    /// What is drawn, is drawn from this seed.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Write the result to this file, in JSON, with the histograms.
    #[arg(long, value_name = "FILE")]
    pub(crate) result_file: Option<PathBuf>,

    /// How to print the result.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

fn timeout(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_millis(10), Duration::from_secs(600), "between 10ms and 10m")
}

fn deadline(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_secs(1), Duration::from_secs(24 * 60 * 60), "between 1s and 1440m")
}

fn bounded(text: &str, least: Duration, most: Duration, bounds: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if (least..=most).contains(&duration) { Ok(duration) } else { Err(format!("it must be {bounds}")) }
}
