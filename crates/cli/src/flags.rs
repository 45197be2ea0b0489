//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::filter::LevelFilter;
use txnscope_catalog as catalog;

/// MongoDB's transactions, made visible to Prometheus.
#[derive(Debug, Parser)]
#[command(name = "txnscope", version)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Poll a deployment and serve what it says.
    Serve(ServeFlags),
    /// Print every metric that txnscope emits.
    Catalog(CatalogFlags),
}

/// The URI's text is in no field that is printed: its value is hidden from help and errors.
#[derive(Args)]
pub(crate) struct ServeFlags {
    /// The deployment: mongodb://host:port/?replicaSet=name. Every member is found from it, unless it says
    /// directConnection=true. A password belongs into the variable or the file: flags are seen in ps.
    #[arg(
        id = "uri",
        long = "mongodb.uri",
        value_name = "URI",
        env = "MONGODB_URI",
        hide_env_values = true,
        value_parser = clap::builder::OsStringValueParser::new()
    )]
    pub(crate) uri: Option<std::ffi::OsString>,

    /// A file with the URI and nothing else. Goes before the variable.
    #[arg(long = "mongodb.uri-file", value_name = "FILE")]
    pub(crate) uri_file: Option<PathBuf>,

    /// Where to listen; port 0 takes any free one.
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = "127.0.0.1:9917")]
    pub(crate) listen_address: SocketAddr,

    /// The path of the metrics.
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    pub(crate) telemetry_path: String,

    /// How often to ask each member: 500ms, 5s, 1m.
    #[arg(long = "poll.interval", value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) interval: Duration,

    /// How long a member may take to answer.
    #[arg(long = "poll.timeout", value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub(crate) timeout: Duration,

    /// The least important messages to log.
    #[arg(long = "log.level", value_name = "LEVEL", value_enum, default_value_t = Level::Info)]
    pub(crate) level: Level,

    /// How to log.
    #[arg(long = "log.format", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Logfmt)]
    pub(crate) format: LogFormat,
}

impl std::fmt::Debug for ServeFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeFlags").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    Logfmt,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct CatalogFlags {
    /// How to print it.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = CatalogFormat::Markdown)]
    pub(crate) format: CatalogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CatalogFormat {
    /// As in the documentation.
    Markdown,
    /// One name on each line.
    Names,
}

impl CatalogFormat {
    pub(crate) fn render(self) -> String {
        match self {
            Self::Markdown => catalog::markdown(),
            Self::Names => catalog::METRICS.iter().flat_map(|metric| [metric.name, "\n"]).collect(),
        }
    }
}

/// A whole number with a unit. What the sidecar does with it has bounds, which it tells.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| "a whole number with ms, s or m, such as 5s".to_owned())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err("the unit must be ms, s or m, such as in 5s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "5", "s", "-1s", "1.5s", "5 s", "5h", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
