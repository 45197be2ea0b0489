//! What a process has cost so far, by the kernel's account.

use std::fs;

use anyhow::{Context, Result};

/// Milliseconds that its threads have run. Those that have ended do not count.
pub(crate) fn on_processor(pid: u32) -> Result<f64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).context("this needs Linux")?;
    let mut nanos = 0.0;
    for thread in threads {
        // A thread may end while it is looked for.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanos += text.split(' ').next().unwrap_or_default().parse().unwrap_or(0.0);
    }
    Ok(nanos / 1e6)
}

/// Megabytes of memory that are its own or shared.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("this needs Linux")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("status has VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is a number of kB")?;
    Ok(kilobytes * 1024.0 / 1e6)
}
