use mongodb::bson::doc;
use testkit::FakeMember;
use testkit::fake_member::{hello_reply, is_hello};

use super::*;
use crate::hosts::Records;
use crate::target::Target;

async fn mongos() -> FakeMember {
    let fake = FakeMember::start().await.unwrap();
    fake.answer(|command, _| {
        let who = doc! {"msg": "isdbgrid", "isWritablePrimary": true};
        Some(if is_hello(command) {
            hello_reply(who)
        } else {
            doc! {"ok": 1.0, "process": "mongos"}
        })
    });
    fake
}

/// A mongos does not know the others, so DNS is the only source.
#[tokio::test(flavor = "multi_thread")]
async fn changed_srv_records_of_mongos_are_monitored() {
    let (first, second) = (mongos().await, mongos().await);
    let records = Records::default();
    let uri = Uri::of(&Target::new("mongodb+srv://cluster.example.net/")).unwrap();
    let timing = PollTiming { interval: Duration::from_millis(50), timeout: Duration::from_secs(3) };
    let (snapshot, tasks, stop) = (Snapshot::default(), TaskTracker::new(), CancellationToken::new());
    let collectors = CollectorSettings::default();
    let monitor =
        DeploymentMonitor::new(uri, timing, collectors, snapshot.clone(), tasks.clone(), stop.clone());
    let mut monitor = monitor.await.unwrap();
    monitor.hosts.set_test_records(Arc::clone(&records));
    records.lock().unwrap().push(first.address());
    tasks.spawn(monitor.run());
    let wait_for = async |expected: &[&FakeMember]| {
        let mut expected: Vec<_> = expected.iter().map(|fake| fake.address()).collect();
        expected.sort();
        testkit::wait::until("the mongos that DNS names", async || {
            let members = snapshot.members();
            let up: Vec<_> = members
                .iter()
                .filter(|member| member.up(Instant::now()) == Some(true))
                .map(|member| member.address().to_owned())
                .collect();
            anyhow::ensure!(up == expected && members.len() == expected.len(), "{up:?} of {}", members.len());
            Ok(())
        })
        .await
        .unwrap();
    };
    wait_for(&[&first]).await;
    records.lock().unwrap().push(second.address());
    wait_for(&[&first, &second]).await;
    records.lock().unwrap().remove(0);
    wait_for(&[&second]).await;
    // Empty or failing DNS removes no member.
    records.lock().unwrap().clear();
    let candidate_clients = second.count("hello");
    testkit::wait::until("more rounds", async || {
        anyhow::ensure!(second.count("hello") > candidate_clients + 10);
        Ok(())
    })
    .await
    .unwrap();
    wait_for(&[&second]).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
