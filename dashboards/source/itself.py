"""txnscope itself: the health of the sidecar, which the other dashboards depend on."""

import frame
from frame import Page, Row
from panels import BAD, GOOD, NEUTRAL, WARN, Column, Query, limit, number, states, steps, table, timeseries, words

NOW = [
    number(
        "Failing collectors",
        """Collectors whose last poll failed. Only the metrics of the failing collector are missing; the table below lists the
        collectors.""",
        "none",
        "sum(1 - txnscope_poll_success{SIDECAR})",
        steps((None, GOOD), (1, BAD)),
        nothing="no sidecar",
    ),
    number(
        "Age of the oldest poll",
        "Time since the last successful poll of the collector with the oldest data. The alert threshold is 120 s.",
        "s",
        "max(txnscope_poll_age_seconds{SIDECAR})",
        steps((None, GOOD), (60, WARN), (120, BAD)),
        decimals=0,
        nothing="no sidecar",
    ),
    number(
        "Configuration reload",
        "Whether the last reload of the configuration succeeded. If not, the previous configuration is active.",
        "none",
        "min(txnscope_config_last_reload_successful{SIDECAR})",
        steps((None, BAD), (1, GOOD)),
        mappings=[words(v0=("rejected", BAD), v1=("active", GOOD))],
        nothing="no sidecar",
    ),
    number(
        "Age of the configuration",
        "Time since the active configuration was loaded.",
        "s",
        "time() - max(txnscope_config_last_reload_success_timestamp_seconds{SIDECAR})",
        steps((None, NEUTRAL)),
        decimals=0,
        nothing="no sidecar",
    ),
    number(
        "Sidecar version",
        "The running version of the sidecar; several versions during a rollout.",
        "none",
        "count by (version) (txnscope_build_info{SIDECAR})",
        steps((None, NEUTRAL)),
        nothing="no sidecar",
        label="{{version}}",
    ),
    number(
        "Dropped series",
        "Series in the selected time range that the sidecar did not export: over the limit, duplicate, or of the wrong type.",
        "none",
        "sum(increase(txnscope_series_dropped_total{SIDECAR}[$__range]))",
        steps((None, GOOD), (0.5, WARN)),
        decimals=0,
        nothing="no sidecar",
    ),
]

POLLS = [
    states(
        "Poll success",
        "By member and collector: green while polls succeed.",
        [Query("min by (member, collector) (txnscope_poll_success{SIDECAR})", "{{member}} {{collector}}")],
        [words(v0=("failing", BAD), v1=("succeeding", GOOD))],
        width=12,
        height=12,
    ),
    table(
        "Collectors",
        "One row for each member and collector. Errors are counted in the selected time range.",
        {"rs": "Replica set", "member": "Member", "collector": "Collector"},
        [
            Column(
                "Last poll",
                "min by (rs, member, collector) (txnscope_poll_success{SIDECAR})",
                "none",
                mapping=words(v0=("failed", BAD), v1=("ok", GOOD)),
            ),
            Column("Age", "max by (rs, member, collector) (txnscope_poll_age_seconds{SIDECAR})", "s", decimals=1),
            Column("Duration", "max by (rs, member, collector) (txnscope_poll_duration_seconds{SIDECAR})", "s"),
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
        "Poll duration",
        """The slowest member, by collector. The duration grows with the load of the server, or with its number of open
        transactions.""",
        "s",
        [Query("max by (collector) (txnscope_poll_duration_seconds{SIDECAR})", "{{collector}}")],
    ),
    timeseries(
        "Poll age",
        "The oldest poll, by collector. Each collector has its own interval. The dashed line is the alert threshold.",
        "s",
        [
            Query("max by (collector) (txnscope_poll_age_seconds{SIDECAR})", "{{collector}}"),
            limit("max(txnscope:threshold:poll_age_seconds)", "alert threshold"),
        ],
    ),
    timeseries(
        "Failed polls",
        "By collector and reason. permission_denied: txnscope role prints the required role.",
        "ops",
        [
            Query(
                "sum by (collector, reason) (rate(txnscope_poll_errors_total{SIDECAR}[$__rate_interval])) > 0",
                "{{collector}}: {{reason}}",
            ),
            Query("sum(rate(txnscope_poll_errors_total{SIDECAR}[$__rate_interval]))", "all"),
        ],
        colors={"all": NEUTRAL},
    ),
]

SCRAPES = [
    timeseries(
        "Target availability",
        "Whether Prometheus reaches the sidecar and the backends.",
        "none",
        [
            Query("max by (job, instance) (up and on (job, instance) txnscope_build_info{SIDECAR})", "{{instance}} {{job}}"),
            Query("up{BACKEND}", "{{instance}} {{job}}"),
        ],
        most=1,
    ),
    timeseries(
        "Scrape duration",
        "The sidecar responds in milliseconds, independent of the state of the database.",
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
        "Samples per scrape",
        "Samples that Prometheus stores per scrape. The number grows with operations and members, and must not grow with traffic.",
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
        "Distinct operations",
        """Distinct operations of each job. A high number indicates raw paths instead of route templates; after 200 all other operations
        are counted as overflow. The dashed line is the alert threshold.""",
        "none",
        [
            Query("count by (job) (count by (job, operation) (transaction_attempts_total{BACKEND}))", "{{job}}"),
            limit("max(txnscope:threshold:operations)", "alert threshold"),
        ],
    ),
    timeseries(
        "Rate of dropped series",
        "By collector. The limit of a label was reached, or the server returned invalid data.",
        "ops",
        [Query("sum by (collector) (rate(txnscope_series_dropped_total{SIDECAR}[$__rate_interval]))", "{{collector}}")],
    ),
    timeseries(
        "Failed logins",
        """Logins to the sidecar with a wrong password, and logins that were not checked because too many were waiting. The log
        of the sidecar has the addresses.""",
        "ops",
        [Query("sum by (result) (rate(txnscope_failed_logins_total{SIDECAR}[$__rate_interval]))", "{{result}}")],
    ),
]



def of_processes(expr: str, legend: str) -> list[Query]:
    """Queries for the processes of the sidecar and of the backends. Other exporters export the same metrics."""
    sidecar = expr.replace("SELECTOR", "SIDECAR")
    return [
        Query(f"max by (job, instance) ({sidecar} and on (job, instance) txnscope_build_info{{SIDECAR}})", legend),
        Query(f"max by (job, instance) ({expr.replace('SELECTOR', 'BACKEND')})", legend),
    ]


PROCESSES = [
    timeseries(
        "CPU and threads",
        "CPU time of each process in seconds per second, and its threads.",
        "short",
        [
            *of_processes("rate(process_cpu_seconds_total{SELECTOR}[$__rate_interval])", "{{instance}} {{job}}"),
            *of_processes("process_threads{SELECTOR}", "{{instance}} {{job}}: threads"),
        ],
        log=True,
    ),
    timeseries(
        "Memory",
        "Resident and virtual memory of each process.",
        "bytes",
        [
            *of_processes("process_resident_memory_bytes{SELECTOR}", "{{instance}} {{job}}"),
            *of_processes("process_virtual_memory_bytes{SELECTOR}", "{{instance}} {{job}}: virtual"),
        ],
        log=True,
    ),
    timeseries(
        "Open file descriptors",
        "Open file descriptors of each process, and their limit. At the limit the process accepts no more connections.",
        "none",
        [
            *of_processes("process_open_fds{SELECTOR}", "{{instance}} {{job}}"),
            *of_processes("process_max_fds{SELECTOR}", "{{instance}} {{job}}: limit"),
        ],
        log=True,
    ),
    timeseries(
        "Uptime",
        "Uptime of each process: it falls to zero at a restart.",
        "s",
        of_processes("time() - process_start_time_seconds{SELECTOR}", "{{instance}} {{job}}"),
        width=24,
        height=6,
    ),
]

PAGE = Page(
    uid="txnscope-self",
    title="txnscope / txnscope itself",
    about="""Health of the sidecar: polls, scrapes, series and processes.
    Generated: change dashboards/source, then run cargo xtask gen.""",
    variables=[frame.any_sidecar(), frame.job(), frame.instance()],
    annotations=[frame.deploys(), frame.alerts()],
    rows=[Row("Summary", NOW), Row("Polls", POLLS), Row("Scrapes and series", SCRAPES), Row("Processes", PROCESSES)],
)
