//! The files of certificates, by their content: they are renewed on disk, and nobody tells us.

use std::path::Path;

use mongodb::options::{ConnectionString, Tls};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::error::UriError;
use crate::file::{FILE_LIMIT, is_readable_by_everybody, read_file};

/// What the files of certificates that a URI names held when they were read. Equal if they held the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsFiles([u8; 32]);

impl TlsFiles {
    /// Reads the files that the URI names, and checks that they hold what they should.
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

    /// Whether every user of the machine may read the file of the private key.
    pub(crate) fn key_is_readable_by_everybody(parsed: &ConnectionString) -> bool {
        match &parsed.tls {
            Some(Tls::Enabled(options)) => {
                options.cert_key_file_path.as_deref().is_some_and(is_readable_by_everybody)
            }
            Some(Tls::Disabled) | None => false,
        }
    }
}

/// What is said of it repeats no path: it is a value of the URI.
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
            "it holds no private key in PEM form beside the certificate, or one that is encrypted with a password",
        ));
    }
    Ok(bytes)
}
