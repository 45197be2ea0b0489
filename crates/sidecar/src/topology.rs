//! Who belongs to the deployment, by its own account: what `hello` says, and the same part of `serverStatus`.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document};
use mongodb::options::ServerAddress;
use txnscope_catalog::MAX_PEERS;
use txnscope_mongo::SetName;

use crate::address;
use crate::decode::{Found, field, number, text};

/// Who answers, by its own account.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) kind: Kind,
    pub(crate) role: Role,
    /// Of the process, new at each start. Servers before 4.4 do not say.
    pub(crate) process: Option<ObjectId>,
}

/// What a server says about itself and its set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// It is a member of a replica set.
    Member(Membership),
    /// It belongs to none.
    Alone,
    /// It routes for a sharded cluster. It names no other: each that the URI names is watched.
    Mongos,
    /// It does not know: its set is not initiated, or it was removed from it.
    Unsure,
    /// It is a member of a set whose name is none.
    Misnamed,
}

/// What it does in its set just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Primary,
    Secondary,
    Arbiter,
    /// It recovers, copies its first data, rolls back; or there is no set.
    Other,
}

/// A replica set, as one of its members knows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Membership {
    pub(crate) rs: String,
    /// The members that are not hidden, and where each is dialed. `None`: its address leads nowhere.
    pub(crate) members: BTreeMap<String, Option<ServerAddress>>,
    /// Those of them that hold no data.
    pub(crate) arbiters: BTreeSet<String>,
    /// The address under which the set knows the member that answered.
    pub(crate) me: Option<String>,
    /// It takes writes.
    pub(crate) primary: bool,
    /// How many it named beyond the most that a set can have. They are not followed.
    pub(crate) beyond: usize,
    /// The version of the set's configuration.
    version: f64,
}

impl Membership {
    /// Whether the other speaks of the same set. One of the same name that shares no member with it but the one that
    /// answers is another: many sets are called `rs0`.
    pub(crate) fn is_of_set(&self, known: &Self) -> bool {
        let is_another = |member: &&String| self.me.as_ref() != Some(*member);
        let mut others = known.members.keys().filter(is_another).peekable();
        self.rs == known.rs
            && (others.peek().is_none() || others.any(|member| self.members.contains_key(member)))
    }

    /// Whether this account of the set replaces the other: a member that was away may come back with an old one.
    pub(crate) fn supersedes(&self, known: &Self) -> bool {
        self.rs == known.rs && (self.primary || self.version >= known.version)
    }

    /// Which of two accounts to believe where nothing else tells: that of a primary, then the newer.
    pub(crate) fn weight(&self) -> (bool, f64) {
        (self.primary, self.version)
    }
}

impl Answer {
    /// From the reply to `hello` or `isMaster`.
    pub(crate) fn of_hello(reply: &Document) -> Self {
        let is = |name| matches!(field(reply, &[name]), Found::Value(Bson::Boolean(true)));
        // Before 4.4.2, and in `serverStatus` before 5.0, the field has its old name.
        let primary = is("isWritablePrimary") || is("ismaster");
        let kind = match text(reply, &["setName"]) {
            // What becomes a label is the name of a set, whoever says it.
            Found::Value(rs) if SetName::parse(rs).is_some() => Kind::Member(membership(reply, rs, primary)),
            Found::Value(_) | Found::Odd => Kind::Misnamed,
            Found::Missing if text(reply, &["msg"]).ok() == Some("isdbgrid") => Kind::Mongos,
            Found::Missing if !is("isreplicaset") => Kind::Alone,
            Found::Missing => Kind::Unsure,
        };
        let role = match kind {
            Kind::Member(_) if is("arbiterOnly") => Role::Arbiter,
            Kind::Member(_) if primary => Role::Primary,
            Kind::Member(_) if is("secondary") => Role::Secondary,
            _ => Role::Other,
        };
        let process = match field(reply, &["topologyVersion", "processId"]) {
            Found::Value(Bson::ObjectId(process)) => Some(*process),
            Found::Value(_) | Found::Missing | Found::Odd => None,
        };
        Self { kind, role, process }
    }

    /// From the reply to `serverStatus`, if that says who answers: where the server is none of a set, or only imitates
    /// one, it does not.
    pub(crate) fn of_status(reply: &Document) -> Option<Self> {
        let Found::Value(Bson::Document(repl)) = field(reply, &["repl"]) else { return None };
        let answer = Self::of_hello(repl);
        matches!(answer.kind, Kind::Member(_)).then_some(answer)
    }
}

/// What the watch of a set makes of a reply.
#[cfg(feature = "fuzzing")]
pub(crate) fn read(reply: &Document) {
    let answers = [Some(Answer::of_hello(reply)), Answer::of_status(reply)];
    for answer in answers.into_iter().flatten() {
        if let Kind::Member(membership) = answer.kind {
            assert!(membership.members.len() <= MAX_PEERS, "more members than a set can have");
            let _ = membership.supersedes(&membership);
        }
    }
}

fn membership(reply: &Document, rs: &str, primary: bool) -> Membership {
    let named = |list| match field(reply, &[list]) {
        Found::Value(Bson::Array(addresses)) => addresses.iter().filter_map(Bson::as_str).collect(),
        Found::Value(_) | Found::Missing | Found::Odd => Vec::new(),
    };
    let (mut members, mut beyond) = (BTreeMap::new(), 0);
    let mut admit = |names: Vec<&str>| -> BTreeSet<String> {
        let mut admitted = BTreeSet::new();
        for name in names {
            let shown = address::normal(name);
            if members.len() < MAX_PEERS || members.contains_key(&shown) {
                members.entry(shown.clone()).or_insert_with(|| address::parse(name));
                admitted.insert(shown);
            } else {
                beyond += 1;
            }
        }
        admitted
    };
    admit(named("hosts"));
    admit(named("passives"));
    let arbiters = admit(named("arbiters"));
    Membership {
        rs: rs.to_owned(),
        members,
        arbiters,
        me: text(reply, &["me"]).ok().map(address::normal),
        primary,
        beyond,
        version: number(reply, &["setVersion"]).ok().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    fn membership(reply: &Document) -> Membership {
        match Answer::of_hello(reply).kind {
            Kind::Member(membership) => membership,
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
    fn every_member_that_the_set_names_is_one() {
        let membership = membership(&of("db1:27017", 1));
        let members: Vec<_> = membership.members.keys().map(String::as_str).collect();
        assert_eq!(members, ["db1:27017", "db2:27017", "db3:27018", "db4:27017"]);
        assert_eq!(membership.arbiters.iter().collect::<Vec<_>>(), ["db4:27017"]);
    }

    #[test]
    fn members_whose_address_leads_nowhere_are_named_all_the_same() {
        let mut reply = of("db1:27017", 1);
        reply.insert("hosts", vec!["db1:27017", "db 2:1", "", "[::1]:7", "\u{1b}[2J"]);
        let named = membership(&reply).members;
        let lead = |name: &str| named[name].is_some();
        assert_eq!(
            ["db1:27017", "db\\u{20}2:1", "(empty)", "[::1]:7", "\\u{1b}[2J"].map(lead),
            [true, false, false, true, false]
        );
    }

    #[test]
    fn a_set_names_no_more_members_than_mongodb_allows() {
        let mut reply = of("db1:27017", 1);
        reply.insert("hosts", (0..10_000).map(|index| format!("db{index}:1")).collect::<Vec<_>>());
        let membership = membership(&reply);
        assert_eq!((membership.members.len(), membership.beyond), (MAX_PEERS, 10_000 - MAX_PEERS + 2));
    }

    #[test]
    fn an_older_account_does_not_replace_a_newer_one_unless_the_primary_gives_it() {
        let (old, new) = (of("db1:27017", 1), of("db2:27017", 2));
        assert!(membership(&new).supersedes(&membership(&old)));
        assert!(membership(&new).supersedes(&membership(&new)));
        assert!(!membership(&old).supersedes(&membership(&new)));
        let mut primary = old;
        primary.insert("isWritablePrimary", true);
        assert!(membership(&primary).supersedes(&membership(&new)));
        primary.insert("setName", "another");
        assert!(!membership(&primary).supersedes(&membership(&new)));
    }

    #[test]
    fn another_set_of_the_same_name_is_told_from_the_known_one() {
        let known = membership(&of("db2:27017", 3));
        let mut stranger = of("db1:27017", 9);
        stranger
            .extend(doc! {"isWritablePrimary": true, "hosts": ["db1:27017"], "passives": [], "arbiters": []});
        assert!(!membership(&stranger).is_of_set(&known), "it shares no member but itself");
        stranger.insert("hosts", vec!["db1:27017", "db2:27017"]);
        assert!(membership(&stranger).is_of_set(&known), "members were removed");
        let alone = membership(&doc! {"setName": "rs0", "me": "db1:1", "hosts": ["db1:1"]});
        let grown = membership(&doc! {"setName": "rs0", "me": "db1:1", "hosts": ["db1:1", "db5:1"]});
        assert!(grown.is_of_set(&alone));
    }

    #[test]
    fn servers_of_other_kinds_are_recognised() {
        let kind = |reply: Document| Answer::of_hello(&reply).kind;
        assert_eq!(kind(doc! {"isWritablePrimary": true}), Kind::Alone);
        assert_eq!(kind(doc! {"msg": "isdbgrid", "isWritablePrimary": true}), Kind::Mongos);
        assert_eq!(kind(doc! {"isreplicaset": true}), Kind::Unsure);
        assert_eq!(kind(doc! {"setName": 7, "hosts": ["db1"]}), Kind::Misnamed);
        assert_eq!(kind(doc! {"setName": "rs 0\n", "hosts": ["db1"]}), Kind::Misnamed);
    }

    #[test]
    fn the_answer_before_4_4_2_is_read_as_well() {
        let mut reply = of("db1:27017", 1);
        assert_eq!(Answer::of_hello(&reply).role, Role::Other);
        reply.insert("secondary", true);
        assert_eq!(Answer::of_hello(&reply).role, Role::Secondary);
        reply.insert("ismaster", true);
        assert_eq!(Answer::of_hello(&reply).role, Role::Primary);
        let status = doc! {"repl": reply};
        assert_eq!(Answer::of_status(&status).unwrap().role, Role::Primary);
        assert_eq!(Answer::of_status(&doc! {"repl": {"isreplicaset": true}}), None);
        assert_eq!(Answer::of_status(&doc! {}), None);
    }
}
