//! Each trouble in many environments: one, two and three sidecars; one and two deployments of the same name; with and
//! without the driver's counters, `getParameter`, the collector `replication`, and Percona's exporter. Exactly the
//! right alerts fire, once, and only for the deployment with the trouble. Each trouble is also the control of the
//! healthy environments.

use std::collections::BTreeSet;

use serde_json::json;
use tempfile::TempDir;

use super::environments::{Environment, MEMBERS, Series, constant, growing};
use super::files::files;

/// A trouble, and the alerts that must fire, with their labels in addition to `deployment`.
struct Trouble {
    name: &'static str,
    plant: fn(&mut Series),
    fires: fn(Environment) -> Vec<(&'static str, &'static str)>,
}

const OF_SET: &str = r#"rs="rs0""#;
const OF_FIRST: &str = r#"rs="rs0",member="mongo-0:27017""#;
const OF_SECOND: &str = r#"rs="rs0",member="mongo-1:27017""#;
const OF_OPERATION: &str = r#"job="ledger",operation="POST /pay""#;
const OF_CHECK: &str = r#"rs="rs0",check="balance""#;

fn on(is: bool, fires: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    if is { fires.to_vec() } else { Vec::new() }
}

/// The labels of the primary.
fn primary(series: &mut Series, name: &str, labels: &str, values: &str) {
    series.of(MEMBERS[0], name, labels, values);
}

/// Removes the series that the sidecar does not export for a member that does not respond.
const GONE: &[&str] = &["mongodb_replication_", "mongodb_transactions_", "mongodb_lock_", "mongodb_global_"];

fn goes_down(series: &mut Series, member: &str) {
    for name in GONE {
        series.without_of(name, member);
    }
    series.of(member, "mongodb_up", "", "1x5 0x85");
}

const TROUBLES: &[Trouble] = &[
    Trouble {
        name: "no primary is elected",
        plant: |series| {
            if series.environment.replication {
                primary(series, "mongodb_replication_member_state", r#"state="primary""#, &constant(0.0));
                series.without("mongodb_replication_lag_seconds");
            }
        },
        fires: |environment| on(environment.replication, &[("MongoDBNoPrimary", OF_SET)]),
    },
    Trouble {
        name: "the sidecars do not reach the primary, whom the secondary follows",
        plant: |series| goes_down(series, MEMBERS[0]),
        // Without `replication` the member is like any other.
        fires: |environment| drifted(environment, &[("MongoDBMemberDown", OF_FIRST)]),
    },
    Trouble {
        name: "no member answers",
        plant: |series| {
            goes_down(series, MEMBERS[0]);
            goes_down(series, MEMBERS[1]);
        },
        // The two sides cannot be compared, because one is absent.
        fires: |_| {
            vec![
                ("MongoDBMemberDown", OF_FIRST),
                ("MongoDBMemberDown", OF_SECOND),
                ("MongoDBNoPrimary", OF_SET),
            ]
        },
    },
    Trouble {
        name: "three in ten abort by conflict",
        plant: |series| {
            primary(series, "mongodb_transactions_started_total", "", &growing(858.0));
            primary(series, "mongodb_transactions_aborted_total", "", &growing(258.0));
            if series.environment.driver {
                series.aborted("write_conflict", 258.0).caller_series(
                    "mongodb_client_transactions_started_total",
                    r#"operation="POST /pay""#,
                    &growing(858.0),
                );
            }
        },
        fires: |_| vec![("MongoDBTransactionAbortRatio", OF_SET)],
    },
    Trouble {
        name: "eight in a hundred abort by conflict: not yet",
        plant: |series| {
            primary(series, "mongodb_transactions_started_total", "", &growing(652.0));
            primary(series, "mongodb_transactions_aborted_total", "", &growing(52.0));
            if series.environment.driver {
                series.aborted("write_conflict", 52.0).caller_series(
                    "mongodb_client_transactions_started_total",
                    r#"operation="POST /pay""#,
                    &growing(652.0),
                );
            }
        },
        fires: |_| Vec::new(),
    },
    Trouble {
        name: "a third of the callers has an insufficient balance",
        plant: |series| {
            primary(series, "mongodb_transactions_started_total", "", &growing(900.0));
            primary(series, "mongodb_transactions_aborted_total", "", &growing(300.0));
            series.ended("rejected", &growing(300.0), &growing(300.0)).caller_series(
                "transaction_failures_total",
                r#"operation="POST /pay",outcome="rejected",reason="insufficient_balance""#,
                &growing(300.0),
            );
            if series.environment.driver {
                series.aborted("insufficient_balance", 300.0).caller_series(
                    "mongodb_client_transactions_started_total",
                    r#"operation="POST /pay""#,
                    &growing(900.0),
                );
            }
        },
        fires: |_| Vec::new(),
    },
    Trouble {
        name: "a transaction is forgotten",
        plant: |series| {
            primary(series, "mongodb_transactions_oldest_open_seconds", r#"state="inactive""#, "0x79 55x11");
        },
        fires: |_| vec![("MongoDBOldestOpenTransaction", OF_FIRST)],
    },
    Trouble {
        name: "transactions wait for their clients",
        plant: |series| primary(series, "mongodb_transactions_open", r#"state="inactive""#, &constant(30.0)),
        fires: |_| vec![("MongoDBIdleInTransaction", OF_FIRST)],
    },
    Trouble {
        name: "a prepared transaction is stuck",
        plant: |series| primary(series, "mongodb_transactions_oldest_prepared_seconds", "", "0x70 100+60x20"),
        fires: |_| vec![("MongoDBPreparedTransactionStuck", OF_FIRST)],
    },
    Trouble {
        name: "a hot document",
        plant: |series| primary(series, "mongodb_wiredtiger_update_conflicts_total", "", &growing(600.0)),
        fires: |_| vec![("MongoDBWriteConflicts", OF_SET)],
    },
    Trouble {
        name: "operations wait for locks",
        plant: |series| {
            let labels = r#"resource="global",mode="exclusive""#;
            primary(series, "mongodb_lock_wait_seconds_total", labels, &growing(36.0));
        },
        fires: |_| vec![("MongoDBLockWaits", OF_FIRST)],
    },
    Trouble {
        name: "a server turns requests away",
        plant: |series| {
            primary(series, "mongodb_ingress_requests_total", r#"result="rejected""#, &growing(90.0))
        },
        fires: |_| vec![("MongoDBOverloaded", OF_FIRST)],
    },
    Trouble {
        name: "a queue",
        plant: |series| primary(series, "mongodb_global_lock_queue", r#"type="write""#, &constant(30.0)),
        fires: |_| vec![("MongoDBQueueSustained", OF_FIRST)],
    },
    Trouble {
        name: "the majority lags",
        plant: |series| {
            if series.environment.replication {
                primary(series, "mongodb_replication_majority_lag_seconds", "", &constant(60.0));
            }
        },
        fires: |environment| on(environment.replication, &[("MongoDBMajorityLag", OF_SET)]),
    },
    Trouble {
        name: "a short oplog",
        plant: |series| {
            if series.environment.replication {
                primary(series, "mongodb_replication_oplog_window_seconds", "", &constant(3_600.0));
            }
        },
        fires: |environment| on(environment.replication, &[("MongoDBOplogWindowLow", OF_FIRST)]),
    },
    Trouble {
        name: "slow writes",
        plant: |series| {
            let labels = r#"type="writes",le="0.131072""#;
            primary(series, "mongodb_operation_latency_seconds_bucket", labels, &growing(5_400.0));
        },
        fires: |_| vec![("MongoDBSlowOperations", OF_FIRST)],
    },
    Trouble {
        name: "one in ten operations fails",
        plant: |series| {
            series.ended("failed", &growing(66.0), &growing(66.0));
        },
        fires: |_| {
            vec![
                ("TransactionFailureBudgetBurnFast", OF_OPERATION),
                ("TransactionFailureBudgetBurnSlow", OF_OPERATION),
            ]
        },
    },
    Trouble {
        name: "a third of the answers is slow",
        plant: |series| {
            series.ended("succeeded", &growing(600.0), &growing(400.0));
        },
        fires: |_| {
            vec![
                ("TransactionLatencyBudgetBurnFast", OF_OPERATION),
                ("TransactionLatencyBudgetBurnSlow", OF_OPERATION),
            ]
        },
    },
    Trouble {
        name: "half of the operations time out outside of the layer",
        plant: |series| {
            series.ended("cancelled", &growing(600.0), &growing(600.0));
        },
        fires: |_| vec![("TransactionCancellationRatio", OF_OPERATION)],
    },
    Trouble {
        name: "one caller in five leaves: not yet",
        plant: |series| {
            series.ended("cancelled", &growing(150.0), &growing(150.0));
        },
        fires: |_| Vec::new(),
    },
    Trouble {
        name: "a commit whose result is unknown, of a job that was not declared",
        plant: |series| {
            if series.environment.driver {
                series.caller_series(
                    "mongodb_client_transactions_unknown_total",
                    r#"operation="nightly""#,
                    "_x75 1x15",
                );
            }
        },
        fires: |environment| {
            on(environment.driver, &[("TransactionCommitUnknown", r#"job="ledger",operation="nightly""#)])
        },
    },
    Trouble {
        name: "three attempts for each operation",
        plant: |series| {
            primary(series, "mongodb_transactions_started_total", "", &growing(1_800.0));
            primary(series, "mongodb_transactions_aborted_total", "", &growing(40.0));
            if series.environment.driver {
                let of = r#"operation="POST /pay""#;
                series.caller_series("mongodb_client_transactions_started_total", of, &growing(1_800.0));
            }
        },
        fires: |environment| on(environment.driver, &[("TransactionRetryAmplification", OF_OPERATION)]),
    },
    Trouble {
        name: "an instance is full",
        plant: |series| {
            series.caller_series("concurrent_operations", r#"operation="POST /pay""#, &constant(95.0));
        },
        fires: |_| vec![("TransactionConcurrencySaturated", r#"job="ledger""#)],
    },
    Trouble {
        name: "half of the commits goes past the instrumentation, which exports only what is common",
        plant: |series| {
            if series.environment.driver {
                series
                    .without("mongodb_client_transactions_unknown_total")
                    .caller_series(
                        "mongodb_client_transactions_committed_total",
                        r#"operation="POST /pay""#,
                        &growing(300.0),
                    )
                    .caller_series(
                        "mongodb_client_transactions_started_total",
                        r#"operation="POST /pay""#,
                        &growing(300.0),
                    );
            }
        },
        fires: |environment| drifted(environment, &[]),
    },
    Trouble {
        name: "wrong data",
        plant: |series| {
            let of = r#"rs="rs0",check="balance",severity="critical""#;
            series.seen("mongodb_consistency_violations", of, &constant(2.0));
        },
        fires: |_| vec![("ConsistencyViolated", OF_CHECK)],
    },
    Trouble {
        name: "a check that no longer runs",
        plant: |series| {
            let of = r#"rs="rs0",check="balance""#;
            series.seen("mongodb_consistency_last_success_timestamp_seconds", of, &constant(60.0));
        },
        fires: |_| vec![("ConsistencyCheckStale", OF_CHECK)],
    },
    Trouble {
        name: "a backend that exports the callers' metrics by itself",
        plant: |series| {
            series.without(r#"job="ledger""#);
            series
                .caller_series("up", "", &constant(1.0))
                .caller_series("transaction_attempts_total", "", &growing(600.0))
                .caller_series("transaction_failures_total", "", &growing(180.0))
                .caller_series("transaction_duration_seconds_count", "", &growing(600.0))
                .caller_series("transaction_duration_seconds_bucket", r#"le="0.25""#, &growing(600.0));
        },
        fires: |_| vec![("TxnscopeLabelsMissing", r#"job="ledger""#)],
    },
];

/// With the driver's counters, the two sides differ as well.
fn drifted(
    environment: Environment,
    and: &[(&'static str, &'static str)],
) -> Vec<(&'static str, &'static str)> {
    let counters: &[_] = &[
        ("TransactionCountMismatch", r#"counter="committed""#),
        ("TransactionCountMismatch", r#"counter="started""#),
    ];
    [and, if environment.driver { counters } else { &[] }].concat()
}

fn firing(environment: Environment, fires: &[(&str, &str)]) -> Vec<String> {
    let deployment = match environment.first() {
        "" => String::new(),
        name => format!(r#",deployment="{name}""#),
    };
    fires.iter().map(|(name, labels)| format!(r#"{{alertname="{name}",{labels}{deployment}}}"#)).collect()
}

/// The rules, evaluated once a minute, which is how often there is a sample. Evaluating every 15 s, as in production,
/// has the same results in four times the time.
fn once_a_minute() -> (TempDir, Vec<String>) {
    let folder = TempDir::new().unwrap();
    let copied = files("rules", "yml").into_iter().map(|file| {
        let rules = std::fs::read_to_string(&file).unwrap();
        let copy = folder.path().join(file.file_name().unwrap());
        std::fs::write(&copy, rules.replace("interval: 15s\n", "interval: 1m\n")).unwrap();
        copy.to_string_lossy().into_owned()
    });
    let copied = copied.collect();
    (folder, copied)
}

/// One Prometheus monitors all environments, each as a cluster of its own.
async fn hold(environments: &[(Series, Vec<String>)]) {
    let (_folder, rules) = once_a_minute();
    let order = [
        "txnscope-objectives",
        "txnscope-burn-rates",
        "txnscope-burn-rates-long",
        "txnscope-transactions",
        "txnscope-accounting",
        "txnscope-transaction-alerts",
        "txnscope-mongodb-alerts",
        "txnscope-consistency-alerts",
        "txnscope-self-alerts",
    ];
    let input: Vec<_> = environments.iter().flat_map(|(series, _)| series.input()).collect();
    let expected: Vec<_> = environments.iter().map(|(series, firing)| series.expects(firing)).collect();
    let file = json!({
        "rule_files": rules, "evaluation_interval": "5m", "group_eval_order": order,
        "tests": [{"interval": "1m", "input_series": input, "promql_expr_test": expected}],
    });
    let place = tempfile::Builder::new().suffix(".yml").tempfile().unwrap();
    std::fs::write(place.path(), file.to_string()).unwrap();
    testkit::promtool::test_rules(&[place.path().to_owned()]).await.unwrap();
}

#[tokio::test]
async fn no_alert_fires_in_healthy_estates() {
    let environments = Environment::all()
        .into_iter()
        .map(|environment| (environment.healthy(format!("{environment:?}")), Vec::new()));
    hold(&environments.collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn each_trouble_fires_its_alert_once() {
    let environments = TROUBLES.iter().flat_map(|trouble| {
        Environment::some().into_iter().map(|environment| {
            let mut series = environment.healthy(format!("{}: {environment:?}", trouble.name));
            (trouble.plant)(&mut series);
            (series, firing(environment, &(trouble.fires)(environment)))
        })
    });
    hold(&environments.collect::<Vec<_>>()).await;
}

#[test]
fn matrix_covers_every_alert() {
    let planted: BTreeSet<_> = TROUBLES
        .iter()
        .flat_map(|trouble| (trouble.fires)(Environment::FULL))
        .map(|(name, _)| name)
        .collect();
    let known = super::files::alert_names();
    let lacking: Vec<_> = known
        .iter()
        .filter(|name| name.starts_with("MongoDB") || name.starts_with("Transaction"))
        .filter(|name| !planted.contains(name.as_str()))
        .collect();
    assert_eq!(lacking, ["TransactionTrafficVanished"], "that one takes a week of history");
}
