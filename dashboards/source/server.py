"""Server transactions: the counters and open transactions of mongod, by member."""

import frame
from frame import Page, Row
from panels import BAD, GOOD, NEUTRAL, WARN, Column, Query, heat, limit, states, table, timeseries, words

MEMBERS = [
    states(
        "Member state",
        "State of each member over time. Only a primary executes transactions, and only its counters increase.",
        [
            Query(
                'max by (deployment, rs, member) (mongodb_replication_member_state{MEMBER,state="primary"} * 2)'
                ' + max by (deployment, rs, member) (mongodb_replication_member_state{MEMBER,state="secondary"})',
                "{{member}}",
            )
        ],
        [words(v0=("other", BAD), v1=("secondary", NEUTRAL), v2=("primary", GOOD))],
        width=7,
        height=7,
    ),
    states(
        "Member availability",
        "Whether the member responded to its last serverStatus poll, not more than three intervals ago.",
        [Query("max by (deployment, rs, member) (mongodb_up{MEMBER})", "{{member}}")],
        [words(v0=("down", BAD), v1=("up", GOOD))],
        width=5,
        height=7,
    ),
    table(
        "Member versions",
        "Version and uptime of each member. All counters of a member start at zero with its process.",
        {"rs": "Replica set", "member": "Member", "version": "Version", "process": "Process", "storage_engine": "Engine"},
        [
            Column(
                "Uptime",
                """max by (rs, member, version, process, storage_engine)
                (mongodb_uptime_seconds{MEMBER} * on (rs, member, instance) group_right () mongodb_info{MEMBER})""",
                "s",
                decimals=0,
            )
        ],
        wide="member",
        sort="Member",
        ascending=True,
        width=12,
        height=7,
    ),
]


def ended(metric: str) -> str:
    """Transactions per second, summed over the members."""
    return f"sum(max by (deployment, rs, member) (rate({metric}{{MEMBER}}[$__rate_interval])))"


LIFECYCLE = [
    timeseries(
        "Transactions: started, committed, aborted",
        "Transactions per second, summed over the members. A transaction that is neither committed nor aborted is open.",
        "ops",
        [
            Query(ended("mongodb_transactions_started_total"), "started"),
            Query(ended("mongodb_transactions_committed_total"), "committed"),
            Query(ended("mongodb_transactions_aborted_total"), "aborted"),
        ],
        colors={"started": NEUTRAL, "committed": GOOD, "aborted": WARN},
    ),
    timeseries(
        "Abort ratio",
        """Aborted transactions as a ratio of all ended transactions, including business-rule aborts: the server does not know the
        reason. The dashed line is the alert threshold, which applies to aborts other than business-rule aborts.""",
        "percentunit",
        [
            Query(
                """sum by (rs) (max by (deployment, rs, member) (rate(mongodb_transactions_aborted_total{MEMBER}[$__rate_interval])))
                / (sum by (rs) (max by (deployment, rs, member) (rate(mongodb_transactions_aborted_total{MEMBER}[$__rate_interval])))
                + sum by (rs) (max by (deployment, rs, member) (rate(mongodb_transactions_committed_total{MEMBER}[$__rate_interval]))) > 0)""",
                "{{rs}}",
            ),
            limit("max(txnscope:threshold:abort_ratio)", "alert threshold"),
        ],
        most=1,
    ),
    timeseries(
        "Transaction duration",
        "Duration of ended transactions, committed or aborted, measured by the server.",
        "s",
        [
            Query(
                f"histogram_quantile({of}, sum by (le) (max by (deployment, rs, member, le) (rate(mongodb_transaction_duration_seconds_bucket{{MEMBER}}[$__rate_interval])))) >= 0",
                name,
            )
            for of, name in [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")]
        ],
    ),
    heat(
        "Distribution of transaction durations",
        """Number of transactions by duration. A transaction that lasts until the server's lifetime limit was abandoned by its
        client.""",
        "sum by (le) (max by (deployment, rs, member, le) (increase(mongodb_transaction_duration_seconds_bucket{MEMBER}[$__rate_interval])))",
        width=8,
    ),
    timeseries(
        "Size of the last commit",
        """Write operations in the last committed transaction, and their size in the oplog. Large transactions delay the
        secondaries.""",
        "short",
        [
            Query("max(mongodb_last_committed_transaction_operations{MEMBER})", "operations"),
            Query("max(mongodb_last_committed_transaction_oplog_bytes{MEMBER})", "bytes in the oplog"),
        ],
        log=True,
    ),
    timeseries(
        "Retried writes",
        """Retryable writes that were received again after they had been executed, because the network lost a reply. And the writes to
        config.transactions, one for each retryable write and each commit.""",
        "ops",
        [
            Query(ended("mongodb_retried_write_commands_total"), "retried commands"),
            Query(ended("mongodb_retried_write_statements_total"), "retried statements"),
            Query(ended("mongodb_transactions_table_writes_total"), "config.transactions"),
        ],
    ),
]

OPEN = [
    timeseries(
        "Open transactions",
        """Active transactions run a statement. Inactive transactions wait for their client, and keep the documents that they
        wrote locked.""",
        "none",
        [Query("sum by (state) (max by (deployment, rs, member, state) (mongodb_transactions_open{MEMBER}))", "{{state}}")],
        stack=True,
        colors={"active": NEUTRAL, "inactive": WARN},
    ),
    timeseries(
        "Oldest open transaction",
        """The server aborts a transaction at its limit, the red line. From the other line on, the sidecar logs the transaction
        with its session.""",
        "s",
        [
            Query("max by (state) (mongodb_transactions_oldest_open_seconds{MEMBER})", "{{state}}"),
            Query("min(mongodb_transactions_long_running_threshold_seconds{MEMBER})", "long-running"),
            limit("min(mongodb_transaction_lifetime_limit_seconds{MEMBER})", "server limit"),
        ],
        colors={"active": NEUTRAL, "inactive": WARN, "long-running": "yellow"},
    ),
    timeseries(
        "Open transactions by age",
        "Each open transaction is in one age range.",
        "none",
        [Query("sum by (age) (max by (deployment, rs, member, age) (mongodb_transactions_open_by_age{MEMBER}))", "{{age}}")],
        stack=True,
        colors={
            "under_1s": GOOD,
            "from_1s_to_5s": "yellow",
            "from_5s_to_15s": WARN,
            "from_15s_to_60s": BAD,
            "over_60s": "dark-red",
        },
    ),
    timeseries(
        "Open transactions by operation",
        """From the backends' tables of open transactions; unknown: a transaction of another client. Requires
        collector.open_by_operation.""",
        "none",
        [
            Query(
                "sum by (operation, state) (max by (deployment, rs, member, operation, state) (mongodb_transactions_open_by_operation{MEMBER})) > 0"
                " or sum by (operation, state) (max by (deployment, rs, member, operation, state) (mongodb_transactions_open_by_operation{MEMBER,operation=\"unknown\"}))",
                "{{operation}} {{state}}",
            )
        ],
        stack=True,
    ),
    timeseries(
        "Oldest open transaction by operation",
        "Age of the oldest open transaction of each operation. Requires collector.open_by_operation.",
        "s",
        [
            Query(
                "max by (operation) (mongodb_transactions_oldest_open_by_operation_seconds{MEMBER})",
                "{{operation}}",
            )
        ],
    ),
    timeseries(
        "Open transactions by application",
        "Open transactions by the client's appName.",
        "none",
        [Query("sum by (application) (max by (deployment, rs, member, application) (mongodb_transactions_open_by_application{MEMBER}))", "{{application}}")],
        stack=True,
    ),
    timeseries(
        "Oldest open transaction by application",
        "Age of the oldest open transaction by the client's appName: the application to investigate.",
        "s",
        [
            Query(
                "max by (application) (mongodb_transactions_oldest_open_by_application_seconds{MEMBER})",
                "{{application}}",
            )
        ],
    ),
    timeseries(
        "Transactions: waiting, long-running, finishing",
        """Open transactions whose statement waits for a lock; long-running transactions, which are logged; commits and aborts
        in progress.""",
        "none",
        [
            Query("sum(max by (deployment, rs, member) (mongodb_transactions_waiting_for_lock{MEMBER}))", "waiting for a lock"),
            Query("sum(max by (deployment, rs, member) (mongodb_transactions_long_running{MEMBER}))", "long-running"),
            Query("sum by (command) (max by (deployment, rs, member, command) (mongodb_transactions_finishing{MEMBER}))", "in {{command}}"),
        ],
    ),
    timeseries(
        "Oldest commit or abort in progress",
        "A slow commit mostly waits for the majority, when the transaction is no longer open.",
        "s",
        [Query("max by (command) (mongodb_transactions_oldest_finishing_seconds{MEMBER})", "{{command}}")],
    ),
]

CONTENTION = [
    timeseries(
        "Write conflicts",
        """Inside transactions, which then abort, and outside of transactions, where the server retries internally. The cause is a
        document that many operations write at the same time. While statements outside of transactions are blocked, their conflicts
        appear to be inside: the server counts them when the statement ends.""",
        "ops",
        [
            Query(
                """clamp_min(sum(max by (deployment, rs, member) (rate(mongodb_wiredtiger_update_conflicts_total{MEMBER}[$__rate_interval])))
                - sum(max by (deployment, rs, member) (rate(mongodb_operation_write_conflicts_total{MEMBER}[$__rate_interval]))), 0)""",
                "inside transactions",
            ),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_operation_write_conflicts_total{MEMBER}[$__rate_interval])))", "outside"),
        ],
        colors={"inside transactions": WARN, "outside": NEUTRAL},
    ),
    timeseries(
        "Lock wait time",
        """Seconds per second, by resource and mode. exclusive on a collection or database: an index build, or a collection that is
        created or dropped. The dashed line is the alert threshold.""",
        "none",
        [
            Query(
                "sum by (resource, mode) (max by (deployment, rs, member, resource, mode) (rate(mongodb_lock_wait_seconds_total{MEMBER}[$__rate_interval]))) > 0"
                " or sum by (resource, mode) (max by (deployment, rs, member, resource, mode) (rate("
                "mongodb_lock_wait_seconds_total{MEMBER,resource=\"global\",mode=\"exclusive\"}[$__rate_interval])))",
                "{{resource}} {{mode}}",
            ),
            limit("max(txnscope:threshold:lock_wait_ratio)", "alert threshold"),
        ],
    ),
    timeseries(
        "Lock waits and deadlocks",
        "Lock requests that had to wait, by resource, and deadlocks.",
        "ops",
        [
            Query("sum by (resource) (max by (deployment, rs, member, resource) (rate(mongodb_lock_waits_total{MEMBER}[$__rate_interval]))) > 0", "{{resource}}"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_lock_deadlocks_total{MEMBER}[$__rate_interval])))", "deadlocks"),
        ],
        colors={"deadlocks": BAD},
    ),
    timeseries(
        "Global lock queue",
        "Operations that wait for a lock, and clients that hold or request it. The dashed line is the alert threshold.",
        "none",
        [
            Query("sum by (type) (max by (deployment, rs, member, type) (mongodb_global_lock_queue{MEMBER}))", "{{type}}: queue"),
            Query("sum by (type) (max by (deployment, rs, member, type) (mongodb_global_lock_active_clients{MEMBER}))", "{{type}}: clients"),
            limit("max(txnscope:threshold:queue_length)", "alert threshold"),
        ],
    ),
    timeseries(
        "Storage engine tickets",
        """Tickets in use, available tickets, and their limit. From MongoDB 7.0 on, few available tickets are no sign of a
        problem: see the ticket queue below.""",
        "none",
        [
            Query("sum by (type) (max by (deployment, rs, member, type) (mongodb_tickets_in_use{MEMBER}))", "{{type}}: in use"),
            Query("sum by (type) (max by (deployment, rs, member, type) (mongodb_tickets_available{MEMBER}))", "{{type}}: available"),
            Query("sum by (type) (max by (deployment, rs, member, type) (mongodb_tickets_limit{MEMBER}))", "{{type}}: limit"),
        ],
    ),
    timeseries(
        "Operation latency",
        "The 99th percentile, measured by the server. A commit is a command.",
        "s",
        [
            Query(
                """histogram_quantile(0.99, sum by (type, le)
                (rate(mongodb_operation_latency_seconds_bucket{MEMBER}[$__rate_interval]))) >= 0""",
                "{{type}} p99",
            )
        ],
    ),
]

MAJORITY = [
    timeseries(
        "Replication lag",
        "Lag that each member reports, and lag that the primary reports, including members that do not respond.",
        "s",
        [
            Query("max by (member) (mongodb_replication_lag_seconds{MEMBER})", "{{member}}"),
            Query("max by (peer) (mongodb_replication_peer_lag_seconds{MEMBER})", "{{peer}}, reported by the primary"),
        ],
    ),
    timeseries(
        "Majority lag",
        "A commit with write concern majority waits for this lag. The dashed line is the alert threshold.",
        "s",
        [
            Query("max by (member) (mongodb_replication_majority_lag_seconds{MEMBER})", "{{member}}"),
            limit("max(txnscope:threshold:majority_lag_seconds)", "alert threshold"),
        ],
    ),
    timeseries(
        "Oplog window",
        "Maximum downtime after which a member can still catch up. The dashed line is the alert threshold.",
        "s",
        [
            Query("min by (member) (mongodb_replication_oplog_window_seconds{MEMBER})", "{{member}}"),
            limit("max(txnscope:threshold:oplog_window_seconds)", "alert threshold"),
        ],
        log=True,
    ),
    timeseries(
        "Elections",
        "Elections called, by cause, elections won, and step-downs of primaries. During an election no transaction commits.",
        "none",
        [
            Query(
                "sum by (cause) (max by (deployment, rs, member, cause) (increase(mongodb_replication_elections_called_total{MEMBER}[$__rate_interval])))",
                "called: {{cause}}",
            ),
            Query("sum(max by (deployment, rs, member) (increase(mongodb_replication_elections_won_total{MEMBER}[$__rate_interval])))", "won"),
            Query("sum(max by (deployment, rs, member) (increase(mongodb_replication_step_downs_total{MEMBER}[$__rate_interval])))", "stepped down"),
        ],
    ),
    timeseries(
        "Election term and missing heartbeats",
        "The election term of each replica set, and the members from which other members receive no heartbeats.",
        "none",
        [
            Query("max by (rs) (mongodb_replication_term{MEMBER})", "{{rs}}: term"),
            Query("sum by (peer) (1 - max by (deployment, rs, member, peer) (mongodb_replication_peer_up{MEMBER}))", "{{peer}}: no heartbeats at"),
        ],
    ),
    timeseries(
        "Flow control",
        """Whether flow control throttles writers now, because the majority lags; the number and the duration of lags; and
        the wait time of writers, in seconds per second.""",
        "none",
        [
            Query("max(mongodb_flow_control_lagged{MEMBER})", "lagging now"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_flow_control_lagged_total{MEMBER}[$__rate_interval])))", "lags per second"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_flow_control_lagged_seconds_total{MEMBER}[$__rate_interval])))", "lag duration"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_flow_control_wait_seconds_total{MEMBER}[$__rate_interval])))", "wait of writers"),
        ],
    ),
]

SHARDED = [
    timeseries(
        "Prepared transactions",
        """Transactions in the prepared state, and operations that are blocked by one. A prepared transaction waits for its
        coordinator.""",
        "none",
        [
            Query("sum(max by (deployment, rs, member) (mongodb_transactions_prepared{MEMBER}))", "prepared"),
            Query("sum(max by (deployment, rs, member) (mongodb_operations_blocked_by_prepared{MEMBER}))", "blocked operations"),
        ],
    ),
    timeseries(
        "Oldest prepared transaction",
        "Time since the preparation of the oldest prepared transaction. The dashed line is the alert threshold.",
        "s",
        [
            Query("max(mongodb_transactions_oldest_prepared_seconds{MEMBER})", "oldest"),
            limit("max(txnscope:threshold:oldest_prepared_seconds)", "alert threshold"),
        ],
    ),
    timeseries(
        "Prepared transactions: committed, aborted",
        "Transactions that were prepared, and that then committed or aborted.",
        "ops",
        [
            Query(ended("mongodb_transactions_prepared_total"), "prepared"),
            Query(ended("mongodb_transactions_prepared_committed_total"), "committed"),
            Query(ended("mongodb_transactions_prepared_aborted_total"), "aborted"),
        ],
        colors={"prepared": NEUTRAL, "committed": GOOD, "aborted": WARN},
    ),
    timeseries(
        "Two-phase commits",
        "Two-phase commits that these members coordinate.",
        "ops",
        [
            Query(ended("mongodb_two_phase_commit_coordinators_total"), "coordinators"),
            Query(ended("mongodb_two_phase_commits_started_total"), "started"),
            Query(ended("mongodb_two_phase_commits_committed_total"), "committed"),
            Query(ended("mongodb_two_phase_commits_aborted_total"), "aborted"),
        ],
        width=12,
    ),
    timeseries(
        "Two-phase commits in progress",
        "By step. A commit that keeps waiting for votes has a shard that does not respond.",
        "none",
        [Query("sum by (step) (max by (deployment, rs, member, step) (mongodb_two_phase_commits_in_progress{MEMBER}))", "{{step}}")],
        width=12,
        stack=True,
    ),
]

MONGOS = [
    timeseries(
        "Commits by type",
        "Commits that mongos initiated, and that succeeded. single_shard is cheap, two_phase_commit is expensive.",
        "ops",
        [
            Query(
                "sum by (type) (max by (deployment, rs, member, type) (rate(mongodb_transaction_commits_initiated_total{MEMBER}[$__rate_interval])))",
                "{{type}}: initiated",
            ),
            Query(
                "sum by (type) (max by (deployment, rs, member, type) (rate(mongodb_transaction_commits_successful_total{MEMBER}[$__rate_interval])))",
                "{{type}}: succeeded",
            ),
        ],
        table=True,
        width=12,
    ),
    timeseries(
        "Commit duration by type",
        "The mean duration of successful commits.",
        "s",
        [
            Query(
                """sum by (type) (max by (deployment, rs, member, type) (rate(mongodb_transaction_commits_successful_seconds_total{MEMBER}[$__rate_interval])))
                / (sum by (type) (max by (deployment, rs, member, type) (rate(mongodb_transaction_commits_successful_total{MEMBER}[$__rate_interval]))) > 0)""",
                "{{type}}",
            )
        ],
        width=12,
    ),
    timeseries(
        "Aborts by cause",
        "The code names of the server; abort: the client requested the abort.",
        "ops",
        [
            Query(
                "sum by (cause) (max by (deployment, rs, member, cause) (rate(mongodb_transaction_aborts_by_cause_total{MEMBER}[$__rate_interval])))",
                "{{cause}}",
            )
        ],
        table=True,
        width=12,
    ),
    timeseries(
        "Participating shards and requests",
        "Shards that transactions contacted, shards that participated in commits, and requests that mongos sent to them.",
        "ops",
        [
            Query(ended("mongodb_transaction_participants_contacted_total"), "shards contacted"),
            Query(ended("mongodb_transaction_participants_at_commit_total"), "shards at commits"),
            Query(ended("mongodb_transaction_requests_targeted_total"), "requests"),
        ],
        width=12,
    ),
]

INGRESS = [
    timeseries(
        "Ingress requests: admitted, rejected",
        "Requests at the server's rate limiter. Rejected requests get code 462, and drivers retry them a few times.",
        "reqps",
        [
            Query(
                "sum by (result) (max by (deployment, rs, member, result) (rate(mongodb_ingress_requests_total{MEMBER}[$__rate_interval])))",
                "{{result}}",
            ),
        ],
        colors={"rejected": BAD},
    ),
    timeseries(
        "Ingress queue and tokens",
        "Requests that wait at the server's rate limiter, and tokens for requests that it would admit at once.",
        "none",
        [
            Query("sum(max by (deployment, rs, member) (mongodb_ingress_queue{MEMBER}))", "queued requests"),
            Query("sum(max by (deployment, rs, member) (mongodb_ingress_tokens_available{MEMBER}))", "available tokens"),
        ],
    ),
]

TICKETS = [
    timeseries(
        "Ticket queue",
        "Operations of normal priority that wait for a ticket. With a sustained queue, the storage engine is the bottleneck.",
        "none",
        [Query("sum by (type) (max by (deployment, rs, member, type) (mongodb_ticket_queue{MEMBER}))", "{{type}}")],
        width=12,
    ),
    timeseries(
        "Ticket wait time",
        "Seconds per second.",
        "none",
        [Query("sum by (type) (max by (deployment, rs, member, type) (rate(mongodb_ticket_wait_seconds_total{MEMBER}[$__rate_interval])))", "{{type}}")],
        width=12,
    ),
]

SLOW = [
    timeseries(
        "Profiled operations",
        "Profiled operations per second, by namespace and plan. collscan reads every document of the collection.",
        "ops",
        [
            Query(
                "sum by (namespace, plan) (max by (deployment, rs, member, namespace, plan) (rate(mongodb_profiled_operations_total{MEMBER}[$__rate_interval]))) > 0",
                "{{namespace}} {{plan}}",
            )
        ],
        table=True,
        width=12,
    ),
    timeseries(
        "Duration of profiled operations",
        "The mean duration of a profiled operation, by namespace and plan.",
        "s",
        [
            Query(
                """sum by (namespace, plan) (max by (deployment, rs, member, namespace, plan) (rate(mongodb_profiled_operations_seconds_total{MEMBER}[$__rate_interval])))
                / (sum by (namespace, plan) (max by (deployment, rs, member, namespace, plan) (rate(mongodb_profiled_operations_total{MEMBER}[$__rate_interval]))) > 0)""",
                "{{namespace}} {{plan}}",
            )
        ],
        table=True,
        width=12,
    ),
    timeseries(
        "Write conflicts by namespace",
        "Write conflicts of profiled operations: they show which collection is hot.",
        "ops",
        [
            Query(
                "sum by (namespace) (max by (deployment, rs, member, namespace) (rate(mongodb_profiled_write_conflicts_total{MEMBER}[$__rate_interval])))",
                "{{namespace}}",
            )
        ],
    ),
    timeseries(
        "Duration of slow transactions",
        "The 99th percentile of the transactions that the server logged as slow, by termination cause.",
        "s",
        [
            Query(
                """histogram_quantile(0.99, sum by (termination_cause, le)
                (rate(mongodb_slow_transaction_duration_seconds_bucket{MEMBER}[$__rate_interval]))) >= 0""",
                "{{termination_cause}} p99",
            )
        ],
    ),
    timeseries(
        "Idle time share of slow transactions",
        """Ratio of the duration of slow transactions without a running statement. Near 1 the client causes the duration, not
        the server.""",
        "percentunit",
        [
            Query(
                """sum by (termination_cause)
                (rate(mongodb_slow_transaction_inactive_seconds_total{MEMBER}[$__rate_interval]))
                / (sum by (termination_cause)
                (rate(mongodb_slow_transaction_duration_seconds_sum{MEMBER}[$__rate_interval])) > 0)""",
                "{{termination_cause}}",
            )
        ],
        most=1,
    ),
    timeseries(
        "Missed profiler entries and log lines",
        "Gaps in the profiler, and log lines, that were overwritten before they were read.",
        "ops",
        [
            Query("sum(max by (deployment, rs, member) (rate(mongodb_profile_gaps_total{MEMBER}[$__rate_interval])))", "profiler gaps"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_log_lines_lost_total{MEMBER}[$__rate_interval])))", "log lines"),
        ],
        width=24,
        height=5,
    ),
]

PAGE = Page(
    uid="txnscope-server",
    title="txnscope / Server transactions",
    about="""Transactions by the counters of mongod, and the resources that transactions wait for.
    Generated: change dashboards/source, then run cargo xtask gen.""",
    variables=[frame.deployment(), frame.rs(), frame.sidecar(), frame.member()],
    annotations=[frame.elections(), frame.alerts()],
    rows=[
        Row("Members", MEMBERS),
        Row("Transactions", LIFECYCLE),
        Row("Open transactions", OPEN),
        Row("Contention", CONTENTION),
        Row("Replication", MAJORITY),
        Row("Sharded clusters: prepared transactions and two-phase commits", SHARDED, closed=True),
        Row("Sharded clusters: mongos (requires a mongos)", MONGOS, closed=True),
        Row("Ticket queue (requires MongoDB 7.0)", TICKETS, closed=True),
        Row("Ingress rate limiter (requires MongoDB 8.2 or 8.0.20)", INGRESS, closed=True),
        Row("Slow operations and transactions (requires collector.profile and collector.slow_transactions)", SLOW, closed=True),
    ],
)
