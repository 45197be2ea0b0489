//! A member that is reached by TLS, with a certificate that is good, expired, or somebody else's.
//!
//! mongod itself does not start with an expired certificate, though it goes on with one that expires. So TLS ends before
//! it here, and the certificate is changed at will.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use testkit::{Mongod, Scrape};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::common::authority::{Authority, Signed};
use crate::common::{page_where, sidecar, total};

/// Ends TLS before a server.
struct Terminal {
    port: u16,
    shown: Arc<Mutex<(TlsAcceptor, CancellationToken)>>,
}

fn acceptor(signed: &Signed) -> TlsAcceptor {
    TlsAcceptor::from(Arc::new(signed.server()))
}

impl Terminal {
    async fn before(server: &Mongod, signed: &Signed) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, server) = (listener.local_addr().unwrap().port(), server.address());
        let shown = Arc::new(Mutex::new((acceptor(signed), CancellationToken::new())));
        let now = Arc::clone(&shown);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (acceptor, over) = now.lock().unwrap().clone();
                let server = server.clone();
                tokio::spawn(over.run_until_cancelled_owned(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let mut server = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }));
            }
        });
        Self { port, shown }
    }

    /// From now on it shows that one, and every connection begins anew.
    fn show(&self, signed: &Signed) {
        let before =
            std::mem::replace(&mut *self.shown.lock().unwrap(), (acceptor(signed), CancellationToken::new()));
        before.1.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_an_expired_certificate_is_down_until_it_is_renewed() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let mongod = Mongod::standalone().await.unwrap();
    let terminal = Terminal::before(&mongod, &authority.sign(3000)).await;
    let options = format!("directConnection=true&tls=true&tlsCAFile={}", ca.display());
    let sidecar = sidecar(&format!("mongodb://localhost:{}/?{options}", terminal.port)).await;
    let is_up = |page: &Scrape| total(page, "mongodb_up") == 1.0 && page.family("mongodb_info").is_some();
    let is_down = |page: &Scrape| total(page, "mongodb_up") == 0.0 && page.family("mongodb_info").is_none();
    page_where(&sidecar, "up", is_up).await;
    for bad in [authority.sign(2001), Authority::new().sign(3000)] {
        terminal.show(&bad);
        page_where(&sidecar, "down, and nothing stale", is_down).await;
        terminal.show(&authority.sign(3000));
        page_where(&sidecar, "up again", is_up).await;
    }
    sidecar.shutdown().await;
}
