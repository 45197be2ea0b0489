//! The HTTP server: TLS, users, limits, and changes at runtime.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use testkit::{Scrape, promtool, wait};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_util::either::Either;
use txnscope_sidecar::{Config, Sidecar};

use crate::common::authority::{Authority, Signed};
use crate::common::{page_where, url};

const NOWHERE: &str = "mongodb://127.0.0.1:1/";
const RELOADED: &str = "txnscope_config_last_reload_successful";

async fn start(folder: &Path, web: &str) -> Sidecar {
    Sidecar::start(config(folder, web)).await.unwrap()
}

fn config(folder: &Path, web: &str) -> Config {
    std::fs::write(folder.join("web.yml"), web).unwrap();
    let mut config = Config::new(NOWHERE);
    config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.web_config_file = Some(folder.join("web.yml"));
    config
}

async fn connect_tls(sidecar: &Sidecar, client: &ClientConfig) -> Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(sidecar.local_addr()).await?;
    let name = ServerName::try_from("localhost")?;
    Ok(TlsConnector::from(Arc::new(client.clone())).connect(name, stream).await?)
}

/// One request over TLS, and the whole response.
async fn https(sidecar: &Sidecar, client: &ClientConfig, request: &str) -> Result<String> {
    let mut stream = connect_tls(sidecar, client).await?;
    stream
        .write_all(format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8(answer)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_server_certificate_is_used_without_a_restart() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    authority.sign(3000).write(folder.path());
    let tls = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  max_version: TLS12\n  \
               cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n  curve_preferences: [X25519, CurveP256]\n";
    let sidecar = start(folder.path(), tls).await;
    let client = authority.client(None);
    let answer = https(&sidecar, &client, "GET /metrics").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("{RELOADED} 1\n")), "{answer}");
    assert!(reqwest::get(url(&sidecar, "/-/healthy")).await.is_err(), "it speaks plainly as well");
    assert!(
        https(&sidecar, &Authority::new().client(None), "GET /").await.is_err(),
        "any authority is accepted"
    );

    // Half written: the previous file stays in force, the page reports the failure, and a reload returns the
    // location of the error.
    std::fs::write(folder.path().join("cert.pem"), "-----BEGIN CERTIFICATE-----\nhalf").unwrap();
    wait::until("the refusal on the page", async || {
        let answer = https(&sidecar, &client, "GET /metrics").await?;
        ensure!(answer.contains(&format!("{RELOADED} 0\n")), "{answer}");
        Ok(())
    })
    .await
    .unwrap();
    let answer = https(&sidecar, &client, "POST /-/reload").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("cert_file"), "{answer}");

    // Expired: the sidecar serves it, and the client rejects it.
    authority.sign(2001).write(folder.path());
    wait::until("an expired certificate", async || {
        let error = https(&sidecar, &client, "GET /").await.err().context("it is accepted")?;
        let text = format!("{error:#}");
        ensure!(text.to_lowercase().contains("expired"), "{text}");
        Ok(())
    })
    .await
    .unwrap();

    authority.sign(3000).write(folder.path());
    wait::until("the renewed certificate", async || {
        let answer = https(&sidecar, &client, "GET /metrics").await?;
        ensure!(answer.contains(&format!("{RELOADED} 1\n")), "{answer}");
        Ok(())
    })
    .await
    .unwrap();
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificate_is_required() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    authority.sign(3000).write(folder.path());
    std::fs::write(folder.path().join("ca.pem"), &authority.pem).unwrap();
    let tls = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  client_ca_file: ca.pem\n  \
               client_auth_type: RequireAndVerifyClientCert\n  min_version: TLS13\n";
    let sidecar = start(folder.path(), tls).await;
    let ask = async |own: Option<&Signed>| https(&sidecar, &authority.client(own), "GET /metrics").await;
    assert!(ask(Some(&authority.sign(3000))).await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(ask(None).await.is_err(), "no certificate");
    assert!(ask(Some(&Authority::new().sign(3000))).await.is_err(), "a certificate of another authority");
    assert!(ask(Some(&authority.sign(2001))).await.is_err(), "an expired certificate");
    sidecar.shutdown().await;
}

#[tokio::test]
async fn unusable_web_file_is_rejected_at_startup() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    authority.sign(3000).write(folder.path());
    let other = KeyPair::generate().unwrap();
    std::fs::write(folder.path().join("other.pem"), other.serialize_pem()).unwrap();
    for (web, expected) in [
        ("tls_server_config:\n  cert_file: cert.pem\n", "both needed"),
        (
            "tls_server_config:\n  cert_file: cert.pem\n  key_file: nowhere.pem\n",
            "key_file: cannot use a file that is not there",
        ),
        ("tls_server_config:\n  cert_file: cert.pem\n  key_file: cert.pem\n", "no private key"),
        ("tls_server_config:\n  cert_file: cert.pem\n  key_file: other.pem\n", "cert_file and key_file"),
        (
            "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  client_ca_file: cert.pem\n",
            "client_auth_type",
        ),
        (
            "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  cipher_suites: [TLS_RSA_WITH_RC4]\n",
            "cipher_suites",
        ),
        ("basic_auth_users:\n  prometheus: hunter2\n", "invalid bcrypt hash"),
        ("basic_auth_user:\n  prometheus: hunter2\n", "web.yml:1"),
    ] {
        let error = Sidecar::start(config(folder.path(), web)).await.expect_err(web);
        let text = error.to_string();
        assert!(error.is_misuse() && text.contains(expected), "{web}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_requires_login_and_new_user_needs_no_restart() {
    let folder = TempDir::new().unwrap();
    let user = |name: &str, password: &str| format!("  {name}: {}\n", bcrypt::hash(password, 4).unwrap());
    let headers = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n";
    let web = format!("{headers}basic_auth_users:\n{}", user("prometheus", "hunter2"));
    let sidecar = start(folder.path(), &web).await;
    let ask = async |path: &str, who: Option<&str>| {
        let mut request = reqwest::Client::new().get(url(&sidecar, path));
        if let Some(who) = who {
            request = request.header("authorization", format!("Basic {}", STANDARD.encode(who)));
        }
        request.send().await.unwrap()
    };
    for path in ["/metrics", "/", "/-/healthy", "/-/ready", "/probe?target=x", "/nowhere"] {
        for who in [None, Some("prometheus:wrong"), Some("unknown:hunter2"), Some("prometheus:")] {
            let answer = ask(path, who).await;
            assert_eq!(answer.status(), 401, "{path} {who:?}");
            assert_eq!(answer.headers()["www-authenticate"], "Basic");
        }
        assert_ne!(ask(path, Some("prometheus:hunter2")).await.status(), 401, "{path}");
    }
    let answer = ask("/metrics", Some("prometheus:hunter2")).await;
    assert_eq!(answer.headers()["x-frame-options"], "deny");
    assert!(!answer.text().await.unwrap().contains("hunter2"));

    let web = format!("{web}{}", user("grafana", "other"));
    std::fs::write(folder.path().join("web.yml"), &web).unwrap();
    wait::until("the new user", async || {
        let status = ask("/metrics", Some("grafana:other")).await.status();
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await
    .unwrap();
    sidecar.shutdown().await;
}

/// Users are those in force at each request, so that a change closes no connection: neither one that is kept nor one
/// that has sent nothing yet.
#[tokio::test(flavor = "multi_thread")]
async fn connections_stay_open_when_users_change() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    authority.sign(3000).write(folder.path());
    let tls = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n";
    let user = |name: &str| format!("basic_auth_users:\n  {name}: {}\n", bcrypt::hash("x", 4).unwrap());
    for tls in ["", tls] {
        let sidecar = start(folder.path(), &format!("{tls}{}", user("old"))).await;
        let connect = async || match tls {
            "" => Either::Left(TcpStream::connect(sidecar.local_addr()).await.unwrap()),
            _ => Either::Right(connect_tls(&sidecar, &authority.client(None)).await.unwrap()),
        };
        let (mut kept, mut silent, mut reloading) = (connect().await, connect().await, connect().await);
        assert_eq!(status(&mut kept, "GET /-/healthy", "old").await.unwrap(), 200);

        std::fs::write(folder.path().join("web.yml"), format!("{tls}{}", user("new"))).unwrap();
        assert_eq!(status(&mut reloading, "POST /-/reload", "old").await.unwrap(), 200);
        for connection in [&mut kept, &mut silent] {
            assert_eq!(status(connection, "GET /-/healthy", "old").await.unwrap(), 401, "{tls}");
            assert_eq!(status(connection, "GET /-/healthy", "new").await.unwrap(), 200, "{tls}");
        }
        sidecar.shutdown().await;
    }
}

/// The status of a request of a user, on a connection that stays open.
async fn status(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &str,
    user: &str,
) -> Result<u16> {
    let login = STANDARD.encode(format!("{user}:x"));
    let head = format!("{request} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {login}\r\n\r\n");
    Ok(exchange(stream, &head).await?.0)
}

/// The status and the whole body of the response to a request, on a connection that stays open.
async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), head: &str) -> Result<(u16, String)> {
    stream.write_all(head.as_bytes()).await?;
    let (mut answer, mut piece) = (String::new(), [0; 1024]);
    loop {
        let read = stream.read(&mut piece).await?;
        ensure!(read > 0, "closed after {answer:?}");
        answer.push_str(std::str::from_utf8(&piece[..read])?);
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() == length.context("no length")?.parse::<usize>()? {
            return Ok((head.split(' ').nth(1).context("no status")?.parse()?, body.to_owned()));
        }
    }
}

/// The status and the page of a scrape on a connection of its own. The request is written as soon as the connection is
/// there: a thousand HTTP clients in one process take longer for that, on a busy machine, than the server waits for a head.
async fn scrape_once(sidecar: &Sidecar) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(sidecar.local_addr()).await?;
    exchange(&mut stream, "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await
}

/// Each response is a complete page, or 503; afterwards all scrapes succeed.
#[tokio::test(flavor = "multi_thread")]
async fn thousand_concurrent_scrapes_succeed_or_get_503() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    for max_requests in [0, 40] {
        let mut config = Config::new(NOWHERE);
        config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
        config.max_requests = max_requests;
        let sidecar = Sidecar::start(config).await.unwrap();
        page_where(&sidecar, "the first poll", |page| page.family("mongodb_up").is_some()).await;
        let scrapes = (0..1000).map(|_| async {
            let (status, page) = scrape_once(&sidecar).await.unwrap();
            if status == 200 {
                Scrape::parse(&page).unwrap();
            } else {
                assert!(status == 503 && max_requests > 0, "{status}: {page}");
            }
        });
        futures_util::future::join_all(scrapes).await;
        let page = reqwest::get(url(&sidecar, "/metrics")).await.unwrap().text().await.unwrap();
        promtool::check_metrics(&page).await.unwrap();
        sidecar.shutdown().await;
    }
}

#[tokio::test]
async fn sidecar_listens_on_all_configured_addresses() {
    let mut config = Config::new(NOWHERE);
    config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap(); 2];
    config.telemetry_path = "/mongodb/metrics".into();
    let sidecar = Sidecar::start(config).await.unwrap();
    for address in sidecar.local_addrs() {
        Scrape::get(&format!("http://{address}/mongodb/metrics")).await.unwrap();
    }
    assert_ne!(sidecar.local_addrs()[0], sidecar.local_addrs()[1]);
    sidecar.shutdown().await;
}
