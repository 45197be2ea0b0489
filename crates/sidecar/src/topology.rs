//! Who belongs to the deployment, by its own account: what `hello` says.

use std::collections::BTreeSet;

use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ServerAddress;

use txnscope_mongo::SetName;

use crate::decode::{Found, field, number, text};
use crate::error::PollError;

/// What a server says about itself and its set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Hello {
    /// It is a member of a replica set.
    Member(Membership),
    /// It belongs to none.
    Alone,
    /// It routes for a sharded cluster. It names no other: each that the URI names is watched.
    Mongos,
    /// It does not know: its set is not initiated, or it was removed from it.
    Unsure,
}

/// A replica set, as one of its members knows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Membership {
    pub(crate) rs: String,
    /// The members that hold data and are not hidden. An arbiter runs no transactions.
    pub(crate) members: BTreeSet<String>,
    /// The address under which the set knows the member that answered.
    me: Option<String>,
    arbiter: bool,
    primary: bool,
    /// The version of the set's configuration.
    version: f64,
}

impl Membership {
    /// Whether this account replaces the other: a member that was away may come back with an old one.
    pub(crate) fn supersedes(&self, known: &Self) -> bool {
        self.rs == known.rs && (self.primary || self.version >= known.version)
    }

    /// The member that answered holds data and is hidden: the others do not name it.
    pub(crate) fn is_of_a_hidden_member(&self) -> bool {
        !self.arbiter && self.me.as_ref().is_some_and(|me| !self.members.contains(me))
    }
}

/// Asks a server. Needs no privilege.
pub(crate) async fn hello(client: &Client) -> Result<Hello, PollError> {
    let reply = client.database("admin").run_command(doc! {"hello": 1}).await?;
    Ok(decode(&reply))
}

/// What the watch of a set makes of a reply.
#[cfg(feature = "fuzzing")]
pub(crate) fn read(reply: &Document) {
    if let Hello::Member(membership) = decode(reply) {
        let _ = (membership.is_of_a_hidden_member(), membership.supersedes(&membership));
    }
}

/// An address in the one form that we compare and show.
pub(crate) fn normal(address: &str) -> String {
    ServerAddress::parse(address).map_or_else(|_| address.to_owned(), |address| address.to_string())
}

fn decode(reply: &Document) -> Hello {
    let is = |name| matches!(field(reply, &[name]), Found::Value(Bson::Boolean(true)));
    let addresses = |name| match field(reply, &[name]) {
        Found::Value(Bson::Array(addresses)) => addresses.as_slice(),
        Found::Value(_) | Found::Missing | Found::Odd => &[],
    };
    let members: BTreeSet<_> =
        ["hosts", "passives"].into_iter().flat_map(addresses).filter_map(Bson::as_str).map(normal).collect();
    match text(reply, &["setName"]) {
        // What becomes a label is the name of a set, whoever says it.
        Found::Value(rs) if !members.is_empty() && SetName::parse(rs).is_some() => {
            Hello::Member(Membership {
                rs: rs.to_owned(),
                members,
                me: text(reply, &["me"]).ok().map(normal),
                arbiter: is("arbiterOnly"),
                primary: is("isWritablePrimary"),
                version: number(reply, &["setVersion"]).ok().unwrap_or_default(),
            })
        }
        Found::Missing if text(reply, &["msg"]).ok() == Some("isdbgrid") => Hello::Mongos,
        Found::Missing if !is("isreplicaset") => Hello::Alone,
        Found::Value(_) | Found::Missing | Found::Odd => Hello::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(reply: &Document) -> Membership {
        match decode(reply) {
            Hello::Member(membership) => membership,
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
    fn members_are_those_with_data() {
        let membership = membership(&of("db1:27017", 1));
        let members: Vec<_> = membership.members.iter().map(String::as_str).collect();
        assert_eq!(members, ["db1:27017", "db2:27017", "db3:27018"]);
        assert!(!membership.is_of_a_hidden_member());
    }

    #[test]
    fn hidden_members_and_arbiters_are_told_apart() {
        assert!(membership(&of("db9:27017", 1)).is_of_a_hidden_member());
        let mut arbiter = of("db4:27017", 1);
        arbiter.insert("arbiterOnly", true);
        assert!(!membership(&arbiter).is_of_a_hidden_member());
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
    fn servers_of_other_kinds_are_recognised() {
        assert_eq!(decode(&doc! {"isWritablePrimary": true}), Hello::Alone);
        assert_eq!(decode(&doc! {"msg": "isdbgrid", "isWritablePrimary": true}), Hello::Mongos);
        assert_eq!(decode(&doc! {"isreplicaset": true}), Hello::Unsure);
        assert_eq!(decode(&doc! {"setName": "rs0"}), Hello::Unsure);
        assert_eq!(decode(&doc! {"setName": 7, "hosts": ["db1"]}), Hello::Unsure);
    }
}
