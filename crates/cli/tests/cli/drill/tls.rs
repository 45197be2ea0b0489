//! A backend with TLS, whose certificate authority the system does not trust.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

use crate::drill::environment::{drill, serve};

/// A TLS proxy for the backend, and the certificate authority that signed its certificate.
async fn encrypted(backend: String) -> (String, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (acceptor, backend) = (acceptor.clone(), backend.clone());
            tokio::spawn(async move {
                let mut inner = acceptor.accept(connection).await.ok()?;
                let mut outer =
                    tokio::net::TcpStream::connect(backend.strip_prefix("http://")?).await.ok()?;
                tokio::io::copy_bidirectional(&mut inner, &mut outer).await.ok()
            });
        }
    });
    (format!("https://{address}"), root.pem())
}

#[tokio::test]
async fn tls_backend_is_trusted_if_its_authority_is() {
    let backend = serve(Router::new().fallback(async || StatusCode::UNAUTHORIZED)).await;
    let (url, root) = encrypted(backend).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, root).unwrap();
    let url = format!("--url={url}");
    let (code, output_text) = drill(&["race", &url, &format!("--ca-file={}", file.display())]).await;
    assert_eq!(code, 2, "{output_text}");
    assert!(output_text.contains("rejects the token (401"), "it has read a response: {output_text}");
    let (code, output_text) = drill(&["race", &url]).await;
    assert_eq!(code, 2, "{output_text}");
    assert!(output_text.contains("cannot be reached"), "{output_text}");
}
