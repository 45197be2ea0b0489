//! `txnscope top` as a process: JSON and tables of a known situation, and the view in a terminal.

mod kill;
mod once;
mod schema;
mod terminal;

use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection};
use testkit::{ReplicaSet, ReplicaSetOptions};
use tokio::task::JoinSet;

/// Longer than a test: the server must not end the transaction.
const LIFETIME: u64 = 600;

/// A replica set with a collection and clients with enough connections.
struct Environment {
    set: ReplicaSet,
    client: Client,
}

impl Environment {
    async fn start() -> Self {
        Self::with("shop").await
    }

    async fn with(application: &str) -> Self {
        let options = ReplicaSetOptions::new(1).parameter("transactionLifetimeLimitSeconds", LIFETIME);
        let set = options.start().await.unwrap();
        let mut options = ClientOptions::parse(set.uri()).await.unwrap();
        options.app_name = Some(application.to_owned());
        options.max_pool_size = Some(100);
        let env = Self { client: Client::with_options(options).unwrap(), set };
        env.orders().insert_many((0..40).map(|id| doc! {"_id": id, "n": 0})).await.unwrap();
        env
    }

    fn orders(&self) -> Collection<Document> {
        self.client.database("shop").collection("orders")
    }

    /// An index build, which waits as long as a transaction on the collection is open.
    fn build_index(&self) -> JoinSet<mongodb::error::Result<()>> {
        let (mut tasks, database) = (JoinSet::new(), self.client.database("shop"));
        let build = doc! {"createIndexes": "orders", "indexes": [{"key": {"n": 1}, "name": "by_n"}]};
        tasks.spawn(async move { database.run_command(build).await.map(drop) });
        tasks
    }

    /// Thirty writers, each of another document.
    fn write(&self) -> JoinSet<mongodb::error::Result<()>> {
        let mut tasks = JoinSet::new();
        for id in 1..=30 {
            let orders = self.orders();
            tasks.spawn(async move {
                orders.update_one(doc! {"_id": id}, doc! {"$inc": {"n": 1}}).await.map(drop)
            });
        }
        tasks
    }

    fn uri(&self) -> String {
        format!("--mongodb.uri={}", self.set.uri())
    }
}

async fn succeed(mut tasks: JoinSet<mongodb::error::Result<()>>) {
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap().unwrap();
    }
}
