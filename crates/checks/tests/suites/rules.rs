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
        std::fs::read_to_string(testkit::workspace().join("examples/node-backend/checks.toml")).unwrap();
    let checks = Checks::parse(&text).unwrap();
    let set = ReplicaSet::start(3).await.unwrap();
    let client = set.client().await.unwrap();
    let database = client.database("app");
    let insert = async |name: &str, documents: Vec<Document>| {
        database.collection(name).insert_many(documents).await.unwrap();
    };
    let retainer = |id: &str, balance: Bson| doc! {"_id": id, "currentBalance": balance, "__v": 0};
    let movement =
        |id: &str, kind: &str, amount: f64| doc! {"retainerId": id, "kind": kind, "amount": amount};
    insert(
        "retainers",
        vec![retainer("right", 0.2.into()), retainer("drift", 5.into()), retainer("negative", (-1.5).into())],
    )
    .await;
    insert(
        "retainerMovements",
        vec![
            movement("right", "deposit", 0.3),
            movement("right", "consumption", 0.1),
            movement("drift", "deposit", 6.0),
            movement("negative", "consumption", 1.5),
        ],
    )
    .await;
    let payment = |id: i32, invoice: Bson, status: &str| doc! {"_id": id, "invoiceId": invoice, "status": status, "amount": 12.5};
    let payments = vec![
        payment(1, "i-1".into(), "completed"),
        payment(2, "i-1".into(), "completed"),
        payment(3, "i-2".into(), "completed"),
        payment(4, "i-2".into(), "pending"),
        payment(5, Bson::Null, "completed"),
        payment(6, Bson::Null, "completed"),
    ];
    insert("payments", payments).await;
    // The third is posted twice, the fourth before it is completed, the fifth with another amount, and the sixth not at all.
    let entries = [(1, 12.5), (2, 12.5), (3, 12.5), (3, 12.5), (4, 12.5), (5, 12.25)];
    let entries = entries.map(|(payment, amount)| doc! {"paymentId": payment, "amount": amount});
    insert("ledgerEntries", entries.to_vec()).await;
    let account = |id: i32, opening: f64, balance: f64| doc! {"_id": id, "currency": "EUR", "openingBalance": opening, "availableBalance": balance};
    // The third has what it received without the second transfer.
    insert("bankAccounts", vec![account(1, 0.3, 0.0), account(2, 0.0, -0.01), account(3, 0.0, 0.1)]).await;
    let transfer = |from: i32, to: i32, amount: f64, status: &str| doc! {"fromAccountId": from, "toAccountId": to, "amount": amount, "status": status};
    insert(
        "bankTransfers",
        vec![
            transfer(1, 3, 0.1, "completed"),
            transfer(1, 3, 0.2, "completed"),
            transfer(1, 3, 0.2, "cancelled"),
            transfer(2, 3, 0.01, "completed"),
        ],
    )
    .await;
    let expected: [(&str, Vec<Bson>); 7] = [
        ("retainer_balance_negative", vec!["negative".into()]),
        ("retainer_balance_drift", vec!["drift".into()]),
        ("payment_completed_twice", vec!["i-1".into()]),
        ("payment_not_posted_once", vec![3.into(), 4.into(), 5.into(), 6.into()]),
        ("bank_account_overdrawn", vec![2.into()]),
        ("bank_account_balance_drift", vec![3.into()]),
        ("bank_accounts_total", vec!["EUR".into()]),
    ];
    assert!(checks.iter().map(|check| check.name.as_str()).eq(expected.iter().map(|(name, _)| *name)));
    for (check, (name, expected)) in checks.iter().zip(expected) {
        // A secondary may lag behind.
        testkit::wait::until(&format!("the violations of {name}"), async || {
            match run(&client, check, SampleOptions { limit: 10, full_documents: false }).await.result {
                CheckResult::Violated { sample, .. } => {
                    let mut ids: Vec<_> = sample.iter().map(|one| one.get("_id").unwrap().clone()).collect();
                    ids.sort_by_key(Bson::to_string);
                    anyhow::ensure!(ids == expected, "{ids:?}");
                    Ok(())
                }
                other => Err(anyhow::anyhow!("{other:?}")),
            }
        })
        .await
        .unwrap();
    }
}
