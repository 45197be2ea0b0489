//! Escaping of untrusted text, so that it cannot steer a terminal, a log, a page or a table.
//!
//! Servers, documents, records and clients choose the contents of their text. Control characters move the cursor
//! and forge log lines; bidirectional marks make a terminal show something else than the text; invisible
//! characters hide. All of these become `\uXXXX`, which JSON, CSV and JavaScript read as the same text, and
//! which steers nothing.
//!
//! This crate is a dependency of all others, so the one implementation is here.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// Whether a character can be printed as it is. Excluded are control characters (C0, DEL, C1), Unicode line
/// ends, bidirectional and other format characters, and invisible ones.
///
/// ```
/// assert!("aä木 \\\"".chars().all(txnscope_catalog::is_printable));
/// assert!(!"\n\u{1b}\u{9b}\u{202e}\u{2028}\u{feff}".chars().any(txnscope_catalog::is_printable));
/// ```
#[must_use]
pub const fn is_printable(c: char) -> bool {
    // Most text is ASCII.
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    !matches!(
        c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{fffe}'..='\u{ffff}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Escapes text for one line: all characters that are not [printable](is_printable), including line ends and
/// tabs.
///
/// ```
/// use txnscope_catalog::escape_line;
///
/// assert_eq!(escape_line("plain"), "plain");
/// assert_eq!(escape_line("a\nlevel=info \u{1b}[2J\u{202e}"), r"a\nlevel=info \u001b[2J\u202e");
/// ```
#[must_use]
pub fn escape_line(text: &str) -> Cow<'_, str> {
    escape(text, is_printable)
}

/// Escapes text of several lines: like [`escape_line`], but keeps line ends and tabs. For text whose line
/// structure is trusted.
///
/// Escaped JSON is JSON with the same meaning: outside of its strings there is nothing to escape.
#[must_use]
pub fn escape_text(text: &str) -> Cow<'_, str> {
    escape(text, |c| matches!(c, '\n' | '\t') || is_printable(c))
}

fn escape(text: &str, is_kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(&is_kept) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_kept(c) {
            escaped.push(c);
        } else {
            let _ = write_escape(&mut escaped, c);
        }
    }
    Cow::Owned(escaped)
}

/// As in JSON: code points beyond four digits become two surrogates.
fn write_escape(to: &mut impl fmt::Write, c: char) -> fmt::Result {
    match c {
        '\n' => to.write_str("\\n"),
        '\r' => to.write_str("\\r"),
        '\t' => to.write_str("\\t"),
        c => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(to, "\\u{unit:04x}")),
    }
}

/// Displays a value on one line, escaped like [`escape_line`], and truncated with `…`. The value is not
/// formatted in memory first, however long it is.
///
/// ```
/// let line = txnscope_catalog::Line::new("no such\nuser: \u{1b}[2Jann", 12);
/// assert_eq!(line.to_string(), r"no such\nuse…");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Line<T> {
    what: T,
    max: usize,
}

impl<T: fmt::Display> Line<T> {
    /// Displays a value, truncated to this many bytes of escaped text.
    #[must_use]
    pub const fn new(what: T, max: usize) -> Self {
        Self { what, max }
    }
}

impl<T: fmt::Display> fmt::Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bounded = Bounded { to: f, left: self.max, is_full: false };
        // The writer returns an error when it is full, which stops the formatting.
        match write!(bounded, "{}", self.what) {
            Err(_) if bounded.is_full => f.write_str("…"),
            ended => ended,
        }
    }
}

struct Bounded<'a, 'f> {
    to: &'a mut fmt::Formatter<'f>,
    left: usize,
    is_full: bool,
}

impl fmt::Write for Bounded<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            // Printable characters are written in one piece.
            let plain = rest.find(|c| !is_printable(c)).unwrap_or(rest.len());
            if plain > 0 {
                let fits = boundary(rest, plain.min(self.left));
                self.to.write_str(&rest[..fits])?;
                self.left -= fits;
                if fits < plain {
                    self.is_full = true;
                    return Err(fmt::Error);
                }
                rest = &rest[plain..];
                continue;
            }
            let mut escape = String::with_capacity(12);
            write_escape(&mut escape, c)?;
            if escape.len() > self.left {
                self.is_full = true;
                return Err(fmt::Error);
            }
            self.to.write_str(&escape)?;
            self.left -= escape.len();
            rest = &rest[c.len_utf8()..];
        }
        Ok(())
    }
}

/// The last character boundary that is not after `at`.
fn boundary(text: &str, at: usize) -> usize {
    // `str::floor_char_boundary` is newer than the minimum supported Rust version.
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_invisible_characters_are_escaped_as_json() {
        for (c, escaped) in [
            ('\0', "\\u0000"),
            ('\n', "\\n"),
            ('\r', "\\r"),
            ('\t', "\\t"),
            ('\u{1b}', "\\u001b"),
            ('\u{7f}', "\\u007f"),
            ('\u{85}', "\\u0085"),
            ('\u{9b}', "\\u009b"),
            ('\u{ad}', "\\u00ad"),
            ('\u{61c}', "\\u061c"),
            ('\u{200b}', "\\u200b"),
            ('\u{200e}', "\\u200e"),
            ('\u{200f}', "\\u200f"),
            ('\u{2028}', "\\u2028"),
            ('\u{2029}', "\\u2029"),
            ('\u{202a}', "\\u202a"),
            ('\u{202e}', "\\u202e"),
            ('\u{2060}', "\\u2060"),
            ('\u{2066}', "\\u2066"),
            ('\u{2069}', "\\u2069"),
            ('\u{feff}', "\\ufeff"),
            ('\u{e0041}', "\\udb40\\udc41"),
        ] {
            let text = format!("a{c}ä");
            assert_eq!(escape_line(&text), format!("a{escaped}ä"));
            assert_eq!(Line::new(&text, 99).to_string(), format!("a{escaped}ä"));
            assert!(!is_printable(c));
        }
        for c in (0..=0x10_ffff).filter_map(char::from_u32).filter(|c| c.is_control()) {
            assert!(!is_printable(c), "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn printable_text_is_unchanged() {
        let text = "Zoë, 木村, Ελλάδα, مرحبا: \"\\n\" <b> €5\u{a0}– 🙂";
        assert!(matches!(escape_line(text), Cow::Borrowed(same) if same == text));
        assert_eq!(Line::new(text, 500).to_string(), text);
    }

    #[test]
    fn escape_text_keeps_line_ends_and_tabs() {
        assert_eq!(escape_text("a\nb\r\tc\u{2028}d"), "a\nb\\r\tc\\u2028d");
    }

    #[test]
    fn line_is_truncated_at_a_character_boundary() {
        for (text, max, shown) in [
            ("", 0, ""),
            ("abc", 3, "abc"),
            ("abcd", 3, "abc…"),
            ("ää", 3, "ä…"),
            ("a\u{1b}b", 6, "a…"),
            ("a\u{1b}b", 7, "a\\u001b…"),
            ("a\u{1b}", 7, "a\\u001b"),
        ] {
            assert_eq!(Line::new(text, max).to_string(), shown, "{text:?} {max}");
        }
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("and so on ")?;
                }
            }
        }
        assert_eq!(Line::new(Endless, 15).to_string(), "and so on and s…");
    }
}
