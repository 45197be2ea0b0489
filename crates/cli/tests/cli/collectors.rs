//! The settings of the collectors by flag, variable and file, and their reload.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use testkit::{Mongod, Scrape, Signal, wait};

use crate::common::{Serving, run, run_with, stderr};

/// The collectors that are polled.
async fn polled_collectors(serving: &Serving) -> Result<BTreeSet<String>> {
    let page = Scrape::parse(&serving.get("/metrics").await?)?;
    let polled = page.matching("txnscope_poll_success", &[]);
    Ok(polled.filter_map(|series| series.labels.get("collector").cloned()).collect())
}

/// Waits until exactly these collectors and the server status are polled.
async fn wait_for_collectors(serving: &Serving, expected: &[&str]) {
    let expected: BTreeSet<_> = expected.iter().chain(&["server_status"]).map(ToString::to_string).collect();
    wait::until("the collectors", async || {
        let polled = polled_collectors(serving).await?;
        ensure!(polled == expected, "{polled:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn precedence_is_flag_variable_file() {
    let mongod = Mongod::standalone().await.unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("txnscope.toml");
    let text = format!(
        "[mongodb]\nuri = [\"mongodb://{}/\"]\n[collector]\ncurrent_op.enabled = false\nstorage_engine.enabled = false\n\
         replication.enabled = false\nparameters.enabled = false\n",
        mongod.address()
    );
    std::fs::write(&file, text).unwrap();
    let file = format!("--config.file={}", file.display());
    let parameters = ("TXNSCOPE_COLLECTOR_PARAMETERS_ENABLED", "true");
    let databases = ("TXNSCOPE_COLLECTOR_PROFILE_DATABASES", "shop bank");
    for (arguments, environment, expected) in [
        (&[file.as_str()][..], &[][..], &[][..]),
        (&[file.as_str()], &[parameters], &["parameters"]),
        (&[file.as_str(), "--collector.parameters.enabled=false"], &[parameters], &[]),
        (&[file.as_str(), "--collector.profile.enabled"], &[databases], &["profile"]),
        (
            &[file.as_str(), "--collector.slow-transactions.enabled", "--collector.replication.enabled=true"],
            &[],
            &["replication", "slow_transactions"],
        ),
    ] {
        wait_for_collectors(&Serving::start(arguments, environment).await, expected).await;
    }
}

#[tokio::test]
async fn reload_applies_collector_settings() {
    let mongod = Mongod::standalone().await.unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("txnscope.toml");
    let write = |collectors: &str| {
        let uri =
            format!("[mongodb]\nuri = [\"mongodb://{}/\"]\n[collector]\n{collectors}", mongod.address());
        std::fs::write(&file, uri).unwrap();
    };
    write("");
    let by_file = format!("--config.file={}", file.display());
    let serving = Serving::start(&[&by_file, "--collector.parameters.enabled=false"], &[]).await;
    wait_for_collectors(&serving, &["current_op", "storage_engine", "replication"]).await;

    write("replication.enabled = false\nslow_transactions.enabled = true\nparameters.enabled = true\n");
    serving.process.signal(Signal::HUP).unwrap();
    wait_for_collectors(&serving, &["current_op", "storage_engine", "slow_transactions"]).await;

    write("replication.enabled = fasle\n");
    let reload = reqwest::Client::new().post(format!("http://{}/-/reload", serving.address));
    let answer = reload.send().await.unwrap();
    assert_eq!(answer.status(), 500);
    let text = answer.text().await.unwrap();
    assert!(text.contains("txnscope.toml:4: "), "{text}");
    wait_for_collectors(&serving, &["current_op", "storage_engine", "slow_transactions"]).await;
}

#[tokio::test]
async fn invalid_collector_settings_are_errors() {
    const URI: &str = "--mongodb.uri=mongodb://host/";
    for (flag, text) in [
        ("--collector.profile.databses=shop", "--collector.profile.databases"),
        ("--collector.profil.enabled", "--collector.profile.enabled"),
        (
            "--collector.replication.interval=0s",
            "--collector.replication, flags or variables: the interval of the collector replication is 0ns",
        ),
        ("--collector.replication.interval=often", "--collector.replication.interval"),
        ("--collector.replication.enabled=maybe", "[possible values: true, false]"),
        ("--collector.current-op.long-running=5", "such as 30s"),
        ("--collector.profile.enabled", "has no databases"),
        ("--collector.open-by-operation.backends=http://u:hunter2@shop/", "has a user in its URL"),
    ] {
        let output = run(&["serve", "--check-config", URI, flag]).await;
        let output_text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{flag}: {output_text}");
        assert!(output_text.contains(text) && !output_text.contains("hunter2"), "{flag}: {output_text}");
    }
    let variable = ("TXNSCOPE_COLLECTOR_CURRENT_OP_LONG_RUNNING", "0s");
    let output = run_with(&["serve", "--check-config", URI], &[variable]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--collector.current-op, flags or variables"), "{}", stderr(&output));
    let misspelled = ("TXNSCOPE_COLLECTOR_PROFILE_DATABASE", "shop");
    let output = run_with(&["serve", "--check-config", URI], &[misspelled]).await;
    assert!(stderr(&output).contains("TXNSCOPE_COLLECTOR_PROFILE_DATABASES"), "{}", stderr(&output));
}
