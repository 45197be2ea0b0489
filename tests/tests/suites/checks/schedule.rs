//! The sidecar's schedule: violations are exported, and a check that cannot run is not reported as clean.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::ensure;
use end_to_end::load::{Load, Targets};
use mongodb::bson::{Document, doc};
use testkit::{ReplicaSet, Scrape, wait};
use txnscope_checks::Checks;
use txnscope_sidecar::{Config, Sidecar, Target};

use super::fixtures::{Fixtures, Found, audit};
use crate::common::{frequent_checks as checks, metrics_url, sidecar_with};

const VIOLATIONS: &str = "mongodb_consistency_violations";

async fn page_where(sidecar: &Sidecar, what: &str, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    wait::until(what, async || {
        let page = Scrape::get(&metrics_url(sidecar)).await?;
        let near: Vec<_> =
            page.matching(VIOLATIONS, &[]).map(|series| (&series.labels, series.value)).collect();
        ensure!(holds(&page), "{near:?}");
        Ok(page)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn violations_are_exported_and_cleared_after_fix() {
    let fixtures = Fixtures::make(1).await;
    let number = checks("").iter().len();
    let sidecar = sidecar_with(&fixtures.set.uri(), Some(checks(""))).await;
    let page = page_where(&sidecar, "all checks", |page| {
        page.matching(VIOLATIONS, &[("rs", "rs0")]).count() == number
    });
    assert_eq!(page.await.sum(VIOLATIONS, &[]), 0.0);

    let before = fixtures.get("retainers", fixtures.retainers[1]).await.get_i64("currentBalance").unwrap();
    fixtures.set("retainers", fixtures.retainers[1], doc! {"currentBalance": -100_i64}).await;
    page_where(&sidecar, "a negative balance", |page| {
        ["retainer_balance_negative", "retainer_balance_drift", "retainer_not_in_general_ledger"]
            .into_iter()
            .all(|check| page.value(VIOLATIONS, &[("check", check), ("severity", "critical")]) == Some(1.0))
            && page.sum(VIOLATIONS, &[]) == 3.0
    })
    .await;

    fixtures.set("retainers", fixtures.retainers[1], doc! {"currentBalance": before}).await;
    page_where(&sidecar, "all clean again", |page| {
        page.sum(VIOLATIONS, &[]) == 0.0 && page.matching(VIOLATIONS, &[]).count() == number
    })
    .await;
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_check_exports_errors_by_reason_and_no_violations() {
    let fixtures = Fixtures::make(1).await;
    let broken = r#"
        [[check]]
        name = "mistyped"
        collection = "retainer"
        forbid = '{ "currentBalance": { "$lt": 0 } }'

        [[check]]
        name = "no_such_operator"
        collection = "retainers"
        forbid = '{ "currentBalance": { "$less": 0 } }'
    "#;
    let sidecar = sidecar_with(&fixtures.set.uri(), Some(checks(broken))).await;
    let errors = |page: &Scrape, check, reason| {
        page.value("mongodb_consistency_check_errors_total", &[("check", check), ("reason", reason)])
    };
    let page = page_where(&sidecar, "two failures", |page| {
        errors(page, "mistyped", "collection_missing") >= Some(1.0)
            && errors(page, "no_such_operator", "invalid_query") >= Some(1.0)
    })
    .await;
    for check in ["mistyped", "no_such_operator"] {
        assert_eq!(page.value(VIOLATIONS, &[("check", check)]), None, "{check} is not clean");
        let last = "mongodb_consistency_last_success_timestamp_seconds";
        assert_eq!(page.value(last, &[("check", check)]), Some(0.0));
    }
    let page = page_where(&sidecar, "another check", |page| {
        page.value(VIOLATIONS, &[("check", "retainer_balance_negative")]).is_some()
    });
    assert_eq!(errors(&page.await, "retainer_balance_negative", "timeout"), Some(0.0));
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_results_absent_while_server_down() {
    let mut fixtures = Fixtures::make(1).await;
    fixtures.set("retainers", fixtures.retainers[1], doc! {"currentBalance": -100_i64}).await;
    let sidecar = sidecar_with(&fixtures.set.uri(), Some(checks(""))).await;
    let negative = [("check", "retainer_balance_negative")];
    page_where(&sidecar, "a violation", |page| page.value(VIOLATIONS, &negative) == Some(1.0)).await;

    fixtures.set.member_mut(0).kill().await.unwrap();
    let page = page_where(&sidecar, "nothing that looks live", |page| {
        page.matching(VIOLATIONS, &[]).count() == 0
            && page.sum("mongodb_consistency_check_errors_total", &[]) > 0.0
    })
    .await;
    assert!(page.family("mongodb_consistency_documents_examined").is_none());
    let last = page.value("mongodb_consistency_last_success_timestamp_seconds", &negative);
    assert!(last > Some(1e9), "the time of the last run is still exported: {last:?}");
    assert_eq!(page.value("mongodb_consistency_interval_seconds", &negative), Some(1.0));

    fixtures.set.member_mut(0).restart().await.unwrap();
    page_where(&sidecar, "the violation again", |page| page.value(VIOLATIONS, &negative) == Some(1.0)).await;
    sidecar.shutdown().await;
}

fn simple(names: &[&str]) -> Checks {
    let check = |name: &&str| {
        format!(
            "[[check]]\nname = \"{name}\"\nseverity = \"critical\"\ndatabase = \"shop\"\ncollection = \"orders\"\n\
             interval = \"1s\"\nforbid = '{{ \"{name}\": true }}'\n"
        )
    };
    Checks::parse(&names.iter().map(check).collect::<String>()).unwrap()
}

/// Two replica sets with the same name, so that neither can hide the other.
#[tokio::test(flavor = "multi_thread")]
async fn checks_run_per_deployment_and_reload_replaces_them() {
    let sets = [ReplicaSet::start(1).await.unwrap(), ReplicaSet::start(1).await.unwrap()];
    for (set, order) in sets.iter().zip([doc! {"lost": false}, doc! {"lost": true, "late": true}]) {
        let orders = set.client().await.unwrap().database("shop").collection::<Document>("orders");
        orders.insert_one(order).await.unwrap();
    }
    let mut config = Config::default();
    config.targets = sets.iter().map(|set| Target::new(set.uri())).collect();
    config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.poll_interval = Duration::from_millis(200);
    config.checks = Some(simple(&["lost"]));
    let wanted = Arc::new(Mutex::new(config.clone()));
    let load = Arc::clone(&wanted);
    let sidecar = Sidecar::start_reloadable(config, move || Ok(load.lock().unwrap().clone())).await.unwrap();
    let count = |page: &Scrape, name| page.matching(VIOLATIONS, &[("rs", "rs0"), ("check", name)]).count();
    let lost = |page: &Scrape| page.value(VIOLATIONS, &[("rs", "rs0"), ("check", "lost")]);
    page_where(&sidecar, "the order that is lost", |page| {
        lost(page) == Some(1.0) && count(page, "lost") == 1
    })
    .await;

    wanted.lock().unwrap().checks = Some(simple(&["late", "lost"]));
    sidecar.reload().await.unwrap();
    let page = Scrape::get(&metrics_url(&sidecar)).await.unwrap();
    assert_eq!(lost(&page), Some(1.0), "a reload does not make a violation vanish");
    page_where(&sidecar, "the late order too", |page| {
        page.value(VIOLATIONS, &[("rs", "rs0"), ("check", "late")]) == Some(1.0)
    })
    .await;

    wanted.lock().unwrap().checks = None;
    sidecar.reload().await.unwrap();
    let page = Scrape::get(&metrics_url(&sidecar)).await.unwrap();
    assert!(page.families().iter().all(|family| !family.name.starts_with("mongodb_consistency_")));
    sidecar.shutdown().await;
}

/// Money moves all the time, and another member is elected meanwhile: no check ever reports a violation, and each one
/// succeeds again afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn no_false_violations_under_load_and_election() {
    let fixtures = Fixtures::make(3).await;
    let number = checks("").iter().len();
    let sidecar = sidecar_with(&fixtures.set.uri(), Some(checks(""))).await;
    let http = fixtures.backend.client();
    let targets = Targets::open(&http).await.unwrap();
    let load = Load::default();
    let last = "mongodb_consistency_last_success_timestamp_seconds";
    let all_since = async |what: &str, since: f64| {
        page_where(&sidecar, what, |page| {
            assert_eq!(
                page.sum(VIOLATIONS, &[]),
                0.0,
                "{:?}",
                page.matching(VIOLATIONS, &[]).collect::<Vec<_>>()
            );
            let recent = page.matching(last, &[("rs", "rs0")]).filter(|series| series.value > since);
            recent.count() == number
        })
        .await
    };
    let now = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_secs_f64()
    };
    let (done, ended) = tokio::sync::oneshot::channel::<()>();
    let watched = async {
        all_since("all checks, under load", now()).await;
        fixtures.set.step_up_another().await.unwrap();
        let elected = now();
        all_since("all checks again, by the new primary", elected).await;
        drop(done);
    };
    tokio::join!(load.run(&http, &targets, 20, async { drop(ended.await) }, 7), watched);
    let moved = load
        .responses()
        .iter()
        .filter(|((_, answer), _)| answer.starts_with('2'))
        .map(|(_, n)| n)
        .sum::<u64>();
    assert!(moved > 0, "{:?}", load.responses());
    // After the load has ended, there are no violations either.
    assert_eq!(audit(&fixtures.client).await, Found::new());
    sidecar.shutdown().await;
}
