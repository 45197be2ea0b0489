//! Entry points for the fuzzer. They are not part of the public API and change with the code behind them.

use mongodb::bson::Bson;

use crate::repair::{RepairRecord, agrees, named};
use crate::{Checks, pipeline};

/// Parses a check file and builds the pipelines of its checks.
pub fn checks(text: &str) {
    let Ok(checks) = Checks::parse(text) else { return };
    for check in checks.iter() {
        let _ =
            (pipeline::violations(check), pipeline::sources(check), pipeline::sample_projection(check, true));
    }
}

/// Parses a repair record from JSON. A parsed record must roundtrip, and only a record that agrees with the check may
/// be undone.
///
/// # Panics
///
/// If a record does not roundtrip, or a record that contradicts the check is accepted.
pub fn record(bytes: &[u8]) {
    let Ok(Bson::Document(stored)) = serde_json::from_slice(bytes) else { return };
    let Ok(record) = RepairRecord::from_document(&stored) else { return };
    let again = RepairRecord::from_document(&record.to_document());
    assert!(again.is_ok_and(|again| format!("{again:?}") == format!("{record:?}")), "{record:?}");
    let Ok(checks) = Checks::parse(CHECK) else { unreachable!("the check is constant and valid") };
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
        let files = ["examples/ledger/checks.toml", "examples/node-backend/checks.toml"];
        assert_no_panic("checks", &files, 500, text(checks));
    }

    #[test]
    fn malformed_repair_record_does_not_panic_and_roundtrips() {
        assert_no_panic("record", &[], 2_000, record);
    }
}
