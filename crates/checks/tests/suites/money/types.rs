//! The numeric type of a repaired field.

use mongodb::bson::{Bson, doc};

use super::environment::{EMBEDDED, Money, check, decimal};

const TOLERANT: &str = "tolerance = 0.005";

#[tokio::test(flavor = "multi_thread")]
async fn repair_keeps_field_type_or_rejects() {
    let money = Money::start().await;
    let long = Bson::Int64;
    let double = Bson::Double;
    // The present value, its inputs, and the repaired value.
    let cases: Vec<(&str, Bson, Vec<Bson>, Option<Bson>)> = vec![
        ("a correction as a double", long(5), vec![long(1_000_000), double(250.0)], Some(long(1_000_250))),
        (
            "a correction as a decimal",
            long(5),
            vec![long(1_000_000), decimal("250.00")],
            Some(long(1_000_250)),
        ),
        ("half a cent", long(5), vec![long(1), double(0.5)], None),
        ("two halves", long(5), vec![double(0.5), double(0.5)], Some(long(1))),
        ("beyond a long", long(5), vec![long(i64::MAX), long(1)], None),
        (
            "beyond a long, and back",
            long(5),
            vec![long(i64::MAX), long(1), long(-2)],
            Some(long(i64::MAX - 1)),
        ),
        ("the last long", long(5), vec![long(i64::MAX - 1), long(1)], Some(long(i64::MAX))),
        ("beyond a double", long(5), vec![long(1 << 53), long(1)], Some(long((1 << 53) + 1))),
        ("a long for a double", double(0.5), vec![long(1 << 53), long(1)], None),
        ("an int", Bson::Int32(5), vec![long(7)], Some(Bson::Int32(7))),
        ("beyond an int", Bson::Int32(5), vec![long(1 << 31)], None),
        ("whole, as a double", double(5.5), vec![Bson::Int32(7)], Some(double(7.0))),
        ("a double", double(5.5), vec![double(0.25), double(0.5)], Some(double(0.75))),
        ("a decimal", decimal("5.50"), vec![decimal("0.10"), decimal("0.20")], Some(decimal("0.30"))),
        ("whole, as a decimal", decimal("5.50"), vec![long(7)], Some(decimal("7.00"))),
        (
            "a long decimal",
            decimal("5.50"),
            vec![decimal("12345678901234567.01"), decimal("0.01")],
            Some(decimal("12345678901234567.02")),
        ),
        ("beyond a decimal", decimal("5"), vec![decimal("1E+33"), decimal("0.1"), decimal("-1E+33")], None),
        ("a decimal for a double", double(5.5), vec![decimal("0.10"), decimal("0.20")], Some(double(0.3))),
        (
            "a double among decimals",
            decimal("5.50"),
            vec![decimal("10.20"), double(0.1)],
            Some(decimal("10.30")),
        ),
        ("a double that was no decimal", decimal("5.50"), vec![decimal("10.20"), double(0.1 + 0.2)], None),
        ("less than a double holds", long(5), vec![long((1 << 52) + 1), double(0.25)], None),
        ("NaN in the field", double(f64::NAN), vec![Bson::Int32(7)], Some(double(7.0))),
    ];
    for (what, field, parts, right) in cases {
        let parts: Vec<_> = parts.into_iter().map(|part| doc! {"amount": part}).collect();
        let none = Bson::Array(Vec::new());
        money.fill("accounts", &[doc! {"_id": 1, "balance": field.clone(), "in": parts, "out": none}]).await;
        let check = check(EMBEDDED);
        let (set, refused) = money.repair(&check).await;
        match right {
            Some(right) => {
                assert_eq!(set, [(1.into(), right.clone())], "{what}: {refused:?}");
                assert_eq!(money.balance(1).await, Some(right), "{what}");
                assert!(money.wrong(&check).await.is_empty(), "{what}");
            }
            None => {
                assert_eq!((set.len(), refused.len()), (0, 1), "{what}: {set:?}");
                assert_eq!(money.balance(1).await, Some(field), "{what}");
            }
        }
    }
}

/// 0.1 and 0.2 are 0.3, not 0.30000000000000004, and large sums lose no cent.
#[tokio::test(flavor = "multi_thread")]
async fn repair_sums_doubles_as_decimals() {
    let money = Money::start().await;
    let tolerant = check(&format!("{EMBEDDED}{TOLERANT}"));
    for (add, take, right) in [
        (vec![0.1, 0.2], vec![], 0.3),
        (vec![0.3], vec![0.1], 0.2),
        (vec![10_000_000.1], vec![10_000_000.0], 0.1),
        (vec![1_234_567.89, 0.01], vec![1_234_567.59], 0.31),
    ] {
        let part =
            |amounts: &Vec<f64>| amounts.iter().map(|amount| doc! {"amount": *amount}).collect::<Vec<_>>();
        let document = doc! {"_id": 1, "balance": 5.5, "in": part(&add), "out": part(&take)};
        money.fill("accounts", &[document]).await;
        assert_eq!(money.repair(&tolerant).await.0, [(1.into(), Bson::Double(right))], "{add:?} {take:?}");
        assert!(money.wrong(&tolerant).await.is_empty());
    }
    // Lines of other documents are summed in the same way.
    let lines = format!("{}{TOLERANT}", super::environment::LINES);
    money.fill("accounts", &[doc! {"_id": 1, "balance": 5.5}]).await;
    money.fill("lines", &[doc! {"account": 1, "amount": 0.1}, doc! {"account": 1, "amount": 0.2}]).await;
    assert_eq!(money.repair(&check(&lines)).await.0, [(1.into(), Bson::Double(0.3))]);

    // Without a tolerance, an audit would still report a violation.
    let parts = [doc! {"amount": 0.1}, doc! {"amount": 0.2}];
    money
        .fill("accounts", &[doc! {"_id": 1, "balance": 5.5, "in": &parts[..], "out": Bson::Array(vec![])}])
        .await;
    let (set, refused) = money.repair(&check(EMBEDDED)).await;
    assert!(set.is_empty() && refused[0].1.contains("tolerance"), "{set:?} {refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_sets_non_numeric_field_only_with_type_of_check() {
    let money = Money::start().await;
    let parts = [doc! {"amount": 7}];
    for (word, right) in [
        ("int", Bson::Int32(7)),
        ("long", Bson::Int64(7)),
        ("double", Bson::Double(7.0)),
        ("decimal", decimal("7")),
    ] {
        let imported = doc! {"$numberLong": "5"};
        for field in
            [None, Some(Bson::Null), Some("7".into()), Some(doc! {"a": 7}.into()), Some(imported.into())]
        {
            // Extended JSON that was imported verbatim is a document.
            let mut document = doc! {"_id": 1, "in": &parts[..], "out": Bson::Array(vec![])};
            document.extend(field.clone().map(|field| ("balance".to_owned(), field)));
            money.fill("accounts", &[document.clone()]).await;
            let (set, refused) = money.repair(&check(EMBEDDED)).await;
            assert!(set.is_empty() && refused[0].1.contains("set type = \"long\""), "{set:?} {refused:?}");
            assert_eq!(money.get(1).await, document);
            let typed = check(&format!("{EMBEDDED}type = \"{word}\""));
            assert_eq!(money.repair(&typed).await.0, [(1.into(), right.clone())], "{field:?}");
        }
    }
    // A number keeps its own type.
    let document = doc! {"_id": 1, "balance": 5_i64, "in": &parts[..], "out": Bson::Array(vec![])};
    money.fill("accounts", &[document]).await;
    let typed = check(&format!("{EMBEDDED}type = \"decimal\""));
    assert_eq!(money.repair(&typed).await.0, [(1.into(), Bson::Int64(7))]);
}

/// The driver cannot write the value again: an undo would write a document instead.
#[tokio::test(flavor = "multi_thread")]
async fn repair_rejects_field_that_undo_could_not_restore() {
    let money = Money::start().await;
    let parts = [doc! {"amount": 7}];
    for field in [Bson::MinKey, Bson::MaxKey] {
        let document = doc! {"_id": 1, "balance": field, "in": &parts[..], "out": Bson::Array(vec![])};
        money.fill("accounts", std::slice::from_ref(&document)).await;
        let (set, refused) = money.repair(&check(&format!("{EMBEDDED}type = \"long\""))).await;
        assert!(set.is_empty() && refused[0].1.contains("could not restore"), "{set:?} {refused:?}");
        assert_eq!(money.get(1).await, document);
        // The same if stages have changed the document.
        money.fill("lines", &[doc! {"account": 1, "amount": 10_i64}]).await;
        let lines = format!("{}type = \"long\"", super::environment::LINES);
        let (set, refused) = money.repair(&check(&lines)).await;
        assert!(set.is_empty() && refused.len() == 1, "{set:?} {refused:?}");
        assert_eq!(money.get(1).await, document);
    }
}
