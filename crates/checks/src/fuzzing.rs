//! Where a fuzzer comes in. No part of the interface: it changes with what is behind it.

use mongodb::bson::Bson;

use crate::repair::{RepairRecord, agrees, named};
use crate::{Checks, pipeline};

/// A file of checks, and the pipelines of those that are in order.
pub fn checks(text: &str) {
    let Ok(checks) = Checks::parse(text) else { return };
    for check in checks.iter() {
        let _ = (pipeline::violations(check), pipeline::sources(check), pipeline::shown(check, true));
    }
}

/// A record of a repair, as JSON. What was read is written as it was, and what is believed of it is what the check says.
///
/// # Panics
///
/// If a record that was written is read as another, or one is believed that names what the check does not.
pub fn record(bytes: &[u8]) {
    let Ok(Bson::Document(stored)) = serde_json::from_slice(bytes) else { return };
    let Ok(record) = RepairRecord::from_document(&stored) else { return };
    let again = RepairRecord::from_document(&record.to_document());
    assert!(again.is_ok_and(|again| format!("{again:?}") == format!("{record:?}")), "{record:?}");
    let Ok(checks) = Checks::parse(CHECK) else { unreachable!("it is constant") };
    let Ok(check) = named(&checks, &record) else { return };
    let [numbers, any] = [false, true].map(|any_value| agrees(check, "ledger", &record, any_value).is_ok());
    assert!(any || !numbers, "{record:?}");
    assert!(
        !any || (record.collection == "retainers" && record.field == "balance" && record.undoes.is_none()),
        "{record:?}"
    );
    let is_plain = matches!(
        record.before,
        None | Some(Bson::Null | Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_))
    );
    assert!(is_plain || !numbers, "{record:?}");
}

const CHECK: &str = r#"
    [[check]]
    name = "balance"
    severity = "critical"
    database = "ledger"
    collection = "retainers"
    derived = { field = "balance", expression = '{ "$sum": "$in" }', type = "long" }
"#;

#[cfg(test)]
mod tests {
    use testkit::assert_no_panic;

    use super::*;

    fn text(read: impl Fn(&str)) -> impl Fn(&[u8]) {
        move |bytes| read(&String::from_utf8_lossy(bytes))
    }

    #[test]
    fn malformed_check_file_does_not_panic() {
        let files = ["examples/ledger/checks.toml", "crates/checks/samples/mongoose.toml"];
        assert_no_panic("checks", &files, 500, text(checks));
    }

    #[test]
    fn malformed_repair_record_does_not_panic_and_roundtrips() {
        assert_no_panic("record", &[], 2_000, record);
    }
}
