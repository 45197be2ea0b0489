//! Security headers of every response.

use std::path::Path;

use axum::http::HeaderMap;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS, X_XSS_PROTECTION,
};
use txnscope_catalog::FileError;

use super::file::HeadersFile;

/// The live page has its own scripts, styles, events and icon. Nothing inline and nothing of another site is loaded, no text
/// becomes markup (trusted types), and pages cannot be framed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// The default headers.
pub(super) fn defaults() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers
}

/// Adds the headers of the file.
///
/// # Errors
///
/// If a value is not a valid header value.
pub(super) fn add(headers: &mut HeaderMap, file: &Path, wanted: &HeadersFile) -> Result<(), FileError> {
    let values: [(HeaderName, &Option<String>); 6] = [
        (STRICT_TRANSPORT_SECURITY, &wanted.strict_transport_security),
        (X_CONTENT_TYPE_OPTIONS, &wanted.x_content_type_options),
        (X_FRAME_OPTIONS, &wanted.x_frame_options),
        (X_XSS_PROTECTION, &wanted.x_xss_protection),
        (CONTENT_SECURITY_POLICY, &wanted.content_security_policy),
        (REFERRER_POLICY, &wanted.referrer_policy),
    ];
    for (name, value) in values {
        let Some(value) = value.as_ref().filter(|value| !value.is_empty()) else { continue };
        let value = HeaderValue::from_str(value).map_err(|_| {
            FileError::new(file, format!("http_server_config: the value of {name} is not valid in a header"))
        })?;
        headers.insert(name, value);
    }
    Ok(())
}
