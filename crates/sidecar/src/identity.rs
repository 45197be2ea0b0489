//! Verification that the expected server answers: the identity of each member is compared with every reply.
//!
//! A port or a pod's address is reused, a member is restarted as a standalone, DNS points elsewhere: then
//! another server answers, and its numbers must not be exported for this member.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mongodb::bson::oid::ObjectId;

use crate::error::{PollError, PollErrorReason};
use crate::topology::{HelloReply, ReplicaSetView, Role, ServerKind};

/// The server that must answer at an address.
#[derive(Debug, Clone, Default)]
pub(crate) enum Expected {
    /// Any server: the deployment is not known yet.
    #[default]
    Anyone,
    /// A member of the set with this name.
    Member {
        rs: String,
        /// The member's name in the set, if the address comes from the set.
        me: Option<String>,
        /// The set, once it is known.
        set: Option<Arc<ReplicaSetView>>,
    },
    /// A standalone server.
    Standalone,
    /// A mongos.
    Mongos,
}

/// The server that answered last. After a restart or a change of role, it may give other answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObservedServer {
    pub(crate) process: Option<ObjectId>,
    pub(crate) role: Role,
}

/// The identity of one member, shared by all its collectors.
#[derive(Debug, Default)]
pub(crate) struct Identity(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    expected: Expected,
    seen: Option<ObservedServer>,
    /// The process that has answered as a member of the set. It remains that member, however the set changes.
    proven: Option<ObjectId>,
    /// The last reply came from another server.
    mismatched: bool,
    /// The mismatch was logged.
    logged: bool,
    /// The server supports only `isMaster`.
    legacy: bool,
}

impl Identity {
    /// Sets the server that must answer from now on.
    pub(crate) fn set_expected(&self, expected: Expected) {
        self.lock().expected = expected;
    }

    /// Compares a reply with the expected server.
    ///
    /// # Errors
    ///
    /// If another server has answered.
    pub(crate) fn verify(&self, reply: &HelloReply) -> Result<(), PollError> {
        let mut state = self.lock();
        let mismatch = state.expected.mismatch(reply, state.is_proven(reply));
        state.mismatched = mismatch.is_some();
        match mismatch {
            Some(mismatch) => {
                state.seen = None;
                Err(PollError::new(PollErrorReason::IdentityMismatch, mismatch))
            }
            None => {
                state.seen = Some(ObservedServer { process: reply.process, role: reply.role });
                state.logged = false;
                if matches!(reply.kind, ServerKind::Member(_)) {
                    state.proven = reply.process;
                }
                Ok(())
            }
        }
    }

    /// Whether the replying process has answered before as a member of the set.
    pub(crate) fn is_proven(&self, reply: &HelloReply) -> bool {
        self.lock().is_proven(reply)
    }

    /// The server that answered last; `None` before the first reply, and after a mismatch.
    pub(crate) fn seen(&self) -> Option<ObservedServer> {
        self.lock().seen
    }

    /// Whether the last reply came from another server. Resets the flag.
    pub(crate) fn take_mismatch(&self) -> bool {
        std::mem::take(&mut self.lock().mismatched)
    }

    /// Whether the mismatch has not been logged yet. Marks it as logged, since several collectors may find it.
    pub(crate) fn should_log_mismatch(&self) -> bool {
        !std::mem::replace(&mut self.lock().logged, true)
    }

    /// Whether the server supports only `isMaster`.
    pub(crate) fn is_legacy(&self) -> bool {
        self.lock().legacy
    }

    pub(crate) fn set_legacy(&self) {
        self.lock().legacy = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_proven(&self, reply: &HelloReply) -> bool {
        reply.process.is_some() && self.proven == reply.process
    }
}

impl Expected {
    /// A description of the mismatch, if another server has answered.
    fn mismatch(&self, reply: &HelloReply, is_proven: bool) -> Option<String> {
        let matches = match (self, &reply.kind) {
            (Self::Anyone, _)
            | (Self::Standalone, ServerKind::Standalone)
            | (Self::Mongos, ServerKind::Mongos) => true,
            (Self::Member { rs, me, set }, ServerKind::Member(view)) => {
                // A reply without `me` cannot be distinguished by its name.
                let has_expected_name = me.as_ref().zip(view.me.as_ref()).is_none_or(|(me, own)| me == own);
                let is_same_set = is_proven || set.as_ref().is_none_or(|set| view.is_same_set(set));
                view.rs == *rs && has_expected_name && is_same_set
            }
            // A member that is starting or was removed does not know its set, and claims no other.
            (Self::Member { .. }, ServerKind::Uninitialized) => true,
            (Self::Member { .. } | Self::Standalone | Self::Mongos, _) => false,
        };
        (!matches).then(|| format!("{} answers instead of {self}", describe(&reply.kind)))
    }
}

fn describe(kind: &ServerKind) -> String {
    match kind {
        ServerKind::Member(view) => {
            let mut text = format!("a member of the replica set {}", view.rs);
            if let Some(me) = &view.me {
                let _ = write!(text, " with the name {me}");
            }
            text
        }
        ServerKind::Standalone => "a standalone".to_owned(),
        ServerKind::Mongos => "a mongos".to_owned(),
        ServerKind::InvalidSetName => "a member of a replica set with an invalid name".to_owned(),
        ServerKind::Uninitialized => "a server that belongs to no replica set yet".to_owned(),
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anyone => write!(f, "any server"),
            Self::Member { rs, me: Some(me), .. } => write!(f, "{me} of the replica set {rs}"),
            Self::Member { rs, me: None, .. } => write!(f, "a member of the replica set {rs}"),
            Self::Standalone => write!(f, "the standalone"),
            Self::Mongos => write!(f, "a mongos"),
        }
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Document, doc};

    use super::*;

    fn member(rs: &str, me: &str, hosts: &[&str]) -> HelloReply {
        HelloReply::from_hello(&doc! {
            "setName": rs, "me": me, "hosts": hosts.to_vec(), "secondary": true, "setVersion": 1,
            "topologyVersion": {"processId": ObjectId::from_bytes([7; 12])},
        })
    }

    fn set(hosts: &[&str]) -> Option<Arc<ReplicaSetView>> {
        match member("rs0", hosts[0], hosts).kind {
            ServerKind::Member(set) => Some(Arc::new(set)),
            _ => None,
        }
    }

    fn expected(expected: Expected, reply: &HelloReply) -> Result<(), String> {
        let identity = Identity::default();
        identity.set_expected(expected);
        let result = identity.verify(reply);
        assert_eq!(identity.take_mismatch(), result.is_err());
        assert_eq!(identity.seen().is_some(), result.is_ok());
        result.map_err(|error| {
            assert_eq!(error.reason, PollErrorReason::IdentityMismatch);
            error.to_string()
        })
    }

    fn db1() -> Expected {
        Expected::Member {
            rs: "rs0".into(),
            me: Some("db1:1".into()),
            set: set(&["db1:1", "db2:1", "db3:1"]),
        }
    }

    #[test]
    fn member_is_accepted_after_reconfiguration() {
        for hosts in
            [&["db1:1", "db2:1", "db3:1"][..], &["db1:1", "db2:1"], &["db1:1", "db2:1", "db4:1", "db5:1"]]
        {
            assert_eq!(expected(db1(), &member("rs0", "DB1:1", hosts)), Ok(()));
        }
        let nameless = HelloReply::from_hello(&doc! {"setName": "rs0", "hosts": ["db1:1", "db2:1"]});
        assert_eq!(expected(db1(), &nameless), Ok(()), "hosted servers do not all say their name");
        let starting = HelloReply::from_hello(&doc! {"isreplicaset": true});
        assert_eq!(expected(db1(), &starting), Ok(()), "it does not know its set yet");
    }

    /// Members are removed until one is left, which then looks like another set to the others.
    #[test]
    fn known_process_is_accepted_when_its_set_shrinks() {
        let identity = Identity::default();
        identity.set_expected(db1());
        assert!(identity.verify(&member("rs0", "db1:1", &["db1:1", "db2:1"])).is_ok());
        let lone = member("rs0", "db1:1", &["db1:1"]);
        assert!(identity.is_proven(&lone) && identity.verify(&lone).is_ok());
        let mut restarted = lone;
        restarted.process = Some(ObjectId::from_bytes([8; 12]));
        assert!(!identity.is_proven(&restarted) && identity.verify(&restarted).is_err());
    }

    #[test]
    fn another_server_at_a_member_address_is_a_mismatch() {
        let kinds = |reply: Document| HelloReply::from_hello(&reply);
        for (reply, is) in [
            (member("rs1", "db1:1", &["db1:1", "db2:1"]), "of the replica set rs1"),
            (member("rs0", "db2:1", &["db1:1", "db2:1", "db3:1"]), "with the name db2:1"),
            (member("rs0", "db1:1", &["db1:1"]), "with the name db1:1"),
            (member("rs0", "db1:1", &["db1:1", "other2:1", "other3:1"]), "with the name db1:1"),
            (kinds(doc! {"isWritablePrimary": true}), "a standalone"),
            (kinds(doc! {"msg": "isdbgrid"}), "a mongos"),
        ] {
            let error = expected(db1(), &reply).unwrap_err();
            assert!(error.contains(is) && error.contains("db1:1 of the replica set rs0"), "{error}");
        }
        let mongos = kinds(doc! {"msg": "isdbgrid"});
        let alone = kinds(doc! {"isWritablePrimary": true});
        assert_eq!(expected(Expected::Mongos, &mongos), Ok(()));
        assert!(
            expected(Expected::Mongos, &alone).is_err() && expected(Expected::Standalone, &mongos).is_err()
        );
        assert_eq!(expected(Expected::Anyone, &mongos), Ok(()));
    }
}
