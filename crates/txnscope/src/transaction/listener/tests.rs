//! Sequences of events, and the transaction's end in each.

use std::collections::HashMap;
use std::time::Duration;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, doc};
use quanta::Instant;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::first_statement::ServerStarted;
use super::super::metrics::{AttemptOutcome, NotStartedCause};
use super::super::open_transactions::Lsid;
use super::command::{Command, CommandOutcome, Refusal, Request};
use super::tracker::{End, Limits, TrackerEvent, TransactionTracker};
use crate::Reason;

const LIMITS: Limits = Limits { open: 3, abandon_after: Duration::from_secs(90) };

fn lsid(number: u8) -> Lsid {
    let id = Binary { subtype: BinarySubtype::Uuid, bytes: vec![number; 16] };
    Lsid::of(&doc! { "id": id }).unwrap()
}

/// A step of a sequence.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A command of the session's transaction with this number is sent.
    Sent(Command, i64),
    /// The first statement of the runner's transaction with this number is sent.
    Runners(i64),
    /// The last command is answered.
    Answered(CommandOutcome),
    /// This many seconds pass, and the tracker sweeps.
    Wait(u64),
}

/// A session, and the events that the tracker emits for it.
struct Session {
    tracker: TransactionTracker<&'static str>,
    now: Instant,
    id: i32,
    notes: Vec<TrackerEvent>,
}

impl Session {
    fn new() -> Self {
        Self { tracker: TransactionTracker::new(LIMITS), now: Instant::now(), id: 0, notes: Vec::new() }
    }

    fn play(&mut self, steps: &[Step]) {
        for step in steps {
            let notes = &mut self.notes;
            let mut note = |who, note| {
                assert_eq!(who, "op");
                notes.push(note);
            };
            match *step {
                Step::Sent(command, txn_number) => {
                    self.id += 1;
                    let request =
                        Request { id: self.id, lsid: lsid(1), txn_number, command, owned_elsewhere: false };
                    self.tracker.sent(request, self.now, || "op", &mut note);
                }
                Step::Runners(txn_number) => {
                    self.id += 1;
                    let command = Command::First;
                    let request =
                        Request { id: self.id, lsid: lsid(1), txn_number, command, owned_elsewhere: true };
                    self.tracker.sent(request, self.now, || "op", &mut note);
                }
                Step::Answered(answer) => self.tracker.answered(self.id, self.now, || answer, &mut note),
                Step::Wait(seconds) => {
                    self.now += Duration::from_secs(seconds);
                    self.tracker.sweep(self.now, &mut note);
                }
            }
        }
    }

    fn ends(&self) -> Vec<End> {
        let end = |note: &TrackerEvent| if let TrackerEvent::Ended(end) = note { Some(*end) } else { None };
        self.notes.iter().filter_map(end).collect()
    }
}

const fn sent(command: Command) -> Step {
    Step::Sent(command, 1)
}

const fn refused(reason: Reason) -> Refusal {
    Refusal {
        reason,
        server_started: ServerStarted::Yes,
        transient: false,
        may_be_applied: false,
        overload: false,
    }
}

const fn no(reason: Reason) -> Step {
    Step::Answered(CommandOutcome::Refused(refused(reason)))
}

const FIRST: Step = sent(Command::First);
const STATEMENT: Step = sent(Command::Statement);
const COMMIT: Step = sent(Command::Commit);
const ABORT: Step = sent(Command::Abort);
const DONE: Step = Step::Answered(CommandOutcome::Done);
const NARROWLY: Step = Step::Answered(CommandOutcome::WriteConcernError);
const LOST: Step = Step::Answered(CommandOutcome::Lost(Reason::NETWORK));
const CONFLICT: Step =
    Step::Answered(CommandOutcome::Refused(Refusal { transient: true, ..refused(Reason::WRITE_CONFLICT) }));
const NO_SUCH: Step = Step::Answered(CommandOutcome::Refused(Refusal {
    server_started: ServerStarted::Unknown,
    transient: true,
    ..refused(Reason::NO_SUCH_TRANSACTION)
}));
const NOT_PRIMARY: Step = Step::Answered(CommandOutcome::Refused(Refusal {
    server_started: ServerStarted::No,
    may_be_applied: true,
    ..refused(Reason::NOT_PRIMARY)
}));
const NOT_ALLOWED: Step = Step::Answered(CommandOutcome::Refused(Refusal {
    server_started: ServerStarted::No,
    ..refused(Reason::INVALID_REQUEST)
}));
/// During an election, before or after the start.
const INTERRUPTED: Step = Step::Answered(CommandOutcome::Refused(Refusal {
    server_started: ServerStarted::Unknown,
    transient: true,
    may_be_applied: true,
    ..refused(Reason::INTERRUPTED)
}));
const OVERLOADED: Step = Step::Answered(CommandOutcome::Refused(Refusal {
    server_started: ServerStarted::No,
    overload: true,
    ..refused(Reason::OVERLOADED)
}));

const COMMITTED: AttemptOutcome = AttemptOutcome::Committed;
const UNKNOWN: AttemptOutcome = AttemptOutcome::Unknown;

const fn aborted(reason: Reason) -> AttemptOutcome {
    AttemptOutcome::Aborted(reason)
}

#[test]
fn every_event_sequence_ends_once() {
    let lost = Some(NotStartedCause::Lost);
    #[rustfmt::skip]
    let cases: &[(&[Step], AttemptOutcome, Option<NotStartedCause>)] = &[
        // Commits.
        (&[FIRST, DONE, COMMIT, DONE], COMMITTED, None),
        (&[FIRST, DONE, STATEMENT, DONE, COMMIT, DONE], COMMITTED, None),
        (&[FIRST, DONE, COMMIT, DONE, COMMIT, DONE], COMMITTED, None),
        (&[FIRST, DONE, COMMIT, LOST, COMMIT, DONE], COMMITTED, None),
        (&[FIRST, DONE, COMMIT, NOT_PRIMARY, COMMIT, DONE], COMMITTED, None),
        (&[FIRST, DONE, COMMIT, NARROWLY, COMMIT, DONE], COMMITTED, None),
        (&[FIRST, DONE, COMMIT, COMMIT, DONE], COMMITTED, None),
        // Some commands are refused without harm to the transaction.
        (&[FIRST, DONE, STATEMENT, NOT_ALLOWED, STATEMENT, DONE, COMMIT, DONE], COMMITTED, None),
        (&[FIRST, DONE, STATEMENT, NOT_ALLOWED, COMMIT, DONE], COMMITTED, None),
        // The server aborts, and what comes after the first failure is its echo.
        (&[FIRST, CONFLICT, ABORT, NO_SUCH], aborted(Reason::WRITE_CONFLICT), None),
        (&[FIRST, DONE, STATEMENT, CONFLICT, ABORT, NO_SUCH], aborted(Reason::WRITE_CONFLICT), None),
        (&[FIRST, DONE, STATEMENT, CONFLICT, STATEMENT, NO_SUCH, COMMIT, NO_SUCH], aborted(Reason::WRITE_CONFLICT), None),
        (&[FIRST, DONE, STATEMENT, no(Reason::DUPLICATE_KEY), ABORT, NO_SUCH], aborted(Reason::DUPLICATE_KEY), None),
        (&[FIRST, no(Reason::DUPLICATE_KEY), ABORT, NO_SUCH], aborted(Reason::DUPLICATE_KEY), None),
        (&[FIRST, DONE, ABORT, NO_SUCH], aborted(Reason::NO_SUCH_TRANSACTION), None),
        (&[FIRST, DONE, STATEMENT, CONFLICT, ABORT, LOST], aborted(Reason::WRITE_CONFLICT), None),
        (&[FIRST, DONE, COMMIT, CONFLICT], aborted(Reason::WRITE_CONFLICT), None),
        (&[FIRST, DONE, COMMIT, no(Reason::TRANSACTION_TOO_LARGE)], aborted(Reason::TRANSACTION_TOO_LARGE), None),
        (&[FIRST, DONE, COMMIT, LOST, COMMIT, NO_SUCH], aborted(Reason::NO_SUCH_TRANSACTION), None),
        // The code aborts.
        (&[FIRST, DONE, ABORT, DONE], aborted(Reason::APPLICATION), None),
        (&[FIRST, DONE, STATEMENT, NOT_ALLOWED, ABORT, DONE], aborted(Reason::INVALID_REQUEST), None),
        (&[FIRST, DONE, ABORT, LOST], aborted(Reason::APPLICATION), None),
        (&[FIRST, DONE, ABORT, Step::Wait(90)], aborted(Reason::APPLICATION), None),
        (&[FIRST, DONE, STATEMENT, ABORT, DONE], aborted(Reason::CANCELLED), None),
        // A lost connection; an abort that the server takes shows that the transaction was there.
        (&[FIRST, DONE, STATEMENT, LOST, ABORT, DONE], aborted(Reason::NETWORK), None),
        (&[FIRST, LOST, ABORT, DONE], aborted(Reason::NETWORK), None),
        (&[FIRST, LOST, ABORT, NO_SUCH], aborted(Reason::NETWORK), lost),
        (&[FIRST, LOST, STATEMENT, DONE, COMMIT, DONE], COMMITTED, None),
        (&[FIRST, LOST, Step::Wait(90)], aborted(Reason::NETWORK), lost),
        // The server never began it.
        (&[FIRST, NOT_PRIMARY, ABORT, NO_SUCH], aborted(Reason::NOT_PRIMARY), Some(NotStartedCause::Refused)),
        (&[FIRST, NOT_ALLOWED, ABORT, NO_SUCH], aborted(Reason::INVALID_REQUEST), Some(NotStartedCause::Refused)),
        (&[FIRST, NOT_PRIMARY, FIRST, DONE, COMMIT, DONE], COMMITTED, None),
        (&[FIRST, DONE, STATEMENT, NOT_PRIMARY, ABORT, NOT_PRIMARY], aborted(Reason::NOT_PRIMARY), None),
        // It may have begun it.
        (&[FIRST, INTERRUPTED, ABORT, NO_SUCH], aborted(Reason::INTERRUPTED), lost),
        (&[FIRST, INTERRUPTED, ABORT, DONE], aborted(Reason::INTERRUPTED), None),
        (&[FIRST, INTERRUPTED, Step::Wait(90)], aborted(Reason::INTERRUPTED), lost),
        (&[FIRST, DONE, STATEMENT, INTERRUPTED, ABORT, NO_SUCH], aborted(Reason::INTERRUPTED), None),
        // Too much to do: the driver repeats what was refused, and the repeat is what counts.
        (&[FIRST, OVERLOADED, FIRST, DONE, COMMIT, DONE], COMMITTED, None),
        (&[FIRST, OVERLOADED, FIRST, OVERLOADED, FIRST, OVERLOADED, ABORT, NO_SUCH], aborted(Reason::OVERLOADED), Some(NotStartedCause::Refused)),
        (&[FIRST, OVERLOADED, FIRST, LOST, ABORT, NO_SUCH], aborted(Reason::OVERLOADED), lost),
        (&[FIRST, OVERLOADED, FIRST, CONFLICT, ABORT, NO_SUCH], aborted(Reason::OVERLOADED), None),
        (&[FIRST, DONE, STATEMENT, OVERLOADED, STATEMENT, DONE, COMMIT, DONE], COMMITTED, None),
        (&[FIRST, DONE, STATEMENT, OVERLOADED, STATEMENT, OVERLOADED, ABORT, DONE], aborted(Reason::OVERLOADED), None),
        (&[FIRST, DONE, COMMIT, OVERLOADED, COMMIT, DONE], COMMITTED, None),
        (&[FIRST, DONE, COMMIT, OVERLOADED, COMMIT, OVERLOADED, COMMIT, DONE], COMMITTED, None),
        (&[FIRST, DONE, COMMIT, OVERLOADED, COMMIT, NO_SUCH], aborted(Reason::NO_SUCH_TRANSACTION), None),
        (&[FIRST, DONE, COMMIT, OVERLOADED, COMMIT, OVERLOADED, Step::Wait(40)], aborted(Reason::OVERLOADED), None),
        (&[FIRST, DONE, COMMIT, OVERLOADED, Step::Sent(Command::First, 2)], aborted(Reason::OVERLOADED), None),
        (&[FIRST, DONE, COMMIT, OVERLOADED, COMMIT, Step::Sent(Command::First, 2)], UNKNOWN, None),
        (&[FIRST, DONE, COMMIT, OVERLOADED, COMMIT, LOST, Step::Wait(40)], UNKNOWN, None),
        (&[FIRST, DONE, COMMIT, LOST, COMMIT, OVERLOADED, Step::Wait(40)], UNKNOWN, None),
        (&[FIRST, DONE, ABORT, OVERLOADED, ABORT, DONE], aborted(Reason::APPLICATION), None),
        (&[FIRST, DONE, ABORT, OVERLOADED], aborted(Reason::APPLICATION), None),
        // The result is unknown.
        (&[FIRST, DONE, COMMIT, LOST, Step::Wait(40)], UNKNOWN, None),
        (&[FIRST, DONE, COMMIT, NARROWLY, Step::Wait(40)], UNKNOWN, None),
        (&[FIRST, DONE, COMMIT, no(Reason::OTHER).may_be_applied(), Step::Wait(40)], UNKNOWN, None),
        (&[FIRST, DONE, COMMIT, LOST, COMMIT, no(Reason::UNAUTHORIZED), Step::Wait(40)], UNKNOWN, None),
        (&[FIRST, DONE, COMMIT, Step::Wait(90)], UNKNOWN, None),
        (&[FIRST, DONE, COMMIT, Step::Sent(Command::First, 2)], UNKNOWN, None),
        (&[FIRST, DONE, COMMIT, LOST, Step::Sent(Command::First, 2)], UNKNOWN, None),
        // The session goes on.
        (&[FIRST, Step::Sent(Command::First, 2)], aborted(Reason::CANCELLED), lost),
        (&[FIRST, DONE, Step::Sent(Command::First, 2)], aborted(Reason::CANCELLED), None),
        (&[FIRST, DONE, STATEMENT, CONFLICT, Step::Sent(Command::First, 2)], aborted(Reason::WRITE_CONFLICT), None),
        (&[FIRST, DONE, ABORT, Step::Sent(Command::First, 2)], aborted(Reason::APPLICATION), None),
        (&[FIRST, DONE, Step::Runners(2)], aborted(Reason::CANCELLED), None),
        (&[FIRST, DONE, Step::Sent(Command::NonTransactional, 2)], aborted(Reason::CANCELLED), None),
        // Silence.
        (&[FIRST, Step::Wait(90)], aborted(Reason::TRANSACTION_EXPIRED), lost),
        (&[FIRST, DONE, Step::Wait(90)], aborted(Reason::TRANSACTION_EXPIRED), None),
        (&[FIRST, DONE, Step::Wait(89), STATEMENT, DONE, Step::Wait(90)], aborted(Reason::TRANSACTION_EXPIRED), None),
        (&[FIRST, DONE, STATEMENT, CONFLICT, Step::Wait(90)], aborted(Reason::WRITE_CONFLICT), None),
    ];
    for (steps, outcome, not_started) in cases {
        let mut session = Session::new();
        session.play(steps);
        let ends = session.ends();
        let first: Vec<_> = ends.iter().filter(|end| end.txn_number == 1).collect();
        assert_eq!(first.len(), 1, "{steps:?} ended {} times", first.len());
        assert_eq!((first[0].outcome, first[0].not_started), (*outcome, *not_started), "{steps:?}");
        let expired = *outcome == aborted(Reason::TRANSACTION_EXPIRED);
        assert_eq!(first[0].abandoned, expired, "{steps:?}");
        assert!(session.tracker.in_flight() <= session.tracker.len(), "{steps:?}");
    }
}

impl Step {
    const fn may_be_applied(self) -> Self {
        match self {
            Self::Answered(CommandOutcome::Refused(refusal)) => {
                Self::Answered(CommandOutcome::Refused(Refusal { may_be_applied: true, ..refusal }))
            }
            other => other,
        }
    }
}

#[test]
fn unobserved_start_is_not_counted() {
    let cases: &[&[Step]] = &[
        // A runner's transaction, and what its cleanup sends after it.
        &[Step::Runners(1), DONE, STATEMENT, DONE, COMMIT, DONE],
        &[Step::Runners(1), LOST, ABORT, DONE, Step::Runners(2), DONE, Step::Sent(Command::Abort, 2), DONE],
        // What was sent before there was a listener.
        &[STATEMENT, DONE, COMMIT, DONE],
        &[ABORT, NO_SUCH],
        &[sent(Command::NonTransactional), DONE],
        &[DONE],
    ];
    for steps in cases {
        let mut session = Session::new();
        session.play(steps);
        assert_eq!(session.notes, [], "{steps:?}");
        assert_eq!((session.tracker.len(), session.tracker.in_flight()), (0, 0), "{steps:?}");
    }
}

#[test]
fn transaction_stays_open_until_end() {
    let cases: &[&[Step]] = &[
        &[FIRST],
        &[FIRST, CONFLICT],
        &[FIRST, DONE, Step::Wait(89), STATEMENT, Step::Wait(89)],
        &[FIRST, DONE, COMMIT, LOST, Step::Wait(39)],
        &[FIRST, DONE, COMMIT, Step::Wait(89)],
        // A retryable write of an earlier number, and a late answer to an earlier transaction.
        &[FIRST, DONE, Step::Sent(Command::NonTransactional, 0)],
        &[FIRST, DONE, Step::Sent(Command::First, 0), DONE],
    ];
    for steps in cases {
        let mut session = Session::new();
        session.play(steps);
        assert_eq!((session.ends(), session.tracker.len()), (vec![], 1), "{steps:?}");
    }
}

#[test]
fn durations_come_from_event_times() {
    let mut session = Session::new();
    let steps =
        [FIRST, DONE, Step::Wait(2), COMMIT, LOST, Step::Wait(3), COMMIT, Step::Wait(1), DONE, Step::Wait(9)];
    session.play(&steps);
    let end = session.ends()[0];
    assert_eq!((end.elapsed, end.commit), (Duration::from_secs(6), Some(Duration::from_secs(4))));
    let retries = session.notes.iter().filter(|note| **note == TrackerEvent::CommitRetried).count();
    assert_eq!(retries, 1);

    // The wait for a commit's result is not the transaction's own time.
    let mut session = Session::new();
    session.play(&[FIRST, DONE, Step::Wait(2), COMMIT, LOST, Step::Wait(50)]);
    let end = session.ends()[0];
    assert_eq!((end.elapsed, end.commit), (Duration::from_secs(2), Some(Duration::ZERO)));

    // Of a commit without an answer there is no duration.
    let mut session = Session::new();
    session.play(&[FIRST, DONE, COMMIT, Step::Wait(90)]);
    assert_eq!(session.ends()[0].commit, None);
}

#[test]
fn first_failure_reason_is_noted() {
    let mut session = Session::new();
    session.play(&[FIRST, DONE, STATEMENT, CONFLICT, STATEMENT, NO_SUCH, ABORT, NO_SUCH]);
    let failures: Vec<_> = session
        .notes
        .iter()
        .filter_map(|note| if let TrackerEvent::Failed { reason, .. } = note { Some(*reason) } else { None })
        .collect();
    assert_eq!(failures, [Reason::WRITE_CONFLICT, Reason::WRITE_CONFLICT]);
}

#[test]
fn transactions_beyond_limit_are_untracked() {
    let mut tracker = TransactionTracker::new(LIMITS);
    let now = Instant::now();
    let mut notes = Vec::new();
    for number in 1..=4 {
        let request = Request {
            id: i32::from(number),
            lsid: lsid(number),
            txn_number: 1,
            command: Command::First,
            owned_elsewhere: false,
        };
        tracker.sent(request, now, || (), &mut |(), note| notes.push(note));
    }
    assert_eq!((tracker.len(), notes.len(), notes[3]), (3, 4, TrackerEvent::Untracked));
}

/// Random events in five sessions: the counters balance after each, no limit is exceeded, and in the end nothing is
/// left.
#[test]
fn random_events_keep_counters_balanced() {
    for seed in 0..1_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut tracker = TransactionTracker::new(LIMITS);
        let mut now = Instant::now();
        let mut counted: HashMap<&str, usize> = HashMap::new();
        let mut numbers = [0_i64; 5];
        for id in 0..rng.random_range(1..200) {
            let mut note = |(), note: TrackerEvent| {
                *counted
                    .entry(match note {
                        TrackerEvent::Started { .. } => "started",
                        TrackerEvent::Ended(End { outcome: AttemptOutcome::Committed, .. }) => "committed",
                        TrackerEvent::Ended(End { outcome: AttemptOutcome::Aborted(_), .. }) => "aborted",
                        TrackerEvent::Ended(End { outcome: AttemptOutcome::Unknown, .. }) => "unknown",
                        TrackerEvent::CommitRetried
                        | TrackerEvent::Failed { .. }
                        | TrackerEvent::Untracked => "other",
                    })
                    .or_default() += 1;
            };
            match rng.random_range(0..10) {
                0..5 => {
                    let session = rng.random_range(0..5_usize);
                    let command = [
                        Command::First,
                        Command::First,
                        Command::Statement,
                        Command::Commit,
                        Command::Abort,
                        Command::NonTransactional,
                    ][rng.random_range(0..6_usize)];
                    if matches!(command, Command::First | Command::NonTransactional) && rng.random_bool(0.7) {
                        numbers[session] += 1;
                    }
                    let txn_number = numbers[session] - i64::from(rng.random_bool(0.1));
                    let lsid = lsid(u8::try_from(session).unwrap());
                    let owned_elsewhere = rng.random_bool(0.2);
                    let request = Request { id, lsid, txn_number, command, owned_elsewhere };
                    tracker.sent(request, now, || (), &mut note);
                }
                5..9 => {
                    // Mostly the last request, sometimes one that was answered or never sent.
                    let to = id - rng.random_range(1..6);
                    let reason = [Reason::WRITE_CONFLICT, Reason::NO_SUCH_TRANSACTION, Reason::NOT_PRIMARY]
                        [rng.random_range(0..3_usize)];
                    let refusal = Refusal {
                        reason,
                        server_started: [ServerStarted::Yes, ServerStarted::No, ServerStarted::Unknown]
                            [rng.random_range(0..3_usize)],
                        transient: rng.random(),
                        may_be_applied: rng.random(),
                        overload: rng.random(),
                    };
                    let answer = match rng.random_range(0..6) {
                        0..3 => CommandOutcome::Done,
                        3 => CommandOutcome::WriteConcernError,
                        4 => CommandOutcome::Lost(Reason::NETWORK),
                        _ => CommandOutcome::Refused(refusal),
                    };
                    tracker.answered(to, now, || answer, &mut note);
                }
                _ => {
                    now += Duration::from_secs(rng.random_range(0..60));
                    tracker.sweep(now, &mut note);
                }
            }
            let count = |what| counted.get(what).copied().unwrap_or_default();
            let ended = count("committed") + count("aborted") + count("unknown");
            assert_eq!(count("started"), ended + tracker.len(), "seed {seed}, event {id}");
            assert!(tracker.len() <= LIMITS.open, "seed {seed}: {} open", tracker.len());
            assert!(tracker.in_flight() <= tracker.len(), "seed {seed}: {} in flight", tracker.in_flight());
        }
        tracker.sweep(now + Duration::from_secs(90), &mut |(), _| {});
        assert_eq!((tracker.len(), tracker.in_flight()), (0, 0), "seed {seed}");
    }
}
