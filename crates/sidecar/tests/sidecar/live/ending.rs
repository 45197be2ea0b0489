//! Ending one transaction: exactly that one, or nothing.

use mongodb::bson::{Bson, doc};
use mongodb::error::{Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR};
use mongodb::{Client, ClientSession};
use testkit::ReplicaSet;
use txnscope_sidecar::live::{EndError, EndOutcome, TransactionId, end_transaction, kill_privilege};
use txnscope_sidecar::{CollectorSettings, Target, privileges};

use super::privileges::{create_user, uri};
use super::{client_of, fill, monitor, options, report_where, session_id, transaction};

/// A set with authentication, the client of an application, and users of the view.
async fn environment() -> (ReplicaSet, Client) {
    let set = options(1).auth().start().await.unwrap();
    let root = super::client(&set, "setup").await;
    fill(&root, "orders").await;
    fill(&root, "stock").await;
    let admin = root.database("admin");
    let roles = vec![doc! {"role": "readWrite", "db": "shop"}];
    admin.run_command(doc! {"createUser": "app", "pwd": "pass-of-ours", "roles": roles}).await.unwrap();
    let role = privileges(&CollectorSettings::default());
    let view: Vec<_> = role.iter().flat_map(|privilege| privilege.actions.clone()).collect();
    create_user(&root, "view", &view).await;
    create_user(&root, "kill", &[view, kill_privilege().actions].concat()).await;
    create_user(&root, "blind", &["serverStatus", "killAnySession"]).await;
    let shop = client_of(&uri(&set, "app"), "shop").await;
    (set, shop)
}

/// The open transaction of a session, as the view shows it.
async fn shown(set: &ReplicaSet, session: &ClientSession) -> TransactionId {
    let monitor = monitor(&uri(set, "view")).await;
    let of_session = session_id(session);
    let report = report_where(&monitor, "the transaction", |report| {
        report.transactions.iter().any(|open| open.session == of_session)
    })
    .await;
    monitor.shutdown().await;
    report.transactions.iter().find(|open| open.session == of_session).unwrap().id()
}

fn target(set: &ReplicaSet, user: &str) -> Target {
    Target::new(uri(set, user))
}

fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_chosen_transaction_is_ended() {
    let (set, shop) = environment().await;
    let mut other = transaction(&shop, "stock").await;
    let mut session = transaction(&shop, "orders").await;
    let id = shown(&set, &session).await;
    assert!(id.started_at.is_some());

    let denied = end_transaction(&target(&set, "view"), &id).await;
    assert_eq!(denied.users, ["view@admin"]);
    let error = denied.result.unwrap_err();
    assert!(matches!(error, EndError::Denied(_)), "{error}");
    assert!(error.to_string().contains("`txnscope role --allow-kill`"), "{error}");
    let blind = end_transaction(&target(&set, "blind"), &id).await.result.unwrap_err();
    assert!(
        matches!(blind, EndError::Denied(_)) && blind.to_string().contains("read the transactions"),
        "{blind}"
    );

    let ended = end_transaction(&target(&set, "kill"), &id).await;
    assert_eq!((ended.users, ended.result.unwrap()), (vec!["kill@admin".to_owned()], EndOutcome::Ended));
    let error = session.commit_transaction().await.unwrap_err();
    assert_eq!(code(&error), Some(251), "{error}");
    assert!(error.contains_label(TRANSIENT_TRANSACTION_ERROR), "{error}");
    other.commit_transaction().await.unwrap();
    let again = end_transaction(&target(&set, "kill"), &id).await;
    assert_eq!(again.result.unwrap(), EndOutcome::AlreadyOver);
}

/// The client has gone on between the look and the request.
#[tokio::test(flavor = "multi_thread")]
async fn later_transaction_of_the_session_is_not_ended() {
    let (set, shop) = environment().await;
    let mut session = transaction(&shop, "orders").await;
    let seen = shown(&set, &session).await;
    session.commit_transaction().await.unwrap();
    session.start_transaction().await.unwrap();
    let orders = super::collection(&shop, "orders");
    orders.update_one(doc! {"_id": 1}, doc! {"$inc": {"n": 1}}).session(&mut session).await.unwrap();
    let outcome = end_transaction(&target(&set, "kill"), &seen).await.result.unwrap();
    assert_eq!(outcome, EndOutcome::OtherTransaction(seen.txn_number + 1));
    let earlier = TransactionId { txn_number: seen.txn_number + 1, ..seen };
    let outcome = end_transaction(&target(&set, "kill"), &earlier).await.result.unwrap();
    assert_eq!(outcome, EndOutcome::OtherTransaction(earlier.txn_number), "it began at another time");
    session.commit_transaction().await.unwrap();
    let read = orders.find_one(doc! {"_id": 1}).await.unwrap().unwrap();
    assert_eq!(read.get("n"), Some(&Bson::Int32(1)));
}

/// A statement that waits for a lock belongs to the transaction, and ends with it; its error has no label, so drivers do not
/// retry it.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_statement_ends_with_its_transaction() {
    let set = options(1).parameter("maxTransactionLockRequestTimeoutMillis", 600_000).start().await.unwrap();
    let shop = super::client(&set, "shop").await;
    fill(&shop, "orders").await;
    let mut holder = transaction(&shop, "orders").await;
    let build = shop.database("shop");
    let index = doc! {"createIndexes": "orders", "indexes": [{"key": {"n": 1}, "name": "by_n"}]};
    let build = tokio::spawn(async move { build.run_command(index).await });
    let monitor = monitor(&set.uri()).await;
    report_where(&monitor, "the index build", |report| report.waiting.len() == 1).await;
    let statement = tokio::spawn({
        let shop = shop.clone();
        async move {
            let mut session = shop.start_session().await?;
            session.start_transaction().await?;
            let orders = super::collection(&shop, "orders");
            orders.update_one(doc! {"_id": 1}, doc! {"$inc": {"n": 1}}).session(&mut session).await
        }
    });
    let waits = |report: &txnscope_sidecar::live::LiveReport| {
        report.waiting.iter().find_map(|waiting| waiting.transaction)
    };
    let report = report_where(&monitor, "the statement", |report| waits(report).is_some()).await;
    let id = report.transactions[waits(&report).unwrap()].id();
    let outcome = end_transaction(&Target::new(set.uri()), &id).await.result.unwrap();
    assert!(matches!(outcome, EndOutcome::Ended | EndOutcome::Pending), "{outcome:?}");
    let error = statement.await.unwrap().unwrap_err();
    assert_eq!(
        (code(&error), error.contains_label(TRANSIENT_TRANSACTION_ERROR)),
        (Some(11601), false),
        "{error}"
    );
    holder.commit_transaction().await.unwrap();
    build.await.unwrap().unwrap();
    monitor.shutdown().await;
}

#[tokio::test]
async fn unusable_identity_is_an_error() {
    let id = TransactionId {
        member: "127.0.0.1:1".to_owned(),
        session: "no-uuid".to_owned(),
        txn_number: 1,
        started_at: None,
    };
    let target = Target::new("mongodb://127.0.0.1:1/?directConnection=true");
    let error = end_transaction(&target, &id).await.result.unwrap_err();
    assert!(matches!(error, EndError::Invalid(_)), "{error}");
    let session = "6e01e4f2-0000-4000-8000-000000000001".to_owned();
    let error = end_transaction(&target, &TransactionId { session, ..id }).await.result.unwrap_err();
    assert!(matches!(error, EndError::Failed(_)), "{error}");
}
