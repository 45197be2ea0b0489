//! The audit: the invariants between all counters after a fault, and the exceptions.

use end_to_end::load::Responses;
use txnscope_catalog as catalog;

use crate::counters::Counters;
use crate::fault::FaultRun;

/// A reason why an invariant cannot hold after a fault. Nothing else excuses a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exception {
    /// A member was killed. Its counters are lost, so the driver's counters are not compared with the server's.
    ServerBegan,
    /// The ledger's process was killed. Its counters are lost, so they are compared with no others.
    BackendBegan,
    /// The runtime was shut down, and with it the tasks that end open transactions: the server's lifetime limit ends
    /// them. First statements in flight may or may not have reached the server.
    RuntimeGone,
    /// A failpoint rejects a command before the server handles it: a first statement that would have aborted a
    /// transaction after a real error has started none.
    Injected,
}

/// The violated invariants.
pub(crate) fn audit(
    before: &Counters,
    after: &Counters,
    answers: &Responses,
    fault_run: &FaultRun,
) -> Vec<String> {
    let mut complaints = Vec::new();
    each_side(after, &mut complaints);
    money(before, after, answers, &mut complaints);
    if !fault_run.excepts(Exception::BackendBegan) {
        callers(before, after, answers, &mut complaints);
        if !fault_run.excepts(Exception::ServerBegan) {
            servers(before, after, fault_run, &mut complaints);
        }
    }
    complaints
}

/// The invariants within each set of counters.
fn each_side(after: &Counters, complaints: &mut Vec<String>) {
    for operation in after.operations() {
        let of = [("operation", operation.as_str())];
        let sum = |metric| after.sum(&metric, &of);
        let (attempts, ended) = (sum(catalog::TRANSACTION_ATTEMPTS), sum(catalog::TRANSACTION_DURATION));
        if attempts != ended {
            complaints.push(format!("{operation}: {attempts} attempts, {ended} ended, none in flight"));
        }
        let outcomes = ["rejected", "failed", "cancelled", "panicked"]
            .map(|outcome| after.sum(&catalog::TRANSACTION_DURATION, &[of[0], ("outcome", outcome)]));
        let (bad, failures) = (outcomes.iter().sum::<f64>(), sum(catalog::TRANSACTION_FAILURES));
        if bad != failures {
            complaints.push(format!("{operation}: {bad} did not succeed, {failures} have a reason"));
        }
        let started = sum(catalog::CLIENT_TRANSACTIONS_STARTED);
        let [committed, aborted, unknown] = [
            catalog::CLIENT_TRANSACTIONS_COMMITTED,
            catalog::CLIENT_TRANSACTIONS_ABORTED,
            catalog::CLIENT_TRANSACTIONS_UNKNOWN,
        ]
        .map(sum);
        if started != committed + aborted + unknown {
            complaints.push(format!(
                "{operation}, in the driver: {started} started, {committed} committed, {aborted} aborted, {unknown} unknown"
            ));
        }
    }
    for server in &after.servers {
        if server.started != server.committed + server.aborted {
            complaints.push(format!("a member's own counters do not add up: {server:?}"));
        }
    }
}

/// Acknowledged movements are in the data, and rejected ones are not.
fn money(before: &Counters, after: &Counters, answers: &Responses, complaints: &mut Vec<String>) {
    let moved = after.movements - before.movements;
    let of = |kind| {
        answers
            .iter()
            .filter(|((operation, _), _)| moves_money(operation))
            .filter(move |((_, answer), _)| Response::of(answer) == kind)
            .map(|(_, times)| number(*times))
            .sum::<f64>()
    };
    let acknowledged = of(Response::Succeeded);
    let most = acknowledged + of(Response::Failed) + of(Response::Unanswered);
    if !(acknowledged..=most).contains(&moved) {
        complaints.push(format!(
            "{moved} movements of money; {acknowledged} were acknowledged to callers, {} have an unknown result",
            most - acknowledged
        ));
    }
}

/// A pending payment moves no money, and neither does a handler that only panics.
fn moves_money(operation: &str) -> bool {
    operation.starts_with("POST /api/") && operation != "POST /api/payments"
}

/// The layer's counters match the responses that the callers received.
fn callers(before: &Counters, after: &Counters, answers: &Responses, complaints: &mut Vec<String>) {
    let operations: std::collections::BTreeSet<_> = answers.keys().map(|(operation, _)| *operation).collect();
    for operation in operations {
        let of = |kind| {
            let of_operation = answers.iter().filter(|((of, _), _)| *of == operation);
            let of_kind = of_operation.filter(|((_, answer), _)| Response::of(answer) == kind);
            of_kind.map(|(_, times)| number(*times)).sum::<f64>()
        };
        let unanswered = of(Response::Unanswered);
        let grown = |metric, outcome: Option<&str>| {
            let mut labels = vec![("operation", operation)];
            labels.extend(outcome.map(|outcome| ("outcome", outcome)));
            after.sum(&metric, &labels) - before.sum(&metric, &labels)
        };
        let answered = of(Response::Succeeded) + of(Response::Rejected) + of(Response::Failed);
        for (what, seen, counted) in [
            ("attempts", answered, grown(catalog::TRANSACTION_ATTEMPTS, None)),
            ("succeeded", of(Response::Succeeded), grown(catalog::TRANSACTION_DURATION, Some("succeeded"))),
            ("rejected", of(Response::Rejected), grown(catalog::TRANSACTION_DURATION, Some("rejected"))),
            ("failed", of(Response::Failed), grown(catalog::TRANSACTION_DURATION, Some("failed"))),
        ] {
            if !(seen..=seen + unanswered).contains(&counted) {
                complaints.push(format!(
                    "{operation}, {what}: callers saw {seen} and {unanswered} without an answer, the layer counted {counted}"
                ));
            }
        }
    }
}

/// The driver's counters match the server's.
fn servers(before: &Counters, after: &Counters, fault_run: &FaultRun, complaints: &mut Vec<String>) {
    let driver = |metric, labels: &[(&str, &str)]| after.sum(&metric, labels) - before.sum(&metric, labels);
    let server = |field: fn(&crate::counters::Server) -> f64| {
        let sum = |counters: &Counters| counters.servers.iter().map(field).sum::<f64>();
        sum(after) - sum(before)
    };
    let not_started = |cause| driver(catalog::CLIENT_TRANSACTIONS_NOT_STARTED, &[("cause", cause)]);
    let aborted = |reason| driver(catalog::CLIENT_TRANSACTIONS_ABORTED, &[("reason", reason)]);
    let fenced = driver(catalog::CLIENT_TRANSACTION_CLEANUPS, &[("result", "fenced")]);
    let most =
        driver(catalog::CLIENT_TRANSACTIONS_STARTED, &[]) - not_started("not_sent") - not_started("refused")
            + fenced;
    let mut least = most - not_started("lost");
    if fault_run.excepts(Exception::Injected) {
        least -= number(fault_run.injected);
    }
    if fault_run.excepts(Exception::RuntimeGone) {
        least -= aborted("cancelled");
    }
    let started = server(|server| server.started);
    if !(least..=most).contains(&started) {
        complaints.push(format!(
            "the server started {started}, by the driver's account between {least} and {most}"
        ));
    }
    // An old primary may have counted a commit that was rolled back; the new one has reported this to the client.
    let least = driver(catalog::CLIENT_TRANSACTIONS_COMMITTED, &[]);
    let most = least + driver(catalog::CLIENT_TRANSACTIONS_UNKNOWN, &[]) + aborted("no_such_transaction");
    let committed = server(|server| server.committed);
    if !(least..=most).contains(&committed) {
        complaints.push(format!(
            "the server committed {committed}, by the driver's account between {least} and {most}"
        ));
    }
}

/// The response that a caller received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Response {
    Succeeded,
    Rejected,
    Failed,
    Unanswered,
}

impl Response {
    /// Parses a status of the recorded responses.
    pub(crate) fn of(answer: &str) -> Self {
        match answer.as_bytes().first() {
            Some(b'2') => Self::Succeeded,
            Some(b'4') => Self::Rejected,
            Some(b'5') => Self::Failed,
            _ => Self::Unanswered,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}
