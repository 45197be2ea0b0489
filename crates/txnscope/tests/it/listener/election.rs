//! The books through an election.

use mongodb::bson::doc;
use testkit::ReplicaSet;
use tokio::sync::oneshot;
use txnscope_catalog as catalog;

use super::jobs::Shop;
use super::support::{ClientCounters, Listened, ServerCounters, quiet};

/// The difference is what the project counts by itself: first statements that a member refused, and those of which the
/// answer of a member that steps down does not say whether they had begun.
#[tokio::test(flavor = "multi_thread")]
async fn election_difference_is_counted_as_refused_or_lost() {
    let set = ReplicaSet::start(3).await.unwrap();
    let listened = Listened::connect(&set).await;
    let shop = Shop::open(&listened.client).await;
    let before = ServerCounters::of(&set).await;
    let (tell, told) = oneshot::channel();
    let mut tell = Some(tell);
    let load = shop.run(600, |ended| {
        if ended == 200 {
            tell.take().unwrap().send(()).unwrap();
        }
    });
    let election = async {
        told.await.unwrap();
        set.step_up_another().await.unwrap();
    };
    tokio::join!(load, election);
    quiet(&set, &listened).await;

    let server = ServerCounters::of(&set).await.since(before);
    let client = ClientCounters::of(&listened.scrape());
    let most = client.started - client.refused;
    assert!((most - client.lost..=most).contains(&server.started), "{server:?} {client:?}");
    // A commit that the old primary applied, and the set took back in the election, stays in that member's book. Its
    // client sent it again and learnt from the new primary that there is no such transaction.
    let sent_again = listened.sum(&catalog::CLIENT_TRANSACTION_COMMIT_RETRIES, &[]);
    assert!(
        (client.committed..=client.committed + client.unknown + sent_again).contains(&server.committed),
        "{server:?} {client:?} {sent_again} commits sent again"
    );
    assert_eq!(server.aborted + server.committed, server.started);
    // The data know what was committed: each job that goes on until it is has left its mark once.
    let marks =
        listened.collection("journal").count_documents(doc! {"took": {"$exists": true}}).await.unwrap();
    assert_eq!(marks, 240);
    assert!((240.0..=300.0).contains(&client.committed), "{client:?}");
}
