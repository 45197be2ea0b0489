//! The command line of `verify`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use mongodb::bson::DateTime;

use crate::deployment::DeploymentFlags;
use crate::services::prometheus::PrometheusFlags;
use crate::span::span;

#[derive(Args)]
#[command(
    after_help = "Exit status: 0 go, 1 no-go, 3 inconclusive (too little traffic, or something could not be checked), 2 \
                  nothing could be judged: the command line, a file, or Prometheus."
)]
pub(crate) struct VerifyFlags {
    #[command(flatten)]
    pub(crate) prometheus: PrometheusFlags,

    /// When the deployment was: 2026-03-14T09:26:53Z, or how long ago: 30m.
    #[arg(long, visible_alias = "deployed-at", value_name = "TIME", value_parser = moment)]
    pub(crate) since: Moment,

    /// Where the window ends that is judged: a time, or how long ago. Now, unless given.
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "wait")]
    pub(crate) until: Option<Moment>,

    /// How long a stretch before the deployment to compare with: 1d. As long as the window, and at least 1h, unless
    /// given. The longer it is, the better it knows how much is chance.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) baseline: Option<Duration>,

    /// Watch for so long, and end early when it is certainly a no-go.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) wait: Option<Duration>,

    /// How often to look while it watches.
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "1m")]
    pub(crate) every: Duration,

    /// Only series with these labels: job="shop",env="prod".
    #[arg(long, value_name = "LABELS", value_parser = selector, default_value = "")]
    pub(crate) selector: String,

    /// By how much the share of failed operations may rise: 0.01 is one in a hundred.
    #[arg(long = "max-failure-rise", value_name = "SHARE", value_parser = share, default_value = "0.01")]
    pub(crate) failure_rise: f64,

    /// How many times as long p50, p95 and p99 may become.
    #[arg(long = "max-latency-ratio", value_name = "FACTOR", value_parser = factor, default_value = "1.5")]
    pub(crate) latency_ratio: f64,

    /// By how much the share of attempts that end in a write conflict may rise.
    #[arg(long = "max-conflict-rise", value_name = "SHARE", value_parser = share, default_value = "0.2")]
    pub(crate) conflict_rise: f64,

    /// How often, at most, chance alone may make a no-go.
    #[arg(long, value_name = "SHARE", value_parser = alpha, default_value = "0.01")]
    pub(crate) alpha: f64,

    /// The configuration file of `serve`, in TOML, which may name the deployment and the file of checks.
    #[arg(long = "config.file", value_name = "FILE", env = "TXNSCOPE_CONFIG_FILE", hide_env_values = true)]
    pub(crate) config_file: Option<PathBuf>,

    /// The checks to run on the data; wants a deployment.
    #[arg(
        long = "checks",
        visible_alias = "checks.file",
        value_name = "FILE",
        env = "TXNSCOPE_CHECKS_FILE",
        hide_env_values = true
    )]
    pub(crate) checks: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) deployment: DeploymentFlags,

    /// How long Prometheus may take for one answer.
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "10s")]
    pub(crate) timeout: Duration,

    /// How to print what was found.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

impl std::fmt::Debug for VerifyFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyFlags").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    /// For a merge request or a chat.
    Markdown,
}

/// A time, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Moment {
    At(f64),
    Ago(Duration),
}

impl Moment {
    /// In seconds since 1970.
    pub(crate) fn seconds(self, now: f64) -> f64 {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => now - span.as_secs_f64(),
        }
    }
}

/// In seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(ago) = span(text) {
        return Ok(Moment::Ago(ago));
    }
    let at = DateTime::parse_rfc3339_str(text)
        .map_err(|_| "a time such as 2026-03-14T09:26:53Z, or how long ago, such as 30m".to_owned())?;
    #[allow(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 are exact in an f64 for 285,000 years"
    )]
    let seconds = at.timestamp_millis() as f64 / 1e3;
    if seconds > 0.0 { Ok(Moment::At(seconds)) } else { Err("a time after 1970".to_owned()) }
}

fn number(text: &str, low: f64, high: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number such as 0.01".to_owned())?;
    if number > low && number < high {
        Ok(number)
    } else {
        Err(format!("more than {low} and less than {high}"))
    }
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1.0)
}

fn alpha(text: &str) -> Result<f64, String> {
    number(text, 0.0, 0.5)
}

fn factor(text: &str) -> Result<f64, String> {
    number(text, 1.0, 1_000.0)
}

/// Label matchers, in the part of PromQL that is plainly nothing else.
fn selector(text: &str) -> Result<String, String> {
    let wrong = || "labels such as job=\"shop\",env=\"prod\"".to_owned();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let name = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').ok_or_else(wrong)?;
        if name == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(wrong());
        }
        rest = &rest[name..];
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| rest.starts_with(operator));
        rest = rest[operator.ok_or_else(wrong)?.len()..].strip_prefix('"').ok_or_else(wrong)?;
        let mut escaped = false;
        let end = rest.find(|c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        rest = &rest[end.ok_or_else(wrong)? + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => {}
            None => return Err(wrong()),
        }
    }
    Ok(text.trim().trim_end_matches(',').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_nothing_but_labels() {
        for good in ["", r#"job="shop""#, r#"job=~"a|b", env!="x\"y""#, r#"job="a","#] {
            assert!(selector(good).is_ok(), "{good}");
        }
        for bad in [
            "job",
            "job=shop",
            r#"job="a"}) or vector(1"#,
            r#"="a""#,
            r#"1a="b""#,
            r#"a="b" c="d""#,
            r#"a="b\""#,
        ] {
            assert!(selector(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_an_age() {
        assert_eq!(moment("30m").unwrap().seconds(10_000.0), 8_200.0);
        assert_eq!(moment("1970-01-01T00:10:00Z"), Ok(Moment::At(600.0)));
        assert_eq!(moment("1970-01-01T01:10:00+01:00"), Ok(Moment::At(600.0)));
        for bad in ["yesterday", "", "2026-03-14", "1969-01-01T00:00:00Z", "-5m"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
