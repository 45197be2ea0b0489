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

/// A mongos knows nothing of the others: DNS alone tells.
#[tokio::test(flavor = "multi_thread")]
async fn srv_records_of_mongos_that_change_are_followed() {
    let (first, second) = (mongos().await, mongos().await);
    let records = Records::default();
    let uri = Uri::of(&Target::new("mongodb+srv://cluster.example.net/")).unwrap();
    let pace = Pace { interval: Duration::from_millis(50), timeout: Duration::from_secs(3) };
    let (snapshot, tasks, stop) = (Snapshot::default(), TaskTracker::new(), CancellationToken::new());
    let collectors = CollectorSettings::default();
    let fleet = Fleet::new(uri, pace, collectors, snapshot.clone(), tasks.clone(), stop.clone());
    let mut fleet = fleet.await.unwrap();
    fleet.hosts.say(Arc::clone(&records));
    records.lock().unwrap().push(first.address());
    tasks.spawn(fleet.run());
    let watched = async |wanted: &[&FakeMember]| {
        let mut wanted: Vec<_> = wanted.iter().map(|fake| fake.address()).collect();
        wanted.sort();
        testkit::wait::until("the mongos that DNS names", async || {
            let members = snapshot.members();
            let up: Vec<_> = members
                .iter()
                .filter(|member| member.up(Instant::now()) == Some(true))
                .map(|member| member.address().to_owned())
                .collect();
            anyhow::ensure!(up == wanted && members.len() == wanted.len(), "{up:?} of {}", members.len());
            Ok(())
        })
        .await
        .unwrap();
    };
    watched(&[&first]).await;
    records.lock().unwrap().push(second.address());
    watched(&[&first, &second]).await;
    records.lock().unwrap().remove(0);
    watched(&[&second]).await;
    // DNS that is empty or silent for a while takes nobody away.
    records.lock().unwrap().clear();
    let asked = second.count("hello");
    testkit::wait::until("more rounds", async || {
        anyhow::ensure!(second.count("hello") > asked + 10);
        Ok(())
    })
    .await
    .unwrap();
    watched(&[&second]).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
