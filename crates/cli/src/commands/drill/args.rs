//! The arguments of `drill race` and `drill load`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::args::duration::duration;

/// Test a running backend with concurrent requests or with load, on data that the drill creates.
#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    #[command(subcommand)]
    pub(crate) drill: Drill,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Drill {
    /// Send concurrent conflicting requests and assert that exactly the permitted number succeeds.
    ///
    /// The scenarios are those of a file, or of the ledger, the reference backend. The test creates data, and does not delete
    /// it: the ledger's clientId, customerId and accountNumber begin with txnscope-drill. Run it where this data does no harm.
    #[command(
        after_help = "Exit status: 0 all scenarios that the backend offers passed, 1 at least one failed, 2 an error, or inconclusive and none failed, or the backend offers none of them."
    )]
    Race(RaceArgs),
    /// Send requests at a fixed rate, and measure their latency.
    ///
    /// The requests are those of a scenario file, or consumptions, completions and transfers of the ledger's API.
    /// Requests are sent whether or not earlier ones have completed, and each latency is measured from the scheduled time,
    /// so that a stalled backend shows (no coordinated omission). The test creates data, as `drill race` does.
    #[command(
        after_help = "Exit status: 0 all requests succeeded or were rejected by a business rule, 1 some failed, got no response or were not sent, 2 an error, or the test was interrupted."
    )]
    Load(LoadArgs),
}

/// The backend and the credentials.
#[derive(Debug, Args)]
pub(crate) struct BackendArgs {
    /// URL of the backend: http://host:port or https://host. No other address is used; redirects are not followed.
    #[arg(long, value_name = "URL", env = "TXNSCOPE_DRILL_URL", hide_env_values = true)]
    pub(crate) url: String,

    /// File that contains only the bearer token. TXNSCOPE_DRILL_TOKEN holds the token itself.
    #[arg(long, value_name = "FILE", env = "TXNSCOPE_DRILL_TOKEN_FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,

    /// PEM file with certificate authorities to trust in addition to those of the system.
    #[arg(long, value_name = "FILE", env = "TXNSCOPE_DRILL_CA_FILE", hide_env_values = true)]
    pub(crate) ca_file: Option<PathBuf>,

    /// Timeout of each request: 500ms, 30s.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    pub(crate) timeout: Duration,
}

/// What is sent to the backend.
#[derive(Debug, Args)]
pub(crate) struct ScenariosArgs {
    /// File with the requests, in TOML (docs/drill.md). Without it, the API of the ledger.
    #[arg(
        id = "scenarios.file",
        long = "scenarios.file",
        value_name = "FILE",
        env = "TXNSCOPE_DRILL_SCENARIOS_FILE",
        hide_env_values = true
    )]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(mut_arg("scenarios.file", |argument| argument.help(
    "File with the scenarios, in TOML (docs/drill.md). Without it: consume, consume-some, consume-and-replenish, \
     consume-repeated, complete, complete-invoice, transfer, transfer-both-ways and cancel, on the API of the ledger"
)))]
pub(crate) struct RaceArgs {
    #[command(flatten)]
    pub(crate) backend: BackendArgs,

    /// Number of concurrent requests.
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) concurrency: u32,

    /// Number of rounds of each scenario, each on new data.
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,

    #[command(flatten)]
    pub(crate) scenarios: ScenariosArgs,

    /// Run only this scenario of the file. May be given more than once.
    #[arg(long, value_name = "NAME")]
    pub(crate) scenario: Vec<String>,

    /// Maximum duration of the whole test. Rounds that have not been run by then are inconclusive.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = deadline)]
    pub(crate) deadline: Duration,

    /// Output format.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) backend: BackendArgs,

    /// Requests per second.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: u32,

    /// Duration of the load: 30s, 10m.
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    pub(crate) duration: Duration,

    /// Maximum number of requests in flight. A further request is not sent and counts as dropped; it does not delay the
    /// others.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) max_in_flight: u32,

    #[command(flatten)]
    pub(crate) scenarios: ScenariosArgs,

    /// Number of entities, such as retainers and accounts. Fewer entities cause more write conflicts.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(crate) entities: u32,

    /// Seed of the random choices.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Write the result, with histograms, to this file in JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) result_file: Option<PathBuf>,

    /// Output format.
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
    bounded(text, Duration::from_secs(1), Duration::from_secs(24 * 60 * 60), "between 1s and 24h")
}

fn bounded(text: &str, min: Duration, max: Duration, bounds: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if (min..=max).contains(&duration) { Ok(duration) } else { Err(format!("it must be {bounds}")) }
}
