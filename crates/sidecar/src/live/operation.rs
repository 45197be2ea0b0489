//! Decoding of the operations that `$currentOp` lists.

use std::time::Duration;

use mongodb::bson::{Bson, DateTime, Document};

use super::pipeline::LOCK_RESOURCES;
use crate::decode::{Field, boolean, field, number, text};

/// One operation or idle session, as far as it is read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Operation {
    pub(super) opid: Option<i64>,
    pub(super) active: bool,
    pub(super) command: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) application: Option<String>,
    pub(super) client: Option<String>,
    pub(super) driver: Option<String>,
    pub(super) session: Option<String>,
    pub(super) running: Duration,
    pub(super) waiting_for_lock: bool,
    /// The time that it has waited for locks.
    pub(super) lock_wait: Duration,
    pub(super) write_conflicts: u64,
    pub(super) prepare_conflicts: u64,
    pub(super) transaction: Option<TransactionFields>,
}

/// The fields of an operation that is part of a transaction, or of a session with one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TransactionFields {
    pub(super) number: i64,
    pub(super) started_at: Option<String>,
    pub(super) age: Duration,
    pub(super) active: Duration,
    pub(super) inactive: Duration,
    pub(super) prepared: bool,
    pub(super) expires_in: Option<Duration>,
    pub(super) read_concern: Option<String>,
}

/// Decodes one document of the reply. A missing or invalid field costs itself only.
pub(super) fn decode(document: &Document) -> Operation {
    let owned = |path: &[&str]| text(document, path).ok().filter(|text| !text.is_empty()).map(str::to_owned);
    let op = owned(&["op"]).filter(|op| op != "none");
    let command = match op.as_deref() {
        Some("command") | None => owned(&["command"]).filter(|name| !name.starts_with('$')).or(op),
        // A write or a read without a command of its own: its document begins with a key such as `q`.
        Some(_) => op,
    };
    let name = owned(&["clientMetadata", "driver", "name"]);
    let version = owned(&["clientMetadata", "driver", "version"]);
    Operation {
        opid: integer(document, &["opid"]),
        active: boolean(document, &["active"]) == Field::Value(true),
        command,
        namespace: owned(&["ns"]),
        application: owned(&["appName"]),
        client: owned(&["client"]),
        driver: name.map(|name| match version {
            Some(version) => format!("{name} {version}"),
            None => name,
        }),
        session: session(document),
        running: micros(document, &["microsecs_running"]).unwrap_or_default(),
        waiting_for_lock: boolean(document, &["waitingForLock"]) == Field::Value(true),
        lock_wait: lock_wait(document),
        write_conflicts: count(document, "writeConflicts"),
        prepare_conflicts: count(document, "prepareReadConflicts"),
        transaction: transaction(document),
    }
}

/// `None` if the operation is part of no transaction, or if its number is missing: it could not be identified.
fn transaction(document: &Document) -> Option<TransactionFields> {
    if boolean(document, &["transaction", "parameters", "autocommit"]) != Field::Value(false) {
        return None;
    }
    let time = |name| micros(document, &["transaction", name]);
    let age = time("timeOpenMicros").unwrap_or_default();
    let prepared = time("timePreparedMicros").is_some();
    let lifetime = date(document, "expiryTime").zip(date(document, "startWallClockTime"));
    let lifetime = lifetime.map(|(end, begin)| {
        Duration::from_millis(u64::try_from(end.saturating_sub(begin)).unwrap_or_default())
    });
    Some(TransactionFields {
        number: integer(document, &["transaction", "parameters", "txnNumber"])?,
        started_at: started_at(document),
        age,
        active: time("timeActiveMicros").unwrap_or_default(),
        inactive: time("timeInactiveMicros").unwrap_or_default(),
        prepared,
        // The server's own clock gives both, and it does not end a prepared transaction.
        expires_in: lifetime.filter(|_| !prepared).map(|lifetime| lifetime.saturating_sub(age)),
        read_concern: text(document, &["transaction", "parameters", "readConcern", "level"])
            .ok()
            .map(str::to_owned),
    })
}

/// When the transaction began, in one form whatever the server sends.
pub(super) fn started_at(document: &Document) -> Option<String> {
    let date = DateTime::from_millis(date(document, "startWallClockTime")?);
    date.try_to_rfc3339_string().ok()
}

fn lock_wait(document: &Document) -> Duration {
    let mut sum = Duration::ZERO;
    for resource in LOCK_RESOURCES {
        let waits = field(document, &["lockStats", resource, "timeAcquiringMicros"]);
        let Field::Value(Bson::Document(modes)) = waits else { continue };
        sum += modes.keys().filter_map(|mode| micros(modes, &[mode])).sum::<Duration>();
    }
    sum
}

/// The id of the session, in the form of a UUID.
fn session(document: &Document) -> Option<String> {
    match field(document, &["lsid", "id"]) {
        Field::Value(Bson::Binary(binary)) => Some(binary.to_uuid().ok()?.to_string()),
        _ => None,
    }
}

fn micros(document: &Document, path: &[&str]) -> Option<Duration> {
    Duration::try_from_secs_f64(number(document, path).ok()? / 1e6).ok()
}

fn count(document: &Document, name: &str) -> u64 {
    integer(document, &[name]).and_then(|count| count.try_into().ok()).unwrap_or_default()
}

#[allow(clippy::cast_possible_truncation, reason = "ids, numbers and counts are exact in an f64")]
pub(super) fn integer(document: &Document, path: &[&str]) -> Option<i64> {
    number(document, path).ok().map(|number| number as i64)
}

/// Milliseconds since 1970, from a date or from the text that the server sends.
fn date(document: &Document, name: &str) -> Option<i64> {
    match field(document, &["transaction", name]) {
        Field::Value(Bson::String(text)) => {
            DateTime::parse_rfc3339_str(text).ok().map(DateTime::timestamp_millis)
        }
        Field::Value(Bson::DateTime(date)) => Some(date.timestamp_millis()),
        _ => None,
    }
}
