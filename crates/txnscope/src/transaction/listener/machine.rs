//! From the events of commands to what became of each transaction.
//!
//! It does no I/O and reads no clock: events come with their time. The server allows one open transaction in a session,
//! so a session's id finds it, and a later number in the same session ends it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use quanta::Instant;

use super::super::begun::Begun;
use super::super::books::{AttemptOutcome, Unbegun};
use super::super::open::Lsid;
use super::event::{Answer, Command, Refusal, Request};
use crate::Reason;

/// As long as the driver looks for a server by default, and some: after this it will not send a commit again.
const UNSETTLED: Duration = Duration::from_secs(40);

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
pub(super) enum Note {
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
    pub(super) unbegun: Option<Unbegun>,
    /// Nothing was heard of it for too long.
    pub(super) abandoned: bool,
}

/// What is known of an open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// As far as it was heard, nothing is wrong with it.
    Sound,
    /// A statement failed. As a rule the server has aborted it; but some commands are refused before the server looks
    /// at the transaction, which goes on. What comes next tells.
    Doomed(Reason),
    /// A commit was sent, and may have been applied.
    CommitUnknown,
}

#[derive(Debug)]
struct Transaction<W> {
    who: W,
    txn_number: i64,
    began: Instant,
    heard: Instant,
    state: State,
    in_flight: Option<(i32, Command)>,
    /// When the first commit was sent.
    committing: Option<Instant>,
    /// Whether the last commit was refused by a server that had too much to do. The driver repeats it by itself, so that
    /// the last word is still to come; if none comes, it was not applied.
    commit_refused: bool,
    /// `Lost` until an answer of the server's tells: the first statement may never have reached it, or been refused.
    unbegun: Option<Unbegun>,
}

/// The transactions that are followed. `W` is who they are counted for.
#[derive(Debug)]
pub(super) struct Machine<W> {
    limits: Limits,
    open: HashMap<Lsid, Transaction<W>>,
    /// The requests in flight: at most one for each transaction.
    requests: HashMap<i32, Lsid>,
    swept: Option<Instant>,
}

impl<W: Copy> Machine<W> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, open: HashMap::new(), requests: HashMap::new(), swept: None }
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
        who: impl FnOnce() -> W,
        note: &mut impl FnMut(W, Note),
    ) {
        let Request { id, lsid, txn_number, command, foreign } = request;
        if let Some(known) = self.open.get(&lsid).map(|transaction| transaction.txn_number) {
            if known < txn_number {
                self.end(lsid, now, Transaction::superseded, note);
            } else if known == txn_number {
                return self.follow(request, now, note);
            } else {
                return;
            }
        }
        if command != Command::First || foreign {
            return;
        }
        let who = who();
        if self.open.len() >= self.limits.open {
            return note(who, Note::Untracked);
        }
        let transaction = Transaction {
            who,
            txn_number,
            began: now,
            heard: now,
            state: State::Sound,
            in_flight: Some((id, command)),
            committing: None,
            commit_refused: false,
            unbegun: Some(Unbegun::Lost),
        };
        self.requests.insert(id, lsid);
        self.open.insert(lsid, transaction);
        note(who, Note::Started { lsid, txn_number });
    }

    /// One more request of a transaction that is followed.
    fn follow(&mut self, request: Request, now: Instant, note: &mut impl FnMut(W, Note)) {
        let Request { id, lsid, command, .. } = request;
        let Some(transaction) = self.open.get_mut(&lsid) else { return };
        if command == Command::Outside {
            return;
        }
        transaction.heard = now;
        if let Some((unanswered, before)) = transaction.in_flight.replace((id, command)) {
            // A session has one request at a time: whoever waited for that one has left.
            self.requests.remove(&unanswered);
            transaction.left_behind(before);
        }
        self.requests.insert(id, lsid);
        match command {
            // The driver repeats a first statement that an overloaded server refused; this one may be lost again.
            Command::First if transaction.unbegun.is_some() => transaction.unbegun = Some(Unbegun::Lost),
            Command::Commit if transaction.committing.is_none() => transaction.committing = Some(now),
            // Of the one before it is known that it was refused.
            Command::Commit if transaction.commit_refused => {}
            Command::Commit => note(transaction.who, Note::CommitRetried),
            _ => {}
        }
    }

    /// A request has its answer. `answer` is read only if the request belongs to a transaction that is followed.
    pub(super) fn answered(
        &mut self,
        id: i32,
        now: Instant,
        answer: impl FnOnce() -> Answer,
        note: &mut impl FnMut(W, Note),
    ) {
        let Some(lsid) = self.requests.remove(&id) else { return };
        let Some(transaction) = self.open.get_mut(&lsid) else { return };
        let Some((_, command)) = transaction.in_flight.take_if(|(known, _)| *known == id) else { return };
        transaction.heard = now;
        let answer = answer();
        transaction.learn(command, answer);
        match answer {
            // That the server knows no such transaction is no news to whoever gave it up.
            _ if command == Command::Abort => {}
            Answer::Refused(Refusal { reason, .. }) | Answer::Lost(reason) => {
                note(transaction.who, Note::Failed { lsid, reason: transaction.reason(reason) });
            }
            Answer::Narrowly => note(transaction.who, Note::Failed { lsid, reason: Reason::WRITE_CONCERN }),
            Answer::Done => {}
        }
        let ended = match command {
            Command::First | Command::Statement | Command::Outside => None,
            Command::Commit => transaction.committed(answer),
            Command::Abort => Some(transaction.aborted(answer)),
        };
        if let Some(outcome) = ended {
            self.end(lsid, now, |_| (outcome, false), note);
        }
    }

    /// Ends what nothing was heard of for too long, but looks no more often than is of use.
    pub(super) fn sweep(&mut self, now: Instant, note: &mut impl FnMut(W, Note)) {
        let rest = (self.limits.abandon_after / 4).min(Duration::from_secs(1));
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < rest) {
            return;
        }
        self.swept = Some(now);
        let Limits { abandon_after, .. } = self.limits;
        let silent = |transaction: &Transaction<W>| {
            let commit_unresolved = transaction.committing.is_some() && transaction.in_flight.is_none();
            let limit = if commit_unresolved { UNSETTLED.min(abandon_after) } else { abandon_after };
            now.saturating_duration_since(transaction.heard) >= limit
        };
        let silent: Vec<_> =
            self.open.iter().filter(|(_, transaction)| silent(transaction)).map(|(lsid, _)| *lsid).collect();
        for lsid in silent {
            self.end(lsid, now, Transaction::expired, note);
        }
    }

    fn end(
        &mut self,
        lsid: Lsid,
        now: Instant,
        how: impl FnOnce(&Transaction<W>) -> (AttemptOutcome, bool),
        note: &mut impl FnMut(W, Note),
    ) {
        let Entry::Occupied(entry) = self.open.entry(lsid) else { return };
        let transaction = entry.remove();
        if let Some((request, _)) = transaction.in_flight {
            self.requests.remove(&request);
        }
        let (outcome, abandoned) = how(&transaction);
        // Of a commit without an answer, the time in which one could have come is not the transaction's.
        let until = if outcome == AttemptOutcome::Unknown { transaction.heard } else { now };
        let end = End {
            lsid,
            txn_number: transaction.txn_number,
            outcome,
            elapsed: until.saturating_duration_since(transaction.began),
            commit: transaction
                .committing
                .filter(|_| transaction.in_flight.is_none())
                .map(|committing| transaction.heard.saturating_duration_since(committing)),
            unbegun: transaction.unbegun.filter(|_| matches!(outcome, AttemptOutcome::Aborted(_))),
            abandoned,
        };
        note(transaction.who, Note::Ended(end));
    }
}

impl<W> Transaction<W> {
    /// What an answer says of the transaction, whether or not it ends it.
    fn learn(&mut self, command: Command, answer: Answer) {
        match answer {
            Answer::Done | Answer::Narrowly => self.unbegun = None,
            // Of one that it never began, and of one that it has forgotten, the server says the same, also later.
            Answer::Refused(Refusal { begun, .. }) => match begun {
                Begun::Yes => self.unbegun = None,
                Begun::No if command == Command::First && self.unbegun.is_some() => {
                    self.unbegun = Some(Unbegun::Refused);
                }
                Begun::No | Begun::Perhaps => {}
            },
            Answer::Lost(_) => {}
        }
        if matches!(command, Command::First | Command::Statement) {
            self.state = match (self.state, answer) {
                (_, Answer::Done | Answer::Narrowly) => State::Sound,
                // What comes after the first failure is its echo.
                (State::Sound, Answer::Refused(Refusal { reason, .. }) | Answer::Lost(reason)) => {
                    State::Doomed(reason)
                }
                (state, Answer::Refused(_) | Answer::Lost(_)) => state,
            };
        }
    }

    /// A request has no answer, and another one follows.
    fn left_behind(&mut self, before: Command) {
        match (before, self.state) {
            (Command::Commit, _) => self.state = State::CommitUnknown,
            (Command::First | Command::Statement, State::Sound) => {
                self.state = State::Doomed(Reason::CANCELLED);
            }
            _ => {}
        }
    }

    /// What the answer to a commit means, if it is the last word.
    fn committed(&mut self, answer: Answer) -> Option<AttemptOutcome> {
        let may_be_applied = self.state == State::CommitUnknown;
        self.commit_refused = matches!(answer, Answer::Refused(refusal) if refusal.overload);
        match answer {
            Answer::Refused(refusal) if refusal.overload => return None,
            Answer::Done => return Some(AttemptOutcome::Committed),
            Answer::Refused(refusal) if refusal.transient => {
                return Some(AttemptOutcome::Aborted(self.reason(refusal.reason)));
            }
            Answer::Refused(refusal) if !refusal.may_be_applied && !may_be_applied => {
                return Some(AttemptOutcome::Aborted(self.reason(refusal.reason)));
            }
            Answer::Refused(_) | Answer::Lost(_) | Answer::Narrowly => self.state = State::CommitUnknown,
        }
        None
    }

    /// What the answer to an abort means. Whatever it is, nothing more will come.
    fn aborted(&self, answer: Answer) -> AttemptOutcome {
        AttemptOutcome::Aborted(match answer {
            // An overloaded server has not even looked: the code's own abort is why it ends.
            Answer::Refused(refusal) if refusal.overload => self.reason(Reason::APPLICATION),
            // Nothing had failed, and yet it was no more: the server has ended it by itself.
            Answer::Refused(refusal) => self.reason(refusal.reason),
            Answer::Done | Answer::Narrowly | Answer::Lost(_) => self.reason(Reason::APPLICATION),
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
            _ if self.state == State::Sound => (AttemptOutcome::Aborted(Reason::TRANSACTION_EXPIRED), true),
            _ => (AttemptOutcome::Aborted(self.reason(Reason::TRANSACTION_EXPIRED)), false),
        }
    }

    /// Why the first thing failed, or else that.
    fn reason(&self, otherwise: Reason) -> Reason {
        match self.state {
            State::Doomed(reason) => reason,
            State::Sound | State::CommitUnknown => otherwise,
        }
    }
}
