//! Callers who disconnect at random moments: each counts once, as cancelled, and no transaction stays open.

use std::time::Duration;

use anyhow::ensure;
use mongodb::bson::doc;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::{FailPoint, ReplicaSet, Scrape, wait};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use txnscope_catalog as catalog;

use crate::common::{Backend, ended, metrics_url, quiet, server_counters, sidecar};

const AT_ONCE: usize = 40;
const ROUNDS: usize = 5;
const BALANCE: i64 = 1_000;
const AMOUNT: i64 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn disconnects_are_counted_as_cancelled_operations() {
    let set = ReplicaSet::start(1).await.unwrap();
    let backend = Backend::start(&set.uri()).await;
    let sidecar = sidecar(&set.uri()).await;
    let client = backend.client();
    let mut retainers = Vec::new();
    for _ in 0..AT_ONCE {
        retainers.push(client.retainer(BALANCE).await.unwrap());
    }
    let before = server_counters(&set).await;

    // Each of the ledger's three statements is delayed, so that disconnects hit all of them, including the commit,
    // and almost no request is answered before.
    let slow = doc! {
        "failCommands": ["find", "findAndModify", "update", "insert", "aggregate", "commitTransaction"],
        "blockConnection": true,
        "blockTimeMS": 1_000,
    };
    let failpoint = FailPoint::fail_command(&set.client().await.unwrap(), "ledger", slow).await.unwrap();
    let operation = [("operation", "POST /api/retainers/{id}/consume")];
    let mut rng = StdRng::seed_from_u64(200);
    let mut answered = 0;
    for round in 1..=ROUNDS {
        let mut callers = Vec::new();
        for retainer in &retainers {
            let mut caller = TcpStream::connect(backend.server.address()).await.unwrap();
            let body = format!(r#"{{"amount": {AMOUNT}, "description": "leaves"}}"#);
            let request = backend.post(&format!("/api/retainers/{retainer}/consume"), &body);
            caller.write_all(&request).await.unwrap();
            callers.push(caller);
        }
        wait::until("all of them to be admitted", async || {
            let admitted = backend.scrape().sum(catalog::TRANSACTION_ATTEMPTS.name, &operation);
            ensure!(admitted == (round * AT_ONCE) as f64, "{admitted} admitted in round {round}");
            Ok(())
        })
        .await
        .unwrap();
        // The random delay is what is tested, not a wait for a condition.
        let leave = callers.into_iter().map(|caller| {
            let moment = Duration::from_millis(rng.random_range(0..2_400));
            async move {
                tokio::time::sleep(moment).await;
                let answered = caller.try_read(&mut [0]).is_ok();
                drop(caller);
                usize::from(answered)
            }
        });
        answered += futures_util::future::join_all(leave).await.into_iter().sum::<usize>();
        quiet(&set, &backend).await;
    }
    failpoint.off().await.unwrap();

    let scrape = backend.scrape();
    let all = (ROUNDS * AT_ONCE) as f64;
    let cancelled = ended(&scrape, &[operation[0], ("outcome", "cancelled")]);
    let succeeded = ended(&scrape, &[operation[0], ("outcome", "succeeded")]);
    // If the response was already on its way, the request counts as answered.
    assert_eq!(cancelled + succeeded, all, "{}", backend.metrics.render());
    assert!(succeeded >= answered as f64, "{answered} were answered, {succeeded} counted as that");
    // On a busy machine some disconnect late. All are counted in any case.
    assert!(cancelled >= all * 0.5, "{cancelled} of {all}");
    let failures = catalog::TRANSACTION_FAILURES.name;
    let counted = scrape.sum(failures, &[operation[0], ("outcome", "cancelled"), ("reason", "cancelled")]);
    assert_eq!(counted, cancelled);
    assert_eq!(scrape.sum(failures, &operation), cancelled);
    assert_eq!(scrape.sum(catalog::CONCURRENT_OPERATIONS.name, &[]), 0.0);

    // A commit that was already sent takes effect; all others do not. The balances tell.
    let after = server_counters(&set).await;
    let committed = after.committed - before.committed;
    let mut consumed = 0;
    for retainer in &retainers {
        let (_, body) = client.get(&format!("/api/retainers/{retainer}")).await.unwrap();
        let balance = body["data"]["currentBalance"].as_i64().unwrap();
        consumed += BALANCE - balance;
    }
    assert_eq!(consumed, committed * AMOUNT, "{committed} committed");

    wait::until("the sidecar to show that nothing is open", async || {
        let page = Scrape::get(&metrics_url(&sidecar)).await?;
        let open = page.sum(catalog::MONGODB_TRANSACTIONS_OPEN.name, &[]);
        let oldest = page.sum(catalog::MONGODB_TRANSACTIONS_OLDEST_OPEN.name, &[]);
        ensure!(open == 0.0 && oldest == 0.0, "{open} open, the oldest for {oldest} s");
        Ok(())
    })
    .await
    .unwrap();
    backend.server.shutdown().await.unwrap();
    sidecar.shutdown().await;
}
