//! Application errors that wrap the driver's.

use std::sync::Arc;

use mongodb::bson::doc;
use mongodb::error::Error;
use tokio::sync::Barrier;
use txnscope::transaction::find_driver_error;
use txnscope::{Abort, ApplicationError, Reason, TransactionError};

use crate::env::{Environment, NO, OPERATION};

/// The error of a repository that returns the driver's reason.
#[derive(Debug, thiserror::Error)]
enum Plain {
    #[error("the database failed")]
    Database(#[from] Error),
    #[error("a rule says no")]
    No,
}

impl ApplicationError for Plain {
    fn reason(&self) -> Reason {
        match self {
            Self::Database(error) => Reason::from_error(error),
            Self::No => NO,
        }
    }
}

/// The error of a layered repository, which finds the driver's error in its chain of sources.
#[derive(Debug, thiserror::Error)]
enum Layered {
    #[error("the store failed")]
    Store(#[from] Store),
    #[error("paid already")]
    PaidAlready(#[source] Arc<Error>),
}

#[derive(Debug, thiserror::Error)]
#[error("the database failed")]
struct Store(#[from] Error);

const PAID_ALREADY: Reason = Reason::declare("paid_already");

impl ApplicationError for Layered {
    fn reason(&self) -> Reason {
        match self {
            Self::Store(_) => Reason::APPLICATION,
            Self::PaidAlready(_) => PAID_ALREADY,
        }
    }
    fn driver_error(&self) -> Option<&Error> {
        find_driver_error(self)
    }
}

/// Twenty concurrent transactions on one document: each reads it, waits for the others, and writes.
async fn all_commit<E>(env: &Environment)
where
    E: ApplicationError + From<Store> + Send + 'static,
{
    const AT_ONCE: usize = 20;
    env.items_of_others().insert_one(doc! {"_id": "hot", "n": 0}).await.unwrap();
    let (barrier, mut tasks) = (Arc::new(Barrier::new(AT_ONCE)), tokio::task::JoinSet::new());
    for _ in 0..AT_ONCE {
        let (runner, items, barrier) = (env.runner.clone(), env.items(), Arc::clone(&barrier));
        tasks.spawn(async move {
            let met = std::sync::atomic::AtomicBool::new(false);
            let run = runner.run_as(OPERATION, async |mut tx| {
                let inc = async {
                    items.find_one(doc! {"_id": "hot"}).session(&mut tx).await.map_err(Store)?;
                    if !met.swap(true, std::sync::atomic::Ordering::Relaxed) {
                        barrier.wait().await;
                    }
                    let more = doc! {"$inc": {"n": 1}};
                    items.update_one(doc! {"_id": "hot"}, more).session(&mut tx).await.map_err(Store)?;
                    Ok::<_, E>(())
                };
                Ok::<_, Abort<E>>(inc.await?)
            });
            run.await.map(|committed| committed.attempts)
        });
    }
    let mut attempts = 0;
    while let Some(ended) = tasks.join_next().await {
        attempts += ended.unwrap().unwrap();
    }
    assert!(attempts > 20, "no transaction has conflicted");
    env.reconciled().await;
    let hot = env.items_of_others().find_one_and_delete(doc! {"_id": "hot"}).await.unwrap().unwrap();
    assert_eq!(hot.get_i32("n").unwrap(), 20);
}

impl From<Store> for Plain {
    fn from(store: Store) -> Self {
        Self::Database(store.0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrapped_conflict_is_retried() {
    let env = Environment::start().await;
    all_commit::<Plain>(&env).await;
    all_commit::<Layered>(&env).await;
    let [_, committed, aborted, _, _] = env.driver();
    assert_eq!((committed, env.aborted_for("write_conflict")), (40.0, aborted));
    let rejected = env.counted("transaction_failures_total", &[("outcome", "rejected")]);
    assert_eq!(rejected, 0.0, "{}", env.metrics.render());
}

#[tokio::test]
async fn wrapped_network_error_is_retried() {
    let env = Environment::start().await;
    let items = env.items();
    for second in [false, true] {
        env.fail_times(1, doc! {"failCommands": ["update"], "closeConnection": true}).await;
        let committed = env.runner.run_as(OPERATION, async |mut tx| {
            let work = async {
                if second {
                    items.find_one(doc! {}).session(&mut tx).await?;
                }
                items.update_one(doc! {"_id": 1}, doc! {"$inc": {"n": 1}}).session(&mut tx).await?;
                Ok::<_, Plain>(())
            };
            Ok::<_, Abort<Plain>>(work.await?)
        });
        assert_eq!(committed.await.unwrap().attempts, 2, "{second}");
    }
    env.reconciled().await;
    assert_eq!(env.aborted_for("network"), 2.0);
}

#[tokio::test]
async fn wrapped_driver_error_fails_and_is_not_a_rejection() {
    let env = Environment::start().await;
    let items = env.items();
    env.fail_times(1, doc! {"failCommands": ["insert"], "errorCode": 50}).await;
    let failed = env.runner.run_as(OPERATION, async |mut tx| {
        Ok::<_, Abort<Plain>>(items.insert_one(doc! {}).session(&mut tx).await.map_err(Plain::from)?)
    });
    let TransactionError::Failed(failure) = failed.await.unwrap_err() else { panic!("not failed") };
    assert_eq!((failure.reason(), failure.attempts()), (Reason::MAX_TIME_EXPIRED, 1));

    env.items_of_others().insert_one(doc! {"_id": 1}).await.unwrap();
    let failed = env.runner.run_as(OPERATION, async |mut tx| {
        let insert = items.insert_one(doc! {"_id": 1}).session(&mut tx);
        Ok::<_, Abort<Layered>>(insert.await.map_err(|error| Layered::from(Store(error)))?)
    });
    let TransactionError::Failed(failure) = failed.await.unwrap_err() else { panic!("not failed") };
    assert_eq!(failure.reason(), Reason::DUPLICATE_KEY);
    assert!(failure.driver_error().is_some() && failure.to_string().contains("E11000"), "{failure}");

    // The application's own reason for the driver error.
    let rejected = env.runner.run_as(OPERATION, async |mut tx| {
        let insert = items.insert_one(doc! {"_id": 1}).session(&mut tx);
        Ok::<_, Abort<Layered>>(insert.await.map_err(|error| Layered::PaidAlready(Arc::new(error)))?)
    });
    let rejected = rejected.await.unwrap_err();
    assert!(matches!(rejected, TransactionError::Rejected { reason: PAID_ALREADY, .. }), "{rejected:?}");
    let rejected = env.runner.run_as(OPERATION, async |_| Err::<(), Abort<Plain>>(Plain::No.into())).await;
    assert!(matches!(rejected, Err(TransactionError::Rejected { reason: NO, .. })), "{rejected:?}");
    env.wait_idle().await;
}

#[tokio::test]
async fn wrapped_conflict_keeps_cause_after_max_attempts() {
    let env = Environment::start().await;
    let items = env.items();
    let conflicts = env.fail(
        doc! {"failCommands": ["insert"], "errorCode": 112, "errorLabels": ["TransientTransactionError"]},
    );
    let failpoint = conflicts.await;
    let runner = env.runner.clone().max_attempts(3);
    let failed = runner.run_as(OPERATION, async |mut tx| {
        let insert = items.insert_one(doc! {}).session(&mut tx);
        Ok::<_, Abort<Layered>>(insert.await.map_err(|error| Layered::from(Store(error)))?)
    });
    let TransactionError::Failed(failure) = failed.await.unwrap_err() else { panic!("not failed") };
    assert_eq!((failure.reason(), failure.attempts()), (Reason::WRITE_CONFLICT, 3));
    assert!(failure.is_transient() && failure.driver_error().is_some());
    failpoint.off().await.unwrap();
    env.wait_idle().await;
}
