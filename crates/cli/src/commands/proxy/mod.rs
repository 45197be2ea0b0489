//! `txnscope proxy`: runs the reverse proxy.

mod args;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use txnscope_proxy::{Config, Learner, Metrics, Operations, Proxy, StartError, UpstreamAddress};

pub(crate) use self::args::ProxyArgs;
use self::args::{Learn, Unmatched, defaults};
use crate::args::addresses::addresses;
use crate::args::exit_status::ExitStatus;
use crate::config::sections::Log;
use crate::config::settings::Section as _;
use crate::output::logging;
use crate::output::{log_error, print, print_result};
use crate::runtime::signals::ShutdownSignals;
use crate::runtime::{block_on, raise_file_limit};

pub(crate) fn run(args: &ProxyArgs) -> ExitStatus {
    logging::start(Log::resolve(&Log::default(), &args.log));
    let config = match config(args) {
        Ok(config) => config,
        Err(error) => return log_error(&error, ExitStatus::Error),
    };
    if args.check_config {
        let operations = config.operations.len();
        return print_result(&format!("the configuration is valid: {operations} operations\n"));
    }
    raise_file_limit();
    match block_on(proxy(config, args.general.learn)) {
        Ok(()) => ExitStatus::Success,
        Err(error) => log_error(&error, ExitStatus::Failure),
    }
}

fn config(args: &ProxyArgs) -> Result<Config> {
    let upstream = args.general.upstream.as_ref().context(
        "the backend is missing: --upstream=http://127.0.0.1:3000 names it, and so does TXNSCOPE_UPSTREAM",
    )?;
    let upstream: UpstreamAddress = upstream.parse().context("--upstream")?;
    let mut config = defaults(upstream);
    if let Some(file) = &args.operations.file {
        config.operations = Operations::read(file)?;
    }
    if let Some(unmatched) = args.general.unmatched {
        config.operations = config.operations.count_unmatched(matches!(unmatched, Unmatched::Count));
    }
    args.general.apply(&mut config);
    args.proxy.apply(&mut config);
    args.upstream.apply(&mut config);
    listen(&mut config.listen_addresses, args.proxy.listen_address.as_ref())
        .context("--proxy.listen-address")?;
    listen(&mut config.web_listen_addresses, args.web.listen_address.as_ref())
        .context("--web.listen-address")?;
    Ok(config)
}

fn listen(on: &mut Vec<SocketAddr>, given: Option<&Vec<String>>) -> Result<()> {
    if let Some(given) = given {
        *on = given.iter().map(|text| addresses(text)).collect::<Result<Vec<_>>>()?.concat();
    }
    Ok(())
}

async fn proxy(config: Config, learn: Option<Learn>) -> Result<()> {
    let mut signals = ShutdownSignals::listen()?;
    let metrics = Metrics::install()?;
    let mut learner = learn.map(|_| Arc::new(Learner::new()));
    let upstream = config.upstream.clone();
    if config.operations.is_empty() && learner.is_none() && !config.operations.counts_unmatched() {
        tracing::warn!("nothing is counted: give --operations.file, or draft one with --learn");
    }
    let proxy: Result<_, StartError> = Proxy::start_learning(config, &metrics, learner.clone());
    let proxy = proxy?;
    tracing::info!(listening = ?proxy.addresses(), web = ?proxy.web_addresses(), %upstream, "proxying");
    let mut time = learn.and_then(|learn| learn.0);
    let name = loop {
        let learned = async {
            match time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            name = signals.next() => break name,
            // Callers are served on: to end when the time is over would be an outage.
            () = learned => {
                time = None;
                draft(learner.take().as_deref())?;
                tracing::info!("the draft of an operations file is printed; requests go on");
            }
        }
    };
    tracing::info!(signal = name, "draining");
    let is_empty = tokio::select! {
        is_empty = proxy.drain() => is_empty,
        // A second signal ends the wait.
        _ = signals.next() => false,
    };
    if !is_empty {
        tracing::warn!(
            "some requests were cut: they took longer than --proxy.drain-timeout, or a second signal came"
        );
    }
    draft(learner.as_deref())?;
    tracing::info!("stopped");
    Ok(())
}

/// Prints the draft, if there is a learner.
fn draft(learner: Option<&Learner>) -> Result<()> {
    learner.map_or(Ok(()), |learner| print(&learner.draft()))
}
