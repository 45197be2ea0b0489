//! The counters of all sides, read while no operation is in flight.

use anyhow::{Context, Result, bail, ensure};
use mongodb::bson::{Document, doc};
use testkit::{Scrape, wait};
use txnscope_catalog::{self as catalog, Kind, Metric};

use crate::environment::{Environment, number, status};

/// A member's own counters of its transactions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Server {
    pub(crate) started: f64,
    pub(crate) committed: f64,
    pub(crate) aborted: f64,
    pub(crate) open: f64,
}

/// The counters of callers, driver and servers, and the data.
pub(crate) struct Counters {
    page: Scrape,
    pub(crate) servers: Vec<Server>,
    /// The number of money movements in the general ledger.
    pub(crate) movements: f64,
}

impl Counters {
    /// Waits until no operation is in flight on any side, and reads the counters.
    pub(crate) async fn quiet(env: &Environment) -> Result<Self> {
        wait::until("everything to have ended", async || {
            let page = env.ledger_page().await?;
            let mut servers = Vec::new();
            for index in 0..env.each.len() {
                servers.push(server(env, index).await?);
            }
            if let Err(left) = at_rest(&page, &servers) {
                bail!("{left}; on the server: {}", oldest(env).await);
            }
            let lines = env.whole.database("ledger").collection::<Document>("generalLedger");
            #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
            let lines = lines.count_documents(doc! {}).await? as f64;
            Ok(Self { page, servers, movements: lines / 2.0 })
        })
        .await
    }

    /// Counters of an unused system.
    #[cfg(test)]
    pub(crate) fn made_up(page: Scrape, servers: Vec<Server>, movements: f64) -> Self {
        Self { page, servers, movements }
    }

    /// The sum over the series with those labels; for a histogram, of its counts.
    pub(crate) fn sum(&self, metric: &Metric, labels: &[(&str, &str)]) -> f64 {
        match metric.kind {
            Kind::Histogram => self.page.sum(&format!("{}_count", metric.name), labels),
            Kind::Counter | Kind::Gauge => self.page.sum(metric.name, labels),
        }
    }

    pub(crate) fn operations(&self) -> Vec<String> {
        let attempts = self.page.matching(catalog::TRANSACTION_ATTEMPTS.name, &[]);
        attempts.filter_map(|series| series.labels.get("operation").cloned()).collect()
    }
}

/// The reason why an operation is still in flight, if there is one.
pub(crate) fn at_rest(page: &Scrape, servers: &[Server]) -> Result<()> {
    let open: f64 = servers.iter().map(|server| server.open).sum();
    ensure!(open == 0.0, "{open} transactions are open on the server");
    for gauge in [
        catalog::CONCURRENT_OPERATIONS,
        catalog::CLIENT_TRANSACTIONS_OPEN,
        catalog::CLIENT_TRANSACTION_QUEUED,
    ] {
        let left = page.sum(gauge.name, &[]);
        ensure!(left == 0.0, "{} is {left}", gauge.name);
    }
    Ok(())
}

async fn server(env: &Environment, index: usize) -> Result<Server> {
    let status = env.member(index, status()).await?;
    let transactions = status.get_document("transactions").context("serverStatus has no transactions")?;
    Ok(Server {
        started: number(transactions, "totalStarted"),
        committed: number(transactions, "totalCommitted"),
        aborted: number(transactions, "totalAborted"),
        open: number(transactions, "currentOpen"),
    })
}

/// The owner of an open transaction, for the message.
async fn oldest(env: &Environment) -> String {
    let pipeline = [
        doc! {"$currentOp": {"allUsers": true, "idleSessions": true}},
        doc! {"$match": {"transaction.parameters.autocommit": false}},
        doc! {"$project": {"_id": 0, "appName": 1, "seconds": "$transaction.timeOpenMicros"}},
        doc! {"$limit": 3},
    ];
    let found = async {
        let mut cursor = env.whole.database("admin").aggregate(pipeline).await?;
        let mut found = Vec::new();
        while cursor.advance().await? {
            found.push(cursor.deserialize_current()?.to_string());
        }
        mongodb::error::Result::Ok(found.join(", "))
    };
    found.await.unwrap_or_else(|error| error.kind.to_string())
}
