//! The arguments of `verify`.

use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use mongodb::bson::DateTime;

use crate::args::checks::names_deployment_and_checks;
use crate::args::duration::positive_duration;
use crate::client::services::prometheus::PrometheusArgs;
use crate::config::sections::{Checks, ConfigPath, MongoDb};

#[derive(Args)]
#[command(
    mut_arg("config.file", names_deployment_and_checks),
    mut_arg("checks.file", |argument| argument.help("File of checks to run on the data. It requires a deployment")),
    after_help = "Exit status: 0 go, 1 no-go, 2 an error of an argument, a file or Prometheus, 3 inconclusive (too little \
                  traffic, or a criterion could not be checked)."
)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) prometheus: PrometheusArgs,

    /// Time of the deployment: 2026-03-14T09:26:53Z, or how long ago it was: 30m.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) deployed_at: Time,

    /// End of the window after the deployment: a time, or how long ago it was. Default: now.
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "wait")]
    pub(crate) until: Option<Time>,

    /// Length of the baseline before the deployment: 1d. Default: as long as the window, and at least 1h. A longer baseline
    /// gives a better estimate of the normal variation.
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    pub(crate) baseline: Option<Duration>,

    /// Keep analyzing for this time, and exit early at a certain no-go.
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    pub(crate) wait: Option<Duration>,

    /// Interval between the analyses of --wait.
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "1m")]
    pub(crate) interval: Duration,

    /// Use only series with these labels: job="shop",env="prod".
    #[arg(long, value_name = "LABELS", value_parser = selector, default_value = "")]
    pub(crate) selector: String,

    /// Maximum rise of the failure rate, as a difference: 0.01 is one percentage point.
    #[arg(long = "max-failure-rise", value_name = "SHARE", value_parser = share, default_value = "0.01")]
    pub(crate) failure_rise: f64,

    /// Maximum ratio of p50, p95 and p99 after to before.
    #[arg(long = "max-latency-ratio", value_name = "FACTOR", value_parser = factor, default_value = "1.5")]
    pub(crate) latency_ratio: f64,

    /// Maximum rise of the write-conflict rate of attempts, as a difference.
    #[arg(long = "max-conflict-rise", value_name = "SHARE", value_parser = share, default_value = "0.2")]
    pub(crate) conflict_rise: f64,

    /// Significance level: the maximum probability of a no-go if nothing changed (family-wise error rate).
    #[arg(long, value_name = "SHARE", value_parser = alpha, default_value = "0.01")]
    pub(crate) alpha: f64,

    #[command(flatten)]
    pub(crate) config: ConfigPath,

    #[command(flatten)]
    pub(crate) checks: Checks,

    #[command(flatten)]
    pub(crate) mongodb: MongoDb,

    /// Timeout of each query to Prometheus.
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "10s")]
    pub(crate) timeout: Duration,

    /// Output format.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

impl std::fmt::Debug for VerifyArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyArgs").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    /// For a merge request or a chat.
    Markdown,
}

/// A time, absolute or relative to now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Time {
    At(f64),
    Ago(Duration),
}

impl Time {
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

fn time(text: &str) -> Result<Time, String> {
    if let Ok(ago) = positive_duration(text) {
        return Ok(Time::Ago(ago));
    }
    let at = DateTime::parse_rfc3339_str(text)
        .map_err(|_| "use a time such as 2026-03-14T09:26:53Z, or how long ago, such as 30m".to_owned())?;
    #[allow(clippy::cast_precision_loss, reason = "exact until the year 287396")]
    let seconds = at.timestamp_millis() as f64 / 1e3;
    if seconds > 0.0 { Ok(Time::At(seconds)) } else { Err("use a time after 1970".to_owned()) }
}

fn number(text: &str, low: f64, high: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "use a number such as 0.01".to_owned())?;
    if number > low && number < high {
        Ok(number)
    } else {
        Err(format!("use a number between {low} and {high}"))
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

/// Validates label matchers of PromQL. Anything else is rejected, so that a selector cannot change a query.
fn selector(text: &str) -> Result<String, String> {
    let invalid = || "use labels such as job=\"shop\",env=\"prod\"".to_owned();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let name = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').ok_or_else(invalid)?;
        if name == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(invalid());
        }
        rest = &rest[name..];
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| rest.starts_with(operator));
        rest = rest[operator.ok_or_else(invalid)?.len()..].strip_prefix('"').ok_or_else(invalid)?;
        let mut escaped = false;
        let end = rest.find(|c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        rest = &rest[end.ok_or_else(invalid)? + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => {}
            None => return Err(invalid()),
        }
    }
    Ok(text.trim().trim_end_matches(',').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_label_matchers_only() {
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
    fn times_are_absolute_or_relative() {
        assert_eq!(time("30m").unwrap().seconds(10_000.0), 8_200.0);
        assert_eq!(time("1970-01-01T00:10:00Z"), Ok(Time::At(600.0)));
        assert_eq!(time("1970-01-01T01:10:00+01:00"), Ok(Time::At(600.0)));
        for bad in ["yesterday", "", "2026-03-14", "1969-01-01T00:00:00Z", "-5m"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
