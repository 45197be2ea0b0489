//! Reads fields of a session that the driver exposes only in its `Debug` output.
//!
//! Correct cleanup does not depend on this text: an unknown format selects the cautious path, and is logged once as a
//! warning.

use std::fmt::{self, Write as _};
use std::sync::Once;

use mongodb::ClientSession;

/// The fields in the `Debug` output of a session; `None` if a field is missing or has an unknown format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SessionState {
    /// A fingerprint of the time of the session's last use. The driver sets that time whenever it builds a command
    /// for a connection: as long as it is unchanged, nothing was sent in the session.
    last_use_hash: Option<u64>,
    /// Whether a connection was lost while waiting for a reply.
    dirty: Option<bool>,
    txn_number: Option<i64>,
}

impl SessionState {
    pub(super) fn of(session: &ClientSession) -> Self {
        let mut reader = DebugFieldReader::default();
        // The reader stops the formatting by an error after the last field.
        let _ = write!(reader, "{session:?}");
        let state = reader.state();
        if state.last_use_hash.is_none() || state.dirty.is_none() {
            warn_once();
        }
        state
    }

    /// Returns the number of the session's transaction, for the log only.
    pub(super) fn txn_number(self) -> Option<i64> {
        self.txn_number
    }

    /// Whether certainly no command was sent in the session since `before`.
    pub(super) fn is_unused_since(self, before: Self) -> bool {
        self.last_use_hash.is_some() && self.last_use_hash == before.last_use_hash
    }

    /// Whether a reply may have been lost in the session.
    pub(super) fn may_have_lost_an_answer(self) -> bool {
        self.dirty != Some(false)
    }
}

fn warn_once() {
    static UNKNOWN: Once = Once::new();
    UNKNOWN.call_once(|| {
        tracing::warn!(
            "the Debug output of a session has an unknown format in this version of the mongodb driver: every transaction \
             that does not commit is ended by killing its session, which costs one more command; use a version of \
             txnscope that supports this driver"
        );
    });
}

/// The fields, in the order of the driver's `Debug` output: `… last_use: Instant { … }, dirty: false, txn_number: 7
/// …`.
const FIELDS: [&[u8]; 3] = [b"last_use: ", b", dirty: ", b", txn_number: "];

/// Reads the fields, and stops the formatting after the last one.
struct DebugFieldReader {
    /// How many field names were found.
    found: usize,
    /// How many bytes of the next name were matched.
    matched: usize,
    /// The hash of the text between the first and the second name.
    fingerprint: u64,
    dirty: Token,
    number: Token,
}

impl Default for DebugFieldReader {
    fn default() -> Self {
        /// The offset basis of FNV-1a.
        const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        Self { found: 0, matched: 0, fingerprint: BASIS, dirty: Token::default(), number: Token::default() }
    }
}

impl DebugFieldReader {
    fn state(&self) -> SessionState {
        SessionState {
            last_use_hash: (self.found >= 2).then_some(self.fingerprint),
            dirty: match self.dirty.as_bytes() {
                b"false" => Some(false),
                b"true" => Some(true),
                _ => None,
            },
            txn_number: std::str::from_utf8(self.number.as_bytes()).ok().and_then(|text| text.parse().ok()),
        }
    }

    fn read(&mut self, byte: u8) -> fmt::Result {
        match self.found {
            1 => self.fingerprint = (self.fingerprint ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3),
            2 => {
                self.dirty.push(byte);
            }
            3 if !self.number.push(byte) => return Err(fmt::Error),
            _ => {}
        }
        if let Some(name) = FIELDS.get(self.found) {
            if byte == name[self.matched] {
                self.matched += 1;
            } else {
                self.matched = usize::from(byte == name[0]);
            }
            if self.matched == name.len() {
                self.found += 1;
                self.matched = 0;
            }
        }
        Ok(())
    }
}

impl fmt::Write for DebugFieldReader {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().try_for_each(|byte| self.read(byte))
    }
}

/// A word of letters and digits, up to the first byte that is neither.
#[derive(Default)]
struct Token {
    bytes: [u8; 18],
    len: usize,
    ended: bool,
}

impl Token {
    /// `false` once the word has ended.
    fn push(&mut self, byte: u8) -> bool {
        self.ended |= !byte.is_ascii_alphanumeric() || self.len == self.bytes.len();
        if !self.ended {
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        !self.ended
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(text: &str) -> SessionState {
        let mut reader = DebugFieldReader::default();
        let _ = reader.write_str(text);
        reader.state()
    }

    #[tokio::test]
    async fn session_debug_format_is_parsed() {
        let client =
            mongodb::Client::with_uri_str("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1").await.unwrap();
        let session = client.start_session().await.unwrap();
        let before = SessionState::of(&session);
        assert_eq!((before.dirty, before.txn_number), (Some(false), Some(0)));
        assert!(before.last_use_hash.is_some() && !before.may_have_lost_an_answer());
        assert!(SessionState::of(&session).is_unused_since(before));
    }

    #[test]
    fn used_session_has_different_fingerprint() {
        let at = |nanos: u32| {
            state(&format!(
                "ServerSession {{ id: 1, last_use: Instant {{ tv_sec: 5, tv_nsec: {nanos} }}, dirty: false, txn_number: 42 }}, c"
            ))
        };
        assert!(at(7).is_unused_since(at(7)) && !at(8).is_unused_since(at(7)));
        assert_eq!(at(7).txn_number(), Some(42));
    }

    #[test]
    fn unknown_session_format_counts_as_dirty_and_used() {
        for text in [
            "",
            "ServerSession { .. }",
            "ServerSession { last_use: 5, clean: true, txn_number: 1 }",
            "ServerSession { last_use: 5, dirty: no, txn_number: 1 }",
            "ServerSession { last_use: 5, dirty: falsely, txn_number: 1 }",
            "ServerSession { dirty: false, last_use: 5, txn_number: 1 }",
            "ServerSession { id: 1, dirty: , txn_number: 7",
        ] {
            let read = state(text);
            assert!(read.may_have_lost_an_answer(), "{text}");
        }
        let unknown = state("ServerSession { when: 5, dirty: false, txn_number: 1 }");
        assert!(!unknown.is_unused_since(unknown), "{unknown:?}");
        assert!(state("last_use: 5, dirty: true, txn_number: 1 ").may_have_lost_an_answer());
    }

    #[test]
    fn missing_txn_number_loses_only_the_number() {
        let number = |text: &str| state(&format!("last_use: 5, dirty: false{text}"));
        for (text, expected) in [
            (", txn_number: 7}", Some(7)),
            (", ttxn_number: 7}", None),
            (", txn_number: -1", None),
            (", txn: 3", None),
            (", txn_number: 99999999999999999999", Some(999_999_999_999_999_999)),
        ] {
            assert_eq!(number(text).txn_number, expected, "{text}");
            assert_eq!(number(text).dirty, Some(false), "{text}");
        }
    }
}
