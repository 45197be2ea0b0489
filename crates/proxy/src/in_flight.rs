//! The operations that are in flight right now, for the web address.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use tokio::time::Instant;

/// The most operations that are listed, the oldest first.
pub(crate) const MAX_LISTED: usize = 1_000;

/// The operations in flight of one event loop, so that no two threads wait for the same table.
#[derive(Debug, Default)]
pub(crate) struct OperationsInFlight(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    rows: Vec<Option<Row>>,
    /// The rows that are empty.
    free: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    operation: &'static str,
    client: IpAddr,
    begun: Instant,
    state: State,
}

/// What an operation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// The backend has not begun its answer.
    Waiting,
    /// The answer's body passes.
    Answering,
}

/// An operation in the table, until this is dropped.
#[derive(Debug)]
pub(crate) struct Listed {
    table: Arc<OperationsInFlight>,
    row: usize,
}

/// The table as JSON.
#[derive(Debug, Serialize)]
struct Page {
    /// All of them, those that are not listed included.
    total: usize,
    operations: Vec<Shown>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    operation: &'static str,
    client: IpAddr,
    state: State,
    since_seconds: f64,
    open_seconds: f64,
}

impl OperationsInFlight {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists an operation that begins.
    pub(crate) fn begin(self: &Arc<Self>, operation: &'static str, client: IpAddr) -> Listed {
        let begun = Some(Row { operation, client, begun: Instant::now(), state: State::Waiting });
        let mut table = self.table();
        let row = match table.free.pop() {
            Some(row) => {
                table.rows[row] = begun;
                row
            }
            None => {
                table.rows.push(begun);
                table.rows.len() - 1
            }
        };
        Listed { table: Arc::clone(self), row }
    }
}

/// The tables of all event loops as one, the oldest operation first.
pub(crate) fn to_json(tables: &[Arc<OperationsInFlight>]) -> String {
    // The rows are copied, so that requests wait for no more than that.
    let mut rows: Vec<Row> = tables
        .iter()
        .flat_map(|one| one.table().rows.iter().flatten().copied().collect::<Vec<_>>())
        .collect();
    rows.sort_by_key(|row| row.begun);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let rounded = |seconds: f64| (seconds * 1e3).round() / 1e3;
    let operations = rows.iter().take(MAX_LISTED).map(|row| {
        let open = row.begun.elapsed().as_secs_f64();
        Shown {
            operation: row.operation,
            client: row.client.to_canonical(),
            state: row.state,
            since_seconds: rounded(now - open),
            open_seconds: rounded(open),
        }
    });
    let page = Page { total: rows.len(), operations: operations.collect() };
    serde_json::to_string(&page).unwrap_or_default()
}

impl Listed {
    /// The backend has begun its answer.
    pub(crate) fn answers(&self) {
        if let Some(Some(row)) = self.table.table().rows.get_mut(self.row) {
            row.state = State::Answering;
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut table = self.table.table();
        table.rows[self.row] = None;
        table.free.push(self.row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(tables: &[Arc<OperationsInFlight>]) -> (u64, Vec<String>) {
        let page: serde_json::Value = serde_json::from_str(&to_json(tables)).unwrap();
        let operations = page["operations"].as_array().unwrap().iter();
        (
            page["total"].as_u64().unwrap(),
            operations.map(|row| format!("{} {}", row["operation"], row["state"])).collect(),
        )
    }

    #[test]
    fn operations_are_listed_from_their_beginning_to_their_end_the_oldest_first() {
        let tables = [Arc::default(), Arc::default()];
        let [table, other]: &[Arc<OperationsInFlight>; 2] = &tables;
        let client = "::ffff:192.0.2.7".parse().unwrap();
        let first = table.begin("POST /a", client);
        let second = other.begin("POST /b", client);
        first.answers();
        assert_eq!(
            listed(&tables),
            (2, vec!["\"POST /a\" \"answering\"".to_owned(), "\"POST /b\" \"waiting\"".to_owned()])
        );
        let json = to_json(&tables);
        assert!(json.contains("\"client\":\"192.0.2.7\""), "{json}");
        drop(first);
        let third = table.begin("POST /c", client);
        assert_eq!(table.table().rows.len(), 1, "a row is used again");
        drop((second, third));
        assert_eq!(listed(&tables), (0, Vec::new()));
    }

    #[test]
    fn no_more_than_the_oldest_thousand_are_listed() {
        let tables: [Arc<OperationsInFlight>; 2] = Default::default();
        let client = IpAddr::from([127, 0, 0, 1]);
        let all: Vec<_> =
            (0..MAX_LISTED + 5).map(|number| tables[number % 2].begin("POST /a", client)).collect();
        let (total, rows) = listed(&tables);
        assert_eq!((total, rows.len()), (1_005, MAX_LISTED));
        drop(all);
    }
}
