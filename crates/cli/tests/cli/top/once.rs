//! `txnscope top --once`: the situation as JSON and as tables.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context, ensure};
use mongodb::bson::doc;
use serde_json::{Value, json};
use testkit::{ReplicaSetOptions, wait};
use tokio::sync::oneshot;
use txnscope::{Abort, Metrics, TransactionRunner};

use super::schema::assert_valid;
use super::{Environment, succeed};
use crate::common::{run, stderr};

/// Serves the table of open transactions of a backend.
async fn table(metrics: &Metrics) -> String {
    let router = axum::Router::new().merge(metrics.registry().open_transactions_router::<()>());
    let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, service).await });
    format!("--collector.open-by-operation.backends=http://{address}/-/transactions")
}

/// Runs the command until the report meets a condition.
async fn report_where(arguments: &[&str], what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let arguments =
        [&["top", "--once", "--output=json", "--interval=200ms", "--timeout=10s"], arguments].concat();
    wait::until(what, async || {
        let output = run(&arguments).await;
        ensure!(output.status.success(), "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).context("no JSON")?;
        assert_valid(&report);
        ensure!(holds(&report), "{report:#}");
        Ok(report)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn index_build_and_thirty_writers_wait_for_the_transaction_of_an_operation() {
    let env = Environment::start().await;
    let metrics = Metrics::isolated().unwrap();
    let backend = table(&metrics).await;
    let runner = TransactionRunner::with_registry(&env.client, metrics.registry());
    let (end, ended) = oneshot::channel::<()>();
    let ended = std::sync::Mutex::new(Some(ended));
    let orders = env.orders();
    let keyed = |name: &'static str| runner.transaction().named(name).serialize_on(7);
    let operation = keyed("nightly_reconcile").run(async |mut tx| {
        orders.update_one(doc! {"_id": 0}, doc! {"$inc": {"n": 1}}).session(&mut tx).await?;
        let ended = ended.lock().unwrap().take();
        let _ = ended.unwrap().await;
        Ok::<_, Abort>(())
    });
    let look = async {
        let uri = env.uri();
        let arguments = [uri.as_str(), &backend];
        report_where(&arguments, "the transaction", |report| report["transactions"][0].is_object()).await;
        let build = env.build_index();
        let is_build =
            |waiting: &Value| waiting["command"] == "createIndexes" && waiting["blocked_by"][0].is_object();
        report_where(&arguments, "the index build", |report| is_build(&report["waiting"][0])).await;
        let writers = env.write();
        let report = report_where(&arguments, "thirty writers", |report| {
            let waiting = report["waiting"].as_array().unwrap();
            waiting.len() == 31
                && report["queues"][0].is_object()
                && waiting.iter().all(|waiting| waiting["blocked_by"][0].is_object())
                // A slow machine may not have been polled twice.
                && report["members"][0]["rates"].is_object()
        })
        .await;
        let queue = &report["queues"][0];
        assert_eq!(
            (&queue["key"], &queue["operation"], &queue["waiting"]),
            (&json!("7"), &json!("nightly_reconcile"), &json!(1))
        );
        let open = &report["transactions"];
        assert_eq!(open.as_array().unwrap().len(), 1);
        assert_eq!(
            (&open[0]["operation"], &open[0]["application"]),
            (&json!("nightly_reconcile"), &json!("shop"))
        );
        assert_eq!((&open[0]["state"], &open[0]["namespaces"]), (&json!("idle"), &json!(["shop.orders"])));
        let waiting = report["waiting"].as_array().unwrap();
        // It began first.
        assert!(is_build(&waiting[0]));
        assert_eq!(waiting[0]["blocked_by"], json!([{"transaction": 0}]));
        for writer in &waiting[1..] {
            assert_eq!((&writer["command"], &writer["namespace"]), (&json!("update"), &json!("shop.orders")));
            assert_eq!(writer["blocked_by"], json!([{"waiting": 0}]));
        }
        let member = &report["members"][0];
        assert_eq!((&member["role"], &member["state"]), (&json!("primary"), &json!("answers")));
        assert_eq!(member["missing"], json!([]));

        let output = run(&["top", "--once", "--timeout=10s", &uri, &backend]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains(": 1 transaction waits for the key 7, which nightly_reconcile holds\n"),
            "{text}"
        );
        let (_, tree) = text.split_once("Who waits for whom\n").expect(&text);
        let lines: Vec<_> = tree.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            lines[0].starts_with("transaction nightly_reconcile (shop), 31 wait behind: idle for "),
            "{text}"
        );
        assert!(lines[0].ends_with(", holds shop.orders"), "{text}");
        assert!(lines[1].starts_with("└─ createIndexes on shop.orders, 30 wait behind: waits "), "{text}");
        assert!(lines[1].ends_with(" for lock X on collection shop.orders"), "{text}");
        assert!(lines[2].starts_with("   └─ 30 × update on shop.orders: wait up to "), "{text}");
        end.send(()).unwrap();
        succeed(build).await;
        succeed(writers).await;
    };
    let second = async {
        // The first one has the key.
        wait::until("the transaction", async || {
            ensure!(!metrics.registry().open_transactions().is_empty(), "none is open");
            Ok(())
        })
        .await
        .unwrap();
        keyed("refund").run(async |_| Ok::<_, Abort>(())).await
    };
    let (committed, refunded, ()) = tokio::join!(operation, second, look);
    refunded.unwrap();
    committed.unwrap();
    let output = run(&["top", "--once", "--timeout=10s", &env.uri()]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("No transaction is open, and no operation waits.\n"), "{text}");
}

/// Without the privilege `inprog` a member shows the operations of the own user only: that there is no transaction is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn member_that_shows_no_operations_is_an_error_and_not_an_empty_list() {
    let set = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    let admin = set.client().await.unwrap().database("admin");
    let roles: Vec<&str> = Vec::new();
    admin.run_command(doc! {"createUser": "guest", "pwd": "hunter2", "roles": roles}).await.unwrap();
    let uri = set.uri();
    let (_, hosts) = uri.split_once('@').unwrap();
    let (folder, uri) = (tempfile::tempdir().unwrap(), format!("mongodb://guest:hunter2@{hosts}"));
    let file = folder.path().join("uri");
    std::fs::write(&file, uri).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let output =
        run(&["top", "--once", "--timeout=10s", &format!("--mongodb.uri-file={}", file.display())]).await;
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}{}", stderr(&output));
    assert!(
        text.contains("Whether transactions are open is unknown: no member shows its operations."),
        "{text}"
    );
    assert!(!text.contains("No transaction is open"), "{text}");
    assert!(stderr(&output).contains("no member shows its operations"), "{}", stderr(&output));
}

#[tokio::test]
async fn unreachable_deployment_is_an_error_with_a_reason() {
    let port = testkit::Port::reserve().unwrap();
    let uri = format!("--mongodb.uri=mongodb://{}/?directConnection=true", port.address());
    let output = run(&["top", "--once", "--output=json", "--interval=200ms", "--timeout=2s", &uri]).await;
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_valid(&report);
    assert_eq!(report["members"][0]["state"], "fails");
    assert!(
        stderr(&output).contains("cannot be reached") && stderr(&output).contains("no member has reported")
    );
}

#[tokio::test]
async fn invalid_use_says_what_to_do() {
    for (arguments, text) in [
        (&["top"][..], "use --once, with --output=json for a script"),
        (&["top", "--once"], "no deployment configured"),
        (&["top", "--once"], "--config.file"),
        (&["top", "--output=json"], "--once"),
        (&["top", "--once", "--interval=1ms", "--mongodb.uri=mongodb://a/"], "between 200ms and 1m"),
        (&["top", "--once", "--mongodb.uri=mongodb://u:hunter2@a/"], "which ps shows"),
        (
            &["top", "--once", "--mongodb.uri=mongodb://a/", "--collector.open-by-operation.backends=x"],
            "is not reached by plain http",
        ),
    ] {
        let output = run(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(text), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("hunter2"));
    }
}
