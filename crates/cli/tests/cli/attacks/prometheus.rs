//! A malicious server in place of Prometheus.

use std::process::Stdio;

use anyhow::anyhow;
use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use serde_json::{Value, json};
use testkit::wait;
use tokio::net::TcpListener;

use crate::attacks::environment::{CONTROL_CHARACTERS, is_harmless};
use crate::common::{PROGRAM, run, stdout_and_stderr};

/// Series with these labels, for instant and range queries.
#[derive(Clone)]
struct Responses(Vec<Value>);

async fn respond(State(Responses(labels)): State<Responses>, uri: Uri) -> String {
    let is_range = uri.path().ends_with("query_range");
    let series = labels.iter().map(|labels| {
        if is_range {
            json!({"metric": labels, "values": [[1_700_000_000, "9"]]})
        } else {
            json!({"metric": labels, "value": [1_700_000_000, "9"]})
        }
    });
    let kind = if is_range { "matrix" } else { "vector" };
    let data = json!({"resultType": kind, "result": series.collect::<Vec<_>>()});
    json!({"status": "success", "data": data}).to_string()
}

async fn prometheus(labels: Vec<Value>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("--prometheus.url=http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(respond).with_state(Responses(labels));
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

const DEPLOYED_AT: &str = "--deployed-at=2023-11-14T22:13:20Z";

/// The exit status, the output, and the peak memory in kilobytes.
async fn verify(url: &str) -> (i32, String, u64) {
    let folder = tempfile::tempdir().unwrap();
    let output_text = folder.path().join("output_text");
    let output = std::fs::File::create(&output_text).unwrap();
    let mut child = tokio::process::Command::new(PROGRAM)
        .args(["verify", url, DEPLOYED_AT, "--output=markdown"])
        .env_remove("MONGODB_URI")
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut peak = 0;
    let ended = wait::until("the end", async || {
        let read = std::fs::read_to_string(&status).unwrap_or_default();
        let seen = read.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = peak.max(seen.and_then(|seen| seen.parse::<u64>().ok()).unwrap_or(0));
        child.try_wait()?.ok_or_else(|| anyhow!("it runs"))
    });
    let code = ended.await.unwrap().code().unwrap();
    (code, std::fs::read_to_string(output_text).unwrap(), peak)
}

/// Without limits it took 1.1 GiB: a count of each operation for each bound of all operations.
#[tokio::test(flavor = "multi_thread")]
async fn memory_of_verify_is_bounded() {
    const MOST: u64 = 200 << 10;
    let series = |operation: u32, bound: u32| json!({"operation": format!("o{operation}"), "le": format!("{bound}.5"), "outcome": "succeeded"});
    for (labels, refused) in [
        ((0..6_000).map(|index| series(index, index)).collect(), Some("more than 1000 operations")),
        ((0..6_000).map(|index| series(0, index)).collect(), Some("more than 200 different bounds")),
        ((0..6_000).map(|index| series(index % 1_000, index % 200)).collect(), None),
    ] {
        let labels: Vec<Value> = labels;
        let size = serde_json::to_string(&labels).unwrap().len();
        assert!((300_000..900_000).contains(&size), "{size} bytes");
        let (code, output_text, peak) = verify(&prometheus(labels).await).await;
        if let Some(refused) = refused {
            assert_eq!(code, 2, "{output_text}");
            assert!(output_text.contains(refused) && output_text.contains("--selector"), "{output_text}");
        }
        assert!(0 < peak && peak < MOST, "{refused:?}: it held {peak} kB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_from_prometheus_are_escaped_in_all_formats() {
    let names = [
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "![a](http://evil.example/a.png)",
        "http://evil.example/ www.evil.example @everyone #1",
        "a | b\n| c",
        CONTROL_CHARACTERS,
    ];
    let labels = names.map(|name| json!({"operation": name, "outcome": "succeeded", "le": "0.1"})).to_vec();
    let url = prometheus(labels).await;
    let (_, markdown, _) = verify(&url).await;
    for live in ["<img", "javascript:", "http:", "www.evil", "@everyone", " #1", "\n| c"] {
        assert!(!markdown.contains(live), "{live}: {markdown}");
    }
    assert!(markdown.contains("&lt;img src=x onerror=alert(1)&gt;"), "{markdown}");
    for form in ["table", "json", "markdown"] {
        let text = stdout_and_stderr(&run(&["verify", &url, DEPLOYED_AT, &format!("--output={form}")]).await);
        assert!(is_harmless(&text), "{form}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("level=error")), "{form}: {text}");
    }
}
