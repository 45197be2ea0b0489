//! The resource usage of a process, from the kernel, and statistics of measurements.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// The CPU time of a process in milliseconds, from its CPU clock. It includes ended threads, which a sum over living
/// threads omits: a server with one thread per connection does most of its work in them.
///
/// # Errors
///
/// If there is no such process.
pub fn on_processor(pid: u32) -> Result<f64> {
    let pid = Pid::from_raw(i32::try_from(pid).context("a process has a small id")?);
    let time = clock_getcpuclockid(pid).and_then(ClockId::now);
    Ok(Duration::from(time.with_context(|| format!("there is no process {pid}"))?).as_secs_f64() * 1e3)
}

/// The resident memory of a process in megabytes, including shared pages.
///
/// # Errors
///
/// If there is no such process, or the system is not Linux.
pub fn resident(pid: u32) -> Result<f64> {
    memory(pid, "VmRSS:")
}

/// The peak resident memory of a process in megabytes, including shared pages.
///
/// # Errors
///
/// If there is no such process, or the system is not Linux.
pub fn most_resident(pid: u32) -> Result<f64> {
    memory(pid, "VmHWM:")
}

/// The proportional memory of a process in megabytes: a page that several processes share is divided among them.
///
/// # Errors
///
/// If there is no such process, or the system is not Linux.
pub fn proportional(pid: u32) -> Result<f64> {
    memory_in("smaps_rollup", pid, "Pss:")
}

fn memory(pid: u32, name: &str) -> Result<f64> {
    memory_in("status", pid, name)
}

fn memory_in(file: &str, pid: u32, name: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).context("this needs Linux")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.with_context(|| format!("/proc/{pid}/{file} has no {name}"))?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("memory is a number of kB")?;
    Ok(kilobytes * 1024.0 / 1e6)
}

/// The quantile of sorted values; NaN if there are none.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_of_ended_threads_counts() {
        let own = std::process::id();
        let before = on_processor(own).unwrap();
        // Each thread returns its own CPU time.
        let spent: f64 = (0..4)
            .map(|_| {
                let work = std::thread::spawn(|| {
                    let ran = || Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap());
                    while ran() < Duration::from_millis(5) {}
                    ran().as_secs_f64() * 1e3
                });
                work.join().unwrap()
            })
            .sum();
        let counted = on_processor(own).unwrap() - before;
        assert!(spent >= 20.0 && counted >= spent, "{counted} ms counted, {spent} ms run");
    }

    #[test]
    fn missing_process_has_no_cpu_time() {
        assert!(on_processor(u32::MAX).is_err());
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        assert!(on_processor(ended.id()).is_err());
    }
}
