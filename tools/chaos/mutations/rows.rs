//! The mutations of consistent counters, and the expected reports of the audit.

use txnscope_catalog as catalog;

use super::case::{CONSUME, Case, PAYMENT};
use crate::audit::Exception;
use crate::counters::Server;

/// A mutation, and a part of the expected report, if there must be one.
pub(super) type Row = (&'static str, fn(&mut Case), Option<&'static str>);

/// Consistent mutations that only other counters contradict, and the exceptions with their limits.
pub(super) const ROWS: &[Row] = &[
    (
        "an attempt without a request",
        |case| {
            case.counted(catalog::TRANSACTION_ATTEMPTS, &[("operation", CONSUME)], 1.0);
            case.counted(
                catalog::TRANSACTION_DURATION,
                &[("operation", CONSUME), ("outcome", "succeeded")],
                1.0,
            );
        },
        Some("consume, attempts: callers saw 7"),
    ),
    (
        "a success that is counted as a failure",
        |case| {
            case.answered(CONSUME, "503", 1);
            *case.answers.get_mut(&(CONSUME, "200".to_owned())).unwrap() -= 1;
        },
        Some("consume, failed: callers saw 1"),
    ),
    (
        "a failure without a reason",
        |case| {
            case.counted(
                catalog::TRANSACTION_FAILURES,
                &[("operation", PAYMENT), ("outcome", "failed"), ("reason", "other")],
                -1.0,
            );
        },
        Some("payments: 1 did not succeed, 0 have a reason"),
    ),
    (
        "money that was moved twice",
        |case| case.movements += 1.0,
        Some("6 movements of money; 5 were acknowledged"),
    ),
    ("money that was lost", |case| case.movements -= 1.0, Some("4 movements of money; 5 were acknowledged")),
    (
        "a commit that the server does not know",
        |case| {
            case.servers[0].committed -= 1.0;
            case.servers[0].aborted += 1.0;
        },
        Some("the server committed 5, by the driver's account between 6 and 6"),
    ),
    (
        "a commit that the driver does not know",
        |case| {
            case.servers[1].committed += 1.0;
            case.servers[1].aborted -= 1.0;
        },
        Some("the server committed 7"),
    ),
    (
        "a transaction without a caller",
        |case| {
            case.servers[1].started += 1.0;
            case.servers[1].aborted += 1.0;
        },
        Some("the server started 9, by the driver's account between 8 and 8"),
    ),
    (
        "a transaction that the driver counts and never started",
        |case| {
            case.counted(catalog::CLIENT_TRANSACTIONS_STARTED, &[("operation", CONSUME)], 1.0);
            case.counted(
                catalog::CLIENT_TRANSACTIONS_ABORTED,
                &[("operation", CONSUME), ("reason", "network")],
                1.0,
            );
        },
        Some("the server started 8, by the driver's account between 9 and 9"),
    ),
    (
        "a member that counts one as neither",
        |case| case.servers[0].aborted -= 1.0,
        Some("a member's own counters"),
    ),
    (
        "one without an answer that was counted",
        |case| {
            case.answered(CONSUME, "gone", 1);
            case.counted(catalog::TRANSACTION_ATTEMPTS, &[("operation", CONSUME)], 1.0);
            case.counted(
                catalog::TRANSACTION_DURATION,
                &[("operation", CONSUME), ("outcome", "succeeded")],
                1.0,
            );
            case.movements += 1.0;
        },
        None,
    ),
    (
        "one without an answer that was counted twice",
        |case| {
            case.answered(CONSUME, "gone", 1);
            case.counted(catalog::TRANSACTION_ATTEMPTS, &[("operation", CONSUME)], 2.0);
            case.counted(
                catalog::TRANSACTION_DURATION,
                &[("operation", CONSUME), ("outcome", "succeeded")],
                2.0,
            );
        },
        Some("consume, attempts"),
    ),
    (
        "one without an answer that moved money twice",
        |case| {
            case.answered(CONSUME, "gone", 1);
            case.movements += 2.0;
        },
        Some("7 movements of money"),
    ),
    (
        "as many not started as were injected",
        |case| {
            (case.exceptions, case.injected) = (&[Exception::Injected], 1);
            (case.servers[0].started, case.servers[0].aborted) = (5.0, 0.0);
        },
        None,
    ),
    (
        "more not started than were injected",
        |case| {
            (case.exceptions, case.injected) = (&[Exception::Injected], 1);
            (case.servers[0].started, case.servers[0].aborted) = (5.0, 0.0);
            (case.servers[1].started, case.servers[1].aborted) = (1.0, 0.0);
        },
        Some("the server started 6, by the driver's account between 7 and 8"),
    ),
    (
        "not started, without a runtime shutdown",
        |case| cancelled_and_not_started(case),
        Some("the server started 8"),
    ),
    (
        "not started, with a runtime shutdown",
        |case| {
            case.exceptions = &[Exception::RuntimeGone];
            cancelled_and_not_started(case);
        },
        None,
    ),
    (
        "more not started than were cancelled with their runtime",
        |case| {
            case.exceptions = &[Exception::RuntimeGone];
            cancelled_and_not_started(case);
            (case.servers[0].started, case.servers[0].aborted) = (5.0, 0.0);
        },
        Some("the server started 7, by the driver's account between 8 and 9"),
    ),
    (
        "a server that was restarted",
        |case| {
            case.exceptions = &[Exception::ServerBegan];
            case.servers[0] = Server::default();
        },
        None,
    ),
    (
        "a server that was restarted, and an attempt too many",
        |case| {
            case.exceptions = &[Exception::ServerBegan];
            case.answered(CONSUME, "409", 1);
        },
        Some("consume, attempts"),
    ),
    (
        "a ledger that was restarted",
        |case| {
            case.exceptions = &[Exception::BackendBegan];
            case.answered(CONSUME, "409", 1);
        },
        None,
    ),
    (
        "a ledger that was restarted, and money that was lost",
        |case| {
            case.exceptions = &[Exception::BackendBegan];
            case.movements -= 1.0;
        },
        Some("4 movements of money"),
    ),
    (
        "an attempt that never ended",
        |case| {
            case.answered(CONSUME, "gone", 1);
            case.counted(catalog::TRANSACTION_ATTEMPTS, &[("operation", CONSUME)], 1.0);
        },
        Some("consume: 8 attempts, 7 ended"),
    ),
    ("one that was not sent", |case| aborted(case, "network", "not_sent"), None),
    ("one that was refused", |case| aborted(case, "not_primary", "refused"), None),
    ("one that was lost, and not begun", |case| aborted(case, "network", "lost"), None),
    (
        "one that was lost, and begun",
        |case| {
            aborted(case, "network", "lost");
            begun(&mut case.servers[0], 0.0);
        },
        None,
    ),
    (
        "one that was not sent, and begun",
        |case| {
            aborted(case, "network", "not_sent");
            begun(&mut case.servers[0], 0.0);
        },
        Some("the server started 9, by the driver's account between 8 and 8"),
    ),
    (
        "one that was begun to fence another off",
        |case| {
            case.counted(
                catalog::CLIENT_TRANSACTION_CLEANUPS,
                &[("operation", CONSUME), ("result", "fenced")],
                1.0,
            );
            begun(&mut case.servers[0], 0.0);
        },
        None,
    ),
    (
        "a commit of an old primary's, which was rolled back",
        |case| {
            let of = ("operation", CONSUME);
            case.counted(catalog::CLIENT_TRANSACTIONS_STARTED, &[of], 1.0);
            case.counted(catalog::CLIENT_TRANSACTIONS_ABORTED, &[of, ("reason", "no_such_transaction")], 1.0);
            begun(&mut case.servers[0], 1.0);
        },
        None,
    ),
    (
        "a commit with an unknown result that took effect",
        |case| {
            case.counted(catalog::CLIENT_TRANSACTIONS_STARTED, &[("operation", CONSUME)], 1.0);
            case.counted(catalog::CLIENT_TRANSACTIONS_UNKNOWN, &[("operation", CONSUME)], 1.0);
            begun(&mut case.servers[0], 1.0);
        },
        None,
    ),
];

/// A transaction that the driver counts as aborted, and as not started for that cause.
fn aborted(case: &mut Case, reason: &str, cause: &str) {
    let of = ("operation", CONSUME);
    case.counted(catalog::CLIENT_TRANSACTIONS_STARTED, &[of], 1.0);
    case.counted(catalog::CLIENT_TRANSACTIONS_ABORTED, &[of, ("reason", reason)], 1.0);
    case.counted(catalog::CLIENT_TRANSACTIONS_NOT_STARTED, &[of, ("cause", cause)], 1.0);
}

/// One more transaction on a member, committed or not.
fn begun(server: &mut Server, committed: f64) {
    server.started += 1.0;
    server.committed += committed;
    server.aborted += 1.0 - committed;
}

/// A transaction that the driver has counted, and the server has not.
fn cancelled_and_not_started(case: &mut Case) {
    let of = ("operation", CONSUME);
    case.counted(catalog::CLIENT_TRANSACTIONS_STARTED, &[of], 1.0);
    case.counted(catalog::CLIENT_TRANSACTIONS_ABORTED, &[of, ("reason", "cancelled")], 1.0);
}
