//! Balances of two sums that an audit must not report as clean.

use mongodb::bson::{Bson, Document, doc};
use txnscope_checks::{CheckResult, Reason};

use super::environment::{Money, check_of, decimal};

fn balance(left: &str, right: &str, by: &str) -> String {
    let by = if by.is_empty() { String::new() } else { format!(", by = '{by}'") };
    format!("[check.balance]\nleft = {{ sum = '{left}'{by} }}\nright = {{ sum = '{right}'{by} }}")
}

fn line(debit: impl Into<Bson>, credit: impl Into<Bson>) -> Document {
    doc! {"cur": "EUR", "debit": debit.into(), "credit": credit.into()}
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_reports_non_numeric_amounts_of_a_balance() {
    let money = Money::start().await;
    let check = check_of("gl", &balance("\"$debit\"", "\"$credit\"", "\"$cur\""));
    let (five, zero) = (Bson::Int64(5), Bson::Int64(0));
    for (what, lines) in [
        ("texts", vec![line("100.00", "40.00")]),
        ("one text of 900 among numbers", vec![line(5, 0), line(0, 5), line("900", 0)]),
        ("null", vec![line(5, 5), line(Bson::Null, 0)]),
        ("an amount that is missing", vec![line(5, 5), doc! {"cur": "EUR", "debit": 0}]),
        ("a list", vec![line(vec![Bson::Int32(5)], 0)]),
        ("an object", vec![line(doc! {"cents": 5}, 0)]),
        ("NaN on both sides", vec![line(f64::NAN, f64::NAN)]),
        ("Infinity on both sides", vec![line(f64::INFINITY, f64::INFINITY)]),
        ("NaN as a decimal", vec![line(decimal("NaN"), decimal("NaN"))]),
        ("no group", vec![doc! {"debit": &five, "credit": &five}]),
        ("null for a group", vec![doc! {"cur": Bson::Null, "debit": &five, "credit": &five}]),
        (
            "a cent, beyond a double",
            vec![line(1_i64 << 53, zero.clone()), line(1_i64, 1_i64 << 53), line(0.0, 0.0)],
        ),
        ("a cent, beyond a long", vec![line(i64::MAX, i64::MAX), line(2_i64, 1_i64)]),
    ] {
        money.fill("gl", &lines).await;
        match money.audit(&check).await {
            CheckResult::Violated { count: 1, .. } => {}
            other => panic!("{what}: {other:?}"),
        }
    }
    for (what, lines) in [
        ("ints and longs", vec![line(5, 0), line(0, 5_i64)]),
        ("decimals and doubles", vec![line(decimal("0.30"), 0.1), line(0, 0.2)]),
        ("beyond a double", vec![line(1_i64 << 53, (1_i64 << 53) + 1), line(1_i64, 0.0)]),
        ("beyond a long", vec![line(i64::MAX, i64::MAX), line(2_i64, 2_i64)]),
    ] {
        money.fill("gl", &lines).await;
        assert!(money.wrong(&check).await.is_empty(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_shows_non_numeric_part_of_a_balance() {
    let money = Money::start().await;
    let check = check_of("gl", &balance("\"$debit\"", "\"$credit\"", "\"$cur\""));
    let mut invalid = line("900", 0);
    invalid.insert("_id", "invalid");
    money.fill("gl", &[line(5, 5), invalid]).await;
    let CheckResult::Violated { sample, .. } = money.audit(&check).await else { panic!("clean") };
    let shown = sample[0].get_document("notNumbers").unwrap();
    assert_eq!(shown.get("count"), Some(&Bson::Int32(1)), "{shown}");
    assert!(shown.to_string().contains("\"invalid\"") && shown.to_string().contains("\"900\""), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_fails_on_misspelled_paths_of_both_sides() {
    let money = Money::start().await;
    money.fill("gl", &[line(5, 0), line(0, 4)]).await;
    let misspelled = check_of("gl", &balance("\"$debits\"", "\"$credits\"", ""));
    assert!(matches!(money.audit(&misspelled).await, CheckResult::Violated { .. }));
    let group = check_of("gl", &balance("\"$debit\"", "\"$credit\"", "\"$currency\""));
    assert!(matches!(money.audit(&group).await, CheckResult::Violated { .. }));
    let optional = |side: &str| format!("{{ \"$ifNull\": [ \"${side}\", 0 ] }}");
    let misspelled = check_of("gl", &balance(&optional("debits"), &optional("credits"), ""));
    let CheckResult::Failed(failure) = money.audit(&misspelled).await else {
        panic!("a blind check was reported as clean")
    };
    assert_eq!(failure.reason, Reason::InvalidQuery);
    assert!(failure.message.contains("no document of gl has the field debits that is compared"), "{failure}");
    // The filters of both sides match nothing.
    let filtered =
        balance("\"$debit\"", "\"$credit\"", "").replace(" }", ", where = '{ \"state\": \"final\" }' }");
    let CheckResult::Failed(failure) = money.audit(&check_of("gl", &filtered)).await else {
        panic!("a blind check was reported as clean")
    };
    assert!(failure.message.contains("has the field state of its `where`"), "{failure}");
}

/// A general ledger whose lines have either the one amount or the other.
#[tokio::test(flavor = "multi_thread")]
async fn balance_default_replaces_absent_amount() {
    let money = Money::start().await;
    let optional = |side: &str| format!("{{ \"$ifNull\": [ \"${side}\", 0 ] }}");
    let check = check_of("gl", &balance(&optional("debit"), &optional("credit"), "\"$cur\""));
    money.fill("gl", &[doc! {"cur": "EUR", "debit": 5}, doc! {"cur": "EUR", "credit": 5}]).await;
    assert!(money.wrong(&check).await.is_empty());
    money.fill("gl", &[doc! {"cur": "EUR", "debit": 5}, doc! {"cur": "EUR", "credit": "5"}]).await;
    assert_eq!(money.wrong(&check).await, ["EUR".into()]);
}

/// A string would fail the whole aggregation; it must be a violation of its group instead.
#[tokio::test(flavor = "multi_thread")]
async fn arithmetic_on_string_is_a_violation() {
    let money = Money::start().await;
    let rule = balance(r#"{ "$subtract": [ "$debit", "$credit" ] }"#, "0", "\"$cur\"");
    let check = check_of("gl", &rule);
    money.fill("gl", &[line(5, 5), line(5, "5"), doc! {"cur": "USD", "debit": 5, "credit": 5}]).await;
    assert_eq!(money.wrong(&check).await, ["EUR".into()]);
}
