//! Both sample files find an invoice that was paid twice, in every spelling and type of its number.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use testkit::ReplicaSet;
use txnscope_checks::{CheckResult, Checks, SampleOptions, run};

const FILES: [&str; 2] = ["examples/ledger/checks.toml", "examples/node-backend/checks.toml"];

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

/// Spellings of one number.
fn same() -> Vec<(&'static str, Vec<Bson>)> {
    let texts = |texts: &[&str]| texts.iter().map(|text| Bson::from(*text)).collect::<Vec<_>>();
    let id = ObjectId::parse_str("65a0b0c0d0e0f00102030405").unwrap();
    vec![
        ("capitals", texts(&["INV-1", "inv-1"])),
        ("white space around", texts(&["INV-1", " INV-1", "INV-1\t", "\u{a0}INV-1\u{3000}\n"])),
        ("white space inside", texts(&["INV 1", "INV\u{a0}1", "inv  1", "INV\u{2003} 1"])),
        (
            "invisible characters",
            texts(&[
                "INV-1",
                "INV\u{200b}-1",
                "INV-1\u{feff}",
                "\u{202e}INV-1",
                "I\u{ad}NV-1",
                "INV-1 \u{200b}",
            ]),
        ),
        (
            "dashes",
            texts(&[
                "INV-1",
                "INV\u{2010}1",
                "INV\u{2011}1",
                "INV\u{2013}1",
                "INV\u{2014}1",
                "INV\u{2212}1",
                "INV\u{ff0d}1",
            ]),
        ),
        ("full width", texts(&["INV-1", "ＩＮＶ－１"])),
        ("digits of other scripts", texts(&["INV-1", "INV-\u{661}", "INV-①"])),
        ("composed and not", texts(&["Ä-1", "A\u{308}-1", "ä-1"])),
        ("letters that look alike", texts(&["INV-1", "\u{406}NV-1", "I\u{39d}V-1"])),
        (
            "a number and its text",
            vec![3.into(), "3".into(), Bson::Int64(3), 3.0.into(), decimal("3.00"), " 3".into()],
        ),
        ("an ObjectId and its text", vec![id.into(), id.to_hex().into(), id.to_hex().to_uppercase().into()]),
        ("a fraction", vec![1.5.into(), "1.5".into(), decimal("1.5")]),
        ("arrays", vec![Bson::Array(vec![1.into()]), Bson::Array(vec![1.into()])]),
    ]
}

async fn groups(client: &mongodb::Client, checks: &Checks, payments: Vec<Document>) -> Vec<(i64, Vec<i64>)> {
    let check = checks.iter().find(|check| check.name == "payment_completed_twice").unwrap();
    let collection = client.database(&check.database).collection::<Document>("payments");
    collection.delete_many(doc! {}).await.unwrap();
    collection.insert_many(payments).await.unwrap();
    match run(client, check, SampleOptions { limit: 100, full_documents: true }).await.result {
        CheckResult::Clean { .. } => Vec::new(),
        CheckResult::Violated { sample, .. } => sample
            .iter()
            .map(|group| {
                let mut ids: Vec<_> =
                    group.get_array("payments").unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
                ids.sort_unstable();
                (i64::from(group.get_i32("count").unwrap()), ids)
            })
            .collect(),
        CheckResult::Failed(failure) => panic!("{failure:?}"),
    }
}

fn payments(numbers: &[Bson], status: &str) -> Vec<Document> {
    let payment = |(at, number): (usize, &Bson)| {
        doc! { "_id": i64::try_from(at).unwrap(), "status": status, "invoiceId": number.clone() }
    };
    numbers.iter().enumerate().map(payment).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn double_paid_invoice_is_found_across_spellings() {
    let set = ReplicaSet::recycled().await.unwrap();
    let client = set.client().await.unwrap();
    for file in FILES {
        let text = std::fs::read_to_string(testkit::workspace().join(file)).unwrap();
        // Any member can be read, but the data must have been replicated to it.
        let checks = Checks::parse(&text.replace("secondaryPreferred", "primary")).unwrap();
        for (what, numbers) in same() {
            let count = i64::try_from(numbers.len()).unwrap();
            let found = groups(&client, &checks, payments(&numbers, "completed")).await;
            assert_eq!(found, [(count, (0..count).collect())], "{file}: {what}");
            assert_eq!(groups(&client, &checks, payments(&numbers, "pending")).await, [], "{file}: {what}");
        }
        let apart: Vec<Bson> =
            ["INV-1", "INV1", "INV 1", "INV-11", "INV_1", "INV-1-2", "INV-12", "1-INV", "A-1", "Ä-1", "3.5"]
                .into_iter()
                .map(Bson::from)
                .chain([
                    3.into(),
                    4.5.into(),
                    decimal("0.1"),
                    Bson::Double(f64::NAN),
                    Bson::Double(1e300),
                    doc! { "a": 1 }.into(),
                ])
                .collect();
        assert_eq!(groups(&client, &checks, payments(&apart, "completed")).await, [], "{file}");
        // A missing invoice number is not a duplicate.
        let mut none = payments(&[Bson::Null, Bson::Null], "completed");
        none.extend([
            doc! { "_id": 10_i64, "status": "completed" },
            doc! { "_id": 11_i64, "status": "completed" },
        ]);
        assert_eq!(groups(&client, &checks, none).await, [], "{file}");
    }
}
