//! `txnscope serve`: runs the sidecar.

mod args;
mod sources;

use clap::ArgMatches;
use txnscope_sidecar::{Config, Sidecar};

pub(crate) use self::args::ServeArgs;
use self::sources::{ConfigSources, Settings, misspelled_variables};
use crate::args::exit_status::ExitStatus;
use crate::config::exposed;
use crate::config::sections::Log;
use crate::config::settings::Section as _;
use crate::output::logging;
use crate::output::{log_error, print};
use crate::runtime::service_manager::{feed_watchdog, notify_ready, notify_stopping};
use crate::runtime::signals::{ShutdownSignals, reload_signal};
use crate::runtime::{raise_file_limit, two_threads};

pub(crate) fn run(args: ServeArgs, matches: &ArgMatches) -> ExitStatus {
    let sources = ConfigSources::new(args, matches);
    let settings = sources.load();
    // The file may configure logging. If it is invalid, its error is logged as the flags say.
    let log = match &settings {
        Ok(settings) => settings.log,
        Err(_) => Log::resolve(&Log::default(), &sources.args.log),
    };
    logging::start(log);
    exposed::log_warnings();
    for (name, meant) in misspelled_variables() {
        tracing::warn!(name, meant, "unknown variable");
    }
    let Settings { config, .. } = match settings {
        Ok(settings) => settings,
        Err(error) => return log_error(&error, ExitStatus::Error),
    };
    // One thread responds to a scrape while the other one decodes a reply.
    let runtime = match two_threads() {
        Ok(runtime) => runtime,
        Err(error) => return log_error(&error, ExitStatus::Failure),
    };
    let status = if sources.args.check_config {
        runtime.block_on(check(&config))
    } else {
        raise_file_limit();
        runtime.block_on(serve(sources, config))
    };
    // A task that still reads a file, for example from a disk that hangs, must not delay the exit.
    runtime.shutdown_background();
    status
}

async fn check(config: &Config) -> ExitStatus {
    match Sidecar::check(config).await {
        Ok(()) => {
            let checks = config.checks.as_ref().map_or(0, |checks| checks.iter().len());
            let (deployments, probes) = (config.targets.len(), config.probes.len());
            // A reader that is gone does not make the configuration invalid.
            let _ = print(&format!(
                "the configuration is valid: deployments: {deployments}, on-demand targets: {probes}, checks: {checks}\n\
                 not tested: whether the servers respond, and whether the users may log in and read; `txnscope preflight` with the \
                 same settings tests this\n"
            ));
            ExitStatus::Success
        }
        Err(error) => log_error(&error.into(), ExitStatus::Error),
    }
}

async fn serve(sources: ConfigSources, config: Config) -> ExitStatus {
    let signals = ShutdownSignals::listen().and_then(|signals| Ok((signals, reload_signal()?)));
    let (mut shutdown, mut reload) = match signals {
        Ok(signals) => signals,
        Err(error) => return log_error(&error, ExitStatus::Failure),
    };
    let exposure = exposure(&config);
    let load =
        move || Ok(sources.load().map(|settings| settings.config).map_err(|error| format!("{error:#}"))?);
    // A task of its own, since it reads files: a signal must be handled also while a disk hangs.
    let starting = tokio::spawn(Sidecar::start_reloadable(config, load));
    let started = tokio::select! {
        started = starting => started,
        name = shutdown.next() => {
            tracing::info!(signal = name, "stopping during startup");
            return ExitStatus::Success;
        }
    };
    let sidecar = match started {
        Ok(Ok(sidecar)) => sidecar,
        Ok(Err(error)) => {
            let status = if error.is_misuse() { ExitStatus::Error } else { ExitStatus::Failure };
            return log_error(&error.into(), status);
        }
        Err(error) => {
            return log_error(
                &anyhow::Error::new(error).context("the startup has failed"),
                ExitStatus::Failure,
            );
        }
    };
    tracing::info!("{exposure}");
    notify_ready(exposure);
    // On the threads that poll and serve: the watchdog must notice that these are blocked.
    tokio::spawn(feed_watchdog());
    let name = loop {
        tokio::select! {
            name = shutdown.next() => break name,
            _ = reload.recv() => {}
        }
        // The result of a reload is logged and exported. A reload may take long, and a shutdown does not wait for it. All
        // SIGHUPs that arrive meanwhile cause one more reload.
        tokio::select! {
            _ = sidecar.reload() => {}
            name = shutdown.next() => break name,
        }
    };
    notify_stopping();
    tracing::info!(signal = name, "stopping");
    sidecar.shutdown().await;
    tracing::info!("stopped");
    ExitStatus::Success
}

/// Who can read the metrics, and how to change that.
fn exposure(config: &Config) -> &'static str {
    let is_local = config.listen_addresses.iter().all(|address| address.ip().is_loopback());
    match (config.systemd_socket, is_local, config.web_config_file.is_some()) {
        (true, ..) => "clients that can reach the sockets of systemd can connect",
        (false, true, _) => {
            "only clients on this machine can connect; --web.listen-address=:9917 opens the metrics to other machines"
        }
        (false, false, true) => "other machines can connect, as the web configuration file permits",
        (false, false, false) => {
            "other machines can connect and read the metrics; --web.config.file requires TLS and users"
        }
    }
}
