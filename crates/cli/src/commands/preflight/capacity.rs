//! Whether the expected concurrency fits the connection pool, the connections and the tickets.

use mongodb::options::ClientOptions;

use super::deployment::{Reply, number};
use super::finding::Finding;
use crate::client::services::prometheus::plain;

const POOL: &str = "connection pool";
const CONNECTIONS: &str = "server connections";
const TICKETS: &str = "write tickets";
/// The smallest default pool size of all drivers, that of the Rust driver.
const RUST_POOL: u32 = 10;

/// The expected number of concurrent transactions in one process, and of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) concurrency: Option<u32>,
    pub(crate) processes: u32,
}

/// `default` is the smallest default of the connected drivers, with the driver.
pub(crate) fn pool(options: &ClientOptions, default: Option<&(u32, String)>, expected: Expected) -> Finding {
    let (size, origin) = match (options.max_pool_size, default) {
        (Some(0), _) => return Finding::pass(POOL, "maxPoolSize=0 in the URI: no limit"),
        (Some(size), _) => (size, "by the URI".to_owned()),
        (None, Some((size, driver))) => {
            (*size, format!("the default of {}, which is connected", plain(driver)))
        }
        (None, None) => {
            (RUST_POOL, "the Rust driver's default (Node.js, Java, Go, Python and .NET: 100)".to_owned())
        }
    };
    let evidence = format!("{size} connections to each member, {origin}");
    let Some(concurrency) = expected.concurrency else {
        return Finding::pass(POOL, format!("{evidence}; --expect-concurrency was not given"));
    };
    if size < concurrency {
        return Finding::warn(
            POOL,
            format!("{evidence}: {concurrency} concurrent transactions would wait for connections"),
            format!(
                "set maxPoolSize={} in the URI of the backend",
                concurrency.saturating_add(concurrency / 4)
            ),
        );
    }
    Finding::pass(POOL, format!("{evidence}, for {concurrency} concurrent transactions"))
}

pub(crate) fn connections(
    status: &Reply,
    options: &ClientOptions,
    default: Option<&(u32, String)>,
    expected: Expected,
) -> Finding {
    let status = match status {
        Ok(status) => status,
        Err(error) => return super::unknown(CONNECTIONS, error, "serverStatus"),
    };
    let Some(available) = number(status, &["connections", "available"]) else {
        return Finding::warn(
            CONNECTIONS,
            "the server does not report its connections",
            "see db.serverStatus().connections",
        );
    };
    let current = number(status, &["connections", "current"]).unwrap_or_default();
    let evidence = format!("{available} available, {current} in use");
    let default = default.map_or(RUST_POOL, |(size, _)| *size);
    let size = options.max_pool_size.unwrap_or(default).max(expected.concurrency.unwrap_or_default());
    let needed = f64::from(size) * f64::from(expected.processes);
    if available < needed {
        return Finding::fail(
            CONNECTIONS,
            format!("{evidence}: {} processes may open {needed}", expected.processes),
            "raise net.maxIncomingConnections and the limit on open files (ulimit -n), or lower maxPoolSize",
        );
    }
    if available < 0.2 * (available + current) {
        return Finding::warn(
            CONNECTIONS,
            evidence,
            "more than 80 % are in use: find the clients that hold them before you deploy",
        );
    }
    Finding::pass(CONNECTIONS, evidence)
}

pub(crate) fn tickets(status: &Reply, expected: Expected, sharded: bool) -> Finding {
    let status = match status {
        Ok(_) if sharded => {
            return Finding::skip(TICKETS, "mongos has no tickets; run preflight against each shard as well");
        }
        Ok(status) => status,
        Err(error) => return super::unknown(TICKETS, error, "serverStatus"),
    };
    let paths = [
        ["queues", "execution", "write", "totalTickets"].as_slice(),
        &["wiredTiger", "concurrentTransactions", "write", "totalTickets"],
    ];
    let Some(total) = paths.into_iter().find_map(|path| number(status, path)) else {
        return Finding::pass(TICKETS, "this server does not report its tickets");
    };
    let Some(concurrency) = expected.concurrency else {
        return Finding::pass(TICKETS, format!("{total}; --expect-concurrency was not given"));
    };
    let expected = f64::from(concurrency) * f64::from(expected.processes);
    // A transaction holds a ticket only while a statement runs. From 7.0 on, the server adjusts their number.
    if expected > total {
        return Finding::warn(
            TICKETS,
            format!("{total}, for {expected} concurrent transactions: their statements will queue"),
            "this is no problem as long as latency is acceptable: monitor mongodb_ticket_queue, or limit the concurrency",
        );
    }
    Finding::pass(TICKETS, format!("{total}, for {expected} concurrent transactions"))
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::super::finding::Status;
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
    fn pool_smaller_than_the_concurrency_is_a_warning() {
        assert_eq!(pool(&pool_of(None), None, of(Some(11), 1)).status, Status::Warn);
        let node = (100, "nodejs|Mongoose".to_owned());
        let found = pool(&pool_of(None), Some(&node), of(Some(100), 1));
        assert!(found.status == Status::Pass && found.evidence.contains("nodejs|Mongoose"), "{found:?}");
        assert_eq!(pool(&pool_of(None), Some(&node), of(Some(101), 1)).status, Status::Warn);
        assert_eq!(pool(&pool_of(Some(0)), None, of(Some(11), 1)).status, Status::Pass);
        assert_eq!(pool(&pool_of(Some(50)), None, of(Some(50), 1)).status, Status::Pass);
        assert_eq!(pool(&pool_of(None), None, of(None, 1)).status, Status::Pass);
    }

    #[test]
    fn connections_and_tickets_are_compared_with_all_processes() {
        let status = |available: i32, tickets: i32| {
            Ok(doc! {
                "connections": {"current": 10, "available": available},
                "wiredTiger": {"concurrentTransactions": {"write": {"totalTickets": tickets}}},
            })
        };
        let pool = pool_of(Some(100));
        assert_eq!(connections(&status(1_000, 128), &pool, None, of(Some(100), 8)).status, Status::Pass);
        assert_eq!(connections(&status(1_000, 128), &pool, None, of(Some(100), 11)).status, Status::Fail);
        assert_eq!(connections(&status(1, 128), &pool_of(Some(1)), None, of(None, 1)).status, Status::Warn);
        assert_eq!(tickets(&status(1_000, 128), of(Some(64), 2), false).status, Status::Pass);
        assert_eq!(tickets(&status(1_000, 128), of(Some(65), 2), false).status, Status::Warn);
        let newer = Ok(doc! {"queues": {"execution": {"write": {"totalTickets": 8}}}});
        assert_eq!(tickets(&newer, of(Some(9), 1), false).status, Status::Warn);
    }
}
