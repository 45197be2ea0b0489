//! Simulated environments, as time series: sidecars, deployments of the same name, and exporters.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The duration, and the evaluation time, in minutes: longer than any `for` and the window before it.
pub(crate) const END: u32 = 90;
pub(crate) const LOOK: u32 = 80;

pub(crate) const MEMBERS: [&str; 2] = ["mongo-0:27017", "mongo-1:27017"];

#[derive(Debug, Clone, Copy)]
pub(crate) struct Environment {
    pub(crate) sidecars: usize,
    /// The number of deployments. Two are distinguished by the label `deployment` only: sets, members, jobs and
    /// instances have the same names.
    pub(crate) deployments: usize,
    /// Whether the backends export the driver's counters.
    pub(crate) driver: bool,
    /// Whether the sidecar may run `getParameter`.
    pub(crate) parameters: bool,
    /// Whether the collector `replication` is enabled.
    pub(crate) replication: bool,
    /// Whether Percona's exporter runs as well, without being able to log in.
    pub(crate) percona: bool,
}

impl Environment {
    pub(crate) const FULL: Self = Self {
        sidecars: 1,
        deployments: 1,
        driver: true,
        parameters: true,
        replication: true,
        percona: true,
    };

    /// All numbers of sidecars and deployments, with any three of the four following options in all combinations:
    /// half of the matrix, which covers the same interactions.
    pub(crate) fn all() -> Vec<Self> {
        let flags = |bits: u32| [1, 2, 4, 8].map(|bit| bits & bit != 0);
        let of = |sidecars, deployments| {
            (0..16_u32).filter(|bits| bits.count_ones() % 2 == 0).map(move |bits| {
                let [driver, parameters, replication, percona] = flags(bits);
                Self { sidecars, deployments, driver, parameters, replication, percona }
            })
        };
        (1..=3).flat_map(|sidecars| (1..=2).flat_map(move |deployments| of(sidecars, deployments))).collect()
    }

    /// The environments for each trouble: all numbers of sidecars and deployments, and each missing part alone.
    pub(crate) fn some() -> [Self; 7] {
        let two = Self { sidecars: 2, deployments: 2, ..Self::FULL };
        [
            Self { percona: false, ..Self::FULL },
            Self { sidecars: 3, ..Self::FULL },
            Self { deployments: 2, ..Self::FULL },
            Self { sidecars: 3, deployments: 2, ..Self::FULL },
            Self { driver: false, ..two },
            Self { parameters: false, ..two },
            Self { replication: false, ..two },
        ]
    }

    fn labels(self) -> Vec<&'static str> {
        match self.deployments {
            1 => vec![""],
            _ => vec!["payments", "orders"],
        }
    }

    /// The `deployment` label of the deployment with the trouble.
    pub(crate) fn first(self) -> &'static str {
        self.labels()[0]
    }

    /// A healthy environment in the cluster with that name.
    pub(crate) fn healthy(self, cluster: String) -> Series {
        let mut series = Series { environment: self, cluster, values: BTreeMap::new(), deployment: "" };
        for deployment in self.labels() {
            series.deployment = deployment;
            series.server();
            series.backend();
            if self.driver {
                series.driver();
            }
        }
        series.deployment = self.first();
        if self.percona {
            series.set("mongodb_up", "mongodb-exporter", "p:9216", r#"cluster_role="""#, &constant(0.0));
        }
        series
    }
}

pub(crate) fn constant(value: f64) -> String {
    format!("{value}x{END}")
}

/// A counter with that increase per minute.
pub(crate) fn growing(by: f64) -> String {
    format!("0+{by}x{END}")
}

/// Series by name and labels, as promtool reads them.
pub(crate) struct Series {
    pub(crate) environment: Environment,
    pub(crate) cluster: String,
    values: BTreeMap<String, String>,
    deployment: &'static str,
}

impl Series {
    /// Adds a series of every sidecar for the current deployment.
    pub(crate) fn seen(&mut self, name: &str, labels: &str, values: &str) -> &mut Self {
        for sidecar in 1..=self.environment.sidecars {
            self.set(name, "txnscope", &format!("s{sidecar}:9917"), labels, values);
        }
        self
    }

    /// Adds a series of every sidecar for a member of the current deployment.
    pub(crate) fn of(&mut self, member: &str, name: &str, labels: &str, values: &str) -> &mut Self {
        let comma = if labels.is_empty() { "" } else { "," };
        self.seen(name, &format!(r#"rs="rs0",member="{member}"{comma}{labels}"#), values)
    }

    /// Adds a series of the backend.
    pub(crate) fn caller_series(&mut self, name: &str, labels: &str, values: &str) -> &mut Self {
        self.set(name, "ledger", "a:3000", labels, values);
        self
    }

    fn set(&mut self, name: &str, job: &str, instance: &str, labels: &str, values: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let deployment = match self.deployment {
            "" => String::new(),
            name => format!(r#",deployment="{name}""#),
        };
        let cluster = &self.cluster;
        let series = format!(
            r#"{name}{{cluster="{cluster}",job="{job}",instance="{instance}"{deployment}{comma}{labels}}}"#
        );
        self.values.insert(series, values.to_owned());
    }

    fn server(&mut self) {
        let (one, none) = (constant(1.0), constant(0.0));
        self.seen("up", "", &one).seen("txnscope_config_last_reload_successful", "", &one);
        for (member, primary) in MEMBERS.into_iter().zip([true, false]) {
            let busy = |by: f64| growing(if primary { by } else { 0.0 });
            self.of(member, "mongodb_up", "", &one)
                .of(member, "mongodb_uptime_seconds", "", "900000+60x90")
                .of(member, "mongodb_transactions_started_total", "", &busy(600.0))
                .of(member, "mongodb_transactions_committed_total", "", &busy(600.0))
                .of(member, "mongodb_transactions_aborted_total", "", &none)
                .of(member, "mongodb_transactions_open", r#"state="active""#, &one)
                .of(member, "mongodb_transactions_open", r#"state="inactive""#, &none)
                .of(member, "mongodb_transactions_oldest_open_seconds", r#"state="inactive""#, &none)
                .of(member, "mongodb_transactions_oldest_prepared_seconds", "", &none)
                // Just below the thresholds of the alerts: a value that is counted twice exceeds them.
                .of(member, "mongodb_wiredtiger_update_conflicts_total", "", &busy(200.0))
                .of(member, "mongodb_operation_latency_seconds_count", r#"type="writes""#, &busy(6_000.0))
                .of(
                    member,
                    "mongodb_operation_latency_seconds_bucket",
                    r#"type="writes",le="0.131072""#,
                    &busy(5_760.0),
                )
                .of(
                    member,
                    "mongodb_lock_wait_seconds_total",
                    r#"resource="global",mode="exclusive""#,
                    &growing(24.0),
                )
                .of(member, "mongodb_global_lock_queue", r#"type="write""#, &constant(19.0))
                .of(member, "txnscope_poll_success", r#"source="server_status""#, &one)
                .of(member, "txnscope_poll_age_seconds", r#"source="server_status""#, &constant(2.0));
            if self.environment.parameters {
                self.of(member, "mongodb_transaction_lifetime_limit_seconds", "", &constant(60.0));
            }
            if self.environment.replication {
                self.of(
                    member,
                    "mongodb_replication_member_state",
                    r#"state="primary""#,
                    if primary { &one } else { &none },
                )
                .of(
                    member,
                    "mongodb_replication_member_state",
                    r#"state="secondary""#,
                    if primary { &none } else { &one },
                )
                .of(member, "mongodb_replication_lag_seconds", "", &none)
                .of(member, "mongodb_replication_majority_lag_seconds", "", &none)
                .of(
                    member,
                    "mongodb_replication_oplog_window_seconds",
                    "",
                    &constant(900_000.0),
                );
            }
        }
        let check = r#"rs="rs0",check="balance""#;
        self.seen("mongodb_consistency_violations", &format!(r#"{check},severity="critical""#), &none)
            .seen("mongodb_consistency_last_success_timestamp_seconds", check, "0+60x90")
            .seen("mongodb_consistency_interval_seconds", check, &constant(60.0))
            .seen("mongodb_consistency_check_errors_total", &format!(r#"{check},reason="timeout""#), &none);
    }

    fn backend(&mut self) {
        let none = constant(0.0);
        let of = r#"operation="POST /pay""#;
        self.caller_series("up", "", &constant(1.0))
            .caller_series("process_start_time_seconds", "", &constant(-9e5))
            .caller_series("transaction_attempts_total", of, &growing(600.0))
            .caller_series("concurrent_operations", of, &constant(3.0));
        for outcome in ["succeeded", "rejected", "failed", "cancelled", "panicked"] {
            let count = if outcome == "succeeded" { growing(600.0) } else { none.clone() };
            self.ended(outcome, &count, &count);
        }
    }

    /// Operations with that outcome, and those of them within the latency objective.
    pub(crate) fn ended(&mut self, outcome: &str, count: &str, quick: &str) -> &mut Self {
        let of = format!(r#"operation="POST /pay",outcome="{outcome}""#);
        self.caller_series("transaction_duration_seconds_count", &of, count);
        self.caller_series("transaction_duration_seconds_bucket", &format!(r#"{of},le="0.25""#), quick)
    }

    fn driver(&mut self) {
        let (none, of) = (constant(0.0), r#"operation="POST /pay""#);
        self.caller_series("mongodb_client_transactions_started_total", of, &growing(600.0))
            .caller_series("mongodb_client_transactions_committed_total", of, &growing(600.0))
            .caller_series("mongodb_client_transactions_unknown_total", of, &none)
            .aborted("write_conflict", 0.0);
    }

    /// Aborted attempts of the driver per minute.
    pub(crate) fn aborted(&mut self, reason: &str, by: f64) -> &mut Self {
        let of = format!(r#"operation="POST /pay",reason="{reason}""#);
        self.caller_series("mongodb_client_transactions_aborted_total", &of, &growing(by))
    }

    /// Labels of the current deployment.
    pub(crate) fn without(&mut self, part: &str) -> &mut Self {
        self.without_of(part, "")
    }

    pub(crate) fn without_of(&mut self, part: &str, member: &str) -> &mut Self {
        let deployment = self.deployment;
        let here =
            |name: &str| deployment.is_empty() || name.contains(&format!(r#"deployment="{deployment}""#));
        self.values.retain(|name, _| !(name.contains(part) && name.contains(member) && here(name)));
        self
    }

    pub(crate) fn input(&self) -> impl Iterator<Item = Value> + '_ {
        self.values.iter().map(|(series, values)| json!({"series": series, "values": values}))
    }

    /// A promtool expectation for this cluster: exactly these alerts fire, by name and labels.
    pub(crate) fn expects(&self, firing: &[String]) -> Value {
        let samples: Vec<Value> = firing.iter().map(|labels| json!({"labels": labels, "value": 1})).collect();
        // The name and the location; the texts are covered by other tests.
        let expr = format!(
            r#"max by (alertname, deployment, rs, member, job, operation, check, counter) (ALERTS{{cluster="{}",alertstate="firing",alertname!="TxnscopeWatchdog"}})"#,
            self.cluster
        );
        json!({"expr": expr, "eval_time": format!("{LOOK}m"), "exp_samples": samples})
    }
}
