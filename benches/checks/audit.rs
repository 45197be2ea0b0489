//! Runs the checks as `txnscope audit` does, in a separate process, so that its memory can be distinguished from that
//! of the benchmark.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use end_to_end::measure::{most_resident, on_processor};
use mongodb::Client;
use mongodb::bson::doc;
use serde_json::{Value, json};
use tokio::process::Command;
use txnscope_checks::{CheckResult, Checks, SampleOptions, run};

use crate::data::grouped;

/// The time of one check.
#[derive(Debug)]
pub(crate) struct Timed {
    check: String,
    documents: Option<u64>,
    took: f64,
    cpu: f64,
    /// The reason why the check failed.
    failed: Option<String>,
}

/// Runs the checks, and prints one line of JSON for each, and one for the process.
pub(crate) async fn audit(uri: &str, max_time: Duration) -> Result<()> {
    let path = testkit::workspace().join("examples/ledger/checks.toml");
    let checks = Checks::parse(&std::fs::read_to_string(path)?)?;
    let client = Client::with_uri_str(uri).await?;
    let status = client.database("admin").run_command(doc! {"serverStatus": 1}).await?;
    let mongod = u32::try_from(status.get_i64("pid")?)?;
    for check in checks.iter() {
        let mut check = check.clone();
        check.max_time = max_time;
        let before = on_processor(mongod)?;
        let report = run(&client, &check, SampleOptions { limit: 20, full_documents: false }).await;
        let failed = match &report.result {
            CheckResult::Clean { .. } => None,
            CheckResult::Violated { count, sample, .. } => {
                Some(format!("{count} violations: {:?}", sample.first()))
            }
            CheckResult::Failed(failure) => Some(failure.reason.as_str().to_owned()),
        };
        let line = json!({
            "check": check.name,
            "documents": report.result.documents(),
            "took": report.took.as_secs_f64(),
            "cpu": (on_processor(mongod)? - before) / 1e3,
            "failed": failed,
        });
        println!("{line}");
        eprintln!("{line}");
    }
    println!("{}", json!({"most_memory": most_resident(std::process::id())?}));
    Ok(())
}

/// Runs this program again for the checks alone. Returns the time of each, and the peak memory in MB.
pub(crate) async fn in_a_process(uri: &str, max_time: Duration) -> Result<(Vec<Timed>, f64)> {
    let max_time = humantime::format_duration(max_time).to_string();
    let output = Command::new(std::env::current_exe()?)
        .args(["--audit", uri, "--max-time", &max_time])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?
        .wait_with_output()
        .await?;
    ensure!(output.status.success(), "the checks ended with {}", output.status);
    let (mut results, mut most) = (Vec::new(), f64::NAN);
    for line in String::from_utf8(output.stdout)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        if let Some(memory) = line["most_memory"].as_f64() {
            most = memory;
            continue;
        }
        results.push(Timed {
            check: line["check"].as_str().context("a line has a check")?.to_owned(),
            documents: line["documents"].as_u64(),
            took: line["took"].as_f64().context("a line has a time")?,
            cpu: line["cpu"].as_f64().context("a line has a time")?,
            failed: line["failed"].as_str().map(str::to_owned),
        });
    }
    Ok((results, most))
}

impl Timed {
    /// A row of the table.
    pub(crate) fn row(&self) -> String {
        let Self { check, documents, took, cpu, failed } = self;
        let documents = documents.unwrap_or(0);
        #[allow(clippy::cast_precision_loss, reason = "a rate that is printed")]
        let rate = match failed {
            Some(why) => format!("**{why}**"),
            None => format!("{:.0} k", documents as f64 / took / 1e3),
        };
        format!("| `{check}` | {} | {took:.1} s | {rate} | {cpu:.1} s |", grouped(documents))
    }
}
