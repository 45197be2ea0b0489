//! Parsing of the web configuration file (TLS and users), in the format of Prometheus's exporter toolkit.
//!
//! All options of the toolkit are known here. Unsupported ones are rejected by name, and never ignored: a server
//! that is less strict than its file says would be worse than one that does not start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::{Location, Spanned};
use txnscope_catalog::{FileError, unknown_name};

/// An error at a place of the file.
pub(super) fn error_at(file: &Path, location: Location, what: impl Into<String>) -> FileError {
    match usize::try_from(location.line()) {
        Ok(line) if line > 0 => FileError::in_line(file, line, what),
        _ => FileError::new(file, what),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebFile {
    pub(super) tls_server_config: Option<TlsFile>,
    #[serde(default)]
    pub(super) http_server_config: HttpFile,
    pub(super) basic_auth_users: Option<BTreeMap<String, Spanned<String>>>,
    rate_limit: Option<Spanned<IgnoredAny>>,
    auth_excluded_paths: Option<Spanned<IgnoredAny>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsFile {
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) client_ca: Option<String>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) client_ca_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) client_auth_type: ClientAuth,
    #[serde(default)]
    pub(super) min_version: Version,
    pub(super) max_version: Option<Version>,
    pub(super) cipher_suites: Option<Vec<Spanned<String>>>,
    pub(super) curve_preferences: Option<Vec<Spanned<String>>>,
    pub(super) prefer_server_cipher_suites: Option<bool>,
    client_allowed_sans: Option<Spanned<IgnoredAny>>,
}

/// In increasing strictness.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum ClientAuth {
    #[default]
    #[serde(rename = "NoClientCert")]
    No,
    #[serde(rename = "VerifyClientCertIfGiven")]
    IfGiven,
    #[serde(rename = "RequireAndVerifyClientCert")]
    Required,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Version {
    #[default]
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpFile {
    http2: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) headers: HeadersFile,
}

/// The headers that may be set.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeadersFile {
    #[serde(rename = "Strict-Transport-Security")]
    pub(super) strict_transport_security: Option<String>,
    #[serde(rename = "X-Content-Type-Options")]
    pub(super) x_content_type_options: Option<String>,
    #[serde(rename = "X-Frame-Options")]
    pub(super) x_frame_options: Option<String>,
    #[serde(rename = "X-XSS-Protection")]
    pub(super) x_xss_protection: Option<String>,
    #[serde(rename = "Content-Security-Policy")]
    pub(super) content_security_policy: Option<String>,
    #[serde(rename = "Referrer-Policy")]
    pub(super) referrer_policy: Option<String>,
}

impl WebFile {
    pub(super) fn parse(file: &Path, text: &str) -> Result<Self, FileError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        // Password hashes are confidential: the error quotes nothing of the file.
        let options = serde_saphyr::options! { with_snippet: false };
        let parsed: Self = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| Self::malformed(file, &error))?;
        parsed.refuse_what_we_cannot_do(file)?;
        Ok(parsed)
    }

    fn malformed(file: &Path, error: &serde_saphyr::Error) -> FileError {
        use serde_saphyr::Error;
        let location = error.location().unwrap_or(Location::UNKNOWN);
        let what = match error.without_snippet() {
            Error::SerdeUnknownField { field, expected, .. } => unknown_name("key", field, expected),
            Error::SerdeUnknownVariant { variant, expected, .. } => match variant.as_str() {
                "RequestClientCert" | "RequireAnyClientCert" => format!(
                    "`{variant}` checks nothing about the certificate: use VerifyClientCertIfGiven or \
                     RequireAndVerifyClientCert"
                ),
                "TLS10" | "TLS11" => format!("{variant} is insecure and not supported: use TLS12 or TLS13"),
                _ => format!("invalid value; use one of {}", expected.join(", ")),
            },
            // The parser's other messages may quote the file.
            _ => "malformed YAML, a duplicate key, or a value of the wrong type".to_owned(),
        };
        error_at(file, location, what)
    }

    fn refuse_what_we_cannot_do(&self, file: &Path) -> Result<(), FileError> {
        let no = |at: Location, what: &str| Err(error_at(file, at, what));
        if let Some(limit) = &self.rate_limit {
            return no(
                limit.referenced,
                "rate_limit is not supported here: --web.max-requests limits requests",
            );
        }
        if let Some(paths) = &self.auth_excluded_paths {
            return no(
                paths.referenced,
                "auth_excluded_paths is not supported here: every path asks for the password",
            );
        }
        let sans = self.tls_server_config.as_ref().and_then(|tls| tls.client_allowed_sans.as_ref());
        if let Some(sans) = sans {
            return no(
                sans.referenced,
                "client_allowed_sans is not supported here: let the CA in client_ca_file sign only those who may ask",
            );
        }
        if let Some(http2) = self.http_server_config.http2.as_ref().filter(|http2| http2.value) {
            return no(http2.referenced, "HTTP/2 is not supported here: remove http2, or set it to false");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        WebFile::parse(Path::new("web.yml"), text).expect_err(text).to_string()
    }

    #[test]
    fn empty_web_file_is_accepted() {
        for text in ["", "\n# nothing\n", "{}", "basic_auth_users:\n", "tls_server_config:\n"] {
            assert!(WebFile::parse(Path::new("web.yml"), text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn web_file_errors_have_a_line() {
        for (text, expected) in [
            (
                "basic_auth_user:\n  a: b\n",
                "web.yml:1: unknown key `basic_auth_user`; did you mean `basic_auth_users`?",
            ),
            (
                "tls_server_config:\n  cert_fil: a\n",
                "web.yml:2: unknown key `cert_fil`; did you mean `cert_file`?",
            ),
            ("http_server_config:\n  headers:\n    Server: x\n", "web.yml:3: unknown key; valid are Strict-"),
            ("tls_server_config:\n  min_version: TLS11\n", "web.yml:2: TLS11 is insecure"),
            ("tls_server_config:\n  client_auth_type: RequireAnyClientCert\n", "checks nothing"),
            (
                "tls_server_config:\n  client_auth_type: Maybe\n",
                "web.yml:2: invalid value; use one of NoClientCert",
            ),
            (
                "tls_server_config:\n  client_allowed_sans: [a]\n",
                "web.yml:2: client_allowed_sans is not supported",
            ),
            ("rate_limit:\n  burst: 1\n", "rate_limit is not supported"),
            ("http_server_config:\n  http2: true\n", "web.yml:2: HTTP/2"),
            ("basic_auth_users: [a]\n", "web.yml:1"),
            ("basic_auth_users:\n  a: b\n  a: c\n", "web.yml:3"),
            ("a: [\n", "web.yml:"),
        ] {
            let said = refusal(text);
            assert!(said.contains(expected), "{text:?}: {said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }
}
