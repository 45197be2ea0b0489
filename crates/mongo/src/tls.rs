//! TLS files by their contents, since they are renewed on disk without a notification.

use std::path::Path;

use mongodb::options::{ConnectionString, Tls};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::error::UriError;
use crate::file::{FILE_LIMIT, is_readable_by_all_users, read_file};

/// A digest of the TLS files of a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsFiles([u8; 32]);

impl TlsFiles {
    /// Reads and validates the TLS files of a URI.
    pub(crate) fn read(parsed: &ConnectionString) -> Result<Self, UriError> {
        let mut digest = Sha256::new();
        if let Some(Tls::Enabled(options)) = &parsed.tls {
            for (option, path, has_key) in [
                ("tlsCAFile", &options.ca_file_path, false),
                ("tlsCertificateKeyFile", &options.cert_key_file_path, true),
            ] {
                let bytes = path.as_deref().map(|path| file(option, path, has_key)).transpose()?;
                digest.update(bytes.as_ref().map_or(0, |bytes| bytes.len() + 1).to_be_bytes());
                digest.update(bytes.unwrap_or_default());
            }
        }
        Ok(Self(digest.finalize().into()))
    }

    /// Whether all users of the machine can read the private key file.
    pub(crate) fn key_is_readable_by_all_users(parsed: &ConnectionString) -> bool {
        match &parsed.tls {
            Some(Tls::Enabled(options)) => {
                options.cert_key_file_path.as_deref().is_some_and(is_readable_by_all_users)
            }
            Some(Tls::Disabled) | None => false,
        }
    }
}

/// The message repeats no path, since that is a value of the URI.
fn file(option: &'static str, path: &Path, has_key: bool) -> Result<Vec<u8>, UriError> {
    let wrong = |what: &str| UriError::TlsFile { option, what: what.to_owned() };
    let bytes = read_file(path, FILE_LIMIT).map_err(|error| wrong(&error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => {}
        Ok(_) => return Err(wrong("it holds no certificate in PEM form")),
        Err(_) => return Err(wrong("it is no PEM file")),
    }
    if has_key && PrivateKeyDer::from_pem_slice(&bytes).is_err() {
        return Err(wrong(
            "it holds no private key in PEM form next to the certificate, or one that is encrypted with a password",
        ));
    }
    Ok(bytes)
}
