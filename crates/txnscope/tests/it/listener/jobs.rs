//! A mixed load on the driver, by code that does not use txnscope.

use std::sync::Arc;

use mongodb::bson::{Document, doc};
use mongodb::error::{Error, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::{Client, ClientSession, Collection};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The kinds of jobs.
#[derive(Debug, Clone, Copy)]
enum Job {
    Contended,
    ReadOnly,
    Empty,
    DuplicateKey,
    BusinessAbort,
    RetryableWrite,
    /// The driver's convenient API.
    Convenient,
    /// The session is dropped inside a transaction.
    Dropped,
}

const MIX: [Job; 10] = [
    Job::Contended,
    Job::ReadOnly,
    Job::Contended,
    Job::Empty,
    Job::DuplicateKey,
    Job::Contended,
    Job::BusinessAbort,
    Job::RetryableWrite,
    Job::Convenient,
    Job::Dropped,
];

/// Collections that the jobs share.
#[derive(Clone)]
pub(crate) struct Shop {
    client: Client,
    hot: Collection<Document>,
    journal: Collection<Document>,
}

impl Shop {
    /// Three contended documents, and one that every duplicate conflicts with.
    pub(crate) async fn open(client: &Client) -> Self {
        let database = client.database("shop");
        let shop = Self {
            client: client.clone(),
            hot: database.collection("hot"),
            journal: database.collection("journal"),
        };
        shop.hot.insert_many((0..3).map(|id| doc! {"_id": id, "balance": 0})).await.unwrap();
        shop.journal.insert_one(doc! {"_id": "taken"}).await.unwrap();
        shop
    }

    /// Runs this many jobs in 32 tasks. `progress` is called for each finished one.
    pub(crate) async fn run(&self, jobs: usize, mut progress: impl FnMut(usize)) {
        let at_once = Arc::new(Semaphore::new(32));
        let mut tasks = JoinSet::new();
        for (index, job) in MIX.into_iter().cycle().take(jobs).enumerate() {
            let (shop, at_once) = (self.clone(), Arc::clone(&at_once));
            tasks.spawn(async move {
                let _turn = at_once.acquire().await.unwrap();
                shop.job(index, job).await;
            });
        }
        let mut ended = 0;
        while let Some(job) = tasks.join_next().await {
            job.unwrap();
            ended += 1;
            progress(ended);
        }
    }

    async fn job(&self, index: usize, job: Job) {
        let mut session = self.client.start_session().await.unwrap();
        match job {
            Job::Contended => self.until_committed(&mut session, index).await,
            Job::Convenient => {
                let run = session.start_transaction().and_run(self.clone(), |session, shop| {
                    Box::pin(async move { shop.take(session, index).await })
                });
                run.await.unwrap();
            }
            Job::RetryableWrite => {
                self.journal.insert_one(doc! {"job": index as i64}).await.unwrap();
            }
            Job::Empty => {
                session.start_transaction().await.unwrap();
                session.commit_transaction().await.unwrap();
            }
            Job::ReadOnly => {
                // Jobs that an election ends are not retried, here and below.
                session.start_transaction().await.unwrap();
                if self.hot.find_one(doc! {"_id": 0}).session(&mut session).await.is_ok() {
                    let _ = session.commit_transaction().await;
                }
            }
            Job::DuplicateKey => {
                session.start_transaction().await.unwrap();
                let taken = self.journal.insert_one(doc! {"_id": "taken"}).session(&mut session).await;
                assert!(taken.is_err());
                session.abort_transaction().await.unwrap();
            }
            Job::BusinessAbort | Job::Dropped => {
                session.start_transaction().await.unwrap();
                let _ = self.take(&mut session, index).await;
                if matches!(job, Job::BusinessAbort) {
                    session.abort_transaction().await.unwrap();
                }
            }
        }
    }

    async fn take(&self, session: &mut ClientSession, index: usize) -> Result<(), Error> {
        let id = (index % 3) as i64;
        self.hot.update_one(doc! {"_id": id}, doc! {"$inc": {"balance": -1}}).session(&mut *session).await?;
        self.journal.insert_one(doc! {"took": id}).session(session).await?;
        Ok(())
    }

    /// The commit loop of the driver's documentation.
    async fn until_committed(&self, session: &mut ClientSession, index: usize) {
        loop {
            session.start_transaction().await.unwrap();
            let error = match self.take(session, index).await {
                Ok(()) => match commit(session).await {
                    Ok(()) => return,
                    Err(error) => error,
                },
                Err(error) => {
                    session.abort_transaction().await.unwrap();
                    error
                }
            };
            assert!(error.contains_label(TRANSIENT_TRANSACTION_ERROR), "{error}");
        }
    }
}

async fn commit(session: &mut ClientSession) -> Result<(), Error> {
    loop {
        match session.commit_transaction().await {
            Err(error) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {}
            result => return result,
        }
    }
}
