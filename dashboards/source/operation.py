"""One operation: outcomes for its callers, attempts of the driver, and open transactions on the server."""

import frame
from frame import Page, Row
from panels import BAD, ENDINGS, GOOD, NEUTRAL, OUTCOMES, WARN, Query, heat, limit, number, steps, timeseries

# Operations with a known outcome. There is no result for a backend that exports no outcomes: absence is not success.
ENDED = 'sum(increase(transaction_duration_seconds_count{ONE,outcome=~"succeeded|rejected|failed|panicked"}[$__range]))'
FAULTS = f'sum(increase(transaction_duration_seconds_count{{ONE,outcome=~"failed|panicked"}}[$__range])) or 0 * {ENDED}'


def quantile(of: float, family: str, *, by: str = "", more: str = "", window: str = "[$__rate_interval]") -> str:
    """A quantile of one of the operation's histograms; no result, and no NaN, without observations."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({of}, sum by ({labels}) (rate({family}_bucket{{ONE{more}}}{window}))) >= 0"


SUMMARY = [
    number(
        "Operation rate",
        "Ended operations per second in the selected time range.",
        "ops",
        "sum(rate(transaction_duration_seconds_count{ONE}[$__range]))",
        steps((None, NEUTRAL)),
        decimals=2,
        nothing="no traffic",
    ),
    number(
        "Success ratio",
        """Ratio of the operations that succeeded or were rejected, without cancelled operations. The panel is empty for a backend that
        exports no outcome: txnscope preflight reports the missing label.""",
        "percentunit",
        f"1 - ({FAULTS}) / ({ENDED} > 0)",
        steps((None, BAD), (0.9, WARN), (0.99, GOOD)),
        decimals=2,
        nothing="no outcome",
    ),
    number(
        "Remaining error budget",
        "Remaining ratio of the failures that txnscope:objective:success_ratio allows, with the selected time range as the period.",
        "percentunit",
        f"1 - (({FAULTS}) / ({ENDED} > 0)) / (1 - scalar(txnscope:objective:success_ratio))",
        steps((None, BAD), (0, WARN), (0.25, GOOD)),
        decimals=0,
        nothing="no traffic",
    ),
    number(
        "Operation duration: p99",
        "The 99th percentile of the duration in the selected time range.",
        "s",
        quantile(0.99, "transaction_duration_seconds", window="[$__range]"),
        steps((None, NEUTRAL)),
        nothing="no traffic",
    ),
    number(
        "Attempts per operation",
        "Transaction attempts of the driver per ended operation. Above 1 the driver retries.",
        "none",
        "sum(increase(mongodb_client_transactions_started_total{ONE}[$__range]))"
        " / (sum(increase(transaction_duration_seconds_count{ONE}[$__range])) > 0)",
        steps((None, GOOD), (1.5, WARN), (2, BAD)),
        decimals=2,
        nothing="no transaction",
    ),
    number(
        "Unknown commits",
        """Attempts in the selected time range whose commit was sent and whose result is unknown. Look up the effect of each commit
        in the data, by idempotency key: see the runbook of TransactionCommitUnknown.""",
        "none",
        "sum(increase(mongodb_client_transactions_unknown_total{ONE}[$__range]))",
        steps((None, GOOD), (0.5, BAD)),
        decimals=0,
        nothing="no transaction",
    ),
    number(
        "Remaining error budget over 30 days",
        """Remaining ratio of the failures that the objective allows in 30 days, as far as there is history: see the next panel. Computed
        from the recording rules of alerts/ with rates over five minutes.""",
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
        "Available history",
        """Days of the 30 days that the previous panel covers. Prometheus keeps 15 days, unless it is started with
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
        "Operation outcomes",
        "Ended operations per second, by outcome.",
        "ops",
        [Query("sum by (outcome) (rate(transaction_duration_seconds_count{ONE}[$__rate_interval]))", "{{outcome}}")],
        stack=True,
        colors=OUTCOMES,
    ),
    timeseries(
        "Unsuccessful operations",
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
        "Admitted operations and operations in flight",
        """Admitted operations per second, and operations in flight. If only the operations in flight increase, the operation
        is blocked.""",
        "short",
        [
            Query("sum(rate(transaction_attempts_total{ONE}[$__rate_interval]))", "admitted per second"),
            Query("sum(concurrent_operations{ONE})", "in flight"),
        ],
    ),
    timeseries(
        "Operation duration",
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
        "Operation duration by outcome",
        """The 99th percentile of each outcome. Rejections are fast; slow failures indicate a wait, for example for a lock or a
        connection.""",
        "s",
        [Query(quantile(0.99, "transaction_duration_seconds", by="outcome"), "{{outcome}}")],
        colors=OUTCOMES,
    ),
    heat(
        "Distribution of operation durations",
        "Number of operations by duration.",
        "sum by (le) (increase(transaction_duration_seconds_bucket{ONE}[$__rate_interval]))",
        width=8,
    ),
]

DRIVER = [
    timeseries(
        "Attempts by outcome",
        "Ended transaction attempts per second, by outcome.",
        "ops",
        [
            Query("sum(rate(mongodb_client_transactions_committed_total{ONE}[$__rate_interval]))", "committed"),
            Query("sum(rate(mongodb_client_transactions_aborted_total{ONE}[$__rate_interval]))", "aborted"),
            Query("sum(rate(mongodb_client_transactions_unknown_total{ONE}[$__rate_interval]))", "unknown"),
        ],
        stack=True,
        colors=OUTCOMES,
    ),
    timeseries(
        "Aborted attempts",
        "By reason. An aborted attempt changes no data; some attempts are retried.",
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
        "Attempts: started, open, queued",
        "Started attempts per second; open attempts; transactions that are queued behind another transaction with the same key.",
        "short",
        [
            Query("sum(rate(mongodb_client_transactions_started_total{ONE}[$__rate_interval]))", "started per second"),
            Query("sum(mongodb_client_transactions_open{ONE})", "open"),
            Query("sum(mongodb_client_transactions_queued{ONE})", "queued"),
        ],
    ),
    timeseries(
        "Attempt duration",
        "From its first statement to its end: the median and the 99th percentile, by outcome.",
        "s",
        [
            Query(quantile(0.5, "mongodb_client_transaction_duration_seconds", by="outcome"), "{{outcome}} p50"),
            Query(quantile(0.99, "mongodb_client_transaction_duration_seconds", by="outcome"), "{{outcome}} p99"),
        ],
    ),
    timeseries(
        "Commit duration",
        "From the first commit command to its result. Most of it is the wait for the majority.",
        "s",
        [
            Query(quantile(of, "mongodb_client_transaction_commit_duration_seconds"), name)
            for of, name in [(0.5, "p50"), (0.99, "p99")]
        ],
    ),
    timeseries(
        "Queue wait",
        "Time that transactions with a key waited for earlier transactions with the same key.",
        "s",
        [
            Query(quantile(of, "mongodb_client_transaction_queue_wait_seconds"), name)
            for of, name in [(0.5, "p50"), (0.99, "p99")]
        ],
    ),
    timeseries(
        "Wasted time",
        """Seconds per second in attempts that did not commit, in backoff before the next attempt, and in the queue for the
        same key.""",
        "none",
        [
            Query("sum(rate(mongodb_client_transaction_wasted_seconds_total{ONE}[$__rate_interval]))", "wasted attempts"),
            Query("sum(rate(mongodb_client_transaction_backoff_seconds_total{ONE}[$__rate_interval]))", "backoff"),
            Query("sum(rate(mongodb_client_transaction_queue_wait_seconds_sum{ONE}[$__rate_interval]))", "queue wait"),
        ],
        stack=True,
        colors={"wasted attempts": BAD, "backoff": WARN, "queue wait": NEUTRAL},
    ),
    timeseries(
        "Commit retries and unknown commits",
        "A commit is retried while its result is unknown. If the result stays unknown, look up the effect in the data.",
        "ops",
        [
            Query("sum(rate(mongodb_client_transaction_commit_retries_total{ONE}[$__rate_interval]))", "retries"),
            Query("sum(rate(mongodb_client_transactions_unknown_total{ONE}[$__rate_interval]))", "unknown"),
        ],
        colors={"retries": WARN, "unknown": BAD},
    ),
    timeseries(
        "Command retries: overloaded server",
        """Commands that the server rejected because it is overloaded (code 462), and that the driver retried. Only
        the listener observes these retries.""",
        "ops",
        [Query("sum(rate(mongodb_client_overload_retries_total{ONE}[$__rate_interval]))", "retries")],
        colors={"retries": WARN},
    ),
    timeseries(
        "Background cleanups / not started",
        """Background cleanups of transactions, by result: left_to_server means that the server must abort the transaction. And
        attempts that the server did not start, by cause, which are absent from the server's counters; attempts with the cause lost
        may have started.""",
        "ops",
        [
            Query(
                "sum by (result) (rate(mongodb_client_transaction_cleanups_total{ONE}[$__rate_interval]))",
                "cleanup: {{result}}",
            ),
            Query(
                "sum by (cause) (rate(mongodb_client_transactions_not_started_total{ONE}[$__rate_interval]))",
                "not started: {{cause}}",
            ),
        ],
    ),
]

SERVER = [
    timeseries(
        "Open transactions",
        """Open transactions that this operation started, by the backend's table of open transactions. Active: a statement is running.
        Inactive: between two statements, the server waits for the backend.""",
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
        "Oldest open transaction",
        "Age of the oldest open transaction of this operation. The server aborts a transaction at the dashed line.",
        "s",
        [
            Query(
                'max by (state) (mongodb_transactions_oldest_open_by_operation_seconds{SET,operation="$operation"})',
                "{{state}}",
            ),
            limit("min(mongodb_transaction_lifetime_limit_seconds{SET})", "server limit"),
        ],
        width=12,
    ),
]

LISTENER = [
    timeseries(
        "Abandoned transactions",
        "Transactions without any event for longer than the server's lifetime limit.",
        "ops",
        [Query("sum(rate(mongodb_client_transactions_abandoned_total{BACKEND}[$__rate_interval]))", "abandoned")],
        width=12,
    ),
    timeseries(
        "Untracked transactions",
        "Transactions that are not counted, because the limit of tracked transactions was reached.",
        "ops",
        [Query("sum(rate(mongodb_client_transactions_untracked_total{BACKEND}[$__rate_interval]))", "untracked")],
        width=12,
    ),
]

OUTSIDE = [
    timeseries(
        "Transactions without a statement",
        """Transactions whose callback executed no statement in the transaction: it may have written without the transaction's
        session.""",
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
        "Writes outside of the transaction",
        """Writes of a transaction's callback that are neither committed nor rolled back with the transaction, as the listener
        observes them.""",
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
    about="""One operation: its callers, the driver's attempts, and its open transactions on the server.
    Generated: change dashboards/source, then run cargo xtask gen.""",
    variables=[frame.job(), frame.instance(), frame.one_operation(), frame.deployment(), frame.rs(), frame.sidecar()],
    annotations=[frame.deploys(), frame.elections(), frame.alerts()],
    rows=[
        Row("$operation", SUMMARY),
        Row("Callers", CALLER),
        Row("Driver", DRIVER),
        Row("Server (requires collector.open_by_operation)", SERVER),
        Row("Transactions outside of the runner, all operations (requires the listener)", LISTENER, closed=True),
        Row("Statements outside of the transaction, all operations", OUTSIDE, closed=True),
    ],
)
