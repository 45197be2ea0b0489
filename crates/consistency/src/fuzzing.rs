//! Where a fuzzer comes in. No part of the interface: it changes with what is behind it.

use mongodb::bson::Bson;

use crate::Checks;
use crate::pipeline;
use crate::repair::Record;

/// A file of checks, and the pipelines of those that are in order.
pub fn checks(text: &str) {
    let Ok(checks) = Checks::parse(text) else { return };
    for check in checks.iter() {
        let _ = (pipeline::violations(check), pipeline::sources(check), pipeline::shown(check, true));
    }
}

/// A record of a repair, as JSON. What was read is written as it was.
///
/// # Panics
///
/// If a record that was written is read as another.
pub fn record(bytes: &[u8]) {
    let Ok(Bson::Document(stored)) = serde_json::from_slice(bytes) else { return };
    let Ok(record) = Record::from_document(&stored) else { return };
    let again = Record::from_document(&record.to_document());
    assert!(again.is_ok_and(|again| format!("{again:?}") == format!("{record:?}")), "{record:?}");
}

#[cfg(test)]
mod tests {
    use testkit::survives;

    use super::*;

    fn text(read: impl Fn(&str)) -> impl Fn(&[u8]) {
        move |bytes| read(&String::from_utf8_lossy(bytes))
    }

    #[test]
    fn no_file_of_checks_is_a_panic() {
        let files = ["crates/ledger/checks.toml", "crates/consistency/samples/mongoose.toml"];
        survives("checks", &files, 500, text(checks));
    }

    #[test]
    fn no_record_is_a_panic_or_read_as_another() {
        survives("record", &[], 2_000, record);
    }
}
