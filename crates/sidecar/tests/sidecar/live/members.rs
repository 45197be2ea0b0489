//! Several members: an election, a member that hangs, and rates.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use mongodb::ClientSession;
use mongodb::bson::doc;
use testkit::{ReplicaSet, wait};
use txnscope_sidecar::live::{LiveReport, MemberReport, MemberStatus, Transaction};

use super::{client, fill, monitor, monitor_with, options, report_where, session_id, transaction};

fn member<'a>(report: &'a LiveReport, address: &str) -> Option<&'a MemberReport> {
    report.members.iter().find(|member| member.member == address)
}

fn address(set: &ReplicaSet, index: usize) -> String {
    set.members()[index].address()
}

#[tokio::test(flavor = "multi_thread")]
async fn report_follows_an_election() {
    let set = options(3).start().await.unwrap();
    let shop = client(&set, "shop").await;
    fill(&shop, "orders").await;
    let monitor = monitor(&set.uri()).await;
    let old = set.primary().await.unwrap();
    let before = transaction(&shop, "orders").await;
    // The session is named, since an attempt that the election ends may leave a transaction open.
    let on = |report: &LiveReport, session: &ClientSession, index: usize| {
        let of_session = |open: &&Transaction| open.session == session_id(session);
        let roles = report.members.iter().filter(|member| member.role == Some("primary")).count();
        let role = member(report, &address(&set, index)).and_then(|member| member.role);
        let open = report.transactions.iter().find(of_session);
        open.is_some_and(|open| open.member == address(&set, index)) && (roles, role) == (1, Some("primary"))
    };
    let report = report_where(&monitor, "the transaction on the primary", |report| {
        on(report, &before, old) && report.members.iter().all(|member| member.state == MemberStatus::Answers)
    })
    .await;
    assert_eq!((report.members.len(), report.replica_set.as_deref()), (3, Some("rs0")));

    let new = set.step_up_another().await.unwrap();
    report_where(&monitor, "no transaction after the election", |report| {
        report.transactions.iter().all(|open| open.session != session_id(&before))
    })
    .await;
    let after = wait::until("a transaction on the new primary", async || {
        let mut session = shop.start_session().await?;
        session.start_transaction().await?;
        let orders = super::collection(&shop, "orders");
        orders.insert_one(doc! {}).session(&mut session).await?;
        Ok(session)
    })
    .await
    .unwrap();
    report_where(&monitor, "the transaction on the new primary", |report| on(report, &after, new)).await;
    monitor.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_member_fails_and_the_others_go_on() {
    let set = options(3).start().await.unwrap();
    let shop = client(&set, "shop").await;
    fill(&shop, "orders").await;
    let monitor = monitor_with(&set.uri(), Duration::from_secs(3), Vec::new()).await;
    let answers = |report: &LiveReport| {
        report.members.len() == 3 && report.members.iter().all(|member| member.state == MemberStatus::Answers)
    };
    report_where(&monitor, "three members", answers).await;
    let primary = set.primary().await.unwrap();
    let hung = (0..3).find(|index| *index != primary).unwrap();
    set.members()[hung].pause().unwrap();
    let fails = |report: &LiveReport| {
        member(report, &address(&set, hung)).is_some_and(|member| member.state == MemberStatus::Fails)
    };
    let report = report_where(&monitor, "a member that hangs", fails).await;
    let error = member(&report, &address(&set, hung)).unwrap().error.clone().unwrap();
    assert!(error.contains("did not answer") || error.contains("cannot be reached"), "{error}");
    let _open = transaction(&shop, "orders").await;
    report_where(&monitor, "a new transaction on another member", |report| {
        fails(report) && report.transactions.iter().any(|open| open.member == address(&set, primary))
    })
    .await;
    set.members()[hung].resume().unwrap();
    report_where(&monitor, "three members again", answers).await;
    monitor.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_and_history_follow_from_several_polls() {
    let set = options(1).start().await.unwrap();
    let shop = client(&set, "shop").await;
    fill(&shop, "orders").await;
    let monitor = monitor(&set.uri()).await;
    wait::until("a rate of commits", async || {
        transaction(&shop, "orders").await.commit_transaction().await?;
        let report = monitor.report();
        let rates = report.members.first().and_then(|member| member.rates);
        let commits = rates.and_then(|rates| rates.commits).ok_or_else(|| anyhow!("no rate"))?;
        ensure!(commits > 0.0, "{rates:?}");
        ensure!(rates.is_some_and(|rates| rates.aborts == Some(0.0)), "{rates:?}");
        Ok(())
    })
    .await
    .unwrap();
    let report = monitor.report();
    assert!(report.members[0].history.points().len() >= 2);
    assert!(report.members[0].missing.is_empty(), "{:?}", report.members[0].missing);
    monitor.shutdown().await;
}

/// Two sets with the same names of databases, collections and applications: nothing of one is in the report of the other.
#[tokio::test(flavor = "multi_thread")]
async fn two_deployments_at_once_are_not_mixed() {
    let (one, other) = tokio::join!(options(1).start(), options(1).start());
    let (one, other) = (one.unwrap(), other.unwrap());
    let (of_one, of_other) = (client(&one, "shop").await, client(&other, "shop").await);
    let mut sessions = Vec::new();
    for shop in [&of_one, &of_other] {
        fill(shop, "orders").await;
        sessions.push(transaction(shop, "orders").await);
    }
    let writer = |shop: &mongodb::Client| {
        let orders = super::collection(shop, "orders");
        tokio::spawn(async move { orders.update_one(doc! {"_id": 0}, doc! {"$inc": {"n": 1}}).await })
    };
    // Only the first has an operation that waits.
    let waits = writer(&of_one);
    let watch_one = monitor(&one.uri()).await;
    let watch_other = monitor(&other.uri()).await;
    let is_one = |report: &LiveReport| (report.transactions.len(), report.waiting.len()) == (1, 1);
    let report = report_where(&watch_one, "the first set", is_one).await;
    assert_eq!(report.transactions[0].session, session_id(&sessions[0]));
    assert_eq!((report.members.len(), &report.waiting[0].member), (1, &address(&one, 0)));
    let rates_of = |report: &LiveReport| report.members.iter().any(|member| member.rates.is_some());
    let report = report_where(&watch_other, "the second set", |report| {
        report.transactions.len() == 1 && rates_of(report)
    })
    .await;
    assert_eq!(report.transactions[0].session, session_id(&sessions[1]));
    assert_eq!((report.members.len(), &report.members[0].member), (1, &address(&other, 0)));
    assert!(report.waiting.is_empty(), "{:?}", report.waiting);

    // The end of a transaction in one is no end in the other.
    sessions[0].commit_transaction().await.unwrap();
    waits.await.unwrap().unwrap();
    report_where(&watch_one, "no transaction", |report| report.transactions.is_empty()).await;
    report_where(&watch_other, "the second set's transaction", |report| report.transactions.len() == 1).await;
    sessions[1].abort_transaction().await.unwrap();
    watch_one.shutdown().await;
    watch_other.shutdown().await;
}
