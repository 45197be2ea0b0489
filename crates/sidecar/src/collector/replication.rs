//! The replica set as the member sees it: states, lag, elections, the oplog's window.
//!
//! Two commands, because no one of them tells all: `replSetGetStatus`, and the parts of `serverStatus` that belong to
//! it. Neither reads the oplog's collection, so no privilege on `local` is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use tokio::time::{Instant, timeout};
use txnscope_catalog as catalog;
use txnscope_catalog::{MEMBER_STATE_NUMBERS, MEMBER_STATES, Refusal};

use super::command::server_status_with;
use super::fields::{self, Field, plain};
use super::{Ask, Collector, Privilege, Schedule};
use crate::address;
use crate::decode::{Found, documents, flag, moment, number, text};
use crate::error::{INVALID_REPLICA_SET_CONFIG, NOT_YET_INITIALIZED, PollError, Reason};
use crate::identity::Seen;
use crate::reading::Reading;

const STARTUP: f64 = 0.0;
const PRIMARY: f64 = 1.0;
const ARBITER: f64 = 7.0;
const REMOVED: f64 = 10.0;

/// What of a poll's time is kept for its end: the state that was read is worth more than a second answer in full.
const TO_SPARE: u32 = 10;

#[derive(Debug)]
pub(super) struct Replication {
    interval: Duration,
    heard: Heard,
    /// Whoever it was that has no oplog to speak of: before 5.0 it then refuses all of `serverStatus`.
    without_oplog: Option<Seen>,
}

/// How far each other member had come when it was last heard of. The server forgets this once it takes the member for
/// down, just when it matters.
type Heard = BTreeMap<String, f64>;

impl Replication {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, heard: Heard::new(), without_oplog: None }
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

    async fn poll(&mut self, ask: Ask<'_>) -> Result<Option<Reading>, PollError> {
        let asked = Instant::now();
        let mut reading = Reading::default();
        match ask.run(doc! {"replSetGetStatus": 1, "initialSync": 0}).await {
            Ok(reply) => of_set(&mut reading, &reply, &mut self.heard),
            // It has no status of a set, and says by that in which state it is.
            Err(error) if error.code() == Some(NOT_YET_INITIALIZED) => state(&mut reading, STARTUP),
            Err(error) if error.code() == Some(INVALID_REPLICA_SET_CONFIG) => state(&mut reading, REMOVED),
            // It has no users either, so nobody may ask it more than who it is.
            Err(error) if error.refusal() == Some(Refusal::Denied) && ask.is_arbiter() => {
                state(&mut reading, ARBITER);
                return Ok(Some(reading));
            }
            Err(error) => return Err(error),
        }
        // What was read stands, whatever becomes of the second question.
        let left = (ask.timeout() - ask.timeout() / TO_SPARE).saturating_sub(asked.elapsed());
        let second = timeout(left, self.status(ask)).await;
        let lacking = match second.unwrap_or_else(|_| Err(PollError::timeout(ask.timeout()))) {
            Ok(status) => {
                of_status(&mut reading, &status);
                None
            }
            Err(error) if error.reason == Reason::IdentityMismatch => return Err(error),
            Err(error) => Some(error),
        };
        Ok(Some(reading.lacks(lacking)))
    }
}

impl Replication {
    /// The parts of `serverStatus` that belong to the set; without the oplog where that is refused.
    async fn status(&mut self, ask: Ask<'_>) -> Result<Document, PollError> {
        let command = server_status_with(&["electionMetrics", "repl"]);
        let seen = ask.seen();
        if seen.is_none() || self.without_oplog != seen {
            let mut with_oplog = command.clone();
            with_oplog.insert("oplog", 1);
            match ask.run(with_oplog).await {
                Err(error) if error.refusal() == Some(Refusal::NotInThisState) => {
                    self.without_oplog = ask.seen()
                }
                reply => return reply,
            }
        }
        ask.run(command).await
    }
}

/// What a first poll makes of two replies.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn decode(set: &Document, status: &Document) -> Reading {
    let mut reading = Reading::default();
    of_set(&mut reading, set, &mut Heard::new());
    of_status(&mut reading, status);
    reading
}

fn of_set(reading: &mut Reading, reply: &Document, heard: &mut Heard) {
    match number(reply, &["myState"]) {
        Found::Value(number) => state(reading, number),
        Found::Odd => reading.drop_one(),
        Found::Missing => {}
    }
    reading.number(&catalog::MONGODB_REPLICATION_TERM, &[], number(reply, &["term"]));
    let applied = moment(reply, &["optimes", "lastAppliedWallTime"]);
    let committed = moment(reply, &["optimes", "lastCommittedWallTime"]);
    reading.number(&catalog::MONGODB_REPLICATION_MAJORITY_LAG, &[], applied.with(committed, behind));
    match documents(reply, &["members"]) {
        Found::Value(members) => peers(reading, &members, heard),
        Found::Odd => reading.drop_one(),
        Found::Missing => {}
    }
}

/// One series for each state. A number that the protocol does not know is none of them.
fn state(reading: &mut Reading, number: f64) {
    let named = || MEMBER_STATE_NUMBERS.iter().map(|number| f64::from(*number)).zip(MEMBER_STATES);
    if named().all(|(known, _)| known != number) {
        return reading.drop_one();
    }
    for (known, name) in named() {
        let is = f64::from(u8::from(known == number));
        reading.number(&catalog::MONGODB_REPLICATION_MEMBER_STATE, &[name], Found::Value(is));
    }
}

/// The member itself is behind the primary; all others are behind it, if it is the primary.
fn peers(reading: &mut Reading, members: &[&Document], heard: &mut Heard) {
    let is_self = |member: &Document| flag(member, &["self"]) == Found::Value(true);
    let is_primary = |member: &Document| number(member, &["state"]) == Found::Value(PRIMARY);
    let reached = |member: &Document| moment(member, &["optimeDate"]);
    let Some(own) = members.iter().find(|member| is_self(member)) else { return };
    if let Some(primary) = members.iter().find(|member| is_primary(member)) {
        let lag = reached(primary).with(reached(own), behind);
        reading.number(&catalog::MONGODB_REPLICATION_LAG, &[], lag);
    }
    let name_of = |member: &Document| text(member, &["name"]).map(address::normal);
    let names: Vec<_> = members.iter().filter_map(|member| name_of(member).ok()).collect();
    heard.retain(|name, _| names.contains(name));
    for peer in members.iter().filter(|member| !is_self(member)) {
        let Found::Value(name) = name_of(peer) else {
            reading.drop_one();
            continue;
        };
        let up = number(peer, &["health"]);
        reading.labelled(&catalog::MONGODB_REPLICATION_PEER_UP, vec![name.clone().into()], up);
        if is_primary(own) && number(peer, &["state"]) != Found::Value(ARBITER) {
            let reached_last = match (reached(peer), heard.get(&name)) {
                (Found::Value(now), _) => {
                    heard.insert(name.clone(), now);
                    Found::Value(now)
                }
                (Found::Missing, Some(last)) => Found::Value(*last),
                (nothing, _) => nothing,
            };
            let lag = reached(own).with(reached_last, behind);
            reading.labelled(&catalog::MONGODB_REPLICATION_PEER_LAG, vec![name.into()], lag);
        }
    }
}

/// What is known of another member is as old as its last heartbeat: the first may seem to be behind the second.
fn behind(ahead: f64, behind: f64) -> f64 {
    (ahead - behind).max(0.0)
}

macro_rules! elections {
    ($($label:literal, $field:literal;)*) => {
        &[$(
            plain(&catalog::MONGODB_REPLICATION_ELECTIONS_CALLED, &["electionMetrics", $field, "called"])
                .of(&[$label]),
            plain(&catalog::MONGODB_REPLICATION_ELECTIONS_WON, &["electionMetrics", $field, "successful"])
                .of(&[$label]),
        )*]
    };
}

const ELECTIONS: &[Field] = elections! {
    "step_up_command", "stepUpCmd";
    "priority_takeover", "priorityTakeover";
    "catch_up_takeover", "catchUpTakeover";
    "election_timeout", "electionTimeout";
    "freeze_timeout", "freezeTimeout";
};

fn of_status(reading: &mut Reading, reply: &Document) {
    fields::read(reading, reply, ELECTIONS);
    let step_downs = number(reply, &["electionMetrics", "numStepDownsCausedByHigherTerm"]);
    reading.number(&catalog::MONGODB_REPLICATION_STEP_DOWNS, &[], step_downs);
    let (latest, earliest) =
        (moment(reply, &["oplog", "latestOptime"]), moment(reply, &["oplog", "earliestOptime"]));
    reading.number(&catalog::MONGODB_REPLICATION_OPLOG_WINDOW, &[], latest.with(earliest, behind));
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

    fn read(reply: &Document) -> Reading {
        let mut reading = Reading::default();
        of_set(&mut reading, reply, &mut Heard::new());
        reading
    }

    fn values(reading: &Reading, name: &str) -> Vec<(String, f64)> {
        let of = reading.numbers().filter(|(metric, _, _)| metric.name == name);
        of.map(|(_, labels, value)| (labels.join(","), value)).collect()
    }

    #[test]
    fn every_member_state_is_named_by_its_protocol_number() {
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
            let state = values(&read(&doc! {"myState": number}), "mongodb_replication_member_state");
            assert_eq!(state.len(), 10, "{number}");
            let is: Vec<_> =
                state.iter().filter(|(_, is)| *is == 1.0).map(|(state, _)| state.as_str()).collect();
            assert_eq!(is, [name], "{number}");
        }
        for unknown in [4, 11, 99] {
            let reading = read(&doc! {"myState": unknown});
            assert_eq!(values(&reading, "mongodb_replication_member_state"), [], "{unknown}");
            assert_eq!(reading.dropped(), 1, "{unknown}");
        }
    }

    #[test]
    fn a_peer_s_name_cannot_steer_a_terminal() {
        let mut reply = set(1);
        let members = reply.get_array_mut("members").unwrap();
        members.push(doc! {"name": "\u{1b}[2J", "health": 1.0, "state": 2}.into());
        let up = values(&read(&reply), "mongodb_replication_peer_up");
        assert!(up.iter().any(|(name, _)| name == "\\u{1b}[2J"), "{up:?}");
    }

    #[test]
    fn a_secondary_says_how_far_it_is_behind_and_nothing_of_others() {
        let reading = read(&set(2));
        assert_eq!(values(&reading, "mongodb_replication_lag_seconds"), [(String::new(), 3.0)]);
        assert_eq!(values(&reading, "mongodb_replication_peer_lag_seconds"), []);
        assert_eq!(values(&reading, "mongodb_replication_peer_up").len(), 4);
        assert_eq!(values(&reading, "mongodb_replication_majority_lag_seconds"), [(String::new(), 2.0)]);
        let state = values(&reading, "mongodb_replication_member_state");
        assert_eq!(
            state.iter().filter(|(_, is)| *is == 1.0).map(|(state, _)| state.as_str()).collect::<Vec<_>>(),
            ["secondary"]
        );
        assert_eq!(reading.dropped(), 0);
    }

    #[test]
    fn a_primary_says_how_far_the_others_are_behind() {
        let reading = read(&set(1));
        assert_eq!(values(&reading, "mongodb_replication_lag_seconds"), [(String::new(), 0.0)]);
        // One that was never heard of has no lag, an arbiter neither; one that seems to be ahead is not behind.
        assert_eq!(
            values(&reading, "mongodb_replication_peer_lag_seconds"),
            [("db2:27017".to_owned(), 0.0), ("db3:27017".to_owned(), 60.0)]
        );
    }

    #[test]
    fn a_member_that_is_taken_for_down_is_remembered() {
        let (mut heard, mut reading) = (Heard::new(), Reading::default());
        of_set(&mut Reading::default(), &set(1), &mut heard);
        let mut later = set(1);
        let members = later.get_array_mut("members").unwrap();
        members[0].as_document_mut().unwrap().insert("optimeDate", at(130));
        members[2].as_document_mut().unwrap().insert("optimeDate", at(0));
        members.remove(1);
        of_set(&mut reading, &later, &mut heard);
        let lag = values(&reading, "mongodb_replication_peer_lag_seconds");
        assert_eq!(lag, [("db3:27017".to_owned(), 90.0)]);
        assert_eq!(heard.len(), 1, "who has left is forgotten");
    }

    #[test]
    fn without_a_primary_there_is_no_lag() {
        let mut reply = set(2);
        reply.get_array_mut("members").unwrap().remove(1);
        assert_eq!(values(&read(&reply), "mongodb_replication_lag_seconds"), []);
    }

    #[test]
    fn an_odd_member_costs_itself() {
        let mut reply = set(1);
        reply.get_array_mut("members").unwrap().push(doc! {"name": 7, "health": 1.0}.into());
        let reading = read(&reply);
        assert_eq!(reading.dropped(), 1);
        assert_eq!(values(&reading, "mongodb_replication_peer_up").len(), 4);
    }

    #[test]
    fn the_oplog_s_window_is_the_time_between_its_ends() {
        let mut reading = Reading::default();
        let ends = doc! {"latestOptime": Timestamp { time: 500, increment: 1 }, "earliestOptime": Timestamp { time: 200, increment: 9 }};
        of_status(
            &mut reading,
            &doc! {"oplog": ends, "electionMetrics": {"stepUpCmd": {"called": 2_i64, "successful": 1_i64}}},
        );
        assert_eq!(values(&reading, "mongodb_replication_oplog_window_seconds"), [(String::new(), 300.0)]);
        assert_eq!(
            values(&reading, "mongodb_replication_elections_called_total"),
            [("step_up_command".to_owned(), 2.0)]
        );
    }
}
