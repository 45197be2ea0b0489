//! The load, by wrk.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use crate::servers::{PATH, Server};

/// Connections, and how long each pauses between an answer and its next request, in milliseconds on average. Without a
/// pause the machine is saturated, and a latency is the number of connections divided by the throughput.
pub(crate) struct Load {
    pub(crate) connections: u32,
    pub(crate) pause: u32,
}

/// Those with a pause have 2,000 requests a second.
pub(crate) const LOADS: [Load; 5] = [
    Load { connections: 1, pause: 0 },
    Load { connections: 64, pause: 32 },
    Load { connections: 512, pause: 256 },
    Load { connections: 64, pause: 0 },
    Load { connections: 512, pause: 0 },
];

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// Requests per second.
    pub(crate) throughput: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// CPU microseconds of the server for each request.
    pub(crate) cpu: f64,
}

pub(crate) async fn run(server: &Server, load: &Load, duration: Duration) -> Result<Round> {
    let folder = TempDir::new()?;
    let script = folder.path().join("load.lua");
    // The connections begin at different times, and stay apart.
    let pause = match load.pause {
        0 => String::new(),
        pause => format!("function delay() return math.random(0, {}) end\n", 2 * pause),
    };
    let text = format!(
        r#"wrk.method = "POST"
wrk.body = '{{"amount":12.5,"description":"load"}}'
wrk.headers["Content-Type"] = "application/json"
{pause}function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("measured %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"#
    );
    std::fs::write(&script, text)?;
    let program = std::env::var_os("TXNSCOPE_WRK").map(PathBuf::from);
    let program = program.context("TXNSCOPE_WRK names no wrk: run `cargo xtask bench proxy`")?;
    let before = server.on_processor()?;
    let output = Command::new(program)
        .args(["--threads=1", &format!("--connections={}", load.connections)])
        .arg(format!("--duration={}s", duration.as_secs().max(1)))
        .arg("--script")
        .arg(&script)
        .arg(format!("http://{}{PATH}", server.address))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run wrk")?;
    let spent = server.on_processor()? - before;
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let line = printed.lines().find_map(|line| line.strip_prefix("measured "));
    let line = line.with_context(|| format!("wrk measured nothing: {printed}{complaint}"))?;
    let numbers: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [requests, microseconds, p50, p99, errors] = numbers[..] else {
        anyhow::bail!("wrk measured {line}");
    };
    ensure!(errors == 0.0 && requests > 0.0, "{} answered {errors} requests wrongly: {printed}", server.name);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    server.sent(requests as u64);
    Ok(Round { throughput: requests / microseconds * 1e6, p50, p99, cpu: spent / requests * 1e3 })
}

/// The load average of the machine over the last minute.
pub(crate) fn average() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("this needs Linux")?;
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().context("the load average is a number")
}
