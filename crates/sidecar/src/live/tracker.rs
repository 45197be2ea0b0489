//! What two polls show that one does not: how long a transaction has been idle, and whether write conflicts go on.

use std::collections::HashMap;
use std::time::Duration;

use super::operation::Operation;

/// The last poll of one member.
///
/// The server counts the idle time of a transaction in total, and not since its last statement. As long as the
/// time in which it ran statements stays the same, it was idle without an interruption: the idle time since then
/// is exact to one interval. A transaction that was never seen before may have been idle since it began.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    transactions: HashMap<(String, i64), Seen>,
    /// Operations with write conflicts: their number, and whether it has grown.
    conflicts: HashMap<i64, (u64, bool)>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    active: Duration,
    inactive: Duration,
    /// The idle time in total when a statement was last seen to have run.
    inactive_before: Duration,
}

impl Tracker {
    /// Compares a poll with the last one, and replaces it.
    pub(super) fn observe(&mut self, operations: &[Operation]) {
        let before = std::mem::take(self);
        for operation in operations {
            if let (Some(session), Some(fields)) = (&operation.session, &operation.transaction) {
                let key = (session.clone(), fields.number);
                let inactive_before = match before.transactions.get(&key) {
                    None => Duration::ZERO,
                    Some(seen) if seen.active == fields.active => seen.inactive_before,
                    Some(seen) => seen.inactive,
                };
                let (active, inactive) = (fields.active, fields.inactive);
                self.transactions.insert(key, Seen { active, inactive, inactive_before });
            }
            if let Some(opid) = operation.opid
                && operation.write_conflicts > 0
            {
                let grows =
                    before.conflicts.get(&opid).is_none_or(|(count, _)| operation.write_conflicts > *count);
                self.conflicts.insert(opid, (operation.write_conflicts, grows));
            }
        }
    }

    /// The longest time for which an idle transaction of the last poll may have been idle.
    pub(super) fn idle(&self, session: &str, number: i64) -> Duration {
        let seen = self.transactions.get(&(session.to_owned(), number));
        seen.map_or(Duration::ZERO, |seen| seen.inactive.saturating_sub(seen.inactive_before))
    }

    /// Whether the server retries the operation because of write conflicts. An operation of which the number has
    /// not grown goes on with other documents.
    pub(super) fn is_retried(&self, operation: &Operation) -> bool {
        operation.opid.and_then(|opid| self.conflicts.get(&opid)).is_some_and(|(_, grows)| *grows)
    }
}

#[cfg(test)]
mod tests {
    use super::super::operation::TransactionFields;
    use super::*;

    fn transaction(active: u64, inactive: u64) -> Operation {
        let fields = TransactionFields {
            number: 7,
            started_at: None,
            age: Duration::from_millis(active + inactive),
            active: Duration::from_millis(active),
            inactive: Duration::from_millis(inactive),
            prepared: false,
            expires_in: None,
            read_concern: None,
        };
        Operation { session: Some("s".to_owned()), transaction: Some(fields), ..Operation::default() }
    }

    #[test]
    fn idle_time_restarts_after_a_statement() {
        let mut tracker = Tracker::default();
        let mut idle = |active, inactive| {
            tracker.observe(&[transaction(active, inactive)]);
            tracker.idle("s", 7).as_millis()
        };
        assert_eq!(idle(10, 3_000), 3_000, "it may have been idle since it began");
        assert_eq!(idle(10, 4_000), 4_000);
        assert_eq!(idle(15, 4_700), 700, "a statement ran since the last poll");
        assert_eq!(idle(15, 5_700), 1_700);
    }

    #[test]
    fn ended_transaction_is_forgotten() {
        let mut tracker = Tracker::default();
        tracker.observe(&[transaction(10, 3_000)]);
        tracker.observe(&[]);
        assert_eq!(tracker.transactions.len(), 0);
        assert_eq!(tracker.idle("s", 7), Duration::ZERO);
    }

    #[test]
    fn operation_is_retried_while_its_conflicts_grow() {
        let with =
            |conflicts| Operation { opid: Some(3), write_conflicts: conflicts, ..Operation::default() };
        let mut tracker = Tracker::default();
        let mut is_retried = |conflicts| {
            tracker.observe(&[with(conflicts)]);
            tracker.is_retried(&with(conflicts))
        };
        assert!(!is_retried(0));
        assert!(is_retried(5) && is_retried(9));
        assert!(!is_retried(9), "it has the document");
        assert!(is_retried(10));
    }
}
