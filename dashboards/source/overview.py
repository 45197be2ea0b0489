"""Overview: the state of callers, drivers and servers, with links to each operation."""

from grafana_foundation_sdk.models.dashboard import ValueMap

import frame
from frame import Page, Row
from panels import (
    BAD,
    ENDINGS,
    GOOD,
    NEUTRAL,
    WARN,
    Column,
    Query,
    bars,
    heat,
    limit,
    number,
    states,
    steps,
    table,
    timeseries,
    words,
)

# Operations with a known outcome. There is no result for a backend that exports no outcomes: absence is not success.
ENDED = 'sum(increase(transaction_duration_seconds_count{OPS,outcome=~"succeeded|rejected|failed|panicked"}[$__range]))'
FAULTS = f"""
    (sum(increase(transaction_duration_seconds_count{{OPS,outcome=~"failed|panicked"}}[$__range])) or 0 * {ENDED})
    / ({ENDED} > 0)
"""

# All alerts except the watchdog, which always fires.
FIRING = 'ALERTS{alertstate="firing",severity!="none"}'
# Fires whenever the rules are loaded: without them, the absence of firing alerts has no meaning.
RULES = 'ALERTS{alertname="TxnscopeWatchdog",alertstate="firing"}'
NO_ALERTS: ValueMap = words(v0=("not firing", GOOD), v1=("firing", BAD))

SUMMARY = [
    number(
        "Success ratio",
        """Ratio of the operations in the selected time range that succeeded or were rejected by a business rule, without cancelled
        operations. A rejection (an insufficient balance, for example) is a correct response. The panel is empty for a backend that
        exports no outcome: txnscope preflight reports the missing label.""",
        "percentunit",
        f"1 - {FAULTS}",
        steps((None, BAD), (0.9, WARN), (0.99, GOOD)),
        width=3,
        decimals=2,
        nothing="no outcome",
    ),
    number(
        "Remaining error budget",
        """Remaining ratio of the failures that the objective allows, with the selected time range as the period. Below zero the
        objective is missed. The objective is the recording rule txnscope:objective:success_ratio.""",
        "percentunit",
        f"1 - ({FAULTS}) / (1 - scalar(txnscope:objective:success_ratio))",
        steps((None, BAD), (0, WARN), (0.25, GOOD)),
        width=3,
        decimals=0,
        nothing="no traffic",
    ),
    number(
        "Burn rate: failures",
        """Rate at which the worst operation consumed its error budget in the last hour: at 1 the budget lasts for exactly 30 days, at
        14.4 for two days, and the alert TransactionFailureBudgetBurnFast fires.""",
        "none",
        "max(job_operation:transaction_errors:ratio_rate1h{job=~\"$job\",operation=~\"$operation\"})"
        " / (1 - scalar(txnscope:objective:success_ratio))",
        steps((None, GOOD), (1, WARN), (14.4, BAD)),
        width=3,
        decimals=1,
        nothing="no rules",
    ),
    number(
        "Burn rate: latency",
        """Rate at which the worst operation consumed its latency budget in the last hour: at 1 the budget lasts for exactly 30 days.""",
        "none",
        "max(job_operation:transaction_slow:ratio_rate1h{job=~\"$job\",operation=~\"$operation\"})"
        " / (1 - scalar(txnscope:objective:latency_ratio))",
        steps((None, GOOD), (1, WARN), (14.4, BAD)),
        width=3,
        decimals=1,
        nothing="no rules",
    ),
    number(
        "Consistency violations",
        """Documents that violate a rule, over all consistency checks. Any value other than 0 is an incident. "not checked" is
        different from 0: no check has succeeded recently.""",
        "none",
        "sum(max by (deployment, rs, check) (mongodb_consistency_violations{SET}))",
        steps((None, GOOD), (1, BAD)),
        width=3,
        nothing="not checked",
    ),
    number(
        "Members down",
        "Members of the replica sets that did not respond to their last polls.",
        "none",
        'sum(1 - max by (deployment, rs, member) (mongodb_up{SET,member!=""}))',
        steps((None, GOOD), (1, BAD)),
        width=3,
        nothing="no sidecar",
    ),
    number(
        "Age of the oldest poll",
        """Time since the last successful poll of the member with the oldest data. Data older than three intervals is not
        exported.""",
        "s",
        'max(txnscope_poll_age_seconds{SET,collector="server_status"})',
        steps((None, GOOD), (30, WARN), (120, BAD)),
        width=3,
        decimals=0,
        nothing="no sidecar",
    ),
    number(
        "Operations in flight",
        "Operations that were admitted and have not ended.",
        "none",
        "sum(concurrent_operations{OPS})",
        steps((None, NEUTRAL)),
        width=3,
        nothing="no backend",
        spark=True,
    ),
    states(
        "Firing alerts",
        """Alerts that are firing, over time; empty if the rules of alerts/ are not loaded. The alerts are those of txnscope and all
        other alerts that this Prometheus evaluates. Each alert of txnscope has a runbook in its annotations.""",
        [
            Query(
                f"""max by (alertname, severity) ({FIRING})
                or (label_replace(0 * max({RULES}), "alertname", "no alert firing", "", "") unless on () {FIRING})""",
                "{{alertname}} {{severity}}",
            )
        ],
        [NO_ALERTS],
        width=24,
        height=4,
    ),
]

CALLER = [
    timeseries(
        "Operation rate",
        "Ended operations per second, with any outcome.",
        "ops",
        [Query("sum by (operation) (rate(transaction_duration_seconds_count{OPS}[$__rate_interval]))", "{{operation}}")],
        width=12,
        stack=True,
        table=True,
    ),
    timeseries(
        "Unsuccessful operations",
        """By outcome and reason. Rejected: a business rule refused the operation. Cancelled: the caller disconnected. Failed and
        panicked: a defect or an infrastructure error.""",
        "ops",
        [
            Query(
                "sum by (outcome, reason) (rate(transaction_failures_total{OPS}[$__rate_interval])) > 0",
                "{{outcome}}: {{reason}}",
            )
        ],
        width=12,
        stack=True,
        table=True,
        shades=ENDINGS,
    ),
    timeseries(
        "Operation duration",
        """From admission to the response, all outcomes. The dashed line is the objective for latency,
        txnscope:objective:latency_seconds.""",
        "s",
        [
            *[
                Query(
                    f"histogram_quantile({quantile}, sum by (le) (rate(transaction_duration_seconds_bucket{{OPS}}[$__rate_interval]))) >= 0",
                    name,
                )
                for quantile, name in [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")]
            ],
            limit("max(txnscope:objective:latency_seconds)", "objective"),
        ],
        width=12,
    ),
    heat(
        "Distribution of operation durations",
        "Number of operations by duration. Two bands are two kinds of operations, or operations with and without a wait.",
        "sum by (le) (increase(transaction_duration_seconds_bucket{OPS}[$__rate_interval]))",
    ),
]

ACCOUNTING = [
    bars(
        "Transactions: caller, driver and server",
        """Counts in the selected time range. Each difference should have an explanation: the driver starts more transactions than the
        callers requested because it retries, and commits fewer because business rules and write conflicts abort. The server
        counts the transactions of every client of the replica set, and does not distinguish operations.""",
        "short",
        [
            Query("sum(increase(transaction_attempts_total{OPS}[$__range]))", "caller: admitted", instant=True),
            Query(
                'sum(increase(transaction_duration_seconds_count{OPS,outcome="succeeded"}[$__range]))',
                "caller: succeeded",
                instant=True,
            ),
            Query("sum(increase(mongodb_client_transactions_started_total{OPS}[$__range]))", "driver: started", instant=True),
            Query("sum(increase(mongodb_client_transactions_committed_total{OPS}[$__range]))", "driver: committed", instant=True),
            Query("sum(max by (deployment, rs, member) (increase(mongodb_transactions_started_total{SET}[$__range])))", "server: started", instant=True),
            Query("sum(max by (deployment, rs, member) (increase(mongodb_transactions_committed_total{SET}[$__range])))", "server: committed", instant=True),
        ],
    ),
    timeseries(
        "Commits: driver vs. server",
        """Commits per second that the driver counts for all operations, and that the server counts. If the server counts more, a
        client commits without the library; if it counts fewer, commits were lost.""",
        "ops",
        [
            Query("sum(rate(mongodb_client_transactions_committed_total{BACKEND}[$__rate_interval]))", "driver"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_transactions_committed_total{SET}[$__rate_interval])))", "server"),
        ],
    ),
    timeseries(
        "Attempts per operation",
        """Transaction attempts of the driver per ended operation. Above 1 the driver retries: because of write conflicts, or because
        the replica set lost its primary. The dashed line is the alert threshold.""",
        "none",
        [
            Query(
                """sum by (operation) (rate(mongodb_client_transactions_started_total{OPS}[$__rate_interval]))
                / (sum by (operation) (rate(transaction_duration_seconds_count{OPS}[$__rate_interval])) > 0)""",
                "{{operation}}",
            ),
            limit("max(txnscope:threshold:retry_amplification_ratio)", "alert threshold"),
        ],
    ),
]

CONTENTION = [
    timeseries(
        "Aborted attempts",
        """Transaction attempts that the driver aborted, by reason. Write conflicts are retried; the reason application is a
        business rule.""",
        "ops",
        [
            Query(
                "sum by (reason) (rate(mongodb_client_transactions_aborted_total{OPS}[$__rate_interval])) > 0",
                "{{reason}}",
            )
        ],
        stack=True,
    ),
    timeseries(
        "Wasted time",
        """Seconds per second: 1 corresponds to one request without progress at any time. Time in attempts that did not commit, in
        backoff before the next attempt, and in the queue for the same key.""",
        "none",
        [
            Query("sum(rate(mongodb_client_transaction_wasted_seconds_total{OPS}[$__rate_interval]))", "wasted attempts"),
            Query("sum(rate(mongodb_client_transaction_backoff_seconds_total{OPS}[$__rate_interval]))", "backoff"),
            Query("sum(rate(mongodb_client_transaction_queue_wait_seconds_sum{OPS}[$__rate_interval]))", "queue wait"),
        ],
        stack=True,
        colors={"wasted attempts": BAD, "backoff": WARN, "queue wait": NEUTRAL},
    ),
    timeseries(
        "Write conflicts (server)",
        """Inside transactions, which then abort, and outside of transactions, where the server retries internally. The cause is a
        document that many operations write at the same time.""",
        "ops",
        [
            Query(
                """clamp_min(sum(max by (deployment, rs, member) (rate(mongodb_wiredtiger_update_conflicts_total{SET}[$__rate_interval])))
                - sum(max by (deployment, rs, member) (rate(mongodb_operation_write_conflicts_total{SET}[$__rate_interval]))), 0)""",
                "inside transactions",
            ),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_operation_write_conflicts_total{SET}[$__rate_interval])))", "outside"),
        ],
        colors={"inside transactions": WARN, "outside": NEUTRAL},
    ),
    timeseries(
        "Concurrency: operations and transactions",
        """Operations in flight, open attempts of the driver, transactions queued for the same key, and open transactions on the
        server. A transaction that is open on the server and not in the driver belongs to another client, or was lost.""",
        "none",
        [
            Query("sum(concurrent_operations{OPS})", "operations"),
            Query("sum(mongodb_client_transactions_open{OPS})", "driver: open"),
            Query("sum(mongodb_client_transactions_queued{OPS})", "driver: queued"),
            Query("sum(max by (deployment, rs, member) (mongodb_transactions_open{SET}))", "server: open"),
        ],
    ),
    timeseries(
        "Oldest open transaction",
        """Age of the oldest open transaction. While it is open, other clients cannot write the documents that it has written. The server
        aborts it at the dashed line. Inactive for long: the backend performs other slow work inside of the transaction.""",
        "s",
        [
            Query("max by (rs, state) (mongodb_transactions_oldest_open_seconds{SET})", "{{rs}} {{state}}"),
            limit("min(mongodb_transaction_lifetime_limit_seconds{SET})", "server limit"),
        ],
    ),
    timeseries(
        "Majority lag",
        "A commit with write concern majority waits for this lag. The dashed line is the alert threshold.",
        "s",
        [
            Query("max by (rs) (mongodb_replication_majority_lag_seconds{SET})", "{{rs}}"),
            limit("max(txnscope:threshold:majority_lag_seconds)", "alert threshold"),
        ],
    ),
]

COUNT = "sum by (operation) (increase(transaction_duration_seconds_count{OPS}[$__range]))"
# Operations with an outcome: without an outcome, the number of failures is unknown.
KNOWN = 'sum by (operation) (increase(transaction_duration_seconds_count{OPS,outcome!=""}[$__range]))'

OPERATIONS = [
    table(
        "Operations",
        """Values in the selected time range. Each name links to the dashboard of the operation. Attempts: transaction attempts of the
        driver per operation. Wasted time: seconds per second in attempts that did not commit.""",
        {"operation": "Operation"},
        [
            Column("Rate", "sum by (operation) (rate(transaction_duration_seconds_count{OPS}[$__range]))", "ops", decimals=2),
            Column(
                "Failed",
                f"""sum by (operation) (increase(transaction_duration_seconds_count{{OPS,outcome=~"failed|panicked"}}[$__range]))
                / ({COUNT} > 0) or 0 * {KNOWN}""",
                "percentunit",
                [(None, GOOD), (0.001, WARN), (0.01, BAD)],
                decimals=2,
            ),
            Column(
                "Rejected",
                f"""sum by (operation) (increase(transaction_duration_seconds_count{{OPS,outcome="rejected"}}[$__range]))
                / ({COUNT} > 0) or 0 * {KNOWN}""",
                "percentunit",
                decimals=1,
            ),
            *[
                Column(
                    f"p{quantile * 100:.0f}",
                    f"""histogram_quantile({quantile},
                    sum by (operation, le) (increase(transaction_duration_seconds_bucket{{OPS}}[$__range]))) >= 0""",
                    "s",
                )
                for quantile in (0.5, 0.99)
            ],
            Column(
                "Attempts",
                f"""sum by (operation) (increase(mongodb_client_transactions_started_total{{OPS}}[$__range]))
                / ({COUNT} > 0)""",
                "none",
                [(None, GOOD), (1.5, WARN), (2, BAD)],
                decimals=2,
            ),
            Column(
                "Wasted time",
                "sum by (operation) (rate(mongodb_client_transaction_wasted_seconds_total{OPS}[$__range]))",
                "none",
                decimals=3,
            ),
            Column("In flight", "sum by (operation) (concurrent_operations{OPS})", "none"),
        ],
        link=(
            "operation",
            "Open the dashboard of the operation",
            "/d/txnscope-operation?var-operation=${__value.raw}&${__url_time_range}"
            "&${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${deployment:queryparam}&${rs:queryparam}&${sidecar:queryparam}",
        ),
        wide="operation",
        sort="Rate",
        height=10,
    )
]

PAGE = Page(
    uid="txnscope-overview",
    title="txnscope / Overview",
    about="""Transactions by the callers' requests, the driver's attempts and the server's counters. Start here.
    Generated: change dashboards/source, then run cargo xtask gen.""",
    variables=[frame.job(), frame.instance(), frame.operation(), frame.deployment(), frame.rs(), frame.sidecar()],
    annotations=[frame.deploys(), frame.elections(), frame.alerts()],
    rows=[
        Row("Summary", SUMMARY),
        Row("Callers", CALLER),
        Row("Accounting", ACCOUNTING),
        Row("Contention", CONTENTION),
        Row("Operations", OPERATIONS),
    ],
)
