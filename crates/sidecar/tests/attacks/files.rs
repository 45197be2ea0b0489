//! Web configuration files that are half written, and files that are not regular.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use testkit::{Scrape, wait};
use txnscope_sidecar::Sidecar;

use super::{ask, config_with, scrape, user};

const RELOADED: &str = "txnscope_config_last_reload_successful";

fn basic(who: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(who))
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_or_half_written_web_file_keeps_protection() {
    let folder = TempDir::new().unwrap();
    let whole = format!("http_server_config:\n  headers:\n    X-Frame-Options: deny\n{}", user("a", "x", 4));
    let sidecar = Sidecar::start(config_with(folder.path(), &whole)).await.unwrap();
    let file = folder.path().join("web.yml");
    let half = &whole[..whole.find("basic_auth").unwrap()];
    for text in ["", "# soon\n", half, "{}"] {
        std::fs::write(&file, text).unwrap();
        wait::until("the refusal on the page", async || {
            let answer = scrape(&sidecar, "/metrics", &basic("a:x")).await.map_err(anyhow::Error::msg)?;
            let page = Scrape::parse(answer.split_once("\r\n\r\n").unwrap().1)?;
            anyhow::ensure!(page.value(RELOADED, &[]) == Some(0.0), "it is not refused");
            Ok(())
        })
        .await
        .unwrap();
        let answer = ask(&sidecar, "GET /metrics", "host: localhost\r\n").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{text:?}: {answer}");
        std::fs::write(&file, &whole).unwrap();
        wait::until("the end of the refusal", async || {
            let answer = scrape(&sidecar, "/metrics", &basic("a:x")).await.map_err(anyhow::Error::msg)?;
            let page = Scrape::parse(answer.split_once("\r\n\r\n").unwrap().1)?;
            anyhow::ensure!(page.value(RELOADED, &[]) == Some(1.0), "it is refused still");
            Ok(())
        })
        .await
        .unwrap();
    }
    // A reload with an empty file, and then with one that explicitly disables users.
    std::fs::write(&file, "").unwrap();
    let refused = sidecar.reload().await.unwrap_err().to_string();
    assert!(refused.contains("empty") && refused.contains("{}"), "{refused}");
    std::fs::write(&file, "{}").unwrap();
    sidecar.reload().await.unwrap();
    scrape(&sidecar, "/metrics", "").await.unwrap();
    sidecar.shutdown().await;
}

#[tokio::test]
async fn web_file_that_is_pipe_device_or_too_large_is_rejected() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let huge = folder.path().join("huge.yml");
    std::fs::File::create(&huge).unwrap().set_len(1 << 30).unwrap();
    for (file, expected) in [
        (pipe.as_path(), "no regular file"),
        (std::path::Path::new("/dev/zero"), "no regular file"),
        (folder.path(), "no regular file"),
        (huge.as_path(), "larger than"),
    ] {
        let mut config = super::config();
        config.web_config_file = Some(file.to_owned());
        let error = Sidecar::start(config).await.unwrap_err();
        assert!(error.is_misuse() && error.to_string().contains(expected), "{error}");
        let key = format!("tls_server_config:\n  cert_file: {0}\n  key_file: {0}\n", file.display());
        let error = Sidecar::start(config_with(folder.path(), &key)).await.unwrap_err();
        assert!(error.is_misuse() && error.to_string().contains(expected), "{error}");
    }
}
