//! The table of a backend, `GET /-/transactions`: its open transactions, and what transactions wait for in the backend before the
//! server sees them.

use axum::body::{Body, to_bytes};
use axum::http::{Request, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::error::{PollError, PollErrorReason};

/// Larger than a table of ten thousand transactions.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// The most queues, and the most pools, of one backend. The library lists 20 queues.
const MAX_LISTED: usize = 100;
/// The most characters of a key.
const MAX_KEY: usize = 100;

/// The table of one backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BackendTable {
    pub(crate) transactions: Vec<ListedTransaction>,
    pub(crate) queues: Vec<KeyQueue>,
    pub(crate) pools: Vec<ConnectionPool>,
}

/// An open transaction of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedTransaction {
    /// The id of its session, in the form of a UUID.
    pub(crate) session: String,
    /// Its number in its session, if the table has it.
    pub(crate) number: Option<i64>,
    /// The operation that began it.
    pub(crate) operation: String,
}

/// A key that transactions of a backend wait for, one after another, before they begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyQueue {
    /// Host and port of the backend.
    pub backend: String,
    /// The key.
    pub key: String,
    /// The operation whose transaction holds the key.
    pub operation: Option<String>,
    /// How many transactions wait for it.
    pub waiting: u64,
}

/// The connections of a backend to one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionPool {
    /// Host and port of the backend.
    pub backend: String,
    /// Host and port of the server.
    pub server: String,
    /// Established connections, and those that are being established.
    pub connections: u64,
    /// Connections that a command uses.
    pub in_use: u64,
    /// The most connections; `None` without a limit.
    pub max_size: Option<u64>,
    /// How many commands wait for a connection; `None` if the driver does not tell.
    pub waiting: Option<u64>,
}

impl ConnectionPool {
    /// Whether the next command waits for a connection.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.max_size.is_some_and(|size| self.in_use >= size)
            || self.waiting.is_some_and(|waiting| waiting > 0)
    }
}

/// Fetches the table of one backend.
pub(crate) async fn fetch_table(backend: &Uri) -> Result<BackendTable, PollError> {
    let unreachable = |error: &dyn std::fmt::Display| {
        PollError::new(
            PollErrorReason::Network,
            format!("cannot read the table of the backend at {backend}: {error}"),
        )
    };
    let host = backend.host().unwrap_or_default();
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), backend.port_u16().unwrap_or(80)));
    let stream = stream.await.map_err(|error| unreachable(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let request = Request::get(backend.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, host)
        .body(Body::empty())
        .map_err(|error| unreachable(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body =
            to_bytes(Body::new(response.into_body()), MAX_BODY).await.map_err(|error| unreachable(&error))?;
        if !status.is_success() {
            return Err(unreachable(&format_args!("it answered {status}")));
        }
        let name = backend.authority().map_or("", |authority| authority.as_str());
        decode(&body, name)
            .ok_or_else(|| PollError::malformed(format!("the backend at {backend} returns no valid table")))
    };
    tokio::pin!(answer);
    // The connection is driven here, and closed after the response.
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

/// Decodes the table of the backend at an address. An invalid row costs itself only; queues and pools are optional.
pub(super) fn decode(body: &[u8], backend: &str) -> Option<BackendTable> {
    let table: Value = serde_json::from_slice(body).ok()?;
    let transactions = table.get("transactions")?.as_array()?.iter().filter_map(transaction).collect();
    let rows = |name| table.get(name).and_then(Value::as_array).into_iter().flatten().take(MAX_LISTED);
    let queues = rows("queues").filter_map(|row| queue(row, backend)).collect();
    let pools = rows("pools").filter_map(|row| pool(row, backend)).collect();
    Some(BackendTable { transactions, queues, pools })
}

fn text(row: &Value, name: &str) -> Option<String> {
    Some(row.get(name)?.as_str()?.to_owned())
}

fn number(row: &Value, name: &str) -> Option<u64> {
    row.get(name)?.as_u64()
}

fn transaction(row: &Value) -> Option<ListedTransaction> {
    Some(ListedTransaction {
        session: text(row, "lsid")?,
        number: row.get("txnNumber").and_then(Value::as_i64),
        operation: text(row, "operation")?,
    })
}

fn queue(row: &Value, backend: &str) -> Option<KeyQueue> {
    Some(KeyQueue {
        backend: backend.to_owned(),
        key: text(row, "key")?.chars().take(MAX_KEY).collect(),
        operation: text(row, "operation"),
        waiting: number(row, "waiting")?,
    })
}

fn pool(row: &Value, backend: &str) -> Option<ConnectionPool> {
    Some(ConnectionPool {
        backend: backend.to_owned(),
        server: text(row, "server")?,
        connections: number(row, "connections")?,
        in_use: number(row, "inUse")?,
        max_size: number(row, "maxSize"),
        waiting: number(row, "waiting"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_table_row_is_skipped_and_invalid_table_is_rejected() {
        let transactions = |body: &[u8]| decode(body, "").map(|table| table.transactions);
        let body =
            br#"{"transactions":[{"lsid":"a","txnNumber":7,"operation":"POST /x","more":1},{"lsid":7,"operation":"y"},8]}"#;
        let listed =
            |number| ListedTransaction { session: "a".to_owned(), number, operation: "POST /x".to_owned() };
        assert_eq!(transactions(body), Some(vec![listed(Some(7))]));
        let body = br#"{"transactions":[{"lsid":"a","txnNumber":"7","operation":"POST /x"}]}"#;
        assert_eq!(transactions(body), Some(vec![listed(None)]));
        for none in [&b""[..], b"[]", b"{}", br#"{"transactions":7}"#, b"\xff"] {
            assert_eq!(decode(none, ""), None);
        }
    }

    #[test]
    fn queues_and_pools_are_optional_and_invalid_rows_are_skipped() {
        let body = br#"{"transactions":[],
            "queues":[{"key":"7","operation":"POST /x","waiting":3},{"key":"8","operation":null,"waiting":1},{"key":"9","waiting":-1},7],
            "pools":[{"server":"db1:27017","connections":2,"inUse":2,"maxSize":2},{"server":"db2","connections":1,"inUse":0,"maxSize":null,"waiting":0},{"server":"db3"}]}"#;
        let table = decode(body, "app:3000").unwrap();
        let queue = |key: &str, operation: Option<&str>, waiting| KeyQueue {
            backend: "app:3000".to_owned(),
            key: key.to_owned(),
            operation: operation.map(str::to_owned),
            waiting,
        };
        assert_eq!(table.queues, [queue("7", Some("POST /x"), 3), queue("8", None, 1)]);
        let servers: Vec<_> =
            table.pools.iter().map(|pool| (pool.server.as_str(), pool.is_exhausted())).collect();
        assert_eq!(servers, [("db1:27017", true), ("db2", false)]);
        let none = decode(br#"{"transactions":[],"queues":{},"pools":null}"#, "").unwrap();
        assert_eq!(none, BackendTable::default());
    }
}
