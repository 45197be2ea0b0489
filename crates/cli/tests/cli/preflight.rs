//! `txnscope preflight` as a process, against real servers.

use std::path::Path;
use std::time::Duration;

use crate::common::prometheus::{Prometheus, page};
use crate::common::{PROGRAM, run_with, stdout_and_stderr};
use axum::Router;
use axum::extract::{Path as Segment, Request};
use axum::http::StatusCode;
use axum::routing::get;
use mongodb::bson::doc;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Alertmanager, Mongod, Process, ReplicaSet, ReplicaSetOptions, wait};
use tokio::net::TcpListener;

/// The JSON report of a preflight, and its exit status.
struct Report {
    code: i32,
    json: Value,
}

impl Report {
    async fn of(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let arguments = [&["preflight", "--output=json", "--timeout=2s"], arguments].concat();
        let output = run_with(&arguments, environment).await;
        let text = stdout_and_stderr(&output);
        assert!(!text.contains("hunter2") && !text.contains("the-password-of-root"), "{text}");
        // Warnings, for example about a world-readable file, are on the standard error.
        let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{text}"));
        Self { code: output.status.code().unwrap(), json }
    }

    fn find(&self, check: &str) -> &Value {
        let checks = self.json["checks"].as_array().unwrap();
        checks
            .iter()
            .find(|found| found["check"] == check)
            .unwrap_or_else(|| panic!("no {check}: {:#}", self.json))
    }

    /// Asserts the status and the evidence of a finding.
    fn assert_finding(&self, check: &str, status: &str, evidence: &str) {
        let found = self.find(check);
        let output_text = found["evidence"].as_str().unwrap();
        assert!(found["status"] == status && output_text.contains(evidence), "{check}: {:#}", self.json);
        assert_eq!(found["remediation"].is_string(), ["warn", "fail"].contains(&status), "{found}");
    }

    fn failed(&self) -> Vec<&str> {
        let checks = self.json["checks"].as_array().unwrap();
        checks
            .iter()
            .filter(|found| found["status"] == "fail")
            .map(|found| found["check"].as_str().unwrap())
            .collect()
    }
}

/// A set of three members, all of which the primary sees: a member reports itself as a secondary before the primary does.
async fn set_of_three(election_timeout: Duration) -> ReplicaSet {
    let set = ReplicaSetOptions::new(3).election_timeout(election_timeout).start().await.unwrap();
    let admin = set.client().await.unwrap().database("admin");
    wait::until("the primary to see all members", async || {
        let status = admin.run_command(doc! {"replSetGetStatus": 1}).await?;
        let states = status
            .get_array("members")?
            .iter()
            .filter_map(|member| member.as_document()?.get_i32("state").ok());
        anyhow::ensure!(states.filter(|state| [1, 2].contains(state)).count() == 3, "{status}");
        Ok(())
    })
    .await
    .unwrap();
    set
}

#[tokio::test(flavor = "multi_thread")]
async fn healthy_deployment_is_ready_and_scratch_transaction_cleans_up() {
    let set = set_of_three(Duration::from_secs(10)).await;
    let uri = set.uri() + "&maxPoolSize=20";
    let arguments = ["--scratch-transaction=shop", "--expect-concurrency=50", "--expect-oplog-window=1ms"];
    let report = Report::of(&arguments, &[("MONGODB_URI", &uri)]).await;
    assert_eq!((report.code, report.failed()), (0, vec![]), "{:#}", report.json);
    report.assert_finding("deployment", "pass", "replica set \"rs0\", 3 data-bearing members");
    report.assert_finding("server version", "warn", "support ended on");
    report.assert_finding("storage engine", "pass", "wiredTiger");
    report.assert_finding("feature compatibility", "pass", "6.0");
    report.assert_finding("majority", "pass", "all 3 members");
    report.assert_finding("members reached", "pass", "all 3");
    report.assert_finding("clocks", "pass", "at most");
    report.assert_finding("write concern", "pass", "majority, the built-in default of the server");
    report.assert_finding("transaction lifetime limit", "pass", "60 s");
    report.assert_finding("connection pool", "warn", "50 concurrent transactions would wait");
    report.assert_finding("server connections", "pass", "available");
    report.assert_finding("write tickets", "pass", "128, for 50");
    report.assert_finding("privileges", "warn", "authentication is disabled");
    report.assert_finding("profiler", "pass", "not required");
    report.assert_finding("scratch transaction", "pass", "committed in");
    report.assert_finding("Prometheus", "skip", "not given");
    let left = set.client().await.unwrap().database("shop").list_collection_names().await.unwrap();
    assert_eq!(left, Vec::<String>::new());

    // As a table, and with a default write concern that can lose commits.
    let client = set.client().await.unwrap();
    let lose = doc! {"setDefaultRWConcern": 1, "defaultWriteConcern": {"w": 1}};
    client.database("admin").run_command(lose).await.unwrap();
    // The members learn about the new default with a delay.
    let text = wait::until("the warning", async || {
        let output = run_with(&["preflight"], &[("MONGODB_URI", &uri)]).await;
        let text = stdout_and_stderr(&output);
        let warned =
            text.contains("warn  write concern") && text.contains("→ db.adminCommand({setDefaultRWConcern");
        anyhow::ensure!(output.status.code() == Some(0) && warned, "{text}");
        Ok(text)
    })
    .await
    .unwrap();
    assert!(text.contains("\nREADY: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_without_transactions_are_distinguished() {
    let alone = Mongod::standalone().await.unwrap();
    let report = Report::of(&[], &[("MONGODB_URI", &format!("mongodb://{}/", alone.address()))]).await;
    assert_eq!((report.code, report.failed()), (1, vec!["deployment"]), "{:#}", report.json);
    report.assert_finding("deployment", "fail", "a standalone server");
    // With the name of a set in the URI, the driver ignores the server.
    let uri = format!("mongodb://{}/?replicaSet=rs0", alone.address());
    let report = Report::of(&[], &[("MONGODB_URI", &uri)]).await;
    assert_eq!(report.code, 1);
    report.assert_finding("deployment", "fail", "a standalone server");

    let uri = "mongodb://user:hunter2@127.0.0.1:1/?replicaSet=rs0";
    let report = Report::of(&["--scratch-transaction=shop"], &[("MONGODB_URI", uri)]).await;
    assert_eq!((report.code, report.failed()), (1, vec!["connection"]));
    report.assert_finding("connection", "fail", "127.0.0.1:1: ");

    alone.pause().unwrap();
    let report = Report::of(&[], &[("MONGODB_URI", &format!("mongodb://{}/", alone.address()))]).await;
    assert_eq!((report.code, report.failed()), (1, vec!["connection"]));
    alone.resume().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn set_without_a_majority_is_not_ready() {
    // A primary without a majority steps down after that time.
    let mut set = set_of_three(Duration::from_secs(1)).await;
    let primary = set.primary().await.unwrap();
    let (uri, name) = (set.uri(), set.members()[primary].address());
    let other = (primary + 1) % 3;
    set.member_mut(other).kill().await.unwrap();
    let report = Report::of(&[], &[("MONGODB_URI", &uri)]).await;
    assert_eq!(report.code, 0, "a set of three tolerates the loss of one member: {:#}", report.json);
    report.assert_finding("members reached", "warn", "1 of 3");

    set.member_mut((primary + 2) % 3).kill().await.unwrap();
    wait::until("the primary to step down", async || {
        let hello = set.members()[primary].admin(doc! {"hello": 1}).await?;
        if hello.get_bool("isWritablePrimary")? { Err(anyhow::anyhow!("{name} is primary")) } else { Ok(()) }
    })
    .await
    .unwrap();
    let report = Report::of(&["--scratch-transaction=shop"], &[("MONGODB_URI", &uri)]).await;
    assert_eq!(report.code, 1);
    assert_eq!(report.failed(), ["majority", "scratch transaction"], "{:#}", report.json);
    report.assert_finding("majority", "fail", "no primary among 3 members; unhealthy: ");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_privilege_and_wrong_password_are_distinguished() {
    let set = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    let admin = set.client().await.unwrap().database("admin");
    let role = run_with(&["role"], &[]).await;
    assert!(stdout_and_stderr(&role).contains("replSetGetStatus"));
    let actions = ["getParameter", "replSetGetStatus", "serverStatus"];
    let privilege = doc! {"resource": {"cluster": true}, "actions": &actions};
    admin.run_command(doc! {"createRole": "partly", "privileges": [privilege], "roles": []}).await.unwrap();
    let user = doc! {"createUser": "txnscope", "pwd": "hunter2", "roles": ["partly"]};
    admin.run_command(user).await.unwrap();

    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let uri = format!("mongodb://{}/?replicaSet=rs0", set.members()[0].address());
    let named = [
        "--mongodb.username=txnscope".to_owned(),
        format!("--mongodb.password-file={}", file("right", "hunter2")),
    ];
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    let report = Report::of(&named, &[("MONGODB_URI", &uri)]).await;
    assert_eq!((report.code, report.failed()), (1, vec!["privileges"]), "{:#}", report.json);
    report.assert_finding("privileges", "fail", "txnscope@admin: current_op lacks inprog on the cluster");
    report.assert_finding("write concern", "warn", "permission denied");
    // A disabled collector needs no privilege.
    let config =
        format!("--config.file={}", file("txnscope.toml", "[collector]\ncurrent_op.enabled = false"));
    let report = Report::of(&[&named[..], &[&config]].concat(), &[("MONGODB_URI", &uri)]).await;
    assert_eq!(report.code, 0, "{:#}", report.json);
    report.assert_finding("privileges", "pass", "server_status");

    let wrong = format!("--mongodb.password-file={}", file("wrong", "hunter3"));
    let report = Report::of(&[named[0], &wrong], &[("MONGODB_URI", &uri)]).await;
    assert_eq!((report.code, report.failed()), (1, vec!["connection"]));
    report.assert_finding("connection", "fail", "authentication failed");

    let report = Report::of(&[], &[("MONGODB_URI", &uri)]).await;
    assert_eq!(report.code, 1);
    report.assert_finding("privileges", "fail", "requires authentication");
    report.assert_finding("storage engine", "warn", "permission denied");
}

const RULES: &str =
    "groups: [{name: ours, rules: [{alert: Failures, expr: 'rate(transaction_failures_total[5m]) > 1'}]}]";

#[tokio::test(flavor = "multi_thread")]
async fn missing_monitoring_is_found() {
    let set = ReplicaSet::start(1).await.unwrap();
    let uri = set.uri();
    let empty = "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: other, static_configs: [{targets: ['127.0.0.1:1']}]}]";
    let idle = Prometheus::start(empty, async |_: &Path| {}).await;
    idle.has("up == 0").await;
    let prometheus = format!("--prometheus.url={}", idle.url);
    let report = Report::of(&[&prometheus], &[("MONGODB_URI", &uri)]).await;
    assert_eq!(report.code, 1);
    let failed = ["backend scraped", "sidecar scraped", "alert rules", "Prometheus notifies"];
    assert_eq!(report.failed(), failed, "{:#}", report.json);
    report.assert_finding(
        "backend scraped",
        "fail",
        "no series of transaction_attempts_total; down: other at 127.0.0.1:1",
    );

    let report = Report::of(&["--prometheus.url=http://127.0.0.1:1"], &[("MONGODB_URI", &uri)]).await;
    assert_eq!((report.code, report.failed()), (1, vec!["Prometheus"]));
    // A service that responds and is not Prometheus.
    let page = page("transaction_attempts_total{operation=\"a\"} 0\n".to_owned()).await;
    let report = Report::of(&[&format!("--prometheus.url=http://{page}")], &[("MONGODB_URI", &uri)]).await;
    assert_eq!((report.code, report.failed()), (1, vec!["Prometheus"]));
    report.assert_finding("Prometheus", "fail", "404");
}

#[tokio::test(flavor = "multi_thread")]
async fn monitored_deployment_is_ready() {
    let set = ReplicaSet::start(1).await.unwrap();
    let uri = set.uri();
    let folder = TempDir::new().unwrap();
    let arguments = ["serve", "--web.listen-address=127.0.0.1:0"].map(str::to_owned);
    let sidecar = Process::spawn_with(Path::new(PROGRAM), &arguments, folder.path().join("log"), |command| {
        command.env("MONGODB_URI", &uri);
    });
    let sidecar = sidecar.await.unwrap();
    let address = wait::until("the sidecar's address", async || {
        let log = sidecar.log();
        let rest =
            log.split_once("address=").map(|(_, rest)| rest.split_whitespace().next().map(str::to_owned));
        rest.flatten().ok_or_else(|| anyhow::anyhow!(log))
    });
    let (sidecar_at, backend) =
        (address.await.unwrap(), page("transaction_attempts_total{operation=\"a\"} 0\n".to_owned()).await);
    let alertmanager =
        Alertmanager::start("{route: {receiver: none}, receivers: [{name: none}]}").await.unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nrule_files: [rules.yml]\nscrape_configs:\n\
         - {{job_name: shop, static_configs: [{{targets: ['{backend}']}}]}}\n\
         - {{job_name: txnscope, static_configs: [{{targets: ['{sidecar_at}']}}]}}\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{}']}}]}}]}}\n",
        alertmanager.url().trim_start_matches("http://")
    );
    let prometheus = Prometheus::start(&config, async |folder: &Path| {
        std::fs::write(folder.join("rules.yml"), RULES).unwrap();
    })
    .await;
    prometheus.has("txnscope_build_info and on() transaction_attempts_total").await;
    let arguments = [
        format!("--prometheus.url={}", prometheus.url),
        format!("--alertmanager.url={}", alertmanager.url()),
        format!("--grafana.url={}", grafana("txnscope-self").await),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let environment = [("MONGODB_URI", uri.as_str()), ("TXNSCOPE_GRAFANA_TOKEN", "hunter2")];
    let report = Report::of(&arguments, &environment).await;
    assert_eq!((report.code, report.failed()), (1, vec!["dashboards"]), "{:#}", report.json);
    report.assert_finding("backend scraped", "pass", "shop at ");
    report.assert_finding(
        "unmatched requests",
        "pass",
        "no successful request of the last hour matches no route",
    );
    report.assert_finding("sidecar scraped", "pass", "txnscope at ");
    report.assert_finding("alert rules", "pass", "1 alert on");
    report.assert_finding("Prometheus notifies", "pass", &alertmanager.url());
    report.assert_finding("Alertmanager", "pass", "version 0.");
    report.assert_finding("dashboards", "fail", "missing: txnscope-self");
    let report = Report::of(&arguments, &environment[..1]).await;
    report.assert_finding("dashboards", "fail", "401");
}

/// The metrics that prom-client exports for a backend without txnscope, which lack labels.
#[tokio::test(flavor = "multi_thread")]
async fn missing_labels_of_a_backend_are_found() {
    let set = ReplicaSet::start(1).await.unwrap();
    let uri = set.uri();
    let bare = "transaction_attempts_total 7\ntransaction_failures_total 2\ntransaction_duration_seconds_count 7\nconcurrent_operations 0\n";
    let bare = page(bare.to_owned()).await;
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: legacy, static_configs: [{{targets: ['{bare}']}}]}}]\n"
    );
    let prometheus = Prometheus::start(&config, async |_: &Path| {}).await;
    prometheus.has("transaction_attempts_total").await;
    let url = format!("--prometheus.url={}", prometheus.url);
    let report = Report::of(&[&url], &[("MONGODB_URI", &uri)]).await;
    assert_eq!(report.code, 1);
    report.assert_finding(
        "backend scraped",
        "fail",
        "legacy lacks the label outcome: TransactionFailureBudgetBurnFast",
    );
    report.assert_finding("backend scraped", "fail", "legacy lack the label operation");
    report.assert_finding(
        "backend metrics",
        "warn",
        "legacy without mongodb_client_transactions_started_total: TransactionCommitUnknown",
    );
    report.assert_finding("cancelled operations", "pass", "no operation of the last hour is cancelled often");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_operations_and_unmatched_requests_are_warnings() {
    use std::fmt::Write as _;
    let set = ReplicaSet::start(1).await.unwrap();
    let uri = set.uri();
    let mut history = String::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for minute in 0..=90_u64 {
        let at = now - 60 * (90 - minute);
        for (outcome, count) in [("succeeded", minute * 7), ("cancelled", minute * 3)] {
            writeln!(history, "transaction_duration_seconds_count{{job=\"shop\",operation=\"POST /pay\",outcome=\"{outcome}\"}} {count} {at}").unwrap();
        }
        writeln!(history, "transaction_duration_seconds_count{{job=\"old-axum\",operation=\"unmatched\",outcome=\"succeeded\"}} {minute} {at}").unwrap();
        writeln!(
            history,
            "transaction_attempts_total{{job=\"shop\",operation=\"POST /pay\"}} {} {at}",
            minute * 10
        )
        .unwrap();
    }
    history.push_str("# EOF\n");
    let prometheus = Prometheus::start("global: {}", async |folder: &Path| {
        let file = folder.join("history");
        std::fs::write(&file, history).unwrap();
        let mut promtool = tokio::process::Command::new(testkit::Binary::Promtool.path().unwrap());
        promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&file).arg(folder.join("data"));
        assert!(promtool.output().await.unwrap().status.success());
    })
    .await;
    prometheus.has("last_over_time(transaction_attempts_total[5m])").await;
    let url = format!("--prometheus.url={}", prometheus.url);
    let report = Report::of(&[&url], &[("MONGODB_URI", &uri)]).await;
    report.assert_finding("cancelled operations", "warn", "30 % of POST /pay of shop");
    report.assert_finding("unmatched requests", "warn", "successful requests of old-axum match no route");
}

/// A stand-in for Grafana, which is in no registry: it has all dashboards but one, for the holder of the token.
async fn grafana(missing: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = async move |Segment(uid): Segment<String>, request: Request| {
        let token = request.headers().get("authorization");
        let known = token.is_some_and(|token| token == "Bearer hunter2");
        match uid {
            _ if !known => Err((StatusCode::UNAUTHORIZED, axum::Json(json!({"message": "Unauthorized"})))),
            uid if uid == missing => {
                Err((StatusCode::NOT_FOUND, axum::Json(json!({"message": "Dashboard not found"}))))
            }
            uid => Ok(axum::Json(json!({"dashboard": {"uid": uid}}))),
        }
    };
    let app = Router::new().route("/api/dashboards/uid/{uid}", get(answer));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

/// The page of a backend that requires a token.
async fn page_with_token() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let answer = async |request: Request| match request.headers().get("authorization") {
        Some(token) if token == "Bearer hunter2" => Ok("transaction_attempts_total{operation=\"pay\"} 1\n"),
        _ => Err(StatusCode::UNAUTHORIZED),
    };
    tokio::spawn(async move {
        axum::serve(listener, Router::new().route("/metrics", get(answer))).await.unwrap();
    });
    url
}

#[tokio::test]
async fn token_of_the_backend_page_comes_from_a_file_or_a_variable() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "hunter2\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let url = format!("--backend.metrics-url={}", page_with_token().await);
    let file = format!("--backend.token-file={}", file.display());
    let uri = ("MONGODB_URI", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1");
    let (with_file, variable) = ([url.as_str(), &file], [uri, ("TXNSCOPE_BACKEND_TOKEN", "hunter2")]);
    // Together, since each waits for a deployment that does not respond.
    let (by_file, by_variable, without) = tokio::join!(
        Report::of(&with_file, &variable[..1]),
        Report::of(&with_file[..1], &variable),
        Report::of(&with_file[..1], &variable[..1]),
    );
    by_file.assert_finding("backend page", "pass", "responds");
    by_variable.assert_finding("backend page", "pass", "responds");
    without.assert_finding("backend page", "fail", "401");
}

#[tokio::test]
async fn invalid_command_line_is_an_error_without_secrets() {
    let uri = "mongodb://user:hunter2@127.0.0.1:1/";
    for (arguments, environment, expected) in [
        (&["preflight"][..], &[][..], "no deployment configured"),
        (&["preflight", "--mongodb.uri=mongodb://user:hunter2@host/"], &[], "ps shows"),
        (
            &["preflight", "--mongodb.uri=mongodb://a/", "--mongodb.uri=mongodb://b/"],
            &[],
            "this command takes one",
        ),
        (
            &["preflight", "--scratch-transaction=admin"],
            &[("MONGODB_URI", uri)],
            "name a database of the application",
        ),
        (&["preflight", "--expect-concurrency=0"], &[("MONGODB_URI", uri)], "expect-concurrency"),
        (&["preflight", "--timeout=5"], &[("MONGODB_URI", uri)], "--timeout"),
        (&["preflight", "--output=yaml"], &[("MONGODB_URI", uri)], "json"),
        (
            &["preflight", "--config.file=/nowhere/txnscope.toml"],
            &[("MONGODB_URI", uri)],
            "/nowhere/txnscope.toml",
        ),
        (
            &["preflight", "--prometheus.url=http://u:hunter2@host/"],
            &[("MONGODB_URI", uri)],
            "TXNSCOPE_PROMETHEUS_URL",
        ),
        (&["preflight", "--grafana.url=host"], &[("MONGODB_URI", uri)], "--grafana.url"),
        (
            &["preflight", "--grafana.url=http://host", "--grafana.token-file=/nowhere/token"],
            &[("MONGODB_URI", uri)],
            "/nowhere/token",
        ),
        (
            &["preflight", "--backend.metrics-url=http://host", "--backend.token-file=/nowhere/token"],
            &[("MONGODB_URI", uri)],
            "--backend.token-file",
        ),
    ] {
        let output = run_with(arguments, environment).await;
        let output_text = stdout_and_stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output_text}");
        assert!(output_text.contains(expected), "{arguments:?}: {output_text}");
        assert!(
            !output_text.contains("hunter2") && !output_text.contains("panicked"),
            "{arguments:?}: {output_text}"
        );
    }
}
