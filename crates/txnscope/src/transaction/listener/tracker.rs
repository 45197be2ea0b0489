//! Tracks transactions by command events.
//!
//! The tracker does no I/O and reads no clock: events carry their time. The server allows one open transaction in a
//! session, so the session id identifies it, and a later transaction number in the same session ends it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use quanta::Instant;

use super::super::first_statement::ServerStarted;
use super::super::metrics::{AttemptOutcome, NotStartedCause};
use super::super::open_transactions::Lsid;
use super::command::{Command, CommandOutcome, Refusal, Request};
use crate::Reason;

/// The driver's default server selection timeout, and a margin: after this time the driver does not retry a commit.
const COMMIT_RESOLUTION_TIMEOUT: Duration = Duration::from_secs(40);

/// Limits of the tracker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The maximum number of tracked transactions.
    pub(super) open: usize,
    /// The time without an event after which a transaction is abandoned.
    pub(super) abandon_after: Duration,
}

/// An event to count for one transaction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TrackerEvent {
    /// The first statement is sent.
    Started { lsid: Lsid, txn_number: i64 },
    /// The commit is retried, because the result of the previous one is unknown.
    CommitRetried,
    /// A command was rejected or not answered.
    Failed { lsid: Lsid, reason: Reason },
    /// The transaction ended.
    Ended(End),
    /// The transaction exceeds the maximum number of tracked ones.
    Untracked,
}

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct End {
    pub(super) lsid: Lsid,
    pub(super) txn_number: i64,
    pub(super) outcome: AttemptOutcome,
    /// The time since its first statement was sent.
    pub(super) elapsed: Duration,
    /// The time from the first commit to its last reply.
    pub(super) commit: Option<Duration>,
    /// Why the server may not have started the transaction.
    pub(super) not_started: Option<NotStartedCause>,
    /// No event was received for too long.
    pub(super) abandoned: bool,
}

/// The state of an open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No error was observed.
    Healthy,
    /// A statement failed. Usually the server has aborted the transaction; but some commands are rejected before the
    /// server looks at the transaction, which continues. The next reply decides.
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
    /// Whether the last commit was rejected by an overloaded server. The driver retries it itself, so that the final
    /// reply is still to come; without one, the commit was not applied.
    commit_refused: bool,
    /// `Lost` until a reply decides: the first statement may never have reached the server, or may have been
    /// rejected.
    not_started: Option<NotStartedCause>,
}

/// The tracked transactions. `W` identifies the metrics that count them.
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

    /// Returns the number of tracked transactions.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Handles a request that is about to be sent. `target` is called only if the request starts a transaction.
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

    /// Handles a later request of a tracked transaction.
    fn follow(&mut self, request: Request, now: Instant, emit: &mut impl FnMut(W, TrackerEvent)) {
        let Request { id, lsid, command, .. } = request;
        let Some(transaction) = self.open.get_mut(&lsid) else { return };
        if command == Command::NonTransactional {
            return;
        }
        transaction.last_event = now;
        if let Some((unanswered, before)) = transaction.in_flight.replace((id, command)) {
            // A session has one request at a time: the future of the previous one was dropped.
            self.requests.remove(&unanswered);
            transaction.on_unanswered(before);
        }
        self.requests.insert(id, lsid);
        match command {
            // The driver retries a first statement that an overloaded server rejected; the retry may be lost, too.
            Command::First if transaction.not_started.is_some() => {
                transaction.not_started = Some(NotStartedCause::Lost)
            }
            Command::Commit if transaction.committing.is_none() => transaction.committing = Some(now),
            // The previous commit is known to have been rejected.
            Command::Commit if transaction.commit_refused => {}
            Command::Commit => emit(transaction.target, TrackerEvent::CommitRetried),
            _ => {}
        }
    }

    /// Handles the reply to a request. `answer` is called only if the request belongs to a tracked transaction.
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
            // An abort of an unknown transaction is not a failure.
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

    /// Ends transactions without recent events, and limits how often it checks.
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
        // The wait for the reply to an unanswered commit is not a part of the transaction's time.
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
    /// Updates the state by a reply, whether or not the reply ends the transaction.
    fn apply(&mut self, command: Command, answer: CommandOutcome) {
        match answer {
            CommandOutcome::Done | CommandOutcome::WriteConcernError => self.not_started = None,
            // For a transaction that never started and for one that has ended, the server returns the same code, also
            // later.
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
                // Errors after the first failure are consequences of it.
                (
                    State::Healthy,
                    CommandOutcome::Refused(Refusal { reason, .. }) | CommandOutcome::Lost(reason),
                ) => State::Failed(reason),
                (state, CommandOutcome::Refused(_) | CommandOutcome::Lost(_)) => state,
            };
        }
    }

    /// Handles a request without a reply that is followed by another one.
    fn on_unanswered(&mut self, before: Command) {
        match (before, self.state) {
            (Command::Commit, _) => self.state = State::CommitUnknown,
            (Command::First | Command::Statement, State::Healthy) => {
                self.state = State::Failed(Reason::CANCELLED);
            }
            _ => {}
        }
    }

    /// Returns the outcome by the reply to a commit, if it is final.
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

    /// Returns the outcome by the reply to an abort, which is always final.
    fn aborted(&self, answer: CommandOutcome) -> AttemptOutcome {
        AttemptOutcome::Aborted(match answer {
            // An overloaded server has not processed the abort: the code's decision to abort is the reason.
            CommandOutcome::Refused(refusal) if refusal.overload => self.reason(Reason::APPLICATION),
            // Nothing had failed before: the server has ended the transaction itself.
            CommandOutcome::Refused(refusal) => self.reason(refusal.reason),
            CommandOutcome::Done | CommandOutcome::WriteConcernError | CommandOutcome::Lost(_) => {
                self.reason(Reason::APPLICATION)
            }
        })
    }

    /// Returns the outcome if every commit was rejected, and none is in flight.
    fn refused(&self) -> Option<AttemptOutcome> {
        let refused = self.commit_refused && self.in_flight.is_none() && self.state != State::CommitUnknown;
        refused.then(|| AttemptOutcome::Aborted(self.reason(Reason::OVERLOADED)))
    }

    /// Returns the outcome when the session has started a later transaction, and the server has aborted this one.
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

    /// Returns the outcome when no event was received for longer than the server's transaction lifetime.
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

    /// Returns the reason of the first failure, or else `otherwise`.
    fn reason(&self, otherwise: Reason) -> Reason {
        match self.state {
            State::Failed(reason) => reason,
            State::Healthy | State::CommitUnknown => otherwise,
        }
    }
}
