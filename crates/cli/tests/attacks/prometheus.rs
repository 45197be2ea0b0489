//! A Prometheus, or whoever stands in its place, that answers `txnscope verify` as nobody should.

use std::process::Stdio;

use anyhow::anyhow;
use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use serde_json::{Value, json};
use testkit::wait;
use tokio::net::TcpListener;

use crate::common::{PROGRAM, printed, run};
use crate::shop::{STEERING, is_harmless};

/// Series with these labels, at one moment or over the time that is asked for.
#[derive(Clone)]
struct Answers(Vec<Value>);

async fn answer(State(Answers(labels)): State<Answers>, uri: Uri) -> String {
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
    let router = Router::new().fallback(answer).with_state(Answers(labels));
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

const SINCE: &str = "--deployed-at=2023-11-14T22:13:20Z";

/// Its exit status, what it said, and the most memory that it held, in kilobytes.
async fn verify(url: &str) -> (i32, String, u64) {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let output = std::fs::File::create(&said).unwrap();
    let mut child = tokio::process::Command::new(PROGRAM)
        .args(["verify", url, SINCE, "--output=markdown"])
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
    (code, std::fs::read_to_string(said).unwrap(), peak)
}

/// It held 1.1 GiB: a count of each operation for each bound that any of them has.
#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_verify_does_not_grow_with_the_square_of_an_answer() {
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
        let (code, said, peak) = verify(&prometheus(labels).await).await;
        if let Some(refused) = refused {
            assert_eq!(code, 2, "{said}");
            assert!(said.contains(refused) && said.contains("--selector"), "{said}");
        }
        assert!(0 < peak && peak < MOST, "{refused:?}: it held {peak} kB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_prometheus_names_is_text_in_each_form_of_a_report() {
    let names = [
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "![a](http://evil.example/a.png)",
        "http://evil.example/ www.evil.example @everyone #1",
        "a | b\n| c",
        STEERING,
    ];
    let labels = names.map(|name| json!({"operation": name, "outcome": "succeeded", "le": "0.1"})).to_vec();
    let url = prometheus(labels).await;
    let (_, markdown, _) = verify(&url).await;
    for live in ["<img", "javascript:", "http:", "www.evil", "@everyone", " #1", "\n| c"] {
        assert!(!markdown.contains(live), "{live}: {markdown}");
    }
    assert!(markdown.contains("&lt;img src=x onerror=alert(1)&gt;"), "{markdown}");
    for form in ["table", "json", "markdown"] {
        let told = printed(&run(&["verify", &url, SINCE, &format!("--output={form}")]).await);
        assert!(is_harmless(&told), "{form}: {told:?}");
        assert!(!told.lines().any(|line| line.starts_with("level=error")), "{form}: {told}");
    }
}
