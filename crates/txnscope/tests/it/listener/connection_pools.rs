//! Connection pools, as the table of open transactions shows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::ensure;
use mongodb::Client;
use mongodb::bson::doc;
use mongodb::event::EventHandler;
use mongodb::event::cmap::CmapEvent;
use testkit::{FailPoint, ReplicaSet, wait};
use txnscope::{ConnectionPoolListener, Metrics};

use super::support::options;

#[tokio::test(flavor = "multi_thread")]
async fn pool_in_use_is_counted_until_connections_are_returned_or_requests_are_dropped() {
    let set = ReplicaSet::recycled().await.unwrap();
    let metrics = Metrics::isolated().unwrap();
    let open = metrics.registry().open_transactions();
    let taken = Arc::<AtomicUsize>::default();
    let mut options = options(&set).await;
    options.app_name = Some("pool".to_owned());
    options.max_pool_size = Some(2);
    let theirs = Arc::clone(&taken);
    options.cmap_event_handler = Some(EventHandler::callback(move |event| {
        if matches!(event, CmapEvent::ConnectionCheckedOut(_)) {
            theirs.fetch_add(1, Relaxed);
        }
    }));
    ConnectionPoolListener::with_registry(metrics.registry()).install(&mut options);
    let client = Client::with_options(options).unwrap();
    let orders = client.database("shop").collection::<mongodb::bson::Document>("orders");
    orders.find_one(doc! {}).await.unwrap();

    let block = doc! {"failCommands": ["find"], "blockConnection": true, "blockTimeMS": 200};
    let blocked = FailPoint::fail_command(&set.client().await.unwrap(), "pool", block).await.unwrap();
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let orders = orders.clone();
        requests.spawn(async move { while orders.find_one(doc! {}).await.is_ok() {} });
    }
    let server = set.members()[0].address();
    let until_in_use = async |expected: usize| {
        wait::until("the pool", async || {
            let pools = open.connection_pools();
            ensure!(pools.len() == 1, "{pools:?}");
            ensure!(pools[0].server == server && pools[0].max_size == Some(2), "{pools:?}");
            ensure!(pools[0].in_use == expected && pools[0].connections <= 2, "{pools:?}");
            Ok(())
        })
        .await
        .unwrap();
    };
    until_in_use(2).await;
    // At any moment, two of them wait for the server, and three for a connection.
    requests.shutdown().await;
    until_in_use(0).await;
    blocked.off().await.unwrap();
    orders.find_one(doc! {}).await.unwrap();
    until_in_use(0).await;
    assert!(taken.load(Relaxed) >= 4, "the application's own handler receives the events");

    drop(orders);
    client.shutdown().await;
    wait::until("the end of the pool", async || {
        let pools = open.connection_pools();
        ensure!(pools.is_empty(), "{pools:?}");
        Ok(())
    })
    .await
    .unwrap();
}
