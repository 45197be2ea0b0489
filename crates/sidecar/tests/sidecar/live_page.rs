//! The live page: its headers, and the events that it reads.

use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use reqwest::Response;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{ReplicaSet, wait};
use txnscope_sidecar::{Config, Sidecar};

use crate::common::{open_transaction, prepare, url};

const NOWHERE: &str = "mongodb://127.0.0.1:1/";

async fn start(uri: &str) -> Sidecar {
    Sidecar::start(config(uri)).await.unwrap()
}

/// The regular polls run once, so that all further commands are those for the viewers.
fn config(uri: &str) -> Config {
    let mut config = Config::new(uri);
    config.listen_addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.poll_interval = Duration::from_secs(3600);
    config.poll_timeout = wait::LIMIT;
    config
}

/// An open event stream.
struct Viewer {
    response: Response,
    text: String,
}

impl Viewer {
    async fn open(sidecar: &Sidecar, user: Option<&str>) -> Self {
        let mut request = reqwest::Client::new().get(url(sidecar, "/live/events"));
        if let Some(user) = user {
            request = request.header("authorization", format!("Basic {}", STANDARD.encode(user)));
        }
        Self { response: request.send().await.unwrap(), text: String::new() }
    }

    /// The next event with this name; `None` if the stream ends before.
    async fn next(&mut self, name: &str) -> Option<Value> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.strip_prefix(&format!("event: {name}\ndata: "));
                let data = data.map(|data| serde_json::from_str(data).unwrap());
                self.text = rest.to_owned();
                if data.is_some() {
                    return data;
                }
            }
            // A connection that the sidecar closes may end in an error.
            let piece = tokio::time::timeout(wait::LIMIT, self.response.chunk());
            let piece = piece.await.expect("the stream neither goes on nor ends").ok()??;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// The first report that meets a condition.
    async fn report_where(&mut self, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next("report").await.expect("the stream has ended");
            let report = event["deployments"][0]["report"].clone();
            if holds(&report) {
                return event;
            }
        }
    }
}

fn transactions(report: &Value) -> usize {
    report["transactions"].as_array().map_or(0, Vec::len)
}

async fn admin(client: &Client, command: Document) -> Document {
    client.database("admin").run_command(command).await.unwrap()
}

/// How often the server has run `lockInfo`, which only the live collector sends.
async fn polls(client: &Client) -> i64 {
    let status = admin(client, doc! {"serverStatus": 1}).await;
    let commands = status.get_document("metrics").unwrap().get_document("commands").unwrap();
    commands.get_document("lockInfo").unwrap().get_i64("total").unwrap()
}

/// The number of the sidecar's connections to the server.
async fn connections(client: &Client) -> usize {
    let mut found = client
        .database("admin")
        .aggregate([
            doc! {"$currentOp": {"allUsers": true, "idleConnections": true}},
            doc! {"$match": {"appName": "txnscope"}},
        ])
        .await
        .unwrap();
    let mut count = 0;
    while found.advance().await.unwrap() {
        count += 1;
    }
    count
}

#[tokio::test]
async fn live_page_loads_nothing_inline_and_nothing_from_other_sites() {
    let sidecar = start(NOWHERE).await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/live", "text/html; charset=utf-8"),
        ("/live/page.css", "text/css; charset=utf-8"),
        ("/live/page.js", "text/javascript; charset=utf-8"),
        ("/live/icon.svg", "image/svg+xml"),
        ("/live/events", "text/event-stream"),
    ] {
        let answer = reqwest::get(url(&sidecar, path)).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"] == content_type), (200, true));
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
        for part in policy.split("; ").filter(|part| part.contains("-src ")) {
            assert!(part.ends_with(" 'self'") || part.ends_with(" 'none'"), "{part}");
        }
        if path == "/live" {
            let page = answer.text().await.unwrap();
            let attributes = page.split_whitespace().filter(|word| word.contains('='));
            let mut inline = attributes.filter(|word| word.starts_with("on") || word.starts_with("style="));
            assert_eq!((inline.next(), page.contains("<style")), (None, false));
            assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=").count());
        }
    }
    let answer = reqwest::get(url(&sidecar, "/live/")).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.url().path()), (200, "/live"));
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_show_a_transaction_while_it_is_open() {
    let set = ReplicaSet::recycled().await.unwrap();
    let client = set.client().await.unwrap();
    prepare(&client).await;
    let mut session = open_transaction(&client).await;
    let sidecar = start(&set.uri()).await;
    let mut viewer = Viewer::open(&sidecar, None).await;
    let first = viewer.next("sidecar").await.unwrap();
    assert_eq!((&first["telemetry_path"], &first["checks"]), (&"metrics".into(), &Value::Array(Vec::new())));
    let event = viewer.report_where(|report| transactions(report) == 1).await;
    let open = &event["deployments"][0]["report"]["transactions"][0];
    assert_eq!((&open["state"], &open["namespaces"][0]), (&"idle".into(), &"test.c".into()), "{open}");
    assert_eq!(event["deployments"][0]["tree"], Value::Array(Vec::new()));
    session.commit_transaction().await.unwrap();
    viewer.report_where(|report| transactions(report) == 0).await;
    let members = |sidecar: &Value| sidecar["members"][0].clone();
    let mut sidecar_event = viewer.next("sidecar").await.unwrap();
    while members(&sidecar_event)["up"] != true {
        sidecar_event = viewer.next("sidecar").await.unwrap();
    }
    let member = members(&sidecar_event);
    assert_eq!(member["member"], set.members()[0].address());
    assert!(member["collectors"][0]["polled_at"].as_f64().unwrap() > 1e9, "{member}");
    assert_eq!(member["collectors"][0]["failure"], Value::Null, "{member}");
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_share_one_poller_that_stops_without_them() {
    let set = ReplicaSet::recycled().await.unwrap();
    let client = set.client().await.unwrap();
    let sidecar = start(&set.uri()).await;
    wait::until("the first polls", async || {
        let ready = reqwest::get(url(&sidecar, "/-/ready")).await?.status();
        ensure!(ready == 200, "{ready}");
        Ok(())
    })
    .await
    .unwrap();
    let (before, connections_before) = (polls(&client).await, connections(&client).await);
    let mut viewers = Vec::new();
    for _ in 0..10 {
        viewers.push(Viewer::open(&sidecar, None).await);
    }
    let is_polled = |report: &Value| report["members"][0]["state"] == "answers";
    for viewer in &mut viewers {
        viewer.report_where(is_polled).await;
    }
    for viewer in &mut viewers {
        for _ in 0..3 {
            viewer.next("report").await.unwrap();
        }
    }
    // Each poll is one report at most, and each of the ten has had at least four.
    let during = polls(&client).await - before;
    assert!(during < 40, "{during} polls for ten viewers");
    assert!(connections(&client).await > connections_before, "the poller has connections of its own");

    drop(viewers);
    wait::until("the end of the poller", async || {
        let now = connections(&client).await;
        ensure!(now <= connections_before, "{now} connections, {connections_before} before");
        Ok(())
    })
    .await
    .unwrap();
    let after = polls(&client).await;
    let mut viewer = Viewer::open(&sidecar, None).await;
    viewer.report_where(is_polled).await;
    assert!(polls(&client).await > after, "the next viewer starts it again");
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn event_stream_needs_a_login_and_ends_with_the_user() -> Result<()> {
    let folder = TempDir::new()?;
    let user = |name: &str| format!("basic_auth_users:\n  {name}: {}\n", bcrypt::hash("x", 4).unwrap());
    std::fs::write(folder.path().join("web.yml"), user("old"))?;
    let mut config = config(NOWHERE);
    config.web_config_file = Some(folder.path().join("web.yml"));
    let sidecar = Sidecar::start(config).await?;
    for path in ["/", "/live", "/live/page.js", "/live/events"] {
        let answer = reqwest::get(url(&sidecar, path)).await?;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["www-authenticate"]),
            (401, &"Basic".parse()?)
        );
    }
    let mut viewer = Viewer::open(&sidecar, Some("old:x")).await;
    assert!(viewer.next("sidecar").await.is_some());
    std::fs::write(folder.path().join("web.yml"), user("new"))?;
    sidecar.reload().await?;
    while viewer.next("sidecar").await.is_some() {}
    assert_eq!(Viewer::open(&sidecar, Some("old:x")).await.response.status(), 401);
    assert!(Viewer::open(&sidecar, Some("new:x")).await.next("sidecar").await.is_some());
    sidecar.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn number_of_viewers_is_limited_and_shutdown_ends_them() {
    let sidecar = start(NOWHERE).await;
    let mut viewers = Vec::new();
    for _ in 0..100 {
        viewers.push(Viewer::open(&sidecar, None).await);
        assert_eq!(viewers.last().unwrap().response.status(), 200, "{}", viewers.len());
    }
    let answer = Viewer::open(&sidecar, None).await.response;
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"] == "10"), (503, true));
    assert!(answer.text().await.unwrap().contains("live page"));
    let cross =
        reqwest::Client::new().get(url(&sidecar, "/live/events")).header("sec-fetch-site", "cross-site");
    assert_eq!(cross.send().await.unwrap().status(), 403);
    assert_eq!(
        reqwest::get(url(&sidecar, "/metrics")).await.unwrap().status(),
        200,
        "they take no place of scrapes"
    );
    drop(viewers.split_off(1));
    wait::until("a free place", async || {
        let status = Viewer::open(&sidecar, None).await.response.status();
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await
    .unwrap();
    sidecar.shutdown().await;
    let mut last = viewers.remove(0);
    while last.next("sidecar").await.is_some() {}
}
