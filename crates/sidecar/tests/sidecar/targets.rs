//! Several deployments, deployments on demand, and changes of both at runtime.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::ensure;
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, doc};
use testkit::{Mongod, ReplicaSetOptions, Scrape, wait};
use txnscope_sidecar::{Config, Credentials, Sidecar, Target};

use crate::common::{frequent, page_where, total, url};

fn config(targets: &[&Mongod]) -> Config {
    let mut config = Config::default();
    config.targets = targets.iter().map(|mongod| target(mongod)).collect();
    config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.poll_interval = Duration::from_millis(200);
    config.collectors = frequent();
    config
}

fn target(mongod: &Mongod) -> Target {
    Target::new(format!("mongodb://{}/", mongod.address()))
}

fn up(page: &Scrape) -> BTreeSet<String> {
    page.matching("mongodb_up", &[])
        .filter(|series| series.value == 1.0)
        .map(|series| series.labels["member"].clone())
        .collect()
}

fn addresses(mongods: &[&Mongod]) -> BTreeSet<String> {
    mongods.iter().map(|mongod| mongod.address()).collect()
}

/// The sidecar's connections to a server, as the server counts them.
async fn connections(mongod: &Mongod) -> BTreeSet<i64> {
    let admin = mongod.client().await.unwrap().database("admin");
    let pipeline = [
        doc! {"$currentOp": {"allUsers": true, "idleConnections": true}},
        doc! {"$match": {"appName": "txnscope", "connectionId": {"$exists": true}}},
    ];
    let found: Vec<_> = admin.aggregate(pipeline).await.unwrap().try_collect().await.unwrap();
    let number = |value: &Bson| value.as_i64().or(value.as_i32().map(i64::from)).unwrap();
    found.iter().map(|operation| number(operation.get("connectionId").unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_restarts_changed_deployments_only() {
    let (stays, goes, comes) =
        tokio::try_join!(Mongod::standalone(), Mongod::standalone(), Mongod::standalone()).unwrap();
    let wanted = Arc::new(Mutex::new(config(&[&stays, &goes])));
    let load = Arc::clone(&wanted);
    let first = wanted.lock().unwrap().clone();
    let sidecar = Sidecar::start_reloadable(first, move || Ok(load.lock().unwrap().clone())).await.unwrap();
    page_where(&sidecar, "two deployments", |page| {
        up(page) == addresses(&[&stays, &goes]) && page.sum("txnscope_poll_success", &[]) >= 6.0
    })
    .await;
    let before = connections(&stays).await;
    assert!(!before.is_empty());

    wanted.lock().unwrap().targets = vec![target(&comes), target(&stays), target(&stays)];
    let answer = reqwest::Client::new().post(url(&sidecar, "/-/reload")).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let both = addresses(&[&stays, &comes]);
    page_where(&sidecar, "the other two", |page| up(page) == both).await;
    let after = connections(&stays).await;
    assert!(before.is_subset(&after), "what has not changed was disturbed: {before:?}, {after:?}");
    wait::until("no connection to what has gone", async || {
        let left = connections(&goes).await;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
    .unwrap();

    wanted.lock().unwrap().targets.push(Target::new("mongodb://user:hunter2@:port/"));
    let answer = reqwest::Client::new().put(url(&sidecar, "/-/reload")).send().await.unwrap();
    assert_eq!(answer.status(), 500);
    let text = answer.text().await.unwrap();
    assert!(text.contains("URI 4") && text.contains("stays in force") && !text.contains("hunter2"), "{text}");
    let page = page_where(&sidecar, "the refusal", |page| {
        page.value("txnscope_config_last_reload_successful", &[]) == Some(0.0)
    })
    .await;
    assert_eq!(up(&page), both);
    assert!(before.is_subset(&connections(&stays).await));
    sidecar.shutdown().await;
}

/// Another interval restarts the monitoring of the same deployments. Their members are on every page meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn reload_keeps_old_series_until_replacement_ready() {
    let mongod = Mongod::standalone().await.unwrap();
    let wanted = Arc::new(Mutex::new(config(&[&mongod])));
    let load = Arc::clone(&wanted);
    let first = wanted.lock().unwrap().clone();
    let sidecar = Sidecar::start_reloadable(first, move || Ok(load.lock().unwrap().clone())).await.unwrap();
    page_where(&sidecar, "the member", |page| up(page) == addresses(&[&mongod])).await;
    let before = connections(&mongod).await;
    wanted.lock().unwrap().poll_interval = Duration::from_millis(300);
    let mut reload = Box::pin(sidecar.reload());
    loop {
        let page = Scrape::get(&url(&sidecar, "/metrics")).await.unwrap();
        assert_eq!(up(&page), addresses(&[&mongod]));
        tokio::select! {
            biased;
            reloaded = &mut reload => break reloaded.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
    drop(reload);
    let page = Scrape::get(&url(&sidecar, "/metrics")).await.unwrap();
    assert_eq!(up(&page), addresses(&[&mongod]));
    wait::until("no connection of before", async || {
        let now = connections(&mongod).await;
        ensure!(now.is_disjoint(&before) && !now.is_empty(), "{before:?}, {now:?}");
        Ok(())
    })
    .await
    .unwrap();
    sidecar.shutdown().await;
}

/// Two URIs that lead to one member produce no duplicate series.
#[tokio::test(flavor = "multi_thread")]
async fn member_of_two_uris_is_exported_once() {
    let mongod = Mongod::standalone().await.unwrap();
    let mut config = config(&[&mongod]);
    config.targets.push(Target::new(format!("mongodb://{}/?directConnection=true", mongod.address())));
    let sidecar = Sidecar::start(config).await.unwrap();
    page_where(&sidecar, "the member", |page| up(page) == addresses(&[&mongod])).await;
    sidecar.shutdown().await;
}

async fn get(sidecar: &Sidecar, path: &str) -> (u16, String) {
    let answer = reqwest::get(url(sidecar, path)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn target_is_monitored_while_probed() {
    let set = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    let idle = Mongod::standalone().await.unwrap();
    let member = &set.members()[0];
    let mut config = config(&[]);
    let who = Credentials::new("root", "the-password-of-root");
    let uri = format!("mongodb://{}/?replicaSet={}", member.address(), set.name());
    config.probes.insert("orders".into(), Target::new(&uri).with_credentials(who.clone()));
    config.probes.insert("anonymous".into(), Target::new(&uri));
    let own = format!("mongodb://root:the-password-of-root@{}/?replicaSet={}", member.address(), set.name());
    config.probes.insert("own".into(), Target::new(own));
    config.probes.insert("idle".into(), target(&idle));
    config.auth_modules.insert("root".into(), who);
    config.auth_modules.insert("unprivileged".into(), Credentials::new("root", "hunter2"));
    config.probe_idle_timeout = Duration::from_secs(1);
    // The timeout for the first polls, long enough for a busy machine.
    config.poll_timeout = Duration::from_secs(30);
    // A status that is older than three intervals is down, and the first response waits for the slowest of the first polls.
    config.poll_interval = config.poll_timeout;
    let sidecar = Sidecar::start(config).await.unwrap();
    let address = member.address();
    let who = [("rs", set.name()), ("member", address.as_str())];
    let success = |page: &Scrape| page.sum("txnscope_poll_success", &[]);

    // The first response has the results of the first polls.
    let (status, page) = get(&sidecar, "/probe?target=orders").await;
    assert_eq!(status, 200, "{page}");
    let page = Scrape::parse(&page).unwrap();
    assert_eq!((page.value("mongodb_up", &who), success(&page)), (Some(1.0), 5.0));
    assert!(page.family("mongodb_transactions_started_total").is_some());
    let main = Scrape::get(&url(&sidecar, "/metrics")).await.unwrap();
    assert!(main.family("mongodb_up").is_none(), "a probed target is on its own page alone");

    let page = Scrape::parse(&get(&sidecar, "/probe?target=anonymous&auth_module=root").await.1).unwrap();
    assert_eq!(success(&page), 5.0);
    let (_, text) = get(&sidecar, "/probe?target=anonymous&auth_module=unprivileged").await;
    let page = Scrape::parse(&text).unwrap();
    assert!(page.sum("txnscope_poll_errors_total", &[("reason", "authentication")]) > 0.0);
    assert_eq!(page.value("mongodb_up", &who), Some(0.0));

    for (path, status, expected) in [
        ("/probe", 400, "which target?"),
        ("/probe?target=", 400, "which target?"),
        ("/probe?target=nowhere", 404, "no target with this name"),
        ("/probe?target=orders&auth_module=x", 404, "no auth module with this name"),
        ("/probe?target=own&auth_module=root", 400, "leave out auth_module"),
        ("/probe?target=mongodb%3A%2F%2Fu%3Ahunter2%40db1%2F", 400, "URIs are not accepted"),
        ("/probe?target=orders&password=hunter2", 400, "unknown parameter"),
    ] {
        let (found, text) = get(&sidecar, path).await;
        assert!(
            found == status && text.contains(expected) && !text.contains("hunter2"),
            "{path}: {found} {text}"
        );
    }
    let mut events = reqwest::get(url(&sidecar, "/live/events")).await.unwrap();
    let events = events.chunk().await.unwrap().unwrap();
    let events = std::str::from_utf8(&events).unwrap();
    assert!(events.contains("\"orders\"") && !events.contains("the-password-of-root"), "{events}");

    get(&sidecar, "/probe?target=idle").await;
    assert!(!connections(&idle).await.is_empty());
    wait::until("the end of the monitoring", async || {
        let left = connections(&idle).await;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(get(&sidecar, "/probe?target=idle").await.0, 200, "and again");
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_target_delays_only_its_own_probe() {
    let mongod = Mongod::standalone().await.unwrap();
    mongod.pause().unwrap();
    let mut config = config(&[]);
    config.probes.insert("hung".into(), target(&mongod));
    config.max_requests = 1;
    // Long enough for the other probes to arrive.
    config.poll_timeout = Duration::from_secs(5);
    let sidecar = Sidecar::start(config).await.unwrap();
    // With one target there are two probe permits, so two probes wait and more get 503. Other requests have
    // their own limit.
    let probe = || tokio::spawn(reqwest::get(url(&sidecar, "/probe?target=hung")));
    let (refused, _, mut waiting) = futures_util::future::select_all([probe(), probe(), probe()]).await;
    let refused = refused.unwrap().unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("--web.max-requests"));
    assert_eq!(get(&sidecar, "/metrics").await.0, 200);
    let answer = waiting.swap_remove(0).await.unwrap().unwrap();
    let page = Scrape::parse(&answer.text().await.unwrap()).unwrap();
    assert_eq!(page.value("mongodb_up", &[("member", &mongod.address())]), Some(0.0));
    assert!(total(&page, "txnscope_poll_errors_total") > 0.0);
    // The second probe need not wait.
    let (status, page) = get(&sidecar, "/probe?target=hung").await;
    assert!(status == 200 && page.contains("mongodb_up"), "{page}");
    // With a scrape timeout of zero, the probe returns what is available.
    let request = reqwest::Client::new().get(url(&sidecar, "/probe?target=hung"));
    let answer = request.header("X-Prometheus-Scrape-Timeout-Seconds", "0.1").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    mongod.resume().unwrap();
    sidecar.shutdown().await;
}
