"""txnscope itself: whether what the other pages show can be trusted."""

import frame
from frame import Page, Row
from panels import BAD, GOOD, NEUTRAL, WARN, Column, Query, limit, number, states, steps, table, timeseries, words

NOW = [
    number(
        "Collectors that fail",
        "Collectors whose last poll failed. Each costs its own metrics only; the table below says which and why.",
        "none",
        "sum(1 - txnscope_poll_success{SIDECAR})",
        steps((None, GOOD), (1, BAD)),
        nothing="no sidecar",
    ),
    number(
        "Oldest poll",
        "Time since the last successful poll of the collector that is furthest behind. The alert's threshold is 120 s.",
        "s",
        "max(txnscope_poll_age_seconds{SIDECAR})",
        steps((None, GOOD), (60, WARN), (120, BAD)),
        decimals=0,
        nothing="no sidecar",
    ),
    number(
        "Configuration",
        "Whether the configuration was accepted when it was read last. If not, the one before is in force.",
        "none",
        "min(txnscope_config_last_reload_successful{SIDECAR})",
        steps((None, BAD), (1, GOOD)),
        mappings=[words(v0=("refused", BAD), v1=("in force", GOOD))],
        nothing="no sidecar",
    ),
    number(
        "Read",
        "How long ago the configuration in force was read.",
        "s",
        "time() - max(txnscope_config_last_reload_success_timestamp_seconds{SIDECAR})",
        steps((None, NEUTRAL)),
        decimals=0,
        nothing="no sidecar",
    ),
    number(
        "Build",
        "The version that runs; several while it is rolled out.",
        "none",
        "count by (version) (txnscope_build_info{SIDECAR})",
        steps((None, NEUTRAL)),
        nothing="no sidecar",
        label="{{version}}",
    ),
    number(
        "Series dropped",
        "Series in this time that a collector offered and the sidecar did not export: over the limit, duplicate, or of the wrong type.",
        "none",
        "sum(increase(txnscope_series_dropped_total{SIDECAR}[$__range]))",
        steps((None, GOOD), (0.5, WARN)),
        decimals=0,
        nothing="no sidecar",
    ),
]

POLLS = [
    states(
        "Polls",
        "By member and collector: green while polls succeed.",
        [Query("min by (member, collector) (txnscope_poll_success{SIDECAR})", "{{member}} {{collector}}")],
        [words(v0=("failing", BAD), v1=("succeeding", GOOD))],
        width=12,
        height=12,
    ),
    table(
        "Collectors",
        "One row for each member and collector. Errors are those in this time.",
        {"rs": "Set", "member": "Member", "collector": "Collector"},
        [
            Column(
                "Last poll",
                "min by (rs, member, collector) (txnscope_poll_success{SIDECAR})",
                "none",
                mapping=words(v0=("failed", BAD), v1=("ok", GOOD)),
            ),
            Column("Age", "max by (rs, member, collector) (txnscope_poll_age_seconds{SIDECAR})", "s", decimals=1),
            Column("Took", "max by (rs, member, collector) (txnscope_poll_duration_seconds{SIDECAR})", "s"),
            Column(
                "Errors",
                "sum by (rs, member, collector) (increase(txnscope_poll_errors_total{SIDECAR}[$__range]))",
                "none",
                [(None, GOOD), (1, WARN)],
                decimals=0,
            ),
        ],
        wide="member",
        sort="Age",
        width=12,
        height=12,
    ),
    timeseries(
        "How long polls take",
        "The slowest member, by collector. Grows with the load of the server, or with what it has open.",
        "s",
        [Query("max by (collector) (txnscope_poll_duration_seconds{SIDECAR})", "{{collector}}")],
    ),
    timeseries(
        "Age of what is shown",
        "The oldest, by collector. Each collector has its own interval. The dashed line is the alert's threshold.",
        "s",
        [
            Query("max by (collector) (txnscope_poll_age_seconds{SIDECAR})", "{{collector}}"),
            limit("max(txnscope:threshold:poll_age_seconds)", "alert"),
        ],
    ),
    timeseries(
        "Polls that failed",
        "By collector and reason. permission_denied: txnscope role prints the role that is wanted.",
        "ops",
        [
            Query(
                "sum by (collector, reason) (rate(txnscope_poll_errors_total{SIDECAR}[$__rate_interval])) > 0",
                "{{collector}}: {{reason}}",
            ),
            Query("sum(rate(txnscope_poll_errors_total{SIDECAR}[$__rate_interval]))", "all"),
        ],
        colours={"all": NEUTRAL},
    ),
]

SCRAPES = [
    timeseries(
        "Targets",
        "Whether Prometheus reaches the sidecar and the backends.",
        "none",
        [
            Query("max by (job, instance) (up and on (job, instance) txnscope_build_info{SIDECAR})", "{{instance}} {{job}}"),
            Query("up{BACKEND}", "{{instance}} {{job}}"),
        ],
        most=1,
    ),
    timeseries(
        "How long scrapes take",
        "The sidecar answers in milliseconds, whatever state the database is in.",
        "s",
        [
            Query(
                "max by (job, instance) (scrape_duration_seconds and on (job, instance) txnscope_build_info{SIDECAR})",
                "{{instance}} {{job}}",
            ),
            Query("scrape_duration_seconds{BACKEND}", "{{instance}} {{job}}"),
        ],
    ),
    timeseries(
        "Samples in a scrape",
        "What each costs Prometheus. It grows with operations and members, and must not grow with traffic.",
        "short",
        [
            Query(
                "max by (job, instance) (scrape_samples_scraped and on (job, instance) txnscope_build_info{SIDECAR})",
                "{{instance}} {{job}}",
            ),
            Query("scrape_samples_scraped{BACKEND}", "{{instance}} {{job}}"),
        ],
    ),
    timeseries(
        "Operations that are told apart",
        """Distinct operations of each job. Many mean that paths are taken for routes; after 200 the rest is one operation,
        overflow. The dashed line is the alert's threshold.""",
        "none",
        [
            Query("count by (job) (count by (job, operation) (transaction_attempts_total{BACKEND}))", "{{job}}"),
            limit("max(txnscope:threshold:operations)", "alert"),
        ],
    ),
    timeseries(
        "Series that were dropped",
        "By collector. The limit of a label was met, or the server says something odd.",
        "ops",
        [Query("sum by (collector) (rate(txnscope_series_dropped_total{SIDECAR}[$__rate_interval]))", "{{collector}}")],
    ),
    timeseries(
        "Failed logins",
        "To the sidecar: wrong passwords, and those that were not checked because too many waited. Its log has the addresses.",
        "ops",
        [Query("sum by (result) (rate(txnscope_failed_logins_total{SIDECAR}[$__rate_interval]))", "{{result}}")],
    ),
]



def of_processes(expr: str, legend: str) -> list[Query]:
    """Of the sidecar's process, and of the backends'. Other exporters have such metrics as well."""
    sidecar = expr.replace("SELECTOR", "SIDECAR")
    return [
        Query(f"max by (job, instance) ({sidecar} and on (job, instance) txnscope_build_info{{SIDECAR}})", legend),
        Query(f"max by (job, instance) ({expr.replace('SELECTOR', 'BACKEND')})", legend),
    ]


PROCESSES = [
    timeseries(
        "CPU",
        "Seconds a second that each process spends on the CPU, and its threads beside.",
        "short",
        [
            *of_processes("rate(process_cpu_seconds_total{SELECTOR}[$__rate_interval])", "{{instance}} {{job}}"),
            *of_processes("process_threads{SELECTOR}", "{{instance}} {{job}}: threads"),
        ],
        log=True,
    ),
    timeseries(
        "Memory",
        "Resident: what each process really has. Virtual: what it has asked for.",
        "bytes",
        [
            *of_processes("process_resident_memory_bytes{SELECTOR}", "{{instance}} {{job}}"),
            *of_processes("process_virtual_memory_bytes{SELECTOR}", "{{instance}} {{job}}: virtual"),
        ],
        log=True,
    ),
    timeseries(
        "Open files and connections",
        "Of each process, and how many it may have. At the limit it takes no connection any more.",
        "none",
        [
            *of_processes("process_open_fds{SELECTOR}", "{{instance}} {{job}}"),
            *of_processes("process_max_fds{SELECTOR}", "{{instance}} {{job}}: limit"),
        ],
        log=True,
    ),
    timeseries(
        "Uptime",
        "Since when each process runs: where it falls to nothing, it was restarted.",
        "s",
        of_processes("time() - process_start_time_seconds{SELECTOR}", "{{instance}} {{job}}"),
        width=24,
        height=6,
    ),
]

PAGE = Page(
    uid="txnscope-self",
    title="txnscope / txnscope itself",
    about="""Whether the sidecar sees what it should, and what it costs.
    Generated: change dashboards/source, then run cargo xtask gen.""",
    variables=[frame.any_sidecar(), frame.job(), frame.instance()],
    annotations=[frame.deploys(), frame.alerts()],
    rows=[Row("Can I trust what I see?", NOW), Row("Polls", POLLS), Row("Scrapes and series", SCRAPES), Row("Processes", PROCESSES)],
)
