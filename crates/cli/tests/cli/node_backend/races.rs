//! The races find the edition without transactions wrong, and the checks find what its lost updates left.

use anyhow::ensure;
use testkit::{Scrape, race_with_axios, wait};
use txnscope_catalog as catalog;

use super::counting::counted;
use super::environment::Environment;
use crate::common::Serving;

/// A burst in which all requests happen to run one after another passes; twenty such bursts in a row are not plausible.
const ROUNDS: usize = 20;

/// The only operation that writes one document, and therefore has no transaction.
const WITHOUT_TRANSACTION: &str = "POST /api/bank-accounts";

#[tokio::test(flavor = "multi_thread")]
async fn edition_with_transactions_passes_races_and_reconciles_with_server() {
    let environment = Environment::start("after").await;
    let sidecar = Serving::start(&[], &[("MONGODB_URI", &environment.set.uri())]).await;
    let (code, report) = environment.drill("race", &["--rounds=1", "--concurrency=6"]).await;
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("passed; the data of this run"), "{report}");
    // As the clients of such a backend send requests.
    let operations = environment.proxy_page().await.sum(catalog::TRANSACTION_ATTEMPTS.name, &[]);
    let (code, report) = race_with_axios(&environment.url()).await.unwrap();
    assert_eq!(code, Some(0), "{report}");
    let began = environment.proxy_page().await.sum(catalog::TRANSACTION_ATTEMPTS.name, &[]) - operations;
    assert!(report.contains(&format!("\n{began} operations sent")), "{began} began: {report}");
    let (code, report) = environment.drill("load", &["--rate=10", "--duration=3s", "--entities=10"]).await;
    assert_eq!(code, Some(0), "{report}");
    let results = environment.audit().await;
    assert!(results.len() == 7 && results.values().all(|result| result == "clean"), "{results:?}");

    // The backend's own counters are those of the proxy, and its driver's are those of the server.
    let proxied = counted(&environment.proxy_page().await);
    let backend = environment.backend_page().await;
    assert_eq!(proxied, counted(&backend));
    let driver = |metric: &catalog::Metric, labels: &[(&str, &str)]| backend.sum(metric.name, labels);
    let [started, committed, aborted] = [
        driver(&catalog::CLIENT_TRANSACTIONS_STARTED, &[]),
        driver(&catalog::CLIENT_TRANSACTIONS_COMMITTED, &[]),
        driver(&catalog::CLIENT_TRANSACTIONS_ABORTED, &[]),
    ];
    wait::until("the sidecar to have seen the last transaction", async || {
        let page = Scrape::parse(&sidecar.get("/metrics").await?)?;
        let server = [
            page.sum(catalog::MONGODB_TRANSACTIONS_STARTED.name, &[]),
            page.sum(catalog::MONGODB_TRANSACTIONS_COMMITTED.name, &[]),
            page.sum(catalog::MONGODB_TRANSACTIONS_ABORTED.name, &[]),
        ];
        ensure!(
            server == [started, committed, aborted],
            "{server:?}, and by the driver {started}, {committed}, {aborted}"
        );
        Ok(())
    })
    .await
    .unwrap();

    // What the proxy alone can reconcile: a success with a transaction is a commit, and a rejection by a rule is an abort. The
    // other aborts are attempts that the driver ran again.
    let of = |outcome: &str| {
        let with = proxied.iter().filter(|((operation, of, reason), _)| {
            let before_transaction = ["invalid_request", "same_account"].contains(&reason.as_str());
            operation != WITHOUT_TRANSACTION && of == outcome && !before_transaction
        });
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        let sum = with.map(|(_, count)| *count).sum::<u64>() as f64;
        sum
    };
    assert_eq!(committed, of("succeeded"));
    let by_rule = driver(&catalog::CLIENT_TRANSACTIONS_ABORTED, &[("reason", "application")]);
    assert_eq!(by_rule, of("rejected"));
    assert!(aborted > by_rule, "bursts on one document conflict");
    assert_eq!(started, committed + aborted);
}

#[tokio::test(flavor = "multi_thread")]
async fn edition_without_transactions_fails_races_and_checks_find_lost_updates() {
    let environment = Environment::start("before").await;
    for scenario in ["consume", "complete", "transfer"] {
        let only = format!("--scenario={scenario}");
        let mut rounds = 0;
        let report = loop {
            let (code, report) = environment.drill("race", &[&only, "--rounds=1"]).await;
            rounds += 1;
            match code {
                Some(1) => break report,
                Some(0) if rounds < ROUNDS => {}
                other => panic!("{other:?} after {rounds} rounds: {report}"),
            }
        };
        assert!(report.contains("succeeded, and at most 1 may"), "{report}");
    }
    let mut rounds = 0;
    let report = loop {
        let (code, report) = race_with_axios(&environment.url()).await.unwrap();
        rounds += 1;
        match code {
            Some(1) => break report,
            Some(0) if rounds < ROUNDS => {}
            other => panic!("{other:?} after {rounds} rounds: {report}"),
        }
    };
    assert!(report.contains("of 10 succeeded, and 1 may: lost"), "{report}");
    let results = environment.audit().await;
    let result = |check: &str| results.get(check).map_or("absent", String::as_str);
    for check in ["retainer_balance_drift", "payment_not_posted_once", "bank_account_balance_drift"] {
        assert_eq!(result(check), "violated", "{check}: {results:?}");
    }
    // A lost update leaves no negative balance, so that a check of the balance alone finds nothing.
    for check in ["retainer_balance_negative", "bank_account_overdrawn"] {
        assert_eq!(result(check), "clean", "{check}: {results:?}");
    }
}
