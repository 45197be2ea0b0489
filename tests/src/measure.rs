//! What a process has cost so far, by the kernel's account, and what sorted measurements say.

use std::fs;

use anyhow::{Context, Result};

/// Milliseconds that its threads have run. Those that have ended do not count.
///
/// # Errors
///
/// If there is no such process, or no Linux.
pub fn on_processor(pid: u32) -> Result<f64> {
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
///
/// # Errors
///
/// If there is no such process, or no Linux.
pub fn resident(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("this needs Linux")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("status has VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is a number of kB")?;
    Ok(kilobytes * 1024.0 / 1e6)
}

/// The value below which that part of the sorted values lies; not a number if there are none.
#[must_use]
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let index = ((sorted.len() as f64 - 1.0) * part).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
