"""Data consistency: violations of the checks, and the age of their results."""

import frame
from frame import Page, Row
from panels import BAD, GOOD, NEUTRAL, WARN, Column, Query, number, states, steps, table, timeseries

STALE = """
    (time() - max by (deployment, rs, check) (mongodb_consistency_last_success_timestamp_seconds{CHECK}))
    > 3 * max by (deployment, rs, check) (mongodb_consistency_interval_seconds{CHECK})
"""

NOW = [
    *[
        number(
            title,
            f"""Documents that violate a check of severity {severity}, by the last successful run of each check. "not checked"
            is different from 0.""",
            "none",
            f'sum(max by (deployment, rs, check) (mongodb_consistency_violations{{CHECK,severity="{severity}"}}))',
            steps((None, GOOD), (1, color)),
            nothing="not checked",
        )
        for severity, title, color in [
            ("critical", "Critical violations", BAD),
            ("warning", "Warning violations", WARN),
        ]
    ],
    number(
        "Configured checks",
        "Number of configured checks.",
        "none",
        "count(max by (deployment, rs, check) (mongodb_consistency_interval_seconds{CHECK}))",
        steps((None, NEUTRAL)),
        nothing="not configured",
    ),
    number(
        "Stale checks",
        "Checks that have not succeeded for three of their intervals: their current violations are unknown.",
        "none",
        f"count({STALE}) or 0 * count(mongodb_consistency_interval_seconds{{CHECK}})",
        steps((None, GOOD), (1, BAD)),
        nothing="not configured",
    ),
    number(
        "Age of the oldest check result",
        "Time since the last success of the check with the oldest result.",
        "s",
        "max(time() - max by (deployment, rs, check) (mongodb_consistency_last_success_timestamp_seconds{CHECK}))",
        steps((None, NEUTRAL)),
        nothing="not configured",
    ),
    number(
        "Empty collections",
        "Checks whose collection had no documents: their result has no meaning. The name of the collection may be misspelled.",
        "none",
        "sum(max by (deployment, rs, check) (mongodb_consistency_documents_examined{CHECK}) == bool 0)",
        steps((None, GOOD), (1, WARN)),
        nothing="not checked",
    ),
]

DATA = [
    states(
        "Violations by check over time",
        "Green: clean, red: violated. A gap: no run has succeeded for three intervals, so the state is unknown.",
        [Query("max by (deployment, rs, check) (mongodb_consistency_violations{CHECK})", "{{check}}")],
        [],
        steps((None, GOOD), (1, BAD)),
        width=24,
        height=10,
    ),
    table(
        "Checks",
        "One row for each check. txnscope audit prints the documents; the runbooks describe how to correct them.",
        {"rs": "Replica set", "check": "Check", "severity": "Severity"},
        [
            Column(
                "Violations",
                "max by (deployment, rs, check, severity) (mongodb_consistency_violations{CHECK})",
                "none",
                [(None, GOOD), (1, BAD)],
            ),
            Column(
                "Last success",
                "time() - max by (deployment, rs, check) (mongodb_consistency_last_success_timestamp_seconds{CHECK})",
                "s",
                decimals=0,
            ),
            Column("Interval", "max by (deployment, rs, check) (mongodb_consistency_interval_seconds{CHECK})", "s"),
            Column("Duration", "max by (deployment, rs, check) (mongodb_consistency_check_duration_seconds{CHECK})", "s"),
            Column("Documents", "max by (deployment, rs, check) (mongodb_consistency_documents_examined{CHECK})", "short"),
            Column(
                "Errors",
                "sum by (deployment, rs, check) (increase(mongodb_consistency_check_errors_total{CHECK}[$__range]))",
                "none",
                [(None, GOOD), (1, WARN)],
                decimals=0,
            ),
        ],
        wide="check",
        sort="Violations",
        height=12,
    ),
]

RUNS = [
    timeseries(
        "Violations by check",
        "Documents that violate a rule, by check.",
        "none",
        [Query("max by (check) (mongodb_consistency_violations{CHECK})", "{{check}}")],
        width=12,
        table=True,
    ),
    timeseries(
        "Failed check runs",
        "By check and reason. A failed run has no result about the data.",
        "none",
        [
            Query(
                "sum by (check, reason) (increase(mongodb_consistency_check_errors_total{CHECK}[$__rate_interval])) > 0",
                "{{check}}: {{reason}}",
            ),
            Query("sum(increase(mongodb_consistency_check_errors_total{CHECK}[$__rate_interval]))", "all"),
        ],
        width=12,
        table=True,
        colors={"all": NEUTRAL},
    ),
    timeseries(
        "Check duration",
        "A check whose duration approaches its max_time needs an index.",
        "s",
        [Query("max by (check) (mongodb_consistency_check_duration_seconds{CHECK})", "{{check}}")],
        width=12,
        table=True,
    ),
    timeseries(
        "Examined documents",
        "Documents in the collection of each check.",
        "short",
        [Query("max by (check) (mongodb_consistency_documents_examined{CHECK})", "{{check}}")],
        width=12,
        table=True,
    ),
]

ACCOUNTING = [
    timeseries(
        "Commits: driver vs. server",
        """Commits per second that the driver counts for all operations, and that the server counts. If the server counts more, a
        client commits without the library, and may violate a rule that the backend enforces.""",
        "ops",
        [
            Query("sum(rate(mongodb_client_transactions_committed_total{BACKEND}[$__rate_interval]))", "driver"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_transactions_committed_total{SET}[$__rate_interval])))", "server"),
        ],
        width=12,
    ),
    timeseries(
        "Started: driver vs. server",
        """Transactions per second: the driver's attempts without those that the server did not start, and the server's
        transactions.""",
        "ops",
        [
            Query(
                """sum(rate(mongodb_client_transactions_started_total{BACKEND}[$__rate_interval]))
                - (sum(rate(mongodb_client_transactions_not_started_total{BACKEND}[$__rate_interval]))
                or 0 * sum(rate(mongodb_client_transactions_started_total{BACKEND}[$__rate_interval])))""",
                "driver",
            ),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_transactions_started_total{SET}[$__rate_interval])))", "server"),
        ],
        width=6,
    ),
    timeseries(
        "Unknown commits",
        "Attempts whose commit was sent and whose result is unknown: each may have taken effect. By operation.",
        "none",
        [
            Query(
                "sum by (operation) (increase(mongodb_client_transactions_unknown_total{BACKEND}[$__rate_interval]))",
                "{{operation}}",
            )
        ],
        width=6,
    ),
]

PAGE = Page(
    uid="txnscope-consistency",
    title="txnscope / Data consistency",
    about="""Violations of the consistency checks, the age of their results, and the accounting of driver and server.
    Generated: change dashboards/source, then run cargo xtask gen.""",
    variables=[frame.deployment(), frame.rs(), frame.sidecar(), frame.check(), frame.job(), frame.instance()],
    annotations=[frame.deploys(), frame.elections(), frame.alerts()],
    rows=[
        Row("Summary (requires checks.file)", NOW),
        Row("Data", DATA),
        Row("Check runs", RUNS),
        Row("Accounting", ACCOUNTING),
    ],
)
