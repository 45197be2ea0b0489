//! Secrets that consist of one line, from a file or a variable.

use std::path::Path;

use crate::file::{SECRET_LIMIT, read_file};

/// Why a text is not a single line. Repeats nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// The text has more than one line.
    #[error("it has a second line, and one line is all that it may hold")]
    SecondLine,
    /// The text has a tab, an escape, or another control character.
    #[error("it has a control character in it, such as a tab or an escape")]
    Control,
    /// The text is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

/// The only line of a text, without surrounding white space, line ends and byte order mark.
///
/// # Errors
///
/// If the text is empty, has several lines, or a control character.
pub fn one_line(text: &str) -> Result<&str, LineError> {
    let line = text.trim_start_matches('\u{feff}').trim();
    if line.is_empty() {
        return Err(LineError::Empty);
    }
    check_single_line(line)?;
    Ok(line)
}

/// The only line of a file: a regular file of at most [`SECRET_LIMIT`] bytes.
///
/// # Errors
///
/// If the file cannot be read, or as [`one_line`].
pub fn read_one_line(file: &Path) -> Result<String, LineError> {
    let bytes = read_file(file, SECRET_LIMIT).map_err(|error| LineError::Unreadable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| LineError::NotUtf8)?;
    one_line(&text).map(str::to_owned)
}

/// Rejects line ends and control characters.
pub(crate) fn check_single_line(line: &str) -> Result<(), LineError> {
    // Unicode's line ends are not all control characters.
    if line.contains(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) {
        return Err(LineError::SecondLine);
    }
    if line.chars().any(char::is_control) { Err(LineError::Control) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_line_is_trimmed_and_control_characters_rejected() {
        for text in ["hunter2", "hunter2\n", "hunter2\r\n", "\u{feff}hunter2\n", " hunter2 \n\n"] {
            assert_eq!(one_line(text), Ok("hunter2"), "{text:?}");
        }
        for (text, error) in [
            ("", LineError::Empty),
            ("\n", LineError::Empty),
            ("hunter2\nhunter3", LineError::SecondLine),
            ("hunter2\rhunter3", LineError::SecondLine),
            ("hunter2\u{2028}hunter3", LineError::SecondLine),
            ("hun\tter2", LineError::Control),
            ("hun\u{1b}[31mter2", LineError::Control),
            ("hun\0ter2", LineError::Control),
        ] {
            let refused = one_line(text).unwrap_err();
            assert!(refused == error && !refused.to_string().contains("hun"), "{text:?}: {refused}");
        }
    }
}
