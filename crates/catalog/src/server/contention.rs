//! Where operations wait for each other: locks, queues, tickets, flow control.

use super::{MEMBER, RS, TYPE_OF_ACCESS, by, count, gauge, seconds};
use crate::{Label, Metric, Unit, Values};

/// The resources of the server's lock manager. `other` takes those that a newer server has added.
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

/// The modes of a lock: the server's `r`, `w`, `R` and `W`.
pub const LOCK_MODES: &[&str] = &["intent_shared", "intent_exclusive", "shared", "exclusive"];

const LOCK: &[Label] = &[
    RS,
    MEMBER,
    Label { name: "resource", help: "what is locked", values: Values::Closed(LOCK_RESOURCES) },
    Label {
        name: "mode",
        help: "how: `r`, `w`, `R` and `W` in the server's own short form",
        values: Values::Closed(LOCK_MODES),
    },
];

const ACCESS: &[Label] = &[RS, MEMBER, TYPE_OF_ACCESS];

/// Lock requests that waited.
pub const MONGODB_LOCK_WAITS: Metric = by(
    count(
        "mongodb_lock_waits_total",
        "Lock requests that had to wait, each counted when its wait begins.",
        "serverStatus.locks.<resource>.acquireWaitCount.<mode>",
    ),
    LOCK,
);

/// Time spent waiting for locks.
pub const MONGODB_LOCK_WAIT_SECONDS: Metric = by(
    seconds(
        "mongodb_lock_wait_seconds_total",
        "Time that lock requests waited, added up over all of them. It advances during a wait, every half second.",
        "serverStatus.locks.<resource>.timeAcquiringMicros.<mode>",
    ),
    LOCK,
);

/// Deadlocks.
pub const MONGODB_LOCK_DEADLOCKS: Metric = by(
    count(
        "mongodb_lock_deadlocks_total",
        "Lock requests that met a deadlock.",
        "serverStatus.locks.<resource>.deadlockCount.<mode>",
    ),
    LOCK,
);

/// Operations that wait for the global lock or for a ticket.
pub const MONGODB_GLOBAL_LOCK_QUEUE: Metric = by(
    gauge(
        "mongodb_global_lock_queue",
        Unit::Count,
        "Operations that wait for a lock.",
        "serverStatus.globalLock.currentQueue.readers, .writers",
    ),
    ACCESS,
);

/// Clients with an operation in progress.
pub const MONGODB_GLOBAL_LOCK_ACTIVE_CLIENTS: Metric = by(
    gauge(
        "mongodb_global_lock_active_clients",
        Unit::Count,
        "Clients that hold or want the global lock for an operation in progress.",
        "serverStatus.globalLock.activeClients.readers, .writers",
    ),
    ACCESS,
);

/// Tickets in use.
pub const MONGODB_TICKETS_IN_USE: Metric = by(
    gauge(
        "mongodb_tickets_in_use",
        Unit::Count,
        "Tickets for the storage engine that operations hold. An idle transaction holds none.",
        "serverStatus.wiredTiger.concurrentTransactions.<type>.out, or queues.execution.<type>.out",
    ),
    ACCESS,
);

/// Tickets not in use.
pub const MONGODB_TICKETS_AVAILABLE: Metric = by(
    gauge(
        "mongodb_tickets_available",
        Unit::Count,
        "Tickets for the storage engine that are free. From 7.0 on the server lowers their number by itself: watch the queue.",
        "serverStatus.wiredTiger.concurrentTransactions.<type>.available, or queues.execution.<type>.available",
    ),
    ACCESS,
);

/// All tickets.
pub const MONGODB_TICKETS_LIMIT: Metric = by(
    gauge(
        "mongodb_tickets_limit",
        Unit::Count,
        "Tickets for the storage engine, in use and free.",
        "serverStatus.wiredTiger.concurrentTransactions.<type>.totalTickets, or queues.execution.<type>.totalTickets",
    ),
    ACCESS,
);

/// Operations that wait for a ticket.
pub const MONGODB_TICKET_QUEUE: Metric = by(
    gauge(
        "mongodb_ticket_queue",
        Unit::Count,
        "Operations of normal priority that wait for a ticket; servers from 7.0 on.",
        "serverStatus.queues.execution.<type>.normalPriority.queueLength, or wiredTiger.concurrentTransactions",
    ),
    ACCESS,
);

/// Time spent waiting for tickets.
pub const MONGODB_TICKET_WAIT_SECONDS: Metric = by(
    seconds(
        "mongodb_ticket_wait_seconds_total",
        "Time that operations of normal priority waited for a ticket, added up over all of them; servers from 7.0 on.",
        "serverStatus.queues.execution.<type>.normalPriority.totalTimeQueuedMicros, or wiredTiger.concurrentTransactions",
    ),
    ACCESS,
);

/// What the limiter of requests does with one that comes in.
pub const INGRESS_RESULTS: &[&str] = &["admitted", "rejected", "exempted"];

const INGRESS: &[Label] = &[
    RS,
    MEMBER,
    Label {
        name: "result",
        help: "`admitted`; `rejected` with code 462, which drivers repeat a few times; `exempted`: not subject to the limit",
        values: Values::Closed(INGRESS_RESULTS),
    },
];

/// Requests that the server let in or turned away.
pub const MONGODB_INGRESS_REQUESTS: Metric = by(
    count(
        "mongodb_ingress_requests_total",
        "Requests that came to the server's limiter, by what became of them; servers with ingressRequestRateLimiterEnabled, from 8.2 and 8.0.20 on.",
        "serverStatus.network.ingressRequestRateLimiter.successfulAdmissions, .rejectedAdmissions, .exemptedAdmissions",
    ),
    INGRESS,
);

/// Requests that wait to be let in.
pub const MONGODB_INGRESS_QUEUE: Metric = gauge(
    "mongodb_ingress_queue",
    Unit::Count,
    "Requests that wait at the server's limiter to be let in; servers from 8.2 and 8.0.20 on.",
    "serverStatus.network.ingressRequestRateLimiter.currentQueueDepth, or .addedToQueue less .removedFromQueue",
);

/// Requests that the server would let in at once.
pub const MONGODB_INGRESS_TOKENS: Metric = gauge(
    "mongodb_ingress_tokens_available",
    Unit::Count,
    "Requests that the server's limiter would let in at once; servers from 8.2 and 8.0.20 on.",
    "serverStatus.network.ingressRequestRateLimiter.totalAvailableTokens",
);

/// Whether flow control slows writers down.
pub const MONGODB_FLOW_CONTROL_LAGGED: Metric = gauge(
    "mongodb_flow_control_lagged",
    Unit::Boolean,
    "Whether flow control slows writers down now, because the majority lags behind.",
    "serverStatus.flowControl.isLagged",
);

/// How often flow control began to slow writers down.
pub const MONGODB_FLOW_CONTROL_LAGGED_TOTAL: Metric = count(
    "mongodb_flow_control_lagged_total",
    "How often flow control found the majority lagging.",
    "serverStatus.flowControl.isLaggedCount",
);

/// How long flow control slowed writers down.
pub const MONGODB_FLOW_CONTROL_LAGGED_SECONDS: Metric = seconds(
    "mongodb_flow_control_lagged_seconds_total",
    "Time during which flow control found the majority lagging.",
    "serverStatus.flowControl.isLaggedTimeMicros",
);

/// How long writers waited for flow control.
pub const MONGODB_FLOW_CONTROL_WAIT_SECONDS: Metric = seconds(
    "mongodb_flow_control_wait_seconds_total",
    "Time that writers waited for flow control, added up over all of them.",
    "serverStatus.flowControl.timeAcquiringMicros",
);
