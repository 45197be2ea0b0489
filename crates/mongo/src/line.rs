//! The one line of a file or a variable that holds a secret.

use std::path::Path;

use crate::file::{SECRET_LIMIT, read_file};

/// Why a text is not the one line that it should be. Repeats nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// There is more in it than one line.
    #[error("it has a second line, and one line is all that it may hold")]
    SecondLine,
    /// There is a tab in it, an escape, or the like.
    #[error("it has a control character in it, such as a tab or an escape")]
    Control,
    /// Its bytes are no text.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

/// The line that a text consists of, without white space, line ends and a byte order mark around it.
///
/// # Errors
///
/// If there is none or more than one, or a control character in it.
pub fn one_line(text: &str) -> Result<&str, LineError> {
    let line = text.trim_start_matches('\u{feff}').trim();
    if line.is_empty() {
        return Err(LineError::Empty);
    }
    clean(line)?;
    Ok(line)
}

/// The line that a file consists of: a regular file of at most [`SECRET_LIMIT`] bytes.
///
/// # Errors
///
/// If it cannot be read, or as [`one_line`] does.
pub fn read_one_line(file: &Path) -> Result<String, LineError> {
    let bytes = read_file(file, SECRET_LIMIT).map_err(|error| LineError::Unreadable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| LineError::NotUtf8)?;
    one_line(&text).map(str::to_owned)
}

/// Refuses line ends and control characters.
pub(crate) fn clean(line: &str) -> Result<(), LineError> {
    // What Unicode ends a line with is none of C's control characters.
    if line.contains(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) {
        return Err(LineError::SecondLine);
    }
    if line.chars().any(char::is_control) { Err(LineError::Control) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newline_after_a_secret_is_trimmed_and_a_second_line_or_a_control_character_is_refused() {
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
