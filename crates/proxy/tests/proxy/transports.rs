//! Ways to the backend other than plain TCP.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use txnscope_proxy::{Config, Proxy, StartError, UpstreamAddress};

use crate::support::*;

async fn answer(mut stream: impl tokio::io::AsyncRead + AsyncWriteExt + Unpin) {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(b"{}") {
        if tokio::io::AsyncReadExt::read(&mut stream, &mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        read.push(byte[0]);
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let _ = stream.flush().await;
}

#[tokio::test]
async fn a_backend_behind_a_unix_socket_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    let upstream: UpstreamAddress = format!("unix:{}", path.display()).parse().unwrap();
    let running = start_with("127.0.0.1:1".parse().unwrap(), |config| config.upstream = upstream);
    assert!(running.raw(post("/pay/7", "{}")).await.ends_with("ok"));
    assert_eq!(running.ended(PAY, "succeeded"), 1.0);
}

#[tokio::test]
async fn a_backend_by_tls_is_checked_by_its_certificate() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let private = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = ServerConfig::builder().with_no_client_auth();
    let server = server.with_single_cert(vec![certificate.der().clone()], private).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream).await;
                }
            });
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        Some(file)
    };
    let upstream: UpstreamAddress = format!("https://127.0.0.1:{port}").parse().unwrap();
    let trusting = start_with("127.0.0.1:1".parse().unwrap(), |config| {
        config.upstream = upstream.clone();
        config.upstream_settings.ca_file = file("ca.pem", &certificate.pem());
    });
    assert!(trusting.raw(post("/pay/7", "{}")).await.ends_with("ok"));
    let other = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let other = other.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let wary = start_with("127.0.0.1:1".parse().unwrap(), |config| {
        config.upstream = upstream.clone();
        config.upstream_settings.ca_file = file("other.pem", &other.pem());
    });
    assert_eq!(status(&wary.raw(post("/pay/7", "{}")).await), 502);
    assert_eq!(wary.failures(PAY, "failed", "upstream_unreachable"), 1.0);
    let mut config = Config::new(upstream);
    config.upstream_settings.ca_file = file("empty.pem", "");
    let refused = Proxy::start(config, &wary.metrics).unwrap_err();
    assert!(matches!(refused, StartError::UpstreamAuthorities { .. }), "{refused}");
}
