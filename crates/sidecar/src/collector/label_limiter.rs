//! Limits the number of values of a label whose values come from outside; all others become `overflow`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use txnscope_catalog::{OVERFLOW, is_printable};

/// The longest label value, in bytes. The server's own limits are lower.
const MAX_LABEL_BYTES: usize = 255;

/// How long a value is retained without being seen. Longer than any usual range of a rate, so that its series
/// has ended before another value takes its place.
const RETENTION: Duration = Duration::from_secs(3600);

/// The tracked values of one label, for one collector of one member. A value keeps its place while it is seen,
/// so that a series never changes its meaning. If the limit is reached, a new value replaces the one that was
/// not seen for the longest time, if that is longer than the retention: made-up names do not block real ones
/// forever.
#[derive(Debug)]
pub(super) struct CardinalityLimiter {
    limit: usize,
    /// Tracked values, with the time when each was last seen.
    tracked: BTreeMap<String, Instant>,
}

impl CardinalityLimiter {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, tracked: BTreeMap::new() }
    }

    /// The label value for a name.
    pub(super) fn label_for(&mut self, name: &str) -> Cow<'static, str> {
        let (label, now) = (truncate(name), Instant::now());
        if let Some(seen) = self.tracked.get_mut(label) {
            *seen = now;
            return label.to_owned().into();
        }
        // A name equal to `overflow` would be ambiguous. One with control or invisible characters cannot be
        // exported, and escaped it could equal another name.
        if label == OVERFLOW || !label.chars().all(is_printable) || !self.make_room(now) {
            return OVERFLOW.into();
        }
        self.tracked.insert(label.to_owned(), now);
        label.to_owned().into()
    }

    fn make_room(&mut self, now: Instant) -> bool {
        if self.tracked.len() < self.limit {
            return true;
        }
        let Some((oldest, seen)) = self.tracked.iter().min_by_key(|(_, seen)| **seen) else { return false };
        if now.saturating_duration_since(*seen) < RETENTION {
            return false;
        }
        let oldest = oldest.clone();
        self.tracked.remove(&oldest);
        true
    }

    /// Whether the name has a label value of its own.
    pub(super) fn is_tracked(&self, name: &str) -> bool {
        self.tracked.contains_key(name)
    }

    /// All names with a label value of their own.
    pub(super) fn tracked(&self) -> impl Iterator<Item = &str> {
        self.tracked.keys().map(String::as_str)
    }
}

fn truncate(name: &str) -> &str {
    let mut end = name.len().min(MAX_LABEL_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_over_the_limit_overflow() {
        let mut limiter = CardinalityLimiter::new(2);
        assert_eq!(
            ["a", "b", "c", "a", "overflow"].map(|name| limiter.label_for(name)),
            ["a", "b", "overflow", "a", "overflow"]
        );
        assert_eq!(limiter.tracked().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn name_unseen_for_an_hour_is_replaced() {
        let mut limiter = CardinalityLimiter::new(2);
        limiter.label_for("made up");
        tokio::time::advance(RETENTION / 2).await;
        limiter.label_for("honest");
        tokio::time::advance(RETENTION / 2 - Duration::from_secs(1)).await;
        assert_eq!(limiter.label_for("new"), "overflow", "each is kept for an hour");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(limiter.label_for("new"), "new");
        assert_eq!(limiter.label_for("newer"), "overflow", "one place was free");
        assert_eq!(limiter.tracked().collect::<Vec<_>>(), ["honest", "new"]);
        assert!(limiter.is_tracked("honest") && !limiter.is_tracked("made up"));
    }

    #[test]
    fn name_with_control_characters_overflows() {
        let mut limiter = CardinalityLimiter::new(2);
        for name in
            ["shop\u{1b}[2J", "shop\n", "shop\u{9b}31m", "shop\u{202e}", "shop\u{2028}", "shop\u{200b}"]
        {
            assert_eq!(limiter.label_for(name), "overflow", "{name:?}");
        }
        assert_eq!(limiter.label_for("Zoë's shop 木"), "Zoë's shop 木", "and takes no place");
    }

    #[test]
    fn long_name_is_truncated_at_a_character_boundary() {
        let long = "\u{20ac}".repeat(100);
        assert_eq!(CardinalityLimiter::new(1).label_for(&long).len(), 255);
        let uneven = format!("x{long}");
        assert_eq!(CardinalityLimiter::new(1).label_for(&uneven).len(), 253);
    }
}
