//! Names of replica sets.

use std::fmt;

/// The maximum length in bytes. MongoDB has no limit; a label needs one.
const MAX_LENGTH: usize = 128;

/// The name of a replica set, fit to be a label: letters, digits and punctuation, without white space and the
/// delimiters of URIs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetName(String);

impl SetName {
    /// Validates a name. MongoDB accepts any text without a slash; uncommon characters are rejected here, so
    /// that no line of a file and no password becomes a label.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |c: char| {
            c.is_alphanumeric()
                || (c.is_ascii_punctuation() && !matches!(c, '/' | '\\' | '@' | '"' | '\'' | '`'))
        };
        (!text.is_empty() && text.len() <= MAX_LENGTH && text.chars().all(fits))
            .then(|| Self(text.to_owned()))
    }

    /// The name as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_name_is_validated() {
        for good in ["rs0", "atlas-1a2b3c-shard-0", "my_set.eu", "Größe", "rs:0"] {
            assert_eq!(SetName::parse(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(MAX_LENGTH + 1);
        for bad in [
            "",
            "rs0\nmongodb://u:hunter2@h/",
            "rs0 hunter2",
            "rs0/db1:27017",
            "u@h",
            "rs\u{200b}0",
            "rs\u{202e}0",
            "rs\u{1b}[0m",
            "\"rs0\"",
            &long,
        ] {
            assert_eq!(SetName::parse(bad), None, "{bad:?}");
        }
    }
}
