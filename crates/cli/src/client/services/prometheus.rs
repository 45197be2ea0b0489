//! A client of the HTTP API of Prometheus.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::ArgMatches;

use crate::client::services::{ServiceClient, ServiceError, api_response};
use crate::config::settings::{Nothing, settings};

pub(crate) use crate::client::services::api_response::{Labels, Sample, Series, data, plain};

settings! {
    /// The arguments of every command that queries Prometheus.
    pub(crate) struct PrometheusArgs in "prometheus" for Nothing = Nothing;
    /// URL of Prometheus: http://host:9090. A URL with a user and a password belongs in the variable, since ps shows
    /// flags.
    url: String [URL];
    /// File that contains only the bearer token for Prometheus. TXNSCOPE_PROMETHEUS_TOKEN holds the token itself.
    token_file: PathBuf [FILE];
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
        let client =
            ServiceClient::from_flags("prometheus.url", (&args.url, &args.token_file), matches, timeout)?;
        Ok(client.map(Self))
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
