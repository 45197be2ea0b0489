//! A TLS terminator in front of a server, whose certificate can be changed at runtime.

use std::sync::{Arc, Mutex};

use testkit::Mongod;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

/// Terminates TLS in front of a server.
pub(crate) struct Terminal {
    pub(crate) port: u16,
    shown: Arc<Mutex<(TlsAcceptor, CancellationToken)>>,
}

impl Terminal {
    pub(crate) async fn before(server: &Mongod, config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, server) = (listener.local_addr().unwrap().port(), server.address());
        let shown = Arc::new(Mutex::new((TlsAcceptor::from(Arc::new(config)), CancellationToken::new())));
        let now = Arc::clone(&shown);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (acceptor, over) = now.lock().unwrap().clone();
                let server = server.clone();
                tokio::spawn(over.run_until_cancelled_owned(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }));
            }
        });
        Self { port, shown }
    }

    /// Sets the TLS configuration, and closes all connections.
    pub(crate) fn speak(&self, config: ServerConfig) {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let before =
            std::mem::replace(&mut *self.shown.lock().unwrap(), (acceptor, CancellationToken::new()));
        before.1.cancel();
    }
}
