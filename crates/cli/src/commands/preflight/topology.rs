//! The kind of deployment, its members, and whether a majority is available.

use std::time::Duration;

use mongodb::bson::{Bson, Document, Timestamp};

use super::deployment::{Reply, field, flag, number, text, texts};
use super::finding::Finding;
use crate::args::duration::format_duration;

const KIND: &str = "deployment";
const MAJORITY: &str = "majority";
const OPLOG: &str = "oplog window";

/// The kind of deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ReplicaSet,
    Sharded,
    Standalone,
    /// A member of a set that is not initiated, or that has removed it.
    Uninitialized,
}

pub(crate) fn kind(hello: &Document) -> Kind {
    if text(hello, &["msg"]) == Some("isdbgrid") {
        Kind::Sharded
    } else if text(hello, &["setName"]).is_some() {
        Kind::ReplicaSet
    } else if flag(hello, &["isreplicaset"]) {
        Kind::Uninitialized
    } else {
        Kind::Standalone
    }
}

/// Checks the reply to `hello`. `expected` is the name of the set in the URI.
pub(crate) fn deployment(hello: &Document, expected: Option<&str>) -> Finding {
    let name = text(hello, &["setName"]).unwrap_or_default();
    match kind(hello) {
        Kind::ReplicaSet if expected.is_some_and(|expected| expected != name) => Finding::fail(
            KIND,
            format!(
                "the name of the replica set is {name:?}, and the URI has {:?}",
                expected.unwrap_or_default()
            ),
            format!("set replicaSet={name} in the URI, or use the hosts of the right set"),
        ),
        Kind::ReplicaSet => {
            let members = members(hello).len();
            let risk = if members < 3 { ": it does not tolerate the loss of a member" } else { "" };
            let evidence = format!("replica set {name:?}, {members} data-bearing members{risk}");
            if members < 3 {
                Finding::warn(
                    KIND,
                    evidence,
                    "use three data-bearing members in production: rs.add(\"host:port\")",
                )
            } else {
                Finding::pass(KIND, evidence)
            }
        }
        Kind::Sharded => Finding::pass(KIND, "sharded cluster, through mongos"),
        Kind::Standalone => Finding::fail(
            KIND,
            "a standalone server, which does not support transactions",
            "start it with --replSet=rs0 (replication.replSetName) and run rs.initiate() once; one member is sufficient",
        ),
        Kind::Uninitialized => Finding::fail(
            KIND,
            "the server is configured for a replica set that is not initiated, or that has removed it",
            "run rs.initiate() on it once, or rs.add() on the primary of the set that it should join",
        ),
    }
}

/// The data-bearing members, by their addresses in the configuration of the set.
pub(crate) fn members(hello: &Document) -> Vec<&str> {
    [texts(hello, &["hosts"]), texts(hello, &["passives"])].concat()
}

/// Checks the reply to `replSetGetStatus`. Without it, only the existence of a primary is known.
pub(crate) fn majority(set: &Reply, hello: &Document) -> Finding {
    let remediation = "restore the missing members (see rs.status()); until then no transaction can commit";
    let no_primary = || Finding::fail(MAJORITY, "there is no primary", remediation);
    let primary = text(hello, &["primary"]);
    let set = match set {
        Ok(set) => set,
        Err(_) if primary.is_none() => return no_primary(),
        Err(error) => {
            return Finding::warn(
                MAJORITY,
                format!("{} is primary; the other members are unknown: {error}", primary.unwrap_or_default()),
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
    let unhealthy: Vec<String> = members
        .iter()
        .filter(|member| {
            let healthy = ["PRIMARY", "SECONDARY", "ARBITER"].contains(&state(member).as_str());
            !healthy || number(member, &["health"]) == Some(0.0)
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
    let details =
        if unhealthy.is_empty() { String::new() } else { format!("; unhealthy: {}", unhealthy.join(", ")) };
    #[allow(clippy::cast_precision_loss, reason = "a set has at most 50 members")]
    let no_majority = needed.is_some_and(|needed| (with_data as f64) < needed);
    if !has_primary {
        Finding::fail(MAJORITY, format!("no primary among {all} members{details}"), remediation)
    } else if no_majority {
        let needed = needed.unwrap_or_default();
        let evidence = format!(
            "{with_data} data-bearing members are available, and a majority write needs {needed}{details}"
        );
        Finding::fail(MAJORITY, evidence, remediation)
    } else if !unhealthy.is_empty() {
        Finding::warn(
            MAJORITY,
            format!("a majority is available{details}"),
            "restore the other members before you deploy",
        )
    } else {
        Finding::pass(MAJORITY, format!("all {all} members are available"))
    }
}

/// Checks the reply to `serverStatus` with `oplog`.
pub(crate) fn oplog(status: &Reply, sharded: bool, expected: Duration) -> Finding {
    let status = match status {
        Ok(_) if sharded => {
            return Finding::skip(OPLOG, "mongos has no oplog; run preflight against each shard as well");
        }
        Ok(status) => status,
        Err(error) => return super::unknown(OPLOG, error, "serverStatus"),
    };
    let end = |name| match field(status, &["oplog", name]) {
        Some(Bson::Timestamp(Timestamp { time, .. })) => Some(u64::from(*time)),
        Some(Bson::DateTime(date)) => u64::try_from(date.timestamp_millis() / 1_000).ok(),
        _ => None,
    };
    let Some((first, last)) = end("earliestOptime").zip(end("latestOptime")) else {
        return Finding::warn(OPLOG, "the server does not report its oplog", "see rs.printReplicationInfo()");
    };
    let window = Duration::from_secs(last.saturating_sub(first));
    if window >= expected {
        return Finding::pass(OPLOG, format_duration(window));
    }
    Finding::warn(
        OPLOG,
        format!(
            "{}: less than {}, or the set is younger",
            format_duration(window),
            format_duration(expected)
        ),
        "if the set is older: db.adminCommand({replSetResizeOplog: 1, size: MEGABYTES}) on each member",
    )
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{DateTime, doc};

    use super::super::deployment::QueryError;
    use super::super::finding::Status;
    use super::*;

    fn set(states: &[(&str, f64)], needed: i32) -> Reply {
        let members: Vec<_> = states
            .iter()
            .map(|(state, health)| doc! {"name": format!("db-{state}:27017"), "stateStr": *state, "health": *health})
            .collect();
        Ok(doc! {"members": members, "writeMajorityCount": needed})
    }

    #[test]
    fn missing_majority_fails() {
        let hello = doc! {"setName": "rs0", "primary": "db1:27017"};
        for (states, needed, expected) in [
            (&[("PRIMARY", 1.0), ("SECONDARY", 1.0), ("SECONDARY", 1.0)][..], 2, Status::Pass),
            (&[("PRIMARY", 1.0), ("SECONDARY", 1.0), ("(not reachable/healthy)", 0.0)], 2, Status::Warn),
            (&[("SECONDARY", 1.0), ("(not reachable/healthy)", 0.0), ("RECOVERING", 1.0)], 2, Status::Fail),
            // A primary, an arbiter and an unreachable member: elected, and unable to commit.
            (&[("PRIMARY", 1.0), ("ARBITER", 1.0), ("(not reachable/healthy)", 0.0)], 2, Status::Fail),
        ] {
            let found = majority(&set(states, needed), &hello);
            assert_eq!(found.status, expected, "{states:?}: {found:?}");
        }
        assert_eq!(majority(&Err(QueryError::PermissionDenied), &hello).status, Status::Warn);
        assert_eq!(majority(&Err(QueryError::PermissionDenied), &doc! {}).status, Status::Fail);
        assert_eq!(majority(&Ok(doc! {"members": 7}), &hello).status, Status::Fail);
    }

    #[test]
    fn kinds_of_deployments_are_distinguished() {
        assert_eq!(kind(&doc! {"msg": "isdbgrid"}), Kind::Sharded);
        assert_eq!(kind(&doc! {"isWritablePrimary": true}), Kind::Standalone);
        assert_eq!(kind(&doc! {"isreplicaset": true}), Kind::Uninitialized);
        let hello = doc! {"setName": "rs0", "hosts": ["a", "b"], "passives": ["c"]};
        assert_eq!(deployment(&hello, Some("rs0")).status, Status::Pass);
        assert_eq!(deployment(&hello, Some("rs1")).status, Status::Fail);
        assert_eq!(deployment(&doc! {"setName": "rs0", "hosts": ["a"]}, None).status, Status::Warn);
    }

    #[test]
    fn oplog_window_is_compared_with_the_expected_one() {
        let status = |first: u32, last: u32| {
            let at = |time| Timestamp { time, increment: 1 };
            Ok(doc! {"oplog": {"earliestOptime": at(first), "latestOptime": at(last)}})
        };
        let expected = Duration::from_secs(3_600);
        assert_eq!(oplog(&status(1_000, 4_600), false, expected).status, Status::Pass);
        assert_eq!(oplog(&status(1_000, 4_599), false, expected).status, Status::Warn);
        let malformed =
            Ok(doc! {"oplog": {"earliestOptime": DateTime::from_millis(0), "latestOptime": "now"}});
        assert_eq!(oplog(&malformed, false, expected).status, Status::Warn);
    }
}
