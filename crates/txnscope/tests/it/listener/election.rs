//! The listener's counters through an election.

use mongodb::bson::doc;
use testkit::ReplicaSet;
use tokio::sync::oneshot;
use txnscope_catalog as catalog;

use super::jobs::Shop;
use super::support::{ClientCounters, ListenedClient, ServerCounters, wait_until_idle};

/// The difference consists of the first statements that a member rejected, and of those for which a member that
/// stepped down does not report whether they had started.
#[tokio::test(flavor = "multi_thread")]
async fn election_difference_is_counted_as_refused_or_lost() {
    let set = ReplicaSet::start(3).await.unwrap();
    let listened = ListenedClient::connect(&set).await;
    let shop = Shop::open(&listened.client).await;
    let before = ServerCounters::of(&set).await;
    let (signal, signaled) = oneshot::channel();
    let mut signal = Some(signal);
    let load = shop.run(600, |ended| {
        if ended == 200 {
            signal.take().unwrap().send(()).unwrap();
        }
    });
    let election = async {
        signaled.await.unwrap();
        set.step_up_another().await.unwrap();
    };
    tokio::join!(load, election);
    wait_until_idle(&set, &listened).await;

    let server = ServerCounters::of(&set).await.since(before);
    let client = ClientCounters::of(&listened.scrape());
    let most = client.started - client.refused;
    assert!((most - client.lost..=most).contains(&server.started), "{server:?} {client:?}");
    // The old primary's counters keep a commit that the election rolled back. Its client retried it, and learned from
    // the new primary that there is no such transaction.
    let sent_again = listened.sum(&catalog::CLIENT_TRANSACTION_COMMIT_RETRIES, &[]);
    assert!(
        (client.committed..=client.committed + client.unknown + sent_again).contains(&server.committed),
        "{server:?} {client:?} {sent_again} commits sent again"
    );
    assert_eq!(server.aborted + server.committed, server.started);
    // The data shows what was committed: each job that retries until its commit has written once.
    let marks =
        listened.collection("journal").count_documents(doc! {"took": {"$exists": true}}).await.unwrap();
    assert_eq!(marks, 240);
    assert!((240.0..=300.0).contains(&client.committed), "{client:?}");
}
