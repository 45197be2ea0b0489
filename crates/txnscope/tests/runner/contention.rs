//! Many who want one document.

use std::time::Duration;

use mongodb::bson::doc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use txnscope::{Abort, Reason, TransactionError};

use crate::stage::{OPERATION, Stage};

const WRITERS: usize = 32;
const EACH: usize = 5;

async fn writers(stage: &Stage, keyed: bool) {
    stage.items_of_others().insert_one(doc! {"_id": "hot", "n": 0}).await.unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (runner, items) = (stage.runner.clone(), stage.items());
        writers.spawn(async move {
            for _ in 0..EACH {
                let run = runner.transaction().named(OPERATION);
                let run = if keyed { run.serialize_on("hot") } else { run };
                run.run(async |mut tx| {
                    items.update_one(doc! {"_id": "hot"}, doc! {"$inc": {"n": 1}}).session(&mut tx).await?;
                    Ok::<_, Abort>(())
                })
                .await
                .unwrap();
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let hot = stage.items_of_others().find_one(doc! {"_id": "hot"}).await.unwrap().unwrap();
    assert_eq!(hot.get_i32("n").unwrap(), i32::try_from(WRITERS * EACH).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_nobodys_work_is_thrown_away() {
    let stage = Stage::set().await;
    writers(&stage, true).await;
    let server = stage.reconciled().await;
    let all = i64::try_from(WRITERS * EACH).unwrap();
    assert_eq!((server.started, server.committed, server.aborted), (all, all, 0));
    assert_eq!(stage.counted("mongodb_client_transactions_queued", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_one_they_conflict_and_every_increment_counts_once_all_the_same() {
    let stage = Stage::set().await;
    writers(&stage, false).await;
    let server = stage.reconciled().await;
    assert_eq!(server.committed, i64::try_from(WRITERS * EACH).unwrap());
    let [started, committed, aborted, unknown, _] = stage.driver();
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    let counted = [server.started, server.committed, server.aborted].map(|count| count as f64);
    assert_eq!([started, committed, aborted], counted);
    assert_eq!((unknown, stage.aborted_for("write_conflict")), (0.0, aborted), "{}", stage.metrics.render());
}

#[tokio::test]
async fn who_waits_longer_than_he_may_holds_nothing_and_is_told() {
    let stage = Stage::set().await;
    let items = stage.items();
    let (held, holding) = tokio::sync::oneshot::channel();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let (held, released) = (std::cell::Cell::new(Some(held)), std::cell::Cell::new(Some(released)));
    let holder = stage.runner.serialize_on(7).named(OPERATION).run(async |mut tx| {
        items.insert_one(doc! {}).session(&mut tx).await?;
        held.take().unwrap().send(()).unwrap();
        released.take().unwrap().await.unwrap();
        Ok::<_, Abort>(())
    });
    let waiter = async {
        holding.await.unwrap();
        let deadline = Instant::now() + Duration::from_millis(100);
        let work = async |_: txnscope::Transaction| Ok::<_, Abort>(());
        let late = stage.runner.serialize_on(7).named(OPERATION).deadline(deadline).run(work).await;
        assert_eq!(late.unwrap_err().reason(), Reason::TIMEOUT);
        let crowded = stage.runner.clone().max_queue(0);
        let full = crowded.serialize_on(7).named(OPERATION).run(work).await.unwrap_err();
        assert_eq!(full.reason(), Reason::QUEUE_FULL);
        assert!(matches!(&full, TransactionError::Failed(failure) if failure.is_transient()), "{full:?}");
        assert_eq!(stage.driver(), [1.0, 0.0, 0.0, 0.0, 1.0], "who waited has begun something");
        release.send(()).unwrap();
    };
    let (held, ()) = tokio::join!(holder, waiter);
    held.unwrap();
    stage.reconciled().await;
}
