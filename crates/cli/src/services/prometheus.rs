//! Prometheus: where it is, and what it is asked.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{ArgMatches, Args, parser::ValueSource};

use crate::services::{Given, Service, Trouble, answer};

pub(crate) use crate::services::answer::{Labels, Sample, Series, data, plain};

/// The flags of every command that asks Prometheus.
#[derive(Clone, Args)]
pub(crate) struct PrometheusFlags {
    /// Where Prometheus is: http://host:9090. A user and a password only in the variable, never here: ps shows flags.
    #[arg(
        id = "prometheus-url",
        long = "prometheus.url",
        value_name = "URL",
        env = "TXNSCOPE_PROMETHEUS_URL",
        hide_env_values = true
    )]
    pub(crate) url: Option<String>,

    /// A file with the bearer token that Prometheus wants, and nothing else. TXNSCOPE_PROMETHEUS_TOKEN is the token
    /// itself.
    #[arg(
        id = "prometheus-token-file",
        long = "prometheus.token-file",
        value_name = "FILE",
        env = "TXNSCOPE_PROMETHEUS_TOKEN_FILE",
        hide_env_values = true
    )]
    pub(crate) token_file: Option<PathBuf>,
}

impl std::fmt::Debug for PrometheusFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrometheusFlags").finish_non_exhaustive()
    }
}

/// A Prometheus, or something that speaks like one.
#[derive(Debug)]
pub(crate) struct Prometheus(pub(crate) Service);

impl Prometheus {
    /// The one that the flags name, if they name one.
    ///
    /// # Errors
    ///
    /// If the URL or the token makes no sense. The error holds no secret.
    pub(crate) fn new(
        flags: &PrometheusFlags,
        matches: &ArgMatches,
        timeout: Duration,
    ) -> Result<Option<Self>> {
        let Some(url) = &flags.url else { return Ok(None) };
        let token = token("TXNSCOPE_PROMETHEUS_TOKEN");
        let given = Given {
            name: "prometheus",
            url,
            seen: matches.value_source("prometheus-url") == Some(ValueSource::CommandLine),
            token_file: flags.token_file.as_deref(),
            token: token.as_ref(),
        };
        Ok(Some(Self(Service::new(given, timeout)?)))
    }

    /// Evaluates an expression, at that time in seconds since 1970 or now.
    ///
    /// # Errors
    ///
    /// If Prometheus does not answer, or not with a vector.
    pub(crate) async fn query(&self, expression: &str, at: Option<f64>) -> Result<Vec<Sample>, Trouble> {
        let time = at.map(|at| format!("{at:.3}"));
        let mut query = vec![("query", expression)];
        query.extend(time.as_deref().map(|time| ("time", time)));
        let answer = self.0.json("/api/v1/query", &query).await?;
        answer::vector(&answer).map_err(Trouble::Malformed)
    }

    /// Evaluates an expression every `step` seconds from `start` to `end`.
    ///
    /// # Errors
    ///
    /// If Prometheus does not answer, or not with a matrix.
    pub(crate) async fn range(
        &self,
        expression: &str,
        (start, end): (f64, f64),
        step: f64,
    ) -> Result<Vec<Series>, Trouble> {
        let texts = [start, end, step].map(|number| format!("{number:.3}"));
        let [start, end, step] = &texts;
        let query = [("query", expression), ("start", start), ("end", end), ("step", step)];
        let answer = self.0.json("/api/v1/query_range", &query).await?;
        answer::matrix(&answer).map_err(Trouble::Malformed)
    }
}

/// A token from a variable, if it is set to something.
pub(crate) fn token(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}
