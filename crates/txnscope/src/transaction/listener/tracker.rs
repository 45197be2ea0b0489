//! From the events of commands to what became of each transaction.
//!
//! It does no I/O and reads no clock: events come with their time. The server allows one open transaction in a session,
//! so a session's id finds it, and a later number in the same session ends it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use quanta::Instant;

use super::super::first_statement::ServerStarted;
use super::super::metrics::{AttemptOutcome, NotStartedCause};
use super::super::open_transactions::Lsid;
use super::command::{Command, CommandOutcome, Refusal, Request};
use crate::Reason;

/// As long as the driver looks for a server by default, and some: after this it will not send a commit again.
const COMMIT_RESOLUTION_TIMEOUT: Duration = Duration::from_secs(40);

/// How much is followed, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Transactions at the same time.
    pub(super) open: usize,
    /// Of silence.
    pub(super) abandon_after: Duration,
}

/// What is to be counted of one transaction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TrackerEvent {
    /// Its first statement is on the way.
    Started { lsid: Lsid, txn_number: i64 },
    /// Its commit is sent again, because nobody knows what became of the one before.
    CommitRetried,
    /// The server said no, or did not answer.
    Failed { lsid: Lsid, reason: Reason },
    /// That was the end of it.
    Ended(End),
    /// It is one more than are followed.
    Untracked,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct End {
    pub(super) lsid: Lsid,
    pub(super) txn_number: i64,
    pub(super) outcome: AttemptOutcome,
    /// Since its first statement was sent.
    pub(super) elapsed: Duration,
    /// From the first commit to the last answer to one.
    pub(super) commit: Option<Duration>,
    /// Why the server's books may lack it.
    pub(super) not_started: Option<NotStartedCause>,
    /// Nothing was heard of it for too long.
    pub(super) abandoned: bool,
}

/// What is known of an open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// As far as it was heard, nothing is wrong with it.
    Healthy,
    /// A statement failed. As a rule the server has aborted it; but some commands are refused before the server looks
    /// at the transaction, which goes on. What comes next tells.
    Failed(Reason),
    /// A commit was sent, and may have been applied.
    CommitUnknown,
}

#[derive(Debug)]
struct Transaction<W> {
    target: W,
    txn_number: i64,
    started: Instant,
    last_event: Instant,
    state: State,
    in_flight: Option<(i32, Command)>,
    /// When the first commit was sent.
    committing: Option<Instant>,
    /// Whether the last commit was refused by a server that had too much to do. The driver repeats it by itself, so that
    /// the last word is still to come; if none comes, it was not applied.
    commit_refused: bool,
    /// `Lost` until an answer of the server's tells: the first statement may never have reached it, or been refused.
    not_started: Option<NotStartedCause>,
}

/// The transactions that are followed. `W` is who they are counted for.
#[derive(Debug)]
pub(super) struct TransactionTracker<W> {
    limits: Limits,
    open: HashMap<Lsid, Transaction<W>>,
    /// The requests in flight: at most one for each transaction.
    requests: HashMap<i32, Lsid>,
    last_sweep: Option<Instant>,
}

impl<W: Copy> TransactionTracker<W> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, open: HashMap::new(), requests: HashMap::new(), last_sweep: None }
    }

    pub(super) fn abandon_after(&self) -> Duration {
        self.limits.abandon_after
    }

    pub(super) fn set_abandon_after(&mut self, silence: Duration) {
        self.limits.abandon_after = silence;
    }

    /// How many transactions are followed.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// A request is about to be sent. `who` is asked only if it begins a transaction.
    pub(super) fn sent(
        &mut self,
        request: Request,
        now: Instant,
        target: impl FnOnce() -> W,
        emit: &mut impl FnMut(W, TrackerEvent),
    ) {
        let Request { id, lsid, txn_number, command, owned_elsewhere } = request;
        if let Some(known) = self.open.get(&lsid).map(|transaction| transaction.txn_number) {
            if known < txn_number {
                self.end(lsid, now, Transaction::superseded, emit);
            } else if known == txn_number {
                return self.follow(request, now, emit);
            } else {
                return;
            }
        }
        if command != Command::First || owned_elsewhere {
            return;
        }
        let target = target();
        if self.open.len() >= self.limits.open {
            return emit(target, TrackerEvent::Untracked);
        }
        let transaction = Transaction {
            target,
            txn_number,
            started: now,
            last_event: now,
            state: State::Healthy,
            in_flight: Some((id, command)),
            committing: None,
            commit_refused: false,
            not_started: Some(NotStartedCause::Lost),
        };
        self.requests.insert(id, lsid);
        self.open.insert(lsid, transaction);
        emit(target, TrackerEvent::Started { lsid, txn_number });
    }

    /// One more request of a transaction that is followed.
    fn follow(&mut self, request: Request, now: Instant, emit: &mut impl FnMut(W, TrackerEvent)) {
        let Request { id, lsid, command, .. } = request;
        let Some(transaction) = self.open.get_mut(&lsid) else { return };
        if command == Command::NonTransactional {
            return;
        }
        transaction.last_event = now;
        if let Some((unanswered, before)) = transaction.in_flight.replace((id, command)) {
            // A session has one request at a time: whoever waited for that one has left.
            self.requests.remove(&unanswered);
            transaction.on_unanswered(before);
        }
        self.requests.insert(id, lsid);
        match command {
            // The driver repeats a first statement that an overloaded server refused; this one may be lost again.
            Command::First if transaction.not_started.is_some() => {
                transaction.not_started = Some(NotStartedCause::Lost)
            }
            Command::Commit if transaction.committing.is_none() => transaction.committing = Some(now),
            // Of the one before it is known that it was refused.
            Command::Commit if transaction.commit_refused => {}
            Command::Commit => emit(transaction.target, TrackerEvent::CommitRetried),
            _ => {}
        }
    }

    /// A request has its answer. `answer` is read only if the request belongs to a transaction that is followed.
    pub(super) fn answered(
        &mut self,
        id: i32,
        now: Instant,
        answer: impl FnOnce() -> CommandOutcome,
        emit: &mut impl FnMut(W, TrackerEvent),
    ) {
        let Some(lsid) = self.requests.remove(&id) else { return };
        let Some(transaction) = self.open.get_mut(&lsid) else { return };
        let Some((_, command)) = transaction.in_flight.take_if(|(known, _)| *known == id) else { return };
        transaction.last_event = now;
        let answer = answer();
        transaction.apply(command, answer);
        match answer {
            // That the server knows no such transaction is no news to whoever gave it up.
            _ if command == Command::Abort => {}
            CommandOutcome::Refused(Refusal { reason, .. }) | CommandOutcome::Lost(reason) => {
                emit(transaction.target, TrackerEvent::Failed { lsid, reason: transaction.reason(reason) });
            }
            CommandOutcome::WriteConcernError => {
                emit(transaction.target, TrackerEvent::Failed { lsid, reason: Reason::WRITE_CONCERN })
            }
            CommandOutcome::Done => {}
        }
        let ended = match command {
            Command::First | Command::Statement | Command::NonTransactional => None,
            Command::Commit => transaction.committed(answer),
            Command::Abort => Some(transaction.aborted(answer)),
        };
        if let Some(outcome) = ended {
            self.end(lsid, now, |_| (outcome, false), emit);
        }
    }

    /// Ends what nothing was heard of for too long, but looks no more often than is of use.
    pub(super) fn sweep(&mut self, now: Instant, emit: &mut impl FnMut(W, TrackerEvent)) {
        let rest = (self.limits.abandon_after / 4).min(Duration::from_secs(1));
        if self.last_sweep.is_some_and(|last_sweep| now.saturating_duration_since(last_sweep) < rest) {
            return;
        }
        self.last_sweep = Some(now);
        let Limits { abandon_after, .. } = self.limits;
        let is_silent = |transaction: &Transaction<W>| {
            let commit_unresolved = transaction.committing.is_some() && transaction.in_flight.is_none();
            let limit =
                if commit_unresolved { COMMIT_RESOLUTION_TIMEOUT.min(abandon_after) } else { abandon_after };
            now.saturating_duration_since(transaction.last_event) >= limit
        };
        let is_silent: Vec<_> = self
            .open
            .iter()
            .filter(|(_, transaction)| is_silent(transaction))
            .map(|(lsid, _)| *lsid)
            .collect();
        for lsid in is_silent {
            self.end(lsid, now, Transaction::expired, emit);
        }
    }

    fn end(
        &mut self,
        lsid: Lsid,
        now: Instant,
        how: impl FnOnce(&Transaction<W>) -> (AttemptOutcome, bool),
        emit: &mut impl FnMut(W, TrackerEvent),
    ) {
        let Entry::Occupied(entry) = self.open.entry(lsid) else { return };
        let transaction = entry.remove();
        if let Some((request, _)) = transaction.in_flight {
            self.requests.remove(&request);
        }
        let (outcome, abandoned) = how(&transaction);
        // Of a commit without an answer, the time in which one could have come is not the transaction's.
        let until = if outcome == AttemptOutcome::Unknown { transaction.last_event } else { now };
        let end = End {
            lsid,
            txn_number: transaction.txn_number,
            outcome,
            elapsed: until.saturating_duration_since(transaction.started),
            commit: transaction
                .committing
                .filter(|_| transaction.in_flight.is_none())
                .map(|committing| transaction.last_event.saturating_duration_since(committing)),
            not_started: transaction.not_started.filter(|_| matches!(outcome, AttemptOutcome::Aborted(_))),
            abandoned,
        };
        emit(transaction.target, TrackerEvent::Ended(end));
    }
}

impl<W> Transaction<W> {
    /// What an answer says of the transaction, whether or not it ends it.
    fn apply(&mut self, command: Command, answer: CommandOutcome) {
        match answer {
            CommandOutcome::Done | CommandOutcome::WriteConcernError => self.not_started = None,
            // Of one that it never began, and of one that it has forgotten, the server says the same, also later.
            CommandOutcome::Refused(Refusal { server_started, .. }) => match server_started {
                ServerStarted::Yes => self.not_started = None,
                ServerStarted::No if command == Command::First && self.not_started.is_some() => {
                    self.not_started = Some(NotStartedCause::Refused);
                }
                ServerStarted::No | ServerStarted::Unknown => {}
            },
            CommandOutcome::Lost(_) => {}
        }
        if matches!(command, Command::First | Command::Statement) {
            self.state = match (self.state, answer) {
                (_, CommandOutcome::Done | CommandOutcome::WriteConcernError) => State::Healthy,
                // What comes after the first failure is its echo.
                (
                    State::Healthy,
                    CommandOutcome::Refused(Refusal { reason, .. }) | CommandOutcome::Lost(reason),
                ) => State::Failed(reason),
                (state, CommandOutcome::Refused(_) | CommandOutcome::Lost(_)) => state,
            };
        }
    }

    /// A request has no answer, and another one follows.
    fn on_unanswered(&mut self, before: Command) {
        match (before, self.state) {
            (Command::Commit, _) => self.state = State::CommitUnknown,
            (Command::First | Command::Statement, State::Healthy) => {
                self.state = State::Failed(Reason::CANCELLED);
            }
            _ => {}
        }
    }

    /// What the answer to a commit means, if it is the last word.
    fn committed(&mut self, answer: CommandOutcome) -> Option<AttemptOutcome> {
        let may_be_applied = self.state == State::CommitUnknown;
        self.commit_refused = matches!(answer, CommandOutcome::Refused(refusal) if refusal.overload);
        match answer {
            CommandOutcome::Refused(refusal) if refusal.overload => return None,
            CommandOutcome::Done => return Some(AttemptOutcome::Committed),
            CommandOutcome::Refused(refusal) if refusal.transient => {
                return Some(AttemptOutcome::Aborted(self.reason(refusal.reason)));
            }
            CommandOutcome::Refused(refusal) if !refusal.may_be_applied && !may_be_applied => {
                return Some(AttemptOutcome::Aborted(self.reason(refusal.reason)));
            }
            CommandOutcome::Refused(_) | CommandOutcome::Lost(_) | CommandOutcome::WriteConcernError => {
                self.state = State::CommitUnknown
            }
        }
        None
    }

    /// What the answer to an abort means. Whatever it is, nothing more will come.
    fn aborted(&self, answer: CommandOutcome) -> AttemptOutcome {
        AttemptOutcome::Aborted(match answer {
            // An overloaded server has not even looked: the code's own abort is why it ends.
            CommandOutcome::Refused(refusal) if refusal.overload => self.reason(Reason::APPLICATION),
            // Nothing had failed, and yet it was no more: the server has ended it by itself.
            CommandOutcome::Refused(refusal) => self.reason(refusal.reason),
            CommandOutcome::Done | CommandOutcome::WriteConcernError | CommandOutcome::Lost(_) => {
                self.reason(Reason::APPLICATION)
            }
        })
    }

    /// If each of its commits was refused, and none is under way.
    fn refused(&self) -> Option<AttemptOutcome> {
        let refused = self.commit_refused && self.in_flight.is_none() && self.state != State::CommitUnknown;
        refused.then(|| AttemptOutcome::Aborted(self.reason(Reason::OVERLOADED)))
    }

    /// The session has gone on to a later transaction, and the server has aborted this one.
    fn superseded(&self) -> (AttemptOutcome, bool) {
        if let Some(outcome) = self.refused() {
            return (outcome, false);
        }
        let outcome = match self.in_flight {
            _ if self.committing.is_some() => AttemptOutcome::Unknown,
            Some((_, Command::Abort)) => AttemptOutcome::Aborted(self.reason(Reason::APPLICATION)),
            _ => AttemptOutcome::Aborted(self.reason(Reason::CANCELLED)),
        };
        (outcome, false)
    }

    /// Nothing was heard of it for longer than the server lets one live.
    fn expired(&self) -> (AttemptOutcome, bool) {
        if let Some(outcome) = self.refused() {
            return (outcome, false);
        }
        match self.in_flight {
            _ if self.committing.is_some() => (AttemptOutcome::Unknown, false),
            Some((_, Command::Abort)) => (AttemptOutcome::Aborted(self.reason(Reason::APPLICATION)), false),
            _ if self.state == State::Healthy => (AttemptOutcome::Aborted(Reason::TRANSACTION_EXPIRED), true),
            _ => (AttemptOutcome::Aborted(self.reason(Reason::TRANSACTION_EXPIRED)), false),
        }
    }

    /// Why the first thing failed, or else that.
    fn reason(&self, otherwise: Reason) -> Reason {
        match self.state {
            State::Failed(reason) => reason,
            State::Healthy | State::CommitUnknown => otherwise,
        }
    }
}
