//! TLS settings of the web configuration file, for rustls.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{NamedGroup, RootCertStore, ServerConfig};
use txnscope_catalog::FileError;

use super::file::{ClientAuth, TlsFile, Version, error_at};

/// Cipher suites by Go's names, which the toolkit uses, as far as they differ from rustls's.
const CIPHER_SUITES: &[(&str, &str)] = &[
    ("TLS_AES_128_GCM_SHA256", "TLS13_AES_128_GCM_SHA256"),
    ("TLS_AES_256_GCM_SHA384", "TLS13_AES_256_GCM_SHA384"),
    ("TLS_CHACHA20_POLY1305_SHA256", "TLS13_CHACHA20_POLY1305_SHA256"),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

const CURVES: &[(&str, NamedGroup)] = &[
    ("CurveP256", NamedGroup::secp256r1),
    ("CurveP384", NamedGroup::secp384r1),
    ("X25519", NamedGroup::X25519),
];

/// Reads a file that is configured under a key.
pub(super) type Read<'a> = &'a mut dyn FnMut(&str, &Path) -> Result<Vec<u8>, FileError>;

/// `None` if the section is empty: TLS is off.
pub(super) fn server_config(
    file: &Path,
    tls: &TlsFile,
    read: Read<'_>,
) -> Result<Option<Arc<ServerConfig>>, FileError> {
    let wrong = |what: String| FileError::new(file, what);
    let mut pem = |name: &str, inline: &Option<String>, path: &Option<PathBuf>| match (inline, path) {
        (Some(_), Some(_)) => Err(wrong(format!("tls_server_config: give one of {name} and {name}_file"))),
        (Some(text), None) => Ok(Some(text.clone().into_bytes())),
        (None, Some(path)) => read(&format!("{name}_file: "), path).map(Some),
        (None, None) => Ok(None),
    };
    let certificate = pem("cert", &tls.cert, &tls.cert_file)?;
    let key = pem("key", &tls.key, &tls.key_file)?;
    let client_ca = pem("client_ca", &tls.client_ca, &tls.client_ca_file)?;
    let (Some(certificate), Some(key)) = (&certificate, &key) else {
        if certificate.is_none()
            && key.is_none()
            && client_ca.is_none()
            && tls.client_auth_type == ClientAuth::No
        {
            return Ok(None);
        }
        return Err(wrong("tls_server_config: cert_file and key_file are both needed".to_owned()));
    };
    let certificates = certificates(certificate).map_err(|what| wrong(format!("cert_file: {what}")))?;
    // The parser's message about an unreadable key is not used, since it may quote the key.
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| wrong("key_file: it holds no private key in PEM form".to_owned()))?;

    let provider = Arc::new(provider(file, tls)?);
    let versions: &[_] = match (tls.min_version, tls.max_version.unwrap_or(Version::Tls13)) {
        (Version::Tls12, Version::Tls13) => &[&TLS13, &TLS12],
        (Version::Tls12, Version::Tls12) => &[&TLS12],
        (Version::Tls13, Version::Tls13) => &[&TLS13],
        (Version::Tls13, Version::Tls12) => {
            return Err(wrong("tls_server_config: min_version is above max_version".to_owned()));
        }
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| wrong(format!("tls_server_config: {error}")))?;
    let builder = match (client_ca, tls.client_auth_type) {
        (None, ClientAuth::No) => builder.with_no_client_auth(),
        (None, _) => {
            return Err(wrong("tls_server_config: client_auth_type needs a client_ca_file".to_owned()));
        }
        (Some(_), ClientAuth::No) => {
            return Err(wrong(
                "tls_server_config: client_ca_file has no effect without a client_auth_type, such as \
                 RequireAndVerifyClientCert"
                    .to_owned(),
            ));
        }
        (Some(ca), wanted) => {
            let mut roots = RootCertStore::empty();
            for certificate in
                self::certificates(&ca).map_err(|what| wrong(format!("client_ca_file: {what}")))?
            {
                roots.add(certificate).map_err(|error| wrong(format!("client_ca_file: {error}")))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier =
                if wanted == ClientAuth::IfGiven { verifier.allow_unauthenticated() } else { verifier };
            let verifier = verifier.build().map_err(|error| wrong(format!("client_ca_file: {error}")))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| wrong(format!("tls_server_config: cert_file and key_file: {error}")))?;
    config.ignore_client_order = tls.prefer_server_cipher_suites.unwrap_or(true);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|_| "it is no PEM file".to_owned())?;
    if certificates.is_empty() {
        Err("it holds no certificate in PEM form".to_owned())
    } else {
        Ok(certificates)
    }
}

/// The crypto provider, restricted to the configured ciphers and curves.
fn provider(file: &Path, tls: &TlsFile) -> Result<CryptoProvider, FileError> {
    let mut provider = ring::default_provider();
    if let Some(wanted) = &tls.cipher_suites {
        let mut chosen = Vec::new();
        for name in wanted {
            let ours = CIPHER_SUITES
                .iter()
                .find(|(go, _)| *go == name.value)
                .map_or(name.value.as_str(), |(_, ours)| ours);
            let suite = provider.cipher_suites.iter().find(|suite| format!("{:?}", suite.suite()) == ours);
            let suite = suite.ok_or_else(|| {
                let what = "cipher_suites: this suite is not supported";
                error_at(file, name.referenced, what)
            })?;
            chosen.push(*suite);
        }
        // The suites of TLS 1.3 cannot be configured, as in Go.
        chosen.extend(provider.cipher_suites.iter().filter(|suite| suite.tls13().is_some()));
        provider.cipher_suites = chosen;
    }
    if let Some(wanted) = &tls.curve_preferences {
        let mut chosen = Vec::new();
        for name in wanted {
            let group = CURVES.iter().find(|(go, _)| *go == name.value).map(|(_, group)| *group);
            let group = group.and_then(|group| provider.kx_groups.iter().find(|known| known.name() == group));
            let group = group.ok_or_else(|| {
                let known: Vec<_> = CURVES.iter().map(|(go, _)| *go).collect();
                let what = format!("curve_preferences: invalid value; use one of {}", known.join(", "));
                error_at(file, name.referenced, what)
            })?;
            chosen.push(*group);
        }
        provider.kx_groups = chosen;
    }
    Ok(provider)
}
