//! What the driver knows of a session and shows nowhere but in its debug form.

use std::fmt::{self, Write as _};

use mongodb::ClientSession;

/// The number of the session's transaction. The driver shows it only in the debug form of the session, which is read
/// up to there and no further; a driver that writes it otherwise costs the number and nothing else.
pub(super) fn txn_number(session: &ClientSession) -> Option<i64> {
    let mut probe = Probe::after(b"txn_number: ");
    // The end that the probe asks for by an error is what is wanted.
    let _ = write!(probe, "{session:?}");
    probe.number()
}

/// Whether the session has lost an answer, in the driver's own words.
pub(super) fn is_dirty(session: &ClientSession) -> bool {
    let mut probe = Probe::after(b"dirty: ");
    // The end that the probe asks for by an error is what is wanted.
    let _ = write!(probe, "{session:?}");
    probe.text.starts_with(b"true")
}

/// Reads what stands behind a field's name, and ends the formatting there.
struct Probe {
    field: &'static [u8],
    matched: usize,
    text: [u8; 18],
    len: usize,
}

impl Probe {
    fn after(field: &'static [u8]) -> Self {
        Self { field, matched: 0, text: [0; 18], len: 0 }
    }

    fn number(&self) -> Option<i64> {
        std::str::from_utf8(&self.text[..self.len]).ok()?.parse().ok()
    }
}

impl fmt::Write for Probe {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.matched == self.field.len() {
                if !byte.is_ascii_alphanumeric() || self.len == self.text.len() {
                    return Err(fmt::Error);
                }
                self.text[self.len] = byte;
                self.len += 1;
            } else if byte == self.field[self.matched] {
                self.matched += 1;
            } else {
                self.matched = usize::from(byte == self.field[0]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_number_is_read_from_the_drivers_own_account() {
        let client = mongodb::Client::with_uri_str("mongodb://127.0.0.1:1/").await.unwrap();
        let session = client.start_session().await.unwrap();
        assert_eq!(txn_number(&session), Some(0));
        let mut probe = Probe::after(b"dirty: ");
        let _ = write!(probe, "{session:?}");
        assert_eq!(&probe.text[..probe.len], b"false");
    }

    #[test]
    fn a_form_without_the_number_costs_the_number_only() {
        let probe = |text: &str| {
            let mut probe = Probe::after(b"txn_number: ");
            let _ = probe.write_str(text);
            probe.number()
        };
        assert_eq!(probe("ServerSession { dirty: false, txn_number: 42, more: 7 }"), Some(42));
        assert_eq!(probe("ttxn_number: 7}"), Some(7));
        assert_eq!(probe("txn_number: -1"), None);
        assert_eq!(probe("txn: 3"), None);
        assert_eq!(probe("txn_number: 99999999999999999999"), Some(999_999_999_999_999_999));
    }
}
