//! The settings of the collectors: by flag, variable and file, and changed while it runs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use testkit::{Mongod, Scrape, Signal, wait};

use crate::common::{Serving, run, run_with, said};

/// The collectors that are asked.
async fn asked(serving: &Serving) -> Result<BTreeSet<String>> {
    let page = Scrape::parse(&serving.get("/metrics").await?)?;
    let asked = page.matching("txnscope_poll_success", &[]);
    Ok(asked.filter_map(|series| series.labels.get("collector").cloned()).collect())
}

/// Waits until it is just these, besides the status.
async fn asks(serving: &Serving, expected: &[&str]) {
    let expected: BTreeSet<_> = expected.iter().chain(&["server_status"]).map(ToString::to_string).collect();
    wait::until("the collectors", async || {
        let asked = asked(serving).await?;
        ensure!(asked == expected, "{asked:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_flag_goes_before_a_variable_and_a_variable_before_the_file() {
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
        asks(&Serving::start(arguments, environment).await, expected).await;
    }
}

#[tokio::test]
async fn a_reload_that_changes_nothing_but_the_collectors_takes_effect() {
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
    asks(&serving, &["current_op", "storage_engine", "replication"]).await;

    write("replication.enabled = false\nslow_transactions.enabled = true\nparameters.enabled = true\n");
    serving.process.signal(Signal::HUP).unwrap();
    asks(&serving, &["current_op", "storage_engine", "slow_transactions"]).await;

    write("replication.enabled = fasle\n");
    let reload = reqwest::Client::new().post(format!("http://{}/-/reload", serving.address));
    let answer = reload.send().await.unwrap();
    assert_eq!(answer.status(), 500);
    let told = answer.text().await.unwrap();
    assert!(told.contains("txnscope.toml:4: "), "{told}");
    asks(&serving, &["current_op", "storage_engine", "slow_transactions"]).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    const URI: &str = "--mongodb.uri=mongodb://host/";
    for (flag, told) in [
        ("--collector.profile.databses=shop", "--collector.profile.databases"),
        ("--collector.profil.enabled", "--collector.profile.enabled"),
        (
            "--collector.replication.interval=0s",
            "--collector.replication, flags or variables: the interval of the collector replication is 0ns",
        ),
        ("--collector.replication.interval=often", "--collector.replication.interval"),
        ("--collector.replication.enabled=maybe", "[possible values: true, false]"),
        ("--collector.current-op.long-running=5", "such as in 5s"),
        ("--collector.profile.enabled", "has no databases"),
        ("--collector.open-by-operation.backends=http://u:hunter2@shop/", "has a user in its URL"),
    ] {
        let output = run(&["serve", "--check-config", URI, flag]).await;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{flag}: {said}");
        assert!(said.contains(told) && !said.contains("hunter2"), "{flag}: {said}");
    }
    let variable = ("TXNSCOPE_COLLECTOR_CURRENT_OP_LONG_RUNNING", "0s");
    let output = run_with(&["serve", "--check-config", URI], &[variable]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("--collector.current-op, flags or variables"), "{}", said(&output));
    let misspelt = ("TXNSCOPE_COLLECTOR_PROFILE_DATABASE", "shop");
    let output = run_with(&["serve", "--check-config", URI], &[misspelt]).await;
    assert!(said(&output).contains("TXNSCOPE_COLLECTOR_PROFILE_DATABASES"), "{}", said(&output));
}
