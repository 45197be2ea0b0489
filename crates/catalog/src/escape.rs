//! How text of others is printed: in a terminal, a log, a page or a table, where it must not steer anything.
//!
//! Servers, documents, records and clients choose what is in their text. Control characters move the cursor and forge lines
//! of a log; bidirectional marks make a terminal show something else than what is there; what is invisible hides. All of
//! these become `\uXXXX`, which JSON, CSV and JavaScript read as the same text, and which cannot steer anything.
//!
//! This crate is the one that all others know, which is why the one implementation is here.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// Whether a character can be printed anywhere as it is. Not: controls (C0, DEL, C1), what ends a line for Unicode,
/// bidirectional and other format characters, and what is invisible.
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

/// A text of others on one line: all that is not [printable](is_printable) is escaped, line ends and tabs too.
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

/// A text of several lines: as [`escape_line`], but for line ends and tabs, which stay. For text whose lines are our own.
///
/// What comes out of JSON is JSON with the same meaning: outside of its strings it has nothing to escape.
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

/// As JSON writes it: what is beyond four digits as two surrogates.
fn write_escape(to: &mut impl fmt::Write, c: char) -> fmt::Result {
    match c {
        '\n' => to.write_str("\\n"),
        '\r' => to.write_str("\\r"),
        '\t' => to.write_str("\\t"),
        c => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(to, "\\u{unit:04x}")),
    }
}

/// What is displayed on one line, escaped as by [`escape_line`], and after so many bytes cut off with `…`. It is not
/// built up in memory first, however long it is.
///
/// ```
/// let told = txnscope_catalog::Line::new("no such\nuser: \u{1b}[2Jann", 12);
/// assert_eq!(told.to_string(), r"no such\nuse…");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Line<T> {
    what: T,
    most: usize,
}

impl<T: fmt::Display> Line<T> {
    /// At most so many bytes of it, as they are printed.
    #[must_use]
    pub const fn new(what: T, most: usize) -> Self {
        Self { what, most }
    }
}

impl<T: fmt::Display> fmt::Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bounded = Bounded { to: f, left: self.most, is_full: false };
        // A writer that is full says so with an error, so that what is displayed can stop.
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
            // What can be printed as it is goes out in one piece.
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

/// The last boundary between two characters that is no further than `at`.
fn boundary(text: &str, at: usize) -> usize {
    // `str::floor_char_boundary` is newer than the oldest Rust that has to do.
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_character_that_steers_or_hides_is_escaped_as_json_writes_it() {
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
    fn what_can_be_printed_stays_as_it_is() {
        let text = "Zoë, 木村, Ελλάδα, مرحبا: \"\\n\" <b> €5\u{a0}– 🙂";
        assert!(matches!(escape_line(text), Cow::Borrowed(same) if same == text));
        assert_eq!(Line::new(text, 500).to_string(), text);
    }

    #[test]
    fn the_lines_of_a_text_stay_and_nothing_else_of_it_steers() {
        assert_eq!(escape_text("a\nb\r\tc\u{2028}d"), "a\nb\\r\tc\\u2028d");
    }

    #[test]
    fn a_line_is_cut_off_at_its_bound_between_two_characters() {
        for (text, most, shown) in [
            ("", 0, ""),
            ("abc", 3, "abc"),
            ("abcd", 3, "abc…"),
            ("ää", 3, "ä…"),
            ("a\u{1b}b", 6, "a…"),
            ("a\u{1b}b", 7, "a\\u001b…"),
            ("a\u{1b}", 7, "a\\u001b"),
        ] {
            assert_eq!(Line::new(text, most).to_string(), shown, "{text:?} {most}");
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
