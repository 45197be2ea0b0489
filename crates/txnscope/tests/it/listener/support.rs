//! A client with a listener, and the counters of both sides.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::ensure;
use mongodb::bson::doc;
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection, bson::Document};
use testkit::{ReplicaSet, Scrape, wait};
use tower::{Layer, ServiceExt, service_fn};
use txnscope::{Metrics, TransactionLayer, TransactionListener};
use txnscope_catalog as catalog;
use txnscope_catalog::Metric;

/// A client with a listener, and the listener's metrics.
pub(crate) struct ListenedClient {
    pub(crate) metrics: Metrics,
    pub(crate) client: Client,
}

impl ListenedClient {
    pub(crate) async fn connect(set: &ReplicaSet) -> Self {
        Self::connect_with(set, |listener| listener).await
    }

    pub(crate) async fn connect_with(
        set: &ReplicaSet,
        with: impl FnOnce(TransactionListener) -> TransactionListener,
    ) -> Self {
        let metrics = Metrics::isolated().unwrap();
        let mut options = options(set).await;
        with(TransactionListener::with_registry(metrics.registry())).install(&mut options);
        Self { metrics, client: Client::with_options(options).unwrap() }
    }

    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.client.database("shop").collection(name)
    }

    pub(crate) fn scrape(&self) -> Scrape {
        Scrape::parse(&self.metrics.render()).unwrap()
    }

    /// The sum of a metric's series with these labels.
    pub(crate) fn sum(&self, metric: &Metric, labels: &[(&str, &str)]) -> f64 {
        self.scrape().sum(metric.name, labels)
    }

    /// Polls a future inside an operation, as a request's.
    pub(crate) fn within<T, F>(
        &self,
        operation: &'static str,
        work: F,
    ) -> impl Future<Output = T> + Send + use<T, F>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let layer = TransactionLayer::with_classifier_and_registry(Job(operation), self.metrics.registry());
        let mut work = Some(work);
        let service = service_fn(move |()| {
            let work = work.take().unwrap();
            async move { Ok::<_, Infallible>(work.await) }
        });
        async move { layer.layer(service).oneshot(()).await.unwrap() }
    }
}

#[derive(Clone)]
struct Job(&'static str);

impl txnscope::ClassifyRequest<()> for Job {
    fn operation<'a>(&'a self, (): &'a ()) -> Option<txnscope::OperationName<'a>> {
        Some(txnscope::OperationName::named(self.0))
    }
}

impl<T> txnscope::ClassifyResponse<T, Infallible> for Job {
    fn response(&self, _: &T) -> txnscope::Classification {
        txnscope::Classification::failed(txnscope::Reason::OTHER).overridable()
    }

    fn error(&self, error: &Infallible) -> txnscope::Classification {
        match *error {}
    }
}

pub(crate) async fn options(set: &ReplicaSet) -> ClientOptions {
    let mut options = ClientOptions::parse(set.uri()).await.unwrap();
    options.app_name = Some("listened".to_owned());
    options.heartbeat_freq = Some(Duration::from_secs(1));
    options
}

/// The client's counters, summed over the operations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClientCounters {
    pub(crate) started: f64,
    pub(crate) committed: f64,
    pub(crate) aborted: f64,
    pub(crate) unknown: f64,
    pub(crate) refused: f64,
    pub(crate) lost: f64,
    pub(crate) open: f64,
}

impl ClientCounters {
    pub(crate) fn of(scrape: &Scrape) -> Self {
        let sum = |metric: &Metric| scrape.sum(metric.name, &[]);
        let not_started =
            |cause| scrape.sum(catalog::CLIENT_TRANSACTIONS_NOT_STARTED.name, &[("cause", cause)]);
        Self {
            started: sum(&catalog::CLIENT_TRANSACTIONS_STARTED),
            committed: sum(&catalog::CLIENT_TRANSACTIONS_COMMITTED),
            aborted: sum(&catalog::CLIENT_TRANSACTIONS_ABORTED),
            unknown: sum(&catalog::CLIENT_TRANSACTIONS_UNKNOWN),
            refused: not_started("refused"),
            lost: not_started("lost"),
            open: sum(&catalog::CLIENT_TRANSACTIONS_OPEN),
        }
    }
}

/// The server's counters, summed over the members: each member counts its transactions as the primary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ServerCounters {
    pub(crate) started: f64,
    pub(crate) committed: f64,
    pub(crate) aborted: f64,
    pub(crate) open: f64,
}

impl ServerCounters {
    pub(crate) async fn of(set: &ReplicaSet) -> Self {
        let mut counters = Self { started: 0.0, committed: 0.0, aborted: 0.0, open: 0.0 };
        for member in set.members() {
            let status = member.admin(doc! {"serverStatus": 1}).await.unwrap();
            let transactions = status.get_document("transactions").unwrap();
            #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
            let number = |field: &str| transactions.get_i64(field).unwrap() as f64;
            counters.started += number("totalStarted");
            counters.committed += number("totalCommitted");
            counters.aborted += number("totalAborted");
            counters.open += number("currentOpen");
        }
        counters
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            started: self.started - before.started,
            committed: self.committed - before.committed,
            aborted: self.aborted - before.aborted,
            open: self.open - before.open,
        }
    }
}

/// Waits until no transaction is open on either side.
pub(crate) async fn wait_until_idle(set: &ReplicaSet, listened: &ListenedClient) {
    wait::until("every transaction to have ended", async || {
        let (server, client) = (ServerCounters::of(set).await, ClientCounters::of(&listened.scrape()));
        ensure!(server.open == 0.0 && client.open == 0.0, "{server:?} {client:?}");
        Ok(())
    })
    .await
    .unwrap();
}
