//! The services around a deployment: Prometheus, Alertmanager, Grafana. Each is asked over HTTP, and only asked.

pub(crate) mod answer;
pub(crate) mod prometheus;

use std::error::Error as StdError;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use txnscope_mongo::{display_path, one_line};
use url::Url;

use crate::exposed::read_secret;

/// What is asked for is small; what is larger is no answer to it.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// Where a service is, and with which token it is asked.
pub(crate) struct Service {
    name: &'static str,
    url: Url,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    http: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// What a flag and its variables say of a service.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    /// `prometheus`: the flags are `--prometheus.url` and `--prometheus.token-file`.
    pub(crate) name: &'static str,
    pub(crate) url: &'a str,
    /// Whether the URL stands on the command line, where everybody sees it.
    pub(crate) seen: bool,
    pub(crate) token_file: Option<&'a Path>,
    /// The token itself, from a variable.
    pub(crate) token: Option<&'a OsString>,
}

/// Why a service gave no answer. Its text holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// Nobody answers, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// It wants to know who asks, or does not like who does.
    #[error("it answered {0}: the token is missing, wrong, or not allowed to ask this")]
    Refused(StatusCode),
    /// It has no such thing.
    #[error("it answered 404: there is no such thing, or this is another service")]
    Missing,
    /// It failed, and said this.
    #[error("it answered {0}")]
    Failed(String),
    /// What came is not what was asked for.
    #[error("its answer cannot be used: {0}")]
    Malformed(String),
}

impl Service {
    /// # Errors
    ///
    /// If the URL or the token makes no sense. The error holds no secret.
    pub(crate) fn new(given: Given<'_>, timeout: Duration) -> Result<Self> {
        let name = given.name;
        let (url, authorization) = Self::address(given)?;
        Ok(Self { name, url, authorization, timeout, http: client(timeout)? })
    }

    /// Where it is, without the user, and who we are there.
    fn address(given: Given<'_>) -> Result<(Url, Option<HeaderValue>)> {
        let Given { name, url, seen, token_file, token } = given;
        let wrong = |what: &str| anyhow!("--{name}.url {what}: say http://host:port, for example");
        let mut url: Url = url.parse().map_err(|_| wrong("is no URL"))?;
        ensure!(matches!(url.scheme(), "http" | "https") && url.has_host(), wrong("is no http or https URL"));
        // What stands before it may be a user and a password, behind a slash too many or a host that is none.
        let behind = [Some(url.path()), url.query(), url.fragment()];
        let is_behind = behind.into_iter().flatten().any(|part| part.contains('@'));
        ensure!(!is_behind, wrong("has an @ behind its host, where %40 should stand"));
        let fits = |c: char| c.is_alphanumeric() || "-._:[]".contains(c);
        ensure!(url.host_str().is_some_and(|host| host.chars().all(fits)), wrong("has no host"));
        let user = !url.username().is_empty() || url.password().is_some();
        if user && seen {
            bail!(
                "--{name}.url holds a user, whom ps shows to everybody: put the URL into the variable \
                 TXNSCOPE_{}_URL",
                name.to_uppercase()
            );
        }
        url.set_query(None);
        url.set_fragment(None);
        let token = match (token_file, token) {
            (Some(path), _) => {
                let from = || format!("--{name}.token-file: cannot use {}", display_path(path, path));
                Some(read_secret(path, path).with_context(from)?)
            }
            (None, Some(token)) => {
                let variable = format!("TXNSCOPE_{}_TOKEN", name.to_uppercase());
                let text = token.to_str().with_context(|| format!("{variable} is not UTF-8"))?;
                Some(one_line(text).with_context(|| format!("{variable} cannot be used"))?.to_owned())
            }
            (None, None) => None,
        };
        let authorization = match (token, user) {
            (Some(token), _) => Some(format!("Bearer {token}")),
            (None, true) => Some(basic(&url)),
            (None, false) => None,
        };
        let authorization = authorization.map(|text| secret(&text)).transpose();
        let authorization = authorization
            .with_context(|| format!("the token or the user of {name} cannot be sent in a header"))?;
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok((url, authorization))
    }

    /// Where it is, without the path: hosted services have tokens in theirs.
    pub(crate) fn shown(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The body of what is at that path below the URL.
    ///
    /// # Errors
    ///
    /// If there is no answer, or one that says no.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Bytes, Trouble> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        match tokio::time::timeout(self.timeout, self.ask(&url)).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Unreachable("it does not answer in time".to_owned())),
        }
    }

    async fn ask(&self, url: &Url) -> Result<Bytes, Trouble> {
        let mut request = Request::get(url.as_str())
            .header(header::USER_AGENT, concat!("txnscope/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|error| unreachable(&error))?;
        let response = self.http.request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|error| Trouble::Malformed(format!("it breaks off: {}", cause(&*error))))?;
        let body = body.to_bytes();
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Trouble::Refused(status)),
            StatusCode::NOT_FOUND => Err(Trouble::Missing),
            status => Err(Trouble::Failed(match answer::error(&body) {
                Some(said) => format!("{status}: {said}"),
                None => status.to_string(),
            })),
        }
    }

    /// The same, as JSON.
    ///
    /// # Errors
    ///
    /// Also if it is none.
    pub(crate) async fn json(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Trouble> {
        let body = self.get(path, query).await?;
        serde_json::from_slice(&body).map_err(|_| Trouble::Malformed("it is no JSON".to_owned()))
    }
}

/// What is said of a URL that somebody gives.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn said_of(url: &str, seen: bool) -> String {
    let given = Given { name: "grafana", url, seen, token_file: None, token: None };
    match Service::address(given) {
        Ok((url, _)) => url.to_string(),
        Err(error) => format!("{error:#}"),
    }
}

/// Without the URL and the token.
impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The user that the URL holds, for a header.
fn basic(url: &Url) -> String {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pair = format!("{}:{}", decode(url.username()), decode(url.password().unwrap_or_default()));
    format!("Basic {}", STANDARD.encode(pair))
}

fn secret(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Over HTTPS, the authorities are those of the system, or of SSL_CERT_FILE.
fn client(timeout: Duration) -> Result<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>> {
    let mut roots = RootCertStore::empty();
    // A machine without a single one can still speak plain HTTP.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS has no protocol")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(timeout));
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    Ok(Client::builder(TokioExecutor::new()).build(connector.wrap_connector(tcp)))
}

fn unreachable(error: &(dyn StdError + 'static)) -> Trouble {
    Trouble::Unreachable(format!("it cannot be reached: {}", cause(error)))
}

/// The innermost reason.
fn cause(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(inner) = error.source() {
        error = inner;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(url: &str, seen: bool) -> Result<Service> {
        let given = Given { name: "grafana", url, seen, token_file: None, token: None };
        Service::new(given, Duration::from_secs(1))
    }

    #[test]
    fn a_url_that_cannot_be_asked_is_refused_and_not_quoted() {
        for (url, seen, complaint) in [
            ("hunter2", true, "is no URL"),
            ("ftp://user:hunter2@host/", false, "is no http"),
            ("http://user:hunter2@host/", true, "TXNSCOPE_GRAFANA_URL"),
            ("", true, "is no URL"),
            ("https:)/user:hunter2@host/", false, "has an @"),
            ("http://user:1#hunter2@host/", false, "has an @"),
            ("http://user:1?hunter2@host/", false, "has an @"),
            ("http://`hunter2/", false, "has no host"),
        ] {
            let said = format!("{:#}", service(url, seen).unwrap_err());
            assert!(said.contains(complaint) && !said.contains("hunter2"), "{url}: {said}");
        }
    }

    #[test]
    fn a_user_in_the_variable_s_url_is_not_shown() {
        let service = service("https://user:hunter2@host/prometheus/?a=b", false).unwrap();
        assert_eq!(service.shown(), "https://host");
        assert!(!format!("{service:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn nobody_there_is_said_without_the_url() {
        let service = service("http://user:hunter2@127.0.0.1:1/", false).unwrap();
        let said = service.json("/api", &[("query", "hunter2")]).await.unwrap_err().to_string();
        assert!(said.contains("cannot be reached") && !said.contains("hunter2"), "{said}");
    }
}
