//! The books through an election.

use testkit::ReplicaSet;
use tokio::sync::oneshot;

use crate::jobs::Shop;
use crate::support::{ClientBook, Listened, ServerBook, quiet};

/// The difference is what the project counts by itself: first statements that a member refused.
#[tokio::test(flavor = "multi_thread")]
async fn an_election_leaves_no_difference_but_the_refused() {
    let set = ReplicaSet::start(3).await.unwrap();
    let listened = Listened::connect(&set).await;
    let shop = Shop::open(&listened.client).await;
    let before = ServerBook::of(&set).await;
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

    let server = ServerBook::of(&set).await.since(before);
    let client = ClientBook::of(&listened.scrape());
    assert_eq!(client.lost, 0.0, "a step-up closes no connection: {client:?}");
    assert_eq!(server.started, client.started - client.refused, "{server:?} {client:?}");
    assert!(
        (client.committed..=client.committed + client.unknown).contains(&server.committed),
        "{server:?} {client:?}"
    );
    assert_eq!(server.aborted + server.committed, server.started);
}
