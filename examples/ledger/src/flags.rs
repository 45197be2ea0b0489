//! Command line flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{ArgAction, Parser, ValueEnum};
use ledger::Token;
use tracing_subscriber::filter::LevelFilter;

/// The environment variable that holds the token. There is no flag for it, because `ps` shows flags.
const TOKEN_VARIABLE: &str = "LEDGER_TOKEN";

/// Retainers, payments and bank transfers on MongoDB transactions, over HTTP.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "The token that clients must send comes from --token-file or from LEDGER_TOKEN."
)]
pub(crate) struct Flags {
    /// Address to listen on.
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    pub(crate) listen_address: SocketAddr,

    /// URI of the replica set, as mongodb://host:port/?replicaSet=name. Put a URI with a password into the variable.
    #[arg(long = "mongodb.uri", value_name = "URI", env = "MONGODB_URI", hide_env_values = true)]
    pub(crate) uri: String,

    /// Name of the database.
    #[arg(
        long = "mongodb.database",
        value_name = "NAME",
        default_value = "ledger",
        value_parser = database_name
    )]
    pub(crate) database: String,

    /// File that contains the token and nothing else.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Time limit of one request's transaction, including retries: 500ms, 10s.
    #[arg(long = "transaction.deadline", value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) deadline: Duration,

    /// Serialize transactions that write the same document. Otherwise they conflict and are retried.
    #[arg(long = "transaction.serialize", value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub(crate) serialize_transactions: bool,

    /// Minimum log level.
    #[arg(long = "log.level", value_name = "LEVEL", value_enum, default_value_t = Level::Info)]
    pub(crate) level: Level,

    /// Log format.
    #[arg(long = "log.format", value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
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
pub(crate) enum Format {
    Text,
    Json,
}

impl Flags {
    /// Reads the token, from the file if one is given.
    pub(crate) fn token(&self) -> anyhow::Result<Token> {
        if let Some(file) = &self.token_file {
            return token_of(file).with_context(|| format!("--token-file {}", file.display()));
        }
        match std::env::var(TOKEN_VARIABLE) {
            Ok(text) => Token::new(&text).context(TOKEN_VARIABLE),
            Err(std::env::VarError::NotPresent) => bail!(
                "no token: set {TOKEN_VARIABLE}, or pass a file with --token-file; clients send it as Authorization: Bearer <token>"
            ),
            Err(std::env::VarError::NotUnicode(_)) => bail!("{TOKEN_VARIABLE} is not UTF-8"),
        }
    }
}

fn token_of(file: &Path) -> anyhow::Result<Token> {
    let bytes = txnscope_mongo::read_file(file, txnscope_mongo::SECRET_LIMIT)?;
    let text = String::from_utf8(bytes).map_err(|_| anyhow!("the file is not UTF-8"))?;
    Ok(Token::new(&text)?)
}

/// Parses a whole number with a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 =
        digits.parse().map_err(|_| "use a whole number with ms, s or m, such as 10s".to_owned())?;
    let duration = match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err("the unit must be ms, s or m, such as in 10s".to_owned()),
    };
    // The server ends a transaction after 60 s anyway, and no client waits for ten minutes.
    if (Duration::from_millis(10)..=Duration::from_secs(600)).contains(&duration) {
        Ok(duration)
    } else {
        Err("it must be between 10ms and 10m".to_owned())
    }
}

fn database_name(text: &str) -> Result<String, String> {
    let legal = !text.is_empty() && text.len() < 64 && !text.contains(['/', '\\', '.', ' ', '"', '$', '\0']);
    let own = matches!(text, "admin" | "local" | "config");
    match (legal, own) {
        (true, false) => Ok(text.to_owned()),
        (true, true) => Err("admin, local and config are reserved for MongoDB".to_owned()),
        (false, _) => Err("a database's name has 1 to 63 bytes, without / \\ . \" $ or spaces".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn durations_need_unit_and_bounds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "10", "s", "-1s", "1.5s", "10 s", "10h", "0s", "1ms", "11m", "99999999999999999999s"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn system_databases_are_rejected() {
        assert!(database_name("ledger").is_ok());
        for bad in ["", "admin", "a.b", "a b", &"x".repeat(64)] {
            assert!(database_name(bad).is_err(), "{bad}");
        }
    }
}
