//! What a process has used, as `/proc` tells it.

use std::time::Duration;

use anyhow::{Context, Result};

/// The unit of the times in `/proc/PID/stat` (`USER_HZ`), on every Linux of today.
const TICK: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// In kB.
    pub(crate) memory: u64,
    /// In kB, since it began.
    pub(crate) most_memory: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name may hold anything, and ends with the last parenthesis.
        let (_, fields) = stat.rsplit_once(") ").context("stat has no name")?;
        let field = |index: usize| -> Result<u32> {
            Ok(fields.split(' ').nth(index).context("stat is short")?.parse()?)
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("status is short")?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        // `utime` and `stime`, the 14th and the 15th of all fields, the state being the third.
        Ok(Self {
            cpu: TICK * (field(11)? + field(12)?),
            memory: line("VmRSS:")?,
            most_memory: line("VmHWM:")?,
        })
    }
}
