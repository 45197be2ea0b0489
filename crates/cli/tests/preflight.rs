//! `txnscope preflight` as a process, against real servers: what it tells apart, and what it leaves behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as Segment, Request};
use axum::http::StatusCode;
use axum::routing::get;
use common::prometheus::{Prometheus, page};
use common::{PROGRAM, printed, run_with};
use mongodb::bson::doc;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Alertmanager, Mongod, Process, ReplicaSet, ReplicaSetOptions, wait};
use tokio::net::TcpListener;

/// What a preflight says, as JSON, and how it ends.
struct Said {
    code: i32,
    json: Value,
}

impl Said {
    async fn of(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let arguments = [&["preflight", "--output=json", "--timeout=2s"], arguments].concat();
        let output = run_with(&arguments, environment).await;
        let text = printed(&output);
        assert!(!text.contains("hunter2") && !text.contains("the-password-of-root"), "{text}");
        // What is beside it, a warning of a file that everybody may read say, is on the other way out.
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

    /// Holds that a check came out so, with that in its evidence.
    fn holds(&self, check: &str, verdict: &str, evidence: &str) {
        let found = self.find(check);
        let said = found["evidence"].as_str().unwrap();
        assert!(found["verdict"] == verdict && said.contains(evidence), "{check}: {:#}", self.json);
        assert_eq!(found["cure"].is_string(), ["warn", "fail"].contains(&verdict), "{found}");
    }

    fn failed(&self) -> Vec<&str> {
        let checks = self.json["checks"].as_array().unwrap();
        checks
            .iter()
            .filter(|found| found["verdict"] == "fail")
            .map(|found| found["check"].as_str().unwrap())
            .collect()
    }
}

/// Three members, of which the primary knows that they are there: each says that it is a secondary before the primary has
/// heard of it.
async fn a_set_of_three(election_timeout: Duration) -> ReplicaSet {
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
async fn a_healthy_deployment_is_ready_and_a_scratch_transaction_leaves_nothing_behind() {
    let set = a_set_of_three(Duration::from_secs(10)).await;
    let uri = set.uri() + "&maxPoolSize=20";
    let arguments = ["--scratch-transaction=shop", "--expect-concurrency=50", "--expect-oplog-window=1ms"];
    let said = Said::of(&arguments, &[("MONGODB_URI", &uri)]).await;
    assert_eq!((said.code, said.failed()), (0, vec![]), "{:#}", said.json);
    said.holds("deployment", "pass", "replica set \"rs0\", 3 members");
    said.holds("server version", "warn", "support ended on");
    said.holds("storage engine", "pass", "wiredTiger");
    said.holds("feature compatibility", "pass", "6.0");
    said.holds("majority", "pass", "all 3 members");
    said.holds("members reached", "pass", "all 3");
    said.holds("clocks", "pass", "at most");
    said.holds("write concern", "pass", "majority, the server's own default");
    said.holds("transaction lifetime limit", "pass", "60 s");
    said.holds("connection pool", "warn", "50 transactions at once would wait");
    said.holds("server connections", "pass", "available");
    said.holds("write tickets", "pass", "128, for 50");
    said.holds("privileges", "warn", "asks nobody who they are");
    said.holds("profiler", "pass", "not wanted");
    said.holds("scratch transaction", "pass", "committed in");
    said.holds("Prometheus", "skip", "not given");
    let left = set.client().await.unwrap().database("shop").list_collection_names().await.unwrap();
    assert_eq!(left, Vec::<String>::new());

    // For people, and in a configuration where a commit can be lost.
    let client = set.client().await.unwrap();
    let lose = doc! {"setDefaultRWConcern": 1, "defaultWriteConcern": {"w": 1}};
    client.database("admin").run_command(lose).await.unwrap();
    // Each member learns of it in its own time.
    let text = wait::until("the warning", async || {
        let output = run_with(&["preflight"], &[("MONGODB_URI", &uri)]).await;
        let text = printed(&output);
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
async fn servers_that_run_no_transactions_are_told_apart() {
    let alone = Mongod::standalone().await.unwrap();
    let said = Said::of(&[], &[("MONGODB_URI", &format!("mongodb://{}/", alone.address()))]).await;
    assert_eq!((said.code, said.failed()), (1, vec!["deployment"]), "{:#}", said.json);
    said.holds("deployment", "fail", "a standalone server");
    // With the name of a set in the URI, the driver does not speak to it at all.
    let uri = format!("mongodb://{}/?replicaSet=rs0", alone.address());
    let said = Said::of(&[], &[("MONGODB_URI", &uri)]).await;
    assert_eq!(said.code, 1);
    said.holds("deployment", "fail", "a standalone server");

    let uri = "mongodb://user:hunter2@127.0.0.1:1/?replicaSet=rs0";
    let said = Said::of(&["--scratch-transaction=shop"], &[("MONGODB_URI", uri)]).await;
    assert_eq!((said.code, said.failed()), (1, vec!["connection"]));
    said.holds("connection", "fail", "127.0.0.1:1: ");

    alone.pause().unwrap();
    let said = Said::of(&[], &[("MONGODB_URI", &format!("mongodb://{}/", alone.address()))]).await;
    assert_eq!((said.code, said.failed()), (1, vec!["connection"]));
    alone.resume().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_without_a_majority_is_not_ready() {
    // A primary without a majority steps down after that time.
    let mut set = a_set_of_three(Duration::from_secs(1)).await;
    let primary = set.primary().await.unwrap();
    let (uri, name) = (set.uri(), set.members()[primary].address());
    let other = (primary + 1) % 3;
    set.member_mut(other).kill().await.unwrap();
    let said = Said::of(&[], &[("MONGODB_URI", &uri)]).await;
    assert_eq!(said.code, 0, "one of three may be away: {:#}", said.json);
    said.holds("members reached", "warn", "1 of 3");

    set.member_mut((primary + 2) % 3).kill().await.unwrap();
    wait::until("the primary to step down", async || {
        let hello = set.members()[primary].admin(doc! {"hello": 1}).await?;
        if hello.get_bool("isWritablePrimary")? { Err(anyhow::anyhow!("{name} is primary")) } else { Ok(()) }
    })
    .await
    .unwrap();
    let said = Said::of(&["--scratch-transaction=shop"], &[("MONGODB_URI", &uri)]).await;
    assert_eq!(said.code, 1);
    assert_eq!(said.failed(), ["majority", "scratch transaction"], "{:#}", said.json);
    said.holds("majority", "fail", "no primary among 3 members; away: ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_privilege_and_a_wrong_password_are_told_apart() {
    let set = ReplicaSetOptions::new(1).auth().start().await.unwrap();
    let admin = set.client().await.unwrap().database("admin");
    let role = run_with(&["role"], &[]).await;
    assert!(printed(&role).contains("replSetGetStatus"));
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
    let said = Said::of(&named, &[("MONGODB_URI", &uri)]).await;
    assert_eq!((said.code, said.failed()), (1, vec!["privileges"]), "{:#}", said.json);
    said.holds("privileges", "fail", "txnscope@admin: current_op lacks inprog on the cluster");
    said.holds("write concern", "warn", "not allowed");
    // Where the collector is off, the privilege is not missed.
    let config =
        format!("--config.file={}", file("txnscope.toml", "[collector]\ncurrent_op.enabled = false"));
    let said = Said::of(&[&named[..], &[&config]].concat(), &[("MONGODB_URI", &uri)]).await;
    assert_eq!(said.code, 0, "{:#}", said.json);
    said.holds("privileges", "pass", "server_status");

    let wrong = format!("--mongodb.password-file={}", file("wrong", "hunter3"));
    let said = Said::of(&[named[0], &wrong], &[("MONGODB_URI", &uri)]).await;
    assert_eq!((said.code, said.failed()), (1, vec!["connection"]));
    said.holds("connection", "fail", "does not accept the credentials");

    let said = Said::of(&[], &[("MONGODB_URI", &uri)]).await;
    assert_eq!(said.code, 1);
    said.holds("privileges", "fail", "wants to know who asks");
    said.holds("storage engine", "warn", "not allowed");
}

const RULES: &str =
    "groups: [{name: ours, rules: [{alert: Failures, expr: 'rate(transaction_failures_total[5m]) > 1'}]}]";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_measured_and_does_not_arrive_is_found() {
    let set = ReplicaSet::start(1).await.unwrap();
    let uri = set.uri();
    let empty = "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: other, static_configs: [{targets: ['127.0.0.1:1']}]}]";
    let idle = Prometheus::start(empty, async |_: &Path| {}).await;
    idle.has("up == 0").await;
    let prometheus = format!("--prometheus.url={}", idle.url);
    let said = Said::of(&[&prometheus], &[("MONGODB_URI", &uri)]).await;
    assert_eq!(said.code, 1);
    let failed = ["backend scraped", "sidecar scraped", "alert rules", "Prometheus notifies"];
    assert_eq!(said.failed(), failed, "{:#}", said.json);
    said.holds(
        "backend scraped",
        "fail",
        "no series of transaction_attempts_total; down: other at 127.0.0.1:1",
    );

    let said = Said::of(&["--prometheus.url=http://127.0.0.1:1"], &[("MONGODB_URI", &uri)]).await;
    assert_eq!((said.code, said.failed()), (1, vec!["Prometheus"]));
    // Something that answers, and is no Prometheus.
    let page = page("transaction_attempts_total{operation=\"a\"} 0\n".to_owned()).await;
    let said = Said::of(&[&format!("--prometheus.url=http://{page}")], &[("MONGODB_URI", &uri)]).await;
    assert_eq!((said.code, said.failed()), (1, vec!["Prometheus"]));
    said.holds("Prometheus", "fail", "404");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_deployment_is_ready_from_end_to_end() {
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
    let said = Said::of(&arguments, &environment).await;
    assert_eq!((said.code, said.failed()), (1, vec!["dashboards"]), "{:#}", said.json);
    said.holds("backend scraped", "pass", "shop at ");
    said.holds("unmatched requests", "pass", "no request succeeded within the hour that matches no route");
    said.holds("sidecar scraped", "pass", "txnscope at ");
    said.holds("alert rules", "pass", "1 alert on");
    said.holds("Prometheus notifies", "pass", &alertmanager.url());
    said.holds("Alertmanager", "pass", "version 0.");
    said.holds("dashboards", "fail", "missing: txnscope-self");
    let said = Said::of(&arguments, &environment[..1]).await;
    said.holds("dashboards", "fail", "401");
}

/// What prom-client exports for a backend that counts by itself; and one whose time limit stands outside of the layer.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_the_labels_that_alerts_need_is_found() {
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
    let said = Said::of(&[&url], &[("MONGODB_URI", &uri)]).await;
    assert_eq!(said.code, 1);
    said.holds(
        "backend scraped",
        "fail",
        "legacy is without the label outcome: TransactionFailureBudgetBurnFast",
    );
    said.holds("backend scraped", "fail", "legacy are without the label operation");
    said.holds(
        "backend metrics",
        "warn",
        "legacy without mongodb_client_transactions_started_total: TransactionCommitUnknown",
    );
    said.holds("cancelled operations", "pass", "no operation is cancelled often");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_limit_outside_of_the_layer_and_routes_that_nothing_matches_are_hinted_at() {
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
    let said = Said::of(&[&url], &[("MONGODB_URI", &uri)]).await;
    said.holds("cancelled operations", "warn", "30 % of POST /pay of shop");
    said.holds("unmatched requests", "warn", "requests of old-axum succeed and match no route");
}

/// Answers as Grafana does (it is in no registry): all dashboards but one, to the holder of the token.
async fn grafana(lacks: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = async move |Segment(uid): Segment<String>, request: Request| {
        let token = request.headers().get("authorization");
        let known = token.is_some_and(|token| token == "Bearer hunter2");
        match uid {
            _ if !known => Err((StatusCode::UNAUTHORIZED, axum::Json(json!({"message": "Unauthorized"})))),
            uid if uid == lacks => {
                Err((StatusCode::NOT_FOUND, axum::Json(json!({"message": "Dashboard not found"}))))
            }
            uid => Ok(axum::Json(json!({"dashboard": {"uid": uid}}))),
        }
    };
    let app = Router::new().route("/api/dashboards/uid/{uid}", get(answer));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

#[tokio::test]
async fn a_wrong_command_line_is_told_apart_and_no_secret_with_it() {
    let uri = "mongodb://user:hunter2@127.0.0.1:1/";
    for (arguments, environment, complaint) in [
        (&["preflight"][..], &[][..], "which deployment?"),
        (&["preflight", "--mongodb.uri=mongodb://user:hunter2@host/"], &[], "ps shows"),
        (&["preflight", "--mongodb.uri=mongodb://a/", "--mongodb.uri=mongodb://b/"], &[], "name one"),
        (&["preflight", "--scratch-transaction=admin"], &[("MONGODB_URI", uri)], "name one of your own"),
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
    ] {
        let output = run_with(arguments, environment).await;
        let said = printed(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(complaint), "{arguments:?}: {said}");
        assert!(!said.contains("hunter2") && !said.contains("panicked"), "{arguments:?}: {said}");
    }
}
