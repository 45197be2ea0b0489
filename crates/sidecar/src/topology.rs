//! Topology: the replies to `hello`, and the same part of `serverStatus`.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document};
use mongodb::options::ServerAddress;
use txnscope_catalog::MAX_PEERS;
use txnscope_mongo::SetName;

use crate::address;
use crate::decode::{Field, field, number, text};

/// The identity of a server, from its reply.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HelloReply {
    pub(crate) kind: ServerKind,
    pub(crate) role: Role,
    /// The id of the process, new at each start. Servers before 4.4 do not send it.
    pub(crate) process: Option<ObjectId>,
}

/// The kind of a server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ServerKind {
    /// A member of a replica set.
    Member(ReplicaSetView),
    /// A standalone.
    Standalone,
    /// A mongos. It names no other servers, so each that the URI names is monitored.
    Mongos,
    /// A server whose set is not initiated, or that was removed from its set.
    Uninitialized,
    /// A member of a set with an invalid name.
    InvalidSetName,
}

/// The current role of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Primary,
    Secondary,
    Arbiter,
    /// Recovering, in initial sync or rollback; or no member of a set.
    Other,
}

/// A replica set, as one of its members sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReplicaSetView {
    pub(crate) rs: String,
    /// The members that are not hidden, with the address to dial. `None` if it cannot be dialed.
    pub(crate) members: BTreeMap<String, Option<ServerAddress>>,
    /// The members that are arbiters.
    pub(crate) arbiters: BTreeSet<String>,
    /// The name of the replying member in the set.
    pub(crate) me: Option<String>,
    /// Whether the replying member is the primary.
    pub(crate) primary: bool,
    /// How many members were listed beyond MongoDB's maximum. They are not monitored.
    pub(crate) over_limit: usize,
    /// The version of the set's configuration.
    version: f64,
}

impl ReplicaSetView {
    /// Whether both views are of the same set. A set with the same name that shares no other member is a
    /// different one: many sets are called `rs0`.
    pub(crate) fn is_same_set(&self, known: &Self) -> bool {
        let is_another = |member: &&String| self.me.as_ref() != Some(*member);
        let mut others = known.members.keys().filter(is_another).peekable();
        self.rs == known.rs
            && (others.peek().is_none() || others.any(|member| self.members.contains_key(member)))
    }

    /// Whether this view replaces the other: a member that was down may come back with an old view.
    pub(crate) fn supersedes(&self, known: &Self) -> bool {
        self.rs == known.rs && (self.primary || self.version >= known.version)
    }

    /// The order of two views where nothing else decides: a primary's first, then the newer.
    pub(crate) fn priority(&self) -> (bool, f64) {
        (self.primary, self.version)
    }
}

impl HelloReply {
    /// Parses the reply to `hello` or `isMaster`.
    pub(crate) fn from_hello(reply: &Document) -> Self {
        let is = |name| matches!(field(reply, &[name]), Field::Value(Bson::Boolean(true)));
        // Before 4.4.2, and in `serverStatus` before 5.0, the field has its old name.
        let primary = is("isWritablePrimary") || is("ismaster");
        let kind = match text(reply, &["setName"]) {
            // The name becomes a label, so it must be a valid name of a set.
            Field::Value(rs) if SetName::parse(rs).is_some() => {
                ServerKind::Member(replica_set_view(reply, rs, primary))
            }
            Field::Value(_) | Field::Invalid => ServerKind::InvalidSetName,
            Field::Missing if text(reply, &["msg"]).ok() == Some("isdbgrid") => ServerKind::Mongos,
            Field::Missing if !is("isreplicaset") => ServerKind::Standalone,
            Field::Missing => ServerKind::Uninitialized,
        };
        let role = match kind {
            ServerKind::Member(_) if is("arbiterOnly") => Role::Arbiter,
            ServerKind::Member(_) if primary => Role::Primary,
            ServerKind::Member(_) if is("secondary") => Role::Secondary,
            _ => Role::Other,
        };
        let process = match field(reply, &["topologyVersion", "processId"]) {
            Field::Value(Bson::ObjectId(process)) => Some(*process),
            Field::Value(_) | Field::Missing | Field::Invalid => None,
        };
        Self { kind, role, process }
    }

    /// Parses the reply to `serverStatus`, if it identifies the server. That of a standalone, or of a server
    /// that only emulates a replica set, does not.
    pub(crate) fn from_status(reply: &Document) -> Option<Self> {
        let Field::Value(Bson::Document(repl)) = field(reply, &["repl"]) else { return None };
        let reply = Self::from_hello(repl);
        matches!(reply.kind, ServerKind::Member(_)).then_some(reply)
    }
}

/// Parses a reply, for fuzzing.
#[cfg(feature = "fuzzing")]
pub(crate) fn read(reply: &Document) {
    let replies = [Some(HelloReply::from_hello(reply)), HelloReply::from_status(reply)];
    for reply in replies.into_iter().flatten() {
        if let ServerKind::Member(replica_set_view) = reply.kind {
            assert!(replica_set_view.members.len() <= MAX_PEERS, "more members than a set can have");
            let _ = replica_set_view.supersedes(&replica_set_view);
        }
    }
}

fn replica_set_view(reply: &Document, rs: &str, primary: bool) -> ReplicaSetView {
    let named = |list| match field(reply, &[list]) {
        Field::Value(Bson::Array(addresses)) => addresses.iter().filter_map(Bson::as_str).collect(),
        Field::Value(_) | Field::Missing | Field::Invalid => Vec::new(),
    };
    let (mut members, mut over_limit) = (BTreeMap::new(), 0);
    let mut admit = |names: Vec<&str>| -> BTreeSet<String> {
        let mut admitted = BTreeSet::new();
        for name in names {
            let shown = address::normalize(name);
            if members.len() < MAX_PEERS || members.contains_key(&shown) {
                members.entry(shown.clone()).or_insert_with(|| address::parse(name));
                admitted.insert(shown);
            } else {
                over_limit += 1;
            }
        }
        admitted
    };
    admit(named("hosts"));
    admit(named("passives"));
    let arbiters = admit(named("arbiters"));
    ReplicaSetView {
        rs: rs.to_owned(),
        members,
        arbiters,
        me: text(reply, &["me"]).ok().map(address::normalize),
        primary,
        over_limit,
        version: number(reply, &["setVersion"]).ok().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    fn replica_set_view(reply: &Document) -> ReplicaSetView {
        match HelloReply::from_hello(reply).kind {
            ServerKind::Member(replica_set_view) => replica_set_view,
            other => panic!("{reply} is {other:?}"),
        }
    }

    fn of(me: &str, version: i32) -> Document {
        doc! {
            "setName": "rs0", "setVersion": version, "me": me, "hosts": ["db1:27017", "DB2"],
            "passives": ["db3:27018"], "arbiters": ["db4:27017"],
        }
    }

    #[test]
    fn all_listed_members_are_parsed() {
        let replica_set_view = replica_set_view(&of("db1:27017", 1));
        let members: Vec<_> = replica_set_view.members.keys().map(String::as_str).collect();
        assert_eq!(members, ["db1:27017", "db2:27017", "db3:27018", "db4:27017"]);
        assert_eq!(replica_set_view.arbiters.iter().collect::<Vec<_>>(), ["db4:27017"]);
    }

    #[test]
    fn undialable_members_are_listed() {
        let mut reply = of("db1:27017", 1);
        reply.insert("hosts", vec!["db1:27017", "db 2:1", "", "[::1]:7", "\u{1b}[2J"]);
        let named = replica_set_view(&reply).members;
        let lead = |name: &str| named[name].is_some();
        assert_eq!(
            ["db1:27017", "db\\u{20}2:1", "(empty)", "[::1]:7", "\\u{1b}[2J"].map(lead),
            [true, false, false, true, false]
        );
    }

    #[test]
    fn listed_members_are_limited() {
        let mut reply = of("db1:27017", 1);
        reply.insert("hosts", (0..10_000).map(|index| format!("db{index}:1")).collect::<Vec<_>>());
        let replica_set_view = replica_set_view(&reply);
        assert_eq!(
            (replica_set_view.members.len(), replica_set_view.over_limit),
            (MAX_PEERS, 10_000 - MAX_PEERS + 2)
        );
    }

    #[test]
    fn only_a_newer_or_primary_view_supersedes() {
        let (old, new) = (of("db1:27017", 1), of("db2:27017", 2));
        assert!(replica_set_view(&new).supersedes(&replica_set_view(&old)));
        assert!(replica_set_view(&new).supersedes(&replica_set_view(&new)));
        assert!(!replica_set_view(&old).supersedes(&replica_set_view(&new)));
        let mut primary = old;
        primary.insert("isWritablePrimary", true);
        assert!(replica_set_view(&primary).supersedes(&replica_set_view(&new)));
        primary.insert("setName", "another");
        assert!(!replica_set_view(&primary).supersedes(&replica_set_view(&new)));
    }

    #[test]
    fn another_set_with_the_same_name_is_detected() {
        let known = replica_set_view(&of("db2:27017", 3));
        let mut stranger = of("db1:27017", 9);
        stranger
            .extend(doc! {"isWritablePrimary": true, "hosts": ["db1:27017"], "passives": [], "arbiters": []});
        assert!(!replica_set_view(&stranger).is_same_set(&known), "it shares no member but itself");
        stranger.insert("hosts", vec!["db1:27017", "db2:27017"]);
        assert!(replica_set_view(&stranger).is_same_set(&known), "members were removed");
        let alone = replica_set_view(&doc! {"setName": "rs0", "me": "db1:1", "hosts": ["db1:1"]});
        let grown = replica_set_view(&doc! {"setName": "rs0", "me": "db1:1", "hosts": ["db1:1", "db5:1"]});
        assert!(grown.is_same_set(&alone));
    }

    #[test]
    fn standalone_mongos_and_invalid_set_names_are_recognized() {
        let kind = |reply: Document| HelloReply::from_hello(&reply).kind;
        assert_eq!(kind(doc! {"isWritablePrimary": true}), ServerKind::Standalone);
        assert_eq!(kind(doc! {"msg": "isdbgrid", "isWritablePrimary": true}), ServerKind::Mongos);
        assert_eq!(kind(doc! {"isreplicaset": true}), ServerKind::Uninitialized);
        assert_eq!(kind(doc! {"setName": 7, "hosts": ["db1"]}), ServerKind::InvalidSetName);
        assert_eq!(kind(doc! {"setName": "rs 0\n", "hosts": ["db1"]}), ServerKind::InvalidSetName);
    }

    #[test]
    fn is_master_reply_before_4_4_2_is_parsed() {
        let mut reply = of("db1:27017", 1);
        assert_eq!(HelloReply::from_hello(&reply).role, Role::Other);
        reply.insert("secondary", true);
        assert_eq!(HelloReply::from_hello(&reply).role, Role::Secondary);
        reply.insert("ismaster", true);
        assert_eq!(HelloReply::from_hello(&reply).role, Role::Primary);
        let status = doc! {"repl": reply};
        assert_eq!(HelloReply::from_status(&status).unwrap().role, Role::Primary);
        assert_eq!(HelloReply::from_status(&doc! {"repl": {"isreplicaset": true}}), None);
        assert_eq!(HelloReply::from_status(&doc! {}), None);
    }
}
