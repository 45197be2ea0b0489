//! Probes with different auth modules.

use std::time::Duration;

use anyhow::ensure;
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use testkit::{ReplicaSetOptions, wait};
use txnscope_sidecar::{Config, Credentials, Sidecar, Target};

use crate::common::url;

const MODULES: usize = 20;
/// More connections than two users need, and fewer than one client for each module would open.
const CONNECTIONS_OF_TWO: usize = 30;

async fn get(sidecar: &Sidecar, path: &str) -> (u16, String) {
    let answer = reqwest::get(url(sidecar, path)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn config(target: Target, poll_timeout: Duration) -> Config {
    let mut config = Config::default();
    config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.poll_interval = Duration::from_millis(200);
    config.poll_timeout = poll_timeout;
    config.probes.insert("orders".into(), target);
    for index in 0..MODULES {
        let credentials = Credentials::new("root", "the-password-of-root");
        config.auth_modules.insert(format!("module{index}"), credentials);
    }
    config
}

/// Each user of a target has its own connections and polls, and the client of the probe chooses the user.
#[tokio::test(flavor = "multi_thread")]
async fn target_is_monitored_with_at_most_two_users() {
    let set = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    let uri = format!("mongodb://{}/?replicaSet={}", set.members()[0].address(), set.name());
    let sidecar = Sidecar::start(config(Target::new(uri), Duration::from_secs(30))).await.unwrap();
    for index in 0..MODULES {
        let (status, page) = get(&sidecar, &format!("/probe?target=orders&auth_module=module{index}")).await;
        assert_eq!(status, 200, "{page}");
        assert!(page.contains("mongodb_up"), "{page}");
    }
    let admin = set.client().await.unwrap().database("admin");
    wait::until("the connections of two users", async || {
        let pipeline = [
            doc! {"$currentOp": {"allUsers": true, "idleConnections": true}},
            doc! {"$match": {"appName": "txnscope", "connectionId": {"$exists": true}}},
        ];
        let open: Vec<Document> = admin.aggregate(pipeline).await?.try_collect().await?;
        ensure!(open.len() <= CONNECTIONS_OF_TWO, "{} connections", open.len());
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn auth_module_is_restricted_to_allowed_targets() {
    let target = Target::new("mongodb://127.0.0.1:1/").with_auth_modules(["module1".to_owned()]);
    let sidecar = Sidecar::start(config(target, Duration::from_millis(100))).await.unwrap();
    let (status, text) = get(&sidecar, "/probe?target=orders&auth_module=module0").await;
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("auth_modules"), "{text}");
    assert_eq!(get(&sidecar, "/probe?target=orders&auth_module=module1").await.0, 200);
    assert_eq!(get(&sidecar, "/probe?target=orders").await.0, 200);
}
