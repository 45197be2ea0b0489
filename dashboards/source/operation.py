"""One operation: what its callers got, what the driver did for it, and what it holds on the server."""

import frame
from frame import Page, Row
from panels import BAD, ENDINGS, GOOD, NEUTRAL, OUTCOMES, WARN, Query, heat, limit, number, steps, timeseries

# Of the operations whose outcome is known. Where a backend exports no outcomes, nothing: absence is no success.
ENDED = 'sum(increase(transaction_duration_seconds_count{ONE,outcome=~"succeeded|rejected|failed|panicked"}[$__range]))'
FAULTS = f'sum(increase(transaction_duration_seconds_count{{ONE,outcome=~"failed|panicked"}}[$__range])) or 0 * {ENDED}'


def quantile(of: float, family: str, *, by: str = "", more: str = "", window: str = "[$__rate_interval]") -> str:
    """A quantile of one of the operation's histograms; nothing, and no NaN, where nothing was observed."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({of}, sum by ({labels}) (rate({family}_bucket{{ONE{more}}}{window}))) >= 0"


SUMMARY = [
    number(
        "Ended",
        "Operations a second, over this time.",
        "ops",
        "sum(rate(transaction_duration_seconds_count{ONE}[$__range]))",
        steps((None, NEUTRAL)),
        decimals=2,
        nothing="no traffic",
    ),
    number(
        "Success ratio",
        """Those that succeeded or were rejected, of all but those that their callers left. Nothing is shown for a backend that
        exports no outcome: txnscope preflight says which label it lacks.""",
        "percentunit",
        f"1 - ({FAULTS}) / ({ENDED} > 0)",
        steps((None, BAD), (0.9, WARN), (0.99, GOOD)),
        decimals=2,
        nothing="no outcome",
    ),
    number(
        "Error budget left",
        "What is left of the failures that txnscope:objective:success_ratio allows, if this time were the whole period.",
        "percentunit",
        f"1 - (({FAULTS}) / ({ENDED} > 0)) / (1 - scalar(txnscope:objective:success_ratio))",
        steps((None, BAD), (0, WARN), (0.25, GOOD)),
        decimals=0,
        nothing="no traffic",
    ),
    number(
        "p99",
        "The time within which 99 of 100 ended, over this time.",
        "s",
        quantile(0.99, "transaction_duration_seconds", window="[$__range]"),
        steps((None, NEUTRAL)),
        nothing="no traffic",
    ),
    number(
        "Attempts for each",
        "Transactions that the driver started for each operation that ended. Above 1 work is done again.",
        "none",
        "sum(increase(mongodb_client_transactions_started_total{ONE}[$__range]))"
        " / (sum(increase(transaction_duration_seconds_count{ONE}[$__range])) > 0)",
        steps((None, GOOD), (1.5, WARN), (2, BAD)),
        decimals=2,
        nothing="no transaction",
    ),
    number(
        "Commits not known",
        """Attempts in this time whose commit was sent and whose result was not learnt. Whether the money moved must be
        looked up, by idempotency key: see the runbook.""",
        "none",
        "sum(increase(mongodb_client_transactions_unknown_total{ONE}[$__range]))",
        steps((None, GOOD), (0.5, BAD)),
        decimals=0,
        nothing="no transaction",
    ),
    number(
        "Error budget left, over 30 days",
        """What is left of the failures that the objective allows in 30 days, as far as there is history: see beside. Built from
        rules of alerts/ that record the rates of five minutes.""",
        "percentunit",
        "1 - sum(sum_over_time(job_operation:transaction_errors:rate5m{job=~\"$job\",operation=\"$operation\"}[30d]))"
        " / (sum(sum_over_time(job_operation:transaction_ended:rate5m{job=~\"$job\",operation=\"$operation\"}[30d])) > 0)"
        " / (1 - scalar(txnscope:objective:success_ratio))",
        steps((None, BAD), (0, WARN), (0.25, GOOD)),
        width=12,
        decimals=0,
        nothing="no rules",
    ),
    number(
        "History that is there",
        """How much of the 30 days the number beside covers. Prometheus keeps 15 days, unless it is started with
        --storage.tsdb.retention.time=31d or more.""",
        "d",
        "max(job_operation:transaction_ended:history_days{job=~\"$job\",operation=\"$operation\"})",
        steps((None, WARN), (29, GOOD)),
        width=12,
        decimals=1,
        nothing="no rules",
    ),
]

CALLER = [
    timeseries(
        "Outcomes",
        "What became of the operation.",
        "ops",
        [Query("sum by (outcome) (rate(transaction_duration_seconds_count{ONE}[$__rate_interval]))", "{{outcome}}")],
        stack=True,
        colours=OUTCOMES,
    ),
    timeseries(
        "Why it did not succeed",
        "By outcome and reason: the closed set of docs/metrics.md, and the reasons that the application declares.",
        "ops",
        [
            Query(
                "sum by (outcome, reason) (rate(transaction_failures_total{ONE}[$__rate_interval])) > 0",
                "{{outcome}}: {{reason}}",
            )
        ],
        stack=True,
        shades=ENDINGS,
    ),
    timeseries(
        "Admitted and in flight",
        "What comes in a second, and how many are there at once. In flight that grows while what comes in does not: it is stuck.",
        "short",
        [
            Query("sum(rate(transaction_attempts_total{ONE}[$__rate_interval]))", "admitted a second"),
            Query("sum(concurrent_operations{ONE})", "in flight"),
        ],
    ),
    timeseries(
        "Duration",
        "All outcomes. The dashed line is the objective, txnscope:objective:latency_seconds.",
        "s",
        [
            *[
                Query(quantile(of, "transaction_duration_seconds"), name)
                for of, name in [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")]
            ],
            limit("max(txnscope:objective:latency_seconds)", "objective"),
        ],
    ),
    timeseries(
        "Duration, by outcome",
        "The 99th percentile of each. Rejections are quick; failures that are slow have waited for something.",
        "s",
        [Query(quantile(0.99, "transaction_duration_seconds", by="outcome"), "{{outcome}}")],
        colours=OUTCOMES,
    ),
    heat(
        "Durations",
        "How many took how long.",
        "sum by (le) (increase(transaction_duration_seconds_bucket{ONE}[$__rate_interval]))",
        width=8,
    ),
]

DRIVER = [
    timeseries(
        "Attempts",
        "What became of each attempt at a transaction.",
        "ops",
        [
            Query("sum(rate(mongodb_client_transactions_committed_total{ONE}[$__rate_interval]))", "committed"),
            Query("sum(rate(mongodb_client_transactions_aborted_total{ONE}[$__rate_interval]))", "aborted"),
            Query("sum(rate(mongodb_client_transactions_unknown_total{ONE}[$__rate_interval]))", "unknown"),
        ],
        stack=True,
        colours=OUTCOMES,
    ),
    timeseries(
        "Attempts aborted",
        "By reason. Each of these changed nothing; some were tried again.",
        "ops",
        [
            Query(
                "sum by (reason) (rate(mongodb_client_transactions_aborted_total{ONE}[$__rate_interval])) > 0",
                "{{reason}}",
            )
        ],
        stack=True,
    ),
    timeseries(
        "Started, open, in line",
        "Attempts a second; attempts that are open; transactions that wait here for another with the same key.",
        "short",
        [
            Query("sum(rate(mongodb_client_transactions_started_total{ONE}[$__rate_interval]))", "started a second"),
            Query("sum(mongodb_client_transactions_open{ONE})", "open"),
            Query("sum(mongodb_client_transactions_queued{ONE})", "in line"),
        ],
    ),
    timeseries(
        "Duration of an attempt",
        "From its first statement to its end: the median and the 99th percentile, by outcome.",
        "s",
        [
            Query(quantile(0.5, "mongodb_client_transaction_duration_seconds", by="outcome"), "{{outcome}} p50"),
            Query(quantile(0.99, "mongodb_client_transaction_duration_seconds", by="outcome"), "{{outcome}} p99"),
        ],
    ),
    timeseries(
        "Duration of a commit",
        "From the first commit command to its result. Most of it is the wait for the majority.",
        "s",
        [
            Query(quantile(of, "mongodb_client_transaction_commit_duration_seconds"), name)
            for of, name in [(0.5, "p50"), (0.99, "p99")]
        ],
    ),
    timeseries(
        "Wait in line",
        "How long transactions with a key waited for those before them.",
        "s",
        [
            Query(quantile(of, "mongodb_client_transaction_queue_wait_seconds"), name)
            for of, name in [(0.5, "p50"), (0.99, "p99")]
        ],
    ),
    timeseries(
        "Time that was lost",
        "Seconds a second: wasted in attempts that did not commit, in pauses before the next, and in line for the same key.",
        "none",
        [
            Query("sum(rate(mongodb_client_transaction_wasted_seconds_total{ONE}[$__rate_interval]))", "wasted"),
            Query("sum(rate(mongodb_client_transaction_backoff_seconds_total{ONE}[$__rate_interval]))", "pauses"),
            Query("sum(rate(mongodb_client_transaction_queue_wait_seconds_sum{ONE}[$__rate_interval]))", "in line"),
        ],
        stack=True,
        colours={"wasted": BAD, "pauses": WARN, "in line": NEUTRAL},
    ),
    timeseries(
        "Commits sent again, commits not known",
        "A commit is repeated while its result is not known. When it stays unknown, somebody has to look.",
        "ops",
        [
            Query("sum(rate(mongodb_client_transaction_commit_retries_total{ONE}[$__rate_interval]))", "sent again"),
            Query("sum(rate(mongodb_client_transactions_unknown_total{ONE}[$__rate_interval]))", "not known"),
        ],
        colours={"sent again": WARN, "not known": BAD},
    ),
    timeseries(
        "Commands that the driver repeats: overloaded server",
        """The server refuses commands because it has too much to do (code 462), and the driver sends them again by itself. Only
        the listener sees that.""",
        "ops",
        [Query("sum(rate(mongodb_client_overload_retries_total{ONE}[$__rate_interval]))", "repeats")],
        colours={"repeats": WARN},
    ),
    timeseries(
        "Ended aside, never begun",
        """Transactions that were ended aside from their request, by result: left_to_server is left for the server to end. And
        attempts that the server never began, by cause, which its books therefore lack; lost ones may have begun.""",
        "ops",
        [
            Query(
                "sum by (result) (rate(mongodb_client_transaction_cleanups_total{ONE}[$__rate_interval]))",
                "ended aside: {{result}}",
            ),
            Query(
                "sum by (cause) (rate(mongodb_client_transactions_not_started_total{ONE}[$__rate_interval]))",
                "never begun: {{cause}}",
            ),
        ],
    ),
]

SERVER = [
    timeseries(
        "Open on the server",
        """Open transactions that this operation began, by the backend's own table. Active: running a statement. Inactive:
        between two, the backend has the word.""",
        "none",
        [
            Query(
                'sum by (state) (max by (deployment, rs, member, state) (mongodb_transactions_open_by_operation{SET,operation="$operation"}))',
                "{{state}}",
            )
        ],
        width=12,
        stack=True,
    ),
    timeseries(
        "Oldest of them",
        "The server ends a transaction at the dashed line.",
        "s",
        [
            Query(
                'max by (state) (mongodb_transactions_oldest_open_by_operation_seconds{SET,operation="$operation"})',
                "{{state}}",
            ),
            limit("min(mongodb_transaction_lifetime_limit_seconds{SET})", "the server's limit"),
        ],
        width=12,
    ),
]

LISTENER = [
    timeseries(
        "Abandoned",
        "Transactions of which no more was heard for longer than the server lets one live.",
        "ops",
        [Query("sum(rate(mongodb_client_transactions_abandoned_total{BACKEND}[$__rate_interval]))", "abandoned")],
        width=12,
    ),
    timeseries(
        "Not followed",
        "Transactions that are counted nowhere, because too many were followed already.",
        "ops",
        [Query("sum(rate(mongodb_client_transactions_untracked_total{BACKEND}[$__rate_interval]))", "not followed")],
        width=12,
    ),
]

OUTSIDE = [
    timeseries(
        "Transactions without a statement",
        "Work that made no statement of its own transaction: it may have written without the transaction's session.",
        "ops",
        [
            Query(
                "sum by (operation) (rate(mongodb_client_transactions_without_statements_total{BACKEND}[$__rate_interval]))",
                "{{operation}}",
            )
        ],
        width=12,
    ),
    timeseries(
        "Writes outside of their transaction",
        "Writes of a transaction's work that are neither undone nor committed with it, as the listener hears them.",
        "ops",
        [
            Query(
                "sum by (operation) (rate(mongodb_client_writes_outside_transaction_total{BACKEND}[$__rate_interval]))",
                "{{operation}}",
            )
        ],
        width=12,
    ),
]

PAGE = Page(
    uid="txnscope-operation",
    title="txnscope / Operation",
    about="""One operation, from its callers to what it holds on the server.
    Generated: change dashboards/source, then run cargo xtask gen.""",
    variables=[frame.job(), frame.instance(), frame.one_operation(), frame.deployment(), frame.rs(), frame.sidecar()],
    annotations=[frame.deploys(), frame.elections(), frame.alerts()],
    rows=[
        Row("$operation", SUMMARY),
        Row("What its callers get", CALLER),
        Row("What the driver does for it", DRIVER),
        Row("What it holds on the server (wants collector.open_by_operation)", SERVER),
        Row("Transactions outside the runner, of all operations (wants the listener)", LISTENER, closed=True),
        Row("Statements outside of their transaction, of all operations", OUTSIDE, closed=True),
    ],
)
