//! `txnscope serve`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context;
use clap::ArgMatches;
use tokio::signal::unix::{Signal, SignalKind, signal};
use txnscope_sidecar::{Config, Sidecar};

use crate::flags::{Level, LogFormat, ServeFlags};
use crate::settings::{Given, Settings, misspelt_variables};
use crate::{FAILURE, MISUSE, exposed, fail, logging};

pub(crate) fn run(flags: ServeFlags, matches: &ArgMatches) -> ExitCode {
    let given = Given::new(flags, matches);
    let settings = given.settings();
    // How to log may stand in the file. Where that is wrong, it is said as the flags want it.
    let (level, format) = match &settings {
        Ok(settings) => (settings.level, settings.format),
        Err(_) => (given.flags.level.unwrap_or(Level::Info), given.flags.format.unwrap_or(LogFormat::Logfmt)),
    };
    logging::start(level, format);
    exposed::log();
    for (name, meant) in misspelt_variables() {
        tracing::warn!(name, meant, "a variable that nobody reads");
    }
    let Settings { config, .. } = match settings {
        Ok(settings) => settings,
        Err(error) => return fail(&error, MISUSE),
    };
    // Two threads: a scrape is answered while the other decodes a reply.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime.context("cannot start the runtime") {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, FAILURE),
    };
    let code = if given.flags.check_config {
        runtime.block_on(check(&config))
    } else {
        raise_file_limit();
        runtime.block_on(serve(given, config))
    };
    // What still reads a file, from a disk that hangs say, holds up no end.
    runtime.shutdown_background();
    code
}

/// As many files as the system lets us have: each connection is one. The limit that a process starts with is low for the
/// sake of programs of another age.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}

async fn check(config: &Config) -> ExitCode {
    match Sidecar::check(config).await {
        Ok(()) => {
            let _ = writeln!(
                io::stdout().lock(),
                "the configuration is valid: {} deployments, and {} on demand; {} checks",
                config.targets.len(),
                config.probes.len(),
                config.checks.as_ref().map_or(0, |checks| checks.iter().len())
            );
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error.into(), MISUSE),
    }
}

async fn serve(given: Given, config: Config) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(&error, FAILURE),
    };
    let load =
        move || Ok(given.settings().map(|settings| settings.config).map_err(|error| format!("{error:#}"))?);
    // A task of its own, as it reads files: the end is heard also while a disk hangs.
    let starting = tokio::spawn(Sidecar::start_reloadable(config, load));
    let started = tokio::select! {
        started = starting => started,
        name = signals.end() => {
            tracing::info!(signal = name, "stopping before the start has ended");
            return ExitCode::SUCCESS;
        }
    };
    let sidecar = match started {
        Ok(Ok(sidecar)) => sidecar,
        Ok(Err(error)) => {
            let code = if error.is_misuse() { MISUSE } else { FAILURE };
            return fail(&error.into(), code);
        }
        Err(error) => return fail(&anyhow::Error::new(error).context("the start has failed"), FAILURE),
    };
    let name = loop {
        match signals.next().await {
            // How it ends is in the log and on the page. It may take long, and the end does not wait for it; further
            // SIGHUPs are one that comes afterwards.
            "SIGHUP" => tokio::select! {
                _ = sidecar.reload() => {}
                name = signals.end() => break name,
            },
            name => break name,
        }
    };
    tracing::info!(signal = name, "stopping");
    sidecar.shutdown().await;
    tracing::info!("stopped");
    ExitCode::SUCCESS
}

/// SIGHUP to read the configuration again, SIGINT and SIGTERM to end.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.hangup.recv() => "SIGHUP",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// SIGINT or SIGTERM.
    async fn end(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
