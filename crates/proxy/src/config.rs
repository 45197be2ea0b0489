//! The configuration of a proxy.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderValue;
use url::{Host, Url};

use crate::Operations;

/// The configuration of a proxy. Start from [`Config::new`] and change what differs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where requests come in. Port 0 takes any free one.
    pub listen_addresses: Vec<SocketAddr>,
    /// Whether requests come in through the sockets that systemd hands over, in place of the addresses.
    pub systemd_socket: bool,
    /// Whether another process may listen on the same addresses (`SO_REUSEPORT`), so that a new proxy can start before the
    /// old one stops.
    pub reuse_port: bool,
    /// How many threads serve requests, each with connections of its own to the backend. 0, the default: one for each core.
    pub threads: usize,
    /// Where `/metrics` and the health of the proxy are served; nowhere, if there is none.
    pub web_listen_addresses: Vec<SocketAddr>,
    /// The backend.
    pub upstream: UpstreamAddress,
    /// How the backend is called.
    pub upstream_settings: UpstreamSettings,
    /// What is counted.
    pub operations: Operations,
    /// The policy for the headers about the client.
    pub forwarded: ForwardedPolicy,
    /// What callers may take.
    pub limits: Limits,
    /// How long requests that are in flight when the proxy is drained may take.
    pub drain_timeout: Duration,
}

impl Config {
    /// A proxy of that backend that listens on a free port of this machine, counts nothing and has all defaults.
    #[must_use]
    pub fn new(upstream: UpstreamAddress) -> Self {
        Self {
            listen_addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            systemd_socket: false,
            reuse_port: false,
            threads: 0,
            web_listen_addresses: Vec::new(),
            upstream,
            upstream_settings: UpstreamSettings::default(),
            operations: Operations::none(),
            forwarded: ForwardedPolicy::default(),
            limits: Limits::default(),
            drain_timeout: Duration::from_secs(30),
        }
    }

    /// The number of threads that serve requests.
    pub(crate) fn event_loops(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

/// How the backend is called.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UpstreamSettings {
    /// Whether the backend is called by HTTP/2 whatever the client speaks, with prior knowledge. Else it is for gRPC only.
    pub http2: bool,
    /// The certificates of the authorities that the backend's own is checked with, in PEM; the system's, if there is none.
    pub ca_file: Option<PathBuf>,
    /// How long a connection may take to be there. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long the backend may take to begin its answer, from the last byte of the request that was sent. Default: 60 s.
    pub timeout: Duration,
    /// How long the backend may pause in the middle of an answer. Default: 5 min.
    pub read_timeout: Duration,
    /// How long a connection is kept for the next request. It has to be shorter than the backend's own time, which is
    /// 5 s in Node: a request that is sent while the backend closes the connection fails, as it may have had an effect.
    /// Default: 4 s.
    pub idle_timeout: Duration,
    /// How many connections are kept for the next request, by all threads together. Default: 512.
    pub max_idle: usize,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            http2: false,
            ca_file: None,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(60),
            read_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(4),
            max_idle: 512,
        }
    }
}

/// What callers may take.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// The most connections of callers; further ones wait to be accepted. Default: 10,000.
    pub max_connections: usize,
    /// The largest head of a request, in bytes. Default: 64 KiB.
    pub max_head: usize,
    /// The largest body of a request, in bytes. Default: none.
    pub max_body: Option<u64>,
    /// How long the head of a request may take, from its first byte on, or from the connection's opening for the first
    /// one. What takes longer is ended after twice the time at the latest. Default: 10 s.
    pub head_timeout: Duration,
    /// How long a connection is kept without a request. Default: 75 s.
    pub idle_timeout: Duration,
    /// How long a caller may take no byte of an answer that waits. The operation is cancelled then. What takes longer is ended
    /// after twice the time at the latest. Default: 60 s.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_head: 64 * 1024,
            max_body: None,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// The headers about the client that the backend gets: `Forwarded`, `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedPolicy {
    /// What the caller says of it is dropped, and what the proxy sees stands there.
    #[default]
    Replace,
    /// What the proxy sees is added to what the caller says: right behind a proxy that is trusted.
    Append,
    /// The headers pass as they are.
    Off,
}

/// The backend's address: `http://host:port`, `https://host:port` or `unix:/path/of/socket`.
///
/// ```
/// use txnscope_proxy::UpstreamAddress;
///
/// let address: UpstreamAddress = "http://127.0.0.1:3000".parse()?;
/// assert_eq!(address.to_string(), "http://127.0.0.1:3000");
/// assert!("127.0.0.1:3000".parse::<UpstreamAddress>().is_err());
/// # Ok::<(), txnscope_proxy::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamAddress(pub(crate) Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp {
        host: String,
        port: u16,
        tls: bool,
    },
    Unix(PathBuf),
    /// The fuzzer's, in this process.
    #[cfg(feature = "fuzzing")]
    Memory,
}

/// An address of a backend that is none. It repeats nothing of what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; write the backend's address as http://127.0.0.1:3000, https://backend.internal or unix:/run/app.sock"
)]
pub struct AddressError(&'static str);

impl UpstreamAddress {
    /// The backend at a TCP address, by HTTP.
    #[must_use]
    pub fn http(address: SocketAddr) -> Self {
        Self(Kind::Tcp { host: address.ip().to_string(), port: address.port(), tls: false })
    }

    /// What a request is for that does not say it.
    pub(crate) fn authority(&self) -> HeaderValue {
        let authority = match &self.0 {
            Kind::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Kind::Tcp { host, port, .. } => format!("{host}:{port}"),
            Kind::Unix(_) => "localhost".to_owned(),
            #[cfg(feature = "fuzzing")]
            Kind::Memory => "localhost".to_owned(),
        };
        HeaderValue::try_from(authority).unwrap_or_else(|_| HeaderValue::from_static("localhost"))
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.0, Kind::Tcp { tls: true, .. })
    }
}

impl FromStr for UpstreamAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(AddressError("the path of a socket begins with a slash"));
            }
            return Ok(Self(Kind::Unix(PathBuf::from(path))));
        }
        let url = Url::parse(text).map_err(|_| AddressError("this is no address"))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(AddressError("the scheme is neither http nor https nor unix")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError("a user or a password has no place here"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError("paths pass as they are, so that the address has none"));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(AddressError("the host is missing")),
        };
        let port = url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self(Kind::Tcp { host, port, tls }))
    }
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp { host, port, tls } => {
                let scheme = if *tls { "https" } else { "http" };
                if host.contains(':') {
                    write!(f, "{scheme}://[{host}]:{port}")
                } else {
                    write!(f, "{scheme}://{host}:{port}")
                }
            }
            Kind::Unix(path) => write!(f, "unix:{}", path.display()),
            #[cfg(feature = "fuzzing")]
            Kind::Memory => f.write_str("memory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_or_refused_without_repeating_it() {
        for (text, expected) in [
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://127.0.0.1:3000/", "http://127.0.0.1:3000"),
            ("https://backend.internal", "https://backend.internal:443"),
            ("http://[::1]:80", "http://[::1]:80"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
        ] {
            assert_eq!(text.parse::<UpstreamAddress>().unwrap().to_string(), expected);
        }
        for text in [
            "",
            "localhost:3000",
            "http://",
            "http://u:hunter2@h",
            "http://h/hunter2",
            "unix:hunter2",
            "ftp://hunter2",
        ] {
            let error = text.parse::<UpstreamAddress>().expect_err(text).to_string();
            assert!(!error.contains("hunter2") && error.contains("http://127.0.0.1:3000"), "{error}");
        }
    }
}
