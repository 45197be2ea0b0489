//! What the deployment is made of, and whether a majority of it is there.

use std::time::Duration;

use mongodb::bson::{Bson, Document, Timestamp};

use super::deployment::{Answer, field, flag, number, text, texts};
use super::finding::Finding;
use crate::span;

const KIND: &str = "deployment";
const MAJORITY: &str = "majority";
const OPLOG: &str = "oplog window";

/// What answers there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ReplicaSet,
    Sharded,
    Standalone,
    /// A member of a set that is not initiated, or that has dismissed it.
    Unsure,
}

pub(crate) fn kind(hello: &Document) -> Kind {
    if text(hello, &["msg"]) == Some("isdbgrid") {
        Kind::Sharded
    } else if text(hello, &["setName"]).is_some() {
        Kind::ReplicaSet
    } else if flag(hello, &["isreplicaset"]) {
        Kind::Unsure
    } else {
        Kind::Standalone
    }
}

/// `wanted` is the name of the set in the URI.
pub(crate) fn deployment(hello: &Document, wanted: Option<&str>) -> Finding {
    let name = text(hello, &["setName"]).unwrap_or_default();
    match kind(hello) {
        Kind::ReplicaSet if wanted.is_some_and(|wanted| wanted != name) => Finding::fail(
            KIND,
            format!(
                "the replica set is called {name:?}, and the URI asks for {:?}",
                wanted.unwrap_or_default()
            ),
            format!("say replicaSet={name} in the URI, or name the hosts of the right set"),
        ),
        Kind::ReplicaSet => {
            let members = members(hello).len();
            let lack = if members < 3 { ": no member can be lost" } else { "" };
            let evidence = format!("replica set {name:?}, {members} members with data{lack}");
            if members < 3 {
                Finding::warn(
                    KIND,
                    evidence,
                    "for production have three members with data: rs.add(\"host:port\")",
                )
            } else {
                Finding::pass(KIND, evidence)
            }
        }
        Kind::Sharded => Finding::pass(KIND, "sharded cluster, through mongos"),
        Kind::Standalone => Finding::fail(
            KIND,
            "a standalone server: it runs no transactions",
            "start it with --replSet=rs0 (replication.replSetName) and run rs.initiate() once; one member will do",
        ),
        Kind::Unsure => Finding::fail(
            KIND,
            "the server is started as a member of a replica set and belongs to none",
            "run rs.initiate() on it once, or rs.add() it on the primary of the set that it is to join",
        ),
    }
}

/// The members that hold data, as the set knows them.
pub(crate) fn members(hello: &Document) -> Vec<&str> {
    [texts(hello, &["hosts"]), texts(hello, &["passives"])].concat()
}

/// From `replSetGetStatus`; without it, whether there is a primary is all that can be told.
pub(crate) fn majority(set: &Answer, hello: &Document) -> Finding {
    let cure =
        "bring the members back that are away (rs.status() names them); until then no transaction commits";
    let no_primary = || Finding::fail(MAJORITY, "no primary is known", cure);
    let primary = text(hello, &["primary"]);
    let set = match set {
        Ok(set) => set,
        Err(_) if primary.is_none() => return no_primary(),
        Err(refusal) => {
            return Finding::warn(
                MAJORITY,
                format!("{} is primary; the others are not known: {refusal}", primary.unwrap_or_default()),
                "grant this user replSetGetStatus on the cluster: `txnscope role` prints the role",
            );
        }
    };
    let members: Vec<&Document> = field(set, &["members"])
        .and_then(Bson::as_array)
        .into_iter()
        .flatten()
        .filter_map(Bson::as_document)
        .collect();
    let state = |member: &Document| text(member, &["stateStr"]).unwrap_or("unknown").to_owned();
    let away: Vec<String> = members
        .iter()
        .filter(|member| {
            let well = ["PRIMARY", "SECONDARY", "ARBITER"].contains(&state(member).as_str());
            !well || number(member, &["health"]) == Some(0.0)
        })
        .map(|member| format!("{} {}", text(member, &["name"]).unwrap_or("?"), state(member)))
        .collect();
    let with_data = members.iter().filter(|member| {
        ["PRIMARY", "SECONDARY"].contains(&state(member).as_str()) && number(member, &["health"]) != Some(0.0)
    });
    let with_data = with_data.count();
    let needed = number(set, &["writeMajorityCount"]);
    let has_primary = members.iter().any(|member| state(member) == "PRIMARY");
    let all = members.len();
    let told = if away.is_empty() { String::new() } else { format!("; away: {}", away.join(", ")) };
    #[allow(clippy::cast_precision_loss, reason = "a set has 50 members at most")]
    let lacks = needed.is_some_and(|needed| (with_data as f64) < needed);
    if !has_primary {
        Finding::fail(MAJORITY, format!("no primary among {all} members{told}"), cure)
    } else if lacks {
        let needed = needed.unwrap_or_default();
        let evidence =
            format!("{with_data} members with data are there, and a majority write needs {needed}{told}");
        Finding::fail(MAJORITY, evidence, cure)
    } else if !away.is_empty() {
        Finding::warn(MAJORITY, format!("there is one{told}"), "bring the rest back before you deploy")
    } else {
        Finding::pass(MAJORITY, format!("all {all} members are there"))
    }
}

/// From `serverStatus` with `oplog`.
pub(crate) fn oplog(status: &Answer, sharded: bool, wanted: Duration) -> Finding {
    let status = match status {
        Ok(_) if sharded => {
            return Finding::skip(OPLOG, "mongos has none; run preflight against each shard as well");
        }
        Ok(status) => status,
        Err(refusal) => return super::not_known(OPLOG, refusal, "serverStatus"),
    };
    let end = |name| match field(status, &["oplog", name]) {
        Some(Bson::Timestamp(Timestamp { time, .. })) => Some(u64::from(*time)),
        Some(Bson::DateTime(date)) => u64::try_from(date.timestamp_millis() / 1_000).ok(),
        _ => None,
    };
    let Some((first, last)) = end("earliestOptime").zip(end("latestOptime")) else {
        return Finding::warn(OPLOG, "the server does not tell", "see rs.printReplicationInfo()");
    };
    let window = Duration::from_secs(last.saturating_sub(first));
    if window >= wanted {
        return Finding::pass(OPLOG, span::shown(window));
    }
    Finding::warn(
        OPLOG,
        format!(
            "{}: less than {}, or the set is younger than that",
            span::shown(window),
            span::shown(wanted)
        ),
        "if the set is older: db.adminCommand({replSetResizeOplog: 1, size: MEGABYTES}) on each member",
    )
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{DateTime, doc};

    use super::super::deployment::Refusal;
    use super::super::finding::Verdict;
    use super::*;

    fn set(states: &[(&str, f64)], needed: i32) -> Answer {
        let members: Vec<_> = states
            .iter()
            .map(|(state, health)| doc! {"name": format!("db-{state}:27017"), "stateStr": *state, "health": *health})
            .collect();
        Ok(doc! {"members": members, "writeMajorityCount": needed})
    }

    #[test]
    fn a_majority_is_told_from_its_lack() {
        let hello = doc! {"setName": "rs0", "primary": "db1:27017"};
        for (states, needed, expected) in [
            (&[("PRIMARY", 1.0), ("SECONDARY", 1.0), ("SECONDARY", 1.0)][..], 2, Verdict::Pass),
            (&[("PRIMARY", 1.0), ("SECONDARY", 1.0), ("(not reachable/healthy)", 0.0)], 2, Verdict::Warn),
            (&[("SECONDARY", 1.0), ("(not reachable/healthy)", 0.0), ("RECOVERING", 1.0)], 2, Verdict::Fail),
            // A primary, an arbiter and a member that is away: elected, and unable to commit.
            (&[("PRIMARY", 1.0), ("ARBITER", 1.0), ("(not reachable/healthy)", 0.0)], 2, Verdict::Fail),
        ] {
            let found = majority(&set(states, needed), &hello);
            assert_eq!(found.verdict, expected, "{states:?}: {found:?}");
        }
        assert_eq!(majority(&Err(Refusal::Denied), &hello).verdict, Verdict::Warn);
        assert_eq!(majority(&Err(Refusal::Denied), &doc! {}).verdict, Verdict::Fail);
        assert_eq!(majority(&Ok(doc! {"members": 7}), &hello).verdict, Verdict::Fail);
    }

    #[test]
    fn what_answers_is_told_apart() {
        assert_eq!(kind(&doc! {"msg": "isdbgrid"}), Kind::Sharded);
        assert_eq!(kind(&doc! {"isWritablePrimary": true}), Kind::Standalone);
        assert_eq!(kind(&doc! {"isreplicaset": true}), Kind::Unsure);
        let hello = doc! {"setName": "rs0", "hosts": ["a", "b"], "passives": ["c"]};
        assert_eq!(deployment(&hello, Some("rs0")).verdict, Verdict::Pass);
        assert_eq!(deployment(&hello, Some("rs1")).verdict, Verdict::Fail);
        assert_eq!(deployment(&doc! {"setName": "rs0", "hosts": ["a"]}, None).verdict, Verdict::Warn);
    }

    #[test]
    fn the_oplog_s_window_is_held_against_what_is_wanted() {
        let status = |first: u32, last: u32| {
            let at = |time| Timestamp { time, increment: 1 };
            Ok(doc! {"oplog": {"earliestOptime": at(first), "latestOptime": at(last)}})
        };
        let wanted = Duration::from_secs(3_600);
        assert_eq!(oplog(&status(1_000, 4_600), false, wanted).verdict, Verdict::Pass);
        assert_eq!(oplog(&status(1_000, 4_599), false, wanted).verdict, Verdict::Warn);
        let odd = Ok(doc! {"oplog": {"earliestOptime": DateTime::from_millis(0), "latestOptime": "now"}});
        assert_eq!(oplog(&odd, false, wanted).verdict, Verdict::Warn);
    }
}
