//! MongoDB's error codes that mean "never" or "not in this state", in one table.
//!
//! A refusal that is permanent is not retried: what was asked for is not to be had from this server, and that is no
//! failure. Whoever asks a server goes by this table, so that no two parts disagree.

/// What a server's refusal of a command means to whoever would ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The user lacks a privilege. The answer is another once the privilege is granted.
    Denied,
    /// The server has no such command, stage or option, or its host does not allow it: the answer stays the same as
    /// long as the server does.
    Unsupported,
    /// The member has no answer in its present state: it recovers, copies its first data, is an arbiter, or belongs to
    /// no replica set. The answer is another in another state.
    NotInThisState,
    /// Anything else: it may succeed if it is tried again.
    Temporary,
}

impl Refusal {
    /// Whether asking again brings nothing: not as long as the server, or its state, stays the same.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        matches!(self, Self::Unsupported | Self::NotInThisState)
    }
}

/// What the refusal (`ok: 0`) with that code means. One without any code comes from servers that imitate another, and
/// from mongos for what only a member of a replica set can answer: it is as permanent as a named one.
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
    // Amazon DocumentDB: a feature, and a stage of an aggregation, that is not supported.
    (303, "FeatureNotSupported", Refusal::Unsupported),
    (304, "StageNotSupported", Refusal::Unsupported),
    // The Stable API: another version of it, what does not belong to it, what is deprecated in it.
    (322, "APIVersionError", Refusal::Unsupported),
    (323, "APIStrictError", Refusal::Unsupported),
    (324, "APIDeprecationError", Refusal::Unsupported),
    // MongoDB Atlas, of what its shared tiers do not allow.
    (8000, "AtlasError", Refusal::Unsupported),
    (13435, "NotPrimaryNoSecondaryOk", Refusal::NotInThisState),
    (13436, "NotPrimaryOrSecondary", Refusal::NotInThisState),
    // `serverStatus` with `oplog` before 5.0, of a member that has no oplog.
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
    fn error_codes_that_pass_are_not_permanent() {
        // Elections, shutdowns, conflicts, interruptions, time limits, requests over a quota.
        for code in [6, 50, 89, 91, 112, 189, 251, 462, 10107, 11600, 11602, 16500] {
            assert!(!refusal(Some(code)).is_permanent(), "{code}");
        }
    }

    #[test]
    fn the_table_of_error_codes_is_sorted_and_has_no_code_twice() {
        assert!(CODES.is_sorted_by(|one, other| one.0 < other.0));
        assert!(CODES.iter().all(|(_, name, _)| !name.is_empty()));
    }
}
