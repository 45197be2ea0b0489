//! HTTP clients of Prometheus, Alertmanager and Grafana. They only send GET requests.

pub(crate) mod api_response;
pub(crate) mod prometheus;

use std::error::Error as StdError;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{ArgMatches, parser::ValueSource};
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

use crate::config::exposed::read_secret;

/// The maximum size of a response body. Valid responses are much smaller.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// A client of one service.
pub(crate) struct ServiceClient {
    name: &'static str,
    url: Url,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    http: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// The address of a service and the token, from flags and variables.
#[derive(Clone, Copy)]
pub(crate) struct ServiceArgs<'a> {
    /// `prometheus`: the flag of the token is `--prometheus.token-file`.
    pub(crate) name: &'static str,
    /// `prometheus.url`, the flag of the URL.
    pub(crate) url_flag: &'a str,
    pub(crate) url: &'a str,
    /// Whether the URL is on the command line, which ps shows to all users.
    pub(crate) on_command_line: bool,
    pub(crate) token_file: Option<&'a Path>,
    /// The token itself, from a variable.
    pub(crate) token: Option<&'a OsString>,
}

/// Why a request to a service failed. The text holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServiceError {
    /// The service cannot be reached, or did not respond in time.
    #[error("{0}")]
    Unreachable(String),
    /// The service requires a token, or rejects the one that was sent.
    #[error("it responded with {0}: the token is missing, invalid, or lacks the permission")]
    Unauthorized(StatusCode),
    /// The service has no such resource.
    #[error("it responded with 404: there is no such resource, or this is a different service")]
    Missing,
    /// The service failed with this status and message.
    #[error("it responded with {0}")]
    Failed(String),
    /// The response is not of the expected form.
    #[error("its response is malformed: {0}")]
    Malformed(String),
}

impl ServiceClient {
    /// A client of the service that the flag of the URL and `--NAME.token-file` describe, if there is a URL. The flag of the URL
    /// begins with `NAME.`, and the variable `TXNSCOPE_NAME_TOKEN` holds the token itself.
    ///
    /// # Errors
    ///
    /// If the URL or the token is invalid. The error holds no secret.
    pub(crate) fn from_flags(
        url_flag: &'static str,
        (url, token_file): (&Option<String>, &Option<PathBuf>),
        matches: &ArgMatches,
        timeout: Duration,
    ) -> Result<Option<Self>> {
        let Some(url) = url else { return Ok(None) };
        let name = url_flag.split('.').next().unwrap_or(url_flag);
        let token = std::env::var_os(format!("TXNSCOPE_{}_TOKEN", name.to_uppercase()));
        let token = token.filter(|token| !token.is_empty());
        let args = ServiceArgs {
            name,
            url_flag,
            url,
            on_command_line: matches.value_source(url_flag) == Some(ValueSource::CommandLine),
            token_file: token_file.as_deref(),
            token: token.as_ref(),
        };
        Self::new(args, timeout).map(Some)
    }

    /// # Errors
    ///
    /// If the URL or the token is invalid. The error holds no secret.
    pub(crate) fn new(args: ServiceArgs<'_>, timeout: Duration) -> Result<Self> {
        let name = args.name;
        let (url, authorization) = Self::address(args)?;
        Ok(Self { name, url, authorization, timeout, http: client(timeout)? })
    }

    /// The URL without user and password, and the header for authorization.
    fn address(args: ServiceArgs<'_>) -> Result<(Url, Option<HeaderValue>)> {
        let ServiceArgs { name, url_flag, url, on_command_line, token_file, token } = args;
        let invalid = |what: &str| anyhow!("--{url_flag} {what}: use a URL such as http://host:port");
        let mut url: Url = url.parse().map_err(|_| invalid("is no URL"))?;
        ensure!(
            matches!(url.scheme(), "http" | "https") && url.has_host(),
            invalid("is no http or https URL")
        );
        // The part before an @ in the path may be a user and a password, if the URL is misspelled.
        let after_host = [Some(url.path()), url.query(), url.fragment()];
        let has_at = after_host.into_iter().flatten().any(|part| part.contains('@'));
        ensure!(!has_at, invalid("has an @ after its host, which must be written as %40"));
        let is_valid = |c: char| c.is_alphanumeric() || "-._:[]".contains(c);
        ensure!(url.host_str().is_some_and(|host| host.chars().all(is_valid)), invalid("has no valid host"));
        let user = !url.username().is_empty() || url.password().is_some();
        if user && on_command_line {
            bail!(
                "--{url_flag} holds a user, which ps shows to all users: put the URL into the variable TXNSCOPE_{}",
                url_flag.to_uppercase().replace(['.', '-'], "_")
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
        let authorization = authorization.with_context(|| {
            format!("the token or the user of {name} has characters that a header cannot carry")
        })?;
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok((url, authorization))
    }

    /// The address without the path, which holds a token at some hosted services.
    pub(crate) fn display_address(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Gets the body of the resource at a path below the URL.
    ///
    /// # Errors
    ///
    /// If there is no response, or its status is not 200.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Bytes, ServiceError> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        match tokio::time::timeout(self.timeout, self.send(&url)).await {
            Ok(result) => result,
            Err(_) => Err(ServiceError::Unreachable("it timed out".to_owned())),
        }
    }

    async fn send(&self, url: &Url) -> Result<Bytes, ServiceError> {
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
        let body = body
            .map_err(|error| ServiceError::Malformed(format!("its body was cut off: {}", cause(&*error))))?;
        let body = body.to_bytes();
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ServiceError::Unauthorized(status)),
            StatusCode::NOT_FOUND => Err(ServiceError::Missing),
            status => Err(ServiceError::Failed(match api_response::error(&body) {
                Some(message) => format!("{status}: {message}"),
                None => status.to_string(),
            })),
        }
    }

    /// Gets a resource in JSON.
    ///
    /// # Errors
    ///
    /// As [`ServiceClient::get`], and if the body is not JSON.
    pub(crate) async fn json(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, ServiceError> {
        let body = self.get(path, query).await?;
        serde_json::from_slice(&body).map_err(|_| ServiceError::Malformed("it is not JSON".to_owned()))
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl<'a> ServiceArgs<'a> {
    fn without_token(url: &'a str, on_command_line: bool) -> Self {
        ServiceArgs {
            name: "grafana",
            url_flag: "grafana.url",
            url,
            on_command_line,
            token_file: None,
            token: None,
        }
    }
}

/// The URL as it is used, or the error about it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn describe_url(url: &str, on_command_line: bool) -> String {
    match ServiceClient::address(ServiceArgs::without_token(url, on_command_line)) {
        Ok((url, _)) => url.to_string(),
        Err(error) => format!("{error:#}"),
    }
}

/// Leaves out the URL and the token.
impl fmt::Debug for ServiceClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceClient").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The header for the user and the password of the URL.
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

/// HTTPS trusts the certificate authorities of the system, or those of SSL_CERT_FILE.
fn client(timeout: Duration) -> Result<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>> {
    let mut roots = RootCertStore::empty();
    // A machine without certificate authorities can still use plain HTTP.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("no TLS protocol version is available")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(timeout));
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    Ok(Client::builder(TokioExecutor::new()).build(connector.wrap_connector(tcp)))
}

fn unreachable(error: &(dyn StdError + 'static)) -> ServiceError {
    ServiceError::Unreachable(format!("it cannot be reached: {}", cause(error)))
}

/// The innermost cause.
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

    fn client_of(url: &str, on_command_line: bool) -> Result<ServiceClient> {
        ServiceClient::new(ServiceArgs::without_token(url, on_command_line), Duration::from_secs(1))
    }

    #[test]
    fn invalid_url_is_rejected_and_not_repeated() {
        for (url, on_command_line, expected) in [
            ("hunter2", true, "is no URL"),
            ("ftp://user:hunter2@host/", false, "is no http"),
            ("http://user:hunter2@host/", true, "TXNSCOPE_GRAFANA_URL"),
            ("", true, "is no URL"),
            ("https:)/user:hunter2@host/", false, "has an @"),
            ("http://user:1#hunter2@host/", false, "has an @"),
            ("http://user:1?hunter2@host/", false, "has an @"),
            ("http://`hunter2/", false, "has no valid host"),
        ] {
            let said = format!("{:#}", client_of(url, on_command_line).unwrap_err());
            assert!(said.contains(expected) && !said.contains("hunter2"), "{url}: {said}");
        }
    }

    #[test]
    fn user_in_the_url_is_not_displayed() {
        let service = client_of("https://user:hunter2@host/prometheus/?a=b", false).unwrap();
        assert_eq!(service.display_address(), "https://host");
        assert!(!format!("{service:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn unreachable_service_is_reported_without_its_url() {
        let service = client_of("http://user:hunter2@127.0.0.1:1/", false).unwrap();
        let said = service.json("/api", &[("query", "hunter2")]).await.unwrap_err().to_string();
        assert!(said.contains("cannot be reached") && !said.contains("hunter2"), "{said}");
    }
}
