"""Server transactions: what mongod's own books say, member by member."""

import frame
from frame import Page, Row
from panels import BAD, GOOD, NEUTRAL, WARN, Column, Query, heat, limit, states, table, timeseries, words

MEMBERS = [
    states(
        "State of each member",
        "Whose books count: only a primary begins transactions.",
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
        "Answers",
        "Whether the member answered its last serverStatus poll, no longer than three intervals ago.",
        [Query("max by (deployment, rs, member) (mongodb_up{MEMBER})", "{{member}}")],
        [words(v0=("down", BAD), v1=("up", GOOD))],
        width=5,
        height=7,
    ),
    table(
        "Versions",
        "What runs, and for how long. All counters of a member begin at zero with its process.",
        {"rs": "Set", "member": "Member", "version": "Version", "process": "Process", "storage_engine": "Engine"},
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
    """Transactions a second, over the members."""
    return f"sum(max by (deployment, rs, member) (rate({metric}{{MEMBER}}[$__rate_interval])))"


LIFECYCLE = [
    timeseries(
        "Transactions",
        "Begun, committed and aborted a second, over the members. What is begun and neither is open.",
        "ops",
        [
            Query(ended("mongodb_transactions_started_total"), "started"),
            Query(ended("mongodb_transactions_committed_total"), "committed"),
            Query(ended("mongodb_transactions_aborted_total"), "aborted"),
        ],
        colours={"started": NEUTRAL, "committed": GOOD, "aborted": WARN},
    ),
    timeseries(
        "Share that aborts",
        """Of all that ended, business rules included: the server does not know why. The dashed line is what the alert
        allows of those that are no business decision.""",
        "percentunit",
        [
            Query(
                """sum by (rs) (max by (deployment, rs, member) (rate(mongodb_transactions_aborted_total{MEMBER}[$__rate_interval])))
                / (sum by (rs) (max by (deployment, rs, member) (rate(mongodb_transactions_aborted_total{MEMBER}[$__rate_interval])))
                + sum by (rs) (max by (deployment, rs, member) (rate(mongodb_transactions_committed_total{MEMBER}[$__rate_interval]))) > 0)""",
                "{{rs}}",
            ),
            limit("max(txnscope:threshold:abort_ratio)", "alert"),
        ],
        most=1,
    ),
    timeseries(
        "Duration",
        "Of transactions that ended, committed or aborted, by the server's clock.",
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
        "Durations",
        "How many took how long. What lasts for the server's limit was forgotten by its client.",
        "sum by (le) (max by (deployment, rs, member, le) (increase(mongodb_transaction_duration_seconds_bucket{MEMBER}[$__rate_interval])))",
        width=8,
    ),
    timeseries(
        "The last commit",
        "Write operations in the transaction that committed last, and their size in the oplog. Large ones hold up the secondaries.",
        "short",
        [
            Query("max(mongodb_last_committed_transaction_operations{MEMBER})", "operations"),
            Query("max(mongodb_last_committed_transaction_oplog_bytes{MEMBER})", "bytes in the oplog"),
        ],
        log=True,
    ),
    timeseries(
        "Retried writes",
        """Retryable writes that came again after they had been done: the network lost a reply. And the writes to
        config.transactions, one for each retryable write and each commit.""",
        "ops",
        [
            Query(ended("mongodb_retried_write_commands_total"), "commands again"),
            Query(ended("mongodb_retried_write_statements_total"), "statements again"),
            Query(ended("mongodb_transactions_table_writes_total"), "config.transactions"),
        ],
    ),
]

OPEN = [
    timeseries(
        "Open",
        "Active ones run a statement. Inactive ones wait for their client, with all that they have written locked.",
        "none",
        [Query("sum by (state) (max by (deployment, rs, member, state) (mongodb_transactions_open{MEMBER}))", "{{state}}")],
        stack=True,
        colours={"active": NEUTRAL, "inactive": WARN},
    ),
    timeseries(
        "Oldest open",
        "The server ends a transaction at its limit, the red line. From the other line on it is logged, with its session.",
        "s",
        [
            Query("max by (state) (mongodb_transactions_oldest_open_seconds{MEMBER})", "{{state}}"),
            Query("min(mongodb_transactions_long_running_threshold_seconds{MEMBER})", "long-running"),
            limit("min(mongodb_transaction_lifetime_limit_seconds{MEMBER})", "the server's limit"),
        ],
        colours={"active": NEUTRAL, "inactive": WARN, "long-running": "yellow"},
    ),
    timeseries(
        "Open, by age",
        "Each is in one band.",
        "none",
        [Query("sum by (age) (max by (deployment, rs, member, age) (mongodb_transactions_open_by_age{MEMBER}))", "{{age}}")],
        stack=True,
        colours={
            "under_1s": GOOD,
            "from_1s_to_5s": "yellow",
            "from_5s_to_15s": WARN,
            "from_15s_to_60s": BAD,
            "over_60s": "dark-red",
        },
    ),
    timeseries(
        "Open, by operation",
        "By the backends' own tables of open transactions; unknown is somebody else's. Wants collector.open_by_operation.",
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
        "Oldest open, by operation",
        "Who holds it. Wants collector.open_by_operation.",
        "s",
        [
            Query(
                "max by (operation) (mongodb_transactions_oldest_open_by_operation_seconds{MEMBER})",
                "{{operation}}",
            )
        ],
    ),
    timeseries(
        "Open, by application",
        "By the client's appName.",
        "none",
        [Query("sum by (application) (max by (deployment, rs, member, application) (mongodb_transactions_open_by_application{MEMBER}))", "{{application}}")],
        stack=True,
    ),
    timeseries(
        "Oldest open, by application",
        "By the client's appName: whom to call.",
        "s",
        [
            Query(
                "max by (application) (mongodb_transactions_oldest_open_by_application_seconds{MEMBER})",
                "{{application}}",
            )
        ],
    ),
    timeseries(
        "Waiting, long-running, ending",
        "Open transactions whose statement waits for a lock; those that are logged; commits and aborts in progress.",
        "none",
        [
            Query("sum(max by (deployment, rs, member) (mongodb_transactions_waiting_for_lock{MEMBER}))", "waiting for a lock"),
            Query("sum(max by (deployment, rs, member) (mongodb_transactions_long_running{MEMBER}))", "long-running"),
            Query("sum by (command) (max by (deployment, rs, member, command) (mongodb_transactions_finishing{MEMBER}))", "in {{command}}"),
        ],
    ),
    timeseries(
        "Slowest commit or abort in progress",
        "Most of a slow commit is the wait for the majority, when the transaction is no longer open.",
        "s",
        [Query("max by (command) (mongodb_transactions_oldest_finishing_seconds{MEMBER})", "{{command}}")],
    ),
]

CONTENTION = [
    timeseries(
        "Write conflicts",
        """Inside transactions, which then abort, and outside, where the server repeats by itself. They point at a
        document that many want at once. While statements outside hang, theirs seem to be inside: the server books them
        when the statement ends.""",
        "ops",
        [
            Query(
                """clamp_min(sum(max by (deployment, rs, member) (rate(mongodb_wiredtiger_update_conflicts_total{MEMBER}[$__rate_interval])))
                - sum(max by (deployment, rs, member) (rate(mongodb_operation_write_conflicts_total{MEMBER}[$__rate_interval]))), 0)""",
                "inside transactions",
            ),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_operation_write_conflicts_total{MEMBER}[$__rate_interval])))", "outside"),
        ],
        colours={"inside transactions": WARN, "outside": NEUTRAL},
    ),
    timeseries(
        "Time spent waiting for locks",
        """Seconds a second, by what is locked and how. exclusive on a collection or database: an index is built, or a
        collection made or dropped. The dashed line is the alert's threshold.""",
        "none",
        [
            Query(
                "sum by (resource, mode) (max by (deployment, rs, member, resource, mode) (rate(mongodb_lock_wait_seconds_total{MEMBER}[$__rate_interval]))) > 0"
                " or sum by (resource, mode) (max by (deployment, rs, member, resource, mode) (rate("
                "mongodb_lock_wait_seconds_total{MEMBER,resource=\"global\",mode=\"exclusive\"}[$__rate_interval])))",
                "{{resource}} {{mode}}",
            ),
            limit("max(txnscope:threshold:lock_wait_ratio)", "alert"),
        ],
    ),
    timeseries(
        "Lock requests that waited, deadlocks",
        "How many had to wait, by what is locked, and how many met a deadlock.",
        "ops",
        [
            Query("sum by (resource) (max by (deployment, rs, member, resource) (rate(mongodb_lock_waits_total{MEMBER}[$__rate_interval]))) > 0", "{{resource}}"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_lock_deadlocks_total{MEMBER}[$__rate_interval])))", "deadlocks"),
        ],
        colours={"deadlocks": BAD},
    ),
    timeseries(
        "Queue for the global lock",
        "Operations that wait for a lock, and clients that hold or want it. The dashed line is the alert's threshold.",
        "none",
        [
            Query("sum by (type) (max by (deployment, rs, member, type) (mongodb_global_lock_queue{MEMBER}))", "{{type}}: queue"),
            Query("sum by (type) (max by (deployment, rs, member, type) (mongodb_global_lock_active_clients{MEMBER}))", "{{type}}: clients"),
            limit("max(txnscope:threshold:queue_length)", "alert"),
        ],
    ),
    timeseries(
        "Tickets for the storage engine",
        "In use, free, and the limit of both. From MongoDB 7.0 on few that are free mean nothing: see the queue below.",
        "none",
        [
            Query("sum by (type) (max by (deployment, rs, member, type) (mongodb_tickets_in_use{MEMBER}))", "{{type}}: in use"),
            Query("sum by (type) (max by (deployment, rs, member, type) (mongodb_tickets_available{MEMBER}))", "{{type}}: free"),
            Query("sum by (type) (max by (deployment, rs, member, type) (mongodb_tickets_limit{MEMBER}))", "{{type}}: limit"),
        ],
    ),
    timeseries(
        "Latency of operations",
        "The 99th percentile by the server's clock. A commit is a command.",
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
        "Behind the primary",
        "By each member's own account, and by the primary's, also of members that do not answer.",
        "s",
        [
            Query("max by (member) (mongodb_replication_lag_seconds{MEMBER})", "{{member}}"),
            Query("max by (peer) (mongodb_replication_peer_lag_seconds{MEMBER})", "{{peer}}, says the primary"),
        ],
    ),
    timeseries(
        "How far the majority is behind",
        "A commit with write concern majority waits for it. The dashed line is the alert's threshold.",
        "s",
        [
            Query("max by (member) (mongodb_replication_majority_lag_seconds{MEMBER})", "{{member}}"),
            limit("max(txnscope:threshold:majority_lag_seconds)", "alert"),
        ],
    ),
    timeseries(
        "Oplog window",
        "How long a member may be away and still catch up. The dashed line is the alert's threshold.",
        "s",
        [
            Query("min by (member) (mongodb_replication_oplog_window_seconds{MEMBER})", "{{member}}"),
            limit("max(txnscope:threshold:oplog_window_seconds)", "alert"),
        ],
        log=True,
    ),
    timeseries(
        "Elections",
        "Called and won, by cause, and primaries that stepped down, in this interval. During an election no transaction commits.",
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
        "Term, and who hears whom",
        "The election term of each set, and the members of which another hears no heartbeat.",
        "none",
        [
            Query("max by (rs) (mongodb_replication_term{MEMBER})", "{{rs}}: term"),
            Query("sum by (peer) (1 - max by (deployment, rs, member, peer) (mongodb_replication_peer_up{MEMBER}))", "{{peer}}: not heard by"),
        ],
    ),
    timeseries(
        "Flow control",
        """Whether it slows writers down now, because the majority lags; how often and for how long it found it lagging; and
        how long writers waited, in seconds a second.""",
        "none",
        [
            Query("max(mongodb_flow_control_lagged{MEMBER})", "lagging now"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_flow_control_lagged_total{MEMBER}[$__rate_interval])))", "found a second"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_flow_control_lagged_seconds_total{MEMBER}[$__rate_interval])))", "lagging"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_flow_control_wait_seconds_total{MEMBER}[$__rate_interval])))", "writers waiting"),
        ],
    ),
]

SHARDED = [
    timeseries(
        "Prepared",
        "Transactions in the prepared state, and operations that wait for one. A prepared transaction waits for its coordinator.",
        "none",
        [
            Query("sum(max by (deployment, rs, member) (mongodb_transactions_prepared{MEMBER}))", "prepared"),
            Query("sum(max by (deployment, rs, member) (mongodb_operations_blocked_by_prepared{MEMBER}))", "operations that wait for one"),
        ],
    ),
    timeseries(
        "Prepared for longest",
        "Time since the preparation of the oldest. The dashed line is the alert's threshold.",
        "s",
        [
            Query("max(mongodb_transactions_oldest_prepared_seconds{MEMBER})", "oldest"),
            limit("max(txnscope:threshold:oldest_prepared_seconds)", "alert"),
        ],
    ),
    timeseries(
        "What became of them",
        "Transactions that were prepared, and that then committed or aborted.",
        "ops",
        [
            Query(ended("mongodb_transactions_prepared_total"), "prepared"),
            Query(ended("mongodb_transactions_prepared_committed_total"), "committed"),
            Query(ended("mongodb_transactions_prepared_aborted_total"), "aborted"),
        ],
        colours={"prepared": NEUTRAL, "committed": GOOD, "aborted": WARN},
    ),
    timeseries(
        "Two-phase commits",
        "That these members coordinate.",
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
        "By step. One that stays waiting for votes has a shard that does not answer.",
        "none",
        [Query("sum by (step) (max by (deployment, rs, member, step) (mongodb_two_phase_commits_in_progress{MEMBER}))", "{{step}}")],
        width=12,
        stack=True,
    ),
]

MONGOS = [
    timeseries(
        "Commits, by type",
        "That mongos began, and of these that succeeded. single_shard is cheap, two_phase_commit is not.",
        "ops",
        [
            Query(
                "sum by (type) (max by (deployment, rs, member, type) (rate(mongodb_transaction_commits_initiated_total{MEMBER}[$__rate_interval])))",
                "{{type}}: began",
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
        "Duration of a commit, by type",
        "The mean of those that succeeded.",
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
        "Aborts, by cause",
        "The server's code names; abort is what the client asked for.",
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
        "Shards and requests",
        "Shards that transactions contacted and that took part in commits, and requests that mongos sent to them.",
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
        "Requests turned away",
        "By the server's limiter, with code 462, for there are too many. Drivers repeat them a few times.",
        "reqps",
        [
            Query(
                "sum by (result) (max by (deployment, rs, member, result) (rate(mongodb_ingress_requests_total{MEMBER}[$__rate_interval])))",
                "{{result}}",
            ),
        ],
        colours={"rejected": BAD},
    ),
    timeseries(
        "Requests that wait to be let in",
        "At the server's limiter, and how many more it would let in at once.",
        "none",
        [
            Query("sum(max by (deployment, rs, member) (mongodb_ingress_queue{MEMBER}))", "wait"),
            Query("sum(max by (deployment, rs, member) (mongodb_ingress_tokens_available{MEMBER}))", "would be let in"),
        ],
    ),
]

TICKETS = [
    timeseries(
        "Queue for a ticket",
        "Operations of normal priority that wait for one. A queue that stays: the storage engine is the bottleneck.",
        "none",
        [Query("sum by (type) (max by (deployment, rs, member, type) (mongodb_ticket_queue{MEMBER}))", "{{type}}")],
        width=12,
    ),
    timeseries(
        "Time spent waiting for a ticket",
        "Seconds a second.",
        "none",
        [Query("sum by (type) (max by (deployment, rs, member, type) (rate(mongodb_ticket_wait_seconds_total{MEMBER}[$__rate_interval])))", "{{type}}")],
        width=12,
    ),
]

SLOW = [
    timeseries(
        "Profiled operations",
        "By namespace and plan. collscan looks at every document.",
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
        "Time that they took",
        "The mean of a profiled operation.",
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
        "Write conflicts, by namespace",
        "Which collection is hot.",
        "ops",
        [
            Query(
                "sum by (namespace) (max by (deployment, rs, member, namespace) (rate(mongodb_profiled_write_conflicts_total{MEMBER}[$__rate_interval])))",
                "{{namespace}}",
            )
        ],
    ),
    timeseries(
        "Slow transactions",
        "The 99th percentile of those that the server logged as slow, and how many there were.",
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
        "Share of it without a statement",
        "How much of a slow transaction was the wait for its client. Near 1 the server is not to blame.",
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
        "What was missed",
        "Times that the profiler, and lines that the log, had overwritten before they were read.",
        "ops",
        [
            Query("sum(max by (deployment, rs, member) (rate(mongodb_profile_gaps_total{MEMBER}[$__rate_interval])))", "gaps in the profiler"),
            Query("sum(max by (deployment, rs, member) (rate(mongodb_log_lines_lost_total{MEMBER}[$__rate_interval])))", "lines of the log"),
        ],
        width=24,
        height=5,
    ),
]

PAGE = Page(
    uid="txnscope-server",
    title="txnscope / Server transactions",
    about="""What mongod's own books say about transactions, and what they wait for.
    Generated: change dashboards/source, then run cargo xtask gen.""",
    variables=[frame.deployment(), frame.rs(), frame.sidecar(), frame.member()],
    annotations=[frame.elections(), frame.alerts()],
    rows=[
        Row("Members", MEMBERS),
        Row("What began, and how it ended", LIFECYCLE),
        Row("What is open", OPEN),
        Row("What it waits for", CONTENTION),
        Row("Whether commits reach the majority", MAJORITY),
        Row("Sharded clusters: prepared transactions and two-phase commits", SHARDED, closed=True),
        Row("Sharded clusters: mongos (only from a mongos)", MONGOS, closed=True),
        Row("Queue for tickets (only from MongoDB 7.0 on)", TICKETS, closed=True),
        Row("Limit on requests (only from MongoDB 8.2 and 8.0.20 on)", INGRESS, closed=True),
        Row("Slow operations and transactions (want collector.profile and collector.slow_transactions)", SLOW, closed=True),
    ],
)
