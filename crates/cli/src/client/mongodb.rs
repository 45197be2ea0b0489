//! A client of the deployment that arguments, variables or the configuration file name.

use std::time::Duration;

use anyhow::Context;
use clap::ArgMatches;
use mongodb::Client;
use txnscope_checks::Checks;
use txnscope_mongo::UriError;

use crate::args::checks::ChecksArgs;
use crate::args::connection::ConnectionSources;
use crate::config::checks::load_checks;
use crate::config::file::ConfigFile;
use crate::config::sections::MongoDb;

const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the one deployment that is named.
///
/// # Errors
///
/// If none is named, or several are, or if the URI or the credentials are invalid.
pub(crate) async fn connect(
    args: MongoDb,
    config: &ConfigFile,
    matches: &ArgMatches,
) -> anyhow::Result<Client> {
    let target = ConnectionSources::new(args, matches).single_target(config)?;
    let mut options = target.options().await?;
    options.app_name.get_or_insert_with(|| "txnscope".to_owned());
    options.server_selection_timeout.get_or_insert(SERVER_SELECTION_TIMEOUT);
    let client = Client::with_options(options);
    client.map_err(|error| UriError::from_client_error(&error).into())
}

/// Connects to the deployment, and loads the checks to run on it.
///
/// # Errors
///
/// As [`connect`], and if no file of checks is named or it is invalid.
pub(crate) async fn connect_with_checks(
    args: &ChecksArgs,
    matches: &ArgMatches,
) -> anyhow::Result<(Client, Checks)> {
    let config = ConfigFile::load(args.config.file.as_deref())?;
    let checks = load_checks(&args.checks, &config, "\n  ")?
        .context("no file of checks: name one with --checks.file, or in the configuration file")?
        .only(&args.only)
        .map_err(anyhow::Error::msg)?;
    Ok((connect(args.mongodb.clone(), &config, matches).await?, checks))
}
