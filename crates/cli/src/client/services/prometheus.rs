//! A client of the HTTP API of Prometheus.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{ArgMatches, Args, parser::ValueSource};

use crate::client::services::{ServiceArgs, ServiceClient, ServiceError, api_response};

pub(crate) use crate::client::services::api_response::{Labels, Sample, Series, data, plain};

/// The arguments of every command that queries Prometheus.
#[derive(Clone, Args)]
pub(crate) struct PrometheusArgs {
    /// URL of Prometheus: http://host:9090. A URL with a user and a password belongs in the variable, since ps shows
    /// flags.
    #[arg(
        id = "prometheus-url",
        long = "prometheus.url",
        value_name = "URL",
        env = "TXNSCOPE_PROMETHEUS_URL",
        hide_env_values = true
    )]
    pub(crate) url: Option<String>,

    /// File that contains only the bearer token for Prometheus. TXNSCOPE_PROMETHEUS_TOKEN holds the token itself.
    #[arg(
        id = "prometheus-token-file",
        long = "prometheus.token-file",
        value_name = "FILE",
        env = "TXNSCOPE_PROMETHEUS_TOKEN_FILE",
        hide_env_values = true
    )]
    pub(crate) token_file: Option<PathBuf>,
}

impl std::fmt::Debug for PrometheusArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrometheusArgs").finish_non_exhaustive()
    }
}

/// A client of Prometheus, or of a server with the same API.
#[derive(Debug)]
pub(crate) struct Prometheus(pub(crate) ServiceClient);

impl Prometheus {
    /// A client of the server that the arguments name, if they name one.
    ///
    /// # Errors
    ///
    /// If the URL or the token is invalid. The error holds no secret.
    pub(crate) fn new(
        args: &PrometheusArgs,
        matches: &ArgMatches,
        timeout: Duration,
    ) -> Result<Option<Self>> {
        let Some(url) = &args.url else { return Ok(None) };
        let token = token("TXNSCOPE_PROMETHEUS_TOKEN");
        let args = ServiceArgs {
            name: "prometheus",
            url_flag: "prometheus.url",
            url,
            on_command_line: matches.value_source("prometheus-url") == Some(ValueSource::CommandLine),
            token_file: args.token_file.as_deref(),
            token: token.as_ref(),
        };
        Ok(Some(Self(ServiceClient::new(args, timeout)?)))
    }

    /// Evaluates an expression at a time, in seconds since 1970, or now.
    ///
    /// # Errors
    ///
    /// If Prometheus does not respond with a vector.
    pub(crate) async fn query(&self, expression: &str, at: Option<f64>) -> Result<Vec<Sample>, ServiceError> {
        let time = at.map(|at| format!("{at:.3}"));
        let mut query = vec![("query", expression)];
        query.extend(time.as_deref().map(|time| ("time", time)));
        let response = self.0.json("/api/v1/query", &query).await?;
        api_response::vector(&response).map_err(ServiceError::Malformed)
    }

    /// Evaluates an expression every `step` seconds from `start` to `end`.
    ///
    /// # Errors
    ///
    /// If Prometheus does not respond with a matrix.
    pub(crate) async fn range(
        &self,
        expression: &str,
        (start, end): (f64, f64),
        step: f64,
    ) -> Result<Vec<Series>, ServiceError> {
        let texts = [start, end, step].map(|number| format!("{number:.3}"));
        let [start, end, step] = &texts;
        let query = [("query", expression), ("start", start), ("end", end), ("step", step)];
        let response = self.0.json("/api/v1/query_range", &query).await?;
        api_response::matrix(&response).map_err(ServiceError::Malformed)
    }
}

/// A token from a variable, if the variable is set and not empty.
pub(crate) fn token(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}
