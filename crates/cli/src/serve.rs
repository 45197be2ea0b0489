//! `txnscope serve`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail, ensure};
use clap::ArgMatches;
use clap::parser::ValueSource;
use tokio::signal::unix::{Signal, SignalKind, signal};
use txnscope_sidecar::{Config, Sidecar};

use crate::flags::ServeFlags;
use crate::{FAILURE, MISUSE, fail, logging};

pub(crate) fn run(flags: &ServeFlags, matches: &ArgMatches) -> ExitCode {
    logging::start(flags.level, flags.format);
    let source = matches.value_source("uri");
    let config = match config(flags, source) {
        Ok(config) => config,
        Err(error) => return fail(&error, MISUSE),
    };
    if source == Some(ValueSource::CommandLine) && config.uri.contains('@') {
        tracing::warn!(
            "--mongodb.uri holds credentials that ps shows to everybody: use --mongodb.uri-file or MONGODB_URI"
        );
    }
    // Two threads: a scrape is answered while the other decodes a reply.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime.context("cannot start the runtime") {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, FAILURE),
    };
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> ExitCode {
    let mut stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => return fail(&error, FAILURE),
    };
    let sidecar = match Sidecar::start(config).await {
        Ok(sidecar) => sidecar,
        Err(error) => {
            let code = if error.is_misuse() { MISUSE } else { FAILURE };
            return fail(&error.into(), code);
        }
    };
    let name = stop.requested().await;
    tracing::info!(signal = name, "stopping");
    sidecar.shutdown().await;
    tracing::info!("stopped");
    ExitCode::SUCCESS
}

fn config(flags: &ServeFlags, source: Option<ValueSource>) -> anyhow::Result<Config> {
    let mut config = Config::new(uri(flags, source)?);
    config.listen_address = flags.listen_address;
    config.telemetry_path.clone_from(&flags.telemetry_path);
    config.poll_interval = flags.interval;
    config.poll_timeout = flags.timeout;
    Ok(config)
}

/// The flag, else the file, else the variable.
fn uri(flags: &ServeFlags, source: Option<ValueSource>) -> anyhow::Result<String> {
    let given = source == Some(ValueSource::CommandLine);
    match (&flags.uri_file, &flags.uri) {
        (Some(_), Some(_)) if given => {
            bail!("--mongodb.uri and --mongodb.uri-file say the same thing: give one of them")
        }
        (Some(file), _) => {
            read(file).with_context(|| format!("--mongodb.uri-file: cannot use {}", file.display()))
        }
        (None, Some(uri)) => {
            uri.to_str().map(str::to_owned).context("the URI is not UTF-8; percent-encode what is not ASCII")
        }
        (None, None) => bail!(
            "which deployment? Give --mongodb.uri=mongodb://host:port/?replicaSet=name, or a file that holds it with --mongodb.uri-file, or set MONGODB_URI"
        ),
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    let text = String::from_utf8(std::fs::read(file)?).map_err(|_| anyhow!("it is not UTF-8"))?;
    let uri = text.trim();
    ensure!(!uri.is_empty(), "it is empty");
    Ok(uri.to_owned())
}

/// SIGINT and SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn requested(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
