//! The arguments of `proxy`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Args, ValueEnum};
use serde::Deserialize;
use txnscope_proxy::{Config, ForwardedPolicy, UpstreamAddress};

use crate::args::duration::duration;
use crate::config::sections::Log;
use crate::config::settings::{Nothing, Shown, Single, Time, settings, single};

/// Each request to a route that the operations file names is counted and timed as by the library's tower layer, without a
/// change of the backend's code. docs/proxy.md has the file's form.
///
/// The flag `--a.b-c` is the variable `TXNSCOPE_A_B_C`.
#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    pub(super) general: General,

    #[command(flatten)]
    pub(super) operations: OperationsPath,

    /// Check the flags and the operations file, say what is wrong, and end.
    #[arg(long = "check-config")]
    pub(super) check_config: bool,

    #[command(flatten)]
    pub(super) proxy: ProxySettings,

    #[command(flatten)]
    pub(super) upstream: UpstreamSettings,

    #[command(flatten)]
    pub(super) web: WebSettings,

    #[command(flatten)]
    pub(super) log: Log,
}

settings! {
    /// The settings without a section.
    #[derive(Debug)]
    pub(super) struct General in "" for Config = any_backend();
    /// The backend: http://host:port, https://host, or unix:/path/of/socket.
    upstream: String [ADDRESS];
    /// What becomes of requests that match no operation. Default: as the file's key `unmatched` says, or pass.
    unmatched: Unmatched [WHAT];
    /// Print a draft of an operations file from what passes, after that time or at the end. Requests are served on.
    learn: Learn [TIME];
    /// What Forwarded and X-Forwarded-* tell the backend about the client: replace what the client claims, append to
    /// it behind a trusted proxy, or leave it alone.
    forwarded: Forwarded [POLICY] => forwarded;
}

settings! {
    #[derive(Debug)]
    pub(super) struct OperationsPath in "operations" for Nothing = Nothing;
    /// The operations to count, in TOML. Without it nothing is counted.
    file: PathBuf [FILE];
}

settings! {
    #[derive(Debug)]
    pub(super) struct ProxySettings in "proxy" for Config = any_backend();
    /// Where requests come in: host:port, or :port for every address. Repeat the flag for more.
    listen_address: Vec<String> [ADDRESS] = listen_addresses;
    /// Take requests from the sockets that systemd hands over, and from no address.
    systemd_socket: bool [BOOL] => systemd_socket;
    /// Share the addresses with another proxy that does the same, so that a new process starts before the old one ends.
    reuse_port: bool [BOOL] => reuse_port;
    /// How many threads serve requests, each with connections of its own to the backend; 0: one for each core.
    threads: usize [NUMBER] => threads;
    /// How long requests in flight may take after SIGTERM.
    drain_timeout: Time [TIME] => drain_timeout;
    /// The most connections of callers; further ones wait.
    max_connections: usize [NUMBER] => limits.max_connections;
    /// The largest head of a request, in bytes.
    max_head: usize [BYTES] => limits.max_head;
    /// The largest body of a request, in bytes. Default: none.
    max_body: u64 [BYTES] => limits.max_body;
    /// How long the head of a request may take.
    head_timeout: Time [TIME] => limits.head_timeout;
    /// How long a caller's connection is kept without a request.
    idle_timeout: Time [TIME] => limits.idle_timeout;
    /// How long a caller may take no byte of an answer that waits.
    write_timeout: Time [TIME] => limits.write_timeout;
}

settings! {
    #[derive(Debug)]
    pub(super) struct UpstreamSettings in "upstream" for Config = any_backend();
    /// Call the backend by HTTP/2 whatever the client speaks. Else only gRPC is.
    http2: bool [BOOL] => upstream_settings.http2;
    /// The certificates that the backend's is checked with, in PEM. Default: those of the system.
    ca_file: PathBuf [FILE] => upstream_settings.ca_file;
    /// How long a connection to the backend may take to be there.
    connect_timeout: Time [TIME] => upstream_settings.connect_timeout;
    /// How long the backend may take to begin its answer.
    timeout: Time [TIME] => upstream_settings.timeout;
    /// How long the backend may pause in the middle of an answer; 0s: for ever.
    read_timeout: Time [TIME] => upstream_settings.read_timeout;
    /// How long a connection to the backend is kept for the next request; shorter than the backend keeps it, which is 5s
    /// in Node.
    idle_timeout: Time [TIME] => upstream_settings.idle_timeout;
}

settings! {
    #[derive(Debug)]
    pub(super) struct WebSettings in "web" for Config = any_backend();
    /// Where /metrics, the operations in flight (/-/operations), /-/healthy and /-/ready are. Repeat the flag for more.
    listen_address: Vec<String> [ADDRESS] = web_listen_addresses;
}

/// The configuration without any flag but that of the backend.
pub(super) fn defaults(upstream: UpstreamAddress) -> Config {
    let mut config = Config::new(upstream);
    config.listen_addresses = vec![([127, 0, 0, 1], 8080).into()];
    config.web_listen_addresses = vec![([127, 0, 0, 1], 9918).into()];
    config
}

/// The defaults, which are the same for every backend.
fn any_backend() -> Config {
    defaults(UpstreamAddress::http(([127, 0, 0, 1], 3000).into()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unmatched {
    /// They pass uncounted.
    Pass,
    /// They are counted as the operation `unmatched`.
    Count,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Forwarded {
    Append,
    Replace,
    Off,
}

impl From<Forwarded> for ForwardedPolicy {
    fn from(forwarded: Forwarded) -> Self {
        match forwarded {
            Forwarded::Append => Self::Append,
            Forwarded::Replace => Self::Replace,
            Forwarded::Off => Self::Off,
        }
    }
}

impl Shown for ForwardedPolicy {
    fn shown(&self) -> Option<String> {
        Some(format!("{self:?}").to_lowercase())
    }
}

/// After which time the draft is printed; at the end, if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Learn(pub(super) Option<Duration>);

impl TryFrom<String> for Learn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let time = Some(text).filter(|text| !text.is_empty());
        time.map(|time| duration(&time)).transpose().map(Self)
    }
}

/// The flag may have no value.
impl Single for Learn {
    fn define(argument: Arg) -> Arg {
        let argument = argument.num_args(0..=1).require_equals(true).default_missing_value("");
        argument.value_parser(|text: &str| Self::try_from(text.to_owned()))
    }
}

single!(Unmatched, Forwarded);
