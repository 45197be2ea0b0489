//! `txnscope proxy`.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use txnscope_proxy::{
    Config, ForwardedPolicy, Learner, Metrics, Operations, Proxy, StartError, UpstreamAddress,
};

use crate::flags::{Level, LogFormat, duration};
use crate::serve::raise_file_limit;
use crate::settings::addresses;
use crate::{FAILURE, MISUSE, fail, logging, printed};

/// Where the traffic comes in, if nothing else is said.
const LISTEN: &str = "127.0.0.1:8080";
/// Where the proxy's own pages are.
const WEB: &str = "127.0.0.1:9918";

/// Each request to a route that the operations file names is counted and timed as by the library's tower layer, without a
/// change of the backend's code. docs/proxy.md has the file's form.
///
/// The flag `--a.b-c` is the variable `TXNSCOPE_A_B_C`.
#[derive(Debug, Args)]
pub(crate) struct ProxyFlags {
    /// The backend: http://host:port, https://host, or unix:/path/of/socket.
    #[arg(long, value_name = "ADDRESS", env = "TXNSCOPE_UPSTREAM", hide_env_values = true)]
    upstream: String,

    /// The operations to count, in TOML. Without it nothing is counted.
    #[arg(
        long = "operations.file",
        value_name = "FILE",
        env = "TXNSCOPE_OPERATIONS_FILE",
        hide_env_values = true
    )]
    operations_file: Option<PathBuf>,

    /// What becomes of requests that match no operation. Default: as the file's key `unmatched` says, or pass.
    #[arg(long, value_name = "WHAT", env = "TXNSCOPE_UNMATCHED", hide_env_values = true, value_enum)]
    unmatched: Option<Unmatched>,

    /// Check the flags and the operations file, say what is wrong, and end.
    #[arg(long = "check-config")]
    check_config: bool,

    /// Print a draft of an operations file from what passes, after that time or at the end. Requests are served on.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, value_parser = duration)]
    #[allow(clippy::option_option, reason = "the flag is there or not, and has a value or not")]
    learn: Option<Option<Duration>>,

    /// Where requests come in: host:port, or :port for every address. Repeat the flag for more. Default: 127.0.0.1:8080.
    #[arg(
        long = "proxy.listen-address",
        value_name = "ADDRESS",
        env = "TXNSCOPE_PROXY_LISTEN_ADDRESS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    listen_addresses: Vec<String>,

    /// Take requests from the sockets that systemd hands over, and from no address.
    #[arg(long = "proxy.systemd-socket")]
    systemd_socket: bool,

    /// Share the addresses with another proxy that does the same, so that a new process starts before the old one ends.
    #[arg(long = "proxy.reuse-port")]
    reuse_port: bool,

    /// How long requests in flight may take after SIGTERM. Default: 30s.
    #[arg(long = "proxy.drain-timeout", value_name = "TIME", env = "TXNSCOPE_PROXY_DRAIN_TIMEOUT", hide_env_values = true, value_parser = duration)]
    drain_timeout: Option<Duration>,

    /// The most connections of callers; further ones wait. Default: 10000.
    #[arg(
        long = "proxy.max-connections",
        value_name = "NUMBER",
        env = "TXNSCOPE_PROXY_MAX_CONNECTIONS",
        hide_env_values = true
    )]
    max_connections: Option<usize>,

    /// The largest head of a request, in bytes. Default: 65536.
    #[arg(
        long = "proxy.max-head",
        value_name = "BYTES",
        env = "TXNSCOPE_PROXY_MAX_HEAD",
        hide_env_values = true
    )]
    max_head: Option<usize>,

    /// The largest body of a request, in bytes. Default: none.
    #[arg(
        long = "proxy.max-body",
        value_name = "BYTES",
        env = "TXNSCOPE_PROXY_MAX_BODY",
        hide_env_values = true
    )]
    max_body: Option<u64>,

    /// How long the head of a request may take. Default: 10s.
    #[arg(long = "proxy.head-timeout", value_name = "TIME", env = "TXNSCOPE_PROXY_HEAD_TIMEOUT", hide_env_values = true, value_parser = duration)]
    head_timeout: Option<Duration>,

    /// How long a caller's connection is kept without a request. Default: 75s.
    #[arg(long = "proxy.idle-timeout", value_name = "TIME", env = "TXNSCOPE_PROXY_IDLE_TIMEOUT", hide_env_values = true, value_parser = duration)]
    idle_timeout: Option<Duration>,

    /// How long a caller may take no byte of an answer that waits. Default: 60s.
    #[arg(
        long = "proxy.write-timeout",
        value_name = "TIME",
        env = "TXNSCOPE_PROXY_WRITE_TIMEOUT",
        hide_env_values = true,
        value_parser = duration
    )]
    write_timeout: Option<Duration>,

    /// What the backend is told of who has called, in Forwarded and X-Forwarded-*: replace what the caller claims, append to
    /// it behind a trusted proxy, or leave it alone. Default: replace.
    #[arg(long, value_name = "POLICY", env = "TXNSCOPE_FORWARDED", hide_env_values = true, value_enum)]
    forwarded: Option<Forwarded>,

    /// Call the backend by HTTP/2 whatever the client speaks. Else only gRPC is.
    #[arg(long = "upstream.http2")]
    upstream_http2: bool,

    /// The certificates that the backend's is checked with, in PEM. Default: those of the system.
    #[arg(
        long = "upstream.ca-file",
        value_name = "FILE",
        env = "TXNSCOPE_UPSTREAM_CA_FILE",
        hide_env_values = true
    )]
    upstream_ca_file: Option<PathBuf>,

    /// How long a connection to the backend may take to be there. Default: 5s.
    #[arg(long = "upstream.connect-timeout", value_name = "TIME", env = "TXNSCOPE_UPSTREAM_CONNECT_TIMEOUT", hide_env_values = true, value_parser = duration)]
    upstream_connect_timeout: Option<Duration>,

    /// How long the backend may take to begin its answer. Default: 60s.
    #[arg(long = "upstream.timeout", value_name = "TIME", env = "TXNSCOPE_UPSTREAM_TIMEOUT", hide_env_values = true, value_parser = duration)]
    upstream_timeout: Option<Duration>,

    /// How long the backend may pause in the middle of an answer; 0s: for ever. Default: 5m.
    #[arg(long = "upstream.read-timeout", value_name = "TIME", env = "TXNSCOPE_UPSTREAM_READ_TIMEOUT", hide_env_values = true, value_parser = duration)]
    upstream_read_timeout: Option<Duration>,

    /// How long a connection to the backend is kept for the next request; shorter than the backend keeps it, which is 5s
    /// in Node. Default: 4s.
    #[arg(long = "upstream.idle-timeout", value_name = "TIME", env = "TXNSCOPE_UPSTREAM_IDLE_TIMEOUT", hide_env_values = true, value_parser = duration)]
    upstream_idle_timeout: Option<Duration>,

    /// Where /metrics, /-/healthy and /-/ready are. Repeat the flag for more. Default: 127.0.0.1:9918.
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        env = "TXNSCOPE_WEB_LISTEN_ADDRESS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    web_listen_addresses: Vec<String>,

    /// The least important messages to log. Default: info.
    #[arg(
        long = "log.level",
        value_name = "LEVEL",
        env = "TXNSCOPE_LOG_LEVEL",
        hide_env_values = true,
        value_enum
    )]
    level: Option<Level>,

    /// How to log. Default: logfmt.
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        env = "TXNSCOPE_LOG_FORMAT",
        hide_env_values = true,
        value_enum
    )]
    format: Option<LogFormat>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Unmatched {
    /// They pass uncounted.
    Pass,
    /// They are counted as the operation `unmatched`.
    Count,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Forwarded {
    Append,
    Replace,
    Off,
}

pub(crate) fn run(flags: &ProxyFlags) -> ExitCode {
    logging::start(flags.level.unwrap_or(Level::Info), flags.format.unwrap_or(LogFormat::Logfmt));
    let config = match config(flags) {
        Ok(config) => config,
        Err(error) => return fail(&error, MISUSE),
    };
    if flags.check_config {
        let operations = config.operations.len();
        return printed(&format!("the configuration is valid: {operations} operations\n"));
    }
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime.context("cannot start the runtime") {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, FAILURE),
    };
    let code = match runtime.block_on(proxy(config, flags.learn)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, FAILURE),
    };
    runtime.shutdown_background();
    code
}

fn config(flags: &ProxyFlags) -> Result<Config> {
    let upstream: UpstreamAddress = flags.upstream.parse().context("--upstream")?;
    let mut config = Config::new(upstream);
    if let Some(file) = &flags.operations_file {
        config.operations = Operations::read(file)?;
    }
    if let Some(unmatched) = flags.unmatched {
        config.operations = config.operations.count_unmatched(matches!(unmatched, Unmatched::Count));
    }
    config.listen_addresses =
        all_addresses(&flags.listen_addresses, LISTEN).context("--proxy.listen-address")?;
    config.web_listen_addresses =
        all_addresses(&flags.web_listen_addresses, WEB).context("--web.listen-address")?;
    config.systemd_socket = flags.systemd_socket;
    config.reuse_port = flags.reuse_port;
    set(&mut config.drain_timeout, flags.drain_timeout);
    config.forwarded = match flags.forwarded {
        Some(Forwarded::Append) => ForwardedPolicy::Append,
        Some(Forwarded::Off) => ForwardedPolicy::Off,
        Some(Forwarded::Replace) | None => ForwardedPolicy::Replace,
    };
    let limits = &mut config.limits;
    set(&mut limits.max_connections, flags.max_connections);
    set(&mut limits.max_head, flags.max_head);
    set(&mut limits.head_timeout, flags.head_timeout);
    set(&mut limits.idle_timeout, flags.idle_timeout);
    set(&mut limits.write_timeout, flags.write_timeout);
    limits.max_body = flags.max_body;
    let upstream = &mut config.upstream_settings;
    upstream.http2 = flags.upstream_http2;
    upstream.ca_file.clone_from(&flags.upstream_ca_file);
    set(&mut upstream.connect_timeout, flags.upstream_connect_timeout);
    set(&mut upstream.timeout, flags.upstream_timeout);
    set(&mut upstream.read_timeout, flags.upstream_read_timeout);
    set(&mut upstream.idle_timeout, flags.upstream_idle_timeout);
    Ok(config)
}

fn set<T>(setting: &mut T, flag: Option<T>) {
    if let Some(flag) = flag {
        *setting = flag;
    }
}

fn all_addresses(given: &[String], default: &str) -> Result<Vec<std::net::SocketAddr>> {
    if given.is_empty() {
        return addresses(default);
    }
    Ok(given.iter().map(|text| addresses(text)).collect::<Result<Vec<_>>>()?.concat())
}

async fn proxy(config: Config, learn: Option<Option<Duration>>) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let metrics = Metrics::install()?;
    let mut learner = learn.map(|_| Arc::new(Learner::new()));
    let upstream = config.upstream.clone();
    if config.operations.is_empty() && learner.is_none() && !config.operations.counts_unmatched() {
        tracing::warn!("nothing is counted: give --operations.file, or draft one with --learn");
    }
    let proxy: Result<_, StartError> = Proxy::start_learning(config, &metrics, learner.clone());
    let proxy = proxy?;
    tracing::info!(listening = ?proxy.addresses(), web = ?proxy.web_addresses(), %upstream, "proxying");
    let mut time = learn.flatten();
    let name = loop {
        let learned = async {
            match time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => break "SIGINT",
            _ = terminate.recv() => break "SIGTERM",
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
        // Who asks twice does not want to wait.
        _ = interrupt.recv() => false,
        _ = terminate.recv() => false,
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

/// Prints what was learned, if anybody has.
fn draft(learner: Option<&Learner>) -> Result<()> {
    let Some(learner) = learner else { return Ok(()) };
    let draft = txnscope_catalog::escape_text(&learner.draft()).into_owned();
    let mut out = io::stdout().lock();
    out.write_all(draft.as_bytes()).and_then(|()| out.flush()).context("cannot write to the output")
}
