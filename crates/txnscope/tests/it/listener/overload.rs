//! Overloaded servers, and the driver's own retries.

use mongodb::Client;
use mongodb::bson::{Document, doc};
use testkit::{FailPoint, ReplicaSet};
use txnscope_catalog as catalog;

use super::support::{ClientCounters, ListenedClient, ServerCounters, wait_until_idle};

const OPERATION: &str = "POST /pay";

fn overloaded(command: &str) -> Document {
    let labels = ["RetryableError", "SystemOverloadedError"];
    doc! {"failCommands": [command], "errorCode": 462, "errorLabels": labels.to_vec()}
}

/// A transaction with a driver session: an `insert`, a `find`, and the commit or an abort. `command` is rejected
/// `times` times.
async fn pay(client: Client, admin: Client, command: &'static str, times: i32) -> mongodb::error::Result<()> {
    let fail =
        async || FailPoint::fail_command_times(&admin, "listened", times, overloaded(command)).await.unwrap();
    let items = client.database("shop").collection::<Document>("items");
    let mut session = client.start_session().await?;
    session.start_transaction().await?;
    if command == "insert" {
        fail().await;
    }
    items.insert_one(doc! {}).session(&mut session).await?;
    // Set the failpoint only now: with the first statement the server itself reads the session, with a `find`.
    if command != "insert" {
        fail().await;
    }
    items.find_one(doc! {}).session(&mut session).await?;
    if command == "abortTransaction" {
        return session.abort_transaction().await;
    }
    session.commit_transaction().await
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_retries_of_driver_are_followed() {
    let set = ReplicaSet::recycled().await.unwrap();
    let admin = set.client_named("admin").await.unwrap();
    admin.database("shop").create_collection("items").await.unwrap();
    for (command, times, repeats, ends) in [
        ("insert", 1, 2.0, "committed"),
        ("insert", 2, 3.0, "committed"),
        ("insert", 3, 2.0, "refused"),
        ("find", 2, 2.0, "committed"),
        ("find", 3, 2.0, "aborted"),
        ("commitTransaction", 1, 1.0, "committed"),
        ("commitTransaction", 2, 2.0, "committed"),
        ("commitTransaction", 3, 2.0, "aborted"),
        ("abortTransaction", 2, 2.0, "aborted"),
    ] {
        let case = format!("{command} {times} times");
        let listened = ListenedClient::connect(&set).await;
        let before = ServerCounters::of(&set).await;
        if command == "insert" && times < 3 {
            // The same outside of any transaction.
            FailPoint::fail_command_times(&admin, "listened", 1, overloaded("insert")).await.unwrap();
            let plain = listened.collection("plain");
            listened.within(OPERATION, async move { plain.insert_one(doc! {}).await.unwrap() }).await;
        }
        let work = pay(listened.client.clone(), admin.clone(), command, times);
        let ended = listened.within(OPERATION, work).await;
        assert_eq!(ended.is_ok(), ends == "committed" || command == "abortTransaction", "{case}: {ended:?}");
        // The session's next transaction shows that no retry of the commit will come.
        let plain = listened.collection("plain");
        plain.insert_one(doc! {}).await.unwrap();
        wait_until_idle(&set, &listened).await;
        let (client, server) =
            (ClientCounters::of(&listened.scrape()), ServerCounters::of(&set).await.since(before));
        let is = |what: &str| f64::from(u8::from(ends == what));
        let of_operation = [("operation", OPERATION)];
        assert_eq!(
            (client.started, client.committed, client.unknown),
            (1.0, is("committed"), 0.0),
            "{case}: {client:?}"
        );
        assert_eq!((client.refused, client.lost), (is("refused"), 0.0), "{case}: {client:?}");
        assert_eq!(
            (server.started, server.committed),
            (1.0 - is("refused"), is("committed")),
            "{case}: {server:?}"
        );
        let found = listened.sum(&catalog::CLIENT_OVERLOAD_RETRIES, &of_operation);
        assert_eq!(found, repeats, "{case}");
        assert_eq!(listened.sum(&catalog::CLIENT_TRANSACTION_COMMIT_RETRIES, &of_operation), 0.0, "{case}");
        let reason = if command == "abortTransaction" { "application" } else { "overloaded" };
        let aborted = listened.sum(&catalog::CLIENT_TRANSACTIONS_ABORTED, &[("reason", reason)]);
        assert_eq!(aborted, 1.0 - is("committed"), "{case}");
    }
}
