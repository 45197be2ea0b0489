//! Errors in files that users write: the file, the line, and the name that was probably meant.
//!
//! A value may be a secret in the wrong place, and so may a name that resembles no valid one. Neither is quoted.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::escape_line;

/// An error in a file that a user has written. It quotes nothing that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    file: PathBuf,
    line: Option<usize>,
    what: String,
}

impl FileError {
    /// An error in the file as a whole.
    #[must_use]
    pub fn new(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, what: what.into() }
    }

    /// An error in a line of the file, from 1.
    #[must_use]
    pub fn in_line(file: &Path, line: usize, what: impl Into<String>) -> Self {
        Self { line: Some(line), ..Self::new(file, what) }
    }

    /// An error at an offset of the file's text.
    #[must_use]
    pub fn at(file: &Path, text: &str, offset: usize, what: impl Into<String>) -> Self {
        let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        Self::in_line(file, line, what)
    }

    /// An error of the parser of TOML, with the span and the message that it has.
    #[must_use]
    pub fn toml(file: &Path, text: &str, span: Option<Range<usize>>, message: &str) -> Self {
        let what = describe(message);
        match span {
            Some(span) => Self::at(file, text, span.start, what),
            None => Self::new(file, what),
        }
    }

    /// The line, from 1, if the error is in one.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", escape_line(&self.file.display().to_string()))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        // The message may contain keys and names of the file.
        write!(f, ": {}", escape_line(&self.what))
    }
}

impl std::error::Error for FileError {}

/// The known name that an unknown name is probably a misspelling of.
#[must_use]
pub fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let closest = known.iter().map(|name| (strsim::damerau_levenshtein(unknown, name), *name)).min()?;
    (closest.0 <= 1 + unknown.chars().count() / 4).then_some(closest.1)
}

/// The message about an unknown name, with the closest valid one or with all of them. `what` is what it names: a key.
#[must_use]
pub fn unknown_name(what: &str, unknown: &str, known: &[&str]) -> String {
    match nearest(unknown, known) {
        Some(name) => format!("unknown {what} `{unknown}`; did you mean `{name}`?"),
        None if known.is_empty() => format!("unknown {what}"),
        None => format!("unknown {what}; valid are {}", known.join(", ")),
    }
}

/// The message of the parser without quotes of the file, and with the closest valid name.
fn describe(message: &str) -> String {
    let message = message.trim();
    let (head, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    for (kind, what) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        if let Some(unknown) = head.strip_prefix(kind).and_then(|rest| rest.strip_suffix('`')) {
            let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
            return unknown_name(what, unknown, &known);
        }
    }
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some(found) = message.strip_prefix(kind)
            && let Some((_, expected)) = message.rsplit_once(", expected ")
        {
            // The name of the type, up to the quoted value.
            let kind = found.split(['`', '"', ',']).next().unwrap_or_default().trim();
            let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
            return format!("expected {expected}, found {article} {kind}");
        }
    }
    if head.contains(['`', '"', '\'']) && !head.starts_with("missing field `") {
        return "invalid TOML or an invalid value".to_owned();
    }
    message.to_owned()
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
        assert_eq!(unknown_name("key", "hunter2", &known), "unknown key; valid are interval, timeout");
    }

    #[test]
    fn error_names_the_line_and_escapes_control_characters() {
        let error = FileError::at(Path::new("a\u{1b}.toml"), "x\ny\nz", 3, "b\u{1b}");
        assert_eq!((error.line(), error.to_string().as_str()), (Some(2), "a\\u001b.toml:2: b\\u001b"));
        assert_eq!(FileError::new(Path::new("a.toml"), "c").to_string(), "a.toml: c");
    }

    #[test]
    fn message_of_the_parser_is_rewritten_without_values() {
        for (message, expected) in [
            (
                "unknown field `intervall`, expected `interval` or `timeout`",
                "unknown key `intervall`; did you mean `interval`?",
            ),
            (
                "unknown variant `hunter2`, expected one of `info`, `warn`",
                "unknown value; valid are info, warn",
            ),
            ("invalid type: string \"hunter2\", expected a boolean", "expected a boolean, found a string"),
            ("invalid type: integer `5`, expected a string", "expected a string, found an integer"),
            ("cannot parse `hunter2`", "invalid TOML or an invalid value"),
            ("missing field `username`\n", "missing field `username`"),
        ] {
            assert_eq!(describe(message), expected);
        }
    }
}
