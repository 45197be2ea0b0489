//! MongoDB's error codes that mean "never" or "not in this state", in one table.
//!
//! A permanent refusal is not retried, and does not count as a failure: the server does not have what was
//! requested. Every module that sends commands uses this table, so that no two disagree.

/// The meaning of a refused command for a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The user lacks a privilege. The command may succeed once it is granted.
    Denied,
    /// The server has no such command, stage or option, or its host does not allow it: the command fails as long
    /// as the server stays the same.
    Unsupported,
    /// The member cannot answer in its present state, for example as an arbiter, in recovery or initial sync, or
    /// without a replica set. The command may succeed in another state.
    NotInThisState,
    /// Any other error: a retry may succeed.
    Temporary,
}

impl Refusal {
    /// Whether a retry is useless as long as the server and its state stay the same.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        matches!(self, Self::Unsupported | Self::NotInThisState)
    }
}

/// The meaning of an error reply (`ok: 0`) with this code. Errors without a code come from servers that emulate
/// MongoDB, and from mongos for commands of replica set members: they are permanent.
///
/// ```
/// use txnscope_catalog::{Refusal, refusal};
///
/// assert_eq!(refusal(Some(8000)), Refusal::Unsupported);
/// assert_eq!(refusal(Some(112)), Refusal::Temporary);
/// assert!(refusal(None).is_permanent());
/// ```
#[must_use]
pub fn refusal(code: Option<i32>) -> Refusal {
    let Some(code) = code else { return Refusal::Unsupported };
    let known = CODES.iter().find(|(known, _, _)| *known == code);
    known.map_or(Refusal::Temporary, |(_, _, refusal)| *refusal)
}

/// Code, name, meaning.
const CODES: &[(i32, &str, Refusal)] = &[
    (13, "Unauthorized", Refusal::Denied),
    (20, "IllegalOperation", Refusal::Unsupported),
    (59, "CommandNotFound", Refusal::Unsupported),
    (72, "InvalidOptions", Refusal::Unsupported),
    (76, "NoReplicationEnabled", Refusal::Unsupported),
    (93, "InvalidReplicaSetConfig", Refusal::NotInThisState),
    (94, "NotYetInitialized", Refusal::NotInThisState),
    (115, "CommandNotSupported", Refusal::Unsupported),
    (166, "CommandNotSupportedOnView", Refusal::Unsupported),
    (168, "InvalidPipelineOperator", Refusal::Unsupported),
    (238, "NotImplemented", Refusal::Unsupported),
    // Amazon DocumentDB: an unsupported feature, and an unsupported aggregation stage.
    (303, "FeatureNotSupported", Refusal::Unsupported),
    (304, "StageNotSupported", Refusal::Unsupported),
    // The Stable API: an unknown version, a command outside of it, a deprecated one.
    (322, "APIVersionError", Refusal::Unsupported),
    (323, "APIStrictError", Refusal::Unsupported),
    (324, "APIDeprecationError", Refusal::Unsupported),
    // MongoDB Atlas: not allowed on shared tiers.
    (8000, "AtlasError", Refusal::Unsupported),
    (13435, "NotPrimaryNoSecondaryOk", Refusal::NotInThisState),
    (13436, "NotPrimaryOrSecondary", Refusal::NotInThisState),
    // `serverStatus` with `oplog` before 5.0, on a member without an oplog.
    (17347, "Location17347", Refusal::NotInThisState),
    (40324, "UnrecognizedPipelineStage", Refusal::Unsupported),
    (40415, "IDLUnknownField", Refusal::Unsupported),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_error_codes_of_hosted_servers_are_in_the_table() {
        for code in [59, 72, 76, 115, 238, 303, 304, 323, 8000, 40324] {
            assert_eq!(refusal(Some(code)), Refusal::Unsupported, "{code}");
        }
        for code in [93, 94, 13435, 13436, 17347] {
            assert_eq!(refusal(Some(code)), Refusal::NotInThisState, "{code}");
        }
        assert_eq!(refusal(None), Refusal::Unsupported, "a refusal without a code is permanent");
        assert_eq!(refusal(Some(13)), Refusal::Denied);
    }

    #[test]
    fn temporary_error_codes_are_not_permanent() {
        // Elections, shutdowns, conflicts, interruptions, time limits, requests over a quota.
        for code in [6, 50, 89, 91, 112, 189, 251, 462, 10107, 11600, 11602, 16500] {
            assert!(!refusal(Some(code)).is_permanent(), "{code}");
        }
    }

    #[test]
    fn error_code_table_is_sorted_and_unique() {
        assert!(CODES.is_sorted_by(|one, other| one.0 < other.0));
        assert!(CODES.iter().all(|(_, name, _)| !name.is_empty()));
    }
}
