//! Contention metrics: locks, queues, tickets, flow control.

use super::{MEMBER, RS, TYPE_OF_ACCESS, count, gauge, seconds, with_labels};
use crate::{Label, Metric, Unit, Values};

/// The resources of the server's lock manager. `other` is for those of newer servers.
pub const LOCK_RESOURCES: &[&str] = &[
    "parallel_batch_writer_mode",
    "feature_compatibility_version",
    "replication_state_transition",
    "global",
    "database",
    "collection",
    "mutex",
    "metadata",
    "oplog",
    "other",
];

/// The lock modes: the server's `r`, `w`, `R` and `W`.
pub const LOCK_MODES: &[&str] = &["intent_shared", "intent_exclusive", "shared", "exclusive"];

const LOCK: &[Label] = &[
    RS,
    MEMBER,
    Label { name: "resource", help: "resource of the lock", values: Values::Closed(LOCK_RESOURCES) },
    Label {
        name: "mode",
        help: "lock mode: `r`, `w`, `R` and `W` in the server's short form",
        values: Values::Closed(LOCK_MODES),
    },
];

const ACCESS: &[Label] = &[RS, MEMBER, TYPE_OF_ACCESS];

/// Lock requests that waited.
pub const MONGODB_LOCK_WAITS: Metric = with_labels(
    count(
        "mongodb_lock_waits_total",
        "Lock requests that had to wait; each is counted when its wait begins.",
        "serverStatus.locks.<resource>.acquireWaitCount.<mode>",
    ),
    LOCK,
);

/// Time spent waiting for locks.
pub const MONGODB_LOCK_WAIT_SECONDS: Metric = with_labels(
    seconds(
        "mongodb_lock_wait_seconds_total",
        "Time that lock requests waited, added up over all of them. It advances during a wait, every half second.",
        "serverStatus.locks.<resource>.timeAcquiringMicros.<mode>",
    ),
    LOCK,
);

/// Deadlocks.
pub const MONGODB_LOCK_DEADLOCKS: Metric = with_labels(
    count(
        "mongodb_lock_deadlocks_total",
        "Lock requests that were part of a deadlock.",
        "serverStatus.locks.<resource>.deadlockCount.<mode>",
    ),
    LOCK,
);

/// Operations that wait for the global lock or for a ticket.
pub const MONGODB_GLOBAL_LOCK_QUEUE: Metric = with_labels(
    gauge(
        "mongodb_global_lock_queue",
        Unit::Count,
        "Operations that wait for a lock.",
        "serverStatus.globalLock.currentQueue.readers, .writers",
    ),
    ACCESS,
);

/// Clients with an operation in progress.
pub const MONGODB_GLOBAL_LOCK_ACTIVE_CLIENTS: Metric = with_labels(
    gauge(
        "mongodb_global_lock_active_clients",
        Unit::Count,
        "Clients that hold or want the global lock for an operation in progress.",
        "serverStatus.globalLock.activeClients.readers, .writers",
    ),
    ACCESS,
);

/// Tickets in use.
pub const MONGODB_TICKETS_IN_USE: Metric = with_labels(
    gauge(
        "mongodb_tickets_in_use",
        Unit::Count,
        "Tickets for the storage engine that operations hold. An idle transaction holds none.",
        "serverStatus.wiredTiger.concurrentTransactions.<type>.out, or queues.execution.<type>.out",
    ),
    ACCESS,
);

/// Tickets not in use.
pub const MONGODB_TICKETS_AVAILABLE: Metric = with_labels(
    gauge(
        "mongodb_tickets_available",
        Unit::Count,
        "Tickets for the storage engine that are free. Servers from 7.0 on adjust the number dynamically, so monitor the queue instead.",
        "serverStatus.wiredTiger.concurrentTransactions.<type>.available, or queues.execution.<type>.available",
    ),
    ACCESS,
);

/// All tickets.
pub const MONGODB_TICKETS_LIMIT: Metric = with_labels(
    gauge(
        "mongodb_tickets_limit",
        Unit::Count,
        "Tickets for the storage engine, in use and free.",
        "serverStatus.wiredTiger.concurrentTransactions.<type>.totalTickets, or queues.execution.<type>.totalTickets",
    ),
    ACCESS,
);

/// Operations that wait for a ticket.
pub const MONGODB_TICKET_QUEUE: Metric = with_labels(
    gauge(
        "mongodb_ticket_queue",
        Unit::Count,
        "Operations of normal priority that wait for a ticket; servers from 7.0 on.",
        "serverStatus.queues.execution.<type>.normalPriority.queueLength, or wiredTiger.concurrentTransactions",
    ),
    ACCESS,
);

/// Time spent waiting for tickets.
pub const MONGODB_TICKET_WAIT_SECONDS: Metric = with_labels(
    seconds(
        "mongodb_ticket_wait_seconds_total",
        "Time that operations of normal priority waited for a ticket, added up over all of them; servers from 7.0 on.",
        "serverStatus.queues.execution.<type>.normalPriority.totalTimeQueuedMicros, or wiredTiger.concurrentTransactions",
    ),
    ACCESS,
);

/// The results of the server's rate limiter for incoming requests.
pub const INGRESS_RESULTS: &[&str] = &["admitted", "rejected", "exempted"];

const INGRESS: &[Label] = &[
    RS,
    MEMBER,
    Label {
        name: "result",
        help: "`admitted`; `rejected` with code 462, which drivers retry a few times; `exempted`: not subject to the limit",
        values: Values::Closed(INGRESS_RESULTS),
    },
];

/// Requests that the rate limiter admitted or rejected.
pub const MONGODB_INGRESS_REQUESTS: Metric = with_labels(
    count(
        "mongodb_ingress_requests_total",
        "Incoming requests by the decision of the server's rate limiter; servers with ingressRequestRateLimiterEnabled, from 8.2 and 8.0.20 on.",
        "serverStatus.network.ingressRequestRateLimiter.successfulAdmissions, .rejectedAdmissions, .exemptedAdmissions",
    ),
    INGRESS,
);

/// Requests that wait at the rate limiter.
pub const MONGODB_INGRESS_QUEUE: Metric = gauge(
    "mongodb_ingress_queue",
    Unit::Count,
    "Requests in the queue of the server's rate limiter; servers from 8.2 and 8.0.20 on.",
    "serverStatus.network.ingressRequestRateLimiter.currentQueueDepth, or .addedToQueue less .removedFromQueue",
);

/// Requests that the rate limiter would admit at once.
pub const MONGODB_INGRESS_TOKENS: Metric = gauge(
    "mongodb_ingress_tokens_available",
    Unit::Count,
    "Requests that the server's rate limiter would admit at once; servers from 8.2 and 8.0.20 on.",
    "serverStatus.network.ingressRequestRateLimiter.totalAvailableTokens",
);

/// Whether flow control slows writers down.
pub const MONGODB_FLOW_CONTROL_LAGGED: Metric = gauge(
    "mongodb_flow_control_lagged",
    Unit::Boolean,
    "Whether flow control slows writers down now, because the majority lags behind.",
    "serverStatus.flowControl.isLagged",
);

/// Number of times that flow control began to slow writers down.
pub const MONGODB_FLOW_CONTROL_LAGGED_TOTAL: Metric = count(
    "mongodb_flow_control_lagged_total",
    "How often flow control found the majority lagging.",
    "serverStatus.flowControl.isLaggedCount",
);

/// Time during which flow control slowed writers down.
pub const MONGODB_FLOW_CONTROL_LAGGED_SECONDS: Metric = seconds(
    "mongodb_flow_control_lagged_seconds_total",
    "Time during which flow control found the majority lagging.",
    "serverStatus.flowControl.isLaggedTimeMicros",
);

/// Time that writers waited for flow control.
pub const MONGODB_FLOW_CONTROL_WAIT_SECONDS: Metric = seconds(
    "mongodb_flow_control_wait_seconds_total",
    "Time that writers waited for flow control, added up over all of them.",
    "serverStatus.flowControl.timeAcquiringMicros",
);
