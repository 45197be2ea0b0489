"""Overview: is it all right, and if not, whose is it?"""

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

# Of the operations whose outcome is known. Where a backend exports no outcomes, nothing: absence is no success.
ENDED = 'sum(increase(transaction_duration_seconds_count{OPS,outcome=~"succeeded|rejected|failed|panicked"}[$__range]))'
FAULTS = f"""
    (sum(increase(transaction_duration_seconds_count{{OPS,outcome=~"failed|panicked"}}[$__range])) or 0 * {ENDED})
    / ({ENDED} > 0)
"""

# All but the watchdog, which always fires.
FIRING = 'ALERTS{alertstate="firing",severity!="none"}'
# It always fires where the rules are loaded: that nothing fires without them says nothing.
RULES = 'ALERTS{alertname="TxnscopeWatchdog",alertstate="firing"}'
NOTHING_FIRES: ValueMap = words(v0=("quiet", GOOD), v1=("firing", BAD))

RIGHT = [
    number(
        "Success ratio",
        """Operations in this time that succeeded or were rejected by a business rule, of all but those that their
        callers left. A rejection (insufficient balance, say) is a right answer. Nothing is shown for a backend that exports no
        outcome: txnscope preflight says which label it lacks.""",
        "percentunit",
        f"1 - {FAULTS}",
        steps((None, BAD), (0.9, WARN), (0.99, GOOD)),
        width=3,
        decimals=2,
        nothing="no outcome",
    ),
    number(
        "Error budget left",
        """What is left of the failures that the objective allows, if this time were the whole period. Below zero the
        objective is missed. The objective is the recording rule txnscope:objective:success_ratio.""",
        "percentunit",
        f"1 - ({FAULTS}) / (1 - scalar(txnscope:objective:success_ratio))",
        steps((None, BAD), (0, WARN), (0.25, GOOD)),
        width=3,
        decimals=0,
        nothing="no traffic",
    ),
    number(
        "Burn rate, failures",
        """How fast the worst operation used up its budget for failures in the last hour: at 1 it lasts for exactly 30 days, at 14.4 for
        two, and somebody is paged.""",
        "none",
        "max(job_operation:transaction_errors:ratio_rate1h{job=~\"$job\",operation=~\"$operation\"})"
        " / (1 - scalar(txnscope:objective:success_ratio))",
        steps((None, GOOD), (1, WARN), (14.4, BAD)),
        width=3,
        decimals=1,
        nothing="no rules",
    ),
    number(
        "Burn rate, latency",
        """How fast the worst operation used up its budget for slow answers in the last hour: at 1 it lasts for exactly 30 days.""",
        "none",
        "max(job_operation:transaction_slow:ratio_rate1h{job=~\"$job\",operation=~\"$operation\"})"
        " / (1 - scalar(txnscope:objective:latency_ratio))",
        steps((None, GOOD), (1, WARN), (14.4, BAD)),
        width=3,
        decimals=1,
        nothing="no rules",
    ),
    number(
        "Violations",
        """Documents that break a rule, over all checks on the data. Anything but 0 is an incident, whatever else is
        green. "not checked" is no 0: no check has succeeded lately.""",
        "none",
        "sum(max by (deployment, rs, check) (mongodb_consistency_violations{SET}))",
        steps((None, GOOD), (1, BAD)),
        width=3,
        nothing="not checked",
    ),
    number(
        "Members down",
        "Members of the replica sets that did not answer their last polls.",
        "none",
        'sum(1 - max by (deployment, rs, member) (mongodb_up{SET,member!=""}))',
        steps((None, GOOD), (1, BAD)),
        width=3,
        nothing="no sidecar",
    ),
    number(
        "Age of the data",
        """Time since the sidecar last heard from the member that it has not heard from for longest. What is older than
        three polls is not shown at all.""",
        "s",
        'max(txnscope_poll_age_seconds{SET,collector="server_status"})',
        steps((None, GOOD), (30, WARN), (120, BAD)),
        width=3,
        decimals=0,
        nothing="no sidecar",
    ),
    number(
        "In flight",
        "Operations that were admitted and have not ended.",
        "none",
        "sum(concurrent_operations{OPS})",
        steps((None, NEUTRAL)),
        width=3,
        nothing="no backend",
        spark=True,
    ),
    states(
        "Alerts",
        """What fires, and since when; empty where the rules of alerts/ are not loaded. The alerts come from alerts/ of txnscope and whatever else this Prometheus
        evaluates. Each has a runbook in its annotations.""",
        [
            Query(
                f"""max by (alertname, severity) ({FIRING})
                or (label_replace(0 * max({RULES}), "alertname", "nothing fires", "", "") unless on () {FIRING})""",
                "{{alertname}} {{severity}}",
            )
        ],
        [NOTHING_FIRES],
        width=24,
        height=4,
    ),
]

CALLER = [
    timeseries(
        "Operations ended",
        "Operations a second, whatever became of them.",
        "ops",
        [Query("sum by (operation) (rate(transaction_duration_seconds_count{OPS}[$__rate_interval]))", "{{operation}}")],
        width=12,
        stack=True,
        table=True,
    ),
    timeseries(
        "Operations that did not succeed",
        """By outcome and reason. Rejected: a business rule said no. Cancelled: the caller left. Failed and panicked are
        ours to mend.""",
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
        "Duration",
        """From admission to the answer, all outcomes. The dashed line is the objective for latency,
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
        "Durations",
        "How many operations took how long. Two bands are two kinds of operations, or those that waited and those that did not.",
        "sum by (le) (increase(transaction_duration_seconds_bucket{OPS}[$__rate_interval]))",
    ),
]

BOOKS = [
    bars(
        "From the caller to the server",
        """In this time. Each step down should be explained: the driver starts more than the callers asked for because it
        repeats, and commits less because business rules and conflicts abort. The server's side counts every client of
        the replica set, and does not know operations.""",
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
        "Commits by both books",
        """The driver's of all operations, and the server's. Where the server has more, something commits that the library
        does not see; where it has less, commits were lost.""",
        "ops",
        [
            Query("sum(rate(mongodb_client_transactions_committed_total{BACKEND}[$__rate_interval]))", "driver"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_transactions_committed_total{SET}[$__rate_interval])))", "server"),
        ],
    ),
    timeseries(
        "Attempts for each operation",
        """Transactions that the driver started for each operation that ended. Above 1 work is done again: somebody
        conflicts, or the server lost its primary. The dashed line is the alert's threshold.""",
        "none",
        [
            Query(
                """sum by (operation) (rate(mongodb_client_transactions_started_total{OPS}[$__rate_interval]))
                / (sum by (operation) (rate(transaction_duration_seconds_count{OPS}[$__rate_interval])) > 0)""",
                "{{operation}}",
            ),
            limit("max(txnscope:threshold:retry_amplification_ratio)", "alert"),
        ],
    ),
]

CONTENTION = [
    timeseries(
        "Attempts aborted",
        "The driver's attempts that changed nothing, by reason. Write conflicts are repeated; application is a business rule.",
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
        "Time that was lost",
        """Seconds a second: 1 is one request that makes no progress all the time. Wasted in attempts that did not commit,
        in pauses before the next, and in line for the same key.""",
        "none",
        [
            Query("sum(rate(mongodb_client_transaction_wasted_seconds_total{OPS}[$__rate_interval]))", "wasted"),
            Query("sum(rate(mongodb_client_transaction_backoff_seconds_total{OPS}[$__rate_interval]))", "pauses"),
            Query("sum(rate(mongodb_client_transaction_queue_wait_seconds_sum{OPS}[$__rate_interval]))", "in line"),
        ],
        stack=True,
        colours={"wasted": BAD, "pauses": WARN, "in line": NEUTRAL},
    ),
    timeseries(
        "Write conflicts on the server",
        """Inside transactions, which then abort, and outside, where the server repeats by itself. They point at a
        document that many want at once.""",
        "ops",
        [
            Query(
                """clamp_min(sum(max by (deployment, rs, member) (rate(mongodb_wiredtiger_update_conflicts_total{SET}[$__rate_interval])))
                - sum(max by (deployment, rs, member) (rate(mongodb_operation_write_conflicts_total{SET}[$__rate_interval]))), 0)""",
                "inside transactions",
            ),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_operation_write_conflicts_total{SET}[$__rate_interval])))", "outside"),
        ],
        colours={"inside transactions": WARN, "outside": NEUTRAL},
    ),
    timeseries(
        "In flight and open",
        """What is going on at the same time: operations, the driver's attempts, those in line for the same key, and what
        the server has open. Open on the server and not in the driver is somebody else's, or lost.""",
        "none",
        [
            Query("sum(concurrent_operations{OPS})", "operations"),
            Query("sum(mongodb_client_transactions_open{OPS})", "driver: open"),
            Query("sum(mongodb_client_transactions_queued{OPS})", "driver: in line"),
            Query("sum(max by (deployment, rs, member) (mongodb_transactions_open{SET}))", "server: open"),
        ],
    ),
    timeseries(
        "Oldest open transaction",
        """While it is open, what it has written is locked for everybody else. The server ends it at the dashed line. Idle
        for long: the backend holds it across something slow.""",
        "s",
        [
            Query("max by (rs, state) (mongodb_transactions_oldest_open_seconds{SET})", "{{rs}} {{state}}"),
            limit("min(mongodb_transaction_lifetime_limit_seconds{SET})", "the server's limit"),
        ],
    ),
    timeseries(
        "How far the majority is behind",
        "A commit with write concern majority waits for it. The dashed line is the alert's threshold.",
        "s",
        [
            Query("max by (rs) (mongodb_replication_majority_lag_seconds{SET})", "{{rs}}"),
            limit("max(txnscope:threshold:majority_lag_seconds)", "alert"),
        ],
    ),
]

COUNT = "sum by (operation) (increase(transaction_duration_seconds_count{OPS}[$__range]))"
# Of those with an outcome: where there is none, it is not known how many are faults.
KNOWN = 'sum by (operation) (increase(transaction_duration_seconds_count{OPS,outcome!=""}[$__range]))'

OPERATIONS = [
    table(
        "Operations in this time",
        """Each name leads to the page of that operation. Attempts: transactions that the driver started for each
        operation. Wasted: seconds a second in attempts that did not commit.""",
        {"operation": "Operation"},
        [
            Column("Ended", "sum by (operation) (rate(transaction_duration_seconds_count{OPS}[$__range]))", "ops", decimals=2),
            Column(
                "Faults",
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
                "Wasted",
                "sum by (operation) (rate(mongodb_client_transaction_wasted_seconds_total{OPS}[$__range]))",
                "none",
                decimals=3,
            ),
            Column("In flight", "sum by (operation) (concurrent_operations{OPS})", "none"),
        ],
        link=(
            "operation",
            "Open the operation",
            "/d/txnscope-operation?var-operation=${__value.raw}&${__url_time_range}"
            "&${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${deployment:queryparam}&${rs:queryparam}&${sidecar:queryparam}",
        ),
        wide="operation",
        sort="Ended",
        height=10,
    )
]

PAGE = Page(
    uid="txnscope-overview",
    title="txnscope / Overview",
    about="""Transactions from the caller's request, the driver's attempts and the server's books. Start here.
    Generated: change dashboards/source, then run cargo xtask gen.""",
    variables=[frame.job(), frame.instance(), frame.operation(), frame.deployment(), frame.rs(), frame.sidecar()],
    annotations=[frame.deploys(), frame.elections(), frame.alerts()],
    rows=[
        Row("Is it all right?", RIGHT),
        Row("What the callers get", CALLER),
        Row("From the caller to the server", BOOKS),
        Row("Do transactions get in each other's way?", CONTENTION),
        Row("Whose is it?", OPERATIONS),
    ],
)
