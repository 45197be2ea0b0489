//! The listener with other event handlers, and with a failing recorder.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::ensure;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use mongodb::Client;
use mongodb::bson::doc;
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use testkit::{ReplicaSet, wait};
use txnscope::{Registry, TransactionListener};
use txnscope_catalog as catalog;

use super::support::options;

#[tokio::test(flavor = "multi_thread")]
async fn application_event_handler_still_receives_events() {
    let set = ReplicaSet::recycled().await.unwrap();
    let metrics = txnscope::Metrics::isolated().unwrap();
    let heard = Arc::new(AtomicUsize::new(0));
    let (callback, task) = (Arc::clone(&heard), Arc::clone(&heard));
    let (sender, mut receiver) = tokio::sync::mpsc::channel(100);
    let theirs = [
        EventHandler::callback(move |event| {
            if is_commit(&event) {
                callback.fetch_add(1, Relaxed);
            }
        }),
        EventHandler::async_callback(move |event| {
            let heard = Arc::clone(&task);
            Box::pin(async move {
                if is_commit(&event) {
                    heard.fetch_add(1, Relaxed);
                }
            })
        }),
        EventHandler::from(sender),
    ];
    for (index, handler) in theirs.into_iter().enumerate() {
        let mut options = options(&set).await;
        options.command_event_handler = Some(handler);
        TransactionListener::with_registry(metrics.registry()).install(&mut options);
        let client = Client::with_options(options).unwrap();
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        let orders = client.database("shop").collection("orders");
        orders.insert_one(doc! {"index": index as i64}).session(&mut session).await.unwrap();
        session.commit_transaction().await.unwrap();
    }
    while !is_commit(&receiver.recv().await.unwrap()) {}
    wait::until("the events of asynchronous handlers", async || {
        let heard = heard.load(Relaxed);
        ensure!(heard == 2, "{heard} commits");
        Ok(())
    })
    .await
    .unwrap();
    let scrape = testkit::Scrape::parse(&metrics.render()).unwrap();
    assert_eq!(scrape.sum(catalog::CLIENT_TRANSACTIONS_COMMITTED.name, &[]), 3.0);
}

fn is_commit(event: &CommandEvent) -> bool {
    matches!(event, CommandEvent::Succeeded(event) if event.command_name == "commitTransaction")
}

/// A recorder that panics.
struct Panics;

impl Recorder for Panics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        panic!("the recorder panics")
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn panicking_recorder_does_not_fail_transactions() {
    let set = ReplicaSet::recycled().await.unwrap();
    let mut options = options(&set).await;
    TransactionListener::with_registry(Registry::new(Panics)).install(&mut options);
    let client = Client::with_options(options).unwrap();
    let orders = client.database("shop").collection("orders");
    for index in 0..2 {
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        orders.insert_one(doc! {"_id": index}).session(&mut session).await.unwrap();
        session.commit_transaction().await.unwrap();
    }
    assert_eq!(orders.count_documents(doc! {}).await.unwrap(), 2);
}
