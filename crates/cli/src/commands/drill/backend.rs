//! The HTTP client of the backend: one URL and one token.
//!
//! It connects to no other address: it uses no proxy, and follows no redirect.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use txnscope_catalog::Line;
use txnscope_mongo::{display_path, one_line};

use crate::commands::drill::args::BackendArgs;
use crate::commands::drill::scenario::file::Statuses;
use crate::config::exposed::read_secret;

/// The variable with the token. There is no flag for it, since ps shows flags.
const TOKEN: &str = "TXNSCOPE_DRILL_TOKEN";
/// The maximum size of a response body. Valid responses are much smaller.
const MAX_BODY: usize = 16 << 20;
/// How long a connection is kept without a request. It is shorter than backends keep it, which is 5 s in Node: a request over
/// a connection that the backend is just closing is lost, and a lost request looks like a fault of the backend.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// A client of the backend. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Backend {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// The URL without a trailing slash.
    root: Arc<str>,
    token: HeaderValue,
    timeout: Duration,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("root", &self.root).finish_non_exhaustive()
    }
}

/// A request to the backend.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The body in JSON.
    pub(crate) body: Option<Value>,
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    /// A complete response: its status and its body, which is `Null` if it is not JSON.
    Received(StatusCode, Value),
    /// No complete response. The backend may still have processed the request.
    Missing(MissingReply),
}

/// Why there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MissingReply {
    Timeout,
    /// The connection failed, so the backend has not processed the request.
    Unreachable,
    /// The connection was lost before the response was complete.
    Lost,
}

impl MissingReply {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "no connection",
            Self::Lost => "connection lost",
        }
    }
}

impl Backend {
    /// # Errors
    ///
    /// If the URL, the token or the certificates are invalid. The error holds no token.
    pub(crate) fn new(args: &BackendArgs) -> Result<Self> {
        let root = root(&args.url)?;
        let token = token(args.token_file.as_deref())?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| anyhow!("the token has characters that a header cannot carry"))?;
        bearer.set_sensitive(true);
        let tls = tls(args.ca_file.as_deref())?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(args.timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Ok(Self { client, root: root.into(), token: bearer, timeout: args.timeout })
    }

    pub(crate) fn display_address(&self) -> String {
        let uri: Option<Uri> = self.root.parse().ok();
        let parts = uri.as_ref().and_then(|uri| uri.scheme_str().zip(uri.authority()));
        parts.map(|(scheme, authority)| format!("{scheme}://{authority}")).unwrap_or_default()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        let (method, path) = (Method::GET, path.to_owned());
        self.send(Request { method, path, headers: Vec::new(), body: None }).await
    }

    pub(crate) async fn send(&self, request: Request) -> Reply {
        let Request { method, path, headers, body } = request;
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.root))
            .header(header::AUTHORIZATION, self.token.clone())
            .header(header::USER_AGENT, concat!("txnscope/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(own) = request.headers_mut() {
            // A header of the scenario replaces one of these.
            headers.into_iter().for_each(|(name, value)| _ = own.insert(name, value));
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let Ok(request) = request.body(Full::new(body)) else {
            return Reply::Missing(MissingReply::Unreachable);
        };
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                if error.is_connect() { MissingReply::Unreachable } else { MissingReply::Lost }
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BODY);
            let body = body.collect().await.map_err(|_| MissingReply::Lost)?.to_bytes();
            Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
        };
        match timeout(self.timeout, exchange).await {
            Ok(Ok((status, body))) => Reply::Received(status, body),
            Ok(Err(cause)) => Reply::Missing(cause),
            Err(_) => Reply::Missing(MissingReply::Timeout),
        }
    }

    /// Checks that the backend responds to the probe with one of these statuses and accepts the token, before any data is
    /// created.
    ///
    /// # Errors
    ///
    /// If the backend does not. The message names the remedy.
    pub(crate) async fn check_access(&self, probe: &str, statuses: &Statuses) -> Result<()> {
        let root = self.display_address();
        let status = match self.get(probe).await {
            Reply::Received(status, _) => status,
            Reply::Missing(MissingReply::Timeout) => {
                bail!(
                    "{root} did not respond within {:?}: check that it is healthy, or raise --timeout",
                    self.timeout
                )
            }
            Reply::Missing(cause) => {
                bail!(
                    "{root} cannot be reached ({}): check that the backend is running there",
                    cause.as_str()
                )
            }
        };
        match status.as_u16() {
            _ if statuses.contains(status) => Ok(()),
            401 | 403 => {
                bail!("{root} rejects the token ({status}): give a valid token with --token-file or {TOKEN}")
            }
            300..=399 => bail!(
                "{root} responds with a redirect ({status}), which a drill does not follow: give the target of the redirect as --url"
            ),
            _ => bail!(
                "{root} responds with {status} to GET {probe} instead of {statuses}: check that it has this API and is healthy"
            ),
        }
    }
}

/// Describes a reply that a request did not expect.
pub(crate) fn unexpected(method: &Method, path: &str, reply: &Reply, error: &str, expected: &str) -> String {
    format!("{method} {path} responded with {} instead of {expected}", describe(reply, error))
}

/// A short description of a reply, whose error message is at a pointer.
pub(crate) fn describe(reply: &Reply, error: &str) -> String {
    match reply {
        Reply::Received(status, body) => match error_text(body, error) {
            Some(text) => format!("{} {text}", status.as_u16()),
            None => status.as_u16().to_string(),
        },
        Reply::Missing(cause) => format!("no response ({})", cause.as_str()),
    }
}

/// The error message of the backend, cut and escaped for a terminal.
pub(crate) fn error_text(body: &Value, pointer: &str) -> Option<String> {
    /// In bytes.
    const MAX_LENGTH: usize = 60;
    let text = body.pointer(pointer)?.as_str()?;
    Some(Line::new(text, MAX_LENGTH).to_string())
}

fn root(url: &str) -> Result<String> {
    // The URL is not repeated, since it may hold a password.
    let uri: Uri =
        url.parse().map_err(|_| anyhow!("--url is no URL: use one such as http://127.0.0.1:3000"))?;
    ensure!(
        matches!(uri.scheme_str(), Some("http" | "https")),
        "--url must begin with http:// or https://, as in http://127.0.0.1:3000"
    );
    let authority = uri.authority().context("--url has no host")?;
    ensure!(
        !authority.as_str().contains('@'),
        "--url holds a user or a password, which ps shows to all users: authenticate with a token instead"
    );
    ensure!(!uri.path().contains('@'), "--url has an @ after its host, which must be written as %40");
    ensure!(uri.query().is_none() && !url.contains('#'), "--url has a query or a fragment: remove ? and #");
    Ok(url.trim_end_matches('/').to_owned())
}

fn token(file: Option<&Path>) -> Result<String> {
    let token = match (file, std::env::var(TOKEN)) {
        (Some(path), _) => read_secret(path, path)
            .with_context(|| format!("--token-file: cannot use {}", display_path(path, path)))?,
        (None, Ok(text)) => one_line(&text).with_context(|| format!("{TOKEN} cannot be used"))?.to_owned(),
        (None, Err(std::env::VarError::NotUnicode(_))) => bail!("{TOKEN} is not UTF-8"),
        (None, Err(std::env::VarError::NotPresent)) => {
            bail!("no token configured: name a file that holds it with --token-file, or set {TOKEN}")
        }
    };
    ensure!(
        token.bytes().all(|byte| byte.is_ascii_graphic()),
        "the token has characters that a header cannot carry"
    );
    Ok(token)
}

fn tls(authorities: Option<&Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    // A machine without system certificates can use http or --ca-file.
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = authorities {
        let shown = display_path(path, path);
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("--ca-file: cannot use {shown}"))?;
        ensure!(!certificates.is_empty(), "--ca-file: {shown} holds no certificate in PEM");
        for certificate in certificates {
            roots
                .add(certificate)
                .with_context(|| format!("--ca-file: {shown} holds an invalid certificate authority"))?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("no TLS protocol version is available")?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn invalid_urls_and_urls_with_secrets_are_rejected() {
        assert_eq!(root("http://127.0.0.1:3000/").unwrap(), "http://127.0.0.1:3000");
        assert_eq!(root("https://host/prefix").unwrap(), "https://host/prefix");
        for bad in [
            "127.0.0.1:3000",
            "ftp://host/",
            "http://",
            "http://user:hunter2@host/",
            "http://host/?a=hunter2",
            "http://host/#hunter2",
            "http://user:1/hunter2@host/",
            "http://ho st:hunter2/",
        ] {
            let message = root(bad).unwrap_err().to_string();
            assert!(message.contains("--url") && !message.contains("hunter2"), "{bad}: {message}");
        }
    }

    /// As a backend in Node closes it after five seconds, with a request on its way or not.
    #[tokio::test]
    async fn idle_connection_is_closed_before_the_backend_closes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (folder, url) = (TempDir::new().unwrap(), format!("http://{}", listener.local_addr().unwrap()));
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, "token").unwrap();
        let timeout = Duration::from_secs(60);
        let backend =
            Backend::new(&BackendArgs { url, token_file: Some(token_file), ca_file: None, timeout }).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            let idle = Instant::now();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "no second request was sent");
            assert!(idle.elapsed() >= IDLE_TIMEOUT, "the connection is kept for the next request");
        };
        let (reply, ()) =
            tokio::join!(backend.get("/"), tokio::time::timeout(timeout, serve).map(Result::unwrap));
        assert!(matches!(reply, Reply::Received(StatusCode::NO_CONTENT, _)));
    }

    #[test]
    fn error_message_of_the_backend_is_escaped() {
        let body = serde_json::json!({"error": format!("red\u{1b}[31m\n{}", "x".repeat(100))});
        let text = error_text(&body, "/error").unwrap();
        assert!(text.starts_with("red\\u001b[31m\\nxxx") && text.ends_with('…'), "{text}");
        assert_eq!(error_text(&Value::Null, "/error"), None);
    }
}
