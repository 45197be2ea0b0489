//! Whether the server started a transaction whose first statement it answered with an error.
//!
//! A member checks a command in this order: is the client authorized, is this member the primary, may a transaction
//! start with this command, is the session free. Then it starts the transaction and counts it, and only then it runs
//! the command. Errors from before the start are certain, and so are errors that only the command itself produces.
//! Elections, shutdowns and time limits produce the same codes before and after.

use mongodb::error::{Error, ErrorKind, RETRYABLE_ERROR, SYSTEM_OVERLOADED_ERROR};

use super::driver_error::code;

/// Whether the server started a transaction whose first statement it answered with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerStarted {
    Yes,
    No,
    /// The error occurs both before and after the start.
    Unknown,
}

/// Messages of a member that is not the primary before it starts a transaction, in all versions, and never after: a
/// member that steps down while a statement runs uses the same code with other messages.
const NOT_PRIMARY_BEFORE_START: &[&str] = &[
    "not primary",
    "not master",
    "Cannot start a transaction in a non-primary state",
    "Not primary so we cannot begin or continue a transaction",
];

/// Returns whether the transaction was started, given the error of its first statement.
pub(super) fn server_started(error: &Error) -> ServerStarted {
    let command_ran = match error.kind.as_ref() {
        // Write errors come from an executed statement, and the write concern is awaited after it.
        ErrorKind::Write(_) | ErrorKind::InsertMany(_) => true,
        ErrorKind::BulkWrite(failure) => {
            !failure.write_errors.is_empty() || !failure.write_concern_errors.is_empty()
        }
        // The driver could not read the reply.
        ErrorKind::InvalidResponse { .. } => false,
        // The reply was valid, and its document does not have the expected type.
        _ => code(error).is_none(),
    };
    if command_ran {
        return ServerStarted::Yes;
    }
    if is_overload(error) {
        // Rejected before the start; without the second label, somewhere later.
        let before_start = error.contains_label(RETRYABLE_ERROR) || code(error) == Some(OVERLOADED);
        return if before_start { ServerStarted::No } else { ServerStarted::Unknown };
    }
    let message_is = |words: &[&str]| message(error).is_some_and(|message| words.contains(&message));
    let message_starts_with = |words: &str| message(error).is_some_and(|message| message.starts_with(words));
    match code(error) {
        // The command does not exist or is not authorized, or the member is neither a primary nor a secondary.
        Some(13 | 59 | 13435 | 13436) => ServerStarted::No,
        Some(ILLEGAL_OPERATION) if is_standalone_error(error) => ServerStarted::No,
        Some(10107) if message_is(NOT_PRIMARY_BEFORE_START) => ServerStarted::No,
        // The command is not allowed. Errors about its parts come later.
        Some(263)
            if message_starts_with("Cannot run ")
                || message_is(&["This command is not supported in transactions"]) =>
        {
            ServerStarted::No
        }
        // Only an executed statement can conflict, lack a snapshot, or violate a rule about the data.
        Some(112 | 121 | 246 | 11000 | 11001 | 12582) => ServerStarted::Yes,
        // The remaining codes occur before the start, or both before and after: 2, 72, 73, 40324; and those of
        // elections, shutdowns and time limits: 50, 91, 189, 262, 10107 with other messages, 11600 to 11602.
        _ => ServerStarted::Unknown,
    }
}

/// The code of a standalone server, and of servers that reject something else.
const ILLEGAL_OPERATION: i32 = 20;

/// Whether a standalone server rejected the statement: it supports no transactions.
pub(super) fn is_standalone_error(error: &Error) -> bool {
    // The driver replaces the message of a write error. The original one is in the reply.
    let reply = error.server_response();
    let words = reply.and_then(|reply| reply.get_str("errmsg").ok());
    code(error) == Some(ILLEGAL_OPERATION)
        && words.is_some_and(|words| words.starts_with("Transaction numbers are only allowed"))
}

/// The code of an overloaded server.
pub(super) const OVERLOADED: i32 = 462;

/// Whether the server (and not the connection to it) reports an overload.
pub(super) fn is_overload(error: &Error) -> bool {
    match code(error) {
        Some(OVERLOADED) => true,
        Some(_) => error.contains_label(SYSTEM_OVERLOADED_ERROR),
        None => false,
    }
}

fn message(error: &Error) -> Option<&str> {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(&error.message),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use mongodb::bson::{deserialize_from_document, doc};

    use super::*;

    pub(crate) fn command_error(code: i32, message: &str) -> Error {
        let reply = doc! { "code": code, "codeName": "", "errmsg": message };
        Error::from(ErrorKind::Command(deserialize_from_document(reply).unwrap()))
    }

    #[test]
    fn errors_before_start_mean_not_started() {
        for (code, message) in [
            (10107, "not primary"),
            (10107, "not master"),
            (10107, "Not primary so we cannot begin or continue a transaction"),
            (10107, "Cannot start a transaction in a non-primary state"),
            (13435, "not primary and secondaryOk=false"),
            (13436, "node is recovering"),
            (13, "not authorized on shop to execute command"),
            (59, "no such command: 'nope'"),
            (263, "Cannot run 'count' in a multi-document transaction."),
            (263, "This command is not supported in transactions"),
            (462, "Rate limiter 'ingressRequestRateLimiter' rate exceeded"),
        ] {
            assert_eq!(server_started(&command_error(code, message)), ServerStarted::No, "{code} {message}");
        }
    }

    #[test]
    fn errors_of_executed_commands_mean_started() {
        for code in [112, 121, 246, 11000] {
            assert_eq!(server_started(&command_error(code, "")), ServerStarted::Yes, "{code}");
        }
    }

    #[test]
    fn election_and_time_limit_errors_are_uncertain() {
        for (code, message) in [
            (10107, "Not primary while writing to shop.items"),
            (10107, "Multi-document transactions are only allowed on replica set primaries."),
            (11602, "operation was interrupted"),
            (11600, "interrupted at shutdown"),
            (11601, "operation was interrupted"),
            (189, "Not primary while writing to shop.items"),
            (91, "The server is in quiesce mode and will shut down"),
            (50, "operation exceeded time limit"),
            (262, "operation exceeded time limit"),
            (263, "$out cannot be used in a transaction"),
            (72, "It is illegal to open a tailable cursor in a transaction"),
            (2, "unknown top level operator: $nope"),
            (251, "Transaction with { txnNumber: 1 } has been aborted."),
            (8000, ""),
        ] {
            assert_eq!(
                server_started(&command_error(code, message)),
                ServerStarted::Unknown,
                "{code} {message}"
            );
        }
    }
}
