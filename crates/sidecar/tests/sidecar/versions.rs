//! Older servers. All available versions: `cargo xtask test --matrix`.

use testkit::{ReplicaSetOptions, promtool};
use txnscope_catalog::{self as catalog, Emitter, Presence};

use crate::common::{everything, open_transaction, page_where, patient_sidecar, prepare, total, url};

#[tokio::test(flavor = "multi_thread")]
async fn older_server_exports_all_its_metrics() {
    let set = ReplicaSetOptions::new(1).version("4.4.2").start().await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    client.database("test").run_command(mongodb::bson::doc! {"profile": 2}).await.unwrap();
    let sidecar = patient_sidecar(&set.uri(), everything()).await;
    page_where(&sidecar, "the first poll of the profiler", |page| {
        page.family("mongodb_profile_gaps_total").is_some()
    })
    .await;
    open_transaction(&client).await.commit_transaction().await.unwrap();
    open_transaction(&client).await.abort_transaction().await.unwrap();
    let mut open = open_transaction(&client).await;
    let promised = catalog::emitted_by(Emitter::Sidecar).filter(|metric| {
        let shown = matches!(metric.presence(), Presence::Always | Presence::OptionalCollector);
        // The set has one member, and so no peers.
        let of_peers = metric.labels.iter().any(|label| label.name == "peer");
        shown && !of_peers
    });
    let promised: Vec<_> = promised.map(|metric| metric.name).collect();
    let page = page_where(&sidecar, "all that is promised", |page| {
        let missing: Vec<_> = promised.iter().filter(|name| page.family(name).is_none()).collect();
        if !missing.is_empty() {
            eprintln!("missing: {missing:?}");
        }
        missing.is_empty()
            && total(page, "mongodb_transactions_oldest_open_seconds") > 0.0
            && total(page, "mongodb_transactions_started_total") == 3.0
    })
    .await;
    assert_eq!(page.sum("mongodb_info", &[("version", "4.4.2")]), 1.0);
    assert_eq!(total(&page, "txnscope_poll_errors_total"), 0.0);
    assert_eq!(total(&page, "txnscope_series_dropped_total"), 0.0);
    assert_eq!(total(&page, "mongodb_transactions_committed_total"), 1.0);
    assert_eq!(total(&page, "mongodb_transactions_aborted_total"), 1.0);
    assert_eq!(page.sum("mongodb_transactions_open_by_application", &[("application", "testkit")]), 1.0);
    let text = reqwest::get(url(&sidecar, "/metrics")).await.unwrap().text().await.unwrap();
    promtool::check_metrics(&text).await.unwrap();
    open.abort_transaction().await.unwrap();
    sidecar.shutdown().await;
}
