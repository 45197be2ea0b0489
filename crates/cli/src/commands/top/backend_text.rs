//! What transactions wait for in the backends, as text: the server sees nothing of it.

use txnscope_sidecar::live::{ConnectionPool, KeyQueue, LiveReport};

use super::text::{counted, plain};
use crate::output::grouped;

/// The longest queues that are named.
const MAX_QUEUES: usize = 3;

/// The longest queues, and the pools that have no connection left, each on one line.
pub(super) fn waits(report: &LiveReport) -> Vec<String> {
    let mut lines: Vec<_> = report.queues.iter().take(MAX_QUEUES).map(queue).collect();
    let more = report.queues.len().saturating_sub(MAX_QUEUES);
    if more > 0 {
        lines.push(format!("transactions wait for {}", counted(more, "more key")));
    }
    lines.extend(report.pools.iter().filter(|pool| pool.is_exhausted()).map(pool));
    lines
}

fn queue(queue: &KeyQueue) -> String {
    let holder = queue
        .operation
        .as_deref()
        .map_or_else(String::new, |operation| format!(", which {} holds", plain(operation)));
    let waiting = usize::try_from(queue.waiting).unwrap_or(usize::MAX);
    let wait = if waiting == 1 { "waits" } else { "wait" };
    let transactions = counted(waiting, "transaction");
    format!("{}: {transactions} {wait} for the key {}{holder}", plain(&queue.backend), plain(&queue.key))
}

fn pool(pool: &ConnectionPool) -> String {
    let of = pool.max_size.map_or_else(String::new, |size| format!(" of {}", grouped(size)));
    let waiting = match pool.waiting {
        Some(waiting) if waiting > 0 => format!(", and {} wait for one", grouped(waiting)),
        _ => String::new(),
    };
    let (backend, server) = (plain(&pool.backend), plain(&pool.server));
    format!("{backend}: {}{of} connections to {server} are in use{waiting}", grouped(pool.in_use))
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn longest_queues_and_exhausted_pools_are_named() {
        let queue = |key: &str, operation: Option<&str>, waiting| KeyQueue {
            backend: "app:3000".to_owned(),
            key: key.to_owned(),
            operation: operation.map(str::to_owned),
            waiting,
        };
        let pool = |in_use, max_size, waiting| ConnectionPool {
            backend: "app:3000".to_owned(),
            server: "db1:27017".to_owned(),
            connections: 10,
            in_use,
            max_size,
            waiting,
        };
        let report = LiveReport {
            queues: vec![
                queue("7", Some("POST /x\u{1b}[2J"), 1_200),
                queue("\"a\"", None, 1),
                queue("b", None, 1),
                queue("c", None, 1),
            ],
            pools: vec![pool(10, Some(10), None), pool(9, Some(10), None), pool(3, None, Some(2))],
            ..LiveReport::default()
        };
        assert_eq!(
            waits(&report),
            [
                format!(
                    "app:3000: 1,200 transactions wait for the key 7, which {} holds",
                    plain("POST /x\u{1b}[2J")
                ),
                "app:3000: 1 transaction waits for the key \"a\"".to_owned(),
                "app:3000: 1 transaction waits for the key b".to_owned(),
                "transactions wait for 1 more key".to_owned(),
                "app:3000: 10 of 10 connections to db1:27017 are in use".to_owned(),
                "app:3000: 3 connections to db1:27017 are in use, and 2 wait for one".to_owned(),
            ]
        );
        assert_eq!(waits(&LiveReport::default()), Vec::<String>::new());
    }
}
