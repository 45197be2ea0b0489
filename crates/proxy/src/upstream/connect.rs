//! One connection to the backend: TCP, TLS over it, or a Unix socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::early_answer::EarlyAnswer;
use crate::config::{Kind, UpstreamAddress, UpstreamSettings};
use crate::error::StartError;

/// What a connection is made of.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(super) type Io = TokioIo<Box<dyn Stream>>;

/// Makes connections to the one backend.
pub(crate) struct Connector {
    address: UpstreamAddress,
    timeout: Duration,
    /// By HTTP/1.1 and by HTTP/2: which is spoken is agreed on in the handshake.
    tls: Option<(Tls, Tls)>,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Connector {
    /// # Errors
    ///
    /// If the file of authorities cannot be used, or the backend's name is none that a certificate can have.
    pub(crate) fn new(address: &UpstreamAddress, settings: &UpstreamSettings) -> Result<Self, StartError> {
        let tls = match &address.0 {
            Kind::Tcp { host, tls: true, .. } => {
                let roots = Arc::new(roots(settings)?);
                let name = ServerName::try_from(host.clone()).map_err(|_| StartError::UpstreamName)?;
                let of = |protocol: &[u8]| {
                    let mut config = ClientConfig::builder()
                        .with_root_certificates(Arc::clone(&roots))
                        .with_no_client_auth();
                    config.alpn_protocols = vec![protocol.to_vec()];
                    Tls { connector: TlsConnector::from(Arc::new(config)), name: name.clone() }
                };
                Some((of(b"http/1.1"), of(b"h2")))
            }
            Kind::Tcp { .. } | Kind::Unix(_) => None,
            #[cfg(feature = "fuzzing")]
            Kind::Memory => None,
        };
        Ok(Self { address: address.clone(), timeout: settings.connect_timeout, tls })
    }

    /// # Errors
    ///
    /// If there is no connection within the time limit.
    pub(super) async fn connect(&self, http2: bool) -> io::Result<Io> {
        match tokio::time::timeout(self.timeout, self.stream(http2)).await {
            Ok(stream) => Ok(TokioIo::new(stream?)),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection within the time limit")),
        }
    }

    async fn stream(&self, http2: bool) -> io::Result<Box<dyn Stream>> {
        let (host, port) = match &self.address.0 {
            Kind::Unix(path) => return Ok(boxed(UnixStream::connect(path).await?)),
            #[cfg(feature = "fuzzing")]
            Kind::Memory => return Ok(boxed(crate::fuzzing::connect())),
            Kind::Tcp { host, port, .. } => (host.as_str(), *port),
        };
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(boxed(stream)),
            Some((http1_tls, http2_tls)) => {
                let tls = if http2 { http2_tls } else { http1_tls };
                Ok(boxed(tls.connector.connect(tls.name.clone(), stream).await?))
            }
        }
    }
}

fn boxed(stream: impl Stream + 'static) -> Box<dyn Stream> {
    Box::new(EarlyAnswer::new(stream))
}

fn roots(settings: &UpstreamSettings) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    match &settings.ca_file {
        Some(file) => {
            let unusable = |why: String| StartError::UpstreamAuthorities { file: file.clone(), why };
            let certificates =
                CertificateDer::pem_file_iter(file).map_err(|error| unusable(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
                roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable("there is no certificate in it".to_owned()));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let _ = roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(StartError::NoAuthorities);
            }
        }
    }
    Ok(roots)
}
