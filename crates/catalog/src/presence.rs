//! Conditions under which a metric is exported.

use crate::Metric;
use crate::checks::*;
use crate::server::*;

/// The condition under which the sidecar exports a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// From every member of a replica set in which a transaction has committed.
    Always,
    /// Only from servers of version 7.0 and later.
    Server7,
    /// Only from servers of version 8.2 or 8.0.20 and later, which can limit incoming requests.
    Ingress,
    /// Only from a mongos.
    Mongos,
    /// Only if the collector is enabled.
    OptionalCollector,
    /// Only if checks are configured.
    Checks,
    /// Only if backends are configured for the collector `open_by_operation`.
    Backends,
}

impl Metric {
    /// The condition under which the sidecar exports the metric.
    #[must_use]
    pub fn presence(&self) -> Presence {
        let is_in = |metrics: &[&Metric]| metrics.iter().any(|metric| metric.name == self.name);
        if is_in(FROM_7) {
            Presence::Server7
        } else if is_in(INGRESS) {
            Presence::Ingress
        } else if is_in(MONGOS) {
            Presence::Mongos
        } else if is_in(ON_REQUEST) {
            Presence::OptionalCollector
        } else if is_in(CHECKS) {
            Presence::Checks
        } else if is_in(BACKENDS) {
            Presence::Backends
        } else {
            Presence::Always
        }
    }
}

const FROM_7: &[&Metric] = &[&MONGODB_TICKET_QUEUE, &MONGODB_TICKET_WAIT_SECONDS];

const INGRESS: &[&Metric] = &[&MONGODB_INGRESS_REQUESTS, &MONGODB_INGRESS_QUEUE, &MONGODB_INGRESS_TOKENS];

const MONGOS: &[&Metric] = &[
    &MONGODB_TRANSACTION_COMMITS_INITIATED,
    &MONGODB_TRANSACTION_COMMITS_SUCCESSFUL,
    &MONGODB_TRANSACTION_COMMITS_SUCCESSFUL_SECONDS,
    &MONGODB_TRANSACTION_ABORTS_BY_CAUSE,
    &MONGODB_TRANSACTION_PARTICIPANTS_CONTACTED,
    &MONGODB_TRANSACTION_PARTICIPANTS_AT_COMMIT,
    &MONGODB_TRANSACTION_REQUESTS_TARGETED,
];

const ON_REQUEST: &[&Metric] = &[
    &MONGODB_PROFILED_OPERATIONS,
    &MONGODB_PROFILED_OPERATIONS_SECONDS,
    &MONGODB_PROFILED_WRITE_CONFLICTS,
    &MONGODB_PROFILE_GAPS,
    &MONGODB_SLOW_TRANSACTION_DURATION,
    &MONGODB_SLOW_TRANSACTION_INACTIVE_SECONDS,
    &MONGODB_LOG_LINES_LOST,
];

const CHECKS: &[&Metric] = &[
    &MONGODB_CONSISTENCY_VIOLATIONS,
    &MONGODB_CONSISTENCY_LAST_SUCCESS,
    &MONGODB_CONSISTENCY_INTERVAL,
    &MONGODB_CONSISTENCY_CHECK_DURATION,
    &MONGODB_CONSISTENCY_DOCUMENTS_EXAMINED,
    &MONGODB_CONSISTENCY_CHECK_ERRORS,
];

const BACKENDS: &[&Metric] =
    &[&MONGODB_TRANSACTIONS_OPEN_BY_OPERATION, &MONGODB_TRANSACTIONS_OLDEST_OPEN_BY_OPERATION];
