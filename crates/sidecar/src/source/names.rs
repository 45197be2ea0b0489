//! Names that others choose, as label values: the first so many stand for themselves, the rest for `overflow`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use txnscope_catalog::OVERFLOW;

/// The longest name that is shown. The server's own limits are shorter; this one holds whatever it sends.
const LONGEST: usize = 255;

/// The names that one source of one member tells apart. A name that is in stays in: a series that changed its meaning
/// would be worse than one that is never shown.
#[derive(Debug)]
pub(super) struct Names {
    most: usize,
    admitted: BTreeSet<String>,
}

impl Names {
    pub(super) fn new(most: usize) -> Self {
        Self { most, admitted: BTreeSet::new() }
    }

    /// The label value for that name.
    pub(super) fn admit(&mut self, name: &str) -> Cow<'static, str> {
        let shown = shortened(name);
        if !self.admitted.contains(shown) {
            // A name that is the word itself cannot be told from the rest.
            if self.admitted.len() == self.most || shown == OVERFLOW {
                return OVERFLOW.into();
            }
            self.admitted.insert(shown.to_owned());
        }
        shown.to_owned().into()
    }

    /// All names that stand for themselves.
    pub(super) fn admitted(&self) -> impl Iterator<Item = &str> {
        self.admitted.iter().map(String::as_str)
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

    #[test]
    fn a_long_name_is_cut_between_two_characters() {
        let long = "\u{20ac}".repeat(100);
        assert_eq!(Names::new(1).admit(&long).len(), 255);
        let uneven = format!("x{long}");
        assert_eq!(Names::new(1).admit(&uneven).len(), 253);
    }
}
