//! Both metric pages against the catalog, in both directions, and against promtool.

use std::collections::BTreeSet;

use anyhow::ensure;
use mongodb::bson::doc;
use testkit::{ReplicaSet, Scrape, promtool, wait};
use txnscope_catalog::{self as catalog, Emitter, Metric, Presence, Values};

use crate::common::{Backend, frequent_checks, metrics_url, sidecar_with};

/// The pages are checked on a set on which every series exists.
#[tokio::test(flavor = "multi_thread")]
async fn exported_metrics_match_catalog() {
    let set = ReplicaSet::start(3).await.unwrap();
    let backend = Backend::start(&set.uri()).await;
    let sidecar = sidecar_with(&set.uri(), Some(frequent_checks(""))).await;

    let client = backend.client();
    let retainer = client.retainer(100).await.unwrap();
    let consume = format!("/api/retainers/{retainer}/consume");
    client.post(&consume, &serde_json::json!({"amount": 500, "description": "too much"})).await.unwrap();

    // With an open transaction, the sidecar reads current operations as well.
    let driver = set.client().await.unwrap();
    let mut session = driver.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    driver.database("test").collection("c").insert_one(doc! {"a": 1}).session(&mut session).await.unwrap();

    let page = reqwest::get(backend.metrics_url()).await.unwrap().text().await.unwrap();
    promtool::check_metrics(&page).await.unwrap();
    check(&Scrape::parse(&page).unwrap(), Emitter::Library);

    wait::until("every metric of the sidecar", async || {
        let scrape = Scrape::get(&metrics_url(&sidecar)).await?;
        let missing = missing(&scrape, Emitter::Sidecar);
        ensure!(missing.is_empty(), "missing: {missing:?}");
        let open = scrape.sum(catalog::MONGODB_TRANSACTIONS_OPEN.name, &[("state", "inactive")]);
        ensure!(open == 1.0, "{open} inactive");
        Ok(())
    })
    .await
    .unwrap();
    let page = reqwest::get(metrics_url(&sidecar)).await.unwrap().text().await.unwrap();
    promtool::check_metrics(&page).await.unwrap();
    check(&Scrape::parse(&page).unwrap(), Emitter::Sidecar);
    session.abort_transaction().await.unwrap();
}

fn missing(scrape: &Scrape, emitter: Emitter) -> Vec<&'static str> {
    let shown = |metric: &&Metric| matches!(metric.presence(), Presence::Always | Presence::Checks);
    let expected = catalog::emitted_by(emitter).filter(shown);
    let expected = expected.map(|metric| metric.name);
    expected.filter(|name| scrape.family(name).is_none_or(|family| family.series.is_empty())).collect()
}

fn check(scrape: &Scrape, emitter: Emitter) {
    assert_eq!(missing(scrape, emitter), [""; 0], "the catalog promises more than the page has");
    for family in scrape.families() {
        let metric = catalog::find(&family.name)
            .unwrap_or_else(|| panic!("`{}` is on the page and not in the catalog", family.name));
        assert!(metric.is_emitted_by(emitter), "{}", metric.name);
        assert_eq!(family.help, metric.help, "{}", metric.name);
        assert_eq!(
            format!("{:?}", family.kind).to_lowercase(),
            metric.kind.as_str(),
            "{} has another type",
            metric.name
        );
        for series in &family.series {
            labels(metric, &series.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>());
        }
    }
}

fn labels(metric: &Metric, labels: &[(&str, &str)]) {
    let own: BTreeSet<_> = labels.iter().map(|(name, _)| *name).filter(|name| *name != "le").collect();
    let expected: BTreeSet<_> = metric.labels.iter().map(|label| label.name).collect();
    assert_eq!(own, expected, "labels of {}", metric.name);
    for (name, value) in labels {
        let Some(label) = metric.labels.iter().find(|label| label.name == *name) else { continue };
        if let Values::Closed(values) = label.values {
            assert!(values.contains(value), "{}{{{name}={value:?}}} is not in the closed set", metric.name);
        }
    }
}
