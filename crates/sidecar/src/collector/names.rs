//! Names that others choose, as label values: so many stand for themselves, the rest for `overflow`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use txnscope_catalog::{OVERFLOW, is_printable};

/// The longest name that is shown. The server's own limits are shorter; this one holds whatever it sends.
const LONGEST: usize = 255;

/// For how long a name keeps its place without being seen. Longer than any range over which rates are usually taken, so
/// that a series has ended for them before another name takes its place.
const KEPT: Duration = Duration::from_secs(3600);

/// The names that one collector of one member tells apart. A name keeps its place while it is seen: a series that changed
/// its meaning would be worse than one that is never shown. Where there is no place left, a new name takes that of the
/// one that was not seen for the longest time, if that is long enough: what somebody made up once keeps no honest name
/// out for good.
#[derive(Debug)]
pub(super) struct Names {
    most: usize,
    /// And when each was last seen.
    admitted: BTreeMap<String, Instant>,
}

impl Names {
    pub(super) fn new(most: usize) -> Self {
        Self { most, admitted: BTreeMap::new() }
    }

    /// The label value for that name.
    pub(super) fn admit(&mut self, name: &str) -> Cow<'static, str> {
        let (shown, now) = (shortened(name), Instant::now());
        if let Some(seen) = self.admitted.get_mut(shown) {
            *seen = now;
            return shown.to_owned().into();
        }
        // A name that is the word itself cannot be told from the rest. One that would steer a terminal or hide cannot be
        // shown, and escaped it could be another's.
        if shown == OVERFLOW || !shown.chars().all(is_printable) || !self.has_place(now) {
            return OVERFLOW.into();
        }
        self.admitted.insert(shown.to_owned(), now);
        shown.to_owned().into()
    }

    fn has_place(&mut self, now: Instant) -> bool {
        if self.admitted.len() < self.most {
            return true;
        }
        let Some((oldest, seen)) = self.admitted.iter().min_by_key(|(_, seen)| **seen) else { return false };
        if now.saturating_duration_since(*seen) < KEPT {
            return false;
        }
        let oldest = oldest.clone();
        self.admitted.remove(&oldest);
        true
    }

    /// Whether that name stands for itself.
    pub(super) fn has(&self, name: &str) -> bool {
        self.admitted.contains_key(name)
    }

    /// All names that stand for themselves.
    pub(super) fn admitted(&self) -> impl Iterator<Item = &str> {
        self.admitted.keys().map(String::as_str)
    }
}

fn shortened(name: &str) -> &str {
    let mut end = name.len().min(LONGEST);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stay_and_the_rest_overflow() {
        let mut names = Names::new(2);
        assert_eq!(
            ["a", "b", "c", "a", "overflow"].map(|name| names.admit(name)),
            ["a", "b", "overflow", "a", "overflow"]
        );
        assert_eq!(names.admitted().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_not_seen_for_an_hour_makes_place_for_another() {
        let mut names = Names::new(2);
        names.admit("made up");
        tokio::time::advance(KEPT / 2).await;
        names.admit("honest");
        tokio::time::advance(KEPT / 2 - Duration::from_secs(1)).await;
        assert_eq!(names.admit("new"), "overflow", "each is kept for an hour");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(names.admit("new"), "new");
        assert_eq!(names.admit("newer"), "overflow", "one place was free");
        assert_eq!(names.admitted().collect::<Vec<_>>(), ["honest", "new"]);
        assert!(names.has("honest") && !names.has("made up"));
    }

    #[test]
    fn a_name_that_steers_a_terminal_or_hides_is_shown_as_overflow() {
        let mut names = Names::new(2);
        for name in
            ["shop\u{1b}[2J", "shop\n", "shop\u{9b}31m", "shop\u{202e}", "shop\u{2028}", "shop\u{200b}"]
        {
            assert_eq!(names.admit(name), "overflow", "{name:?}");
        }
        assert_eq!(names.admit("Zoë's shop 木"), "Zoë's shop 木", "and takes no place");
    }

    #[test]
    fn a_long_name_is_cut_between_two_characters() {
        let long = "\u{20ac}".repeat(100);
        assert_eq!(Names::new(1).admit(&long).len(), 255);
        let uneven = format!("x{long}");
        assert_eq!(Names::new(1).admit(&uneven).len(), 253);
    }
}
