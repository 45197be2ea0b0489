//! A test environment: a replica set of one member, a runner on it, and the counters of both.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use anyhow::ensure;
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, ServerAddress};
use mongodb::{Client, Collection};
use testkit::{FailPoint, Proxy, RecycledSet, ReplicaSet, ReplicaSetOptions, Scrape, wait};
use txnscope::{Metrics, Reason, TransactionRunner};

/// The application name that failpoints match.
const APP: &str = "runner";
pub(crate) const OPERATION: &str = "test";
pub(crate) const NO: Reason = Reason::declare("no");

pub(crate) struct Environment {
    pub(crate) set: RecycledSet,
    /// A client without failpoints.
    pub(crate) admin: Client,
    pub(crate) client: Client,
    pub(crate) runner: TransactionRunner,
    pub(crate) metrics: Metrics,
    before: ServerCounters,
}

/// The server's transaction counters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ServerCounters {
    pub(crate) started: i64,
    pub(crate) committed: i64,
    pub(crate) aborted: i64,
    pub(crate) open: i64,
}

impl Environment {
    pub(crate) async fn start() -> Self {
        Self::on(ReplicaSet::recycled().await.unwrap(), None).await
    }

    /// Starts the environment on an older server, if a version is given.
    pub(crate) async fn start_version(version: Option<&str>) -> Self {
        let mut options = ReplicaSetOptions::new(1);
        if let Some(version) = version {
            options = options.version(version);
        }
        Self::on(options.start().await.unwrap(), None).await
    }

    /// Starts the environment with a proxy between the runner and the server.
    pub(crate) async fn behind_a_proxy() -> (Self, Proxy) {
        let set = ReplicaSet::recycled().await.unwrap();
        let proxy = Proxy::to(&set.members()[0].address()).await.unwrap();
        (Self::on(set, Some(&proxy)).await, proxy)
    }

    async fn on(set: impl Into<RecycledSet>, proxy: Option<&Proxy>) -> Self {
        let set = set.into();
        let mut options = ClientOptions::parse(set.uri()).await.unwrap();
        options.app_name = Some(APP.to_owned());
        options.heartbeat_freq = Some(std::time::Duration::from_millis(500));
        // Many transactions wait at the same time, and their cleanups must not wait for a connection.
        options.max_pool_size = Some(200);
        if let Some(proxy) = proxy {
            let port = Some(proxy.address().port());
            options.hosts = vec![ServerAddress::Tcp { host: "127.0.0.1".to_owned(), port }];
            options.direct_connection = Some(true);
            options.repl_set_name = None;
        }
        let client = Client::with_options(options).unwrap();
        let admin = set.client_named("admin").await.unwrap();
        admin.database("shop").create_collection("items").await.unwrap();
        let metrics = Metrics::isolated().unwrap();
        let runner = TransactionRunner::with_registry(&client, metrics.registry());
        let mut env = Self {
            before: ServerCounters { started: 0, committed: 0, aborted: 0, open: 0 },
            set,
            admin,
            client,
            runner,
            metrics,
        };
        env.before = env.server().await;
        env
    }

    /// Resets the environment for the next case of a table: the same servers, a runner on another client, and zero
    /// counters.
    pub(crate) async fn reset(&mut self, client: &Client) {
        self.items_of_others().delete_many(doc! {}).await.unwrap();
        self.client = client.clone();
        self.metrics = Metrics::isolated().unwrap();
        self.runner = TransactionRunner::with_registry(client, self.metrics.registry());
        self.before = self.server().await;
    }

    /// The collection, through the runner's client.
    pub(crate) fn items(&self) -> Collection<Document> {
        self.client.database("shop").collection("items")
    }

    /// The collection, through the client without failpoints.
    pub(crate) fn items_of_others(&self) -> Collection<Document> {
        self.admin.database("shop").collection("items")
    }

    pub(crate) async fn fail(&self, data: Document) -> FailPoint {
        FailPoint::fail_command(&self.admin, APP, data).await.unwrap()
    }

    pub(crate) async fn fail_times(&self, times: i32, data: Document) {
        FailPoint::fail_command_times(&self.admin, APP, times, data).await.unwrap();
    }

    /// The value of a series of the operation.
    #[track_caller]
    pub(crate) fn counted(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        let scrape = Scrape::parse(&self.metrics.render()).unwrap();
        let labels: Vec<_> = [("operation", OPERATION)].into_iter().chain(labels.iter().copied()).collect();
        scrape.sum(metric, &labels)
    }

    /// The driver's counters: started, committed, aborted, unknown, open.
    pub(crate) fn driver(&self) -> [f64; 5] {
        ["started_total", "committed_total", "aborted_total", "unknown_total", "open"]
            .map(|what| self.counted(&format!("mongodb_client_transactions_{what}"), &[]))
    }

    pub(crate) fn aborted_for(&self, reason: &str) -> f64 {
        self.counted("mongodb_client_transactions_aborted_total", &[("reason", reason)])
    }

    pub(crate) fn cleanups(&self, result: &str) -> f64 {
        self.counted("mongodb_client_transaction_cleanups_total", &[("result", result)])
    }

    pub(crate) fn not_started(&self, cause: &str) -> f64 {
        self.counted("mongodb_client_transactions_not_started_total", &[("cause", cause)])
    }

    pub(crate) async fn server(&self) -> ServerCounters {
        let status = self.admin.database("admin").run_command(doc! {"serverStatus": 1}).await.unwrap();
        let transactions = status.get_document("transactions").unwrap();
        let number = |field: &str| transactions.get_i64(field).unwrap();
        ServerCounters {
            started: number("totalStarted"),
            committed: number("totalCommitted"),
            aborted: number("totalAborted"),
            open: number("currentOpen"),
        }
    }

    /// Waits until no transaction is open on the server, and no cleanup is pending.
    pub(crate) async fn wait_until_nothing_is_open(&self) {
        self.runner.wait_idle().await;
        wait::until("no transaction to be open on the server", async || {
            let now = self.server().await;
            ensure!(now.open == 0, "{now:?}");
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Waits until no transaction is open on either side, and returns what the server has counted since the start.
    pub(crate) async fn wait_idle(&self) -> ServerCounters {
        self.runner.wait_idle().await;
        let now = wait::until("no transaction to be open on the server", async || {
            let now = self.server().await;
            ensure!(now.open == 0, "{now:?}");
            Ok(now)
        })
        .await
        .unwrap();
        let [started, committed, aborted, unknown, open] = self.driver();
        assert_eq!(started, committed + aborted + unknown + open, "{}", self.metrics.render());
        assert_eq!(open, 0.0, "{}", self.metrics.render());
        let rows = self.metrics.registry().open_transactions().list();
        assert!(rows.is_empty(), "{rows:?}");
        ServerCounters {
            started: now.started - self.before.started,
            committed: now.committed - self.before.committed,
            aborted: now.aborted - self.before.aborted,
            open: 0,
        }
    }

    /// Like [`wait_idle`](Self::wait_idle), and asserts that the server's counters match the driver's.
    pub(crate) async fn reconciled(&self) -> ServerCounters {
        self.reconciled_but_for(0.0).await
    }

    /// Like [`reconciled`](Self::reconciled), for callbacks that hid `hidden` errors of first statements from the
    /// runner, whose transactions the server may not have started.
    pub(crate) async fn reconciled_but_for(&self, hidden: f64) -> ServerCounters {
        let server = self.wait_idle().await;
        let [started, committed, _, unknown, _] = self.driver();
        let most =
            started - self.not_started("not_sent") - self.not_started("refused") + self.cleanups("fenced");
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
        let (server_started, server_committed) = (server.started as f64, server.committed as f64);
        let counters = format!("{server:?}\n{}", self.metrics.render());
        assert!((most - self.not_started("lost") - hidden..=most).contains(&server_started), "{counters}");
        assert!((committed..=committed + unknown).contains(&server_committed), "{counters}");
        server
    }

    /// Asserts that every document can be written: no transaction holds a lock.
    pub(crate) async fn assert_nothing_is_locked(&self) {
        let items = self.items_of_others();
        let all = items.update_many(doc! {}, doc! {"$set": {"touched": true}});
        tokio::time::timeout(wait::LIMIT, all.into_future()).await.unwrap().unwrap();
    }
}
