//! Members with TLS: with a certificate that is valid, expired, or issued for another host.
//!
//! mongod does not start with an expired certificate, though it keeps running with one that expires. So TLS is
//! terminated in front of it here, and the certificate is replaced at will.

use tempfile::TempDir;
use testkit::{Mongod, Scrape};

use crate::common::authority::Authority;
use crate::common::terminal::Terminal;
use crate::common::{page_where, sidecar, total};

#[tokio::test(flavor = "multi_thread")]
async fn member_with_expired_certificate_is_down() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let mongod = Mongod::standalone().await.unwrap();
    let terminal = Terminal::before(&mongod, authority.sign(3000).server()).await;
    let options = format!("directConnection=true&tls=true&tlsCAFile={}", ca.display());
    let sidecar = sidecar(&format!("mongodb://localhost:{}/?{options}", terminal.port)).await;
    let is_up = |page: &Scrape| total(page, "mongodb_up") == 1.0 && page.family("mongodb_info").is_some();
    let is_down = |page: &Scrape| total(page, "mongodb_up") == 0.0 && page.family("mongodb_info").is_none();
    page_where(&sidecar, "up", is_up).await;
    for bad in [authority.sign(2001), Authority::new().sign(3000)] {
        terminal.speak(bad.server());
        page_where(&sidecar, "down, and nothing stale", is_down).await;
        terminal.speak(authority.sign(3000).server());
        page_where(&sidecar, "up again", is_up).await;
    }
    sidecar.shutdown().await;
}
