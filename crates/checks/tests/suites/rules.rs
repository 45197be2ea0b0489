//! Each kind of rule on a real replica set: what it finds, how it compares, and how it fails.

use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Collection};
use testkit::{FailPoint, ReplicaSet};
use txnscope_checks::{CheckResult, Checks, Failure, Reason, SampleOptions, run};

const SOME: SampleOptions = SampleOptions { limit: 3, full_documents: false };

fn head(collection: &str) -> String {
    format!(
        "[[check]]\nname = \"a\"\nseverity = \"critical\"\ndatabase = \"d\"\ncollection = \"{collection}\"\n"
    )
}

async fn result_of(client: &Client, collection: &str, rule: &str, sample: SampleOptions) -> CheckResult {
    let checks = Checks::parse(&format!("{}{rule}", head(collection))).unwrap();
    run(client, checks.iter().next().unwrap(), sample).await.result
}

async fn ids(client: &Client, rule: &str) -> Vec<Bson> {
    match result_of(client, "c", rule, SampleOptions { limit: 100, full_documents: false }).await {
        CheckResult::Clean { .. } => Vec::new(),
        CheckResult::Violated { sample, .. } => {
            sample.iter().map(|one| one.get("_id").unwrap().clone()).collect()
        }
        CheckResult::Failed(failure) => panic!("{failure:?}"),
    }
}

async fn failure(client: &Client, collection: &str, rule: &str) -> Failure {
    match result_of(client, collection, rule, SOME).await {
        CheckResult::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

async fn fill(client: &Client, documents: Vec<Document>) -> Collection<Document> {
    let collection = client.database("d").collection("c");
    collection.delete_many(doc! {}).await.unwrap();
    collection.insert_many(documents).await.unwrap();
    collection
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_different_types_compare_by_value() {
    let set = ReplicaSet::recycled().await.unwrap();
    let client = set.client().await.unwrap();
    let document = |id: &str, sum: Bson, parts: Vec<Bson>| doc! {"_id": id, "sum": sum, "parts": parts};
    fill(
        &client,
        vec![
            document("int and long", Bson::Int32(3), vec![Bson::Int64(1), Bson::Int64(2)]),
            document("double and int", Bson::Double(3.0), vec![1.into(), 2.into()]),
            document("decimal", decimal("0.30"), vec![decimal("0.1"), decimal("0.2")]),
            document("beyond a double", Bson::Int64((1 << 53) + 1), vec![Bson::Int64(1 << 53), 1.into()]),
            document("nothing", Bson::Int64(0), vec![]),
            document("double drift", Bson::Double(0.3), vec![0.1.into(), 0.2.into()]),
            document("a cent", Bson::Double(0.31), vec![0.1.into(), 0.2.into()]),
            document("beyond a double, drift", Bson::Int64(1 << 53), vec![Bson::Int64(1 << 53), 1.into()]),
            document("text", "3".into(), vec![3.into()]),
            document("null", Bson::Null, vec![]),
            document("nan", Bson::Double(f64::NAN), vec![3.into()]),
            doc! {"_id": "missing", "parts": []},
        ],
    )
    .await;
    let rule = |tolerance: &str| {
        format!("[check.derived]\nfield = \"sum\"\nexpression = '{{ \"$sum\": \"$parts\" }}'\n{tolerance}")
    };
    let invalid = ["a cent", "beyond a double, drift", "text", "null", "nan", "missing"];
    let mut exact = vec!["double drift"];
    exact.extend(invalid);
    let exact: Vec<_> = exact.into_iter().map(Bson::from).collect();
    assert_eq!(ids(&client, &rule("")).await, exact);
    // Whole numbers stay exact: two longs that map to the same double still differ by 1.
    assert_eq!(ids(&client, &rule("tolerance = 0.005")).await, invalid.map(Bson::from));
}

#[tokio::test(flavor = "multi_thread")]
async fn count_is_exact_and_sample_is_bounded() {
    let set = ReplicaSet::recycled().await.unwrap();
    let client = set.client().await.unwrap();
    let documents = (0..500).map(|n| doc! {"_id": n, "n": n, "name": "x", "secret": "y"}).collect();
    fill(&client, documents).await;
    let rule = "forbid = '{ \"n\": { \"$gte\": 100 } }'\nshow = [\"name\"]";
    let CheckResult::Violated { count, sample, documents } = result_of(&client, "c", rule, SOME).await else {
        panic!("clean")
    };
    assert_eq!((count, sample.len(), documents), (400, 3, 500));
    assert_eq!(sample[0].keys().collect::<Vec<_>>(), ["_id", "n", "name"]);
    let full = SampleOptions { limit: 1, full_documents: true };
    let CheckResult::Violated { count, sample, .. } = result_of(&client, "c", rule, full).await else {
        panic!("clean")
    };
    assert_eq!((count, sample.len()), (400, 1));
    assert_eq!(sample[0].get_str("secret").unwrap(), "y");
    let CheckResult::Violated { count, sample, .. } =
        result_of(&client, "c", rule, SampleOptions::NONE).await
    else {
        panic!("clean")
    };
    assert_eq!((count, sample.len()), (400, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn balance_sides_are_compared_by_group() {
    let set = ReplicaSet::recycled().await.unwrap();
    let client = set.client().await.unwrap();
    fill(
        &client,
        vec![
            doc! {"cur": "EUR", "d": 5, "c": 0},
            doc! {"cur": "EUR", "d": 0, "c": 5},
            doc! {"cur": "USD", "d": 5, "c": 4},
        ],
    )
    .await;
    let other = client.database("d").collection("other");
    other.insert_many([doc! {"cur": "EUR", "c": 5_i64}, doc! {"cur": "CHF", "c": 1}]).await.unwrap();
    let one = "balance = { left = { sum = '\"$d\"', by = '\"$cur\"' }, right = { sum = '\"$c\"', by = '\"$cur\"' } }";
    assert_eq!(ids(&client, one).await, ["USD".into()]);
    let total = "balance = { left = { sum = '\"$d\"' }, right = { sum = '\"$c\"' } }";
    assert_eq!(ids(&client, total).await, [Bson::Null]);
    let near = format!("{}\n", total.replace("balance = {", "balance = { tolerance = 1,"));
    assert!(ids(&client, &near).await.is_empty());
    let two = one.replace("right = {", "right = { collection = \"other\",");
    let mut found = ids(&client, &two).await;
    found.sort_by_key(Bson::to_string);
    assert_eq!(found, ["CHF".into(), "USD".into()], "a group that one side lacks has nothing there");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_that_cannot_run_fails_with_reason() {
    let set = ReplicaSet::recycled().await.unwrap();
    let client = set.client().await.unwrap();
    let documents = (0..2_000).map(|n| doc! {"_id": n, "s": "a"}).collect();
    fill(&client, documents).await;
    for (collection, rule, reason, message) in [
        ("nowhere", "forbid = '{}'", Reason::CollectionMissing, "there is no collection nowhere in d"),
        ("c", "forbid = '{ \"a\": { \"$less\": 0 } }'", Reason::InvalidQuery, "$less"),
        ("c", "pipeline = '[ { \"$mach\": {} } ]'", Reason::InvalidQuery, "$mach"),
        (
            "c",
            "pipeline = '[ { \"$set\": { \"n\": { \"$toInt\": \"$s\" } } }, { \"$match\": { \"n\": 1 } } ]'",
            Reason::InvalidQuery,
            "$convert",
        ),
        (
            "c",
            "pipeline = '[ { \"$lookup\": { \"from\": \"lines\", \"localField\": \"a\", \"foreignField\": \"a\", \"as\": \"a\" } } ]'",
            Reason::CollectionMissing,
            "there is no collection lines in d",
        ),
    ] {
        let failure = failure(&client, collection, rule).await;
        assert_eq!(failure.reason, reason, "{rule}: {failure}");
        assert!(failure.message.contains(message), "{rule}: {failure}");
    }
    let result = result_of(&client, "nowhere", "forbid = '{}'\nmay_be_missing = true", SOME).await;
    assert_eq!(result, CheckResult::Clean { documents: 0 });

    // No JavaScript: the server sometimes reports another error code when it interrupts JavaScript.
    let slow = r#"max_time = "100ms"
        forbid = '''{ "$expr": { "$gt": [ { "$size": { "$filter": {
            "input": { "$range": [ 0, 100000 ] }, "cond": { "$lt": [ "$$this", 0 ] } } } }, 0 ] } }'''"#;
    let slow = failure(&client, "c", slow).await;
    assert_eq!(slow.reason, Reason::Timeout, "{slow}");
    assert!(slow.message.contains("max_time"), "{slow}");

    for (code, reason) in
        [(13, Reason::PermissionDenied), (11600, Reason::Interrupted), (8, Reason::CommandFailed)]
    {
        let data = doc! {"failCommands": ["aggregate"], "errorCode": code};
        let failpoint = FailPoint::fail_command(&client, "testkit", data).await.unwrap();
        assert_eq!(failure(&client, "c", "forbid = '{}'").await.reason, reason, "{code}");
        failpoint.off().await.unwrap();
    }

    let nowhere = Client::with_uri_str("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200").await.unwrap();
    assert_eq!(failure(&nowhere, "c", "forbid = '{}'").await.reason, Reason::ServerSelection);
}

/// The sample files.
#[tokio::test(flavor = "multi_thread")]
async fn mongoose_sample_finds_each_violation() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/samples/mongoose.toml")).unwrap();
    let checks = Checks::parse(&text).unwrap();
    let set = ReplicaSet::start(3).await.unwrap();
    let client = set.client().await.unwrap();
    let database = client.database("app");
    let part = |amount: f64| doc! {"_id": 1, "amount": amount};
    let retainers = [
        doc! {"_id": "right", "currentBalance": 0.2, "deposits": [part(0.3)], "consumptions": [part(0.1)], "__v": 1},
        doc! {"_id": "drift", "currentBalance": 5, "deposits": [part(6.0)], "consumptions": [], "__v": 0},
        doc! {"_id": "negative", "currentBalance": -1.5, "deposits": [], "consumptions": [part(1.5)], "__v": 0},
    ];
    database.collection("retainers").insert_many(retainers).await.unwrap();
    let payment =
        |id: i32, invoice: Bson, status: &str| doc! {"_id": id, "invoiceId": invoice, "status": status};
    let payments = [
        payment(1, "i-1".into(), "completed"),
        payment(2, "i-1".into(), "completed"),
        payment(3, "i-2".into(), "completed"),
        payment(4, "i-2".into(), "pending"),
        payment(5, Bson::Null, "completed"),
        payment(6, Bson::Null, "completed"),
    ];
    database.collection("payments").insert_many(payments).await.unwrap();
    let accounts = [doc! {"_id": 1, "availableBalance": 0}, doc! {"_id": 2, "availableBalance": -0.01}];
    database.collection("bankaccounts").insert_many(accounts).await.unwrap();
    let mut found = Vec::new();
    for check in checks.iter() {
        // A secondary may lag behind.
        let sample = testkit::wait::until("a run that finds something", async || {
            match run(&client, check, SOME).await.result {
                CheckResult::Violated { sample, .. } => Ok(sample),
                other => Err(anyhow::anyhow!("{}: {other:?}", check.name)),
            }
        });
        let sample = sample.await.unwrap();
        let ids: Vec<_> = sample.iter().map(|one| one.get("_id").unwrap().clone()).collect();
        found.push((check.name.as_str(), ids));
    }
    let expected: [(&str, Vec<Bson>); 4] = [
        ("retainer_balance_negative", vec!["negative".into()]),
        ("retainer_balance_drift", vec!["drift".into()]),
        ("payment_completed_twice", vec!["i-1".into()]),
        ("bank_account_overdrawn", vec![2.into()]),
    ];
    assert_eq!(found, expected);
}
