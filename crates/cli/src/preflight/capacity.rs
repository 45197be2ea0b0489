//! Whether what is to run at once can: the driver's pool, the server's connections and tickets.

use mongodb::options::ClientOptions;

use super::deployment::{Answer, number};
use super::finding::Finding;

const POOL: &str = "connection pool";
const CONNECTIONS: &str = "server connections";
const TICKETS: &str = "write tickets";
/// What the Rust driver has when the URI does not say.
const RUST_POOL: u32 = 10;
const OTHERS_POOL: u32 = 100;

/// What is expected: transactions at once in one process, and processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) concurrency: Option<u32>,
    pub(crate) processes: u32,
}

pub(crate) fn pool(options: &ClientOptions, expected: Expected) -> Finding {
    let (size, whence) = match options.max_pool_size {
        Some(0) => return Finding::pass(POOL, "maxPoolSize=0 in the URI: no limit"),
        Some(size) => (size, "by the URI".to_owned()),
        None => (RUST_POOL, format!("the Rust driver's default (other drivers': {OTHERS_POOL})")),
    };
    let shown = format!("{size} connections to each member, {whence}");
    let Some(concurrency) = expected.concurrency else {
        return Finding::pass(POOL, format!("{shown}; --expect-concurrency was not given"));
    };
    if size < concurrency {
        return Finding::warn(
            POOL,
            format!("{shown}: {concurrency} transactions at once would wait for each other"),
            format!("say maxPoolSize={} in the backend's URI", concurrency.saturating_add(concurrency / 4)),
        );
    }
    Finding::pass(POOL, format!("{shown}, for {concurrency} transactions at once"))
}

pub(crate) fn connections(status: &Answer, options: &ClientOptions, expected: Expected) -> Finding {
    let status = match status {
        Ok(status) => status,
        Err(refusal) => return super::not_known(CONNECTIONS, refusal, "serverStatus"),
    };
    let Some(available) = number(status, &["connections", "available"]) else {
        return Finding::warn(CONNECTIONS, "the server does not tell", "see db.serverStatus().connections");
    };
    let current = number(status, &["connections", "current"]).unwrap_or_default();
    let shown = format!("{available} available, {current} in use");
    let size = options.max_pool_size.unwrap_or(RUST_POOL).max(expected.concurrency.unwrap_or_default());
    let needed = f64::from(size) * f64::from(expected.processes);
    if available < needed {
        return Finding::fail(
            CONNECTIONS,
            format!("{shown}: {} processes may open {needed}", expected.processes),
            "raise net.maxIncomingConnections and the limit on open files (ulimit -n), or lower maxPoolSize",
        );
    }
    if available < 0.2 * (available + current) {
        return Finding::warn(
            CONNECTIONS,
            shown,
            "four in five are in use: find who holds them before you deploy",
        );
    }
    Finding::pass(CONNECTIONS, shown)
}

pub(crate) fn tickets(status: &Answer, expected: Expected, sharded: bool) -> Finding {
    let status = match status {
        Ok(_) if sharded => {
            return Finding::skip(TICKETS, "mongos has none; run preflight against each shard as well");
        }
        Ok(status) => status,
        Err(refusal) => return super::not_known(TICKETS, refusal, "serverStatus"),
    };
    let paths = [
        ["queues", "execution", "write", "totalTickets"].as_slice(),
        &["wiredTiger", "concurrentTransactions", "write", "totalTickets"],
    ];
    let Some(total) = paths.into_iter().find_map(|path| number(status, path)) else {
        return Finding::pass(TICKETS, "this server does not tell");
    };
    let Some(concurrency) = expected.concurrency else {
        return Finding::pass(TICKETS, format!("{total}; --expect-concurrency was not given"));
    };
    let wanted = f64::from(concurrency) * f64::from(expected.processes);
    // A transaction holds a ticket while a statement runs, not between two. From 7.0 on the server moves the number.
    if wanted > total {
        return Finding::warn(
            TICKETS,
            format!("{total}, for {wanted} transactions at once: their statements will queue"),
            "queues are no fault as long as latency is: watch mongodb_ticket_queue, let fewer run at once",
        );
    }
    Finding::pass(TICKETS, format!("{total}, for {wanted} transactions at once"))
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::super::finding::Verdict;
    use super::*;

    fn of(concurrency: Option<u32>, processes: u32) -> Expected {
        Expected { concurrency, processes }
    }

    fn pool_of(size: Option<u32>) -> ClientOptions {
        let mut options = ClientOptions::default();
        options.max_pool_size = size;
        options
    }

    #[test]
    fn a_pool_smaller_than_what_is_to_run_is_a_warning() {
        assert_eq!(pool(&pool_of(None), of(Some(11), 1)).verdict, Verdict::Warn);
        assert_eq!(pool(&pool_of(Some(0)), of(Some(11), 1)).verdict, Verdict::Pass);
        assert_eq!(pool(&pool_of(Some(50)), of(Some(50), 1)).verdict, Verdict::Pass);
        assert_eq!(pool(&pool_of(None), of(None, 1)).verdict, Verdict::Pass);
    }

    #[test]
    fn connections_and_tickets_are_held_against_all_processes() {
        let status = |available: i32, tickets: i32| {
            Ok(doc! {
                "connections": {"current": 10, "available": available},
                "wiredTiger": {"concurrentTransactions": {"write": {"totalTickets": tickets}}},
            })
        };
        let pool = pool_of(Some(100));
        assert_eq!(connections(&status(1_000, 128), &pool, of(Some(100), 8)).verdict, Verdict::Pass);
        assert_eq!(connections(&status(1_000, 128), &pool, of(Some(100), 11)).verdict, Verdict::Fail);
        assert_eq!(connections(&status(1, 128), &pool_of(Some(1)), of(None, 1)).verdict, Verdict::Warn);
        assert_eq!(tickets(&status(1_000, 128), of(Some(64), 2), false).verdict, Verdict::Pass);
        assert_eq!(tickets(&status(1_000, 128), of(Some(65), 2), false).verdict, Verdict::Warn);
        let newer = Ok(doc! {"queues": {"execution": {"write": {"totalTickets": 8}}}});
        assert_eq!(tickets(&newer, of(Some(9), 1), false).verdict, Verdict::Warn);
    }
}
