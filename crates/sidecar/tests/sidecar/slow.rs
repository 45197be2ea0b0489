//! Profiler and log: the exported counters match the executed operations.

use mongodb::Client;
use mongodb::bson::{Document, doc};
use testkit::{FailPoint, ReplicaSet, Scrape};
use txnscope_sidecar::Sidecar;

use crate::common::{
    everything, open_transaction, page_where, patient_sidecar, prepare, sidecar_with, total,
};

const PROFILED: &str = "mongodb_profiled_operations_total";
const GAPS: &str = "mongodb_profile_gaps_total";
const SLOW: &str = "mongodb_slow_transaction_duration_seconds_count";
const LOST: &str = "mongodb_log_lines_lost_total";

async fn find(client: &Client, filter: Document, times: usize) {
    let collection = client.database("test").collection::<Document>("c");
    for _ in 0..times {
        collection.find_one(filter.clone()).await.unwrap();
    }
}

/// Makes one of the sidecar's commands fail until further notice.
async fn silence(client: &Client, sidecar: &Sidecar, command: &str, collector: &str) -> FailPoint {
    let data = doc! {"failCommands": [command], "errorCode": 8};
    let failing = FailPoint::fail_command(client, "txnscope", data).await.unwrap();
    let failed = [("collector", collector), ("reason", "command_failed")];
    page_where(sidecar, "a failure", |page| page.sum("txnscope_poll_errors_total", &failed) > 0.0).await;
    failing
}

#[tokio::test(flavor = "multi_thread")]
async fn profiled_operations_are_counted_once_by_plan() {
    let mut set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let test = client.database("test");
    let index = doc! {"createIndexes": "c", "indexes": [{"key": {"n": 1}, "name": "n"}]};
    test.run_command(index).await.unwrap();
    test.run_command(doc! {"profile": 2}).await.unwrap();
    find(&client, doc! {"a": "before the sidecar"}, 5).await;
    let sidecar = sidecar_with(&set.uri(), everything()).await;
    page_where(&sidecar, "the first poll", |page| page.family(GAPS).is_some()).await;

    find(&client, doc! {"a": 1}, 7).await;
    find(&client, doc! {"n": 0}, 3).await;
    find(&client, doc! {"_id": "hot"}, 2).await;
    let plan = |page: &Scrape, plan| page.sum(PROFILED, &[("namespace", "test.c"), ("plan", plan)]);
    let all = |page: &Scrape| ["collscan", "ixscan", "idhack", "other"].map(|of| plan(page, of));
    page_where(&sidecar, "twelve operations", |page| all(page) == [7.0, 3.0, 2.0, 0.0]).await;

    // A conflict inside a transaction ends its statement: the profiler records the losing statement.
    let (hot, more) = (test.collection::<Document>("c"), doc! {"$inc": {"n": 1}});
    let mut winner = client.start_session().await.unwrap();
    winner.start_transaction().await.unwrap();
    hot.update_one(doc! {"_id": "hot"}, more.clone()).session(&mut winner).await.unwrap();
    let mut loser = client.start_session().await.unwrap();
    loser.start_transaction().await.unwrap();
    hot.update_one(doc! {"_id": "hot"}, more).session(&mut loser).await.unwrap_err();
    winner.commit_transaction().await.unwrap();
    let conflicts = |page: &Scrape| total(page, "mongodb_profiled_write_conflicts_total");
    let page = page_where(&sidecar, "the conflict", |page| conflicts(page) == 1.0).await;
    assert_eq!(total(&page, GAPS), 0.0);

    // The counters are the sidecar's own: a restart of the server does not reset them, though a kill may lose
    // some of the profiler's entries.
    set.member_mut(0).kill().await.unwrap();
    page_where(&sidecar, "down", |page| total(page, "mongodb_up") == 0.0).await;
    set.member_mut(0).restart().await.unwrap();
    set.primary().await.unwrap();
    let client = set.client().await.unwrap();
    client.database("test").run_command(doc! {"profile": 2}).await.unwrap();
    find(&client, doc! {"a": 1}, 1).await;
    let page = page_where(&sidecar, "one more", |page| plan(page, "collscan") == 8.0).await;
    assert_eq!(plan(&page, "ixscan"), 3.0);
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overwritten_profiler_entries_are_a_gap() {
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let test = client.database("test");
    test.run_command(doc! {"create": "system.profile", "capped": true, "size": 4_096}).await.unwrap();
    test.run_command(doc! {"profile": 2}).await.unwrap();
    find(&client, doc! {"a": 1}, 1).await;
    let sidecar = sidecar_with(&set.uri(), everything()).await;
    page_where(&sidecar, "the first poll", |page| page.value(GAPS, &[]) == Some(0.0)).await;
    // While polls fail, fifty operations pass through a collection that holds a few.
    let failing = silence(&client, &sidecar, "find", "profile").await;
    find(&client, doc! {"a": 1}, 50).await;
    failing.off().await.unwrap();
    let page = page_where(&sidecar, "a gap", |page| total(page, GAPS) > 0.0).await;
    assert!(total(&page, PROFILED) < 50.0, "they cannot all be there");
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_database_costs_its_own_namespaces() {
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let other = client.database("other").collection::<Document>("c");
    other.insert_one(doc! {"_id": "hot"}).await.unwrap();
    for name in ["test", "other"] {
        client.database(name).run_command(doc! {"profile": 2}).await.unwrap();
    }
    let mut collectors = everything();
    collectors.profile.databases = vec!["test".to_owned(), "other".to_owned()];
    let sidecar = sidecar_with(&set.uri(), collectors).await;
    page_where(&sidecar, "the first poll", |page| page.family(GAPS).is_some()).await;
    find(&client, doc! {"a": 1}, 1).await;
    other.find_one(doc! {"a": 1}).await.unwrap();
    let of = |page: &Scrape, namespace| page.sum(PROFILED, &[("namespace", namespace), ("plan", "collscan")]);
    page_where(&sidecar, "both", |page| (of(page, "test.c"), of(page, "other.c")) == (1.0, 1.0)).await;

    let data = doc! {"failCommands": ["find"], "errorCode": 13, "namespace": "other.system.profile"};
    let failing = FailPoint::fail_command(&client, "txnscope", data).await.unwrap();
    let success = [("collector", "profile")];
    let fails = |page: &Scrape| page.value("txnscope_poll_success", &success) == Some(0.0);
    page_where(&sidecar, "the failure", fails).await;
    find(&client, doc! {"a": 1}, 1).await;
    let page = page_where(&sidecar, "one database alone", |page| {
        fails(page)
            && of(page, "test.c") == 2.0
            && page.matching(PROFILED, &[("namespace", "other.c")]).count() == 0
    })
    .await;
    let denied = [("collector", "profile"), ("reason", "permission_denied")];
    assert!(page.sum("txnscope_poll_errors_total", &denied) >= 3.0);

    failing.off().await.unwrap();
    other.find_one(doc! {"a": 1}).await.unwrap();
    page_where(&sidecar, "the other again", |page| !fails(page) && of(page, "other.c") == 2.0).await;
    sidecar.shutdown().await;
}

/// Sends a raw command, and waits for its reply.
async fn send(address: &str, command: &[u8]) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const OP_MSG: i32 = 2013;
    let length = i32::try_from(16 + 5 + command.len()).unwrap();
    // Request id, response-to, opcode; then no flags, and one section with the document.
    let header = [length, 1, 0, OP_MSG, 0].map(i32::to_le_bytes).concat();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(&[&header[..], &[0], command].concat()).await.unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.unwrap();
    let mut rest = vec![0; usize::try_from(i32::from_le_bytes(length)).unwrap() - 4];
    stream.read_exact(&mut rest).await.unwrap();
}

/// The server accepts any bytes as a name, and repeats them.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_utf8_name_does_not_fail_the_poll() {
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let test = client.database("test");
    test.run_command(doc! {"profile": 2}).await.unwrap();
    let sidecar = patient_sidecar(&set.uri(), everything()).await;
    page_where(&sidecar, "the first poll", |page| page.family(GAPS).is_some()).await;
    // The driver sends no invalid UTF-8, but other clients do.
    let mut command = doc! {"find": "shop", "filter": {"a": 1}, "$db": "test"}.to_vec().unwrap();
    let at = command.windows(4).position(|window| window == b"shop").unwrap();
    command[at] = 0xff;
    send(&set.members()[0].address(), &command).await;
    find(&client, doc! {"a": 1}, 1).await;
    let page =
        page_where(&sidecar, "both names", |page| page.sum(PROFILED, &[("namespace", "test.c")]) == 1.0)
            .await;
    assert_eq!(page.sum(PROFILED, &[("namespace", "test.\u{fffd}hop")]), 1.0);
    assert_eq!(page.sum("txnscope_poll_errors_total", &[]), 0.0);
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_transactions_are_counted_by_termination_cause() {
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    // The server is configured to log every transaction as slow.
    let verbose = doc! {"setParameter": 1, "logComponentVerbosity": {"transaction": {"verbosity": 1}}};
    set.members()[0].admin(verbose).await.unwrap();
    open_transaction(&client).await.commit_transaction().await.unwrap();
    let sidecar = sidecar_with(&set.uri(), everything()).await;
    page_where(&sidecar, "the first poll", |page| page.family(LOST).is_some()).await;

    for _ in 0..3 {
        open_transaction(&client).await.commit_transaction().await.unwrap();
    }
    for _ in 0..2 {
        open_transaction(&client).await.abort_transaction().await.unwrap();
    }
    let ended = |page: &Scrape, how| page.sum(SLOW, &[("termination_cause", how)]);
    let page = page_where(&sidecar, "five transactions", |page| {
        (ended(page, "committed"), ended(page, "aborted")) == (3.0, 2.0)
    })
    .await;
    assert_eq!(total(&page, LOST), 0.0);
    assert!(total(&page, "mongodb_slow_transaction_inactive_seconds_total") > 0.0);
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_log_lines_are_counted() {
    let set = ReplicaSet::start(1).await.unwrap();
    let client = set.client().await.unwrap();
    let sidecar = sidecar_with(&set.uri(), everything()).await;
    page_where(&sidecar, "the first poll", |page| page.value(LOST, &[]) == Some(0.0)).await;
    // The server keeps 1,024 lines.
    let failing = silence(&client, &sidecar, "getLog", "slow_transactions").await;
    let admin = client.database("admin");
    for line in 0..1_500 {
        admin.run_command(doc! {"logMessage": format!("line {line}")}).await.unwrap();
    }
    failing.off().await.unwrap();
    page_where(&sidecar, "lost lines", |page| total(page, LOST) > 0.0).await;
    sidecar.shutdown().await;
}
