//! Suggestions for misspelled names.

/// The known name that an unknown name is probably a misspelling of.
pub(crate) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let closest = known.iter().map(|name| (strsim::damerau_levenshtein(unknown, name), *name)).min()?;
    (closest.0 <= 1 + unknown.chars().count() / 4).then_some(closest.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelling_is_recognized_and_unrelated_name_is_not() {
        let known = ["interval", "timeout"];
        assert_eq!(nearest("intervall", &known), Some("interval"));
        assert_eq!(nearest("time-out", &known), Some("timeout"));
        assert_eq!(nearest("password", &known), None);
        assert_eq!(nearest("a", &[]), None);
    }
}
