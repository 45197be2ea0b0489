//! The pages of the proxy and of the backend keep the contract of the callers' metrics, and the backend's table of open
//! transactions has its schema.

use anyhow::{Context, ensure};
use mongodb::bson::doc;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{FailPoint, NodeBackend, Scrape, promtool, wait};
use txnscope_catalog as catalog;

use super::environment::{APP, Environment};
use crate::common::{Serving, run_with, stdout_and_stderr};

/// The findings of a preflight with the page at that URL, by the names of the checks.
async fn preflight(environment: &Environment, page: &str) -> Vec<(String, String, String)> {
    let page = format!("--backend.metrics-url={page}");
    let arguments = ["preflight", "--output=json", "--expect-concurrency=50", &page];
    let output = run_with(&arguments, &[("MONGODB_URI", &environment.set.uri())]).await;
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stdout_and_stderr(&output)));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let findings = report["checks"].as_array().unwrap().iter();
    findings
        .map(|finding| (text(finding, "check"), text(finding, "status"), text(finding, "evidence")))
        .collect()
}

const CONTRACT: [&str; 9] = [
    "backend page",
    "metric names",
    "metric labels",
    "operations",
    "outcomes",
    "reasons",
    "series from the start",
    "operation counters",
    "driver counters",
];

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_proxy_and_backend_keep_the_contract() {
    let environment = Environment::start("after").await;
    let unnamed = environment.set.uri().replace("/?", "/unnamed?");
    let _unnamed = NodeBackend::start("before", &unnamed).await.unwrap();
    let body = json!({"clientId": "c", "retainerType": "hourly", "initialAmount": 5});
    let own = format!("{}/metrics", environment.backend.url());
    // The driver of the test kit closes the connections with which it has started the set in the background.
    wait::until("only clients of the backends to be connected", async || {
        let findings = preflight(&environment, &own).await;
        let pool = findings.into_iter().find(|(name, ..)| name == "connection pool");
        ensure!(pool.as_ref().is_some_and(|(_, _, evidence)| evidence.contains("nodejs")), "{pool:?}");
        Ok(())
    })
    .await
    .unwrap();
    for used in [false, true] {
        if used {
            for (body, expected) in [(&body, StatusCode::CREATED), (&json!({}), StatusCode::BAD_REQUEST)] {
                let (status, answer) = environment.send(Method::POST, "/api/retainers", Some(body)).await;
                assert_eq!(status, expected, "{answer}");
            }
        }
        for page in [&own, &environment.metrics_url()] {
            let findings = preflight(&environment, page).await;
            let of = |check: &str| findings.iter().find(|(name, ..)| name == check).unwrap();
            for check in CONTRACT {
                assert_eq!(of(check).1, "pass", "{page}: {findings:#?}");
            }
            let counted = of("driver counters").2.starts_with("started = ");
            assert_eq!(counted, *page == own, "the proxy does not see the driver: {findings:#?}");
            // Both backends have the pool of the driver for Node.js, and one has no name.
            assert_eq!(of("connection pool").1, "pass", "{findings:#?}");
            assert!(of("connection pool").2.contains("nodejs|Mongoose"), "{findings:#?}");
            assert_eq!(of("application names").1, "warn", "{findings:#?}");
        }
    }

    // The catalog knows each family of the proxy's page, with its type.
    let text = reqwest::get(environment.metrics_url()).await.unwrap().text().await.unwrap();
    promtool::check_metrics(&text).await.unwrap();
    for family in Scrape::parse(&text).unwrap().families() {
        let metric = catalog::find(&family.name).unwrap_or_else(|| panic!("{}", family.name));
        assert_eq!(format!("{:?}", family.kind).to_lowercase(), metric.kind.as_str(), "{}", family.name);
        assert_eq!(family.help, metric.help);
    }
    let text = reqwest::get(own).await.unwrap().text().await.unwrap();
    promtool::check_metrics(&text).await.unwrap();

    // What is for monitoring is not for those who come through the proxy.
    for path in ["/metrics", "/-/transactions"] {
        let (status, _) = environment.send(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_transaction_is_attributed_by_the_table_of_the_backend() {
    let environment = Environment::start("after").await;
    let table = format!("{}/-/transactions", environment.backend.url());
    let backends = format!("--collector.open-by-operation.backends={table}");
    let sidecar = Serving::start(&[&backends], &[("MONGODB_URI", &environment.set.uri())]).await;
    let empty: Value = reqwest::get(&table).await.unwrap().json().await.unwrap();
    assert_eq!(empty["transactions"], json!([]));

    // The transaction is open for as long as its commit waits.
    let client = environment.set.client().await.unwrap();
    let data = doc! {"failCommands": ["commitTransaction"], "blockConnection": true, "blockTimeMS": 120_000};
    let _failpoint = FailPoint::fail_command(&client, APP, data).await.unwrap();
    let body = json!({"clientId": "c", "retainerType": "hourly", "initialAmount": 5});
    let waiting = environment.send(Method::POST, "/api/retainers", Some(&body));
    let look = wait::until("the sidecar to show the operation", async || {
        let open: Value = reqwest::get(&table).await?.json().await?;
        let page = Scrape::parse(&sidecar.get("/metrics").await?)?;
        let operation = [("operation", "POST /api/retainers")];
        let by_operation = page.sum(catalog::MONGODB_TRANSACTIONS_OPEN_BY_OPERATION.name, &operation);
        let by_application =
            page.sum(catalog::MONGODB_TRANSACTIONS_OPEN_BY_APPLICATION.name, &[("application", APP)]);
        ensure!(by_operation == 1.0 && by_application == 1.0, "{by_operation}, {by_application}, {open}");
        Ok(open)
    });
    let open = tokio::select! {
        open = look => open.unwrap(),
        (status, answer) = waiting => panic!("the commit does not wait: {status} {answer}"),
    };
    let schema = testkit::workspace().join("docs/open-transactions.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for table in [&open, &empty] {
        let errors: Vec<String> = schema.iter_errors(table).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{table}: {errors:?}");
    }
    let one = open["transactions"].as_array().context("a list").unwrap();
    assert!(one.len() == 1 && one[0]["operation"] == "POST /api/retainers", "{open}");
    let pools = open["pools"].as_array().context("a list").unwrap();
    assert!(
        pools.len() == 1 && pools[0]["inUse"] == 1 && pools[0]["maxSize"] == 100 && pools[0]["waiting"] == 0,
        "the connection of the commit: {open}"
    );
    assert!(!schema.is_valid(&json!({"transactions": [{"operation": "o"}]})), "a row without a session");
}

/// Without `appName`, which Mongoose does not set, the name of the driver takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn transaction_without_app_name_is_shown_under_its_driver() {
    let set = testkit::ReplicaSet::start(1).await.unwrap();
    let sidecar = Serving::start(&[], &[("MONGODB_URI", &set.uri())]).await;
    let uri = set.uri().replace("/?", "/app?");
    let backend = NodeBackend::start("after", &uri).await.unwrap();
    let client = set.client().await.unwrap();
    // For every client, since this one has no name.
    let admin = client.database("admin");
    let data = doc! {
        "configureFailPoint": "failCommand", "mode": "alwaysOn",
        "data": {"failCommands": ["commitTransaction"], "blockConnection": true, "blockTimeMS": 120_000},
    };
    admin.run_command(data).await.unwrap();
    let body = json!({"clientId": "c", "retainerType": "hourly", "initialAmount": 5});
    let waiting = reqwest::Client::new().post(format!("{}/api/retainers", backend.url())).json(&body).send();
    let look = wait::until("the driver as the application", async || {
        let page = Scrape::parse(&sidecar.get("/metrics").await?)?;
        let driver = [("application", "nodejs|Mongoose")];
        let open = page.sum(catalog::MONGODB_TRANSACTIONS_OPEN_BY_APPLICATION.name, &driver);
        ensure!(open == 1.0, "{open}");
        Ok(())
    });
    tokio::select! {
        shown = look => shown.unwrap(),
        answer = waiting => panic!("the commit does not wait: {answer:?}"),
    }
}
