//! The read position in a profiler's collection.
//!
//! Entries have a time and no id, several may have the same time, and the oldest are overwritten. So the
//! position is the time of the last entry, and how many entries of that time were read. The next read begins at
//! that time and must find these entries again. If it does not, they were overwritten, and perhaps unread ones
//! as well.

use mongodb::bson::{Bson, DateTime, Document};

use crate::decode::{Field, field};

/// The position after the last entry that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReadPosition {
    /// Its time, in milliseconds since 1970.
    at: i64,
    /// How many entries of that time were read.
    entries: usize,
}

impl ReadPosition {
    /// The position in an empty collection.
    pub(super) const START: Self = Self { at: 0, entries: 0 };

    pub(super) fn at(self) -> DateTime {
        DateTime::from_millis(self.at)
    }

    /// The unread ones of these entries, which are sorted and not older than the position, and whether entries
    /// were overwritten. Moves the position.
    pub(super) fn advance<'a>(&mut self, entries: &[&'a Document]) -> (Vec<&'a Document>, bool) {
        let known = entries.iter().take_while(|entry| time(entry) == Some(self.at)).count().min(self.entries);
        let lost = known < self.entries;
        if lost {
            self.entries = known;
        }
        let new = entries[known..].to_vec();
        for entry in &new {
            match time(entry) {
                Some(at) if at > self.at => *self = Self { at, entries: 1 },
                // The same time; entries without one do not pass the filter.
                Some(_) => self.entries += 1,
                None => {}
            }
        }
        (new, lost)
    }

    /// Skips the rest of this timestamp, which has more entries than a batch.
    pub(super) fn skip_timestamp(&mut self) {
        *self = Self { at: self.at.saturating_add(1), entries: 0 };
    }
}

pub(super) fn time(entry: &Document) -> Option<i64> {
    match field(entry, &["ts"]) {
        Field::Value(Bson::DateTime(date)) => Some(date.timestamp_millis()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    fn entries(times: &[i64]) -> Vec<Document> {
        let entry = |(index, at): (usize, &i64)| doc! {"n": index as i64, "ts": DateTime::from_millis(*at)};
        times.iter().enumerate().map(entry).collect()
    }

    fn advance(position: &mut ReadPosition, times: &[i64]) -> (usize, bool) {
        let entries = entries(times);
        let (new, lost) = position.advance(&entries.iter().collect::<Vec<_>>());
        (new.len(), lost)
    }

    #[test]
    fn entries_with_equal_timestamps_are_read_once() {
        let mut position = ReadPosition::START;
        assert_eq!(advance(&mut position, &[5, 7, 7]), (3, false));
        assert_eq!(position.at(), DateTime::from_millis(7));
        assert_eq!(advance(&mut position, &[7, 7]), (0, false));
        assert_eq!(advance(&mut position, &[7, 7, 7, 9]), (2, false));
        assert_eq!(advance(&mut position, &[9]), (0, false));
    }

    #[test]
    fn overwritten_position_is_reported_once() {
        let mut position = ReadPosition::START;
        advance(&mut position, &[5, 7, 7]);
        assert_eq!(advance(&mut position, &[7, 8]), (1, true), "one of the two at 7 is gone");
        assert_eq!(advance(&mut position, &[12, 13]), (2, true));
        assert_eq!(advance(&mut position, &[13]), (0, false));
        assert_eq!(advance(&mut position, &[]), (0, true));
        assert_eq!(advance(&mut position, &[]), (0, false));
    }

    #[test]
    fn entry_without_timestamp_does_not_move_the_position() {
        let mut position = ReadPosition::START;
        let invalid = doc! {"ts": "now"};
        assert_eq!(position.advance(&[&invalid]).0.len(), 1);
        assert_eq!(position, ReadPosition::START);
    }
}
