//! The arguments of `proxy`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::args::duration::duration;
use crate::output::logging::LogArgs;

/// Each request to a route that the operations file names is counted and timed as by the library's tower layer, without a
/// change of the backend's code. docs/proxy.md has the file's form.
///
/// The flag `--a.b-c` is the variable `TXNSCOPE_A_B_C`.
#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    /// The backend: http://host:port, https://host, or unix:/path/of/socket.
    #[arg(long, value_name = "ADDRESS", env = "TXNSCOPE_UPSTREAM", hide_env_values = true)]
    pub(super) upstream: String,

    /// The operations to count, in TOML. Without it nothing is counted.
    #[arg(
        long = "operations.file",
        value_name = "FILE",
        env = "TXNSCOPE_OPERATIONS_FILE",
        hide_env_values = true
    )]
    pub(super) operations_file: Option<PathBuf>,

    /// What becomes of requests that match no operation. Default: as the file's key `unmatched` says, or pass.
    #[arg(long, value_name = "WHAT", env = "TXNSCOPE_UNMATCHED", hide_env_values = true, value_enum)]
    pub(super) unmatched: Option<Unmatched>,

    /// Check the flags and the operations file, say what is wrong, and end.
    #[arg(long = "check-config")]
    pub(super) check_config: bool,

    /// Print a draft of an operations file from what passes, after that time or at the end. Requests are served on.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, value_parser = duration)]
    #[allow(clippy::option_option, reason = "the flag is there or not, and has a value or not")]
    pub(super) learn: Option<Option<Duration>>,

    /// Where requests come in: host:port, or :port for every address. Repeat the flag for more. Default: 127.0.0.1:8080.
    #[arg(
        long = "proxy.listen-address",
        value_name = "ADDRESS",
        env = "TXNSCOPE_PROXY_LISTEN_ADDRESS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub(super) listen_addresses: Vec<String>,

    /// Take requests from the sockets that systemd hands over, and from no address.
    #[arg(long = "proxy.systemd-socket")]
    pub(super) systemd_socket: bool,

    /// Share the addresses with another proxy that does the same, so that a new process starts before the old one ends.
    #[arg(long = "proxy.reuse-port")]
    pub(super) reuse_port: bool,

    /// How long requests in flight may take after SIGTERM. Default: 30s.
    #[arg(long = "proxy.drain-timeout", value_name = "TIME", env = "TXNSCOPE_PROXY_DRAIN_TIMEOUT", hide_env_values = true, value_parser = duration)]
    pub(super) drain_timeout: Option<Duration>,

    /// The most connections of callers; further ones wait. Default: 10000.
    #[arg(
        long = "proxy.max-connections",
        value_name = "NUMBER",
        env = "TXNSCOPE_PROXY_MAX_CONNECTIONS",
        hide_env_values = true
    )]
    pub(super) max_connections: Option<usize>,

    /// The largest head of a request, in bytes. Default: 65536.
    #[arg(
        long = "proxy.max-head",
        value_name = "BYTES",
        env = "TXNSCOPE_PROXY_MAX_HEAD",
        hide_env_values = true
    )]
    pub(super) max_head: Option<usize>,

    /// The largest body of a request, in bytes. Default: none.
    #[arg(
        long = "proxy.max-body",
        value_name = "BYTES",
        env = "TXNSCOPE_PROXY_MAX_BODY",
        hide_env_values = true
    )]
    pub(super) max_body: Option<u64>,

    /// How long the head of a request may take. Default: 10s.
    #[arg(long = "proxy.head-timeout", value_name = "TIME", env = "TXNSCOPE_PROXY_HEAD_TIMEOUT", hide_env_values = true, value_parser = duration)]
    pub(super) head_timeout: Option<Duration>,

    /// How long a caller's connection is kept without a request. Default: 75s.
    #[arg(long = "proxy.idle-timeout", value_name = "TIME", env = "TXNSCOPE_PROXY_IDLE_TIMEOUT", hide_env_values = true, value_parser = duration)]
    pub(super) idle_timeout: Option<Duration>,

    /// How long a caller may take no byte of an answer that waits. Default: 60s.
    #[arg(
        long = "proxy.write-timeout",
        value_name = "TIME",
        env = "TXNSCOPE_PROXY_WRITE_TIMEOUT",
        hide_env_values = true,
        value_parser = duration
    )]
    pub(super) write_timeout: Option<Duration>,

    /// What Forwarded and X-Forwarded-* tell the backend about the client: replace what the client claims, append to
    /// it behind a trusted proxy, or leave it alone. Default: replace.
    #[arg(long, value_name = "POLICY", env = "TXNSCOPE_FORWARDED", hide_env_values = true, value_enum)]
    pub(super) forwarded: Option<Forwarded>,

    /// Call the backend by HTTP/2 whatever the client speaks. Else only gRPC is.
    #[arg(long = "upstream.http2")]
    pub(super) upstream_http2: bool,

    /// The certificates that the backend's is checked with, in PEM. Default: those of the system.
    #[arg(
        long = "upstream.ca-file",
        value_name = "FILE",
        env = "TXNSCOPE_UPSTREAM_CA_FILE",
        hide_env_values = true
    )]
    pub(super) upstream_ca_file: Option<PathBuf>,

    /// How long a connection to the backend may take to be there. Default: 5s.
    #[arg(long = "upstream.connect-timeout", value_name = "TIME", env = "TXNSCOPE_UPSTREAM_CONNECT_TIMEOUT", hide_env_values = true, value_parser = duration)]
    pub(super) upstream_connect_timeout: Option<Duration>,

    /// How long the backend may take to begin its answer. Default: 60s.
    #[arg(long = "upstream.timeout", value_name = "TIME", env = "TXNSCOPE_UPSTREAM_TIMEOUT", hide_env_values = true, value_parser = duration)]
    pub(super) upstream_timeout: Option<Duration>,

    /// How long the backend may pause in the middle of an answer; 0s: for ever. Default: 5m.
    #[arg(long = "upstream.read-timeout", value_name = "TIME", env = "TXNSCOPE_UPSTREAM_READ_TIMEOUT", hide_env_values = true, value_parser = duration)]
    pub(super) upstream_read_timeout: Option<Duration>,

    /// How long a connection to the backend is kept for the next request; shorter than the backend keeps it, which is 5s
    /// in Node. Default: 4s.
    #[arg(long = "upstream.idle-timeout", value_name = "TIME", env = "TXNSCOPE_UPSTREAM_IDLE_TIMEOUT", hide_env_values = true, value_parser = duration)]
    pub(super) upstream_idle_timeout: Option<Duration>,

    /// Where /metrics, /-/healthy and /-/ready are. Repeat the flag for more. Default: 127.0.0.1:9918.
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        env = "TXNSCOPE_WEB_LISTEN_ADDRESS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub(super) web_listen_addresses: Vec<String>,

    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Unmatched {
    /// They pass uncounted.
    Pass,
    /// They are counted as the operation `unmatched`.
    Count,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Forwarded {
    Append,
    Replace,
    Off,
}
