//! `txnscope audit` and `txnscope repair`.

pub(crate) mod audit;
mod confirm;
mod flags;
mod output;
pub(crate) mod repair;
pub(crate) mod table;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::ArgMatches;
use mongodb::Client;
use txnscope_checks::Checks;
use txnscope_mongo::{FILE_LIMIT, UriError, display_path, read_file};

pub(crate) use flags::{AuditFlags, RepairFlags};

use crate::checks::flags::Common;
use crate::deployment::{DeploymentFlags, Deployments};
use crate::file::File;

/// Everything is as it should be.
const CLEAN: u8 = 0;
/// Something is wrong with the data, or could not be repaired.
const VIOLATED: u8 = 1;
/// It is not known: the command line, the file, the server.
const UNKNOWN: u8 = 2;

const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a file of checks. Everything that is wrong with it is told, with `separator` between the
/// mistakes.
pub(crate) fn read(file: &Path, separator: &str) -> anyhow::Result<Checks> {
    let name = display_path(file, file);
    let bytes = read_file(file, FILE_LIMIT).with_context(|| format!("cannot read {name}"))?;
    let text = String::from_utf8(bytes).with_context(|| format!("cannot read {name}: it is not UTF-8"))?;
    Checks::parse(&text).map_err(|error| {
        let told: Vec<_> = error
            .diagnostics()
            .iter()
            .map(|diagnostic| format!("{name}:{}: {}", diagnostic.line, diagnostic.message))
            .collect();
        anyhow!("this is no file of checks: {}", told.join(separator))
    })
}

/// The checks of the file that a flag, a variable or the configuration file names, if one does. What is wrong with it is
/// told as [`read`] does.
pub(crate) fn named(flag: Option<&Path>, file: &File, separator: &str) -> anyhow::Result<Option<Checks>> {
    let path = flag.map(Path::to_owned);
    let path = path.or_else(|| file.checks.file.as_ref().map(|path| file.beside(path)));
    path.map(|path| read(&path, separator)).transpose()
}

/// The client and the checks that the flags ask for.
async fn prepare(flags: &Common, matches: &ArgMatches) -> anyhow::Result<(Client, Checks)> {
    let file = File::named(flags.config_file.as_deref())?;
    let checks = named(flags.checks.as_deref(), &file, "\n  ")?
        .context("which checks? Name their file with --checks, or in the configuration file")?
        .only(&flags.check)
        .map_err(anyhow::Error::msg)?;
    Ok((client(flags.deployment.clone(), &file, matches).await?, checks))
}

/// A client of the one deployment that the flags name, or the file.
pub(crate) async fn client(
    flags: DeploymentFlags,
    file: &File,
    matches: &ArgMatches,
) -> anyhow::Result<Client> {
    let target = Deployments::new(flags, matches).one_of(file)?;
    let mut options = target.options().await?;
    options.app_name.get_or_insert_with(|| "txnscope".to_owned());
    options.server_selection_timeout.get_or_insert(SERVER_SELECTION_TIMEOUT);
    let client = Client::with_options(options);
    client.map_err(|error| UriError::from_client_error(&error).into())
}

/// Runs it to its end, or to a signal: what is left open on the server, the server ends.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}
