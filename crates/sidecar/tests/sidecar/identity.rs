//! Certificates for MongoDB: client identities, renewal, and invalid files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use tempfile::TempDir;
use testkit::{Mongod, ReplicaSetOptions, Scrape, wait};
use txnscope_sidecar::{Config, Credentials, Sidecar, Target};

use crate::common::authority::Authority;
use crate::common::terminal::Terminal;
use crate::common::{frequent, page_where, total};

/// Replaces the files atomically, as a certificate renewer does.
struct Files(TempDir);

impl Files {
    fn put(&self, name: &str, text: &str) -> PathBuf {
        let (new, file) = (self.0.path().join("new"), self.0.path().join(name));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &file).unwrap();
        file
    }
}

async fn start(target: Target) -> Sidecar {
    let mut config = Config::new("mongodb://127.0.0.1:1/");
    config.targets = vec![target];
    config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.poll_interval = Duration::from_millis(200);
    config.collectors = frequent();
    Sidecar::start(config).await.unwrap()
}

fn is_up(page: &Scrape) -> bool {
    total(page, "mongodb_up") == 1.0 && page.family("mongodb_info").is_some()
}

fn is_down(page: &Scrape) -> bool {
    total(page, "mongodb_up") == 0.0 && page.family("mongodb_info").is_none()
}

fn reloaded(page: &Scrape) -> Option<f64> {
    page.value("txnscope_config_last_reload_successful", &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_ca_file_is_used_without_a_reload() {
    let files = Files(TempDir::new().unwrap());
    let (old, new) = (Authority::new(), Authority::new());
    let ca = files.put("ca.pem", &old.pem);
    let mongod = Mongod::standalone().await.unwrap();
    let terminal = Terminal::before(&mongod, old.sign(3000).server()).await;
    let options = format!("directConnection=true&tls=true&tlsCAFile={}", ca.display());
    let sidecar = start(Target::new(format!("mongodb://localhost:{}/?{options}", terminal.port))).await;
    page_where(&sidecar, "up by the old authority", is_up).await;
    terminal.speak(new.sign(3000).server());
    page_where(&sidecar, "down: the old authority did not sign the new certificate", is_down).await;
    files.put("ca.pem", &new.pem);
    page_where(&sidecar, "up by the new authority", is_up).await;

    // Unusable files are rejected, by the periodic check and by a reload, and the previous ones stay in force.
    files.put("ca.pem", "no certificate");
    page_where(&sidecar, "the refusal", |page| is_up(page) && reloaded(page) == Some(0.0)).await;
    let error = sidecar.reload().await.unwrap_err().to_string();
    assert!(error.contains("tlsCAFile") && !error.contains("ca.pem"), "{error}");
    files.put("ca.pem", &new.pem);
    page_where(&sidecar, "all is well again", |page| is_up(page) && reloaded(page) == Some(1.0)).await;
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_client_certificate_is_used() {
    let files = Files(TempDir::new().unwrap());
    let (server, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let ca = files.put("ca.pem", &server.pem);
    let own = files.put("client.pem", &old.sign(3000).pem());
    let mongod = Mongod::standalone().await.unwrap();
    let terminal = Terminal::before(&mongod, server.sign(3000).server_for_clients_of(&old)).await;
    let options = format!(
        "directConnection=true&tls=true&tlsCAFile={}&tlsCertificateKeyFile={}",
        ca.display(),
        own.display()
    );
    let sidecar = start(Target::new(format!("mongodb://localhost:{}/?{options}", terminal.port))).await;
    page_where(&sidecar, "up with the old certificate", is_up).await;
    terminal.speak(server.sign(3000).server_for_clients_of(&new));
    page_where(&sidecar, "down: the old certificate is no longer taken", is_down).await;
    files.put("client.pem", &new.sign(3000).pem());
    page_where(&sidecar, "up with the new certificate", is_up).await;
    sidecar.shutdown().await;
}

/// All users that the server has authenticated for this client name.
async fn users(admin: &mongodb::Database) -> anyhow::Result<Vec<String>> {
    let pipeline = [
        doc! {"$currentOp": {"allUsers": true, "idleConnections": true}},
        doc! {"$match": {"appName": "txnscope", "effectiveUsers": {"$exists": true}}},
    ];
    let found: Vec<Document> = admin.aggregate(pipeline).await?.try_collect().await?;
    let users = found.iter().filter_map(|operation| operation.get_array("effectiveUsers").ok()).flatten();
    Ok(users.filter_map(|user| Some(user.as_document()?.get_str("user").ok()?.to_owned())).collect())
}

/// A real server with TLS: the X.509 identity of the certificate is used, although default credentials are
/// configured.
#[tokio::test(flavor = "multi_thread")]
async fn x509_uri_ignores_default_credentials() {
    let files = Files(TempDir::new().unwrap());
    let authority = Authority::new();
    let at = |file: &Path| file.display().to_string();
    let ca = at(&files.put("ca.pem", &authority.pem));
    let server = at(&files.put("server.pem", &authority.sign(3000).pem()));
    let client = at(&files.put("client.pem", &authority.sign_for("monitor", "observers").pem()));
    let set = ReplicaSetOptions::new(1)
        .auth()
        .argument("tlsMode", "allowTLS")
        .argument("tlsCAFile", &ca)
        .argument("tlsCertificateKeyFile", &server)
        .start()
        .await
        .unwrap();
    let name = "CN=monitor,O=observers";
    let roles = vec![doc! {"role": "clusterMonitor", "db": "admin"}];
    let admin = set.client().await.unwrap().database("admin");
    let external = set.client().await.unwrap().database("$external");
    external.run_command(doc! {"createUser": name, "roles": roles}).await.unwrap();

    let (_, port) = set.addresses()[0].rsplit_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let options = format!(
        "directConnection=true&tls=true&tlsCAFile={ca}&tlsCertificateKeyFile={client}&authMechanism=MONGODB-X509"
    );
    let target = Target::new(format!("mongodb://localhost:{port}/?{options}"));
    let root = Credentials::new("root", "the-password-of-root");
    let sidecar = start(target.with_default_credentials(&root)).await;
    page_where(&sidecar, "up", is_up).await;
    wait::until("its connections", async || {
        let users = users(&admin).await?;
        ensure!(!users.is_empty(), "no user");
        assert!(users.iter().all(|user| user == name), "{users:?}");
        Ok(())
    })
    .await
    .unwrap();
    sidecar.shutdown().await;
}
