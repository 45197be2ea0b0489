//! Non-numeric parts of a sum, in every form.

use std::collections::BTreeMap;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, Document, doc};
use txnscope_checks::{Check, CheckResult, Checks};

use super::environment::{EMBEDDED, LINES, Money, check, decimal};

/// Values that are not a list of numbers, each with the expected message.
fn damaged() -> Vec<(&'static str, Bson, &'static str)> {
    let list = |amounts: Vec<Bson>| {
        Bson::Array(amounts.into_iter().map(|amount| doc! {"amount": amount}.into()).collect())
    };
    let hundred = || Bson::Int64(100);
    let entry = || Bson::from(doc! {"amount": 100_i64});
    vec![
        ("a text among amounts", list(vec![hundred(), "50".into()]), r#"{"amount":"50"}"#),
        ("an object among amounts", list(vec![hundred(), doc! {"cents": 50}.into()]), r#""cents":50"#),
        ("null among amounts", list(vec![hundred(), Bson::Null]), r#"{"amount":null}"#),
        ("true among amounts", list(vec![hundred(), true.into()]), r#"{"amount":true}"#),
        ("a date among amounts", list(vec![hundred(), DateTime::from_millis(50).into()]), "$date"),
        ("an id among amounts", list(vec![hundred(), ObjectId::new().into()]), "$oid"),
        ("NaN among amounts", list(vec![hundred(), f64::NAN.into()]), "NaN"),
        ("NaN as a decimal", list(vec![hundred(), decimal("NaN")]), "NaN"),
        ("Infinity among amounts", list(vec![hundred(), f64::INFINITY.into()]), "Infinity"),
        ("-Infinity as a decimal", list(vec![hundred(), decimal("-Infinity")]), "Infinity"),
        ("a list for an amount", list(vec![hundred(), vec![Bson::Int64(50)].into()]), r#"{"amount":[50]}"#),
        (
            "an entry without amount",
            Bson::Array(vec![entry(), doc! {"amonut": 50}.into()]),
            r#"{"amonut":50}"#,
        ),
        ("a number for an entry", Bson::Array(vec![entry(), 50.into()]), "amount: 50 "),
        ("a text for an entry", Bson::Array(vec![entry(), "50".into()]), r#"amount: "50" "#),
        ("null for an entry", Bson::Array(vec![entry(), Bson::Null]), "amount: null"),
        ("a list in the list", Bson::Array(vec![entry(), Bson::Array(vec![entry()])]), r#"[{"amount":100}]"#),
        ("an object for the list", entry(), r#"{"amount":100} is not a list"#),
        ("a text for the list", "100".into(), r#""100" is not a list"#),
        ("a number for the list", Bson::Int64(100), "100 is not a list"),
        ("null for the list", Bson::Null, "null is not a list"),
        ("lists by a key", doc! {"0": {"amount": 100_i64}}.into(), "is not a list"),
    ]
}

/// Documents with each kind of corruption in `deposits`, one that has drifted and one that is right.
fn documents(names: [&str; 3], number: impl Fn(i64) -> Bson) -> Vec<Document> {
    let [field, deposits, consumptions] = names;
    let none = || Bson::Array(Vec::new());
    let amounts = |cents: i64| Bson::Array(vec![doc! {"amount": number(cents)}.into()]);
    let mut documents: Vec<_> = damaged()
        .into_iter()
        .map(|(what, damaged, _)| doc! {"_id": what, field: number(500), deposits: damaged, consumptions: none()})
        .collect();
    documents.push(doc! {"_id": "no list", field: number(500), consumptions: none()});
    documents
        .push(doc! {"_id": "drift", field: number(500), deposits: amounts(150), consumptions: amounts(50)});
    documents.push(doc! {"_id": "right", field: number(70), deposits: amounts(70), consumptions: none()});
    documents
}

async fn refuses_each(money: &Money, check: &Check, number: impl Fn(i64) -> Bson) {
    let before = money.all(&check.collection).await;
    let (set, refused) = money.repair(check).await;
    assert_eq!(
        set,
        [("drift".into(), number(100))],
        "the honest drift beside it is repaired, and nothing else"
    );
    let refused: BTreeMap<_, _> =
        refused.into_iter().map(|(id, why)| (id.as_str().unwrap().to_owned(), why)).collect();
    for (what, _, expected) in
        damaged().into_iter().chain([("no list", Bson::Null, "(missing) is not a list")])
    {
        let why = refused.get(what).unwrap_or_else(|| panic!("{what} was not refused"));
        assert!(why.contains(expected), "{what}: {expected:?} is not in {why}");
    }
    assert_eq!(refused.len(), damaged().len() + 1, "{refused:?}");
    for (before, after) in before.iter().zip(money.all(&check.collection).await) {
        assert!(
            *before == after
                || before.get_str("_id").ok() == Some("drift")
                || format!("{before}").contains("NaN"),
            "{before} {after}"
        );
    }
    // An audit finds each of them, for any value of the field.
    let CheckResult::Violated { count, sample, .. } = money.audit(check).await else { panic!("clean") };
    assert_eq!(count, damaged().len() as u64 + 1);
    assert!(
        sample.iter().all(|one| one.contains_key("notNumbers") && !one.contains_key("expected")),
        "{sample:?}"
    );
}

fn shipped(file: &str, name: &str) -> Check {
    let text = std::fs::read_to_string(testkit::workspace().join(file)).unwrap();
    let mut check = Checks::parse(&text).unwrap().find(name).unwrap().clone();
    check.database = "d".into();
    check
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_non_numeric_amounts_are_not_repaired() {
    let money = Money::start().await;
    let check = check(EMBEDDED);
    money.fill("accounts", &documents(["balance", "in", "out"], Bson::Int64)).await;
    refuses_each(&money, &check, Bson::Int64).await;
}

/// The ledger sums the movements of a retainer by kind, in another collection.
#[tokio::test(flavor = "multi_thread")]
async fn ledger_checks_reject_repair_of_non_numeric_amounts() {
    let money = Money::start().await;
    let check = shipped("examples/ledger/checks.toml", "retainer_balance_drift");
    let movement =
        |id: &str, retainer: &str, kind: &str| doc! {"_id": id, "retainerId": retainer, "kind": kind};
    let amount = |cents: i64| doc! {"amount": cents};
    for kind in ["deposit", "consumption"] {
        for (what, damaged) in [
            ("a text", doc! {"amount": "50"}),
            ("an object", doc! {"amount": {"cents": 50}}),
            ("a list", doc! {"amount": [50_i64]}),
            ("null", doc! {"amount": Bson::Null}),
            ("NaN", doc! {"amount": f64::NAN}),
            ("no amount", doc! {"amonut": 50}),
        ] {
            let mut movements = Vec::new();
            for (id, retainer, kind, amount) in [
                ("damaged", "invalid", kind, damaged),
                ("valid", "invalid", "deposit", amount(100)),
                ("in", "drift", "deposit", amount(150)),
                ("out", "drift", "consumption", amount(50)),
            ] {
                let mut movement = movement(id, retainer, kind);
                movement.extend(amount);
                movements.push(movement);
            }
            let retainer = |id: &str| doc! {"_id": id, "currentBalance": 500_i64};
            money.fill("retainers", &[retainer("invalid"), retainer("drift")]).await;
            money.fill("retainerMovements", &movements).await;
            let (set, refused) = money.repair(&check).await;
            assert_eq!(set, [("drift".into(), Bson::Int64(100))], "{kind}, {what}");
            let [(id, why)] = refused.as_slice() else { panic!("{kind}, {what}: {refused:?}") };
            assert_eq!(*id, Bson::from("invalid"));
            assert!(why.contains("damaged"), "{kind}, {what}: {why}");
            assert_eq!(money.wrong(&check).await, ["invalid".into()], "{kind}, {what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mongoose_checks_reject_repair_of_non_numeric_amounts() {
    let money = Money::start().await;
    let check = shipped("examples/node-backend/checks.toml", "retainer_balance_drift");
    let movement = |id: &str, retainer: &str, kind: &str, amount: Bson| doc! {"_id": id, "retainerId": retainer, "kind": kind, "amount": amount};
    for kind in ["deposit", "consumption"] {
        for damaged in ["50".into(), doc! {"cents": 50}.into(), Bson::Null, f64::NAN.into()] {
            let retainer = |id: &str| doc! {"_id": id, "currentBalance": 500.5};
            money.fill("retainers", &[retainer("invalid"), retainer("drift")]).await;
            let movements = [
                movement("damaged", "invalid", kind, damaged.clone()),
                movement("valid", "invalid", "deposit", 100.into()),
                movement("in", "drift", "deposit", 150.75.into()),
                movement("out", "drift", "consumption", 50.into()),
            ];
            money.fill("retainerMovements", &movements).await;
            let (set, refused) = money.repair(&check).await;
            assert_eq!(set, [("drift".into(), Bson::Double(100.75))], "{kind}, {damaged}");
            let [(id, why)] = refused.as_slice() else { panic!("{kind}, {damaged}: {refused:?}") };
            assert!(*id == Bson::from("invalid") && why.contains("damaged"), "{kind}, {damaged}: {why}");
            assert_eq!(money.wrong(&check).await, ["invalid".into()], "{kind}, {damaged}");
        }
    }
}

/// The same sum in other notations.
#[tokio::test(flavor = "multi_thread")]
async fn repair_rejects_non_numeric_amounts_in_every_form_of_sum() {
    let money = Money::start().await;
    for expression in [
        r#"{ "$sum": "$$ROOT.in.amount" }"#,
        r#"{ "$sum": [ { "$sum": "$in.amount" } ] }"#,
        r#"{ "$add": [ { "$sum": "$in.amount" }, 0 ] }"#,
        r#"{ "$max": [ 0, { "$sum": "$in.amount" } ] }"#,
        r#"{ "$cond": [ { "$gt": [ { "$sum": "$in.amount" }, 1000 ] }, 1000, { "$sum": "$in.amount" } ] }"#,
        r#"{ "$sum": { "$map": { "input": "$in", "in": "$$this.amount" } } }"#,
        r#"{ "$sum": { "$map": { "input": "$in", "as": "e", "in": { "$multiply": [ "$$e.amount", 1 ] } } } }"#,
        r#"{ "$sum": { "$map": { "input": "$in.amount", "in": { "$abs": "$$this" } } } }"#,
        r#"{ "$sum": { "$concatArrays": [ "$in.amount", [] ] } }"#,
        r#"{ "$reduce": { "input": "$in", "initialValue": 0, "in": { "$add": [ "$$value", "$$this.amount" ] } } }"#,
        r#"{ "$reduce": { "input": "$in.amount", "initialValue": 0, "in": { "$add": [ "$$value", "$$this" ] } } }"#,
        r#"{ "$let": { "vars": { "all": "$in" }, "in": { "$sum": "$$all.amount" } } }"#,
        r#"{ "$let": { "vars": { "all": { "$sum": "$in.amount" } }, "in": "$$all" } }"#,
        r#"{ "$switch": { "branches": [ { "case": true, "then": { "$sum": "$in.amount" } } ], "default": 0 } }"#,
    ] {
        let check = check(&format!("[check.derived]\nfield = \"balance\"\nexpression = '''{expression}'''"));
        let mut documents = documents(["balance", "in", "out"], Bson::Int64);
        let drift = documents.iter_mut().find(|one| one.get_str("_id").ok() == Some("drift")).unwrap();
        drift.insert("in", vec![doc! {"amount": 60_i64}, doc! {"amount": 40_i64}]);
        money.fill("accounts", &documents).await;
        let (set, refused) = money.repair(&check).await;
        assert_eq!(set, [("drift".into(), Bson::Int64(100))], "{expression}");
        assert_eq!(refused.len(), damaged().len() + 1, "{expression}: {refused:?}");
        assert_eq!(money.wrong(&check).await.len(), damaged().len() + 1, "{expression}");
    }
}

/// The expression decides what may be missing, and provides the fallback.
#[tokio::test(flavor = "multi_thread")]
async fn expression_default_replaces_absent_list() {
    let money = Money::start().await;
    for default in ["[]", "0"] {
        let expression = EMBEDDED
            .replace("\"$out.amount\"", &format!("{{ \"$ifNull\": [ \"$out.amount\", {default} ] }}"));
        let check = check(&expression);
        let amounts = || Bson::Array(vec![doc! {"amount": 9_i64}.into()]);
        money
            .fill(
                "accounts",
                &[
                    doc! {"_id": "absent", "balance": 5_i64, "in": amounts()},
                    doc! {"_id": "null", "balance": 5_i64, "in": amounts(), "out": Bson::Null},
                    doc! {"_id": "text", "balance": 5_i64, "in": amounts(), "out": "none"},
                    doc! {"_id": "number", "balance": 5_i64, "in": amounts(), "out": 4},
                    doc! {"_id": "lacks", "balance": 5_i64, "in": amounts(), "out": [{"sum": 1}]},
                    doc! {"_id": "there", "balance": 5_i64, "in": amounts(), "out": [{"amount": 2}]},
                ],
            )
            .await;
        let (set, refused) = money.repair(&check).await;
        let nine = Bson::Int64(9);
        assert_eq!(
            set,
            [("absent".into(), nine.clone()), ("null".into(), nine), ("there".into(), Bson::Int64(7))]
        );
        let refused: Vec<_> = refused.into_iter().map(|(id, _)| id).collect();
        assert_eq!(refused, ["text".into(), "number".into(), "lacks".into()]);
    }
}

/// Lines of another collection, summed by a group: the non-numeric line is named.
#[tokio::test(flavor = "multi_thread")]
async fn repair_with_stages_rejects_and_names_non_numeric_lines() {
    let money = Money::start().await;
    let plain = LINES.replace(
        r#"{ "$group": { "_id": null, "sum": { "$sum": "$amount" } } }"#,
        r#"{ "$project": { "sum": "$amount" } }"#,
    );
    let set = LINES
        .replace(
            "\"as\": \"posted\"\n    } } ]",
            "\"as\": \"posted\"\n    } }, { \"$set\": { \"total\": { \"$sum\": \"$posted.sum\" } } } ]",
        )
        .replace("{ \"$sum\": \"$posted.sum\" }'\n", "\"$total\"'\n");
    assert!(plain.contains("$project") && set.contains("$total"), "{plain}\n{set}");
    for (rule, names_it) in [(LINES, true), (plain.as_str(), true), (set.as_str(), false)] {
        let check = check(rule);
        for (what, line) in [
            ("a text", doc! {"amount": "50"}),
            ("an object", doc! {"amount": {"cents": 50}}),
            ("a list", doc! {"amount": [50_i64]}),
            ("null", doc! {"amount": Bson::Null}),
            ("NaN", doc! {"amount": f64::NAN}),
            ("no amount", doc! {"amonut": 50}),
        ] {
            money
                .fill("accounts", &[doc! {"_id": 1, "balance": 500_i64}, doc! {"_id": 2, "balance": 500_i64}])
                .await;
            let mut invalid = doc! {"_id": "invalid", "account": 1};
            invalid.extend(line);
            let lines = [
                invalid,
                doc! {"_id": 1, "account": 1, "amount": 100_i64},
                doc! {"_id": 2, "account": 2, "amount": 100_i64},
            ];
            money.fill("lines", &lines).await;
            let (set, refused) = money.repair(&check).await;
            assert_eq!(set, [(2.into(), Bson::Int64(100))], "{what}: {rule}");
            let [(id, why)] = refused.as_slice() else { panic!("{what}: {refused:?}") };
            assert_eq!(*id, Bson::Int32(1));
            assert!(!names_it || why.contains("invalid"), "{what}: {why}");
            assert_eq!(money.wrong(&check).await, [1.into()], "{what}");
        }
    }
}
