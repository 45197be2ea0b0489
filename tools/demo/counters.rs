//! The counters of callers and driver (from the ledger) and of the server (from the sidecar), and their comparison.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use mongodb::bson::{Document, doc};
use testkit::{Scrape, wait};
use txnscope_catalog::{self as catalog, Kind, Metric};

/// The outcomes in the order of the catalog.
const OUTCOMES: [&str; 5] = ["succeeded", "rejected", "failed", "cancelled", "panicked"];

use crate::environment::Environment;
use end_to_end::table::{Table, count, seconds};

/// Both pages, read at almost the same time.
pub(crate) struct Counters {
    caller: Scrape,
    server: Scrape,
}

/// A condition on the counters.
pub(crate) struct Check {
    pub(crate) holds: bool,
    pub(crate) what: String,
}

impl Counters {
    pub(crate) async fn read(env: &Environment) -> Result<Self> {
        let (caller, server) = (env.ledger_metrics(), env.sidecar_metrics());
        let (caller, server) = tokio::try_join!(Scrape::get(&caller), Scrape::get(&server))?;
        Ok(Self { caller, server })
    }

    /// Reads the counters when no operation is in flight and the sidecar has polled the final state.
    pub(crate) async fn wait_idle(env: &Environment) -> Result<Self> {
        let primary = env.set.primary().await?;
        let client = env.set.members()[primary].client().await?;
        wait::until("the last transaction to be counted on both sides", async || {
            let counters = Self::read(env).await?;
            let status = client.database("admin").run_command(doc! {"serverStatus": 1}).await?;
            let transactions = status.get_document("transactions")?;
            let number = |field| transactions.get(field).map_or(f64::NAN, number);
            let in_flight = counters.caller(&catalog::CONCURRENT_OPERATIONS, &[]);
            ensure!(
                in_flight == 0.0 && number("currentOpen") == 0.0,
                "{in_flight} in flight, {transactions}"
            );
            let address = env.set.members()[primary].address();
            let polled = counters.server.value(
                catalog::MONGODB_TRANSACTIONS_STARTED.name,
                &[("rs", env.set.name()), ("member", &address)],
            );
            ensure!(polled == Some(number("totalStarted")), "the sidecar saw {polled:?} of {transactions}");
            ensure!(counters.open() == 0.0, "the sidecar saw {} open", counters.open());
            Ok(counters)
        })
        .await
    }

    fn outcome(&self, outcome: &str) -> f64 {
        self.caller(&catalog::TRANSACTION_DURATION, &[("outcome", outcome)])
    }

    /// The sum over the series with those labels; for a histogram, of its counts.
    fn caller(&self, metric: &Metric, labels: &[(&str, &str)]) -> f64 {
        match metric.kind {
            Kind::Histogram => self.caller.sum(&format!("{}_count", metric.name), labels),
            _ => self.caller.sum(metric.name, labels),
        }
    }

    fn server(&self, metric: &Metric) -> f64 {
        self.server.sum(metric.name, &[])
    }

    fn open(&self) -> f64 {
        self.server(&catalog::MONGODB_TRANSACTIONS_OPEN)
    }

    /// The present state in one line.
    pub(crate) fn line(&self) -> String {
        let [succeeded, rejected, failed, cancelled, panicked] =
            OUTCOMES.map(|outcome| self.outcome(outcome));
        let oldest = self
            .server
            .matching(catalog::MONGODB_TRANSACTIONS_OLDEST_OPEN.name, &[])
            .fold(0.0, |oldest: f64, series| oldest.max(series.value));
        format!(
            "callers: {} in, {} succeeded, {} rejected, {} failed, {} left, {} in flight │ server: {} started, \
             {} committed, {} aborted, {} open, oldest {}, {} conflicts",
            count(self.caller(&catalog::TRANSACTION_ATTEMPTS, &[])),
            count(succeeded),
            count(rejected),
            count(failed + panicked),
            count(cancelled),
            count(self.caller(&catalog::CONCURRENT_OPERATIONS, &[])),
            count(self.server(&catalog::MONGODB_TRANSACTIONS_STARTED)),
            count(self.server(&catalog::MONGODB_TRANSACTIONS_COMMITTED)),
            count(self.server(&catalog::MONGODB_TRANSACTIONS_ABORTED)),
            count(self.open()),
            seconds(oldest),
            count(self.server(&catalog::MONGODB_WIREDTIGER_UPDATE_CONFLICTS)),
        )
    }

    fn operations(&self) -> Vec<&str> {
        let label =
            |series: &'_ testkit::Series| series.labels.get("operation").map(String::as_str).is_some();
        self.caller
            .matching(catalog::TRANSACTION_ATTEMPTS.name, &[])
            .filter(|series| label(series))
            .map(|series| series.labels["operation"].as_str())
            .collect()
    }

    /// The counters of both sides, as tables.
    pub(crate) fn tables(&self, percentiles: &BTreeMap<String, [f64; 2]>) -> String {
        let mut callers = Table::new(&[
            "CALLERS",
            "attempts",
            "succeeded",
            "rejected",
            "failed",
            "cancelled",
            "panicked",
            "p50",
            "p99",
        ]);
        for operation in self.operations() {
            let of = [("operation", operation)];
            let attempts = self.caller(&catalog::TRANSACTION_ATTEMPTS, &of);
            if attempts == 0.0 {
                continue;
            }
            let ended = OUTCOMES.map(|outcome| {
                count(self.caller(
                    &catalog::TRANSACTION_DURATION,
                    &[("operation", operation), ("outcome", outcome)],
                ))
            });
            let [p50, p99] = percentiles.get(operation).copied().unwrap_or([f64::NAN; 2]);
            let row = [operation.to_owned(), count(attempts)];
            callers.row(row.into_iter().chain(ended).chain([seconds(p50), seconds(p99)]));
        }
        let total = self.caller(&catalog::TRANSACTION_ATTEMPTS, &[]);
        let ended = OUTCOMES.map(|outcome| count(self.outcome(outcome)));
        callers.row(
            ["all".to_owned(), count(total)].into_iter().chain(ended).chain([String::new(), String::new()]),
        );

        let mut reasons = Table::new(&["REASON", "outcome", "count"]);
        let mut why: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        for series in self.caller.matching(catalog::TRANSACTION_FAILURES.name, &[]) {
            let label = |name| series.labels.get(name).map_or("", String::as_str);
            *why.entry((label("reason"), label("outcome"))).or_default() += series.value;
        }
        for ((reason, outcome), times) in why.into_iter().filter(|(_, times)| *times > 0.0) {
            reasons.row([reason.to_owned(), outcome.to_owned(), count(times)]);
        }

        let mut driver = Table::new(&[
            "DRIVER",
            "started",
            "committed",
            "aborted",
            "unknown",
            "open",
            "cleaned up",
            "wasted",
            "backoff",
        ]);
        for operation in self.operations() {
            let of = [("operation", operation)];
            if self.caller(&catalog::CLIENT_TRANSACTIONS_STARTED, &of) > 0.0 {
                driver.row([operation.to_owned()].into_iter().chain(self.driver_row(&of)));
            }
        }
        driver.row(["all".to_owned()].into_iter().chain(self.driver_row(&[])));

        let mut server =
            Table::new(&["SERVER", "started", "committed", "aborted", "open", "write conflicts"]);
        for series in self.server.matching(catalog::MONGODB_TRANSACTIONS_STARTED.name, &[]) {
            let member = series.labels.get("member").map_or("", String::as_str);
            server.row([member.to_owned()].into_iter().chain(self.server_row(&[("member", member)])));
        }
        server.row(["all".to_owned()].into_iter().chain(self.server_row(&[])));
        format!("{callers}\n{reasons}\n{driver}\n{server}")
    }

    fn driver_row(&self, of: &[(&str, &str)]) -> Vec<String> {
        let counts = [
            catalog::CLIENT_TRANSACTIONS_STARTED,
            catalog::CLIENT_TRANSACTIONS_COMMITTED,
            catalog::CLIENT_TRANSACTIONS_ABORTED,
            catalog::CLIENT_TRANSACTIONS_UNKNOWN,
            catalog::CLIENT_TRANSACTIONS_OPEN,
            catalog::CLIENT_TRANSACTION_CLEANUPS,
        ];
        let times = [catalog::CLIENT_TRANSACTION_WASTED, catalog::CLIENT_TRANSACTION_BACKOFF];
        let counts = counts.map(|metric| count(self.caller(&metric, of)));
        counts.into_iter().chain(times.map(|metric| seconds(self.caller(&metric, of)))).collect()
    }

    /// The minimum and maximum number of transactions that the server must have started, according to the driver:
    /// without those that never started, and with one more for each fenced session. A first statement without a reply
    /// may or may not count.
    fn started_on_server(&self) -> std::ops::RangeInclusive<f64> {
        let not_started = |cause| self.caller(&catalog::CLIENT_TRANSACTIONS_NOT_STARTED, &[("cause", cause)]);
        let fenced = self.caller(&catalog::CLIENT_TRANSACTION_CLEANUPS, &[("result", "fenced")]);
        let most = self.caller(&catalog::CLIENT_TRANSACTIONS_STARTED, &[])
            - not_started("not_sent")
            - not_started("refused")
            + fenced;
        most - not_started("lost")..=most
    }

    fn server_row(&self, of: &[(&str, &str)]) -> [String; 5] {
        [
            catalog::MONGODB_TRANSACTIONS_STARTED,
            catalog::MONGODB_TRANSACTIONS_COMMITTED,
            catalog::MONGODB_TRANSACTIONS_ABORTED,
            catalog::MONGODB_TRANSACTIONS_OPEN,
            catalog::MONGODB_WIREDTIGER_UPDATE_CONFLICTS,
        ]
        .map(|metric| count(self.server.sum(metric.name, of)))
    }

    /// The conditions on the counters and on the data.
    pub(crate) async fn checks(&self, env: &Environment) -> Result<Vec<Check>> {
        let balanced = self.operations().into_iter().all(|operation| {
            let of = [("operation", operation)];
            let ended = self.caller(&catalog::TRANSACTION_DURATION, &of);
            let concurrent = self.caller(&catalog::CONCURRENT_OPERATIONS, &of);
            self.caller(&catalog::TRANSACTION_ATTEMPTS, &of) == ended + concurrent
        });
        let [started, committed, aborted] = [
            catalog::MONGODB_TRANSACTIONS_STARTED,
            catalog::MONGODB_TRANSACTIONS_COMMITTED,
            catalog::MONGODB_TRANSACTIONS_ABORTED,
        ]
        .map(|metric| self.server(&metric));
        let driver = |metric: Metric| self.caller(&metric, &[]);
        let [succeeded, _, failed, cancelled, panicked] = OUTCOMES.map(|outcome| self.outcome(outcome));
        let unknown_results = failed + cancelled + panicked;
        let database = env.set.client().await?.database("ledger");
        let mut negative = 0;
        for (collection, balance) in [("retainers", "currentBalance"), ("bankAccounts", "availableBalance")] {
            let below = doc! {balance: {"$lt": 0}};
            negative += database.collection::<Document>(collection).count_documents(below).await?;
        }
        Ok(vec![
            Check { holds: balanced, what: "attempts = ended + in flight, for every operation".to_owned() },
            Check {
                holds: driver(catalog::CLIENT_TRANSACTIONS_STARTED)
                    == driver(catalog::CLIENT_TRANSACTIONS_COMMITTED)
                        + driver(catalog::CLIENT_TRANSACTIONS_ABORTED)
                        + driver(catalog::CLIENT_TRANSACTIONS_UNKNOWN)
                        + driver(catalog::CLIENT_TRANSACTIONS_OPEN),
                what: "started = committed + aborted + unknown + open, in the driver".to_owned(),
            },
            Check {
                holds: started == committed + aborted + self.open(),
                what: "started = committed + aborted + open, on the server".to_owned(),
            },
            Check {
                holds: self.started_on_server().contains(&started),
                what: "the server started as many transactions as the driver".to_owned(),
            },
            Check {
                holds: (succeeded..=succeeded + unknown_results).contains(&committed),
                what: format!(
                    "the server committed {}: the {} that callers know to have succeeded, and {} of the {} with an unknown result",
                    count(committed),
                    count(succeeded),
                    count(committed - succeeded),
                    count(unknown_results)
                ),
            },
            Check { holds: negative == 0, what: format!("{negative} negative balances in the data") },
        ])
    }
}

fn number(value: &mongodb::bson::Bson) -> f64 {
    let whole = value.as_i64().or_else(|| value.as_i32().map(i64::from));
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    whole.map_or(f64::NAN, |whole| whole as f64)
}
