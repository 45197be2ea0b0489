//! Decodes the driver's command events, field by field.

use mongodb::bson::{Bson, Document};
use mongodb::error::{Error, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR};

use super::super::driver_error::{Delivery, code, delivery};
use super::super::first_statement::{ServerStarted, is_overload, server_started};
use super::super::open_transactions::Lsid;
use crate::Reason;

/// The role of a command in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// The statement that starts a transaction.
    First,
    /// A later statement.
    Statement,
    Commit,
    Abort,
    /// A retryable write outside of any transaction. Its number ends an earlier transaction of its session.
    NonTransactional,
}

/// A command that is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) id: i32,
    pub(super) lsid: Lsid,
    pub(super) txn_number: i64,
    pub(super) command: Command,
    /// Whether the runner counts the transaction.
    pub(super) owned_elsewhere: bool,
}

impl Request {
    /// Decodes a command, if it concerns a transaction.
    pub(super) fn of(id: i32, name: &str, command: &Document) -> Option<Self> {
        let txn_number = match command.get("txnNumber")? {
            Bson::Int64(number) => *number,
            Bson::Int32(number) => i64::from(*number),
            _ => return None,
        };
        let lsid = Lsid::of(command.get("lsid")?.as_document()?)?;
        let is = |field, value| command.get(field) == Some(&Bson::Boolean(value));
        let command = match name {
            _ if !is("autocommit", false) => Command::NonTransactional,
            "commitTransaction" => Command::Commit,
            "abortTransaction" => Command::Abort,
            _ if is("startTransaction", true) => Command::First,
            _ => Command::Statement,
        };
        Some(Self { id, lsid, txn_number, command, owned_elsewhere: false })
    }
}

/// The outcome of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandOutcome {
    /// The command succeeded.
    Done,
    /// The command succeeded, and its write concern was not satisfied.
    WriteConcernError,
    /// The server rejected the command.
    Refused(Refusal),
    /// There was no reply.
    Lost(Reason),
}

/// A rejection by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    /// Whether the server started the transaction, if this is the reply to its first statement.
    pub(super) server_started: ServerStarted,
    /// Whether the transaction has ended, and may be retried as a whole.
    pub(super) transient: bool,
    /// Whether a rejected commit may have been applied. The driver adds its label for that after the event.
    pub(super) may_be_applied: bool,
    /// Whether the server was overloaded. The driver retries such a command itself, a few times.
    pub(super) overload: bool,
}

impl CommandOutcome {
    /// Decodes a reply with `ok: 1`, which may contain write errors.
    pub(super) fn of_reply(reply: &Document) -> Self {
        if let Some(code) = write_error(reply) {
            return Self::Refused(Refusal {
                reason: Reason::of_code(code),
                server_started: ServerStarted::Yes,
                transient: false,
                may_be_applied: false,
                overload: false,
            });
        }
        if reply.get("writeConcernError").is_some_and(|error| *error != Bson::Null) {
            return Self::WriteConcernError;
        }
        Self::Done
    }

    /// Decodes an error: the server's, or a network error.
    pub(super) fn of_failure(error: &Error) -> Self {
        let reason = Reason::from_error(error);
        if delivery(error) != Delivery::Answered {
            return Self::Lost(reason);
        }
        Self::Refused(Refusal {
            reason,
            server_started: server_started(error),
            transient: error.contains_label(TRANSIENT_TRANSACTION_ERROR),
            may_be_applied: may_be_applied(error),
            overload: is_overload(error),
        })
    }
}

/// Whether the driver reports this commit error as an unknown result, or the wait for the commit was interrupted.
fn may_be_applied(error: &Error) -> bool {
    error.contains_label(RETRYABLE_WRITE_ERROR)
        || matches!(
            code(error),
            Some(6 | 7 | 50 | 64 | 89 | 91 | 189 | 262 | 9001 | 10107 | 11600..=11602 | 13435 | 13436)
        )
}

/// Returns the code of the first write error: of a reply to `insert`, `update` and `delete`, or of a reply to
/// `bulkWrite`, which has the results in a cursor.
fn write_error(reply: &Document) -> Option<i32> {
    let first = |errors: &[Bson]| errors.iter().find_map(|error| number(error.as_document()?.get("code")?));
    match reply.get("writeErrors") {
        Some(Bson::Array(errors)) if !errors.is_empty() => Some(first(errors).unwrap_or(0)),
        _ if reply.get("nErrors").and_then(number).is_some_and(|errors| errors > 0) => {
            let batch =
                reply.get_document("cursor").ok().and_then(|cursor| cursor.get_array("firstBatch").ok());
            Some(batch.and_then(|batch| first(batch)).unwrap_or(0))
        }
        _ => None,
    }
}

fn number(value: &Bson) -> Option<i32> {
    match value {
        Bson::Int32(number) => Some(*number),
        Bson::Int64(number) => i32::try_from(*number).ok(),
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a cast of a float saturates, and codes are small"
        )]
        Bson::Double(number) => Some(*number as i32),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::spec::BinarySubtype;
    use mongodb::bson::{Binary, doc};

    use super::*;

    fn command(fields: Document) -> Document {
        let id = Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] };
        let mut command = doc! { "insert": "retainers", "lsid": { "id": id } };
        command.extend(fields);
        command
    }

    #[test]
    fn command_kind_is_read_from_fields() {
        let begins = doc! { "txnNumber": 3_i64, "startTransaction": true, "autocommit": false };
        let goes_on = doc! { "txnNumber": 3_i64, "autocommit": false };
        for (name, fields, expected) in [
            ("insert", begins.clone(), Some(Command::First)),
            ("insert", goes_on.clone(), Some(Command::Statement)),
            ("insert", doc! { "txnNumber": 3, "autocommit": false }, Some(Command::Statement)),
            ("commitTransaction", goes_on.clone(), Some(Command::Commit)),
            ("abortTransaction", goes_on, Some(Command::Abort)),
            ("insert", doc! { "txnNumber": 3_i64 }, Some(Command::NonTransactional)),
            ("insert", doc! {}, None),
            ("insert", doc! { "txnNumber": "three", "autocommit": false }, None),
            ("insert", doc! { "txnNumber": 3_i64, "lsid": 7, "autocommit": false }, None),
        ] {
            let request = Request::of(1, name, &command(fields.clone()));
            assert_eq!(request.map(|request| request.command), expected, "{name} {fields}");
            assert!(request.is_none_or(|request| request.txn_number == 3 && request.id == 1));
        }
        // Commands that the driver hides from event handlers arrive as empty documents.
        assert!(Request::of(1, "saslStart", &doc! {}).is_none());
    }

    #[test]
    fn reply_with_write_errors_is_refused() {
        let refused = |reason| {
            let (server_started, transient, may_be_applied, overload) =
                (ServerStarted::Yes, false, false, false);
            CommandOutcome::Refused(Refusal { reason, server_started, transient, may_be_applied, overload })
        };
        let written = |code: i32| doc! { "ok": 0.0, "code": code };
        for (reply, expected) in [
            (doc! { "ok": 1.0, "n": 1 }, CommandOutcome::Done),
            (doc! { "ok": 1.0, "writeErrors": [] }, CommandOutcome::Done),
            (
                doc! { "ok": 1.0, "writeErrors": [{ "index": 0, "code": 11000 }] },
                refused(Reason::DUPLICATE_KEY),
            ),
            (doc! { "ok": 1.0, "writeErrors": [{ "code": 121_i64 }] }, refused(Reason::DOCUMENT_VALIDATION)),
            (doc! { "ok": 1.0, "writeErrors": ["invalid"] }, refused(Reason::OTHER)),
            (doc! { "ok": 1.0, "writeConcernError": { "code": 64 } }, CommandOutcome::WriteConcernError),
            (doc! { "ok": 1.0, "nErrors": 0 }, CommandOutcome::Done),
            (
                doc! { "ok": 1.0, "nErrors": 1, "cursor": { "firstBatch": [{ "ok": 1.0 }, written(11000)] } },
                refused(Reason::DUPLICATE_KEY),
            ),
            (doc! { "ok": 1.0, "nErrors": 1.0 }, refused(Reason::OTHER)),
        ] {
            assert_eq!(CommandOutcome::of_reply(&reply), expected, "{reply}");
        }
    }

    #[test]
    fn network_error_counts_as_lost() {
        let reset = Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(CommandOutcome::of_failure(&reset), CommandOutcome::Lost(Reason::NETWORK));
    }
}
