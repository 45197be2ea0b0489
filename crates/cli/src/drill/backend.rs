//! The backend that is drilled: one URL, one token, and what it answers.
//!
//! Nothing but that URL is ever spoken to: no proxy, and no redirect is followed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use http::header::{self, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
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

use crate::drill::flags::BackendFlags;
use crate::exposed::read_secret;

/// A variable, because a flag would be seen in `ps`.
const TOKEN: &str = "TXNSCOPE_DRILL_TOKEN";
/// Far more than an honest answer has.
const LARGEST_BODY: usize = 16 << 20;

/// Cheap to clone; connections are kept.
#[derive(Clone)]
pub(crate) struct Backend {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Without a slash at its end.
    root: Arc<str>,
    token: HeaderValue,
    timeout: Duration,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("root", &self.root).finish_non_exhaustive()
    }
}

/// What came back, read to its end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// A status and a body; `Null` if that is no JSON.
    Came(StatusCode, Value),
    /// None, and why. What was asked for may have been done.
    None(NoAnswer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NoAnswer {
    Timeout,
    /// No connection could be made: what was asked for has not been done.
    Unreachable,
    /// The connection was lost before the answer was whole.
    Lost,
}

impl NoAnswer {
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
    /// If the URL, the token or the certificates are none. The error holds no token.
    pub(crate) fn new(flags: &BackendFlags) -> Result<Self> {
        let root = root(&flags.url)?;
        let token = token(flags.token_file.as_deref())?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| anyhow!("the token has characters that no header can carry"))?;
        bearer.set_sensitive(true);
        let tls = tls(flags.ca_file.as_deref())?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(flags.timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Ok(Self { client, root: root.into(), token: bearer, timeout: flags.timeout })
    }

    pub(crate) fn shown(&self) -> String {
        let uri: Option<Uri> = self.root.parse().ok();
        let parts = uri.as_ref().and_then(|uri| uri.scheme_str().zip(uri.authority()));
        parts.map(|(scheme, authority)| format!("{scheme}://{authority}")).unwrap_or_default()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Bytes::new(), None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body.to_string().into(), None).await
    }

    pub(crate) async fn post_with_key(&self, path: &str, body: &Value, key: &str) -> Answer {
        self.send(Method::POST, path, body.to_string().into(), Some(key)).await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes, key: Option<&str>) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.root))
            .header(header::AUTHORIZATION, self.token.clone())
            .header(header::USER_AGENT, concat!("txnscope/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let Ok(request) = request.body(Full::new(body)) else { return Answer::None(NoAnswer::Unreachable) };
        let exchange = async {
            let response =
                self.client.request(request).await.map_err(|error| {
                    if error.is_connect() { NoAnswer::Unreachable } else { NoAnswer::Lost }
                })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST_BODY);
            let body = body.collect().await.map_err(|_| NoAnswer::Lost)?.to_bytes();
            Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
        };
        match timeout(self.timeout, exchange).await {
            Ok(Ok((status, body))) => Answer::Came(status, body),
            Ok(Err(none)) => Answer::None(none),
            Err(_) => Answer::None(NoAnswer::Timeout),
        }
    }

    /// Whether there is such a backend, and it takes our token: asked before anything is made.
    ///
    /// # Errors
    ///
    /// If not; the message says what to do.
    pub(crate) async fn greet(&self) -> Result<()> {
        const NOBODY: &str = "/api/retainers/000000000000000000000000";
        let root = self.shown();
        let status = match self.get(NOBODY).await {
            Answer::Came(status, _) => status,
            Answer::None(NoAnswer::Timeout) => {
                bail!(
                    "{root} did not answer within {:?}: is it well? --timeout gives it longer",
                    self.timeout
                )
            }
            Answer::None(none) => {
                bail!("{root} cannot be reached ({}): is the backend running there?", none.as_str())
            }
        };
        match status.as_u16() {
            // An unknown id.
            400 | 404 => Ok(()),
            401 | 403 => {
                bail!("{root} refuses the token ({status}): give its own with --token-file or {TOKEN}")
            }
            300..400 => bail!(
                "{root} answers with a redirect ({status}), which a drill does not follow: give the URL that it names"
            ),
            _ => bail!(
                "{root} answers {status} to GET {NOBODY}, which should be 404: does it speak this API, and is it well?"
            ),
        }
    }

    /// Makes something, and returns its id.
    ///
    /// # Errors
    ///
    /// If the answer is not 201 with `what._id`.
    pub(crate) async fn create(&self, path: &str, what: &str, body: &Value) -> Result<String> {
        match self.post(path, body).await {
            Answer::Came(StatusCode::CREATED, answer) => match answer[what]["_id"].as_str() {
                // It becomes part of a path.
                Some(id)
                    if !id.is_empty()
                        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') =>
                {
                    Ok(id.to_owned())
                }
                _ => bail!("POST {path} answered 201 without {what}._id"),
            },
            answer => bail!("POST {path} answered {} in place of 201", told(&answer)),
        }
    }
}

/// An answer in a few words.
pub(crate) fn told(answer: &Answer) -> String {
    match answer {
        Answer::Came(status, body) => match error_text(body) {
            Some(text) => format!("{} {text}", status.as_u16()),
            None => status.as_u16().to_string(),
        },
        Answer::None(none) => format!("nothing ({})", none.as_str()),
    }
}

/// What the backend says went wrong, fit for a terminal.
pub(crate) fn error_text(body: &Value) -> Option<String> {
    /// In bytes.
    const LONGEST: usize = 60;
    let text = body["error"].as_str()?;
    Some(Line::new(text, LONGEST).to_string())
}

fn root(url: &str) -> Result<String> {
    // It is not repeated: it may hold a password.
    let uri: Uri = url.parse().map_err(|_| anyhow!("--url is none, such as http://127.0.0.1:3000"))?;
    ensure!(
        matches!(uri.scheme_str(), Some("http" | "https")),
        "--url must begin with http:// or https://, as in http://127.0.0.1:3000"
    );
    let authority = uri.authority().context("--url names no host")?;
    ensure!(
        !authority.as_str().contains('@'),
        "--url holds a user or a password, which ps shows to everybody: a drill is known by its token alone"
    );
    ensure!(!uri.path().contains('@'), "--url has an @ behind its host, where %40 should stand");
    ensure!(uri.query().is_none() && !url.contains('#'), "--url must end with its path: leave out ? and #");
    Ok(url.trim_end_matches('/').to_owned())
}

fn token(file: Option<&Path>) -> Result<String> {
    let token = match (file, std::env::var(TOKEN)) {
        (Some(path), _) => read_secret(path, path)
            .with_context(|| format!("--token-file: cannot use {}", display_path(path, path)))?,
        (None, Ok(text)) => one_line(&text).with_context(|| format!("{TOKEN} cannot be used"))?.to_owned(),
        (None, Err(std::env::VarError::NotUnicode(_))) => bail!("{TOKEN} is not UTF-8"),
        (None, Err(std::env::VarError::NotPresent)) => {
            bail!("no token: name a file that holds it with --token-file, or set {TOKEN}")
        }
    };
    ensure!(
        token.bytes().all(|byte| byte.is_ascii_graphic()),
        "the token has characters that no header can carry"
    );
    Ok(token)
}

fn tls(authorities: Option<&Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    // A machine without any speaks http, or names its own.
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
                .with_context(|| format!("--ca-file: {shown} holds what is no authority"))?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS has no protocol")?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_and_holds_no_secret() {
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

    #[test]
    fn what_a_backend_says_cannot_write_on_the_terminal() {
        let body = serde_json::json!({"error": format!("red\u{1b}[31m\n{}", "x".repeat(100))});
        let text = error_text(&body).unwrap();
        assert!(text.starts_with("red\\u001b[31m\\nxxx") && text.ends_with('…'), "{text}");
        assert_eq!(error_text(&Value::Null), None);
    }
}
