"""Data consistency: whether the money is right, and when that was last looked at."""

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
            f"""Documents that break a rule of severity {severity}, by the last successful run of each check. "not checked"
            is no 0.""",
            "none",
            f'sum(max by (deployment, rs, check) (mongodb_consistency_violations{{CHECK,severity="{severity}"}}))',
            steps((None, GOOD), (1, color)),
            nothing="not checked",
        )
        for severity, title, color in [
            ("critical", "Critical violations", BAD),
            ("warning", "Warnings", WARN),
        ]
    ],
    number(
        "Checks",
        "How many checks are to run.",
        "none",
        "count(max by (deployment, rs, check) (mongodb_consistency_interval_seconds{CHECK}))",
        steps((None, NEUTRAL)),
        nothing="none given",
    ),
    number(
        "Stale checks",
        "Checks that have not succeeded for three of their intervals: what they would find is not known.",
        "none",
        f"count({STALE}) or 0 * count(mongodb_consistency_interval_seconds{{CHECK}})",
        steps((None, GOOD), (1, BAD)),
        nothing="none given",
    ),
    number(
        "Looked at longest ago",
        "Time since the check that was not run for longest last succeeded.",
        "s",
        "max(time() - max by (deployment, rs, check) (mongodb_consistency_last_success_timestamp_seconds{CHECK}))",
        steps((None, NEUTRAL)),
        nothing="none given",
    ),
    number(
        "Empty collections",
        "Checks whose collection had no document: they prove nothing. A name may be mistyped.",
        "none",
        "sum(max by (deployment, rs, check) (mongodb_consistency_documents_examined{CHECK}) == bool 0)",
        steps((None, GOOD), (1, WARN)),
        nothing="not checked",
    ),
]

FOUND = [
    states(
        "Violations of each check",
        "Green is clean, red is violated. A gap: no run has succeeded for three intervals, so nothing is known.",
        [Query("max by (deployment, rs, check) (mongodb_consistency_violations{CHECK})", "{{check}}")],
        [],
        steps((None, GOOD), (1, BAD)),
        width=24,
        height=10,
    ),
    table(
        "Checks",
        "One row for each check. txnscope audit prints the documents; the runbooks say what to do with them.",
        {"rs": "Set", "check": "Check", "severity": "Severity"},
        [
            Column(
                "Violations",
                "max by (deployment, rs, check, severity) (mongodb_consistency_violations{CHECK})",
                "none",
                [(None, GOOD), (1, BAD)],
            ),
            Column(
                "Succeeded",
                "time() - max by (deployment, rs, check) (mongodb_consistency_last_success_timestamp_seconds{CHECK})",
                "s",
                decimals=0,
            ),
            Column("Interval", "max by (deployment, rs, check) (mongodb_consistency_interval_seconds{CHECK})", "s"),
            Column("Took", "max by (deployment, rs, check) (mongodb_consistency_check_duration_seconds{CHECK})", "s"),
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
        "Violations",
        "Documents that break a rule, by check.",
        "none",
        [Query("max by (check) (mongodb_consistency_violations{CHECK})", "{{check}}")],
        width=12,
        table=True,
    ),
    timeseries(
        "Runs that failed",
        "A check that could not run says nothing about the data. By check and reason.",
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
        colours={"all": NEUTRAL},
    ),
    timeseries(
        "How long they take",
        "A check that grows towards its max_time wants an index.",
        "s",
        [Query("max by (check) (mongodb_consistency_check_duration_seconds{CHECK})", "{{check}}")],
        width=12,
        table=True,
    ),
    timeseries(
        "Documents looked at",
        "In the collection of each check.",
        "short",
        [Query("max by (check) (mongodb_consistency_documents_examined{CHECK})", "{{check}}")],
        width=12,
        table=True,
    ),
]

BOOKS = [
    timeseries(
        "Commits by both books",
        """The driver's of all operations, and the server's. Where the server has more, something commits that the library
        does not see: it may break a rule that the backend keeps.""",
        "ops",
        [
            Query("sum(rate(mongodb_client_transactions_committed_total{BACKEND}[$__rate_interval]))", "driver"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_transactions_committed_total{SET}[$__rate_interval])))", "server"),
        ],
        width=12,
    ),
    timeseries(
        "Begun by both books",
        "The driver's attempts, less those that the server never began, and the server's.",
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
        "Commits not known",
        "Attempts whose commit was sent and whose result was not learnt: each may have moved money. By operation.",
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
    about="""Whether what must hold of the data holds, when that was last looked at, and whether the books agree.
    Generated: change dashboards/source, then run cargo xtask gen.""",
    variables=[frame.deployment(), frame.rs(), frame.sidecar(), frame.check(), frame.job(), frame.instance()],
    annotations=[frame.deploys(), frame.elections(), frame.alerts()],
    rows=[
        Row("Is the money right? (wants checks.file)", NOW),
        Row("What was found", FOUND),
        Row("The runs", RUNS),
        Row("Do the books agree?", BOOKS),
    ],
)
