//! Replication: member states, lag, elections, and the oplog window.
//!
//! Two commands, because no single one has everything: `replSetGetStatus`, and parts of `serverStatus`. Neither
//! reads the oplog's collection, so no privilege on `local` is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use tokio::time::{Instant, timeout};
use txnscope_catalog as catalog;
use txnscope_catalog::{MEMBER_STATE_NUMBERS, MEMBER_STATES, Refusal};

use super::command::server_status_with;
use super::fields::{self, FieldMapping, number_field};
use super::{Collector, PollContext, Privilege, Schedule};
use crate::address;
use crate::decode::{Field, boolean, documents, number, text, timestamp};
use crate::error::{INVALID_REPLICA_SET_CONFIG, NOT_YET_INITIALIZED, PollError, PollErrorReason};
use crate::identity::ObservedServer;
use crate::sample_set::SampleSet;

const STARTUP: f64 = 0.0;
const PRIMARY: f64 = 1.0;
const ARBITER: f64 = 7.0;
const REMOVED: f64 = 10.0;

/// The fraction of the timeout that is kept in reserve, so that a slow second command does not cost the result
/// of the first.
const RESERVED_FRACTION: u32 = 10;

#[derive(Debug)]
pub(super) struct Replication {
    interval: Duration,
    last_optimes: LastOptimes,
    /// The server that refused the oplog section, which before 5.0 makes it refuse all of `serverStatus`.
    without_oplog: Option<ObservedServer>,
}

/// The last known optime of each other member. The server discards it once it considers the member down, when it
/// matters most.
type LastOptimes = BTreeMap<String, f64>;

impl Replication {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, last_optimes: LastOptimes::new(), without_oplog: None }
    }
}

#[async_trait]
impl Collector for Replication {
    fn name(&self) -> &'static str {
        "replication"
    }

    fn schedule(&self) -> Schedule {
        Schedule::Interval(self.interval)
    }

    fn privileges(&self) -> Vec<Privilege> {
        vec![Privilege::on_cluster("replSetGetStatus"), Privilege::on_cluster("serverStatus")]
    }

    async fn poll(&mut self, context: PollContext<'_>) -> Result<Option<SampleSet>, PollError> {
        let asked = Instant::now();
        let mut samples = SampleSet::default();
        match context.run(doc! {"replSetGetStatus": 1, "initialSync": 0}).await {
            Ok(reply) => read_set_status(&mut samples, &reply, &mut self.last_optimes),
            // The error itself says in which state the member is.
            Err(error) if error.code() == Some(NOT_YET_INITIALIZED) => record_state(&mut samples, STARTUP),
            Err(error) if error.code() == Some(INVALID_REPLICA_SET_CONFIG) => {
                record_state(&mut samples, REMOVED)
            }
            // An arbiter has no users, so nothing but `hello` is allowed.
            Err(error) if error.refusal() == Some(Refusal::Denied) && context.is_arbiter() => {
                record_state(&mut samples, ARBITER);
                return Ok(Some(samples));
            }
            Err(error) => return Err(error),
        }
        // The samples of the first command are valid, independent of the second command.
        let left =
            (context.timeout() - context.timeout() / RESERVED_FRACTION).saturating_sub(asked.elapsed());
        let second = timeout(left, self.status(context)).await;
        let failure = match second.unwrap_or_else(|_| Err(PollError::timeout(context.timeout()))) {
            Ok(status) => {
                read_server_status(&mut samples, &status);
                None
            }
            Err(error) if error.reason == PollErrorReason::IdentityMismatch => return Err(error),
            Err(error) => Some(error),
        };
        Ok(Some(samples.mark_partial(failure)))
    }
}

impl Replication {
    /// The replication sections of `serverStatus`; without the oplog if the server refuses that.
    async fn status(&mut self, context: PollContext<'_>) -> Result<Document, PollError> {
        let command = server_status_with(&["electionMetrics", "repl"]);
        let seen = context.last_seen();
        if seen.is_none() || self.without_oplog != seen {
            let mut with_oplog = command.clone();
            with_oplog.insert("oplog", 1);
            match context.run(with_oplog).await {
                Err(error) if error.refusal() == Some(Refusal::NotInThisState) => {
                    self.without_oplog = context.last_seen()
                }
                reply => return reply,
            }
        }
        context.run(command).await
    }
}

/// Decodes two replies as a first poll would.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn decode(set: &Document, status: &Document) -> SampleSet {
    let mut samples = SampleSet::default();
    read_set_status(&mut samples, set, &mut LastOptimes::new());
    read_server_status(&mut samples, status);
    samples
}

fn read_set_status(samples: &mut SampleSet, reply: &Document, last_optimes: &mut LastOptimes) {
    match number(reply, &["myState"]) {
        Field::Value(number) => record_state(samples, number),
        Field::Invalid => samples.count_dropped(),
        Field::Missing => {}
    }
    samples.number(&catalog::MONGODB_REPLICATION_TERM, &[], number(reply, &["term"]));
    let applied = timestamp(reply, &["optimes", "lastAppliedWallTime"]);
    let committed = timestamp(reply, &["optimes", "lastCommittedWallTime"]);
    samples.number(&catalog::MONGODB_REPLICATION_MAJORITY_LAG, &[], applied.combine(committed, lag_seconds));
    match documents(reply, &["members"]) {
        Field::Value(members) => read_peers(samples, &members, last_optimes),
        Field::Invalid => samples.count_dropped(),
        Field::Missing => {}
    }
}

/// One series for each state. An unknown number is invalid.
fn record_state(samples: &mut SampleSet, number: f64) {
    let named = || MEMBER_STATE_NUMBERS.iter().map(|number| f64::from(*number)).zip(MEMBER_STATES);
    if named().all(|(known, _)| known != number) {
        return samples.count_dropped();
    }
    for (known, name) in named() {
        let is = f64::from(u8::from(known == number));
        samples.number(&catalog::MONGODB_REPLICATION_MEMBER_STATE, &[name], Field::Value(is));
    }
}

/// The lag of the member itself behind the primary; if the member is the primary, that of all others.
fn read_peers(samples: &mut SampleSet, members: &[&Document], last_optimes: &mut LastOptimes) {
    let is_self = |member: &Document| boolean(member, &["self"]) == Field::Value(true);
    let is_primary = |member: &Document| number(member, &["state"]) == Field::Value(PRIMARY);
    let optime = |member: &Document| timestamp(member, &["optimeDate"]);
    let Some(own) = members.iter().find(|member| is_self(member)) else { return };
    if let Some(primary) = members.iter().find(|member| is_primary(member)) {
        let lag = optime(primary).combine(optime(own), lag_seconds);
        samples.number(&catalog::MONGODB_REPLICATION_LAG, &[], lag);
    }
    let name_of = |member: &Document| text(member, &["name"]).map(address::normalize);
    let names: Vec<_> = members.iter().filter_map(|member| name_of(member).ok()).collect();
    last_optimes.retain(|name, _| names.contains(name));
    for peer in members.iter().filter(|member| !is_self(member)) {
        let Field::Value(name) = name_of(peer) else {
            samples.count_dropped();
            continue;
        };
        let up = number(peer, &["health"]);
        samples.labeled(&catalog::MONGODB_REPLICATION_PEER_UP, vec![name.clone().into()], up);
        if is_primary(own) && number(peer, &["state"]) != Field::Value(ARBITER) {
            let last_optime = match (optime(peer), last_optimes.get(&name)) {
                (Field::Value(now), _) => {
                    last_optimes.insert(name.clone(), now);
                    Field::Value(now)
                }
                (Field::Missing, Some(last)) => Field::Value(*last),
                (nothing, _) => nothing,
            };
            let lag = optime(own).combine(last_optime, lag_seconds);
            samples.labeled(&catalog::MONGODB_REPLICATION_PEER_LAG, vec![name.into()], lag);
        }
    }
}

/// Optimes of other members are as old as the last heartbeat, so a secondary may seem to be ahead of the
/// primary.
fn lag_seconds(ahead: f64, lag_seconds: f64) -> f64 {
    (ahead - lag_seconds).max(0.0)
}

macro_rules! elections {
    ($($label:literal, $field:literal;)*) => {
        &[$(
            number_field(&catalog::MONGODB_REPLICATION_ELECTIONS_CALLED, &["electionMetrics", $field, "called"])
                .of(&[$label]),
            number_field(&catalog::MONGODB_REPLICATION_ELECTIONS_WON, &["electionMetrics", $field, "successful"])
                .of(&[$label]),
        )*]
    };
}

const ELECTIONS: &[FieldMapping] = elections! {
    "step_up_command", "stepUpCmd";
    "priority_takeover", "priorityTakeover";
    "catch_up_takeover", "catchUpTakeover";
    "election_timeout", "electionTimeout";
    "freeze_timeout", "freezeTimeout";
};

fn read_server_status(samples: &mut SampleSet, reply: &Document) {
    fields::read(samples, reply, ELECTIONS);
    let step_downs = number(reply, &["electionMetrics", "numStepDownsCausedByHigherTerm"]);
    samples.number(&catalog::MONGODB_REPLICATION_STEP_DOWNS, &[], step_downs);
    let (latest, earliest) =
        (timestamp(reply, &["oplog", "latestOptime"]), timestamp(reply, &["oplog", "earliestOptime"]));
    samples.number(&catalog::MONGODB_REPLICATION_OPLOG_WINDOW, &[], latest.combine(earliest, lag_seconds));
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{DateTime, Timestamp};

    use super::*;

    fn at(second: i64) -> DateTime {
        DateTime::from_millis(second * 1_000)
    }

    fn set(own_state: i32) -> Document {
        let other_state = if own_state == 1 { 2 } else { 1 };
        doc! {
            "set": "rs0", "myState": own_state, "term": 3_i64,
            "optimes": {"lastAppliedWallTime": at(100), "lastCommittedWallTime": at(98)},
            "members": [
                {"name": "db1:27017", "health": 1.0, "state": own_state, "optimeDate": at(100), "self": true},
                {"name": "db2:27017", "health": 1.0, "state": other_state, "optimeDate": at(103)},
                {"name": "db3:27017", "health": 0.0, "state": 8, "optimeDate": at(40)},
                {"name": "db4:27017", "health": 0.0, "state": 8, "optimeDate": at(0)},
                {"name": "db5:27017", "health": 1.0, "state": 7},
            ],
        }
    }

    fn read(reply: &Document) -> SampleSet {
        let mut samples = SampleSet::default();
        read_set_status(&mut samples, reply, &mut LastOptimes::new());
        samples
    }

    fn values(samples: &SampleSet, name: &str) -> Vec<(String, f64)> {
        let of = samples.numbers().filter(|(metric, _, _)| metric.name == name);
        of.map(|(_, labels, value)| (labels.join(","), value)).collect()
    }

    #[test]
    fn member_states_match_protocol_numbers() {
        for (number, name) in [
            (0, "startup"),
            (1, "primary"),
            (2, "secondary"),
            (3, "recovering"),
            (5, "startup2"),
            (6, "unknown"),
            (7, "arbiter"),
            (8, "down"),
            (9, "rollback"),
            (10, "removed"),
        ] {
            let record_state = values(&read(&doc! {"myState": number}), "mongodb_replication_member_state");
            assert_eq!(record_state.len(), 10, "{number}");
            let is: Vec<_> = record_state
                .iter()
                .filter(|(_, is)| *is == 1.0)
                .map(|(record_state, _)| record_state.as_str())
                .collect();
            assert_eq!(is, [name], "{number}");
        }
        for unknown in [4, 11, 99] {
            let samples = read(&doc! {"myState": unknown});
            assert_eq!(values(&samples, "mongodb_replication_member_state"), [], "{unknown}");
            assert_eq!(samples.dropped(), 1, "{unknown}");
        }
    }

    #[test]
    fn control_characters_in_a_peer_name_are_escaped() {
        let mut reply = set(1);
        let members = reply.get_array_mut("members").unwrap();
        members.push(doc! {"name": "\u{1b}[2J", "health": 1.0, "state": 2}.into());
        let up = values(&read(&reply), "mongodb_replication_peer_up");
        assert!(up.iter().any(|(name, _)| name == "\\u{1b}[2J"), "{up:?}");
    }

    #[test]
    fn secondary_exports_its_own_lag_only() {
        let samples = read(&set(2));
        assert_eq!(values(&samples, "mongodb_replication_lag_seconds"), [(String::new(), 3.0)]);
        assert_eq!(values(&samples, "mongodb_replication_peer_lag_seconds"), []);
        assert_eq!(values(&samples, "mongodb_replication_peer_up").len(), 4);
        assert_eq!(values(&samples, "mongodb_replication_majority_lag_seconds"), [(String::new(), 2.0)]);
        let record_state = values(&samples, "mongodb_replication_member_state");
        assert_eq!(
            record_state
                .iter()
                .filter(|(_, is)| *is == 1.0)
                .map(|(record_state, _)| record_state.as_str())
                .collect::<Vec<_>>(),
            ["secondary"]
        );
        assert_eq!(samples.dropped(), 0);
    }

    #[test]
    fn primary_exports_lag_of_peers() {
        let samples = read(&set(1));
        assert_eq!(values(&samples, "mongodb_replication_lag_seconds"), [(String::new(), 0.0)]);
        // A member without a known optime has no lag, nor has an arbiter; one that seems to be ahead has a lag
        // of zero.
        assert_eq!(
            values(&samples, "mongodb_replication_peer_lag_seconds"),
            [("db2:27017".to_owned(), 0.0), ("db3:27017".to_owned(), 60.0)]
        );
    }

    #[test]
    fn last_optime_of_a_down_peer_is_kept() {
        let (mut last_optimes, mut samples) = (LastOptimes::new(), SampleSet::default());
        read_set_status(&mut SampleSet::default(), &set(1), &mut last_optimes);
        let mut later = set(1);
        let members = later.get_array_mut("members").unwrap();
        members[0].as_document_mut().unwrap().insert("optimeDate", at(130));
        members[2].as_document_mut().unwrap().insert("optimeDate", at(0));
        members.remove(1);
        read_set_status(&mut samples, &later, &mut last_optimes);
        let lag = values(&samples, "mongodb_replication_peer_lag_seconds");
        assert_eq!(lag, [("db3:27017".to_owned(), 90.0)]);
        assert_eq!(last_optimes.len(), 1, "who has left is forgotten");
    }

    #[test]
    fn lag_is_absent_without_a_primary() {
        let mut reply = set(2);
        reply.get_array_mut("members").unwrap().remove(1);
        assert_eq!(values(&read(&reply), "mongodb_replication_lag_seconds"), []);
    }

    #[test]
    fn invalid_member_entry_is_skipped() {
        let mut reply = set(1);
        reply.get_array_mut("members").unwrap().push(doc! {"name": 7, "health": 1.0}.into());
        let samples = read(&reply);
        assert_eq!(samples.dropped(), 1);
        assert_eq!(values(&samples, "mongodb_replication_peer_up").len(), 4);
    }

    #[test]
    fn oplog_window_is_latest_minus_earliest() {
        let mut samples = SampleSet::default();
        let ends = doc! {"latestOptime": Timestamp { time: 500, increment: 1 }, "earliestOptime": Timestamp { time: 200, increment: 9 }};
        read_server_status(
            &mut samples,
            &doc! {"oplog": ends, "electionMetrics": {"stepUpCmd": {"called": 2_i64, "successful": 1_i64}}},
        );
        assert_eq!(values(&samples, "mongodb_replication_oplog_window_seconds"), [(String::new(), 300.0)]);
        assert_eq!(
            values(&samples, "mongodb_replication_elections_called_total"),
            [("step_up_command".to_owned(), 2.0)]
        );
    }
}
