//! Valid check files, and check files with every known kind of error.

use std::time::Duration;

use mongodb::bson::{Bson, doc};
use mongodb::options::ReadPreference;

use super::*;
use crate::check::{Rule, Severity};

const HEAD: &str = "[[check]]\nname = \"a\"\nseverity = \"critical\"\ndatabase = \"d\"\ncollection = \"c\"\n";

fn check(rule: &str) -> Result<Check, FileError> {
    Checks::parse(&format!("{HEAD}{rule}")).map(|checks| checks.0.into_iter().next().unwrap())
}

#[test]
fn defaults_apply_to_keys_that_a_check_omits() {
    let text = r#"
        [defaults]
        database = "shop"
        severity = "warning"
        interval = "1h"
        read_preference = "secondaryPreferred"

        [[check]]
        name = "first"
        collection = "c"
        forbid = '{}'

        [[check]]
        name = "second"
        severity = "critical"
        collection = "c"
        interval = "1h 30m"
        max_time = "5s"
        read_preference = "primary"
        forbid = '{}'
    "#;
    let checks = Checks::parse(text).unwrap();
    let [first, second] = [checks.find("first").unwrap(), checks.find("second").unwrap()];
    assert_eq!((first.severity, first.database.as_str()), (Severity::Warning, "shop"));
    assert_eq!((first.interval, first.max_time), (Duration::from_secs(3600), Duration::from_secs(60)));
    assert_eq!(first.read_preference, ReadPreference::SecondaryPreferred { options: None });
    assert_eq!(second.severity, Severity::Critical);
    assert_eq!((second.interval, second.max_time), (Duration::from_secs(5400), Duration::from_secs(5)));
    assert_eq!(second.read_preference, ReadPreference::Primary);
}

#[test]
fn javascript_requires_allow_javascript() {
    let function = r#"{ "$function": { "body": "f", "args": [], "lang": "js" } }"#;
    for rule in [
        "forbid = '{ \"$where\": \"true\" }'".to_owned(),
        format!("forbid = '{{ \"$expr\": {function} }}'"),
        format!("pipeline = '[ {{ \"$set\": {{ \"a\": [ {function} ] }} }} ]'"),
        "pipeline = '[ { \"$group\": { \"_id\": null, \"a\": { \"$accumulator\": {} } } } ]'".to_owned(),
        format!("derived = {{ field = \"a\", expression = '{function}' }}"),
        format!("derived = {{ field = \"a\", expression = '1', where = '{{ \"$expr\": {function} }}' }}"),
        format!(
            "derived = {{ field = \"a\", expression = '1', stages = '[ {{ \"$set\": {{ \"b\": {function} }} }} ]' }}"
        ),
        format!("balance = {{ left = {{ sum = '1' }}, right = {{ sum = '{function}' }} }}"),
        format!(
            "balance = {{ left = {{ sum = '1', by = '{function}' }}, right = {{ sum = '1', by = '1' }} }}"
        ),
        format!(
            "balance = {{ left = {{ sum = '1', where = '{{ \"$expr\": {function} }}' }}, right = {{ sum = '1' }} }}"
        ),
    ] {
        let refused = check(&rule).unwrap_err().to_string();
        assert!(
            refused.contains("allow_javascript = true") && refused.contains("line 1"),
            "{rule}: {refused}"
        );
        assert!(check(&format!("allow_javascript = true\n{rule}")).is_ok(), "{rule}");
        assert!(check(&format!("allow_javascript = false\n{rule}")).is_err(), "{rule}");
        let defaults = format!("[defaults]\nallow_javascript = true\n{HEAD}{rule}");
        assert!(Checks::parse(&defaults).is_ok(), "{rule}");
    }
    assert!(check("forbid = '{ \"where\": \"$function\" }'").is_ok(), "a field and a value of that name");
}

/// The order of keys matters, as in a `$sort` by two fields.
#[test]
fn key_order_and_extended_json_types_are_kept() {
    let json = r#"pipeline = '''[
        { "$sort": { "z": 1, "a": -1 } },
        { "$match": { "n": { "$numberDecimal": "0.10" }, "l": { "$numberLong": "7" }, "i": 3, "d": 2.5,
                      "id": { "$oid": "0102030405060708090a0b0c" }, "t": { "$date": "2026-01-01T00:00:00Z" },
                      "x": { "$type": "string", "$regex": "^a" } } }
    ]'''"#;
    let Rule::Pipeline(stages) = check(json).unwrap().rule else { panic!("another rule") };
    let keys: Vec<_> = stages[0].get_document("$sort").unwrap().keys().collect();
    assert_eq!(keys, ["z", "a"]);
    let filter = stages[1].get_document("$match").unwrap();
    assert!(matches!(filter.get("n"), Some(Bson::Decimal128(_))), "{filter}");
    assert_eq!(filter.get("l"), Some(&Bson::Int64(7)));
    assert_eq!(filter.get_f64("d").ok(), Some(2.5));
    assert!(filter.get_object_id("id").is_ok() && filter.get_datetime("t").is_ok(), "{filter}");
    assert_eq!(filter.get_document("x").ok(), Some(&doc! {"$type": "string", "$regex": "^a"}));
}

#[test]
fn inputs_default_to_paths_of_the_expression() {
    let rule = r#"[check.derived]
        field = "balance"
        expression = '{ "$subtract": [ { "$sum": "$in.amount" }, { "$sum": "$out.amount" } ] }'
    "#;
    let Rule::Derived(derived) = check(rule).unwrap().rule else { panic!("another rule") };
    assert_eq!(derived.inputs, ["in", "out"]);
    assert_eq!(derived.tolerance, None);
}

#[test]
fn balance_side_defaults_to_collection_of_its_check() {
    let rule = r#"[check.balance]
        tolerance = 0.005
        left = { sum = '"$debit"', by = '"$currency"' }
        right = { collection = "other", sum = '"$credit"', by = '"$currency"', where = '{ "open": true }' }
    "#;
    let Rule::Balance(balance) = check(rule).unwrap().rule else { panic!("another rule") };
    assert_eq!((balance.left.collection.as_str(), balance.right.collection.as_str()), ("c", "other"));
    assert_eq!(balance.tolerance, Some(0.005));
    assert_eq!(balance.right.filter, Some(doc! {"open": true}));
}

/// A check file, and the line and message of the expected error.
#[test]
fn each_error_is_reported_with_line_and_suggestion() {
    for (rule, line, complaint) in [
        ("forbit = '{}'", 6, "has no key `forbit`; did you mean `forbid`?"),
        ("", 1, "check `a` lacks `forbid`, `pipeline`, `derived` or `balance`"),
        ("forbid = '{}'\npipeline = '[]'", 1, "has forbid and pipeline: a check has exactly one rule"),
        ("forbid = { balance = 1 }", 6, "must be Extended JSON in single quotes"),
        ("forbid = '[]'", 6, "must be a filter"),
        ("forbid = '{ \"a\": }'", 6, "is not valid Extended JSON: expected value"),
        ("forbid = '{ \"a\": 1'", 6, "ends too early"),
        ("forbid = '{ \"a\": { \"$oid\": \"xyz\" } }'", 6, "is not valid Extended JSON"),
        ("pipeline = '{}'", 6, "must be a list of stages"),
        (
            "pipeline = '[ { \"$match\": {}, \"$limit\": 1 } ]'",
            6,
            "must be a list of stages, each with one operator",
        ),
        ("pipeline = '[ { \"$out\": \"x\" } ]'", 6, "a check never writes"),
        ("forbid = '{}'\nshow = [\"$a\"]", 7, "without $"),
        ("forbid = '{}'\nshow = \"a\"", 7, "must be a list of strings"),
        ("forbid = '{}'\ninterval = \"5\"", 7, "must be a duration with a unit"),
        ("forbid = '{}'\ninterval = 5", 7, "must be a string in quotes, not this number"),
        ("forbid = '{}'\ninterval = \"0s\"", 7, "out of range: use 1s to 7days"),
        ("forbid = '{}'\nread_preference = \"secondaryPrefered\"", 7, "did you mean `secondaryPreferred`?"),
        ("forbid = '{}'\nmay_be_missing = 1", 7, "must be true or false"),
        ("[check.derived]\nexpression = '1'", 6, "lacks `field`"),
        ("[check.derived]\nfield = \"a\"", 6, "lacks `expression`"),
        ("[check.derived]\nfield = \"_id\"\nexpression = '1'", 7, "cannot be changed"),
        ("[check.derived]\nfield = \"a\"\nexpression = '1'\ntolerance = -1", 9, "not negative"),
        ("[check.derived]\nfield = \"a\"\nexpresion = '1'", 8, "did you mean `expression`?"),
        ("[check.balance]\nleft = { sum = '1' }", 6, "lacks `right`"),
        ("[check.balance]\nleft = { sum = '1' }\nright = { by = '1' }", 8, "lacks `sum`"),
        (
            "[check.balance]\nleft = { sum = '1' }\nright = { sum = '1', by = '1' }",
            6,
            "groups are compared with groups",
        ),
        (
            "forbid = '{}'\n[[check]]\nname = \"a\"\nseverity = \"info\"\ndatabase = \"d\"\ncollection = \"c\"\nforbid = '{}'",
            7,
            "a second check has the name `a`",
        ),
        ("forbid = '{}'\n[defaults]\nseverity = \"critcal\"", 8, "did you mean `critical`?"),
        ("forbid = '{}'\n[default]\n", 7, "did you mean `defaults`?"),
        ("forbid = '{}", 6, ""),
    ] {
        let error = check(rule).expect_err(rule);
        let found = error
            .diagnostics()
            .iter()
            .any(|diagnostic| diagnostic.line == line && diagnostic.message.contains(complaint));
        assert!(found, "{rule}\nline {line} {complaint:?} is not in\n{error}");
    }
}

#[test]
fn all_errors_are_reported_in_order_of_lines() {
    let text = "[[check]]\nname = \"A b\"\nseverity = \"fatal\"\ndatabase = \"a.b\"\ncollection = \"\"\ninterval = \"x\"\nforbid = '{'\nextra = 1";
    let lines: Vec<_> =
        Checks::parse(text).unwrap_err().diagnostics().iter().map(|diagnostic| diagnostic.line).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn file_without_checks_is_rejected() {
    for text in ["", "# nothing\n", "[defaults]\ndatabase = \"a\"\n"] {
        assert!(Checks::parse(text).unwrap_err().to_string().contains("no [[check]]"), "{text:?}");
    }
    let many: String =
        (0..=MAX_CHECKS).map(|n| HEAD.replace("\"a\"", &format!("\"a{n}\"")) + "forbid = '{}'\n").collect();
    assert!(Checks::parse(&many).unwrap_err().to_string().contains("more than the 200"));
}

#[test]
fn checks_are_selected_by_name() {
    let checks = Checks::parse(&format!("{HEAD}forbid = '{{}}'")).unwrap();
    assert_eq!(checks.clone().only(&[]).unwrap(), checks);
    assert_eq!(checks.clone().only(&["a".into()]).unwrap(), checks);
    assert!(checks.only(&["b".into()]).unwrap_err().contains("no check `b`"));
}
